"""What a user says of a union: a `union.yaml` that names its members and every decision on them."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from k710.errors import RecipeError
from k710.recipes import YAML_ERRORS, recipe_files, recipe_text, unknown_key
from k710.sources.known import KINETICS, KNOWN_SOURCES, UNION
from k710.sources.others import OTHERS
from k710.sources.own import CONTROL, name_problem

ASK, MERGE = "ask", "merge"
SAME_NAMES = (ASK, MERGE)
POLICIES = ("train-purge", "val-purge")
HELD_OUT = ("val", "test")

_VIEWS = tuple(view for one in OTHERS.values() for view in one.views)
_SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True)
class Member:
    """A data set of a union: a release, a view of another published data set (its lists in `path`, or in the folder of
    `--annotations`), lists of the user's own in `path`, or another union."""

    name: str
    path: Path | None = None
    union: UnionSpec | None = None
    is_k710: bool = False

    @property
    def is_own(self) -> bool:
        """Whether its lists are of the user's own."""
        return not self.is_k710 and self.union is None and self.name not in (*KNOWN_SOURCES, *_VIEWS)

    @property
    def sources(self) -> tuple[str, ...]:
        """The sources that it is made of."""
        if self.is_k710:
            return UNION.members
        return self.union.sources if self.union else (self.name,)

    @property
    def precedence(self) -> tuple[str, ...]:
        """Its sources, the one that wins first."""
        if self.is_k710:
            return tuple(name for name in UNION.precedence if name in UNION.members)
        return self.union.ranked if self.union else (self.name,)


@dataclass(frozen=True)
class UnionSpec:
    """A union.yaml, read. `beside` are data sets that are read and are no members. `holdout` has the splits by the name
    of a member or of one beside; `policy_holdout` those of all members. `same_names` is one of SAME_NAMES."""

    name: str
    where: Path
    members: tuple[Member, ...]
    title: str = ""
    beside: tuple[Member, ...] = ()
    synonyms: Path | None = None
    same_names: str = ASK
    precedence: tuple[str, ...] = ()
    policy: str = POLICIES[0]
    policy_holdout: tuple[str, ...] = ("val",)
    holdout: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    all_clips: tuple[str, ...] = ()

    @property
    def sources(self) -> tuple[str, ...]:
        """The sources of all members."""
        return tuple(source for member in self.members for source in member.sources)

    @property
    def ranked(self) -> tuple[str, ...]:
        """The sources of all members, the one that wins first."""
        by_name = {member.name: member for member in self.members}
        return tuple(source for name in self.precedence for source in by_name[name].precedence)

    @property
    def held(self) -> dict[str, tuple[str, ...]]:
        """`holdout` by source, with what the members that are unions hold out."""
        found: dict[str, tuple[str, ...]] = {}
        for inner in (member.union for member in self.members if member.union):
            if inner.policy_holdout != ("val",):
                found |= dict.fromkeys(inner.sources, inner.policy_holdout)
            found |= inner.held
        by_name = {one.name: one for one in (*self.members, *self.beside)}
        mine = {source: splits for name, splits in self.holdout.items() for source in by_name[name].sources}
        return {name: _both(found.get(name, ()), mine.get(name, ())) for name in {**found, **mine}}

    @property
    def kept_whole(self) -> tuple[str, ...]:
        """`all_clips` by source, with those of the members that are unions."""
        inside = [name for member in self.members if member.union for name in member.union.kept_whole]
        mine = [source for member in self.members if member.name in self.all_clips for source in member.sources]
        return tuple(dict.fromkeys((*mine, *inside)))

    @property
    def all_members(self) -> Iterator[Member]:
        """The members that are no unions of the user's own, those of such members too, and those beside."""
        for member in (*self.members, *self.beside):
            yield from member.union.all_members if member.union else (member,)


