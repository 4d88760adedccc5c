"""Which classes the names of another dataset may mean: a proposal for a person to edit, never a decision."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from k710.lists.labels import Alignment

_SHOWN = 3
COLUMNS = ("name", "label", "nearest", "likeness", "second", "third")


@dataclass(frozen=True)
class Suggestion:
    """A name that means no class, the nearest classes, and how like the first of them it is, from 0 to 100."""

    name: str
    nearest: tuple[str, ...]
    likeness: float


def suggestions(names: Iterable[str], alignment: Alignment) -> list[Suggestion]:
    """For each name that the alignment does not know, the nearest classes; the most alike first."""
    from rapidfuzz import fuzz, process

    found = []
    for name in dict.fromkeys(names):
        if alignment.find(name) is None:
            near = process.extract(
                name.replace("_", " "), alignment.classes, scorer=fuzz.WRatio, processor=str.casefold, limit=_SHOWN
            )
            found.append(Suggestion(name, tuple(match[0] for match in near), near[0][1]))
    return sorted(found, key=lambda one: (-one.likeness, one.name))


def as_synonyms(found: Sequence[Suggestion]) -> str:
    """A file of synonyms to be edited: the column `label` is empty, and a build refuses it so."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for one in found:
        writer.writerow((one.name, "", one.nearest[0], f"{one.likeness:.0f}", *one.nearest[1:]))
    return text.getvalue()
