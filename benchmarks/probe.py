"""What a linear probe finds in a masked pretraining in miniature, against random weights probed likewise.

    python benchmarks/probe.py                  # three seeds, some minutes of two cores
    python benchmarks/probe.py --seeds 1 --clips-per-class 150 --folder build/probe

Draws the footage, builds the manifest, and runs `k710 train` and `k710 eval --probe` as a user would, once for each
seed. The other side are the weights that each of these trainings began with. The standard error of a difference is that
of the val clips: answers to one clip are averaged over seeds on each side before the sides are subtracted. Writes
`results/probe.json`.
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
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet
import torch
from model import machine

from k710.engine.torch_process import Process
from k710.evaluation.evaluate import EvalOptions, evaluate
from k710.evaluation.files import PREDICTIONS
from k710.evaluation.probe import fit_probe, random_body
from k710.evaluation.scores import ranks
from k710.evaluation.view_model import open_body
from k710.loading.clip_source import Media
from k710.manifest.read import open_manifest
from k710.sample.experiment import RELEASES, write_experiment

RESULTS = Path(__file__).resolve().parent / "results" / "probe.json"
RECIPE, LOOK, VIEW = "tiny-videomae-pretrain-plain", "plain", "k710"
SIDES = ("pretrained", "random")
ONE_VIEW = EvalOptions(1, 1, batch_size=64)

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


def pretrained(folder: Path, seed: int, changes: list[str]) -> tuple[float, Answers]:
    """The least val loss of a pretraining, and the answers of its probe."""
    run, where = folder / f"run-{seed}", ("--manifest", folder / "manifest", "--folder", folder / "clips")
    sets = [word for change in (f"seed={seed}", *changes) for word in ("--set", change)]
    k710("train", "--recipe", RECIPE, *where, "--out", run, "--device", "cpu", *sets)
    k710(
        "eval", "--probe", "--checkpoint", run / "best.pt", *where, "--view", VIEW, "--clips", 1, "--crops", 1,
        "--device", "cpu", "--out", run / "probe",
    )  # fmt: skip
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    loss = min(line["loss"] for line in lines if line["kind"] == "validation")
    table = pyarrow.parquet.read_table(run / "probe" / PREDICTIONS)
    return loss, table["rank"].to_numpy() == 0


def random_answers(folder: Path, seed: int) -> Answers:
    """The answers of a probe of the weights that the pretraining of this seed began with."""
    manifest, process = open_manifest(folder / "manifest"), Process(torch.device("cpu"))
    body = random_body(open_body(folder / f"run-{seed}" / "best.pt"), seed)
    media = Media(folder=folder / "clips")
    probe = fit_probe(body, manifest, process, media, view=VIEW, options=ONE_VIEW)
    found = evaluate(probe.model, manifest, process, media, view=VIEW, split="val", options=ONE_VIEW)
    return ranks(found.predictions.scores, found.predictions.class_ids) == 0


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
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="another value of the recipe")
    parser.add_argument("--folder", type=Path, help="keep footage, runs and evaluations here")
    parser.add_argument("--results", type=Path, default=RESULTS, help="JSON file to write")
    given = parser.parse_args()
    torch.set_num_threads(1)
    begin_s = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.folder or Path(scratch)
        prepared(folder, given.clips_per_class)
        losses, answers = [], {side: [] for side in SIDES}
        for seed in range(given.seeds):
            loss, right = pretrained(folder, seed, given.set)
            losses.append(loss)
            for side, found in zip(SIDES, (right, random_answers(folder, seed)), strict=True):
                answers[side].append(found)
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
