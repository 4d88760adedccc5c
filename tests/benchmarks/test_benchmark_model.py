"""The benchmark of the model: what it counts as work, how it judges, and that it runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from k710.models.uniformerv2.config import PRESETS
from k710.models.uniformerv2.cost import multiply_adds
from tests.helpers import CHECKOUT

BENCHMARKS = CHECKOUT / "benchmarks"
sys.path.append(str(BENCHMARKS))  # behind everything else: one of its files is called build

import model as benchmark  # noqa: E402


def test_a_step_is_three_forwards_and_a_frozen_backbones_is_one():
    cost = multiply_adds(PRESETS["kinetics_b16"])
    full, frozen = benchmark.nominal(cost, False), benchmark.nominal(cost, True)
    assert full["forward"] == frozen["forward"] == 2 * sum(cost.values())
    assert full["step"] == 3 * full["forward"]
    trained = 2 * (cost["DPE"] + cost["global blocks"] + cost["head"])
    assert frozen["step"] == frozen["forward"] + 2 * trained


def result(name: str, ours_s: float, theirs_s: float) -> dict:
    flop = {"forward": 2 * 10**11, "step": 6 * 10**11}
    taken = {measure: {"k710": [ours_s], "published layout": [theirs_s]} for measure in flop}
    return {"config": name, **benchmark.summary(taken, 4, flop)}


def test_ratios_and_shares():
    one = result("kinetics_b16", 0.5, 1.0)
    assert one["step ratio"] == 2
    assert one["sides"]["k710"]["step"]["clips_per_s"] == 8
    targets = benchmark.judge([one], 10e12, torch.device("cuda"))
    assert one["sides"]["k710"]["step"]["share_of_peak"] == pytest.approx(6e11 * 8 / 10e12)
    assert {title: target["met"] for title, target in targets.items()} == {
        "kinetics_b16 step, share of peak": True,
        "kinetics_b16 step, times the published layout's": True,
    }
    missed = benchmark.judge([result("kinetics_b16", 1.0, 0.9)], 10e12, torch.device("cpu"))
    assert [target["met"] for target in missed.values()] == [False, False]


def test_a_frozen_configuration_of_any_preset():
    config = benchmark.config_of("kinetics_b16_frozen")
    assert (config.backbone, config.frozen, config.balance) == ("B/16", True, False)
    assert benchmark.config_of("kinetics_l14_336_frozen") == PRESETS["kinetics_l14_336_frozen"]
    assert benchmark.config_of("ssv2_b16").drop_path == 0


@pytest.mark.slow
def test_it_runs(tmp_path: Path):
    command = [sys.executable, BENCHMARKS / "model.py", "--presets", "tiny,tiny_frozen", "--repetitions", "1"]
    out = tmp_path / "model.json"
    run = subprocess.run([*command, "--batch", "2", "--results", out], capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    found = json.loads(out.read_text())
    assert [each["config"] for each in found["configurations"]] == ["tiny", "tiny_frozen"]
    assert "| tiny, 2 | step |" in run.stdout
