"""A training step alone and with its clips: how long the model takes, the augmentation, and the wait for data.

    python benchmarks/train.py --device cpu                        # three models, on clips that the script makes
    python benchmarks/train.py --recipe pretrain-k710-b16 --manifest manifests/k710 --profile frames --compile
    python benchmarks/train.py --table                             # the recorded numbers as Markdown

Each model takes its steps twice in one run: on clips of noise that are there already (the model and the optimiser
alone), and on clips of a store as `k710 train` takes them, from loader processes, augmented by the recipe. Of the
second, the wait for the loader and the augmentation are timed by themselves. A step is timed by the clock, and in
seconds of this process's cores, which other work on the machine does not lengthen much. With `--compile` both are also
taken compiled. Without `--manifest`, two generated clips of ten seconds (340x256, 30 fps) are stored under many names.

On a CPU a step has one clip, or as many as the recipe makes of one; on a GPU as many as the recipe takes at once. The
tiny models beside them are quick enough to wait for their clips. Aims on one H100 with B/16, 8 x 224, batch 32, bf16:
the loaders waited for less than 2 % of the time with profile `frames`; augmentation at most 3 % of a step; the estimate
of memory within 10 % of what was allocated. The numbers go to `results/train.json`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from model import machine

from k710.fetch.encode.profiles import read_profile
from k710.fetch.plan import FetchOptions
from k710.fetch.run import fetch
from k710.loading.batch import Batch
from k710.loading.clip_source import Media
from k710.loading.finish import Finish
from k710.loading.load_clip import ClipOptions
from k710.loading.loader import ClipLoader
from k710.manifest.read import Manifest, open_manifest
from k710.plan.clock import num_cores
from k710.plan.measure_fetch import made_up_clips
from k710.plan.measure_load import synchronize
from k710.plan.measure_step import made_up, stepper_of, timed
from k710.storage.storage import replacing
from k710.text import counted
from k710.train.memory import estimate_memory
from k710.train.read_recipe import read_train_recipe
from k710.train.recipe import TrainRecipe, augment_of, mix_of
from k710.train.start import config_of_recipe
from k710.train.step import Stepper

__all__ = ["loaded", "made_up", "stepper_of", "timed"]  # gpu.py's parts use them too

RESULTS = Path(__file__).resolve().parent / "results" / "train.json"
MODELS = {
    "UniFormerV2 B/16": "pretrain-k710-b16",
    "EVL B/16, frozen": "evl-k710-b16",
    "VideoMAE V2 B": "videomae-k710-b",
    "UniFormerV2 tiny": "tiny-k710",
    "EVL tiny": "tiny-evl-k710",
    "VideoMAE V2 tiny": "tiny-videomae-k710",
}
NUM_CLIPS = 64
_QUICK = 1e9  # multiply-adds of a step of training: of the tiny models, which take more steps


@dataclass
class Clips:
    """Batches of a store, epoch after epoch, augmented here, as ClipLoader does it, to time that by itself."""

    loader: ClipLoader
    finish: Finish
    device: torch.device
    finish_s: list[tuple[float, float]] = field(default_factory=list)  # by the clock, and of this process's cores

    def __iter__(self) -> Iterator[Batch]:
        while True:
            for packed in self.loader:
                begin_s, begin_core_s = time.perf_counter(), time.process_time()
                batch = self.finish.apply(packed)
                synchronize(self.device)
                self.finish_s.append((time.perf_counter() - begin_s, time.process_time() - begin_core_s))
                yield batch


def loaded(recipe: TrainRecipe, manifest: Path, media: Media, device: torch.device, workers: int) -> Iterator[Batch]:
    """Batches of the manifest's clips, epoch after epoch."""
    return iter(clips_of(recipe, open_manifest(manifest), media, device, workers, recipe.data.view, "train"))


