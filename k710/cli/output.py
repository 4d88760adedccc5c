"""stdout and stderr of the command line: control characters inside names never reach the terminal."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# Control characters except tab and end of line, and the characters that change the direction of text.
_COMMANDING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


class ShownStream:
    """A text stream that writes control characters as their codes, such as `\\x1b`; `as_it_is` is the stream itself.
    A muted one writes nothing.

    Names of files, archive members and list cells come from outside, and a terminal obeys control characters in them.
    """

    def __init__(self, stream: io.TextIOBase) -> None:
        self.as_it_is = stream
        self.muted = False

    def isatty(self) -> bool:
        return not self.muted and self.as_it_is.isatty()

    def write(self, text: str) -> int:
        if not self.muted:
            self.as_it_is.write(_COMMANDING.sub(lambda found: _code(found[0]), text))
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.as_it_is, name)


@contextmanager
def shown_streams() -> Iterator[None]:
    """Make stdout and stderr a ShownStream during the block; every character can be written in every encoding."""
    before = sys.stdout, sys.stderr
    for stream in before:
        if isinstance(stream, io.TextIOWrapper):  # a closed stream is None
            stream.reconfigure(errors="backslashreplace")
    sys.stdout, sys.stderr = (stream and ShownStream(stream) for stream in before)  # type: ignore[arg-type]
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def json_text(text: str) -> str:
    """JSON text with these characters as JSON escapes, which a reader decodes again."""
    return _COMMANDING.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _code(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
