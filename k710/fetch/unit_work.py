"""One unit of work, from its clips to its commit; all origins use it."""

from __future__ import annotations

import itertools
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Protocol, TypeVar

from k710.engine.engine import Stop
from k710.fetch.encode.ffmpeg_binary import ffmpeg_version
from k710.fetch.encode.jobs import NO_SPACE, ClipJob, ClipPool, Made
from k710.fetch.encode.profiles import ENCODING_VERSION, Profile
from k710.fetch.store_unit import StoreUnit, is_disk_full
from k710.store.store import Store
from k710.version import __version__

DISK_FULL = "the disk is full"


class Closing(Protocol):
    """Something that is closed when the run ends."""

    def close(self) -> None: ...


Shared = TypeVar("Shared", bound=Closing)


@dataclass
class Tally:
    """What a run has settled so far; `on_settled` is called after each clip, from the threads of the units."""

    fetched: int = 0
    bytes_stored: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    refused_members: Counter[str] = field(default_factory=Counter)
    unread: dict[str, str] = field(default_factory=dict)  # archives that could not be read, and why
    refused: dict[str, str] = field(default_factory=dict)  # those of them that the server does not have, or not give
    no_archives: dict[str, str] = field(default_factory=dict)  # those of them that came as something else
    unread_in_a_row: int = 0
    damaged: dict[str, str] = field(default_factory=dict)  # archives that broke off, and how; to be read again
    damaged_for_good: dict[str, str] = field(default_factory=dict)  # that broke off as they did in an earlier run
    left: int = 0  # missing clips that are left to other parts
    unsettled: dict[str, str] = field(default_factory=dict)  # videos that were asked for in vain, and the answers
    on_settled: Callable[[Tally], None] = lambda tally: None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def settled(self) -> int:
        return self.fetched + sum(self.failed.values())

    def counts(self) -> dict[str, Any]:
        """What `add` takes, as plain data: from a thread or a machine to another."""
        with self._lock:
            plain = {name: getattr(self, name) for name in _COUNTS}
            return {name: value if isinstance(value, int) else value.copy() for name, value in plain.items()}

    def add(self, counts: dict[str, Any]) -> None:
        """Count what another tally counted, such as that of a unit."""
        with self._lock:
            for name, value in counts.items():
                if isinstance(value, int):
                    setattr(self, name, getattr(self, name) + value)
                else:
                    getattr(self, name).update(value)  # a Counter adds

    def unsettle(self, failures: Iterable[str]) -> None:
        """Failures that are no verdict after all."""
        with self._lock:
            self.failed -= Counter(failures)
            self.on_settled(self)

    def settle(self, made: Made, size_bytes: int) -> None:
        with self._lock:
            if made.failure is None:
                self.fetched += 1
                self.bytes_stored += size_bytes
            else:
                self.failed[made.failure] += 1
            self.on_settled(self)


# What adds up over units.
_COUNTS = tuple(
    each.name for each in fields(Tally) if each.name not in ("unread_in_a_row", "left", "on_settled", "_lock")
)


@dataclass
class Run:
    """What the units of one run share on one machine; each has a tally of its own."""

    store: Store
    profile: Profile
    pool: ClipPool
    scratch: Path
    stop: Stop
    tally: Tally
    on_message: Callable[[str], None] = lambda text: None  # what the user should know now
    _shared: dict[str, Any] = field(default_factory=dict)
    _claimed: set[tuple[str, str]] = field(default_factory=set)
    _numbers: Iterator[int] = field(default_factory=itertools.count)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def claim(self, clip_id: str, origin: str) -> bool:
        """Whether the caller is the first of this run to take the clip at `origin`, whose archives may hold it twice.
        At the next origin it may be taken again: it is only asked for what failed here."""
        with self._lock:
            first = (clip_id, origin) not in self._claimed
            self._claimed.add((clip_id, origin))
            return first

    def new_path(self) -> Path:
        """A new name in the scratch folder; not by clip, since some file systems take abc and ABC for the same."""
        return self.scratch / f"{next(self._numbers)}"

    def shared(self, key: str, make: Callable[[], Shared]) -> Shared:
        """What the units of an origin share in this process: made by the first that asks, closed with the run."""
        with self._lock:
            if key not in self._shared:
                self._shared[key] = make()
            found: Shared = self._shared[key]
            return found

    def close(self) -> None:
        """End what the units shared."""
        with self._lock:
            for shared in self._shared.values():
                shared.close()

    @property
    def clips_ahead(self) -> int:
        """How many clips a unit may have in hand: enough that no process waits, few enough for the scratch."""
        return 2 * self.pool.num_processes + 2


