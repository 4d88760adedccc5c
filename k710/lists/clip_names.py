"""The clips that anyone's list names: clip files, trainers' lines, annotation lists, plain or gzipped, or JSON."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from k710.errors import ListError
from k710.lists.annotation_rows import (
    MAX_TIME_S,
    column_names,
    is_any_split,
    quoted,
    split_fields,
    whole_seconds,
)
from k710.lists.clip_paths import ClipName, clips_in_line, parse_clip_name
from k710.lists.list_bytes import list_text
from k710.lists.list_json import names_in_json
from k710.sources.source import YOUTUBE_ID

__all__ = ["ClipName", "NamedList", "parse_clip_name", "read_clip_names", "read_named_list"]

# In the order in which they are asked.
_NAMING_COLUMNS = (
    *("youtube_ids", "video_id", "video-id", "clip_id", "id"),
    *("path", "video_path", "video_paths", "file", "filename", "file_name", "video", "url"),
)
_RELEASE_COLUMNS = ("label", "youtube_id", "time_start", "time_end", "split", "is_cc")
_SHOWN_LINES = 20
_Found = tuple[ClipName, ...]


@dataclass(frozen=True)
class NamedList:
    """A list that was read: the clip of every row, the lines that were skipped, and what the user should know."""

    path: Path
    names: tuple[ClipName, ...]
    skipped: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()


def read_clip_names(path: Path) -> list[ClipName]:
    """The clips that a list names, as `read_named_list` reads it."""
    return list(read_named_list(path).names)


def read_named_list(path: Path, *, skip_unnamed: bool = False) -> NamedList:
    """The clips that a list names: one a line, an annotation list with its columns, or JSON; gzipped or not.

    Raises ListError with the lines that name no clip, unless `skip_unnamed` has them skipped, and always with the lines
    that may name one clip or another: they are not guessed.
    """
    try:
        text = list_text(path)
        notes: list[str] = []
        if text.lstrip()[:1] in ("{", "["):
            found: Iterable[tuple[int, _Found, str]] = names_in_json(text)
        else:
            found = _rows(text, notes)
        names, skipped, unclear, first_skipped = [], [], {}, ""
        for number, named, row in found:
            if len(named) == 1:
                names.append(named[0])
            elif named:
                unclear[number] = named
            else:
                first_skipped = first_skipped or row
                skipped.append(number)
        if unclear:
            raise ListError(_unclear(unclear))
        if skipped and (not skip_unnamed or not names):
            way_out = "; --skip-unnamed skips such lines" if names else ""
            where = f"line {_lines(skipped)}. Line {skipped[0]} is {quoted(first_skipped)}"
            raise ListError(f"{_count(skipped)} no YouTube ID and no clip: {where}{way_out}")
        if not names:
            raise ListError("the list is empty")
    except ListError as error:
        raise ListError(f"{path}: {error}") from None
    if skipped:
        notes.append(f"skipped: {_count(skipped)} no video: line {_lines(skipped)}")
    notes += _repeats(names)
    return NamedList(path, tuple(names), tuple(skipped), tuple(f"{path}: {note}" for note in notes))


def _unclear(unclear: dict[int, _Found]) -> str:
    number, named = next(iter(unclear.items()))
    ids = " or ".join(str(name) for name in named)
    how_many = "1 line names" if len(unclear) == 1 else f"{len(unclear):,} lines name"
    return (
        f"{how_many} more than one clip: line {_lines(list(unclear))}. Is the clip of line {number} {ids}? Add a first "
        "line that names the columns, such as label,youtube_id,time_start,time_end,split, or keep one path a line"
    )


def _count(numbers: Sequence[int]) -> str:
    return "1 line names" if len(numbers) == 1 else f"{len(numbers):,} lines name"


def _lines(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers[:_SHOWN_LINES])) + (", …" if len(numbers) > _SHOWN_LINES else "")


def _repeats(names: Sequence[ClipName]) -> Iterator[str]:
    """A word on a list with far fewer videos than rows: its IDs may have been looked for in the wrong place."""
    ids = dict.fromkeys(name.youtube_id for name in names)
    if len(names) > 2 * len(ids):
        videos = "1 video" if len(ids) == 1 else f"{len(ids):,} videos"
        yield (
            f"{len(names):,} rows name only {videos}, such as {next(iter(ids))}; if that is no YouTube ID, add a first "
            "line that names the columns, with youtube_id among them"
        )


def _rows(text: str, notes: list[str]) -> Iterator[tuple[int, _Found, str]]:
    """The line number and the clips of every row of a text, and the row itself."""
    numbered = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not numbered:
        return
    parse, first = _parser([line for _, line in numbered], notes)
    for number, line in numbered[first:]:
        yield number, parse(line), line.strip()


def _parser(lines: Sequence[str], notes: list[str]) -> tuple[Callable[[str], _Found], int]:
    """What reads each line of a file, and the line to begin with: some lists have a header, others none."""
    try:
        columns, delimiter = column_names(lines[0])
    except csv.Error:
        columns, delimiter = [], ","
    if "youtube_id" in columns:
        return _row_parser(columns, delimiter), 1
    if not clips_in_line(lines[0]):
        named = [name for name in _NAMING_COLUMNS if name in columns]
        parsers = [_column_parser(columns.index(name), delimiter) for name in named]
        # An `id` may be a row's number: the first column counts that names a clip in the first row.
        if parsers:
            return next((parse for parse in parsers if len(lines) > 1 and parse(lines[1])), parsers[0]), 1
    elif release := release_columns(lines, delimiter):
        notes.append(f"the first line names no columns; they are read as {','.join(release)}")
        return _row_parser(release, delimiter), 0
    return clips_in_line, 0


def release_columns(lines: Sequence[str], delimiter: str) -> list[str]:
    """The releases' columns where a first line has their form without naming them: ID, two times, and a split."""
    try:
        fields = split_fields(lines[0].lstrip("\ufeff"), delimiter)
    except csv.Error:
        return []
    for skipped in (0, 1):  # test lists have no label
        columns = list(_RELEASE_COLUMNS[skipped : skipped + len(fields)])
        row = dict(zip(columns, fields, strict=False))
        if len(fields) == len(columns) and is_any_split(row.get("split", "")) and _clip_of_row(row):
            # A label may look like an ID. Classes repeat and videos hardly do; without that it is not decided.
            label_first = len(clips_in_line(lines[0])) == 1 or _distinct(lines, 0) < _distinct(lines, 1)
            return columns if label_first else []
    return []


