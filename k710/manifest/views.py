"""Views: the manifest as one release sees it, or as curation made it, with class indices of its own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from k710.lists.labels import class_names
from k710.manifest.listings import class_id_name, class_ids_of, classes_in, is_listed, masks_of, split_name
from k710.manifest.memberships import is_in_several, memberships
from k710.sources.catalogue import Catalogue
from k710.sources.known import KINETICS
from k710.sources.source import SPLITS

_SHOWN = ("clip_id", "youtube_id", "time_start_s", "time_end_s")


def view(clips: pa.Table, name: str, sources: Catalogue = KINETICS, *, dialect: str = "canonical") -> pa.Table:
    """The clips of a view: clip_id, youtube_id, time_start_s, time_end_s, split, label, class_id; in clip_id order.

    The union (`k710`) is the curated dataset; a source is what its lists say, untouched by curation: a clip that it
    lists in several splits has a row for each. `label` is the view's own name of the class and `class_id` its index in
    the dialect; both are null in lists without labels. `sources`: the catalogue of the manifest. Of the first four
    columns, those that `clips` has. Raises UsageError for an unknown view or dialect.
    """
    listing = sources.listing(sources.check_view(name))
    clips = _one_row_per_split(clips.filter(is_listed(clips, listing)), listing)
    names, canonical = class_names(name, dialect, sources), class_names(name, sources=sources)
    index = {label: number for number, label in enumerate(names)}
    to_dialect = pa.array([index[label] for label in canonical], pa.int16())
    class_id = pc.take(to_dialect, class_ids_of(clips, listing).combine_chunks())
    return pa.table(
        {
            **{column: clips[column] for column in _shown_in(clips)},
            "split": clips[split_name(listing)],
            "label": pa.DictionaryArray.from_arrays(_one_array(class_id), pa.array(names, pa.string())),
            "class_id": class_id,
        }
    )


def view_columns(name: str, sources: Catalogue, shown: Sequence[str] = _SHOWN) -> tuple[str, ...]:
    """The columns of the clips table that `view` reads; `shown`: which of those that it copies."""
    listing = sources.listing(name)
    return (*shown, split_name(listing), class_id_name(listing))


def _shown_in(clips: pa.Table) -> list[str]:
    return [column for column in _SHOWN if column in clips.column_names]


def _one_row_per_split(clips: pa.Table, listing: str) -> pa.Table:
    """The clips with a row for each split that they are in; `split` and `class_id` are those of the row."""
    masks = masks_of(clips, listing)
    if not is_in_several(masks).any():
        return clips
    clip, split = memberships(masks)
    by_split = np.stack([classes_in(clips, listing, each, masks) for each in SPLITS])
    class_id = by_split[split, clip]
    columns = {
        split_name(listing): pa.DictionaryArray.from_arrays(pa.array(split), pa.array(SPLITS, pa.string())),
        class_id_name(listing): pa.array(class_id, mask=class_id < 0),
    }
    rows = clips.select(_shown_in(clips)).take(pa.array(clip))
    for column, values in columns.items():
        rows = rows.append_column(column, values)
    return rows


def split_of(table: pa.Table, split: str) -> pa.Table:
    """The rows of one split of a view."""
    return table.filter(pc.equal(table["split"].cast(pa.string()), split))


def names_in(table: pa.Table) -> list[str]:
    """The names of all classes of a view, in its index order, whether it has clips of them or not."""
    names: list[str] = _one_array(table["label"]).dictionary.to_pylist()
    return names


def splits_of(table: pa.Table) -> tuple[str, ...]:
    """The splits that a view has, in the order train, val, test."""
    present = set(pc.unique(table["split"].cast(pa.string())).to_pylist())
    return tuple(split for split in SPLITS if split in present)


def _one_array(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    if isinstance(column, pa.Array):
        return column
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
