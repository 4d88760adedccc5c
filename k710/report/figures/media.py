"""What a store holds of a manifest: what is there, what failed and why, and what the clips are like."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from k710.maintenance.status import status
from k710.manifest.read import Manifest
from k710.store.failures import FAILURES
from k710.store.store import Store

READ = ("clip_id", "failure", "message", "size", "width", "height", "fps", "duration_s", "codec", "flags")
SHOWN_KINDS = 12
_MESSAGES = 3
_BINS = 30


def media_of(manifest: Manifest, store: Store, columns: Iterable[str] = READ) -> pa.Table:
    """The store's row of each clip of the manifest that it settled; a store may serve other manifests too.

    Raises StoreError where a media file cannot be read.
    """
    rows = store.best_rows(columns)
    return rows.filter(pc.is_in(rows["clip_id"], manifest.clips["clip_id"].combine_chunks()))


def media_figures(manifest: Manifest, store: Store, media: pa.Table) -> dict[str, Any]:
    """`media` is what `media_of` gives. Numbers of what is there are of successes alone."""
    there = media.filter(pc.is_null(media["failure"]))
    sizes = pc.binary_join_element_wise(there["width"].cast(pa.string()), there["height"].cast(pa.string()), "x")
    fps = pc.round(there["fps"], 2).cast(pa.string())
    flags = pa.chunked_array([chunk.flatten() for chunk in there["flags"].chunks], pa.string())
    return {
        "store": str(store.root),
        "profile": store.profile_folder,
        "status": [vars(line) | {"unsettled": line.unsettled} for line in status(manifest, store)],
        "settled": len(media),
        "fetched": len(there),
        "failures": _failures(media),
        "bytes": pc.sum(there["size"]).as_py() or 0,
        "duration_s": pc.sum(there["duration_s"]).as_py() or 0.0,
        "flags": _kinds(flags),
        "codecs": _kinds(there["codec"]),
        "resolutions": _kinds(sizes),
        "frame_rates": _kinds(fps),
        "durations": _histogram(there["duration_s"], whole=True),
        "sizes": _histogram(there["size"]),
    }


def _failures(media: pa.Table) -> list[dict[str, Any]]:
    """The classes of failure, the most frequent first, each with its commonest messages."""
    failed = media.filter(media["failure"].is_valid())
    found = []
    for entry in _kinds(failed["failure"], shown=len(failed)):
        messages = failed["message"].filter(pc.equal(failed["failure"], entry["kind"]))
        meaning = FAILURES.get(entry["kind"], "")
        found.append({**entry, "meaning": meaning, "messages": _kinds(messages, shown=_MESSAGES)})
    return found


def _kinds(values: pa.ChunkedArray, *, shown: int = SHOWN_KINDS) -> list[dict[str, Any]]:
    """The most frequent values with their counts; the rest as one, `kind` None, with how many `kinds` it is of."""
    counted = pc.value_counts(pc.drop_null(values)).to_pylist()
    pairs = sorted(((entry["values"], entry["counts"]) for entry in counted), key=lambda pair: (-pair[1], pair[0]))
    found = [{"kind": kind, "clips": count} for kind, count in pairs[:shown]]
    if rest := pairs[shown:]:
        found.append({"kind": None, "kinds": len(rest), "clips": sum(count for _, count in rest)})
    return found


def _histogram(values: pa.ChunkedArray, *, whole: bool = False) -> dict[str, Any] | None:
    """Counts between edges (one more than counts); `whole`: edges at whole numbers. None of nothing."""
    numbers: npt.NDArray[Any] = pc.drop_null(values).to_numpy()
    numbers = numbers[np.isfinite(numbers)]
    if not len(numbers):
        return None
    low, high = float(numbers.min()), float(numbers.max())
    step = _round_step((high - low) / _BINS, whole=whole)
    first, last = np.floor(low / step), max(np.floor(low / step) + 1, np.ceil(high / step))
    edges = np.arange(first, last + 1) * step
    if high >= edges[-1]:
        edges = np.append(edges, edges[-1] + step)
    counts = np.histogram(numbers, edges)[0]
    return {
        "edges": edges.tolist(),
        "counts": counts.tolist(),
        "low": low,
        "high": high,
        "median": float(np.median(numbers)),
    }


def _round_step(step: float, *, whole: bool) -> float:
    """The next larger of 1, 2, 5, 10, 20, …"""
    least = 1.0 if whole else 1e-9
    if step <= least:
        return least if whole else 1.0
    power = 10.0 ** np.floor(np.log10(step))
    return float(next(factor * power for factor in (1, 2, 5, 10) if factor * power >= step * (1 - 1e-9)))
