"""Units run so many at a time and no more; the first error or a signal ends a run in order."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time

import pytest

from k710.engine.engine import Stop, local_engine, polite_interrupts, run_units, units_at_a_time

WAIT_S = 10.0


@pytest.mark.parametrize("parallel", [1, 2, 5])
def test_so_many_at_a_time(parallel):
    """And really so many: each waits until its companions have begun."""
    lock, running, most, done = threading.Lock(), 0, 0, []
    together = threading.Barrier(parallel)

    def work(unit: int) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        together.wait(timeout=WAIT_S)
        with lock:
            running -= 1
            done.append(unit)

    run_units(range(10 * parallel), work, parallel=parallel, stop=Stop())
    assert most == parallel
    assert sorted(done) == list(range(10 * parallel))


def test_no_units():
    run_units((), lambda unit: pytest.fail("there is none"), parallel=2, stop=Stop())


def test_units_are_asked_for_when_there_is_room_for_them():
    """So that a long plan need not be there at once."""
    asked, begun = [], threading.Semaphore(0)
    go_on = threading.Event()

    def units():
        for number in range(6):
            asked.append(number)
            yield number

    def work(unit: int) -> None:
        begun.release()
        assert go_on.wait(WAIT_S)

    thread = threading.Thread(target=run_units, args=(units(), work), kwargs={"parallel": 2, "stop": Stop()})
    thread.start()
    for _ in range(2):
        assert begun.acquire(timeout=WAIT_S)
    time.sleep(0.3)  # longer than it sleeps
    assert asked == [0, 1]
    go_on.set()
    thread.join(WAIT_S)
    assert asked == list(range(6))


def test_the_first_error_stops_the_rest_and_is_raised_when_they_are_done():
    stop, begun, finished = Stop(), [], []

    def work(unit: int) -> None:
        begun.append(unit)
        if unit == 1:
            raise ValueError("the first")
        end_s = time.monotonic() + WAIT_S
        while not stop.asked and time.monotonic() < end_s:
            time.sleep(0.005)
        time.sleep(0.1)
        finished.append(unit)
        if unit == 2:
            raise ValueError("the second")

    with pytest.raises(ValueError, match="the first"):
        run_units(range(10), work, parallel=3, stop=stop)
    assert sorted(begun) == [0, 1, 2], "nothing new begins"
    assert sorted(finished) == [0, 2], "what had begun came to its end first"
    assert stop.reason == "the first"


def test_a_stop_lets_units_finish_and_starts_none():
    stop, begun, finished = Stop(), [], []

    def work(unit: int) -> None:
        begun.append(unit)
        if unit == 1:
            stop.ask("enough")
        time.sleep(0.1)
        finished.append(unit)

    run_units(range(10), work, parallel=2, stop=stop)
    assert sorted(begun) == sorted(finished) == [0, 1]


def test_a_stop_that_was_asked_before():
    stop = Stop()
    stop.ask("already")
    run_units(range(10), lambda unit: pytest.fail("it began"), parallel=2, stop=stop)


def test_the_first_reason_is_told():
    stop = Stop()
    assert (stop.asked, stop.reason) == (False, "")
    stop.ask("the disk is full")
    stop.ask("something else")
    assert (stop.asked, stop.reason) == (True, "the disk is full")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_signal_asks_and_a_second_one_insists(number):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    stop, said = Stop(), []
    with polite_interrupts(stop, said.append):
        os.kill(os.getpid(), number)
        assert stop.asked
        assert stop.reason == f"stopped by {number.name}"
        assert said == ["Finishing the clips in flight; once more stops at once."]
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        assert len(said) == 1
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_handlers_come_back_after_an_error():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(ValueError, match="wrong"), polite_interrupts(Stop(), lambda text: None):
        raise ValueError("wrong")
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_second_signal_leaves_units_behind():
    """Though they never end: their owner ends what they wait for."""
    stop, release = Stop(), threading.Event()
    main = threading.main_thread().ident
    assert main is not None

    def insist() -> None:
        for _ in range(2):
            time.sleep(0.1)
            signal.pthread_kill(main, signal.SIGINT)

    thread = threading.Thread(target=insist)
    try:
        with polite_interrupts(stop, lambda text: None):
            thread.start()
            begin_s = time.monotonic()
            with pytest.raises(KeyboardInterrupt):
                run_units(range(4), lambda unit: release.wait(WAIT_S) and None, parallel=2, stop=stop)
            assert time.monotonic() - begin_s < WAIT_S / 2
    finally:
        release.set()
        thread.join()


def test_a_signal_ends_a_run_in_order():
    """Noticed while all units are at work, not only when one is done."""
    stop, finished = Stop(), []
    main = threading.main_thread().ident
    assert main is not None

    both = threading.Barrier(2)

    def work(unit: int) -> None:
        both.wait(timeout=WAIT_S)
        if unit == 0:
            signal.pthread_kill(main, signal.SIGTERM)
        end_s = time.monotonic() + WAIT_S
        while not stop.asked:
            assert time.monotonic() < end_s
            time.sleep(0.005)
        finished.append(unit)

    with polite_interrupts(stop, lambda text: None):
        run_units(range(10), work, parallel=2, stop=stop)
    assert sorted(finished) == [0, 1]
    assert stop.reason == "stopped by SIGTERM"


# The door that all engines have in common.


class Opened:
    """What the units of a machine share, and what became of it."""

    def __init__(self) -> None:
        self.log: list[object] = []

    @contextlib.contextmanager
    def __call__(self, stop: Stop, workers: int):
        self.log.append(("open", workers))
        try:
            yield self
        except BaseException as error:
            self.log.append(("broken", type(error).__name__))
            raise
        self.log.append("closed")


def test_the_local_engine_opens_once_and_hears_each_unit():
    opened, heard, news, stop = Opened(), {}, {}, Stop()

    def work(unit: int, shared: Opened, tell) -> int:
        assert shared is opened
        tell(unit + 0.5)
        return 2 * unit

    with local_engine(opened, workers=3, stop=stop) as engine:
        assert engine.workers == 3
        engine.on_each_machine(lambda shared: shared.log.append("checked"))
        for first in (0, 100):  # one stage after the other
            heard.clear()
            units = iter(range(first, first + 20))
            engine.run_units(units, work, on_result=heard.setdefault, on_progress=news.__setitem__)
            assert heard == {number: 2 * (first + number) for number in range(20)}, "numbered by its place"
    assert news == {number: 100.5 + number for number in range(20)}
    assert opened.log == [("open", 3), "checked", "closed"]


def test_results_are_heard_one_at_a_time():
    busy, most = 0, 0

    def heard(number: int, result: int) -> None:
        nonlocal busy, most
        busy += 1
        most = max(most, busy)
        time.sleep(0.005)
        busy -= 1

    with local_engine(Opened(), workers=16, stop=Stop()) as engine:
        engine.run_units(range(40), lambda unit, shared, tell: unit, on_result=heard)
    assert most == 1


def test_an_error_of_a_unit_comes_out_where_the_shared_things_were_opened():
    def work(unit: int, shared: Opened, tell) -> None:
        raise ValueError("broken")

    opened = Opened()
    with pytest.raises(ValueError, match="broken"), local_engine(opened, workers=1, stop=Stop()) as engine:
        engine.run_units(range(3), work, on_result=lambda number, result: pytest.fail("nothing was done"))
    assert opened.log == [("open", 1), ("broken", "ValueError")]


@pytest.mark.parametrize(("workers", "units"), [(1, 2), (2, 2), (8, 2), (12, 3), (64, 16), (1000, 16)])
def test_units_at_a_time(workers, units):
    assert units_at_a_time(workers) == units
