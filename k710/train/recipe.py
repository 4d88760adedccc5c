"""A training recipe: what is trained on which classes, from what, and with which numbers. One flat YAML each."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

import yaml

from k710.errors import RecipeError, UsageError
from k710.models.uniformerv2.config import ACTIVATIONS
from k710.recipes import YAML_ERRORS, checked_value, make_recipe, read_recipe, recipe_path

VIEWS = ("k710", "k400", "k600", "k700", "k700_2020")
STARTS = ("clip", "checkpoint", "nothing")
HEADS = ("remap", "new")
PRECISIONS = ("bf16", "fp16", "fp32")


@dataclass(frozen=True)
class TrainRecipe:
    """The keys of `pipelines/train/*.yaml`; docs/train.md tells each one.

    Those with a default are off in the published runs, or are these projects' usual values; the rest must be given.
    """

    view: str  # whose clips and classes
    model: str  # a preset
    size_px: int
    num_frames: int
    start: str  # from a CLIP image tower, from a checkpoint, from nothing
    head: str  # of the checkpoint: rows picked by class name, or a new head
    frozen: bool
    local: str  # temporal MHRA in the backbone's blocks: none, single, double
    temporal_downsample: bool
    batch_size: int  # of all GPUs and pieces together
    gpu_batch_size: int  # what one GPU takes at once; the rest is accumulated
    epochs: int
    warmup_epochs: float
    lr: float
    start_lr: float = 1e-6
    end_lr: float = 1e-6
    weight_decay: float = 0.05
    beta1: float = 0.9
    beta2: float = 0.999
    clip_grad: float = 20.0  # 0: no clipping
    layer_decay: float = 1.0  # 1: one rate for all layers
    ema_decay: float = 0.0  # 0: no average
    label_smoothing: float = 0.0
    mlp_dropout: float = 0.5
    head_dropout: float = 0.5
    drop_path: float = 0.0
    global_drop_path: float = 0.0
    checkpoint_blocks: int = 0  # so many blocks are computed again in backward, to save memory
    precision: str = "bf16"
    min_area: float = 0.08
    max_area: float = 1.0
    min_aspect: float = 0.75
    max_aspect: float = 1.3333
    flip_prob: float = 0.5
    randaugment: str | None = "rand-m7-n4-mstd0.5-inc1"
    augment_order: str = "published"
    color_jitter: float = 0.0
    erase_prob: float = 0.0
    mixup_alpha: float = 0.0
    cutmix_alpha: float = 0.0
    activation: str | None = None  # of the backbone: quick_gelu or gelu; none: quick_gelu, if the image tower says so
    num_repeats: int = 1
    seed: int = 6666
    validate_every_epochs: int = 1
    test_clips: int = 4
    test_crops: int = 3

    def checked(self, where: Path | str) -> TrainRecipe:
        """The recipe itself. Raises RecipeError, naming the file and the key, for a value that cannot be."""
        choices = {"view": VIEWS, "start": STARTS, "head": HEADS, "precision": PRECISIONS}
        for key, allowed in choices.items():
            if (value := getattr(self, key)) not in allowed:
                raise RecipeError(f"{where}: {key} must be one of {', '.join(allowed)}, not {value!r}")
        if self.activation not in (None, *ACTIVATIONS):
            raise RecipeError(f"{where}: activation must be one of {', '.join(ACTIVATIONS)}, not {self.activation!r}")
        for key, (low, high) in _RANGES.items():
            value = getattr(self, key)
            if not low <= value <= high:  # nor is NaN
                raise RecipeError(f"{where}: {key} must lie between {low} and {high}, not {value}")
        if self.warmup_epochs > self.epochs:
            raise RecipeError(f"{where}: warmup_epochs is {self.warmup_epochs}, and there are {self.epochs} epochs")
        if self.test_crops not in (1, 3):
            raise RecipeError(f"{where}: test_crops must be 1 or 3, not {self.test_crops}")
        if self.start != "checkpoint" and self.head == "remap":
            raise RecipeError(f"{where}: head: remap takes rows of a checkpoint's head, and start is {self.start}")
        if self.batch_size % self.num_repeats:
            raise RecipeError(f"{where}: batch_size {self.batch_size} must be a multiple of num_repeats")
        return self


_RANGES: dict[str, tuple[float, float]] = {
    "size_px": (8, 4096),
    "num_frames": (1, 4096),
    "batch_size": (1, 10**6),
    "gpu_batch_size": (1, 10**6),
    "epochs": (1, 10**5),
    "warmup_epochs": (0, 10**5),
    "lr": (0, 10),
    "start_lr": (0, 10),
    "end_lr": (0, 10),
    "weight_decay": (0, 10),
    "beta1": (0, 0.9999999),
    "beta2": (0, 0.9999999),
    "clip_grad": (0, 1e9),
    "layer_decay": (1e-3, 1),
    "ema_decay": (0, 0.9999999),
    "label_smoothing": (0, 0.999),
    "max_aspect": (1e-3, 1e3),
    "num_repeats": (1, 64),
    "seed": (0, 2**63 - 1),
    "validate_every_epochs": (1, 10**5),
    "test_clips": (1, 64),
}


def read_train_recipe(name_or_file: str, changes: Sequence[str] = ()) -> tuple[TrainRecipe, list[str]]:
    """The recipe of that name, or in that YAML file, with `key=value` changes; and what is worth saying of them.

    A changed `batch_size` scales the rates, unless `lr` is given with it. Raises RecipeError for a recipe that cannot
    be, and UsageError for a change.
    """
    where = recipe_path("train", name_or_file)
    recipe = read_recipe("train", name_or_file, TrainRecipe).checked(where)
    try:
        return _changed(recipe, parse_changes(changes))
    except RecipeError as error:  # what is wrong is the option, not the recipe
        raise UsageError(str(error)) from None


def _changed(recipe: TrainRecipe, values: Mapping[str, Any]) -> tuple[TrainRecipe, list[str]]:
    said = [f"{key} is {value!r}, not the recipe's {getattr(recipe, key)!r}" for key, value in values.items()]
    if "batch_size" in values and "lr" not in values:
        recipe, scaled = with_batch_size(recipe, values["batch_size"])
        said.append(scaled)
    return dataclasses.replace(recipe, **values).checked("--set"), said


def parse_changes(changes: Sequence[str]) -> dict[str, Any]:
    """`key=value` texts, values as in YAML, by key. Raises RecipeError for an unknown key or a wrong type."""
    types = get_type_hints(TrainRecipe)
    values: dict[str, Any] = {}
    for change in changes:
        key, equals, text = change.partition("=")
        key = key.strip()
        if not (key and equals):
            raise UsageError(f"--set {change!r}: want KEY=VALUE, such as lr=1e-5")
        try:
            value = yaml.safe_load(text)
        except YAML_ERRORS:
            raise RecipeError(f"--set {change!r}: the value is not YAML") from None
        values[key] = checked_value("--set", key, value, types)
    return values


def with_batch_size(recipe: TrainRecipe, batch_size: int) -> tuple[TrainRecipe, str]:
    """The recipe with another global batch, its rates scaled by as much (Goyal et al., 2017), and the sentence for it.

    The start and end rates scale too: they are parts of one schedule.
    """
    if batch_size < 1:
        raise UsageError(f"a batch of {batch_size} clips; at least 1 is needed")
    factor = batch_size / recipe.batch_size
    rates = {key: getattr(recipe, key) * factor for key in ("lr", "start_lr", "end_lr")}
    said = f"the learning rate is scaled with the batch by {factor:g}: lr {rates['lr']:g} instead of {recipe.lr:g}"
    return dataclasses.replace(recipe, batch_size=batch_size, **rates), said


def recipe_from_dict(content: Mapping[str, Any], where: Path | str) -> TrainRecipe:
    """The recipe that a checkpoint or a run's folder holds. Raises RecipeError."""
    return make_recipe(dict(content), TrainRecipe, where=where).checked(where)
