"""The sections of a training recipe, each handed whole to what uses it; docs/train.md describes each key."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from k710.models.families import FAMILIES


@dataclass(frozen=True)
class DataRecipe:
    """Section `data`: whose clips and classes, and what the model sees of a clip."""

    view: str
    num_frames: int
    size_px: int
    num_repeats: int = 1  # samples of each decoded clip
    sampling: str | None = None  # which frames: None for the family's; see k710.loading.sampling
    stride: int | None = None  # in source frames; None for the family's, or none


@dataclass(frozen=True)
class ModelRecipe:
    """Section `model`: a family's preset, what it starts from, and where it differs from the preset.

    `options` are the other keys of the section: fields of the family's configuration, such as `head_dropout`.
    """

    family: str
    preset: str
    start: str  # a start of the family, such as clip; `checkpoint`; `nothing`
    head: str  # of the checkpoint: rows picked by class name, or a new head; none of a model without classes
    options: dict[str, Any] = field(default_factory=dict)

    def config(self, data: DataRecipe, num_classes: int) -> Any:
        """The configuration of the model. Raises UsageError for a preset, size or option that cannot be."""
        family = FAMILIES[self.family]
        sizes = family.sizes(size_px=data.size_px, num_frames=data.num_frames, num_classes=num_classes)
        return family.config(self.preset, **sizes, **self.options)

    def replace(self, key: str, value: Any) -> ModelRecipe:
        """The section with another value. None for a field of the configuration is the preset's value."""
        if key in {field.name for field in dataclasses.fields(self)}:
            return dataclasses.replace(self, **{key: value})
        options = {**self.options, key: value}
        return dataclasses.replace(self, options={key: value for key, value in options.items() if value is not None})


@dataclass(frozen=True)
class OptimRecipe:
    """Section `optim`: batch, epochs, AdamW and its schedule.

    Either `epochs` or `steps` say when a training ends, and the other is 0. Values with a default are off in the
    published runs, or are these projects' usual values.
    """

    batch_size: int  # of all GPUs and pieces together
    gpu_batch_size: int  # what one GPU takes at once; the rest is accumulated
    epochs: int  # 0: `steps` say it
    warmup_epochs: float
    lr: float
    start_lr: float = 1e-6
    end_lr: float = 1e-6
    warmup_reaches_lr: bool = False  # whether the warmup's last step already has lr (numpy.linspace), not the next one
    weight_decay: float = 0.05
    decay_vectors: bool = False  # also biases, norms and other tensors of one dimension
    beta1: float = 0.9
    beta2: float = 0.999
    clip_grad: float = 20.0  # 0: no clipping
    layer_decay: float = 1.0  # 1: one rate for all layers
    pretrained_lr_scale: float = 1.0  # of the rate, for weights that the start gave
    pretrained_decay_scale: float = 1.0  # of the weight decay, for the same
    ema_decay: float = 0.0  # 0: no average
    label_smoothing: float = 0.0
    distill_temperature: float = 3.0  # of the objective `distill`
    precision: str = "bf16"
    steps: int = 0  # 0: `epochs` say it; else the training ends after so many, in the middle of an epoch too

    @property
    def scales_pretrained(self) -> bool:
        """Whether weights that the start gave have another rate or weight decay than new ones."""
        return (self.pretrained_lr_scale, self.pretrained_decay_scale) != (1, 1)


@dataclass(frozen=True)
class AugmentRecipe:
    """Section `augment`: what is done to the pixels of a training batch (k710.loading.augment)."""

    crop: str = "random_resized"
    min_area: float = 0.08
    max_area: float = 1.0
    min_aspect: float = 0.75
    max_aspect: float = 1.3333
    flip_prob: float = 0.5
    randaugment: str | None = "rand-m7-n4-mstd0.5-inc1"
    order: str = "published"
    color_jitter: float = 0.0
    erase_prob: float = 0.0
    mixup_alpha: float = 0.0
    cutmix_alpha: float = 0.0
    mix_per: str = "clip"  # a choice for each clip, or one for all that a GPU takes at once (`batch`)
    fixed_clips: int = 0  # 0: random frames and crops; else a sample is one of these temporal clips of an evaluation …
    fixed_crops: int = 1  # … in one of its crops, and nothing else is done to it


@dataclass(frozen=True)
class ValidateRecipe:
    """Section `validate`: how often during training, and the views of an evaluation."""

    every_epochs: int = 1
    clips: int = 4
    crops: int = 3
