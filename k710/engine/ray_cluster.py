"""Units on the machines of a Ray cluster: on each an actor that owns what its units share; ray_engine.py opens it.

The driver hands out units one by one, asks each machine once a second for its progress, and passes a stop on to it.
The units of a machine that dies are handed out again. Imported only where Ray is.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import ray
import ray.exceptions
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from k710.engine.engine import Opens, Stop, ignore_progress
from k710.errors import EngineError, K710Error
from k710.text import counted

MAX_TRIES = 3  # of a unit on machines that die, and of a machine that lives on
ANSWER_S = 120.0  # for a machine to start a process and to open what its units share
_HEARTBEAT_S = 1.0
_WAKE_S = 0.2


def name_of(node: dict[str, Any]) -> str:
    """The name of a machine in messages."""
    return f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"


def pinned(node: dict[str, Any]) -> NodeAffinitySchedulingStrategy:
    """On this machine and no other."""
    return NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)


def first_line(error: BaseException) -> str:
    """The first line of an error: Ray's errors have tracebacks in them."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:300]


class StoppedFromAfarError(Exception):
    """The driver was asked to stop at once."""


class _Machine:
    """The actor: what the units share on its machine, and the units, each in a thread."""

    def __init__(self) -> None:
        self._stop = Stop()
        self._progress: dict[int, Any] = {}
        self._work: tuple[str, Any] = ("", None)
        self._lock = threading.Lock()
        self._opened: AbstractContextManager[Any] | None = None
        self._shared: Any = None

    def open(self, opens: Opens[Any], workers: int) -> None:
        opened = opens(self._stop, workers)
        self._shared, self._opened = opened.__enter__(), opened

    def check(self, check: Callable[[Any], None]) -> None:
        check(self._shared)

    def do(self, number: int, unit: Any, work: list[Any]) -> tuple[str, Any]:
        """Do a unit; why a stop was asked for, if it was, and the result. `work` is a reference in a list, which Ray
        leaves alone: the work itself is large, and fetched once."""
        with self._lock:
            if self._work[0] != work[0].hex():
                self._work = (work[0].hex(), ray.get(work[0]))
            do = self._work[1]
        try:
            result = do(unit, self._shared, lambda progress: self._progress.update({number: progress}))
        finally:
            self._progress.pop(number, None)
        return self._stop.reason, result

    def heartbeat(self, reason: str) -> tuple[str, dict[int, Any]]:
        """Ask for a stop if there is a `reason`. Returns the reason of a stop here, and each unit's progress."""
        if reason:
            self._stop.ask(reason)
        progress, self._progress = self._progress, {}
        return self._stop.reason, progress

    def close(self, at_once: bool) -> None:
        opened, self._opened = self._opened, None
        if opened is None:
            return
        if at_once:
            self._stop.ask("stopped at once")
            error = StoppedFromAfarError()
            with contextlib.suppress(StoppedFromAfarError):
                opened.__exit__(StoppedFromAfarError, error, None)
        else:
            opened.__exit__(None, None, None)


@dataclass(eq=False)
class _Hand:
    """An actor as the driver sees it; `opening` until it is ready for units."""

    node: dict[str, Any]
    workers: int
    parallel: int  # units
    actor: Any
    opening: Any
    heartbeat: Any = None
    answered_s: float = 0.0
    at_work: dict[Any, tuple[int, Any]] = field(default_factory=dict)  # by reference: a unit and its number

    @property
    def free(self) -> int:
        return 0 if self.opening is not None else self.parallel - len(self.at_work)

    def references(self) -> Iterator[Any]:
        yield from self.at_work
        yield from (ref for ref in (self.opening, self.heartbeat) if ref is not None)


class _Queue:
    """Units with their numbers, in order; those that come back go first."""

    def __init__(self, units: Iterable[Any]) -> None:
        self._waiting = enumerate(units)
        self._back: list[tuple[int, Any]] = []
        self._ended = False
        self.tries: Counter[int] = Counter()

    @property
    def is_empty(self) -> bool:
        return self._ended and not self._back

    def next(self) -> tuple[int, Any] | None:
        if self._back:
            return self._back.pop()
        found = None if self._ended else next(self._waiting, None)
        self._ended = found is None
        return found

    def give_back(self, numbered: tuple[int, Any]) -> None:
        self.tries[numbered[0]] += 1
        self._back.append(numbered)


