"""Numbers by which list rows are sorted and grouped into clips and videos."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from k710.manifest.clip_ids import ID_SIZE, clip_ids, fixed_width

Ints = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint64]

_BUCKET_BITS = 11  # of the first key: then the keys of a bucket of a million rows fit the cache of a core


def places(rows: pa.Table, order: npt.NDArray[np.int32]) -> Ints:
    """For each of the rows in this order its place by video, start and end: names of times with and without fractions
    do not sort by time."""
    video = pc.dictionary_encode(rows["youtube_id"].combine_chunks()).indices.to_numpy()[order]
    start_s, end_s = (rows[name].fill_null(-1).to_numpy()[order] for name in ("time_start_s", "time_end_s"))
    place = np.empty(len(order), np.int64)
    place[np.lexsort((np.arange(len(order)), end_s, start_s, video))] = np.arange(len(order))
    return place


def any_clip_keys(rows: pa.Table) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """As `plain_clip_keys`, for IDs and spans of any form: running numbers of the video and of the clip in clip_id
    order. The clips of one video are neighbours in it (sources/video_ids.py)."""
    names = clip_ids(rows["youtube_id"], rows["time_start_s"], rows["time_end_s"])
    found = pc.dictionary_encode(names)
    by_name = pc.sort_indices(found.dictionary).to_numpy()
    number = np.empty(len(by_name), np.uint64)
    number[by_name] = np.arange(len(by_name), dtype=np.uint64)
    clip = number[found.indices.to_numpy()]
    first_row = np.empty(len(by_name), np.int64)
    first_row[clip.astype(np.int64)] = np.arange(len(clip))
    ids = rows["youtube_id"].take(pa.array(first_row)).combine_chunks()
    starts = np.ones(len(ids), bool)
    if len(ids) > 1:
        starts[1:] = pc.not_equal(ids[1:], ids[:-1]).to_numpy(zero_copy_only=False)
    return np.cumsum(starts).astype(np.uint64)[clip.astype(np.int64)], clip


def plain_clip_keys(rows: pa.Table) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """Two numbers per row that sort as its clip_id does: eight bytes of the ID; three more and 20 bits per time."""
    ids = fixed_width(rows["youtube_id"], ID_SIZE)
    head = ids[:, :8].view(">u8")[:, 0].astype(np.uint64)
    tail = ids[:, 7:].view(">u4")[:, 0].astype(np.uint64)
    tail &= np.uint64(0xFFFFFF)
    for name in ("time_start_s", "time_end_s"):
        tail <<= np.uint64(20)
        tail |= rows[name].to_numpy().view(np.uint32)
    return head, tail


def sorted_order(head: Keys, tail: Keys, standing: npt.NDArray[Any]) -> tuple[npt.NDArray[np.int32], Keys, Keys]:
    """The order of rows by the three keys, the first counts most, and the first two keys in this order.

    As `np.lexsort` gives it, in half the time: the rows are put into buckets, which two threads sort.
    """
    shift = np.uint64(max(0, int(head.max(initial=0)).bit_length() - _BUCKET_BITS))
    bucket = (head >> shift).astype(np.uint16)
    order = np.argsort(bucket, kind="stable").astype(np.int32)  # of 16 bits: a radix sort
    head, tail, standing = head[order], tail[order], standing[order]
    starts = np.flatnonzero(changes(bucket[order]))

    def sort(part: slice) -> None:
        within = np.lexsort((standing[part], tail[part], head[part]))
        for values in (order, head, tail):
            values[part] = values[part][within]

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(sort, map(slice, starts, (*starts[1:], len(order)))))
    return order, head, tail


def changes(values: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """True where a value differs from the one before it; the first always does."""
    found = np.ones(len(values), bool)
    np.not_equal(values[1:], values[:-1], out=found[1:])
    return found
