"""The intervals of `k710 compare` hold the truth as often as they say, by simulation."""

from __future__ import annotations

import sys

import pytest

from tests.helpers import CHECKOUT

sys.path.insert(0, str(CHECKOUT / "benchmarks"))
import compare_coverage

TRIALS = 600
# Three standard deviations of a share of 95 % over so many trials.
TOLERANCE = 3 * (0.95 * 0.05 / TRIALS) ** 0.5


@pytest.mark.slow
@pytest.mark.parametrize("case", [case for case in compare_coverage.CASES if case[0] < 20_000])
def test_printed_intervals_hold_the_truth(case):
    found = compare_coverage.coverage(case, TRIALS, seed=11, resamples=600)
    # A percentile interval of some hundred resamples is a little narrow.
    assert found["printed"] > 0.95 - TOLERANCE - 0.01
    if case[3] == 1:
        assert found["Wilson"] > 0.95 - TOLERANCE - 0.01
        assert abs(found["called different"] - found["power"]) < 0.07
        if case[2] == 0:
            assert found["called different"] < 0.05 + TOLERANCE
    else:
        assert found["clips alone"] < 0.85, "clips of one video are not independent"


def test_few_clips_need_another_interval_than_the_bootstrap():
    """Why there are two: with two discordant clips, resampling misses the truth in a quarter of the trials."""
    found = compare_coverage.coverage((20, 0.1, 0.05, 1), 200, seed=3, resamples=200)
    assert found["bootstrap"] < 0.88
    assert found["printed"] > 0.95
