"""The published checkpoints by file: name, size, hash, what it is, and where it was to be had. `labelmaps/` lists them.

A file is known by its hash, whatever it is called. Its name alone proves nothing, but a file that has a published name
and another size or hash is cut short, saved anew, or another file, and that is worth a word.
"""

from __future__ import annotations

import csv
import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from k710.errors import CheckpointError, UsageError
from k710.lists.labels import LABEL_SETS
from k710.lists.orders import known_orders
from k710.models.checkpoints.checkpoint import file_sha256
from k710.recipes import resource

COLUMNS = (
    "name", "size_bytes", "sha256", "family", "label_set", "order", "model", "url", "state", "as_of", "source",
)  # fmt: skip

ANSWERS, GONE = "answers", "gone"

_HASH = re.compile(r"[0-9a-f]{8,64}")
_DAY = re.compile(r"\d{4}-(0[1-9]|1[0-2])(-(0[1-9]|[12]\d|3[01]))?")


@dataclass(frozen=True)
class KnownFile:
    """A published file. What is not known is empty, or None for the size.

    `sha256` are the first digits of its SHA-256, 64 where all are public. `model` says what it is, `order` is the index
    order of its head. `state` is whether `url` answered at the day or month `as_of`.
    """

    name: str
    size_bytes: int | None = None
    sha256: str = ""
    family: str = ""
    label_set: str = ""
    order: str = ""
    model: str = ""
    url: str = ""
    state: str = ""
    as_of: str = ""
    source: str = ""
    where: str = field(default="", compare=False)  # file and line, for a message


@dataclass(frozen=True)
class Identity:
    """Which published file a file is. `known_by` is "sha256", "name" (there is nothing to compare) or "differs".

    `sentence` says it in words.
    """

    known_by: str
    file: KnownFile
    sentence: str

    def as_dict(self) -> dict[str, Any]:
        row = asdict(self.file)
        del row["where"]
        return {"known_by": self.known_by, **row, "sentence": self.sentence}


@functools.cache
def published_files() -> tuple[KnownFile, ...]:
    """The rows of `labelmaps/published_files.csv`."""
    return read_known_files(Path(resource("labelmaps", "published_files.csv")))


def read_known_files(path: Path) -> tuple[KnownFile, ...]:
    """A CSV file with the column `name` and some of COLUMNS. Raises CheckpointError naming file, line and value."""
    if not path.is_file():
        raise UsageError(f"{path}: no such file of known checkpoints")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, skipinitialspace=True, strict=True)
            columns = reader.fieldnames or []
            if "name" not in columns or set(columns) - set(COLUMNS):
                raise CheckpointError(
                    f"{path}: line 1: its columns are {', '.join(map(str, columns)) or 'none'}; "
                    f"want name and some of {', '.join(COLUMNS[1:])}"
                )
            found = [_row(row, f"{path}: line {reader.line_num}") for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise CheckpointError(f"{path}: not a CSV file in UTF-8: {error}") from None
    _check_different(found)
    return tuple(found)


def _row(row: Mapping[str | None, Any], where: str) -> KnownFile:
    if None in row or None in row.values():
        raise CheckpointError(f"{where}: not as many values as there are columns")
    values = {str(key): value.strip() for key, value in row.items()}
    name, size = values["name"], values.pop("size_bytes", "")
    _want(Path(name).name == name and name.isprintable(), where, "name", name, "the name of a file, without folders")
    number = int(size) if size.isdecimal() and size.isascii() and len(size) < 16 else 0
    _want(not size or number > 0, where, "size_bytes", size, "a whole number above 0")
    hash_, state, as_of = (values.get(key, "") for key in ("sha256", "state", "as_of"))
    _want(not hash_ or bool(_HASH.fullmatch(hash_)), where, "sha256", hash_, "8 to 64 of 0-9 and a-f")
    orders = dict.fromkeys(order.name for order in known_orders())
    for key, allowed in (("label_set", LABEL_SETS), ("order", orders), ("state", {ANSWERS: 0, GONE: 0})):
        value = values.get(key, "")
        _want(not value or value in allowed, where, key, value, f"{', '.join(allowed)}, or nothing")
    _want(bool(state) == bool(as_of), where, "as_of", as_of, "a day where there is a state, and nothing where none is")
    _want(not as_of or bool(_DAY.fullmatch(as_of)), where, "as_of", as_of, "a day or a month, such as 2026-11-28")
    url = values.get("url", "")
    _want(not url or url.startswith("https://"), where, "url", url, "an address that begins with https://")
    return KnownFile(**{**values, "size_bytes": number or None, "where": where})


def _want(holds: bool, where: str, column: str, value: str, allowed: str) -> None:
    if not holds:
        raise CheckpointError(f"{where}: {column} is {value!r}, want {allowed}")


def _check_different(found: Sequence[KnownFile]) -> None:
    first: dict[tuple[str, str, int | None], str] = {}
    for row in found:
        key = (row.name, row.sha256, row.size_bytes)
        other = first.setdefault(key, row.where)
        if other != row.where:
            raise CheckpointError(f"{row.where}: {row.name} appears twice; first in {other}")


def identify(path: Path, own: Iterable[KnownFile] = ()) -> Identity | None:
    """Which published file a file is; rows of the user's `own` count before k710's. None for a file of no known name.

    The file is hashed only where its size is that of a row with a hash, or its name that of a row with a hash alone.
    """
    rows, size = (*own, *published_files()), path.stat().st_size
    hashed = [row for row in rows if row.sha256 and (row.size_bytes or (size if row.name == path.name else -1)) == size]
    digest = file_sha256(path) if hashed else ""
    for row in hashed:
        if digest.startswith(row.sha256):
            digits = "" if len(row.sha256) == 64 else f", of which the first {len(row.sha256)} digits are published"
            named = "" if row.name == path.name else ", under another name"
            return Identity("sha256", row, f"{row.name}{named}, by its SHA-256{digits}: {_what(row)}")
    named_so = [row for row in rows if row.name == path.name]
    if not named_so:
        return None
    row = named_so[0]
    if any(not each.size_bytes and not each.sha256 for each in named_so):
        return Identity("name", row, f"by its name alone, since no size or hash is public: {row.name}, {_what(row)}")
    return Identity("differs", row, _difference(row, size, digest))


def _difference(row: KnownFile, size: int, digest: str) -> str:
    if row.size_bytes and row.size_bytes != size:
        wrong = f"it has {size:,} bytes, and the published one {row.size_bytes:,}"
        cause = "cut short in a download, saved anew, or another file"
    else:
        wrong = f"its SHA-256 begins with {digest[:8]}, and that of the published one with {row.sha256[:8]}"
        cause = "changed, saved anew, or another file"
    return f"NOT the published {row.name}, though named so: {wrong}; {cause}"


def _what(row: KnownFile) -> str:
    classes = f"{row.label_set} ({row.order or 'order not known'})" if row.label_set else ""
    address = {
        ANSWERS: f"{row.url} answered as of {row.as_of}",
        GONE: f"its address was gone as of {row.as_of}",
    }.get(row.state, row.url)
    return "; ".join(part for part in (row.model or row.family, classes, address) if part) or "nothing more is known"
