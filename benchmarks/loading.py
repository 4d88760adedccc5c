"""How fast clips are loaded, per core, beside the published pipeline; one run, one core, in turns.

    python benchmarks/loading.py [--rounds 5] [--rows 650000] [--opens 2000]

Clips: 10 s, 340x256, 30 fps, key frames 250 apart and B-frames, as the releases' are; generated, and stored as they are
(profile `source`), as `h264` and as `frames`. Ours is timed up to a uint8 batch, augmentation chosen; the published
pipeline up to its float clip, since it augments on the CPU. It counts only if its speed agrees within 15 % with its
decoding and its transform timed alone. Beside them: our augmentation on this core; time to the first batch and memory
of a dataset of `--rows` clips; memory while `--opens` clips are opened. Numbers go to `results/loading.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import published_pipeline as published
import torch
from build import machine
from large_dataset import rows_report
from memory_curve import opens_report

from k710 import ClipLoader, ClipOptions, open_dataset
from k710.cli import main as k710
from k710.loading.augment.augment import Augment, augment
from k710.loading.decoders.decode import DECODERS, decode
from k710.manifest.read import Manifest, open_manifest
from k710.manifest.views import split_of, view
from k710.random_key import RandomKey
from k710.sample.footage import clips_of, write_footage
from k710.sample.motions import LOOKS

RESULTS = Path(__file__).resolve().parent / "results" / "loading.json"
PROFILES = ("source", "h264", "frames")
WANTED = {"frames": 20.0, "h264": 6.0, "source": 1.3}
AGREE = 0.15
NUM_CLIPS = 12


def make_store(folder: Path) -> Manifest:
    """A manifest of the sample whose K400 train clips are in its store, in all profiles."""
    run = partial(k710, standalone_mode=False)
    run(["build", "--sources", "k400,k600,k700", "--annotations", "sample", "--out", str(folder / "m")])
    manifest = open_manifest(folder / "m")
    clips = clips_of(split_of(view(manifest.clips, "k400"), "train"))[:NUM_CLIPS]
    write_footage(folder / "clips", clips, look=LOOKS["released"])
    for profile in PROFILES:
        chosen = ["--view", "k400", "--splits", "train", "--profile", profile]
        run(["fetch", str(folder / "m"), "--from", f"local:{folder / 'clips'}", *chosen])
    return manifest


def sides(manifest: Manifest, folder: Path) -> dict[str, Callable[[int], int]]:
    """What is timed: each takes the number of the round and returns how many clips it did."""
    files = sorted((folder / "clips").glob("*.mp4"))
    media = [file.read_bytes() for file in files]
    frames = [published.decode_only(content, RandomKey(0, 0, n)) for n, content in enumerate(media)]

    def each(work: Callable[[Any, RandomKey], object], given: list[Any]) -> Callable[[int], int]:
        def do(epoch: int) -> int:
            for number, item in enumerate(given):
                work(item, RandomKey(1, epoch, files[number].stem))
            return len(given)

        return do

    def loaded(profile: str) -> Callable[[int], int]:
        loader = ClipLoader(
            open_dataset(manifest, view="k400", profile=profile, options=ClipOptions(seed=1)),
            batch_size=len(files),
            packed=True,
        )
        return lambda epoch: sum(len(batch.samples) for batch in loader)

    def augmented(settings: Augment) -> Callable[[int], int]:
        clips = [torch.from_numpy(clip) for clip in frames]

        def do(epoch: int) -> int:
            keys = [RandomKey(1, epoch, number) for number in range(len(clips))]
            augment(clips, [settings.choose(key, 256, 340) for key in keys], settings)
            return len(clips)

        return do

    def decoded(decoder: str) -> Callable[[Any, RandomKey], object]:
        sampling = published.SAMPLING
        return lambda content, key: decode(content, lambda n: sampling.train(n, key.draws("frames")), decoder=decoder)

    return {
        "published": each(published.whole, media),
        "published, decode only": each(published.decode_only, media),
        "published, transform only": each(published.transform_only, frames),
        **{profile: loaded(profile) for profile in PROFILES},
        **{f"decode only, source, {decoder}": each(decoded(decoder), media) for decoder in DECODERS},
        "augmentation, as published": augmented(Augment()),
        "augmentation, crop first": augmented(Augment(order="crop_first")),
    }


def rates(work: dict[str, Callable[[int], int]], rounds: int) -> dict[str, dict[str, float]]:
    """Clips per second of each: the median of the rounds, and the lowest and highest. A second is one of the core's
    time: what else runs on the machine does not count, and a second thread would count too."""
    found: dict[str, list[float]] = {name: [] for name in work}
    for epoch in range(rounds + 1):
        for name, do in work.items():
            begin, done = time.process_time(), 0
            while time.process_time() - begin < 0.5:  # what is quick is done several times
                done += do(epoch)
            if epoch:  # the first is to warm up
                found[name].append(done / (time.process_time() - begin))
    return {
        name: {"clips/s": statistics.median(each), "lowest": min(each), "highest": max(each)}
        for name, each in found.items()
    }


def verdict(measured: dict[str, dict[str, float]]) -> dict[str, Any]:
    """The ratios to the published pipeline, and whether that one counts."""
    rate = {name: each["clips/s"] for name, each in measured.items()}
    combined = 1 / (1 / rate["published, decode only"] + 1 / rate["published, transform only"])
    off = rate["published"] / combined - 1
    ratios = {name: rate[name] / rate["published"] for name in WANTED}
    return {
        "published / its parts combined": round(1 + off, 3),
        "it counts": abs(off) <= AGREE,
        "times as fast": {name: round(ratio, 2) for name, ratio in ratios.items()},
        "wanted": WANTED,
        "met": {name: ratio >= WANTED[name] for name, ratio in ratios.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="How fast clips are loaded, per core, beside the published pipeline.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=650_000, help="of the large dataset; 0: leave it out")
    parser.add_argument("--opens", type=int, default=2_000, help="clips to open for the curve of memory; 0: none")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    result: dict[str, Any] = {"machine": machine() | {p: version(p) for p in ("torch", "av", "decord", "simplejpeg")}}
    with tempfile.TemporaryDirectory(prefix="k710-benchmark-") as scratch:
        folder = Path(scratch)
        os.environ["K710_CACHE"] = str(folder / "cache")
        manifest = make_store(folder)
        sizes = {p: sum(f.stat().st_size for f in (folder / "m/store/tars" / p).iterdir()) for p in PROFILES}
        result["bytes per clip"] = {profile: size // NUM_CLIPS for profile, size in sizes.items()}
        cores = os.sched_getaffinity(0) if sys.platform == "linux" else set()
        if cores:
            os.sched_setaffinity(0, {min(cores)})
        torch.set_num_threads(1)
        result["rates"] = rates(sides(manifest, folder), options.rounds)
        result |= verdict(result["rates"])
        if options.opens:
            result["memory"] = {p: opens_report(manifest, p, options.opens) for p in ("h264", "frames")}
        if cores:
            os.sched_setaffinity(0, cores)
        if options.rows:
            result["large"] = {p: rows_report(folder / f"large-{p}", p, options.rows) for p in ("h264", "frames")}
    print(json.dumps(result, indent=1))
    options.results.parent.mkdir(parents=True, exist_ok=True)
    options.results.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
