"""Which ffmpeg is used: `$IMAGEIO_FFMPEG_EXE`, else the binary that imageio-ffmpeg brings, else the system's."""

from __future__ import annotations

import functools


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
