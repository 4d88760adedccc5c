"""Clips out of text files of any size, block by block: lines, CSV, JSONL; plain or gzipped. JSON is read whole."""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv

from k710.errors import ListError
from k710.identify.batch import Batch, of_texts
from k710.identify.columns import Columns, choose, may_name, plain
from k710.identify.keys import no_clips
from k710.identify.recognise import NO_CLASS, Unclear, clips_of, recognise
from k710.identify.records import batch_of_records, batch_of_table, choose_of_records, is_record
from k710.lists.annotation_rows import column_names, quoted
from k710.lists.clip_names import release_columns
from k710.lists.clip_paths import clips_in_line
from k710.lists.list_bytes import list_text, refuse_other_forms
from k710.lists.list_json import names_in_json

_BLOCK_BYTES = 8 << 20
_HEAD_BYTES = 1 << 20
_MAX_LINE_BYTES = 64 << 20
_AT_ONCE = 1 << 16  # records of JSON
_GZIP = b"\x1f\x8b"


def batches_of_text(path: Path, *, column: str | None = None) -> Iterator[Batch]:
    """The rows of a text file, whatever its form. Raises ListError for what is no text, or is damaged."""
    head, whole = _head(path)
    refuse_other_forms(head)
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if start[:1] in (b"{", b"["):
        yield from _json_lines(path, column) if _is_json_lines(start) else _json(path, column)
        return
    lines = head.decode("utf-8-sig", "surrogateescape").split("\n")
    lines = [line for line in (lines if whole else lines[:-1]) if line.strip()]
    if not lines:
        if whole:
            raise ListError("the list is empty")
        raise ListError(f"line 1 has more than {_HEAD_BYTES >> 20} MiB: this is no list")
    columns, delimiter, has_header = _columns(lines)
    if column is not None and not columns:
        raise ListError(f"no column {quoted(column)}; the first line is {quoted(lines[0].strip())}")
    if columns:
        yield from _csv(path, columns, delimiter, has_header, column)
    else:
        yield from _lines(path)


def opened(path: Path) -> IO[bytes] | gzip.GzipFile:
    """A file to read from its beginning, unpacked if it is a gzip."""
    with path.open("rb") as file:
        is_gzip = file.read(2) == _GZIP
    return gzip.open(path) if is_gzip else path.open("rb")


def is_json_lines(path: Path) -> bool:
    """Whether a text file has a record of JSON on each line. A file that cannot be read is none."""
    try:
        head, _ = _head(path)
    except ListError:
        return False
    return _is_json_lines(head.lstrip(b"\xef\xbb\xbf \t\r\n"))


def _head(path: Path) -> tuple[bytes, bool]:
    """The first bytes of a file, and whether they are all."""
    try:
        with opened(path) as file:
            head = file.read(_HEAD_BYTES)
            return head, not file.read(1)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ListError(f"gzip data is damaged or cut off: {error}") from None


def _columns(lines: Sequence[str]) -> tuple[list[str], str, bool]:
    """The columns of a CSV, its delimiter, and whether the first line names them; no columns for plain lines."""
    try:
        columns, delimiter = column_names(lines[0])
    except csv.Error:
        return [], "", False
    if len(columns) == 1 and ";" in lines[0]:
        columns, delimiter = [name.strip().lower() for name in lines[0].split(";")], ";"
    if any(plain(name) in ("youtubeid", "ytid") for name in columns):
        return columns, delimiter, True
    if not clips_in_line(lines[0]):
        return (columns, delimiter, True) if may_name(columns) else ([], "", False)
    return release_columns(lines, delimiter), delimiter, False


def _lines(path: Path) -> Iterator[Batch]:
    """One clip a line."""
    first = 1
    for data in _blocks(path):
        view = np.frombuffer(data, np.uint8)
        ends = np.flatnonzero(view == ord("\n")) + 1
        if not len(ends) or ends[-1] < len(data):
            ends = np.append(ends, len(data))
        offsets = np.concatenate([[0], ends]).astype(np.int32)
        texts = pa.Array.from_buffers(
            pa.binary(), len(ends), [None, pa.py_buffer(offsets.tobytes()), pa.py_buffer(data)]
        )
        yield of_texts(path.name, texts, np.arange(first, first + len(ends)), recognise(texts))
        first += len(ends)


def _blocks(path: Path) -> Iterator[bytes]:
    """The bytes of a file, some megabytes at a time, each block with whole lines."""
    rest, is_first = b"", True
    try:
        with opened(path) as file:
            while block := file.read(_BLOCK_BYTES):
                if is_first:
                    block, is_first = block.removeprefix(b"\xef\xbb\xbf"), False
                whole, newline, behind = block.rpartition(b"\n")
                if newline:
                    yield rest + whole + newline
                    rest = behind
                else:
                    rest += behind
                if len(rest) > _MAX_LINE_BYTES:
                    raise ListError(f"a line has more than {_MAX_LINE_BYTES >> 20} MiB: this is no list")
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ListError(f"gzip data is damaged or cut off: {error}") from None
    if rest:
        yield rest