@dataclass(frozen=True)
class Work:
    """A clip to make and where it comes from; `came_from` names each candidate. `temporary` files go once it is
    settled. Where there is nothing to make it from, `job` is what came of it already."""

    job: ClipJob | Made
    came_from: tuple[str, ...]
    temporary: tuple[Path, ...] = ()


def do_unit(run: Run, name: str, origin: str, work: Iterable[Work], details: Callable[[], dict[str, Any]]) -> None:
    """Make the clips of a unit, settle each, commit. `details` is called at the end: more metadata of the
    unit for the media file. Where the disk fills, what is settled is committed and the run asked to stop."""
    try:
        unit = StoreUnit(run.store, name, run.scratch)
    except OSError as error:
        if not is_disk_full(error):
            raise
        run.stop.ask(DISK_FULL)
        return
    try:
        for item, made in _made_in_order(run, work):
            if made.failure == NO_SPACE:
                run.stop.ask(DISK_FULL)
                continue
            try:
                unit.add(made, origin=origin, came_from=item.came_from[made.source])
            except OSError as error:
                if not is_disk_full(error):
                    raise
                run.stop.ask(DISK_FULL)
                continue
            run.tally.settle(made, unit.rows[-1]["size"] or 0)
        extra = details()
        archive = extra.get("archive", {})
        if archive.get("damage") and not archive["complete"]:
            run.tally.unsettle(unit.drop_failures())
        if unit.rows or archive.get("complete") or archive.get("damage"):
            unit.commit(_about(run, name, origin) | extra)
        else:
            unit.abandon()
    except BaseException:
        unit.abandon()
        raise


def _made_in_order(run: Run, work: Iterable[Work]) -> Iterator[tuple[Work, Made]]:
    """What came of each clip, in the order of `work`, while those behind it are being made. A stop takes no more."""
    in_hand: deque[tuple[Work, Future[Made]]] = deque()
    waiting = iter(work)
    more = True
    while more or in_hand:
        # What is done is settled before more is asked for: where that takes a while, as a download does, its files go.
        while more and len(in_hand) < run.clips_ahead and not (in_hand and in_hand[0][1].done()):
            item = None if run.stop.asked else next(waiting, None)
            if item is None:
                more = False
            else:
                in_hand.append((item, _started(run, item.job)))
        if in_hand:
            item, future = in_hand.popleft()
            made = future.result()
            for path in item.temporary:
                path.unlink(missing_ok=True)
            yield item, made
            if isinstance(item.job, ClipJob):
                # What a failed or killed attempt wrote, or the unit had no room for.
                for path in item.job.out.parent.glob(f"{item.job.out.name}.*"):
                    path.unlink(missing_ok=True)


def _started(run: Run, job: ClipJob | Made) -> Future[Made]:
    if isinstance(job, ClipJob):
        return run.pool.submit(job)
    known: Future[Made] = Future()
    known.set_result(job)
    return known


def _about(run: Run, name: str, origin: str) -> dict[str, Any]:
    tools = {"k710": __version__, "ffmpeg": ffmpeg_version()}
    about = {"unit": name, "origin": origin, "profile": run.profile.settings(), "encoding": ENCODING_VERSION}
    return about | {"tools": tools}