class Cluster:
    """The engine. All of it is done by the thread that calls it."""

    def __init__(
        self,
        opens: Opens[Any],
        stop: Stop,
        most_workers: int | None,
        on_message: Callable[[str], None],
        parallel: Callable[[int], int],
    ) -> None:
        self.workers, self._on_message = 0, on_message
        self._opens, self._stop, self._most_workers, self._parallel = opens, stop, most_workers, parallel
        self._hands: list[_Hand] = []
        self._opened_at: Counter[str] = Counter()
        self._lost = ""

    def start(self, nodes: Sequence[dict[str, Any]]) -> None:
        """Open on every machine what its units share."""
        for node in nodes:
            self._open(node)
        self.workers = sum(hand.workers for hand in self._hands)
        for hand in self._hands:
            self._answer(hand, hand.opening)
            hand.opening = None

    def end(self, wait_s: float, *, at_once: bool) -> None:
        """Close it on every machine, and end the actors."""
        closing = [hand.actor.close.remote(at_once) for hand in self._hands]
        if closing:
            ray.wait(closing, num_returns=len(closing), timeout=wait_s)
        for hand in self._hands:
            ray.kill(hand.actor)
        self._hands = []

    def on_each_machine(self, check: Callable[[Any], None]) -> None:
        for hand, ref in [(hand, hand.actor.check.remote(check)) for hand in self._hands]:
            self._answer(hand, ref)

    def run_units(
        self,
        units: Iterable[Any],
        work: Callable[[Any, Any, Callable[[Any], None]], Any],
        *,
        on_result: Callable[[int, Any], None],
        on_progress: Callable[[int, Any], None] = ignore_progress,
    ) -> None:
        queue, work_ref, first_error = _Queue(units), _sent(work), None
        while True:
            self._hand_out(queue, work_ref)
            if not any(hand.at_work for hand in self._hands) and (self._stop.asked or queue.is_empty):
                break
            if not self._hands:
                raise EngineError(f"no machine of the cluster is left; the last, {self._lost}")
            for hand, ref in self._answers():
                try:
                    self._take(hand, ref, on_result, on_progress)
                except ray.exceptions.RayTaskError as error:
                    first_error = first_error or _of_machine(hand, error)
                except ray.exceptions.RayError as error:
                    first_error = self._lose(hand, error, queue, on_progress) or first_error
            if first_error is not None:
                self._stop.ask(str(first_error))
        if first_error is not None:
            raise first_error

    def _open(self, node: dict[str, Any]) -> None:
        cpus = int(node["Resources"]["CPU"])
        workers = min(cpus, self._most_workers or cpus)
        self._opened_at[node["NodeID"]] += 1
        # Two threads more than units, so that it always answers.
        options = {"num_cpus": workers, "max_concurrency": self._parallel(workers) + 2, "max_restarts": 0}
        actor: Any = ray.remote(_Machine).options(scheduling_strategy=pinned(node), **options).remote()
        self._hands.append(
            _Hand(node, workers, self._parallel(workers), actor, actor.open.remote(self._opens, workers))
        )

    def _answer(self, hand: _Hand, ref: Any) -> Any:
        try:
            return ray.get(ref, timeout=ANSWER_S)
        except ray.exceptions.GetTimeoutError:
            raise EngineError(
                f"{name_of(hand.node)}: no answer within {ANSWER_S:.0f} s; `ray status` says whether its CPUs are taken"
            ) from None
        except ray.exceptions.RayTaskError as error:
            raise _of_machine(hand, error) from None
        except ray.exceptions.RayError as error:
            raise EngineError(f"{name_of(hand.node)}: {first_line(error)}") from None

    def _hand_out(self, queue: _Queue, work_ref: Any) -> None:
        while not self._stop.asked and self._hands:
            hand = max(self._hands, key=lambda hand: hand.free)
            numbered = queue.next() if hand.free > 0 else None
            if numbered is None:
                return
            hand.at_work[hand.actor.do.remote(*numbered, [work_ref])] = numbered

    def _answers(self) -> list[tuple[_Hand, Any]]:
        """The answers that have come from the machines, after a short wait."""
        for hand in self._hands:
            if hand.heartbeat is None and time.monotonic() - hand.answered_s >= _HEARTBEAT_S and hand.opening is None:
                hand.heartbeat = hand.actor.heartbeat.remote(self._stop.reason)
        hands = {ref: hand for hand in self._hands for ref in hand.references()}
        if not hands:
            time.sleep(_WAKE_S)
            return []
        ready, _ = ray.wait(list(hands), num_returns=1, timeout=_WAKE_S)
        return [(hands[ref], ref) for ref in ready]

    def _take(
        self, hand: _Hand, ref: Any, on_result: Callable[[int, Any], None], on_progress: Callable[[int, Any], None]
    ) -> None:
        """Take an answer; raises the error that came in its place."""
        numbered = hand.at_work.get(ref)
        try:
            value = ray.get(ref)
        except ray.exceptions.RayTaskError:
            hand.at_work.pop(ref, None)
            if ref == hand.opening:
                self._hands.remove(hand)
            raise
        if ref == hand.opening:
            hand.opening = None
            return
        reason, answer = value
        if reason and not self._stop.asked:
            self._stop.ask(f"{name_of(hand.node)}: {reason}")
        if numbered is not None:
            del hand.at_work[ref]
            on_result(numbered[0], answer)
        else:
            hand.heartbeat, hand.answered_s = None, time.monotonic()
            at_work = {number for number, _ in hand.at_work.values()}
            for number in answer.keys() & at_work:
                on_progress(number, answer[number])

    def _lose(
        self, hand: _Hand, error: Exception, queue: _Queue, on_progress: Callable[[int, Any], None]
    ) -> EngineError | None:
        """Take a machine's units back; an error where one of them was on too many that died."""
        if hand not in self._hands:
            return None
        self._hands.remove(hand)
        with contextlib.suppress(ray.exceptions.RayError):
            ray.kill(hand.actor)  # it may be out of reach and alive
        self._lost = f"{name_of(hand.node)}: {first_line(error)}"
        if hand.opening is None:  # else it is the second try on a machine that is gone, whose loss was reported
            self._on_message(
                f"Lost {self._lost} Its {counted(len(hand.at_work), 'unit is', 'units are')} handed out again."
            )
        for numbered in hand.at_work.values():
            queue.give_back(numbered)
            on_progress(numbered[0], None)
        if hand.at_work and max(queue.tries[number] for number, _ in hand.at_work.values()) >= MAX_TRIES:
            return EngineError(
                f"{MAX_TRIES} machines died of the same work, the last {self._lost} Where their memory ran out, "
                f"take fewer --workers."
            )
        nodes: Any = ray.nodes
        node = next((node for node in nodes() if node["NodeID"] == hand.node["NodeID"]), None)
        if node is not None and node["Alive"] and self._opened_at[node["NodeID"]] < MAX_TRIES:
            self._open(node)  # only the actor died, as when memory ran out
        return None


def _sent(work: Any) -> Any:
    """The work where all machines can fetch it."""
    try:
        return ray.put(work)
    except (TypeError, AttributeError) as error:
        raise EngineError(f"this work cannot be sent to other machines: {first_line(error)}") from None


def _of_machine(hand: _Hand, error: Any) -> BaseException:
    """What happened on a machine, as its own error with the machine's name."""
    cause = error.cause
    if isinstance(cause, K710Error):
        return type(cause)(f"{name_of(hand.node)}: {cause}")
    if isinstance(cause, OSError):
        return EngineError(f"{name_of(hand.node)}: {cause}")
    return cause if isinstance(cause, BaseException) else EngineError(f"{name_of(hand.node)}: {first_line(error)}")
