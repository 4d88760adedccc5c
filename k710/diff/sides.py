"""The clips of two tables, matched one to one, with the place and the label of each on both sides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from k710.manifest.listings import UNION_LISTING, classes_in, is_listed, split_name
from k710.manifest.memberships import Masks, in_splits_of, mask_of
from k710.sources.source import SPLITS

NOT_LISTED = "not_listed"

Ints = npt.NDArray[np.int64]
Number = TypeVar("Number", bound=np.signedinteger[Any])


@dataclass(frozen=True)
class Side:
    """One table as columns: a place per clip, and (splits, clips) its class in each split; -1 means no class."""

    clip_id: pa.Array
    youtube_id: pa.Array
    place: npt.NDArray[np.int8]
    classes: npt.NDArray[np.int16]
    kept_clip_id: pa.Array | None


@dataclass(frozen=True)
class Pairs:
    """Every clip of either side once: those of A in its order, then those only in B in its order.

    `row_a` and `row_b` are positions in the sides, -1 if the side lacks the clip. Places are indices into `places`:
    NOT_LISTED, the splits, then several splits at once and the drop reasons of the tables. Classes are (splits, pairs).
    """

    places: tuple[str, ...]
    a: Side
    b: Side
    row_a: Ints
    row_b: Ints
    place_a: npt.NDArray[np.int8]
    place_b: npt.NDArray[np.int8]
    classes_a: npt.NDArray[np.int16]
    classes_b: npt.NDArray[np.int16]

    def __len__(self) -> int:
        return len(self.row_a)

    @property
    def masks_a(self) -> Masks:
        """(pairs,) the splits of A that each clip is in, as bits."""
        return _masks(self.places)[self.place_a]

    @property
    def masks_b(self) -> Masks:
        """(pairs,) the splits of B that each clip is in, as bits."""
        return _masks(self.places)[self.place_b]

    @property
    def in_a(self) -> npt.NDArray[np.bool_]:
        """Whether each clip is in a split of A."""
        inside: npt.NDArray[np.bool_] = self.masks_a != 0
        return inside

    @property
    def in_b(self) -> npt.NDArray[np.bool_]:
        """Whether each clip is in a split of B."""
        inside: npt.NDArray[np.bool_] = self.masks_b != 0
        return inside

    def video_a(self, index: Ints) -> pa.Array:
        return self.a.youtube_id.take(pa.array(self.row_a[index]))

    def video_b(self, index: Ints) -> pa.Array:
        return self.b.youtube_id.take(pa.array(self.row_b[index]))

    def clip_ids(self, index: Ints) -> pa.Array:
        """The clip_ids of some pairs."""
        row_a, row_b = self.row_a[index], self.row_b[index]
        return pc.coalesce(_take(self.a.clip_id, row_a), _take(self.b.clip_id, row_b))

    def kept_differs(self, index: Ints) -> npt.NDArray[np.bool_]:
        """Whether the two sides dropped each of some pairs in favour of different clips."""
        kept = [_kept(side, rows[index]) for side, rows in ((self.a, self.row_a), (self.b, self.row_b))]
        different: npt.NDArray[np.bool_] = pc.not_equal(*(pc.fill_null(column, "") for column in kept)).to_numpy(
            zero_copy_only=False
        )
        return different

    def columns(self, index: Ints, names: tuple[str, ...]) -> dict[str, pa.Array]:
        """clip_id, a, b, label_a, label_b, kept_clip_id_a, kept_clip_id_b of some pairs, in their order.

        The labels of a clip in several splits are those of the first split in which they differ, or that has a label.
        """
        classes_a, classes_b = self.classes_a[:, index], self.classes_b[:, index]
        in_both = [in_splits_of((self.masks_a & self.masks_b)[index], (split,)) for split in SPLITS]
        differs = np.stack(in_both) & (classes_a != classes_b)

        def label(classes: npt.NDArray[np.int16]) -> pa.Array:
            split = np.where(differs.any(axis=0), differs.argmax(axis=0), (classes >= 0).argmax(axis=0))
            codes = classes[split, np.arange(len(index))]
            return pa.DictionaryArray.from_arrays(pa.array(codes, mask=codes < 0), pa.array(names, pa.string()))

        def place(codes: npt.NDArray[np.int8]) -> pa.Array:
            return pa.DictionaryArray.from_arrays(pa.array(codes[index]), list(self.places))

        return {
            "clip_id": self.clip_ids(index),
            "a": place(self.place_a),
            "b": place(self.place_b),
            "label_a": label(classes_a),
            "label_b": label(classes_b),
            "kept_clip_id_a": _kept(self.a, self.row_a[index]),
            "kept_clip_id_b": _kept(self.b, self.row_b[index]),
        }


def pair(a: pa.Table, b: pa.Table, *, listing: str) -> Pairs:
    """Match two clips tables in a listing (manifest/listings.py). In that of a source, a clip that the source does not
    list is NOT_LISTED."""
    tables = [_listed(table, listing) for table in (a, b)]
    names = sorted({name for table in tables for name in _names(table, listing)})
    places = tuple(dict.fromkeys([NOT_LISTED, *SPLITS, *names]))
    one, other = (_side(table, listing, places) for table in tables)
    match = pc.index_in(one.clip_id, value_set=other.clip_id)
    row_b = match.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    unmatched = np.ones(len(other.clip_id), bool)
    unmatched[row_b[row_b >= 0]] = False
    only_b = np.flatnonzero(unmatched)
    row_a = np.concatenate([np.arange(len(row_b)), np.full(len(only_b), -1)])
    row_b = np.concatenate([row_b, only_b])
    return Pairs(
        places, one, other, row_a, row_b,
        _or(one.place, row_a, 0), _or(other.place, row_b, 0),
        np.stack([_or(classes, row_a, -1) for classes in one.classes]),
        np.stack([_or(classes, row_b, -1) for classes in other.classes]),
    )  # fmt: skip


def _masks(places: tuple[str, ...]) -> Masks:
    """(places,) the splits of each place, as bits."""
    return np.array([mask_of(name) for name in places], np.uint8)


def _listed(table: pa.Table, listing: str) -> pa.Table:
    return table if listing == UNION_LISTING else table.filter(is_listed(table, listing))


def _names(table: pa.Table, listing: str) -> list[str]:
    columns = [table[split_name(listing)], *([table["drop_reason"]] if listing == UNION_LISTING else [])]
    return [name for column in columns for chunk in column.chunks for name in chunk.dictionary.to_pylist()]


def _side(table: pa.Table, listing: str, places: tuple[str, ...]) -> Side:
    place = _codes(table[split_name(listing)], places)
    if "drop_reason" in table.column_names:
        place = np.maximum(place, _codes(table["drop_reason"], places))
    masks = _masks(places)[place]
    classes = np.stack([classes_in(table, listing, split, masks) for split in SPLITS])
    kept = _one_array(table["kept_clip_id"]) if "kept_clip_id" in table.column_names else None
    return Side(_one_array(table["clip_id"]), _one_array(table["youtube_id"]), place, classes, kept)


def _codes(column: pa.ChunkedArray, places: tuple[str, ...]) -> npt.NDArray[np.int8]:
    """The place of each row by its name; 0 for null. Each chunk may have its own dictionary."""
    parts = [np.zeros(0, np.int8)]
    for chunk in column.chunks:
        of_name = np.array([*(places.index(name) for name in chunk.dictionary.to_pylist()), 0], np.int8)
        parts.append(of_name[chunk.indices.fill_null(len(chunk.dictionary)).to_numpy(zero_copy_only=False)])
    return np.concatenate(parts)


def _or(values: npt.NDArray[Number], rows: Ints, otherwise: int) -> npt.NDArray[Number]:
    """The values of rows, and `otherwise` if there is no row (-1)."""
    return np.append(values, values.dtype.type(otherwise))[rows]


def _take(column: pa.Array, rows: Ints) -> pa.Array:
    return column.take(pa.array(rows, mask=rows < 0))


def _kept(side: Side, rows: Ints) -> pa.Array:
    return pa.nulls(len(rows), pa.string()) if side.kept_clip_id is None else _take(side.kept_clip_id, rows)


def _one_array(column: pa.ChunkedArray) -> pa.Array:
    """The column as one array; a column of gigabytes would become a large_string, which works the same."""
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
