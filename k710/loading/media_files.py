"""A clip's bytes out of a tar of the store, or out of a file of its own, at random, and checked."""

from __future__ import annotations

import hashlib
import os
import tarfile
from pathlib import Path
from typing import Any

import numpy as np

from k710.errors import LoadError, UsageError
from k710.loading.clip_index import Place
from k710.loading.random_key import Ints

FRAME_READS = ("small", "ranged")
_OPEN_FILES = 128
_NAME_BYTES = 100  # of a tar header


def open_media(path: Path) -> int:
    """A descriptor to read from at random: the one place where a file of media is opened."""
    return os.open(path, os.O_RDONLY)


class MediaFiles:
    """Reads clips from the files under `folder`; the last few stay open. `in_tars`: each stands behind its header.

    `frame_reads`: of stored frames, "small" reads each wanted one by itself, "ranged" all from the first wanted one to
    the last at once, which network storage likes better.
    """

    def __init__(self, folder: Path, *, in_tars: bool, frame_reads: str = "small") -> None:
        if frame_reads not in FRAME_READS:
            raise UsageError(f"unknown frame_reads {frame_reads!r}; known: {', '.join(FRAME_READS)}")
        self._folder, self._in_tars, self._frame_reads = folder, in_tars, frame_reads
        self._open: dict[str, int] = {}  # the last one used is the last

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": {}}  # a worker opens its own

    def __del__(self) -> None:
        for descriptor in getattr(self, "_open", {}).values():
            os.close(descriptor)

    def read(self, place: Place) -> bytes:
        """All bytes of a clip, compared with its hash where one is known. Raises LoadError."""
        descriptor = self._descriptor(place)
        if not self._in_tars:
            size = os.fstat(descriptor).st_size
            return self._bytes(descriptor, place, 0, size)
        header = tarfile.BLOCKSIZE
        whole = self._bytes(descriptor, place, place.offset - header, place.size + header)
        self._check_header(place, whole[:header])
        media = whole[header:]
        if place.digest != int(hashlib.sha256(media).hexdigest()[:16], 16):
            raise LoadError(f"{self._where(place)}: its bytes have changed{_MEND}")
        return media

    def read_frames(self, place: Place, positions: Ints) -> list[bytes]:
        """The stored frames at `positions` (increasing), a JPEG each. Raises LoadError."""
        assert place.frame_offsets is not None
        ends = np.append(place.frame_offsets[1:], place.size)
        begin, end = place.offset + place.frame_offsets[positions], place.offset + ends[positions]
        descriptor, header = self._descriptor(place), tarfile.BLOCKSIZE
        # Their bytes cannot be hashed without reading all; that a tar was changed shows in its header.
        self._check_header(place, self._bytes(descriptor, place, place.offset - header, header))
        if self._frame_reads == "small":
            spans = zip(begin.tolist(), end.tolist(), strict=True)
            return [self._bytes(descriptor, place, start, stop - start) for start, stop in spans]
        first = int(begin[0])
        piece = self._bytes(descriptor, place, first, int(end[-1]) - first)
        return [piece[start - first : stop - first] for start, stop in zip(begin.tolist(), end.tolist(), strict=True)]

    def _descriptor(self, place: Place) -> int:
        descriptor = self._open.pop(place.file, None)
        if descriptor is None:
            try:
                descriptor = open_media(self._folder / place.file)
            except OSError as error:
                gone = isinstance(error, FileNotFoundError)
                said = f"is gone{_MEND}" if gone and self._in_tars else "is gone" if gone else error.strerror
                raise LoadError(f"{self._folder / place.file}: {said}") from None
        self._open[place.file] = descriptor
        if len(self._open) > _OPEN_FILES:
            os.close(self._open.pop(next(iter(self._open))))
        return descriptor

    def _bytes(self, descriptor: int, place: Place, start: int, size: int) -> bytes:
        found = b""
        while len(found) < size:
            try:
                piece = os.pread(descriptor, size - len(found), start + len(found))
            except OSError as error:
                raise LoadError(f"{self._where(place)}: {error.strerror}") from None
            if not piece:
                raise LoadError(f"{self._where(place)}: cut off after {start + len(found):,} bytes{_MEND}")
            found = found + piece if found else piece
        return found

    def _check_header(self, place: Place, header: bytes) -> None:
        name = header[:_NAME_BYTES].rstrip(b"\0").decode("utf-8", "replace")
        if name.partition(".")[0] != place.clip_id:
            raise LoadError(f"{self._where(place)}: another file stands in its place{_MEND}")

    def _where(self, place: Place) -> str:
        return f"{self._folder / place.file}: clip {place.clip_id}" if self._in_tars else f"{self._folder / place.file}"


_MEND = "; `k710 verify MANIFEST --repair` mends the store"
