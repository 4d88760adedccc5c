"""The store: media by clip and encode profile, independent of splits and labels.

STORE/
    media/{profile}/{unit}.parquet        a row per clip that the unit settled; written last, as the commit
    tars/{profile}/{unit}-{n}-{sha8}.tar  WebDataset samples: {clip_id}.mp4 and {clip_id}.json
    scratch/                              files of running fetches; removed when the run is gone
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from k710.errors import RemoteError, StoreError
from k710.storage.remote import RemotePath
from k710.storage.remote_copies import bring_copies, copy_of
from k710.storage.storage import Location
from k710.store.profile_names import DEFAULT_PROFILE, name_and_audio

SCHEMA_VERSION = "1.1"
MEDIA_SCHEMA = pa.schema(
    [
        pa.field("clip_id", pa.string()),
        pa.field("failure", pa.string()),  # null: the clip was fetched
        pa.field("message", pa.string()),
        pa.field("tar", pa.string()),  # the file's name in tars/{profile}
        pa.field("offset", pa.int64()),  # of the first byte of the media in the tar
        pa.field("size", pa.int64()),
        pa.field("sha256", pa.string()),
        pa.field("suffix", pa.string()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("fps", pa.float64()),
        pa.field("num_frames", pa.int32()),  # of the span, even if only some of them are stored
        pa.field("duration_s", pa.float64()),
        pa.field("codec", pa.string()),
        pa.field("flags", pa.list_(pa.string())),  # short, trimmed, frozen, black
        pa.field("origin", pa.string()),  # local:DIR, cvdf:SET or youtube; see fetch/recover.py
        pa.field("came_from", pa.string()),  # the file in DIR, archive and member, or the address of the video
        pa.field("settled_at", pa.timestamp("ms", tz="UTC")),
        # Since 1.1, only in the `frames` profile: for each stored JPEG its offset in the media and its frame in the
        # span.
        pa.field("frame_offsets", pa.list_(pa.int32())),
        pa.field("frame_indices", pa.list_(pa.int32())),
    ]
)
# Not zstd: to set up its decoder for each column of each small file took a third of the time of reading a store.
MEDIA_COMPRESSION = "snappy"
METADATA_KEY = b"k710"
EVENLY_STORED = (
    "frames_evenly_stored"  # in a media file's metadata: all its frame_indices are stored_frames.stored_indices
)
MENDED = "`k710 verify MANIFEST --repair` repairs the store"
_UNIT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_TAR = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\.tar")
_READERS = 4  # threads; media files are small and may be a thousand
_AT_ONCE = 32  # files that one of them makes one piece of: what is done with a column costs by its pieces too
_FACTOR = np.uint64(0x9E3779B97F4A7C15)  # odd, near 2**64 / 1.618: Fibonacci hashing
_LISTINGS = 3  # tries to list a folder while its units change


class NewerStoreError(StoreError):
    """A media file of a newer version. It is not damaged, so it must not be repaired."""


class Store:
    """The media of one profile in a store, in a folder or at a URL. No folder is created before something is
    written."""

    def __init__(self, root: Location, profile_folder: str) -> None:
        self.root, self.profile_folder = root, profile_folder
        self.media_folder = root / "media" / profile_folder
        self.tars_folder = root / "tars" / profile_folder

    @property
    def scratch_folder(self) -> Location:
        return self.root / "scratch"

    def unit_files(self, *, refresh: bool = False) -> list[Location]:
        """The media files, in order. Those at a URL are copied to the cache; copies are reused unless `refresh`.

        Raises RemoteError if the units change too fast to be read.
        """
        if isinstance(self.media_folder, Path):
            return [*sorted(self.media_folder.glob("[!.]*.parquet"))]
        for _ in range(_LISTINGS):
            files: list[Location] = [file for file in self.media_folder.glob("*.parquet") if _UNIT.fullmatch(file.name)]
            try:
                bring_copies(files, refresh=refresh)
            except FileNotFoundError:
                continue  # a unit was replaced, or a repair removed it
            return files
        raise RemoteError(f"{self.media_folder}: its units change while they are read; try again later")

    def unit_versions(self) -> list[list[str | int]]:
        """The name of each media file, with values that change whenever the file changes."""
        found: list[list[str | int]] = []
        for file in self.unit_files():
            if isinstance(file, RemotePath):
                found.append([file.name, file.version])
            else:
                status = file.stat()
                found.append([file.name, status.st_size, status.st_mtime_ns])
        return found

    def tar(self, name: str) -> Location:
        """The tar that a row names. Raises StoreError for a name that no unit writes, because it may lead elsewhere."""
        if not _TAR.fullmatch(name):
            raise StoreError(f"{self.media_folder}: a row names {name!r}, which is not the name of a tar")
        return self.tars_folder / name

    def rows(self, columns: Iterable[str] = tuple(MEDIA_SCHEMA.names), *, even_indices: bool = True) -> pa.Table:
        """All media rows of the profile, each with the `unit` that wrote it. A clip that was tried again has several.

        Without `even_indices`, frame_indices that equal `stored_frames.stored_indices` are null. Raises StoreError for
        a media file that cannot be read.
        """
        files, names = self.unit_files(), list(columns)
        parts = [files[start : start + _AT_ONCE] for start in range(0, len(files), _AT_ONCE)]
        try:
            with ThreadPoolExecutor(_READERS) as pool:
                found = list(pool.map(lambda part: _rows_of(part, names, even_indices), parts))
        except NewerStoreError:
            raise
        except (OSError, StoreError, pa.ArrowException) as error:
            self._blame_a_file(files)
            raise StoreError(f"{self.media_folder}: the media rows cannot be read: {error}") from None
        empty = MEDIA_SCHEMA.empty_table().select(names).append_column("unit", pa.array([], pa.string()))
        return pa.concat_tables(found or [empty])

    def _blame_a_file(self, files: Iterable[Location]) -> None:
        for file in files:
            try:
                read_unit(file)
            except StoreError as error:
                raise StoreError(f"{error}; {MENDED}") from None

    def best_rows(self, columns: Iterable[str] = tuple(MEDIA_SCHEMA.names)) -> pa.Table:
        """One row per clip, in clip_id order. A success wins over failures, then the newest row, then the unit name."""
        names = list(columns)
        needed = list(dict.fromkeys([*names, "clip_id", "failure", "settled_at"]))
        return best(self.rows(needed)).select([*names, "unit"])


def best(rows: pa.Table) -> pa.Table:
    """The row that counts for each clip, in clip_id order; see Store.best_rows."""
    rows = rows.append_column("_failed", pc.is_valid(rows["failure"]))
    order = [("clip_id", "ascending"), ("_failed", "ascending"), ("settled_at", "descending"), ("unit", "ascending")]
    rows = rows.take(pc.sort_indices(rows, sort_keys=order)).drop_columns("_failed")
    ids = rows["clip_id"].combine_chunks()
    if len(ids) < 2:
        return rows
    first = pc.not_equal(ids.slice(1), ids.slice(0, len(ids) - 1)).to_numpy(zero_copy_only=False)
    return rows.filter(pa.array(np.concatenate([[True], first])))


def best_of(rows: pa.Table, clip_ids: pa.Array) -> npt.NDArray[np.int64]:
    """(clips,) which of the rows counts for each of these clips, which are distinct; -1 for a clip without a row.

    As `best`, without sorting text: only clips that have several rows are sorted. `rows`: clip_id, failure, settled_at,
    unit.
    """
    place = _places(rows["clip_id"], clip_ids)
    row = np.flatnonzero(place >= 0)
    counts = np.bincount(place[row], minlength=len(clip_ids))
    found = np.full(len(clip_ids), -1)
    found[place[row]] = row
    tried_again = row[counts[place[row]] > 1]
    if len(tried_again):
        several = rows.select(["failure", "settled_at", "unit"]).take(pa.array(tried_again))
        several = best(
            several.append_column("clip_id", pa.array(place[tried_again])).append_column("row", pa.array(tried_again))
        )
        found[several["clip_id"].to_numpy()] = several["row"].to_numpy()
    return found


def _places(ids: pa.ChunkedArray, among: pa.Array) -> npt.NDArray[np.int32]:
    """(ids,) the place of each ID `among` distinct ones; -1 where it is not there.

    Of IDs of one size, as all of Kinetics are, nearly all are found by a table that a hash of their bytes addresses, in
    less than half of the time that Arrow takes to look up texts. What the table does not show is looked up as text.
    """
    ids = ids.combine_chunks()
    own, others = _of_one_size(ids), _of_one_size(among)
    if own is None or others is None or own.dtype != others.dtype:
        return _places_of_texts(ids, among)
    bits = (4 * len(among)).bit_length()
    slots, slot_of_place = np.zeros(1 << bits, np.int32), _upper_bits(others, bits)
    places = np.arange(len(among), dtype=np.int32)
    slots[slot_of_place] = places
    place = slots[_upper_bits(own, bits)]
    unlike = np.flatnonzero(np.take(others, place) != own)
    hidden = np.flatnonzero(slots[slot_of_place] != places)  # another has the slot
    found = _places_of_texts(ids.take(pa.array(unlike)), among.take(pa.array(hidden)))
    place[unlike] = np.append(hidden, -1)[found]
    return place


def _places_of_texts(ids: pa.StringArray, among: pa.Array) -> npt.NDArray[np.int32]:
    """As `_places`, of any texts."""
    found: npt.NDArray[np.int32] = pc.fill_null(pc.index_in(ids, among), -1).to_numpy(zero_copy_only=False)
    return found


def _of_one_size(texts: pa.StringArray) -> npt.NDArray[np.bytes_] | None:
    """(texts,) the texts, not copied; None of no texts, and of texts that do not have one size of at least 8 bytes."""
    if not len(texts) or texts.null_count:
        return None
    _, offsets, content = texts.buffers()
    borders = np.frombuffer(offsets, np.int32)[texts.offset : texts.offset + len(texts) + 1]
    size = int(borders[1] - borders[0])
    if size < 8 or (np.diff(borders) != size).any():
        return None
    return np.frombuffer(content, f"S{size}", len(texts), int(borders[0]))


def _upper_bits(texts: npt.NDArray[np.bytes_], bits: int) -> npt.NDArray[np.int64]:
    """(texts,) the upper bits of a hash of each text."""
    size = texts.itemsize
    found = np.zeros(len(texts), np.uint64)
    for start in (*range(0, size - 8, 8), size - 8):  # words of 8 bytes; the last one may overlap
        found ^= found >> np.uint64(32)
        found ^= np.ndarray(len(texts), np.uint64, texts, start, (size,))
        found *= _FACTOR
    return (found >> np.uint64(64 - bits)).view(np.int64)


def fetch_command(manifest: Location, store: Store) -> str:
    """The command that fetches a manifest's clips into this store, for messages."""
    profile, audio = name_and_audio(store.profile_folder)
    words = ["k710 fetch", str(manifest)]
    words += ["--store", str(store.root)] if store.root != manifest / "store" else []
    words += ["--profile", profile] if profile != DEFAULT_PROFILE else []
    return " ".join(words + ["--audio"] * audio)


