"""How much of a manifest a store has: by view and split, and why the rest is not there."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from k710.fetch.wanted import wanted_mask
from k710.manifest.read import Manifest
from k710.sources.source import SPLITS
from k710.store.failures import FAILURES
from k710.store.store import Store


@dataclass(frozen=True)
class SplitStatus:
    """The clips of one split of a view: in the store, failed by class, and not settled yet."""

    view: str
    split: str
    clips: int
    fetched: int
    flagged: int
    failed: dict[str, int]

    @property
    def unsettled(self) -> int:
        return self.clips - self.fetched - sum(self.failed.values())


def status(manifest: Manifest, store: Store) -> list[SplitStatus]:
    """A line per view and split that the manifest has; a clip that several views share counts in each."""
    clips = manifest.clips
    media = store.best_rows(("clip_id", "failure", "flags"))
    place = pc.index_in(clips["clip_id"], media["clip_id"].combine_chunks())
    failure = media["failure"].combine_chunks().take(place.combine_chunks())
    flagged = pc.greater(pc.list_value_length(media["flags"].combine_chunks()), 0).take(place.combine_chunks())
    settled = pc.is_valid(place).combine_chunks()
    lines = []
    for view in manifest.catalogue.views:
        if view != manifest.catalogue.union.name and view not in manifest.sources:
            continue
        for split in SPLITS:
            mask = wanted_mask(clips, view=view, splits=(split,), sources=manifest.catalogue)
            total = pc.sum(mask).as_py() or 0
            if not total:
                continue
            here = mask.combine_chunks()
            reasons = failure.filter(pc.and_(here, settled))
            counts = {entry["values"]: entry["counts"] for entry in pc.value_counts(reasons).to_pylist()}
            failed = {name: counts[name] for name in FAILURES if name in counts}
            flags = pc.sum(pc.fill_null(flagged.filter(here), False)).as_py() or 0
            lines.append(SplitStatus(view, split, total, counts.get(None, 0), flags, failed))
    return lines


def flag_counts(manifest: Manifest, store: Store) -> dict[str, int]:
    """How many of the manifest's clips carry each flag in the store, which may be other manifests' too."""
    media = store.best_rows(("clip_id", "flags"))
    media = media.filter(pc.is_in(media["clip_id"], manifest.clips["clip_id"].combine_chunks()))
    flags = pa.concat_arrays([chunk.flatten() for chunk in media["flags"].chunks] or [pa.array([], pa.string())])
    return {entry["values"]: entry["counts"] for entry in pc.value_counts(flags).to_pylist()}
