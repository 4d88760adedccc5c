"""Which ffmpeg is used: `$IMAGEIO_FFMPEG_EXE`, else the binary that imageio-ffmpeg brings, else the system's."""

from __future__ import annotations

import contextlib
import functools
import re
import signal

# What ffmpeg says at its end, whatever went wrong: numbers for programmers, after the line that names the cause.
_CLOSING = re.compile(
    r"Conversion failed|[Tt]ask finished with error|Terminating thread with return code|Error (while )?filtering"
    r"|Error sending frames|Could not open encoder before EOF|Error while opening encoder"
    r"|Nothing was written into output|Error muxing|Error closing|Last message repeated"
)
_PLACE = re.compile(r"^(\[[^\]]*\] )+")  # as "[h264 @ 0x55d0c8] ": an address that is another one in every run
_NUMBER = re.compile(r" ?(with )?(return|error) code:? -?\d+|:? ?-\d{3,}\b")


@functools.cache
def ffmpeg_binary() -> str:
    """The path of the ffmpeg that encodes."""
    import imageio_ffmpeg

    return str(imageio_ffmpeg.get_ffmpeg_exe())


@functools.cache
def ffmpeg_version() -> str:
    """What that ffmpeg says of its version, for the store's records."""
    import imageio_ffmpeg

    return str(imageio_ffmpeg.get_ffmpeg_version())


def failure_reason(messages: str, returncode: int) -> str:
    """Why ffmpeg failed, in its own words: the last of its `messages` that names a cause, without numbers and addresses
    that mean nothing to a reader."""
    if returncode < 0:
        with contextlib.suppress(ValueError):
            return f"crashed ({signal.Signals(-returncode).name})"
    lines = [_PLACE.sub("", line).strip() for line in messages.splitlines()]
    causes = [line for line in lines if line and not _CLOSING.search(line)]
    for line in reversed(causes or [line for line in lines if line]):
        if reason := _NUMBER.sub("", line).strip(" :"):
            return reason[-200:]
    return "ended without a message"
