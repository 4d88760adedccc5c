"""Locations, and files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import os
import re
import secrets
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, TypeAlias
from urllib.parse import unquote

from k710.errors import BusyError, MachineError, UsageError
from k710.storage.remote import RemotePath
from k710.text import os_error_text

# The place of a manifest or a store. A place on this machine is a plain pathlib.Path.
Location: TypeAlias = Path | RemotePath

# A temporary file is in the folder of its final name, so that the last step is a rename. A killed run may leave some.
TEMPORARY_PREFIX = ".tmp-"
_NO_KEYS = "a URL must not contain a key or password; docs/remote.md lists the places for credentials"

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)(://|::.*://)")
# `user@` alone is a user of sftp:// or a container of abfs://. A colon and a number are a port.
_KEY = re.compile(r"://([^/@]*:(?!\d+/)[^@]*|(?<=ttp://)[^/@]*|(?<=ttps://)[^/@]*)@", re.IGNORECASE)
_TRIES = 9  # for a folder that another process removes at the same time


def location(path: str | os.PathLike[str] | RemotePath) -> Location:
    """`path` as a place on this machine, or at a URL that fsspec reads; `file://` is this machine. Nothing is read yet.

    Raises UsageError for a chained URL, a URL with a password or without a place, and for a name that is not UTF-8,
    because pyarrow cannot open it.
    """
    if isinstance(path, RemotePath):
        return path
    text = os.fspath(path)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{text!r}: the name is not UTF-8; rename it") from None
    url = _URL.match(text)
    if url is None:
        return Path(path)
    if _KEY.search(text):
        hidden = _KEY.sub("://…@", text)
        raise UsageError(f"{hidden}: {_NO_KEYS}")
    if "::" in text:
        raise UsageError(f"{text}: chained URLs (::) are not supported; give the URL of the place itself")
    inside = text[url.end() :]
    if url[1].lower() in ("file", "local"):
        # Not urlsplit: the name of a folder may contain `#` and `?`.
        if not inside.startswith("/"):
            raise UsageError(f"{text}: a file:// URL needs an absolute path, such as file:///data/k710")
        return Path(unquote(inside))
    if not inside.strip("/"):
        raise UsageError(f"{text}: names no place; a URL looks like s3://bucket/k710")
    return RemotePath(f"{url[1].lower()}://{inside}")


def local_folder(path: str | os.PathLike[str] | RemotePath, what: str) -> Path:
    """`path` as a folder of this machine. Raises UsageError for a URL."""
    found = location(path)
    if isinstance(found, RemotePath):
        raise UsageError(f"{found}: a {what} must be a folder of this machine; mount it, or copy it here")
    return found


@contextlib.contextmanager
def replacing(path: Location, *, synced: bool = True) -> Iterator[IO[bytes]]:
    """A binary file that gets the name `path` when the block ends without an error; until then the old `path` stays.

    Not `synced`, it may be torn after the machine loses its power: for a file that its readers check and can make
    again. An OSError (disk full, no permission) names `path`, and the temporary file is removed. Raises UsageError for
    a device or a pipe, because root would replace /dev/null with a file.
    """
    if isinstance(path, Path) and _is_device_or_pipe(path):
        raise UsageError(f"{path}: is a device or a pipe, which a file would replace; choose another name")
    with _temporary(path.parent, lambda: path, shown_as=path, synced=synced) as file:
        yield file


@contextlib.contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """As `replacing`, for a folder: an empty one that gets the name `path` when the block ends without an error.

    What is at `path` is removed then. An OSError names `path`.
    """
    try:
        with tempfile.TemporaryDirectory(prefix=TEMPORARY_PREFIX, dir=path.parent) as private:
            whole, old = Path(private) / "new", Path(private) / "old"
            whole.mkdir()  # so with the permissions that folders have here
            yield whole
            for file in whole.rglob("*"):
                if file.is_file():
                    with file.open("rb") as written:
                        os.fsync(written.fileno())
            try:
                if path.exists():
                    path.rename(old)
                whole.rename(path)
            except BaseException:
                if old.exists() and not path.exists():
                    old.rename(path)
                raise
    except OSError as error:
        error.filename = str(path)
        raise


@contextlib.contextmanager
def alone(lock: Path, *, needed: bool = True) -> Iterator[None]:
    """Wait until no other process is in such a block with the same `lock`, a file that exists during the block.

    The lock ends with its process, so no stale lock is left. Raises MachineError if the file system has no locks,
    unless the block works without one (not `needed`).
    """
    while True:
        with _open_lock(lock) as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX)
            except OSError as error:
                if needed:
                    message = f"{lock}: this file system has no locks ({os_error_text(error)}); use another"
                    raise MachineError(message) from error
            if not _is_at(lock, handle.fileno()):
                continue  # the process that had the lock has deleted it
            try:
                yield
            finally:
                lock.unlink(missing_ok=True)
            return


@contextlib.contextmanager
def held(target: Location, lock: Path | None = None) -> Iterator[None]:
    """Let only this process write `target`, a folder or a file, during the block.

    `lock` is a file that exists during the block, by default `.NAME.lock` next to the target. For a URL it must be
    given. Raises BusyError at once if another process has the lock. On a file system without locks, nothing is locked.
    """
    if isinstance(target, Path) and _is_device_or_pipe(target):  # the function that writes it refuses it
        yield
        return
    lock = _lock_beside(Path(str(target))) if lock is None else lock
    try:
        with new_folder(lock.parent):
            while True:
                with _open_lock(lock) as handle:
                    try:
                        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    except BlockingIOError:
                        raise BusyError(
                            f"{target}: another process is writing there; wait until it ends, or choose another --out"
                        ) from None
                    except OSError:  # no locks
                        pass
                    if not _is_at(lock, handle.fileno()):
                        continue  # the process that had the lock has just deleted it
                    try:
                        yield
                    finally:
                        lock.unlink(missing_ok=True)
                    return
    except OSError as error:
        if error.filename == str(lock):
            error.filename = str(target)
        raise


def _lock_beside(target: Path) -> Path:
    path = target.resolve()
    return path.with_name(f".{path.name}.lock") if path.name else path / ".lock"


def _open_lock(lock: Path) -> IO[str]:
    """Open the lock. Its folder is created again if another process removes it at this moment, because that process
    had created it and failed."""
    for _ in range(_TRIES - 1):
        with contextlib.suppress(FileNotFoundError):
            lock.parent.mkdir(parents=True, exist_ok=True)
            return lock.open("a")
    return lock.open("a")


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return path.stat().st_ino == os.fstat(descriptor).st_ino
    except FileNotFoundError:
        return False


def _is_device_or_pipe(path: Path) -> bool:
    if path.is_symlink() and path.readlink().is_relative_to("/proc"):  # /dev/stdout, whatever it is at the moment
        return True
    return path.exists() and not (path.is_file() or path.is_dir())


class HashedFile(io.RawIOBase):
    """Passes written bytes on to a file, if there is one, and computes their SHA-256 and size."""

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
    """As `replacing`, but the name depends on the content: `pattern` with {} for 16 digits of its SHA-256."""
    hashed = HashedFile()
    with _temporary(folder, lambda: folder / pattern.format(hashed.sha256[:16]), shown_as=folder) as file:
        hashed = HashedFile(file)
        yield hashed


@contextlib.contextmanager
def new_folder(folder: Location) -> Iterator[None]:
    """Create `folder` and its parents. If the block fails, remove those that were created and are still empty.

    At a URL nothing is created: a folder exists as long as it contains something.
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
    """Move a finished file to its place in one step: rename it, or upload it whole to a URL and remove it here."""
    if isinstance(target, RemotePath):
        target.put(local)
        local.unlink()
    else:
        local.replace(target)


@contextlib.contextmanager
def _temporary(
    folder: Location, final_path: Callable[[], Location], *, shown_as: Location, synced: bool = True
) -> Iterator[IO[bytes]]:
    if isinstance(folder, RemotePath):
        # The file is finished here and uploaded whole. An open remote file would be published even if its writer fails.
        with tempfile.TemporaryDirectory(prefix="k710-") as here:
            finished = Path(here) / "finished"
            with finished.open("wb") as file:
                yield file
            put(finished, final_path())
        return
    try:
        name = str(folder / f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}")
        # Not mkstemp: its files are readable by the owner only. Reading the umask means setting it, for all threads.
        handle = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
                file.flush()
                if synced:
                    os.fsync(file.fileno())
            put(Path(name), final_path())
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        error.filename = str(shown_as)
        raise
