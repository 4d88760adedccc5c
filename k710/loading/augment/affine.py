"""Affine transforms of uint8 clips as Pillow's `Image.transform(AFFINE, BICUBIC)` computes them, many clips at once.

Pillow's cubic kernel is the one with a = -1 here (its resize has a = -0.5, torch's grid_sample a = -0.75), it repeats
the border inside, fills where the source point lies outside, and truncates the result.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

# Source point of output pixel (x, y), both centred: (a x + b y + c, d x + e y + f).
Matrix = tuple[float, float, float, float, float, float]

FILL = 128
# The sums below may fall short of a whole number by float32's error, and would lose a whole level to truncation.
_SLACK = 1e-4


def _rotation(degrees: float, height: int, width: int) -> Matrix:
    """About the middle of the frame, counter-clockwise as Image.rotate has it."""
    sine, cosine = math.sin(-math.radians(degrees)), math.cos(math.radians(degrees))
    x, y = width / 2, height / 2
    return (cosine, sine, x - cosine * x - sine * y, -sine, cosine, y + sine * x - cosine * y)


# Values: degrees; offset per row or column; part of the width or height.
MATRICES: dict[str, Callable[[float, int, int], Matrix]] = {
    "rotate": _rotation,
    "shear_x": lambda value, height, width: (1, value, 0, 0, 1, 0),
    "shear_y": lambda value, height, width: (1, 0, 0, value, 1, 0),
    "translate_x": lambda value, height, width: (1, 0, value * width, 0, 1, 0),
    "translate_y": lambda value, height, width: (1, 0, 0, 0, 1, value * height),
}

# Which of the 4 x 4 neighbours count. Where a transform moves along one axis alone, those of that axis do.
_ALL, _ONE = (-1, 0, 1, 2), (0,)
_TAPS = {
    "rotate": (_ALL, _ALL),
    "shear_x": (_ONE, _ALL),
    "shear_y": (_ALL, _ONE),
    "translate_x": (_ONE, _ALL),
    "translate_y": (_ALL, _ONE),
}


def axis(name: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Which rows and columns around a source point count for a transform; transforms of one kind can go together."""
    return _TAPS[name]


def transform(clips: Tensor, matrices: Tensor, taps: tuple[tuple[int, ...], tuple[int, ...]]) -> Tensor:
    """Each clip by its own matrix. `clips` uint8 (N, T, C, H, W), `matrices` float64 (N, 6); same shape back."""
    num_clips, num_frames, num_channels, height, width = clips.shape
    x, y = _source_points(matrices, height, width)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    columns, column_weights = _neighbours(x, width, taps[1])
    rows, row_weights = _neighbours(y, height, taps[0])
    start = torch.arange(num_clips, dtype=torch.int32, device=clips.device).view(-1, 1, 1, 1, 1) * (height * width)
    index = start + rows.unsqueeze(-1) * width + columns.unsqueeze(-2)  # (N, H, W, rows, columns)
    weights = row_weights.unsqueeze(-1) * column_weights.unsqueeze(-2)
    num_taps = len(taps[0]) * len(taps[1])
    # All frames and channels of a pixel move alike: one row of a matrix, and a weighted sum of few rows.
    # Contiguous even where a view would do, or embedding_bag takes a slow way.
    pixels = clips.permute(0, 3, 4, 1, 2).reshape(-1, num_frames * num_channels).contiguous().to(torch.float32)
    moved = functional.embedding_bag(
        index.view(-1, num_taps), pixels, per_sample_weights=weights.view(-1, num_taps), mode="sum"
    )
    moved = moved.add_(_SLACK).clamp_(0, 255).masked_fill_(~inside.view(-1, 1), FILL).to(torch.uint8)
    return moved.view(num_clips, height, width, num_frames, num_channels).permute(0, 3, 4, 1, 2)


def _source_points(matrices: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Where each output pixel's centre comes from: two float64 (N, H, W)."""
    a, b, c, d, e, f = (column.view(-1, 1, 1) for column in matrices.unbind(1))
    x = torch.arange(width, dtype=torch.float64, device=matrices.device).view(1, 1, -1) + 0.5
    y = torch.arange(height, dtype=torch.float64, device=matrices.device).view(1, -1, 1) + 0.5
    return a * x + b * y + c, d * x + e * y + f


def _neighbours(points: Tensor, size: int, taps: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """The pixels around points of one axis, the border repeated, and their weights: two (N, H, W, taps)."""
    floor = (points - 0.5).floor()
    offset = (points - 0.5 - floor).to(torch.float32)
    index = torch.stack([floor + tap for tap in taps], -1).clamp_(0, size - 1).to(torch.int32)
    if len(taps) == 1:
        return index, torch.ones_like(index, dtype=torch.float32)
    square, cube = offset**2, offset**3
    weights = (2 * square - cube - offset, cube - 2 * square + 1, offset + square - cube, cube - square)
    return index, torch.stack(weights, -1)
