"""Mixup (Zhang et al., 2018) and CutMix (Yun et al., 2019): clips of a batch and their labels, mixed in pairs.

Off in UniFormerV2's recipes; VideoMAE V2 uses both (0.8 and 1.0). The first clip of a batch is paired with the last,
and so on inwards: which clip is the partner follows from the batch, all else from the clip's own random key; or, as
in VideoMAE V2's released code, from that of the first clip, the same for all that a GPU takes at once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from k710.errors import UsageError
from k710.loading.augment.pixel_ops import to_device
from k710.random_key import Draws, RandomKey

PER = ("clip", "batch")


class MixChoice(NamedTuple):
    """How much of a clip stays, 0 to 1, and which box (top, left, height, width) comes from its partner.

    Without a box all pixels are mixed.
    """

    keep: float
    box: tuple[int, int, int, int] | None = None


@dataclass(frozen=True)
class Mix:
    """How clips are mixed: the Beta distributions of both ways (0 switches one off), and how often CutMix is taken
    where both are on. `per`: whether each clip has a choice of its own, or a batch one. Raises UsageError for numbers
    outside 0..1.
    """

    mixup_alpha: float = 0.0
    cutmix_alpha: float = 0.0
    cutmix_prob: float = 0.5
    per: str = "clip"

    def __post_init__(self) -> None:
        for name in ("mixup_alpha", "cutmix_alpha", "cutmix_prob"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"{name} is {getattr(self, name)}; allowed: 0 to 1")

        if self.per not in PER:
            raise UsageError(f"clips are mixed per {self.per!r}; known: {', '.join(PER)}")

    def choose_all(self, keys: Sequence[RandomKey], crop_px: int) -> list[MixChoice]:
        """What happens to each clip of a batch, which has these keys."""
        if self.per == "batch":
            return [self.choose(keys[0], crop_px)] * len(keys)
        return [self.choose(key, crop_px) for key in keys]

    def choose(self, key: RandomKey, crop_px: int) -> MixChoice:
        """What happens to the clip of this key, in a crop of `crop_px` x `crop_px`."""
        draws = key.draws("mix")
        takes_cutmix = draws.uniform() < self.cutmix_prob
        if self.cutmix_alpha and (takes_cutmix or not self.mixup_alpha):
            return _choose_cutmix(_beta(self.cutmix_alpha, draws), crop_px, draws)
        return MixChoice(_beta(self.mixup_alpha, draws) if self.mixup_alpha else 1.0)


@torch.no_grad()
def mix(batch: Tensor, labels: Tensor, num_classes: int, choices: Sequence[MixChoice]) -> tuple[Tensor, Tensor]:
    """The mixed batch (B, C, T, H, W) and its labels as parts of each class (B, num_classes), float32, sums of 1.

    `labels` (B,) are class indices.
    """
    keep = to_device([float(choice.keep) for choice in choices], batch.device)
    # With a box, the pixels outside it stay and those inside are the partner's.
    share = keep.to(batch.dtype).view(-1, 1, 1, 1, 1)
    boxes = [choice.box for choice in choices]
    if any(box is not None for box in boxes):
        share = torch.where(_given(boxes, batch.device), _outside(boxes, batch), share)
    targets = functional.one_hot(labels, num_classes).to(torch.float32)
    kept = keep.unsqueeze(1)
    return batch * share + batch.flip(0) * (1 - share), targets * kept + targets.flip(0) * (1 - kept)


def _choose_cutmix(keep: float, crop_px: int, draws: Draws) -> MixChoice:
    """A box of 1 - keep of the area, cut off at the frame's border; the area that is left decides the labels."""
    half = crop_px * math.sqrt(1 - keep) / 2
    y, x = draws.uniform(0, crop_px), draws.uniform(0, crop_px)
    top, bottom = max(round(y - half), 0), min(round(y + half), crop_px)
    left, right = max(round(x - half), 0), min(round(x + half), crop_px)
    height, width = bottom - top, right - left
    return MixChoice(1 - height * width / crop_px**2, (top, left, height, width))


def _beta(alpha: float, draws: Draws) -> float:
    one, two = draws.gamma_below_one(alpha), draws.gamma_below_one(alpha)
    # Both may underflow for a tiny alpha; then the clip keeps all or nothing.
    return one / (one + two) if one + two else float(draws.uniform() < 0.5)


def _given(boxes: Sequence[tuple[int, int, int, int] | None], device: torch.device) -> Tensor:
    return to_device([int(box is not None) for box in boxes], device).bool().view(-1, 1, 1, 1, 1)


def _outside(boxes: Sequence[tuple[int, int, int, int] | None], batch: Tensor) -> Tensor:
    """1 outside each clip's box, 0 inside: (B, 1, 1, H, W)."""
    edges = to_device(torch.tensor([box or (0, 0, 0, 0) for box in boxes]), batch.device)
    top, left, height, width = (edge.view(-1, 1, 1) for edge in edges.unbind(1))
    y = torch.arange(batch.shape[-2], device=batch.device).view(1, -1, 1)
    x = torch.arange(batch.shape[-1], device=batch.device).view(1, 1, -1)
    inside = (y >= top) & (y < top + height) & (x >= left) & (x < left + width)
    return (~inside).to(batch.dtype)[:, None, None]
