"""Downloads of public files over HTTP(S), to a file or once to the cache."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from k710.errors import DownloadError, K710Error, MachineError
from k710.storage.http_reader import (
    PIECE_BYTES,
    ChangedError,
    FileVersion,
    Options,
    TooLargeError,
    check_address,
    open_url,
)
from k710.storage.storage import alone, replacing

if TYPE_CHECKING:
    from typing import Unpack


@dataclass(frozen=True)
class Downloaded:
    """A complete file on the disk and its origin; `retrieved_at` is UTC in ISO 8601."""

    url: str
    path: Path
    sha256: str
    size_bytes: int
    etag: str | None
    last_modified: str | None
    retrieved_at: str


def download(url: str, path: str | Path, **options: Unpack[Options]) -> Downloaded:
    """Download `url` to the file `path`, which is replaced whole or not at all; see `open_url`.

    The bytes are collected in `path.part`. A later call resumes it if the server still has that version of the file
    (recorded in `path.part.json`). A second process for the same path waits for the first. Raises DownloadError, or an
    OSError that names the file if the disk failed. The bytes so far stay in `path.part` in both cases.
    """
    path = Path(path)
    check_address(url)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _alone(path):
        return _download(url, path, options)


def cached(
    url: str,
    *,
    cache: str | Path | None = None,
    check: Callable[[Path], object] = lambda path: None,
    **options: Unpack[Options],
) -> Downloaded:
    """`url` from the folder `cache` (default: `cache_folder()`), downloaded if it is not there; see `download`.

    `check` examines a downloaded file. It raises a K710Error for a wrong file, such as the web page of a login portal;
    then the file is removed from the cache, and the next call asks the server again.
    A JSON record next to the file is written last. If the file has the recorded size, it is used without asking the
    server. Processes that want the same address at the same time wait for each other.
    """
    check_address(url)
    path = (cache_folder() if cache is None else Path(cache)) / _file_name(url)
    record = _sibling(path, ".json")
    if found := _recorded(url, path, record):
        return found
    path.parent.mkdir(parents=True, exist_ok=True)
    with _alone(path):
        if found := _recorded(url, path, record):  # another process has downloaded it
            return found
        record.unlink(missing_ok=True)  # a record must never describe another file
        found = _download(url, path, options)
        try:
            check(path)
        except K710Error:
            path.unlink()
            raise
        _write_json(record, {key: value for key, value in asdict(found).items() if key != "path"})
        return found


def forget(url: str) -> None:
    """Remove `url` from the cache, if it is there and can be removed. The next `cached` asks the server."""
    path = cache_folder() / _file_name(url)
    for file in (_sibling(path, ".json"), path):
        with contextlib.suppress(OSError):
            file.unlink()


def cache_folder() -> Path:
    """`$K710_CACHE`, else `$XDG_CACHE_HOME/k710`, else `~/.cache/k710`, as an absolute path. Raises DownloadError if
    there is no home folder."""
    try:
        if own := os.environ.get("K710_CACHE"):
            return Path(own).expanduser().absolute()
        shared = os.environ.get("XDG_CACHE_HOME")
        return (Path(shared).absolute() if shared else Path.home() / ".cache") / "k710"
    except RuntimeError:
        raise DownloadError("this user has no home folder to cache in; set K710_CACHE to a folder") from None


def _download(url: str, path: Path, options: Options) -> Downloaded:
    part = _sibling(path, ".part")
    try:
        done = _fill(url, path, part, options)
    except ChangedError:  # the part is old, or the file changed during the download: start again from byte 0
        part.unlink(missing_ok=True)
        done = _fill(url, path, part, options)
    except TooLargeError:
        part.unlink(missing_ok=True)
        _sibling(part, ".json").unlink(missing_ok=True)
        raise
    part.replace(path)
    _sibling(part, ".json").unlink()
    return done


def _fill(url: str, path: Path, part: Path, options: Options) -> Downloaded:
    """Complete `part` from its present size to the whole file, on the disk."""
    note = _sibling(part, ".json")
    known = _resumable(url, note) if part.exists() else None
    start = part.stat().st_size if known else 0
    digest = hashlib.sha256()
    with open_url(url, start=start, known=known, **options) as source, part.open("a+b") as sink:
        # The note is written after an old part is emptied and before the first byte, so it always describes the part.
        sink.truncate(start)
        _write_json(note, {"url": url, **asdict(source.version)})
        buffer = memoryview(bytearray(PIECE_BYTES))
        sink.seek(0)
        while count := sink.readinto(buffer):
            digest.update(buffer[:count])
        while count := source.readinto(buffer):
            digest.update(buffer[:count])
            sink.write(buffer[:count])
        sink.flush()
        os.fsync(sink.fileno())
        version, size_bytes = source.version, source.tell()
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return Downloaded(url, path, digest.hexdigest(), size_bytes, version.etag, version.last_modified, now)


def _resumable(url: str, note: Path) -> FileVersion | None:
    """The version that a part belongs to; None if it is unknown, of another address, or not identified."""
    content = _read_json(note)
    if content.pop("url", None) != url:
        return None
    try:
        version = FileVersion(**content)
    except TypeError:
        return None
    return version if version.etag or version.last_modified else None


def _recorded(url: str, path: Path, record: Path) -> Downloaded | None:
    content = _read_json(record)
    try:
        found = Downloaded(path=path, **content)
        return found if found.url == url and found.size_bytes == path.stat().st_size else None
    except (TypeError, FileNotFoundError):
        return None


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Wait until no other process downloads to `path`.

    A disk error without a file name, as of a failed write, gets the name of `path`.
    """
    try:
        with alone(_sibling(path, ".part.lock")):
            yield
    except MachineError as error:
        raise DownloadError(str(error)) from error
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def _file_name(url: str) -> str:
    """A hash, so that each address has its own name, and the end of the address, so that people can find it."""
    name = re.sub(r"[^A-Za-z0-9._-]", "_", unquote(urlsplit(url).path).rsplit("/", 1)[-1])
    return f"{hashlib.sha256(url.encode()).hexdigest()[:16]}-{name[-80:]}"


def _sibling(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _read_json(path: Path) -> dict[str, Any]:
    """The object in one of k710's small JSON files; empty if the file is missing or damaged."""
    try:
        content = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _write_json(path: Path, content: dict[str, Any]) -> None:
    with replacing(path) as file:
        file.write(json.dumps(content, indent=1).encode())
