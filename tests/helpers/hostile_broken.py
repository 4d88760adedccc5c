"""Files in a known container that are broken, cut, too short, too long, or claim what cannot be."""

from __future__ import annotations

import random
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.helpers.media_bytes import (
    AAC,
    H264,
    body,
    box,
    boxes,
    compressed_moov,
    edit,
    ffmpeg,
    patch,
    resized_sps,
    scramble,
)
from tests.helpers.media_kinds import Build, Kind, all_are, bytes_of, changed, copied, encoded, with_cover

_STBL = "moov/trak/mdia/minf/stbl"


def _without(name: str) -> Build:
    return changed("mp4", lambda data: edit(data, name, lambda _: None))


def _cut(name: str, keep: float) -> Build:
    return changed(name, lambda data: data[: int(keep * len(data))])


def _in_media(change: Callable[[bytes], bytes], name: str = "mp4") -> Build:
    return changed(name, lambda data: edit(data, "mdat", change))


def _no_samples(data: bytes) -> bytes:
    """The video track's tables with nothing in them."""
    for table, size in {"stsz": 12, "stts": 8, "ctts": 8, "stsc": 8, "stco": 8, "stss": 8}.items():
        if table in dict(boxes(body(data, _STBL))):
            data = edit(data, f"{_STBL}/{table}", lambda _, size=size: bytes(size))
    return data


def _before_cluster(data: bytes) -> bytes:
    return data[: data.index(b"\x1f\x43\xb6\x75")]


def _sample_count(data: bytes) -> bytes:
    """268 million samples of one byte each, which need no table: an index of them takes gigabytes."""
    many = 2**28
    data = edit(data, f"{_STBL}/stsz", lambda _: struct.pack(">III", 0, 1, many))
    data = edit(data, f"{_STBL}/stts", lambda _: struct.pack(">IIII", 0, 1, many, 1))
    return edit(data, f"{_STBL}/stsc", lambda _: struct.pack(">IIIII", 0, 1, 1, many, 1))


def _mjpeg_size(data: bytes, width_px: int, height_px: int) -> bytes:
    """Every picture of a motion JPEG claims this size in its own header (SOF0)."""
    out, at = bytearray(data), -1
    while (at := out.find(b"\xff\xc0\0\x11\x08", at + 1)) >= 0:
        out[at + 5 : at + 9] = struct.pack(">HH", height_px, width_px)
    return bytes(out)


def _h264_size(data: bytes, width_px: int, height_px: int) -> bytes:
    def change(entries: bytes) -> bytes:
        at = entries.index(b"avcC") + 12  # 4 name, 6 header, 2 length of the set
        length = int.from_bytes(entries[at - 2 : at], "big")
        new = resized_sps(entries[at : at + length], width_px, height_px)
        avcc = box("avcC", entries[at - 8 : at - 2] + struct.pack(">H", len(new)) + new + entries[at + length :])
        entry = entries[16 : at - 16]
        assert len(new) - length + len(entries[16:]) == len(entry) + len(avcc)
        return entries[:8] + box("avc1", entry + avcc)

    return edit(data, f"{_STBL}/stsd", lambda entries: change(_alone(entries)))


def _alone(entries: bytes) -> bytes:
    """Sample descriptions whose entry ends with its avcC: what comes behind is optional."""
    at = entries.index(b"avcC") - 4
    avcc = entries[at : at + int.from_bytes(entries[at : at + 4], "big")]
    return entries[:8] + box("avc1", entries[16:at] + avcc)


def _claimed_size(data: bytes) -> bytes:
    """Track header and sample description say 65,535 pixels a side; the stream inside says the truth."""
    data = edit(data, "moov/trak/tkhd", lambda inside: inside[:-8] + struct.pack(">HHHH", 65535, 0, 65535, 0))
    return edit(data, f"{_STBL}/stsd", lambda inside: patch(inside, 8 + 8 + 24, struct.pack(">HH", 65535, 65535)))


