"""What becomes of a video that somebody uploads again: the same pictures, encoded, scaled, mirrored, framed anew."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from k710.sample.motions import Frame, Look


@dataclass(frozen=True)
class Copy:
    """How a copy is made: every frame by `change`, encoded at `crf`, scaled by `scale`, beginning `shift_s` later."""

    change: Callable[[Frame], Frame] | None = None
    crf: int = 26
    scale: float = 1.0
    shift_s: float = 0.0

    def look(self, look: Look) -> Look:
        """The look of the copy of a video of `look`."""
        width, height = (2 * round(side * self.scale / 2) for side in (look.width_px, look.height_px))
        return replace(look, width_px=width, height_px=height, crf=self.crf)

    def frames(self, frames: Iterable[Frame], look: Look) -> Iterable[Frame]:
        """The copy's frames from the original's, at the size of `look`, the copy's."""
        for frame in frames:
            changed = frame if self.change is None else self.change(frame)
            yield _sized(changed, look.width_px, look.height_px)


def mirrored(frame: Frame) -> Frame:
    """As in a mirror."""
    return np.ascontiguousarray(frame[:, ::-1])


def letterboxed(frame: Frame) -> Frame:
    """Between two black bars, each an eighth of the height."""
    height, width = frame.shape[:2]
    bar = round(height / 8)
    boxed = np.zeros_like(frame)
    boxed[bar : height - bar] = _sized(frame, width, height - 2 * bar)
    return boxed


def pillarboxed(frame: Frame) -> Frame:
    """Between two black bars at the sides, each an eighth of the width."""
    return np.ascontiguousarray(letterboxed(frame.transpose(1, 0, 2)).transpose(1, 0, 2))


def cropped(frame: Frame) -> Frame:
    """Without a twentieth of each side: nine tenths of width and height are left."""
    height, width = frame.shape[:2]
    top, left = round(height / 20), round(width / 20)
    return np.ascontiguousarray(frame[top : height - top, left : width - left])


def brightened(frame: Frame) -> Frame:
    """A quarter brighter, and some more; what is white stays white."""
    return (frame.astype(np.float32) * 1.25 + 15).clip(0, 255).astype(np.uint8)


def watermarked(frame: Frame) -> Frame:
    """With a white box in a corner, a fifth of the width and a tenth of the height, half transparent."""
    height, width = frame.shape[:2]
    marked = frame.copy()
    corner = marked[-round(height / 7) : -round(height / 25), -round(width / 4) : -round(width / 25)]
    corner[:] = corner // 2 + 127
    return marked


COPIES = {
    "encoded anew, crf 23": Copy(crf=23),
    "encoded anew, crf 32": Copy(crf=32),
    "encoded anew, crf 40": Copy(crf=40),
    "half the size": Copy(scale=0.5),
    "one and a half times the size": Copy(scale=1.5),
    "mirrored": Copy(mirrored),
    "letterboxed": Copy(letterboxed),
    "pillarboxed": Copy(pillarboxed),
    "cropped by 10 %": Copy(cropped),
    "cropped by 10 % and mirrored": Copy(lambda frame: mirrored(cropped(frame))),
    "brightened": Copy(brightened),
    "watermarked": Copy(watermarked),
    "letterboxed, mirrored, half the size, crf 32": Copy(lambda frame: letterboxed(mirrored(frame)), crf=32, scale=0.5),
    **{f"shifted by {shift_s} s": Copy(shift_s=shift_s) for shift_s in (1.0, 1.25, 2.1, 3.0, 3.7, 5.0)},
}


def _sized(frame: Frame, width: int, height: int) -> Frame:
    if frame.shape[:2] == (height, width):
        return frame
    return np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.BICUBIC))
