"""Recipes: flat YAML files that name every choice of a run. `pipelines/{kind}/` holds those that come with k710."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import yaml

from k710.errors import RecipeError
from k710.resources import resource

Recipe = TypeVar("Recipe")


def recipe_files(kind: str) -> dict[str, Path]:
    """The recipes of a kind (`curation`) that come with k710, by name."""
    return {path.stem: path for path in sorted(resource("pipelines", kind).glob("*.yaml"))}


def recipe_path(kind: str, name_or_file: str) -> Path:
    """The file of a recipe given by name, or by path where it has a slash or a suffix. Raises RecipeError."""
    known = recipe_files(kind)
    if name_or_file in known:
        return known[name_or_file]
    path = Path(name_or_file)
    if path.is_file():
        return path
    raise RecipeError(f"no recipe {name_or_file!r}; known: {', '.join(known)}, or the path of a YAML file")


def read_recipe(kind: str, name_or_file: str, recipe_class: type[Recipe]) -> Recipe:
    """Read a recipe, given by name or by path, into a dataclass. Raises RecipeError, as `make_recipe` does."""
    path = recipe_path(kind, name_or_file)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: not YAML: {error}") from None
    return make_recipe(content, recipe_class, where=path)


def make_recipe(content: Any, recipe_class: type[Recipe], *, where: Path) -> Recipe:
    """A recipe from a mapping whose keys are the fields of a dataclass; fields left out keep their defaults.

    Raises RecipeError for an unknown key (with the nearest known one) or a value of the wrong type.
    """
    if not isinstance(content, dict):
        raise RecipeError(f"{where}: a recipe maps keys to values")
    types = get_type_hints(recipe_class)
    return recipe_class(**{key: _checked(where, key, value, types) for key, value in content.items()})


def _checked(path: Path, key: Any, value: Any, types: dict[str, Any]) -> Any:
    if key not in types:
        from rapidfuzz import process

        nearest = process.extractOne(str(key), list(types))
        raise RecipeError(f"{path}: unknown key {key!r}; did you mean {nearest[0]!r}? Known: {', '.join(types)}")
    if types[key] == tuple[str, ...]:
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return tuple(value)
        raise RecipeError(f"{path}: {key} must be a list of names, such as [train, val], not {value!r}")
    if not isinstance(value, types[key]):
        raise RecipeError(f"{path}: {key} must be {types[key].__name__}, not {value!r}")
    return value


def as_dict(recipe: Any) -> dict[str, Any]:
    """A recipe as JSON knows it: tuples become lists."""
    return {
        key: list(value) if isinstance(value, tuple) else value for key, value in dataclasses.asdict(recipe).items()
    }
