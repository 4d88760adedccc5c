"""How fast clips are loaded, per core, beside the loaders that a user would pick; one run, one core, in turns.

    pip install torchcodec==0.13.0 spdl opencv-python-headless nvidia-dali-cuda120   # peers; those absent are named
    python benchmarks/loading.py [--rounds 3] [--rows 650000] [--opens 2000]
    python benchmarks/loading.py --table        # the tables of the documentation, from the results
    python benchmarks/loading.py --tiny         # a rehearsal

Clips: 10 s, 340x256, 30 fps, key frames 250 apart and B-frames, as the releases' are; generated, and stored as they are
(profile `source`), as `h264` and as `frames`.

`same batches`: k710 and its peers (loading_peers.py) on the same files of each profile, up to the same batch: uint8
(B, 8, 224, 224, 3), a random resized crop of each clip, without RandAugment. A peer counts only if its pixels are
k710's, but for rounding. Beside each rate: the bytes and the requests of reading.

`rates`: k710 up to its own uint8 batches of whole frames, augmentation chosen; the published pipeline up to its float
clip, since it augments on the CPU. It counts only if its speed agrees within 15 % with its decoding and its transform
timed alone. `workers`, `threads and processes`: two of each against one, by the wall clock. Then: our augmentation on
this core; time to the first batch and memory of a dataset of `--rows` clips; memory while `--opens` clips are opened.
Numbers go to `results/loading.json`.

torchcodec needs FFmpeg's shared libraries (Debian: `apt install ffmpeg`) and the release that fits torch.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from build import machine
from large_dataset import rows_report
from loading_clips import KINDS, NUM_CLIPS, clips_in, large_clips, make_store
from loading_scaling import groups_report, worker_sides, workers_report
from loading_sides import SidesOfKind, sides_of_kind
from loading_table import (
    absent_table,
    peers_table,
    published_table,
    reads_table,
    targets_table,
    threads_table,
    workers_table,
)
from loading_verdict import targets, verdict
from memory_curve import opens_report

from k710.manifest.read import Manifest

RESULTS = Path(__file__).resolve().parent / "results" / "loading.json"
PACKAGES = (
    "torch", "av", "decord", "simplejpeg", "torchcodec", "spdl", "nvidia-dali-cuda120", "webdataset",
    "opencv-python-headless",
)  # fmt: skip

Work = dict[str, Callable[[int], int]]  # each takes the number of the round and returns how many clips it did
TABLES = (
    peers_table, targets_table, published_table, reads_table, workers_table, threads_table, absent_table,
)  # fmt: skip


def rates(work: Work, rounds: int, least_s: float) -> dict[str, dict[str, float]]:
    """Clips per second of each: the median of the rounds, and the lowest and highest. A second is one of the core's
    time: what else runs on the machine does not count, and a second thread would count too."""
    found: dict[str, list[float]] = {name: [] for name in work}
    for epoch in range(rounds + 1):
        for name, do in work.items():
            begin, done = time.process_time(), 0
            while True:  # what is quick is done several times
                done += do(epoch)
                if not epoch or time.process_time() - begin >= least_s:  # the first round is to warm up
                    break
            if epoch:
                found[name].append(done / (time.process_time() - begin))
    return {
        name: {
            "clips/s": round(statistics.median(each), 2),
            "lowest": round(min(each), 2),
            "highest": round(max(each), 2),
        }
        for name, each in found.items()
    }


def measure(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    from loading_published import published_sides  # it needs decord, which the tables do not

    manifest = make_store(folder, num_clips=4 if options.tiny else NUM_CLIPS)
    clips = {kind: clips_in(manifest, kind, folder / kind) for kind in KINDS}
    sizes = {kind: sum(file.stat().st_size for file in of.files.values()) for kind, of in clips.items()}
    result: dict[str, Any] = {"bytes per clip": {kind: size // len(clips[kind].files) for kind, size in sizes.items()}}
    least_s = 0.1 if options.tiny else 0.5
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    torch.set_num_threads(1)
    kinds = {kind: sides_of_kind(manifest, kind, clips[kind], options.rounds + 1) for kind in KINDS}
    result["rates"] = measured = rates(published_sides(clips) | _all_sides(kinds), options.rounds, least_s)
    result["same batches"] = {
        kind: {name: about | measured.pop(f"{kind}: {name}", {}) for name, about in of.about.items()}
        for kind, of in kinds.items()
    }
    result |= verdict(measured)
    if options.opens:
        result["memory"] = {p: opens_report(manifest, p, options.opens) for p in ("h264", "frames")}
    os.sched_setaffinity(0, cores)
    result["threads and processes"] = groups = {}
    if len(cores) > 1:
        groups |= groups_report(clips, max(options.rounds - 1, 1), 2 * least_s)
        peers = [name for name in kinds["h264"].work if not name.startswith("k710")]
        result["workers"] = _workers(manifest, folder, peers, options)
    result["targets"] = targets(result["same batches"], groups)
    if options.rows:
        result["large"] = {p: rows_report(folder / f"large-{p}", p, options.rows) for p in ("h264", "frames")}
    return result


def _all_sides(kinds: dict[str, SidesOfKind]) -> Work:
    return {f"{kind}: {name}": do for kind, of in kinds.items() for name, do in of.work.items()}


def _workers(manifest: Manifest, folder: Path, peers: list[str], options: argparse.Namespace) -> dict[str, Any]:
    num_clips = {"h264": 16, "frames": 16} if options.tiny else {"h264": 64, "frames": 192}
    clips = {kind: large_clips(manifest, kind, folder / f"many-{kind}", num) for kind, num in num_clips.items()}
    return workers_report(worker_sides(clips, peers), max(options.rounds // 3, 1))


def versions() -> dict[str, str]:
    """Of the packages that are compared; those not installed are left out."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def show(result: dict[str, Any]) -> None:
    print("\n\n".join(made for table in TABLES if (made := table(result))))


def main() -> None:
    parser = argparse.ArgumentParser(description="How fast clips are loaded, per core, beside other loaders.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=650_000, help="of the large dataset; 0: leave it out")
    parser.add_argument("--opens", type=int, default=2_000, help="clips to open for the curve of memory; 0: none")
    parser.add_argument("--tiny", action="store_true", help="a rehearsal: four clips, one short round")
    parser.add_argument("--table", action="store_true", help="measure nothing: print the results as Markdown")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    if options.table:
        show(json.loads(options.results.read_text(encoding="utf-8")))
        return
    if options.tiny:
        options.rounds, options.rows, options.opens = 1, 0, 0
    begin = time.perf_counter()
    result: dict[str, Any] = {"machine": machine() | versions(), "load average at the beginning": os.getloadavg()[0]}
    with tempfile.TemporaryDirectory(prefix="k710-benchmark-") as scratch:
        os.environ["K710_CACHE"] = str(Path(scratch) / "cache")
        result |= measure(Path(scratch), options)
    result["took_s"] = round(time.perf_counter() - begin)
    print(json.dumps(result, indent=1))
    options.results.parent.mkdir(parents=True, exist_ok=True)
    options.results.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    show(result)


if __name__ == "__main__":
    main()
