"""Which cores had nothing to do while a command ran: at its start, in the middle, at its end. Linux only (/proc)."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import Any, NamedTuple

EVERY_S = 0.02


class Sample(NamedTuple):
    """A look at a process and all that it started: when, how many threads could run, and how many ffmpegs there were."""

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
        tasks = Path(f"/proc/{waiting.pop()}/task")
        name = ""
        try:
            for task in os.listdir(tasks):
                name, state = _name_and_state((tasks / task / "stat").read_text())
                running += state == "R"
                waiting += map(int, (tasks / task / "children").read_text().split())
        except OSError:  # it has ended
            continue
        ffmpegs += name.startswith("ffmpeg") or "ffmpeg" in _command(tasks.parent)
    return Sample(at_s, running, ffmpegs)


def _name_and_state(stat: str) -> tuple[str, str]:
    name, rest = stat[stat.index("(") + 1 :].rsplit(")", 1)
    return name, rest.split()[0]


def _command(process: Path) -> str:
    return os.path.basename((process / "cmdline").read_bytes().split(b"\0", 1)[0].decode(errors="replace"))


def idle(samples: list[Sample], cores: int) -> dict[str, dict[str, float]]:
    """Seconds, and core-seconds with no thread that could run: until each core had an ffmpeg of its own, from then on,
    and after the last moment at which that was so."""
    full = [sample.at_s for sample in samples if sample.ffmpegs >= cores]
    if not full:
        raise RuntimeError("at no time was there an ffmpeg for each core")
    found = {name: {"s": 0.0, "idle_core_s": 0.0} for name in ("start", "middle", "end")}
    for sample, after in zip(samples, samples[1:], strict=False):
        name = "start" if sample.at_s < full[0] else "middle" if sample.at_s < full[-1] else "end"
        lasted_s = after.at_s - sample.at_s
        found[name]["s"] += lasted_s
        found[name]["idle_core_s"] += lasted_s * max(0, cores - sample.running)
    return {name: {key: round(value, 2) for key, value in part.items()} for name, part in found.items()}
