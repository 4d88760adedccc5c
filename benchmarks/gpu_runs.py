"""The parts of `gpu.py` that need clips: data wait, bf16 against fp32, `k710 train` stopped and resumed."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from large_dataset import make_large
from train import loaded, made_up, stepper_of, timed

from k710.curation.build import CurationRecipe, build
from k710.fetch.encode.frames import measure_frames, store_frames
from k710.fetch.encode.profiles import read_profile
from k710.lists.annotations import find_lists
from k710.loading.clip_source import Media
from k710.loading.load_clip import ClipOptions
from k710.loading.loader import ClipLoader
from k710.manifest.read import open_manifest
from k710.sample.experiment import RELEASES, write_experiment
from k710.sample.footage import write_video
from k710.sample.generate import CLASSES
from k710.sample.motions import LOOKS, motion_frames
from k710.train.read_recipe import read_train_recipe
from k710.train.recipe import augment_of
from k710.train.run_folder import read_checkpoint
from k710.train.run_log import read_log

if TYPE_CHECKING:
    from gpu import Setting

CLIP_S = 10
STOP_AFTER = 3  # steps, well before the end of an epoch
STOPPED = 143  # exit code of a run that SIGTERM stopped (docs/train.md)


def frames_clip(folder: Path, look_name: str) -> tuple[bytes, dict[str, Any]]:
    """A generated clip of 10 s as the profile `frames` stores it, and what its media row says. FFmpeg's own encoder
    makes the JPEGs inside PyAV, so that no ffmpeg program is needed."""
    profile, look = read_profile("frames"), LOOKS[look_name]
    folder.mkdir(parents=True, exist_ok=True)
    video, stored = folder / "clip.mkv", folder / "clip.mjpeg"
    frames = motion_frames(CLASSES[0], "gpu-clip-00", look.num_frames(CLIP_S), look)
    quality = {"flags": "+qscale", "global_quality": str(118 * profile.jpeg_qscale)}  # FF_QP2LAMBDA times -q:v
    write_video(video, frames, look, codec="mjpeg", options=quality)
    places = store_frames(video, stored, profile.stored_frames)
    measured = dataclasses.replace(
        measure_frames(stored), fps=float(look.fps), num_frames=look.num_frames(CLIP_S), duration_s=float(CLIP_S)
    )
    content = stored.read_bytes()
    facts = vars(measured) | {"size": len(content), "suffix": "mjpeg", "flags": []}
    facts["sha256"] = hashlib.sha256(content).hexdigest()
    return content, facts | {"frame_offsets": list(places.offsets), "frame_indices": list(places.indices)}


def data_wait(setting: Setting) -> dict[str, Any]:
    """The share of the time that steps wait for clips of a `frames` store, and the step on clips that are there."""
    name, rows, look = ("tiny-k710", 64, "quick") if setting.tiny else ("pretrain-k710-b16", 1600, "released")
    recipe, _ = read_train_recipe(name, ["precision=bf16"])
    clips = min(recipe.optim.gpu_batch_size, 32)
    recipe = recipe.replace({"optim.batch_size": clips, "optim.gpu_batch_size": clips})
    clip = frames_clip(setting.folder / "clip", look)
    make_large(setting.folder, "frames", rows, clip, rows)
    found: dict[str, Any] = {
        "recipe": name,
        "batch": clips,
        "workers": setting.workers,
        "store": f"{rows} clips of {CLIP_S} s, all with the frames of one, just written: in the page cache",
        "clip_bytes": len(clip[0]),
        "sides": {},
    }
    stepper = stepper_of(recipe, setting.device)
    store = loaded(recipe, setting.folder / "m", Media(None, "frames"), setting.device, setting.workers)
    count, warmup = (3, 1) if setting.tiny else (60, 10)
    for side, batches in {"clips that are there": made_up(recipe, setting.device), "clips of the store": store}.items():
        rate = timed(stepper, batches, count, warmup)
        found["sides"][side] = {name: round(value, 4) for name, value in rate.items()}
        setting.save(found)
    return found


def experiment(setting: Setting) -> tuple[Path, Path]:
    """A manifest of the sample's experiment, and the folder of its clips."""
    folder = setting.folder / "experiment"
    write_experiment(folder, clips_per_class=10 if setting.tiny else 40)
    files = find_lists(folder / "lists", RELEASES, ("train", "val"))
    return build(CurationRecipe(RELEASES).checked(), files, folder / "manifest").path, folder / "clips"


