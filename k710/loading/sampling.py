"""Which frames of a clip make a view, and which views make an evaluation. Pure functions on numbers of frames.

`sparse` is what UniFormerV2 was trained and measured with (released code, Kinetics loader): the clip in equal segments,
a random frame of each in training, the middle of each in evaluation. `dense` is a window of frames a fixed stride
apart, as EVL's released code samples. `window` is a window of `num_frames` x `stride` frames, as VideoMAE's released
code samples; only its views of an evaluation are exactly `stride` apart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from k710.errors import UsageError
from k710.random_key import Draws, Ints

METHODS = ("sparse", "dense", "window")
CENTRE_CROP = 1
_MOST_STRIDE = 10**6


class View(NamedTuple):
    """One look at a clip in evaluation: which of its temporal clips, and which crop along the longer side.

    Crops: 0 left or top, 1 centre, 2 right or bottom.
    """

    clip: int
    crop: int


@dataclass(frozen=True)
class FrameSampling:
    """How the frames of a view are chosen. `stride` counts source frames; `dense` and `window` have one.

    Raises UsageError where the values contradict each other.
    """

    num_frames: int
    method: str = "sparse"
    stride: int | None = None

    def __post_init__(self) -> None:
        if self.num_frames < 1:
            raise UsageError(f"num_frames is {self.num_frames}; a view has at least 1")
        if self.method not in METHODS:
            raise UsageError(f"unknown frame sampling {self.method!r}; known: {', '.join(METHODS)}")
        if (self.method != "sparse") != (self.stride is not None) or (
            self.stride is not None and not 1 <= self.stride <= _MOST_STRIDE
        ):
            raise UsageError(
                f"stride is {self.stride}; dense and window sampling need one of at least 1, sparse takes none"
            )

    def train(self, num_source_frames: int, draws: Draws) -> Ints:
        """(num_frames,) source frame indices of a random view, never decreasing."""
        return _TRAIN[self.method](self, _checked(num_source_frames), draws)

    def test(self, num_source_frames: int, *, clip: int = 0, num_clips: int = 1) -> Ints:
        """(num_frames,) source frame indices of temporal clip `clip` of `num_clips`; validation is clip 0 of 1."""
        if not 0 <= clip < num_clips:
            raise UsageError(f"clip {clip} of {num_clips}; allowed: 0 to {num_clips - 1}")
        return _TEST[self.method](self, _checked(num_source_frames), clip, num_clips)


def evaluation_views(num_clips: int, num_crops: int) -> tuple[View, ...]:
    """The views of an evaluation in the published order: all crops of the first temporal clip, then of the next.

    One crop is the centre; three are placed along the longer side. Raises UsageError for other numbers.
    """
    if num_clips < 1 or num_crops not in (1, 3):
        raise UsageError(f"{num_clips} clips x {num_crops} crops; allowed: at least 1 clip, 1 or 3 crops")
    crops = (CENTRE_CROP,) if num_crops == 1 else (0, 1, 2)
    return tuple(View(clip, crop) for clip in range(num_clips) for crop in crops)


def segment_ranges(num_source_frames: int, num_frames: int) -> tuple[Ints, Ints]:
    """First and last frame of each segment, (num_frames,) each, both included; neighbours share their border.

    The segments divide 0..n-1, not 0..n, and borders are rounded half to even, as the released code has it.
    """
    borders = _rounded(np.arange(num_frames + 1) * _segment_length(num_source_frames, num_frames))
    return borders[:-1], borders[1:]


def nearest_stored(indices: Ints, stored: Ints) -> Ints:
    """Positions in `stored` of the stored frames nearest to source frames; the earlier one of two equally near.

    `indices` (n,) count source frames; `stored` (k,) are the source indices of the stored frames, strictly increasing.
    The frame that is shown instead is off by at most `storage_error(stored, num_source_frames)`. Order is kept; with
    fewer stored frames than wanted ones, some are shown more than once. Raises UsageError if `stored` is empty or not
    increasing.
    """
    if not len(stored) or (np.diff(stored) <= 0).any():
        raise UsageError("stored frames must be at least one and have strictly increasing source indices")
    after = np.clip(np.searchsorted(stored, indices), 0, len(stored) - 1)
    before = np.maximum(after - 1, 0)
    return np.where(indices - stored[before] <= stored[after] - indices, before, after).astype(np.int64)


def storage_error(stored: Ints, num_source_frames: int) -> int:
    """How many source frames `nearest_stored` is off at worst, over all frames of the clip.

    Half the widest gap between two stored frames, or the distance to an end. 64 frames spread over the 300 of ten
    seconds at 30 fps are at most 5 apart: off by at most 2 frames, 0.07 s.
    """
    between = int(np.diff(stored).max()) // 2 if len(stored) > 1 else 0
    return max(between, int(stored[0]), num_source_frames - 1 - int(stored[-1]))


def _sparse_train(sampling: FrameSampling, num_source_frames: int, draws: Draws) -> Ints:
    return draws.integers(*segment_ranges(num_source_frames, sampling.num_frames))


def _sparse_test(sampling: FrameSampling, num_source_frames: int, clip: int, num_clips: int) -> Ints:
    length = _segment_length(num_source_frames, sampling.num_frames)
    starts = _rounded(np.arange(sampling.num_frames) * length)
    # Borders are rounded but the way into the segment is truncated, so the last index stays inside the clip.
    return starts + int(length / (num_clips + 1) * (clip + 1))


def _dense_train(sampling: FrameSampling, num_source_frames: int, draws: Draws) -> Ints:
    frames = _apart(sampling, num_source_frames, draws.integer(0, _room(sampling, num_source_frames)))
    # Of a clip that is too short, the release shows the last frame that a stride reaches; in testing, the very last.
    stride, short = _stride(sampling), _room(sampling, num_source_frames) == 0
    return np.minimum(frames, (num_source_frames - 1) // stride * stride) if short else frames


def _dense_test(sampling: FrameSampling, num_source_frames: int, clip: int, num_clips: int) -> Ints:
    room = _room(sampling, num_source_frames)
    start = room // 2 if num_clips == 1 else round(room / (num_clips - 1) * clip)
    return _apart(sampling, num_source_frames, start)


def _window_train(sampling: FrameSampling, num_source_frames: int, draws: Draws) -> Ints:
    spare = num_source_frames - _window_length(sampling)
    # The release draws the window's end below the last frame, so that frame is never in one.
    return _in_window(sampling, num_source_frames, draws.integer(0, spare - 1) if spare > 0 else 0)


def _window_test(sampling: FrameSampling, num_source_frames: int, clip: int, num_clips: int) -> Ints:
    """One view is the release's validation: the window in the middle. Several are its test: windows of frames exactly
    `stride` apart, spread over the clip."""
    stride, num_frames = _stride(sampling), sampling.num_frames
    if num_clips == 1:
        return _in_window(sampling, num_source_frames, max(num_source_frames - _window_length(sampling), 0) // 2)
    num_shown = -(-num_source_frames // stride)
    start = int(clip * max((num_shown - num_frames) / (num_clips - 1), 0))
    return np.asarray(np.minimum(start + np.arange(num_frames), num_shown - 1) * stride, np.int64)


_TRAIN: dict[str, Callable[[FrameSampling, int, Draws], Ints]] = {
    "sparse": _sparse_train,
    "dense": _dense_train,
    "window": _window_train,
}
_TEST: dict[str, Callable[[FrameSampling, int, int, int], Ints]] = {
    "sparse": _sparse_test,
    "dense": _dense_test,
    "window": _window_test,
}


def _in_window(sampling: FrameSampling, num_source_frames: int, start: int) -> Ints:
    """Frames spread over the window from `start`, both ends included, truncated, and the end kept inside: mean steps of
    64 / 15 for 16 x 4. A clip that is no longer than the window has so many as it has strides, then its last frame.
    """
    length, num_frames = _window_length(sampling), sampling.num_frames
    if num_source_frames <= length:
        num_spread = num_source_frames // _stride(sampling)
        points = np.linspace(0, num_source_frames, num_spread)
        points = np.append(points, np.full(num_frames - num_spread, num_source_frames))
        return np.minimum(points, num_source_frames - 1).astype(np.int64)
    return np.minimum(np.linspace(start, start + length, num_frames), start + length - 1).astype(np.int64)


def _window_length(sampling: FrameSampling) -> int:
    return sampling.num_frames * _stride(sampling)


def _stride(sampling: FrameSampling) -> int:
    assert sampling.stride is not None
    return sampling.stride


def _apart(sampling: FrameSampling, num_source_frames: int, start: int) -> Ints:
    """Frames `stride` apart from `start`; a clip that is too short shows its last frame until the view is full."""
    frames = start + _stride(sampling) * np.arange(sampling.num_frames)
    return np.minimum(frames, num_source_frames - 1)


def _room(sampling: FrameSampling, num_source_frames: int) -> int:
    """The last frame at which a window can start and still fit; 0 where none fits."""
    return max(num_source_frames - (sampling.num_frames - 1) * _stride(sampling) - 1, 0)


def _segment_length(num_source_frames: int, num_frames: int) -> float:
    return (num_source_frames - 1) / num_frames


def _rounded(values: npt.NDArray[np.floating[Any]]) -> Ints:
    return np.asarray(np.rint(values), np.int64)


def _checked(num_source_frames: int) -> int:
    if num_source_frames < 1:
        raise UsageError(f"a clip of {num_source_frames} frames; at least 1 is needed")
    return num_source_frames
