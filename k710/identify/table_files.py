"""Clips out of Parquet and Arrow files: only the columns that are needed are read, some rows at a time."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from k710.errors import ListError
from k710.identify.batch import Batch
from k710.identify.columns import choose
from k710.identify.records import batch_of_table

_ROWS = 1 << 17
_HEAD_ROWS = 1_000


def batches_of_parquet(path: Path, *, column: str | None = None) -> Iterator[Batch]:
    """The rows of a Parquet file. Raises ListError for one that is damaged or names no video."""
    try:
        file = pa.parquet.ParquetFile(path)
        names = [field.name for field in file.schema_arrow]
        light = [field.name for field in file.schema_arrow if _is_text(field.type)]
        head = next(file.iter_batches(_HEAD_ROWS, columns=light), None)
        if head is None:
            return
        chosen = choose(names, partial(_head_of, head), column=column)
        row = 1
        for batch in file.iter_batches(_ROWS, columns=list(dict.fromkeys(chosen.all))):
            yield batch_of_table(path.name, batch, chosen, np.arange(row, row + len(batch)))
            row += len(batch)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise ListError(f"not a Parquet file, or damaged: {error}") from None


def batches_of_arrow(path: Path, *, column: str | None = None) -> Iterator[Batch]:
    """The rows of an Arrow file, as `datasets` saves them: a stream of batches."""
    try:
        with pa.memory_map(str(path)) as source:
            chosen, row = None, 1
            for batch in _arrow_batches(source):
                if not len(batch):
                    continue
                chosen = chosen or choose(batch.schema.names, partial(_head_of, batch), column=column)
                wanted = pa.table({name: batch[name] for name in dict.fromkeys(chosen.all)})
                yield batch_of_table(path.name, wanted, chosen, np.arange(row, row + len(batch)))
                row += len(batch)
    except (pa.ArrowInvalid, OSError) as error:
        raise ListError(f"not an Arrow file, or damaged: {error}") from None


def _arrow_batches(source: Any) -> Iterator[pa.RecordBatch]:
    is_file = source.read(6) == b"ARROW1"
    source.seek(0)
    if is_file:
        file = pa.ipc.open_file(source)
        yield from (file.get_batch(number) for number in range(file.num_record_batches))
    else:
        yield from pa.ipc.open_stream(source)


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _head_of(head: pa.RecordBatch, name: str) -> pa.Array:
    if name not in head.schema.names:
        return pa.nulls(len(head))
    column = head[name].slice(0, _HEAD_ROWS)
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
