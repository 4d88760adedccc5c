"""Time training steps on one GPU: clips a second, the share spent waiting for data, and memory against its estimate.

    python benchmarks/train.py --recipe pretrain-k710-b16 --manifest manifests/k710 --steps 50
    python benchmarks/train.py --recipe pretrain-k710-b16 --made-up     # clips of noise from memory: the model alone

Sides, each in the same run, taking turns: the step as `k710 train` takes it (decoding, augmentation, model, optimiser),
the same on clips that are there already (what the loader costs), and compiled. The released code is not run here; its
authors' setup was 8 GPUs with 32 clips each for B/16.

Aims on one H100 with B/16, 8 x 224, batch 32, bf16: the loaders waited for less than 2 % of the time with profile
`frames`; augmentation at most 3 % of a step; the estimate of memory within 10 % of what was allocated.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from k710.engine.torch_process import Process
from k710.loading.batch import Batch
from k710.loading.clip_source import Media
from k710.loading.load_clip import ClipOptions
from k710.loading.loader import ClipLoader
from k710.loading.order import Sample
from k710.manifest.read import open_manifest
from k710.text import counted
from k710.train.memory import estimate_memory
from k710.train.optimizer import make_optimizer
from k710.train.read_recipe import read_train_recipe
from k710.train.recipe import TrainRecipe, augment_of
from k710.train.start import config_of_recipe
from k710.train.step import Stepper, cut


def made_up(recipe: TrainRecipe, device: torch.device) -> Iterator[Batch]:
    """The same batch of noise for ever, on the device already."""
    size = recipe.optim.gpu_batch_size
    pixels = torch.randn(size, 3, recipe.data.num_frames, recipe.data.size_px, recipe.data.size_px, device=device)
    classes = torch.zeros(size, dtype=torch.int64, device=device)
    names, samples = [f"noise-{number}" for number in range(size)], [Sample(number) for number in range(size)]
    while True:
        yield Batch(pixels, classes, torch.ones(size, device=device), names, samples, {})


def loaded(recipe: TrainRecipe, manifest: Path, media: Media, device: torch.device, workers: int) -> Iterator[Batch]:
    """Batches of the manifest's clips, epoch after epoch."""
    options = ClipOptions(num_frames=recipe.data.num_frames, seed=recipe.seed)
    dataset = media.dataset(open_manifest(manifest), options, view=recipe.data.view, split="train")
    loader = ClipLoader(
        dataset, batch_size=recipe.optim.gpu_batch_size, device=device, num_workers=workers, augment=augment_of(recipe)
    )
    while True:
        yield from loader


def stepper_of(recipe: TrainRecipe, device: torch.device, *, compiled: bool = False) -> Stepper:
    """What takes the steps of a recipe, its model new, its batch one piece."""
    torch.manual_seed(0)
    model = recipe.family.build(config_of_recipe(recipe)).to(device).train()
    net: Any = torch.compile(model) if compiled else model
    optimizer = make_optimizer(model, recipe.family, recipe.optim)
    scaler = torch.amp.GradScaler(device.type, enabled=recipe.optim.precision == "fp16")
    pieces = cut(recipe.optim.batch_size, gpu_batch_size=recipe.optim.batch_size, world_size=1)
    return Stepper(net, model, optimizer, scaler, recipe, pieces, Process(device))


def timed(stepper: Stepper, batches: Iterator[Batch], steps: int, warmup: int) -> dict[str, float]:
    """Clips a second (median step), and the share of the time that was spent waiting for batches."""
    seconds, waited = [], 0.0
    for step in range(1, warmup + steps + 1):
        begin_s = time.perf_counter()
        taken = stepper(step, batches)
        if stepper.process.device.type == "cuda":
            torch.cuda.synchronize()
        if step > warmup:
            seconds.append(time.perf_counter() - begin_s)
            waited += taken.waited_s
    clips = stepper.pieces.batch_size
    return {"clips_per_s": clips / statistics.median(seconds), "waiting": waited / sum(seconds)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="pretrain-k710-b16")
    parser.add_argument("--set", action="append", default=[], dest="changes")
    parser.add_argument("--manifest", type=Path, default=Path("manifests/k710"))
    parser.add_argument("--store", type=Path)
    parser.add_argument("--profile", default="frames")
    parser.add_argument("--made-up", action="store_true")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--warmup", type=int, default=10)
    parser.add_argument("--no-compile", action="store_true")
    options = parser.parse_args()
    device = torch.device(options.device)
    recipe, _ = read_train_recipe(options.recipe, options.changes)
    recipe = recipe.replace({"optim.batch_size": recipe.optim.gpu_batch_size})
    config = config_of_recipe(recipe)
    sides = {"clips that are there": made_up(recipe, device)}
    if not options.made_up:
        media = Media(options.store, options.profile)
        sides["clips of the store"] = loaded(recipe, options.manifest, media, device, options.workers)
    ways = {"eager": False} if options.no_compile else {"eager": False, "compiled": True}
    batch = counted(recipe.optim.batch_size, "clip")
    print(f"{options.recipe}: {batch} a step, {recipe.optim.precision}, {torch.__version__}, {device}")
    for way, is_compiled in ways.items():
        stepper = stepper_of(recipe, device, compiled=is_compiled)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        for side, batches in sides.items():
            found = timed(stepper, batches, options.steps, options.warmup)
            print(f"{way:<9} {side:<22} {found['clips_per_s']:8.1f} clips/s, {found['waiting']:6.1%} waiting")
        if device.type == "cuda":
            peak, told = (
                torch.cuda.max_memory_allocated(),
                estimate_memory(recipe.family, config, precision=recipe.optim.precision),
            )
            expected = told.of(stepper.pieces.piece_size)
            print(f"{way:<9} memory {peak / 2**30:.2f} GiB, estimated {expected / 2**30:.2f} ({expected / peak:.0%})")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
