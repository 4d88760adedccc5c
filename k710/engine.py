"""Run units of work: how many at a time, and how to stop. What a unit does is its own affair.

A unit commits its own result and nothing else is kept, so a run may end at any moment and be done again.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

Unit = TypeVar("Unit")
_WAKE_S = 0.2  # a signal is noticed when the main thread wakes


class Stop:
    """Asks a run to end early: units finish what they have in hand, commit it and start nothing new."""

    def __init__(self) -> None:
        self._asked = threading.Event()
        self.reason = ""

    @property
    def asked(self) -> bool:
        return self._asked.is_set()

    def ask(self, reason: str) -> None:
        """The first reason is the one that is told."""
        if not self.asked:
            self.reason = reason
            self._asked.set()


def run_units(units: Iterable[Unit], work: Callable[[Unit], None], *, parallel: int, stop: Stop) -> None:
    """`work` on every unit, `parallel` of them at a time, in threads; units do their heavy work in processes.

    The first error asks the others to stop and is raised when they have. Returns early once `stop` is asked. On
    KeyboardInterrupt it leaves at once; whoever owns the processes ends them.
    """
    waiting, first_error = iter(units), None
    threads = ThreadPoolExecutor(parallel, thread_name_prefix="unit")
    running: set[Future[None]] = set()
    try:
        while True:
            while len(running) < parallel and not stop.asked and (unit := next(waiting, None)) is not None:
                running.add(threads.submit(work, unit))
            if not running:
                break
            done, running = wait(running, timeout=_WAKE_S, return_when=FIRST_COMPLETED)
            for future in done:
                if (error := future.exception()) is not None and first_error is None:
                    first_error = error
                    stop.ask(str(error))
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
    if first_error is not None:
        raise first_error


@contextmanager
def polite_interrupts(stop: Stop, say: Callable[[str], None]) -> Iterator[None]:
    """For the time of the block, Ctrl-C (or SIGTERM, as schedulers send it) asks for a stop; a second one raises
    KeyboardInterrupt. In the main thread only."""

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.asked:
            raise KeyboardInterrupt
        stop.ask(f"stopped by {signal.Signals(number).name}")
        say("Finishing the clips in flight; once more stops at once.")

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
