"""Augmentation of whole batches on the device: operations, random resized crop, flip, normalisation, erasing.

Clips come as uint8 tensors (T, H, W, 3), each of its own size, and leave as one float tensor (B, 3, T, S, S). What
happens to a clip is chosen on the host from its random key and its size alone, the same for all its frames. So a
sample looks the same in any batch, and nothing waits for the device.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from k710.errors import UsageError
from k710.loading.augment.boxes import CROPS, Box, choose_box, multi_scale_box
from k710.loading.augment.operations import apply_operations
from k710.loading.augment.randaugment import Operation, RandAugment
from k710.random_key import Draws, RandomKey
from k710.text import counted

# The released code normalises with these for every channel, not with CLIP's values.
MEAN = (0.45, 0.45, 0.45)
STD = (0.225, 0.225, 0.225)

# Of random erasing: the part of the crop that a box covers, and its height by its width.
_ERASED_AREA = (0.02, 1 / 3)
_ERASED_ASPECT = (0.3, 1 / 0.3)
_ERASE_TRIES = 10

# Operations that change each pixel by its own colour alone.
_BY_PIXEL = frozenset({"invert", "posterize", "solarize", "solarize_add", "color", "brightness"})


class EraseBox(NamedTuple):
    """The rectangle that is erased, in pixels of the crop, and the seed of its noise."""

    top: int
    left: int
    height: int
    width: int
    seed: int


@dataclass(frozen=True)
class Augment:
    """What training does to a clip; the defaults are the released code's. Raises UsageError for values not allowed.

    `randaugment` is a spec such as `rand-m7-n4-mstd0.5-inc1`, or None. `order`: "published" applies the operations to
    the whole frame and crops then; "crop_first" crops, resizes and rounds first, which costs less and leaves the fill
    of moved frames inside the crop. `color_jitter` j: brightness, contrast and colour each by a factor of 1-j to 1+j,
    in random order (listed as 0.4 in the paper, never applied by the released code). `crop`: "random_resized" draws an
    area and an aspect; "multi_scale" takes one of TSN's few sizes and places instead. `erase_prob`: of random erasing.
    `in_integers` is evaluation_crops': how its crops are rounded.
    """

    crop_px: int = 224
    area: tuple[float, float] = (0.08, 1.0)
    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    flip_prob: float = 0.5
    randaugment: str | None = "rand-m7-n4-mstd0.5-inc1"
    color_jitter: float = 0.0
    erase_prob: float = 0.0
    order: str = "published"
    crop: str = "random_resized"
    mean: tuple[float, float, float] = MEAN
    std: tuple[float, float, float] = STD
    in_integers: bool = False

    def __post_init__(self) -> None:
        if self.order not in _ORDERS:
            raise UsageError(f"unknown augment order {self.order!r}; known: {', '.join(_ORDERS)}")
        if self.crop not in CROPS:
            raise UsageError(f"unknown crop {self.crop!r}; known: {', '.join(CROPS)}")
        if self.crop_px < 1 or not 0 < self.area[0] <= self.area[1] <= 1 or not 0 < self.aspect[0] <= self.aspect[1]:
            raise UsageError(
                f"crop of {self.crop_px} px, area {self.area}, aspect {self.aspect}; allowed: at least 1 px, "
                "0 < smallest area <= largest <= 1, 0 < smallest aspect <= largest"
            )
        for name in ("flip_prob", "color_jitter", "erase_prob"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"{name} is {getattr(self, name)}; allowed: 0 to 1")
        if min(self.std) <= 0:
            raise UsageError(f"std is {self.std}; allowed: above 0")
        if self.randaugment is not None:
            RandAugment.parse(self.randaugment)

    def choose(self, key: RandomKey, height: int, width: int) -> Choices:
        """What happens to the clip of this key; its frames have `height` x `width` pixels."""
        operations = _choose_jitter(self.color_jitter, key.draws("jitter")) if self.color_jitter else ()
        if self.randaugment is not None:
            operations += RandAugment.parse(self.randaugment).draw(key.draws("randaugment"))
        if self.crop == "multi_scale":
            box = multi_scale_box(height, width, self.crop_px, key.draws("crop"))
        else:
            box = choose_box(height, width, self.area, self.aspect, key.draws("crop"))
        return Choices(
            box=box,
            flip=key.draws("flip").uniform() < self.flip_prob,
            operations=operations,
            erase=choose_erase(self.crop_px, self.erase_prob, key.draws("erase")) if self.erase_prob else None,
        )

    def part(self, choices: Choices) -> Box | None:
        """The box of a frame that is enough to make the clip from, with the same result; None: the whole frame.

        Cropped first, a clip is its crop. In the published order, operations that move pixels, or that depend on other
        pixels, need the whole frame.
        """
        if self.order == "crop_first" or all(operation.name in _BY_PIXEL for operation in choices.operations):
            return choices.box
        return None


class Choices(NamedTuple):
    """What happens to one clip."""

    box: Box
    flip: bool
    operations: tuple[Operation, ...]
    erase: EraseBox | None = None


@torch.no_grad()
def augment(
    clips: Sequence[Tensor], choices: Sequence[Choices], settings: Augment, *, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Augmented clips (B, 3, T, S, S), normalised, on the device that the clips are on.

    `clips`: uint8 (T, H, W, 3), T the same for all; `choices`: one for each, made for its size. Raises UsageError for
    clips of another form.
    """
    check_clips(clips)
    if len(clips) != len(choices):
        raise UsageError(f"{counted(len(clips), 'clip')}, {counted(len(choices), 'choice')}; there must be as many")
    for clip, choice in zip(clips, choices, strict=True):
        if choice.box.top + choice.box.height > clip.shape[1] or choice.box.left + choice.box.width > clip.shape[2]:
            raise UsageError(f"{choice.box} was chosen for frames larger than {clip.shape[1]} x {clip.shape[2]}")
    batch = normalise(_ORDERS[settings.order](clips, choices, settings.crop_px), settings.mean, settings.std)
    for number, choice in enumerate(choices):
        if choice.erase is not None:
            erase(batch[number], choice.erase)
    return batch.to(dtype)


