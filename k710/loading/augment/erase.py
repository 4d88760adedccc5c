"""Random erasing (Zhong et al., 2020): one box of a clip, the same in all its frames, becomes noise."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from k710.random_key import Draws

AREA = (0.02, 1 / 3)
ASPECT = (0.3, 1 / 0.3)
_TRIES = 10


class EraseBox(NamedTuple):
    """The rectangle that is erased, in pixels of the crop, and the seed of its noise."""

    top: int
    left: int
    height: int
    width: int
    seed: int


def choose_erase(crop_px: int, prob: float, draws: Draws) -> EraseBox | None:
    """A box for a crop of `crop_px` x `crop_px`, or None: by chance, or because none of ten tries fits."""
    if draws.uniform() >= prob:
        return None
    for _ in range(_TRIES):
        area = crop_px * crop_px * draws.uniform(*AREA)
        aspect = math.exp(draws.uniform(math.log(ASPECT[0]), math.log(ASPECT[1])))
        height, width = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < height < crop_px and 0 < width < crop_px:
            top, left = draws.integer(0, crop_px - height), draws.integer(0, crop_px - width)
            return EraseBox(top, left, height, width, int(draws.raw(1)[0] >> 1))
    return None


def erase(clip: Tensor, box: EraseBox) -> None:
    """Fill the box of a normalised clip (C, T, H, W) with normal noise, each pixel its own, in place.

    The noise follows from the box's seed; it is not the same on CPU and CUDA, whose generators differ.
    """
    generator = torch.Generator(clip.device).manual_seed(box.seed)
    region = clip[:, :, box.top : box.top + box.height, box.left : box.left + box.width]
    region.copy_(torch.randn(region.shape, generator=generator, device=clip.device, dtype=clip.dtype))
