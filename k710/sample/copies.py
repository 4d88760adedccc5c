"""Copies of a video, as after a second upload: re-encoded, scaled, mirrored, framed, and so on."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from k710.sample.motions import Frame, Look


@dataclass(frozen=True)
class Copy:
    """How a copy is made: `change` of every frame, encoded at `crf`, scaled by `scale`, starting `shift_s` later."""

    change: Callable[[Frame], Frame] | None = None
    crf: int = 26
    scale: float = 1.0
    shift_s: float = 0.0

    def look(self, look: Look) -> Look:
        """The look of the copy of a video with `look`."""
        width, height = (2 * round(side * self.scale / 2) for side in (look.width_px, look.height_px))
        return replace(look, width_px=width, height_px=height, crf=self.crf)

    def frames(self, frames: Iterable[Frame], look: Look) -> Iterable[Frame]:
        """The frames of the copy from those of the original, at the size of `look`, the look of the copy."""
        for frame in frames:
            changed = frame if self.change is None else self.change(frame)
            yield _sized(changed, look.width_px, look.height_px)


def mirrored(frame: Frame) -> Frame:
    """The mirrored frame."""
    return np.ascontiguousarray(frame[:, ::-1])


def letterboxed(frame: Frame) -> Frame:
    """The frame between two black bars, each an eighth of the height."""
    height, width = frame.shape[:2]
    bar = round(height / 8)
    boxed = np.zeros_like(frame)
    boxed[bar : height - bar] = _sized(frame, width, height - 2 * bar)
    return boxed


def pillarboxed(frame: Frame) -> Frame:
    """The frame between two black bars at the sides, each an eighth of the width."""
    return np.ascontiguousarray(letterboxed(frame.transpose(1, 0, 2)).transpose(1, 0, 2))


def cropped(frame: Frame) -> Frame:
    """The frame without a twentieth on each side: nine tenths of width and height are left."""
    height, width = frame.shape[:2]
    top, left = round(height / 20), round(width / 20)
    return np.ascontiguousarray(frame[top : height - top, left : width - left])


def brightened(frame: Frame) -> Frame:
    """The frame a quarter and 15 levels brighter, up to white."""
    return (frame.astype(np.float32) * 1.25 + 15).clip(0, 255).astype(np.uint8)


def watermarked(frame: Frame) -> Frame:
    """The frame with a half-transparent white box in a corner, a fifth of the width and a tenth of the height."""
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
