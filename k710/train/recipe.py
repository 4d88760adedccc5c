"""Training recipes: what is trained on which classes, from what, and with which numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

import yaml

from k710.errors import RecipeError, UsageError
from k710.loading.augment.augment import Augment
from k710.loading.augment.mix import Mix
from k710.models.families import FAMILIES
from k710.models.family import FROM_CHECKPOINT, FROM_NOTHING, Family
from k710.recipes import YAML_ERRORS, checked_value, make_recipe, read_recipe_text, recipe_path, unknown_key
from k710.train.objectives import OBJECTIVES, Objective
from k710.train.sections import AugmentRecipe, DataRecipe, ModelRecipe, OptimRecipe, ValidateRecipe

VIEWS = ("k710", "k400", "k600", "k700", "k700_2020")
HEADS = ("remap", "new")
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

    def checked(self, where: Path | str) -> TrainRecipe:
        """The recipe itself. Raises RecipeError, naming the file and the key, for a value that cannot be."""
        starts = (*self.family.starts, FROM_CHECKPOINT, FROM_NOTHING)
        choices = {
            "data.view": VIEWS,
            "model.preset": tuple(self.family.presets),
            "model.start": starts,
            "model.head": HEADS,
            "optim.precision": PRECISIONS,
            "objective": tuple(OBJECTIVES),
        }
        for key, allowed in choices.items():
            if (value := self.value(key)) not in allowed:
                raise RecipeError(f"{where}: {key} must be one of {', '.join(allowed)}, not {value!r}")
        for key, (low, high) in _RANGES.items():
            value = self.value(key)
            if not low <= value <= high:  # nor is NaN
                raise RecipeError(f"{where}: {key} must lie between {low} and {high}, not {value}")
        optim = self.optim
        if optim.warmup_epochs > optim.epochs:
            raise RecipeError(
                f"{where}: optim.warmup_epochs is {optim.warmup_epochs}, and there are {optim.epochs} epochs"
            )
        if self.validate.crops not in (1, 3):
            raise RecipeError(f"{where}: validate.crops must be 1 or 3, not {self.validate.crops}")
        if self.model.start != FROM_CHECKPOINT and self.model.head == "remap":
            raise RecipeError(
                f"{where}: model.head: remap takes rows of a checkpoint's head, and model.start is {self.model.start}"
            )
        if optim.batch_size % self.data.num_repeats:
            raise RecipeError(f"{where}: optim.batch_size {optim.batch_size} must be a multiple of data.num_repeats")
        try:
            self.model.config(self.data, num_classes=1)
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
        content = self.as_dict()
        for key, value in changes.items():
            section, _, name = key.rpartition(".")
            (content[section] if section else content)[name] = _plain(value)
        return _made(content, "the changed recipe")


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


_SECTIONS: dict[str, type[Any]] = {
    "data": DataRecipe,
    "model": ModelRecipe,
    "optim": OptimRecipe,
    "augment": AugmentRecipe,
    "validate": ValidateRecipe,
}
_PLAIN_KEYS = {"objective": str, "seed": int}

_RANGES: dict[str, tuple[float, float]] = {
    "data.size_px": (8, 4096),
    "data.num_frames": (1, 4096),
    "data.num_repeats": (1, 64),
    "optim.batch_size": (1, 10**6),
    "optim.gpu_batch_size": (1, 10**6),
    "optim.epochs": (1, 10**5),
    "optim.warmup_epochs": (0, 10**5),
    "optim.lr": (0, 10),
    "optim.start_lr": (0, 10),
    "optim.end_lr": (0, 10),
    "optim.weight_decay": (0, 10),
    "optim.beta1": (0, 0.9999999),
    "optim.beta2": (0, 0.9999999),
    "optim.clip_grad": (0, 1e9),
    "optim.layer_decay": (1e-3, 1),
    "optim.ema_decay": (0, 0.9999999),
    "optim.label_smoothing": (0, 0.999),
    "augment.max_aspect": (1e-3, 1e3),
    "seed": (0, 2**63 - 1),
    "validate.every_epochs": (1, 10**5),
    "validate.clips": (1, 64),
}


def read_train_recipe(name_or_file: str, changes: Sequence[str] = ()) -> tuple[TrainRecipe, list[str]]:
    """The recipe of that name, or in that YAML file, with `key=value` changes; and a sentence on each change.

    A changed `optim.batch_size` scales the rates, unless `optim.lr` is given with it. Raises RecipeError for a recipe
    that cannot be, and UsageError for a change.
    """
    where = recipe_path("train", name_or_file)
    recipe = train_recipe_from(read_recipe_text("train", name_or_file).content, where)
    try:
        return _changed(recipe, parse_changes(changes, recipe))
    except RecipeError as error:  # what is wrong is the option, not the recipe
        raise UsageError(str(error)) from None


def _changed(recipe: TrainRecipe, values: Mapping[str, Any]) -> tuple[TrainRecipe, list[str]]:
    before = recipe.flat()
    messages = [f"{key} is {value!r}, not the recipe's {before.get(key, 'preset')!r}" for key, value in values.items()]
    if "optim.batch_size" in values and "optim.lr" not in values:
        recipe, scaled = with_batch_size(recipe, values["optim.batch_size"])
        messages.append(scaled)
    return recipe.replace(values).checked("--set"), messages


def parse_changes(changes: Sequence[str], recipe: TrainRecipe) -> dict[str, Any]:
    """`key=value` texts, values as in YAML, by `section.key`; a key that only one section has may stand alone.

    Raises RecipeError for an unknown key or a wrong type.
    """
    types = _types(recipe.family)
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
        whole = [known for known in types if known == key or known.rpartition(".")[2] == key]
        if not whole:
            raise RecipeError(f"--set: unknown key {key!r}; did you mean {_nearest(key, types)!r}? {_SHOW_KEYS}")
        values[whole[0]] = checked_value("--set", whole[0], value, types)
    return values


_SHOW_KEYS = "`k710 recipes NAME` shows the keys of a recipe"


def _nearest(key: str, known: Mapping[str, Any]) -> str:
    from rapidfuzz import process

    if key in _RENAMED:
        return ".".join(_RENAMED[key])
    short = {name.rpartition(".")[2]: name for name in known}
    return short[process.extractOne(key, list(short))[0]]


def _types(family: Family) -> dict[str, Any]:
    """The type of every key, by `section.key`."""
    types: dict[str, Any] = {}
    for name, section in _SECTIONS.items():
        hints = get_type_hints(section)
        if section is ModelRecipe:
            hints = {key: kind for key, kind in hints.items() if key != "options"} | family.option_types()
        types |= {f"{name}.{key}": kind for key, kind in hints.items()}
    return types | _PLAIN_KEYS


def with_batch_size(recipe: TrainRecipe, batch_size: int) -> tuple[TrainRecipe, str]:
    """The recipe with another global batch, its rates scaled by as much (Goyal et al., 2017), and the sentence for it.

    The start and end rates scale too: they are parts of one schedule.
    """
    if batch_size < 1:
        raise UsageError(f"a batch of {batch_size} clips; at least 1 is needed")
    factor = batch_size / recipe.optim.batch_size
    rates = {key: getattr(recipe.optim, key) * factor for key in ("lr", "start_lr", "end_lr")}
    message = (
        f"the learning rate is scaled with the batch by {factor:g}: lr {rates['lr']:g} instead of {recipe.optim.lr:g}"
    )
    changed = {"batch_size": batch_size, **rates}
    return recipe.replace({f"optim.{key}": value for key, value in changed.items()}), message


def train_recipe_from(content: Mapping[str, Any], where: Path | str) -> TrainRecipe:
    """The recipe that a file, a checkpoint or a run's folder holds, in sections or in 0.1's flat form.

    Raises RecipeError, naming `where` and the key.
    """
    return _made(in_sections(content), where).checked(where)


def _made(content: Mapping[str, Any], where: Path | str) -> TrainRecipe:
    if unknown := [key for key in content if key not in {*_SECTIONS, *_PLAIN_KEYS}]:
        raise unknown_key(where, unknown[0], [*_SECTIONS, *_PLAIN_KEYS])
    sections: dict[str, Any] = {}
    for name, section in _SECTIONS.items():
        given = content.get(name, {})
        if section is ModelRecipe and isinstance(given, dict):
            sections[name] = _model_section(given, where)
        else:
            sections[name] = make_recipe(given, section, where=where, section=name)
    plain = {key: checked_value(where, key, content[key], _PLAIN_KEYS) for key in _PLAIN_KEYS if key in content}
    return TrainRecipe(**sections, **plain)


def _model_section(content: dict[str, Any], where: Path | str) -> ModelRecipe:
    own = [field.name for field in dataclasses.fields(ModelRecipe) if field.name != "options"]
    name = content.get("family")
    if not isinstance(name, str) or name not in FAMILIES:
        raise RecipeError(f"{where}: model.family must be one of {', '.join(FAMILIES)}, not {name!r}")
    types = FAMILIES[name].option_types()
    if strange := [key for key in content if key not in {*own, *types}]:
        raise unknown_key(f"{where}: model", strange[0], [*own, *types])
    given = {key: value for key, value in content.items() if key in own}
    options = {
        key: checked_value(f"{where}: model", key, value, types)
        for key, value in content.items()
        if key not in own and value is not None  # null: the preset's
    }
    made = make_recipe(given, ModelRecipe, where=where, section="model")
    return dataclasses.replace(made, options=options)


# The flat keys of 0.1 that are called otherwise in their section.
_RENAMED = {
    "model": ("model", "preset"),
    "augment_order": ("augment", "order"),
    "validate_every_epochs": ("validate", "every_epochs"),
    "test_clips": ("validate", "clips"),
    "test_crops": ("validate", "crops"),
}


def in_sections(content: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe in sections as it is; one in the flat form of 0.1, whose only family was UniFormerV2, in sections."""
    if not isinstance(content.get("model"), str):
        return dict(content)
    homes = {
        field.name: (name, field.name)
        for name, section in _SECTIONS.items()
        if section is not ModelRecipe
        for field in dataclasses.fields(section)
    } | _RENAMED
    sections: dict[str, Any] = {"model": {"family": "uniformerv2"}}
    for key, value in content.items():
        if key in _PLAIN_KEYS:
            sections[key] = value
        else:
            section, name = homes.get(key, ("model", key))
            sections.setdefault(section, {})[name] = value
    return sections


def augment_of(recipe: TrainRecipe) -> Augment:
    """A recipe's augmentation, with its model's size and normalisation. Raises UsageError for one that cannot be."""
    given = recipe.augment
    return Augment(
        **recipe.family.crops(recipe.data.size_px),
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
    return Mix(given.mixup_alpha, given.cutmix_alpha) if given.mixup_alpha or given.cutmix_alpha else None
