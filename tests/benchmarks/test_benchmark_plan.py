"""The benchmarks of a plan and of a training step: what they compare and judge, and that the second runs on a CPU."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import CHECKOUT

BENCHMARKS = CHECKOUT / "benchmarks"
sys.path.append(str(BENCHMARKS))  # behind everything else: one of its files is called build

import plan as benchmark  # noqa: E402


def test_off_by_more_than_fifteen_percent_is_missed_and_the_clock_of_a_busy_machine_not_judged():
    told = {"fetch, disk, MB": 11.6, "fetch, seconds": 5.0, "fetch, core-seconds": 9.0}
    found = dict.fromkeys(told, 10.0)
    idle, busy = (benchmark.compare(told, found, is_busy=is_busy) for is_busy in (False, True))
    assert [row["off_percent"] for row in idle.values()] == [16, -50, -10]
    assert [row["met"] for row in idle.values()] == [False, False, True]
    assert [row["met"] for row in busy.values()] == [False, None, True]


def test_a_command_that_fails_is_no_measurement(tmp_path: Path):
    with pytest.raises(RuntimeError, match="k710 fetch failed"):
        benchmark.run("fetch", tmp_path / "nothing")


@pytest.mark.slow
def test_a_training_step_alone_and_with_its_clips(tmp_path: Path):
    out = tmp_path / "train.json"
    # Mixed clips have targets of the model's classes, though the made-up clips are of Kinetics-400.
    words = ["--device", "cpu", "--recipe", "tiny-videomae-k710", "--set", "mixup_alpha=0.8", "--steps", "1"]
    command = [sys.executable, BENCHMARKS / "train.py", *words, "--results", out]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    row = json.loads(out.read_text())["models"]["tiny-videomae-k710"]
    alone, real = row["eager"]["alone"], row["eager"]["with clips"]
    assert (row["batch"], row["steps"]) == (16, 10)
    assert 0 < alone["core_s"]["median"] < real["core_s"]["median"], "with clips there is augmentation too"
    assert 0 < real["augmenting"] < 1
    assert 0 <= real["waiting"] < 1
    assert "| tiny-videomae-k710, 16 |" in run.stdout
