"""Every archive of hostile_archives.py, as the reader of the public archives meets it: in memory, and over the wire."""

from __future__ import annotations

import gc
import gzip
import io
import time
import tracemalloc
from collections import Counter

import pytest

from k710.fetch.origins.archive_stream import ArchiveStream, DamagedArchiveError
from k710.lists.clip_paths import clip_in_path
from tests.helpers.hostile_archives import ARCHIVES, EVIL, Archive
from tests.helpers.tar_bytes import END
from tests.helpers.tar_bytes import members as packed_members
from tests.helpers.tiny_media import build, clip_bytes, fetched

PEAK_BYTES = 8 << 20  # four are needed, and an archive may have members by the million
SECONDS = 20.0  # of the processor; a bomb of 5 GiB takes about six of them
NO_ARCHIVES = (  # not one header of them can be read
    "tar_in_xz",
    "empty_file",
    "one_byte",
    "gzip_header_only",
    "html_page",
    "gzip_of_html",
    "gzip_of_nothing",
    "mp4",
    "gzip_of_clip",
    "gzip_in_gzip",
    "random_bytes",
    "zip",
)
BOMBS = ("zeros_of_2_gib", "zeros_of_5_gib")

# An older tarfile passes over a pax record that it cannot read; the member keeps its own name, which is looked at as
# any other. A newer one ends there.
LENIENT = ("pax_record_beyond_header", "pax_record_without_sign")

CLIPS = {
    f"{name}_000000_000002.mp4": name.encode() * 400
    for name in ("clip-one---", "-clip-two--", "clip-three-", "clip-4-----")
}


def read(archive: bytes) -> tuple[dict[str, bytes], Counter[str], str | None]:
    """What comes out, the first of each name; what was refused; and how reading ended, if not well."""
    stream = ArchiveStream(io.BytesIO(archive))
    members: dict[str, bytes] = {}
    try:
        for member in stream:
            pieces = []
            while piece := member.data.read(1 << 16):
                pieces.append(piece)
            members.setdefault(member.name, b"".join(pieces))
    except DamagedArchiveError as error:
        return members, stream.refused, str(error)
    return members, stream.refused, None


class Wire:
    """A source that gives at most so many bytes at a time, and remembers how many it was asked for."""

    def __init__(self, data: bytes, at_most: int) -> None:
        self._data, self._at_most = io.BytesIO(data), at_most
        self.asked: list[int] = []

    def read(self, size: int = -1, /) -> bytes:
        self.asked.append(size)
        return self._data.read(min(size, self._at_most))


@pytest.mark.parametrize("at_most", [1, 7, 100_000, 1 << 30])
@pytest.mark.parametrize("name", ["gzip", "plain tar"])
def test_the_source_is_asked_for_large_pieces(name, at_most):
    """The network would be asked 32 times as often in the pieces that gzip wants."""
    plain = packed_members(CLIPS) + END
    archive = gzip.compress(plain, 0) if name == "gzip" else plain
    wire = Wire(archive, at_most)
    assert {member.name: member.data.read() for member in ArchiveStream(wire)} == CLIPS
    assert all(size >= 1 << 18 for size in wire.asked if size > 2)
    assert len(wire.asked) <= len(archive) // at_most + 6


def kinds() -> list[object]:
    return [pytest.param(name, marks=[pytest.mark.slow] if name in BOMBS else []) for name in ARCHIVES]


@pytest.mark.parametrize("name", kinds())
@pytest.mark.slow
def test_an_archive_gives_what_it_must_and_nothing_else(name):
    kind: Archive = ARCHIVES[name]
    archive = kind.build(CLIPS)
    # Garbage in cycles is collected late where the heap is large, as it is once other tests have filled it.
    gc.freeze()
    tracemalloc.start()
    begin_s = time.process_time()
    try:
        members, refused, damage = read(archive)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        took_s = time.process_time() - begin_s
        tracemalloc.stop()
        gc.unfreeze()
    assert peak_bytes < PEAK_BYTES
    assert took_s < SECONDS
    clips = {found: data for found, data in members.items() if clip_in_path(found) or found == EVIL}
    if name in LENIENT:
        clips.pop(EVIL, None)
        assert sum(refused.values()) <= 1
        if damage is None:
            assert clips == CLIPS
        else:
            assert damage.endswith("invalid header")
            assert clips.items() < CLIPS.items()
        return
    must, may = kind.must(CLIPS), kind.may(CLIPS)
    assert {found: clips.get(found) for found in must} == must
    assert clips.items() <= (must | may).items()
    if kind.damaged is not None:
        assert bool(damage) == kind.damaged, damage
    if kind.refused is not None:
        assert dict(refused) == kind.refused


