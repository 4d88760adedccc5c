"""Clips out of records, dicts with a name or an address: JSONL, JSON arrays, the `.json` members of WebDataset tars."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from k710.identify.batch import Batch, of_table
from k710.identify.columns import Columns, choose, may_name

_LOOKED_AT = 1_000
Record = Mapping[str, Any]


def is_record(value: Any) -> bool:
    """Whether a JSON object is one record and not an object with an ID for each key."""
    return isinstance(value, dict) and any(isinstance(value[name], str) for name in may_name(value))


def choose_of_records(records: Sequence[Record], column: str | None = None) -> Columns:
    """The keys to read, by the first records. Raises ListError as `choose`."""
    first = records[:_LOOKED_AT]
    keys = list(dict.fromkeys(key for record in first for key in record))
    return choose(keys, lambda name: _texts(record.get(name) for record in first), column=column)


def batch_of_records(file: str, records: Sequence[Record], columns: Columns, lines: Sequence[int]) -> Batch:
    """The clips of records, each with its line. A record whose spans are a list is one row for each of them."""
    rows, numbers = list(records), list(lines)
    repeats = 0
    if columns.spans:
        spread = [
            ({**record, _START: start, _END: end}, line)
            for record, line in zip(records, lines, strict=True)
            for start, end in spans_of(record.get(columns.spans)) or [(None, None)]
        ]
        repeats = len(spread) - len(rows)
        rows, numbers = [dict(record) for record, _ in spread], [line for _, line in spread]
        columns = Columns(columns.name, _START, _END, columns.label, columns.status)
    table = pa.table(
        {
            name: _texts(row.get(name) for row in rows)
            if name == columns.name
            else _values([row.get(name) for row in rows])
            for name in columns.all
        }
    )
    found = of_table(file, table, columns, np.array(numbers, np.int64))
    return Batch(**{**vars(found), "rows": found.rows - repeats})


def batch_of_table(file: str, table: pa.Table | pa.RecordBatch, columns: Columns, line: npt.NDArray[np.int64]) -> Batch:
    """The rows of a table, as `of_table` reads them; a row whose spans are a list is one row for each of them."""
    if not columns.spans:
        return of_table(file, table, columns, line)
    return batch_of_records(file, [_decoded(row) for row in table.to_pylist()], columns, line.tolist())


def _decoded(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value.decode("utf-8", "replace") if isinstance(value, bytes) else value for key, value in row.items()}


_START, _END = "start of the span", "end of the span"


def spans_of(value: Any) -> list[tuple[Any, Any]]:
    """The spans that a value lists: `[start, end]`, a list of such, or a list of `{"span": [start, end]}`."""
    if isinstance(value, str) and value.startswith("["):  # as a CSV writes it
        try:
            value = json.loads(value.replace("'", '"'))
        except (ValueError, RecursionError):
            return []
    if not isinstance(value, list):
        return []
    if len(value) == 2 and not any(isinstance(part, (list, dict)) for part in value):
        return [(value[0], value[1])]
    pairs = [part.get("span") if isinstance(part, dict) else part for part in value]
    return [(pair[0], pair[1]) for pair in pairs if isinstance(pair, list) and len(pair) == 2]


def _texts(values: Any) -> pa.Array:
    """Texts; null for what is none, or cannot be written."""
    return pa.array([value if isinstance(value, str) and _is_text(value) else None for value in values], pa.string())


def _values(values: list[Any]) -> pa.Array:
    """Numbers where all values are, else texts."""
    plain = [value for value in values if value is not None]
    if plain and all(isinstance(value, int) and not isinstance(value, bool) for value in plain):
        return pa.array([value if value is None or abs(value) < 1 << 62 else -1 for value in values], pa.int64())
    if all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in plain):
        return pa.array(values, pa.float64())
    return _texts(None if value is None else str(value) for value in values)


def _is_text(value: str) -> bool:
    return value.isascii() or not any("\ud800" <= char <= "\udfff" for char in value)
