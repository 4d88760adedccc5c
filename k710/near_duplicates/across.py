"""Clips of one dataset that show the footage of another: contamination that IDs do not show."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from k710.near_duplicates.align import MIN_OF_SHORT, Match, matches
from k710.near_duplicates.candidates import Ints, Mask, candidates, common_frames
from k710.near_duplicates.find import Found, Prepared, Question, equal_first, in_store, numbered, parameters
from k710.near_duplicates.groups import best_of_each
from k710.near_duplicates.hash_clip import VARIANTS
from k710.near_duplicates.hashed_clips import HashedClips, HashedFrames, Ints32, video_codes
from k710.near_duplicates.same_bytes import same_bytes_across
from k710.sources.source import SPLITS

ACROSS_SCHEMA = pa.schema(
    [
        pa.field("clip_id", pa.string()),  # of this dataset
        pa.field("split", pa.string()),
        pa.field("other_clip_id", pa.string()),  # of the other one
        pa.field("other_split", pa.string()),
        pa.field("distance", pa.float32()),  # bits of 256 in which their frames differ, the mean of those that agree
        pa.field("shift_s", pa.float32()),  # how much later other_clip_id shows what clip_id shows
        pa.field("mirrored", pa.bool_()),
    ]
)


@dataclass(frozen=True)
class _Both:
    """The clips of both datasets that are in their stores, this dataset's first; `num` of them are its own.

    `clips` has clip_id and side. `video` (clips,) is equal for clips of one YouTube ID in either dataset. `hashed` has
    the clips with signatures; `with_signature` are their numbers among all.
    """

    num: int
    clips: pa.Table
    video: Ints32
    sha256: pa.ChunkedArray
    hashed: HashedClips
    with_signature: Ints


def find_across(one: Prepared, other: Prepared, question: Question, other_question: Question) -> Found:
    """The pairs (ACROSS_SCHEMA) of a clip of `one` and a clip of `other` that show the same, and their counts.

    Clips of one YouTube video are no pair, because their IDs show it. Equal IDs of two sources of one's own prove
    nothing, so such clips are compared. The threshold is that of `question`, which chose the clips of `one`.
    """
    both = _together(one, other)
    num_hashed = int(np.count_nonzero(both.with_signature < both.num))
    found, common, usable = _compare(both.hashed, num_hashed, question.threshold_bits)
    equal = same_bytes_across(both.sha256, both.video, both.num)
    pairs = _pairs_table(both.clips, equal_first(equal, numbered(found, both.with_signature)))
    common_clips = both.with_signature[np.unique(common)]
    counts = {
        "clips": [len(one.clips), len(other.clips)],
        "in_store": [both.num, len(both.clips) - both.num],
        "compared": [int(usable[:num_hashed].sum()), int(usable[num_hashed:].sum())],
        "same_videos": _same_videos(one.clips, other.clips),
        "pairs": len(pairs),
        "same_bytes": len(equal),
        "by_split": _by_split(pairs),
        "common_frames": len(common),
        "common_clips": len(common_clips),
        "common_examples": both.clips["clip_id"].take(pa.array(common_clips[:5])).to_pylist(),
    }
    splits = other_question.splits
    about = parameters(question, one.folder.folder.name)
    about |= {"against_view": other_question.view, "against_splits": None if splits is None else list(splits)}
    return Found(pairs, {"parameters": about, "counts": counts})


def _together(one: Prepared, other: Prepared) -> _Both:
    mine, theirs = in_store(one), in_store(other)
    num = len(mine.clips)
    with_signature = np.concatenate([mine.with_signature, theirs.with_signature + num])
    names = ["clip_id", "side"]
    clips = pa.concat_tables([_plain(mine.clips.select(names)), _plain(theirs.clips.select(names))])
    videos = [_videos(each.clips, number) for number, each in enumerate((mine, theirs))]
    video = video_codes(pa.concat_arrays(videos))

    def column(name: str) -> pa.ChunkedArray:
        chunks = [chunk for each in (mine, theirs) for chunk in each.column(name).chunks]
        return pa.chunked_array(chunks, pa.large_binary())

    hashed = HashedClips(
        clips["clip_id"].combine_chunks().take(pa.array(with_signature)), video[with_signature], column
    )
    sha256 = pa.chunked_array([*one.media["sha256"].chunks, *other.media["sha256"].chunks], pa.string())
    return _Both(num, clips, video, sha256, hashed, with_signature)


def _videos(clips: pa.Table, number: int) -> pa.Array:
    """The YouTube ID of each clip; any other ID with the number of its dataset, because it is that dataset's alone."""
    ids = clips["youtube_id"].combine_chunks().cast(pa.string())
    own = pc.match_substring(ids, "~")
    return pc.if_else(own, pc.binary_join_element_wise(str(number), ids, "/"), ids)


