"""A unit of work on its way into the store: tars first, then the media file that commits them."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import tarfile
import tempfile
from datetime import datetime, timezone
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet

from k710.fetch.encode.jobs import Made
from k710.storage.storage import HashedFile, put
from k710.store.store import (
    EVENLY_STORED,
    MEDIA_COMPRESSION,
    MEDIA_SCHEMA,
    METADATA_KEY,
    SCHEMA_VERSION,
    Store,
    unit_digest,
    unit_name,
)
from k710.store.stored_frames import stored_indices

TAR_BYTES = 1 << 30  # a tar is ended after the clip that passes this
RESERVE_BYTES = 2 << 20  # kept back for the rows, so that a unit can still be committed when the disk is full
_TAR_END = bytes(2 * tarfile.BLOCKSIZE)


# What the sample's JSON says of the clip: no place, time or folder of one machine, so that equal clips make equal tars.
SIDECAR_KEYS = ("clip_id", "sha256", "size", "width", "height", "fps", "num_frames", "duration_s", "codec", "flags")
FRAME_KEYS = ("frame_offsets", "frame_indices")  # and of stored frames


class StoreUnit:
    """Gathers the clips that a unit settles. Nothing of it counts before `commit`; `abandon` leaves nothing."""

    def __init__(self, store: Store, name: str, scratch: Path) -> None:
        self._store, self._name = store, name
        self._scratch = Path(tempfile.mkdtemp(prefix="unit-", dir=scratch))
        self.rows: list[dict[str, Any]] = []
        self._tars: list[Path] = []
        self._tar: IO[bytes] | None = None
        self._reserve = self._scratch / "reserve"
        try:
            self._reserve.write_bytes(bytes(RESERVE_BYTES))
        except OSError:
            self.abandon()
            raise

    @property
    def bytes_stored(self) -> int:
        return sum(row["size"] or 0 for row in self.rows)

    def add(self, made: Made, *, origin: str, came_from: str) -> None:
        """Settle a clip with what came of it; a success brings its file into the tar and removes it from the scratch.

        Raises OSError where the disk is full; then the clip is not settled, and the unit can still be committed.
        """
        row: dict[str, Any] = dict.fromkeys(MEDIA_SCHEMA.names)
        row |= {"clip_id": made.clip_id, "origin": origin, "came_from": utf_8(came_from)}
        row["settled_at"] = datetime.now(timezone.utc)
        if made.failure is not None:
            self.carry(row | {"failure": made.failure, "message": utf_8(made.message or "")}, None)
            return
        assert made.path is not None
        assert made.measured is not None
        media = Path(made.path).read_bytes()
        row |= vars(made.measured) | {"flags": list(made.flags), "suffix": made.suffix, "size": len(media)}
        row |= {key: getattr(made, key) for key in FRAME_KEYS}
        row["sha256"] = hashlib.sha256(media).hexdigest()
        self.carry(row, media)
        Path(made.path).unlink()

    def carry(self, row: dict[str, Any], media: bytes | None) -> None:
        """Take over a settled clip: its row (MEDIA_SCHEMA, but for its place in a tar) and its bytes, if it has any.
        Without bytes, a row that names a tar names one of the store."""
        if media is not None:
            tar, offset = self._append(row, media)
            row = row | {"tar": tar, "offset": offset}
        self.rows.append(row)

    def drop_failures(self) -> list[str]:
        """Leave the clips that failed unsettled; returns the classes of their failures."""
        failed = [row["failure"] for row in self.rows if row["failure"]]
        self.rows = [row for row in self.rows if not row["failure"]]
        return failed

    def commit(self, metadata: dict[str, Any], *, name: str | None = None) -> str:
        """Give the tars their names, then write the media file; returns the unit's name, which is `name`, or by default
        that of its clips. Killed in between, tars are left that no row names: the unit, done again, gives them the same
        names. Raises RemoteError where a remote store does not take them."""
        self._end_tar()
        unit = name or unit_name(self._name, (_settled_as(row) for row in self.rows))
        filled = {row["tar"] for row in self.rows}  # where the disk was full, a tar may have remained empty
        tars = [path for path in self._tars if path.name in filled]
        names = {path.name: f"{unit}-{number}-{sha8(path)}.tar" for number, path in enumerate(tars)}
        self._write_rows([{**row, "tar": names.get(row["tar"], row["tar"])} for row in self.rows], metadata)
        self._publish({path: names[path.name] for path in tars}, f"{unit}.parquet")
        shutil.rmtree(self._scratch, ignore_errors=True)
        return unit

    def _publish(self, tars: dict[Path, str], media_file: str) -> None:
        tars_folder, media_folder = self._store.tars_folder, self._store.media_folder
        if not (isinstance(tars_folder, Path) and isinstance(media_folder, Path)):
            for path, name in tars.items():
                put(path, tars_folder / name)
            put(self._reserve, media_folder / media_file)
            return
        for path, name in tars.items():
            tars_folder.mkdir(parents=True, exist_ok=True)
            path.rename(tars_folder / name)
        if tars:
            _sync_folder(tars_folder)  # a power cut must not keep the rows and lose the tars
        media_folder.mkdir(parents=True, exist_ok=True)
        self._reserve.replace(media_folder / media_file)

    def abandon(self) -> None:
        """Remove what was gathered."""
        if self._tar is not None:
            with contextlib.suppress(OSError):  # what its buffer holds may have no room
                self._tar.close()
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _write_rows(self, rows: list[dict[str, Any]], metadata: dict[str, Any]) -> None:
        """Write the rows over the bytes that were kept back: to free those first would let another writer take them."""
        table = pa.Table.from_pylist(rows, schema=MEDIA_SCHEMA)
        about = {**metadata, "schema_version": SCHEMA_VERSION, EVENLY_STORED: all(map(_evenly_stored, rows))}
        about["sha256"] = unit_digest(table, about)
        table = table.replace_schema_metadata({METADATA_KEY: json.dumps(about).encode()})
        content = pa.BufferOutputStream()
        pa.parquet.write_table(table, content, compression=MEDIA_COMPRESSION)
        with self._reserve.open("r+b") as file:
            file.write(content.getvalue())
            file.truncate()
            file.flush()
            os.fsync(file.fileno())

    def _append(self, row: dict[str, Any], media: bytes) -> tuple[str, int]:
        """Append a sample to the tar; the tar's present name and where the media begins in it."""
        if self._tar is None:
            path = self._scratch / f"{len(self._tars)}.tar"
            self._tar = path.open("wb")
            self._tars.append(path)
        start = self._tar.tell()
        keys = SIDECAR_KEYS + (FRAME_KEYS if row.get("frame_offsets") else ())
        sidecar = json.dumps({key: row[key] for key in keys}).encode()
        try:
            offset = start + write_member(self._tar, f"{row['clip_id']}.{row['suffix']}", media)
            write_member(self._tar, f"{row['clip_id']}.json", sidecar)
            end = self._tar.tell()
            self._tar.write(_TAR_END)  # already now: later there may be no room for it
            self._tar.flush()
            self._tar.seek(end)
        except OSError:
            self._tar = _cut_back(self._tar, start)
            raise
        name = self._tars[-1].name
        if self._tar.tell() >= TAR_BYTES:
            self._end_tar()
        return name, offset

    def _end_tar(self) -> None:
        if self._tar is None:
            return
        os.fsync(self._tar.fileno())
        self._tar.close()
        self._tar = None


