"""The classes: how large each is in every list, how uneven they are, and which have lost most."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from k710.curation.curate import codes
from k710.lists.labels import union_classes_of
from k710.manifest.listings import UNION_LISTING, classes_in, masks_of
from k710.sources.catalogue import Catalogue
from k710.sources.known import KINETICS
from k710.sources.source import SPLITS, Source
from k710.store.failures import OF_THE_VIDEO

_NO_CLASS = -1


def class_figures(
    clips: pa.Table, labels: tuple[str, ...], media: pa.Table | None, sources: Catalogue = KINETICS
) -> dict[str, Any]:
    """For each class of the union its clips by view and split, and where there are media rows (clip_id, failure; one
    per clip) how many of its clips in the union were fetched, failed and vanished.

    A source's clips are counted under the union's class of its own label, if it has one. `sources`: the catalogue of
    the manifest.
    """
    num_classes, union = len(labels), sources.union
    of_union = _by_split(clips, UNION_LISTING, None, num_classes)
    columns = {f"{union.short_title} {split}": counts for split, counts in of_union.items()}
    for source in sources.members:
        to_union = np.array([*union_classes_of(sources[source], sources), _NO_CLASS])
        by_split = _by_split(clips, source, to_union, num_classes)
        columns |= {f"{source} {split}": counts for split, counts in by_split.items()}
    fates = None if media is None else _fates(clips, media, num_classes)
    rows = [
        {
            "class_id": number,
            "label": label,
            "clips": {name: int(counts[number]) for name, counts in columns.items()},
            **({} if fates is None else {name: int(counts[number]) for name, counts in fates.items()}),
        }
        for number, label in enumerate(labels)
        if any(counts[number] for counts in columns.values())
    ]
    beside = [_beside(clips, source) for source in sources.own if not sources.in_union(source.name)]
    spreads = [_spread(name, c) for name, c in columns.items()]
    found = {"splits": list(columns), "rows": rows, "imbalance": spreads, **({"beside": beside} if beside else {})}
    return found | ({"union": union.short_title} if union.is_own else {})


def _beside(clips: pa.Table, source: Source) -> dict[str, Any]:
    """The clips of each class of a source whose classes are none of the union's, by split."""
    by_split = _by_split(clips, source.name, None, len(source.classes))
    rows = [
        {"label": label, "clips": {split: int(counts[number]) for split, counts in by_split.items()}}
        for number, label in enumerate(source.classes)
    ]
    return {"source": source.name, "title": source.title, "splits": list(by_split), "rows": rows}


def _own(clips: pa.Table) -> npt.NDArray[np.int64]:
    return np.asarray(clips["class_id"].fill_null(_NO_CLASS).to_numpy(), np.int64)


def _by_split(
    clips: pa.Table, listing: str, to_union: npt.NDArray[np.int64] | None, num_classes: int
) -> dict[str, npt.NDArray[np.int64]]:
    """(classes,) clips of each class in each split that has any; clips without a label are nobody's.

    `to_union`: the union's class of each of its own, and _NO_CLASS at the end.
    """
    masks = masks_of(clips, listing)
    found = {}
    for name in SPLITS:
        class_id = classes_in(clips, listing, name, masks).astype(np.int64)
        class_id = class_id if to_union is None else to_union[class_id]
        of_split = class_id[class_id >= 0]
        if len(of_split):
            found[name] = np.bincount(of_split, minlength=num_classes)
    return found


def _fates(clips: pa.Table, media: pa.Table, num_classes: int) -> dict[str, npt.NDArray[np.int64]]:
    """(classes,) of the union's clips those fetched, failed for any reason, and failed because the video is gone."""
    place = pc.index_in(clips["clip_id"], media["clip_id"].combine_chunks())
    failure = media["failure"].combine_chunks().take(place.combine_chunks())
    vanished = pc.is_in(failure, pa.array(list(OF_THE_VIDEO))).to_numpy(zero_copy_only=False)
    failed = failure.is_valid().to_numpy(zero_copy_only=False)
    settled = place.is_valid().to_numpy()
    class_id = _own(clips)
    in_union = (codes(clips["split"]) >= 0) & (class_id >= 0) & settled
    masks = {"fetched": ~failed, "failed": failed, "vanished": vanished}
    return {name: np.bincount(class_id[in_union & mask], minlength=num_classes) for name, mask in masks.items()}


def _spread(name: str, counts: npt.NDArray[np.int64]) -> dict[str, Any]:
    """How uneven the classes of a list are, among those that it has."""
    sizes = counts[counts > 0]
    largest, smallest = int(sizes.max()), int(sizes.min())
    return {
        "list": name,
        "classes": len(sizes),
        "clips": int(sizes.sum()),
        "smallest": smallest,
        "median": float(np.median(sizes)),
        "largest": largest,
        "ratio": round(largest / smallest, 2),
    }
