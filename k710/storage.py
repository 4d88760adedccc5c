"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import re
import secrets
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, TypeAlias
from urllib.parse import unquote, urlsplit

from k710.errors import UsageError
from k710.remote import RemotePath

# Where a manifest or a store is. A place on this machine stays a plain pathlib.Path.
Location: TypeAlias = Path | RemotePath

# Temporary files stand beside their final name, so that the last step is a rename; a killed run may leave some.
TEMPORARY_PREFIX = ".tmp-"

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)(://|::.*://)")


def location(path: str | os.PathLike[str] | RemotePath) -> Location:
    """`path` as a place on this machine, or at a URL that fsspec reads; `file://` is this machine. Nothing is asked of
    it yet. Raises UsageError for chained URLs."""
    if isinstance(path, RemotePath):
        return path
    url = _URL.match(text := os.fspath(path))
    if url is None:
        return Path(path)
    if "::" in text:
        raise UsageError(f"{text}: chained URLs (::) are not read; name the place itself")
    if url[1].lower() in ("file", "local"):
        return Path(unquote(urlsplit(text).path))
    return RemotePath(text)


def local_folder(path: str | os.PathLike[str] | RemotePath, what: str) -> Path:
    """`path` as a folder of this machine, for what cannot be at a URL. Raises UsageError for one that is."""
    found = location(path)
    if isinstance(found, RemotePath):
        raise UsageError(f"{found}: a {what} must be a folder of this machine; mount it, or copy it here")
    return found


@contextlib.contextmanager
def replacing(path: Location) -> Iterator[IO[bytes]]:
    """A binary file that takes the name `path` only when the block ends well; until then the old `path` stays.

    An OSError (disk full, no permission, a device or a pipe by that name) names `path`, and the temporary file is
    removed.
    """
    if isinstance(path, Path) and path.exists() and not (path.is_file() or path.is_dir()):
        raise OSError(errno.EINVAL, "is a device or a pipe, which no file may replace", str(path))
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
def named_by_hash(folder: Location, pattern: str) -> Iterator[HashedFile]:
    """As `replacing`, but the file's name carries its content: `pattern` with {} for 16 digits of its SHA-256."""
    hashed = HashedFile()
    with _temporary(folder, lambda: folder / pattern.format(hashed.sha256[:16]), shown_as=folder) as file:
        hashed = HashedFile(file)
        yield hashed


@contextlib.contextmanager
def new_folder(folder: Location) -> Iterator[None]:
    """Make `folder` and its parents; when the block fails, remove again those that were made and are still empty.

    At a URL there is nothing to make: folders are there as long as something is in them.
    """
    if isinstance(folder, RemotePath):
        yield
        return
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for path in made:
            with contextlib.suppress(OSError):
                path.rmdir()
        raise


def put(local: Path, target: Location) -> None:
    """Give a finished file its place, in one step: by its new name, or put whole at a URL, and then it goes here."""
    if isinstance(target, RemotePath):
        target.put(local)
        local.unlink()
    else:
        local.replace(target)


@contextlib.contextmanager
def _temporary(folder: Location, final_path: Callable[[], Location], *, shown_as: Location) -> Iterator[IO[bytes]]:
    if isinstance(folder, RemotePath):
        # Finished here, put whole: what is written into an open remote file is published when the writer fails, too.
        with tempfile.TemporaryDirectory(prefix="k710-") as here:
            finished = Path(here) / "finished"
            with finished.open("wb") as file:
                yield file
            put(finished, final_path())
        return
    try:
        name = str(folder / f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}")
        # Not mkstemp: it lets only the owner in, and asking for the umask means setting it, for all threads.
        handle = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            put(Path(name), final_path())
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        error.filename = str(shown_as)
        raise
