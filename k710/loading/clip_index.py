"""Where every clip of a dataset is: columns in one file, which readers map into memory.

The file is in the cache folder. It is made of manifest and store once, and again when either has changed. A process
holds its path and a mapping, so that copies for workers cost nothing and all of them share the pages.

It is an Arrow file with 20 bytes behind it: a mark, the size of the Arrow file and its CRC-32. Arrow itself notices no
changed byte. Who opens a dataset reads the whole file once and compares: CRC-32, because zlib computes it at 4 GB/s
where the processor helps and 1 GB/s elsewhere, several times faster than the hashes of hashlib, and because chance
and not an enemy damages a cache. The file's pages are then in memory, where workers map them. A worker gets the path of
a file that was just compared, so it compares the size alone: a file that was cut off would end its process.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import json
import os
import struct
import weakref
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from k710.errors import LoadError
from k710.random_key import Ints
from k710.storage.download import cache_folder
from k710.storage.storage import replacing
from k710.store.stored_frames import stored_indices
from k710.text import os_error_text

# Of the file's form. Before 2, the folder of the clips could be a relative path; before 3, there was no checksum.
_VERSION = 3
_END = struct.Struct("<8sQI")
_MARK = b"k710-end"
_PIECE_BYTES = 1 << 20
NO_CLASS = -1
INDEX_SCHEMA = pa.schema(
    [
        pa.field("clip_id", pa.string()),
        pa.field("class_id", pa.int16()),  # of the view, in the dialect; -1 without label
        pa.field("file", pa.dictionary(pa.int32(), pa.string())),  # a tar, or a file of its own
        pa.field("offset", pa.int64()),
        pa.field("size", pa.int64()),  # -1: to the end of the file
        pa.field("digest", pa.uint64()),  # the first 16 digits of the SHA-256; 0: not known
        pa.field("num_frames", pa.int32()),
        # Views, because their numbers can stay in the order in which the store has them: to sort them takes longest.
        pa.field("frame_offsets", pa.list_view(pa.int32())),
        pa.field("frame_indices", pa.list_view(pa.int32())),  # null where they are those of stored_indices
    ]
)


class _DamagedError(ValueError):
    """An index whose bytes are not those that were written."""


class Place(NamedTuple):
    """Where a clip is. Of stored frames, `frame_offsets` (k,) says where each begins and `frame_indices` (k,) which
    frame of the clip it is."""

    clip_id: str
    class_id: int
    file: str
    offset: int
    size: int
    digest: int
    num_frames: int
    frame_offsets: Ints | None
    frame_indices: Ints | None


class ClipIndex:
    """The clips of a dataset by their position, in clip_id order. Every process opens the file by its path, and the
    file is kept as long as one of them has it open. Raises LoadError for a file that is damaged; `is_new`: it was just
    written, so its checksum is not computed again."""

    def __init__(self, path: Path, *, is_new: bool = False) -> None:
        self.path = path
        self._open(checked=not is_new)

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.path = state["path"]
        self._open(checked=False)

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __getitem__(self, position: int) -> Place:
        """The place of a clip. Raises IndexError beyond the last one."""
        if not 0 <= position < len(self):
            raise IndexError(f"clip {position} of {len(self)}")
        offset, size, digest, num_frames = (int(column[position]) for column in self._numbers)
        file = self._files[self._file[position]].as_py()
        clip_id, class_id = self._clip_ids[position].as_py(), int(self.class_ids[position])
        frame_offsets, frame_indices = (column(position) for column in self._lists)
        if frame_offsets is not None and frame_indices is None:
            frame_indices = stored_indices(num_frames, len(frame_offsets))
        return Place(clip_id, class_id, file, offset, size, digest, num_frames, frame_offsets, frame_indices)

    @property
    def clip_ids(self) -> pa.Array:
        """(clips,) the clip ids, as an Arrow array."""
        return self._clip_ids

    def _open(self, *, checked: bool) -> None:
        with contextlib.suppress(OSError):  # some file systems have no locks
            held = os.open(self.path, os.O_RDONLY)
            weakref.finalize(self, os.close, held)
            fcntl.flock(held, fcntl.LOCK_SH)
        try:
            with self.path.open("rb") as file:
                size_bytes = _checked_size(file, whole=checked)
            mapped = pa.memory_map(str(self.path)).read_buffer(size_bytes)
            self._table = pa.ipc.open_file(mapped).read_all()
            self.about: dict[str, Any] = json.loads((self._table.schema.metadata or {})[b"k710"])
        except (OSError, pa.ArrowException, KeyError, ValueError) as error:
            raise LoadError(f"{self.path}: the index of the dataset cannot be read ({error}); open it again") from None
        column = {name: _one(self._table[name]) for name in INDEX_SCHEMA.names}
        self._clip_ids = column["clip_id"]
        self.class_ids: npt.NDArray[np.int16] = column["class_id"].to_numpy()
        self._files, self._file = column["file"].dictionary, column["file"].indices.to_numpy()
        self._numbers = [column[name].to_numpy() for name in ("offset", "size", "digest", "num_frames")]
        self._lists = [_list_reader(column[name]) for name in ("frame_offsets", "frame_indices")]


def cached_index(facts: Any, slot: Any, make: Callable[[], pa.Table]) -> ClipIndex:
    """The index for `facts`, a JSON value of everything it depends on; `make` makes its table where there is none or a
    damaged one.

    An older index of the same `slot`, made for other facts, is removed unless a process has it open, so that the cache
    does not grow while a store fills. Raises LoadError where the index cannot be written.
    """
    folder = cache_folder() / "index"
    mine = f"{_hash(slot)}-"
    path = folder / f"{mine}{_hash([_VERSION, facts])}.arrow"
    if path.exists():
        with contextlib.suppress(LoadError):
            return ClipIndex(path)
    table = make()
    pa.default_memory_pool().release_unused()  # training may take weeks and must not hold this memory
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(path, synced=False) as file:
            _write(table, file)
    except OSError as error:
        raise LoadError(
            f"{folder}: the index of the dataset cannot be written there ({os_error_text(error)}); make room, or "
            f"set K710_CACHE to another folder"
        ) from None
    for old in folder.glob(f"{mine}*.arrow"):
        if old != path:
            _remove_if_unread(old)
    return ClipIndex(path, is_new=True)


class _Summed:
    """Passes written bytes on to a file, and computes their CRC-32 and number."""

    closed = False

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.crc, self.size_bytes = file, 0, 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.crc = zlib.crc32(data, self.crc)
        self.size_bytes += len(data)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()


def _write(table: pa.Table, file: IO[bytes]) -> None:
    summed = _Summed(file)
    with pa.ipc.new_file(summed, table.schema) as writer:
        writer.write_table(table)
    file.write(_END.pack(_MARK, summed.size_bytes, summed.crc))


def _checked_size(file: IO[bytes], *, whole: bool) -> int:
    """The size of the Arrow file in an index. `whole`: compare its bytes with their checksum, too. Raises
    _DamagedError."""
    size_bytes = file.seek(0, os.SEEK_END) - _END.size
    if size_bytes < 0:
        raise _DamagedError("it is cut off")
    file.seek(size_bytes)
    mark, recorded_bytes, recorded_crc = _END.unpack(file.read(_END.size))
    if mark != _MARK or recorded_bytes != size_bytes:
        raise _DamagedError("its end is missing")
    if whole:
        file.seek(0)
        crc, piece = 0, bytearray(_PIECE_BYTES)  # not of the mapping: its pages would count as this process's memory
        for start in range(0, size_bytes, _PIECE_BYTES):
            count = file.readinto(memoryview(piece)[: size_bytes - start])  # type: ignore[attr-defined]
            crc = zlib.crc32(memoryview(piece)[:count], crc)
        if crc != recorded_crc:
            raise _DamagedError("its bytes do not match their checksum")
    return size_bytes


def _remove_if_unread(path: Path) -> None:
    """A process that has the index open may still have to start workers, which open it by its path."""
    with contextlib.suppress(OSError):
        handle = os.open(path, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
        finally:
            os.close(handle)


def index_table(columns: dict[str, pa.Array], about: dict[str, Any]) -> pa.Table:
    """An index of `columns` (INDEX_SCHEMA; those left out are null), each in one piece, with `about` as metadata."""
    size = len(columns["clip_id"])
    filled = {name: columns.get(name, pa.nulls(size, INDEX_SCHEMA.field(name).type)) for name in INDEX_SCHEMA.names}
    about = {**about, "fingerprint": _fingerprint(filled)}
    table = pa.table({name: _one(column) for name, column in filled.items()}, schema=INDEX_SCHEMA)
    return table.replace_schema_metadata({b"k710": json.dumps(about).encode()})


def _fingerprint(columns: dict[str, pa.Array]) -> str:
    """SHA-256 over the clips, their classes and bytes. A run records it, to say what it was trained on."""
    digest = hashlib.sha256()
    digest.update(joined(_one(columns["clip_id"]), "\n"))
    for name in ("class_id", "digest"):
        digest.update(_one(columns[name]).to_numpy().tobytes())
    return digest.hexdigest()


def joined(column: pa.StringArray, separator: str) -> pa.Buffer:
    """`separator.join(column)` in UTF-8, without a Python object per row."""
    return pc.binary_join(pa.ListArray.from_arrays([0, len(column)], column), separator)[0].as_buffer()


def lists_of_rows(column: pa.ChunkedArray, row: npt.NDArray[np.int64]) -> pa.ListViewArray:
    """(rows,) the lists of these rows of a list<int32> column. Their numbers stay in the order of the column."""
    type_ = pa.list_view(pa.int32())
    if column.null_count == len(column):
        return pa.nulls(len(row), type_)
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy()
    # Without those of null. By NumPy, which asks for huge pages: to touch new memory takes longest here.
    values = pa.array(np.concatenate([chunk.flatten().to_numpy() for chunk in column.chunks]))
    taken = np.zeros(len(column), bool)
    taken[row] = True
    if not taken.all():
        values = pa.array(values.to_numpy()[np.repeat(taken, lengths)])
        lengths = np.where(taken, lengths, 0)
    begins = np.cumsum(lengths, dtype=np.int64) - lengths
    empty = column.is_null().to_numpy()[row]
    return pa.ListViewArray.from_arrays(
        pa.array(begins[row], pa.int32()), pa.array(lengths[row], pa.int32()), values, type=type_, mask=pa.array(empty)
    )


def _list_reader(column: pa.ListViewArray) -> Callable[[int], Ints | None]:
    """Rows of a list column without a Python object per number."""
    if column.null_count == len(column):
        return lambda position: None
    begins, lengths, values = column.offsets.to_numpy(), column.sizes.to_numpy(), column.values.to_numpy()
    valid = None if not column.null_count else column.is_valid().to_numpy(zero_copy_only=False)
    return functools.partial(_list_row, begins, lengths, values, valid)


def _list_row(begins: Any, lengths: Any, values: Any, valid: Any, position: int) -> Ints | None:
    if valid is not None and not valid[position]:
        return None
    begin = begins[position]
    return np.asarray(values[begin : begin + lengths[position]], np.int64)


def _one(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """A column in one piece."""
    if not isinstance(column, pa.ChunkedArray):
        return column
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _hash(value: Any) -> str:
    text = json.dumps(value, default=os.fspath)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]
