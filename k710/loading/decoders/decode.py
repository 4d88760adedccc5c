"""From a clip's bytes to some of its frames: the one place that knows which decoders there are.

PyAV, fed packet by packet, is the default: it gives the same pixels as decord and is several times as fast
(docs/loading.md has the figures). No decoder sees bytes before their first ones said that they are a video.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from k710.errors import LoadError, UsageError
from k710.loading.decoders.decord import with_decord
from k710.loading.decoders.pyav import with_pyav
from k710.random_key import Ints
from k710.store.containers import SNIFF_BYTES, Container, sniff

Pixels = npt.NDArray[np.uint8]  # (num_frames, height_px, width_px, 3), RGB, upright
# Which frames, once it is known how many there are: they may repeat and stand in any order.
Choose = Callable[[int], Ints]

DECODERS: dict[str, Callable[[bytes, Container, Choose], Pixels]] = {"pyav": with_pyav, "decord": with_decord}
DEFAULT_DECODER = "pyav"


def decode(media: bytes, choose: Choose, *, decoder: str = DEFAULT_DECODER) -> Pixels:
    """The frames `choose(number of frames)` of a video file, uint8 (num_frames, height_px, width_px, 3), upright.

    Frames are counted as they are shown, from 0. Raises LoadError for bytes that are no video or do not decode,
    UsageError for an unknown decoder.
    """
    container = sniff(media[:SNIFF_BYTES])
    if container is None:
        raise LoadError("an empty file" if not media else f"no video file: begins with {media[:16]!r}")
    if decoder not in DECODERS:
        raise UsageError(f"unknown decoder {decoder!r}; known: {', '.join(DECODERS)}")
    return DECODERS[decoder](media, container, choose)


def check_decoder(decoder: str) -> str:
    """`decoder` itself. Raises UsageError for one that is unknown or not installed."""
    if decoder not in DECODERS:
        raise UsageError(f"unknown decoder {decoder!r}; known: {', '.join(DECODERS)}")
    if decoder == "decord" and importlib.util.find_spec("decord") is None:
        raise UsageError(
            "decord is not installed: it has wheels for x86-64 alone; decoder='pyav' reads the same frames"
        )
    return decoder
