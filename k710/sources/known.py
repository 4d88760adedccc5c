"""The sources that k710 knows by itself, and how names of splits are checked."""

from __future__ import annotations

from collections.abc import Iterable

from k710.sources.catalogue import Catalogue, checked_names
from k710.sources.kinetics import K400, K600, K700, K700_2020, K710
from k710.sources.source import SPLIT_SPELLINGS, SPLITS, Archives, Source

# By name, in the order of their columns.
KNOWN_SOURCES: dict[str, Source] = {
    "k400": K400,
    "k600": K600,
    "k700": K700,
    "k700_2020": K700_2020,
}

UNION = K710

# What a manifest holds that has no source of its own. `Manifest.catalogue` is that of a manifest.
KINETICS = Catalogue(UNION, KNOWN_SOURCES)

VIEWS = KINETICS.views
PRECEDENCE = KINETICS.precedence


def archives() -> tuple[Archives, ...]:
    """All public archives in the order in which they are asked: a clip's home is the first source that hosts it."""
    return KINETICS.archives()


def source_named(name: str) -> str:
    """The source that a name means in any of its spellings; else the name itself."""
    return KINETICS.source_named(name)


def is_data_set(name: str) -> bool:
    """Whether a name means a source or the union, in any spelling."""
    return KINETICS.is_data_set(name)


def check_sources(names: Iterable[str]) -> tuple[str, ...]:
    """The sources that `names` mean, in order, without repeats. Raises UsageError for an unknown or empty selection."""
    return KINETICS.check_sources(names)


def check_splits(names: tuple[str, ...]) -> tuple[str, ...]:
    """The splits that `names` mean (`validation` is val), in the order train, val, test, without repeats.

    Raises UsageError for an unknown or empty selection.
    """
    return checked_names(tuple(SPLIT_SPELLINGS.get(name.lower(), name) for name in names), SPLITS, "split")
