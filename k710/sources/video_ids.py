"""The names of videos and clips: IDs of any form, and spans in whole seconds, in milliseconds, or none.

A YouTube ID names a video by itself. Any other ID is written `SOURCE~ID`, so that equal IDs of two sources stay apart;
`~` is no character of YouTube's. In it only letters, digits, `_` and `-` stand for themselves, so that it can name a
file and a sample of a tar everywhere; each other byte is `~` and two hexadecimal digits. A clip is named by its video
and its span: `{video}_{start:06d}_{end:06d}` in seconds, `{video}_{start:09d}_{end:09d}` in milliseconds where one of
the two has a fraction, or `{video}` alone for a whole file.
"""

from __future__ import annotations

import re

from k710.sources.source import YOUTUBE_ID

Span = tuple[float, float]  # start and end in seconds of the video; whole numbers are int

SOURCE_NAME = "[a-z][a-z0-9_]{0,30}"
VIDEO_ID = rf"(?:{YOUTUBE_ID}|{SOURCE_NAME}~[A-Za-z0-9_~-]+)"
SPAN = r"_[0-9]{6}_[0-9]{6}|_[0-9]{9}_[0-9]{9}"
MAX_ID_CHARS = 200  # a file system has 255 bytes for a name

_CLIP_ID = re.compile(rf"(?P<video>{YOUTUBE_ID}|{SOURCE_NAME}~[A-Za-z0-9_~-]+?)(?P<span>{SPAN})?")
_PLAIN = re.compile(r"[A-Za-z0-9_-]+")
# An underscore that could be read as the beginning of a span. Without it, all clips of a video are neighbours in order.
_LIKE_A_TIME = re.compile(r"_(?=[0-9]{6}(?:[0-9]{3})?(?:_|$))")


def own_video_id(source: str, raw: str) -> str:
    """The name of a video with an ID that is not YouTube's.

    >>> own_video_id("ucf101", "v_Archery_g01_c01"), own_video_id("mine", "clap/a b")
    ('ucf101~v_Archery_g01_c01', 'mine~clap~2Fa~20b')
    """
    if not _PLAIN.fullmatch(raw):
        raw = "".join(
            chr(byte) if chr(byte).isascii() and (chr(byte).isalnum() or byte in b"_-") else f"~{byte:02X}"
            for byte in raw.encode("utf-8", "surrogateescape")
        )
    return f"{source}~{_LIKE_A_TIME.sub('~5F', raw)}"


def raw_id(video: str) -> tuple[str, str]:
    """The source, empty for YouTube, and the ID as its lists have it. The inverse of `own_video_id`."""
    source, tilde, escaped = video.partition("~")
    if not tilde:
        return "", video
    data = re.sub(rb"~([0-9A-F]{2})", lambda match: bytes([int(match[1], 16)]), escaped.encode())
    return source, data.decode("utf-8", "surrogateescape")


def shown_id(video: str) -> str:
    """A video as a person should see it: its ID as the lists have it."""
    return raw_id(video)[1].encode("utf-8", "replace").decode()


def clip_id_of(video: str, span_s: Span | None) -> str:
    """The name of a clip.

    >>> clip_id_of("abcdefghijk", (12, 22)), clip_id_of("abcdefghijk", (12.5, 22)), clip_id_of("mine~1", None)
    ('abcdefghijk_000012_000022', 'abcdefghijk_000012500_000022000', 'mine~1')
    """
    if span_s is None:
        return video
    if all(type(time) is int or float(time).is_integer() for time in span_s):
        return "{}_{:06d}_{:06d}".format(video, *map(int, span_s))
    return "{}_{:09d}_{:09d}".format(video, *(round(time * 1000) for time in span_s))


def split_clip_id(clip_id: str) -> tuple[str, Span | None] | None:
    """The video and the span that a clip_id names; None for what is no clip_id. The inverse of `clip_id_of`.

    >>> split_clip_id("abcdefghijk_000012500_000022000"), split_clip_id("abcdefghijk")
    (('abcdefghijk', (12.5, 22)), ('abcdefghijk', None))
    """
    match = _CLIP_ID.fullmatch(clip_id)
    return (match["video"], _span(match["span"])) if match else None


def video_of(clip_id: str) -> str:
    """The video that a clip_id names; the clip_id itself where it names none."""
    found = split_clip_id(clip_id)
    return clip_id if found is None else found[0]


def _span(text: str | None) -> Span | None:
    if text is None:
        return None
    start, end = text[1:].split("_")
    return (int(start), int(end)) if len(start) == 6 else (_seconds(start), _seconds(end))


def _seconds(milliseconds: str) -> float:
    value = int(milliseconds)
    return value // 1000 if value % 1000 == 0 else value / 1000
