"""Accuracies of several evaluations on the clips of all of them, paired, with what the other clips could change."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from k710.compare.classes import Ints
from k710.compare.common import Table
from k710.compare.power import detectable
from k710.compare.statistics import (
    FEW_DISCORDANT,
    Interval,
    adjusted_wald,
    bootstrap,
    holm,
    mcnemar,
    wilson,
)
from k710.errors import UsageError

Answered = npt.NDArray[np.int8]
RESAMPLES = 10_000


@dataclass(frozen=True)
class Side:
    """One evaluation. `top1`, `top5` (None without scores) and `mean_class` are of the common clips, as parts of 1.

    `interval`: of `top1`, by Wilson. `num_clips`: the labelled clips that it has; `full`: the least and the largest
    accuracy on the whole list, if the clips that it lacks were all wrong or all right (None where the list is not
    known).
    """

    path: Path
    num_clips: int
    top1: float
    interval: Interval
    top5: float | None
    mean_class: float
    full: Interval | None


@dataclass(frozen=True)
class Pair:
    """Another evaluation against the first, on the common clips: all differences are other - first, as parts of 1.

    `only_first`, `only_other`: the clips that only one has right. `interval`: by `method`, not adjusted for the number
    of comparisons. `p`: of McNemar's exact test; `p_holm`: adjusted for all pairs. `full`: the least and the largest
    difference on the whole list, whatever the answers that are not known are. `break_even`: the mean difference on the
    clips that are not common at which the whole list's would be 0; beyond -1 or 1 they cannot turn it. `detectable`:
    the smallest true difference that so many clips show in four of five trials at this share of discordant clips.
    """

    other: Path
    only_first: int
    only_other: int
    difference: float
    interval: Interval
    method: str
    p: float
    p_holm: float
    full: Interval | None
    break_even: float | None
    detectable: float | None


@dataclass(frozen=True)
class ClassPair:
    """A class on the common clips, another evaluation against the first. `p_holm` is adjusted for the classes of the
    pair that have clips."""

    other: Path
    label: str
    num_clips: int
    first_right: int
    other_right: int
    only_first: int
    only_other: int
    interval: Interval
    p: float
    p_holm: float

    @property
    def difference(self) -> float:
        return (self.other_right - self.first_right) / self.num_clips


@dataclass(frozen=True)
class Comparison:
    """Several evaluations, the first against each other one. `common_sha256` names the common clips: SHA-256 over their
    IDs in order, one a line. `shared_videos`: common clips whose video has another common clip."""

    view: str
    split: str | None
    num_common: int
    num_classes: int
    common_sha256: str
    shared_videos: int
    in_list: int | None
    counts: dict[str, int]
    notes: tuple[str, ...]
    seed: int
    resamples: int
    sides: tuple[Side, ...]
    pairs: tuple[Pair, ...]
    classes: tuple[ClassPair, ...]  # by pair; the smallest p first


def compare(table: Table, *, seed: int = 0, resamples: int = RESAMPLES) -> Comparison:
    """Compare the first run of a table with each other one. Raises UsageError for too few resamples."""
    if resamples < 100:
        raise UsageError(f"{resamples} resamples give no interval; want 100 or more")
    common = table.common
    right, class_ids, videos = table.right[:, common] == 1, table.class_ids[common], table.videos()[common]
    ids = [clip_id for clip_id, is_common in zip(table.clip_ids, common, strict=True) if is_common]
    pairs = [_pair(table, number, right, videos, seed, resamples) for number in range(1, len(table.paths))]
    adjusted = holm([pair.p for pair in pairs])
    per_video = np.bincount(videos)
    return Comparison(
        table.view,
        table.split,
        len(ids),
        len(np.unique(class_ids)),
        hashlib.sha256("".join(f"{clip_id}\n" for clip_id in ids).encode()).hexdigest(),
        int(per_video[per_video > 1].sum()),
        table.full.num_clips if table.full else None,
        table.counts,
        table.notes,
        seed,
        resamples,
        tuple(_side(table, number, right[number], class_ids) for number in range(len(table.paths))),
        tuple(replace(pair, p_holm=p_holm) for pair, p_holm in zip(pairs, adjusted, strict=True)),
        tuple(row for number in range(1, len(table.paths)) for row in _classes(table, number, right, class_ids)),
    )


def _side(table: Table, number: int, right: npt.NDArray[np.bool_], class_ids: Ints) -> Side:
    has, num_right = table.right[number] >= 0, int((table.right[number] == 1).sum())
    top5 = table.top5[number, table.common]
    of_class, totals = np.bincount(class_ids, right), np.bincount(class_ids)
    full = None
    if table.full is not None:
        missing = table.full.num_clips - int(has.sum())
        full = (num_right / table.full.num_clips, (num_right + missing) / table.full.num_clips)
    return Side(
        table.paths[number],
        int(has.sum()),
        float(right.mean()),
        wilson(int(right.sum()), len(right)),
        float((top5 == 1).mean()) if (top5 >= 0).all() else None,
        float((of_class[totals > 0] / totals[totals > 0]).mean()),
        full,
    )


def _pair(table: Table, number: int, right: npt.NDArray[np.bool_], videos: Ints, seed: int, resamples: int) -> Pair:
    one, other, num_common = right[0], right[number], right.shape[1]
    only_first, only_other = int((one & ~other).sum()), int((other & ~one).sum())
    discordant = only_first + only_other
    if discordant < FEW_DISCORDANT:
        interval, method = adjusted_wald(only_first, only_other, num_common), "adjusted Wald"
    else:
        interval, method = bootstrap(one, other, videos, seed=seed, resamples=resamples), "bootstrap"
    full, break_even = None, None
    if table.full is not None:
        full = _full_difference(table.right[0], table.right[number], table.full.num_clips)
        if elsewhere := table.full.num_clips - num_common:
            break_even = (only_first - only_other) / elsewhere
    p = mcnemar(only_first, only_other)
    return Pair(
        table.paths[number],
        only_first,
        only_other,
        (only_other - only_first) / num_common,
        interval,
        method,
        p,
        p,
        full,
        break_even,
        detectable(num_common, discordant / num_common) if discordant else None,
    )


def _full_difference(one: Answered, other: Answered, num_in_list: int) -> Interval:
    """The least and the largest difference (other - one) on the whole list: a clip that a run lacks may be right or
    wrong, a clip that both lack may be right in either alone."""
    neither = num_in_list - int(((one >= 0) | (other >= 0)).sum())
    least = np.where(other < 0, 0, other).sum() - np.where(one < 0, 1, one).sum(where=(one >= 0) | (other >= 0))
    most = np.where(other < 0, 1, other).sum(where=(one >= 0) | (other >= 0)) - np.where(one < 0, 0, one).sum()
    return float(least - neither) / num_in_list, float(most + neither) / num_in_list


def _classes(table: Table, number: int, right: npt.NDArray[np.bool_], class_ids: Ints) -> list[ClassPair]:
    one, other, size = right[0], right[number], len(table.names)
    totals, first, second, only_first, only_other = (
        np.bincount(class_ids[of], minlength=size).tolist()
        for of in (np.ones(len(class_ids), bool), one, other, one & ~other, other & ~one)
    )
    there = [class_id for class_id in range(size) if totals[class_id]]
    p_values = [mcnemar(only_first[class_id], only_other[class_id]) for class_id in there]
    rows = [
        ClassPair(
            table.paths[number],
            table.names[class_id],
            totals[class_id],
            first[class_id],
            second[class_id],
            only_first[class_id],
            only_other[class_id],
            adjusted_wald(only_first[class_id], only_other[class_id], totals[class_id]),
            p,
            p_holm,
        )
        for class_id, p, p_holm in zip(there, p_values, holm(p_values), strict=True)
    ]
    return sorted(rows, key=lambda row: (row.p, -abs(row.difference), row.label))
