"""The column clip_id, against the rule for one clip."""

from __future__ import annotations

import pyarrow as pa
import pytest

from k710.manifest.clip_ids import are_plain, clip_ids
from k710.sources.video_ids import clip_id_of

PLAIN = [
    ("abcdefghijk", 0, 10),
    ("-bcdefghij_", 7, 17),
    ("ABCDEFGHIJK", 999_000, 999_999),
    ("abcdefghijk", 1_000, 1_001),
]
OTHERS = {
    "an ID of another length": [("mine~1", 3, 4)],
    "an ID of this length that is not YouTube's": [("mine~abcdef", 3, 4)],
    "a time of seven digits": [("abcdefghijk", 1_000_000, 1_000_010)],
    "no rows": [],
}


def columns(rows: list[tuple[str, int, int]]) -> list[pa.ChunkedArray]:
    """In two chunks, of which the second begins inside an array."""
    types = (pa.string(), pa.int32(), pa.int32())
    arrays = [pa.array([row[number] for row in rows], kind) for number, kind in enumerate(types)]
    return [pa.chunked_array([array[:1], array[1:]], array.type) for array in arrays]


@pytest.mark.parametrize("rows", [PLAIN, *(PLAIN + rows for rows in OTHERS.values()), []])
def test_each_clip_has_its_name(rows: list[tuple[str, int, int]]) -> None:
    found = clip_ids(*columns(rows))
    found.validate(full=True)
    assert found.to_pylist() == [clip_id_of(video, (start, end)) for video, start, end in rows]


def test_what_is_plain() -> None:
    assert are_plain(*columns(PLAIN))
    assert are_plain(*columns([]))
    assert not are_plain(*columns(PLAIN + OTHERS["an ID of another length"]))
    assert not are_plain(*columns(PLAIN + OTHERS["an ID of this length that is not YouTube's"]))
