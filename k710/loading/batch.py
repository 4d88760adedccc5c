"""The two forms of a batch: clips packed into one block of bytes by a worker, and the tensors of a training loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from k710.loading.augment.augment import Choices
from k710.loading.augment.mix import MixChoice
from k710.loading.load_clip import LoadedClip
from k710.loading.order import Sample


@dataclass
class PackedBatch:
    """Clips of different sizes in one block of uint8, which is sent between processes, pinned and copied only once.

    `choices`: the augmentation of each clip (training); `crops`: the number of its crop (evaluation). `seen`: kept
    features (B, …) by name; then there are no pixels.
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
    seen: dict[str, Tensor] | None = None

    @property
    def clips(self) -> list[Tensor]:
        """The clips, uint8 (num_frames, height_px, width_px, 3) each: views of the block, on its device."""
        pieces = torch.split(self.block, [math.prod(shape) for shape in self.shapes])
        return [piece.view(shape) for piece, shape in zip(pieces, self.shapes, strict=True)]

    def pin_memory(self) -> PackedBatch:
        """Called by torch's loader."""
        return self._each(lambda tensor: tensor.pin_memory())

    def to(self, device: torch.device) -> PackedBatch:
        """The batch on `device`; from pinned memory without waiting for the copy."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def _each(self, work: Callable[[Tensor], Tensor]) -> PackedBatch:
        seen = None if self.seen is None else {name: work(tensor) for name, tensor in self.seen.items()}
        block, class_ids, weights = work(self.block), work(self.class_ids), work(self.weights)
        return replace(self, block=block, class_ids=class_ids, weights=weights, seen=seen)


@dataclass
class Batch:
    """A batch of a training loop. `pixels`: (B, 3, num_frames, crop_px, crop_px), augmented and normalised.

    `class_ids`: (B,) int64, -1 without label; `targets`: (B, classes) where clips are mixed, else None; `weights`: (B,)
    1, or 0 for a clip that failed, whose error is in `errors` by clip_id. `samples`: the Sample of each.
    `teacher_logits`: (B, classes), where another model has seen the same pixels. `seen`: kept features (B, …) by name,
    in place of pixels, of which there are none then.
    """

    pixels: Tensor
    class_ids: Tensor
    weights: Tensor
    clip_ids: list[str]
    samples: list[Sample]
    errors: dict[str, str]
    targets: Tensor | None = None
    teacher_logits: Tensor | None = None
    seen: dict[str, Tensor] | None = None

    @property
    def inputs(self) -> Any:
        """What a model is called with: pixels, or what its frozen part has seen of them."""
        return self.pixels if self.seen is None else self.seen


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
