"""Operations on the colours of uint8 clips, each as Pillow computes it, for many clips at once.

Clips are uint8 tensors (N, T, 3, H, W), a plane for each channel; arguments are one number per clip. Whatever maps a
channel's value to a value is a table of 256 entries, made per clip or per frame and then looked up in one pass for all
clips. The rounding is Pillow's: blends are computed in float32 and truncated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from k710.random_key import Ints

_NUM_VALUES = 256


def to_device(values: Tensor | Sequence[float] | Sequence[int], device: torch.device) -> Tensor:
    """A host tensor, or numbers (whole ones int64, others float32), on `device`; copied from pinned memory."""
    tensor = values if isinstance(values, Tensor) else torch.tensor(values)
    if device.type == "cpu":
        return tensor
    # From pageable memory the copy would wait for all that is queued on the device.
    return (tensor.pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True)


def look_up(clips: Tensor, tables: Tensor) -> Tensor:
    """Each value replaced by its table's entry. `tables` uint8 (N, T, C, 256), where T and C may be 1."""
    num_clips, num_frames, num_channels = clips.shape[:3]
    tables = tables.expand(num_clips, num_frames, num_channels, _NUM_VALUES).contiguous()
    index = clips.to(torch.int32, memory_format=torch.contiguous_format).add_(_table_starts(clips))
    return tables.view(-1).index_select(0, index.view(-1)).view(clips.shape)


def saturate(clips: Tensor, factors: Tensor) -> Tensor:
    """Blend with the clip's own grey (ImageEnhance.Color): factor 0 is grey, 1 the clip itself. `factors` (N,)."""
    return _blend(lightness(clips).unsqueeze(2), clips, factors)


def sharpen(clips: Tensor, factors: Tensor) -> Tensor:
    """Blend with the clip smoothed (ImageEnhance.Sharpness): factor 0 is smooth, 1 the clip itself. `factors` (N,)."""
    return _blend(smooth(clips), clips, factors)


def lightness(clips: Tensor) -> Tensor:
    """Pillow's conversion to "L" (ITU-R 601-2 in 16 bits of fraction): uint8 (N, T, H, W)."""
    red, green, blue = clips.to(torch.int32).unbind(2)
    return (red * 19595 + green * 38470 + blue * 7471 + 0x8000 >> 16).to(torch.uint8)


def smooth(clips: Tensor) -> Tensor:
    """ImageFilter.SMOOTH: each pixel and its eight neighbours, the pixel five times, by 13. The border stays."""
    values = clips.to(torch.int16)
    rows = values[..., :-2, :] + values[..., 1:-1, :] + values[..., 2:, :]
    sums = (rows[..., :-2] + rows[..., 1:-1]).add_(rows[..., 2:]).add_(values[..., 1:-1, 1:-1], alpha=4)
    smoothed = clips.clone()
    # Rounded to the nearest; thirteenths are never halfway, so float32 is exact enough.
    smoothed[..., 1:-1, 1:-1] = sums.to(torch.float32).mul_(1 / 13).add_(0.5).to(torch.uint8)
    return smoothed


def histogram(clips: Tensor) -> Tensor:
    """How often each value occurs, per frame and channel: int64 (N, T, C, 256)."""
    num_clips, num_frames, num_channels = clips.shape[:3]
    counts = torch.zeros(num_clips * num_frames * num_channels * _NUM_VALUES, dtype=torch.int64, device=clips.device)
    index = (clips.to(torch.int64) + _table_starts(clips)).reshape(-1)
    # Not bincount, which waits for the device to learn the largest value.
    counts.scatter_add_(0, index, torch.ones((), dtype=torch.int64, device=clips.device).expand_as(index))
    return counts.view(num_clips, num_frames, num_channels, _NUM_VALUES)


