"""Official annotation lists of any published form -> one Arrow table.

A list is a CSV (with or without `is_cc` and `label`; tabs for commas are fine), Kinetics-600's `.txt` (a CSV under
another suffix) or the ActivityNet JSON, plain or gzipped, or a member of DeepMind's `.tar.gz`. What a file is, is told
by its bytes and never by its suffix.

A well-formed CSV is parsed by pyarrow. Anything it stumbles over is read again row by row (`annotation_rows`), which
is slower, forgives what is harmless, and names the line of what is not.
"""

from __future__ import annotations

import csv
import re
import string
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from k710.errors import ListError
from k710.lists.annotation_rows import (
    MAX_LABEL_LENGTH,
    MAX_SPAN_S,
    MAX_TIME_S,
    BadRow,
    Row,
    column_names,
    is_split,
    missing_columns,
    quoted,
    read_csv_rows,
    read_json_rows,
)
from k710.lists.list_bytes import read_unpacked
from k710.sources.known import KNOWN_SOURCES
from k710.sources.source import SPLIT_SPELLINGS, SPLITS, YOUTUBE_ID

LIST_SCHEMA = pa.schema(
    [
        ("label", pa.dictionary(pa.int32(), pa.string())),  # as released; null where the list has none
        ("youtube_id", pa.string()),
        ("time_start_s", pa.int32()),
        ("time_end_s", pa.int32()),
        ("line", pa.int32()),  # of the file as it is unpacked, from 1
    ]
)

_BAD_ROWS_SHOWN = 20
_YOUTUBE_ID_SIZE, _YOUTUBE_ID_BYTES = 11, (string.ascii_letters + string.digits + "_-").encode()  # as in YOUTUBE_ID
_ARCHIVE = r"(?:\.tar(?:\.gz)?|\.tgz)"
_LIST_SUFFIX = re.compile(r"\.(?:csv|txt|tsv|json|jsonl|xlsx?|parquet|zip|tgz|tar|gz)$", re.I)

# Where pyarrow and `annotation_rows` may differ: pyarrow takes a hexadecimal time for a number and forgives what stands
# behind a closing quote.
_HEXADECIMAL = re.compile(rb"0[xX](?<![A-Za-z0-9_-]..)[0-9a-fA-F]{1,8}(?![A-Za-z0-9_-])")
_QUOTED_FIELD = {
    ",": re.compile(rb'"(?<![^,\n].)[^",\r\n]*"(?![^,\r\n])'),
    "\t": re.compile(rb'"(?<![^\t\n].)[^"\t\r\n]*"(?![^\t\r\n])'),
}


@dataclass(frozen=True)
class ListFile:
    """Where the list of one source and split lies: a file of its own, or an archive that holds several lists."""

    source: str
    split: str
    path: Path
    url: str | None = None  # the public address it was downloaded from; None for a user's own file


@dataclass(frozen=True)
class AnnotationList:
    """One list, read: `table` has LIST_SCHEMA and holds the good rows; `malformed` are those left out of it."""

    file: ListFile
    table: pa.Table
    malformed: tuple[BadRow, ...]
    sha256: str  # of the file as it lies on disk

    @property
    def num_rows(self) -> int:
        """Rows read, the malformed ones included."""
        return int(self.table.num_rows) + len(self.malformed)


def find_lists(
    folder: Path, sources: Iterable[str], splits: Iterable[str], *, all_needed: bool = True
) -> list[ListFile]:
    """The list of each source and split under `folder`.

    Looked for: `{source}_{split}.EXT`, `{source}/{split}.EXT`, `{source}/annotations/{split}.EXT`, and for all splits
    of a source at once `{source}.tar.gz`; each name in any of its spellings (`kinetics-400`, `validate`), in any case.
    Raises ListError that names every missing list, unless not `all_needed`, or every file where several claim one
    split.
    """
    if not folder.is_dir():
        raise ListError(f"{folder}: no such folder of annotation lists")
    splits = tuple(splits)
    found, missing = [], []
    for source in sources:
        claims = _claims(folder, source)
        for split in splits:
            paths = claims[split]
            if len(paths) > 1:
                names = ", ".join(str(path.relative_to(folder)) for path in paths)
                raise ListError(f"{folder}: {len(paths)} lists for {source} {split}: {names}; keep one of them")
            if paths:
                found.append(ListFile(source, split, paths[0]))
            else:
                missing.append(f"{source}_{split}.csv")
    if missing and (all_needed or not found):
        count = "1 list is" if len(missing) == 1 else f"{len(missing)} lists are"
        example = f"{next(iter(KNOWN_SOURCES))}/train.csv"
        raise ListError(
            f"{folder}: {count} missing: {', '.join(missing)} (or .txt, .json, each also .gz, or in folders as in "
            f"{example}). {_not_recognised(folder)}Put them there, or name what to build from with --sources "
            "and --splits."
        )
    return found