def clips_of(
    recipe: TrainRecipe, manifest: Manifest, media: Media, device: torch.device, workers: int, view: str, split: str
) -> Clips:
    options = ClipOptions(num_frames=recipe.data.num_frames, seed=recipe.seed, **recipe.sampling.options())
    dataset = media.dataset(manifest, options, view=view, split=split, training=True)
    augment, mix = augment_of(recipe), mix_of(recipe)
    loader = ClipLoader(
        dataset, batch_size=recipe.optim.gpu_batch_size, device=device, num_workers=workers, augment=augment, mix=mix,
        num_repeats=recipe.data.num_repeats, packed=True, epoch=0,
    )  # fmt: skip
    num_classes = getattr(config_of_recipe(recipe), "num_classes", len(dataset.labels))  # of the model that is trained
    return Clips(loader, Finish(augment, mix, True, num_classes, torch.float32), device)


def steps_of(
    stepper: Stepper, batches: Iterator[Batch], steps: int, warmup: int, clips: Clips | None
) -> dict[str, Any]:
    """A step by the clock and in seconds of this process's cores (median, lowest, highest). With clips, the share of
    the clock that the loader was waited for, and the augmentation's share of the cores (on a GPU, of the clock)."""
    taken: list[float] = []
    cores: list[float] = []
    waited = finished = finished_core = 0.0
    for step in range(1, warmup + steps + 1):
        if clips is not None:
            clips.finish_s.clear()
        begin_s, begin_core_s = time.perf_counter(), time.process_time()
        result = stepper(step, batches)
        synchronize(stepper.process.device)
        if step > warmup:
            taken.append(time.perf_counter() - begin_s)
            cores.append(time.process_time() - begin_core_s)
            if clips is not None:
                augmenting_s, augmenting_core_s = map(sum, zip(*clips.finish_s, strict=True))
                finished += augmenting_s
                finished_core += augmenting_core_s
                waited += result.waited_s - augmenting_s
    found: dict[str, Any] = {
        "step_s": spread(taken),
        "core_s": spread(cores),
        "clips_per_s": stepper.pieces.batch_size / statistics.median(taken),
    }
    if clips is not None:
        on_gpu = stepper.process.device.type == "cuda"
        share = finished / sum(taken) if on_gpu else finished_core / sum(cores)
        found |= {"waiting": waited / sum(taken), "augmenting": share}
    return found


def spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def measure(
    name: str, options: argparse.Namespace, device: torch.device, store: tuple[Manifest, Media]
) -> dict[str, Any]:
    """One model: its step alone, then with its clips; then both compiled, where that is asked for."""
    recipe, _ = read_train_recipe(name, options.changes)
    size = options.batch or (recipe.optim.gpu_batch_size if device.type == "cuda" else recipe.data.num_repeats)
    config = config_of_recipe(recipe)
    is_quick = recipe.family.cost(config).training < _QUICK
    if is_quick and not options.batch:
        size = recipe.optim.gpu_batch_size
    steps, warmup = (10 * options.steps, 10) if is_quick else (options.steps, options.warmup)
    recipe = recipe.replace({"optim.batch_size": size, "optim.gpu_batch_size": size})
    manifest, media = store
    row: dict[str, Any] = {"recipe": name, "batch": size, "precision": recipe.optim.precision, "steps": steps}
    for way in ("eager", "compiled") if options.compile else ("eager",):
        stepper = stepper_of(recipe, device, compiled=way == "compiled")
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        view, split = ("k400", "val") if options.manifest is None else (recipe.data.view, "train")
        clips = clips_of(recipe, manifest, media, device, options.workers, view, split)
        alone = steps_of(stepper, made_up(recipe, device), steps, warmup, None)
        real = steps_of(stepper, iter(clips), steps, warmup, clips)
        row[way] = {"alone": alone, "with clips": real}
        row[way]["alone over with clips"] = {
            clock: alone[clock]["median"] / real[clock]["median"] for clock in ("step_s", "core_s")
        }
        if device.type == "cuda":
            told = estimate_memory(recipe.family, config, precision=recipe.optim.precision)
            row[way]["memory"] = {"peak_bytes": torch.cuda.max_memory_allocated(), "estimated_bytes": told.of(size)}
    return row


