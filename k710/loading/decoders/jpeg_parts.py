"""A part of JPEGs cut out of their bytes, before anything is decoded.

Between two restart markers a JPEG depends on nothing else. So the pieces whose blocks a box touches, one row after
another, with their markers numbered anew, are a JPEG of these blocks alone. Its pixels are those of the whole one. Only
at its edges, colours are interpolated from fewer neighbours; so the blocks next to the box are taken too where its
border needs them.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from k710.loading.augment.boxes import Box
from k710.random_key import Ints
from k710.store.jpeg_header import BLOCK_PX, JpegHeader, read_header

_MARKER, _FIRST_RESTART, _NUM_RESTARTS = 0xFF, 0xD0, 8
_END = b"\xff\xd9"


class JpegParts(NamedTuple):
    """JPEGs of some blocks of others; their first pixel is those's (`top`, `left`)."""

    jpegs: list[memoryview]
    top: int
    left: int


def cut_parts(jpegs: Sequence[bytes], box: Box) -> JpegParts | None:
    """Of JPEGs of one size, the blocks that `box` needs. None where that is all of them, and where one of the JPEGs has
    no restart markers between them, or not those that it should have."""
    headers = [header for jpeg in jpegs if (header := read_header(jpeg)) is not None and jpeg.endswith(_END)]
    if len(headers) < len(jpegs) or len({header[:3] for header in headers}) > 1:
        return None
    header = headers[0]
    columns, rows = header.blocks
    if not header.interval or columns % header.interval:
        return None
    per_row = columns // header.interval
    first_row, end_row = _touched(box.top, box.height, BLOCK_PX, rows)
    first, end = _touched(box.left, box.width, BLOCK_PX * header.interval, per_row)
    if (end_row - first_row) * (end - first) == rows * per_row:
        return None
    joined = b"".join(jpegs)
    borders = _borders(joined, [len(jpeg) for jpeg in jpegs], headers, rows * per_row)
    if borders is None:
        return None
    taken = np.arange(rows * per_row).reshape(rows, per_row)[first_row:end_row, first:end]
    top, left = first_row * BLOCK_PX, first * header.interval * BLOCK_PX
    height_px = min(end_row * BLOCK_PX, header.height_px) - top
    width_px = min(end * header.interval * BLOCK_PX, header.width_px) - left
    heads = [one.resized(jpeg[: one.scan_at], width_px, height_px) for one, jpeg in zip(headers, jpegs, strict=True)]
    return JpegParts(_assembled(joined, heads, borders, taken), top, left)


def _touched(begin: int, size: int, unit: int, count: int) -> tuple[int, int]:
    """The first unit, and the one after the last, of those with the pixels from one before `begin` to one after."""
    return max(begin - 1, 0) // unit, min((begin + size) // unit + 1, count)


def _borders(joined: bytes, lengths: list[int], headers: list[JpegHeader], num_pieces: int) -> Ints | None:
    """(JPEGs, pieces + 1) where in `joined` each piece begins and the last one ends; a piece has the marker behind it.
    None where a JPEG has another number of markers."""
    content = np.frombuffer(joined, np.uint8)
    found = np.flatnonzero(content[:-1] == _MARKER)
    after_markers = found[content[found + 1] & 0xF8 == _FIRST_RESTART] + 2
    ends = np.cumsum(lengths)
    begins = ends - lengths + np.array([header.scan_at for header in headers])
    first, last = np.searchsorted(after_markers, begins), np.searchsorted(after_markers, ends)
    if (last - first != num_pieces - 1).any():
        return None
    between = after_markers[first[:, None] + np.arange(num_pieces - 1)]
    return np.concatenate((begins[:, None], between, ends[:, None]), axis=1)


def _assembled(joined: bytes, heads: list[bytes], borders: Ints, taken: Ints) -> list[memoryview]:
    """JPEGs of the pieces `taken` (rows, pieces of each), in one block of memory."""
    sizes = (borders[:, taken + 1] - borders[:, taken]).reshape(len(heads), -1)
    begins, ends = borders[:, taken[:, 0]].tolist(), borders[:, taken[:, -1] + 1].tolist()
    pieces: list[bytes] = []
    for head, starts, stops in zip(heads, begins, ends, strict=True):
        pieces.append(head)
        pieces += [joined[start:stop] for start, stop in zip(starts, stops, strict=True)]
    block = bytearray(b"".join(pieces))
    written: npt.NDArray[np.uint8] = np.frombuffer(block, np.uint8)
    head_sizes = np.array([len(head) for head in heads])
    stops = np.cumsum(head_sizes + sizes.sum(axis=1))
    after = (stops - sizes.sum(axis=1))[:, None] + np.cumsum(sizes, axis=1)  # (JPEGs, pieces) where each piece ends
    written[after - 1] = _FIRST_RESTART + np.arange(sizes.shape[1]) % _NUM_RESTARTS
    written[stops - 1] = _END[1]  # behind the last piece, in place of its marker
    view = memoryview(block)
    return [view[start:stop] for start, stop in itertools.pairwise([0, *stops.tolist()])]