def choose_erase(crop_px: int, prob: float, draws: Draws) -> EraseBox | None:
    """Where random erasing (Zhong et al., 2020) erases a crop of `crop_px` x `crop_px`; the same box in all frames.

    None where chance decides against erasing, and where none of ten boxes fits.
    """
    if draws.uniform() >= prob:
        return None
    for _ in range(_ERASE_TRIES):
        area = crop_px * crop_px * draws.uniform(*_ERASED_AREA)
        aspect = math.exp(draws.uniform(math.log(_ERASED_ASPECT[0]), math.log(_ERASED_ASPECT[1])))
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


def resize(frames: Tensor, height: int, width: int) -> Tensor:
    """Frames (T, 3, H, W) as float32 (T, 3, height, width): bilinear between pixel centres, no antialiasing.

    That is what the released code resizes with, up and down.
    """
    return functional.interpolate(frames.to(torch.float32), size=(height, width), mode="bilinear", align_corners=False)


def planes(clip: Tensor) -> Tensor:
    """A view of a clip (T, H, W, 3) as (T, 3, H, W)."""
    return clip.permute(0, 3, 1, 2)


def normalise(batch: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Values of 0..255 in (B, 3, T, H, W) become (value / 255 - mean) / std, in place."""
    for channel, (centre, spread) in enumerate(zip(mean, std, strict=True)):
        batch[:, channel].mul_(1 / (255 * spread)).sub_(centre / spread)
    return batch


def check_clips(clips: Sequence[Tensor]) -> None:
    """Raises UsageError unless there is a clip and all are uint8 (T, H, W, 3) with one T."""
    for clip in clips:
        if clip.dtype != torch.uint8 or clip.dim() != 4 or clip.shape[-1] != 3 or not clip.numel():
            raise UsageError(f"a clip is {clip.dtype} {tuple(clip.shape)}; needed: torch.uint8 (T, H, W, 3)")
    if len({len(clip) for clip in clips}) != 1:
        raise UsageError(f"clips of {[len(clip) for clip in clips]} frames in one batch; needed: one number for all")


def _published(clips: Sequence[Tensor], choices: Sequence[Choices], crop_px: int) -> Tensor:
    """Operations on whole frames, then the crop. Clips of one size go through the operations together."""
    batch = _empty_batch(clips, crop_px)
    sizes = defaultdict(list)
    for number, clip in enumerate(clips):
        sizes[clip.shape].append(number)
    for numbers in sizes.values():
        changed = apply_operations(
            torch.stack([planes(clips[number]) for number in numbers]),
            [choices[number].operations for number in numbers],
        )
        for clip, number in zip(changed, numbers, strict=True):
            batch[number] = _cropped(clip, choices[number], crop_px).transpose(0, 1)
    return batch


def _crop_first(clips: Sequence[Tensor], choices: Sequence[Choices], crop_px: int) -> Tensor:
    """The crop, rounded to uint8 again, then operations on the whole batch."""
    crops = [_cropped(planes(clip), choice, crop_px) for clip, choice in zip(clips, choices, strict=True)]
    pixels = torch.stack(crops).round_().clamp_(0, 255).to(torch.uint8)
    changed = apply_operations(pixels, [choice.operations for choice in choices])
    return changed.transpose(1, 2).to(torch.float32, memory_format=torch.contiguous_format)


_ORDERS: dict[str, Callable[[Sequence[Tensor], Sequence[Choices], int], Tensor]] = {
    "published": _published,
    "crop_first": _crop_first,
}


def _cropped(clip: Tensor, choice: Choices, crop_px: int) -> Tensor:
    """The box of a clip (T, 3, H, W), resized and flipped: float32 (T, 3, S, S)."""
    top, left, height, width = choice.box
    resized = resize(clip[:, :, top : top + height, left : left + width], crop_px, crop_px)
    return resized.flip(-1) if choice.flip else resized


def _empty_batch(clips: Sequence[Tensor], crop_px: int) -> Tensor:
    return torch.empty((len(clips), 3, len(clips[0]), crop_px, crop_px), device=clips[0].device)


def _choose_jitter(strength: float, draws: Draws) -> tuple[Operation, ...]:
    operations = [
        Operation(name, draws.uniform(1 - strength, 1 + strength)) for name in ("brightness", "contrast", "color")
    ]
    rank = draws.uniforms(len(operations))
    return tuple(operations[number] for number in rank.argsort(kind="stable"))
