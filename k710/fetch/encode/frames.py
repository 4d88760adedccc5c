"""The `frames` profile: some frames of a clip as JPEGs, one behind the other, so that nothing is decoded in vain.

The file is plain motion JPEG, which FFmpeg plays as it is; the media row says where each frame begins.
"""

from __future__ import annotations

from pathlib import Path

import av
import av.error
import numpy as np

from k710.fetch.encode.measured import FramePlaces, Measured
from k710.fetch.encode.restart_markers import RestartMarkers
from k710.fetch.encode.source_file import OPEN_OPTIONS, container_of, open_video, video_stream
from k710.store.failures import ClipError
from k710.store.stored_frames import JPEG_BEGIN, stored_indices


def store_frames(path: Path, stored: Path, num_stored: int, *, restart_markers: bool = False) -> FramePlaces:
    """Write some frames of a file in which every packet is a JPEG, one behind the other, to the file `stored`; with
    `restart_markers`, as RestartMarkers writes them.

    Raises ClipError ("undecodable") where a packet is none.
    """
    with open_video(path, container_of(path)) as file:
        jpegs = [bytes(packet) for packet in file.demux(video_stream(file)) if packet.size]
    indices = tuple(stored_indices(len(jpegs), num_stored).tolist())
    chosen = [jpegs[index] for index in indices]
    if not all(jpeg.startswith(JPEG_BEGIN) for jpeg in chosen):
        raise ClipError("undecodable", "a frame was not made a JPEG")
    if restart_markers:
        again = RestartMarkers()
        chosen = [again(jpeg) for jpeg in chosen]
    ends = np.cumsum([len(jpeg) for jpeg in chosen]).tolist()
    stored.write_bytes(b"".join(chosen))
    return FramePlaces((0, *ends[:-1]), indices)


def begins_with_jpeg(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(JPEG_BEGIN)) == JPEG_BEGIN


def measure_frames(path: Path) -> Measured:
    """Decode every JPEG of a stored clip; the result has only their size, number and codec. Raises ClipError."""
    options = OPEN_OPTIONS | {"format_whitelist": "mjpeg"}
    size, num_frames = (0, 0), 0
    try:
        with av.open(f"file:{path.resolve()}", format="mjpeg", options=options) as file:
            for picture in file.decode(file.streams.video[0]):
                size, num_frames = (picture.width, picture.height), num_frames + (not picture.is_corrupt)
    except (av.error.FFmpegError, ValueError, IndexError) as error:
        raise ClipError("corrupt", f"frame {num_frames} does not decode: {error}") from None
    return Measured(*size, 0.0, num_frames, 0.0, "mjpeg")
