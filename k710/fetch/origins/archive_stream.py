"""The members of a public archive as it arrives, read once and forward. The archive is not trusted.

A member's name is only ever looked at; no path, link or device of an archive is made. What is refused is counted.
"""

from __future__ import annotations

import gzip
import io
import itertools
import re
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from typing_extensions import Self

MAX_MEMBER_BYTES = 1 << 30  # a clip of ten seconds has a few MB
MAX_HEADER_BYTES = 1 << 20  # of a long name or a pax header
MAX_SKIPPED_BYTES = 4 << 30  # of one refused member; reading past more is what a bomb is after
MAX_ARCHIVE_BYTES = 256 << 30  # uncompressed
MAX_MEMBERS = 4_000_000  # each name is remembered; all releases together have a third of that
MAX_FRUITLESS_MEMBERS = 100_000  # in a row without a clip that is new; a clip may have a file or two beside it
MAX_FRUITLESS_BYTES = 8 << 30  # uncompressed, likewise
MAX_TAIL_BYTES = 1 << 30  # behind the end of the tar; a tape's padding has a few MB
MAX_HEADERS_IN_A_ROW = 16  # of long names and pax, before a member
_PIECE_BYTES = 1 << 20
_SOURCE_BYTES = 1 << 18
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_PAX_NUMBER = re.compile(r"-?[0-9]{1,4000}")  # of more, Python makes no number


class _Readable(Protocol):
    def read(self, size: int = ..., /) -> bytes: ...


class DamagedArchiveError(Exception):
    """Reading ends here, and what may follow is lost: cut off, not an archive, a bomb."""


class _HeaderError(DamagedArchiveError):
    """A header that cannot be read: where the next one stands, and what it means, is not known any more."""


@dataclass(frozen=True)
class Member:
    """A regular file of the archive, under its last name; `data` must be read before the next member is asked for."""

    name: str
    size: int
    data: _Readable


@dataclass
class ArchiveStream:
    """Iterate over it for the members. `refused` counts what was left out by kind: path, link, device, sparse, size,
    header; `num_members` all headers that could be read. `has_end`: False for a plain tar without the blocks that end
    one; whether more of it should have come, nothing in it tells."""

    source: _Readable
    refused: Counter[str] = field(default_factory=Counter)
    num_members: int = 0
    has_end: bool = True
    _progress: tuple[int, int] = (0, 0)  # member and byte of the last clip that was new
    _at: tuple[int, int] = (0, 0)

    def found_a_new_clip(self) -> None:
        """Called by who reads, for each: a tar that goes on and on without one has an end for it."""
        self._progress = self._at

    def _check_progress(self, number: int, position: int) -> None:
        self._at = (number, position)
        members, size = number - self._progress[0], position - self._progress[1]
        if members > MAX_FRUITLESS_MEMBERS:
            raise DamagedArchiveError(f"no new clip in {MAX_FRUITLESS_MEMBERS:,} members")
        if size > MAX_FRUITLESS_BYTES:
            raise DamagedArchiveError(f"no new clip in {MAX_FRUITLESS_BYTES:,} bytes")

    def __iter__(self) -> Iterator[Member]:
        """Raises DamagedArchiveError where the archive breaks off; whatever `source` raises, such as DownloadError,
        passes through."""
        with _as_damage():
            plain = _plain(self.source)
            forward = _Forward(plain)
            try:
                yield from self._members(forward)
            except _HeaderError:
                self.refused["header"] += 1
                raise
            forward.drain()
            self.has_end = self.has_end or isinstance(plain, gzip.GzipFile)

    def _members(self, forward: _Forward) -> Iterator[Member]:
        with tarfile.TarFile(fileobj=forward, mode="r", errorlevel=2, tarinfo=_Info) as tar:  # type: ignore[arg-type]  # reads only
            for number in itertools.count(1):
                if (info := tar.next()) is None:
                    self.has_end = not getattr(tar, "ends_open", False)
                    return
                self.num_members = number
                if number > MAX_MEMBERS:
                    raise DamagedArchiveError(f"has more than {MAX_MEMBERS:,} members")
                self._check_progress(number, forward.tell())
                tar.members = []  # type: ignore[attr-defined]  # tarfile remembers every member
                if not _PAX_NUMBER.fullmatch(info.pax_headers.get("size", "0")):
                    raise _HeaderError("a header's size is no number")  # tarfile takes it for 0
                if kind := _why_refused(info):
                    self.refused[kind] += 1
                    ahead = tar.offset - forward.tell()  # not its size: what a sparse file unpacks to is not there
                    if not 0 <= ahead <= MAX_SKIPPED_BYTES:
                        raise DamagedArchiveError(f"a member claims {ahead:,} bytes")
                elif info.isreg() and (data := tar.extractfile(info)):
                    yield Member(_parts(info.name)[-1], info.size, _Data(data))


