"""Files that look odd and are fine: every container, codec and oddity of which a clip can be made."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

from tests.helpers.media_bytes import AAC, FOOTAGE, H264, base, box, boxes, compressed_moov, edit, encode, ffmpeg
from tests.helpers.media_kinds import Build, Kind, changed, copied, encoded, with_cover

_CONTAINERS = {
    "mp4": changed("mp4", bytes),
    "faststart": changed("faststart", bytes),
    "silent": changed("silent", bytes),
    "fragmented": changed("fragmented", bytes),
    "mkv": changed("mkv", bytes),
    "webm_vp8": changed("webm", bytes),
    "avi_mpeg4": changed("avi", bytes),
    "flv": changed("flv", bytes),
    "ts": changed("ts", bytes),
    "avi_mjpeg": changed("mjpeg", bytes),
    "mov": copied("-f mov"),
    "3gp": copied("-f 3gp"),
    "dash_fragments": copied("-movflags +dash+global_sidx -f mp4"),
    "mkv_live": copied("-live 1 -f matroska"),  # no duration and no index, as a browser records
    "avi_h264": copied("-an -f avi"),
}

_CODECS = {
    "hevc_10bit": (
        "-c:v libx265 -preset ultrafast -x265-params log-level=none -pix_fmt yuv420p10le -an -f mp4",
        "libx265",
    ),
    "h264_10bit": ("-c:v libx264 -preset veryfast -pix_fmt yuv420p10le -an -f mp4", ""),
    "h264_444": ("-c:v libx264 -preset veryfast -pix_fmt yuv444p -an -f mp4", ""),
    "h264_422": ("-c:v libx264 -preset veryfast -pix_fmt yuv422p -an -f mp4", ""),
    "h264_lossless": ("-c:v libx264 -preset ultrafast -qp 0 -pix_fmt yuv444p -an -f mp4", ""),
    "h264_gray": ("-c:v libx264 -preset veryfast -pix_fmt gray -an -f mp4", ""),
    "h264_full_range": ("-c:v libx264 -preset veryfast -pix_fmt yuvj420p -color_range pc -an -f mp4", ""),
    "h264_one_key_frame": ("-c:v libx264 -preset veryfast -pix_fmt yuv420p -g 9999 -bf 4 -an -f mp4", ""),
    "h264_intra_refresh": ("-c:v libx264 -preset veryfast -pix_fmt yuv420p -intra-refresh 1 -an -f mp4", ""),
    "vp9": ("-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -c:a libopus -f webm", "libvpx-vp9"),
    "vp9_alpha": ("-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -pix_fmt yuva420p -an -f webm", "libvpx-vp9"),
    "av1_webm": ("-c:v libsvtav1 -preset 12 -an -f webm", "libsvtav1"),
    "mpeg1_avi": ("-r 25 -c:v mpeg1video -an -f avi", ""),
    "mpeg2_ts": ("-r 25 -c:v mpeg2video -c:a mp2 -f mpegts", ""),
    "mpeg2_ps": ("-r 25 -c:v mpeg2video -c:a mp2 -f vob", ""),
    "mpeg1_ps": ("-r 25 -c:v mpeg1video -bf 2 -c:a mp2 -f mpeg", ""),
    "h263_3gp": ("-c:v h263 -an -f 3gp", ""),
    "sorenson_flv": ("-c:v flv -an -f flv", ""),
    "wmv2_avi": ("-c:v wmv2 -an -f avi", ""),
    "mjpeg_mov": ("-c:v mjpeg -q:v 8 -an -f mov", ""),
    "png_mov": ("-c:v png -an -f mov", ""),
    "prores_mov": ("-c:v prores_ks -an -f mov", ""),
    "prores_4444_alpha": ("-c:v prores_ks -profile:v 4444 -pix_fmt yuva444p10le -an -f mov", ""),
    "qtrle_alpha": ("-c:v qtrle -pix_fmt argb -an -f mov", ""),
    "rawvideo_avi": ("-c:v rawvideo -pix_fmt yuv420p -an -f avi", ""),
    "ffv1_mkv": ("-c:v ffv1 -an -f matroska", ""),
    "interlaced": (f"{H264} -flags +ildct+ilme -x264-params tff=1 -an -f mp4", ""),
    "hdr": (f"{H264} -color_primaries bt2020 -color_trc smpte2084 -colorspace bt2020nc -an -f mp4", ""),
    "wide_pixels": (f"-filter:v setsar=2/1 {H264} -an -f mp4", ""),
    "variable_rate": (
        f"-filter:v select='not(mod(n\\,5))+lt(mod(n\\,24)\\,8)+eq(n\\,119)' -fps_mode vfr {H264} -an -f mp4",
        "",
    ),
    "variable_rate_mkv": (f"-filter:v select='not(mod(n\\,7))+lt(n\\,24)' -fps_mode vfr {H264} -an -f matroska", ""),
    "ntsc_rate": (f"-r 30000/1001 {H264} {AAC} -f mp4", ""),
    "negative_composition_offsets": (f"{H264} -bf 3 -movflags +negative_cts_offsets -an -f mp4", ""),
}
_SHOWN_PX = {"wide_pixels": (256, 96)}

_SIZES_PX = {
    "odd_size": ((101, 67), "-c:v mpeg4 -q:v 5 -an -f mp4"),
    "odd_size_444": ((101, 67), "-c:v libx264 -preset veryfast -pix_fmt yuv444p -an -f mp4"),
    "tiny": ((16, 16), f"{H264} -an -f mp4"),
    "very_wide": ((1000, 16), f"{H264} -an -f mp4"),
    "very_tall": ((16, 1000), f"{H264} -an -f mp4"),
}

_STREAMS = {
    "long_sound": encoded(f"-filter:v trim=end=10 {H264} {AAC} -f mp4", seconds=15),
    "starts_at_5_s": copied("-output_ts_offset 5 -f mp4"),
    "starts_at_5_s_mkv": copied("-output_ts_offset 5 -avoid_negative_ts disabled -f matroska"),
    "ts_clock_wraps": copied("-output_ts_offset 95438 -f mpegts"),  # 33 bits at 90 kHz end after 95,443.7 s
    "edit_list": copied("-f mp4", before="-ss 1", seconds=11),
    "cover_beside": lambda path: with_cover(path, "-map 0:v -map 0:a"),
    "two_video_streams": lambda path: _two_streams(path),
    "subtitles_and_time_code": lambda path: _with_subtitles(path),
    "attachment": lambda path: _with_attachment(path),
    "resolution_changes": lambda path: _resolution_changes(path),
}


def _two_streams(path: Path) -> None:
    """The clip, and a small picture-in-picture stream behind it."""
    with tempfile.TemporaryDirectory() as folder:
        whole, small = Path(folder) / "base", Path(folder) / "small"
        whole.write_bytes(base("mp4"))
        encode(small, f"{H264} -an -f mp4", source="testsrc2=size=48x32:rate=12")
        ffmpeg("-i", whole, "-i", small, "-map", 0, "-map", "1:v", "-c", "copy", "-f", "mp4", path)


def _with_subtitles(path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        whole, text = Path(folder) / "base", Path(folder) / "s.srt"
        whole.write_bytes(base("mp4"))
        text.write_text("1\n00:00:00,000 --> 00:00:30,000\nthis outlasts the pictures\n")
        streams = "-map 0 -map 1 -c copy -c:s mov_text -timecode 01:00:00:00 -f mov"
        ffmpeg("-i", whole, "-i", text, *streams.split(), path)


def _with_attachment(path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        whole, font = Path(folder) / "base", Path(folder) / "font.ttf"
        whole.write_bytes(base("mkv"))
        font.write_bytes(b"\0\1\0\0" + bytes(5000))
        marks = "-c copy -metadata:s:t mimetype=font/ttf -metadata:s:t filename=../../font.ttf -f matroska"
        ffmpeg("-i", whole, "-attach", font, *marks.split(), path)


def _resolution_changes(path: Path) -> None:
    """A live stream that falls to a quarter of its size after 5 s; its packets are counted on across the join."""
    with tempfile.TemporaryDirectory() as folder:
        first, second, joined = (Path(folder) / name for name in "12j")
        encode(first, f"{H264} -bf 0 -an -f mpegts", seconds=5)
        smaller = "testsrc2=size=64x48:rate=12"
        encode(second, f"{H264} -bf 0 -an -output_ts_offset 5 -f mpegts", source=smaller, seconds=5)
        joined.write_bytes(first.read_bytes() + second.read_bytes())
        ffmpeg("-i", joined, "-c", "copy", "-f", "mpegts", path)


def _junk_boxes(data: bytes) -> bytes:
    """Boxes that no reader knows, a `free` and a `udta` of megabytes, and the header once more."""
    junk = random.Random(3).randbytes(2_000_000)
    parts = list(boxes(data))
    whole = b"".join(box(name, inside) for name, inside in parts)  # mdat keeps its place: all else comes behind
    data = edit(whole, "moov", lambda inside: inside + box("udta", box("\xa9xyz", junk[:100]) + box("ZZZZ", junk)))
    moov = dict(boxes(data))["moov"]
    return data + box("free", bytes(4_000_000)) + box("uuid", junk[:5000]) + box("xyzw", b"") + box("moov", moov)


def _title(data: bytes) -> bytes:
    """A title that is a shell command, with a NUL, line ends, an escape sequence and bytes that are no UTF-8."""
    title = b'"; rm -rf "$HOME" #`id`\n\r\0\x1b[2J../../etc/passwd \xff\xfe %s%n <script>' + "‮\U0001f4a9".encode()
    text = box("data", b"\0\0\0\1" + bytes(4) + title)
    handler = box("hdlr", bytes(8) + b"mdirappl" + bytes(10))
    meta = box("meta", bytes(4) + handler + box("ilst", box("\xa9nam", text) + box("\xa9cmt", text)))
    return edit(data, "moov", lambda inside: inside + box("udta", meta))


_BYTES = {
    "junk_boxes": changed("mp4", _junk_boxes),
    "compressed_moov": changed("silent", compressed_moov),
    "hostile_title": changed("silent", _title),
    "rubbish_behind": changed("mp4", lambda data: data + random.Random(4).randbytes(3000)),
    "mkv_rubbish_behind": changed("mkv", lambda data: data + random.Random(4).randbytes(3000)),
}


def _fine(build: Build, *flags: str, **more: object) -> Kind:
    return Kind(build, "ok", flags, **more)


def _codecs() -> dict[str, Kind]:
    return {
        name: _fine(encoded(arguments), size_px=_SHOWN_PX.get(name, (128, 96)), encoders=(encoder,) if encoder else ())
        for name, (arguments, encoder) in _CODECS.items()
    }


def _sizes() -> dict[str, Kind]:
    return {
        name: _fine(
            encoded(arguments, source=f"{FOOTAGE},format=gbrp,scale={size[0]}:{size[1]},setsar=1"), size_px=size
        )
        for name, (size, arguments) in _SIZES_PX.items()
    }


def _rotated() -> dict[str, Kind]:
    return {
        f"rotated_{angle}": _fine(
            copied("-f mp4", before=f"-display_rotation {angle}"), size_px=(128, 96) if angle == 180 else (96, 128)
        )
        for angle in (90, 180, 270)
    }


_FLAGGED = {
    "seven_seconds": _fine(encoded(f"{H264} {AAC} -f mp4", seconds=7), "short"),
    "seven_seconds_long_sound": _fine(encoded(f"-filter:v trim=end=7 {H264} {AAC} -f mp4"), "short"),
    "twelve_seconds": _fine(encoded(f"{H264} {AAC} -f mp4", seconds=12), "trimmed"),
    "twelve_seconds_mkv": _fine(encoded(f"{H264} {AAC} -f matroska", seconds=12), "trimmed"),
    "frozen": _fine(encoded(f"{H264} {AAC} -f mp4", source=f"{FOOTAGE},trim=end_frame=1,loop=-1:1"), "frozen"),
    "black": _fine(encoded(f"{H264} {AAC} -f mp4", source="color=black:size=128x96:rate=12"), "black"),
    "black_full_range": _fine(
        encoded("-c:v mjpeg -pix_fmt yuvj420p -an -f avi", source="color=black:size=128x96:rate=12"), "black"
    ),
    "white": _fine(encoded(f"{H264} {AAC} -f mp4", source="color=white:size=128x96:rate=12"), "frozen"),
}

_IN_MP4 = {"mpeg4": "mpeg4", "hevc": "libx265", "vp9": "libvpx-vp9", "av1": "libsvtav1"}

FINE = (
    {name: _fine(build) for name, build in (_CONTAINERS | _STREAMS | _BYTES).items()}
    | {f"{name}_in_mp4": _fine(changed(name, bytes), encoders=(encoder,)) for name, encoder in _IN_MP4.items()}
    | {"one_fps": _fine(encoded(f"{H264} -an -f mp4", source="testsrc2=size=128x96:rate=1"))}
    | _codecs()
    | _sizes()
    | _rotated()
    | _FLAGGED
)
