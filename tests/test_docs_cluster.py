"""The SLURM script of docs/cluster.md, as a scheduler would run it."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from k710.store.store import Store
from tests.helpers.small_stores import clips_of, film, hashes, manifest_of

PAGE = (Path(__file__).parent.parent / "docs" / "cluster.md").read_text(encoding="utf-8")
SCRIPT, ROUNDS = re.findall(r"^```bash\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
CLIPS = [*clips_of(20), *clips_of(4, "val", first=20)]


@pytest.mark.parametrize("text", [SCRIPT, ROUNDS], ids=["script", "rounds"])
def test_bash_can_read_it(text):
    done = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_array_has_as_many_tasks_as_parts():
    [last] = re.findall(r"^#SBATCH --array=1-(\d+)$", SCRIPT, re.MULTILINE)
    assert f"\nPARTS={last} " in SCRIPT
    directives = SCRIPT.split("set -euo pipefail")[0].splitlines()[1:]
    assert all(re.fullmatch(r"#SBATCH --[a-z-]+(=\S+)?", line) for line in directives), "nothing before them, no spaces"


@pytest.fixture
def array(k710, tmp_path):
    """`array(3)` starts the third task; the paths are those of a folder with a space, `k710` is this checkout's."""
    folder = tmp_path / "a folder"
    manifest, clips = manifest_of(k710, folder, CLIPS), film(folder / "clips", CLIPS)
    program = tmp_path / "bin" / "k710"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m k710 "$@"\n')
    program.chmod(0o755)
    script = SCRIPT.replace("/shared/manifests/k710", shlex.quote(str(manifest)))
    script = script.replace("local:/shared/kinetics,cvdf", shlex.quote(f"local:{clips}"))
    (tmp_path / "fetch.sh").write_text(script)

    def start(task: int | None) -> subprocess.Popen[str]:
        slurm = {"SLURM_CPUS_PER_TASK": "2", "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}"}
        slurm |= {} if task is None else {"SLURM_ARRAY_TASK_ID": str(task)}
        command, how = ["bash", str(tmp_path / "fetch.sh")], {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        return subprocess.Popen(command, env=os.environ | slurm, text=True, **how)

    return start, Store(manifest / "store", "h264")


def end(process: subprocess.Popen[str]) -> tuple[int, str]:
    said, _ = process.communicate(timeout=60)
    return process.returncode, said


@pytest.mark.slow
def test_an_array_fetches_all_of_it(array):
    start, store = array
    tasks = [start(task) for task in range(1, 9)]
    ended = [end(task) for task in tasks]
    assert [code for code, _ in ended] == [0] * 8, ended
    assert hashes(store).keys() == {clip.clip_id for clip in CLIPS}
    assert store.rows().num_rows == len(CLIPS)


def test_a_task_without_the_array(array):
    start, store = array
    code, said = end(start(None))
    assert code != 0
    assert "SLURM_ARRAY_TASK_ID: unbound variable" in said
    assert not store.root.exists()


@pytest.mark.slow
def test_the_warning_of_the_scheduler_reaches_it(array):
    """--signal=B: sends it to the script's process alone, which is k710 by then."""
    start, store = array
    task = start(1)
    end_s = time.monotonic() + 60
    while not list(store.scratch_folder.glob("run-*")) and task.poll() is None:
        assert time.monotonic() < end_s
        time.sleep(0.01)
    task.send_signal(signal.SIGTERM)
    code, said = end(task)
    assert code == 0 or "stopped by SIGTERM; everything settled so far is kept" in said
