"""Clips whose label something contradicts, as `k710 doubts` lists them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from k710.doubts.find import find_doubts
from k710.errors import ManifestError
from k710.evaluation.files import read_predictions
from k710.manifest.read import Manifest

SHOWN_DOUBTS = 24


def doubt_figures(manifest: Manifest, predictions: Sequence[Path]) -> dict[str, Any]:
    """The number of `labelled` and of contradicted clips, `counts` by kind of witness, and the first ones (`shown`).

    `predictions`: evaluations of models. `problem`: why the pairs of near-duplicates cannot be asked.
    """
    read = [(path, read_predictions(path)) for path in predictions]
    try:
        doubts = find_doubts(manifest, read)
    except ManifestError as error:
        return {"problem": str(error), "clips": 0, "shown": []}
    shown = [
        {
            "clip_id": doubt.clip_id,
            "split": doubt.split,
            "label": doubt.label,
            "suggested": list(doubt.suggested),
            "kinds": list(doubt.kinds),
            "margin": round(doubt.margin, 4),
        }
        for doubt in doubts.found[:SHOWN_DOUBTS]
    ]
    return {
        "labelled": doubts.num_labelled,
        "clips": len(doubts.found),
        "counts": doubts.counts,
        "notes": list(doubts.notes) if predictions else [],
        "shown": shown,
    }
