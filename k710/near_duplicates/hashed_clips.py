"""The hashes of many clips as columns, for the search for candidates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from k710.near_duplicates.hash_clip import VARIANTS
from k710.near_duplicates.hashes import HASH_WORDS, Words

# The lowest PDQ quality of a frame that is compared: below it are black, flat and plain frames. PDQ's authors use 50
# for
# photographs. A clip has many frames, so frames with little detail are useful here.
MIN_QUALITY = 20
_HASH_BYTES = 8 * HASH_WORDS

Ints32 = npt.NDArray[np.int32]


@dataclass(frozen=True)
class HashedFrames:
    """The usable frames of all clips in one variant, clip by clip.

    `words` (n, 4): the hashes. `clip` (n,): the clip of each frame. `step` (n,): its time in STEP_S. `starts`
    (clips + 1,): the first frame of each clip.
    """

    words: Words
    clip: Ints32
    step: npt.NDArray[np.int16]
    starts: npt.NDArray[np.int64]

    def of(self, clip: int) -> tuple[Words, npt.NDArray[np.int16]]:
        """The words and steps of one clip."""
        part = slice(int(self.starts[clip]), int(self.starts[clip + 1]))
        return self.words[part], self.step[part]

    def only(self, wanted: npt.NDArray[np.bool_]) -> HashedFrames:
        """The frames for which `wanted` (n,) is true."""
        clip = self.clip[wanted]
        starts = np.searchsorted(clip, np.arange(len(self.starts)))
        return HashedFrames(self.words[wanted], clip, self.step[wanted], starts)

    def even_steps(self) -> HashedFrames:
        """The frames at even steps, which are compared with all frames of the other clips."""
        return self.only(self.step % 2 == 0)


@dataclass(frozen=True)
class HashedClips:
    """Clips by their number. `video` (clips,) is equal for clips of one YouTube ID. `column` reads a column of
    signatures.HASHES in the order of the clips; it is not kept in memory."""

    clip_ids: pa.Array
    video: Ints32
    column: Callable[[str], pa.ChunkedArray]

    def __len__(self) -> int:
        return len(self.clip_ids)

    def frames(self, variant: str) -> HashedFrames:
        """The usable frames in one of VARIANTS: every step of `plain`, every second step of the others."""
        every = 1 if variant == VARIANTS[0] else 2
        quality, counts = _bytes(self.column("quality"), 1)
        starts = np.concatenate([[0], np.cumsum(counts)])
        step = np.arange(len(quality)) - np.repeat(starts[:-1], counts)
        clip = np.repeat(np.arange(len(self), dtype=np.int32), counts)
        if every == 2:
            second = step % 2 == 0
            quality, step, clip = quality[second], step[second], clip[second]
        hashes, _ = _bytes(self.column(variant), _HASH_BYTES)
        usable = quality.ravel() >= MIN_QUALITY
        words = hashes[usable].view("<u8").astype(np.uint64, copy=False)
        clip = clip[usable]
        begins = np.searchsorted(clip, np.arange(len(self) + 1))
        return HashedFrames(words, clip, step[usable].astype(np.int16), begins)


def video_codes(youtube_ids: pa.Array) -> Ints32:
    """(n,) a number for each YouTube ID, the same for equal IDs."""
    codes: Ints32 = pc.dictionary_encode(youtube_ids).indices.to_numpy().astype(np.int32)
    return codes


def _bytes(column: pa.ChunkedArray, width: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """(n, width) the concatenated bytes of all rows of a binary column, and (rows,) the number of lines of each row."""
    parts, counts = [np.zeros((0, width), np.uint8)], [np.zeros(0, np.int64)]
    for chunk in column.chunks:
        if not len(chunk):
            continue
        offsets = np.frombuffer(chunk.buffers()[1], np.int64)[chunk.offset : chunk.offset + len(chunk) + 1]
        data = np.frombuffer(chunk.buffers()[2] or b"", np.uint8)
        parts.append(data[offsets[0] : offsets[-1]].reshape(-1, width))
        counts.append(np.diff(offsets) // width)
    # A column of one piece, the usual case, is not copied: it may have a gigabyte.
    return parts[-1] if len(parts) <= 2 else np.concatenate(parts), np.concatenate(counts)
