"""What a decoder is given and what it gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from k710.random_key import Ints
from k710.store.containers import Container

Pixels = npt.NDArray[np.uint8]  # (num_frames, height_px, width_px, 3), RGB, upright
# From the number of frames of a clip to the wanted frames: they may repeat and be in any order.
Choose = Callable[[int], Ints]


@dataclass(frozen=True)
class Decoder:
    """`decode` gives the wanted frames of a video file whose container is known; it raises LoadError.

    `why_unavailable` says why this machine cannot use the decoder; None where it can.
    """

    decode: Callable[[bytes, Container, Choose], Pixels]
    why_unavailable: Callable[[], str | None]
