"""A user's own union as plain data: what a manifest's dataset.json says of it, checked when it is read back."""

from __future__ import annotations

import re
from typing import Any

from k710.sources.own import CONTROL, MAX_CLASSES, name_problem
from k710.sources.source import SPLITS, Union

_KEYS = ("name", "title", "members", "precedence", "classes", "class_maps", "holdout", "all_clips")
_LISTS = ("members", "precedence", "classes", "all_clips")


def as_plain(union: Union) -> dict[str, Any]:
    """What dataset.json says of an own union."""
    return {
        "name": union.name,
        "title": union.title,
        **{key: list(getattr(union, key)) for key in _LISTS},
        "class_maps": {name: list(indices) for name, indices in union.class_maps.items()},
        "holdout": {name: list(splits) for name, splits in union.holdout.items()},
    }


def from_plain(plain: Any) -> Union:
    """The union that `as_plain` wrote. Raises ValueError that says what is wrong."""
    if not isinstance(plain, dict) or set(plain) != set(_KEYS):
        raise ValueError(f"a union has {', '.join(_KEYS)}")
    if not isinstance(plain["name"], str) or not isinstance(plain["title"], str):
        raise ValueError("its name or its title is not text")
    if problem := name_problem(plain["name"]):
        raise ValueError(problem)
    for key in _LISTS:
        if not (isinstance(plain[key], list) and all(isinstance(one, str) for one in plain[key])):
            raise ValueError(f"{key} is not a list of names")
    if any(CONTROL.search(text) for text in (plain["title"], *plain["classes"])):
        raise ValueError("its title or a class has control characters")
    num_classes, members = len(plain["classes"]), plain["members"]
    if not 0 < num_classes <= MAX_CLASSES or len(set(plain["classes"])) < num_classes:
        raise ValueError("classes is not a list of different names")
    if not members or sorted(plain["precedence"]) != sorted(set(members)) or not set(plain["all_clips"]) <= {*members}:
        raise ValueError("members, precedence and all_clips do not name the same sources")
    return own_union(
        name=plain["name"],
        title=plain["title"],
        **{key: tuple(plain[key]) for key in _LISTS},
        class_maps=_class_maps(plain["class_maps"], members, num_classes),
        holdout=_holdout(plain["holdout"]),
    )


def _class_maps(maps: Any, members: list[str], num_classes: int) -> dict[str, tuple[int, ...]]:
    if not isinstance(maps, dict) or set(maps) != set(members):
        raise ValueError("class_maps does not have one list for each member")
    for name, indices in maps.items():
        good = isinstance(indices, list) and all(type(one) is int and 0 <= one < num_classes for one in indices)
        if not good:
            raise ValueError(f"class_maps of {name} is not a list of classes from 0 to {num_classes - 1}")
    return {name: tuple(indices) for name, indices in maps.items()}


def _holdout(holdout: Any) -> dict[str, tuple[str, ...]]:
    lists = holdout.values() if isinstance(holdout, dict) else [None]
    if not all(isinstance(splits, list) and set(splits) <= set(SPLITS) for splits in lists):
        raise ValueError(f"holdout does not give splits ({', '.join(SPLITS)}) by source")
    return {name: tuple(splits) for name, splits in holdout.items()}


def own_union(
    *,
    name: str,
    title: str,
    members: tuple[str, ...],
    precedence: tuple[str, ...],
    classes: tuple[str, ...],
    class_maps: dict[str, tuple[int, ...]],
    holdout: dict[str, tuple[str, ...]],
    all_clips: tuple[str, ...] = (),
) -> Union:
    """A union that a manifest describes. Its class names are its label set."""
    return Union(
        name=name,
        title=title or name,
        short_title=title or name,
        name_pattern=re.escape(name),
        label_set=name,
        members=members,
        precedence=precedence,
        classes=classes,
        class_maps=class_maps,
        holdout=holdout,
        all_clips=all_clips,
    )
