"""The hostile files and archives are what they say: otherwise the tests that use them show nothing."""

from __future__ import annotations

import gzip
import io
import random
import re
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

import imageio_ffmpeg
import pytest

from tests.helpers import hostile_media
from tests.helpers.hostile_archives import ARCHIVES, SIZES, front
from tests.helpers.hostile_media import CLIP_NAME, KINDS, REACHING, SECRET_SIZE_PX, SPAN_S, secret_path
from tests.helpers.media_bytes import FPS, base, body, boxes, edit
from tests.helpers.tar_bytes import EVIL, GIB, MIB, Clips, members, zeros

pytestmark = pytest.mark.slow

OUTCOMES = {"ok", "not_video", "undecodable", "corrupt", "short", "mismatch"}
FLAGS = {"short", "trimmed", "frozen", "black"}

# What ffmpeg would decode for minutes, or with gigabytes.
BOMBS = {"h264_bomb_16000"}
# Their first bytes are another's: a disc's transport stream, and a picture in an mp4's boxes.
ODD_MAGIC = {"m2ts", "avif"}


@dataclass(frozen=True)
class Decoded:
    size_px: tuple[int, int] | None  # upright, in square pixels
    num_frames: int
    stderr: str


def decode(path: Path, *options: str) -> Decoded:
    """All that ffmpeg makes of a file when it is trusted."""
    square = "scale=trunc(iw*if(sar\\,sar\\,1)):ih,setsar=1"
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-nostdin", *options, "-i", path, "-map", "0:V:0"]
    command += ["-fps_mode", "passthrough", "-vf", square, "-pix_fmt", "gray", "-c:v", "pgm", "-f", "image2pipe", "-"]
    done = subprocess.run(command, check=False, capture_output=True, timeout=60)
    stderr = done.stderr.decode(errors="replace")
    head = re.match(rb"P5\n(\d+) (\d+)\n255\n", done.stdout)
    if not head:
        return Decoded(None, 0, stderr)
    size = int(head[1]), int(head[2])
    num_frames, rest = divmod(len(done.stdout), head.end() + size[0] * size[1])
    assert rest == 0
    return Decoded(size, num_frames, stderr)


def container(data: bytes) -> str | None:
    """The container by its first bytes."""
    if data[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"wide", b"skip"):
        return "mov"
    if data[:4] == b"RIFF" and data[8:12] == b"AVI ":
        return "avi"
    if len(data) >= 188 and all(byte == 0x47 for byte in data[: 5 * 188 : 188]):
        return "mpegts"
    return {b"\x1a\x45\xdf\xa3": "matroska", b"FLV\1": "flv", b"\0\0\1\xba": "mpeg"}.get(data[:4])


@pytest.fixture(scope="module", params=sorted(KINDS))
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    kind = KINDS[request.param]
    if kind.missing:
        pytest.skip(kind.missing)
    path = tmp_path_factory.mktemp(request.param) / CLIP_NAME
    hostile_media.build(request.param, path)
    return request.param, path


def test_kinds_are_sound() -> None:
    assert len(KINDS) > 150
    for name, kind in KINDS.items():
        assert set(kind.outcomes) <= OUTCOMES, name
        assert set(kind.flags) <= FLAGS, name
        assert "ok" in kind.outcomes or not kind.flags, name
        assert isinstance(kind.outcome, str) or kind.note, f"{name}: several outcomes and no word on why"
    assert {outcome for kind in KINDS.values() for outcome in kind.outcomes} == OUTCOMES
    assert {flag for kind in KINDS.values() for flag in kind.flags} == FLAGS


def test_file_is_what_its_kind_says(built: tuple[str, Path]) -> None:
    name, path = built
    kind, data = KINDS[name], path.read_bytes()
    if name not in ODD_MAGIC:
        assert (container(data) is None) == ("not_video" in kind.outcomes)
    if name in BOMBS:
        return
    decoded = decode(path, "-format_whitelist", "mov,matroska,avi,flv,mpegts,mpeg", "-protocol_whitelist", "file")
    assert decoded.size_px != SECRET_SIZE_PX
    if kind.outcome == "ok":
        assert decoded.size_px == kind.size_px
        assert decoded.stderr == ""
        assert decoded.num_frames >= 8
    elif kind.outcome in ("not_video", "undecodable"):
        assert decoded.num_frames == 0
    elif kind.outcome == "corrupt":
        assert decoded.num_frames > 0
        assert decoded.num_frames < SPAN_S * FPS or decoded.stderr
    elif kind.outcome == "short":
        assert 0 < decoded.num_frames < 8 or name.startswith(("half_a_second", "avi_of_a_million_fps"))


def test_building_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("random_bytes", "flipped_bytes", "garbage_media", "hostile_title", "h264_bomb_16384"):
        first, second = tmp_path / "1", tmp_path / "2"
        KINDS[name].build(first)
        KINDS[name].build(second)
        assert first.read_bytes() == second.read_bytes(), name


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("hls_absolute", ("-f", "hls")),
        ("hls_relative", ("-f", "hls")),
        ("hls_file_url", ("-f", "hls")),
        ("ffconcat", ()),
        ("ffconcat_absolute", ("-f", "concat", "-safe", "0")),
        ("mp4_reference_alias", ("-enable_drefs", "1", "-use_absolute_path", "1")),
    ],
)
def test_trap_is_live(name: str, options: tuple[str, ...], tmp_path: Path) -> None:
    """What a trusting ffmpeg is led to: the secret, whole. Its default changes between releases, hence the options."""
    path = tmp_path / CLIP_NAME
    hostile_media.build(name, path)
    assert decode(path, *options).size_px == SECRET_SIZE_PX


