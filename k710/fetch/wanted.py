"""What is wanted of a manifest, and what of it is still to do at an origin."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable

import pyarrow as pa
import pyarrow.compute as pc

from k710.engine.part import Part
from k710.errors import UsageError
from k710.manifest.listings import is_in, split_names
from k710.manifest.read import Manifest
from k710.sources.catalogue import Catalogue
from k710.sources.known import KINETICS
from k710.sources.source import SPLITS
from k710.sources.video_ids import Span, video_of
from k710.store.failures import ASKED_AGAIN

DEFAULT_SPLITS = ("train", "val")


def check_wanted(view: str | None, splits: tuple[str, ...], sources: Catalogue) -> None:
    """Raise UsageError for an unknown view or split."""
    if view is not None:
        sources.check_view(view)
    for split in splits:
        if split not in SPLITS:
            raise UsageError(f"unknown split {split!r}; known: {', '.join(SPLITS)}")


def wanted_mask(
    clips: pa.Table, *, view: str | None, splits: tuple[str, ...], sources: Catalogue = KINETICS
) -> pa.ChunkedArray:
    """Which rows of a clips table are wanted: those in one of `splits` of the view; without a view, of any
    source. `sources`: the catalogue of the manifest. Raises UsageError for an unknown view or split."""
    check_wanted(view, splits, sources)
    if view is None:
        return in_splits(clips, listings=sources.names, splits=splits)
    return in_splits(clips, listings=(sources.listing(view),), splits=splits)


def in_splits(clips: pa.Table, *, listings: tuple[str, ...], splits: tuple[str, ...]) -> pa.ChunkedArray:
    """Which rows of a clips table are in one of `splits` of one of these listings (manifest/listings.py)."""
    return pa.chunked_array([pa.array(is_in(clips, listings, splits))])


def wanted_ids(manifest: Manifest, *, view: str | None, splits: tuple[str, ...], limit: int | None) -> pa.Array:
    """The clip ids that a fetch should bring, in hash order: the first of them, `limit`, are a random sample."""
    sources = manifest.catalogue
    check_wanted(view, splits, sources)
    listings = sources.names if view is None else (sources.listing(view),)
    clips = manifest.read_clips(("clip_id", *split_names(listings)))  # not all: often there is nothing to do
    mask = in_splits(clips, listings=tuple(listings), splits=splits)
    ids = clips["clip_id"].filter(mask).combine_chunks()
    if limit is not None and limit < len(ids):
        ids = pa.array(in_hash_order(ids.to_pylist())[:limit], pa.string())
    return ids


def in_hash_order(clip_ids: Iterable[str]) -> list[str]:
    """The clips in an order that has nothing to do with their names, labels or splits, and is always the same."""
    return sorted(clip_ids, key=lambda clip_id: hashlib.blake2b(clip_id.encode(), digest_size=8).digest())


def to_do(wanted: pa.Array, media: pa.Table, origin: str, retry: Collection[str]) -> pa.Array:
    """Those of `wanted` that an origin is still to be asked for: not there yet, and not refused at that origin before
    (unless the class of its last failure there is in `retry`). `media`: rows with clip_id, failure, origin, settled_at.
    """
    media = last_verdicts(media)
    there = pc.is_null(media["failure"])
    refused = pc.equal(media["origin"], origin)
    again = pc.is_in(media["failure"], pa.array(sorted({*retry, *ASKED_AGAIN}), pa.string()))
    refused = pc.and_(refused, pc.invert(again))
    settled = media["clip_id"].filter(pc.or_(there, refused))
    return wanted.filter(pc.invert(pc.is_in(wanted, settled.combine_chunks())))


def last_verdicts(media: pa.Table) -> pa.Table:
    """The rows of what is there, and of each origin's failures of a clip the last one: what came before was tried again
    since. Only the columns that `to_do` needs."""
    names = ["clip_id", "origin", "failure", "settled_at"]
    failed = media.filter(pc.is_valid(media["failure"])).select(names).sort_by([("settled_at", "descending")])
    last = failed.group_by(names[:2], use_threads=False).aggregate([("failure", "first"), ("settled_at", "first")])
    there = media.filter(pc.is_null(media["failure"])).select(names)
    return pa.concat_tables([last.rename_columns(names), there])


def of_part(clip_ids: pa.Array, part: Part) -> pa.Array:
    """Those of the clips whose video falls into the part; all clips of a video fall into the same."""
    if part.is_whole:
        return clip_ids
    return clip_ids.filter(pa.array([part.has(video_of(name)) for name in clip_ids.to_pylist()], pa.bool_()))


def spans_of_videos(manifest: Manifest, youtube_ids: Collection[str]) -> dict[str, tuple[Span, ...]]:
    """The spans of all clips that the manifest has of these videos, wanted or not."""
    clips = manifest.clips.select(["youtube_id", "time_start_s", "time_end_s"])
    chosen = clips.filter(pc.is_in(clips["youtube_id"], pa.array(youtube_ids, pa.string())))
    spans: dict[str, tuple[Span, ...]] = {}
    for youtube_id, start_s, end_s in zip(*(column.to_pylist() for column in chosen.columns), strict=True):
        if start_s is not None:
            spans[youtube_id] = (*spans.get(youtube_id, ()), (_seconds(start_s), _seconds(end_s)))
    return spans


def _seconds(time_s: float) -> float:
    """A time of a column with fractions; a whole number as int, as a clip's name has it."""
    return int(time_s) if float(time_s).is_integer() else time_s
