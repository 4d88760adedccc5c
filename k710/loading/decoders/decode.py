"""From a clip's bytes to some of its frames: the one place that knows which decoders there are.

PyAV, fed packet by packet, is the default: it gives the same pixels as decord and is several times as fast
(docs/loading.md has the figures). A decoder gets a file only after its first bytes have shown that it is a video.
"""

from __future__ import annotations

from k710.errors import LoadError, UsageError
from k710.loading.decoders.decord import DECORD
from k710.loading.decoders.pixels import Choose, Decoder, Pixels
from k710.loading.decoders.pyav import PYAV
from k710.loading.decoders.torchcodec import TORCHCODEC
from k710.store.containers import SNIFF_BYTES, sniff

DECODERS: dict[str, Decoder] = {"pyav": PYAV, "decord": DECORD, "torchcodec": TORCHCODEC}
DEFAULT_DECODER = "pyav"


def decode(media: bytes, choose: Choose, *, decoder: str = DEFAULT_DECODER) -> Pixels:
    """The frames `choose(number of frames)` of a video file, uint8 (num_frames, height_px, width_px, 3), upright.

    Frames are counted from 0 in the order in which they are shown. Raises LoadError for bytes that are no video or do
    not decode, UsageError for an unknown decoder.
    """
    container = sniff(media[:SNIFF_BYTES])
    if container is None:
        raise LoadError("an empty file" if not media else f"no video file: begins with {media[:16]!r}")
    return _decoder(decoder).decode(media, container, choose)


def check_decoder(name: str) -> str:
    """The name itself. Raises UsageError for a decoder that is unknown or cannot be used on this machine."""
    if reason := _decoder(name).why_unavailable():
        raise UsageError(reason)
    return name


def _decoder(name: str) -> Decoder:
    if name not in DECODERS:
        raise UsageError(f"unknown decoder {name!r}; known: {', '.join(DECODERS)}")
    return DECODERS[name]
