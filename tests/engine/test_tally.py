"""What a run counts: units that are done, for good; units at work, for those who watch."""

from __future__ import annotations

import pickle
from collections import Counter

from k710.engine.engine import Stop
from k710.fetch.encode.jobs import Made
from k710.fetch.origins.cvdf import MAX_UNREAD_IN_A_ROW
from k710.fetch.run import _Counted
from k710.fetch.unit_work import Tally


def tally_of(fetched: int = 0, *failures: str, **more) -> Tally:
    tally = Tally(**more)
    for number in range(fetched):
        tally.settle(Made(f"{number}"), 10)
    for failure in failures:
        tally.settle(Made("x", failure, "why"), 0)
    return tally


def test_tallies_add_up_and_can_be_sent():
    total = Tally()
    total.add(pickle.loads(pickle.dumps(tally_of(3, "corrupt", "short").counts())))
    total.add(tally_of(1, "corrupt", unread={"a": "404"}, damaged={"b": "cut"}).counts())
    total.add(tally_of(refused_members=Counter(link=2)).counts())
    assert (total.fetched, total.bytes_stored, total.settled) == (4, 40, 7)
    assert total.failed == {"corrupt": 2, "short": 1}
    assert (total.unread, total.damaged, total.refused_members) == ({"a": "404"}, {"b": "cut"}, {"link": 2})


def test_counts_do_not_change_afterwards():
    tally = tally_of(1, "corrupt")
    counts = tally.counts()
    tally.settle(Made("y", "corrupt", "why"), 0)
    assert counts["failed"] == {"corrupt": 1}


def watched() -> tuple[_Counted, Tally, Stop, list[tuple[int, int, dict[str, int]]]]:
    shown: list[tuple[int, int, dict[str, int]]] = []
    tally, stop = Tally(), Stop()
    on_settled = lambda now: shown.append((now.fetched, now.bytes_stored, dict(now.failed)))  # noqa: E731
    return _Counted(tally, on_settled, stop), tally, stop, shown


def test_units_at_work_are_shown_and_not_counted():
    counted, tally, _, shown = watched()
    counted.on_progress(0, (2, 20, Counter(short=1)))
    counted.on_progress(1, (1, 10, Counter()))
    counted.on_progress(0, (3, 30, Counter(short=1)))
    assert shown == [(2, 20, {"short": 1}), (3, 30, {"short": 1}), (4, 40, {"short": 1})]
    assert tally.settled == 0
    counted.on_result(0, tally_of(5, "short").counts())
    counted.on_progress(1, (2, 20, Counter()))
    assert shown[-1] == (7, 70, {"short": 1})
    assert (tally.fetched, tally.settled) == (5, 6)


def test_what_a_lost_machine_had_not_committed_is_not_counted():
    counted, tally, _, shown = watched()
    counted.on_progress(0, (9, 90, Counter()))
    counted.on_progress(0, None)
    counted.on_progress(1, (1, 10, Counter()))
    assert shown == [(9, 90, {}), (1, 10, {})]
    assert tally.settled == 0


def test_archives_that_cannot_be_read_in_a_row_end_the_run():
    counted, tally, stop, _ = watched()
    for number in range(MAX_UNREAD_IN_A_ROW - 1):
        counted.on_result(number, tally_of(unread={f"{number}": "404"}).counts())
    counted.on_result(10, tally_of(1).counts())
    assert not stop.asked, "one in between was read"
    for number in range(MAX_UNREAD_IN_A_ROW):
        assert not stop.asked
        counted.on_result(20 + number, tally_of(unread={f"again-{number}": "404"}).counts())
    assert stop.reason == "3 archives in a row could not be read"
    assert len(tally.unread) == 2 * MAX_UNREAD_IN_A_ROW - 1
