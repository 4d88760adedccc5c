"""RandAugment as UniFormerV2's released code draws it: `rand-m7-n4-mstd0.5-inc1`.

Four times, one of 15 operations is drawn (with replacement) and applied with probability 0.5, with a magnitude of the
normal distribution around 7 of 10. All frames of a clip get the same operations.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from k710.errors import UsageError
from k710.random_key import Draws

MAX_MAGNITUDE = 10.0
APPLY_PROB = 0.5

_SPEC = re.compile(r"rand-m(\d+(?:\.\d+)?)-n(\d+)(?:-mstd(\d+(?:\.\d+)?))?-inc1")


class Operation(NamedTuple):
    """One operation on a clip. `value` is its argument: degrees, factor, bits, part of the width; 0 where none."""

    name: str
    value: float = 0.0


# What a magnitude of 0 to 10 means to each operation; `sign` is 1 or -1, at random. The released "increasing" set, in
# the released order: a larger magnitude always changes a clip more.
LEVELS: dict[str, Callable[[float, int], float]] = {
    "auto_contrast": lambda magnitude, sign: 0.0,
    "equalize": lambda magnitude, sign: 0.0,
    "invert": lambda magnitude, sign: 0.0,
    "rotate": lambda magnitude, sign: sign * magnitude / MAX_MAGNITUDE * 30.0,
    "posterize": lambda magnitude, sign: 4 - int(magnitude / MAX_MAGNITUDE * 4),
    "solarize": lambda magnitude, sign: 256 - int(magnitude / MAX_MAGNITUDE * 256),
    "solarize_add": lambda magnitude, sign: int(magnitude / MAX_MAGNITUDE * 110),
    "color": lambda magnitude, sign: 1.0 + sign * magnitude / MAX_MAGNITUDE * 0.9,
    "contrast": lambda magnitude, sign: 1.0 + sign * magnitude / MAX_MAGNITUDE * 0.9,
    "brightness": lambda magnitude, sign: 1.0 + sign * magnitude / MAX_MAGNITUDE * 0.9,
    "sharpness": lambda magnitude, sign: 1.0 + sign * magnitude / MAX_MAGNITUDE * 0.9,
    "shear_x": lambda magnitude, sign: sign * magnitude / MAX_MAGNITUDE * 0.3,
    "shear_y": lambda magnitude, sign: sign * magnitude / MAX_MAGNITUDE * 0.3,
    "translate_x": lambda magnitude, sign: sign * magnitude / MAX_MAGNITUDE * 0.45,
    "translate_y": lambda magnitude, sign: sign * magnitude / MAX_MAGNITUDE * 0.45,
}


@dataclass(frozen=True)
class RandAugment:
    """How many operations are drawn for a clip, and how strong they are. Raises UsageError for values not allowed."""

    magnitude: float = 7.0
    num_ops: int = 4
    magnitude_std: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.magnitude <= MAX_MAGNITUDE or self.num_ops < 0 or self.magnitude_std < 0:
            raise UsageError(f"{self}: allowed are a magnitude of 0 to 10, num_ops and magnitude_std of at least 0")

    @classmethod
    @functools.cache
    def parse(cls, spec: str) -> RandAugment:
        """Read the form that the papers print. `inc1` is required: the released code has no other set in use.

        (There any `inc`, even `inc0`, switches the increasing set on; here `inc0` is refused.)
        """
        match = _SPEC.fullmatch(spec)
        if not match:
            raise UsageError(f"cannot read the RandAugment {spec!r}; allowed: rand-mM-nN[-mstdS]-inc1, M from 0 to 10")
        return cls(float(match[1]), int(match[2]), float(match[3] or 0))

    def draw(self, draws: Draws) -> tuple[Operation, ...]:
        """The operations that one clip gets, in order."""
        names = tuple(LEVELS)
        operations = []
        for _ in range(self.num_ops):
            # All numbers of a slot are drawn whether used or not, so that slots do not shift one another.
            name, applied = names[draws.integer(0, len(names) - 1)], draws.uniform() < APPLY_PROB
            magnitude = min(max(draws.normal(self.magnitude, self.magnitude_std), 0.0), MAX_MAGNITUDE)
            sign = 1 if draws.uniform() < 0.5 else -1
            if applied:
                operations.append(Operation(name, float(LEVELS[name](magnitude, sign))))
        return tuple(operations)
