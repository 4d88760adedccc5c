"""A clip's bytes, read at random from a tar of the store or from a file of its own, and checked."""

from __future__ import annotations

import hashlib
import tarfile

import numpy as np

from k710.errors import LoadError, RemoteError, UsageError
from k710.loading.clip_index import Place
from k710.loading.media.media_cache import MediaCache
from k710.loading.media.open_files import files_in
from k710.random_key import Ints
from k710.storage.remote import RemotePath
from k710.storage.storage import Location
from k710.text import os_error_text

FRAME_READS = ("small", "ranged")
_HEADER = tarfile.BLOCKSIZE
_NAME_BYTES = 100  # of a tar header


class MediaFiles:
    """Reads clips from the files under `folder`. `in_tars`: each clip is a member of a tar, after its header.

    `frame_reads` is for stored frames: "small" reads each wanted frame by itself; "ranged", the default at a URL, reads
    from the first frame to the last wanted one at once. `cache` keeps whole clips of a URL. Raises UsageError for a
    cache of local files.
    """

    def __init__(
        self, folder: Location, *, in_tars: bool, frame_reads: str | None = None, cache: MediaCache | None = None
    ) -> None:
        is_remote = isinstance(folder, RemotePath)
        if frame_reads not in (None, *FRAME_READS):
            raise UsageError(f"unknown frame_reads {frame_reads!r}; known: {', '.join(FRAME_READS)}")
        if cache is not None and not is_remote:
            raise UsageError(f"{folder}: is a folder of this machine; a cache is for a store at a URL")
        self._folder, self._in_tars, self._cache = folder, in_tars, cache
        self._frame_reads = frame_reads or ("ranged" if is_remote else "small")
        self._files = files_in(folder)

    def read(self, place: Place) -> bytes:
        """All bytes of a clip, compared with its hash where one is known. Raises LoadError."""
        if not self._in_tars:
            return self._read(place, 0, None)
        return self._whole(place)[_HEADER:]

    def read_frames(self, place: Place, positions: Ints) -> list[bytes]:
        """The stored frames at `positions` (increasing), a JPEG each. Raises LoadError."""
        assert place.frame_offsets is not None
        # Counted from the header of the clip's member, which is read too.
        begin = _HEADER + place.frame_offsets[positions]
        end = _HEADER + np.append(place.frame_offsets[1:], place.size)[positions]
        spans = list(zip(begin.tolist(), end.tolist(), strict=True))
        # Hashing would need all bytes of the clip. The header shows whether the tar was changed.
        if self._frame_reads == "small" and self._cache is None:
            self._check_header(place, self._bytes(place, 0, _HEADER))
            return [self._bytes(place, start, stop - start) for start, stop in spans]
        piece = self._whole(place) if self._cache is not None else self._bytes(place, 0, spans[-1][1])
        self._check_header(place, piece[:_HEADER])
        return [piece[start:stop] for start, stop in spans]

    def stamp(self, place: Place) -> str:
        """What changes with a clip's bytes: the digest that the store has of it; else size and time of its file.

        Raises LoadError for a file that is gone.
        """
        if place.digest:
            return f"{place.digest:016x}"
        file = self._folder / place.file
        if isinstance(file, RemotePath):
            raise LoadError(f"{self._where(place)}: nothing tells whether it has changed")
        try:
            status = file.stat()
        except OSError as error:
            raise LoadError(f"{self._where(place)}: {os_error_text(error)}") from None
        return f"{status.st_size}-{status.st_mtime_ns}"

    def _whole(self, place: Place) -> bytes:
        """Header and media of a clip, from the cache if it has them."""
        where = str(self._folder / place.file)
        kept = None if self._cache is None else self._cache.get(place, where)
        if kept is not None and self._problem(place, kept) is None:
            return kept
        whole = self._bytes(place, 0, _HEADER + place.size)
        if (problem := self._problem(place, whole)) is not None:
            raise LoadError(f"{self._where(place)}: {problem}{_REPAIR}")
        if self._cache is not None:
            self._cache.keep(place, where, whole)
        return whole

    def _problem(self, place: Place, whole: bytes) -> str | None:
        if _clip_of(whole) != place.clip_id:
            return "another file is in its place"
        changed = place.digest != int(hashlib.sha256(whole[_HEADER:]).hexdigest()[:16], 16)
        return "its bytes have changed" if changed else None

    def _bytes(self, place: Place, start: int, size: int) -> bytes:
        """`size` bytes of a clip's member in a tar, from `start`, counted from its header."""
        found = self._read(place, place.offset - _HEADER + start, size)
        if len(found) < size:
            end = place.offset - _HEADER + start + len(found)
            raise LoadError(f"{self._where(place)}: cut off after {end:,} bytes{_REPAIR}")
        return found

    def _read(self, place: Place, start: int, size: int | None) -> bytes:
        try:
            return self._files.read(place.file, start, size)
        except FileNotFoundError:
            raise LoadError(f"{self._where(place)}: is gone{_REPAIR if self._in_tars else ''}") from None
        except RemoteError as error:
            raise LoadError(f"clip {place.clip_id}: {error}") from None
        except OSError as error:
            raise LoadError(f"{self._where(place)}: {os_error_text(error)}") from None

    def _check_header(self, place: Place, header: bytes) -> None:
        if _clip_of(header) != place.clip_id:
            raise LoadError(f"{self._where(place)}: another file is in its place{_REPAIR}")

    def _where(self, place: Place) -> str:
        return f"{self._folder / place.file}: clip {place.clip_id}" if self._in_tars else f"{self._folder / place.file}"


def _clip_of(header: bytes) -> str:
    """The clip_id in a tar header."""
    return header[:_NAME_BYTES].rstrip(b"\0").decode("utf-8", "replace").partition(".")[0]


_REPAIR = "; `k710 verify MANIFEST --repair` mends the store"
