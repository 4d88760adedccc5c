"""Reading at random from many files: on a disk the last ones stay open; at a URL each read is one ranged request."""

from __future__ import annotations

import errno
import os
import stat
import weakref
from pathlib import Path
from typing import Any

from k710.storage.remote import RemotePath
from k710.storage.storage import Location

_OPEN_FILES = 128


def open_media(path: Path) -> int:
    """A descriptor of a media file. All media files are opened here. Raises OSError."""
    # Not blocking: opening a pipe would wait for ever. For a file it makes no difference.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "a pipe, a socket, a device or a folder, no file", str(path))
    return descriptor


class LocalFiles:
    """Files of a folder, by descriptors."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._open: dict[str, int] = {}  # the last one used is the last
        weakref.finalize(self, _close, self._open)  # not __del__: when a process ends, `os` may be gone before

    def __reduce__(self) -> tuple[Any, ...]:
        return LocalFiles, (self.folder,)  # a worker opens its own

    def read(self, file: str, start: int, size: int | None = None) -> bytes:
        """`size` bytes (default: all) from `start`, fewer where the file ends before. Raises OSError."""
        descriptor = self._descriptor(file)
        if size is None:
            size = os.fstat(descriptor).st_size - start
        found = b""
        while len(found) < size and (piece := os.pread(descriptor, size - len(found), start + len(found))):
            found = found + piece if found else piece
        return found

    def _descriptor(self, file: str) -> int:
        descriptor = self._open.pop(file, None)
        if descriptor is None:
            descriptor = open_media(self.folder / file)
        self._open[file] = descriptor
        if len(self._open) > _OPEN_FILES:
            os.close(self._open.pop(next(iter(self._open))))
        return descriptor


def _close(files: dict[str, int]) -> None:
    for descriptor in files.values():
        os.close(descriptor)


class RemoteFiles:
    """Objects under a URL, a request for each read."""

    def __init__(self, folder: RemotePath) -> None:
        self.folder = folder

    def read(self, file: str, start: int, size: int | None = None) -> bytes:
        """`size` bytes from `start`, fewer where the object ends before. Raises FileNotFoundError or RemoteError."""
        assert size is not None
        return (self.folder / file).read_range(start, size)


def files_in(folder: Location) -> LocalFiles | RemoteFiles:
    """Reads at random from the files in `folder`."""
    return RemoteFiles(folder) if isinstance(folder, RemotePath) else LocalFiles(folder)
