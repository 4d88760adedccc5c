"""Paired statistics of right and wrong answers: McNemar's exact test, intervals, Holm's adjustment."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

Bools = npt.NDArray[np.bool_]
Interval = tuple[float, float]

CONFIDENCE = 0.95
# With fewer clips that only one side has right, resampling misses the truth too often (docs/compare.md has a table).
FEW_DISCORDANT = 20


def mcnemar(only_one: int, only_other: int) -> float:
    """The two-sided p value of McNemar's exact test: how often a fair coin is at least as uneven.

    `only_one`, `only_other`: the clips that only one of two models has right. Exact at any number: the binomial sum is
    in whole numbers. McNemar (1947), Psychometrika 12; without discordant clips, 1.

    >>> mcnemar(1, 5), mcnemar(0, 0)
    (0.21875, 1.0)
    """
    number = only_one + only_other
    term = total = 1
    for k in range(min(only_one, only_other)):
        term = term * (number - k) // (k + 1)
        total += term
    return min(1.0, 2 * total / (1 << number))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment (1979) of p values, in their order: the chance of one false alarm among all tests
    stays below the level.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted, highest = [1.0] * len(p_values), 0.0
    for place, number in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - place) * p_values[number]))
        adjusted[number] = highest
    return adjusted


def wilson(right: int, number: int) -> Interval:
    """Wilson's score interval (1927) of a share; the whole range without clips."""
    if not number:
        return 0.0, 1.0
    z, share = _z(), right / number
    middle = share + z * z / (2 * number)
    half = z * math.sqrt(share * (1 - share) / number + z * z / (4 * number * number))
    whole = 1 + z * z / number
    # At both ends the bound is the share itself, but for rounding.
    return (0.0 if right == 0 else (middle - half) / whole), (1.0 if right == number else (middle + half) / whole)


def adjusted_wald(only_one: int, only_other: int, number: int) -> Interval:
    """The interval of a paired difference (other - one) of `number` clips, for few discordant ones.

    Wald's, with a clip more in each discordant cell: Bonett and Price (2012), J. Educ. Behav. Stat. 37, 479-488.
    """
    one, other = (only_one + 1) / (number + 2), (only_other + 1) / (number + 2)
    half = _z() * math.sqrt(max(0.0, one + other - (other - one) ** 2) / (number + 2))
    return max(-1.0, other - one - half), min(1.0, other - one + half)


def bootstrap(one: Bools, other: Bools, videos: npt.NDArray[np.int64], *, seed: int, resamples: int) -> Interval:
    """The percentile interval of the difference of two accuracies (other - one), videos resampled with replacement.

    `one`, `other`: (clips,) whether each is right; `videos`: (clips,) a number of the clip's video, because clips of
    one video are not independent. Videos of the same counts are alike, so a resample is one draw of how often each kind
    of video comes: it takes no time per clip, and is the same distribution. Efron (1979), Ann. Stat. 7.
    """
    _, place = np.unique(videos, return_inverse=True)
    per_video = np.stack([np.bincount(place), np.bincount(place, other.astype(float) - one)], axis=1).astype(np.int64)
    kinds, counts = np.unique(per_video, axis=0, return_counts=True)
    draws = np.random.default_rng(seed).multinomial(counts.sum(), counts / counts.sum(), size=resamples)
    differences = (draws @ kinds[:, 1]) / (draws @ kinds[:, 0])
    low, high = np.quantile(differences, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def _z() -> float:
    return NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
