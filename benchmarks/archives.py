"""Time reading a .tar.gz of clips from a server, as `k710 fetch --from cvdf` does, against gzip and tar, in one run.

    python benchmarks/archives.py [--clips 300] [--repetitions 5] [--table]

The clips are those of fetch.py; a server on this machine serves the archive. k710 reads it as it arrives: once passing
over all members, as in an archive whose clips are in the store, once writing each to a file and removing it, as when
each is encoded. Neither keeps the archive. gzip and tar read a file on disk, so they are spared the network, and tar
leaves its files. Of k710 the reading is timed, not the start of Python. The numbers go to `results/archives.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests  # noqa: F401  # loaded before anything is timed
from build import machine, other_cores
from fetch import DISTINCT, busy_note, write_clips, write_lists

from k710.engine.engine import Stop
from k710.fetch.origins.archive_stream import ArchiveStream
from k710.fetch.origins.cvdf import Stoppable, pass_over, spool
from k710.sample.serve import served
from k710.storage.http_reader import open_url

RESULTS = Path(__file__).resolve().parent / "results" / "archives.json"
GZIP, TAR, OVER, WRITTEN = "gzip -dc", "tar -xzf", "k710, passing over", "k710, writing"
TARGETS = {  # ratios of wall clocks
    "speed of passing over, of gzip's": (GZIP, OVER, 1.0),
    "speed of writing, of tar's": (TAR, WRITTEN, 1.0),
}


def streamed(url: str, scratch: Path | None) -> dict[str, float]:
    """Read an archive to its end; with `scratch`, write each member there for a moment."""
    begin_s, begin_cpu_s, members, size = time.perf_counter(), time.process_time(), 0, 0
    with open_url(url) as reader:
        for member in ArchiveStream(Stoppable(reader, Stop())):
            if scratch is None:
                pass_over(member)
            else:
                spool(member, scratch / "clip")
                (scratch / "clip").unlink()
            members, size = members + 1, size + member.size
    wall_s, cpu_s = time.perf_counter() - begin_s, time.process_time() - begin_cpu_s
    return {"wall_s": wall_s, "cpu_s": cpu_s, "members": members, "bytes": size}


def by_k710(url: str, scratch: Path | None = None) -> dict[str, float]:
    """`streamed`, in a process of its own: the server takes part of this one."""
    command = [sys.executable, __file__, "--read", url, *(["--scratch", str(scratch)] if scratch else [])]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def by_command(command: str, folder: Path) -> dict[str, float]:
    """A line of shell in an empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    before, begin_s = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, shell=True, check=True, cwd=folder)
    wall_s, after = time.perf_counter() - begin_s, resource.getrusage(resource.RUSAGE_CHILDREN)
    return {"wall_s": wall_s, "cpu_s": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime}


def measured(scratch: Path, num_clips: int, repetitions: int) -> dict[str, Any]:
    write_clips(scratch, write_lists(scratch / "lists", num_clips, 10), "released", 10)
    archive = scratch / "served" / "clips.tar.gz"
    archive.parent.mkdir()
    subprocess.run(["tar", "-czf", archive, "-C", scratch, "clips"], check=True)
    out, spooled = scratch / "out", scratch / "spooled"
    spooled.mkdir()
    with served(archive.parent) as address:
        url = f"{address}/{archive.name}"
        sides: dict[str, Callable[[], dict[str, float]]] = {
            GZIP: lambda: by_command(f"gzip -dc {archive} | cat >/dev/null", out),
            OVER: lambda: by_k710(url),
            TAR: lambda: by_command(f"tar -xzf {archive}", out),
            WRITTEN: lambda: by_k710(url, spooled),
        }
        runs: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
        for repetition in range(repetitions):
            for name in sides if repetition % 2 == 0 else reversed(list(sides)):
                runs[name].append(sides[name]())
    extracted = len(list(out.rglob("*.mp4")))
    if any(run["members"] != num_clips for run in runs[OVER] + runs[WRITTEN]) or extracted != num_clips:
        raise RuntimeError(f"not every side read {num_clips} clips")
    megabytes = runs[OVER][0]["bytes"] / 1e6
    found = {"clips": num_clips, "MB": round(megabytes, 1), "MB compressed": round(archive.stat().st_size / 1e6, 1)}
    return found | {"sides": {name: _summary(each, megabytes, num_clips) for name, each in runs.items()}}


