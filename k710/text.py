"""How counts, sizes, times and foreign names are written into messages."""

from __future__ import annotations


def counted(number: int, one: str, several: str | None = None) -> str:
    """A count with its noun: `1 clip`, `2,000 clips`, `0 clips`. `several` is the plural if it is not `one` + s."""
    return f"{number:,} {one if number == 1 else several or one + 's'}"


def printable(text: str) -> str:
    """`text` with each unprintable character written as its code, such as `\\x1b`.

    The names of files, archive members and classes come from outside. They may hold characters that a terminal obeys or
    that break a line.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


def os_error_text(error: OSError) -> str:
    """The reason that the system gave. Many libraries raise an OSError without a number, which Python would show as
    `[Errno None] None`."""
    return error.strerror or " ".join(str(part) for part in error.args) or type(error).__name__


def data_size(size_bytes: float) -> str:
    """A size of data in words: `12.3 GB`, `4.0 kB`, `700 bytes`."""
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:,.1f} {unit}"
    return counted(int(size_bytes), "byte")


def duration(seconds: float) -> str:
    """A time in words: `3 days 4 h`, `2 h 10 min`, `1 min 5 s`."""
    minutes, hours = int(seconds // 60), int(seconds // 3600)
    if hours >= 48:
        return f"{hours // 24} days {hours % 24} h"
    return f"{hours} h {minutes % 60} min" if hours else f"{minutes} min {int(seconds) % 60} s"


def seconds(time_s: float) -> str:
    """A time to the millisecond, without zeros that say nothing: `12`, `1.25`."""
    return f"{time_s:.3f}".rstrip("0").rstrip(".")
