"""Annotation lists row by row: what a good row is, and which line a bad one stands in.

This is the patient reader behind `annotations.py`. It forgives what is harmless (spaces around fields, blank lines, a
BOM, any line ending, a header in other case, `12.0` for `12`) and says of everything else where and what is wrong.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from k710.errors import ListError
from k710.releases import SPLIT_SPELLINGS

# A clip_id has six digits for a time.
MAX_TIME_S = 999_999
ID_PATTERN = "[A-Za-z0-9_-]{11}"
_ID = re.compile(ID_PATTERN)


@dataclass(frozen=True)
class Row:
    """A good row: `label` is None in lists without labels; `line` counts a CSV's lines or a JSON's entries, from 1."""

    line: int
    label: str | None
    youtube_id: str
    time_start_s: int
    time_end_s: int


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be used, and why."""

    line: int
    reason: str


def column_names(header_line: str) -> tuple[list[str], str]:
    """The normalised column names of a CSV's first line, and its delimiter (a comma or a tab)."""
    delimiter = "\t" if "\t" in header_line and "," not in header_line else ","
    fields = next(csv.reader([header_line.lstrip("\ufeff")], delimiter=delimiter, skipinitialspace=True), [])
    return [field.strip().lower() for field in fields], delimiter


def missing_columns(columns: Iterable[str], *, labelled: bool) -> list[str]:
    """Columns that a list must have and this one has not. Test lists need no label."""
    wanted = ["label"] * labelled + ["youtube_id", "time_start", "time_end"]
    present = set(columns)
    return [column for column in wanted if column not in present]


def is_split(text: str, split: str) -> bool:
    """Whether a `split` or `subset` field names `split` in one of its spellings (K700-2020 says `validate`)."""
    return SPLIT_SPELLINGS.get(text.strip().lower()) == split


def read_csv_rows(data: bytes, split: str) -> Iterator[Row | BadRow]:
    """The rows of a CSV list. Raises ListError where the file as a whole cannot be a list (no header, a missing column,
    an open quote)."""
    # Bytes that are not UTF-8 become lone surrogates, which no list contains otherwise: the row can name itself.
    text = io.StringIO(data.decode("utf-8", errors="surrogateescape"), newline="")
    header_line, skipped = "", 0
    for header_line in text:
        skipped += 1
        if header_line.strip("\ufeff \t\r\n"):
            break
    columns, delimiter = column_names(header_line)
    labelled = split != "test"
    if missing := missing_columns(columns, labelled=labelled):
        raise ListError(f"line {skipped}: no column {', '.join(missing)}; the header is {header_line.strip()!r}")
    reader = csv.reader(text, delimiter=delimiter, skipinitialspace=True, strict=True)
    try:
        for fields in reader:
            if any(field.strip() for field in fields):
                yield _csv_row(skipped + reader.line_num, fields, columns, split)
    except csv.Error as error:
        raise ListError(f"line {skipped + reader.line_num}: not CSV, or cut off: {error}") from None


def _csv_row(line: int, fields: list[str], columns: list[str], split: str) -> Row | BadRow:
    if len(fields) != len(columns):
        return BadRow(line, f"{len(fields)} fields where the header has {len(columns)}: {_quoted(','.join(fields))}")
    row = {column: field.strip() for column, field in zip(columns, fields, strict=True)}
    if "split" in row and not is_split(row["split"], split):
        return BadRow(line, f"split {_quoted(row['split'])} in a list of {split} clips")
    return _checked(line, row.get("label"), row["youtube_id"], row["time_start"], row["time_end"], split)


def read_json_rows(data: bytes, split: str) -> Iterator[Row | BadRow]:
    """The rows of an ActivityNet JSON: `{youtube_id: {annotations: {label, segment: [start, end]}, subset, …}}`.

    An ID may stand there twice (JSON allows it): both are read. Raises ListError where the file as a whole is no list.
    """
    try:
        # Pairs instead of dicts: a dict would keep only the last of two entries with one ID.
        entries = json.loads(data.decode("utf-8-sig"), object_pairs_hook=tuple)
    except UnicodeDecodeError as error:
        raise ListError(f"line {1 + data.count(10, 0, error.start)}: not UTF-8") from None
    except json.JSONDecodeError as error:
        raise ListError(f"line {error.lineno}: not JSON, or cut off: {error.msg}") from None
    except (RecursionError, ValueError) as error:
        raise ListError(f"not a JSON list: {error}") from None
    if not isinstance(entries, tuple):
        raise ListError("not a JSON list: want an object that maps each YouTube ID to its annotations")
    for number, (youtube_id, entry) in enumerate(entries, 1):
        yield _json_row(number, youtube_id, entry, split)


def _json_row(number: int, youtube_id: str, entry: Any, split: str) -> Row | BadRow:
    try:
        fields = dict(entry)
        annotation = dict(fields["annotations"])
        start, end = annotation["segment"]
    except (KeyError, TypeError, ValueError):
        return BadRow(number, f"entry {_quoted(youtube_id)} has no annotations with a segment of two times")
    if "subset" in fields and not is_split(str(fields["subset"]), split):
        return BadRow(number, f"subset {_quoted(str(fields['subset']))} in a list of {split} clips")
    label = annotation.get("label")
    return _checked(number, None if label is None else str(label).strip(), youtube_id, str(start), str(end), split)


def _checked(line: int, label: str | None, youtube_id: str, start: str, end: str, split: str) -> Row | BadRow:
    """Row after the checks that hold for every form of list."""
    if not label and split != "test":
        return BadRow(line, "no label")
    for text in (label or "", youtube_id):
        if not text.isascii() and any("\udc80" <= char <= "\udcff" for char in text):
            return BadRow(line, f"not UTF-8: {_quoted(text)}")
    if not _ID.fullmatch(youtube_id):
        return BadRow(line, f"ID {_quoted(youtube_id)} is not 11 characters of the YouTube alphabet (A-Z a-z 0-9 _ -)")
    start_s, end_s = _whole_seconds(start), _whole_seconds(end)
    if start_s is None or end_s is None:
        name, text = ("time_start", start) if start_s is None else ("time_end", end)
        return BadRow(line, f"{name} {_quoted(text)} is not a whole number of seconds")
    if start_s < 0:
        return BadRow(line, f"time_start {start_s} is negative")
    if end_s <= start_s:
        return BadRow(line, f"time_end {end_s} is not after time_start {start_s}")
    if end_s > MAX_TIME_S:
        return BadRow(line, f"time_end {end_s} is past {MAX_TIME_S} s")
    return Row(line, label or None, youtube_id, start_s, end_s)


def _whole_seconds(text: str) -> int | None:
    """`12`, `12.0` and ` 12 ` are 12; JSON lists write their times as floats."""
    match = re.fullmatch(r"([+-]?[0-9]{1,9})(?:\.0*)?", text.strip())
    return int(match[1]) if match else None


def _quoted(text: str) -> str:
    """A value for a message: on one line, printable, and not longer than a line."""
    return ascii(text if len(text) <= 60 else text[:57] + "...")
