"""How many of a manifest's clips can still be had: the figures of a ledger."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from k710.ledger.summary import decay, gone_for_everybody, states
from k710.manifest.read import Manifest


def availability_figures(manifest: Manifest, ledger: pa.Table) -> dict[str, Any]:
    """The figures of the ledger's rows that are of the manifest's clips: `witnesses`, the latest answers of each origin
    (`origins`), `months` with the clips that YouTube was asked for and those that it had, and the number of videos that
    are `gone` for everybody."""
    here = ledger.filter(pc.is_in(ledger["clip_id"], manifest.clips["clip_id"].combine_chunks()))
    return {
        "witnesses": len(pc.unique(here["witness"])),
        "origins": [vars(state) for state in states(here)],
        "months": [vars(month) for month in decay(here)],
        "gone": len(gone_for_everybody(here)),
    }
