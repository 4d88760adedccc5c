"""The benchmark of the linear probe: what it makes of the answers of both sides."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from tests.helpers import CHECKOUT

sys.path.append(str(CHECKOUT / "benchmarks"))  # behind everything else: one of its files is called build

import probe

NUMBERS = np.arange(100)


def test_the_error_is_that_of_clips_of_which_each_is_answered_on_both_sides():
    answers = {"pretrained": [NUMBERS < 40, NUMBERS < 60], "random": [NUMBERS < 20, NUMBERS < 20]}
    found = probe.compared(answers)
    assert found["sides"]["pretrained"] == {"top1": [0.4, 0.6], "mean": 0.5}
    assert found["sides"]["random"] == {"top1": [0.2, 0.2], "mean": 0.2}
    # 20 clips gained with both seeds, 20 with one of two, and 60 with none: the variance of a gain is 0.16.
    assert found["difference"]["mean"] == pytest.approx(0.3)
    assert found["difference"]["standard_error"] == pytest.approx((0.16 / 99) ** 0.5)
    assert probe.table(found).splitlines()[-1] == "| rise, and its standard error | | +30.0% ± 4.0% |"


def test_sides_that_answer_alike_do_not_differ():
    found = probe.compared({"pretrained": [NUMBERS < 40], "random": [NUMBERS < 40]})
    assert found["difference"] == {"mean": 0, "standard_error": 0}
