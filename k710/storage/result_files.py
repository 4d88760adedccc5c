"""Files that a user asks for beside a command's output: a table as .csv or .parquet, or a page."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from k710.errors import UsageError
from k710.storage.storage import Location, replacing

SUFFIXES = (".csv", ".parquet")


def check_table_file(path: Path, folders: Iterable[Location]) -> None:
    """Raise UsageError unless `path` is a .csv or .parquet file outside `folders` (manifests and stores)."""
    if path.suffix not in SUFFIXES:
        raise UsageError(f"{path}: must end in {' or '.join(SUFFIXES)}")
    check_place(path, folders)


def check_place(path: Path, folders: Iterable[Location]) -> None:
    """Raise UsageError for a file inside one of `folders` (manifests and stores), which hold nothing else."""
    for folder in folders:
        if folder.resolve() in path.resolve().parents:
            raise UsageError(f"{path}: is inside {folder}, which must not hold other files; choose another place")


def write_table(path: Path, table: pa.Table) -> None:
    """Write a table as Parquet by that suffix, else as CSV; whole or not at all."""
    with replacing(path) as file:
        if path.suffix == ".parquet":
            pa.parquet.write_table(table, file, compression="zstd")
        else:
            pa.csv.write_csv(_without_dictionaries(table), file)


def write_text(path: Path, text: str) -> None:
    """Write a page, whole or not at all."""
    with replacing(path) as file:
        file.write(text.encode("utf-8", "backslashreplace"))


def _without_dictionaries(table: pa.Table) -> pa.Table:
    """The table with plain strings, because CSV has no dictionaries."""
    columns = {name: table[name] for name in table.column_names}
    plain = {n: c.cast(pa.string()) if pa.types.is_dictionary(c.type) else c for n, c in columns.items()}
    return pa.table(plain)
