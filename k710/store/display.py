"""Display of decoded pictures: with square pixels, upright, and not mirrored.

Every reader of clips uses this module, so that a clip has the same shape in all profiles. The rules are those of
ffmpeg's option `autorotate`, because ffmpeg makes the encoded profiles.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.filter import Graph
from av.video.reformatter import Interpolation, VideoReformatter

MAX_PIXELS = 8192 * 4352  # more than 8K; a larger size is an attack or an error

Matrix = tuple[int, ...]  # 3 x 3 numbers, row by row; the upper left 2 x 2 rotate and mirror
_UPRIGHT: Matrix = (1, 0, 0, 0, 1, 0, 0, 0, 1)


@dataclass(frozen=True)
class Display:
    """How a decoded picture is shown. `pixel_aspect`: width / height of its pixels; `matrix`: as stored in files."""

    pixel_aspect: Fraction = Fraction(1)
    matrix: Matrix = _UPRIGHT

    @property
    def angle(self) -> int:
        """The clockwise rotation of the picture in degrees, from 0 to 359."""
        across, down = (math.hypot(self.matrix[at], self.matrix[at + 3]) for at in (0, 1))
        if not across or not down:
            return 0  # not a valid matrix: ffmpeg does not rotate such pictures
        return round(math.degrees(math.atan2(self.matrix[1] / down, self.matrix[0] / across))) % 360

    @property
    def is_sideways(self) -> bool:
        """Whether width and height are swapped."""
        return self.angle in (90, 270)

    @property
    def is_quarter_turn(self) -> bool:
        """Whether the picture is rotated by a multiple of 90 degrees and not mirrored."""
        a, b, c, d = (self.matrix[at] for at in (0, 1, 3, 4))
        return a * d > b * c and (a == d == 0 or b == c == 0)

    def unturned_size(self, width_px: int, height_px: int) -> tuple[int, int]:
        """Width and height with square pixels, before the rotation.

        A stretched picture gets even sides, as every picture of the encoded profiles.
        """
        stretched_px = max(1, round(width_px * self.pixel_aspect))
        if stretched_px == width_px:
            return width_px, height_px
        return max(2, 2 * round(stretched_px / 2)), max(2, 2 * round(height_px / 2))

    def size(self, width_px: int, height_px: int) -> tuple[int, int]:
        """Width and height on the screen of a picture that decodes to `width_px` x `height_px`."""
        across, down = self.unturned_size(width_px, height_px)
        return (down, across) if self.is_sideways else (across, down)

    def upright(self, pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """`pixels` (height_px, width_px, 3) rotated by multiples of 90 degrees and mirrored; see `turned_freely`."""
        matrix, angle = self.matrix, self.angle
        if angle == 0:
            return pixels[::-1] if matrix[4] < 0 else pixels
        if angle == 90:
            return pixels.swapaxes(0, 1) if matrix[3] > 0 else np.rot90(pixels, -1)
        if angle == 180:
            return pixels[:: -1 if matrix[4] < 0 else 1, :: -1 if matrix[0] < 0 else 1]
        if angle == 270:
            return np.rot90(pixels, -1)[::-1] if matrix[3] < 0 else np.rot90(pixels, 1)
        return pixels

    def turned_freely(self, picture: av.VideoFrame) -> av.VideoFrame:
        """The picture rotated, if its angle is no multiple of 90 degrees: its size stays, and corners become black."""
        if self.angle % 90 == 0:
            return picture
        graph = Graph()
        graph.link_nodes(
            graph.add_buffer(width=picture.width, height=picture.height, format=picture.format, time_base=Fraction(1)),
            graph.add("rotate", f"{self.angle}*PI/180"),
            graph.add("buffersink"),
        ).configure()
        graph.push(picture)
        turned: av.VideoFrame = graph.pull()  # type: ignore[assignment]  # a graph of pictures returns pictures
        return turned


def display_of(picture: av.VideoFrame, pixel_aspect: Fraction | None) -> Display:
    """How `picture` is shown; `pixel_aspect` is that of its stream, None or 0 if the stream has none."""
    side_data: Any
    try:
        side_data = picture.side_data
    except ValueError:  # PyAV does not know every kind, such as EXIF in a JPEG, and then gives none of them
        side_data = ()
    matrix = next((data for data in side_data if data.type.name == "DISPLAYMATRIX"), None)
    numbers = _UPRIGHT if matrix is None else tuple(np.frombuffer(bytes(matrix), np.int32)[:9].tolist())
    return Display(pixel_aspect or Fraction(1), numbers if len(numbers) == 9 else _UPRIGHT)


class ScreenPixels:
    """Converts the pictures of a clip to RGB of one size, even if the decoded size changes."""

    def __init__(
        self, width_px: int, height_px: int, pixel_aspect: Fraction | None, *, short_side_px: int | None = None
    ) -> None:
        """`width_px` x `height_px`: the decoded size at the beginning of the clip. `short_side_px`: larger pictures are
        scaled down to it."""
        self._decoded, self._pixel_aspect, self._short_side_px = (width_px, height_px), pixel_aspect, short_side_px
        self._reformatter = VideoReformatter()

    def __call__(self, picture: av.VideoFrame) -> npt.NDArray[np.uint8]:
        """The picture as it is shown, uint8 (height_px, width_px, 3), a view of its own memory. Raises ValueError for a
        size above MAX_PIXELS."""
        display = display_of(picture, self._pixel_aspect)
        width_px, height_px = display.unturned_size(*self._decoded)
        short_px = min(width_px, height_px)
        if self._short_side_px is not None and short_px > self._short_side_px:
            # Even sides, as every picture of the encoded profiles.
            width_px, height_px = (
                max(2, 2 * round(side_px * self._short_side_px / short_px / 2)) for side_px in (width_px, height_px)
            )
        if width_px * height_px > MAX_PIXELS:
            raise ValueError(f"is shown as {width_px}x{height_px} pixels")
        picture = display.turned_freely(picture)
        if (width_px, height_px) != self._decoded:
            picture = self._stretched(picture, width_px, height_px)
        return display.upright(_pixels(self._reformatter.reformat(picture, width_px, height_px, format="rgb24")))

    def _stretched(self, picture: av.VideoFrame, width_px: int, height_px: int) -> av.VideoFrame:
        """Scaled as by ffmpeg, before the colours are converted: both in one step would blur the colours."""
        own = picture.format
        kept = "rgb24" if own.is_rgb or own.has_palette else own.name
        return self._reformatter.reformat(
            picture, width_px, height_px, format=kept, interpolation=Interpolation.BICUBIC
        )


def _pixels(rgb: av.VideoFrame) -> npt.NDArray[np.uint8]:
    """The pixels of an rgb24 picture (height_px, width_px, 3): a view, which keeps the picture's memory."""
    plane = rgb.planes[0]
    if plane.line_size < 3 * rgb.width:  # negative: stored from the bottom up
        return np.asarray(rgb.to_ndarray(), np.uint8)
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(rgb.height, plane.line_size)
    return rows[:, : 3 * rgb.width].reshape(rgb.height, rgb.width, 3)
