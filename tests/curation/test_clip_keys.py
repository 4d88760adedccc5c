"""The order of list rows by their keys."""

from __future__ import annotations

import numpy as np
import pytest

from k710.curation.clip_keys import sorted_order


@pytest.mark.parametrize("bits", [1, 6, 20, 63, 64])
@pytest.mark.parametrize("num_rows", [0, 1, 5_000])
def test_rows_in_buckets_are_sorted_as_without(num_rows: int, bits: int) -> None:
    rng = np.random.default_rng(bits)
    head = rng.integers(0, 1 << bits, num_rows, np.uint64, endpoint=False) if bits < 64 else _any(rng, num_rows)
    head = head[rng.integers(0, max(num_rows, 1) // 3 + 1, num_rows)] if num_rows else head  # several rows of a key
    tail = rng.integers(0, 4, num_rows).astype(np.uint64)
    standing = rng.integers(0, 3, num_rows).astype(np.uint16)
    expected = np.lexsort((standing, tail, head))
    order, sorted_head, sorted_tail = sorted_order(head, tail, standing)
    assert order.tolist() == expected.tolist()
    assert sorted_head.tolist() == head[expected].tolist()
    assert sorted_tail.tolist() == tail[expected].tolist()


def _any(rng: np.random.Generator, num_rows: int) -> np.ndarray:
    return np.frombuffer(rng.bytes(8 * num_rows), np.uint64)