def _claimed_time(data: bytes, seconds: int) -> bytes:
    """All headers say another duration than the tables; the edit list, which would cut, is away."""
    data = edit(data, "moov/trak/edts", lambda _: None)
    movie_scale = struct.unpack_from(">I", body(data, "moov/mvhd"), 12)[0]
    media_scale = struct.unpack_from(">I", body(data, "moov/trak/mdia/mdhd"), 12)[0]
    for name, at, scale in (
        ("mvhd", 16, movie_scale),
        ("trak/tkhd", 20, movie_scale),
        ("trak/mdia/mdhd", 16, media_scale),
    ):
        new = struct.pack(">I", seconds * scale)
        data = edit(data, f"moov/{name}", lambda inside, at=at, new=new: patch(inside, at, new))
    return data


def _times(data: bytes, last_ticks: int | None = None, *, slower: int = 1) -> bytes:
    """The frame times: all `slower` times as far apart, or only the last one held for long."""

    def change(inside: bytes) -> bytes:
        count, delta = struct.unpack_from(">II", inside, 8)
        assert struct.unpack_from(">I", inside, 4)[0] == 1, "constant frame rate expected"
        if last_ticks is None:
            return struct.pack(">IIII", 0, 1, count, delta * slower)
        return struct.pack(">IIIIIIII", 0, 3, count - 2, delta, 1, last_ticks, 1, delta)

    data = edit(data, "moov/trak/edts", lambda _: None)
    return edit(data, f"{_STBL}/stts", change)


def _bad_offsets(data: bytes) -> bytes:
    count = struct.unpack_from(">I", body(data, f"{_STBL}/stco"), 4)[0]
    wild = struct.pack(f">II{count}I", 0, count, *(2**31 + 4096 * number for number in range(count)))
    return edit(data, f"{_STBL}/stco", lambda _: wild)


