"""Groups of clips that look alike, as `k710` found them in the footage."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pyarrow as pa
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
    groups: dict[int, list[dict[str, Any]]] = {}
    for pair in table.sort_by([("distance", "ascending"), ("clip_id", "ascending")]).to_pylist():
        groups.setdefault(pair["group"], []).append(pair)
    return {
        "pairs": len(table),
        "groups": len(groups),
        "mirrored": sum(bool(pair["mirrored"]) for pairs in groups.values() for pair in pairs),
        "dropped": len({pair["drop_clip_id"] for pairs in groups.values() for pair in pairs} - {None}),
        "shown": [_group(number, pairs) for number, pairs in list(groups.items())[:SHOWN_GROUPS]],
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
