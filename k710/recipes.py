"""Recipes: flat YAML files that name every choice of a run. `pipelines/{kind}/` holds those that come with k710."""

from __future__ import annotations

import dataclasses
import reprlib
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, get_args, get_type_hints

import yaml

from k710.errors import RecipeError
from k710.resources import resource

Recipe = TypeVar("Recipe")
MAX_RECIPE_BYTES = 1 << 20

# Beside its own errors, PyYAML lets out what its constructors meet, such as the ValueError of 2026-99-99.
YAML_ERRORS = (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError, RecursionError)


def recipe_files(kind: str) -> dict[str, Path]:
    """The recipes of a kind (`curation`, `encode`, `train`) that come with k710, by name."""
    return {path.stem: path for path in sorted(resource("pipelines", kind).glob("*.yaml"), key=lambda path: path.stem)}


def recipe_path(kind: str, name_or_file: str) -> Path:
    """The file of a recipe given by name, or by path where it has a slash or a suffix. Raises RecipeError."""
    known = recipe_files(kind)
    if name_or_file in known:
        return known[name_or_file]
    path = Path(name_or_file)
    if path.is_file():
        return path
    raise RecipeError(f"no recipe {name_or_file!r}; known: {', '.join(known)}, or the path of a YAML file")


def recipe_text(path: Path) -> str:
    """The text of a recipe. Raises RecipeError for a file that is far too large to be one.

    YAML of hundreds of megabytes takes minutes and many gigabytes before anything is known of it."""
    with path.open("rb") as file:
        content = file.read(MAX_RECIPE_BYTES + 1)
    if len(content) > MAX_RECIPE_BYTES:
        raise RecipeError(f"{path}: has more than {MAX_RECIPE_BYTES >> 20} MiB, which no recipe has")
    return content.decode("utf-8")


def read_recipe(kind: str, name_or_file: str, recipe_class: type[Recipe]) -> Recipe:
    """Read a recipe, given by name or by path, into a dataclass. Raises RecipeError, as `make_recipe` does."""
    path = recipe_path(kind, name_or_file)
    try:
        text = recipe_text(path)
        content = yaml.safe_load(text)
        node = yaml.compose(text, yaml.SafeLoader)
    except YAML_ERRORS as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}: line {mark.line + 1}" if mark else str(path)
        reason = getattr(error, "problem", None) or str(error).partition("\n")[0] or type(error).__name__
        raise RecipeError(f"{where}: not YAML: {reason}") from None
    if isinstance(node, yaml.MappingNode):  # YAML forbids a key that stands there twice, PyYAML takes the last
        keys = [key.value for key, _ in node.value]
        if twice := [key for key in keys if keys.count(key) > 1]:
            raise RecipeError(f"{path}: key {_short(twice[0])} stands there twice")
    return make_recipe(content, recipe_class, where=path)


def make_recipe(content: Any, recipe_class: type[Recipe], *, where: Path | str) -> Recipe:
    """A recipe from a mapping whose keys are the fields of a dataclass; fields left out keep their defaults.

    Raises RecipeError for an unknown key (with the nearest known one), a value of the wrong type, or a key without a
    default that is left out.
    """
    if not isinstance(content, dict):
        raise RecipeError(f"{where}: a recipe maps keys to values, such as `splits: [train, val]`; this is none")
    types = get_type_hints(recipe_class)
    values = {key: checked_value(where, key, value, types) for key, value in content.items()}
    required = [field.name for field in dataclasses.fields(recipe_class) if _has_no_default(field)]  # type: ignore[arg-type]
    if lacking := [name for name in required if name not in values]:
        raise RecipeError(f"{where}: {', '.join(lacking)} must be given; it has no default")
    return recipe_class(**values)


def _has_no_default(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def checked_value(path: Path | str, key: Any, value: Any, types: dict[str, Any]) -> Any:
    """`value` as the field `key` wants it. Raises RecipeError, as `make_recipe` does."""
    if key not in types:
        from rapidfuzz import process

        nearest = process.extractOne(str(key), list(types))
        raise RecipeError(f"{path}: unknown key {_short(key)}; did you mean {nearest[0]!r}? Known: {', '.join(types)}")
    if types[key] == tuple[str, ...]:
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return tuple(value)
        raise RecipeError(f"{path}: {key} must be a list of names, such as [train, val], not {_short(value)}")
    allowed = get_args(types[key]) if isinstance(types[key], UnionType) else (types[key],)
    # To YAML 1.1, 1e-5 is text (it wants 1.0e-5), and to Python, true is a number too.
    if float in allowed and isinstance(value, int | str) and not isinstance(value, bool):
        value = _number(value)
    if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
        names = " or ".join("nothing (null)" if kind is type(None) else kind.__name__ for kind in allowed)
        raise RecipeError(f"{path}: {key} must be {names}, not {_short(value)}")
    return value


def _number(value: int | str) -> Any:
    try:
        return float(value)
    except (ValueError, OverflowError):
        return value


def _short(value: Any) -> str:
    """A value for a message; a few lines of YAML can make one that fills the memory when it is written out."""
    return reprlib.repr(value)


def as_dict(recipe: Any) -> dict[str, Any]:
    """A recipe as JSON knows it: tuples become lists."""
    return {
        key: list(value) if isinstance(value, tuple) else value for key, value in dataclasses.asdict(recipe).items()
    }
