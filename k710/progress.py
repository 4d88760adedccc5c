"""How far a long step has come, on stderr: a bar on a terminal, an occasional line elsewhere."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from k710.text import printable


def write_raw(text: str) -> None:
    """Write to stderr what holds control characters of our own; the command line shows all others as codes."""
    getattr(sys.stderr, "as_it_is", sys.stderr).write(text)
    sys.stderr.flush()


def writes_over() -> bool:
    """Whether stderr is a terminal that can write a line over."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


@contextmanager
def download_progress(
    title: str, *, quiet: bool = False, every_s: float = 10.0
) -> Iterator[Callable[[int, int | None], None]]:
    """A callback `(done_bytes, total_bytes or None)` for the time of one download, which shows what it is told.

    On a terminal a bar that vanishes in the end; elsewhere a line every `every_s` seconds and one at the end; nothing
    when `quiet`, nor when the callback is never called, as for a file that is in the cache.
    """
    if quiet:
        yield lambda done_bytes, total_bytes: None
    elif writes_over():
        with _bar(title) as show:
            yield show
    else:
        with _lines(title, every_s) as show:
            yield show


@contextmanager
def _bar(title: str) -> Iterator[Callable[[int, int | None], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    text = TextColumn("{task.description}", markup=False)
    columns = (text, BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(file=getattr(sys.stderr, "as_it_is", sys.stderr)), transient=True) as bar:
        task = bar.add_task(title, total=None, visible=False)
        yield lambda done_bytes, total_bytes: bar.update(task, completed=done_bytes, total=total_bytes, visible=True)


@contextmanager
def _lines(title: str, every_s: float) -> Iterator[Callable[[int, int | None], None]]:
    last, last_s = "", time.monotonic()

    def show(done_bytes: int, total_bytes: int | None) -> None:
        nonlocal last, last_s
        of = "" if total_bytes is None else f" of {total_bytes / 1e6:.1f}"
        last = f"{title}: {done_bytes / 1e6:.1f}{of} MB\n"
        if time.monotonic() - last_s >= every_s:
            sys.stderr.write(last)
            last, last_s = "", time.monotonic()

    yield show
    sys.stderr.write(last)


class _Told(Protocol):
    """What `clip_progress` shows of a run."""

    settled: int
    bytes_stored: int
    failed: Mapping[str, int]


@contextmanager
def clip_progress(
    title: str, *, every_s: float = 30.0
) -> Iterator[tuple[Callable[[int], None], Callable[[Any], None]]]:
    """Two callbacks for the time of a long run over clips: `planned(total)` and `told(tally)`, from any thread.

    One line that is kept up to date on a terminal, a line every `every_s` seconds elsewhere: clips settled, failed by
    class, clips/s, bytes, and the time that is left.
    """
    started_s, total, last_s = time.monotonic(), 0, time.monotonic()
    on_terminal = writes_over()
    lock = threading.Lock()

    def planned(clips: int) -> None:
        nonlocal total
        total = clips

    def told(tally: _Told) -> None:
        nonlocal last_s
        now_s = time.monotonic()
        with lock:
            if now_s - last_s < (0.2 if on_terminal else every_s):
                return
            last_s = now_s
            line = _clips_line(title, tally, total, now_s - started_s)
            if on_terminal:  # a line that breaks cannot be written over
                line = "\r\x1b[K" + line[: os.get_terminal_size(sys.stderr.fileno()).columns - 1]
            write_raw(line if on_terminal else f"{line}\n")

    try:
        yield planned, told
    finally:
        if on_terminal:
            write_raw("\r\x1b[K")


def _clips_line(title: str, tally: _Told, total: int, seconds: float) -> str:
    rate = tally.settled / max(seconds, 1e-9)
    left_s = max(0, total - tally.settled) / max(rate, 1e-9)
    failed = "".join(f", {count:,} {name}" for name, count in sorted(tally.failed.items()))
    return (
        f"{tally.settled:,} of {total:,} {title}{failed}, {rate:.1f} a second, {tally.bytes_stored / 1e6:,.1f} MB, "
        f"{_duration(left_s)} left"
    )


def _duration(seconds: float) -> str:
    minutes, hours = int(seconds // 60), int(seconds // 3600)
    if hours >= 48:
        return f"{hours // 24} days {hours % 24} h"
    return f"{hours} h {minutes % 60} min" if hours else f"{minutes} min {int(seconds) % 60} s"


class Steps:
    """Says what a command is doing, whenever nothing was shown for a while: nothing in a command that is quick.

    `steps("reading the clips")` begins a step; `steps("packing clips", 120, 4000)` says how far it is, from any thread.
    On a terminal one line is kept up to date, elsewhere a line is written every `every_s` seconds.
    """

    def __init__(self, *, after_s: float = 1.5, every_s: float = 30.0) -> None:
        self._after_s, self._every_s = after_s, every_s
        self._what, self._done, self._total = "", 0, 0
        self._began_s = self._shown_s = time.monotonic()
        self._is_shown = False  # of this step, a line; of a terminal, one that is still there
        self._lock, self._closed = threading.Lock(), threading.Event()
        self._thread: threading.Thread | None = None

    def __call__(self, what: str, done: int = 0, total: int = 0) -> None:
        with self._lock:
            if what != self._what:
                self._what, self._began_s, self._is_shown = what, time.monotonic(), False
            self._done, self._total = done, total
            if self._thread is None and not self._closed.is_set():
                self._thread = threading.Thread(target=self._watch, name="steps", daemon=True)
                self._thread.start()

    def say(self, text: str) -> None:
        """A line of its own on stderr."""
        with self._lock:
            self._clear()
            sys.stderr.write(f"{text}\n")
            sys.stderr.flush()
            self._shown_s = time.monotonic()

    def end(self) -> None:
        """Nothing more is shown until the next step; before results are printed, and when the command ends."""
        with self._lock:
            self._what, self._is_shown = "", False
            self._clear()

    def close(self) -> None:
        self._closed.set()
        self.end()

    def _watch(self) -> None:
        while not self._closed.wait(0.2):
            with self._lock:
                now_s = time.monotonic()
                if not self._what or now_s - self._began_s < self._after_s:
                    continue
                if writes_over():
                    width = (
                        os.get_terminal_size(sys.stderr.fileno()).columns - 1
                    )  # a longer line cannot be written over
                    write_raw(f"\r\x1b[K{printable(self._line(now_s))[:width]}")
                elif not self._is_shown or now_s - self._shown_s >= self._every_s:
                    sys.stderr.write(f"{self._line(now_s)}\n")
                    sys.stderr.flush()
                else:
                    continue
                self._is_shown, self._shown_s = True, now_s

    def _line(self, now_s: float) -> str:
        done = f": {self._done:,} of {self._total:,}" if self._total else ""
        seconds = now_s - self._began_s
        return f"{self._what}{done} …" + (f" {_duration(seconds)}" if seconds >= 10 else "")

    def _clear(self) -> None:
        if self._thread is not None and writes_over():
            write_raw("\r\x1b[K")
