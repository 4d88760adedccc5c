"""Time `k710 build` against a plain pandas script on lists of the published sizes; both sides in one run.

    python benchmarks/build.py [--lists FOLDER] [--repetitions 5]

Each side is a whole process, imports included, and both take turns. Before anything is timed, each runs once, and their
tables must agree row for row; that alone decides the exit status. The numbers go to `results/build.json`.

This process imports neither pyarrow nor pandas: Linux counts the memory of the process that starts another into the
peak of the one started. POSIX only (`os.wait4`).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "build.json"
MEASURES = {"wall_s": "wall clock, s", "cpu_s": "CPU, s", "peak_mib": "peak memory, MiB"}
TARGETS = {  # what is compared, and the most it may be
    "k710 wall over pandas wall": 1 / 2,
    "k710 peak over pandas peak": 2 / 3,
    "k710 wall, s": 3.0,
}


def commands(lists: Path, splits: str, scratch: Path) -> dict[str, list[str]]:
    """Both sides' command lines: the same lists in, the same table out."""
    k710 = ["-m", "k710", "build", "--sources", "k400,k600,k700", "--splits", splits]
    return {
        "k710": [*k710, "--annotations", str(lists), "--out", str(scratch / "manifest")],
        "pandas": [str(HERE / "pandas_build.py"), str(lists), str(scratch / "clips.parquet"), "--splits", splits],
    }


def run(command: list[str], scratch: Path) -> dict[str, float]:
    """Run one side from an empty place, and say what the process used. Raises RuntimeError where it fails."""
    shutil.rmtree(scratch / "manifest", ignore_errors=True)
    (scratch / "clips.parquet").unlink(missing_ok=True)
    log = scratch / "output.txt"
    to_log = [(os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)]
    begin = time.perf_counter()
    pid = os.posix_spawn(sys.executable, [sys.executable, *command], os.environ, file_actions=to_log)
    _, status, usage = os.wait4(pid, 0)
    wall_s = time.perf_counter() - begin
    if os.waitstatus_to_exitcode(status):
        raise RuntimeError(f"{' '.join(command)} failed: {log.read_text()}")
    peak_bytes = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {"wall_s": wall_s, "cpu_s": usage.ru_utime + usage.ru_stime, "peak_mib": peak_bytes / 2**20}


def measure(lists: Path, splits: str, repetitions: int, scratch: Path) -> dict[str, Any]:
    """Check that both sides agree (SystemExit where not), then time them in turn."""
    sides = commands(lists, splits, scratch)
    outputs = {"k710": scratch / "checked", "pandas": scratch / "checked.parquet"}
    for (side, command), made in zip(sides.items(), ("manifest", "clips.parquet"), strict=True):
        run(command, scratch)
        (scratch / made).replace(outputs[side])
    check = [sys.executable, str(HERE / "same_clips.py"), str(outputs["k710"]), str(outputs["pandas"])]
    if subprocess.run(check, check=False).returncode:
        sys.exit("the tables of k710 and pandas differ: nothing was timed")
    runs: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
    for repetition in range(repetitions):
        for side in sorted(sides, reverse=repetition % 2 == 1):  # neither always follows the other
            runs[side].append(run(sides[side], scratch))
    return {side: _summary(results) for side, results in runs.items()}


def _summary(runs: list[dict[str, float]]) -> dict[str, Any]:
    summary: dict[str, Any] = {}
    for name in MEASURES:
        values = [result[name] for result in runs]
        summary[name] = {
            "median": round(statistics.median(values), 3),
            "min": round(min(values), 3),
            "max": round(max(values), 3),
        }
    return summary | {"runs": [{name: round(value, 3) for name, value in result.items()} for result in runs]}


def judge(sides: dict[str, Any]) -> dict[str, Any]:
    """Ratios of the medians (pandas over k710), and whether each target is met."""
    ratios = {name: sides["pandas"][name]["median"] / sides["k710"][name]["median"] for name in MEASURES}
    values = (1 / ratios["wall_s"], 1 / ratios["peak_mib"], sides["k710"]["wall_s"]["median"])
    targets = {
        name: {"at_most": round(limit, 3), "measured": round(value, 3), "met": value <= limit}
        for (name, limit), value in zip(TARGETS.items(), values, strict=True)
    }
    return {"pandas_over_k710": {name: round(ratio, 2) for name, ratio in ratios.items()}, "targets": targets}


def machine() -> dict[str, Any]:
    """The machine and the versions that the numbers hold for."""
    cpu_info = Path("/proc/cpuinfo")
    lines = cpu_info.read_text().splitlines() if cpu_info.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "ram_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{package: version(package) for package in ("numpy", "pandas", "pyarrow")},
    }


def show(result: dict[str, Any]) -> None:
    """The result as a small table, in Markdown, for docs/performance.md."""
    rows = [["median (lowest to highest)", "k710", "pandas", "pandas / k710"], ["---", "---:", "---:", "---:"]]
    for name, title in MEASURES.items():
        cells = []
        for side in ("k710", "pandas"):
            of = result["sides"][side][name]
            median, low, high = (f"{of[key]:.{0 if name == 'peak_mib' else 2}f}" for key in ("median", "min", "max"))
            cells.append(f"{median} ({low} to {high})")
        rows.append([title, *cells, f"{result['pandas_over_k710'][name]:.2f}"])
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |")
    print()
    for name, target in result["targets"].items():
        verdict = "met" if target["met"] else "missed"
        print(f"{name}: {target['measured']:.2f}, wanted at most {target['at_most']:.2f}: {verdict}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Time `k710 build` against a plain pandas script.")
    parser.add_argument("--lists", type=Path, help="folder of lists; made up in their published sizes if not given")
    parser.add_argument("--splits", default="train,val", help="lists to read (default: train,val, as k710 does)")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--results", type=Path, default=RESULTS, help="JSON file to write")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="k710-benchmark-") as scratch:
        lists = arguments.lists
        if lists is None:
            lists = Path(scratch) / "lists"
            subprocess.run([sys.executable, HERE / "full_size_lists.py", lists], check=True, stdout=subprocess.DEVNULL)
        sides = measure(lists, arguments.splits, arguments.repetitions, Path(scratch))
    result = {
        "what": "k710 build against benchmarks/pandas_build.py, whole processes, medians; the tables agree",
        "lists": "a folder of the user's" if arguments.lists else "made up by full_size_lists.py",
        "splits": arguments.splits,
        "repetitions": arguments.repetitions,
        "machine": machine(),
        "sides": sides,
        **judge(sides),
    }
    arguments.results.parent.mkdir(parents=True, exist_ok=True)
    arguments.results.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    show(result)


if __name__ == "__main__":
    main()
