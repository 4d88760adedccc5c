"""Run units of work: where, how many at a time, and how to stop. The engine does not know what a unit does.

A unit commits its own result and nothing else is kept, so a run may end at any moment and be started again. All long
runs begin so:

    with local_engine(opens, workers=8, stop=stop) as engine:
        engine.run_units(units, work, on_result=print)

`opens(stop, workers)` gives, as a context manager, what the units of one machine share: processes, a scratch folder.
It is entered once on each machine; an error, Ctrl-C too, comes out of its `yield`. `work(unit, shared, report)` does
one unit in a thread and returns its result, which `on_result` gets; `report(progress)` may be called in between.
Another engine of the same form, `ray_engine.ray_engine`, runs the units on the machines of a Ray cluster. So `opens`,
`work`, units, results and progress must be plain data and functions that can be pickled (a module's functions,
`functools.partial` of them). A machine may die, so a unit may be done twice, with the same outcome.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Protocol, TypeVar

Unit = TypeVar("Unit")
Shared = TypeVar("Shared", covariant=True)
Result = TypeVar("Result")
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
        """Ask for a stop. The first reason is kept."""
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


def units_at_a_time(workers: int) -> int:
    """On a machine with so many processes two, so that they have work while the other unit commits; more where there
    are many, since a unit may wait for a network."""
    return max(2, min(16, workers // 4))


def ignore_progress(number: int, progress: Any) -> None:
    """The default `on_progress` of `run_units`."""


class Engine(Protocol[Shared]):
    """Where units run. `workers`: the processes of all its machines together."""

    workers: int

    def on_each_machine(self, check: Callable[[Shared], None]) -> None:
        """Run `check` once on every machine; its error is raised."""

    def run_units(
        self,
        units: Iterable[Unit],
        work: Callable[[Unit, Shared, Callable[[Any], None]], Result],
        *,
        on_result: Callable[[int, Result], None],
        on_progress: Callable[[int, Any], None] = ignore_progress,
    ) -> None:
        """`work` on every unit, as `run_units` of this module. `on_result(number, result)` is called once for each
        unit that was done, one call at a time, before its place is given to another. `on_progress(number, progress)` is
        called now and then, from any thread. `number` is the unit's place in `units`."""


Opens = Callable[[Stop, int], AbstractContextManager[Shared]]


class OpenEngine(Protocol):
    """`local_engine`, or another function of its form."""

    def __call__(
        self,
        opens: Opens[Any],
        *,
        workers: int,
        stop: Stop,
        shared: Sequence[Path] = (),
        parallel: Callable[[int], int] = units_at_a_time,
    ) -> AbstractContextManager[Engine[Any]]: ...


@contextmanager
def local_engine(
    opens: Opens[Shared],
    *,
    workers: int,
    stop: Stop,
    shared: Sequence[Path] = (),
    parallel: Callable[[int], int] = units_at_a_time,
) -> Iterator[Engine[Shared]]:
    """This machine, with so many processes. `shared`: files and folders that all machines must have in common, which
    holds on one machine. `parallel`: how many units at a time on a machine with so many processes."""
    with opens(stop, workers) as opened:
        yield _Local(opened, workers, parallel(workers), stop)


class _Local:
    def __init__(self, shared: Any, workers: int, parallel: int, stop: Stop) -> None:
        self.workers, self._shared, self._parallel, self._stop = workers, shared, parallel, stop
        self._lock = threading.Lock()

    def on_each_machine(self, check: Callable[[Any], None]) -> None:
        check(self._shared)

    def run_units(
        self,
        units: Iterable[Unit],
        work: Callable[[Unit, Any, Callable[[Any], None]], Result],
        *,
        on_result: Callable[[int, Result], None],
        on_progress: Callable[[int, Any], None] = ignore_progress,
    ) -> None:
        def do(numbered: tuple[int, Unit]) -> None:
            number, unit = numbered
            result = work(unit, self._shared, lambda progress: on_progress(number, progress))
            with self._lock:
                on_result(number, result)

        run_units(enumerate(units), do, parallel=self._parallel, stop=self._stop)


@contextmanager
def polite_interrupts(stop: Stop, on_message: Callable[[str], None]) -> Iterator[None]:
    """For the time of the block, Ctrl-C (or SIGTERM, as schedulers send it) asks for a stop; a second one raises
    KeyboardInterrupt. In the main thread only."""

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.asked:
            raise KeyboardInterrupt
        stop.ask(f"stopped by {signal.Signals(number).name}")
        on_message("Finishing the clips in flight; once more stops at once.")

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
