"""The ledger: what stores know of the availability of clips. It has no media, no paths, no messages and no names.

A row says that one witness, a store, got one answer for a clip at one origin, on which day first and on which day last.
Ledgers of several stores are merged by their union. So it does not matter in which order they are merged, or how often,
and answers that contradict each other stay side by side, each with its days.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from k710.errors import StoreError
from k710.sources.source import YOUTUBE_ID
from k710.sources.video_ids import SPAN
from k710.storage.storage import replacing
from k710.store.failures import FAILURES
from k710.store.store import METADATA_KEY

SCHEMA_VERSION = "1.0"
LEDGER_SCHEMA = pa.schema(
    [
        pa.field("clip_id", pa.string()),  # of a YouTube video
        pa.field("origin", pa.string()),  # youtube, an archive set such as cvdf:k400-train, local, or mirror
        pa.field("answer", pa.string()),  # `had`, or why not: a key of store.failures.FAILURES
        pa.field("first_day", pa.date32()),
        pa.field("last_day", pa.date32()),
        pa.field("witness", pa.string()),  # 16 random hexadecimal digits of a store
    ]
)
HAD = "had"
YOUTUBE = "youtube"
ANSWERS = (HAD, *FAILURES)
_KEYS = ["clip_id", "origin", "answer", "witness"]
_FORMS = {
    "clip_id": rf"^{YOUTUBE_ID}({SPAN})?$",
    "origin": r"^(youtube|local|mirror|cvdf:[a-z0-9_-]{1,40})$",
    "witness": "^[0-9a-f]{16}$",
}


def is_witness(text: str) -> bool:
    """Whether a text can name a witness."""
    return re.fullmatch(_FORMS["witness"], text) is not None


def merge(ledgers: Iterable[pa.Table]) -> pa.Table:
    """The union of ledgers (LEDGER_SCHEMA): of equal answers of one witness the first and the last day; sorted.

    It is commutative, associative and idempotent.
    """
    together = pa.concat_tables([LEDGER_SCHEMA.empty_table(), *ledgers])
    days = [("first_day", "min"), ("last_day", "max")]
    merged = together.group_by(_KEYS).aggregate(days)
    named = merged.rename_columns([name.removesuffix("_min").removesuffix("_max") for name in merged.column_names])
    return named.select(LEDGER_SCHEMA.names).sort_by([(name, "ascending") for name in _KEYS]).cast(LEDGER_SCHEMA)


def write_ledger(path: Path, ledger: pa.Table) -> None:
    """Write a ledger, whole or not at all."""
    about = json.dumps({"ledger": SCHEMA_VERSION}).encode()
    with replacing(path) as file:
        pa.parquet.write_table(ledger.replace_schema_metadata({METADATA_KEY: about}), file, compression="zstd")


def read_ledger(path: Path) -> pa.Table:
    """A ledger, checked row by row. Raises StoreError for a file that is none, is damaged, or has a wrong value."""
    try:
        file = pa.parquet.ParquetFile(path)
        about = json.loads((file.metadata.metadata or {}).get(METADATA_KEY, b"{}"))
        version = about.get("ledger") if isinstance(about, dict) else None
        if not isinstance(version, str):
            raise StoreError(f"{path}: is no ledger; `k710 ledger export` writes one")
        if version.split(".")[0] != SCHEMA_VERSION.split(".")[0]:
            raise StoreError(f"{path}: has ledger version {version}, this k710 reads {SCHEMA_VERSION}; upgrade k710")
        ledger = file.read(columns=LEDGER_SCHEMA.names).cast(LEDGER_SCHEMA)
    except FileNotFoundError:
        raise StoreError(f"{path}: no such file") from None
    except (OSError, pa.ArrowException, ValueError) as error:
        raise StoreError(f"{path}: damaged: {str(error).strip()}") from None
    _check(path, ledger)
    return ledger.replace_schema_metadata(None)


def _check(path: Path, ledger: pa.Table) -> None:
    """Whoever wrote the file: its values are shown, and its IDs decide what is fetched."""
    right = {name: pc.match_substring_regex(ledger[name], form) for name, form in _FORMS.items()}
    right["answer"] = pc.is_in(ledger["answer"], pa.array(ANSWERS))
    right["last_day"] = pc.less_equal(ledger["first_day"], ledger["last_day"])
    for name, rows in right.items():
        place = pc.index(pc.fill_null(rows, False), False).as_py()
        if place >= 0:
            value = ledger[name][place].as_py()
            allowed = f"one of {', '.join(ANSWERS)}" if name == "answer" else _ALLOWED[name]
            raise StoreError(f"{path}: row {place + 1}: {name} {str(value)!r}: want {allowed}")


_ALLOWED = {
    "clip_id": "a clip of a YouTube video, such as abcdefghijk_000010_000020",
    "origin": "youtube, local, mirror, or an archive set such as cvdf:k400-train",
    "witness": "16 hexadecimal digits",
    "last_day": "a day that is not before first_day",
}
