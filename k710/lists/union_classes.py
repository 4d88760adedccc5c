"""The classes of a union: which classes of its members are one, by a file of synonyms and by their names."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from k710.errors import LabelError
from k710.lists.annotation_rows import MAX_LABEL_LENGTH, quoted
from k710.lists.labels import label_key
from k710.lists.union_spec import MERGE
from k710.sources.own import CONTROL, MAX_CLASSES

COLUMNS = ("member", "name", "label", "new")
SUGGESTED = (*COLUMNS, "nearest", "of", "likeness", "second", "third")
YES = "yes"
LIKE_ENOUGH = 85  # of 100; below it most proposals join different actions
_SHOWN = 20


@dataclass(frozen=True)
class UnionSynonym:
    """Class `name` of a member is class `label` of the union; `is_new` where no member has a class of that name."""

    member: str
    name: str
    label: str
    is_new: bool
    where: str  # file and line, for a message


@dataclass(frozen=True)
class UnionClasses:
    """The classes of a union in index order, for each member the index of each of its classes, and what a user should
    know of how they came about."""

    names: tuple[str, ...]
    maps: Mapping[str, tuple[int, ...]]
    notes: tuple[str, ...]


def read_union_synonyms(path: Path) -> tuple[UnionSynonym, ...]:
    """A CSV file with the columns member, name, label and, if wanted, new. Raises LabelError naming file and line."""
    found = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            if missing := set(COLUMNS[:3]) - set(reader.fieldnames or ()):
                lacking = " or ".join(column for column in COLUMNS if column in missing)
                raise LabelError(f"{path}: line 1: no column {lacking}; want {','.join(COLUMNS[:3])}[,new]")
            for row in reader:
                where = f"{path}: line {reader.line_num}: "
                member, name, label, new = ((row.get(column) or "").strip() for column in COLUMNS)
                if not member or not name or not label:
                    raise LabelError(f"{where}member, name and label must all be given")
                if len(label) > MAX_LABEL_LENGTH or CONTROL.search(label):
                    raise LabelError(f"{where}label {quoted(label)} is too long or not printable")
                if new not in ("", YES):
                    raise LabelError(f"{where}new is {quoted(new)}; want {YES} or nothing")
                found.append(UnionSynonym(member, name, label, bool(new), where))
    except (UnicodeDecodeError, csv.Error) as error:
        raise LabelError(f"{path}: not a CSV file in UTF-8: {error}") from None
    return tuple(found)


@dataclass(frozen=True)
class _Class:
    """A class of a member, and the class of the union that it is: by a synonym, or by its own name."""

    member: str
    name: str
    label: str
    synonym: UnionSynonym | None


def union_classes(
    members: Sequence[tuple[str, tuple[str, ...]]],
    synonyms: Sequence[UnionSynonym],
    *,
    same_names: str,
    where: Path,
) -> UnionClasses:
    """The classes of a union of these members, each with its name and its classes in index order.

    A class without a synonym is a class of the union by its own name. Names are compared by letters and digits, case
    folded (`label_key`). The classes are sorted by name, case folded. `same_names`: whether classes of two members that
    have one name are one class (`merge`), or are refused (`ask`). `where` is the file of the union, for messages.
    Raises LabelError for what is not decided, and for a synonym that names no class.
    """
    classes = _classes(members, _checked(members, synonyms))
    by_name = {_key(one.label): one for one in reversed(classes) if one.synonym is None}
    new = {_key(one.label): one for one in reversed(synonyms) if one.is_new}
    for one in synonyms:
        _check_label(one, by_name, new)
    groups: dict[str, list[_Class]] = defaultdict(list)
    for each in classes:
        groups[_key(each.label)].append(each)
    notes = _check_groups(groups, same_names, where)
    label_of = {key: by_name[key].label if key in by_name else new[key].label for key in groups}
    names = tuple(sorted(label_of.values(), key=lambda name: (name.casefold(), name)))
    if len(names) > MAX_CLASSES:
        raise LabelError(f"{where}: {len(names):,} classes; at most {MAX_CLASSES:,}")
    index = {name: number for number, name in enumerate(names)}
    maps = {
        name: tuple(index[label_of[_key(each.label)]] for each in classes if each.member == name) for name, _ in members
    }
    return UnionClasses(names, maps, notes)


def _key(name: str) -> str:
    """What is compared of a class name; a name of symbols alone is compared as it is."""
    return label_key(name) or name


def _checked(
    members: Sequence[tuple[str, tuple[str, ...]]], synonyms: Sequence[UnionSynonym]
) -> dict[tuple[str, str], UnionSynonym]:
    """The synonyms by member and key of the name. Raises LabelError for an unknown member or class, and for a class
    with two."""
    known = dict(members)
    keys = {name: {_key(each) for each in classes} for name, classes in members}
    found: dict[tuple[str, str], UnionSynonym] = {}
    for one in synonyms:
        if one.member not in known:
            raise LabelError(f"{one.where}member {quoted(one.member)}; known: {', '.join(known)}")
        if _key(one.name) not in keys[one.member]:
            nearest = _nearest(one.name, known[one.member])
            raise LabelError(f"{one.where}{one.member} has no class {quoted(one.name)}; nearest: {nearest}")
        other = found.setdefault((one.member, _key(one.name)), one)
        if other is not one:
            line = other.where.rstrip(": ").rpartition(": ")[2]
            raise LabelError(f"{one.where}{one.member} {quoted(one.name)} has a label in {line} already")
    return found


def _classes(
    members: Sequence[tuple[str, tuple[str, ...]]], synonyms: Mapping[tuple[str, str], UnionSynonym]
) -> list[_Class]:
    found = []
    for member, names in members:
        for name in names:
            synonym = synonyms.get((member, _key(name)))
            found.append(_Class(member, name, synonym.label if synonym else name, synonym))
    return found


def _check_label(one: UnionSynonym, by_name: Mapping[str, _Class], new: Mapping[str, UnionSynonym]) -> None:
    """Raises LabelError unless the label is a class that a member brings by its name, or a new name that is one."""
    key = _key(one.label)
    if one.is_new and key in by_name:
        raise LabelError(
            f"{one.where}new is {YES}, and {by_name[key].member} has a class {quoted(by_name[key].name)}; leave new "
            "empty to join it, or take another name"
        )
    if key not in by_name and key not in new:
        nearest = _nearest(one.label, [each.label for each in by_name.values()])
        raise LabelError(
            f"{one.where}no class of the union has the name {quoted(one.label)}; nearest: {nearest}. For a new name "
            f"write {YES} in a column new"
        )


def _check_groups(groups: Mapping[str, list[_Class]], same_names: str, where: Path) -> tuple[str, ...]:
    """Notes on classes that become one. Raises LabelError for those on which nobody has decided."""
    asked, merged, inside = [], 0, []
    for group in groups.values():
        by_name = [one for one in group if one.synonym is None]
        for member in dict.fromkeys(one.member for one in group):
            mine = [one for one in group if one.member == member]
            if sum(one.synonym is None for one in mine) > 1:
                names = " and ".join(repr(one.name) for one in mine if one.synonym is None)
                raise LabelError(
                    f"{where}: {names} of {member} are one name but for case and symbols; give all but one of them a "
                    "label in the file of synonyms"
                )
            if len(mine) > 1:
                inside.append(f"{', '.join(repr(one.name) for one in mine)} of {member}")
        if len(by_name) > 1:
            merged += 1
            asked.append(by_name)
    if asked and same_names != MERGE:
        raise LabelError(_question(asked, where))
    notes = [f"{where}: by synonyms, one class: {classes}" for classes in inside]
    if merged:
        are = "1 name is a class" if merged == 1 else f"{merged:,} names are classes"
        notes.append(f"{where}: {are} of several members and one class each of the union (same_names: {MERGE})")
    return tuple(notes)


def _question(asked: Sequence[Sequence[_Class]], where: Path) -> str:
    lines = [f"  {group[0].label!r}: {', '.join(one.member for one in group)}" for group in asked[:_SHOWN]]
    more = [f"  and {len(asked) - _SHOWN:,} more"] if len(asked) > _SHOWN else []
    one = asked[0][-1]
    name = f'"{one.name}"' if "," in one.name else one.name
    are = "name is a class" if len(asked) == 1 else f"{len(asked):,} names are classes"
    return "\n".join(
        [
            f"{where}: {'1 ' * (len(asked) == 1)}{are} of several members. Say of each in the file of synonyms whether "
            f"it is one class (`{one.member},{name},{name},`) or not (`{one.member},{name},NEW NAME,{YES}`), or say "
            f"`same_names: {MERGE}` for all. `k710 labels --suggest {where}` proposes the lines",
            *lines,
            *more,
        ]
    )


def _nearest(name: str, names: Iterable[str]) -> str:
    from rapidfuzz import fuzz, process

    found = process.extract(name[:60], list(names), scorer=fuzz.WRatio, processor=str.casefold, limit=3)
    return ", ".join(repr(match[0]) for match in found)


def suggested_synonyms(
    members: Sequence[tuple[str, tuple[str, ...]]], synonyms: Sequence[UnionSynonym]
) -> tuple[str, int]:
    """A CSV of proposals, and how many: for each class without a synonym that has the name, or nearly the name, of a
    class of a member before its own. The column `label` is empty, and a build refuses it so. Raises LabelError as
    `union_classes`."""
    from rapidfuzz import fuzz, process

    decided = _checked(members, synonyms)
    before: dict[str, str] = {}
    rows: list[tuple[float, str, str, list[tuple[str, str]]]] = []
    for member, names in members:
        for name in names if before else ():
            if (member, _key(name)) in decided:
                continue
            plain = name.replace("_", " ").replace("+", " ")
            near = process.extract(
                plain, list(before), scorer=fuzz.WRatio, processor=str.casefold, limit=3, score_cutoff=LIKE_ENOUGH
            )
            if near:
                rows.append((near[0][1], member, name, [(match[0], before[match[0]]) for match in near]))
        before |= {name: member for name in names if name not in before}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(SUGGESTED)
    for likeness, member, name, found in sorted(rows, key=lambda row: (-row[0], row[1], row[2])):
        (nearest, of), *others = found
        second, third = [*(other for other, _ in others), "", ""][:2]
        writer.writerow((member, name, "", "", nearest, of, f"{likeness:.0f}", second, third))
    return text.getvalue(), len(rows)
