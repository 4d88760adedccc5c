"""benchmarks/fetch.py, core_use.py and archives.py on a few tiny clips; Linux only, as they are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import CHECKOUT

BENCHMARKS = CHECKOUT / "benchmarks"
sys.path.append(str(BENCHMARKS))  # behind everything else: one of its files is called build

from core_use import Sample, idle, watched  # noqa: E402

needs_proc = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="no /proc on this system")


def test_idle_cores_at_the_start_in_the_middle_and_at_the_end():
    running = [(1, 0), (1, 0), (2, 1), (3, 2), (1, 2), (2, 2), (1, 1), (0, 0)]  # threads that can run, ffmpegs
    samples = [Sample(float(second), *of_two) for second, of_two in enumerate(running)]
    assert idle(samples, 2) == {
        "start": {"s": 3.0, "idle_core_s": 2.0},
        "middle": {"s": 2.0, "idle_core_s": 1.0},
        "end": {"s": 2.0, "idle_core_s": 1.0},
    }
    with pytest.raises(RuntimeError, match="an ffmpeg for each core"):
        idle(samples, 3)


@needs_proc
def test_a_watched_command_is_seen_with_what_it_starts(tmp_path):
    """A busy child of a waiting parent is one thread that can run; it is called as ffmpeg is."""
    busy = "import time; end_s = time.time() + 2\nwhile time.time() < end_s: pass"
    samples = watched(["bash", "-c", f"exec -a {tmp_path}/ffmpeg-of-test '{sys.executable}' -c '{busy}' & wait"])
    assert max(sample.ffmpegs for sample in samples) == 1
    assert max(sample.running for sample in samples) >= 1
    with pytest.raises(RuntimeError, match="exit 3"):
        watched(["sh", "-c", "exit 3"])


@needs_proc
@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "targets"),
    [
        ("archives.py", {"speed of passing over, of gzip's": "at_least", "speed of writing, of tar's": "at_least"}),
        (
            "fetch.py",
            {
                "fetch over bare pool, clips/s": "at_least",
                "no-op rerun, s": "at_most",
                "idle core-seconds at the start": "at_most",
                "idle core-seconds at the end": "at_most",
            },
        ),
    ],
)
def test_from_beginning_to_end(script, targets, tmp_path):
    command = [sys.executable, BENCHMARKS / script, "--results", tmp_path / "results.json"]
    few = ["--clips", str(2 * (os.cpu_count() or 1)), "--repetitions", "1"]
    printed = subprocess.run([*command, *few], check=True, capture_output=True).stdout
    result = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    for name, sense in targets.items():
        found = result["targets"][name]
        assert found["measured"] > 0
        at_least = found["measured"] - found[sense] if sense == "at_least" else found[sense] - found["measured"]
        assert found["met"] == (at_least >= 0) or abs(at_least) < 0.01  # what is compared is not rounded
        assert f"| {'met' if found['met'] else 'missed'} |" in printed.decode()
    again = subprocess.run([*command, "--table"], check=True, capture_output=True).stdout
    assert again == printed