def _summary(runs: list[dict[str, float]], megabytes: float, num_clips: int) -> dict[str, float]:
    walls = sorted(run["wall_s"] for run in runs)
    cpu_s = statistics.median(run["cpu_s"] for run in runs)
    wall_s = statistics.median(walls)
    return {
        "wall_s": round(wall_s, 3),
        "lowest_s": round(walls[0], 3),
        "highest_s": round(walls[-1], 3),
        "cpu_s": round(cpu_s, 3),
        "MB/s": round(megabytes / wall_s, 1),
        "CPU ms per clip": round(1000 * cpu_s / num_clips, 2),
    }


def targets_of(sides: dict[str, Any]) -> dict[str, Any]:
    found = {}
    for name, (other, ours, limit) in TARGETS.items():
        ratio = sides[other]["wall_s"] / sides[ours]["wall_s"]
        found[name] = {"at_least": limit, "measured": round(ratio, 2), "met": ratio >= limit}
    return found


def table(result: dict[str, Any]) -> str:
    """The sides beside each other, in Markdown."""
    lines = ["| median of wall clock (lowest to highest) | s | MB/s | CPU, s | CPU per clip, ms |"]
    lines.append("| --- | ---: | ---: | ---: | ---: |")
    for name, found in result["sides"].items():
        wall = f"{found['wall_s']:.2f} ({found['lowest_s']:.2f} to {found['highest_s']:.2f})"
        per_clip = f"{found['CPU ms per clip']:.1f}"
        lines.append(f"| {name} | {wall} | {found['MB/s']:.0f} | {found['cpu_s']:.2f} | {per_clip} |")
    return "\n".join(lines) + "\n" + busy_note(result)


def targets_table(result: dict[str, Any]) -> str:
    """The targets, what was measured, and whether it is enough, in Markdown."""
    lines = ["| target | measured | |", "| --- | ---: | --- |"]
    for name, found in result["targets"].items():
        wanted = f"{name}: at least {found['at_least']:g}"
        lines.append(f"| {wanted} | {found['measured']:.2f} | {'met' if found['met'] else 'missed'} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description="Time reading an archive of clips against gzip and tar.")
    parser.add_argument("--clips", type=int, default=300)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--results", type=Path, default=RESULTS, help="JSON file to write")
    parser.add_argument("--table", action="store_true", help="measure nothing; print the tables of the results")
    parser.add_argument("--read", help=argparse.SUPPRESS)  # the address that a process of its own reads,
    parser.add_argument("--scratch", type=Path, help=argparse.SUPPRESS)  # and where it writes the members
    given = parser.parse_args()
    if given.read:
        print(json.dumps(streamed(given.read, given.scratch)))
        return
    if given.table:
        result = json.loads(given.results.read_text(encoding="utf-8"))
        print(table(result), targets_table(result), sep="\n")
        return
    os.environ |= {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    others = other_cores()
    with tempfile.TemporaryDirectory(prefix="k710-benchmark-") as scratch:
        found = measured(Path(scratch), given.clips, given.repetitions)
    result = {
        "what": "reading a .tar.gz of clips from a server on this machine, against gzip and tar on the file; medians",
        "footage": f"{DISTINCT} generated clips of 10 s, 340x256, copied under many names; gzip's default level",
        "repetitions": given.repetitions,
        "cores of other work before": others,
        "machine": machine(),
        **found,
        "targets": targets_of(found["sides"]),
    }
    given.results.parent.mkdir(parents=True, exist_ok=True)
    given.results.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(table(result), targets_table(result), sep="\n")


if __name__ == "__main__":
    main()
