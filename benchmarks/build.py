"""Time `k710 build` against pandas, DuckDB and Polars on lists of the published sizes; all sides in one run.

    python benchmarks/build.py [--lists FOLDER] [--repetitions 5]

Each side is a whole process, imports included, and they take turns. Before anything is timed, each runs once, and their
tables must agree row for row; that alone decides the exit status. The numbers go to `results/build.json`.

This process imports none of their packages: Linux counts the memory of the process that starts another into the peak of
the one started. POSIX only (`os.wait4`).
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
OTHERS = {"pandas": "pandas", "duckdb": "DuckDB", "polars": "Polars"}
MEASURES = {"wall_s": "wall clock, s", "cpu_s": "CPU, s", "peak_mib": "peak memory, MiB"}
TARGETS = {  # the most that it may be
    "k710 wall, s": 1.0,
    "k710 peak, MiB": 250,
    "k710 wall over pandas wall": 1 / 5,
    "k710 wall over DuckDB wall": 1.0,
    "k710 wall over Polars wall": 1.0,
}
# Installed packages are compiled, and so is k710 then; a checkout keeps no compiled files where this is set.
IDLE_CORES = 0.25  # of other work: less does not count
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def commands(lists: Path, splits: str, scratch: Path) -> dict[str, list[str]]:
    """The command line of each side: the same lists in, the same table out."""
    k710 = ["-m", "k710", "build", "--sources", "k400,k600,k700", "--splits", splits]
    table = str(scratch / "clips.parquet")
    return {
        "k710": [*k710, "--annotations", str(lists), "--out", str(scratch / "manifest")],
        **{side: [str(HERE / f"{side}_build.py"), str(lists), table, "--splits", splits] for side in OTHERS},
    }


def run(command: list[str], scratch: Path) -> dict[str, float]:
    """Run one side from an empty place, and say what the process used. Raises RuntimeError where it fails."""
    shutil.rmtree(scratch / "manifest", ignore_errors=True)
    (scratch / "clips.parquet").unlink(missing_ok=True)
    log = scratch / "output.txt"
    to_log = [(os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)]
    begin = time.perf_counter()
    pid = os.posix_spawn(sys.executable, [sys.executable, *command], ENVIRONMENT, file_actions=to_log)
    _, status, usage = os.wait4(pid, 0)
    wall_s = time.perf_counter() - begin
    if os.waitstatus_to_exitcode(status):
        raise RuntimeError(f"{' '.join(command)} failed: {log.read_text()}")
    peak_bytes = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {"wall_s": wall_s, "cpu_s": usage.ru_utime + usage.ru_stime, "peak_mib": peak_bytes / 2**20}


def measure(lists: Path, splits: str, repetitions: int, scratch: Path) -> dict[str, Any]:
    """Check that all sides agree (SystemExit where not), then time them in turn."""
    sides = commands(lists, splits, scratch)
    run(sides["k710"], scratch)
    (scratch / "manifest").replace(scratch / "checked")
    for side in OTHERS:
        run(sides[side], scratch)
        check = [sys.executable, str(HERE / "same_clips.py"), str(scratch / "checked"), str(scratch / "clips.parquet")]
        if subprocess.run(check, check=False).returncode:
            sys.exit(f"the tables of k710 and {OTHERS[side]} differ: nothing was timed")
    runs: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
    for repetition in range(repetitions):
        for side in sorted(sides, reverse=repetition % 2 == 1):  # none always follows the same one
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
    """For each other side the ratios of the medians (over k710's), and whether each target is met."""
    medians = {side: {name: sides[side][name]["median"] for name in MEASURES} for side in sides}
    own = medians["k710"]
    values = (own["wall_s"], own["peak_mib"], *(own["wall_s"] / medians[side]["wall_s"] for side in OTHERS))
    targets = {
        name: {"at_most": round(limit, 3), "measured": round(value, 3), "met": value <= limit}
        for (name, limit), value in zip(TARGETS.items(), values, strict=True)
    }
    over_k710 = {side: {name: round(medians[side][name] / own[name], 2) for name in MEASURES} for side in OTHERS}
    return {"over_k710": over_k710, "targets": targets}


def other_cores(seconds: float = 1.0) -> float:
    """How many cores other work has just now, counted while this process sleeps. The load average would still count the
    benchmark that ran before. 0 where there is no /proc/stat."""

    def busy_s() -> float:
        user, nice, system, _, _, *rest = map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:9])
        return (user + nice + system + sum(rest)) / os.sysconf("SC_CLK_TCK")

    if not Path("/proc/stat").exists():
        return 0.0
    begin_s = busy_s()
    time.sleep(seconds)
    return round((busy_s() - begin_s) / seconds, 2)


def busy_sentence(cores: float) -> str:
    """A sentence below a table where other work had that many cores at the start; empty for an idle machine."""
    return f"\nThe machine was busy: other work had {cores:g} of its cores.\n" if cores > IDLE_CORES else ""


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
        **{package: version(package) for package in ("numpy", "pyarrow", *OTHERS)},
    }


def table(result: dict[str, Any]) -> str:
    """The sides and the targets as two tables, in Markdown, for docs/performance.md."""
    lines = [
        f"| median (lowest to highest) | {' | '.join(MEASURES.values())} | wall clock / k710's |",
        "| --- |" + 4 * " ---: |",
    ]
    for side, summary in result["sides"].items():
        cells = [OTHERS.get(side, side)]
        for name in MEASURES:
            digits = 0 if name == "peak_mib" else 2
            median, low, high = (f"{summary[name][key]:.{digits}f}" for key in ("median", "min", "max"))
            cells.append(f"{median} ({low} to {high})")
        cells.append(f"{result['over_k710'][side]['wall_s']:.2f}" if side in OTHERS else "1.00")
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "| target | at most | measured | |", "| --- | ---: | ---: | --- |"]
    for name, target in result["targets"].items():
        verdict = "met" if target["met"] else "not met"
        lines.append(f"| {name} | {target['at_most']:g} | {target['measured']:.3g} | {verdict} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Time `k710 build` against pandas, DuckDB and Polars.")
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
        "what": "k710 build against pandas, DuckDB and Polars, whole processes, medians; the tables agree",
        "lists": "a folder of the user's" if arguments.lists else "made up by full_size_lists.py",
        "splits": arguments.splits,
        "repetitions": arguments.repetitions,
        "machine": machine(),
        "sides": sides,
        **judge(sides),
    }
    arguments.results.parent.mkdir(parents=True, exist_ok=True)
    arguments.results.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(table(result))


if __name__ == "__main__":
    main()
