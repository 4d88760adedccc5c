"""The column `is_cc` of the releases' lists, which says whether a video is under a Creative Commons licence.

A manifest does not keep it. It is read again from the lists that the manifest was built from.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable

import pyarrow as pa

from k710.errors import ListError, UsageError
from k710.lists.annotation_rows import column_names, split_fields
from k710.lists.annotations import ListFile
from k710.lists.list_bytes import read_unpacked
from k710.manifest.read import Manifest

_Key = tuple[str, str, int, int]  # split, ID and the two times


def with_is_cc(table: pa.Table, view: str, manifest: Manifest, files: Iterable[ListFile]) -> pa.Table:
    """The clips of a release's view with `is_cc` as its lists have it, text; null where a list has no such column.

    `files` are the lists of the release. Raises ListError for a file that is not the one that the manifest was built
    from, UsageError where no list has the column.
    """
    recorded = {(one["source"], one["split"]): one["sha256"] for one in manifest.about["sources"]}
    found: dict[_Key, str] = {}
    for file in files:
        data, sha256 = read_unpacked(file.path, file.split)
        if recorded.get((view, file.split)) != sha256:
            raise ListError(f"{file.path}: is not the list that {manifest.path} was built from")
        found |= _values(data, file.split)
    if not found:
        raise UsageError(f"the lists of {view} have no column is_cc; leave out --is-cc-from")
    columns = ("split", "youtube_id", "time_start_s", "time_end_s")
    keys = zip(*(table[name].to_pylist() for name in columns), strict=True)
    return table.append_column("is_cc", pa.array([found.get(key) for key in keys], pa.string()))


def _values(data: bytes, split: str) -> dict[_Key, str]:
    """The values of a list's rows; none where it has no such column. Of two rows of one clip, the first counts."""
    lines = io.StringIO(data.decode("utf-8", "replace"))
    try:
        columns, delimiter = column_names(next(lines, ""))
    except csv.Error:
        return {}
    if "is_cc" not in columns:
        return {}
    found: dict[_Key, str] = {}
    for line in lines:
        try:
            row = dict(zip(columns, split_fields(line, delimiter), strict=False))
            key = (split, row["youtube_id"], int(row["time_start"]), int(row["time_end"]))
        except (csv.Error, KeyError, ValueError):
            continue  # a row that no build takes
        found.setdefault(key, row.get("is_cc", ""))
    return found
