"""What the clips table says of the lists of each source: the only file that spells the names of these columns.

A source has two columns: `{source}_split` names the splits whose lists hold the clip, and `{source}_class_id` is the
label that they give it, an index in the source's own class order. A table in which lists of one source label a clip
differently has `{source}_class_ids` too (memberships.py says how). The columns of the curated union are `split` and
`class_id`. All functions here take a listing: the name of a source, or UNION_LISTING (`Catalogue.listing` of a view).
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from k710.manifest.memberships import Classes, Mask, Masks, in_splits_of, split_masks, splits_named
from k710.sources.source import SPLITS

NAMES = pa.dictionary(pa.int8(), pa.string())

UNION_LISTING = ""  # whatever the union is called

_SPLIT = "_split"


def split_name(listing: str) -> str:
    """The column with the splits of a listing."""
    return f"{_prefix(listing)}split"


def class_id_name(listing: str) -> str:
    """The column with the labels of a listing."""
    return f"{_prefix(listing)}class_id"


def class_ids_name(listing: str) -> str:
    """The column, in few tables, with the label that each split of a listing gives the clip."""
    return f"{_prefix(listing)}class_ids"


def _prefix(listing: str) -> str:
    return f"{listing}_" if listing else ""


def split_names(sources: Iterable[str]) -> tuple[str, ...]:
    """The columns with the splits of these sources."""
    return tuple(map(split_name, sources))


def sources_in(columns: Iterable[str]) -> tuple[str, ...]:
    """The sources whose columns are among these, in their order."""
    return tuple(name.removesuffix(_SPLIT) for name in columns if name.endswith(_SPLIT))


def fields_of(sources: Iterable[str]) -> list[pa.Field]:
    """The two columns of each source, as they are in every clips table that has it."""
    return [
        pa.field(name, kind)
        for source in sources
        for name, kind in ((split_name(source), NAMES), (class_id_name(source), pa.int16()))
    ]


def class_ids_fields(sources: Iterable[str]) -> list[pa.Field]:
    """The columns of these sources that a clips table has only where a clip needs them."""
    return [pa.field(class_ids_name(source), pa.list_(pa.int16())) for source in sources]


def class_ids_beside(sources: Iterable[str]) -> dict[str, str]:
    """For the column of labels of each source, the other that comes with it where a table has it."""
    return {class_id_name(source): class_ids_name(source) for source in sources}


def masks_of(clips: pa.Table, listing: str) -> Masks:
    """(clips,) the splits of a listing that each clip is in, as bits. Raises ManifestError for what is no split."""
    return split_masks(clips[split_name(listing)])


def is_listed(clips: pa.Table, listing: str) -> pa.ChunkedArray:
    """Which clips are in any split of a listing."""
    return pc.is_valid(clips[split_name(listing)])


def is_in(clips: pa.Table, listings: Iterable[str], splits: Iterable[str]) -> Mask:
    """(clips,) which clips are in one of these splits of one of these listings."""
    splits = tuple(splits)
    masks = (in_splits_of(masks_of(clips, listing), splits) for listing in listings)
    found: Mask = functools.reduce(np.logical_or, masks)
    return found


def class_ids_of(clips: pa.Table, listing: str) -> pa.ChunkedArray:
    """The label of each clip in a listing, an index in its class order; null without a label."""
    return clips[class_id_name(listing)]


def classes_in(clips: pa.Table, listing: str, split: str, masks: Masks | None = None) -> Classes:
    """(clips,) the label that one split of a listing gives each clip, an index in its class order; -1 for a
    clip that has no label there or is not in the split. `masks`: those of its splits, where they are known."""
    masks = masks_of(clips, listing) if masks is None else masks
    here = in_splits_of(masks, (split,))
    classes = np.where(here, class_ids_of(clips, listing).fill_null(-1).to_numpy(), -1).astype(np.int16)
    if class_ids_name(listing) not in clips.column_names:
        return classes
    own = clips[class_ids_name(listing)]
    index = np.flatnonzero(own.is_valid().to_numpy() & here)
    if not len(index):
        return classes
    lists = pa.concat_arrays(own.take(pa.array(index)).chunks)
    lengths = pc.list_value_length(lists).to_numpy()
    before = masks[index] & np.uint8((1 << SPLITS.index(split)) - 1)  # the splits before this one
    place = np.cumsum(lengths) - lengths + np.array([bits.bit_count() for bits in range(1 << len(SPLITS))])[before]
    classes[index] = lists.flatten().fill_null(-1).to_numpy()[place]
    return classes


def lists_of(clip: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The lists, (source, split), that hold a clip: a row of the clips table as a dict."""
    return [(source, split) for source in sources_in(clip) for split in splits_named(clip[split_name(source)])]
