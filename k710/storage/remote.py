"""Files and folders at an fsspec URL (`s3://bucket/k710`), with the few of pathlib's methods that k710 needs.

Nothing is held open: each process that asks opens the file system for itself, since those are not safe across a fork.
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

# Where an object that was put is there whole or not at all. Others publish what came before a connection broke.
WHOLE_PUTS = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "memory"})
# Over and above what the file system's own package does.
DEFAULT_PATIENCE_S = 60.0
_LONGEST_PAUSE_S = 10.0
PIECE_BYTES = 8 << 20
_TOO_MANY = 429
# s3fs holds ten pieces of 50 MiB of each file that is on its way; many units are at once.
_FRUGAL = {"max_concurrency": 3, "default_block_size": 16 << 20}
_OPTIONS: dict[str, dict[str, Any]] = {"s3": _FRUGAL, "s3a": _FRUGAL}
# A forked worker forgets the file systems of its parent; held here, they do not end their parent's connections by that.
_held: dict[int, Any] = {}
_EXTRAS = {"s3": "k710[s3]", "s3a": "k710[s3]", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs"}
# By name, in the classes of an error: to import the packages that define them would load all of them.
_PASSING = frozenset({"ConnectionError", "TimeoutError", "HTTPClientError", "ClientError", "FSTimeoutError"})
_PASSING_ERRNOS = frozenset({errno.EBUSY, errno.EIO, errno.EAGAIN, getattr(errno, "EREMOTEIO", errno.EIO)})
_FINAL = (FileNotFoundError, PermissionError, FileExistsError, IsADirectoryError, NotADirectoryError)
_GONE = (404, 410)
# A HEAD tells no reason: so look a token that has expired, and a bucket of another region.
_BAD_REQUEST_ERRNOS = frozenset({errno.EINVAL, getattr(errno, "EREMCHG", errno.EINVAL)})

Found = TypeVar("Found")


@total_ordering
class RemotePath:
    """A place at a URL. Methods raise FileNotFoundError for an object that is not there, else RemoteError: never
    another OSError, which would pass for damage on a disk.

    One that came from a listing knows `size_bytes`, `version` (changes whenever the object does) and `age_s`.
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
            raise RemoteError(f"{self.url}: its listing tells no sizes, so no store can be read there")
        return int(self._entry["size"])

    @property
    def version(self) -> str:
        """A hash of all that the listing said of the object, as fsspec's own `ukey`."""
        assert self._entry is not None
        return hashlib.sha256(str(sorted(self._entry.items(), key=str)).encode()).hexdigest()[:16]

    @property
    def age_s(self) -> float | None:
        """Seconds since it was put; None where the service does not say."""
        assert self._entry is not None
        for key in ("LastModified", "last_modified", "created", "updated", "mtime"):
            if isinstance(when := self._entry.get(key), datetime):
                return (datetime.now(when.tzinfo) - when).total_seconds()
        return None

    def resolve(self) -> RemotePath:
        return self

    def exists(self) -> bool:
        """Whether an object, or a folder with something in it, is there."""
        try:
            self._ask(lambda files, path: files.info(path))
        except FileNotFoundError:
            return False
        return True

    def is_dir(self) -> bool:
        """Whether something is in it, or it is a bucket, which may be empty."""
        try:
            return any(True for _ in self.iterdir()) or self._ask(_is_folder)
        except FileNotFoundError:
            return False

    def iterdir(self) -> Iterator[RemotePath]:
        """What stands in the folder, by one listing; nothing where there is none."""

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
        """What stands in the folder under names of this pattern, in order; a folder may stand before it."""
        inside, _, names = pattern.rpartition("/")
        folder = self / inside if inside else self
        return sorted(path for path in folder.iterdir() if fnmatch.fnmatchcase(path.name, names))

    def read_bytes(self) -> bytes:
        content: bytes = self._ask(lambda files, path: files.cat_file(path))
        return content

    def read_text(self, encoding: str = "utf-8") -> str:
        return self.read_bytes().decode(encoding)

    def read_range(self, start: int, size: int) -> bytes:
        """`size` bytes from `start`, fewer where the object ends before; one request."""
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
        """The object to be read from beginning to end, in pieces of `PIECE_BYTES`, a request each."""
        return io.BufferedReader(_Pieces(self), PIECE_BYTES)

    def get(self, local: Path) -> None:
        """The object as a file of this machine; not to be used for a file that counts before it is whole."""
        self._ask(lambda files, path: files.get_file(path, str(local)))

    def put(self, local: Path) -> None:
        """A finished file of this machine as this object, in the place of the one that is there."""
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
        """Raise UsageError for a service that would show half an object when a connection breaks."""
        protocol = self.url.partition("://")[0]
        if protocol not in WHOLE_PUTS:
            raise UsageError(
                f"{self.url}: k710 writes to object stores alone ({', '.join(sorted(WHOLE_PUTS - {'memory'}))}), where "
                f"an object is there whole or not at all; reading {protocol}:// is fine"
            )

    def _child(self, inside: str, entry: dict[str, Any] | None) -> RemotePath:
        if inside.startswith("/") or {"", ".", ".."} & set(inside.split("/")):
            raise RemoteError(f"{self.url}: {inside!r} is no name inside it")
        return RemotePath(f"{self.url}/{inside}", entry)

    def _ask(self, call: Callable[[fsspec.AbstractFileSystem, str], Found]) -> Found:
        """What the service answers to `call`; what may pass is tried again as long as patience lasts."""
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
                    raise self._said(error, passing) from error
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _said(self, error: Exception, passing: bool) -> Exception:
        text = _text(error)
        if "bucket does not exist" in text or "NoSuchBucket" in repr(error.__cause__):
            return RemoteError(f"{self.url}: there is no such bucket; make it first, k710 makes none")
        if isinstance(error, FileNotFoundError):
            return FileNotFoundError(errno.ENOENT, "no such object", self.url)
        if isinstance(error, PermissionError):
            return RemoteError(f"{self.url}: refused: {text}; look at the credentials and the clock (docs/remote.md)")
        if "Credential" in type(error).__name__:
            return RemoteError(f"{self.url}: {text}; docs/remote.md tells where credentials are looked for")
        if isinstance(error, OSError) and error.errno in _BAD_REQUEST_ERRNOS:
            return RemoteError(
                f"{self.url}: refused: {text}; have the credentials expired, is the bucket in another region than "
                f"AWS_DEFAULT_REGION? (docs/remote.md)"
            )
        if passing:
            return RemoteError(
                f"{self.url}: no answer for {patience_s():g} s: {text}; what was put is kept, and the same command "
                f"goes on from there"
            )
        return RemoteError(f"{self.url}: {text}")


