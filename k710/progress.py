"""How far a long step has come, on stderr: a bar on a terminal, an occasional line elsewhere."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol


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
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
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
            sys.stderr.write(line if on_terminal else f"{line}\n")
            sys.stderr.flush()

    try:
        yield planned, told
    finally:
        if on_terminal:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


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
