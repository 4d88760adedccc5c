"""The `frames` profile: some frames of a clip as JPEGs, one behind the other, so that nothing is decoded in vain.

The file is plain motion JPEG, which FFmpeg plays as it is; where each frame begins stands in the media row.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import av
import av.error
import numpy as np

from k710.fetch.encode.jobs import Measured
from k710.fetch.encode.source_file import OPEN_OPTIONS, container_of, open_video, video_stream
from k710.store.failures import ClipError
from k710.store.stored_frames import JPEG_BEGIN, stored_indices

FRAMES_SUFFIX = "mjpeg"


class StoredFrames(NamedTuple):
    """JPEGs one behind the other; where each begins; and which frames of the clip they are, counted from 0."""

    content: bytes
    offsets: tuple[int, ...]
    indices: tuple[int, ...]


def store_frames(path: Path, num_stored: int) -> StoredFrames:
    """Some frames of a file in which every packet is a JPEG, as `encode` makes them for codec frames.

    Raises ClipError ("undecodable") where a packet is none.
    """
    with open_video(path, container_of(path)) as file:
        jpegs = [bytes(packet) for packet in file.demux(video_stream(file)) if packet.size]
    indices = tuple(stored_indices(len(jpegs), num_stored).tolist())
    chosen = [jpegs[index] for index in indices]
    if not all(jpeg.startswith(JPEG_BEGIN) for jpeg in chosen):
        raise ClipError("undecodable", "a frame was not made a JPEG")
    ends = np.cumsum([len(jpeg) for jpeg in chosen]).tolist()
    return StoredFrames(b"".join(chosen), (0, *ends[:-1]), indices)


def begins_with_jpeg(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(JPEG_BEGIN)) == JPEG_BEGIN


def measure_frames(path: Path) -> Measured:
    """Decode every JPEG of a stored clip; of what is measured, only size and number are told. Raises ClipError."""
    options = OPEN_OPTIONS | {"format_whitelist": "mjpeg"}
    size, num_frames = (0, 0), 0
    try:
        with av.open(f"file:{path.resolve()}", format="mjpeg", options=options) as file:
            for picture in file.decode(file.streams.video[0]):
                size, num_frames = (picture.width, picture.height), num_frames + (not picture.is_corrupt)
    except (av.error.FFmpegError, ValueError, IndexError) as error:
        raise ClipError("corrupt", f"frame {num_frames} does not decode: {error}") from None
    return Measured(*size, 0.0, num_frames, 0.0, "mjpeg")
