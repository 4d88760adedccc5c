"""Files that turn up under a clip's name, and what is to become of each.

All stand for a clip with a span of 10 s and are called `{youtube_id}_{start:06d}_{end:06d}.mp4` by the test that uses
them, whatever is inside. `KINDS[name].build(path)` makes one; `outcome` is "ok" or the failure's class:

- not_video: no known container by its first bytes; no decoder ever sees the file
- undecodable: a known container (mov/mp4, matroska/webm, avi, flv, mpegts), of which no frame can be had
- corrupt: a part of what it declares is missing or damaged
- short: fewer than 8 frames, or less than 1 s
- mismatch: it lasts much longer than its span

A tuple are the answers that can be defended, and `note` says why. Where "ok" is among them, `flags` are what has to be
said of the clip: short (shorter than its span, but whole), trimmed (cut to its span), frozen, black.

Kinds in REACHING name another clip, which `secret_path` finds beside the file once it is built, whole and decodable.
Its size, SECRET_SIZE_PX, is no other clip's: nothing of that size may come out.
"""

from __future__ import annotations

import functools
import random
import tempfile
from pathlib import Path

from tests.helpers.hostile_broken import BROKEN
from tests.helpers.hostile_fine import FINE
from tests.helpers.hostile_not_video import NOT_VIDEO, REACHING
from tests.helpers.media_bytes import SECRET_SIZE_PX, SPAN_S, base, secret_path
from tests.helpers.media_kinds import Kind

__all__ = ["CLIP_NAME", "KINDS", "REACHING", "SECRET_SIZE_PX", "SPAN_S", "Kind", "build", "fuzz", "secret_path"]

CLIP_NAME = "hostile_710_000010_000020.mp4"
KINDS: dict[str, Kind] = NOT_VIDEO | REACHING | BROKEN | FINE


def build(name: str, path: Path) -> Kind:
    """Make a file of this kind at `path`, and the secret beside it if it names one; each is encoded only once."""
    if name in REACHING:  # says its own place
        KINDS[name].build(path)
    else:
        path.write_bytes(_encoded(name))
    return KINDS[name]


@functools.cache
def _encoded(name: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / CLIP_NAME
        KINDS[name].build(path)
        return path.read_bytes()


def fuzz(path: Path, seed: int) -> None:
    """A base clip with 1 to 40 wild bytes, mostly near its start: anything may be said of it, nothing may crash."""
    dice = random.Random(seed)
    data = bytearray(base(dice.choice(("mp4", "faststart", "fragmented", "mkv", "webm", "avi", "flv", "ts"))))
    reach = min(len(data), dice.choice((200, 2000, len(data))))
    for _ in range(dice.randint(1, 40)):
        data[dice.randrange(4, reach)] = dice.choice((0, 1, 0x7F, 0x80, 0xFF, dice.randrange(256)))
    path.write_bytes(data)
