"""The crops of validation and testing: the short side is resized to the crop, which is cut from the longer side.

As in the released code, frames are not resized to a short side of 256 first. Releases round differently, by a pixel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from k710.errors import UsageError
from k710.loading.augment.augment import MEAN, STD, check_clips, normalise, planes, resize
from k710.loading.augment.boxes import Box
from k710.loading.sampling import CENTRE_CROP
from k710.text import counted


def resized_size(height: int, width: int, crop_px: int, *, in_integers: bool = False) -> tuple[int, int]:
    """Height and width once the short side has `crop_px` pixels; the longer side is rounded down.

    UniFormerV2's code rounds the product of a ratio, which may lie a pixel below; EVL's divides `in_integers`.
    """
    if in_integers:
        short = min(height, width)
        return height * crop_px // short, width * crop_px // short
    if width < height:
        return math.floor(height / width * crop_px), crop_px
    return crop_px, math.floor(width / height * crop_px)


def crop_box(height: int, width: int, crop_px: int, crop: int, *, in_integers: bool = False) -> Box:
    """Where a crop lies in frames of the resized size: 0 at the left or top, 1 in the middle, 2 at the right or bottom.

    The middle is rounded up, as UniFormerV2's code has it; `in_integers` down, as EVL's. Raises UsageError for another
    number.
    """
    if crop not in (0, 1, 2):
        raise UsageError(f"crop {crop}; allowed: 0, 1, 2")
    room_y, room_x = height - crop_px, width - crop_px
    top, left = (room_y // 2, room_x // 2) if in_integers else (math.ceil(room_y / 2), math.ceil(room_x / 2))
    if crop != CENTRE_CROP:
        # The crops differ along the longer side alone.
        top, left = (room_y * crop // 2, left) if height > width else (top, room_x * crop // 2)
    return Box(top, left, crop_px, crop_px)


@torch.no_grad()
def evaluation_crops(
    clips: Sequence[Tensor],
    crops: Sequence[int],
    *,
    crop_px: int = 224,
    mean: tuple[float, float, float] = MEAN,
    std: tuple[float, float, float] = STD,
    in_integers: bool = False,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """One crop of each clip, normalised: (B, 3, T, crop_px, crop_px) on the clips' device.

    `clips`: uint8 (T, H, W, 3), each of its own size, T the same for all; `crops`: which crop of each, 0, 1 or 2, as
    `evaluation_views` numbers them; `in_integers` as `crop_box` has it. Raises UsageError for clips of another form.
    """
    check_clips(clips)
    if len(clips) != len(crops):
        raise UsageError(f"{counted(len(clips), 'clip')}, {counted(len(crops), 'crop')}; there must be as many")
    batch = torch.empty((len(clips), 3, len(clips[0]), crop_px, crop_px), device=clips[0].device)
    for number, (clip, crop) in enumerate(zip(clips, crops, strict=True)):
        height, width = resized_size(clip.shape[1], clip.shape[2], crop_px, in_integers=in_integers)
        top, left, _, _ = crop_box(height, width, crop_px, crop, in_integers=in_integers)
        resized = resize(planes(clip), height, width)
        batch[number] = resized[:, :, top : top + crop_px, left : left + crop_px].transpose(0, 1)
    return normalise(batch, mean, std).to(dtype)
