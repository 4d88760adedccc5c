"""Which clip a path, a URL or a line of a list names. Every command that reads an ID from a name uses this rule.

The ID stands in the last component of a path and nowhere else: folders, hosts and archives may have 11 characters of
the same alphabet (`kinetics400`, `falling_man`). Where several clips could be meant, all of them are returned, and the
caller refuses or asks.
"""

from __future__ import annotations

import csv
import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import parse_qs, unquote, urlsplit

from k710.lists.annotation_rows import split_fields
from k710.lists.labels import class_names, label_key
from k710.sources.known import UNION, is_data_set
from k710.sources.source import YOUTUBE_ID
from k710.sources.video_ids import Span, clip_id_of

_SUFFIXES = r"(?P<suffixes>(?:\.[A-Za-z0-9]{1,10}){0,3})"
# What stands behind a span of six digits is a file's own affair: `_256p.mp4`, ` (1).mp4`.
_REST = r"(?P<suffixes>(?:[^0-9\s]\S*|\s\([0-9]+\)\S*)?)"
# ActivityNet's files are called `v_{id}.mp4`. An ID is tried first: it may begin with `v_` itself.
_FORMS = tuple(
    re.compile(prefix + form)
    for prefix in ("", "v_")
    for form in (
        rf"(?P<id>{YOUTUBE_ID})_(?P<start>[0-9]{{6}})_(?P<end>[0-9]{{6}}){_REST}",
        rf"(?P<id>{YOUTUBE_ID})_(?P<start>[0-9]{{1,6}})_(?P<end>[0-9]{{1,6}}){_SUFFIXES}",
        rf"(?P<id>{YOUTUBE_ID}){_SUFFIXES}",
    )
)
# A zip of many clips may be named in a path itself: `kinetics400.zip@/train/…` (MMCV, Swin), `zip://…::…` (fsspec).
_SEPARATOR = re.compile(r"[/\\]|\.(?:zip|tar)@")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_WATCH = re.compile(r"(?:^|[/\s])watch/?\?(?:[^#\s]*&)?v=([^&#\s]*)")
_VIDEO_PAGES = ("embed", "shorts", "live", "v", "e", "vi")  # youtube.com/shorts/ID
_MANY_CLIPS = frozenset(
    (
        "zip",
        "tar",
        "tgz",
        "gz",
        "bz2",
        "xz",
        "zst",
        "7z",
        "rar",
        "csv",
        "tsv",
        "txt",
        "json",
        "jsonl",
        "parquet",
        "lmdb",
    )
)
_IMAGES = frozenset(("jpg", "jpeg", "png", "webp", "bmp"))
_VIDEOS = frozenset(("mp4", "mkv", "webm", "avi", "mov", "m4v", "flv", "3gp", "ts", "mpg", "mpeg", "wmv"))
# Files that are only numbered; no release has such an ID. A list's first line may be no more than a column's name.
NUMBERED_NAMES = (
    r"(?:videos?|clips?|frames?|images?|img|flow_[xy]|vid|parts?|shards?|chunk|split|file|movie|scene|v)[_-]?[0-9]+"
    r"|(?:train|val|valid|test)_[0-9]+"
)
COLUMN_NAMES = r"youtube_ids|video_(?:names|paths|files)"
_NUMBERED = re.compile(NUMBERED_NAMES, re.I)
_FRAME = re.compile(r"(?:[A-Za-z_-]*[_-])?[A-Za-z]*[0-9]+")
# What nearly every trainer's line looks like; read at once, since lists have half a million of them.
_PLAIN = re.compile(rf"(?:[^,;:@\\\t?]*/)?({YOUTUBE_ID}(?:_[0-9]{{6}}_[0-9]{{6}})?\.(?:mp4|mkv|webm|avi))(?: [0-9]+)*")
_NUMBERS = re.compile(r"(?:\s+-?[0-9]+(?:\.[0-9]+)?)+$")
_COLUMN = re.compile(COLUMN_NAMES, re.I)


@dataclass(frozen=True)
class ClipName:
    """What a name says: the video, and the span where it says one."""

    youtube_id: str
    span_s: Span | None = None

    def __str__(self) -> str:
        return clip_id_of(self.youtube_id, self.span_s)


def clips_in_path(path: str) -> tuple[ClipName, ...]:
    """The clips that a path, a file name, a URL or a bare ID may name: none, one, or several where it is ambiguous.

    >>> [str(name) for name in clips_in_path("https://kinetics400.s3.amazonaws.com/train/-0abcdefghi_12_22.mp4")]
    ['-0abcdefghi_000012_000022']
    """
    path = path.strip()
    if not _SCHEME.match(path) and re.match(r"(?:[a-z-]+\.)*(?:youtube\.com|youtu\.be)/", path, re.I):
        path = f"https://{path}"
    if watched := _WATCH.search(path):
        return _clip_of_stem(watched[1])
    path = path.split("::", 1)[0]
    if _SCHEME.match(path):
        return _clips_in_url(path)
    components = [part for part in _SEPARATOR.split(path) if part]
    return _clips_of_components(components)


def clip_in_path(path: str) -> ClipName | None:
    """The clip that a path, a file name, a URL or a bare ID names; None where there is none, or several."""
    found = clips_in_path(path)
    return found[0] if len(found) == 1 else None


def parse_clip_name(text: str) -> ClipName | None:
    """The clip that a file name, a path, a URL, a list's line or a bare ID names; None where there is none, or several.

    >>> str(parse_clip_name("train/tying tie/-0abcdefghi_000012_000022.mp4 371"))
    '-0abcdefghi_000012_000022'
    """
    found = clips_in_line(text)
    return found[0] if len(found) == 1 else None


