"""The augmentation of a batch: chosen in the worker that made the batch, applied on the device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from k710.loading.augment.augment import Augment, augment
from k710.loading.augment.evaluation_crops import evaluation_crops
from k710.loading.augment.mix import Mix, MixChoice, mix
from k710.loading.batch import Batch, PackedBatch
from k710.loading.load_clip import LoadedClip
from k710.random_key import RandomKey


@dataclass(frozen=True)
class Finish:
    """Augmentation, mixing and normalisation: chosen in workers from keys and sizes, applied on the device.

    `random_crops`: training with a random crop of each clip; else a clip has the crop of its view.
    """

    augment: Augment
    mix: Mix | None
    random_crops: bool
    num_classes: int
    dtype: torch.dtype

    def choose(self, packed: PackedBatch, loaded: Sequence[LoadedClip], seed: int, crops: list[int]) -> None:
        """Write into `packed` what will happen to each of its clips."""
        keys = [RandomKey(seed, clip.sample.epoch, clip.clip_id, clip.sample.repeat) for clip in loaded]
        if self.random_crops:
            packed.choices = [
                clip.choices or self.augment.choose(key, *clip.pixels.shape[1:3])
                for key, clip in zip(keys, loaded, strict=True)
            ]
        else:
            packed.crops = crops
        if self.mix is not None:
            mixing = self.mix.choose_all(keys, self.augment.crop_px)
            # A clip that failed is not mixed: its black frames must not get into its partner.
            pairs = zip(mixing, loaded, reversed(loaded), strict=True)
            packed.mixing = [m if a.weight and b.weight else MixChoice(1.0) for m, a, b in pairs]

    def apply(self, packed: PackedBatch) -> Batch:
        """The batch as the training loop gets it; `packed` is on the device."""
        settings, targets = self.augment, None
        if packed.seen is not None:
            no_pixels = packed.weights.new_empty((len(packed.samples), 0))
            return Batch(
                no_pixels, packed.class_ids, packed.weights, packed.clip_ids, packed.samples, packed.errors,
                seen=packed.seen,
            )  # fmt: skip
        if packed.choices is not None:
            pixels = augment(packed.clips, packed.choices, settings, dtype=self.dtype)
        else:
            assert packed.crops is not None
            pixels = evaluation_crops(
                packed.clips,
                packed.crops,
                crop_px=settings.crop_px,
                mean=settings.mean,
                std=settings.std,
                in_integers=settings.in_integers,
                dtype=self.dtype,
            )
        if packed.mixing is not None:
            pixels, targets = mix(pixels, packed.class_ids, self.num_classes, packed.mixing)
        return Batch(pixels, packed.class_ids, packed.weights, packed.clip_ids, packed.samples, packed.errors, targets)
