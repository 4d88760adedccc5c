"""What a store can say of the availability of its clips, as a ledger."""

from __future__ import annotations

import re
import secrets

import pyarrow as pa
import pyarrow.compute as pc

from k710.errors import StoreError
from k710.fetch.origins.archive_sets import doubtful_units
from k710.ledger.ledger import HAD, LEDGER_SCHEMA, YOUTUBE, is_witness, merge
from k710.sources.source import YOUTUBE_ID
from k710.sources.video_ids import SPAN
from k710.storage.storage import Location, replacing
from k710.store.store import Store, profiles_in

WITNESS_FILE = "witness"


def ledger_of_store(root: Location, witness: str) -> tuple[pa.Table, int]:
    """The ledger of all profiles of a store, and how many clips are left out because their IDs are not YouTube's.

    Such IDs may be file names. Of a local folder only what it had is kept, because a broken file there says nothing
    about the clip. Answers that are no verdict yet are left out (`doubtful_units`).
    """
    tables, left = [], set[str]()
    for profile in profiles_in(root):
        store = Store(root, profile)
        rows = store.rows(("clip_id", "failure", "origin", "settled_at"))
        doubtful = pa.array(sorted(doubtful_units(store.unit_files())), pa.string())
        no_verdict = pc.and_(pc.is_valid(rows["failure"]), pc.is_in(rows["unit"], doubtful))
        rows = rows.filter(pc.invert(no_verdict))
        of_youtube = pc.match_substring_regex(rows["clip_id"], rf"^{YOUTUBE_ID}({SPAN})?$")
        left |= set(rows["clip_id"].filter(pc.invert(of_youtube)).to_pylist())
        tables.append(_as_ledger(rows.filter(of_youtube), witness))
    return merge(tables), len(left)


def _as_ledger(rows: pa.Table, witness: str) -> pa.Table:
    origins = pc.unique(rows["origin"]).to_pylist()
    public = pa.array([_public_name(origin) for origin in origins], pa.string())
    origin = public.take(pc.index_in(rows["origin"], pa.array(origins, pa.string())).combine_chunks())
    day = pc.cast(rows["settled_at"], pa.date32())
    columns = {
        "clip_id": rows["clip_id"],
        "origin": origin,
        "answer": pc.fill_null(rows["failure"], HAD),
        "first_day": day,
        "last_day": day,
        "witness": pa.array([witness] * len(rows), pa.string()),
    }
    ledger = pa.table(columns, schema=LEDGER_SCHEMA)
    return ledger.filter((pc.field("origin") != "local") | (pc.field("answer") == HAD))


def _public_name(origin: str) -> str:
    """An origin without folders and hosts: both may name a person."""
    if origin == YOUTUBE or re.fullmatch(r"cvdf:[a-z0-9_-]{1,40}", origin):
        return origin
    return "mirror" if origin.startswith(f"{YOUTUBE}:") else "local"


def witness_of(root: Location) -> str:
    """The number of a store in ledgers, random, made at the first export. Raises StoreError where the store is
    read-only and has none."""
    path = root / WITNESS_FILE
    if path.exists():
        found = path.read_bytes().decode("ascii", "replace").strip()
        if not is_witness(found):
            raise StoreError(f"{path}: {found[:40]!r}: want 16 hexadecimal digits; remove it, and a new one is made")
        return found
    witness = secrets.token_hex(8)
    try:
        with replacing(path) as file:
            file.write(f"{witness}\n".encode())
    except PermissionError:
        raise StoreError(f"{root}: cannot be written; --witness takes 16 hexadecimal digits of your own") from None
    return witness
