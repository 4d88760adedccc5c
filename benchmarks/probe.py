"""What a linear probe finds in a masked pretraining in miniature, against random weights probed likewise.

    python benchmarks/probe.py                  # three seeds, some minutes of two cores
    python benchmarks/probe.py --seeds 1 --clips-per-class 150 --folder build/probe

Draws the footage, builds the manifest, and runs `k710 train` and `k710 eval --probe --baseline` as a user would, once
for each seed. The other side are the weights that each of these trainings began with. The standard error of a
difference is that of the val clips: answers to one clip are averaged over seeds on each side before the sides are
subtracted. Writes `results/probe.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet
import torch
from model import machine

from k710.cli.eval_probe import BASELINE
from k710.evaluation.files import PREDICTIONS
from k710.sample.experiment import RELEASES, write_experiment
from k710.train.run_log import read_log

RESULTS = Path(__file__).resolve().parent / "results" / "probe.json"
RECIPE, LOOK, VIEW = "tiny-videomae-pretrain-plain", "plain", "k710"
SIDES = ("pretrained", "random")

Answers = npt.NDArray[np.bool_]  # (clips,), whether each val clip was answered right


def k710(*words: object) -> None:
    """The command line, in a process of its own with one thread: so small a model wants no more."""
    command = [sys.executable, "-m", "k710", *map(str, words)]
    done = subprocess.run(
        command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{' '.join(command)}: exit status {done.returncode}\n{done.stdout}{done.stderr}")


def prepared(folder: Path, clips_per_class: int) -> None:
    """Footage and manifest in `folder`, where they are not there yet."""
    if not (folder / "clips").is_dir():
        write_experiment(folder, clips_per_class=clips_per_class, look=LOOK)
    if not (folder / "manifest").is_dir():
        k710("build", "--sources", ",".join(RELEASES), "--annotations", folder / "lists", "--out", folder / "manifest")


def both_sides(folder: Path, seed: int, changes: list[str]) -> tuple[float, tuple[Answers, ...]]:
    """Pretrain and probe: the least val loss, and the answers of each side. The baseline of the command are the weights
    that the pretraining began with."""
    run, where = folder / f"run-{seed}", ("--manifest", folder / "manifest", "--folder", folder / "clips")
    sets = [word for change in (f"seed={seed}", *changes) for word in ("--set", change)]
    k710("train", "--recipe", RECIPE, *where, "--out", run, "--device", "cpu", *sets)
    k710(
        "eval", "--probe", "--baseline", "--checkpoint", run / "best.pt", *where, "--view", VIEW, "--clips", 1,
        "--crops", 1, "--batch-size", 64, "--device", "cpu", "--out", run / "probe",
    )  # fmt: skip
    loss = min(line["loss"] for line in read_log(run / "log.jsonl") if line["kind"] == "validation")
    tables = [pyarrow.parquet.read_table(place / PREDICTIONS) for place in (run / "probe", run / "probe" / BASELINE)]
    assert tables[0]["clip_id"] == tables[1]["clip_id"]
    return loss, tuple(table["rank"].to_numpy() == 0 for table in tables)


def compared(answers: dict[str, list[Answers]]) -> dict[str, Any]:
    """Top-1 of each side with its spread over seeds, and their difference with its standard error over clips."""
    means = {side: np.stack(found).mean(0) for side, found in answers.items()}  # (clips,): the part of the seeds
    gain = means[SIDES[0]] - means[SIDES[1]]
    return {
        "clips": len(gain),
        "seeds": len(answers[SIDES[0]]),
        "sides": {
            side: {"top1": [float(one.mean()) for one in found], "mean": float(means[side].mean())}
            for side, found in answers.items()
        },
        "difference": {"mean": float(gain.mean()), "standard_error": float(gain.std(ddof=1) / len(gain) ** 0.5)},
    }


def table(result: dict[str, Any]) -> str:
    """Both sides as Markdown, for docs/videomae.md."""
    lines = [f"| top-1 on {result['clips']} val clips | of each seed | mean |", "|---|---|---:|"]
    for side, found in result["sides"].items():
        each = ", ".join(f"{value:.1%}" for value in found["top1"])
        lines.append(f"| {side} | {each} | {found['mean']:.1%} |")
    rise = result["difference"]
    lines.append(f"| rise, and its standard error | | {rise['mean']:+.1%} ± {rise['standard_error']:.1%} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--clips-per-class", type=int, default=300)
    parser.add_argument("--at-once", type=int, default=2, help="seeds at a time, each in a process of one thread")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="another value of the recipe")
    parser.add_argument("--folder", type=Path, help="keep footage, runs and evaluations here")
    parser.add_argument("--results", type=Path, default=RESULTS, help="JSON file to write")
    given = parser.parse_args()
    begin_s = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.folder or Path(scratch)
        prepared(folder, given.clips_per_class)
        losses: list[float] = []
        answers: dict[str, list[Answers]] = {side: [] for side in SIDES}
        with ThreadPoolExecutor(given.at_once) as pool:
            of_seeds = pool.map(lambda seed: both_sides(folder, seed, given.set), range(given.seeds))
            for seed, (loss, of_sides) in enumerate(of_seeds):
                losses.append(loss)
                for side, right in zip(SIDES, of_sides, strict=True):
                    answers[side].append(right)
                says = ", ".join(f"{side} {found[-1].mean():.1%}" for side, found in answers.items())
                print(f"seed {seed}: val loss {loss:.3f}; {says}; {time.perf_counter() - begin_s:.0f} s", flush=True)
    about = {
        "what": "a linear probe of a masked pretraining in miniature, and of the random weights that it began with",
        "machine": machine(torch.device("cpu")),
        "recipe": RECIPE,
        "changes": given.set,
        "clips_per_class": given.clips_per_class,
        "val_loss": {"each": losses, "mean": statistics.fmean(losses)},
    }
    result = about | compared(answers)
    print(table(result))
    given.results.parent.mkdir(parents=True, exist_ok=True)
    given.results.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
