"""The frames of a clip that are hashed, and how they are read: only the bytes that they need are read and decoded."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from k710.loading.clip_index import NO_CLASS, Place
from k710.loading.decoders.decode import decode
from k710.loading.decoders.jpegs import decode_jpegs
from k710.loading.decoders.pixels import Pixels
from k710.loading.media.media_files import MediaFiles
from k710.loading.sampling import nearest_stored
from k710.random_key import Ints
from k710.storage.storage import Location
from k710.store.stored_frames import stored_indices

# The frames of a copy with another start are at most half a step away from ours.
STEP_S = 0.25
# A longer file is not a clip of Kinetics; the rest of it is not read.
MAX_FRAMES = 240


class ClipMedia(NamedTuple):
    """The media row of a clip in the store."""

    clip_id: str
    tar: str
    offset: int
    size: int
    sha256: str
    num_frames: int
    duration_s: float
    frame_offsets: list[int] | None
    frame_indices: list[int] | None

    @property
    def place(self) -> Place:
        """The place of the clip, for the readers of the store."""
        offsets, indices = (
            None if numbers is None else np.asarray(numbers, np.int64)
            for numbers in (self.frame_offsets, self.frame_indices)
        )
        digest = int(self.sha256[:16], 16)
        return Place(
            self.clip_id, NO_CLASS, self.tar, self.offset, self.size, digest, self.num_frames, offsets, indices
        )


COLUMNS = ClipMedia._fields


def hashed_frames(num_frames: int, duration_s: float) -> Ints:
    """The frames nearest to every STEP_S seconds, of `num_frames` over `duration_s`; an index may appear twice."""
    if not num_frames:
        return np.zeros(0, np.int64)
    count = min(max(int(np.ceil(duration_s / STEP_S - 1e-6)), 1), MAX_FRAMES)
    frames = np.rint(np.arange(count) * STEP_S * num_frames / max(duration_s, 1e-6))
    return np.asarray(np.minimum(frames, num_frames - 1), np.int64)


def read_clip(files: MediaFiles, clip: ClipMedia) -> bytes | list[bytes]:
    """The bytes to decode the frames from: the whole clip, or the stored JPEGs. Raises LoadError."""
    if clip.frame_offsets is None:
        return files.read(clip.place)
    return files.read_frames(clip.place, np.unique(_stored(clip)))


def frames_of(clip: ClipMedia, content: bytes | list[bytes]) -> Pixels:
    """The hashed frames of a clip, uint8 (n, height_px, width_px, 3). Raises LoadError for a clip that does not
    decode."""
    if isinstance(content, bytes):
        return decode(content, lambda num_frames: hashed_frames(num_frames, clip.duration_s))
    found: Pixels = decode_jpegs(content)[np.unique(_stored(clip), return_inverse=True)[1]]
    return found


def _stored(clip: ClipMedia) -> Ints:
    """For each hashed frame, the position of the nearest stored frame."""
    assert clip.frame_offsets is not None
    stored = stored_indices(clip.num_frames, len(clip.frame_offsets))
    if clip.frame_indices is not None:
        stored = np.asarray(clip.frame_indices, np.int64)
    return nearest_stored(hashed_frames(clip.num_frames, clip.duration_s), stored)


def media_files(tars_folder: Location) -> MediaFiles:
    """The readers of a store's tars."""
    return MediaFiles(tars_folder, in_tars=True, frame_reads="ranged")
