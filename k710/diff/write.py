"""The differing clips as a file."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from k710.diff.manifests import Difference
from k710.errors import UsageError
from k710.storage.storage import Location, replacing

_WRITERS: dict[str, Callable[[pa.Table, IO[bytes]], None]] = {
    ".csv": lambda clips, file: pa.csv.write_csv(_without_dictionaries(clips), file),
    ".parquet": lambda clips, file: pa.parquet.write_table(clips, file, compression="zstd"),
}


def check_clips_file(path: Path, folders: Iterable[Location]) -> None:
    """Raise UsageError unless `path` is a .csv or .parquet file outside `folders` (manifests and stores)."""
    if path.suffix not in _WRITERS:
        raise UsageError(f"{path}: must end in {' or '.join(_WRITERS)}")
    check_place(path, folders)


def check_place(path: Path, folders: Iterable[Location]) -> None:
    """Raise UsageError for a file inside one of `folders` (manifests and stores), which hold nothing else."""
    for folder in folders:
        if folder.resolve() in path.resolve().parents:
            raise UsageError(f"{path}: is inside {folder}, which must not hold other files; choose another place")


def write_clips(path: Path, found: Difference) -> None:
    """Write one row for every differing clip; the file is written whole or not at all."""
    with replacing(path) as file:
        _WRITERS[path.suffix](found.clips, file)


def write_text(path: Path, text: str) -> None:
    """Write a page, whole or not at all."""
    with replacing(path) as file:
        file.write(text.encode("utf-8", "backslashreplace"))


def _without_dictionaries(clips: pa.Table) -> pa.Table:
    """The table with plain strings, because CSV has no dictionaries."""
    columns = {name: clips[name] for name in clips.column_names}
    plain = {n: c.cast(pa.string()) if pa.types.is_dictionary(c.type) else c for n, c in columns.items()}
    return pa.table(plain)
