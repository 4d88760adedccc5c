"""Footage with as much detail as camera footage: fractal landscapes with camera motion and moving objects.

The spectrum of natural pictures falls with the square of the frequency, and so does that of these. No two videos share
a landscape, and the shots of one video share only its seed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from PIL import Image

from k710.sample.motions import Frame, Look

_OBJECTS = 3
_SHOT_S = 6.0  # the mean time between cuts


def textured_frames(name: str, num_frames: int, look: Look, *, start_s: float = 0.0) -> Iterator[Frame]:
    """`num_frames` frames of the video `name` from `start_s` on, uint8 (height_px, width_px, 3) RGB.

    A time in a video gives the same picture for every size and rate of `look`, so that copies can start at another
    time.
    """
    times = start_s + np.arange(num_frames) / look.fps
    shot, made = None, -1
    for time_s in times.tolist():
        if int(time_s // _SHOT_S) != made:
            made = int(time_s // _SHOT_S)
            shot = _Shot(f"{name}/{made}", look)
        assert shot is not None
        yield shot.frame(time_s - made * _SHOT_S)


class _Shot:
    """A landscape larger than the frame, and textured objects that cross it."""

    _ROOM = 1.4  # the sides of the landscape, relative to the frame

    def __init__(self, name: str, look: Look) -> None:
        rng = np.random.default_rng(list(hashlib.sha256(name.encode()).digest()))
        self._size = look.height_px, look.width_px
        height, width = (round(side * self._ROOM) for side in self._size)
        self._land = _resized(_fractal(rng, 256, 384), width, height)
        self._pan = rng.uniform(0.1, 0.9, 2), rng.uniform(-0.09, 0.09, 2)  # the start, and the motion per second
        side = round(0.4 * look.height_px)
        self._things = [_resized(_fractal(rng, 64, 64), side, side) for _ in range(_OBJECTS)]
        self._starts, self._ways = rng.uniform(0, 1, (_OBJECTS, 2)), rng.uniform(-0.35, 0.35, (_OBJECTS, 2))
        v, u = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
        self._inside = u * u + v * v < 1

    def frame(self, time_s: float) -> Frame:
        """The picture `time_s` after the beginning of the shot."""
        (height, width), (start, speed) = self._size, self._pan
        room = self._land.shape[0] - height, self._land.shape[1] - width
        # Back and forth, so that it never leaves the landscape.
        place = np.abs((start + speed * time_s + 1) % 2 - 1)
        top, left = (round(float(share) * free) for share, free in zip(place, room, strict=True))
        frame = self._land[top : top + height, left : left + width].copy()
        for thing, begin, way in zip(self._things, self._starts, self._ways, strict=True):
            self._draw(frame, thing, np.abs((begin + way * time_s + 1) % 2 - 1))
        return frame

    def _draw(self, frame: Frame, thing: Frame, place: npt.NDArray[np.float64]) -> None:
        side = len(thing)
        top, left = (round(float(share) * (size - side)) for share, size in zip(place, self._size, strict=True))
        into = frame[top : top + side, left : left + side]
        into[self._inside] = thing[self._inside]


def _fractal(rng: np.random.Generator, height: int, width: int) -> npt.NDArray[np.uint8]:
    """Noise whose amplitude falls with the frequency; mostly grey, like natural pictures."""
    squared = np.fft.fftfreq(height)[:, None] ** 2 + np.fft.fftfreq(width)[None] ** 2
    squared[0, 0] = np.inf
    planes = []
    for _ in range(3):
        phases = rng.normal(size=(height, width)) + 1j * rng.normal(size=(height, width))
        plane = np.fft.ifft2(phases / np.sqrt(squared) ** 1.1).real
        planes.append(plane / plane.std())
    grey = planes[0]
    colours = np.stack([grey + 0.3 * (plane - grey) for plane in planes], axis=-1)
    contrast, brightness = rng.uniform(35, 60), rng.uniform(95, 150)
    return (colours * contrast + brightness).clip(0, 255).astype(np.uint8)


def _resized(picture: npt.NDArray[np.uint8], width: int, height: int) -> Frame:
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC))
