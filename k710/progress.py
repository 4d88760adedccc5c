"""Progress of long steps on stderr: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from k710.text import duration, printable


def write_raw(text: str) -> None:
    """Write text with k710's own control characters to stderr; the command line shows all others as codes."""
    getattr(sys.stderr, "as_it_is", sys.stderr).write(text)
    sys.stderr.flush()


def writes_over() -> bool:
    """Whether stderr is a terminal that can overwrite a line."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


@contextmanager
def download_progress(
    title: str, *, quiet: bool = False, every_s: float = 10.0
) -> Iterator[Callable[[int, int | None], None]]:
    """Show the progress of one download; yields its callback `(done_bytes, total_bytes or None)`.

    A terminal gets a bar, which is removed at the end. Elsewhere a line is written every `every_s` seconds and one at
    the end. Nothing is shown when `quiet`, or when the callback is never called, as for a file in the cache.
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


class ClipTally(Protocol):
    """The counts of a run that `clip_progress` shows."""

    settled: int
    bytes_stored: int
    failed: Mapping[str, int]


@contextmanager
def clip_progress(
    title: str, *, every_s: float = 30.0
) -> Iterator[tuple[Callable[[int], None], Callable[[Any], None]]]:
    """Show the progress of a long run over clips; yields two callbacks, `set_total(clips)` and `on_progress(tally)`.

    Both may be called from any thread. A terminal gets one line that is kept up to date. Elsewhere a line is written
    every `every_s` seconds. The line shows the settled clips, the failures by class, clips per second, bytes, and the
    time that is left.
    """
    started_s, total, last_s = time.monotonic(), 0, time.monotonic()
    on_terminal = writes_over()
    lock = threading.Lock()

    def set_total(clips: int) -> None:
        nonlocal total
        total = clips

    def on_progress(tally: ClipTally) -> None:
        nonlocal last_s
        now_s = time.monotonic()
        with lock:
            if now_s - last_s < (0.2 if on_terminal else every_s):
                return
            last_s = now_s
            line = _clips_line(title, tally, total, now_s - started_s)
            if on_terminal:  # a line that wraps cannot be overwritten
                line = "\r\x1b[K" + line[: os.get_terminal_size(sys.stderr.fileno()).columns - 1]
            write_raw(line if on_terminal else f"{line}\n")

    try:
        yield set_total, on_progress
    finally:
        if on_terminal:
            write_raw("\r\x1b[K")


def _clips_line(title: str, tally: ClipTally, total: int, seconds: float) -> str:
    rate = tally.settled / max(seconds, 1e-9)
    left_s = max(0, total - tally.settled) / max(rate, 1e-9)
    failed = "".join(f", {count:,} {name}" for name, count in sorted(tally.failed.items()))
    return (
        f"{tally.settled:,} of {total:,} {title}{failed}, {rate:.1f} a second, {tally.bytes_stored / 1e6:,.1f} MB, "
        f"{duration(left_s)} left"
    )


class Steps:
    """Shows the current step of a command, when the step takes longer than `after_s` seconds.

    `steps("reading the clips")` begins a step. `steps("packing clips", 120, 4000)` reports its progress.
    Any thread may call it.
    A terminal gets one line that is kept up to date. Elsewhere a line is written every `every_s` seconds.
    """

    def __init__(self, *, after_s: float = 1.5, every_s: float = 30.0) -> None:
        self._after_s, self._every_s = after_s, every_s
        self._what, self._done, self._total = "", 0, 0
        self._began_s = self._shown_s = time.monotonic()
        self._is_shown = False  # whether a line of this step was written; on a terminal, whether it is still there
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
        """Write a line of its own to stderr."""
        with self._lock:
            self._clear()
            sys.stderr.write(f"{text}\n")
            sys.stderr.flush()
            self._shown_s = time.monotonic()

    def end(self) -> None:
        """Show nothing more until the next step. Call it before results are printed and when the command ends."""
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
                    # A longer line would wrap, and a wrapped line cannot be overwritten.
                    width = os.get_terminal_size(sys.stderr.fileno()).columns - 1
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
        return f"{self._what}{done} …" + (f" {duration(seconds)}" if seconds >= 10 else "")

    def _clear(self) -> None:
        if self._thread is not None and writes_over():
            write_raw("\r\x1b[K")
