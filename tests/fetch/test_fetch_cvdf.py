"""`k710 fetch --from cvdf:URL`, against archives on a server that misbehaves as the internet does."""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from k710.errors import StoreError
from k710.fetch.origins.archive_sets import ARCHIVE_SETS, archives_to_read, seen_archives
from k710.store.store import METADATA_KEY, Store, unit_metadata
from k710.text import data_size
from tests.helpers.loopback import Fault, Loopback, closed_url
from tests.helpers.tiny_media import build, clip_bytes, clip_file, fetched, files_under, numbers, settled

FOLDERS = {"k400": "400", "k600": "600", "k700_2020": "700_2020"}
REPLACEMENT = "/400/replacement_for_corrupted_k400.tgz"


def archive(members: Mapping[str, bytes], *, plain: bool = False) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w" if plain else "w:gz") as tar:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return sink.getvalue()


def named(*names: str, first: int = 0) -> dict[str, bytes]:
    """A clip for each name; their frames' numbers tell them apart."""
    return {f"./{name}.mp4": clip_bytes(first=first + 100 * place) for place, name in enumerate(names)}


class Public:
    """The public archives, as far as they are served."""

    def __init__(self, server: Loopback) -> None:
        self.server = server
        server.serve(REPLACEMENT, archive({}))

    @property
    def origin(self) -> str:
        return f"cvdf:{self.server.url('')}"

    def publish(self, release: str, split: str, *parts: Mapping[str, bytes] | bytes, **how: Any) -> list[str]:
        """Serve the list and the parts of a set; a part is its members, or its bytes. Returns the parts' paths."""
        folder = f"/{FOLDERS[release]}/{split}"
        paths = [f"{folder}/part_{number}.tar.gz" for number in range(len(parts))]
        for path, part in zip(paths, parts, strict=True):
            self.server.serve(path, part if isinstance(part, bytes) else archive(part), **how)
        lines = "".join(f"{self.server.url(path)}\n" for path in paths)
        self.server.serve(f"{folder}/{release}_{split}_path.txt", lines.encode())
        return paths

    def asked(self) -> list[str]:
        """The paths that were asked for, in order, a path once however many tries it took."""
        return list(dict.fromkeys(request.path for request in self.server.requests))

    def forget(self) -> None:
        self.server.requests.clear()


