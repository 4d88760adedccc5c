"""The two forms of a batch: clips packed into one block of bytes by a worker, and the tensors of a training loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
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


def pack_clips(loaded: Iterable[LoadedClip], num_clips: int) -> tuple[PackedBatch, list[LoadedClip]]:
    """The clips of a batch, about `num_clips`, in one block; and the clips themselves, their pixels in the block.

    A clip is copied when it comes, so its memory can be used for the next one: what a program gets anew, the system
    first fills with zeros, page by page, which for a batch takes as long as decoding it.
    """
    block, packed = np.empty(0, np.uint8), []
    stop = 0
    for clip in loaded:
        start, stop = stop, stop + clip.pixels.numel()
        if stop > len(block):
            block = _larger(block, start, max(stop, 2 * len(block), num_clips * clip.pixels.numel()))
        # Of NumPy's large arrays the system makes huge pages; of torch's it does not.
        pixels = torch.from_numpy(block[start:stop]).view(clip.pixels.shape)
        packed.append(clip._replace(pixels=pixels.copy_(clip.pixels)))
    batch = PackedBatch(
        block=torch.from_numpy(block[:stop]),
        shapes=[tuple(clip.pixels.shape) for clip in packed],
        class_ids=torch.tensor([clip.class_id for clip in packed], dtype=torch.int64),
        weights=torch.tensor([clip.weight for clip in packed], dtype=torch.float32),
        clip_ids=[clip.clip_id for clip in packed],
        samples=[clip.sample for clip in packed],
        errors={clip.clip_id: clip.error for clip in packed if clip.error is not None},
    )
    return batch, packed


def _larger(block: npt.NDArray[np.uint8], used: int, size: int) -> npt.NDArray[np.uint8]:
    """A block of `size` bytes that begins with the `used` ones of `block`."""
    larger = np.empty(size, np.uint8)
    larger[:used] = block[:used]
    return larger
