"""Class names: the label sets, the synonyms that join them into 710 classes, and the index orders in the wild.

The data lives in `labelmaps/`; see docs/labels.md for where it comes from and what is proved of it.
"""

from __future__ import annotations

import csv
import functools
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from k710.errors import LabelError, UsageError
from k710.recipes import resource
from k710.sources.catalogue import Catalogue
from k710.sources.known import KINETICS, KNOWN_SOURCES, UNION
from k710.sources.source import Source

# The file of `labelmaps/` that holds the classes of the union and of each source; two sources may share one.
LABEL_SETS = {UNION.name: UNION.label_set} | {each.name: each.label_set for each in KNOWN_SOURCES.values()}
DIALECTS = ("canonical", "uniformerv2", "videomaev2")


def label_key(name: str) -> str:
    """What is compared of a class name: letters and digits alone, case folded.

    UniFormerV2, Appendix F: labels are aligned "by filtering symbols and replacing synonyms"; this is the first half.
    Underscores and spaces are symbols too, so folder names match.
    """
    return "".join(filter(str.isalnum, name.casefold()))


def class_names(label_set: str, dialect: str = "canonical", sources: Catalogue = KINETICS) -> tuple[str, ...]:
    """The names of a label set's classes, in the index order of a dialect; a release keeps its own spelling.

    `sources`: those of the manifest, where the label set may be that of a user's own source or union; its classes have
    one order. Raises UsageError for an unknown label set or dialect.
    """
    if not sources.is_own(label_set):
        return _published_names(label_set, dialect)
    if dialect != "canonical":
        raise UsageError(f"the classes of {label_set} have one order, canonical, and no dialect {dialect!r}")
    return sources.union.classes if label_set == sources.union.name else sources[label_set].classes


@functools.cache
def _published_names(label_set: str, dialect: str) -> tuple[str, ...]:
    if label_set not in LABEL_SETS:
        raise UsageError(f"unknown label set {label_set!r}; known: {', '.join(LABEL_SETS)}")
    if dialect not in DIALECTS:
        raise UsageError(f"unknown dialect {dialect!r}; known: {', '.join(DIALECTS)}")
    path = resource("labelmaps", f"{LABEL_SETS[label_set]}.csv")
    with path.open(encoding="utf-8", newline="") as file:
        name_of = {int(row[dialect]): row["label"] for row in csv.DictReader(file)}
    if sorted(name_of) != list(range(len(name_of))):
        raise LabelError(f"{path}: column {dialect} is not a numbering of the classes from 0 on")
    return tuple(name_of[index] for index in range(len(name_of)))


def label_list_sha256(names: Iterable[str]) -> str:
    """The fingerprint of a list of class names in its order: SHA-256 of one name per line, in UTF-8."""
    return hashlib.sha256("".join(f"{name}\n" for name in names).encode()).hexdigest()


@dataclass(frozen=True)
class Synonym:
    """A name that a release uses (`name`) for a K710 class (`label`); `doubt` says why the meaning may differ."""

    name: str
    label: str
    doubt: str = ""
    where: str = field(default="", compare=False)  # file and line, for a message


