"""The container format of a video file, from its first bytes. Every file is checked here before a decoder opens it.

The name of a file is not used: a playlist named `.mp4` would make a decoder read other files.
"""

from __future__ import annotations

from dataclasses import dataclass

SNIFF_BYTES = 400


@dataclass(frozen=True)
class Container:
    """A container format: FFmpeg's name of its demuxer, and the suffix that such files carry."""

    demuxer: str
    suffix: str


_MOV, _MP4 = Container("mov", "mov"), Container("mov", "mp4")
_MATROSKA, _WEBM = Container("matroska", "mkv"), Container("matroska", "webm")
_AVI, _FLV, _MPEGTS = Container("avi", "avi"), Container("flv", "flv"), Container("mpegts", "ts")
_MPEGPS = Container("mpeg", "mpg")

DEMUXERS = tuple(dict.fromkeys(container.demuxer for container in (_MOV, _MATROSKA, _AVI, _FLV, _MPEGTS, _MPEGPS)))

# The first box of an MP4 is `ftyp`. A QuickTime file from before 2001 may begin with any of these.
_MOV_BOXES = (b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot")


def sniff(head: bytes) -> Container | None:
    """The container whose first SNIFF_BYTES bytes are `head`; None if it is no known video container."""
    if head[4:8] in (b"ftyp", b"styp"):
        return _MOV if head[8:12] == b"qt  " else _MP4
    if head[4:8] in _MOV_BOXES:
        return _MOV
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return _WEBM if b"webm" in head[:64] else _MATROSKA
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return _AVI
    if head[:4] == b"FLV\x01":
        return _FLV
    if len(head) > 376 and head[0] == head[188] == head[376] == 0x47:
        return _MPEGTS
    if head[:4] == b"\0\0\1\xba":  # the header of a pack of MPEG-1 or MPEG-2
        return _MPEGPS
    return None


# Video containers that k710 does not read, by their first bytes.
_OTHER_VIDEO = {
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11": "ASF (WMV)",
    b"OggS": "Ogg",
    b".RMF": "RealMedia",
    b"DKIF": "IVF",
    b"YUV4MPEG2": "YUV4MPEG",
    b"\0\0\1\xb3": "MPEG video without a container",
    b"\0\0\0\1\x67": "H.264 without a container",
    b"\x06\x0e\x2b\x34": "MXF",
}


def other_video(head: bytes) -> str | None:
    """The name of a video container that `sniff` does not accept; None if it is not known."""
    if len(head) > 388 and head[4] == head[196] == head[388] == 0x47:
        return "MPEG-TS in packets of 192 bytes (M2TS)"
    return next((name for magic, name in _OTHER_VIDEO.items() if head.startswith(magic)), None)