def _nested(depth: int) -> bytes:
    inside = b""
    for name in ("trak", "mdia", "minf", "moov") * (depth // 4):
        inside = box(name, inside)
    return box("ftyp", b"isom\0\0\2\0isom") + inside


def _avi_rate(data: bytes) -> bytes:
    """The header says 1,000,000 frames a second, so that 10 s of pictures last 0.1 ms."""
    return patch(data, data.index(b"vids", data.index(b"strh")) + 20, struct.pack("<II", 1, 1_000_000))


def _middle_cluster_gone(data: bytes) -> bytes:
    at = [i for i in range(len(data)) if data.startswith(b"\x1f\x43\xb6\x75", i)]
    assert len(at) >= 3, "too few clusters"
    return data[: at[1]] + data[at[-1] :]


CENC = f"-encryption_scheme cenc-aes-ctr -encryption_key {'71' * 16} -encryption_kid {'10' * 16} -f mp4"

_UNDECODABLE = {
    "no_moov": _cut("mp4", 0.6),
    "no_mdat": changed("faststart", lambda data: data[: data.index(b"mdat") + 4]),
    "ftyp_only": changed("mp4", lambda data: data[: data.index(b"ftyp") + 28]),
    "twelve_bytes": changed("mp4", lambda data: data[:12]),
    "moov_beyond_end": bytes_of(box("ftyp", b"isom\0\0\2\0isom") + b"\xff\xff\xff\xf0moov" + bytes(64)),
    "moov_of_size_zero": bytes_of(box("ftyp", b"isom\0\0\2\0isom") + b"\0\0\0\2moov" + bytes(64)),
    "boxes_in_boxes": lambda path: path.write_bytes(_nested(4000)),
    "mkv_header_only": changed("mkv", lambda data: data[:64]),
    "mkv_no_clusters": changed("mkv", _before_cluster),
    "avi_header_only": changed("avi", lambda data: data[: data.index(b"movi") + 4]),
    "flv_header_only": changed("flv", lambda data: data[:13]),
    "ts_packets_without_program": bytes_of((b"\x47\x1f\xff\x10" + b"\xff" * 184) * 100),
    "audio_only_m4a": changed("m4a", lambda data: data),
    "audio_only_mkv": copied("-f matroska", of="m4a"),
    "audio_only_webm": copied("-vn -f webm", of="webm"),
    "audio_only_flv": copied("-f flv", of="m4a"),
    "audio_only_ts": copied("-f mpegts", of="m4a"),
    "subtitles_only_mkv": lambda path: _subtitles_only(path),
    "unknown_codec": changed(
        "silent", lambda data: edit(data, f"{_STBL}/stsd", lambda inside: inside.replace(b"avc1", b"zz9z"))
    ),
    "garbage_media": _in_media(lambda inside: random.Random(2).randbytes(len(inside))),
    "zeros_for_media": _in_media(lambda inside: bytes(len(inside))),
    "no_samples": changed("silent", _no_samples),
    "mjpeg_bomb_16384": changed("mjpeg", lambda data: _mjpeg_size(data, 16384, 16384)),
    "mjpeg_bomb_16000": changed("mjpeg", lambda data: _mjpeg_size(data, 16000, 16000)),
    "h264_bomb_16384": changed("baseline", lambda data: _h264_size(data, 16384, 16384)),
    "h264_bomb_16000": changed("baseline", lambda data: _h264_size(data, 16000, 16000)),
}

_CORRUPT = {
    "cut_to_40_percent": _cut("faststart", 0.4),
    "cut_to_90_percent": _cut("faststart", 0.9),
    "mkv_cut": _cut("mkv", 0.4),
    "webm_cut": _cut("webm", 0.4),
    "avi_cut": _cut("avi", 0.4),
    "flv_cut": _cut("flv", 0.4),
    "fragmented_cut": _cut("fragmented", 0.45),  # inside a fragment
    "fragmented_cut_late": _cut("fragmented", 0.7),
    "zeros_in_the_middle": _in_media(lambda inside: scramble(inside, 0.25, 0.75, zeros=True)),
    "zeros_at_the_end": changed("faststart", lambda data: scramble(data, 0.6, 1.0, zeros=True)),
    "mkv_zeros_in_the_middle": changed("mkv", lambda data: scramble(data, 0.3, 0.7, zeros=True)),
    "flipped_bytes": _in_media(lambda inside: scramble(inside, 0, 1, 0.02)),
    "ts_flipped_bytes": changed("ts", lambda data: scramble(data, 0.05, 1, 0.01)),
    "every_third_frame_gone": copied("-an -bsf:v noise=drop='not(mod(n+1\\,3))' -f matroska"),
}


def _subtitles_only(path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "s.srt"
        text.write_text("1\n00:00:00,000 --> 00:00:10,000\nhello\n")
        ffmpeg("-i", text, "-c:s", "srt", "-f", "matroska", path)


_SHORT = {
    "one_frame": encoded(f"{H264} {AAC} -frames:v 1 -f mp4"),
    "three_frames": encoded(f"{H264} -an -frames:v 3 -f mp4"),
    "seven_frames_in_seven_seconds": encoded(f"{H264} -an -f mp4", source="testsrc2=size=128x96:rate=1", seconds=7),
    "half_a_second": encoded(f"-r 24 {H264} {AAC} -f mp4", seconds=0.5),
    "half_a_second_with_long_sound": encoded(f"-filter:v trim=end=0.5 -r 24 {H264} {AAC} -f mp4"),
    "avi_of_a_million_fps": changed("avi", _avi_rate),
}

_MISMATCH = {
    "twenty_seconds": encoded(f"{H264} {AAC} -f mp4", seconds=20),
    "sixty_seconds": encoded(f"{H264} {AAC} -f mp4", seconds=60),
    "sixty_seconds_mkv": encoded("-c:v mpeg4 -an -f matroska", seconds=60),
    "twenty_minutes": changed("baseline", lambda data: _times(data, slower=120)),
    "last_frame_held_for_ten_hours": changed("baseline", lambda data: _times(data, last_ticks=36_000 * 12_288)),
    "thousand_fps": encoded("-c:v mpeg4 -an -f mp4", source="testsrc2=size=32x32:rate=1000"),
}


def _flipped(name: str, encoder: str, outcome: str | tuple[str, ...], note: str = "") -> Kind:
    flips = _in_media(lambda inside: scramble(inside, 0, 1, 0.02), name)
    return Kind(flips, outcome, note=note, size_px=None, encoders=(encoder,))


_EITHER = {
    "flipped_bytes_mpeg4": _flipped("mpeg4", "mpeg4", "corrupt"),
    "flipped_bytes_hevc": _flipped(
        "hevc",
        "libx265",
        ("corrupt", "undecodable"),
        "two bytes in a hundred leave no frame of this codec, though a part of them is whole",
    ),
    "flipped_bytes_vp9": _flipped("vp9", "libvpx-vp9", "corrupt"),
    "flipped_bytes_vp9_unnoticed": Kind(
        _in_media(lambda inside: scramble(inside, 0.3, 1, 0.002), "vp9"),
        ("ok", "corrupt"),
        note="120 frames of rubbish and not one error: this codec has nothing by which a decoder could tell",
        encoders=("libvpx-vp9",),
    ),
    "flipped_bytes_av1": _flipped("av1", "libsvtav1", "corrupt"),
    "flipped_bytes_vp8": Kind(
        changed("webm", lambda data: scramble(data, 0.01, 1, 0.02)),
        ("corrupt", "mismatch"),
        note="where the flips fall depends on the speed of this encoder: some change the times of blocks",
        size_px=None,
    ),
    "flipped_bytes_mjpeg": Kind(
        changed("mjpeg", lambda data: scramble(data, 0.04, 0.95, 0.01)), "corrupt", size_px=None
    ),
    "first_key_frame_gone": Kind(
        copied("-an -bsf:v noise=drop='not(n)' -f matroska"),
        ("corrupt", "ok"),
        ("short",),
        note="cut between key frames: what comes before the first one cannot be had, and nothing declares it",
    ),
    "ts_cut": Kind(
        _cut("ts", 0.4),
        ("ok", "corrupt"),
        ("short",),
        note="a stream declares no length: but for its last, broken packet it is a shorter clip",
    ),
    "few_flipped_bits": Kind(
        _in_media(lambda inside: scramble(inside, 0, 1, 2e-5)),
        ("corrupt", "ok"),
        note="a handful of wild bytes: within what a tolerance of single errors may let pass",
    ),
    "middle_gone_mkv": Kind(
        changed("mkv", _middle_cluster_gone),
        ("corrupt", "ok"),
        note="a gap of seconds between two frames is also what a screen recording has",
    ),
    "headers_say_ten_hours": Kind(
        changed("silent", lambda data: _claimed_time(data, 36_000)),
        ("ok", "corrupt", "mismatch"),
        note="all 10 s are there and the tables say so; libavformat goes by the tables and ignores these headers",
    ),
    "headers_say_one_second": Kind(
        changed("silent", lambda data: _claimed_time(data, 1)),
        ("ok", "corrupt"),
        note="all 10 s are there and can be shown; the headers alone are wrong",
    ),
    "headers_say_65535_px": Kind(
        changed("silent", _claimed_size),
        ("ok", "undecodable"),
        note="the stream itself is of the usual size; a limit on what headers claim may refuse it",
        size_px=None,
    ),
    "wild_chunk_offsets": Kind(
        changed("silent", _bad_offsets),
        ("undecodable", "corrupt"),
        note="every sample lies beyond the end of the file: nothing decodes, since all that is declared is missing",
    ),
    "sample_count_bomb": Kind(
        changed("silent", _sample_count),
        ("undecodable", "corrupt", "mismatch"),
        note="268 million samples: nothing decodes, most are missing, and they would last for hours",
        size_px=None,
    ),
    "compressed_moov_claims_2_gib": Kind(
        changed("silent", lambda data: compressed_moov(data, 2**31 - 8)),
        ("ok", "undecodable"),
        note="unpacked it is small and whole: ffmpeg asks for 2 GiB, touches little of it, and decodes all",
    ),
    "encrypted": Kind(
        encoded(f"{H264} -an {CENC}"),
        ("undecodable", "corrupt"),
        note="headers are plain and all samples are there, but encrypted: a decoder sees noise and may guess pictures",
        size_px=None,
    ),
    "cover_of_a_song": Kind(
        lambda path: with_cover(path, "-map 0:a"),
        ("undecodable", "short"),
        note="sound with an attached picture: no video stream, or one of a single frame",
        size_px=None,
    ),
}

BROKEN = (
    all_are("undecodable", _UNDECODABLE)
    | all_are("corrupt", _CORRUPT)
    | all_are("short", _SHORT)
    | all_are("mismatch", _MISMATCH)
    | _EITHER
)
