"""Groups of clips that look alike, as `k710` found them in the footage."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from k710.errors import ManifestError
from k710.manifest import Manifest

SHOWN_GROUPS = 24
_SHOWN_OF_A_GROUP = 6
FILE = "near_duplicates.parquet"
SCHEMA = pa.schema(
    [
        pa.field("clip_id", pa.string()),
        pa.field("other_clip_id", pa.string()),
        pa.field("distance", pa.float32()),
        pa.field("shift_s", pa.float32()),
        pa.field("mirrored", pa.bool_()),
        pa.field("group", pa.int32()),
        pa.field("drop_clip_id", pa.string()),
        pa.field("kept_clip_id", pa.string()),
    ]
)


def read_pairs(manifest: Manifest) -> pa.Table | None:
    """The pairs (SCHEMA) that stand beside the manifest, or None where nobody has looked. Raises ManifestError."""
    path = manifest.path / FILE
    if not path.exists():
        return None
    try:
        return pa.parquet.read_table(path, columns=SCHEMA.names).cast(SCHEMA)
    except (OSError, pa.ArrowException, KeyError, ValueError) as error:
        raise ManifestError(f"{path}: no pairs of near-duplicates can be read from it: {error}") from None


def near_duplicate_figures(manifest: Manifest) -> dict[str, Any] | None:
    """Counts of pairs and groups, and the groups of the nearest pairs; None where there are no pairs to be read."""
    table = read_pairs(manifest)
    if table is None:
        return None
    table = table.sort_by([("distance", "ascending"), ("clip_id", "ascending")])
    groups = pc.unique(table["group"].combine_chunks())  # in the order of their nearest pairs
    of_the_nearest = table.filter(pc.is_in(table["group"], groups[:SHOWN_GROUPS]))
    pairs: dict[int, list[dict[str, Any]]] = {number: [] for number in groups[:SHOWN_GROUPS].to_pylist()}
    for pair in of_the_nearest.to_pylist():
        pairs[pair["group"]].append(pair)
    return {
        "pairs": len(table),
        "groups": len(groups),
        "mirrored": pc.sum(table["mirrored"]).as_py() or 0,
        "dropped": pc.count_distinct(table["drop_clip_id"]).as_py(),
        "shown": [_group(number, of_group) for number, of_group in pairs.items()],
    }


def _group(number: int, pairs: list[dict[str, Any]]) -> dict[str, Any]:
    clips = _distinct(name for pair in pairs for name in (pair["clip_id"], pair["other_clip_id"]))
    return {
        "group": number,
        "pairs": len(pairs),
        "num_clips": len(clips),
        "clips": clips[:_SHOWN_OF_A_GROUP],
        "distance": round(min(pair["distance"] or 0.0 for pair in pairs), 4),
        "mirrored": any(pair["mirrored"] for pair in pairs),
        "dropped": _distinct(pair["drop_clip_id"] for pair in pairs if pair["drop_clip_id"]),
        "kept": _distinct(pair["kept_clip_id"] for pair in pairs if pair["kept_clip_id"]),
    }


def _distinct(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))
