"""Requests to stop: a preempting scheduler's SIGTERM, SLURM's SIGUSR1, a user's Ctrl-C."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from k710.engine.torch_process import SharedError

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


class StoppedError(SharedError):
    """A run stopped on request, with everything saved. Its exit code is that of a process ended by the signal, which
    schedulers recognise."""

    def __init__(self, name: str | None, step: int) -> None:
        why = name or "a signal to another process"
        message = f"stopped by {why} after step {step:,}; everything is saved, --resume goes on from there"
        super().__init__(message, 130 if name == "SIGINT" else 143)


class StopRequest:
    """While it is open, the first signal is remembered instead of ending the process; `name` is its name.

    A second Ctrl-C ends it at once. In a thread other than the main one, Python
    receives no signals, so nothing is ever asked for.
    """

    def __init__(self) -> None:
        self.name: str | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._remember) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @property
    def asked(self) -> bool:
        return self.name is not None

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if self.name is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.name = signal.Signals(number).name