def precision(setting: Setting) -> dict[str, Any]:
    """Losses of a tiny model over 100 steps on the same batches, in fp32 and in bf16."""
    manifest, clips = experiment(setting)
    recipe, _ = read_train_recipe("tiny-k710", ["lr=1e-3", "batch_size=8", "gpu_batch_size=8"])
    options = ClipOptions(num_frames=recipe.data.num_frames, seed=recipe.seed)
    dataset = Media(folder=clips).dataset(open_manifest(manifest), options, view=recipe.data.view, split="train")
    loader = ClipLoader(dataset, batch_size=recipe.optim.batch_size, device=setting.device, augment=augment_of(recipe))
    batches, found = list(itertools.islice(loader, 8)), dict[str, Any]()
    for name in ("fp32", "bf16"):
        stepper = stepper_of(recipe.replace({"optim.precision": name}), setting.device)
        endless = itertools.cycle(batches)
        found[name] = [round(stepper(step, endless).numbers()[0], 5) for step in range(1, 101)]
        setting.save(found)
    gaps = [abs(one - other) for one, other in zip(found["fp32"], found["bf16"], strict=True)]
    last = {name: sum(found[name][-10:]) / 10 for name in ("fp32", "bf16")}
    return found | {
        "recipe": "tiny-k710",
        "steps": len(gaps),
        "largest_difference": round(max(gaps), 5),
        "mean_difference": round(sum(gaps) / len(gaps), 5),
        "mean_of_last_ten": {name: round(value, 5) for name, value in last.items()},
    }


def resume(setting: Setting) -> dict[str, Any]:
    """`k710 train`: SIGTERM in the middle of an epoch and `--resume`, beside the same run without a stop."""
    return stopped_and_resumed(setting, "bf16")


def fp16_resume(setting: Setting) -> dict[str, Any]:
    """The same in fp16, whose gradient scaler is resumed too."""
    return stopped_and_resumed(setting, "fp16")


def stopped_and_resumed(setting: Setting, dtype: str) -> dict[str, Any]:
    manifest, clips = experiment(setting)
    whole, stopped = setting.folder / "whole", setting.folder / "stopped"
    command = train_command(setting, dtype, manifest, clips)
    found: dict[str, Any] = {"recipe": "tiny-k710", "precision": dtype, "steps_per_epoch": None}
    found["whole_exit"] = run(command, whole)
    setting.save(found)
    found["stopped_exit"] = run(command, stopped, stop_after=STOP_AFTER)
    found["stopped_after_step"] = at = len(losses(stopped))
    found["resumed_exit"] = run([*command, "--resume"], stopped)
    ours, theirs = losses(whole), losses(stopped)
    per_epoch = sum(line["epoch"] == 0 for line in steps_of(whole))
    found |= {"steps_per_epoch": per_epoch, "steps": len(ours), "resumed_steps": len(theirs)}
    found["stopped_in_mid_epoch"] = at % per_epoch != 0
    gaps = [abs(one - other) for one, other in zip(ours, theirs, strict=True)]
    found["largest_difference_of_losses"] = max(gaps)
    found["weights_identical"] = same_weights(whole, stopped)
    if dtype == "fp16":
        found["scaler"] = {run.name: last_checkpoint(run)["scaler"] for run in (whole, stopped)}
    if not (found["whole_exit"] == found["resumed_exit"] == 0 and found["stopped_exit"] == STOPPED):
        setting.save(found)
        raise SystemExit(f"exit codes: {found['whole_exit']}, {found['stopped_exit']}, {found['resumed_exit']}")
    return found


def train_command(setting: Setting, dtype: str, manifest: Path, clips: Path) -> list[str]:
    changes = {"epochs": 2, "warmup_epochs": 1, "batch_size": 8, "gpu_batch_size": 8, "lr": 1e-3, "every_epochs": 2}
    sets = [word for key, value in (changes | {"precision": dtype}).items() for word in ("--set", f"{key}={value}")]
    return [
        sys.executable, "-m", "k710", "train", "--recipe", "tiny-k710", "--manifest", str(manifest),
        "--folder", str(clips), "--device", setting.device.type, "--workers", "0" if setting.tiny else "2", *sets,
    ]  # fmt: skip


def run(command: list[str], out: Path, *, stop_after: int = 0) -> int:
    """The exit code of `k710 train` into `out`; with `stop_after`, SIGTERM is sent once so many steps are logged."""
    threads = {"OMP_NUM_THREADS": "1"}  # so small a model wants one
    with subprocess.Popen([*command, "--out", str(out)], env=os.environ | threads) as process:
        while stop_after and process.poll() is None and len(losses(out)) < stop_after:
            time.sleep(0.01)
        if stop_after:
            process.send_signal(signal.SIGTERM)
        return process.wait()


def steps_of(out: Path) -> list[dict[str, Any]]:
    log = out / "log.jsonl"
    return [line for line in read_log(log) if line["kind"] == "step"] if log.exists() else []


def losses(out: Path) -> list[float]:
    return [line["loss"] for line in steps_of(out)]


def last_checkpoint(out: Path) -> dict[str, Any]:
    return read_checkpoint(max((out / "checkpoints").glob("step-*.pt")))


def same_weights(one: Path, other: Path) -> bool:
    mine, theirs = (last_checkpoint(run)["model"] for run in (one, other))
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)
