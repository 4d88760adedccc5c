"""The frames of a clip that the `frames` profile stores, as JPEGs."""

from __future__ import annotations

import numpy as np

from k710.random_key import Ints

JPEG_BEGIN = b"\xff\xd8\xff"  # the first bytes of every JPEG


def stored_indices(num_source_frames: int, num_stored: int) -> Ints:
    """The indices of the frames that the `frames` profile stores of a clip: (k,), strictly increasing.

    They are the first frame, the last one, and others evenly between them. A clip of at most `num_stored` frames is
    stored whole.
    """
    count = min(num_source_frames, num_stored)
    return np.asarray(np.rint(np.linspace(0, num_source_frames - 1, count)), np.int64)