def made_store(folder: Path, profile: str) -> tuple[Manifest, Media]:
    """Generated clips in a store of that profile, and their manifest."""
    manifest, origin = made_up_clips(folder, NUM_CLIPS)
    fetch(manifest, folder / "store", FetchOptions(read_profile(profile), (origin,), workers=num_cores()))
    return manifest, Media(folder / "store", profile)


def table(result: dict[str, Any]) -> str:
    """The result as Markdown, for docs/performance.md."""
    columns = "alone, s | with clips, s | alone, core-s | with clips, core-s | waits | augments"
    lines = [f"| model, clips of a step | {columns} |", "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"]
    for title, row in result["models"].items():
        for way in ("eager", "compiled"):
            if way not in row:
                continue
            alone, real = row[way]["alone"], row[way]["with clips"]
            name = f"{title}, {row['batch']}" + (", compiled" if way == "compiled" else "")
            times = (_spread(side[clock]) for clock in ("step_s", "core_s") for side in (alone, real))
            lines.append(f"| {name} | {' | '.join(times)} | {real['waiting']:.1%} | {real['augmenting']:.1%} |")
    processes = counted(result["loader_processes"], "loader process", "loader processes")
    where = f"{result['device']}, {result['threads']} threads, {processes}"
    return "\n".join([*lines, "", f"{where}, profile {result['profile']}."])


def _spread(step_s: dict[str, float]) -> str:
    return f"{step_s['median']:.3g} ({step_s['min']:.3g} to {step_s['max']:.3g})"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", action="append", help="default: B sizes and tiny ones of three families")
    parser.add_argument("--set", action="append", default=[], dest="changes")
    parser.add_argument("--manifest", type=Path, help="default: generated clips")
    parser.add_argument("--store", type=Path)
    parser.add_argument("--profile", default="h264")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--workers", type=int, help="loader processes; default: 1 on a CPU, else one per core")
    parser.add_argument("--batch", type=int, help="clips of a step")
    parser.add_argument("--steps", type=int, help="default: 3 on a CPU, else 50; ten times as many of the tiny models")
    parser.add_argument("--warmup", type=int, help="default: 1 on a CPU, else 10")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--table", action="store_true", help="print the recorded numbers and measure nothing")
    parser.add_argument("--results", type=Path, default=RESULTS, help="JSON file to write")
    options = parser.parse_args()
    on_cpu = options.device == "cpu"
    for name, of_cpu, of_gpu in (("workers", 1, num_cores()), ("steps", 3, 50), ("warmup", 1, 10)):
        if getattr(options, name) is None:
            setattr(options, name, of_cpu if on_cpu else of_gpu)
    return options


def main() -> None:
    options = parse()
    if options.table:
        print(table(json.loads(options.results.read_text(encoding="utf-8"))))
        return
    device = torch.device(options.device)
    models = MODELS if options.recipe is None else {name: name for name in options.recipe}
    result: dict[str, Any] = {
        "what": "a training step on clips that are there, and on clips of a store; each in one run",
        "machine": machine(device),
        "device": str(device),
        "threads": torch.get_num_threads(),
        "loader_processes": options.workers,
        "profile": options.profile,
        "footage": "generated, 10 s, 340x256, 30 fps" if options.manifest is None else str(options.manifest),
        "models": {},
    }
    with tempfile.TemporaryDirectory(prefix="k710-benchmark-") as scratch:
        if options.manifest is None:
            store = made_store(Path(scratch), options.profile)
        else:
            store = open_manifest(options.manifest), Media(options.store, options.profile)
        for title, name in models.items():
            result["models"][title] = measure(name, options, device, store)
            print(f"{title}: done", file=sys.stderr)
            options.results.parent.mkdir(parents=True, exist_ok=True)
            with replacing(options.results) as file:  # what is done is there even if the next one is stopped
                file.write((json.dumps(result, indent=1) + "\n").encode())
    print(table(result))


if __name__ == "__main__":
    main()
