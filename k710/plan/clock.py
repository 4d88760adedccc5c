"""The time that a piece of work takes, by the clock and of the cores."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

from k710.errors import MachineError


@dataclass
class Spent:
    """Seconds of a piece of work: `wall_s` by the clock, `core_s` of all cores together, in this process and in those
    that it started and that have ended."""

    wall_s: float = 0.0
    core_s: float = 0.0

    def on_idle_machine(self) -> Spent:
        """With the shorter of both clocks, for work of few threads: a busy machine lengthens the one by the wall."""
        return Spent(min(self.wall_s, self.core_s), self.core_s)

    def each(self, count: float) -> Spent:
        """What one of `count` equal parts took."""
        return Spent(self.wall_s / count, self.core_s / count)


@contextlib.contextmanager
def spent() -> Iterator[Spent]:
    """Measures the block; the result is filled in at its end."""
    found, wall_s, core_s = Spent(), time.perf_counter(), core_time_s()
    yield found
    found.wall_s, found.core_s = time.perf_counter() - wall_s, core_time_s() - core_s


def core_time_s() -> float:
    """User and system time so far, of this process and of its children that have ended."""
    usages = (resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def num_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def busy_note() -> str:
    """A warning where other work is on the cores, so that what is measured by the clock is too long; else empty."""
    load, cores = os.getloadavg()[0], num_cores()
    if load <= 1.25 * cores:
        return ""
    return (
        f"the machine is busy: a load of {load:.1f} on {cores} cores. Times by the clock are longer than on an idle "
        "one, and those of the cores somewhat"
    )


def process_start(modules: str) -> Spent:
    """What it takes to start Python and load `modules`, `a, b`. Raises MachineError where they do not load."""
    with spent() as found:
        done = subprocess.run([sys.executable, "-c", f"import {modules}"], capture_output=True, check=False)  # noqa: S603
    if done.returncode:
        messages = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit {done.returncode}"]
        raise MachineError(f"{modules}: does not load in a process of its own: {messages[-1][:300]}")
    return found.on_idle_machine()