def _distinct(lines: Sequence[str], column: int) -> int:
    """How many values the column of a list without quotes has."""
    return len({fields[column] for line in lines if len(fields := re.split("[,\t]", line)) > column})


def _row_parser(columns: list[str], delimiter: str) -> Callable[[str], _Found]:
    def parse(line: str) -> _Found:
        try:
            return _clip_of_row(dict(zip(columns, split_fields(line, delimiter), strict=False)))
        except csv.Error:
            return ()

    return parse


def _column_parser(number: int, delimiter: str) -> Callable[[str], _Found]:
    def parse(line: str) -> _Found:
        try:
            fields = split_fields(line, delimiter)
        except csv.Error:
            return ()
        return clips_in_line(fields[number]) if number < len(fields) else ()

    return parse


def _clip_of_row(row: dict[str, Any]) -> _Found:
    """The clip of an annotation list's row."""
    if not re.fullmatch(YOUTUBE_ID, row.get("youtube_id", "")):
        return ()
    if not (row.get("time_start") and row.get("time_end")):
        return (ClipName(row["youtube_id"]),)
    start_s, end_s = whole_seconds(row["time_start"]), whole_seconds(row["time_end"])
    if start_s is None or end_s is None or not 0 <= start_s < end_s <= MAX_TIME_S:
        return ()
    return (ClipName(row["youtube_id"], (start_s, end_s)),)
