"""Filmstrips: a few frames of a clip side by side in one small JPEG, read as in training."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from k710.store.store import Store, best

NUM_FRAMES = 4
HEIGHT_PX = 72
# A light line within a dark one separates two frames; it is visible next to pictures of any brightness.
_DARK, _LIGHT = (16, 16, 16), (240, 240, 240)
_LINE_PX = 2
GAP_PX = 3 * _LINE_PX
_MAX_WIDTH_PX, _MIN_WIDTH_PX = 160, 40  # of one frame
_QUALITY = 62
_PLACE = ("clip_id", "failure", "settled_at", "tar", "offset", "size", "sha256", "num_frames")
_FRAMES = ("frame_offsets", "frame_indices")


@dataclass(frozen=True)
class Strip:
    """The frames of a clip as one JPEG; None if it could not be read, with the reason in `failure`."""

    clip_id: str
    jpeg: bytes | None
    width_px: int = NUM_FRAMES * (96 + GAP_PX) - GAP_PX
    height_px: int = HEIGHT_PX
    failure: str = ""


def read_strips(
    store: Store, clip_ids: Iterable[str], *, on_progress: Callable[[int], None] = lambda done: None
) -> Iterator[Strip]:
    """A strip for each of these clips, in their order; `on_progress` gets the number of clips read so far.

    Raises StoreError if the rows of the store cannot be read.
    """
    from k710.errors import LoadError
    from k710.loading.load_clip import ClipOptions, ClipReader
    from k710.loading.media.media_files import MediaFiles
    from k710.loading.order import Sample

    wanted = list(clip_ids)
    places = _places(store, set(wanted))
    files = MediaFiles(store.tars_folder, in_tars=True)
    reader = ClipReader(ClipOptions(num_frames=NUM_FRAMES), training=False)
    for done, clip_id in enumerate(wanted, 1):
        row = places.get(clip_id)
        if row is None:
            yield Strip(clip_id, None, failure="not fetched")
        else:
            try:
                (clip,) = reader.load(_clip(files, row), [Sample(0)])
                yield strip_of(clip_id, clip.pixels.numpy())
            except LoadError as error:
                yield Strip(clip_id, None, failure=str(error).replace(f"{store.tars_folder}{os.sep}", ""))
        on_progress(done)


def strip_of(clip_id: str, frames: npt.NDArray[np.uint8]) -> Strip:
    """Frames (num_frames, height_px, width_px, 3) side by side, `HEIGHT_PX` high, `GAP_PX` between them."""
    height_px, width_px = frames.shape[1:3]
    frame_px = min(_MAX_WIDTH_PX, max(_MIN_WIDTH_PX, round(width_px * HEIGHT_PX / height_px)))
    strip = Image.new("RGB", ((frame_px + GAP_PX) * len(frames) - GAP_PX, HEIGHT_PX), _DARK)
    for number, frame in enumerate(frames):
        small = Image.fromarray(frame).resize((frame_px, HEIGHT_PX), Image.Resampling.BOX, reducing_gap=2.0)
        left_px = number * (frame_px + GAP_PX)
        strip.paste(small, (left_px, 0))
        if number:
            light_px = left_px - 2 * _LINE_PX
            strip.paste(_LIGHT, (light_px, 0, light_px + _LINE_PX, HEIGHT_PX))
    content = io.BytesIO()
    strip.save(content, format="jpeg", quality=_QUALITY, optimize=True)
    return Strip(clip_id, content.getvalue(), strip.width, strip.height)


def _places(store: Store, wanted: Collection[str]) -> dict[str, dict[str, Any]]:
    """The media rows of these clips, as far as there are any."""
    rows = store.rows((*_PLACE, *_FRAMES))
    rows = rows.filter(pc.is_in(rows["clip_id"], pa.array(sorted(wanted), pa.string())))
    found = best(rows).to_pylist()
    return {row["clip_id"]: row for row in found if row["failure"] is None and row["tar"]}


def _clip(files: Any, row: dict[str, Any]) -> Any:
    from k710.loading.clip_index import NO_CLASS, Place
    from k710.loading.load_clip import StoredFrames, UndecodedClip

    offsets, indices = (None if row[name] is None else np.array(row[name], np.int64) for name in _FRAMES)
    place = Place(
        row["clip_id"],
        NO_CLASS,
        row["tar"],
        row["offset"],
        row["size"],
        int(row["sha256"][:16], 16),
        row["num_frames"] or 0,
        offsets,
        indices,
    )
    stored = None
    if offsets is not None and indices is not None:
        stored = StoredFrames(place.num_frames, indices, lambda at: files.read_frames(place, at))
    return UndecodedClip(place.clip_id, NO_CLASS, place.file, lambda: files.read(place), stored)
