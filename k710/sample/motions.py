"""Moving shapes whose motion is the class: a single frame does not show the class, only the change between frames.

A shape has a position (x and y), a size and an angle. Each of these four is a position on a ring: a shape that leaves
at the top comes in at the bottom, and after its largest size it is smallest again. The start is uniformly random, and
the class only decides how the shape continues. A shift on a ring keeps a uniform distribution uniform. So **every
single
frame has exactly the same distribution in every class**. All random numbers are drawn before the label is used, so the
first frame of a clip is the same picture for every label. A model that sees one frame has chance accuracy.

Training mirrors clips, so no class depends on left and right: the side to which a shape moves, circles or turns is
random. Played backwards, down becomes up, growing becomes shrinking, climbing becomes digging, and the other four
motions stay the same.

A clip shows about one cycle of its motion (bouncing: one and a half), so eight frames of it are enough.
"""

from __future__ import annotations

import colorsys
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from k710.errors import UsageError
from k710.lists.labels import Alignment

Frame = npt.NDArray[np.uint8]  # (height_px, width_px, 3), RGB
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Look:
    """The size, the rate and the `noise` (in grey levels of 255) of a video, and its x264 settings.

    A `plain` look has a bright shape on a dark background of one colour.
    """

    width_px: int = 128
    height_px: int = 96
    fps: int = 15
    noise: int = 4
    preset: str = "veryfast"
    crf: int = 26
    plain: bool = False

    def __post_init__(self) -> None:
        if min(self.width_px, self.height_px) < 32 or self.width_px % 2 or self.height_px % 2:
            raise UsageError(f"{self.width_px}x{self.height_px}: the sides must be even and at least 32 pixels")
        if self.fps < 1 or not 0 <= self.noise <= 16:
            raise UsageError(
                f"{self.fps} fps, noise {self.noise}: the rate must be at least 1 fps, and the noise from 0 to 16"
            )

    def num_frames(self, duration_s: float) -> int:
        return round(duration_s * self.fps)


# Small and quick; like the files in the archives of the releases; small enough for whole videos of minutes; and as
# small, with nothing in the frame but what moves. Its files are lossless: what a codec leaves of an edge on one colour
# counts as much as the edge where pixels are normalised by their own deviation, as masked pretraining does it.
LOOKS = {
    "quick": Look(),
    "released": Look(340, 256, 30, noise=9, preset="medium", crf=23),  # some 400 kbit/s; decodes as fast as theirs
    "tiny": Look(64, 48, 8),
    "plain": Look(64, 48, 8, noise=0, crf=0, plain=True),
}

# A course gives the way of the shape after `t` cycles, (num_frames,): (num_frames, 4), in turns of the rings of x, y,
# size
# and angle; downwards is positive. `side` is -1 or 1, `phase` is from 0 to 1.
Course = Callable[[Floats, int, float], Floats]


def _steady(*, aside: float = 0, down: float = 0, grow: float = 0, turn: float = 0) -> Course:
    def course(t: Floats, side: int, phase: float) -> Floats:
        return np.outer(t, [side * aside, down, grow, side * turn])

    return course


def _circling(t: Floats, side: int, phase: float) -> Floats:
    angle = 2 * np.pi * (t + phase)
    return np.stack([side * np.cos(angle), np.sin(angle), 0 * t, 0 * t], axis=1) * 0.25


def _bouncing(t: Floats, side: int, phase: float) -> Floats:
    return np.stack([0 * t, -0.45 * np.abs(np.sin(np.pi * (1.5 * t + phase))), 0 * t, 0 * t], axis=1)


# The motion of each class of the sample (generate.CLASSES).
MOTIONS: dict[str, tuple[str, Course]] = {
    "abseiling": ("down", _steady(down=1)),
    "archery": ("aside", _steady(aside=1)),
    "bouncing on trampoline": ("bouncing", _bouncing),
    "juggling balls": ("circling", _circling),
    "tying necktie": ("shrinking", _steady(grow=-1)),
    "inflating balloons": ("growing", _steady(grow=1)),
    "picking apples": ("up", _steady(down=-1)),
    "riding mountain bike": ("climbing", _steady(aside=1, down=-1)),
    "bull fighting": ("turning", _steady(turn=1)),
    "archaeological excavation": ("digging", _steady(aside=1, down=1)),
}

# The area of each shape, in its own coordinates from -1 to 1. No shape looks the same after less than half a turn, so
# that
# turning is visible. Each is inside the unit circle, so that it can turn.
_SHAPES: tuple[Callable[[Floats, Floats], npt.NDArray[np.bool_]], ...] = (
    lambda u, v: (np.abs(u) < 0.92) & (np.abs(v) < 0.36),  # a bar
    lambda u, v: (u * u + v * v < 1) & (v > -0.1),  # half a disc
    lambda u, v: (u * u + v * v < 1) & (np.abs(v) > u),  # a disc without a quarter
    lambda u, v: (v < 0.62) & (np.abs(u) < 0.38 * (v + 1)),  # a triangle that points
    lambda u, v: (np.abs(u) < 0.7) & (np.abs(v) < 0.7) & ((u < -0.1) | (v > 0.1)),  # an L
)


def motion_of(label: str) -> tuple[str, Course]:
    """The name and the course of the motion of a class; the label may be spelled as in any release.

    Raises LabelError for an unknown class, UsageError for a class that is not in the sample.
    """
    name = Alignment().align(label)
    if name not in MOTIONS:
        raise UsageError(f"{label!r} is not a class of the sample; it has {', '.join(MOTIONS)}")
    return MOTIONS[name]


