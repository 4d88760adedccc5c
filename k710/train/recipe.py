"""A training recipe: which clips and classes, which model and start, and the numbers of the training."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from k710.errors import RecipeError, UsageError
from k710.loading.augment.augment import Augment
from k710.loading.augment.boxes import CROPS
from k710.loading.augment.mix import PER, Mix
from k710.loading.sampling import FrameSampling
from k710.models.families import FAMILIES
from k710.models.family import FROM_CHECKPOINT, FROM_NOTHING, Family, Sampling
from k710.sources.video_ids import SOURCE_NAME
from k710.train.objectives import OBJECTIVES, Objective
from k710.train.sections import AugmentRecipe, DataRecipe, ModelRecipe, OptimRecipe, ValidateRecipe

HEADS = ("remap", "new")
NO_HEAD = "none"  # of a model without classes
PRECISIONS = ("bf16", "fp16", "fp32")


@dataclass(frozen=True)
class TrainRecipe:
    """The sections of `pipelines/train/*.yaml`; docs/train.md describes each key."""

    data: DataRecipe
    model: ModelRecipe
    optim: OptimRecipe
    augment: AugmentRecipe
    validate: ValidateRecipe
    objective: str = "classify"
    seed: int = 6666

    @property
    def chosen_objective(self) -> Objective:
        return OBJECTIVES[self.objective]

    @property
    def family(self) -> Family:
        return FAMILIES[self.model.family]

    @property
    def sampling(self) -> Sampling:
        """Which frames of a clip the model sees."""
        return self.family.sampling.of(self.data.num_frames).changed(self.data.sampling, self.data.stride)

    def checked(self, where: Path | str) -> TrainRecipe:
        """The recipe itself. Raises RecipeError, naming the file and the key, for a value that cannot be."""
        if self.model.family not in FAMILIES:
            raise RecipeError(f"{where}: model.family must be one of {', '.join(FAMILIES)}, not {self.model.family!r}")
        has_classes = self.family.head is not None
        starts = (*self.family.starts, FROM_CHECKPOINT, FROM_NOTHING)
        choices = {
            "model.preset": tuple(self.family.presets),
            "model.start": starts,
            "model.head": HEADS if has_classes else (NO_HEAD,),
            "optim.precision": PRECISIONS,
            "augment.crop": CROPS,
            "augment.mix_per": PER,
            "objective": tuple(name for name, one in OBJECTIVES.items() if one.of_classes == has_classes),
        }
        values = self.flat()
        for key, allowed in choices.items():
            if (value := values[key]) not in allowed:
                raise RecipeError(f"{where}: {key} must be one of {', '.join(allowed)}, not {value!r}")
        if not re.fullmatch(SOURCE_NAME, self.data.view):
            raise RecipeError(f"{where}: data.view must be k710 or the name of a source, not {self.data.view!r}")
        for key, (low, high) in _RANGES.items():
            value = values[key]
            if not low <= value <= high:  # nor is NaN
                raise RecipeError(f"{where}: {key} must lie between {low} and {high}, not {value}")
        optim = self.optim
        if (optim.epochs > 0) == (optim.steps > 0):
            raise RecipeError(
                f"{where}: optim.epochs is {optim.epochs} and optim.steps {optim.steps}; one of them says how long the "
                "training is, and the other must be 0"
            )
        if optim.epochs and optim.warmup_epochs > optim.epochs:
            raise RecipeError(
                f"{where}: optim.warmup_epochs is {optim.warmup_epochs}, and there are {optim.epochs} epochs"
            )
        for key in ("validate.crops", "augment.fixed_crops"):
            if values[key] not in (1, 3):
                raise RecipeError(f"{where}: {key} must be 1 or 3, not {values[key]}")
        if self.augment.fixed_clips and (drawn := drawn_pixels(self)):
            off = " ".join(f"--set {change}" for change in off_switches(self))
            raise RecipeError(
                f"{where}: augment.fixed_clips shows views of an evaluation as they are, and {', '.join(drawn)} would "
                f"change them: {off}"
            )
        if self.model.start != FROM_CHECKPOINT and self.model.head == "remap":
            raise RecipeError(
                f"{where}: model.head: remap takes rows of a checkpoint's head, and model.start is {self.model.start}"
            )
        if self.model.start == FROM_NOTHING and optim.scales_pretrained:
            raise RecipeError(
                f"{where}: optim.pretrained_lr_scale is {optim.pretrained_lr_scale} and optim.pretrained_decay_scale "
                f"{optim.pretrained_decay_scale}, and a training from nothing has no pretrained weights; both must be 1"
            )
        if optim.batch_size % self.data.num_repeats:
            raise RecipeError(f"{where}: optim.batch_size {optim.batch_size} must be a multiple of data.num_repeats")
        try:
            self.model.config(self.data, num_classes=1)
            FrameSampling(self.data.num_frames, **self.sampling.options())
        except UsageError as error:
            raise RecipeError(f"{where}: {error}") from None
        return self

    def value(self, key: str) -> Any:
        """The value of `section.key`, or of a key without a section. Raises KeyError for an unknown one."""
        return self.flat()[key]

    def flat(self) -> dict[str, Any]:
        """Every value by `section.key`, in the order of the sections."""
        values: dict[str, Any] = {}
        for name, content in self.as_dict().items():
            values |= (
                {f"{name}.{key}": value for key, value in content.items()}
                if isinstance(content, dict)
                else {name: content}
            )
        return values

    def as_dict(self) -> dict[str, Any]:
        """The recipe as its YAML has it, whole: what `train_recipe_from` reads."""
        content = dataclasses.asdict(self)
        content["model"] |= {key: _plain(value) for key, value in content["model"].pop("options").items()}
        return content

    def replace(self, changes: Mapping[str, Any]) -> TrainRecipe:
        """The recipe with other values, given by `section.key`; not checked."""
        changed = self
        for key, value in changes.items():
            section, _, name = key.rpartition(".")
            if section == "model":
                value = changed.model.replace(name, value)
            elif section:
                value = dataclasses.replace(getattr(changed, section), **{name: value})
            changed = dataclasses.replace(changed, **{section or name: value})
        return changed


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


_RANGES: dict[str, tuple[float, float]] = {
    "data.size_px": (8, 4096),
    "data.num_frames": (1, 4096),
    "data.num_repeats": (1, 64),
    "optim.batch_size": (1, 10**6),
    "optim.gpu_batch_size": (1, 10**6),
    "optim.epochs": (0, 10**5),
    "optim.steps": (0, 10**9),
    "optim.warmup_epochs": (0, 10**5),
    "optim.lr": (0, 10),
    "optim.start_lr": (0, 10),
    "optim.end_lr": (0, 10),
    "optim.weight_decay": (0, 10),
    "optim.beta1": (0, 0.9999999),
    "optim.beta2": (0, 0.9999999),
    "optim.clip_grad": (0, 1e9),
    "optim.layer_decay": (1e-3, 1),
    "optim.pretrained_lr_scale": (0, 1e3),
    "optim.pretrained_decay_scale": (0, 1e3),
    "optim.ema_decay": (0, 0.9999999),
    "optim.label_smoothing": (0, 0.999),
    "optim.distill_temperature": (1e-3, 1e3),
    "augment.max_aspect": (1e-3, 1e3),
    "seed": (0, 2**63 - 1),
    "augment.fixed_clips": (0, 64),
    "validate.every_epochs": (1, 10**5),
    "validate.clips": (1, 64),
}


# What changes the pixels of a crop at random, and its value when it does not.
_OFF = {"flip_prob": "0", "randaugment": "null", "color_jitter": "0", "erase_prob": "0"}


def drawn_pixels(recipe: TrainRecipe) -> list[str]:
    """The keys of the section `augment` by which the pixels of a crop are changed at random."""
    return [key for key in _OFF if getattr(recipe.augment, key)]


def off_switches(recipe: TrainRecipe) -> list[str]:
    """The changes of a recipe, `key=value`, that leave the pixels of a crop as they are."""
    return [f"{key}={_OFF[key]}" for key in drawn_pixels(recipe)]


def fixed_views(recipe: TrainRecipe) -> dict[str, Any]:
    """The views that training shows instead of random ones, as the options of a dataset; empty where it shows none."""
    given = recipe.augment
    if not given.fixed_clips:
        return {}
    return {"fixed_views": True, "num_clips": given.fixed_clips, "num_crops": given.fixed_crops}


def augment_of(recipe: TrainRecipe) -> Augment:
    """A recipe's augmentation, with its model's size and normalisation. Raises UsageError for one that cannot be."""
    given = recipe.augment
    return Augment(
        **recipe.family.crops(recipe.data.size_px),
        crop=given.crop,
        area=(given.min_area, given.max_area),
        aspect=(given.min_aspect, given.max_aspect),
        flip_prob=given.flip_prob,
        randaugment=given.randaugment,
        color_jitter=given.color_jitter,
        erase_prob=given.erase_prob,
        order=given.order,
    )


def mix_of(recipe: TrainRecipe) -> Mix | None:
    """How a recipe mixes clips, or None. Raises UsageError for numbers that cannot be."""
    given = recipe.augment
    return (
        Mix(given.mixup_alpha, given.cutmix_alpha, per=given.mix_per)
        if given.mixup_alpha or given.cutmix_alpha
        else None
    )