def clips_in_line(line: str) -> tuple[ClipName, ...]:
    """The clips that a line of a list may name: none, one, or several where it is ambiguous.

    A line is a path with numbers or a label behind it, or fields between commas, tabs or semicolons. Where some of its
    fields are paths, the others are labels, and only the paths are asked.
    """
    if (match := _PLAIN.fullmatch(line)) and " /" not in line:
        return _clip_of_component(match[1])
    return _clips_in_any_line(line)


def _clips_in_any_line(line: str) -> tuple[ClipName, ...]:
    fields = _fields(line.strip().lstrip("\ufeff"))
    paths = [field for field in fields if _is_path(field)]
    return _distinct(name for field in paths or fields for name in _clips_in_field(field))


def _fields(line: str) -> list[str]:
    if re.match(r"\S+$", line) and _SCHEME.match(line) and clips_in_path(line):
        return [line]  # a URL may hold commas
    delimiter = next((char for char in "\t,;" if char in line), "")
    try:
        return [field for field in split_fields(line, delimiter) if field] if delimiter else [line]
    except csv.Error:
        return []


def _is_path(field: str) -> bool:
    """Whether a field is a path or a file name, and not a class name, which may hold a slash too."""
    plain = _NUMBERS.sub("", field)
    suffix = plain.rsplit(".", 1)[-1].lower()
    return bool(
        _SCHEME.match(plain)
        or re.match(r"\.{0,2}[/\\]|[A-Za-z]:\\", plain)
        or ("." in plain and suffix in _VIDEOS | _IMAGES)
        or re.search(rf"\.(?:{'|'.join(sorted(_VIDEOS))})\s", plain, re.I)
        or len(re.findall(r"[/\\]", plain)) > 1
    )


def _clips_in_field(field: str) -> tuple[ClipName, ...]:
    """Paths may hold spaces, and a path may be followed by numbers, by a label, or by another path."""
    tokens = _NUMBERS.sub("", field).split()
    parts: list[list[str]] = []
    for token in tokens:
        if not parts or _SCHEME.match(token) or re.match(r"/|[A-Za-z]:\\", token):
            parts.append([])
        parts[-1].append(token)
    return _distinct(name for part in parts for name in _clips_in_words(" ".join(part)))


def _clips_in_words(text: str) -> tuple[ClipName, ...]:
    """The clips of one path that may hold spaces and be followed by words, or of words without a path."""
    if (found := clips_in_path(text)) or " " not in text:
        return found
    start = max((match.end() for match in _SEPARATOR.finditer(text)), default=0)
    words = text[start:].split()
    if start:  # behind a path, a name without a suffix could be a word of a folder's name
        words = [word for word in words if word.rsplit(".", 1)[-1].lower() in _VIDEOS]
    return _distinct(name for word in words for name in clips_in_path(word))


def _clips_in_url(url: str) -> tuple[ClipName, ...]:
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return ()
    components = [unquote(part) for part in _SEPARATOR.split(parts.path) if part]
    if re.search(r"(?:^|\.)(?:youtube(?:-nocookie)?\.com|youtu\.be|ytimg\.com)$", host):
        if components and components[0] in _VIDEO_PAGES:
            return _clip_of_stem(components[1]) if len(components) > 1 else ()
        if watched := parse_qs(parts.query).get("v"):
            return _clip_of_stem(watched[0])
        return _clip_of_stem(components[0]) if host.endswith("youtu.be") and components else ()
    if not components and parts.scheme in ("zip", "tar"):  # `zip://ID.mp4` has its path where others have a host
        components = [parts.netloc]
    return _clips_of_components(components)


def _clips_of_components(components: list[str]) -> tuple[ClipName, ...]:
    """The clips of the last component; of a frame (`ID/img_00001.jpg`), those of its folder."""
    if not components:
        return ()
    stem, _, suffix = components[-1].rpartition(".")
    if suffix.lower() not in _IMAGES:
        return _clip_of_component(components[-1])
    own = () if _NUMBERED.fullmatch(stem) else _clip_of_component(components[-1])
    may_be_frame = len(components) > 1 and bool(own or _FRAME.fullmatch(stem))
    return _distinct((*own, *(_clip_of_component(components[-2]) if may_be_frame else ())))


def _clip_of_component(component: str) -> tuple[ClipName, ...]:
    for form in _FORMS:
        if not (match := form.fullmatch(component)):
            continue
        if match["suffixes"].rsplit(".", 1)[-1].lower() in _MANY_CLIPS and "." in match["suffixes"]:
            return ()
        groups = match.groupdict()
        if groups.get("start") is None:
            return () if _is_word(match["id"]) else (ClipName(match["id"]),)
        span_s = int(match["start"]), int(match["end"])
        is_padded = len(match["start"]) == len(match["end"]) == 6
        # `ID_1280_720.mp4` has the size of its pictures in its name.
        return (ClipName(match["id"], span_s),) if is_padded or span_s[0] < span_s[1] else ()
    return ()


def _clip_of_stem(text: str) -> tuple[ClipName, ...]:
    return (ClipName(text),) if re.fullmatch(YOUTUBE_ID, text) else ()


@functools.cache
def class_keys() -> frozenset[str]:
    """The names of all classes as `label_key` makes them: a name of 11 characters may be one of them."""
    return frozenset(map(label_key, class_names(UNION.name)))


def _is_word(name: str) -> bool:
    """Whether a name of 11 characters is a class (`windsurfing`, `ice_skating`), a data set, a column, or a number."""
    if label_key(name) in class_keys() or is_data_set(name):
        return True
    return any(pattern.fullmatch(name) for pattern in (_COLUMN, _NUMBERED))


def _distinct(names: Iterable[ClipName]) -> tuple[ClipName, ...]:
    return tuple(dict.fromkeys(names))
