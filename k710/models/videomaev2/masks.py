"""Dual masking (VideoMAE V2 paper, section 3): which tokens the encoder sees, and which the decoder reconstructs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from k710.models.videomaev2.pretrain_config import PretrainConfig
from k710.random_key import Draws, RandomKey

Grid = tuple[int, int, int]  # tokens in time, down and across
Mask = npt.NDArray[np.bool_]  # (N,), time outermost

_CELL = 2  # positions of a running cell, down and across
STARTS = _CELL * _CELL


def tube_mask(grid: Grid, ratio: float, draws: Draws) -> Mask:
    """What is hidden from the encoder: the same `ratio` of places in every slot of time, rounded down."""
    slots, rows, columns = grid
    places = rows * columns
    order = np.argsort(draws.uniforms(places), kind="stable")
    hidden = np.zeros(places, np.bool_)
    hidden[order[: int(ratio * places)]] = True
    return np.tile(hidden, slots)


def running_cell_mask(grid: Grid, ratio: float, start: int) -> Mask:
    """What the decoder leaves out: `ratio` (quarters) of each cell of 2 x 2 places. The cell, read row by row, turns by
    one place with every slot of time; `start` (0 to 3) says how far it is turned in the first."""
    slots, rows, columns = grid
    slot, row, column = np.ogrid[:slots, :rows, :columns]
    place = row % _CELL * _CELL + column % _CELL
    return np.asarray((place + slot + start + 1) % STARTS < round(ratio * STARTS)).reshape(-1)


def draw_masks(config: PretrainConfig, keys: Sequence[RandomKey]) -> tuple[Tensor, Tensor]:
    """The tokens of each clip that the encoder sees, (B, visible), and those that the decoder reconstructs,
    (B, decoded): their numbers, rising. Each clip draws by its own key.

    Without a mask of the decoder, what is hidden from the encoder is reconstructed. With one, its rest is, whether the
    encoder saw it or not.
    """
    visible, decoded = [], []
    for key in keys:
        draws = key.draws("mask")
        hidden = tube_mask(config.grid, config.mask_ratio, draws)
        left_out = ~hidden
        if config.decoder_mask_ratio:
            left_out = running_cell_mask(config.grid, config.decoder_mask_ratio, draws.integer(0, STARTS - 1))
        visible.append(np.flatnonzero(~hidden))
        decoded.append(np.flatnonzero(~left_out))
    return torch.from_numpy(np.stack(visible)), torch.from_numpy(np.stack(decoded))
