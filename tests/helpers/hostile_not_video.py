"""Files that are no video, or that have none of their own and reach for another file's."""

from __future__ import annotations

import gzip
import io
import random
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from tests.helpers.media_bytes import base, body, box, edit, put_secret, secret
from tests.helpers.media_kinds import Kind, all_are, bytes_of, copied, encoded, reaching


def _tar_of_clip() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        member = tarfile.TarInfo("clip.mp4")
        member.size = 1000
        tar.addfile(member, io.BytesIO(bytes(1000)))
    return out.getvalue()


def _zip_of_clip() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("clip.mp4", base("mp4"))
    return out.getvalue()


_HLS = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:10\n#EXTINF:10.0,\n{}\n#EXT-X-ENDLIST\n"
_MPD = """<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"
 mediaPresentationDuration="PT10S" profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period><AdaptationSet
 mimeType="video/mp4"><Representation id="1" bandwidth="1" codecs="avc1.64000a" width="80" height="48">
<BaseURL>{absolute}</BaseURL></Representation></AdaptationSet></Period></MPD>"""
_SVG = """<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="80" height="48">
<image width="80" height="48" xlink:href="file://{absolute}"/></svg>"""
_SDP = "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 96\na=rtpmap:96 H264/90000\n"

_NOTHING = {
    "zero_bytes": bytes_of(b""),
    "one_byte": bytes_of(b"\0"),
    "blank": bytes_of(b" \r\n" * 100),
    "html_page": bytes_of("<!DOCTYPE html>\n<html><title>503</title><p>Service unavailable</p></html>\n" * 20),
    "xml_error": bytes_of('<?xml version="1.0"?>\n<Error><Code>AccessDenied</Code></Error>\n'),
    "json_error": bytes_of('{"error": {"code": 403, "message": "quota exceeded"}}\n'),
    "text": bytes_of("This video is private.\n" * 50),
    "text_utf16": bytes_of("This video is private.\n".encode("utf-16")),
    "lfs_pointer": bytes_of("version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 812345\n"),
    "shell_script": bytes_of("#!/bin/sh\ntouch pwned\n"),
    "only_zeros": bytes_of(bytes(50_000)),  # a download that was given its place and never came
    "random_bytes": bytes_of(random.Random(1).randbytes(50_000)),
    "elf": bytes_of(b"\x7fELF\2\1\1" + bytes(9) + struct.pack("<HHI", 2, 62, 1) + bytes(500)),
    "pdf": bytes_of(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n" + bytes(500)),
    "gzip_of_clip": lambda path: path.write_bytes(gzip.compress(base("mp4"), mtime=0)),
    "zip_of_clip": lambda path: path.write_bytes(_zip_of_clip()),
    "tar_of_clip": lambda path: path.write_bytes(_tar_of_clip()),
    "png": encoded("-frames:v 1 -f image2 -c:v png -update 1"),
    "jpeg": encoded("-frames:v 1 -f image2 -c:v mjpeg -update 1"),
    "gif": encoded("-an -c:v gif -f gif", seconds=2),
    "wav": encoded("-vn -f wav"),
    "mp3": encoded("-vn -c:a libmp3lame -f mp3"),
    "aac": encoded("-vn -c:a aac -f adts"),
    "flac": encoded("-vn -c:a flac -f flac"),
    "ogg": encoded("-vn -c:a libopus -f ogg"),
    "asf": encoded("-c:v wmv2 -c:a wmav2 -f asf"),
    "h264_elementary_stream": copied("-an -f h264"),
    "y4m": encoded("-an -pix_fmt yuv420p -f yuv4mpegpipe", seconds=1),
    "nut": copied("-f nut"),
    "srt": bytes_of("1\n00:00:00,000 --> 00:00:10,000\n{\\an8}<font face='x'>hello</font>\n"),
    "webvtt": bytes_of("WEBVTT\n\n00:00.000 --> 00:10.000\nhello\n"),
    "ffmetadata": bytes_of(";FFMETADATA1\ntitle=clip\n"),
    "sdp": bytes_of(_SDP),
    "hls_of_web": bytes_of(_HLS.format("http://127.0.0.1:9/secret.mp4")),
}

_REACHING = {
    "hls_absolute": reaching(_HLS.format("{absolute}")),
    "hls_relative": reaching(_HLS.format("{relative}")),
    "hls_file_url": reaching(_HLS.format("file://{absolute}")),
    "hls_map": reaching(_HLS.format("{relative}").replace("#EXTINF", '#EXT-X-MAP:URI="{absolute}"\n#EXTINF', 1)),
    "hls_before_mp4": lambda path: path.write_bytes(_HLS.format(put_secret(path)).encode() + base("mp4")),
    "ffconcat": reaching("ffconcat version 1.0\nfile {relative}\n"),
    "ffconcat_absolute": reaching("ffconcat version 1.0\nfile '{absolute}'\n"),
    "mpd": reaching(_MPD),
    "svg": reaching(_SVG),
    "avisynth_script": reaching('FFVideoSource("{absolute}")\n'),
    "m3u": reaching("{absolute}\n{relative}\n"),
}


def _url_entry(place: Path) -> bytes:
    return box("url ", bytes(4) + f"file://{place}".encode() + b"\0")


def _alias_entry(place: Path) -> bytes:
    """An alias record as QuickTime wrote it, of which readers take the absolute path, of type 2."""
    name = str(place).encode()
    record = (
        bytes(10) + b"\1x".ljust(28, b"\0") + bytes(12) + b"\1x".ljust(64, b"\0") + bytes(16) + bytes(4) + bytes(16)
    )
    record += struct.pack(">hH", 2, len(name)) + name + b"\0" * (len(name) % 2) + struct.pack(">hH", -1, 0)
    return box("alis", bytes(4) + record)


def _mp4_reference(path: Path, entry: Callable[[Path], bytes]) -> None:
    """A movie without media of its own: its data reference names the secret clip, and its offsets fit that file."""
    data = secret()
    references = struct.pack(">II", 0, 1) + entry(put_secret(path))
    moov = edit(box("moov", body(data, "moov")), "moov/trak/mdia/minf/dinf/dref", lambda _: references)
    path.write_bytes(box("ftyp", body(data, "ftyp")) + moov)


_AVIF = Kind(
    encoded("-an -frames:v 1 -c:v libaom-av1 -cpu-used 8 -f avif"),
    ("not_video", "undecodable", "short"),
    note="a picture in the boxes of an mp4: its brand tells, or that it has one frame",
    size_px=None,
    encoders=("libaom-av1",),
)
_M2TS = Kind(
    copied("-f mpegts -mpegts_m2ts_mode 1"),
    ("ok", "not_video"),
    note="packets of 192 bytes, whose mark stands at byte 4: as is MPEG-TS on a disc, and seldom as a clip",
)

NOT_VIDEO = all_are("not_video", _NOTHING) | {"avif": _AVIF, "m2ts": _M2TS}

# Each names the secret clip, which stands beside it and decodes. The last ones begin as an mp4 does, and ffmpeg could
# be told to follow them.
REACHING = all_are("not_video", _REACHING) | all_are(
    "undecodable",
    {
        "ftyp_before_hls": lambda path: path.write_bytes(
            box("ftyp", b"isom\0\0\2\0isom") + _HLS.format(put_secret(path)).encode()
        ),
        "mp4_reference_url": lambda path: _mp4_reference(path, _url_entry),
        "mp4_reference_alias": lambda path: _mp4_reference(path, _alias_entry),
    },
)
