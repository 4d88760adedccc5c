"""Files and folders at an fsspec URL (`s3://bucket/k710`), with the methods of pathlib that k710 needs.

No file system is kept open across a fork, which would not be safe: each process opens its own.
"""

from __future__ import annotations

import contextlib
import errno
import fnmatch
import hashlib
import io
import os
import re
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import total_ordering
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from k710.errors import RemoteError, UsageError

if TYPE_CHECKING:
    import fsspec

# Services that publish an uploaded object whole or not at all. Others publish a part of it if the connection breaks.
WHOLE_PUTS = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "memory"})
# In addition to the retries of the file system's own package.
DEFAULT_PATIENCE_S = 60.0
_LONGEST_PAUSE_S = 10.0
PIECE_BYTES = 8 << 20
_TOO_MANY = 429
# By default, s3fs holds ten pieces of 50 MiB of each file in transfer, and many units are transferred at once.
_FRUGAL = {"max_concurrency": 3, "default_block_size": 16 << 20}
_OPTIONS: dict[str, dict[str, Any]] = {"s3": _FRUGAL, "s3a": _FRUGAL}
# A forked worker drops the file systems of its parent. Kept here, they are not closed, which would end the parent's
# connections.
_held: dict[int, Any] = {}
_EXTRAS = {"s3": "k710[s3]", "s3a": "k710[s3]", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs"}
# Names of error classes. Importing the classes would load all the packages that define them.
_PASSING = frozenset({"ConnectionError", "TimeoutError", "HTTPClientError", "ClientError", "FSTimeoutError"})
_PASSING_ERRNOS = frozenset({errno.EBUSY, errno.EIO, errno.EAGAIN, getattr(errno, "EREMOTEIO", errno.EIO)})
_FINAL = (FileNotFoundError, PermissionError, FileExistsError, IsADirectoryError, NotADirectoryError)
_GONE = (404, 410)
# A HEAD answer has no reason. An expired token and a bucket in another region give these.
_BAD_REQUEST_ERRNOS = frozenset({errno.EINVAL, getattr(errno, "EREMCHG", errno.EINVAL)})

Found = TypeVar("Found")


@total_ordering
class RemotePath:
    """A place at a URL. Methods raise FileNotFoundError for a missing object, else RemoteError. They never raise
    another OSError, which callers would take for damage on a disk.

    A place that came from a listing has `size_bytes`, `version` (changes whenever the object changes) and `age_s`.
    """

    def __init__(self, url: str, entry: dict[str, Any] | None = None) -> None:
        self.url = url.rstrip("/")
        self._entry = entry

    def __str__(self) -> str:
        return self.url

    def __repr__(self) -> str:
        return f"RemotePath({self.url!r})"

    def __hash__(self) -> int:
        return hash(self.url)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemotePath) and self.url == other.url

    def __lt__(self, other: RemotePath) -> bool:
        return self.url < other.url

    def __truediv__(self, inside: str | os.PathLike[str]) -> RemotePath:
        return self._child(os.fspath(inside), None)

    @property
    def name(self) -> str:
        return self.url.rpartition("/")[2]

    @property
    def stem(self) -> str:
        return Path(self.name).stem

    @property
    def parent(self) -> RemotePath:
        return RemotePath(self.url.rpartition("/")[0])

    @property
    def size_bytes(self) -> int:
        assert self._entry is not None
        if self._entry.get("size") is None:  # a web server's index page
            raise RemoteError(f"{self.url}: its listing has no sizes, so a store cannot be read there")
        return int(self._entry["size"])

    @property
    def version(self) -> str:
        """A hash of everything that the listing has about the object, as fsspec's own `ukey`."""
        assert self._entry is not None
        return hashlib.sha256(str(sorted(self._entry.items(), key=str)).encode()).hexdigest()[:16]

    @property
    def age_s(self) -> float | None:
        """Seconds since it was written; None if the service does not say."""
        assert self._entry is not None
        for key in ("LastModified", "last_modified", "created", "updated", "mtime"):
            if isinstance(when := self._entry.get(key), datetime):
                return (datetime.now(when.tzinfo) - when).total_seconds()
        return None

    def resolve(self) -> RemotePath:
        return self

    def exists(self) -> bool:
        """Whether it is an object or a folder that is not empty."""
        try:
            self._ask(lambda files, path: files.info(path))
        except FileNotFoundError:
            return False
        return True

    def is_dir(self) -> bool:
        """Whether it is a folder that is not empty, or a bucket, which may be empty."""
        try:
            return any(True for _ in self.iterdir()) or self._ask(_is_folder)
        except FileNotFoundError:
            return False

    def iterdir(self) -> Iterator[RemotePath]:
        """The content of the folder, by one listing; nothing if there is no such folder."""

        def ask(files: fsspec.AbstractFileSystem, path: str) -> list[tuple[str, dict[str, Any]]]:
            before = f"{path.rstrip('/')}/"
            entries = [(entry["name"].rstrip("/"), entry) for entry in files.ls(path, detail=True)]
            return [(name.removeprefix(before), entry) for name, entry in entries if name.startswith(before)]

        try:
            found = self._ask(ask)
        except FileNotFoundError:
            return
        for name, entry in found:
            if name not in ("", ".", "..") and "/" not in name:
                yield self._child(name, entry)

    def glob(self, pattern: str) -> list[RemotePath]:
        """The content of the folder whose names match the pattern, in order. The pattern may begin with a folder."""
        inside, _, names = pattern.rpartition("/")
        folder = self / inside if inside else self
        return sorted(path for path in folder.iterdir() if fnmatch.fnmatchcase(path.name, names))

    def read_bytes(self) -> bytes:
        content: bytes = self._ask(lambda files, path: files.cat_file(path))
        return content

    def read_text(self, encoding: str = "utf-8") -> str:
        return self.read_bytes().decode(encoding)

    def read_range(self, start: int, size: int) -> bytes:
        """`size` bytes from `start`, fewer if the object ends before; one request."""
        if size <= 0:
            return b""

        def ask(files: fsspec.AbstractFileSystem, path: str) -> bytes:
            try:
                found: bytes = files.cat_file(path, start=start, end=start + size)
            except OSError as error:
                # Some services refuse a range that begins beyond the end.
                if error.errno != errno.EINVAL or files.info(path)["size"] > start:
                    raise
                return b""
            return found

        return self._ask(ask)

    def open(self) -> io.BufferedReader:
        """The object as a stream, read in pieces of `PIECE_BYTES`, one request each."""
        return io.BufferedReader(_Pieces(self), PIECE_BYTES)

    def get(self, local: Path) -> None:
        """Download the object to a file of this machine. The file is incomplete until this returns."""
        self._ask(lambda files, path: files.get_file(path, str(local)))

    def put(self, local: Path) -> None:
        """Upload a finished file of this machine as this object; an existing object is replaced."""
        self.check_writable()
        self._ask(lambda files, path: files.put_file(str(local), path))

    def unlink(self, missing_ok: bool = False) -> None:
        self.check_writable()
        try:
            self._ask(lambda files, path: files.rm_file(path))
        except FileNotFoundError:
            if not missing_ok:
                raise

    def check_writable(self) -> None:
        """Raise UsageError for a service that would publish a part of an object if the connection breaks."""
        protocol = self.url.partition("://")[0]
        if protocol not in WHOLE_PUTS:
            raise UsageError(
                f"{self.url}: k710 writes only to object stores ({', '.join(sorted(WHOLE_PUTS - {'memory'}))}), which "
                f"publish an object whole or not at all; {protocol}:// can only be read"
            )

    def _child(self, inside: str, entry: dict[str, Any] | None) -> RemotePath:
        if inside.startswith("/") or {"", ".", ".."} & set(inside.split("/")):
            raise RemoteError(f"{self.url}: {inside!r} is not a name inside it")
        return RemotePath(f"{self.url}/{inside}", entry)

    def _ask(self, call: Callable[[fsspec.AbstractFileSystem, str], Found]) -> Found:
        """The answer of the service to `call`. A temporary error is tried again until the patience ends."""
        files, path = _open(self.url)
        give_up_at, pause_s = time.monotonic() + patience_s(), 0.5
        while True:
            try:
                return call(files, path)
            except Exception as raised:  # each package raises errors of its own
                error = _behind(raised)
                if _is_disk_of_this_machine(error):
                    raise
                passing = _may_pass(error)
                if not passing or time.monotonic() + pause_s > give_up_at:
                    raise self._explained(error, passing) from error
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _explained(self, error: Exception, passing: bool) -> Exception:
        text = _text(error)
        if "bucket does not exist" in text or "NoSuchBucket" in repr(error.__cause__):
            return RemoteError(f"{self.url}: there is no such bucket; create it first, k710 creates no buckets")
        if isinstance(error, FileNotFoundError):
            return FileNotFoundError(errno.ENOENT, "no such object", self.url)
        if isinstance(error, PermissionError):
            return RemoteError(f"{self.url}: refused: {text}; check the credentials and the clock (docs/remote.md)")
        if "Credential" in type(error).__name__:
            return RemoteError(f"{self.url}: {text}; docs/remote.md lists the places for credentials")
        if isinstance(error, OSError) and error.errno in _BAD_REQUEST_ERRNOS:
            return RemoteError(
                f"{self.url}: refused: {text}; the credentials may have expired, or the bucket may be in another "
                f"region than AWS_DEFAULT_REGION (docs/remote.md)"
            )
        if passing:
            return RemoteError(
                f"{self.url}: no answer for {patience_s():g} s: {text}; uploaded files are kept, and the same command "
                f"continues from there"
            )
        return RemoteError(f"{self.url}: {text}")


