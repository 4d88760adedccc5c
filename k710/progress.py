"""How far a long step has come, on stderr: a bar on a terminal, an occasional line elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


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
    elif sys.stderr.isatty():
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
