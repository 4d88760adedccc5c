"""Which video files a folder has, and what a look into each of them finds.

Each file is looked into once (decoders/video_file.py): what its container says of its length, whether its first picture
decodes, whether it is whole. What was found is kept in the cache folder, and a file is looked into again when its size
or its time of change is another. Files that cannot be used are left out, each with its reason.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from k710.errors import LoadError
from k710.lists.own_rows import VIDEO_SUFFIXES
from k710.loading.decoders.video_file import probe
from k710.loading.media.open_files import open_media
from k710.storage.download import cache_folder
from k710.storage.storage import alone, replacing
from k710.text import counted, os_error_text, printable

_VERSION = 1  # of what is kept, and of what a look finds
_ENDS_BYTES = 1 << 16
_KEPT_AFTER = 4096  # files
_SCHEMA = pa.schema(
    [
        pa.field("file", pa.string()),  # below the folder, with /
        pa.field("size", pa.int64()),
        pa.field("changed_ns", pa.int64()),
        pa.field("digest", pa.uint64()),  # of its size, its first and its last 64 KiB
        pa.field("num_frames", pa.int64()),
        pa.field("start_s", pa.float64()),
        pa.field("rate", pa.float64()),
        pa.field("problem", pa.string()),  # null: it can be used
    ]
)


class FoundVideos(NamedTuple):
    """The files of a folder: `usable` (_SCHEMA, sorted by file), the problems of those left out by file, and how many
    other files there are, which have no suffix of a video."""

    usable: pa.Table
    left_out: dict[str, str]
    num_others: int


def find_videos(folder: Path, *, say: Callable[[str], None] = lambda line: None) -> FoundVideos:
    """Every file below `folder` that has the suffix of a video, looked into where that has not been done before.

    Hidden files and folders are passed over; links to folders are left out too, by name. Raises LoadError where it is
    no folder, and where no file can be used.
    """
    if not folder.is_dir():
        raise LoadError(f"{folder}: no folder of videos")
    folder = folder.resolve()
    kept_at = cache_folder() / "videos" / f"{hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]}.arrow"
    kept_at.parent.mkdir(parents=True, exist_ok=True)
    # Processes of one run begin together: one looks, the others find what it kept.
    with alone(kept_at.with_suffix(".lock"), needed=False):
        table, unnamed, num_others = _looked_into(folder, kept_at, say)
    usable = table.filter(pc.is_null(table["problem"]))
    broken = table.filter(pc.is_valid(table["problem"]))
    left_out = dict(zip(broken["file"].to_pylist(), broken["problem"].to_pylist(), strict=True)) | unnamed
    if not len(usable):
        reasons = f": {left_out_text(left_out)}" if left_out else f"; looked for {', '.join(VIDEO_SUFFIXES)}"
        raise LoadError(f"{folder}: holds no video that can be used{reasons}")
    return FoundVideos(usable.combine_chunks(), left_out, num_others)


def left_out_text(left_out: dict[str, str]) -> str:
    """How many files are left out, and the first three with their reasons."""
    first = "; ".join(f"{printable(file)}: {why}" for file, why in itertools.islice(sorted(left_out.items()), 3))
    more = f"; and {len(left_out) - 3:,} more" if len(left_out) > 3 else ""
    return f"{counted(len(left_out), 'file')} left out: {first}{more}"


def _looked_into(folder: Path, kept_at: Path, say: Callable[[str], None]) -> tuple[pa.Table, dict[str, str], int]:
    """_SCHEMA of all files that can be named in it, sorted; the problems of the others; the number of other files."""
    kept = _kept(kept_at)
    row_of = dict(zip(kept["file"].to_pylist(), itertools.count()))
    sizes, times = (kept[name].to_numpy() for name in ("size", "changed_ns"))
    known: list[int] = []
    new: list[str] = []
    unnamed: dict[str, str] = {}
    num_others = 0
    for name, state in _files(folder):
        row = row_of.get(name)
        if state is None:
            num_others += 1
        elif stat.S_ISDIR(state.st_mode):
            unnamed[printable(name)] = "a link to a folder, which is not followed"
        elif not _is_text(name):
            unnamed[printable(name)] = "its name is not UTF-8"
        elif row is not None and (sizes[row], times[row]) == (state.st_size, state.st_mtime_ns):
            known.append(row)
        else:
            new.append(name)
    table = kept.take(pa.array(known, pa.int64()))
    if new:
        say(f"{folder}: looking into {counted(len(new), 'video')}")
    with ThreadPoolExecutor(os.cpu_count() or 1) as threads:
        for start in range(0, len(new), _KEPT_AFTER):  # a stop loses no more than these
            rows = list(threads.map(partial(_look, folder), new[start : start + _KEPT_AFTER]))
            table = pa.concat_tables([table, pa.Table.from_pylist(rows, _SCHEMA)])
            _keep(kept_at, table)
    table = table.sort_by("file")  # whatever was kept, and in whichever order the files were found
    if not new and len(known) != len(kept):
        _keep(kept_at, table)
    return table, unnamed, num_others


_MARK = {b"k710": str(_VERSION).encode()}


def _keep(path: Path, table: pa.Table) -> None:
    with replacing(path) as file, pa.ipc.new_file(file, _SCHEMA.with_metadata(_MARK)) as writer:
        writer.write_table(table.replace_schema_metadata(_MARK))


def _kept(path: Path) -> pa.Table:
    """What was kept of an earlier look; nothing where that is damaged or of another form."""
    try:
        with pa.OSFile(str(path)) as file:
            table = pa.ipc.open_file(file).read_all()
    except (OSError, pa.ArrowException):
        return _SCHEMA.empty_table()
    return table if table.schema.equals(_SCHEMA) and table.schema.metadata == _MARK else _SCHEMA.empty_table()


def _files(folder: Path) -> Iterator[tuple[str, os.stat_result | None]]:
    """Every file that is not hidden and every link to a folder, by its path below `folder`; without its state where it
    is not named a video."""
    for above, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for linked in (path for path in map(Path(above).joinpath, folders) if path.is_symlink()):
            yield linked.relative_to(folder).as_posix(), linked.stat()
        for name in sorted(names):
            path = Path(above, name)
            inside = path.relative_to(folder).as_posix()
            if name.startswith("."):
                continue
            if path.suffix.lower() not in VIDEO_SUFFIXES:
                yield inside, None
                continue
            try:
                state = path.stat()
            except OSError:  # a link to nothing; the look says so
                state = path.lstat()
            yield inside, state


def _look(folder: Path, name: str) -> dict[str, Any]:
    """The row of a file."""
    row: dict[str, Any] = {"file": name, "size": -1, "changed_ns": 0}
    path = folder / name
    try:
        with os.fdopen(open_media(path), "rb") as file:
            state = os.fstat(file.fileno())
            row |= {"size": state.st_size, "changed_ns": state.st_mtime_ns, "digest": _digest(file, state.st_size)}
        row |= probe(path)._asdict()
    except LoadError as error:
        row["problem"] = str(error)
    except OSError as error:  # without the file's state, so it is looked at again the next time
        row["problem"] = os_error_text(error)
    return row


def _digest(file: Any, size: int) -> int:
    """Hashing all bytes would read the whole folder; files that were replaced differ at one of their ends."""
    digest = hashlib.sha256(str(size).encode())
    digest.update(file.read(_ENDS_BYTES))
    file.seek(max(size - _ENDS_BYTES, 0))
    digest.update(file.read(_ENDS_BYTES))
    return int(digest.hexdigest()[:16], 16)


def _is_text(name: str) -> bool:
    return name.isascii() or name.encode("utf-8", "replace").decode("utf-8") == name
