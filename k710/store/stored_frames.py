"""Which frames of a clip the `frames` profile stores."""

from __future__ import annotations

import numpy as np

from k710.random_key import Ints


def stored_indices(num_source_frames: int, num_stored: int) -> Ints:
    """The frames that the `frames` profile stores of a clip: the first, the last, and others evenly between them; all
    where there are no more than `num_stored`. (k,), strictly increasing."""
    count = min(num_source_frames, num_stored)
    return np.asarray(np.rint(np.linspace(0, num_source_frames - 1, count)), np.int64)
