"""Signatures: the hashes of every clip, kept in the store. They are made once, and again if the clip's bytes change.

STORE/signatures/{profile}/part-{sha16}.parquet   some clips each; the name holds the SHA-256 of the file

They can be made from the media, so they may be removed at any time; the next run makes them again. For a read-only
store, they are written to another folder, FOLDER/{profile}/, and those in the store are read too.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from k710.engine.engine import Engine, Stop, local_engine
from k710.engine.helper_pool import HelperPool
from k710.errors import StoreError
from k710.near_duplicates.frames import COLUMNS, MAX_FRAMES, STEP_S, ClipMedia
from k710.near_duplicates.hash_clip import MAX_BAR_LUMA, MAX_BAR_SHARE, MAX_BAR_STD, RIM_SHARE, VARIANTS
from k710.near_duplicates.hash_process import Hashed, HashJob
from k710.storage.remote import RemotePath
from k710.storage.remote_copies import bring_copies, copy_of
from k710.storage.storage import TEMPORARY_PREFIX, Location, named_by_hash, new_folder
from k710.store.store import METADATA_KEY, Store, seen_by_all

SCHEMA = pa.schema(
    [
        pa.field("clip_id", pa.string()),
        pa.field("sha256", pa.string()),  # of the clip's bytes, from its media row
        pa.field("failure", pa.string()),  # why the clip does not decode; null if it has hashes
        pa.field("quality", pa.large_binary()),  # one byte per frame
        *(pa.field(variant, pa.large_binary()) for variant in VARIANTS),  # 32 bytes per frame
    ]
)
HASHES = (*VARIANTS, "quality")
# The settings of a signature. Files with other settings are ignored and not removed.
SETTINGS = {
    "signature": 1,
    "hash": "pdq",
    "step_s": STEP_S,
    "max_frames": MAX_FRAMES,
    "rim_share": RIM_SHARE,
    "bars": [MAX_BAR_LUMA, MAX_BAR_STD, MAX_BAR_SHARE],
}
CLIPS_IN_A_FILE = 1000
_ELSEWHERE = "`--signatures DIR` keeps the signatures in another folder"
_OLD_S = 3600.0  # an older temporary file belongs to a run that was killed


@dataclass(frozen=True)
class Tally:
    """The progress of a run: settled clips, their bytes, failures by class, and the message of each failed clip."""

    settled: int = 0
    bytes_stored: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    messages: dict[str, str] = field(default_factory=dict)

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.settled + other.settled,
            self.bytes_stored + other.bytes_stored,
            self.failed + other.failed,
            self.messages | other.messages,
        )


@dataclass(frozen=True)
class Known:
    """The clips with signatures (`rows` of clip_id, sha256 and failure), and the `damaged` files."""

    rows: pa.Table
    damaged: tuple[Location, ...]


class SignatureFolder:
    """The signatures of one profile of a store. No folder is created before something is written.

    `elsewhere`: a folder to write them to instead of the store.
    """

    def __init__(self, store: Store, elsewhere: Location | None = None) -> None:
        in_store: Location = store.root / "signatures" / store.profile_folder
        self.folder = in_store if elsewhere is None else elsewhere / store.profile_folder
        self._read_from = [self.folder] if elsewhere is None else [in_store, self.folder]
        self._checked: list[Location] = []

    def check_writable(self) -> None:
        """Raise StoreError if the folder cannot be written, before hours of work are lost. A URL is not checked."""
        if isinstance(self.folder, RemotePath):
            return
        there = next(path for path in (self.folder.absolute(), *self.folder.absolute().parents) if path.exists())
        if not os.access(there, os.W_OK):
            raise StoreError(f"{there}: cannot be written; {_ELSEWHERE}")

    def read_known(self) -> Known:
        """Find the clips with signatures. Every file is read whole, and its hash is compared with its name."""
        tables = [SCHEMA.empty_table().select(_ABOUT)]
        damaged: list[Location] = []
        self._checked = []
        paths: list[Location] = [path for folder in self._read_from for path in folder.glob("part-*.parquet")]
        with contextlib.suppress(FileNotFoundError):  # each file is read again below
            bring_copies(paths)
        for path in sorted(paths, key=str):
            if (table := _read_whole(path)) is None:
                damaged.append(path)
            elif table.num_columns:
                self._checked.append(path)
                tables.append(table)
        return Known(pa.concat_tables(tables), tuple(damaged))

    def column(self, name: str) -> pa.ChunkedArray:
        """One column of hashes for all rows of `read_known`, in their order. Raises StoreError if a file is missing."""
        try:
            parts = [
                pa.parquet.read_table(copy_of(path), columns=[name], schema=SCHEMA)[name] for path in self._checked
            ]
        except (OSError, pa.ArrowException) as error:
            raise StoreError(f"{self.folder}: the signatures changed during the run: {error}; run again") from None
        return pa.chunked_array([chunk for part in parts for chunk in part.chunks], SCHEMA.field(name).type)

    def write(self, rows: Sequence[dict[str, object]]) -> None:
        """Write one more file of signatures, whole or not at all."""
        table = pa.Table.from_pylist(list(rows), schema=SCHEMA)
        table = table.replace_schema_metadata({METADATA_KEY: json.dumps(SETTINGS).encode()})
        try:
            with new_folder(self.folder), named_by_hash(self.folder, "part-{}.parquet") as file:
                pa.parquet.write_table(table, file, compression="none", use_dictionary=False)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise StoreError(f"{self.folder}: {error.strerror}; {_ELSEWHERE}") from None
            raise

    def sweep(self, damaged: Sequence[Location]) -> None:
        """Remove damaged files, whose clips are hashed again, and the temporary files of killed runs."""
        for path in damaged:
            if path.parent == self.folder:  # never in a store that is only read
                path.unlink(missing_ok=True)
        if isinstance(self.folder, RemotePath):
            return  # no temporary files there: files are finished on this machine first
        for temporary in self.folder.glob(f"{TEMPORARY_PREFIX}*"):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - temporary.stat().st_mtime > _OLD_S:
                    temporary.unlink()


_ABOUT = ["clip_id", "sha256", "failure"]


def _read_whole(path: Location) -> pa.Table | None:
    """The clips of a file; None for a damaged file, a table without columns for a file with other settings."""
    try:
        content = copy_of(path).read_bytes()
    except FileNotFoundError:
        return pa.table({})
    if hashlib.sha256(content).hexdigest()[:16] != path.stem.removeprefix("part-"):
        return None
    try:
        file = pa.parquet.ParquetFile(pa.BufferReader(content))
        if json.loads((file.metadata.metadata or {}).get(METADATA_KEY, b"{}")) != SETTINGS:
            return pa.table({})
        return file.read(columns=_ABOUT).cast(pa.schema([SCHEMA.field(name) for name in _ABOUT]))
    except (pa.ArrowException, ValueError):
        return None


def media_of(store: Store, clip_ids: pa.Array) -> tuple[pa.Table, int]:
    """The media rows (frames.COLUMNS) of the clips in the store, and the number of clips that failed there."""
    rows = store.best_rows((*COLUMNS, "failure"))
    rows = rows.filter(pc.is_in(rows["clip_id"], clip_ids))
    there = rows.filter(pc.is_null(rows["failure"]))
    return there.select(list(COLUMNS)), len(rows) - len(there)


def places_of(media: pa.Table, known: pa.Table) -> pa.Array:
    """(media rows,) the row of `known` with the signature of each clip; null if there is none."""
    return pc.index_in(_keys(media), _keys(known))


def _keys(table: pa.Table) -> pa.Array:
    joined = pc.binary_join_element_wise(table["clip_id"], table["sha256"], "/")
    return joined.combine_chunks() if isinstance(joined, pa.ChunkedArray) else joined


def make_missing(
    store: Store,
    media: pa.Table,
    *,
    workers: int,
    stop: Stop,
    on_progress: Callable[[Tally], None] = lambda tally: None,
    engine: Callable[..., AbstractContextManager[Engine[Hashers]]] = local_engine,
    elsewhere: Location | None = None,
) -> Tally:
    """Decode and hash clips (media rows) in `workers` processes, CLIPS_IN_A_FILE at a time, until `stop` is asked.

    `engine`: `local_engine` or another one of the same form. `on_progress` gets the tally after each clip. A clip that
    cannot be read, or whose process died, is reported, and the next run tries it again. A clip that does not decode is
    recorded. `elsewhere`: as for SignatureFolder; with several machines, a folder that all of them see. Raises OSError
    if the disk is full, StoreError if nothing may be written; files that were written before stay.
    """
    if not len(media):
        return Tally()
    if isinstance(elsewhere, Path):
        elsewhere = elsewhere.absolute()
    folder = SignatureFolder(store, elsewhere)
    folder.check_writable()
    media = media.sort_by([("tar", "ascending"), ("offset", "ascending")])
    shared: tuple[Path, ...] = ()
    if isinstance(store.root, Path):  # a URL is the same everywhere
        store = Store(store.root.absolute(), store.profile_folder)  # the working folder of another machine is not known
        shared = seen_by_all(store)
        folder = SignatureFolder(store, elsewhere)
    if isinstance(elsewhere, Path):
        elsewhere.mkdir(parents=True, exist_ok=True)
        shared = (*shared, elsewhere)
    counter = _Counter(on_progress)
    units = (media.slice(begin, CLIPS_IN_A_FILE).to_pylist() for begin in range(0, len(media), CLIPS_IN_A_FILE))
    work = partial(_hash_unit, folder=folder, tars_folder=str(store.tars_folder))
    with engine(_open_hashers, workers=min(workers, len(media)), stop=stop, shared=shared) as opened:
        opened.run_units(units, work, on_result=counter.on_result, on_progress=counter.on_progress)
    return counter.done


@dataclass(frozen=True)
class Hashers:
    """The objects that all units on a machine share."""

    pool: HelperPool[Hashed]
    stop: Stop


@contextmanager
def _open_hashers(stop: Stop, workers: int) -> Iterator[Hashers]:
    with HelperPool(workers, module="k710.near_duplicates.hash_process", answer=Hashed) as pool:
        try:
            yield Hashers(pool, stop)
        except BaseException:
            pool.kill()
            raise


class _Counter:
    """The tally of the finished units; reports it together with the tallies of the units in progress."""

    def __init__(self, report: Callable[[Tally], None]) -> None:
        self.done, self._report = Tally(), report
        self._at_work: dict[int, Tally] = {}
        self._lock = threading.Lock()

    def on_result(self, number: int, tally: Tally) -> None:
        with self._lock:
            self._at_work.pop(number, None)
            self.done += tally

    def on_progress(self, number: int, tally: Tally | None) -> None:
        with self._lock:
            self._at_work.pop(number, None)
            if tally is not None:  # None: its machine is gone, with everything that it had not written
                self._at_work[number] = tally
            shown = sum(self._at_work.values(), start=self.done)
        self._report(shown)


def _hash_unit(
    rows: list[dict[str, Any]],
    hashers: Hashers,
    report: Callable[[Tally], None],
    *,
    folder: SignatureFolder,
    tars_folder: str,
) -> Tally:
    """Make one file of signatures. After a stop, clips in progress are finished."""
    clips, tally = [ClipMedia(**row) for row in rows], Tally()
    futures = [hashers.pool.submit(HashJob(clip.clip_id, tars_folder, tuple(clip))) for clip in clips]
    found: list[dict[str, object]] = []
    for clip, future in zip(clips, futures, strict=True):
        if hashers.stop.asked and future.cancel():
            continue
        made: Hashed = future.result()
        tally += _tally_of(clip, made)
        report(tally)
        if made.settled:
            empty = dict.fromkeys(HASHES, b"")
            row = {"clip_id": clip.clip_id, "sha256": clip.sha256, "failure": made.message if made.failure else None}
            found.append({**row, **(made.columns or empty)})
    if found:
        folder.write(found)
    return tally


def _tally_of(clip: ClipMedia, made: Hashed) -> Tally:
    if made.failure is None:
        return Tally(1, clip.size)
    return Tally(1, clip.size, Counter([made.failure]), {clip.clip_id: f"{made.failure}: {made.message}"})
