"""A circuit breaker: when a session fails, wait longer and longer, and give up politely when that does not help."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from k710.engine.engine import Stop

WAITS_S = (60.0, 240.0, 960.0, 3600.0, 3600.0)  # YouTube lifts a rate limit within an hour
_WAKE_S = 0.1  # a stop is noticed then


@dataclass(frozen=True)
class Trouble:
    """A kind of failure of the session: after how many in a row to stop asking, how often to wait before giving up,
    and what the user can do."""

    in_a_row: int
    waits: int
    advice: str


class Breaker:
    """Shared by all who ask in one session. Closed: ask. Open: wait; then one asks, and its answer closes or opens it
    again. It asks the run to stop when the last wait did not help."""

    def __init__(self, name: str, troubles: dict[str, Trouble], on_message: Callable[[str], None]) -> None:
        self._name, self._troubles, self._on_message = name, troubles, on_message
        self._failed_in_a_row = 0
        self._opened = 0  # times, since the last answer
        self._until_s = 0.0
        self._trying = False
        self._lock = threading.Lock()

    @property
    def closed(self) -> bool:
        return not self._opened

    def wait(self, stop: Stop) -> bool:
        """Wait until this one may ask; False where the run should stop instead. Whoever asks reports by `answered`,
        `failed` or `nothing`."""
        while not stop.asked:
            with self._lock:
                if not self._opened:
                    return True
                left_s = self._until_s - time.monotonic()
                if left_s <= 0 and not self._trying:
                    self._trying = True
                    return True
            time.sleep(min(_WAKE_S, max(left_s, 0.001)))
        return False

    def answered(self) -> None:
        """The session works."""
        with self._lock:
            self._failed_in_a_row = self._opened = 0
            self._trying = False

    def nothing(self) -> None:
        """An answer that says nothing about the session."""
        with self._lock:
            self._trying = False

    def failed(self, kind: str, text: str, stop: Stop) -> None:
        """A failure of the session, of one of the kinds of trouble; `text` is the message."""
        trouble = self._troubles[kind]
        with self._lock:
            self._trying = False
            if self._opened and time.monotonic() < self._until_s:
                return  # asked before it opened
            self._failed_in_a_row += 1
            if not self._opened and self._failed_in_a_row < trouble.in_a_row:
                return
            waits_s = WAITS_S[: trouble.waits]
            if self._opened >= len(waits_s):
                after = f", after waiting {self._opened} times" if self._opened else ""
                stop.ask(f"{self._name}: {kind}{after}: {text}; {trouble.advice}")
                return
            wait_s = waits_s[self._opened]
            self._opened += 1
            self._until_s = time.monotonic() + wait_s
        until = (datetime.now().astimezone() + timedelta(seconds=wait_s)).strftime("%H:%M")
        self._on_message(f"{self._name}: {kind}: {text}; waiting {_shown(wait_s)}, until {until}")


def _shown(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 60 else f"{seconds:.0f} s"
