"""Clips and videos that the lists describe in more than one way, by name up to a number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from k710.curation.overlap import conflicts
from k710.curation.own_labels import OWN_CONFLICTS
from k710.manifest.listings import lists_of, sources_in, split_names

SHOWN = 50
_OF_A_CLIP = ("clip_id", "youtube_id", "time_start_s", "time_end_s", "label", "other_class_ids", "split")


def conflict_figures(
    clips: pa.Table, labels: tuple[str, ...], own_conflicts: Sequence[dict[str, Any]] = ()
) -> dict[str, Any]:
    """The counts of `overlap.conflicts`, and of each kind the first `SHOWN` with what the lists say of them.
    `own_conflicts`: those that a build found inside the lists of own sources."""
    found = conflicts(clips)
    two_labels = _rows(clips, "clip_id", found.labels_of_one_clip)
    return {
        "counts": found.counts(),
        "label_pairs": _label_pairs(clips, labels),
        "labels_of_one_clip": [_clip(row, labels) for row in two_labels],
        "labels_of_one_id": _videos(clips, found.labels_of_one_id, labels),
        "spans_of_one_id": _videos(clips, found.spans_of_one_id, labels),
        **({OWN_CONFLICTS: own_conflicts[:SHOWN], "num_in_one_list": len(own_conflicts)} if own_conflicts else {}),
    }


def _label_pairs(clips: pa.Table, labels: tuple[str, ...]) -> list[dict[str, Any]]:
    """How often which label won over which other for one clip, the most frequent first, up to `SHOWN`."""
    several = clips.select(["class_id", "other_class_ids"]).filter(clips["other_class_ids"].is_valid()).combine_chunks()
    others = several["other_class_ids"].combine_chunks()
    won = pc.take(several["class_id"].combine_chunks(), pc.list_parent_indices(others)).to_pylist()
    counted = Counter(zip(won, pc.list_flatten(others).to_pylist(), strict=True))
    pairs = sorted(counted.items(), key=lambda pair: (-pair[1], pair[0]))[:SHOWN]
    return [{"label": labels[one], "other": labels[other], "clips": count} for (one, other), count in pairs]


def _rows(clips: pa.Table, column: str, names: pa.Array) -> list[dict[str, Any]]:
    chosen = clips.select([*_OF_A_CLIP, *split_names(sources_in(clips.column_names))])
    rows: list[dict[str, Any]] = chosen.filter(pc.is_in(chosen[column], names[:SHOWN])).to_pylist()
    return rows


def _clip(row: dict[str, Any], labels: tuple[str, ...]) -> dict[str, Any]:
    return {
        "clip_id": row["clip_id"],
        "youtube_id": row["youtube_id"],
        "time_start_s": row["time_start_s"],
        "time_end_s": row["time_end_s"],
        "label": row["label"],
        "other_labels": [labels[index] for index in row["other_class_ids"] or ()],
        "split": row["split"],
        "lists": [f"{source} {split}" for source, split in lists_of(row)],
    }


def _videos(clips: pa.Table, youtube_ids: pa.Array, labels: tuple[str, ...]) -> list[dict[str, Any]]:
    """Each video with its labelled clips."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in _rows(clips, "youtube_id", youtube_ids):
        if row["label"] is not None:
            found.setdefault(row["youtube_id"], []).append(_clip(row, labels))
    return [{"youtube_id": youtube_id, "clips": of_video} for youtube_id, of_video in found.items()]