def _not_recognised(folder: Path) -> str:
    """A sentence on the files of a folder that are no source's list by their names and may be what is missing."""
    taken = {path for source in KNOWN_SOURCES for paths in _claims(folder, source).values() for path in paths}
    files = (path for pattern in ("*", "*/*") for path in sorted(folder.glob(pattern)) if path.is_file())
    names = [str(path.relative_to(folder)) for path in files if _LIST_SUFFIX.search(path.name) and path not in taken]
    if not names:
        return ""
    more = f" and {len(names) - 10:,} more" if len(names) > 10 else ""
    return f"Not recognised by their names: {', '.join(map(quoted, names[:10]))}{more}. "


def _claims(folder: Path, source: str) -> dict[str, list[Path]]:
    """For each split, the files under `folder` whose names say that they are its list."""
    name = KNOWN_SOURCES[source].name_pattern
    split_file = rf"({'|'.join(SPLIT_SPELLINGS)})(?:\.(?:csv|txt|tsv|json)(?:\.gz)?|{_ARCHIVE})"
    claims: dict[str, list[Path]] = {split: [] for split in SPLITS}

    def claim(path: Path, pattern: str) -> bool:
        match = re.fullmatch(pattern, path.name, re.I)
        if match:
            claims[SPLIT_SPELLINGS[match[1].lower()]].append(path)
        return bool(match)

    for path in sorted(folder.iterdir()):
        if re.fullmatch(rf"{name}{_ARCHIVE}", path.name, re.I):
            for paths in claims.values():
                paths.append(path)
        elif not claim(path, rf"{name}[_-]{split_file}") and re.fullmatch(name, path.name, re.I) and path.is_dir():
            for inner in sorted([*path.iterdir(), *path.glob("annotations/*")]):
                claim(inner, rf"(?:{name}[_-])?{split_file}")
    return claims


def read_list(file: ListFile, *, tolerated_share: float = 0.0) -> AnnotationList:
    """Read one list. Up to `tolerated_share` of its rows may be bad; they are left out and reported as malformed.

    Raises ListError, with file, line and reason, for a list that is damaged, empty, or holds more bad rows than that.
    """
    try:
        data, sha256 = read_unpacked(file.path, file.split)
        table, malformed = _parse(data, file.split, KNOWN_SOURCES[file.source].id_pattern)
    except ListError as error:
        raise ListError(f"{file.path}: {error}") from None
    if not table.num_rows and not malformed:
        raise ListError(f"{file.path}: the list is empty")
    num_rows = table.num_rows + len(malformed)
    if len(malformed) > tolerated_share * num_rows:
        raise ListError(describe_bad_rows(file.path, malformed, num_rows))
    return AnnotationList(file, table, malformed, sha256)


def describe_bad_rows(path: Path, malformed: tuple[BadRow, ...], num_rows: int) -> str:
    """The message on a list with bad rows: how many, and the first of them with their lines."""
    rows = "1 bad row" if len(malformed) == 1 else f"{len(malformed):,} bad rows"
    lines = [f"{path}: {rows} of {num_rows:,}"]
    lines += [f"  line {bad.line}: {bad.reason}" for bad in malformed[:_BAD_ROWS_SHOWN]]
    if len(malformed) > _BAD_ROWS_SHOWN:
        lines.append(f"  and {len(malformed) - _BAD_ROWS_SHOWN:,} more")
    return "\n".join(lines)


def _parse(data: bytes, split: str, id_pattern: str) -> tuple[pa.Table, tuple[BadRow, ...]]:
    if data[:64].lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"{", b"[")):
        return _to_table(read_json_rows(data, split, id_pattern))
    table = _parse_well_formed_csv(data, split, id_pattern)
    return (table, ()) if table is not None else _to_table(read_csv_rows(data, split, id_pattern))


