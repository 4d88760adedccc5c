"""Damage is judged by what was decoded, in every profile alike: decoders conceal, and what comes out proves little."""

from __future__ import annotations

import functools
import random
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

import av
import pytest

from k710.fetch.encode.damage import MAX_LOST_SHARE, damage
from k710.fetch.encode.ffmpeg_binary import failure_reason
from k710.fetch.encode.jobs import Candidate, ClipJob, Made
from k710.fetch.encode.make_clip import make_clip
from k710.fetch.encode.mp4_boxes import is_cut_off
from k710.fetch.encode.profiles import read_profile
from k710.fetch.encode.source_file import container_of, probe
from tests.helpers.media_bytes import AAC, base, boxes, edit, encode, ffmpeg, scramble

PROFILES = {name: read_profile(name) for name in ("h264", "frames", "source")}
SECONDS = 10
FOOTAGE = "testsrc2=size=192x144:rate=30"
CODECS = {
    "h264": "-c:v libx264 -preset veryfast -pix_fmt yuv420p -g 48 -an -f mp4",
    "h264 without cabac": "-c:v libx264 -preset ultrafast -pix_fmt yuv420p -g 48 -an -f mp4",
    "mpeg4": "-c:v mpeg4 -q:v 4 -an -f mp4",
    "mpeg2": "-c:v mpeg2video -q:v 4 -an -f mp4",
    "mjpeg": "-c:v mjpeg -q:v 6 -an -f mp4",
}


def make(folder: Path, file: Path, profile: str, span: tuple[int, int] = (0, SECONDS), *, whole: bool = True) -> Made:
    folder.mkdir(exist_ok=True)
    job = ClipJob("a-clip", span, (span, (100, 103)), (Candidate(file, whole),), folder / profile, PROFILES[profile])
    return make_clip(job)


def outcomes(folder: Path, file: Path) -> dict[str, str | None]:
    return {profile: make(folder / "out", file, profile).failure for profile in PROFILES}


def all_are(outcome: str | None) -> dict[str, str | None]:
    return dict.fromkeys(PROFILES, outcome)


