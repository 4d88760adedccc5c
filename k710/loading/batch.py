"""The two forms of a batch: clips packed into one block of bytes by a worker, and the tensors of a training loop."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from k710.loading.augment.augment import Choices
from k710.loading.augment.mix import MixChoice
from k710.loading.load_clip import LoadedClip
from k710.loading.order import Sample


@dataclass
class PackedBatch:
    """Clips of different sizes in one block of uint8, which is sent between processes, pinned and copied only once.

    `choices`: the augmentation of each clip (training); `crops`: the number of its crop (evaluation).
    """

    block: Tensor  # uint8, (bytes,)
    shapes: list[tuple[int, ...]]  # (num_frames, height_px, width_px, 3) each
    class_ids: Tensor  # int64, (B,)
    weights: Tensor  # float32, (B,)
    clip_ids: list[str]
    samples: list[Sample]
    errors: dict[str, str]
    choices: list[Choices] | None = None
    mixing: list[MixChoice] | None = None
    crops: list[int] | None = None

    @property
    def clips(self) -> list[Tensor]:
        """The clips, uint8 (num_frames, height_px, width_px, 3) each: views of the block, on its device."""
        pieces = torch.split(self.block, [math.prod(shape) for shape in self.shapes])
        return [piece.view(shape) for piece, shape in zip(pieces, self.shapes, strict=True)]

    def pin_memory(self) -> PackedBatch:
        """Called by torch's loader."""
        pinned = [tensor.pin_memory() for tensor in (self.block, self.class_ids, self.weights)]
        return replace(self, block=pinned[0], class_ids=pinned[1], weights=pinned[2])

    def to(self, device: torch.device) -> PackedBatch:
        """The batch on `device`; from pinned memory without waiting for the copy."""
        moved = [tensor.to(device, non_blocking=True) for tensor in (self.block, self.class_ids, self.weights)]
        return replace(self, block=moved[0], class_ids=moved[1], weights=moved[2])


@dataclass
class Batch:
    """A batch of a training loop. `pixels`: (B, 3, num_frames, crop_px, crop_px), augmented and normalised.

    `class_ids`: (B,) int64, -1 without label; `targets`: (B, classes) where clips are mixed, else None; `weights`: (B,)
    1, or 0 for a clip that failed, whose error is in `errors` by clip_id. `samples`: the Sample of each.
    `teacher_logits`: (B, classes), where another model has seen the same pixels.
    """

    pixels: Tensor
    class_ids: Tensor
    weights: Tensor
    clip_ids: list[str]
    samples: list[Sample]
    errors: dict[str, str]
    targets: Tensor | None = None
    teacher_logits: Tensor | None = None


def pack_clips(loaded: Sequence[LoadedClip]) -> PackedBatch:
    """The clips of a batch in one block."""
    block = torch.empty(sum(clip.pixels.numel() for clip in loaded), dtype=torch.uint8)
    start = 0
    for clip in loaded:
        stop = start + clip.pixels.numel()
        block[start:stop].view(clip.pixels.shape).copy_(clip.pixels)
        start = stop
    return PackedBatch(
        block=block,
        shapes=[tuple(clip.pixels.shape) for clip in loaded],
        class_ids=torch.tensor([clip.class_id for clip in loaded], dtype=torch.int64),
        weights=torch.tensor([clip.weight for clip in loaded], dtype=torch.float32),
        clip_ids=[clip.clip_id for clip in loaded],
        samples=[clip.sample for clip in loaded],
        errors={clip.clip_id: clip.error for clip in loaded if clip.error is not None},
    )
