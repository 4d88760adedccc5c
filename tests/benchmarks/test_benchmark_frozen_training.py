"""The benchmark of frozen towers: what it compares, and that it runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import CHECKOUT

BENCHMARKS = CHECKOUT / "benchmarks"
sys.path.append(str(BENCHMARKS))  # behind everything else: one of its files is called build

import frozen_training as benchmark  # noqa: E402


def test_the_sides_differ_by_what_is_frozen():
    found = benchmark.sides("b16")
    assert {side: config.frozen for side, (_, config) in found.items()} == {
        "EVL, tower frozen": True,
        "EVL, all trained": False,
        "EVL, from features": True,
        "UniFormerV2, backbone frozen": True,
        "UniFormerV2, all trained": False,
    }
    assert {(config.backbone, config.num_frames, config.num_classes) for _, config in found.values()} == {
        ("B/16", 8, 400)
    }


def test_a_ratio_is_of_the_first_over_the_second():
    rows = {
        side: {"step_s": {"median": 2.0**n}, "clip_mib": 3.0**n, "gmac_step": 5.0**n}
        for n, side in enumerate(benchmark.sides("tiny"))
    }
    found = benchmark.ratios(rows)
    assert found["EVL, all trained over frozen"] == {
        "step time": 2, "memory of a clip": 3, "multiply-adds of a step": 5
    }  # fmt: skip
    assert found["EVL, tower frozen over from features"]["step time"] == 1 / 4
    assert found["whole UniFormerV2 over frozen EVL"]["step time"] == 16


@pytest.mark.slow
def test_it_runs(tmp_path: Path):
    command = [sys.executable, BENCHMARKS / "frozen_training.py", "--size", "tiny", "--repetitions", "1"]
    out = tmp_path / "frozen.json"
    run = subprocess.run([*command, "--results", out], capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    found = json.loads(out.read_text())
    assert found["ratios"]["EVL, all trained over frozen"]["memory of a clip"] > 1.5
    assert "| EVL, tower frozen |" in run.stdout
    kept, frozen = (found["sides"][side] for side in ("EVL, from features", "EVL, tower frozen"))
    assert kept["trained_parameters"] == frozen["trained_parameters"]
    assert kept["gmac_step"] < frozen["gmac_step"]
    assert kept["model_mib"] < frozen["model_mib"]
