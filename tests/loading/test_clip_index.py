"""The index of a dataset in the cache: damage is noticed and mended, and its lists are those of the store."""

from __future__ import annotations

import pickle

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from k710.errors import LoadError
from k710.loading.clip_index import cached_index, index_table, lists_of_rows

IDS = [f"{number:011d}_000010_000020" for number in range(40)]
FACTS = ["facts"]


def table() -> pa.Table:
    rng = np.random.default_rng(0)
    offsets = pa.array([sorted(rng.integers(0, 9000, 8).tolist()) for _ in IDS], pa.list_(pa.int32()))
    return index_table(
        {
            "clip_id": pa.array(IDS),
            "class_id": pa.array(np.arange(len(IDS), dtype=np.int16)),
            "file": pa.array(["a.tar"] * len(IDS)).dictionary_encode(),
            "offset": pa.array(np.arange(len(IDS)) * 512),
            "size": pa.array(np.full(len(IDS), 400)),
            "digest": pa.array(rng.integers(0, 1 << 60, len(IDS)).astype(np.uint64)),
            "num_frames": pa.array(np.full(len(IDS), 30, np.int32)),
            "frame_offsets": lists_of_rows(pa.chunked_array([offsets]), np.arange(len(IDS))),
        },
        {"folder": "/nowhere", "in_tars": True, "counts": {"in_split": 40, "loaded": 40, "failed": 0}},
    )


@pytest.fixture
def index(tmp_path, monkeypatch):
    monkeypatch.setenv("K710_CACHE", str(tmp_path))
    return cached_index(FACTS, ["slot"], table)


def opened_again():
    """The index as another process opens it, and how often its table was made."""
    made = []

    def make():
        made.append(table())
        return made[-1]

    return cached_index(FACTS, ["slot"], make), len(made)


per_example = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)


def test_a_whole_index_is_not_made_again(index):
    again, made = opened_again()
    assert (again.path, made) == (index.path, 0)
    assert again[3].clip_id == IDS[3]
    assert again[3].frame_offsets.tolist() == table()["frame_offsets"][3].as_py()


@per_example
@given(data=st.data())
def test_any_changed_byte_is_noticed_and_the_index_is_made_anew(index, data):
    whole = index.path.read_bytes()
    damaged = bytearray(whole)
    place = data.draw(st.integers(0, len(whole) - 1))
    damaged[place] ^= data.draw(st.integers(1, 255))
    index.path.write_bytes(damaged)
    again, made = opened_again()
    assert made == 1
    assert index.path.read_bytes() == whole
    assert again.clip_ids.to_pylist() == IDS


@per_example
@given(data=st.data())
def test_an_index_of_another_length_is_noticed_even_by_a_worker(index, data):
    """A worker maps the file without a checksum: where the file is shorter than was said, a read would end it."""
    whole, pickled = index.path.read_bytes(), pickle.dumps(index)
    cut = data.draw(st.integers(0, len(whole) - 1))
    damaged = data.draw(st.sampled_from([whole[:cut], whole + whole[cut:]]))
    index.path.write_bytes(damaged)
    with pytest.raises(LoadError, match=r"cannot be read \(.+\); open it again"):
        pickle.loads(pickled)
    _, made = opened_again()
    assert made == 1
    assert index.path.read_bytes() == whole
    assert len(pickle.loads(pickled)) == len(IDS)


def test_blocks_that_were_never_written_are_noticed(index):
    """As a file system leaves a file that was not synced when its machine lost power: long enough, and zeros."""
    whole = index.path.read_bytes()
    for begin in range(0, len(whole) - 512, 512):
        index.path.write_bytes(whole[:begin] + bytes(512) + whole[begin + 512 :])
        changed = index.path.read_bytes() != whole
        assert opened_again()[1] == changed
        assert index.path.read_bytes() == whole


lists = st.lists(st.none() | st.lists(st.integers(0, 99), max_size=4), max_size=12)


@given(lists, st.data())
def test_lists_of_rows_are_those_of_the_column(values, data):
    pieces = data.draw(st.integers(1, 5))
    column = pa.chunked_array(
        [pa.array(values[start : start + pieces], pa.list_(pa.int32())) for start in range(0, len(values), pieces)],
        pa.list_(pa.int32()),
    )
    rows = data.draw(st.permutations(range(len(values)))) if values else []
    rows = np.array(rows[: data.draw(st.integers(0, len(values)))], np.int64)
    assert lists_of_rows(column, rows).to_pylist() == [values[row] for row in rows]
