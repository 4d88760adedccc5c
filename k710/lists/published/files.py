"""What the readers of published lists share: finding and reading files, classes by their numbers, rows by lines."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from k710.errors import ListError
from k710.lists.annotation_rows import BadRow, quoted
from k710.lists.list_bytes import list_text
from k710.lists.own_rows import RawList, RawRow

Rows = list[RawRow | BadRow]
FOLDS = ("1", "2", "3")


@dataclass(frozen=True)
class View:
    """The lists of one view by split, its classes in the official index order, and the file that names them. Up to
    `malformed_share` of the rows of a list may be bad, as it was published."""

    lists: dict[str, RawList]
    classes: tuple[str, ...]
    named_in: Path
    malformed_share: float = 0.0


class MissingError(Exception):
    """The name of a file that is not in the folder."""


def file_in(folder: Path, *names: str) -> Path:
    """The first of these files, plain or gzipped. Raises MissingError."""
    for name in names:
        for path in (folder / name, folder / f"{name}.gz"):
            if path.is_file():
                return path
    raise MissingError(names[0])


def text_of(path: Path) -> str:
    try:
        return list_text(path)
    except ListError as error:
        raise ListError(f"{path}: {error}") from None


def lines_of(path: Path) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, with their numbers."""
    return ((number, line) for number, line in enumerate(text_of(path).split("\n"), 1) if line.strip())


def rows_of_lines(path: Path, parse: Callable[[str], tuple[str, str] | str]) -> RawList:
    """The rows of a file: `parse` gives the ID or path and the label of a line, or what is wrong with it."""
    rows: Rows = []
    for number, line in lines_of(path):
        found = parse(line)
        rows.append(BadRow(number, found) if isinstance(found, str) else RawRow(number, *found))
    return RawList(path, rows)


def numbered_classes(path: Path, form: str, *, first: int) -> tuple[str, ...]:
    index_of = {}
    for number, line in lines_of(path):
        match = re.fullmatch(form, line.strip())
        if match is None or match["name"] in index_of:
            raise ListError(f"{path}: line {number}: not a class with its number, each once: {quoted(line.strip())}")
        index_of[match["name"]] = int(match["index"]) - first
    return in_order(path, index_of)


def in_order(path: Path, index_of: Mapping[str, int]) -> tuple[str, ...]:
    if sorted(index_of.values()) != list(range(len(index_of))) or not index_of:
        raise ListError(f"{path}: its numbers are not one for each class without a gap")
    return tuple(sorted(index_of, key=index_of.__getitem__))


def each_once(path: Path, names: Iterable[str]) -> tuple[str, ...]:
    names = tuple(names)
    if len(set(names)) < len(names) or not names:
        raise ListError(f"{path}: want class names, each once")
    return names


def json_of(path: Path) -> Any:
    try:
        return json.loads(text_of(path))
    except json.JSONDecodeError as error:
        raise ListError(f"{path}: line {error.lineno}: not JSON, or cut off: {error.msg}") from None
    except (RecursionError, ValueError) as error:
        raise ListError(f"{path}: not JSON: {error}") from None