class _Info(tarfile.TarInfo):
    """A header whose errors are raised: tarfile takes one that it cannot read for the end of the archive."""

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> Self:
        """Called by tarfile for each header, by itself for the one behind a long name."""
        depth = getattr(tar, "headers_in_a_row", 0)
        if depth > MAX_HEADERS_IN_A_ROW:
            raise _HeaderError("long names or pax headers without a member")
        tar.headers_in_a_row = depth + 1  # type: ignore[attr-defined]
        begin = tar.offset
        try:
            return super().fromtarfile(tar)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise  # the end
        except tarfile.EmptyHeaderError:  # type: ignore[attr-defined]
            tar.ends_open = True  # type: ignore[attr-defined]
            raise  # the end, too, as tarfile sees it
        except tarfile.TruncatedHeaderError as error:  # type: ignore[attr-defined]
            raise DamagedArchiveError(f"cut off: {error}") from None
        except tarfile.HeaderError as error:
            raise (_HeaderError if begin else DamagedArchiveError)(f"no tar, or damaged: {error}") from None
        except ValueError as error:
            raise _HeaderError(f"damaged: {error}") from None
        finally:
            tar.headers_in_a_row = depth  # type: ignore[attr-defined]


@contextmanager
def _as_damage() -> Iterator[None]:
    """What the readers of tar and gzip raise is a damaged archive."""
    try:
        yield
    except tarfile.TarError as error:
        raise DamagedArchiveError(f"no tar, or damaged: {error}") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DamagedArchiveError(f"cut off or damaged: {error}") from None


@dataclass(frozen=True)
class _Data:
    """A member's bytes. Who reads them is outside of the iteration, and would meet the errors of gzip itself."""

    source: IO[bytes]

    def read(self, size: int = -1, /) -> bytes:
        with _as_damage():
            return self.source.read(size)


def _why_refused(info: tarfile.TarInfo) -> str | None:
    """The kind of refusal; None for a member that may be looked at, and for folders, which are passed over."""
    if info.issym() or info.islnk():
        return "link"
    if info.isdev():
        return "device"
    if info.isdir() or info.type == b"V":  # a tape's label
        return None
    if info.issparse():
        return "sparse"
    if not info.isreg():
        return "device"
    if not 0 <= info.size <= MAX_MEMBER_BYTES:
        return "size"
    name, parts = info.name, _parts(info.name)
    if not parts or name.startswith("/") or ".." in parts or "\\" in name or _CONTROL.search(name):
        return "path"
    return None


def _parts(name: str) -> list[str]:
    """The folders of a member's name, and the file's. Not by pathlib, which interns them all: a name is not ours."""
    return [part for part in name.split("/") if part not in ("", ".")]


def _plain(source: _Readable) -> _Readable:
    """The tar itself: unzipped where the bytes are gzip, whatever the name says."""
    buffered = _Peeked(source)
    return gzip.GzipFile(fileobj=buffered) if buffered.head[:2] == b"\x1f\x8b" else buffered  # type: ignore[call-overload]  # reads only


class _Peeked:
    """A stream whose first bytes have been looked at. It asks its source for larger pieces than gzip asks for, which
    before Python 3.12 are of 8 KiB."""

    def __init__(self, source: _Readable) -> None:
        self._source = source
        self.head = _read_fully(source, 2)
        self._piece = io.BytesIO(self.head)

    def read(self, size: int = -1, /) -> bytes:
        if data := self._piece.read(size):
            return data
        self._piece = io.BytesIO(self._source.read(max(size, _SOURCE_BYTES)))
        return self._piece.read(size)


class _Forward:
    """What tarfile needs of a file, over a stream: going forward is reading, going back is not possible.

    Long names and pax headers are read whole by tarfile, so one read may not be larger than MAX_HEADER_BYTES.
    """

    def __init__(self, source: _Readable) -> None:
        self._source = source
        self._position = 0

    def read(self, size: int = -1, /) -> bytes:
        if not 0 <= size <= MAX_HEADER_BYTES:
            raise _HeaderError(f"a header claims {size:,} bytes")
        data = _read_fully(self._source, size)
        self._advance(len(data))
        return data

    def tell(self) -> int:
        return self._position

    def seek(self, position: int, whence: int = 0, /) -> int:
        assert whence == 0
        if position < self._position:
            raise DamagedArchiveError("its headers point backwards")
        while self._position < position:
            data = self._source.read(min(_PIECE_BYTES, position - self._position))
            if not data:
                raise DamagedArchiveError("cut off")
            self._advance(len(data))
        return position

    def drain(self) -> None:
        """Read on to the end, where gzip's checksum is."""
        end = self._position + MAX_TAIL_BYTES
        while data := self._source.read(_PIECE_BYTES):
            self._advance(len(data))
            if self._position > end:
                raise DamagedArchiveError(f"more than {MAX_TAIL_BYTES:,} bytes follow its end")

    def _advance(self, size: int) -> None:
        self._position += size
        if self._position > MAX_ARCHIVE_BYTES:
            raise DamagedArchiveError(f"unpacks to more than {MAX_ARCHIVE_BYTES:,} bytes")


def _read_fully(source: _Readable, size: int) -> bytes:
    """`size` bytes, fewer only at the end; a raw stream may give fewer at a time."""
    pieces = []
    while size > 0 and (piece := source.read(size)):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)
