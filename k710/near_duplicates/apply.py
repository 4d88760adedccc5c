"""Proposals → a new version of the manifest without the proposed clips."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from k710.curation.curate import codes
from k710.curation.leave_out import check_current, without, write_version
from k710.errors import UsageError
from k710.manifest.pairs import write_pairs
from k710.manifest.read import Manifest
from k710.manifest.schema import DROP_REASONS, NEAR_DUPLICATE, content_hash
from k710.near_duplicates.find import Found
from k710.sources.source import SPLITS

_TRAIN, _NEAR = SPLITS.index("train"), DROP_REASONS.index(NEAR_DUPLICATE)

Mask = npt.NDArray[np.bool_]


def chosen_drops(clips: pa.Table, pairs: pa.Table, *, within_train: bool) -> dict[str, str]:
    """The clips to drop, and for each the clip that stays: of several, the nearest one. Both are clip IDs.

    Without `within_train`, only clips that repeat a clip outside train are dropped. `clips`: the manifest's; `pairs`:
    PAIRS_SCHEMA.
    """
    pairs = pairs.filter(pc.is_valid(pairs["drop_clip_id"]))
    train = clips["clip_id"].filter(pa.array(_in_train(clips))).combine_chunks()
    is_within = pc.is_in(pairs["kept_clip_id"], train).to_pylist()
    columns = (pairs[name].to_pylist() for name in ("drop_clip_id", "kept_clip_id", "distance"))
    best: dict[str, tuple[float, str]] = {}
    for within, drop, kept, distance in zip(is_within, *columns, strict=True):
        if within_train or not within:
            best[drop] = min(best.get(drop, (distance, kept)), (distance, kept))
    return {drop: kept for drop, (_, kept) in sorted(best.items())}


def apply(manifest: Manifest, found: Found, *, within_train: bool) -> Manifest | None:
    """Write a version of the manifest without the chosen clips in train, and record the step in its dataset.json.

    Clips that an earlier call dropped and this one does not propose are put back. So the result depends on lists,
    recipe, media and parameters, not on earlier calls. If nothing changes, returns None and writes only the pairs. The
    old version stays until `k710 prune`. Raises UsageError for pairs of another view than the union's, and for a
    version that is not the current one.
    """
    if found.about["parameters"]["view"] != (union := manifest.catalogue.union.name):
        raise UsageError(f"a release stays as published; only near-duplicates of --view {union} can be applied")
    check_current(manifest)
    drops = chosen_drops(manifest.clips, found.pairs, within_train=within_train)
    clips = without(manifest.clips, drops, NEAR_DUPLICATE)
    new_hash = content_hash(clips)
    if new_hash == manifest.content_hash:
        write_pairs(manifest, found.pairs, found.about, [new_hash])
        return None
    # The pairs come first and are valid for both versions: if the run is killed in between, they still match the
    # manifest.
    write_pairs(manifest, found.pairs, found.about, [manifest.content_hash, new_hash])
    applied = {"dropped": len(drops), "within_train": within_train, "parameters": found.about["parameters"]}
    record = {**applied, "counts": found.about["counts"]} if drops else None
    return write_version(manifest, clips, NEAR_DUPLICATE, ("near_duplicates", record))


def _in_train(clips: pa.Table) -> Mask:
    """The clips that curation put into train, including those that an earlier `apply` dropped."""
    return np.asarray((codes(clips["split"]) == _TRAIN) | (codes(clips["drop_reason"]) == _NEAR))
