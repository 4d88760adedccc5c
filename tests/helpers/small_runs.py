"""What the tests of training share: what runs leave, and runs in processes of their own (see run_fixtures.py)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from k710.train import run_folder
from k710.train.run_log import read_log

# Dropout is on, so that its randomness has to be the same too. 38 train clips: 4 steps of 8 an epoch.
SMALL = (
    "epochs=3", "warmup_epochs=1", "batch_size=8", "lr=1e-3", "gpu_batch_size=8", "local=none",
    "mlp_dropout=0.5", "head_dropout=0.5", "every_epochs=1",
)  # fmt: skip
STEPS = 12

# Of VideoMAE V2: two epochs of 9 steps, since each clip comes twice.
SHORT = ("epochs=2", "warmup_epochs=1", "batch_size=8", "gpu_batch_size=8", "lr=1e-3", "every_epochs=1")
EVERYTHING = (
    *SHORT, "ema_decay=0.9", "head_dropout=0.2", "layer_decay=0.8", "checkpoint_blocks=1", "layer_scale=0.1",
    "crop=multi_scale", "randaugment=rand-m7-n4-mstd0.5-inc1", "mixup_alpha=0.8", "cutmix_alpha=1.0", "erase_prob=0.25",
    "label_smoothing=0.1", "drop_path=0.1", "mix_per=batch",
)  # fmt: skip


def losses(run: Path) -> list[tuple[int, float]]:
    return [(line["step"], line["loss"]) for line in read_log(run / "log.jsonl") if line["kind"] == "step"]


def weights(path: Path) -> dict[str, torch.Tensor]:
    return run_folder.read_checkpoint(path)["model"]


def same_weights(one: Path, other: Path) -> bool:
    mine, theirs = weights(one), weights(other)
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


def command(experiment, out: Path, *options: str) -> list[str]:
    """The command line of the same run, in a process of its own."""
    manifest, clips = experiment
    changes = [word for change in SMALL for word in ("--set", change)]
    return [
        "-m", "k710", "train", "--recipe", "tiny-k710", "--manifest", str(manifest.path), "--folder", str(clips),
        "--out", str(out), *changes, *options,
    ]  # fmt: skip


def stopping_after(step: int) -> Callable[[str], None]:
    """A `say` that ends the run by a signal after a step; the run must report every step."""

    def terminate(line: str) -> None:
        if line.startswith(f"step {step} "):
            os.kill(os.getpid(), signal.SIGTERM)

    return terminate


def wait_for_step(run: Path, step: int, process: subprocess.Popen) -> None:
    until_s = time.monotonic() + 120
    while time.monotonic() < until_s:
        if (run / "log.jsonl").exists() and any(number >= step for number, _ in losses(run)):
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.kill()
    raise AssertionError(("it takes too long", process.communicate()))


def torchrun(*words: str) -> subprocess.CompletedProcess[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return subprocess.run([*launcher, *words], capture_output=True, text=True, timeout=240)
