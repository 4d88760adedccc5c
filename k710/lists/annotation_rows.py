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
from k710.sources.source import SPLIT_SPELLINGS, YOUTUBE_ID

# A clip_id has six digits for a time.
MAX_TIME_S = 999_999
# The releases' clips last 10 s at most. One that lasts a quarter of an hour has its times in another unit.
MAX_SPAN_S = 900
MAX_LABEL_LENGTH = 200  # the longest class name has 49; what is far longer is no label, and no message could show it
_COLUMNS = ("label", "youtube_id", "time_start", "time_end", "split")
_JSON_TOKEN = re.compile(r"[ \t\r\n]*(.)[ \t\r\n]*", re.DOTALL)


@dataclass(frozen=True)
class Row:
    """A good row: `label` is None in lists without labels; `line` is where it begins, from 1."""

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
    """The normalised column names of a CSV's first line, and its delimiter (a comma or a tab).

    Raises csv.Error where the line is no CSV.
    """
    delimiter = "\t" if "\t" in header_line and "," not in header_line else ","
    return [name.lower() for name in split_fields(header_line.lstrip("\ufeff"), delimiter)], delimiter


def split_fields(line: str, delimiter: str) -> list[str]:
    """The fields of one line of a CSV, without the spaces around them. Raises csv.Error for quotes that do not fit."""
    line = line.rstrip("\r\n")
    if "\0" in line:
        raise csv.Error("a NUL byte")  # before Python 3.11 `csv` refuses it itself
    if '"' not in line:
        return [field.strip() for field in line.split(delimiter)]
    # `csv` forgives spaces before a quoted field but not those after it.
    line = re.sub(r'(?<!")" +(?=[,\t]|$)', '"', line)
    fields = next(csv.reader([line], delimiter=delimiter, skipinitialspace=True, strict=True))
    return [field.strip() for field in fields]


def missing_columns(columns: Iterable[str], *, labelled: bool) -> list[str]:
    """Columns that a list must have and this one has not. Test lists need no label."""
    wanted = ["label"] * labelled + ["youtube_id", "time_start", "time_end"]
    present = set(columns)
    return [column for column in wanted if column not in present]


def is_split(text: str, split: str) -> bool:
    """Whether a `split` or `subset` field names `split` in one of its spellings (K700-2020 says `validate`)."""
    return SPLIT_SPELLINGS.get(text.strip().lower()) == split


def is_any_split(text: str) -> bool:
    """Whether a field names a split in one of its spellings."""
    return text.strip().lower() in SPLIT_SPELLINGS


def read_csv_rows(data: bytes, split: str, id_pattern: str = YOUTUBE_ID) -> Iterator[Row | BadRow]:
    """The rows of a CSV list. No field of a list goes over a line's end, so a stray quote spoils one row and no more.

    `id_pattern`: a regular expression for the video IDs of the list's source.
    Raises ListError where the file as a whole cannot be a list (no header, or a column is missing or there twice).
    """
    # Bytes that are not UTF-8 become lone surrogates, which no list contains otherwise: the row can name itself.
    lines = enumerate(io.StringIO(data.decode("utf-8", errors="surrogateescape"), newline=""), 1)
    number, header_line = next(((n, line) for n, line in lines if line.strip("\ufeff \t\r\n")), (0, ""))
    if not header_line:
        raise ListError("the list is empty")
    columns, delimiter = _header(number, header_line, labelled=split != "test")
    for number, line in lines:
        try:
            fields = split_fields(line, delimiter)
        except csv.Error as error:
            yield BadRow(number, f"not CSV, or cut off ({error}): {quoted(line.strip())}")
            continue
        if any(fields):
            yield _csv_row(number, fields, columns, split, id_pattern)


def _header(number: int, line: str, *, labelled: bool) -> tuple[list[str], str]:
    """Column names and delimiter of a list's header, which has every column that is needed, once."""
    if not is_utf8(line):
        raise ListError(f"line {number}: not UTF-8: {quoted(line.strip())}")
    try:
        columns, delimiter = column_names(line)
    except csv.Error as error:
        raise ListError(f"line {number}: not CSV ({error}): {quoted(line.strip())}") from None
    what = ""
    if missing := missing_columns(columns, labelled=labelled):
        what = f"no column {', '.join(missing)}"
        if delimiter == "," and not missing_columns(split_fields(line.lower(), ";"), labelled=labelled):
            what = "its fields are separated by semicolons; save it with commas or tabs"
    elif twice := [name for name in _COLUMNS if columns.count(name) > 1]:
        what = f"column {twice[0]} stands there twice"
    if what:
        raise ListError(f"line {number}: {what}; the header is {quoted(line.strip())}")
    return columns, delimiter


def _csv_row(line: int, fields: list[str], columns: list[str], split: str, id_pattern: str) -> Row | BadRow:
    if [field.lower() for field in fields] == columns:
        return BadRow(line, "the header again: lists were joined here; delete this line")
    if len(fields) != len(columns):
        return BadRow(line, f"{len(fields)} fields where the header has {len(columns)}: {quoted(','.join(fields))}")
    row = dict(zip(columns, fields, strict=True))
    if "split" in row and not is_split(row["split"], split):
        return BadRow(line, f"split {quoted(row['split'])} in a list of {split} clips")
    times = row["time_start"], row["time_end"]
    return _checked(line, row.get("label"), row["youtube_id"], *times, split, id_pattern)


