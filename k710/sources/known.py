"""Which sources exist, and how their names and those of splits are checked."""

from __future__ import annotations

import re
from collections.abc import Iterable

from k710.errors import UsageError
from k710.sources.kinetics import K400, K600, K700, K700_2020, K710
from k710.sources.source import SPLIT_SPELLINGS, SPLITS, Archives, Source

# By name. The position of a source here is its number in tables of list rows.
KNOWN_SOURCES: dict[str, Source] = {
    "k400": K400,
    "k600": K600,
    "k700": K700,
    "k700_2020": K700_2020,
}

UNION = K710

VIEWS = (UNION.name, *KNOWN_SOURCES)  # what can be asked of a manifest: the curated union, or a source as published

# The precedence of all sources: those of the union as it says, then the others.
PRECEDENCE = (*UNION.precedence, *(name for name in KNOWN_SOURCES if name not in UNION.precedence))


def archives() -> tuple[Archives, ...]:
    """All public archives in the order in which they are asked: a clip's home is the first source that hosts it."""
    return tuple(one for name in PRECEDENCE for one in KNOWN_SOURCES[name].archives)


def citations(sources: Iterable[str]) -> list[str]:
    """BibTeX entries: the papers of these sources, then those of the union."""
    return [*(KNOWN_SOURCES[source].citation for source in sources), *UNION.citations]


def source_named(name: str) -> str:
    """The source that a name means in any of its spellings; else the name itself."""
    found = (each.name for each in KNOWN_SOURCES.values() if re.fullmatch(each.name_pattern, name, re.I))
    return next(found, name)


def is_data_set(name: str) -> bool:
    """Whether a name means a source or the union, in any spelling."""
    return source_named(name) in KNOWN_SOURCES or bool(re.fullmatch(UNION.name_pattern, name, re.I))


def check_sources(names: tuple[str, ...]) -> tuple[str, ...]:
    """The sources that `names` mean, in the order of KNOWN_SOURCES, without repeats.

    Any spelling will do (`K400`, `kinetics-400`). Raises UsageError for an unknown or empty selection.
    """
    return _check(tuple(map(source_named, names)), tuple(KNOWN_SOURCES), "source")


def check_splits(names: tuple[str, ...]) -> tuple[str, ...]:
    """The splits that `names` mean (`validation` is val), in the order train, val, test, without repeats.

    Raises UsageError for an unknown or empty selection.
    """
    return _check(tuple(SPLIT_SPELLINGS.get(name.lower(), name) for name in names), SPLITS, "split")


def _check(names: tuple[str, ...], known: tuple[str, ...], what: str) -> tuple[str, ...]:
    for name in names:
        if name not in known:
            raise UsageError(f"unknown {what} {name!r}; known: {', '.join(known)}")
    if not names:
        raise UsageError(f"no {what} given; known: {', '.join(known)}")
    return tuple(name for name in known if name in names)
