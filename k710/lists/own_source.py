"""What a user says of an own source: a path, or a `source.yaml` of a few lines."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from k710.errors import ListError, UsageError
from k710.lists.own_rows import READERS
from k710.recipes import YAML_ERRORS, recipe_text, unknown_key
from k710.sources.own import CONTROL, DEFAULT_COLOUR, frame_rate_problem, name_problem
from k710.sources.source import ID_RULES, SPAN_RULES, SPLIT_SPELLINGS

OWN, ALIGNED = "own", "k710"
SPEC = "source.yaml"
_CHOICES = {"reader": tuple(READERS), "ids": ID_RULES, "spans": SPAN_RULES, "labels": (OWN, ALIGNED)}
_TABLES = (".csv", ".tsv")
_SHOWN = ("title", "licence", "citation")


@dataclass(frozen=True)
class OwnSpec:
    """A source.yaml, read: its keys are these fields, without `name`, `where` and `id_space` (see Source).

    `lists` are files or folders by split; the split is empty for one that names the splits itself. `reader` is one of
    READERS; `ids` one of ID_RULES and `spans` one of SPAN_RULES, each empty where the lists are to decide. `labels`:
    `own`, or `k710` for names that are to be aligned with the 710 classes. `classes` is a file of class names, one a
    line in index order, `synonyms` a CSV file with the columns name,label. `frames_per_s`: see Source.
    """

    name: str
    where: Path
    lists: Mapping[str, Path]
    reader: str = ""
    ids: str = ""
    spans: str = ""
    labels: str = OWN
    classes: Path | None = None
    synonyms: Path | None = None
    title: str = ""
    licence: str = ""
    citation: str = ""
    colour: str = DEFAULT_COLOUR
    id_space: str = ""
    frames_per_s: float = 0.0


def parse_own(text: str) -> tuple[str, Path] | None:
    """Name and path of `NAME=PATH`, an own source as `--sources` has it; None for the name of a known one.

    Raises UsageError for a name that a source cannot have."""
    name, equals, path = text.partition("=")
    if not equals:
        return None
    if problem := name_problem(name):
        raise UsageError(problem)
    if not path:
        raise UsageError(f"{text}: no path; want {name}=PATH, a CSV file, a folder of class folders, or a {SPEC}")
    return name, Path(path)


def own_spec(name: str, path: Path) -> OwnSpec:
    """What `NAME=PATH` means. Raises ListError that says what is missing or wrong.

    A CSV file needs a header, a folder without a source.yaml is a tree of class folders.
    """
    if path.is_dir() and not (path / SPEC).is_file():
        return OwnSpec(name, path, {"": path}, "folders")
    if path.is_dir():
        path = path / SPEC
    if path.suffix.lower() in (".yaml", ".yml"):
        return _from_yaml(name, path)
    if not path.is_file():
        raise ListError(f"{path}: no such file or folder, for the source {name}. A comma in a path is written \\,")
    if path.name.lower().removesuffix(".gz").endswith(_TABLES):
        return OwnSpec(name, path, {"": path}, "csv")
    raise ListError(
        f"{path}: cannot tell what list this is. A table with a header is called .csv or .tsv; for a list of paths and "
        f"class numbers write a {SPEC} that names the file, its split, its reader (lines) and the file of class names"
    )


def _from_yaml(name: str, path: Path) -> OwnSpec:
    try:
        content = yaml.safe_load(recipe_text(path))
    except FileNotFoundError:
        raise ListError(f"{path}: no such file, for the source {name}") from None
    except YAML_ERRORS as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}: line {mark.line + 1}" if mark else str(path)
        raise ListError(f"{where}: not YAML: {getattr(error, 'problem', None) or error}") from None
    if not isinstance(content, dict):
        raise ListError(f"{path}: want keys and values, such as `lists: mine.csv`")
    known = [key for key in OwnSpec.__dataclass_fields__ if key not in ("name", "where", "id_space")]
    for key, value in content.items():
        if key not in known:
            raise unknown_key(path, key, known)
        if key == "frames_per_s":
            if problem := frame_rate_problem(value):
                raise ListError(f"{path}: {problem}")
            continue
        if key != "lists" and not isinstance(value, str):
            raise ListError(f"{path}: {key} must be text, not {reprlib.repr(value)}")
        if key in _SHOWN and CONTROL.search(value.strip() if key == "title" else value.replace("\n", "")):
            raise ListError(f"{path}: {key} has control characters: {value[:60]!a}")
        if key in _CHOICES and value not in _CHOICES[key]:
            raise ListError(f"{path}: {key} is {reprlib.repr(value)}; known: {', '.join(_CHOICES[key])}")
    if not re.fullmatch("#[0-9a-fA-F]{6}", colour := content.get("colour", DEFAULT_COLOUR)):
        raise ListError(f"{path}: colour is {colour!r}; want one of the form '#RRGGBB', in quotes")
    if "lists" not in content:
        raise ListError(f"{path}: no lists; want `lists: FILE_OR_FOLDER`, or one for each of train, val, test")
    lists = _lists(path, content["lists"])
    reader = content.get("reader") or _reader_of(path, next(iter(lists.values())))
    files: dict[str, Any] = {key: path.parent / content[key] for key in ("classes", "synonyms") if key in content}
    given = {key: value for key, value in content.items() if key not in ("lists", "reader", *files)}
    texts: dict[str, Any] = {key: value.strip() if isinstance(value, str) else value for key, value in given.items()}
    return replace(OwnSpec(name, path, lists, reader, **texts), **files)


def _lists(path: Path, given: Any) -> dict[str, Path]:
    if isinstance(given, str):
        return {"": path.parent / given}
    if not isinstance(given, dict) or not given or not all(isinstance(one, str) for one in given.values()):
        wanted = "a file, a folder, or one for each of train, val, test"
        raise ListError(f"{path}: lists must be {wanted}, not {reprlib.repr(given)}")
    lists = {}
    for split, file in given.items():
        if (known := SPLIT_SPELLINGS.get(str(split).lower())) is None:
            raise ListError(f"{path}: lists has {split!r}; known: train, val, test")
        lists[known] = path.parent / file
    return lists


def _reader_of(spec: Path, path: Path) -> str:
    if path.is_dir():
        return "folders"
    if path.name.lower().removesuffix(".gz").endswith(_TABLES):
        return "csv"
    raise ListError(f"{spec}: no reader for {path.name}; known: {', '.join(READERS)}")