def test_every_reaching_file_has_its_secret_beside(tmp_path: Path) -> None:
    for name in REACHING:
        path = tmp_path / name / CLIP_NAME
        path.parent.mkdir()
        hostile_media.build(name, path)
        assert decode(secret_path(path)) == Decoded(SECRET_SIZE_PX, 120, "")
        data = path.read_bytes()
        assert secret_path(path).name.encode() in data, name


def test_headers_of_bombs_claim_what_they_say(tmp_path: Path) -> None:
    path = tmp_path / CLIP_NAME
    hostile_media.build("h264_bomb_16384", path)
    assert "16384x16384" in decode(path).stderr
    hostile_media.build("sample_count_bomb", path)
    assert int.from_bytes(body(path.read_bytes(), "moov/trak/mdia/minf/stbl/stsz")[8:12], "big") == 2**28
    hostile_media.build("headers_say_ten_hours", path)
    assert int.from_bytes(body(path.read_bytes(), "moov/mvhd")[16:20], "big") == 36_000_000


def test_boxes_fit_after_an_edit() -> None:
    data = base("mp4")
    assert edit(data, "moov/trak/mdia", bytes) == data
    grown = edit(data, "moov/trak/mdia/minf/dinf/dref", lambda inside: inside + bytes(100))
    assert len(grown) == len(data) + 100
    assert [name for name, _ in boxes(grown)] == [name for name, _ in boxes(data)]


def test_fuzz_depends_on_its_seed_alone(tmp_path: Path) -> None:
    for seed in (1, 1, 2):
        hostile_media.fuzz(tmp_path / f"{seed}", seed)
    first = (tmp_path / "1").read_bytes()
    hostile_media.fuzz(tmp_path / "1", 1)
    assert (tmp_path / "1").read_bytes() == first != (tmp_path / "2").read_bytes()


# Archives


@pytest.fixture(scope="module")
def clips() -> Clips:
    dice = random.Random(7)
    return {
        f"good-clip{n:02}_{n:06}_{n + 10:06}.mp4": b"\0\0\0\x18ftypisom" + dice.randbytes(9000 + n) for n in range(6)
    }


def read(data: bytes) -> tuple[list[tarfile.TarInfo], Clips]:
    """Headers, and the content of small files by the last part of their name, as tarfile finds them by seeking."""
    tar = gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        headers = archive.getmembers()
        small = [one for one in headers if one.isreg() and not one.issparse() and 0 <= one.size < MIB]
        return headers, {one.name.rsplit("/", 1)[-1]: archive.extractfile(one).read() for one in reversed(small)}


@pytest.mark.parametrize("name", ARCHIVES)
def test_archive_builds(name: str, clips: Clips) -> None:
    archive = ARCHIVES[name]
    data = archive.build(clips)
    assert len(data) < 6 * MIB
    assert data == archive.build(clips)
    assert EVIL not in archive.must(clips)
    if archive.refused:
        assert set(archive.refused) <= {"path", "link", "device", "size", "sparse", "header"}
    if archive.damaged is None or archive.refused is None:
        assert archive.note


WHOLE = [name for name, archive in ARCHIVES.items() if archive.damaged is False and name != "zeros_of_2_gib"]


@pytest.mark.parametrize("name", WHOLE)
def test_whole_archive_can_be_read(name: str, clips: Clips) -> None:
    """All that is expected to come out is in it, with these bytes; and what has to be refused is in it too."""
    archive = ARCHIVES[name]
    headers, files = read(archive.build(clips))
    must = archive.must(clips)
    assert {name: files[name] for name in must} == must
    shown = {
        "link": sum(one.issym() or one.islnk() for one in headers),
        "device": sum(one.ischr() or one.isblk() or one.isfifo() for one in headers),
        "sparse": sum(one.issparse() for one in headers),
        "path": sum(bool(re.search(r"^/|\\|[\0-\x1f\x7f]|(^|/)\.\.(/|$)", one.name)) for one in headers),
    }
    if archive.refused is not None:
        assert {kind: count for kind, count in shown.items() if count} == archive.refused


@pytest.mark.parametrize("name", sorted(SIZES))
def test_claimed_size(name: str, clips: Clips) -> None:
    """The member in question claims more than a GiB, or less than nothing."""
    tar = gzip.decompress(ARCHIVES[name].build(clips))
    at = len(members(front(clips)))
    if tar[at + 156 : at + 157] == b"x":
        (value,) = re.findall(rb" size=(-?\d+)\n", tar[at + 512 : at + 2048])
        size = int(value)
    else:
        size = tarfile.nti(tar[at + 124 : at + 136])
    assert size > GIB or size < 0


def test_bombs_unpack_to_what_they_claim() -> None:
    assert len(gzip.decompress(zeros(64))) == 64 * MIB
    clips = {"a": b"x", "b": b"y"}
    data = ARCHIVES["zeros_of_5_gib"].build(clips)
    assert data.count(zeros(64)) == 5 * GIB // (64 * MIB)
    pax = gzip.decompress(ARCHIVES["pax_header_of_300_mib"].build(clips))
    at = 3 * 512  # behind the first clip, and the header itself
    assert pax[at : at + 20] == b"314572800 comment=aa"
    assert pax[at + 300 * MIB - 1 :].startswith(b"\n" + EVIL.encode())