def read_synonyms(path: Path) -> tuple[Synonym, ...]:
    """A CSV file with the columns name, label and, if wanted, doubt. Raises LabelError naming file and line."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            missing = {"name", "label"} - set(reader.fieldnames or ())
            if missing:
                raise LabelError(f"{path}: line 1: no column {' or '.join(sorted(missing))}; want name,label")
            synonyms = []
            for row in reader:
                name, label = (row["name"] or "").strip(), (row["label"] or "").strip()
                if not label_key(name) or not label_key(label):
                    raise LabelError(f"{path}: line {reader.line_num}: name and label must both be given")
                where = f"{path}: line {reader.line_num}: "
                synonyms.append(Synonym(name, label, (row.get("doubt") or "").strip(), where))
    except (UnicodeDecodeError, csv.Error) as error:
        raise LabelError(f"{path}: not a CSV file in UTF-8: {error}") from None
    return tuple(synonyms)


@functools.cache
def published_synonyms() -> tuple[Synonym, ...]:
    """The 15 names that differ between the releases and mean one class (VideoMAE V2's release; UniFormerV2, App. F)."""
    return read_synonyms(resource("labelmaps", UNION.synonyms))


class Alignment:
    """Maps any release's class names, and a user's own synonyms, onto the 710 classes.

    >>> Alignment().align("tying tie")
    'tying necktie'
    """

    def __init__(self, own_synonyms: Iterable[Synonym] = ()) -> None:
        """Raises LabelError when a user's synonym leads nowhere or renames a name that already has a class."""
        self.classes = class_names("k710")
        self._class_of_key = {label_key(name): index for index, name in enumerate(self.classes)}
        for synonym in (*published_synonyms(), *own_synonyms):
            index = self.find(synonym.label)
            if index is None:
                raise LabelError(f"{synonym.where}synonym {synonym.name!r}: {self.unknown(synonym.label)}")
            if self._class_of_key.setdefault(label_key(synonym.name), index) != index:
                what = f"{synonym.where}synonym {synonym.name!r} -> {synonym.label!r}"
                raise LabelError(f"{what}: the name already means {self.align(synonym.name)!r}")

    def find(self, name: str) -> int | None:
        """The canonical K710 index of `name`, or None where it is unknown."""
        return self._class_of_key.get(label_key(name))

    def align(self, name: str) -> str:
        """The K710 class that `name` means. Raises LabelError with the nearest classes where it is unknown."""
        index = self.find(name)
        if index is None:
            raise LabelError(self.unknown(name))
        return self.classes[index]

    def unknown(self, name: str) -> str:
        """The sentence that says `name` is unknown and suggests the three nearest classes."""
        from rapidfuzz import fuzz, process

        name = name if len(name) <= 60 else f"{name[:57]}..."
        nearest = process.extract(name, self.classes, scorer=fuzz.WRatio, processor=str.casefold, limit=3)
        return f"unknown label {name!r}; nearest classes: {', '.join(repr(match[0]) for match in nearest)}"


def union_classes_of(source: Source, sources: Catalogue) -> tuple[int, ...]:
    """For each class of a source, in canonical order, its index in the union; -1 for a class that the union lacks.

    `sources`: the catalogue of the manifest."""
    if sources.union.is_own:
        none = (-1,) * len(class_names(source.name, sources=sources))
        return sources.union.class_maps.get(source.name, none)
    return source.union_classes if source.is_own else k710_classes_of(source.label_set)


def union_classes_of_view(view: str, sources: Catalogue) -> tuple[int, ...]:
    """As `union_classes_of`, of a view of a manifest with this catalogue; of the union's own, each class itself."""
    if view == sources.union.name:
        return tuple(range(len(class_names(view, sources=sources))))
    return union_classes_of(sources[view], sources)


@functools.cache
def k710_classes_of(label_set: str, dialect: str = "canonical") -> tuple[int, ...]:
    """For each class of a label set, in a dialect's order, its canonical K710 index."""
    alignment = Alignment()
    return tuple(alignment.classes.index(alignment.align(name)) for name in class_names(label_set, dialect))


def row_map(
    source: str, target: str, *, source_dialect: str = "canonical", target_dialect: str = "canonical"
) -> tuple[int | None, ...]:
    """For each class of `target`, in its dialect's order, the row of `source` that carries it, or None.

    This is the list by which a head is indexed: `target_weight[i] = source_weight[row_map[i]]`. Each label set names a
    K710 class at most once, so there is never a choice of rows.
    """
    row_of = {k710: row for row, k710 in enumerate(k710_classes_of(source, source_dialect))}
    return tuple(row_of.get(k710) for k710 in k710_classes_of(target, target_dialect))
