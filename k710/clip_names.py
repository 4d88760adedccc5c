"""Clip names in the wild: `{id}_{start:06d}_{end:06d}.mp4`, `{id}.mp4`, bare IDs, and the lines that contain them."""

from __future__ import annotations

import csv
import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from k710.annotation_rows import ID_PATTERN, MAX_TIME_S, column_names, split_fields, whole_seconds
from k710.errors import ListError
from k710.labels import class_names, label_key

_CLIP = re.compile(rf"(?<![A-Za-z0-9_-])({ID_PATTERN})_([0-9]{{6}})_([0-9]{{6}})(?![0-9])")
_FILE = re.compile(rf"(?<![A-Za-z0-9_-])({ID_PATTERN})\.[A-Za-z0-9]{{2,4}}(?![A-Za-z0-9/\\])")
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
    # A bare ID at the start of the line, or behind the last slash of a path with spaces in it.
    for part in (re.split(r"[,;\s]", text.strip(), maxsplit=1)[0], text.strip()):
        name = re.split(r"[,;\s]", part.rsplit("/", 1)[-1], maxsplit=1)[0]
        if _BARE.fullmatch(name) and not _is_class(name):
            return ClipName(name)
    return None


@functools.cache
def _class_keys() -> frozenset[str]:
    return frozenset(map(label_key, class_names("k710")))


def _is_class(name: str) -> bool:
    """Whether a name is a class: `windsurfing` and `ice_skating` have the eleven characters of an ID."""
    return label_key(name) in _class_keys()


def read_clip_names(path: Path) -> list[ClipName]:
    """The clips that a text file names, one a line, or an annotation list with its columns.

    Raises ListError with the lines that name no clip.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ListError(f"{path}: not a text file in UTF-8: {error}") from None
    numbered = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    parse, first = _parser(numbered[0][1] if numbered else "")
    names, bad = [], []
    for number, line in numbered[first:]:
        if name := parse(line):
            names.append(name)
        else:
            bad.append(number)
    if bad:
        lines = ", ".join(map(str, bad[:20])) + (", …" if len(bad) > 20 else "")
        how_many = "1 line names" if len(bad) == 1 else f"{len(bad):,} lines name"
        raise ListError(f"{path}: {how_many} no YouTube ID and no clip: line {lines}")
    if not names:
        raise ListError(f"{path}: the list is empty")
    return names


def _parser(header_line: str) -> tuple[Callable[[str], ClipName | None], int]:
    """What reads each line of a file, and the line to begin with: an annotation list has a header, other files none."""
    try:
        columns, delimiter = column_names(header_line)
    except csv.Error:
        columns, delimiter = [], ","
    if "youtube_id" not in columns:
        return parse_clip_name, 0

    def parse_row(line: str) -> ClipName | None:
        try:
            row = dict(zip(columns, split_fields(line, delimiter), strict=False))
        except csv.Error:
            return None
        if not _BARE.fullmatch(row.get("youtube_id", "")):
            return None
        if not (row.get("time_start") and row.get("time_end")):
            return ClipName(row["youtube_id"])
        start_s, end_s = whole_seconds(row["time_start"]), whole_seconds(row["time_end"])
        if start_s is None or end_s is None or not 0 <= start_s < end_s <= MAX_TIME_S:
            return None
        return ClipName(row["youtube_id"], (start_s, end_s))

    return parse_row, 1