def _compare(hashed: HashedClips, num_first: int, max_bits: int) -> tuple[list[Match], Ints32, Mask]:
    """The matches of a clip below `num_first` with a later one, the clip of each frame that is too common, and for each
    clip whether it has enough usable frames."""
    index = hashed.frames(VARIANTS[0])
    common = common_frames(index)
    distinctive = index.only(~common)
    found: list[Match] = []
    for variant in VARIANTS:
        is_plain = variant == VARIANTS[0]
        queries = (distinctive if is_plain else hashed.frames(variant)).even_steps()
        aligned = index.even_steps() if is_plain else queries  # to align, every frame counts
        # Either clip of a pair can be the cropped one. A mirrored pair is symmetric, and so is a plain one.
        for first_asks in (True, False) if variant.startswith("cropped") else (True,):
            pairs = candidates(
                _of(queries, num_first, first_asks),
                _of(distinctive, num_first, not first_asks),
                hashed.video,
                max_bits=max_bits,
                both_ways=True,
            )
            found += matches(pairs, aligned, index, variant=variant, max_bits=max_bits)
    return best_of_each(found), index.clip[common], np.diff(index.starts) >= MIN_OF_SHORT


def _of(frames: HashedFrames, num_first: int, is_first: bool) -> HashedFrames:
    """The frames of the clips below `num_first`, or of the others."""
    return frames.only((frames.clip < num_first) == is_first)


def _pairs_table(clips: pa.Table, found: list[Match]) -> pa.Table:
    one, other = (pa.array([getattr(match, name) for match in found], pa.int64()) for name in ("clip", "other"))
    table = pa.table(
        [
            clips["clip_id"].take(one),
            clips["side"].take(one),
            clips["clip_id"].take(other),
            clips["side"].take(other),
            pa.array([match.distance for match in found], pa.float32()),
            pa.array([match.shift_s + 0.0 for match in found], pa.float32()),  # no -0
            pa.array(["mirrored" in match.variant for match in found], pa.bool_()),
        ],
        schema=ACROSS_SCHEMA,
    )
    return table.sort_by([("distance", "ascending"), ("clip_id", "ascending"), ("other_clip_id", "ascending")])


def _plain(clips: pa.Table) -> pa.Table:
    return clips.set_column(1, "side", clips["side"].cast(pa.string()))


def _same_videos(one: pa.Table, other: pa.Table) -> int:
    """The YouTube videos of both datasets, in their stores or not."""
    return int(pc.sum(pc.is_in(_youtube(one), _youtube(other))).as_py() or 0)


def _youtube(clips: pa.Table) -> pa.Array:
    ids = pc.unique(clips["youtube_id"].combine_chunks().cast(pa.string()))
    return ids.filter(pc.invert(pc.match_substring(ids, "~")))


def _by_split(pairs: pa.Table) -> dict[str, dict[str, int]]:
    """For each split of this dataset and each of the other that have pairs: the pairs, and the clips of either."""
    found = {}
    for one in SPLITS:
        for other in SPLITS:
            some = pairs.filter((pc.field("split") == one) & (pc.field("other_split") == other))
            if len(some):
                clips, others = (pc.count_distinct(some[name]).as_py() for name in ("clip_id", "other_clip_id"))
                found[f"{one} x {other}"] = {"pairs": len(some), "clips": clips, "other_clips": others}
    return found