def _to_table(rows: Iterable[Row | BadRow]) -> tuple[pa.Table, tuple[BadRow, ...]]:
    good, bad = [], []
    for row in rows:
        if isinstance(row, Row):
            good.append((row.label, row.youtube_id, row.time_start_s, row.time_end_s, row.line))
        else:
            bad.append(row)
    columns = list(zip(*good, strict=True)) or [()] * len(LIST_SCHEMA)
    arrays = [
        pa.array(column, pa.string()).dictionary_encode()
        if pa.types.is_dictionary(field.type)
        else pa.array(column, field.type)
        for column, field in zip(columns, LIST_SCHEMA, strict=True)
    ]
    return pa.table(arrays, schema=LIST_SCHEMA), tuple(bad)


def _parse_well_formed_csv(data: bytes, split: str, id_pattern: str = YOUTUBE_ID) -> pa.Table | None:
    """The whole CSV at once, or None where anything in it needs a closer look."""
    header_line, newline, _ = data.partition(b"\n")
    try:
        columns, delimiter = column_names(header_line.decode("utf-8"))
    except (UnicodeDecodeError, csv.Error):
        return None
    if not newline or len(set(columns)) < len(columns) or missing_columns(columns, labelled=split != "test"):
        return None
    if _needs_a_closer_look(data, delimiter):
        return None
    label_type = LIST_SCHEMA.field("label").type
    types = {"label": label_type, "youtube_id": pa.string(), "time_start": pa.int32(), "time_end": pa.int32()}
    types["split"] = label_type
    try:
        table = pa.csv.read_csv(
            pa.BufferReader(data),
            read_options=pa.csv.ReadOptions(column_names=columns, skip_rows=1),
            parse_options=pa.csv.ParseOptions(delimiter=delimiter),
            convert_options=pa.csv.ConvertOptions(
                include_columns=[column for column in types if column in columns],
                column_types=types,
                null_values=[],
            ),
        ).unify_dictionaries()
    except pa.ArrowInvalid:
        return None
    num_lines = data.count(b"\n") + (not data.endswith(b"\n"))
    if num_lines != table.num_rows + 1 or not table.num_rows or not _is_good(table, split, id_pattern):
        return None
    labels = table["label"] if "label" in columns else pa.nulls(table.num_rows, label_type)
    lines = pa.array(np.arange(2, table.num_rows + 2, dtype=np.int32))
    return pa.table([labels, table["youtube_id"], table["time_start"], table["time_end"], lines], schema=LIST_SCHEMA)


def _needs_a_closer_look(data: bytes, delimiter: str) -> bool:
    """Whether there is anything that pyarrow would read, but not as `annotation_rows` does."""
    lone_returns = b"\r" in data and data.count(b"\r") != data.count(b"\r\n")
    odd_quotes = b'"' in data and data.count(b'"') != 2 * len(_QUOTED_FIELD[delimiter].findall(data))
    return bool(lone_returns or odd_quotes or b"\0" in data or _HEXADECIMAL.search(data))


def _is_good(table: pa.Table, split: str, id_pattern: str) -> bool:
    """Whether every row would pass the checks of `annotation_rows`."""

    def values(column: str) -> list[str]:
        return pc.unique(table[column]).to_pylist() if column in table.column_names else []

    return (
        all(is_split(text, split) for text in values("split"))
        and all(text == text.strip() and 0 < len(text) <= MAX_LABEL_LENGTH for text in values("label"))
        and _are_ids(table["youtube_id"], id_pattern)
        and pc.all(pc.less(table["time_start"], table["time_end"])).as_py()
        and pc.min(table["time_start"]).as_py() >= 0
        and pc.max(table["time_end"]).as_py() <= MAX_TIME_S
        and pc.max(pc.subtract(table["time_end"], table["time_start"])).as_py() <= MAX_SPAN_S
    )


def _are_ids(column: pa.ChunkedArray, id_pattern: str) -> bool:
    """Whether every string of a column matches a pattern. For YouTube's own, their bytes are looked at all at once,
    which takes a tenth of the time."""
    if id_pattern != YOUTUBE_ID:
        return bool(pc.all(pc.match_substring_regex(column, f"^(?:{id_pattern})$")).as_py())
    sizes = pc.min_max(pc.binary_length(column)).as_py()
    if sizes != {"min": _YOUTUBE_ID_SIZE, "max": _YOUTUBE_ID_SIZE}:
        return False
    for chunk in column.chunks:
        start, stop = (_YOUTUBE_ID_SIZE * row for row in (chunk.offset, chunk.offset + len(chunk)))
        if len(chunk) and chunk.buffers()[2][start:stop].to_pybytes().translate(None, _YOUTUBE_ID_BYTES):
            return False
    return True
