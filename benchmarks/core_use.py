"""Which cores had nothing to do while a command ran: at its start, in the middle, at its end. Linux only (/proc)."""

from __future__ import annotations

import itertools
import subprocess
import time
from pathlib import Path
from typing import Any, NamedTuple

EVERY_S = 0.02


class Sample(NamedTuple):
    """A look at a process and all that it started: when, how many threads could run, how many ffmpegs."""

    at_s: float
    running: int
    ffmpegs: int


def watched(command: list[Any], **options: Any) -> list[Sample]:
    """Run a command to its end and look at it now and then. Looking takes some percent of a core: nothing is timed."""
    samples, begin_s = [], time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options) as process:
        while process.poll() is None:
            samples.append(_look(process.pid, time.perf_counter() - begin_s))
            time.sleep(EVERY_S)
    if process.returncode:
        raise RuntimeError(f"{command}: exit {process.returncode}")
    return samples


def _look(pid: int, at_s: float) -> Sample:
    running = ffmpegs = 0
    waiting = [pid]
    while waiting:
        process = Path(f"/proc/{waiting.pop()}")
        try:
            program = (process / "cmdline").read_bytes().split(b"\0", 1)[0]
            ffmpegs += b"ffmpeg" in program.rsplit(b"/", 1)[-1]
            for task in (process / "task").iterdir():
                state = (task / "stat").read_text().rsplit(")", 1)[1].split()[0]  # behind the name, in parentheses
                running += state == "R"
                waiting += map(int, (task / "children").read_text().split())
        except OSError:  # it has ended
            continue
    return Sample(at_s, running, ffmpegs)


def idle(samples: list[Sample], cores: int) -> dict[str, dict[str, float]]:
    """Seconds, and core-seconds with no thread that could run: until each core had an ffmpeg of its own, from then on,
    and after the last moment at which that was so."""
    full = [sample.at_s for sample in samples if sample.ffmpegs >= cores]
    if not full:
        raise RuntimeError("at no time was there an ffmpeg for each core")
    found = {name: {"s": 0.0, "idle_core_s": 0.0} for name in ("start", "middle", "end")}
    for sample, after in itertools.pairwise(samples):
        name = "start" if sample.at_s < full[0] else "middle" if sample.at_s < full[-1] else "end"
        lasted_s = after.at_s - sample.at_s
        found[name]["s"] += lasted_s
        found[name]["idle_core_s"] += lasted_s * max(0, cores - sample.running)
    return {name: {key: round(value, 2) for key, value in part.items()} for name, part in found.items()}
