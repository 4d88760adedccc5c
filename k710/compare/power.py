"""How many clips a paired comparison needs: the power of McNemar's exact test."""

from __future__ import annotations

import functools
import math

import numpy as np
import numpy.typing as npt

from k710.errors import UsageError

ALPHA, POWER = 0.05, 0.8


def power(num_clips: int, difference: float, discordant: float, *, alpha: float = ALPHA) -> float:
    """The chance that McNemar's exact test finds a true difference.

    `difference`: of the two accuracies, as a part of 1; `discordant`: the share of clips that only one model has right,
    at least as large as the difference. Of `num_clips` the number of discordant ones is binomial, and so is how many of
    them one model has right. Raises UsageError for shares that cannot be.
    """
    _check(difference, discordant)
    if discordant == 0 or num_clips == 0:
        return 0.0
    first, chances = _binomial(num_clips, discordant)
    better = (discordant + abs(difference)) / (2 * discordant)
    rejected = (_rejected(first + place, better, alpha) for place in range(len(chances)))
    return float(sum(chance * part for chance, part in zip(chances.tolist(), rejected, strict=True)))


def clips_needed(difference: float, discordant: float, *, alpha: float = ALPHA, wanted: float = POWER) -> int:
    """The smallest number of clips from which on the test finds the difference with the power that is wanted.

    By halving: the power of an exact test rises in small steps and falls a little within them, so the answer is right
    to a few clips. Raises UsageError for shares that cannot be, and for a difference of 0, which no number finds.
    """
    _check(difference, discordant)
    if not difference:
        raise UsageError("no number of clips finds a difference of 0")
    low, high = 0, 16
    while power(high, difference, discordant, alpha=alpha) < wanted:
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(middle, difference, discordant, alpha=alpha) >= wanted else (middle, high)
    return high


def detectable(num_clips: int, discordant: float, *, alpha: float = ALPHA, wanted: float = POWER) -> float | None:
    """The smallest true difference that so many clips show with that power, to a thousandth of the discordant share;
    None where even one-sided discordance would not show."""
    steps = 1000
    if power(num_clips, discordant, discordant, alpha=alpha) < wanted:
        return None
    low, high = 0, steps
    while high - low > 1:
        middle = (low + high) // 2
        enough = power(num_clips, discordant * middle / steps, discordant, alpha=alpha) >= wanted
        low, high = (low, middle) if enough else (middle, high)
    return discordant * high / steps


def _check(difference: float, discordant: float) -> None:
    if not 0 <= abs(difference) <= discordant <= 1:
        raise UsageError(
            f"a difference of {difference:g} with {discordant:g} of the clips discordant cannot be: the share of clips "
            "that only one model has right is at least the difference, and at most 1"
        )


def _rejected(number: int, better: float, alpha: float) -> float:
    """The chance that the test rejects, of `number` discordant clips, if one model has each with chance `better`."""
    first_fair, fair = _binomial(number, 0.5)
    bound = (
        first_fair + int(np.searchsorted(np.cumsum(fair), alpha / 2, side="right")) - 1
    )  # the most of the rarer side
    if bound < 0:
        return 0.0
    first, chances = _binomial(number, better)
    below, above = max(0, bound + 1 - first), max(0, number - bound - first)
    return float(chances[:below].sum() + chances[above:].sum())


def _binomial(number: int, share: float) -> tuple[int, npt.NDArray[np.float64]]:
    """The chances of the counts that are not rarer than about one in 1e15, and the first of these counts."""
    if share in (0, 1):
        return number * int(share), np.ones(1)
    width = 8 * math.sqrt(number * share * (1 - share)) + 20
    k = np.arange(max(0, math.floor(number * share - width)), min(number, math.ceil(number * share + width)) + 1)
    logs = _log_factorials(1 << max(10, number.bit_length()))
    chances = np.exp(
        logs[number] - logs[k] - logs[number - k] + k * math.log(share) + (number - k) * math.log1p(-share)
    )
    return int(k[0]), chances


@functools.lru_cache(maxsize=4)
def _log_factorials(number: int) -> npt.NDArray[np.float64]:
    return np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, number + 1)))])
