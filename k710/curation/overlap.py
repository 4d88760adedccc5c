"""Who shares videos with whom: overlaps between the lists of a clips table, and conflicts inside it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from k710.manifest.listings import masks_of, sources_in
from k710.sources.source import SPLITS

List = tuple[str, str]  # source, split
Presence = npt.NDArray[np.unsignedinteger]


def lists_in(clips: pa.Table) -> tuple[List, ...]:
    """The lists that a clips table has columns of: one bit each in a presence mask."""
    return tuple((source, split) for source in sources_in(clips.column_names) for split in SPLITS)


def clip_presence(clips: pa.Table) -> Presence:
    """For each clip, the lists it stands in: bit i for `lists_in(clips)[i]`."""
    sources = sources_in(clips.column_names)
    kind = _kind_of(len(sources) * len(SPLITS))
    presence = np.zeros(clips.num_rows, kind)
    for number, source in enumerate(sources):
        presence |= masks_of(clips, source).astype(kind) << kind(number * len(SPLITS))
    return presence


def _kind_of(num_lists: int) -> type[np.unsignedinteger]:
    """The smallest numbers with a bit for each list."""
    return next(kind for bits, kind in ((16, np.uint16), (32, np.uint32), (64, np.uint64)) if num_lists <= bits)


def video_starts(clips: pa.Table) -> npt.NDArray[np.int64]:
    """Positions at which a new YouTube ID begins; the table is in clip_id order."""
    if not clips.num_rows:
        return np.zeros(0, np.int64)
    ids = clips["youtube_id"].combine_chunks()
    same = pc.equal(ids[1:], ids[:-1]).to_numpy(zero_copy_only=False) if len(ids) > 1 else np.zeros(0, bool)
    return np.concatenate([[0], np.flatnonzero(~same) + 1])


def video_presence(clips: pa.Table) -> Presence:
    """For each video, in the order of `video_starts`, the lists that any of its clips stands in."""
    return _of_videos(clip_presence(clips), video_starts(clips))


def _of_videos(presence: Presence, starts: npt.NDArray[np.int64]) -> Presence:
    return np.bitwise_or.reduceat(presence, starts) if len(starts) else presence[:0]


def overlap_matrix(presence: Presence, num_lists: int) -> npt.NDArray[np.int64]:
    """`matrix[i, j]`: how many clips (or videos) stand in list i and in list j; the diagonal is the list's size."""
    if presence.dtype == np.uint16:  # counting is faster than sorting
        histogram = np.bincount(presence, minlength=1 << num_lists)
        masks = np.flatnonzero(histogram).astype(np.uint64)
        counts = histogram[masks]
    else:
        masks, counts = np.unique(presence.astype(np.uint64), return_counts=True)
    member = ((masks[:, None] >> np.arange(num_lists, dtype=np.uint64)) & np.uint64(1)).astype(np.int64)
    matrix: npt.NDArray[np.int64] = member.T @ (member * counts[:, None])
    return matrix


@dataclass(frozen=True)
class Overlaps:
    """Overlaps between the lists that a clips table knows, by YouTube ID and by clip (ID and span)."""

    lists: tuple[tuple[str, str], ...]  # (source, split), those with clips only
    by_id: npt.NDArray[np.int64]
    by_clip: npt.NDArray[np.int64]


def overlaps(clips: pa.Table) -> Overlaps:
    """The overlap of every list with every other."""
    lists = lists_in(clips)
    of_clips = clip_presence(clips)
    of_videos = _of_videos(of_clips, video_starts(clips))
    by_id, by_clip = (overlap_matrix(presence, len(lists)) for presence in (of_videos, of_clips))
    present = np.flatnonzero(np.diag(by_clip))
    square = np.ix_(present, present)
    return Overlaps(tuple(lists[index] for index in present), by_id[square], by_clip[square])


@dataclass(frozen=True)
class Conflicts:
    """Clips and videos that train and val lists describe in more than one way."""

    labels_of_one_clip: pa.Array  # clip_ids with several K710 classes
    labels_of_one_id: pa.Array  # youtube_ids whose clips have several K710 classes
    spans_of_one_id: pa.Array  # youtube_ids with several spans

    def counts(self) -> dict[str, int]:
        return {name: len(getattr(self, name)) for name in self.__dataclass_fields__}


def conflicts(clips: pa.Table) -> Conflicts:
    """Label and span conflicts among the labelled clips (those that stand in a train or val list)."""
    labelled = np.flatnonzero(clips["class_id"].is_valid().to_numpy())  # positions: copies of the IDs would be large
    if not len(labelled):
        none = pa.array([], pa.string())
        return Conflicts(none, none, none)
    begins = np.zeros(clips.num_rows, np.int32)
    begins[video_starts(clips)] = 1
    starts = np.flatnonzero(np.diff(np.cumsum(begins)[labelled], prepend=0))  # of each video among the labelled clips
    class_id = clips["class_id"].fill_null(-1).to_numpy()[labelled]
    two_labels = clips["other_class_ids"].is_valid().to_numpy()[labelled]
    differs = np.minimum.reduceat(class_id, starts) != np.maximum.reduceat(class_id, starts)
    differs |= np.logical_or.reduceat(two_labels, starts)
    several_spans = np.diff(starts, append=len(labelled)) > 1

    def names(column: str, positions: npt.NDArray[np.int64]) -> pa.Array:
        return clips[column].take(pa.array(positions)).combine_chunks()

    return Conflicts(
        labels_of_one_clip=names("clip_id", labelled[two_labels]),
        labels_of_one_id=names("youtube_id", labelled[starts[differs]]),
        spans_of_one_id=names("youtube_id", labelled[starts[several_spans]]),
    )