@functools.cache
def encoded(codec: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip"
        encode(path, CODECS[codec], source=FOOTAGE, seconds=SECONDS)
        return path.read_bytes()


def flipped(data: bytes, num_bits: int) -> bytes:
    def change(media: bytes) -> bytes:
        dice, out = random.Random(710), bytearray(media)
        for _ in range(num_bits):
            out[dice.randrange(len(out))] ^= 1 << dice.randrange(8)
        return bytes(out)

    return edit(data, "mdat", change)


def encrypted(path: Path, out: Path) -> Path:
    """The pictures behind the first second are noise, but for the head of each: what common encryption leaves."""
    dice = random.Random(710)
    with av.open(str(path)) as source, av.open(str(out), "w", format="mp4") as sink:
        stream = sink.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if not packet.size:
                continue
            data, at = bytearray(bytes(packet)), 0
            while at + 4 < len(data) and packet.pts * packet.time_base >= 1:
                length = int.from_bytes(data[at : at + 4], "big")
                data[at + 4 + 12 : at + 4 + length] = dice.randbytes(max(0, length - 12))
                at += 4 + length
            other = av.Packet(bytes(data))
            other.pts, other.dts, other.duration = packet.pts, packet.dts, packet.duration
            other.time_base, other.is_keyframe, other.stream = packet.time_base, packet.is_keyframe, stream
            sink.mux(other)
    return out


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.slow
def test_hundreds_of_flipped_bits_are_damage_in_every_profile(tmp_path, codec):
    path = tmp_path / "clip.mp4"
    path.write_bytes(flipped(encoded(codec), 300))
    assert outcomes(tmp_path, path) == all_are("corrupt")


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.slow
def test_a_whole_clip_has_no_damage(tmp_path, codec):
    path = tmp_path / "clip.mp4"
    path.write_bytes(encoded(codec))
    assert damage(path, container_of(path)) == (0, 300, 300)
    assert outcomes(tmp_path, path) == all_are(None)


def test_encrypted_pictures_are_corrupt_in_every_profile(tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_bytes(encoded("h264"))
    secret = encrypted(path, tmp_path / "encrypted.mp4")
    assert probe(secret).duration_s == pytest.approx(SECONDS)  # and its first pictures are fine
    assert outcomes(tmp_path, secret) == all_are("corrupt")


def test_a_little_damage_is_kept_by_every_profile(tmp_path):
    """One frame, which no other one needs."""
    path = tmp_path / "clip.mp4"

    def spoil(media: bytes) -> bytes:
        starts = [at for at in range(len(media)) if media.startswith(b"\xff\xd8\xff", at)]
        middle = (starts[100] + starts[101]) // 2
        return media[:middle] + b"\xff\xd9" * 40 + media[middle + 80 :]

    path.write_bytes(edit(encoded("mjpeg"), "mdat", spoil))
    found = damage(path, container_of(path))
    assert 1 <= found.num_damaged <= MAX_LOST_SHARE * 300
    assert outcomes(tmp_path, path) == all_are(None)


def test_damage_outside_of_the_span_does_not_count(tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_bytes(edit(encoded("h264"), "mdat", lambda media: scramble(media, 0.6, 1.0, 0.05)))
    for profile in PROFILES:
        assert make(tmp_path / "early", path, profile, (1, 4), whole=False).failure is None
        made = make(tmp_path / "late", path, profile, (7, 10), whole=False)
        assert made.failure == "corrupt"
        assert "of 90 frames" in str(made.message)


def test_a_span_of_which_nothing_decodes_is_told_of_the_source(tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_bytes(edit(encoded("mjpeg"), "mdat", lambda media: scramble(media, 0.5, 1.0, zeros=True)))
    made = make(tmp_path / "out", path, "h264", (7, 9), whole=False)
    assert (made.failure, made.message) == ("corrupt", "none of 60 frames decodes")


# Fragments.


FRAGMENTS = f"-c:v libx264 -preset veryfast -pix_fmt yuv420p -g 20 {AAC} -movflags +frag_keyframe+empty_moov -f mp4"


@functools.cache
def fragmented() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip"
        encode(path, FRAGMENTS, seconds=SECONDS)
        return path.read_bytes()


def ends_of(name: str) -> list[int]:
    """Where the boxes of this name end."""
    ends, at = [], 0
    for found, inside in boxes(fragmented()):
        at += 8 + len(inside)
        ends += [at] if found == name else []
    return ends


@pytest.mark.parametrize(
    "at", [lambda: int(0.7 * len(fragmented())), lambda: ends_of("moof")[3], lambda: ends_of("moof")[3] - 9]
)
def test_a_file_that_breaks_off_inside_a_fragment_is_corrupt(tmp_path, at: Callable[[], int]):
    path = tmp_path / "clip.mp4"
    path.write_bytes(fragmented()[: at()])
    assert outcomes(tmp_path, path) == all_are("corrupt")


def test_a_file_that_ends_between_fragments_is_a_shorter_clip(tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_bytes(fragmented()[: ends_of("mdat")[2]])
    made = make(tmp_path / "out", path, "h264")
    assert (made.failure, made.flags) == (None, ("short",))


@pytest.mark.parametrize(
    "behind", [b"", b"\0", random.Random(4).randbytes(3000), b"\0\0\0\0mdat" + bytes(100), b"\0\0\0\x10free" + bytes(8)]
)
def test_what_stands_behind_the_fragments_is_no_damage(tmp_path, behind):
    path = tmp_path / "clip.mp4"
    path.write_bytes(fragmented() + behind)
    assert not is_cut_off(path)
    path.write_bytes(base("mp4") + behind)
    assert not is_cut_off(path)


def test_a_box_of_64_bits_is_measured(tmp_path):
    path, media = tmp_path / "clip.mp4", bytes(50)
    head = b"\0\0\0\x08moof"
    for length, cut_off in ((16 + 50, False), (16 + 51, True), (1 << 63, True)):
        path.write_bytes(head + b"\0\0\0\x01mdat" + length.to_bytes(8, "big") + media)
        assert is_cut_off(path) == cut_off


# What ffmpeg says.


@pytest.mark.parametrize(
    ("messages", "returncode", "reason"),
    [
        ("", 1, "ended without a message"),
        ("", -11, "crashed (SIGSEGV)"),
        ("Unknown encoder 'libx264'\n", 8, "Unknown encoder 'libx264'"),
        (
            "[mov @ 0x55d0] moov atom not found\n[in#0 @ 0x7f] Error opening input: Invalid data found\n"
            "Error opening input file x.mp4.\n",
            183,
            "Error opening input file x.mp4.",
        ),
        (
            "[libx264 @ 0x1] width not divisible by 2 (3x3)\n"
            "[vost#0:0/libx264 @ 0x2] Task finished with error code: -22 (Invalid argument)\n"
            "[vost#0:0/libx264 @ 0x2] Terminating thread with return code -22 (Invalid argument)\nConversion failed!\n",
            234,
            "width not divisible by 2 (3x3)",
        ),
        (
            "[vf#0:0 @ 0x2] Terminating thread with return code -542398533 (Generic error in an external library)\n",
            187,
            "Terminating thread (Generic error in an external library)",
        ),
    ],
)
def test_the_reason_has_no_return_codes_and_no_addresses(messages, returncode, reason):
    assert failure_reason(messages, returncode) == reason


def test_the_message_of_a_failure_names_the_cause(tmp_path):
    path = tmp_path / "clip.mp4"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=size=64x48:rate=10:duration=2", "-c:v", "libx264", path)
    import dataclasses

    broken = dataclasses.replace(PROFILES["h264"], preset="no such preset")
    made = make_clip(ClipJob("a-clip", (0, 2), ((0, 2),), (Candidate(path, True),), tmp_path / "out", broken))
    assert made.failure == "undecodable"
    assert "preset" in str(made.message)
    assert not re.search(r"0x|-\d\d", str(made.message))
