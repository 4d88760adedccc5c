"""Clips that are left out of train after the build, and put back: what `--apply` of near-duplicates and doubts does."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from k710.curation.build import recipe_of
from k710.curation.clips import list_rows
from k710.curation.curate import FATES, codes, curate
from k710.errors import UsageError
from k710.manifest.read import Manifest, open_manifest
from k710.manifest.schema import DROP_REASONS, drop_reasons
from k710.manifest.write import write_manifest
from k710.sources.source import SPLITS

_TRAIN = SPLITS.index("train")
_OF_THE_COMMIT = ("schema_version", "content_hash", "clips", "tools")  # of dataset.json


def check_current(manifest: Manifest) -> None:
    """Raise UsageError unless this is the current version of the manifest: only that one can be changed."""
    if (current := open_manifest(manifest.path).content_hash) != manifest.content_hash:
        raise UsageError(
            f"{manifest.path}: the current version is {current[:16]}, not {manifest.content_hash[:16]}; only "
            "the current version can be changed"
        )


def without(clips: pa.Table, drops: Mapping[str, str | None], reason: str) -> pa.Table:
    """The clips table without `drops` in train, and with every other clip of this drop reason put back.

    `drops`: for each clip the clip that stays instead of it, or None.
    """
    number = DROP_REASONS.index(reason)
    split, reasons = codes(clips["split"]).copy(), codes(clips["drop_reason"]).copy()
    kept = np.array(clips["kept_clip_id"].to_pylist(), object)
    before = reasons == number
    split[before], reasons[before], kept[before] = _TRAIN, -1, None
    ids = pa.array(list(drops), pa.string())
    place = pc.index_in(ids, clips["clip_id"].combine_chunks()).to_numpy()
    assert (split[place] == _TRAIN).all(), "only train clips are dropped"
    split[place], reasons[place], kept[place] = -1, number, list(drops.values())
    known = drop_reasons(reasons)
    columns = {
        "split": pa.DictionaryArray.from_arrays(pa.array(split, mask=split < 0), list(SPLITS)),
        "drop_reason": pa.DictionaryArray.from_arrays(pa.array(reasons, mask=reasons < 0), list(known)),
        "kept_clip_id": pa.array(kept, pa.string()),
    }
    return pa.table([columns.get(name, clips[name]) for name in clips.column_names], schema=clips.schema)


def write_version(
    manifest: Manifest, clips: pa.Table, reason: str, record: tuple[str, dict[str, Any] | None]
) -> Manifest:
    """Write the clips table as a new version, with the counts of dataset.json and a record of the step under its key;
    None removes the record. The old version stays until `k710 prune`."""
    details = {key: copy.deepcopy(part) for key, part in manifest.about.items() if key not in _OF_THE_COMMIT}
    details["counts"] = counts_without(manifest, clips, reason)
    key, facts = record
    details.pop(key, None)
    if facts is not None:
        details[key] = facts
    return write_manifest(manifest.path, clips, details, force=True)


def counts_without(manifest: Manifest, clips: pa.Table, reason: str) -> dict[str, Any]:
    """The counts of dataset.json for `clips`, a version of the manifest's clips table.

    The rows of clips that are left out for this reason change from `kept` to it. The fates of each list still sum to
    its rows.
    """
    counts: dict[str, Any] = copy.deepcopy(manifest.about["counts"])
    recipe, sources = recipe_of(manifest), manifest.catalogue
    curated = curate(list_rows(clips, sources), recipe.policy, sources)
    left_out = codes(clips["drop_reason"]) == DROP_REASONS.index(reason)
    rows = curated.rows
    lost = (curated.fate == FATES.index("kept")) & left_out[rows.clip]
    of_list = Counter(zip(rows.source[lost].tolist(), rows.split[lost].tolist(), strict=True))
    for entry in counts["lists"]:
        lost_here = of_list[sources.names.index(entry["source"]), SPLITS.index(entry["split"])]
        kept = entry["kept"] + entry.get(reason, 0)
        entry |= {"kept": kept - lost_here, reason: lost_here}
    for fate in ("kept", reason):
        counts["fates"][fate] = sum(entry[fate] for entry in counts["lists"])
    split = codes(clips["split"])
    counts["train"] = int(np.count_nonzero(split == _TRAIN))
    counts["classes"] = len(np.unique(clips["class_id"].fill_null(-1).to_numpy()[split >= 0]))
    return counts