def read_unit(file: Location) -> tuple[pa.Table, dict[str, Any]]:
    """The rows of one media file and the metadata of its unit.

    Raises StoreError for a damaged file, NewerStoreError for a file of a newer version, OSError for a file that cannot
    be read.
    """
    metadata = unit_metadata(file)
    try:
        rows = pa.parquet.ParquetFile(copy_of(file).absolute()).read()
        digest = unit_digest(rows, metadata)
    except (
        OSError,
        pa.ArrowException,
        ValueError,
        OverflowError,
        LookupError,
    ) as error:  # LookupError: a bad time zone
        _pass_on(error)
        raise StoreError(f"{file}: damaged: {str(error).strip()}") from None
    if digest != metadata.get("sha256"):
        raise StoreError(f"{file}: damaged: its content does not match its hash")
    return _as_now(rows, MEDIA_SCHEMA), metadata


def _rows_of(files: Sequence[Location], names: Sequence[str], even_indices: bool) -> pa.Table:
    """Columns of media files, and each row's `unit`, all but lists in one piece. Raises OSError, ArrowException or
    StoreError."""
    schema = pa.schema([MEDIA_SCHEMA.field(name) for name in names])
    tables = [_columns_of(file, schema, even_indices) for file in files]
    units = pa.array([file.stem for file in files], pa.string())
    unit = np.repeat(np.arange(len(files)), [len(table) for table in tables])
    rows = pa.concat_tables(tables)
    # Lists are most of the bytes, and who uses them copies them anyway.
    columns = [rows[f.name] if pa.types.is_list(f.type) else rows[f.name].combine_chunks() for f in schema]
    return pa.table(columns, schema=schema).append_column("unit", units.take(pa.array(unit)))


