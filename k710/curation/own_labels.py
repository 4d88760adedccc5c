"""Clips that one list of a source beside the union labels in several ways. The clips table keeps one of the labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from k710.curation.curate import Rows, list_and_clip
from k710.lists.labels import class_names
from k710.sources.source import SPLITS

OWN_CONFLICTS = "labels_in_one_list"  # in a build's counts, where there are any


def own_label_conflicts(rows: Rows, clip_ids: pa.ChunkedArray) -> list[dict[str, Any]]:
    """For each clip with several labels in one list: clip_id, source, split and the labels, of which the first counts.

    Only of sources whose classes are none of the union's: of others, the clips table has every label. `clip_ids` are
    those of the clips table.
    """
    outsiders = rows.outsiders
    if outsiders is None:
        return []
    index = np.flatnonzero(outsiders & (rows.release_class_id >= 0))
    lists = list_and_clip(rows)[index]
    pairs = np.unique(np.stack([lists, rows.release_class_id[index].astype(np.int64)]), axis=1)
    several, counts = np.unique(pairs[0], return_counts=True)
    found = []
    for key in several[counts > 1].tolist():
        clip, place = divmod(key, len(rows.sources.names) * len(SPLITS))
        source, split = rows.sources.names[place // len(SPLITS)], SPLITS[place % len(SPLITS)]
        names = class_names(source, sources=rows.sources)
        labels = [names[label] for label in pairs[1][pairs[0] == key].tolist()]
        found.append({"clip_id": clip_ids[clip].as_py(), "source": source, "split": split, "labels": labels})
    return found