class _Pieces(io.RawIOBase):
    """What is read of an object, piece by piece; each is asked for anew where the service went away."""

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
    """For how long what may pass is tried again: `K710_REMOTE_PATIENCE_S`, else a minute. Raises RemoteError."""
    said = os.environ.get("K710_REMOTE_PATIENCE_S")
    with contextlib.suppress(ValueError):
        patience = DEFAULT_PATIENCE_S if said is None else float(said)
        if patience >= 0:  # which nan, with which nobody would ever give up, is not
            return patience
    raise RemoteError(f"K710_REMOTE_PATIENCE_S is {said!r}; it takes a number of seconds")


def _open(url: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """The file system, opened in this process (fsspec keeps one per process), and the path in it. Raises RemoteError
    where its package is not there."""
    import fsspec.core

    protocol = url.partition("://")[0]
    try:
        # A cached listing would hide what other machines put meanwhile.
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
    """What is meant: over HTTP, fsspec takes whatever happens for a file that is not there."""
    cause = error.__cause__
    if isinstance(error, FileNotFoundError) and isinstance(cause, Exception):
        status = _status(cause)
        if _may_pass(cause) or (status is not None and status not in _GONE):
            return cause
    return error


def _status(error: BaseException | None) -> int | None:
    """Of an HTTP answer, as aiohttp or botocore tell it."""
    response = getattr(error, "response", None)
    told = response.get("ResponseMetadata", {}).get("HTTPStatusCode") if isinstance(response, dict) else None
    found = getattr(error, "status", told)
    return found if isinstance(found, int) else None


def _is_folder(files: fsspec.AbstractFileSystem, path: str) -> bool:
    return str(files.info(path)["type"]) == "directory"


def _may_pass(error: Exception) -> bool:
    # Errors that s3fs does not know by name are EIO to it, refusals too.
    status = _status(error.__cause__ if isinstance(error, OSError) and error.errno == errno.EIO else error)
    if isinstance(error, _FINAL) or (status is not None and status < 500 and status != _TOO_MANY):
        return False
    if {cls.__name__ for cls in type(error).__mro__} & _PASSING:
        return True
    return isinstance(error, OSError) and error.errno in _PASSING_ERRNOS


def _is_disk_of_this_machine(error: Exception) -> bool:
    """Whether it is no fault of the service: what is got or put lies on a disk here."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
