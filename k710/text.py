"""How counts and foreign names are written into messages."""

from __future__ import annotations


def counted(number: int, one: str, several: str | None = None) -> str:
    """A count with its noun: `1 clip`, `2,000 clips`, `0 clips`; `several` where an s at the end is not the plural."""
    return f"{number:,} {one if number == 1 else several or one + 's'}"


def printable(text: str) -> str:
    """`text` with every character that a terminal may obey, or that breaks a line, written as its code: `\\x1b`.

    The names of files, members of archives and classes come from outside.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


def os_error_text(error: OSError) -> str:
    """Why the system refused. Errors of libraries often have no number, and then Python shows them as
    `[Errno None] None`."""
    return error.strerror or " ".join(str(part) for part in error.args) or type(error).__name__


def data_size(size_bytes: float) -> str:
    """A size of data in words: `12.3 GB`, `4.0 kB`, `700 bytes`."""
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:,.1f} {unit}"
    return counted(int(size_bytes), "byte")
