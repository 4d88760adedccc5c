"""What an answer of YouTube means: for the video, for the session, or nothing that is known.

The texts are YouTube's and yt-dlp's own; `messages.csv` has them as patterns, tried in its order.
"""

from __future__ import annotations

import csv
import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from k710.fetch.origins.youtube.breaker import Trouble
from k710.storage.http_reader import without_password
from k710.store.failures import OF_THE_VIDEO

TABLE = Path(__file__).with_name("messages.csv")
NO_SPACE = "no_space"
UNKNOWN = "unknown"
MAX_TEXT = 300

_UPDATE = "`pip install --upgrade 'yt-dlp[default]'`, and see docs/youtube.md on JavaScript runtimes"
TROUBLES = {
    "rate": Trouble(1, 5, "wait some hours, give longer --youtube-sleep, or sign in by --youtube-cookies"),
    "bot": Trouble(1, 4, "sign in by --youtube-cookies or --youtube-cookies-from-browser, or take another address"),
    "blocked": Trouble(1, 4, "this session is told of living videos that they are gone; wait a day, or take another"),
    "network": Trouble(3, 5, "look at the connection and at --youtube-proxy"),
    "slow": Trouble(3, 3, "raise --youtube-max-seconds, or take --youtube-sections"),
    "tools": Trouble(3, 3, f"yt-dlp finds nothing to download: {_UPDATE}"),
    UNKNOWN: Trouble(5, 3, f"nothing that is known; {_UPDATE}"),
}
WARNINGS = {
    "warns_js": "yt-dlp finds no JavaScript runtime, so YouTube gives it few formats or none: install Deno, or name "
    "another by --youtube-js-runtime (docs/youtube.md)",
    "warns_cookies": "YouTube no longer takes these cookies: export them again, from a private window closed at once",
}
_TAIL = re.compile(r" \(caused by .*|; please report this issue on .*")
# An ID in it may look like an error; the second form is youtube-dl's.
_PREFIX = re.compile(
    r"^(ERROR: )?((\[[^\]\s]+\] ([^\s:]{1,64}: )?)|([A-Za-z0-9_-]{11}: (?=YouTube said: )))?"
    r"(YouTube said: (ERROR - )?)?"
)
_CLASSES = frozenset({*OF_THE_VIDEO, *TROUBLES, *WARNINGS, NO_SPACE})


@dataclass(frozen=True)
class Verdict:
    """`kind`: a class of the video, a key of TROUBLES, or NO_SPACE; `text`: the message."""

    kind: str
    text: str

    @property
    def of_the_video(self) -> bool:
        return self.kind in OF_THE_VIDEO


@functools.cache
def table(path: Path = TABLE) -> tuple[tuple[re.Pattern[str], str, str], ...]:
    """The rows of the table: pattern, class, where it was reported."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = [
            (re.compile(row["pattern"], re.IGNORECASE), row["class"], row["reported"]) for row in csv.DictReader(file)
        ]
    assert all(kind in _CLASSES for _, kind, _ in rows), rows
    return tuple(rows)


def verdict(message: str, warnings: Sequence[str] = ()) -> Verdict:
    """The class of yt-dlp's error message; UNKNOWN where no pattern fits. Where the message does not name the cause, an
    earlier warning may: without a network, yt-dlp finds no formats."""
    found = _verdict(message)
    if found.kind not in ("tools", UNKNOWN):
        return found
    causes = (_verdict(text) for text in warnings)
    return next((cause for cause in causes if cause.kind in ("rate", "bot", "network")), found)


def _verdict(message: str) -> Verdict:
    bare = _PREFIX.sub("", plain(message))
    for pattern, kind, _ in table():
        if kind not in WARNINGS and pattern.search(bare):
            return Verdict(kind, bare)
    return Verdict(UNKNOWN, bare)


def warning(message: str) -> str | None:
    """What the user should do about a warning of yt-dlp; None for warnings that do not concern them."""
    for pattern, kind, _ in table():
        if kind in WARNINGS and pattern.search(plain(message)):
            return WARNINGS[kind]
    return None


def plain(message: str) -> str:
    """The message as one short line with plain quotes, without passwords, repetitions and control characters."""
    text = without_password(re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", message)).replace("\u2019", "'")
    return _TAIL.sub("", re.sub(r"[\x00-\x1f\x7f-\x9f\s]+", " ", text)).strip()[:MAX_TEXT]
