"""The rows of a user's own lists: what each reader makes of a file or a folder, before any of it is checked."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from k710.errors import ListError
from k710.lists.annotation_rows import BadRow, column_names, quoted, split_fields
from k710.lists.list_bytes import list_text
from k710.sources.source import SPLIT_SPELLINGS

ID_COLUMNS = ("youtube_id", "video_id", "id", "path", "video_path", "file", "filename", "file_name", "video")
_LABEL_COLUMNS = ("label", "class", "class_name", "classname", "category")
_START_COLUMNS = ("time_start", "start", "start_s", "t_start")
_END_COLUMNS = ("time_end", "end", "end_s", "t_end")
_SPLIT_COLUMNS = ("split", "subset")
JPEG_SUFFIXES = (".jpg", ".jpeg")
VIDEO_SUFFIXES = (".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v", ".flv", ".3gp", ".ts", ".mpg", ".mpeg", ".vob")


@dataclass(frozen=True, slots=True)
class RawRow:
    """One row as it is written. `split` is empty where the row names none, `times` where it has no span, `label` where
    the list has none. `class_index` says that the label is a number, an index of the source's classes."""

    line: int
    video: str
    label: str = ""
    times: tuple[str, str] | None = None
    split: str = ""
    class_index: bool = False


@dataclass(frozen=True)
class RawList:
    """The rows of one file, or of one folder. `id_column` is the name of the column of IDs where there is one, `sha256`
    that of the list where it is not that of the file."""

    path: Path
    rows: list[RawRow | BadRow]
    id_column: str = ""
    sha256: str = ""


def csv_list(path: Path) -> RawList:
    """A table with a header: a column of IDs or paths, a label, and, if wanted, the two times and the split."""
    lines = _lines(path)
    if not lines:
        raise ListError(f"{path}: the list is empty")
    number, header = lines[0]
    try:
        columns, delimiter = column_names(header)
    except csv.Error as error:
        raise ListError(f"{path}: line {number}: not CSV ({error}): {quoted(header)}") from None
    if delimiter == "," and len(columns) == 1 and ";" in header:
        columns, delimiter = [name.strip().lower() for name in header.split(";")], ";"
    if twice := [name for name in columns if columns.count(name) > 1]:
        raise ListError(f"{path}: line {number}: column {quoted(twice[0])} appears twice")
    names = [_column(columns, wanted) for wanted in (ID_COLUMNS, _LABEL_COLUMNS, _START_COLUMNS, _END_COLUMNS)]
    id_column, label, start, end = names
    split = _column(columns, _SPLIT_COLUMNS)
    if not id_column:
        wanted = f"one of {', '.join(ID_COLUMNS)}; a label is in {_LABEL_COLUMNS[0]}, a split in {_SPLIT_COLUMNS[0]}"
        raise ListError(f"{path}: line {number}: no column of IDs or paths; want a header with {wanted}")
    if bool(start) != bool(end):
        raise ListError(f"{path}: line {number}: column {start or end} alone; a span needs a start and an end")
    rows: list[RawRow | BadRow] = []
    for number, line in lines[1:]:
        try:
            fields = split_fields(line, delimiter)
        except csv.Error as error:
            rows.append(BadRow(number, f"not CSV, or cut off ({error}): {quoted(line.strip())}"))
            continue
        if len(fields) != len(columns):
            reason = f"{len(fields)} fields where the header has {len(columns)}: {quoted(line.strip())}"
            rows.append(BadRow(number, reason))
            continue
        row = dict(zip(columns, fields, strict=True))
        times = (row[start], row[end]) if start and (row[start] or row[end]) else None
        rows.append(RawRow(number, row[id_column], row.get(label, ""), times, row.get(split, "")))
    return RawList(path, rows, id_column)


def _column(columns: list[str], wanted: tuple[str, ...]) -> str:
    return next((name for name in wanted if name in columns), "")


def line_list(path: Path, *, with_frames: bool = False) -> RawList:
    """A trainer's list (SlowFast, VideoMAE, MMAction2): on each line a path, and behind the last space, tab or comma
    the number of its class. Paths may hold spaces. `with_frames`: the number of the folder's frames is before that."""
    form = r"(.*?)[ \t,]+[0-9]+[ \t,]+([0-9]+)" if with_frames else r"(.*?)[ \t,]+([0-9]+)"
    wanted = "path frames number" if with_frames else "path number"
    rows: list[RawRow | BadRow] = []
    for number, line in _lines(path):
        match = re.fullmatch(form, line.strip())
        if match is None or not match[1].strip():
            rows.append(BadRow(number, f"not `{wanted}`: {quoted(line.strip())}"))
        else:
            rows.append(RawRow(number, match[1].strip().strip('"'), match[2], class_index=True))
    return RawList(path, rows)


def folder_list(path: Path, *, of_frames: bool = False) -> RawList:
    """A tree of class folders, `CLASS/FILE`, or `SPLIT/CLASS/FILE` where all first folders name splits. The row of a
    file counts from 1 in the order of paths. `of_frames`: a folder of JPEGs stands where the file does."""
    if not path.is_dir():
        raise ListError(f"{path}: no such folder")
    suffixes = JPEG_SUFFIXES if of_frames else VIDEO_SUFFIXES
    files = (file for file in path.rglob("*") if file.suffix.lower() in suffixes and not file.name.startswith("."))
    found = sorted({(file.parent if of_frames else file).relative_to(path).as_posix() for file in files})
    if not found:
        what = "folders of JPEGs" if of_frames else "video files"
        raise ListError(f"{path}: no {what} below this folder; looked for {', '.join(suffixes)}")
    tops = sorted({name.split("/")[0] for name in found if "/" in name})
    with_splits = all(top.lower() in SPLIT_SPELLINGS for top in tops) and bool(tops)
    rows: list[RawRow | BadRow] = []
    for number, name in enumerate(found, 1):
        parts = name.split("/")
        if len(parts) < 2 + with_splits:
            where = "a folder of its class" + (" in a folder of its split" if with_splits else "")
            rows.append(BadRow(number, f"{quoted(name)} lies in no folder that names its class; want {where}"))
            continue
        split = parts[0] if with_splits else ""
        inside = "/".join(parts[1:]) if with_splits else name
        rows.append(RawRow(number, inside, parts[1 if with_splits else 0], split=split))
    return RawList(path, rows)


def _lines(path: Path) -> list[tuple[int, str]]:
    try:
        text = list_text(path)
    except ListError as error:
        raise ListError(f"{path}: {error}") from None
    return [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]


READERS: Mapping[str, Callable[[Path], RawList]] = {"csv": csv_list, "lines": line_list, "folders": folder_list}
# Of sources whose clips are folders of JPEGs.
FRAME_READERS: Mapping[str, Callable[[Path], RawList]] = {
    "csv": csv_list,
    "lines": partial(line_list, with_frames=True),
    "folders": partial(folder_list, of_frames=True),
}