class _Pieces(io.RawIOBase):
    """An object as a stream of pieces. A piece is requested again if the service failed."""

    def __init__(self, path: RemotePath) -> None:
        self._path, self._at, self._ended = path, 0, False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        content = b"" if self._ended else self._path.read_range(self._at, len(buffer))
        buffer[: len(content)] = content
        self._at, self._ended = self._at + len(content), len(content) < len(buffer)
        return len(content)


def patience_s() -> float:
    """How long a temporary error is tried again: `K710_REMOTE_PATIENCE_S`, else a minute. Raises RemoteError."""
    setting = os.environ.get("K710_REMOTE_PATIENCE_S")
    with contextlib.suppress(ValueError):
        patience = DEFAULT_PATIENCE_S if setting is None else float(setting)
        if patience >= 0:  # false for nan, with which the retries would never end
            return patience
    raise RemoteError(f"K710_REMOTE_PATIENCE_S is {setting!r}; it must be a number of seconds")


def _open(url: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """The file system, opened in this process (fsspec keeps one per process), and the path in it.

    Raises RemoteError if its package is not installed.
    """
    import fsspec.core

    protocol = url.partition("://")[0]
    try:
        # A cached listing would not show what other machines have written.
        files, path = fsspec.core.url_to_fs(url, use_listings_cache=False, **_OPTIONS.get(protocol, {}))
    except ImportError as error:
        package = _EXTRAS.get(protocol)
        todo = f"pip install '{package}'" if package else str(error)
        raise RemoteError(f"{url}: the package that reads {protocol}:// is not installed: {todo}") from None
    except Exception as error:  # each package raises errors of its own; some connect already now
        raise RemoteError(f"{url}: {_text(error)}") from error
    _held.setdefault(id(files), files)
    return files, path


def _text(error: Exception) -> str:
    return re.sub(r"^\[Errno -?\d+\] ", "", " ".join(str(error).split())).rstrip(".") or type(error).__name__


def _behind(error: Exception) -> Exception:
    """The real error: over HTTP, fsspec reports every error as a missing file."""
    cause = error.__cause__
    if isinstance(error, FileNotFoundError) and isinstance(cause, Exception):
        status = _status(cause)
        if _may_pass(cause) or (status is not None and status not in _GONE):
            return cause
    return error


def _status(error: BaseException | None) -> int | None:
    """The HTTP status in an error of aiohttp or botocore."""
    response = getattr(error, "response", None)
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode") if isinstance(response, dict) else None
    found = getattr(error, "status", status)
    return found if isinstance(found, int) else None


def _is_folder(files: fsspec.AbstractFileSystem, path: str) -> bool:
    return str(files.info(path)["type"]) == "directory"


def _may_pass(error: Exception) -> bool:
    # s3fs reports errors that it does not know as EIO, including refusals.
    status = _status(error.__cause__ if isinstance(error, OSError) and error.errno == errno.EIO else error)
    if isinstance(error, _FINAL) or (status is not None and status < 500 and status != _TOO_MANY):
        return False
    if {cls.__name__ for cls in type(error).__mro__} & _PASSING:
        return True
    return isinstance(error, OSError) and error.errno in _PASSING_ERRNOS


def _is_disk_of_this_machine(error: Exception) -> bool:
    """Whether the error is of a disk of this machine, and not of the service."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