def _both(one: tuple[str, ...], other: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(split for split in HELD_OUT if split in (*one, *other))


def is_union_file(path: Path) -> bool:
    """Whether a path is a YAML file that has members."""
    try:
        content = yaml.safe_load(recipe_text(path)) if path.suffix.lower() in _SUFFIXES else None
    except (OSError, *YAML_ERRORS):
        return False
    return isinstance(content, dict) and "members" in content


def read_union_spec(name_or_file: str) -> UnionSpec:
    """The union of a file, or one that comes with k710 by its name. Raises RecipeError with file, line, key and value
    for what is wrong, and what is allowed."""
    known = recipe_files("unions")
    path = known.get(name_or_file, Path(name_or_file))
    if not path.is_file():
        raise RecipeError(f"{name_or_file}: no such union; known: {', '.join(known)}, or the path of a YAML file")
    return _read(path, ())


def _read(path: Path, outer: tuple[Path, ...]) -> UnionSpec:
    if path.resolve() in outer:
        ring = " -> ".join(str(one.name) for one in (*outer[outer.index(path.resolve()) :], path))
        raise RecipeError(f"{path}: a union is a member of itself: {ring}")
    file, outer = _content(path), (*outer, path.resolve())
    name = file.text("name")
    if (problem := name_problem(name)) or KINETICS.is_data_set(name) or name in (*OTHERS, *_VIEWS):
        raise file.error("name", problem or f"{name!r} is the name of another data set")
    members = _members(file, "members", outer)
    beside = _members(file, "beside", outer) if "beside" in file.content else ()
    if any(one.union or one.is_k710 for one in beside):
        raise file.error("beside", "holds a union; name the sources that it is made of")
    _check_once(file, members, beside)
    if name in {source for one in (*members, *beside) for source in (one.name, *one.sources)}:
        raise file.error("name", f"{name!r} is the name of a member too")
    title, names, others = file.text("title", ""), [one.name for one in members], [one.name for one in beside]
    if KINETICS.is_data_set(title) or title in {one for each in (*members, *beside) for one in each.sources}:
        raise file.error("title", f"{title!r} is the name of a data set")
    policy = file.choice("policy", POLICIES)
    of_all, holdout = _holdout(file, names, others)
    spec = UnionSpec(
        name=name,
        where=path,
        members=members,
        title=title,
        beside=beside,
        synonyms=file.path_of("synonyms"),
        same_names=file.choice("same_names", SAME_NAMES),
        precedence=_precedence(file, names),
        policy=policy,
        policy_holdout=of_all,
        holdout=holdout,
        all_clips=_names(file, "all_clips", names),
    )
    if policy == "val-purge" and (of_all != ("val",) or spec.held):
        raise file.error("policy", "val-purge keeps every video of train and so has no holdout; leave it at val")
    return spec


_KEYS = ("name", "title", "members", "beside", "synonyms", "same_names", "precedence", "holdout", "policy", "all_clips")
_RELATIVE = "no such file or folder; a path is relative to the folder of this file"


@dataclass(frozen=True)
class _File:
    """The content of a union.yaml. `lines` has the line of each key, and of each item of a list by key and number."""

    path: Path
    content: dict[str, Any]
    lines: dict[Any, int]

    def error(self, key: Any, problem: str) -> RecipeError:
        """The error of the value of a key, or of an item (key, number)."""
        name = key[0] if isinstance(key, tuple) else key
        line = self.lines.get(key, self.lines.get(name))
        return RecipeError(f"{self.path}: {f'line {line}: ' if line else ''}{name}: {problem}")

    def text(self, key: str, otherwise: str | None = None) -> str:
        value = self.content.get(key, otherwise)
        if value is None:
            raise RecipeError(f"{self.path}: no {key}")
        if not isinstance(value, str) or CONTROL.search(value):
            raise self.error(key, f"want one line of text, not {reprlib.repr(value)}")
        return value

    def choice(self, key: str, known: tuple[str, ...]) -> str:
        value = self.content.get(key, known[0])
        if value not in known:
            raise self.error(key, f"{reprlib.repr(value)}; known: {', '.join(known)}")
        return str(value)

    def path_of(self, key: str) -> Path | None:
        if key not in self.content:
            return None
        path = self.path.parent / self.text(key)
        if not path.is_file():
            raise self.error(key, f"{path}: {_RELATIVE}")
        return path


def _content(path: Path) -> _File:
    try:
        text = recipe_text(path)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        content = yaml.safe_load(text)
    except FileNotFoundError:
        raise RecipeError(f"{path}: no such file") from None
    except YAML_ERRORS as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}: line {mark.line + 1}" if mark else str(path)
        raise RecipeError(f"{where}: not YAML: {getattr(error, 'problem', None) or error}") from None
    if not isinstance(node, yaml.MappingNode) or not isinstance(content, dict):
        raise RecipeError(f"{path}: want keys and values: {', '.join(_KEYS)}")
    lines: dict[Any, int] = {}
    for key, value in node.value:
        if key.value in lines:
            raise RecipeError(f"{path}: line {key.start_mark.line + 1}: key {reprlib.repr(key.value)} appears twice")
        lines[key.value] = key.start_mark.line + 1
        items = value.value if isinstance(value, yaml.SequenceNode) else ()
        lines |= {(key.value, number): item.start_mark.line + 1 for number, item in enumerate(items)}
    for key in content:
        if key not in _KEYS:
            raise unknown_key(f"{path}: line {lines.get(key, 1)}", key, list(_KEYS))
    return _File(path, content, lines)


def _members(file: _File, key: str, outer: tuple[Path, ...]) -> tuple[Member, ...]:
    given = file.content.get(key)
    if not isinstance(given, list) or not given:
        raise file.error(key, f"want a list of data sets, not {reprlib.repr(given)}")
    return tuple(_member(file, (key, number), one, outer) for number, one in enumerate(given))


