"""What became of the rows of the lists, and what the lists share: attrition, overlaps, leaks by policy."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from k710.curation.attrition import (
    beside_the_printed,
    list_warnings,
    policy_words,
    why_it_differs,
    why_not_compared,
)
from k710.curation.audit import ids_by_splits, leaks_by_policy
from k710.curation.curate import FATES
from k710.curation.overlap import overlaps
from k710.errors import ManifestError
from k710.manifest.read import Manifest
from k710.near_duplicates.sides import taken_out
from k710.sources.catalogue import Catalogue
from k710.sources.known import KINETICS, UNION

SHOWN_MALFORMED = 50


def attrition_figures(manifest: Manifest) -> dict[str, Any] | None:
    """The counts of dataset.json with the paper's beside, and the flow of rows; None where a manifest has no counts.

    Raises ManifestError for counts that are not what a build writes.
    """
    counts, recipe, union = manifest.about.get("counts"), manifest.about["recipe"], manifest.catalogue.union
    if not counts:
        return None
    try:
        malformed = [
            {"list": f"{entry['source']} {entry['split']}", "line": bad["line"], "reason": bad["reason"]}
            for entry in manifest.about["sources"]
            for bad in entry.get("malformed", ())
        ]
        not_compared = why_not_compared(counts, union)
        beside = [
            {
                "what": one.what,
                "here": one.here,
                "published": one.published,
                "paper": one.paper,
                "difference": one.difference,
            }
            for one in (() if not_compared else beside_the_printed(counts))
        ]
        warnings = list_warnings(counts["lists"], counts.get("misnamed", {}))
        return {
            "policy": policy_words(recipe, union),
            "rows": counts["rows"],
            "lists": counts["lists"],
            "fates": counts["fates"],
            "flows": row_flows(counts["lists"], union.short_title),
            **({"union": union.short_title} if union.is_own else {}),
            "beside_the_printed": beside,
            "why_it_differs": not_compared or why_it_differs(recipe, warnings),
            "list_warnings": list(warnings.values()),
            "malformed": malformed[:SHOWN_MALFORMED],
            "num_malformed": len(malformed),
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise ManifestError(f"{manifest.path / 'dataset.json'}: damaged: its counts lack a part ({error!r})") from None


def row_flows(lists: list[dict[str, Any]], union: str = UNION.short_title) -> list[dict[str, Any]]:
    """From each list to each outcome, the rows that went there. A kept row's clip is in the split of its own list."""
    flows = []
    for entry in lists:
        name = f"{entry['source']} {entry['split']}"
        ways = {f"{union} {entry['split']}": entry["kept"]}
        ways |= {fate: entry.get(fate, 0) for fate in FATES if fate != "kept"}
        flows += [{"list": name, "outcome": outcome, "rows": rows} for outcome, rows in ways.items() if rows]
    return flows


def overlap_figures(
    clips: pa.Table, leaked_rows: dict[str, int] | None = None, sources: Catalogue = KINETICS
) -> dict[str, Any]:
    """What every two lists share, and what each policy would make of these lists. Needs curation's columns, and
    `leaked_rows` of a build's counts where they have it. `sources`: the catalogue of the manifest."""
    found = overlaps(clips)
    return {
        "lists": [f"{source} {split}" for source, split in found.lists],
        "by_id": found.by_id.tolist(),
        "by_clip": found.by_clip.tolist(),
        "ids_by_splits": ids_by_splits(clips),
        "policies": leaks_by_policy(clips, leaked_rows, sources),
        "near_duplicates": len(taken_out(clips)),
    }
