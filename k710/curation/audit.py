"""What a dataset's lists share, what leaks under each policy, what contradicts itself; for anyone's own lists too."""

from __future__ import annotations

import functools
import itertools
import operator
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from k710.curation.clips import list_rows
from k710.curation.curate import FATES, Policy, Rows, codes, curate, hold_out, list_and_clip
from k710.curation.overlap import Presence, conflicts, lists_in, overlaps, video_presence, video_starts
from k710.curation.own_labels import OWN_CONFLICTS
from k710.lists.clip_names import ClipName
from k710.manifest.schema import DROP_REASONS, NEAR_DUPLICATE
from k710.sources.catalogue import Catalogue
from k710.sources.known import KINETICS, KNOWN_SOURCES
from k710.sources.source import SPLITS

POLICIES = {
    "train-purge": Policy("train-purge"),
    "train-purge, holdout val,test": Policy("train-purge", ("val", "test")),
    "val-purge": Policy("val-purge"),
}


def audit(
    clips: pa.Table,
    leaked_rows: Mapping[str, int] | None = None,
    sources: Catalogue = KINETICS,
    own_conflicts: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Overlaps, leaks under each policy and conflicts of a clips table, as plain data. `leaked_rows` is what
    `rows_leaked` gives, `sources` the catalogue of the manifest, `own_conflicts` what `own_label_conflicts` gives.

    `overlap` has a matrix by YouTube ID and one by clip, rows and columns as in `lists`. `policies` tells, for each
    policy, the train and val that it makes of these lists, and how many videos of that train stand in each val and
    test list: what a model trained on it has seen of that evaluation. `near_duplicates`: clips that this manifest's
    train lacks beyond its policy.
    """
    found = overlaps(clips)
    contradictions = conflicts(clips)
    conflicting = {name: getattr(contradictions, name).to_pylist() for name in contradictions.counts()}
    conflicting["labels_of_one_clip"] += [one["clip_id"] for one in own_conflicts]
    return {
        **({"union": sources.union.name} if sources.union.is_own else {}),
        "clips": clips.num_rows,
        "videos": len(video_starts(clips)),
        "lists": [f"{source} {split}" for source, split in found.lists],
        "overlap": {"by_id": found.by_id.tolist(), "by_clip": found.by_clip.tolist()},
        "ids_by_splits": ids_by_splits(clips),
        **({"shared_with_kinetics": shared} if (shared := shared_with_kinetics(clips)) else {}),
        "policies": leaks_by_policy(clips, leaked_rows, sources),
        "near_duplicates": int(np.count_nonzero(codes(clips["drop_reason"]) == DROP_REASONS.index(NEAR_DUPLICATE))),
        "conflicts": {name: len(names) for name, names in conflicting.items()},
        "conflicting": conflicting | ({OWN_CONFLICTS: list(own_conflicts)} if own_conflicts else {}),
    }


def ids_by_splits(clips: pa.Table) -> dict[str, int]:
    """YouTube IDs in the lists of each split over all releases, and in those of each two splits."""
    video_lists, lists = video_presence(clips), lists_in(clips)
    bits = {
        split: video_lists.dtype.type(sum(1 << bit for bit, (_, other) in enumerate(lists) if other == split))
        for split in SPLITS
    }
    stands_in = {split: (video_lists & mask) != 0 for split, mask in bits.items() if np.any(video_lists & mask)}
    counts = {split: int(np.count_nonzero(ids)) for split, ids in stands_in.items()}
    for one, other in itertools.combinations(stands_in, 2):
        counts[f"{one} and {other}"] = int(np.count_nonzero(stands_in[one] & stands_in[other]))
    return counts


def shared_with_kinetics(clips: pa.Table) -> dict[str, dict[str, int]]:
    """For each list of another source with YouTube IDs: how many (`videos`), and how many of them stand in a train, val
    and test list of Kinetics, and in any. Empty where there are no such lists."""
    ids = clips["youtube_id"].take(pa.array(video_starts(clips)))
    of_youtube = pc.invert(pc.match_substring(ids, "~")).to_numpy()
    video_lists, lists = video_presence(clips)[of_youtube], lists_in(clips)
    bits = _bits(video_lists)[: len(lists)]
    of_kinetics = {split: video_lists.dtype.type(0) for split in SPLITS}
    for (source, split), bit in zip(lists, bits, strict=True):
        if source in KNOWN_SOURCES:
            of_kinetics[split] |= bit
    found = {}
    for (source, split), bit in zip(lists, bits, strict=True):
        here = video_lists[(video_lists & bit) != 0]
        if source in KNOWN_SOURCES or not len(here):
            continue
        counts = {each: int(np.count_nonzero(here & mask)) for each, mask in of_kinetics.items()}
        shared = int(np.count_nonzero(here & functools.reduce(operator.or_, of_kinetics.values())))
        found[f"{source} {split}"] = {"videos": len(here), **counts, "any": shared}
    return found


def rows_leaked(rows: Rows) -> dict[str, int] | None:
    """For each policy the list rows that it takes for leaked. None where no list has one clip in several rows: then
    the clips table stands for every row."""
    of_clip_in_list = list_and_clip(rows)
    found = np.zeros(int(of_clip_in_list.max(initial=-1)) + 1, bool)  # np.unique would take half of a build
    found[of_clip_in_list] = True
    if np.count_nonzero(found) == len(rows):
        return None
    return {name: int(np.count_nonzero(hold_out(rows, policy))) for name, policy in POLICIES.items()}


def leaks_by_policy(
    clips: pa.Table, leaked_rows: Mapping[str, int] | None = None, sources: Catalogue = KINETICS
) -> dict[str, dict[str, Any]]:
    """For each policy that these lists allow: clips of train and val, the rows and videos that it takes for leaked (of
    train lists, under val-purge of val lists), and train's videos in each evaluation list. `leaked_rows` is what
    `rows_leaked` gives."""
    rows = list_rows(clips, sources)
    splits = {SPLITS[code] for code in np.unique(codes(rows["split"]))}
    starts, video_lists = video_starts(clips), video_presence(clips)
    evaluation = {
        f"{source} {split}": bit
        for (source, split), bit in zip(lists_in(clips), _bits(video_lists), strict=False)
        if split != "train" and np.any(video_lists & bit)
    }
    result = {}
    for name, policy in POLICIES.items():
        if not splits.issuperset({"train", *policy.holdout}):
            continue
        policy = replace(policy, precedence=sources.union.precedence)
        curated = curate(rows, policy, sources)
        split, leaked = curated.split, curated.fate == FATES.index("leaked")
        in_train = np.logical_or.reduceat(split == SPLITS.index("train"), starts)
        result[name] = {
            "train": int(np.count_nonzero(split == SPLITS.index("train"))),
            "val": int(np.count_nonzero(split == SPLITS.index("val"))),
            "leaked_rows": (leaked_rows or {}).get(name, int(np.count_nonzero(leaked))),
            "leaked_videos": len(np.unique(curated.rows.video[leaked])),
            "leaks": {list_: int(np.count_nonzero(video_lists[in_train] & bit)) for list_, bit in evaluation.items()},
        }
    return result


def _bits(presence: Presence) -> list[Any]:
    """The single bits of the numbers of a presence mask."""
    kind = presence.dtype.type
    return [kind(1 << bit) for bit in range(8 * presence.dtype.itemsize)]


def compare_names(train: Sequence[ClipName], evaluation: Sequence[ClipName]) -> dict[str, Any]:
    """The overlap of two lists of clips, by YouTube ID and by clip; a clip without a span is compared by ID alone."""
    sides = {"train": train, "eval": evaluation}
    ids = {side: {name.youtube_id for name in names} for side, names in sides.items()}
    clips = {side: {str(name) for name in names if name.span_s} for side, names in sides.items()}
    shared = sorted(ids["train"] & ids["eval"])
    return {
        **{
            side: {"rows": len(names), "ids": len(ids[side]), "clips": len(clips[side])}
            for side, names in sides.items()
        },
        "shared_ids": len(shared),
        "shared_clips": len(clips["train"] & clips["eval"]),
        "ids": shared,
    }