@pytest.fixture
def public(loopback, monkeypatch, tmp_path) -> Public:
    monkeypatch.setenv("K710_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("k710.storage.http_reader.LONGEST_WAIT_S", 0.0)
    return Public(loopback)


@pytest.fixture
def fetch(k710, public, tmp_path):
    """`fetch(manifest, ...)` runs the command with one process and a store in the test's folder."""

    def run(manifest: Path, *more: object, code: int = 0, origin: str | None = None) -> Any:
        options = ("--from", origin or public.origin, "--store", tmp_path / "store", "--workers", 1)
        result = k710("fetch", manifest, *options, *more)
        assert result.exit_code == code, result.output
        return result

    return run


def name_of(youtube_id: str, start: int = 0, end: int = 2) -> str:
    return f"{youtube_id}_{start:06d}_{end:06d}"


def rows_of(**lists: Iterable[str]) -> dict[tuple[str, str], list[tuple[str, int, int]]]:
    """`rows_of(k400_train=["an-id"])`: clips of two seconds; a release without a val list gets a val clip."""
    rows = {}
    for name, ids in lists.items():
        source, _, split = name.rpartition("_")
        rows[source, split] = [(youtube_id, 0, 2) for youtube_id in ids]
    for source in dict.fromkeys(source for source, _ in rows):
        for split in ("train", "val"):
            rows.setdefault((source, split), [(f"{source}-{split}".ljust(11, "-")[:11], 0, 2)])
    return rows


@pytest.fixture(scope="session")
def alone(k710, tmp_path_factory) -> Path:
    """A manifest of four train clips of K600; the val clip is not asked for."""
    return build(k710, tmp_path_factory.mktemp("alone"), rows_of(k600_train=IDS))


IDS = ["clip-a-----", "clip-b-----", "clip-c-----", "-clip-d----"]
NAMES = [name_of(youtube_id) for youtube_id in IDS]
ONLY = ("--splits", "train")


# Which archives are read for which clips.


@pytest.mark.slow
def test_the_archives_of_three_releases(k710, fetch, public, tmp_path):
    lists = {
        "k400_train": ["k400-train0", "k400-train1"],
        "k400_val": ["k400-val--0"],
        "k600_train": ["k600-train0"],
        "k600_val": ["k600-val--0"],
        "k700_train": ["k700-train0"],  # hosted as of the edition of 2020
        "k700_val": ["k700-val--0"],
        "k700_2020_train": ["2020-train0", "-2020-train"],
        "k700_2020_val": ["2020-val--0"],
    }
    manifest = build(k710, tmp_path, rows_of(**lists))
    published = {
        ("k400", "train"): [archive(named(name_of("k400-train0")), plain=True), named(name_of("k400-train1"))],
        ("k400", "val"): [named(name_of("k400-val--0"))],
        ("k600", "train"): [named(name_of("k600-train0"), name_of("not-asked-0"))],
        ("k600", "val"): [named(name_of("k600-val--0"))],
        ("k700_2020", "train"): [
            named(name_of("2020-train0"), name_of("k700-train0")),
            {"README": b"read me", f"train/deep/{name_of('-2020-train')}.mp4": clip_bytes()},
        ],
        ("k700_2020", "val"): [named(name_of("2020-val--0"), name_of("k700-val--0"))],
    }
    for (release, split), parts in published.items():
        public.publish(release, split, *parts)
    result = fetch(manifest)
    assert "This run: 10 clips fetched" in result.stdout
    rows = settled(tmp_path / "store")
    assert {name[:11]: row["origin"] for name, row in rows.items()} == {
        "k400-train0": "cvdf:k400/train",
        "k400-train1": "cvdf:k400/train",
        "k400-val--0": "cvdf:k400/val",
        "k600-train0": "cvdf:k600/train",
        "k600-val--0": "cvdf:k600/val",
        "k700-train0": "cvdf:k700_2020/train",
        "k700-val--0": "cvdf:k700_2020/val",
        "2020-train0": "cvdf:k700_2020/train",
        "-2020-train": "cvdf:k700_2020/train",
        "2020-val--0": "cvdf:k700_2020/val",
    }
    assert rows[name_of("-2020-train")]["came_from"] == f"part_1.tar.gz#{name_of('-2020-train')}.mp4"
    assert all(len(numbers(data)) == 20 for data in fetched(tmp_path / "store").values())
    order = [path.split("/")[1:3] for path in public.asked() if path.endswith("path.txt")]
    assert order == [[folder, split] for folder in ("700_2020", "600", "400") for split in ("val", "train")]
    assert public.asked().index(REPLACEMENT) < public.asked().index("/400/val/k400_val_path.txt")
    public.forget()
    assert "This run: 0 clips fetched, 0.0 MB." in fetch(manifest).stdout
    assert public.asked() == []


def test_a_clip_of_two_releases_is_packed_once_from_its_newest_home(k710, fetch, public, tmp_path):
    manifest = build(k710, tmp_path, rows_of(k600_train=["in-both-000"], k700_2020_train=["in-both-000"]))
    public.publish("k700_2020", "train", named(name_of("in-both-000"), first=500))
    public.publish("k600", "train", named(name_of("in-both-000")))
    fetch(manifest, *ONLY)
    ((name, row),) = settled(tmp_path / "store").items()
    assert (name, row["origin"]) == (name_of("in-both-000"), "cvdf:k700_2020/train")
    assert numbers(fetched(tmp_path / "store")[name])[0] == 500
    assert not [path for path in public.asked() if path.startswith("/600")]


def test_what_its_home_lacks_comes_from_the_older_release(k710, fetch, public, tmp_path):
    ids = ["in-both-000", "in-both-001"]
    manifest = build(k710, tmp_path, rows_of(k600_train=ids, k700_2020_train=ids))
    public.publish("k700_2020", "train", named(name_of(ids[0])))
    public.publish("k600", "train", named(*map(name_of, ids)))
    assert "This run: 2 clips fetched" in fetch(manifest, *ONLY).stdout
    rows = settled(tmp_path / "store")
    origins = [rows[name_of(youtube_id)]["origin"] for youtube_id in ids]
    assert origins == ["cvdf:k700_2020/train", "cvdf:k600/train"]
    assert Store(tmp_path / "store", "h264").rows().num_rows == 2  # the older copy of the first was left alone


def test_what_is_broken_in_its_home_comes_from_the_older_release(k710, fetch, public, tmp_path):
    ids = ["in-both-000", "in-both-001"]
    manifest = build(k710, tmp_path, rows_of(k600_train=ids, k700_2020_train=ids))
    public.publish("k700_2020", "train", named(name_of(ids[0])) | {f"{name_of(ids[1])}.mp4": b""})
    public.publish("k600", "train", named(*map(name_of, ids)))
    assert "This run: 2 clips fetched, 0.0 MB, 1 not_video." in fetch(manifest, *ONLY).stdout
    assert settled(tmp_path / "store")[name_of(ids[1])]["origin"] == "cvdf:k600/train"
    public.forget()
    fetch(manifest, *ONLY)
    assert public.asked() == []


def test_the_replacements_of_k400_come_before_the_damaged_originals(k710, fetch, public, tmp_path):
    manifest = build(k710, tmp_path, rows_of(k400_train=["replaced-00", "original-00"], k400_val=["valclip-000"]))
    public.server.serve(REPLACEMENT, archive(named(name_of("replaced-00"), name_of("valclip-000"), first=500)))
    (train,) = public.publish("k400", "train", {f"{name_of('replaced-00')}.mp4": b"", **named(name_of("original-00"))})
    (val,) = public.publish("k400", "val", {f"{name_of('valclip-000')}.mp4": b""})
    assert "This run: 3 clips fetched, 0.0 MB.\n" in fetch(manifest).stdout
    origins = {name[:11]: row["origin"] for name, row in settled(tmp_path / "store").items()}
    assert origins == {
        "replaced-00": "cvdf:k400/replacement",
        "valclip-000": "cvdf:k400/replacement",
        "original-00": "cvdf:k400/train",
    }
    assert train in public.asked()
    assert val not in public.asked()  # nothing else is wanted of it


def test_a_clip_twice_in_one_set_is_settled_once(alone, fetch, public, tmp_path):
    public.publish("k600", "train", named(NAMES[0], first=100), named(NAMES[0], first=200))
    fetch(alone, *ONLY)
    assert Store(tmp_path / "store", "h264").rows().num_rows == 1
    assert numbers(fetched(tmp_path / "store")[NAMES[0]])[0] in (100, 200)


def test_a_clip_twice_in_one_archive_is_settled_once(alone, fetch, public, tmp_path):
    copies = {f"{folder}/{NAMES[0]}.mp4": clip_bytes(first=first) for folder, first in (("a", 100), ("b", 200))}
    public.publish("k600", "train", copies)
    fetch(alone, *ONLY)
    assert Store(tmp_path / "store", "h264").rows().num_rows == 1
    assert numbers(fetched(tmp_path / "store")[NAMES[0]])[0] == 100


@pytest.mark.slow
def test_a_local_folder_first_and_the_archives_for_the_rest(alone, fetch, public, tmp_path):
    clip_file(tmp_path / "clips" / f"{NAMES[0]}.mp4", first=700)
    (tmp_path / "clips" / f"{NAMES[1]}.mp4").touch()
    public.publish("k600", "train", named(*NAMES))
    fetch(alone, *ONLY, origin=f"local:{tmp_path / 'clips'},{public.origin}")
    found = fetched(tmp_path / "store")
    assert [numbers(found[name])[0] for name in NAMES] == [700, 100, 200, 300]


# What is read again.


@pytest.mark.slow
def test_an_archive_is_not_read_again_for_what_it_does_not_hold(alone, fetch, public, tmp_path):
    public.publish("k600", "train", named(NAMES[0]), named(NAMES[1]))
    assert "This run: 2 clips fetched" in fetch(alone, *ONLY).stdout
    public.forget()
    before = files_under(tmp_path / "store")
    result = fetch(alone, *ONLY)
    assert "k600 train       4         2             2   50.0%" in result.stdout
    assert public.asked() == []
    assert files_under(tmp_path / "store") == before
    part = public.publish("k600", "train", named(NAMES[0]), named(NAMES[1]), named(NAMES[2]))[2]
    for path in (tmp_path / "cache").iterdir():
        path.unlink()  # the list is asked for anew
    assert "This run: 1 clip fetched" in fetch(alone, *ONLY).stdout
    assert [path for path in public.asked() if path.endswith("gz")] == [part]


@pytest.mark.slow
def test_another_profile_reads_again_only_what_held_clips(alone, fetch, public, tmp_path):
    held, empty = public.publish("k600", "train", named(*NAMES[:2]), named(name_of("not-asked-0")))
    fetch(alone, *ONLY)
    assert {held, empty} <= set(public.asked())
    public.forget()
    assert "2 clips fetched" in fetch(alone, *ONLY, "--profile", "source").stdout
    assert public.asked() == [held]
    public.forget()
    fetch(alone, *ONLY, "--profile", "source")
    assert public.asked() == []


def test_a_member_whose_folder_is_no_utf_8(alone, fetch, public, tmp_path):
    data = clip_bytes()
    public.publish("k600", "train", {f"\udce9t\udce9/{NAMES[0]}.mp4": data, f"caf\udce9/{NAMES[1]}.mp4": data})
    assert "This run: 2 clips fetched" in fetch(alone, *ONLY).stdout
    assert settled(tmp_path / "store")[NAMES[0]]["came_from"] == f"part_0.tar.gz#{NAMES[0]}.mp4"


def test_the_units_say_what_was_seen(alone, fetch, public, tmp_path):
    part, empty = public.publish(
        "k600", "train", {**named(NAMES[0], name_of("not-asked-0")), "list.csv": b"a", "../x.mp4": b"x"}, {}
    )
    result = fetch(alone, *ONLY)
    assert "members of archives refused: 1 path" in result.stderr
    units = {
        file.name: unit_metadata(file)["archive"] for file in (tmp_path / "store" / "media" / "h264").glob("*.parquet")
    }
    assert {name.rsplit("-", 1)[0] for name in units} == {"cvdf-k600-train-part_0", "cvdf-k600-train-part_1"}
    seen = {about["url"]: about for about in units.values()}
    page = public.server.pages[part]
    assert seen[public.server.url(part)] == {
        "url": public.server.url(part),
        "etag": page.etag,
        "last_modified": None,
        "bytes": len(page.body),
        "complete": True,
        "confirmed": False,
        "damage": None,
        "refused": {"path": 1},
        "members": sorted([NAMES[0], name_of("not-asked-0")]),
    }
    assert seen[public.server.url(empty)]["members"] == []


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
def test_an_archive_that_was_once_read_whole_is_not_damaged(tmp_path, order):
    readings = (("cut off", ["clip-1"]), (None, ["clip-1", "clip-2"]))
    for name, (damage, members) in zip(order, readings, strict=True):
        about = {"url": "http://x/part_0.tar.gz", "complete": True, "damage": damage, "members": members}
        metadata = {METADATA_KEY: json.dumps({"schema_version": "1.0", "archive": about}).encode()}
        table = pa.table({"clip_id": pa.array([], pa.string())}).replace_schema_metadata(metadata)
        pa.parquet.write_table(table, tmp_path / f"cvdf-{name}.parquet")
    (tmp_path / "local-x.parquet").touch()  # not of an archive: not opened
    (seen,) = seen_archives(sorted(tmp_path.iterdir())).values()
    assert (seen.settled, seen.damaged, seen.members) == (True, False, {"clip-1", "clip-2"})


def test_a_unit_that_does_not_say_its_archive_is_damaged(tmp_path):
    metadata = {METADATA_KEY: b'{"schema_version": "1.0"}'}
    table = pa.table({"clip_id": pa.array([], pa.string())}).replace_schema_metadata(metadata)
    pa.parquet.write_table(table, tmp_path / "cvdf-x.parquet")
    with pytest.raises(StoreError, match="it does not say of which archive it is"):
        seen_archives([tmp_path / "cvdf-x.parquet"])


def test_archives_to_read():
    a, b = "http://x/a", "http://x/b"
    one, both = frozenset({"1"}), frozenset({"1", "2"})
    from k710.fetch.origins.archive_sets import SeenArchive

    seen = {a: SeenArchive(a, one)}
    assert archives_to_read([a, b], both, {}) == ([a, b], frozenset())
    assert archives_to_read([a, b], both, seen) == ([a, b], frozenset())
    assert archives_to_read([a, b], frozenset({"2"}), seen) == ([b], frozenset())
    assert archives_to_read([a], both, seen) == ([a], frozenset({"2"}))
    assert archives_to_read([a], frozenset({"2"}), seen) == ([], frozenset({"2"}))
    assert archives_to_read([a, b], frozenset(), {})[0] == []


# Networks.


@pytest.mark.parametrize(
    "faults",
    [
        [Fault(cut_at=3000), Fault(cut_at=2000), Fault(cut_at=1)],
        [Fault(cut_at=2500, reset=True), Fault(cut_at=2500, reset=True)],
        [Fault(status=503), Fault(cut_at=3000), Fault(status=429, headers={"Retry-After": "0"}), Fault(status=500)],
        [Fault(delay_s=0.3), Fault()],
        [Fault(cut_at=4000), Fault(ignore_range=True)],
    ],
    ids=["cut", "reset", "503", "slow", "no ranges"],
)
@pytest.mark.slow
def test_an_archive_over_a_bad_connection(alone, fetch, public, tmp_path, faults):
    (path,) = public.publish("k600", "train", named(*NAMES), faults=list(faults))
    assert len(public.server.pages[path].body) > 9000
    public.server.pages["/600/train/k600_train_path.txt"].faults = [Fault(cut_at=10), Fault(status=503)]
    assert "This run: 4 clips fetched" in fetch(alone, *ONLY).stdout
    found = fetched(tmp_path / "store")
    assert [numbers(found[name]) for name in NAMES] == [list(range(n, n + 20)) for n in (0, 100, 200, 300)]
    ranges = public.server.ranges(path)
    cuts = [fault.cut_at for fault in faults if fault.cut_at]
    done = [sum(cuts[: number + 1]) for number in range(len(cuts))]
    if not any(fault.reset for fault in faults):  # a reset may lose what was on its way
        assert [asked for asked in dict.fromkeys(ranges) if asked] == [f"bytes={at}-" for at in done]
    assert all(ranges[-1:]) or not cuts


@pytest.mark.slow
def test_an_archive_that_changes_while_it_is_read(alone, fetch, public, tmp_path):
    body = archive(named(*NAMES))
    (path,) = public.publish("k600", "train", b"")

    def replace() -> None:
        public.server.serve(path, body + bytes(512))

    public.server.serve(path, body, faults=[Fault(cut_at=6000, afterwards=replace)])
    result = fetch(alone, *ONLY, code=1)
    assert "the file changed" in result.stderr
    assert "1 archive could not be read; the same command reads it again" in result.stderr
    fetch(alone, *ONLY)
    assert set(fetched(tmp_path / "store")) == set(NAMES)


@pytest.mark.slow
def test_an_archive_that_is_not_there_stops_nothing_else(alone, fetch, public, tmp_path):
    missing, there = public.publish("k600", "train", named(*NAMES[:2]), named(*NAMES[2:]))
    page = public.server.pages.pop(missing)
    result = fetch(alone, *ONLY, code=1)
    assert "This run: 2 clips fetched" in result.stdout
    assert f"not read: {public.server.url(missing)}: 404" in result.stderr
    assert "1 archive could not be read; the same command reads it again" in result.stderr
    assert len(public.server.log(missing)) == 1  # asking again would not help
    public.server.pages[missing] = page
    public.forget()
    assert "This run: 2 clips fetched" in fetch(alone, *ONLY).stdout
    assert public.asked() == [missing]
    assert there not in public.asked()


@pytest.mark.slow
def test_an_archive_that_gives_up_in_the_middle_keeps_what_came(alone, fetch, public, tmp_path):
    (path,) = public.publish("k600", "train", named(*NAMES))
    body = public.server.pages[path].body
    public.server.serve(path, body, faults=[Fault(cut_at=len(body) * 2 // 3)], always=Fault(status=503))
    result = fetch(alone, *ONLY, code=1)
    assert "after 5 tries: 503" in result.stderr
    before = fetched(tmp_path / "store")
    assert set(before) < set(NAMES)
    assert before
    public.publish("k600", "train", body)
    fetch(alone, *ONLY)
    after = fetched(tmp_path / "store")
    assert set(after) == set(NAMES)
    assert after.items() >= before.items()
    assert Store(tmp_path / "store", "h264").rows().num_rows == 4


def test_what_an_unread_archive_may_hold_is_not_taken_from_an_older_release(k710, fetch, public, tmp_path):
    manifest = build(k710, tmp_path, rows_of(k600_train=["in-both-000"], k700_2020_train=["in-both-000"]))
    (home,) = public.publish("k700_2020", "train", b"")
    public.server.pages[home].always = Fault(status=503)
    (older,) = public.publish("k600", "train", named(name_of("in-both-000")))
    fetch(manifest, *ONLY, code=1)
    assert older not in public.asked()


@pytest.mark.slow
def test_three_archives_in_a_row_that_cannot_be_read_are_the_network(alone, fetch, public, tmp_path):
    public.publish("k600", "val", named(name_of("k600-val---")))
    parts = public.publish("k600", "train", *[b"x"] * 10)
    for path in parts:
        public.server.pages[path].always = Fault(status=503)
    result = fetch(alone, code=1)
    assert "3 archives in a row could not be read; everything settled so far is kept" in result.stderr
    assert len([path for path in public.asked() if path in parts]) <= 5  # two are read at a time
    assert set(fetched(tmp_path / "store")) == {name_of("k600-val---")}
    assert list((tmp_path / "store" / "scratch").iterdir()) == []
    for path in parts:
        public.server.serve(path, archive(named(*NAMES)))
    assert "This run: 4 clips fetched" in fetch(alone).stdout


def test_failures_that_are_not_in_a_row_do_not_stop_the_run(alone, fetch, public):
    parts = public.publish("k600", "train", *[{}, b"gone"] * 4)
    for path in parts[1::2]:
        public.server.pages[path].always = Fault(status=503)
    result = fetch(alone, *ONLY, "--profile", "source", code=1)
    assert "4 archives could not be read" in result.stderr
    assert set(parts) <= set(public.asked())


def test_nobody_answers(alone, fetch, tmp_path):
    result = fetch(alone, *ONLY, origin=f"cvdf:{closed_url()}", code=1)
    assert "/600/train/k600_train_path.txt" in result.stderr
    assert "Connection refused" in result.stderr
    assert settled(tmp_path / "store") == {}


# Archives and lists that are damaged.


@pytest.mark.slow
def test_an_archive_that_breaks_off_keeps_what_came(alone, fetch, public, tmp_path):
    (path,) = public.publish("k600", "train", named(*NAMES))
    body = public.server.pages[path].body
    public.publish("k600", "train", body[: len(body) * 2 // 3])  # the server has no more of it
    result = fetch(alone, *ONLY, code=1)
    came = fetched(tmp_path / "store")
    assert set(NAMES) > set(came)
    assert came
    assert re.search(
        rf"damaged: {re.escape(public.server.url(path))}: cut off.*; the whole clips before it are kept", result.stderr
    )
    for more in ((), ("--retry", "short")):
        fetch(alone, *ONLY, *more)
    public.forget()
    fetch(alone, *ONLY)
    assert [request.method for request in public.server.log(path)] == ["HEAD"]  # two readings met the same
    public.server.serve(path, body, etag=public.server.pages[path].etag, always=Fault(headers={"Content-Length": None}))
    assert "damaged" not in fetch(alone, *ONLY, "--retry", "corrupt").stderr
    assert set(fetched(tmp_path / "store")) == set(NAMES)


@pytest.mark.parametrize("where", ["nonsense", "ftp://host", "http://[::1", "http://", "https://user:secret@host/x"])
def test_a_mirror_without_an_address(alone, fetch, tmp_path, where):
    """A password would stand in the store with the address of every archive."""
    result = fetch(alone, origin=f"cvdf:{where}", code=2)
    shown = where.replace("user:secret", "…")
    told = f"k710: cvdf:{shown}: a mirror's address is http(s)://HOST/…; a password goes into ~/.netrc\n"
    assert result.stderr == told
    assert not (tmp_path / "store").exists()


def test_a_list_with_anything_but_addresses_is_refused(alone, fetch, public, tmp_path):
    (path,) = public.publish("k600", "train", named(*NAMES))
    lines = ("<!DOCTYPE html>", "part_1.tar.gz", "file:///etc/passwd", "s3://kinetics/600/train/part_1.tar.gz")
    for line in (*lines, "http://[::1/part_1.tar.gz", "http:///part_1.tar.gz"):
        for file in (tmp_path / "cache").glob("*"):
            file.unlink()
        public.server.serve("/600/train/k600_train_path.txt", f"{public.server.url(path)}\n\n{line}\n".encode())
        result = fetch(alone, *ONLY, code=1)
        told = f"/600/train/k600_train_path.txt: what the server sent is no list of archives: it holds {line!r}"
        assert told in result.stderr
    assert path not in public.asked()


@pytest.mark.parametrize("content", [b"", b"\n \n"])
def test_an_empty_list_is_refused(alone, fetch, public, content):
    public.server.serve("/600/train/k600_train_path.txt", content)
    assert "the list is empty" in fetch(alone, *ONLY, code=1).stderr


def test_lists_with_the_line_ends_of_others_and_lines_twice(alone, fetch, public):
    first, second = public.publish("k600", "train", named(*NAMES[:2]), named(*NAMES[2:]))
    lines = [public.server.url(path) for path in (first, second, first)]
    public.server.serve("/600/train/k600_train_path.txt", ("\r\n".join(lines) + "\r\n\r\n").encode())
    assert "This run: 4 clips fetched" in fetch(alone, *ONLY).stdout
    assert len(public.server.log(first)) == 1


# Before anything is fetched.


def test_a_dry_run_asks_for_sizes_and_downloads_nothing_but_lists(alone, fetch, public, tmp_path):
    parts = public.publish("k600", "train", named(*NAMES[:2]), named(*NAMES[2:]))
    result = fetch(alone, *ONLY, "--dry-run")
    methods = {request.path: request.method for request in public.server.requests}
    assert methods == {"/600/train/k600_train_path.txt": "GET", **dict.fromkeys(parts, "HEAD")}
    assert not (tmp_path / "store").exists()
    size = sum(len(public.server.pages[path].body) for path in parts)
    (line,) = [line.split() for line in result.stdout.splitlines() if line.startswith("cvdf:")]
    assert line == ["cvdf:k600/train", "4", "2", *data_size(size).split()]
    public.server.pages[parts[0]].always = Fault(status=403)
    assert "unknown" in fetch(alone, *ONLY, "--dry-run").stdout
    fetch(alone, *ONLY, code=1)


def test_a_dry_run_knows_the_archives_that_were_read(alone, fetch, public):
    public.publish("k600", "train", named(*NAMES[:2]), named(NAMES[2]))
    fetch(alone, *ONLY)
    public.forget()
    result = fetch(alone, *ONLY, "--dry-run")
    assert result.stdout.startswith("4 clips wanted, 3 of them in")
    assert public.asked() == []


def test_every_hosted_split_has_its_set():
    names = [archive_set.name for archive_set in ARCHIVE_SETS]
    assert sorted(names) == sorted(
        [f"{r}/{s}" for r in FOLDERS for s in ("train", "val", "test")] + ["k400/replacement"]
    )
    addresses = {archive_set.name: archive_set.address for archive_set in ARCHIVE_SETS}
    assert addresses["k700_2020/val"] == "700_2020/val/k700_2020_val_path.txt"
    assert addresses["k600/test"] == "600/test/k600_test_path.txt"
    assert addresses["k400/train"] == "400/train/k400_train_path.txt"