def motion_frames(
    label: str, youtube_id: str, num_frames: int, look: Look, *, start_s: int = 0, seed: int = 0
) -> Iterator[Frame]:
    """The `num_frames` frames of a clip, uint8 (height_px, width_px, 3) RGB, spread evenly over its whole motion.

    So eight frames show the whole clip, not its beginning. Background, shape and colour depend on (seed, youtube_id);
    the start of the motion also depends on start_s. So two spans of one video share the scene. Raises
    LabelError or UsageError as `motion_of`.
    """
    _, course = motion_of(label)
    return _moving(course, youtube_id, num_frames, look, start_s, seed)


def still_frames(youtube_id: str, num_frames: int, look: Look, *, start_s: int = 0, seed: int = 0) -> Iterator[Frame]:
    """The scene of a video without its shape, as in `motion_frames`: the frames outside every span."""
    scene, rng = _Scene(youtube_id, look, seed), _rng(seed, youtube_id, start_s, "still")
    for offset in scene.noise_offsets(rng, num_frames):
        yield scene.frame(None, offset)


def _moving(course: Course, youtube_id: str, num_frames: int, look: Look, start_s: int, seed: int) -> Iterator[Frame]:
    scene, rng = _Scene(youtube_id, look, seed), _rng(seed, youtube_id, start_s)
    start = rng.uniform(size=4)
    speed, side, phase = rng.uniform(0.9, 1.2), int(rng.choice([-1, 1])), rng.uniform()
    t = speed * np.arange(num_frames) / max(num_frames, 1)
    moved = course(t, side, phase) - course(np.zeros(1), side, phase)
    places = (start + moved) % 1
    for place, offset in zip(places, scene.noise_offsets(rng, num_frames), strict=True):
        yield scene.frame(place, offset)


def _rng(*key: object) -> np.random.Generator:
    """A separate generator for every key, the same on every machine; Python's hash is not used."""
    return np.random.default_rng(list(hashlib.sha256(repr(key).encode()).digest()))


class _Scene:
    """The constant parts of a video: a muted background with some texture, and one vivid shape."""

    _SLACK_PX = (
        32  # the noise image is larger than the frame and shifted in each frame, which is cheaper than new noise
    )

    def __init__(self, youtube_id: str, look: Look, seed: int) -> None:
        rng = _rng(seed, youtube_id)
        self._size = look.height_px, look.width_px
        self._background = _background(rng, look)
        self._shape = _SHAPES[rng.integers(len(_SHAPES))]
        rgb = colorsys.hsv_to_rgb(rng.uniform(), rng.uniform(0.8, 1), rng.uniform(0.6, 0.9))
        self._colour = (np.array(rgb) * 220 + 18).astype(np.uint8)
        if look.plain:
            self._colour = self._colour // 3 + 150
        plate = (look.height_px + self._SLACK_PX, look.width_px + self._SLACK_PX, 3)
        self._noise = rng.integers(-look.noise, look.noise, plate, np.int8, endpoint=True).view(np.uint8)

    def noise_offsets(self, rng: np.random.Generator, num_frames: int) -> npt.NDArray[np.int64]:
        """The offset of each frame in the noise image: (num_frames, 2)."""
        return rng.integers(self._SLACK_PX, size=(num_frames, 2), endpoint=True)

    def frame(self, place: Floats | None, noise_offset: npt.NDArray[np.int64]) -> Frame:
        """The scene with its shape at `place`, or without it."""
        frame = self._background.copy()
        if place is not None:
            self._draw(frame, place)
        (height, width), (y, x) = self._size, noise_offset
        # Colours are at least 16 away from black and white, so that added noise never wraps around modulo 256.
        frame += self._noise[y : y + height, x : x + width]
        return frame

    def _draw(self, frame: Frame, place: Floats) -> None:
        height, width = self._size
        x, y = place[0] * width, place[1] * height
        radius = (
            0.14 * min(height, width) * 2.5 ** place[2]
        )  # at most 0.35 of the short side, so that the shape never touches itself
        reach = int(radius) + 1
        rows, columns = (np.arange(int(centre) - reach, int(centre) + reach + 2) for centre in (y, x))
        v, u = (rows[:, None] - y) / radius, (columns[None, :] - x) / radius
        cos, sin = np.cos(2 * np.pi * place[3]), np.sin(2 * np.pi * place[3])
        inside = self._shape(cos * u + sin * v, cos * v - sin * u)
        frame[(rows % height)[:, None], (columns % width)[None, :]] = np.where(
            inside[:, :, None], self._colour, frame[(rows % height)[:, None], (columns % width)[None, :]]
        )


def _background(rng: np.random.Generator, look: Look) -> Frame:
    """A tinted grey with a gradient and blotches: never plain, and never as vivid as the shape. Of a plain look, a dark
    grey without them."""
    y, x = np.mgrid[0 : 1 : look.height_px * 1j, 0 : 1 : look.width_px * 1j]
    slope = rng.uniform(-30, 30, 2)
    level = rng.uniform(80, 175)
    grey = level + slope[0] * (x - 0.5) + slope[1] * (y - 0.5)
    for frequency, phase in zip(rng.uniform(-5, 5, (6, 2)), rng.uniform(size=6), strict=True):
        grey += 5 * np.sin(2 * np.pi * (frequency[0] * x + frequency[1] * y + phase))
    tinted: Floats = grey[:, :, None] + rng.uniform(-8, 8, 3)
    if look.plain:  # without the tint too: where it lies between two colours of a file, the file has both
        return np.full_like(tinted, level / 2, np.uint8)
    return tinted.clip(16, 239).astype(np.uint8)