def _member(file: _File, key: tuple[str, int], given: Any, outer: tuple[Path, ...]) -> Member:
    if isinstance(given, dict) and len(given) == 1:
        ((name, place),) = given.items()
        if isinstance(name, str) and isinstance(place, str):
            return _placed(file, key, name, file.path.parent / place)
    if not isinstance(given, str):
        raise file.error(key, f"{reprlib.repr(given)}; want a name, NAME: PATH, or the path of a union")
    if given.lower().endswith(_SUFFIXES):
        path = file.path.parent / given
        if not path.is_file():
            raise file.error(key, f"{path}: {_RELATIVE}")
        spec = _read(path, outer)
        return Member(spec.name, union=spec)
    if re.fullmatch(UNION.name_pattern, given, re.I):
        return Member(UNION.name, is_k710=True)
    name = KINETICS.source_named(given)
    if name in KNOWN_SOURCES:
        return Member(name)
    name = name.lower()
    if name in _VIEWS:
        return Member(name)
    if name in OTHERS:
        raise file.error(key, f"{given!r} has several views; name one of them: {', '.join(OTHERS[name].views)}")
    known = ", ".join((UNION.name, *KNOWN_SOURCES, *_VIEWS))
    raise file.error(key, f"{given!r}; known: {known}. Lists of your own are written NAME: PATH")


def _placed(file: _File, key: tuple[str, int], name: str, place: Path) -> Member:
    """A member with a path of its own."""
    if KINETICS.is_data_set(name) or (name in OTHERS and name not in _VIEWS):
        raise file.error(key, f"{name} takes no path; its lists are in the folder of --annotations")
    if problem := name_problem(name):
        raise file.error(key, problem)
    if not place.exists():
        raise file.error(key, f"{name}: {place}: {_RELATIVE}")
    return Member(name, place)


def _check_once(file: _File, members: tuple[Member, ...], beside: tuple[Member, ...]) -> None:
    through: dict[str, str] = {}
    places = [*(("members", number) for number in range(len(members))), *(("beside", n) for n in range(len(beside)))]
    for place, member in zip(places, (*members, *beside), strict=True):
        for source in dict.fromkeys((member.name, *member.sources)):
            if source in through:
                how = " and ".join(dict.fromkeys((through[source], member.name)))
                raise file.error(place, f"{source} is named twice, by {how}; want each data set once")
            through[source] = member.name


def _names(file: _File, key: str, known: list[str]) -> tuple[str, ...]:
    given = file.content.get(key, [])
    if not isinstance(given, list):
        raise file.error(key, f"want a list of members, not {reprlib.repr(given)}")
    names = [_named(one) for one in given]
    for number, name in enumerate(names):
        if name not in known:
            raise file.error((key, number), f"{reprlib.repr(name)} is no member; members: {', '.join(known)}")
        if name in names[:number]:
            raise file.error((key, number), f"{name!r} appears twice")
    return tuple(names)


def _named(given: Any) -> Any:
    """The member that a name means, in any spelling."""
    if not isinstance(given, str):
        return given
    return UNION.name if re.fullmatch(UNION.name_pattern, given, re.I) else KINETICS.source_named(given)


def _precedence(file: _File, members: list[str]) -> tuple[str, ...]:
    """The members, the one that wins first; as they are listed where the file does not say."""
    found = _names(file, "precedence", members)
    if "precedence" in file.content and (lacking := [name for name in members if name not in found]):
        raise file.error("precedence", f"lacks {', '.join(lacking)}; want every member, the one that wins first")
    return found or tuple(members)


_VAL = "the val lists of the members are the union's val, and train must not meet them"


def _holdout(file: _File, members: list[str], beside: list[str]) -> tuple[tuple[str, ...], dict[str, tuple[str, ...]]]:
    """The splits of all members that are held out, and more by name."""
    given = file.content.get("holdout", "val")
    if not isinstance(given, dict):
        splits = _splits(file, "", given)
        if "val" not in splits:
            raise file.error("holdout", f"lacks val; {_VAL}")
        return splits, {}
    more = {}
    for spelled, value in given.items():
        name = _named(spelled)
        if name not in (*members, *beside):
            known = ", ".join((*members, *beside))
            raise file.error("holdout", f"{reprlib.repr(spelled)}; known: {known}. `beside` takes more data sets")
        more[name] = _splits(file, f"{name}: ", value)
        if name in members and "val" not in more[name]:
            raise file.error("holdout", f"{name} lacks val; {_VAL}")
    return ("val",), {name: splits for name, splits in more.items() if name in beside or splits != ("val",)}


def _splits(file: _File, whose: str, given: Any) -> tuple[str, ...]:
    splits = [given] if isinstance(given, str) else given
    if not isinstance(splits, list) or not splits or not all(split in HELD_OUT for split in splits):
        raise file.error("holdout", f"{whose}{reprlib.repr(given)}; want val, test or [val, test]")
    return tuple(split for split in HELD_OUT if split in splits)
