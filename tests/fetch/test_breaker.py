"""The circuit breaker: when it opens, how long it waits, and when it gives up."""

from __future__ import annotations

import itertools
import threading
import time

import pytest

from k710.engine.engine import Stop
from k710.fetch.origins.youtube import breaker
from k710.fetch.origins.youtube.breaker import Breaker, Trouble

TROUBLES = {"rate": Trouble(1, 3, "wait"), "network": Trouble(3, 2, "look"), "tools": Trouble(2, 0, "upgrade")}


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def made(said, monkeypatch) -> Breaker:
    monkeypatch.setattr(breaker, "WAITS_S", (0.05, 0.1, 0.2))
    return Breaker("site", TROUBLES, said.append)


def test_one_rate_limit_opens_it_and_an_answer_closes_it(made, said):
    stop = Stop()
    assert made.wait(stop)
    made.failed("rate", "too many", stop)
    assert not made.closed
    began_s = time.monotonic()
    assert made.wait(stop)
    assert time.monotonic() - began_s >= 0.04
    made.answered()
    assert made.closed
    assert not stop.asked
    assert len(said) == 1
    assert said[0].startswith("site: rate: too many; waiting 0 s, until ")


def test_failures_in_a_row_open_it_and_an_answer_between_does_not(made, said):
    stop = Stop()
    for _ in range(3):
        made.failed("network", "no route", stop)
        made.failed("network", "no route", stop)
        made.answered()
    assert (made.closed, said) == (True, [])
    for kind in ("network", "network", "network"):
        made.failed(kind, "no route", stop)
    assert not made.closed


def test_it_gives_up_after_its_waits_with_what_to_do(made, said):
    stop = Stop()
    waited = []
    while not stop.asked:
        began_s = time.monotonic()
        made.wait(stop)
        waited.append(time.monotonic() - began_s)
        made.failed("rate", "too many", stop)
    assert stop.reason == "site: rate, after waiting 3 times: too many; wait"
    assert len(waited) == 4
    assert all(later > earlier for earlier, later in itertools.pairwise(waited))
    assert not made.wait(stop)


def test_what_waiting_does_not_mend_ends_at_once(made):
    stop = Stop()
    made.failed("tools", "no formats", stop)
    assert not stop.asked
    made.failed("tools", "no formats", stop)
    assert stop.reason == "site: tools: no formats; upgrade"


def test_failures_that_were_under_way_when_it_opened_do_not_count(made, said):
    stop = Stop()
    for _ in range(5):
        made.failed("rate", "too many", stop)
    assert len(said) == 1
    assert not stop.asked


def test_a_stop_ends_a_wait(made, monkeypatch):
    monkeypatch.setattr(breaker, "WAITS_S", (3600.0,))
    stop = Stop()
    made.failed("rate", "too many", stop)
    threading.Timer(0.2, stop.ask, ["enough"]).start()
    began_s = time.monotonic()
    assert not made.wait(stop)
    assert time.monotonic() - began_s < 5


def test_only_one_tries_after_a_wait(made):
    stop, through = Stop(), []

    def ask() -> None:
        if made.wait(stop):
            through.append(made.closed)
            time.sleep(0.2)
            made.answered()

    made.failed("rate", "too many", stop)
    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(through) == [False, True, True, True]


def test_an_answer_that_tells_nothing_lets_the_next_try(made):
    stop = Stop()
    made.failed("rate", "too many", stop)
    assert made.wait(stop)
    made.nothing()
    assert not made.closed
    assert made.wait(stop)
