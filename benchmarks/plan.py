"""Is `k710 plan` right? Its prediction against what the fetch, the training and the evaluation then take.

    python benchmarks/plan.py [--epochs 8] [--measure-s 5]

On the demo's experiment (k710/sample/experiment.py): 552 clips are fetched from a folder, the tiny model is trained on
one thread with one loader process, and evaluated with 4 x 3 views. Each command is a process of its own, start
included. Two things are compared: the time of the cores, which other work on the machine lengthens little, and the
clock, which it lengthens as much as it takes. So the clock is judged only on a machine that was idle when it began.

Target: off by at most 15 % each. The numbers go to `results/plan.json`; `--table` prints them as Markdown.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results" / "plan.json"
TARGET = 0.15
PROGRAM = [sys.executable, "-m", "k710"]


def run(*words: object) -> dict[str, float]:
    """A command of k710 in a process of its own: seconds by the clock and of the cores. Raises RuntimeError where it
    fails."""
    begin_s = time.perf_counter()
    process = subprocess.Popen(
        [*PROGRAM, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment()
    )
    assert process.stdout is not None
    with process.stdout:
        output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall_s, process.returncode = time.perf_counter() - begin_s, os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"k710 {words[0]} failed: {output}")
    return {"wall_s": wall_s, "core_s": usage.ru_utime + usage.ru_stime}


def environment() -> dict[str, str]:
    """One thread of torch: so small a model wants no more, and the loader's process has the other core."""
    return os.environ | {"OMP_NUM_THREADS": "1"}


def prediction(*words: object) -> dict[str, Any]:
    """What `k710 plan --json` says."""
    command = [*PROGRAM, "plan", *map(str, words), "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True, env=environment())
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def predicted(plan: dict[str, Any]) -> dict[str, float]:
    """The numbers of a plan that can be measured afterwards."""
    fetch, (device,) = plan["fetch"], plan["devices"]
    return {
        "fetch, disk, MB": fetch["disk"]["value"] / 1e6,
        "fetch, core-seconds": fetch["core time of a fetch"]["value"] * 3600,
        "fetch, seconds": fetch["time of a fetch"]["value"],
        "training, core-seconds": device["core_s"]["train"] + device["core_s"]["validate"],
        "training, seconds": device["time_s"],
        "evaluation, core-seconds": device["core_s"]["eval"],
        "evaluation, seconds": device["eval_s"],
    }


def measured(manifest: Path, clips: Path, out: Path, recipe: list[object]) -> dict[str, float]:
    """The same numbers, of the commands."""
    fetch = run("fetch", manifest, "--from", f"local:{clips}")
    stored = sum(path.stat().st_size for path in (manifest / "store").rglob("*") if path.is_file())
    train = run("train", *recipe, "--manifest", manifest, "--out", out, "--workers", 1, "--device", "cpu")
    evaluation = run(
        "eval", "--checkpoint", out / "best.pt", "--manifest", manifest, "--view", "k710", "--device", "cpu"
    )
    return {
        "fetch, disk, MB": stored / 1e6,
        "fetch, core-seconds": fetch["core_s"],
        "fetch, seconds": fetch["wall_s"],
        "training, core-seconds": train["core_s"],
        "training, seconds": train["wall_s"],
        "evaluation, core-seconds": evaluation["core_s"],
        "evaluation, seconds": evaluation["wall_s"],
    }


def compare(told: dict[str, float], found: dict[str, float], *, is_busy: bool) -> dict[str, Any]:
    """Both numbers of each thing, and by how much the prediction is off, in %. `met` is None of the clock of a busy
    machine, which says nothing."""
    rows = {}
    for name, real in found.items():
        off = told[name] / real - 1
        rows[name] = {
            "predicted": round(told[name], 3),
            "measured": round(real, 3),
            "off_percent": round(100 * off, 1),
            "met": None if is_busy and name.endswith(", seconds") else abs(off) <= TARGET,
        }
    return rows


def table(result: dict[str, Any]) -> str:
    """The result as Markdown, for docs/plan.md."""
    lines = ["| the experiment | predicted | measured | off | |", "| --- | ---: | ---: | ---: | --- |"]
    for name, row in result["rows"].items():
        met = {True: "met", False: "missed", None: "not judged: a busy machine"}[row["met"]]
        lines.append(
            f"| {name} | {row['predicted']:.2f} | {row['measured']:.2f} | {row['off_percent']:+.0f} % | {met} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="What `k710 plan` predicts, against what is then measured.")
    parser.add_argument("--clips-per-class", type=int, default=60)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--measure-s", type=float, default=5.0, help="of each measurement of the plan")
    parser.add_argument("--table", action="store_true", help="print the recorded numbers and measure nothing")
    parser.add_argument("--results", type=Path, default=RESULTS, help="JSON file to write")
    options = parser.parse_args()
    if options.table:
        print(table(json.loads(options.results.read_text(encoding="utf-8"))))
        return
    from build import (
        IDLE_CORES,
        machine,
        other_cores,
    )  # here: a package of that name may be installed, which tests would find

    recipe = ["--recipe", "tiny-k710", "--set", f"epochs={options.epochs}"]
    others = other_cores()
    with tempfile.TemporaryDirectory(prefix="k710-benchmark-") as scratch:
        folder = Path(scratch)
        make = ["-m", "k710.sample.experiment", str(folder), "--clips-per-class", str(options.clips_per_class)]
        subprocess.run([sys.executable, *make], check=True, stdout=subprocess.DEVNULL)
        manifest, clips = folder / "manifest", folder / "clips"
        run("build", "--sources", "k400,k600,k700", "--annotations", folder / "lists", "--out", manifest)
        plan = prediction(
            manifest, "--from", f"local:{clips}", *recipe, "--device", "cpu", "--workers", 1,
            "--clips", 4, "--crops", 3, "--measure-s", options.measure_s,
        )  # fmt: skip
        rows = compare(
            predicted(plan),
            measured(manifest, clips, folder / "run", recipe),
            is_busy=others > IDLE_CORES,
        )
    result = {
        "what": "k710 plan's prediction against the commands, whole processes; start included",
        "experiment": {
            "clips": plan["fetch"]["clips wanted"]["value"],
            "epochs": options.epochs,
            "recipe": "tiny-k710",
        },
        "machine": machine(),
        "cores of other work before": others,
        "target_percent": 100 * TARGET,
        "rows": rows,
        "met": all(row["met"] is not False for row in rows.values()),
        "plan": plan,
    }
    options.results.parent.mkdir(parents=True, exist_ok=True)
    options.results.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(table(result))


if __name__ == "__main__":
    main()
