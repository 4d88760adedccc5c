"""The benchmark of a GPU, rehearsed on the CPU: every part is there, and none failed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import CHECKOUT

SCRIPT = CHECKOUT / "benchmarks" / "gpu.sh"
PARTS = ["steps", "layouts", "resume", "fp16_resume", "precision", "data_wait", "pretrain"]


def gpu(*options: str, python: str = sys.executable) -> subprocess.CompletedProcess[str]:
    command = ["bash", str(SCRIPT), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=500, env=os.environ | {"PYTHON": python})


@pytest.mark.slow
def test_every_part_runs_on_a_cpu(tmp_path: Path):
    out = tmp_path / "gpu.json"
    run = gpu("--out", str(out), "--device", "cpu", "--tiny")
    assert run.returncode == 0, run.stdout + run.stderr + out.read_text()
    found = json.loads(out.read_text())
    assert list(found["parts"]) == PARTS
    assert not [name for name, part in found["parts"].items() if {"error", "skipped", "cut_off"} & part.keys()]
    assert len(found["parts"]["steps"]["models"]) == 5
    for name in ("resume", "fp16_resume"):
        part = found["parts"][name]
        assert part["weights_identical"]
        assert part["stopped_exit"] == 143
        assert 0 < part["stopped_after_step"] < part["steps"]
    assert found["machine"]["torch"]


@pytest.mark.slow
def test_a_part_without_time_is_skipped_and_says_so(tmp_path: Path):
    out = tmp_path / "gpu.json"
    run = gpu("--out", str(out), "--device", "cpu", "--tiny", "--total-s", "1")
    assert run.returncode == 0, run.stderr
    parts = json.loads(out.read_text())["parts"]
    assert list(parts) == PARTS
    assert all("of 1 s were spent" in part["skipped"] for part in parts.values())