def _columns_of(file: Location, schema: pa.Schema, even_indices: bool) -> pa.Table:
    # Not as one pyarrow dataset of all files, which reads each footer again; that is most of the work.
    with pa.parquet.ParquetFile(copy_of(file).absolute(), pre_buffer=False) as opened:
        metadata = _metadata(file, opened.metadata.metadata)
        left_out = "frame_indices" if metadata.get(EVENLY_STORED) and not even_indices else None
        rows = opened.read([name for name in schema.names if name != left_out], use_threads=False)
    return _as_now(rows, schema)


def _as_now(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """The columns of this version: a newer minor version may have more columns, an older one fewer."""
    if rows.schema.equals(schema):
        return rows.replace_schema_metadata(None)
    there = dict(zip(rows.column_names, rows.columns, strict=True))
    columns = [there[f.name] if f.name in there else pa.nulls(len(rows), f.type) for f in schema]
    return pa.table(columns, schema=schema)


def unit_digest(rows: pa.Table, metadata: dict[str, Any]) -> str:
    """SHA-256 over the rows and the metadata without this hash. Parquet does not notice many flipped bits."""
    about = {key: value for key, value in metadata.items() if key != "sha256"}
    return hashlib.sha256(json.dumps([about, rows.to_pylist()], default=str).encode()).hexdigest()


def unit_metadata(file: Location) -> dict[str, Any]:
    """The metadata of a unit in its media file: profile, origin, tools; for an archive its address and members."""
    try:
        # Absolute, because Arrow takes s3:x for a URL.
        about = pa.parquet.read_metadata(copy_of(file).absolute()).metadata
    except (OSError, pa.ArrowException) as error:
        _pass_on(error)
        raise StoreError(f"{file}: damaged: {str(error).strip()}") from None
    return _metadata(file, about)


def _metadata(file: Location, about: dict[bytes, bytes] | None) -> dict[str, Any]:
    try:
        metadata: dict[str, Any] = json.loads((about or {})[METADATA_KEY])
        version = str(metadata["schema_version"])
    except (KeyError, ValueError, TypeError) as error:
        raise StoreError(f"{file}: damaged: {str(error).strip()}") from None
    if version.split(".")[0] != SCHEMA_VERSION.split(".")[0]:
        raise NewerStoreError(f"{file}: has schema version {version}, this k710 reads {SCHEMA_VERSION}; upgrade k710")
    return metadata


def _pass_on(error: Exception) -> None:
    """Raise an error of the disk again. It does not mean that the file is damaged, and a repair would remove the file.
    Arrow's own OSErrors, for damaged files, have no number."""
    if isinstance(error, OSError) and error.errno is not None:
        raise error


def unit_name(name: str, settled: Iterable[str]) -> str:
    """The name of a unit with a hash of its settled clips and the classes of its failures. So units with different
    results never replace each other."""
    digest = hashlib.sha256("\n".join(settled).encode()).hexdigest()[:8]
    found = f"{name}-{digest}"
    assert _UNIT.fullmatch(found), found
    return found


def seen_by_all(store: Store) -> tuple[Path, ...]:
    """A file of the store, if it is on this machine. Another machine that sees this file sees the store."""
    return tuple(file.absolute() for file in store.unit_files()[:1] if isinstance(file, Path))


def profiles_in(root: Location) -> Iterator[str]:
    """The profiles in a store, by the names of their folders."""
    media = root / "media"
    if isinstance(media, RemotePath):
        yield from (folder.name for folder in media.glob("*") if _UNIT.fullmatch(folder.name))
        return
    for folder in sorted(media.glob("*")):
        if folder.is_dir():
            yield folder.name
