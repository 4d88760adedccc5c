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
