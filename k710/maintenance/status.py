"""How much of a manifest a store has: by view and split, and why the rest is not there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from k710.manifest.listings import masks_of, split_name
from k710.manifest.memberships import in_splits_of
from k710.manifest.read import Manifest
from k710.sources.source import SPLITS
from k710.store.failures import FAILURES
from k710.store.store import Store, best_of


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
    return status_and_flags(manifest, store)[0]


def status_and_flags(manifest: Manifest, store: Store) -> tuple[list[SplitStatus], dict[str, int]]:
    """The lines of `status`, and how many of the manifest's clips carry each flag in the store, which may be other
    manifests' too. The store is read once."""
    catalogue = manifest.catalogue
    shown = [view for view in catalogue.views if view == catalogue.union.name or view in manifest.sources]
    listings = [(view, catalogue.listing(view)) for view in shown]
    clips = manifest.read_clips(("clip_id", *(split_name(listing) for _, listing in listings)))
    media = store.rows(("clip_id", "failure", "settled_at", "flags"))
    row = best_of(media, clips["clip_id"].combine_chunks())
    # Failures as numbers, which are counted faster than text: -1 for what is there, -2 for what is not settled.
    failures = media["failure"].dictionary_encode().unify_dictionaries()
    codes = np.concatenate([np.zeros(0, np.int32), *(_codes(chunk) for chunk in failures.chunks), [-2]])[row]
    kinds = failures.chunk(0).dictionary.to_pylist() if failures.num_chunks else []
    num_flags = pc.fill_null(pc.list_value_length(media["flags"]), 0).to_numpy()
    flagged = np.concatenate([num_flags > 0, [False]])[row]
    lines = []
    for view, listing in listings:
        masks = masks_of(clips, listing)
        for split in SPLITS:
            here = in_splits_of(masks, (split,))
            total = int(here.sum())
            if not total:
                continue
            counts = np.bincount(codes[here] + 2, minlength=len(kinds) + 2)
            by_kind = {name: int(count) for name, count in zip(kinds, counts[2:], strict=True) if count}
            failed = {name: by_kind[name] for name in FAILURES if name in by_kind}
            lines.append(SplitStatus(view, split, total, int(counts[1]), int((flagged & here).sum()), failed))
    flags = pc.value_counts(media["flags"].take(pa.array(row[flagged])).combine_chunks().flatten())
    return lines, {entry["values"]: entry["counts"] for entry in flags.to_pylist()}


def _codes(failures: pa.DictionaryArray) -> npt.NDArray[np.int32]:
    codes: npt.NDArray[np.int32] = pc.fill_null(failures.indices, -1).to_numpy()
    return codes
