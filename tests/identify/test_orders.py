"""The index order of class numbers, planted."""

from __future__ import annotations

import numpy as np
import pytest

from k710.identify.orders import ClassCounts
from k710.lists.labels import Alignment, class_names, k710_classes_of
from k710.lists.orders import partial_orders


def election(index, class_id):
    counts = ClassCounts()
    for part in range(0, len(index), 100):
        counts.add(np.array(index[part : part + 100], np.int32), np.array(class_id[part : part + 100], np.int16))
    return counts.election()


def planted(label_set, dialect, rows=1_000, wrong=0.05, seed=710):
    """Numbers of an order, and the classes of the clips, some of them wrong."""
    rng = np.random.default_rng(seed)
    classes = np.array(k710_classes_of(label_set, dialect))
    index = rng.integers(0, len(classes), rows)
    known = classes[index]
    spoiled = rng.random(rows) < wrong
    known[spoiled] = rng.integers(0, 710, spoiled.sum())
    return index.tolist(), known.tolist()


@pytest.mark.parametrize(
    ("label_set", "dialect"),
    [(label_set, dialect) for label_set in ("k400", "k600", "k700", "k710") for dialect in ("canonical", "uniformerv2")]
    + [("k400", "videomaev2")],
)
def test_every_known_order_is_told(label_set, dialect):
    found = election(*planted(label_set, dialect))
    assert (label_set, dialect) in found.winner.orders
    assert found.winner.right >= 900


def test_orders_that_mean_the_same_are_told_together():
    """K710's first 400 rows are K400's, in both families of orders."""
    found = election(*planted("k400", "canonical")).winner
    assert set(found.orders) == {("k710", "canonical"), ("k400", "canonical"), ("k400", "videomaev2")}


def test_an_order_that_is_known_in_part():
    order = partial_orders()["vjepa"]
    alignment = Alignment()
    rows = [(row, alignment.find(name)) for row, name in order.names.items()] * 3
    others = [(row, (7 * row) % 400) for row in range(60, 250)]  # those that are not known
    found = election(*zip(*rows, *others, strict=True))
    assert found.winner.orders == (("k400", "vjepa"),)


def test_a_permuted_order_is_not_guessed_but_its_own_classes_are_told():
    rng = np.random.default_rng(1)
    own = rng.permutation(400)
    index = rng.integers(0, 400, 4_000)
    found = election(index.tolist(), own[index].tolist())
    assert found.winner is None
    assert found.why
    names = class_names("k710")
    assert {number: names.index(name) for number, name in found.own.items()} == dict(enumerate(own.tolist()))


@pytest.mark.parametrize("rows", [1, 4])
def test_too_few_rows_tell_nothing(rows):
    found = election(*planted("k400", "canonical", rows=rows, wrong=0))
    assert found.winner is None
    assert "tells nothing" in found.why


def test_rows_that_mean_the_same_in_two_orders_are_a_tie():
    """Rows of K710 that both families of orders have at one place."""
    ours, theirs = k710_classes_of("k710", "canonical"), k710_classes_of("k710", "uniformerv2")
    same = [row for row in range(710) if ours[row] == theirs[row]]
    found = election(same, [ours[row] for row in same])
    assert set(found.winner.orders) == {("k710", name) for name in ("canonical", "uniformerv2", "videomaev2")}


def test_without_numbers_there_is_no_order():
    assert election([-1, -1], [3, 4]) is None


def test_of_no_row_the_class_is_known():
    found = election([1, 2, 3], [-1, -1, -1])
    assert (found.winner, found.why) == (None, "of no numbered row the class is known")
