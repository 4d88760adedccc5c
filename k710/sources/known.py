"""The four Kinetics releases: their names, lists, addresses and the counts that were printed of them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from k710.errors import UsageError

SPLITS = ("train", "val", "test")

# How releases and crawlers spell a split, in the `split` column and in file names.
SPLIT_SPELLINGS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validate": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}

_CVDF = "https://s3.amazonaws.com/kinetics"
_DEEPMIND = "https://storage.googleapis.com/deepmind-media/Datasets"


@dataclass(frozen=True)
class Release:
    """One published Kinetics release.

    `label_set` names the file of `labelmaps/` with its classes. `list_urls` gives the public address of each split's
    list. `published_rows` are the rows of each list as first published (the releases' papers; Kinetics-700-2020 is
    known for val only). `paper_rows` are the clips that UniFormerV2's authors could still get (its Table 10).
    """

    name: str
    title: str
    label_set: str
    list_urls: dict[str, str]
    published_rows: dict[str, int]
    paper_rows: dict[str, int] = field(default_factory=dict)


SOURCES: dict[str, Release] = {
    release.name: release
    for release in (
        Release(
            "k400",
            "Kinetics-400",
            "k400",
            {split: f"{_CVDF}/400/annotations/{split}.csv" for split in SPLITS},
            {"train": 246_245, "val": 20_000, "test": 38_685},
            {"train": 240_436, "val": 19_787},
        ),
        Release(
            "k600",
            "Kinetics-600",
            "k600",
            # The .csv of train and val at the same place are known to be incomplete; the .txt are whole.
            {
                "train": f"{_CVDF}/600/annotations/train.txt",
                "val": f"{_CVDF}/600/annotations/val.txt",
                "test": f"{_CVDF}/600/annotations/test.csv",
            },
            {"train": 392_622, "val": 30_000, "test": 72_924},
            {"train": 366_006, "val": 27_935},
        ),
        Release(
            "k700",
            "Kinetics-700",
            "k700",
            # One archive holds every split of this release.
            dict.fromkeys(SPLITS, f"{_DEEPMIND}/kinetics700.tar.gz"),
            {"train": 545_317, "val": 35_000, "test": 70_000},
            {"train": 529_573, "val": 33_861},
        ),
        Release(
            "k700_2020",
            "Kinetics-700-2020",
            "k700",
            {split: f"{_CVDF}/700_2020/annotations/{split}.csv" for split in SPLITS},
            {"val": 34_198},
        ),
    )
}

# Newest first: when one video stands in several releases, the newest one's clip and label win.
NEWEST_FIRST = ("k700_2020", "k700", "k600", "k400")

# UniFormerV2, Table 10: Kinetics-710 as its authors had it.
PAPER_K710 = {"train": 658_340, "val": 66_803, "classes": 710}


def source_pattern(source: str) -> str:
    """A regular expression for the spellings of a release, in any case: `k700_2020`, `Kinetics-700-2020`, ….

    It has no groups, and `k700` does not match the beginning of another release's name alone: match the whole.
    """
    number, _, year = source.removeprefix("k").partition("_")
    return rf"(?:k|kinetics[_-]?){number}" + (rf"[_-]{year}" if year else "")


def source_named(name: str) -> str:
    """The release that a name means in any of its spellings; else the name itself."""
    return next((source for source in SOURCES if re.fullmatch(source_pattern(source), name, re.I)), name)


def check_sources(names: tuple[str, ...]) -> tuple[str, ...]:
    """The releases that `names` mean, in their own order, without repeats.

    Any spelling will do (`K400`, `kinetics-400`). Raises UsageError for an unknown or empty selection.
    """
    return _check(tuple(map(source_named, names)), tuple(SOURCES), "source")


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
