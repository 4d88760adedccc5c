"""The fixed position table: where each token of a clip is, as sines and cosines of its number."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def position_table(num_positions: int, width: int) -> Tensor:
    """(num_positions, width) float32: channels 2i and 2i+1 of row p are sine and cosine of p / 10000^(2i / width).

    Positions are counted along all tokens of a clip, time outermost, as in the release, so the table of another length
    or size is another table: nothing is resized. The release reshapes a table for 8 slots where a model has another
    number of frames at 224 px, which gives 25,088 rows instead of 6,272 for 64 frames; that is not taken over.
    """
    channel = np.arange(width)
    angles = np.arange(num_positions)[:, None] / np.power(10000, 2 * (channel // 2) / width)
    angles[:, 0::2] = np.sin(angles[:, 0::2])
    angles[:, 1::2] = np.cos(angles[:, 1::2])
    return torch.from_numpy(angles).to(torch.float32)
