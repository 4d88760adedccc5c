"""A build that is killed, at any moment, leaves the old manifest or the new one."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from k710 import open_manifest
from tests.helpers.killed import MOST_STEPS, kill_at_every_step

ARGUMENTS = ("build", "--sources", "k400,k600,k700", "--annotations", "sample", "--out")


def copies(original: Path | None, folder: Path) -> Path:
    for step in range(MOST_STEPS):
        if original:
            shutil.copytree(original, folder / f"m.{step}")
    return folder / "m"


def kill_the_build_at_every_step(out: Path) -> int:
    command = (*ARGUMENTS, "{folder}", "--force")
    steps = kill_at_every_step(out, command, imports=("k710.curation.build", "k710.cli.build"))
    assert steps > 5
    return steps


@pytest.fixture
def old(k710, tmp_path):
    """A manifest other than the sample's, which the build is to replace."""
    assert k710("build", "--sources", "k400", "--annotations", "sample", "--out", tmp_path / "old").exit_code == 0
    return open_manifest(tmp_path / "old")


@pytest.mark.slow
def test_over_an_old_manifest(k710, old, sample, tmp_path):
    out = copies(old.path, tmp_path)
    steps = kill_the_build_at_every_step(out)
    found = []
    for step in range(steps + 1):
        folder = Path(f"{out}.{step}")
        manifest = open_manifest(folder)
        manifest.verify()
        found.append(manifest.content_hash)
        assert k710("prune", folder).exit_code == 0
        left = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
        assert left == {"dataset.json", manifest.about["clips"][0]["file"]}
        open_manifest(folder).verify()
    # First the old one, from some step on the new one, and nothing else.
    committed = found.index(sample.content_hash)
    assert set(found[:committed]) == {old.content_hash}
    assert set(found[committed:]) == {sample.content_hash}


@pytest.mark.slow
def test_into_a_new_folder(k710, sample, tmp_path):
    out = copies(None, tmp_path)
    steps = kill_the_build_at_every_step(out)
    outcomes = set()
    for step in range(steps + 1):
        folder = Path(f"{out}.{step}")
        if (folder / "dataset.json").exists():
            outcomes.add(open_manifest(folder).content_hash)
        else:
            outcomes.add("none")
            assert k710(*ARGUMENTS, folder).exit_code == 0, "the next build needs no --force and no cleaning up"
        open_manifest(folder).verify()
    assert outcomes == {"none", sample.content_hash}


@pytest.mark.slow
def test_at_random_moments(k710, old, sample, tmp_path):
    """As a user or a scheduler kills it, from outside."""
    command = [sys.executable, "-m", "k710", *ARGUMENTS, str(tmp_path / "m"), "--force"]
    shutil.copytree(old.path, tmp_path / "m")
    begin_s = time.monotonic()
    subprocess.run(command, check=True, capture_output=True)
    whole_s = time.monotonic() - begin_s
    generator = random.Random(710)
    killed = 0
    for _ in range(15):
        shutil.rmtree(tmp_path / "m")
        shutil.copytree(old.path, tmp_path / "m")
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        time.sleep(whole_s * generator.uniform(0.5, 1.0))
        os.kill(process.pid, signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
        assert process.stderr is not None
        assert process.stderr.read() == b""
        process.stderr.close()
        manifest = open_manifest(tmp_path / "m")
        manifest.verify()
        assert manifest.content_hash in {old.content_hash, sample.content_hash}
        assert k710("prune", tmp_path / "m").exit_code == 0
        assert open_manifest(tmp_path / "m").content_hash == manifest.content_hash
    assert killed > 0
