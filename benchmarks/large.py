"""What a dataset as large as Kinetics-710 costs before any work begins: its first open, `status`, `report`, a `fetch`
with nothing to do; and what the commands take that are called all day.

    python benchmarks/large.py [--rows 650000] [--repetitions 3] [--results FILE]
    python benchmarks/large.py --table            # the tables of the documentation, from the results

Everything is made up (large_dataset.py, report.py). Commands are whole processes; an open is what one process sees that
has loaded what it imports. Linux only (/proc).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from build import busy_sentence, machine, other_cores, run
from large_dataset import make_large
from report import fill_store, make_manifest

from k710.cli import COMMANDS
from k710.manifest.read import Manifest

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "large.json"
PROFILES = ("h264", "frames", "source")
NOOP_CLIPS = 160  # as many as benchmarks/fetch.py fetches
FIRST_OPEN_S = 1.0
MEASURES = ("wall_s", "cpu_s")  # a child's peak memory would count this process's own
# What is timed: the limit of its wall clock, in seconds; None for what is told and not judged.
LIMITS_S: dict[str, float | None] = {
    "k710 status": 3.0,
    "k710 report": 30.0,
    "k710 stats": None,
    "k710 fetch, all there": None,
    f"k710 fetch, {NOOP_CLIPS} clips, all there": 0.4,
    "k710 --help": 0.2,
    "k710 COMMAND --help, the slowest": 0.2,
    "k710 recipes": None,
    "k710 labels archery": None,
    "k710 explain CLIP": None,
    "k710 versions": None,
}
ONCE = ("k710 report", "k710 stats")  # too long to be repeated


def measure_opens(folder: Path, profile: str, rows: int, repetitions: int) -> dict[str, Any]:
    """First and second opens of a made-up dataset, each in a process of its own: medians, and all values."""
    folder.mkdir()
    make_large(folder, profile, rows)
    sides: dict[str, list[dict[str, float]]] = {"first": [], "second": []}
    for number in range(repetitions):
        cache = folder / f"cache-{number}"
        for values in sides.values():
            values.append(_open(folder / "m", profile, cache))
    index_bytes = sum(file.stat().st_size for file in cache.glob("index/*"))
    medians = {
        side: {name: statistics.median(one[name] for one in values) for name in values[0]}
        for side, values in sides.items()
    }
    return {"rows": rows, "index_mb": round(index_bytes / 1e6, 1), **medians, "runs": sides}


def _open(manifest: Path, profile: str, cache: Path) -> dict[str, float]:
    command = [sys.executable, str(HERE / "large_dataset.py"), str(manifest), profile]
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, env={**os.environ, "K710_CACHE": str(cache)}
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def commands_of(made: Manifest, large: Path, few: Path, scratch: Path) -> dict[str, list[str]]:
    """The words of each command of LIMITS_S but the helps. `made`: a manifest of published sizes with a store."""
    full, clip = made.path, made.clips["clip_id"][0].as_py()
    nothing = scratch / "no-clips"
    nothing.mkdir()
    return {
        "k710 status": ["status", str(full)],
        "k710 report": ["report", str(full), "--out", str(scratch / "report.html")],
        "k710 stats": ["stats", str(full)],
        "k710 fetch, all there": ["fetch", str(large), "--from", f"local:{nothing}"],
        f"k710 fetch, {NOOP_CLIPS} clips, all there": ["fetch", str(few), "--from", f"local:{nothing}"],
        "k710 --help": ["--help"],
        "k710 recipes": ["recipes"],
        "k710 labels archery": ["labels", "archery"],
        "k710 explain CLIP": ["explain", clip, "--manifest", str(full)],
        "k710 versions": ["versions", str(full)],
    }


def measure_commands(commands: dict[str, list[str]], repetitions: int, scratch: Path) -> dict[str, Any]:
    """Wall clock and CPU time of each command: medians, without the first run, which warms the disk."""
    found = {}
    for title, words in commands.items():
        count = 1 if title in ONCE else repetitions
        if count > 1:
            run(["-m", "k710", *words], scratch)
        runs = [run(["-m", "k710", *words], scratch) for _ in range(count)]
        found[title] = {name: round(statistics.median(one[name] for one in runs), 3) for name in MEASURES}
    return found


def measure_helps(scratch: Path) -> dict[str, Any]:
    """The help of every command, once."""
    return {name: run(["-m", "k710", name, "--help"], scratch) for name in COMMANDS}


def judge(opens: dict[str, Any], commands: dict[str, Any]) -> dict[str, Any]:
    """Each target: what was measured, and whether that is enough."""
    pairs = {
        f"first open, {profile}": (FIRST_OPEN_S, one["first"]["dataset opened, s"]) for profile, one in opens.items()
    }
    pairs |= {title: (limit, commands[title]["wall_s"]) for title, limit in LIMITS_S.items() if limit is not None}
    return {
        title: {"at_most_s": limit, "measured_s": round(measured, 2), "met": measured <= limit}
        for title, (limit, measured) in pairs.items()
    }


def opens_table(result: dict[str, Any]) -> str:
    """The opens as Markdown."""
    lines = [
        "| profile | first open, s (CPU) | to the first batch, s | later opens, s (CPU) | index, MB | held, MiB "
        "| target, s | |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for profile, one in result["opens"].items():
        first, second = one["first"], one["second"]
        target = result["targets"][f"first open, {profile}"]
        cells = [f"{side['dataset opened, s']:.2f} ({side['dataset opened, CPU s']:.2f})" for side in (first, second)]
        held = second["held after 100,000 rows were looked up, MiB"]
        lines.append(
            f"| `{profile}` | {cells[0]} | {first['first batch, s']:.2f} | {cells[1]} | {one['index_mb']:.0f} | "
            f"{held:.0f} | {target['at_most_s']:g} | {_met(target)} |"
        )
    return "\n".join(lines) + "\n"


def commands_table(result: dict[str, Any]) -> str:
    """The commands as Markdown."""
    lines = [
        "| command | wall clock, s | CPU, s | target, s | |",
        "| --- | ---: | ---: | ---: | --- |",
    ]
    for title in LIMITS_S:
        one, target = result["commands"][title], result["targets"].get(title)
        limit, met = (f"{target['at_most_s']:g}", _met(target)) if target else ("", "")
        lines.append(f"| {_shown(title)} | {one['wall_s']:.2f} | {one['cpu_s']:.2f} | {limit} | {met} |")
    lines.append(busy_sentence(result.get("cores of other work before", 0.0)))
    return "\n".join(lines) + "\n"


def _shown(title: str) -> str:
    command, comma, rest = title.partition(",")
    return f"`{command}`{comma}{rest}"


def _met(target: dict[str, Any]) -> str:
    return "met" if target["met"] else "missed"


def measure(rows: int, repetitions: int) -> dict[str, Any]:
    others = other_cores()
    with tempfile.TemporaryDirectory(prefix="k710-benchmark-") as name:
        scratch = Path(name)
        opens = {profile: measure_opens(scratch / profile, profile, rows, repetitions) for profile in PROFILES}
        (scratch / "few").mkdir()
        make_large(scratch / "few", "h264", NOOP_CLIPS)
        (scratch / "full").mkdir()
        full = make_manifest(scratch / "full", rows / 650_000)
        fill_store(full, scratch / "full")
        words = commands_of(full, scratch / "h264" / "m", scratch / "few" / "m", scratch)
        commands = measure_commands(words, repetitions, scratch)
        helps = measure_helps(scratch)
        slowest = max(helps.values(), key=lambda one: one["wall_s"])
        commands["k710 COMMAND --help, the slowest"] = {name: round(slowest[name], 3) for name in MEASURES}
    return {
        "what": "first opens of a dataset and whole processes of commands at its size; medians",
        "machine": machine(),
        "cores of other work before": others,
        "targets": judge(opens, commands),
        "opens": opens,
        "commands": commands,
        "helps_wall_s": {name: round(one["wall_s"], 3) for name, one in helps.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the opens and commands of a large dataset.")
    parser.add_argument("--rows", type=int, default=650_000, help="clips of the dataset (default: 650,000)")
    parser.add_argument("--repetitions", type=int, default=3, help="processes of each kind (default: 3)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="JSON file to write, or to read with --table")
    parser.add_argument("--table", action="store_true", help="print the tables of the results and measure nothing")
    given = parser.parse_args()
    if not given.table:
        result = measure(given.rows, given.repetitions)
        given.results.parent.mkdir(parents=True, exist_ok=True)
        given.results.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    result = json.loads(given.results.read_text(encoding="utf-8"))
    print(opens_table(result) + "\n" + commands_table(result), end="")


if __name__ == "__main__":
    main()
