"""Public copies and lists of Kinetics by counts and fingerprints: `known_copies.csv`, each row with its source."""

from __future__ import annotations

import csv
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from k710.curation.overlap import List
from k710.identify.distinct import Totals

_NEAR = 0.2  # of its count; one that is further away is no likeness


@dataclass(frozen=True)
class KnownCopy:
    """A copy that is documented. `clips` and `videos` are counts, 0 where they are not known; so are the fingerprints,
    empty where the list itself was not at hand. `split` is empty for one drawn across splits."""

    copy: str
    release: str
    split: str
    clips: int
    videos: int
    clips_sha256: str
    videos_sha256: str
    source: str


@dataclass(frozen=True)
class Likeness:
    """How some clips compare with a known copy: `same` is "clips" or "videos" where the fingerprints are equal, which
    proves it, else empty; `difference` is the count here less the count there, which proves nothing."""

    known: KnownCopy
    same: str
    difference: int


@functools.cache
def known_copies() -> tuple[KnownCopy, ...]:
    """The rows of known_copies.csv."""
    with Path(__file__).with_name("known_copies.csv").open(encoding="utf-8", newline="") as file:
        return tuple(_row(row) for row in csv.DictReader(file))


def _row(row: Mapping[str, str]) -> KnownCopy:
    counts = {name: int(row[name] or 0) for name in ("clips", "videos")}
    texts = {name: row[name] for name in row if name not in counts}
    return KnownCopy(**texts, **counts)  # type: ignore[arg-type]


def copies_like(totals: Totals, best: List | None, *, all_have_spans: bool) -> list[Likeness]:
    """The copies whose fingerprint is that of these clips; without one, those of the list that they are of with the
    nearest counts, if any is near: at most three."""
    same, near = [], []
    for known in known_copies():
        if all_have_spans and known.clips_sha256 == totals.clips_sha256:
            same.append(Likeness(known, "clips", 0))
        elif known.videos_sha256 == totals.videos_sha256:
            same.append(Likeness(known, "videos", 0))
        elif (known.release, known.split) == best:
            has = known.clips if all_have_spans and known.clips else known.videos or known.clips
            mine = totals.clips if all_have_spans and known.clips else totals.videos
            if abs(mine - has) <= _NEAR * has:
                near.append(Likeness(known, "", mine - has))
    return same or sorted(near, key=lambda one: abs(one.difference))[:3]
