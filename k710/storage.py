"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from k710.errors import UsageError

# Temporary files stand beside their final name, so that the last step is a rename; a killed run may leave some.
TEMPORARY_PREFIX = ".tmp-"

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


def local_folder(path: str | os.PathLike[str], what: str) -> Path:
    """`path` as a folder of this machine. Raises UsageError for a URL: remote file systems are not read yet."""
    if _URL.match(os.fspath(path)):
        raise UsageError(f"{os.fspath(path)}: a {what} must be a folder of this machine; mount it, or copy it here")
    return Path(path)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A binary file that takes the name `path` only when the block ends well; until then the old `path` stays.

    An OSError (disk full, no permission) names `path`, and the temporary file is removed.
    """
    with _temporary(path.parent, lambda: path, shown_as=path) as file:
        yield file


class HashedFile(io.RawIOBase):
    """Passes on what is written, if to anywhere, and keeps its SHA-256 and size."""

    def __init__(self, file: IO[bytes] | None = None) -> None:
        self._file = file
        self._sha256 = hashlib.sha256()
        self.size_bytes = 0

    @property
    def sha256(self) -> str:
        return self._sha256.hexdigest()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._sha256.update(data)
        self.size_bytes += len(data)
        return len(data) if self._file is None else self._file.write(data)


@contextlib.contextmanager
def named_by_hash(folder: Path, pattern: str) -> Iterator[HashedFile]:
    """As `replacing`, but the file's name carries its content: `pattern` with {} for 16 digits of its SHA-256."""
    hashed = HashedFile()
    with _temporary(folder, lambda: folder / pattern.format(hashed.sha256[:16]), shown_as=folder) as file:
        hashed = HashedFile(file)
        yield hashed


@contextlib.contextmanager
def new_folder(folder: Path) -> Iterator[None]:
    """Make `folder` and its parents; when the block fails, remove again those that were made and are still empty."""
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for path in made:
            with contextlib.suppress(OSError):
                path.rmdir()
        raise


@contextlib.contextmanager
def _temporary(folder: Path, final_path: Callable[[], Path], *, shown_as: Path) -> Iterator[IO[bytes]]:
    try:
        name = str(folder / f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}")
        # Not mkstemp: it lets only the owner in, and asking for the umask means setting it, for all threads.
        handle = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(final_path())
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        error.filename = str(shown_as)
        raise
