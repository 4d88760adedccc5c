"""Recipes: YAML files that name every choice of a run. `pipelines/{kind}/` holds the recipes of k710.

A recipe may have sections. It may extend one other recipe (`extends: NAME`); then it holds only the differences. The
recipes of k710 extend only a base. A recipe of a user may extend one of k710's recipes.
"""

from __future__ import annotations

import dataclasses
import reprlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, get_args, get_type_hints

import yaml

from k710.errors import RecipeError

Recipe = TypeVar("Recipe")
MAX_RECIPE_BYTES = 1 << 20

EXTENDS = "extends"

# In addition to its own errors, PyYAML passes on the errors of its constructors, such as the ValueError of 2026-99-99.
YAML_ERRORS = (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError, RecursionError)

_PACKAGE = Path(__file__).resolve().parent


def resource(*parts: str) -> Path:
    """Path of a file or folder under `labelmaps/` or `pipelines/`, for example `resource("labelmaps", "k710.csv")`.

    An installed package contains them; in a checkout they are next to the package.
    """
    installed = _PACKAGE.joinpath(*parts)
    return installed if installed.exists() else _PACKAGE.parent.joinpath(*parts)


def recipe_files(kind: str) -> dict[str, Path]:
    """The recipes of a kind (`curation`, `encode`, `train`, `mix`, `unions`) that come with k710, by name."""
    return {path.stem: path for path in sorted(resource("pipelines", kind).glob("*.yaml"), key=lambda path: path.stem)}


def recipe_path(kind: str, name_or_file: str) -> Path:
    """The file of a recipe given by name, or by path. Raises RecipeError."""
    known = recipe_files(kind)
    if name_or_file in known:
        return known[name_or_file]
    path = Path(name_or_file)
    if path.is_file():
        return path
    raise RecipeError(f"no recipe {name_or_file!r}; known: {', '.join(known)}, or the path of a YAML file")


def recipe_text(path: Path) -> str:
    """The text of a recipe. Raises RecipeError for a file that is far too large to be one.

    PyYAML needs minutes and many gigabytes of memory for hundreds of megabytes."""
    with path.open("rb") as file:
        content = file.read(MAX_RECIPE_BYTES + 1)
    if len(content) > MAX_RECIPE_BYTES:
        raise RecipeError(f"{path}: has more than {MAX_RECIPE_BYTES >> 20} MiB, too much for a recipe")
    return content.decode("utf-8")


@dataclass(frozen=True)
class Value:
    """A value as written in its file: the YAML text, the comment after it, and the file."""

    text: str
    comment: str
    file: Path


@dataclass(frozen=True)
class RecipeText:
    """A recipe together with the values of the recipe that it extends.

    `content` is plain data. `values` has the text of each value by key, or by `section.key`. `title` is the comment at
    the beginning of the file, without its `#`.
    """

    path: Path
    title: str
    content: dict[str, Any]
    values: dict[str, Value]

    def whole(self) -> str:
        """The recipe as one YAML text that extends nothing. The comment of a value from another file names that
        file."""
        lines = [f"# {line}".rstrip() for line in self.title.splitlines()]
        section = ""
        rows = [(key, value, f"{key.rpartition('.')[2]}: {value.text}") for key, value in self.values.items()]
        width = max((len(text) + 2 * ("." in key) for key, _, text in rows), default=0)
        for key, value, text in rows:
            if (parent := key.rpartition(".")[0]) != section:
                lines += ["", *([f"{parent}:"] if parent else [])]
                section = parent
            elif len(lines) == len(self.title.splitlines()):
                lines.append("")
            origin = "" if value.file == self.path else f" [{value.file.stem}]"
            comment = f"# {value.comment}{origin}" if value.comment or origin else ""
            lines.append(f"{f'  {text}' if parent else text:<{width}}  {comment}".rstrip())
        return "\n".join(lines) + "\n"