def auto_contrast_tables(clips: Tensor) -> Tensor:
    """ImageOps.autocontrast: the darkest value of a frame's channel becomes 0, the brightest 255."""
    flat = clips.flatten(3)
    low, high = (edge.to(torch.float64).unsqueeze(-1) for edge in (flat.amin(3), flat.amax(3)))
    scale = 255.0 / (high - low)
    values = torch.arange(_NUM_VALUES, dtype=torch.float64, device=clips.device)
    stretched = (values * scale - low * scale).clamp(0, 255)
    return torch.where(high > low, stretched, values).to(torch.uint8)


def equalize_tables(clips: Tensor) -> Tensor:
    """ImageOps.equalize: values of a frame's channel spread so that all are about equally frequent."""
    counts = histogram(clips)
    num_pixels = clips.shape[3] * clips.shape[4]
    brightest = clips.flatten(3).amax(3).to(torch.int64).unsqueeze(-1)
    # The brightest value is left out of the sum, as in Pillow; a step of 0 also covers a channel of one value only.
    step = torch.div(num_pixels - counts.gather(-1, brightest), 255, rounding_mode="floor")
    below = counts.cumsum(-1) - counts
    spread = torch.div(below + step // 2, step.clamp(min=1), rounding_mode="floor").clamp(max=255)
    values = torch.arange(_NUM_VALUES, device=clips.device)
    return torch.where(step > 0, spread, values).to(torch.uint8)


def contrast_tables(clips: Tensor, factors: Tensor) -> Tensor:
    """ImageEnhance.Contrast: blend with the mean grey of each frame, rounded to a whole value. `factors` (N,)."""
    num_pixels = clips.shape[3] * clips.shape[4]
    total = lightness(clips).sum((2, 3), dtype=torch.int64)
    mean = torch.div(2 * total + num_pixels, 2 * num_pixels, rounding_mode="floor")
    values = torch.arange(_NUM_VALUES, device=clips.device)
    return _blend(mean[..., None, None], values.expand(len(clips), 1, 1, -1), factors)


# Operations that look at no pixel. Of ImageOps and ImageEnhance: invert, posterize (to so many bits), solarize (from a
# threshold on), brightness (blend with black). RandAugment's own: solarize_add, to values darker than the middle.
PLAIN_TABLES: dict[str, Callable[[Ints, float], npt.NDArray[Any]]] = {
    "invert": lambda values, _: 255 - values,
    "posterize": lambda values, bits: values & (0xFF00 >> int(bits)) & 0xFF,
    "solarize": lambda values, threshold: np.where(values < threshold, values, 255 - values),
    "solarize_add": lambda values, added: np.where(values < 128, np.minimum(values + int(added), 255), values),
    "brightness": lambda values, factor: np.minimum(values.astype(np.float32) * np.float32(factor), 255),
}


def plain_tables(operations: Sequence[tuple[str, float]], device: torch.device) -> Tensor:
    """(N, 1, 1, 256) tables of N operations, a name and a value each."""
    values = np.arange(_NUM_VALUES)
    tables = np.stack([PLAIN_TABLES[name](values, value).astype(np.uint8) for name, value in operations])
    return to_device(torch.from_numpy(tables), device)[:, None, None, :]


def _blend(degenerate: Tensor, clips: Tensor, factors: Tensor) -> Tensor:
    base = degenerate.to(torch.float32)
    factors = factors.to(torch.float32).view(-1, *[1] * (clips.dim() - 1))
    difference = clips.to(torch.float32) - base
    return difference.mul_(factors).add_(base).clamp_(0, 255).to(torch.uint8)


def _table_starts(clips: Tensor) -> Tensor:
    """Where each frame's and channel's table starts among all, int32 (N, T, C, 1, 1)."""
    num_clips, num_frames, num_channels = clips.shape[:3]
    number = torch.arange(num_clips * num_frames * num_channels, dtype=torch.int32, device=clips.device)
    return number.view(num_clips, num_frames, num_channels, 1, 1) * _NUM_VALUES