def read_json_rows(data: bytes, split: str, id_pattern: str = YOUTUBE_ID) -> Iterator[Row | BadRow]:
    """The rows of an ActivityNet JSON: `{youtube_id: {annotations: {label, segment: [start, end]}, subset, …}}`.

    An ID may stand there twice (JSON allows it): both are read. Raises ListError where the file as a whole is no list.
    """
    try:
        for line, youtube_id, entry in json_entries(data.decode("utf-8-sig")):
            if youtube_id == "database" and isinstance(entry, dict):
                raise ListError(
                    f"line {line}: an ActivityNet list: its videos stand below `database`, each with any number of "
                    "segments; Kinetics' JSON has the YouTube IDs at its top, each with one segment"
                )
            row = _json_row(line, youtube_id, entry, split, id_pattern)
            # Some of these files are a single line, so the line alone would not tell which entry it is.
            yield row if isinstance(row, Row) else BadRow(line, f"entry {quoted(youtube_id)}: {row.reason}")
    except UnicodeDecodeError as error:
        raise ListError(f"line {1 + data.count(10, 0, error.start)}: not UTF-8") from None
    except json.JSONDecodeError as error:
        raise ListError(f"line {error.lineno}: not a JSON list, or cut off: {error.msg}") from None
    except (RecursionError, ValueError) as error:  # nested too deep; a number of thousands of digits
        raise ListError(f"not a JSON list: {error}") from None


def json_entries(text: str) -> Iterator[tuple[int, str, Any]]:
    """Line, key and value of every pair of a JSON object; a dict would keep only the last of two equal keys."""
    decoder = json.JSONDecoder()
    line, counted = 1, 0
    char, position = _json_token(text, 0, "{")
    if text[position : position + 1] == "}":
        char, position = _json_token(text, position, "}")
    while char != "}":
        line, counted = line + text.count("\n", counted, position), position
        key, end = decoder.raw_decode(text, position)
        if not isinstance(key, str):
            raise json.JSONDecodeError("want a YouTube ID in quotes", text, position)
        _, position = _json_token(text, end, ":")
        value, end = decoder.raw_decode(text, position)
        yield line, key, value
        char, position = _json_token(text, end, ",}")
    if position < len(text):
        raise json.JSONDecodeError("more data after its end", text, position)


def _json_token(text: str, position: int, allowed: str) -> tuple[str, int]:
    """The next character, one of `allowed`, and the position of what follows it; spaces are skipped."""
    match = _JSON_TOKEN.match(text, position)
    if not match or match[1] not in allowed:
        raise json.JSONDecodeError(f"want {' or '.join(allowed)}", text, match.start(1) if match else len(text))
    return match[1], match.end()


def _json_row(line: int, youtube_id: str, entry: Any, split: str, id_pattern: str) -> Row | BadRow:
    try:
        annotation = entry["annotations"]
        segment, label = annotation["segment"], annotation.get("label")
    except (KeyError, TypeError, AttributeError):
        return BadRow(line, "no annotations with a segment")
    if not (isinstance(segment, list) and [type(time) in (int, float, str) for time in segment] == [True, True]):
        return BadRow(line, "its segment is not two times")
    if not (label is None or isinstance(label, str)):
        return BadRow(line, "its label is not text")
    if "subset" in entry and not (isinstance(entry["subset"], str) and is_split(entry["subset"], split)):
        return BadRow(line, f"subset {quoted(str(entry['subset']))} in a list of {split} clips")
    times = str(segment[0]), str(segment[1])
    return _checked(line, label and label.strip(), youtube_id.strip(), *times, split, id_pattern)


def _checked(
    line: int, label: str | None, youtube_id: str, start: str, end: str, split: str, id_pattern: str
) -> Row | BadRow:
    """The row, after the checks that are the same for every form of list."""
    if not label and split != "test":
        return BadRow(line, "no label")
    if label and len(label) > MAX_LABEL_LENGTH:
        return BadRow(line, f"a label of {len(label):,} characters: {quoted(label)}")
    for text in (label or "", youtube_id):
        if not is_utf8(text):
            return BadRow(line, f"not UTF-8: {quoted(text)}")
    if not re.fullmatch(id_pattern, youtube_id):
        youtube = "11 characters of the YouTube alphabet (A-Z a-z 0-9 _ -)"
        wanted = youtube if id_pattern == YOUTUBE_ID else f"of the form {id_pattern}"
        return BadRow(line, f"ID {quoted(youtube_id)} is not {wanted}")
    start_s, end_s = whole_seconds(start), whole_seconds(end)
    if start_s is None or end_s is None:
        name, text = ("time_start", start) if start_s is None else ("time_end", end)
        return BadRow(line, f"{name} {quoted(text)} is not a whole number of seconds")
    if start_s < 0:
        return BadRow(line, f"time_start {start_s} is negative")
    if end_s <= start_s:
        return BadRow(line, f"time_end {end_s} is not after time_start {start_s}")
    if end_s > MAX_TIME_S:
        return BadRow(line, f"time_end {end_s} is past {MAX_TIME_S} s")
    if end_s - start_s > MAX_SPAN_S:
        length = f"from {start_s:,} s to {end_s:,} s, {end_s - start_s:,} s"
        return BadRow(line, f"{length}: Kinetics' clips last 10 s; divide the times by 1,000 if they are milliseconds")
    return Row(line, label or None, youtube_id, start_s, end_s)


def whole_seconds(text: str) -> int | None:
    """`12`, `12.0` and ` 12 ` are 12; JSON lists write their times as floats."""
    match = re.fullmatch(r"([+-]?)0*([0-9]{1,9})(?:\.0*)?", text.strip())
    return int(match[1] + match[2]) if match else None


def is_utf8(text: str) -> bool:
    """Whether text has no lone surrogates: what stands for bytes that are not UTF-8, or a JSON's broken escapes."""
    return text.isascii() or not any("\ud800" <= char <= "\udfff" for char in text)


def quoted(text: str) -> str:
    """A value for a message: on one line, printable, and not longer than a line."""
    return ascii(text if len(text) <= 60 else text[:57] + "...")