def _csv(path: Path, columns: list[str], delimiter: str, has_header: bool, column: str | None) -> Iterator[Batch]:
    """A table, with pyarrow. A row with too many or too few fields names no video. Blank lines are not counted."""
    if twice := [name for name in columns if name and columns.count(name) > 1]:
        raise ListError(f"line 1: column {quoted(twice[0])} appears twice")
    table = _Table(path, [name or f"column {number}" for number, name in enumerate(columns, 1)], delimiter, has_header)
    try:
        with opened(path) as file:
            first = next(iter(table.reader(file, None, {}, _HEAD_BYTES)), None)
        if first is None:
            raise ListError("the list is empty")
        chosen = choose(table.columns, lambda name: first[name], column=column)
        bad: dict[int, str] = {}
        line = 1 + has_header
        with opened(path) as file:
            for batch in table.reader(file, chosen, bad, _BLOCK_BYTES):
                numbers, line = _numbers(line, len(batch), bad)
                yield _with_bad(batch_of_table(path.name, batch, chosen, numbers), bad)
        if bad:  # behind the last good row
            none = np.zeros(0, np.int64)
            yield _with_bad(Batch(path.name, none, no_clips(), none.astype(np.int32), None, (), 0), bad)
    except (pa.ArrowInvalid, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ListError(f"not CSV, or cut off: {error}") from None


@dataclass(frozen=True)
class _Table:
    """A CSV file: where it is and how its rows are divided."""

    path: Path
    columns: list[str]
    delimiter: str
    has_header: bool

    def reader(
        self, file: IO[bytes] | gzip.GzipFile, chosen: Columns | None, bad: dict[int, str], block_bytes: int
    ) -> Any:
        """Its rows, some at a time, with the chosen columns or all. Rows of another width go into `bad`."""

        def remember(row: Any) -> str:
            bad[row.number] = row.text
            return "skip"

        wanted = list(dict.fromkeys(chosen.all if chosen else self.columns))
        text = dict.fromkeys(wanted, pa.string() if chosen else pa.binary())
        if chosen:
            text[chosen.name] = pa.binary()
        return pa.csv.open_csv(
            file,
            read_options=pa.csv.ReadOptions(
                column_names=self.columns, skip_rows=int(self.has_header), use_threads=False, block_size=block_bytes
            ),
            parse_options=pa.csv.ParseOptions(
                delimiter=self.delimiter, newlines_in_values=True, invalid_row_handler=remember
            ),
            convert_options=pa.csv.ConvertOptions(
                include_columns=wanted, column_types=text, strings_can_be_null=False, null_values=[]
            ),
        )


def _numbers(line: int, count: int, bad: Mapping[int, str]) -> tuple[npt.NDArray[np.int64], int]:
    """The lines of the next `count` rows from `line` on, bad rows left out, and the line behind them."""
    passed = [number for number in sorted(bad) if number >= line]
    numbers = np.arange(line, line + count + len(passed))
    numbers = numbers[~np.isin(numbers, passed)][:count]
    return numbers, int(numbers[-1]) + 1 if count else line


def _with_bad(batch: Batch, bad: dict[int, str]) -> Batch:
    """The batch with the rows that were no rows of this table, which are then forgotten."""
    unclear = (*batch.unclear, *(Unclear(number, text.strip()) for number, text in bad.items()))
    found = replace(batch, unclear=unclear, rows=batch.rows + len(bad))
    bad.clear()
    return found


def _is_json_lines(start: bytes) -> bool:
    """Whether a file that begins so holds a record on each line, and not one object or array."""
    first, newline, _ = start.partition(b"\n")
    if first[:1] != b"{":
        return False
    try:
        record = json.loads(first)
    except ValueError:
        return False
    return bool(newline and start[len(first) :].strip()) or is_record(record)


def _json_lines(path: Path, column: str | None) -> Iterator[Batch]:
    records, lines, chosen, number = [], [], None, 0
    for data in _blocks(path):
        for line in data.split(b"\n")[: None if data[-1:] != b"\n" else -1]:
            number += 1
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except ValueError as error:
                raise ListError(f"line {number}: not JSON, or cut off: {error}") from None
            records.append(record if isinstance(record, dict) else {})
            lines.append(number)
        if records:
            chosen = chosen or choose_of_records(records, column)
            yield batch_of_records(path.name, records, chosen, lines)
            records, lines = [], []


def _json(path: Path, column: str | None) -> Iterator[Batch]:
    """An object or an array, read whole: its entries count from 1."""
    text = list_text(path)
    if text.lstrip()[:1] == "[":
        try:
            entries = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ListError(f"not JSON, or cut off: {error}") from None
        records = [entry for entry in entries if isinstance(entry, dict)]
        if records and len(records) == len(entries):
            chosen = choose_of_records(records, column)
            for start in range(0, len(records), _AT_ONCE):
                part = records[start : start + _AT_ONCE]
                yield batch_of_records(path.name, part, chosen, list(range(start + 1, start + 1 + len(part))))
            return
    named, lines, unclear, rows = [], [], [], 0
    for line, found, row in names_in_json(text):
        rows += 1
        if len(found) == 1:
            named.append(found[0])
            lines.append(line)
        else:
            unclear.append(Unclear(line, row, tuple(map(str, found))))
    none = np.full(len(named), NO_CLASS, np.int32)
    yield Batch(path.name, np.array(lines, np.int64), clips_of(named), none, None, tuple(unclear), rows)
