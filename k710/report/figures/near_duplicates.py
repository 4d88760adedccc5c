"""Groups of clips that look alike, as `k710` found them in the footage."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pyarrow.compute as pc

from k710.errors import ManifestError
from k710.manifest.pairs import about_pairs, read_pairs
from k710.manifest.read import Manifest
from k710.near_duplicates.sides import taken_out

SHOWN_GROUPS = 24
_SHOWN_OF_A_GROUP = 6


def near_duplicate_figures(manifest: Manifest) -> dict[str, Any] | None:
    """Counts of pairs and groups, and the groups of the nearest pairs; None where nobody has looked. Of `clips` in
    `view` `compared` were, both null where the file does not say; of the clips that are proposed to be `dropped`, `out`
    are out of train. `problem`: why the pairs that are there cannot be shown, such as that they are of an earlier
    version of the manifest."""
    try:
        table = read_pairs(manifest)
    except ManifestError as error:
        return {"problem": str(error), "shown": []}
    if table is None:
        return None
    table = table.sort_by([("distance", "ascending"), ("clip_id", "ascending")])
    groups = pc.unique(table["group"].combine_chunks())  # in the order of their nearest pairs
    of_the_nearest = table.filter(pc.is_in(table["group"], groups[:SHOWN_GROUPS]))
    pairs: dict[int, list[dict[str, Any]]] = {number: [] for number in groups[:SHOWN_GROUPS].to_pylist()}
    for pair in of_the_nearest.to_pylist():
        pairs[pair["group"]].append(pair)
    out = taken_out(manifest.clips)
    about = about_pairs(table)
    parameters, counts = (about.get(part) for part in ("parameters", "counts"))
    return {
        **{key: _part(parameters, key) for key in ("view", "threshold_bits", "profile")},
        **{key: _part(counts, key, int) for key in ("clips", "compared")},
        "pairs": len(table),
        "groups": len(groups),
        "mirrored": pc.sum(table["mirrored"]).as_py() or 0,
        "dropped": pc.count_distinct(table["drop_clip_id"]).as_py(),
        "out": len(out.intersection(table["drop_clip_id"].to_pylist())),
        "shown": [_group(number, of_group, out) for number, of_group in pairs.items()],
    }


def _group(number: int, pairs: list[dict[str, Any]], out: set[str]) -> dict[str, Any]:
    dropped = _distinct(pair["drop_clip_id"] for pair in pairs if pair["drop_clip_id"])
    clips = _distinct(name for pair in pairs for name in (pair["clip_id"], pair["other_clip_id"]))
    return {
        "group": number,
        "pairs": len(pairs),
        "num_clips": len(clips),
        "clips": clips[:_SHOWN_OF_A_GROUP],
        "distance": round(min(pair["distance"] or 0.0 for pair in pairs), 4),
        "mirrored": any(pair["mirrored"] for pair in pairs),
        "dropped": dropped,
        "out": [clip_id for clip_id in dropped if clip_id in out],
        "kept": _distinct(pair["kept_clip_id"] for pair in pairs if pair["kept_clip_id"]),
    }


def _part(found: Any, key: str, kind: type = object) -> Any:
    """What a file of pairs says, which may be anything; None where it is not of that kind."""
    value = found.get(key) if isinstance(found, dict) else None
    return value if isinstance(value, kind) else None


def _distinct(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))
