"""A JPEG written again with restart markers, so that a reader can cut blocks out of it without decoding the others.

Restart markers stand between groups of 16x16 blocks; behind one, nothing depends on what came before. FFmpeg's encoder
writes none inside a row. So its JPEG is decoded to the planes of brightness and colour that were encoded, hidden edges
included, and these are encoded again with the same quantisation. What was a multiple of its step stays that multiple:
one pixel value in 40,000 changes, by 1.
"""

from __future__ import annotations

import io

import av
import av.error
import numpy as np
import numpy.typing as npt
from PIL import Image

from k710.store.jpeg_header import BLOCK_PX, read_header

_OPTIONS = {"subsampling": "4:2:0", "optimize": True}


class RestartMarkers:
    """Writes JPEGs of one clip again; one decoder for all of them."""

    def __init__(self) -> None:
        self._decoder = av.CodecContext.create("mjpeg", "r")

    def __call__(self, jpeg: bytes) -> bytes:
        """The JPEG with a restart marker behind every second block of a row; behind each where their number is odd.

        A JPEG of another kind than 4:2:0, one with markers, or one that does not decode, is returned as it is.
        """
        header = read_header(jpeg)
        if header is None or header.interval:
            return jpeg
        columns, rows = header.blocks
        whole = header.resized(jpeg, columns * BLOCK_PX, rows * BLOCK_PX)  # with the hidden edges of the last blocks
        try:
            pictures = self._decoder.decode(av.Packet(whole))
        except (av.error.FFmpegError, ValueError):
            return jpeg
        if len(pictures) != 1 or pictures[0].format.name not in ("yuvj420p", "yuv420p"):
            return jpeg
        with Image.open(io.BytesIO(jpeg)) as opened:
            tables = opened.quantization  # type: ignore[attr-defined]  # of a JPEG
        out = io.BytesIO()
        blocks = 1 if columns % 2 else 2
        _image(pictures[0]).save(out, "jpeg", qtables=tables, restart_marker_blocks=blocks, **_OPTIONS)
        made = out.getvalue()
        found = read_header(made)
        assert found is not None
        assert found.interval == blocks
        return found.resized(made, header.width_px, header.height_px)


def _image(picture: av.VideoFrame) -> Image.Image:
    """The planes of a 4:2:0 picture as Pillow takes them. Its encoder halves the doubled colours to the same values."""
    luma, *chroma = (_plane(plane) for plane in picture.planes[:3])
    doubled = [plane.repeat(2, axis=0).repeat(2, axis=1) for plane in chroma]
    return Image.merge("YCbCr", [Image.fromarray(np.ascontiguousarray(plane)) for plane in (luma, *doubled)])


def _plane(plane: av.video.plane.VideoPlane) -> npt.NDArray[np.uint8]:
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
    return rows[: plane.height, : plane.width]
