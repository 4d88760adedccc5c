"""A training recipe from its file, a checkpoint or a run, in sections or in the flat form of 0.1, with changes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_type_hints

import yaml

from k710.errors import RecipeError, UsageError
from k710.models.families import FAMILIES
from k710.models.family import Family
from k710.recipes import YAML_ERRORS, checked_value, make_recipe, read_recipe_text, recipe_path, unknown_key
from k710.train.recipe import TrainRecipe
from k710.train.sections import AugmentRecipe, DataRecipe, ModelRecipe, OptimRecipe, ValidateRecipe

_SECTIONS: dict[str, type[Any]] = {
    "data": DataRecipe,
    "model": ModelRecipe,
    "optim": OptimRecipe,
    "augment": AugmentRecipe,
    "validate": ValidateRecipe,
}


_PLAIN_KEYS = {"objective": str, "seed": int}


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
