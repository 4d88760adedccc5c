"""Files that appear whole or not at all."""

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

# Where a manifest or a store is. A place on this machine stays a plain pathlib.Path.
Location: TypeAlias = Path | RemotePath

# Temporary files stand beside their final name, so that the last step is a rename; a killed run may leave some.
TEMPORARY_PREFIX = ".tmp-"
_NO_KEYS = "no key or password belongs into a URL; docs/remote.md tells where credentials are looked for"

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)(://|::.*://)")
# `user@` alone is a user of sftp://, or the container of abfs://; a colon and a number are a port.
_KEY = re.compile(r"://([^/@]*:(?!\d+/)[^@]*|(?<=ttp://)[^/@]*|(?<=ttps://)[^/@]*)@", re.IGNORECASE)
_TRIES = 9  # at a folder that another removes meanwhile


def location(path: str | os.PathLike[str] | RemotePath) -> Location:
    """`path` as a place on this machine, or at a URL that fsspec reads; `file://` is this machine. Nothing is asked of
    it yet. Raises UsageError for a chained URL, one with a password, one that names no place, and for a name that is
    not UTF-8, which pyarrow cannot open."""
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
        raise UsageError(f"{text}: chained URLs (::) are not read; name the place itself")
    inside = text[url.end() :]
    if url[1].lower() in ("file", "local"):
        # Not urlsplit: `#` and `?` may stand in a folder's name.
        if not inside.startswith("/"):
            raise UsageError(f"{text}: a file:// URL names a whole path, as file:///data/k710 does")
        return Path(unquote(inside))
    if not inside.strip("/"):
        raise UsageError(f"{text}: names no place; a URL is such as s3://bucket/k710")
    return RemotePath(f"{url[1].lower()}://{inside}")


def local_folder(path: str | os.PathLike[str] | RemotePath, what: str) -> Path:
    """`path` as a folder of this machine, for what cannot be at a URL. Raises UsageError for one that is."""
    found = location(path)
    if isinstance(found, RemotePath):
        raise UsageError(f"{found}: a {what} must be a folder of this machine; mount it, or copy it here")
    return found


@contextlib.contextmanager
def replacing(path: Location) -> Iterator[IO[bytes]]:
    """A binary file that takes the name `path` only when the block ends well; until then the old `path` stays.

    An OSError (disk full, no permission) names `path`, and the temporary file is removed. Raises UsageError for a
    device or a pipe: root would put a file in the place of /dev/null.
    """
    if isinstance(path, Path) and _is_device_or_pipe(path):
        raise UsageError(f"{path}: a device or a pipe, which a file would replace; choose another name")
    with _temporary(path.parent, lambda: path, shown_as=path) as file:
        yield file


@contextlib.contextmanager
def alone(lock: Path, *, needed: bool = True) -> Iterator[None]:
    """Wait until no other process is in such a block of the same `lock`, a file that is there for that time. The lock
    ends with its process, so none is ever left to break.

    Raises MachineError where the file system has no locks, unless the block may do without (not `needed`).
    """
    while True:
        with _open_lock(lock) as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX)
            except OSError as error:
                if needed:
                    said = f"{lock}: this file system has no locks ({os_error_text(error)}); use another"
                    raise MachineError(said) from error
            if not _is_at(lock, handle.fileno()):
                continue  # it waited for the one that has now deleted this lock
            try:
                yield
            finally:
                lock.unlink(missing_ok=True)
            return


@contextlib.contextmanager
def held(target: Location, lock: Path | None = None) -> Iterator[None]:
    """`target`, a folder or a file that is being written, as this process's alone for the time of the block.

    `lock` is a file that is there for that time, by default `.NAME.lock` beside the target; of a URL it must be given.

    Raises BusyError at once where another process has it. A file system without locks holds nobody back.
    """
    if isinstance(target, Path) and _is_device_or_pipe(target):  # refused by what writes it
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
                            f"{target}: another process is writing there; wait for its end, or take another --out"
                        ) from None
                    except OSError:  # no locks
                        pass
                    if not _is_at(lock, handle.fileno()):
                        continue  # the one that had it has just deleted it
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
    """The lock, in a folder that is made again where it goes at this moment: one that was new, and whose writer failed,
    takes it along."""
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
    if path.is_symlink() and path.readlink().is_relative_to("/proc"):  # /dev/stdout, whatever that is just now
        return True
    return path.exists() and not (path.is_file() or path.is_dir())


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
