"""Random numbers that belong to a sample, not to a process: their key is (seed, epoch, clip, repeat).

A sample gets the same numbers in every worker, rank and batch. The generator is Philox, which is counter-based: its key
and the upper words of its counter identify the sample, and the lowest word counts the draws. So two samples never share
numbers. NumPy guarantees the raw 64-bit output of its Philox for all versions, but not its distributions. So the
distributions that k710 needs are defined here.
"""

from __future__ import annotations

import functools
import hashlib
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from k710.errors import UsageError

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

# One stream for each use, so that switching one augmentation off does not change the draws of the others.
STREAMS = {
    "order": 0,
    "frames": 1,
    "crop": 2,
    "flip": 3,
    "jitter": 4,
    "randaugment": 5,
    "erase": 6,
    "mix": 7,
    "mask": 8,
    "view": 9,
}


@dataclass(frozen=True)
class RandomKey:
    """The key of one sample's random numbers.

    `clip` is the clip_id, or a number for the clip. With the clip_id, the numbers do not depend on the subset or order
    of the dataset. `repeat` counts the samples of one clip in one epoch. Raises UsageError for a number
    outside 0..2**64-1.
    """

    seed: int
    epoch: int
    clip: str | int
    repeat: int = 0

    def __post_init__(self) -> None:
        for name in ("seed", "epoch", "clip", "repeat"):
            value = getattr(self, name)
            if not isinstance(value, str) and not 0 <= value < 2**64:
                raise UsageError(f"{name} of a random key is {value}; allowed: 0 to 2**64 - 1")

    def draws(self, stream: str) -> Draws:
        """The numbers of this sample for one use; `stream` is one of STREAMS."""
        clip = _number_of(self.clip) if isinstance(self.clip, str) else self.clip
        key = np.array([self.seed, STREAMS[stream]], np.uint64)
        counter = np.array([0, self.repeat, self.epoch, clip], np.uint64)
        return Draws(np.random.Philox(key=key, counter=counter))


@functools.lru_cache(maxsize=64)  # a clip's streams are asked for one after another
def _number_of(clip_id: str) -> int:
    return int.from_bytes(hashlib.blake2b(clip_id.encode(), digest_size=8).digest(), "little")


class Draws:
    """Numbers drawn one after another from one generator."""

    def __init__(self, bits: np.random.Philox) -> None:
        self._bits = bits

    def raw(self, size: int) -> npt.NDArray[np.uint64]:
        """(size,) numbers of 64 random bits."""
        return np.asarray(self._bits.random_raw(size), np.uint64)

    def uniforms(self, size: int) -> Floats:
        """(size,) numbers in [0, 1), each a multiple of 2**-53."""
        return (self.raw(size) >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """A number in [low, high)."""
        # As `uniforms`, without an array of one number.
        return low + (high - low) * ((int(self._bits.random_raw()) >> 11) * 2.0**-53)

    def integer(self, low: int, high: int) -> int:
        """A whole number from low to high, both included."""
        return low + int(self.uniform() * (high - low + 1))

    def integers(self, low: Ints, high: Ints) -> Ints:
        """(n,) whole numbers, each from its own low to its own high, both included."""
        return low + (self.uniforms(len(low)) * (high - low + 1)).astype(np.int64)

    def normal(self, mean: float, std: float) -> float:
        """A number of the normal distribution (Box and Muller's method)."""
        radius, turn = self.uniforms(2)
        return mean + std * math.sqrt(-2.0 * math.log(1.0 - radius)) * math.cos(2.0 * math.pi * turn)

    def gamma_below_one(self, shape: float) -> float:
        """A number of the gamma distribution for 0 < shape <= 1 (Ahrens and Dieter's rejection)."""
        bound = (math.e + shape) / math.e
        while True:
            first, second = bound * self.uniform(), 1.0 - self.uniform()
            if first <= 1.0:
                value = math.pow(first, 1.0 / shape)
                if second <= math.exp(-value):
                    return value
            else:
                value = -math.log((bound - first) / shape)
                if second <= math.pow(value, shape - 1.0):
                    return value
