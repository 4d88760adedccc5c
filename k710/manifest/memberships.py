"""The splits in which a source lists a clip, and the label that each of them gives it.

The lists of a source may hold one clip in several splits. The split column of the source names all of them, in the
order train, val, test, joined by commas: `train,val`. Where these lists give the clip different labels, or one of them
gives none, the table has one more column, with the label of each of these splits in the same order. A table of lists
without such clips has no such column and no such name. The columns' own names are in listings.py.

No other file knows this form. Elsewhere the splits of a clip are a mask: bit i stands for SPLITS[i].
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from k710.errors import ManifestError
from k710.sources.source import SPLITS

Masks = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Classes = npt.NDArray[np.int16]

_SEPARATOR = ","
_SEVERAL = tuple(_SEPARATOR.join(names) for size in (2, 3) for names in itertools.combinations(SPLITS, size))
_BITS = {name: sum(1 << SPLITS.index(split) for split in name.split(_SEPARATOR)) for name in (*SPLITS, *_SEVERAL)}


def splits_named(text: str | None) -> tuple[str, ...]:
    """The splits that a cell of a split column names, in the order train, val, test; none for null."""
    return tuple(text.split(_SEPARATOR)) if text else ()


def mask_of(name: str) -> int:
    """The splits that a name in a split column stands for, as bits; 0 for another name."""
    return _BITS.get(name, 0)


def split_masks(column: pa.ChunkedArray) -> Masks:
    """(clips,) the splits that each cell of a split column names, as bits; 0 for null.

    Raises ManifestError for a name that is no split.
    """
    parts = [np.zeros(0, np.uint8)]
    for chunk in column.chunks:  # each may have a dictionary of its own
        names = chunk.dictionary.to_pylist()
        if unknown := [name for name in names if name not in _BITS]:
            raise ManifestError(f"the clips table is damaged: a split is named {unknown[0]!r}")
        bits = np.array([*(_BITS[name] for name in names), 0], np.uint8)
        parts.append(bits[chunk.indices.fill_null(len(names)).to_numpy(zero_copy_only=False)])
    return np.concatenate(parts)


def in_splits_of(masks: Masks, splits: Iterable[str]) -> Mask:
    """Which of the clips are in one of these splits."""
    wanted = np.uint8(sum(1 << SPLITS.index(split) for split in set(splits)))
    found: Mask = (masks & wanted) != 0
    return found


def split_column(masks: Masks) -> pa.DictionaryArray:
    """The split column of these masks. Its dictionary is SPLITS, and is longer only where a clip is in several."""
    code_of = np.full(1 << len(SPLITS), -1, np.int8)
    names = (*SPLITS, *_SEVERAL)
    for code, name in enumerate(names):
        code_of[_BITS[name]] = code
    codes = code_of[masks]
    known = names if len(codes) and codes.max() >= len(SPLITS) else SPLITS
    return pa.DictionaryArray.from_arrays(pa.array(codes, mask=codes < 0), pa.array(known, pa.string()))


def is_in_several(masks: Masks) -> Mask:
    """Which of the clips are in more than one split."""
    found: Mask = (masks & (masks - (masks > 0))) != 0
    return found


def memberships(masks: Masks) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int8]]:
    """Every clip once for each of its splits: its position, and the split as an index into SPLITS; in that order."""
    clip, split = np.nonzero((masks[:, None] >> np.arange(len(SPLITS), dtype=np.uint8)) & 1)
    return clip, split.astype(np.int8)


def label_columns(masks: Masks, classes: Classes) -> tuple[Classes, pa.Array | None]:
    """The two columns of the labels of a source: one label per clip (-1 for none), and the labels of each split.

    `classes`: (splits, clips) the label that each split's list gives each clip, -1 for none. The single label of a
    clip is the first alphabetically that train and val lists give it, else that of the test list. The second column is
    None where every clip has one label, or none, in all of its splits.
    """
    if not is_in_several(masks).any():
        return classes.max(axis=0, initial=-1), None
    none = np.iinfo(np.int16).max
    named = np.where(classes < 0, none, classes)
    single = named[: SPLITS.index("test")].min(axis=0, initial=none)
    single = np.where(single == none, named[SPLITS.index("test")], single)
    single[single == none] = -1
    stands = (masks >> np.arange(len(SPLITS), dtype=np.uint8)[:, None]) & 1
    differs = np.any((stands == 1) & (classes != single), axis=0)
    if not differs.any():
        return single, None
    clip, split = memberships(np.where(differs, masks, np.uint8(0)))
    labels = classes[split, clip]
    offsets = np.concatenate([[0], np.cumsum(np.bincount(clip, minlength=len(masks)))]).astype(np.int32)
    values = pa.array(labels, mask=labels < 0)
    return single, pa.ListArray.from_arrays(pa.array(offsets), values, mask=pa.array(~differs))
