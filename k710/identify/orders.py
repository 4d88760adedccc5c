"""In which index order the class numbers of a list are: by the clips whose class is known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from k710.identify.fits import LEAST, TIMES
from k710.lists.labels import DIALECTS, LABEL_SETS, Alignment, class_names, k710_classes_of
from k710.lists.orders import partial_orders

_NO_ORDER = 0.5  # an order that is right in fewer rows than this share is none
_CLASSES = len(class_names("k710"))


@dataclass(frozen=True)
class OrderVote:
    """How many rows agree if the numbers are those of `orders`, (label set, order): several where the numbers that
    occur mean the same in all of them."""

    orders: tuple[tuple[str, str], ...]
    right: int
    rows: int

    def __str__(self) -> str:
        names: dict[str, list[str]] = {}
        for label_set, order in self.orders:
            names.setdefault(label_set, []).append(order)
        return " = ".join(f"{label_set} {'/'.join(orders)}" for label_set, orders in names.items())


@dataclass(frozen=True)
class OrderElection:
    """The votes, the best first. `winner` is None where the rows do not tell, and `why` says it. `own` are the classes
    of those numbers that mean one class each, by what most of their rows say; (number, class)."""

    votes: tuple[OrderVote, ...]
    winner: OrderVote | None
    why: str
    own: Mapping[int, str]
    indices: int


class ClassCounts:
    """Counts of rows by the number of their class and the class that is known of their clip."""

    def __init__(self) -> None:
        self._pairs: Counter[int] = Counter()
        self.numbered = 0

    def add(self, index: npt.NDArray[np.int32], class_id: npt.NDArray[np.int16]) -> None:
        """`index`: (rows,) the numbers, -1 for none; `class_id`: (rows,) the K710 class, -1 for one not known."""
        self.numbered += int(np.count_nonzero(index >= 0))
        both = (index >= 0) & (class_id >= 0)
        counts = np.bincount(index[both].astype(np.int64) * _CLASSES + class_id[both])
        pairs = np.flatnonzero(counts)
        for pair, count in zip(pairs.tolist(), counts[pairs].tolist(), strict=True):
            self._pairs[pair] += count

    def election(self) -> OrderElection | None:
        """Which order it is; None where the rows have no numbers."""
        if not self.numbered:
            return None
        counts = {divmod(pair, _CLASSES): count for pair, count in self._pairs.items()}
        meanings = _meanings(sorted({index for index, _ in counts}))
        votes = sorted((_vote(orders, meaning, counts) for meaning, orders in meanings.items()), key=lambda v: -v.right)
        meaning_of = {orders: meaning for meaning, orders in meanings.items()}
        winner, why = _winner(votes, meaning_of, counts)
        own = _own_order(counts)
        return OrderElection(tuple(votes), winner, why, own, len({index for index, _ in counts}))


# (number, K710 class): -1 for a number that the order lacks; of an order known in part only the known ones.
_Orders = tuple[tuple[str, str], ...]
_Counts = Mapping[tuple[int, int], int]  # of rows, by number and class
_Meaning = tuple[tuple[int, int], ...]


def _meanings(indices: list[int]) -> dict[_Meaning, tuple[tuple[str, str], ...]]:
    """What these numbers mean in each known order; orders in which all mean the same are together."""
    alignment = Alignment()
    found: dict[_Meaning, list[tuple[str, str]]] = {}
    for name in sorted(set(LABEL_SETS.values()), key=lambda name: len(class_names(name))):
        for dialect in DIALECTS:
            classes = k710_classes_of(name, dialect)
            meaning = tuple((index, classes[index] if index < len(classes) else -1) for index in indices)
            found.setdefault(meaning, []).append((name, dialect))
    for order in partial_orders().values():
        classes_of_rows = {index: alignment.find(name) for index, name in order.names.items()}
        meaning = tuple((index, known) for index in indices if (known := classes_of_rows.get(index)) is not None)
        if meaning:
            found.setdefault(meaning, []).append((order.label_set, order.name))
    return {meaning: tuple(orders) for meaning, orders in found.items()}


def _vote(orders: _Orders, meaning: _Meaning, counts: _Counts) -> OrderVote:
    classes = dict(meaning)
    known = {pair: count for pair, count in counts.items() if pair[0] in classes}
    right = sum(count for (index, class_id), count in known.items() if classes[index] == class_id)
    return OrderVote(orders, right, sum(known.values()))


def _winner(
    votes: list[OrderVote], meaning_of: Mapping[_Orders, _Meaning], counts: _Counts
) -> tuple[OrderVote | None, str]:
    if not votes or not votes[0].rows:
        return None, "of no numbered row the class is known"
    first = votes[0]
    if first.right < LEAST:
        return None, f"only {first.right} of {first.rows:,} rows agree with any known order, which tells nothing"
    if first.right <= _NO_ORDER * first.rows:
        return None, f"no known order: the best, {first}, is right in {first.right:,} of {first.rows:,} rows"
    mine = dict(meaning_of[first.orders])
    for other in votes[1:]:
        if other.rows < first.rows and other.right < LEAST:
            continue  # known in part, and nothing speaks for it
        theirs = dict(meaning_of[other.orders])
        telling = {index for index in mine if index in theirs and mine[index] != theirs[index]}
        right, wrong = (
            sum(n for (index, known), n in counts.items() if index in telling and meaning[index] == known)
            for meaning in (mine, theirs)
        )
        if right < max(LEAST, TIMES * wrong):
            return None, f"{first} or {other}: {right:,} rows speak for the one and {wrong:,} for the other"
    return first, ""


def _own_order(counts: _Counts) -> dict[int, str]:
    """The class of each number, where nine of ten of its rows agree."""
    names = class_names("k710")
    by_index: dict[int, Counter[int]] = {}
    for (index, class_id), count in counts.items():
        by_index.setdefault(index, Counter())[class_id] += count
    found = {}
    for index, classes in sorted(by_index.items()):
        class_id, most = classes.most_common(1)[0]
        if most >= 0.9 * classes.total():
            found[index] = names[class_id]
    return found
