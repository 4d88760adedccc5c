"""List rows -> the clips table, one row per distinct clip with what each release says of it; and back again."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from k710.curation.clip_keys import changes
from k710.curation.curate import Curated, Rows, constant, row_schema
from k710.lists.labels import class_names, union_classes_of
from k710.manifest.clip_ids import clip_ids
from k710.manifest.listings import class_id_name, class_ids_name, classes_in, masks_of, split_name
from k710.manifest.memberships import in_splits_of, label_columns, split_column
from k710.manifest.schema import clips_schema, drop_reasons
from k710.sources.catalogue import Catalogue
from k710.sources.known import KINETICS
from k710.sources.source import SPLITS


def clips_table(curated: Curated) -> pa.Table:
    """The clips table (manifest.table_schema) in clip_id order.

    A clip's label comes from its train and val rows, by precedence of releases; labels that lost stand in
    `other_class_ids`. Each release's own splits and labels are as published, whatever curation decided. The table has
    the label of each split too where the lists of one release label a clip differently (listings.py).
    """
    rows, sources = curated.rows, curated.rows.sources
    with ThreadPoolExecutor(1) as pool:  # numpy and Arrow leave the interpreter free
        published = [pool.submit(_as_published, rows, source, len(curated.split)) for source in sources.names]
        first = np.flatnonzero(changes(rows.clip)).astype(np.int32)  # the row whose label counts
        class_id = np.where(rows.never_in[first], np.int16(-1), rows.class_id[first])
        place = rows.table.select(["youtube_id", "time_start_s", "time_end_s"]).take(pa.array(rows.order[first]))
        names = clip_ids(*place.columns)
        columns = {
            "clip_id": names,
            **dict(zip(place.column_names, place.columns, strict=True)),
            "label": _named(class_id, class_names(sources.union.name, sources=sources)),
            "class_id": _nullable(class_id),
            "other_class_ids": _other_class_ids(rows, class_id),
            "split": _named(curated.split, SPLITS),
            "drop_reason": _named(curated.drop_reason, drop_reasons(curated.drop_reason)),
            "kept_clip_id": names.take(pa.array(curated.kept_clip, mask=curated.kept_clip < 0)),
        }
        for of_source in published:
            columns |= of_source.result()
    return pa.table(columns, schema=clips_schema(columns, sources)).combine_chunks()


def list_rows(clips: pa.Table, sources: Catalogue = KINETICS) -> pa.Table:
    """The list rows (curate.row_schema) that a clips table stands for: one for each clip and list that has it.
    `sources`: the catalogue of the manifest."""
    parts, schema = [], row_schema(sources)
    for source, release in sources.sources.items():
        masks = masks_of(clips, source)
        to_union = np.array([*union_classes_of(release, sources), -1], np.int16)
        for split in SPLITS:
            listed = np.flatnonzero(in_splits_of(masks, (split,)))
            if not len(listed):
                continue
            release_class = classes_in(clips, source, split, masks)[listed]
            place = clips.select(["youtube_id", "time_start_s", "time_end_s"]).take(pa.array(listed))
            columns = [
                constant(source, sources.names, len(listed)),
                constant(split, SPLITS, len(listed)),
                pa.array(np.zeros(len(listed), np.int32)),
                *place.columns,
                pa.array(release_class),
                pa.array(to_union[release_class]),
            ]
            parts.append(pa.table(columns, schema=schema))
    return pa.concat_tables(parts).combine_chunks() if parts else schema.empty_table()


def _other_class_ids(rows: Rows, class_id: npt.NDArray[np.int16]) -> pa.Array:
    """For each clip, the classes that other train and val rows give it, ascending; null where there are none."""
    contradicts = ~rows.never_in & (rows.class_id != class_id[rows.clip])
    pairs = np.unique(rows.clip[contradicts].astype(np.int64) << 16 | rows.class_id[contradicts])
    counts = np.bincount(pairs >> 16, minlength=len(class_id))
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    values = pa.array((pairs & 0xFFFF).astype(np.int16))
    return pa.ListArray.from_arrays(pa.array(offsets), values, mask=pa.array(counts == 0))


def _as_published(rows: Rows, source: str, num_clips: int) -> dict[str, pa.Array]:
    """The columns of a release: the splits in which it lists each clip, and the class index that it gives it. Of two
    labels in one split, the first alphabetically."""
    masks, classes = np.zeros(num_clips, np.uint8), np.full((len(SPLITS), num_clips), -1, np.int16)
    of_source = rows.source == rows.sources.names.index(source)
    for number, part in enumerate(SPLITS):
        index = np.flatnonzero(of_source & rows.of_splits(part))[::-1]  # the last write, the first label, stays
        masks[rows.clip[index]] |= np.uint8(1 << number)
        classes[number][rows.clip[index]] = rows.release_class_id[index]
    label, labels = label_columns(masks, classes)
    columns = {split_name(source): split_column(masks), class_id_name(source): _nullable(label)}
    return columns if labels is None else columns | {class_ids_name(source): labels}


def _nullable(values: npt.NDArray[np.int16]) -> pa.Array:
    return pa.array(values, mask=values < 0)


def _named(indices: npt.NDArray[np.integer], names: tuple[str, ...]) -> pa.DictionaryArray:
    """A column of names from their indices; -1 becomes null. A fixed dictionary makes equal columns equal bytes."""
    return pa.DictionaryArray.from_arrays(pa.array(indices, mask=indices < 0), pa.array(names, pa.string()))
