"""Paired statistics: by their definitions, in exact numbers or by brute force, and by simulation."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from k710.compare.power import clips_needed, detectable, power
from k710.compare.statistics import adjusted_wald, bootstrap, holm, mcnemar, wilson
from k710.errors import UsageError


def p_by_definition(one: int, other: int) -> Fraction:
    """The chance that a fair coin, thrown as often, is at least as uneven."""
    number, gap = one + other, abs(one - other)
    ways = sum(math.comb(number, k) for k in range(number + 1) if abs(2 * k - number) >= gap)
    return Fraction(ways, 2**number)


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_a_fair_coin(one, other):
    assert mcnemar(one, other) == float(p_by_definition(one, other)) == mcnemar(other, one)


def test_mcnemar_of_many_clips_is_the_chi_square():
    """With thousands of discordant clips it meets the usual approximation, with its continuity correction."""
    one, other = 9_800, 10_200
    chi = (abs(one - other) - 1) / math.sqrt(one + other)
    assert mcnemar(one, other) == pytest.approx(math.erfc(chi / math.sqrt(2)), rel=1e-3)
    assert mcnemar(0, 0) == mcnemar(7, 7) == 1
    assert 0 < mcnemar(0, 1000) < 1e-290, "no underflow to 0 in the binomial sum"


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_by_its_definition(p_values):
    """Adjusted p: the smallest level at which the step-down procedure rejects the hypothesis."""
    adjusted = holm(p_values)

    def rejected(level: float) -> set[int]:
        found: set[int] = set()
        for place, number in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
            if (len(p_values) - place) * p_values[number] > level:
                break
            found.add(number)
        return found

    for number, level in enumerate(adjusted):
        if level < 1:
            assert number in rejected(level)
            assert number not in rejected(level * (1 - 1e-9) - 1e-300) or level == 0


@given(st.integers(1, 3000), st.data())
def test_wilson_solves_its_equation(number, data):
    """Its bounds are the shares p with |share - p| = z sqrt(p (1 - p) / n)."""
    right = data.draw(st.integers(0, number))
    low, high = wilson(right, number)
    share, z = right / number, 1.959963984540054
    assert 0 <= low <= share <= high <= 1
    for bound in (low, high):
        if 0 < bound < 1:
            assert abs(share - bound) == pytest.approx(z * math.sqrt(bound * (1 - bound) / number), rel=1e-6, abs=1e-9)


def test_the_bootstrap_is_that_of_single_videos():
    """One draw of the kinds of videos is as good as drawing every video: against the plain loop."""
    rng = np.random.default_rng(5)
    videos = np.repeat(np.arange(150), rng.integers(1, 4, 150))
    skill = rng.random(150)[videos]  # clips of one video are alike
    one, other = skill < 0.6, skill < np.where(rng.random(len(videos)) < 0.5, 0.5, 0.8)
    low, high = bootstrap(one, other, videos, seed=0, resamples=4000)
    plain = []
    for _ in range(4000):
        drawn = np.bincount(rng.integers(0, 150, 150), minlength=150)[videos]
        plain.append(((other.astype(int) - one) * drawn).sum() / drawn.sum())
    assert (low, high) == pytest.approx(tuple(np.quantile(plain, [0.025, 0.975])), abs=0.008)
    single = bootstrap(one, other, np.arange(len(videos)), seed=0, resamples=4000)
    assert single[1] - single[0] < high - low, "clips of one video count as one"


def test_the_bootstrap_has_a_seed():
    one, other, videos = np.array([True, False] * 40), np.array([True] * 60 + [False] * 20), np.arange(80)
    first, again, another = (bootstrap(one, other, videos, seed=seed, resamples=500) for seed in (1, 1, 2))
    assert first == again != another


def test_ties_have_no_empty_interval():
    assert bootstrap(np.ones(9, bool), np.ones(9, bool), np.arange(9), seed=0, resamples=100) == (0, 0)
    low, high = adjusted_wald(0, 0, 9)
    assert low < 0 < high
    assert adjusted_wald(0, 0, 1)[1] <= 1
    assert adjusted_wald(3, 9, 50)[0] == pytest.approx(-adjusted_wald(9, 3, 50)[1])


def power_by_counting(number: int, difference: float, discordant: float) -> float:
    """Over all outcomes of `number` clips."""
    only_other, only_one = (discordant + difference) / 2, (discordant - difference) / 2
    total = 0.0
    for one, other in itertools.product(range(number + 1), repeat=2):
        if one + other <= number and mcnemar(one, other) <= 0.05:
            rest = number - one - other
            ways = math.comb(number, one) * math.comb(number - one, other)
            total += ways * only_one**one * only_other**other * (1 - discordant) ** rest
    return total


@pytest.mark.parametrize(("difference", "discordant"), [(0.1, 0.3), (0.3, 0.3), (0.0, 0.5), (0.2, 1.0), (1.0, 1.0)])
@pytest.mark.parametrize("number", [5, 6, 23, 60])
def test_power_is_what_counting_gives(number, difference, discordant):
    assert power(number, difference, discordant) == pytest.approx(
        power_by_counting(number, difference, discordant), abs=1e-9
    )
    assert power(number, -difference, discordant) == pytest.approx(power(number, difference, discordant))


def test_clips_needed_and_what_they_detect():
    needed = clips_needed(0.02, 0.1)
    assert power(needed, 0.02, 0.1) >= 0.8 > power(int(needed * 0.97), 0.02, 0.1)
    # Miettinen's formula (1968) for McNemar's test, which an exact test follows at such sizes.
    z = (1.959964 * math.sqrt(0.1) + 0.841621 * math.sqrt(0.1 - 0.02**2)) ** 2
    assert needed == pytest.approx(z / 0.02**2, rel=0.06)
    assert detectable(needed, 0.1) == pytest.approx(0.02, abs=0.0005)
    assert detectable(5, 0.5) is None, "five clips show nothing at this level"


@pytest.mark.parametrize("shares", [(0.2, 0.1), (0.1, 1.2), (-0.2, 0.1)])
def test_shares_that_cannot_be(shares):
    with pytest.raises(UsageError, match="cannot be"):
        power(100, *shares)
    with pytest.raises(UsageError, match="finds a difference of 0"):
        clips_needed(0, 0.1)