def _settled_as(row: dict[str, Any]) -> str:
    return f"{row['clip_id']} {row['failure']}" if row["failure"] else str(row["clip_id"])


def _evenly_stored(row: dict[str, Any]) -> bool:
    indices = row["frame_indices"]
    return indices is None or list(indices) == stored_indices(row["num_frames"], len(indices)).tolist()


def write_member(file: IO[bytes] | HashedFile, name: str, data: bytes) -> int:
    """Append a member with nothing in its header but name and size, so that equal clips make equal tars.

    Returns how many bytes its header has.
    """
    info = tarfile.TarInfo(name)
    info.size = len(data)
    info.mode = 0o644
    header = info.tobuf(tarfile.USTAR_FORMAT)
    file.write(header)
    file.write(data)
    file.write(bytes(-len(data) % tarfile.BLOCKSIZE))
    return len(header)


def _cut_back(file: IO[bytes], size: int) -> IO[bytes]:
    """The tar without what could not be written whole. What its buffer still holds must not follow it."""
    path = Path(file.name)
    with contextlib.suppress(OSError):
        file.close()
    again = path.open("r+b")
    again.seek(size)
    if size:
        again.write(_TAR_END)  # where the end was before, so it needs no room
    again.truncate()
    again.seek(size)
    return again


def utf_8(text: str) -> str:
    """Text that a table takes: the bytes of file and member names that are no UTF-8 are written out."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def is_disk_full(error: OSError) -> bool:
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def sha8(path: Path) -> str:
    """The first 8 digits of a file's SHA-256."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()[:8]


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