def read_recipe_text(kind: str, name_or_file: str) -> RecipeText:
    """A recipe, given by name or by path, with the recipe that it extends. Raises RecipeError.

    `extends` names a recipe that comes with k710, one of `pipelines/{kind}/base/`, or a YAML file relative to this one.
    """
    own = _read_file(recipe_path(kind, name_or_file))
    parent_name = own.content.pop(EXTENDS, None)
    if parent_name is None:
        return own
    own.values.pop(EXTENDS)
    if not isinstance(parent_name, str):
        raise RecipeError(f"{own.path}: {EXTENDS} must be the name of one recipe, not {_short(parent_name)}")
    if parent_name in recipe_files(kind) and own.path not in recipe_files(kind).values():
        parent = read_recipe_text(kind, parent_name)
    else:
        parent = _read_file(_parent_path(kind, parent_name, own.path))
    if EXTENDS in parent.content:
        raise RecipeError(
            f"{own.path}: {EXTENDS} {parent_name}, which extends {_short(parent.content[EXTENDS])} itself; a recipe "
            "extends one that comes with k710, or a file that extends none"
        )
    content = dict(parent.content)
    for key, value in own.content.items():
        both = isinstance(value, dict) and isinstance(content.get(key), dict)
        content[key] = (
            {**value, **{name: content[key][name] for name in content[key] if name not in value}} if both else value
        )
    return RecipeText(own.path, own.title, content, _in_sections({**parent.values, **own.values}, content))


def _in_sections(values: dict[str, Value], content: Mapping[str, Any]) -> dict[str, Value]:
    """The values in the order of `content`, so that the values of one section are together."""
    order = [f"{key}.{name}" if name else key for key, value in content.items() for name in _names(value)]
    return {key: values[key] for key in order}


def _names(value: Any) -> list[str]:
    return [str(name) for name in value] if isinstance(value, dict) else [""]


def _parent_path(kind: str, name: str, child: Path) -> Path:
    known = recipe_files(kind) | {
        f"base/{path.stem}": path for path in resource("pipelines", kind, "base").glob("*.yaml")
    }
    if name in known:
        return known[name]
    path = child.parent / name
    if path.is_file():
        return path
    raise RecipeError(f"{child}: {EXTENDS} {name!r}, which is not a recipe; known: {', '.join(known)}, or a YAML file")


def _read_file(path: Path) -> RecipeText:
    try:
        text = recipe_text(path)
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        content = None if node is None else loader.construct_document(node)
    except YAML_ERRORS as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}: line {mark.line + 1}" if mark else str(path)
        reason = getattr(error, "problem", None) or str(error).partition("\n")[0] or type(error).__name__
        raise RecipeError(f"{where}: not YAML: {reason}") from None
    if not isinstance(node, yaml.MappingNode) or not isinstance(content, dict):
        raise RecipeError(f"{path}: a recipe maps keys to values, such as `splits: [train, val]`; this one does not")
    values = {key: _spelled(text, value, path) for key, value in _leaves(node, path)}
    return RecipeText(path, _title(text), content, values)


def _leaves(node: yaml.MappingNode, path: Path, section: str = "") -> Iterator[tuple[str, yaml.Node]]:
    """Keys and values; keys in a section are `section.key`.

    Raises RecipeError for a key that appears twice, which YAML forbids. PyYAML would take the last one.
    """
    keys = [key.value for key, _ in node.value]
    if repeated := [key for key in keys if keys.count(key) > 1]:
        raise RecipeError(f"{path}: key {_short(repeated[0])} appears twice")
    for key, value in node.value:
        name = f"{section}{key.value}"
        if isinstance(value, yaml.MappingNode) and not section:
            yield from _leaves(value, path, f"{name}.")
        else:
            yield name, value


def _spelled(text: str, node: yaml.Node, path: Path) -> Value:
    start, end = node.start_mark.index, node.end_mark.index
    rest_of_line = text[end:].partition("\n")[0]
    return Value(text[start:end].rstrip(), rest_of_line.partition("#")[2].strip(), path)


def _title(text: str) -> str:
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# "))
    return "\n".join(lines)


