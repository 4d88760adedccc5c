"""Clip names in the wild: `{id}_{start:06d}_{end:06d}.mp4`, `{id}.mp4`, bare IDs, and the lines that contain them."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from k710.annotation_rows import ID_PATTERN
from k710.errors import ListError

_CLIP = re.compile(rf"(?<![A-Za-z0-9_-])({ID_PATTERN})_(\d{{6}})_(\d{{6}})(?![0-9])")
_FILE = re.compile(rf"(?<![A-Za-z0-9_-])({ID_PATTERN})\.[A-Za-z0-9]{{2,4}}(?![A-Za-z0-9])")
_BARE = re.compile(ID_PATTERN)


@dataclass(frozen=True)
class ClipName:
    """What a name says: the video, and the span where it says one."""

    youtube_id: str
    span_s: tuple[int, int] | None = None

    def __str__(self) -> str:
        span = "_{:06d}_{:06d}".format(*self.span_s) if self.span_s else ""
        return self.youtube_id + span


def parse_clip_name(text: str) -> ClipName | None:
    """The clip that a file name, a path, a list's line or a bare ID names; None where there is none.

    >>> str(parse_clip_name("train/tying tie/-0abcdefghi_000012_000022.mp4 371"))
    '-0abcdefghi_000012_000022'
    """
    if match := _CLIP.search(text):
        return ClipName(match[1], (int(match[2]), int(match[3])))
    if match := _FILE.search(text):
        return ClipName(match[1])
    first = re.split(r"[,;\s]", text.strip(), maxsplit=1)[0].rsplit("/", 1)[-1]
    return ClipName(first) if _BARE.fullmatch(first) else None


def read_clip_names(path: Path) -> list[ClipName]:
    """The clips that a text file names, one a line, or an annotation list with its columns.

    Raises ListError with the lines that name no clip.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ListError(f"{path}: not a text file in UTF-8: {error}") from None
    names, bad = [], []
    for line, name in _annotation_rows(text) if "youtube_id" in text.partition("\n")[0] else _lines(text):
        if name is None:
            bad.append(line)
        else:
            names.append(name)
    if bad:
        lines = ", ".join(map(str, bad[:20])) + (", …" if len(bad) > 20 else "")
        raise ListError(f"{path}: {len(bad):,} lines name no YouTube ID and no clip file: line {lines}")
    if not names:
        raise ListError(f"{path}: the list is empty")
    return names


def _lines(text: str) -> Iterator[tuple[int, ClipName | None]]:
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            yield number, parse_clip_name(line)


def _annotation_rows(text: str) -> Iterator[tuple[int, ClipName | None]]:
    reader = csv.DictReader(text.splitlines(), skipinitialspace=True)
    for row in reader:
        youtube_id = (row.get("youtube_id") or "").strip()
        start, end = ((row.get(key) or "").strip() for key in ("time_start", "time_end"))
        span = (int(start), int(end)) if start.isdecimal() and end.isdecimal() else None
        yield reader.line_num, ClipName(youtube_id, span) if _BARE.fullmatch(youtube_id) else None
