"""Proposals → a new version of the manifest without the proposed clips."""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from k710.curation.build import recipe_of
from k710.curation.clips import list_rows
from k710.curation.curate import FATES, codes, curate
from k710.errors import UsageError
from k710.manifest.pairs import write_pairs
from k710.manifest.read import Manifest, open_manifest
from k710.manifest.schema import DROP_REASONS, NEAR_DUPLICATE, content_hash, drop_reasons
from k710.manifest.write import write_manifest
from k710.near_duplicates.find import Found
from k710.sources.source import SPLITS

_TRAIN, _NEAR = SPLITS.index("train"), DROP_REASONS.index(NEAR_DUPLICATE)
_OF_THE_COMMIT = ("schema_version", "content_hash", "clips", "tools")  # of dataset.json

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
    if (current := open_manifest(manifest.path).content_hash) != manifest.content_hash:
        raise UsageError(
            f"{manifest.path}: the current version is {current[:16]}, not {manifest.content_hash[:16]}; only "
            "the current version can be changed"
        )
    drops = chosen_drops(manifest.clips, found.pairs, within_train=within_train)
    clips = without(manifest.clips, drops)
    new_hash = content_hash(clips)
    if new_hash == manifest.content_hash:
        write_pairs(manifest, found.pairs, found.about, [new_hash])
        return None
    # The pairs come first and are valid for both versions: if the run is killed in between, they still match the
    # manifest.
    write_pairs(manifest, found.pairs, found.about, [manifest.content_hash, new_hash])
    details = {key: copy.deepcopy(part) for key, part in manifest.about.items() if key not in _OF_THE_COMMIT}
    details["counts"] = counts_without(manifest, clips)
    applied = {"dropped": len(drops), "within_train": within_train, "parameters": found.about["parameters"]}
    details["near_duplicates"] = {**applied, "counts": found.about["counts"]}
    if not drops:
        del details["near_duplicates"]
    return write_manifest(manifest.path, clips, details, force=True)


def without(clips: pa.Table, drops: dict[str, str]) -> pa.Table:
    """The clips table without `drops` in train, and with every other near-duplicate put back."""
    split, reason = codes(clips["split"]).copy(), codes(clips["drop_reason"]).copy()
    kept = np.array(clips["kept_clip_id"].to_pylist(), object)
    before = reason == _NEAR
    split[before], reason[before], kept[before] = _TRAIN, -1, None
    ids = pa.array(list(drops), pa.string())
    place = pc.index_in(ids, clips["clip_id"].combine_chunks()).to_numpy()
    assert (split[place] == _TRAIN).all(), "only train clips are dropped"
    split[place], reason[place], kept[place] = -1, _NEAR, list(drops.values())
    known = drop_reasons(reason)
    columns = {
        "split": pa.DictionaryArray.from_arrays(pa.array(split, mask=split < 0), list(SPLITS)),
        "drop_reason": pa.DictionaryArray.from_arrays(pa.array(reason, mask=reason < 0), list(known)),
        "kept_clip_id": pa.array(kept, pa.string()),
    }
    return pa.table([columns.get(name, clips[name]) for name in clips.column_names], schema=clips.schema)


def counts_without(manifest: Manifest, clips: pa.Table) -> dict[str, Any]:
    """The counts of dataset.json for `clips`, a version of the manifest's clips table.

    The rows of dropped clips change from `kept` to `near_duplicate`; the fates of each list still sum to its rows.
    """
    counts: dict[str, Any] = copy.deepcopy(manifest.about["counts"])
    recipe, sources = recipe_of(manifest), manifest.catalogue
    curated = curate(list_rows(clips, sources), recipe.policy, sources)
    near = codes(clips["drop_reason"]) == _NEAR
    rows = curated.rows
    lost = (curated.fate == FATES.index("kept")) & near[rows.clip]
    of_list = Counter(zip(rows.source[lost].tolist(), rows.split[lost].tolist(), strict=True))
    for entry in counts["lists"]:
        lost_here = of_list[sources.names.index(entry["source"]), SPLITS.index(entry["split"])]
        kept = entry["kept"] + entry.get(NEAR_DUPLICATE, 0)
        entry |= {"kept": kept - lost_here, NEAR_DUPLICATE: lost_here}
    for fate in ("kept", NEAR_DUPLICATE):
        counts["fates"][fate] = sum(entry[fate] for entry in counts["lists"])
    split = codes(clips["split"])
    counts["train"] = int(np.count_nonzero(split == _TRAIN))
    counts["classes"] = len(np.unique(clips["class_id"].fill_null(-1).to_numpy()[split >= 0]))
    return counts


def _in_train(clips: pa.Table) -> Mask:
    """The clips that curation put into train, including those that an earlier `apply` dropped."""
    return np.asarray((codes(clips["split"]) == _TRAIN) | (codes(clips["drop_reason"]) == _NEAR))