def read_recipe(kind: str, name_or_file: str, recipe_class: type[Recipe]) -> Recipe:
    """Read a recipe, given by name or by path, into a dataclass. Raises RecipeError, as `make_recipe` does."""
    found = read_recipe_text(kind, name_or_file)
    return make_recipe(found.content, recipe_class, where=found.path)


def make_recipe(content: Any, recipe_class: type[Recipe], *, where: Path | str, section: str = "") -> Recipe:
    """A recipe, or a section of one, from a mapping whose keys are the fields of a dataclass.

    Fields left out keep their defaults. Raises RecipeError for an unknown key (with the nearest known one), a value of
    the wrong type, or a key without a default that is left out.
    """
    if not isinstance(content, dict):
        what = (
            f"{section} maps keys to values"
            if section
            else "a recipe maps keys to values, such as `splits: [train, val]`"
        )
        raise RecipeError(f"{where}: {what}; this one does not")
    types = get_type_hints(recipe_class)
    place = f"{where}: {section}" if section else where
    values = {key: checked_value(place, key, value, types) for key, value in content.items()}
    required = [field.name for field in dataclasses.fields(recipe_class) if _has_no_default(field)]  # type: ignore[arg-type]
    if lacking := [name for name in required if name not in values]:
        raise RecipeError(f"{place}: {', '.join(lacking)} must be given; it has no default")
    return recipe_class(**values)


def _has_no_default(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def checked_value(where: Path | str, key: Any, value: Any, types: Mapping[str, Any]) -> Any:
    """`value` with the type of the field `key`. Raises RecipeError, as `make_recipe` does."""
    if key not in types:
        raise unknown_key(where, key, types)
    if types[key] == tuple[str, ...]:
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return tuple(value)
        raise RecipeError(f"{where}: {key} must be a list of names, such as [train, val], not {_short(value)}")
    if types[key] == tuple[int, ...]:
        if isinstance(value, list) and all(isinstance(item, int) and not isinstance(item, bool) for item in value):
            return tuple(value)
        raise RecipeError(f"{where}: {key} must be a list of whole numbers, such as [8, 9], not {_short(value)}")
    allowed = get_args(types[key]) if isinstance(types[key], UnionType) else (types[key],)
    # In YAML 1.1, 1e-5 is text (a number is 1.0e-5). In Python, True is a number too.
    if float in allowed and isinstance(value, int | str) and not isinstance(value, bool):
        value = _number(value)
    if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
        names = " or ".join("nothing (null)" if kind is type(None) else kind.__name__ for kind in allowed)
        raise RecipeError(f"{where}: {key} must be {names}, not {_short(value)}")
    return value


def unknown_key(where: Path | str, key: Any, known: Mapping[str, Any] | list[str]) -> RecipeError:
    """The error for a key that is not a field, with the nearest field."""
    from rapidfuzz import process

    nearest = process.extractOne(str(key), list(known))
    return RecipeError(f"{where}: unknown key {_short(key)}; did you mean {nearest[0]!r}? Known: {', '.join(known)}")


def _number(value: int | str) -> Any:
    try:
        return float(value)
    except (ValueError, OverflowError):
        return value


def _short(value: Any) -> str:
    """A value for a message, shortened: a few lines of YAML can make a value whose text would fill the memory."""
    return reprlib.repr(value)


def recorded_section(recipe: Any, section: str) -> Mapping[str, Any]:
    """A section of a training recipe as recorded by a run or a checkpoint; empty if there is none.

    Recipes of 0.1 had no sections; for them it is the whole recipe.
    """
    if not isinstance(recipe, dict):
        return {}
    found = recipe.get(section, {}) if isinstance(recipe.get("data"), dict) else recipe
    return found if isinstance(found, dict) else {}


def as_dict(recipe: Any) -> dict[str, Any]:
    """A recipe as plain JSON data: tuples become lists."""
    return {
        key: list(value) if isinstance(value, tuple) else value for key, value in dataclasses.asdict(recipe).items()
    }
