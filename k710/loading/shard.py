"""The clips of one shard, read from beginning to end and shuffled a window at a time."""

from __future__ import annotations

import json
import os
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from k710.errors import LoadError
from k710.loading.load_clip import StoredFrames, UndecodedClip
from k710.loading.media.open_files import open_media
from k710.random_key import Draws
from k710.storage.storage import Location
from k710.text import counted

COMMIT = "shards.json"  # lists the shards of a folder, and what is in them
SHARD = re.compile(r"[a-z0-9_]+-[a-z]+-[0-9]{6,}\.tar")


def shard_clips(path: Location, num_clips: int, window: int, draws: Draws) -> Iterator[UndecodedClip]:
    """The clips of a shard, each drawn at random from the next `window` ones. Raises LoadError for a shard that is cut
    off, damaged or gone."""
    waiting: list[UndecodedClip] = []
    for clip in _in_order(path, num_clips):
        waiting.append(clip)
        if len(waiting) >= window:
            yield waiting.pop(draws.integer(0, len(waiting) - 1))
    while waiting:
        yield waiting.pop(draws.integer(0, len(waiting) - 1))


def _in_order(path: Location, num_clips: int) -> Iterator[UndecodedClip]:
    found = 0
    try:
        opened = os.fdopen(open_media(path), "rb") if isinstance(path, Path) else path.open()
        with opened as file, tarfile.open(fileobj=file, mode="r|") as shard:
            parts: dict[str, bytes] = {}
            for member in shard:
                clip_id, _, suffix = member.name.partition(".")
                content = shard.extractfile(member)
                if content is None:
                    raise LoadError(f"{path}: {member.name} is not a file; pack it again")
                parts[suffix] = content.read()
                if suffix == "json":  # the last of its sample
                    yield _clip(path, clip_id, parts)
                    parts, found = {}, found + 1
    except FileNotFoundError:
        raise LoadError(f"{path}: is gone; pack it again") from None
    except (tarfile.TarError, OSError, EOFError) as error:
        raise LoadError(
            f"{path}: cut off or damaged after {found} of {counted(num_clips, 'clip')} ({error}); pack it again"
        ) from None
    if found != num_clips:
        raise LoadError(f"{path}: holds {counted(found, 'clip')}, {num_clips} were expected; pack it again")


def _clip(path: Location, clip_id: str, parts: dict[str, bytes]) -> UndecodedClip:
    try:
        about, class_id = json.loads(parts.pop("json")), int(parts.pop("cls"))
        (content,) = parts.values()
        stored = None
        if about.get("frame_offsets"):
            offsets = [*about["frame_offsets"], len(content)]
            indices = np.array(about["frame_indices"], np.int64)
            rising = (np.diff([*indices, about["num_frames"]]) > 0).all() and offsets == sorted(offsets)
            if not rising or len(indices) != len(offsets) - 1:
                raise ValueError("its frames contradict one another")
            stored = StoredFrames(
                about["num_frames"], indices, lambda at: [content[offsets[i] : offsets[i + 1]] for i in at.tolist()]
            )
    except (KeyError, ValueError, TypeError, AttributeError, OverflowError) as error:
        raise LoadError(f"{path}: clip {clip_id} is no sample of k710 pack ({error!r}); pack it again") from None
    return UndecodedClip(clip_id, class_id, path.name, lambda: content, stored)