def test_an_archive_of_names_alone_ends_somewhere(monkeypatch):
    """Half a thousand million empty members are no larger than what is allowed, and each name is remembered."""
    monkeypatch.setattr("k710.fetch.origins.archive_stream.MAX_MEMBERS", 5)
    tar = packed_members({f"clip-{n:06d}_000000_000002.mp4": b"" for n in range(9)}) + END
    found, _, damage = read(tar)
    assert (len(found), damage) == (5, "has more than 5 members")


@pytest.fixture
def public(loopback, monkeypatch, tmp_path):
    monkeypatch.setenv("K710_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("k710.storage.http_reader.LONGEST_WAIT_S", 0.0)
    return loopback


@pytest.mark.slow
def test_a_run_over_all_of_them_takes_the_clips_and_says_the_rest(k710, public, tmp_path):
    """Each as a part of one set, with clips of its own, so that every part is read for what it has."""
    parts, expected, ids = [], {}, []
    contents = {place: clip_bytes(first=first) for place, first in (("a", 0), ("b", 900))}
    for number, (name, kind) in enumerate((name, kind) for name, kind in ARCHIVES.items() if name not in BOMBS):
        clips = {f"p{number:03d}-clip-{place}_000000_000002.mp4": data for place, data in contents.items()}
        ids += [clip[:11] for clip in clips]
        expected |= {clip.removesuffix(".mp4"): name for clip in kind.must(clips) if clip in clips}
        parts.append(public.serve(f"/600/train/{number:03d}-{name}.tar.gz", kind.build(clips)))
    public.serve("/600/train/k600_train_path.txt", "".join(f"{part}\n" for part in parts).encode())
    evil = (EVIL[:11], 10, 20)  # wanted, so that only its refusal keeps it out
    rows = {("k600", "train"): [*((each, 0, 2) for each in ids), evil], ("k600", "val"): [("a-val-clip0", 0, 2)]}
    manifest = build(k710, tmp_path / "built", rows)
    options = (
        "--from",
        f"cvdf:{public.url('')}",
        "--store",
        tmp_path / "store",
        "--splits",
        "train",
        "--profile",
        "source",
    )
    result = k710("fetch", manifest, *options, "--workers", 1)
    assert result.exit_code == 1, result.output
    assert f"{len(NO_ARCHIVES)} archives could not be read, " in result.stderr
    found = fetched(tmp_path / "store", "source")
    assert set(expected) <= set(found), sorted(expected[clip] for clip in set(expected) - set(found))
    assert all(data == contents[clip[10]] for clip, data in found.items())
    said = {
        line.split("-", 1)[1].split(".tar.gz")[0]
        for line in result.stderr.splitlines()
        if line.startswith(("damaged", "not read"))
    }
    assert said >= {name for name, kind in ARCHIVES.items() if kind.damaged and name not in BOMBS}
    assert not said & {name for name, kind in ARCHIVES.items() if kind.damaged is False}
    assert "members of archives refused: " in result.stderr
    for _ in range(2):
        public.requests.clear()
        again = k710("fetch", manifest, *options, "--workers", 1)
        assert again.exit_code == 1
    # Damage was met twice alike, so only what never came as an archive is read again.
    assert "broke off" not in again.stderr
    read = {
        request.path.split("-", 1)[1].removesuffix(".tar.gz") for request in public.requests if request.method == "GET"
    }
    assert read == set(NO_ARCHIVES)
    assert {path.name for path in tmp_path.iterdir()} == {"built", "cache", "store"}
