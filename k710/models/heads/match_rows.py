"""The index order of a head from its weights alone: its rows beside those of a head whose order is known.

Two heads on one body have similar rows for one class, wherever the rows stand. So rows are paired by the cosine of
their angle, and each known order is asked how many of the pairs it explains. Nothing is trained, and no clip is read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from k710.models.heads.head_labels import Labels

# An order is named where it explains a share of the telling pairs that exceeds the next order's by this much: 0.5 means
# that three of four pairs speak for the one and one for the other, or half of them for the one and none for the other.
# Pairs of unrelated heads are chance, and of these an order explains about one in as many as there are classes.
LEAST_MARGIN = 0.5

# Fewer telling pairs than this are no evidence.
LEAST_PAIRS = 20

# Of the telling pairs, no more than this share may both stand out and contradict the order: a head of which a part was
# moved is in no known order.
MOST_AGAINST = 0.05

# By so many standard deviations of its cosines, half of the rows or more must be closer to their partner than to the
# next row, for the pairs to count as an order of their own. Pairs of unrelated heads have about a third of one.
LEAST_GAP = 2.0


@dataclass(frozen=True)
class Pair:
    """Row `row` of a head and row `other` of the other are each other's nearest: `cosine` of their angle.

    `gap` is how much nearer they are than the next row of either side, in standard deviations of the row's cosines.
    """

    row: int
    other: int
    cosine: float
    gap: float


@dataclass(frozen=True)
class Vote:
    """How many of the `telling` pairs an order explains, and how many that stand out speak against it.

    A pair is telling where the orders that were asked differ in its row. `labels` are the classes in this order;
    `names` all that it is called.
    """

    labels: Labels
    names: tuple[str, ...]
    explained: int
    against: int
    telling: int

    @property
    def share(self) -> float:
        return self.explained / self.telling if self.telling else 0.0


def pair_rows(head: Tensor, other: Tensor) -> list[Pair]:
    """The rows of two heads (rows, width) and (others, width) that are each other's nearest, by cosine.

    Each head's mean row is subtracted first: it changes no probability, and would make all rows alike. Rows that are
    equal to the mean, or exactly as near to a second row, are in no pair. All numbers must be finite.
    """
    ours, theirs = _directions(head), _directions(other)
    cosines = ours @ theirs.T
    if 0 in cosines.shape or min(cosines.shape) < 2:
        return []
    of_rows, of_others = cosines.topk(2, dim=1), cosines.topk(2, dim=0)
    nearest, back = of_rows.indices[:, 0], of_others.indices[0]
    spread = cosines.std(dim=1).clamp(min=1e-12)
    pairs = []
    for row, column in enumerate(nearest.tolist()):
        best = float(cosines[row, column])
        second = max(float(of_rows.values[row, 1]), float(of_others.values[1, column]))
        if back[column] == row and best > second and best > 0:
            pairs.append(Pair(row, column, best, (best - second) / float(spread[row])))
    return pairs


def _directions(head: Tensor) -> Tensor:
    rows = head.double()
    centred = rows - rows.mean(0)
    lengths = centred.norm(dim=1, keepdim=True)
    # What is left of a row that equals the mean is rounding, and has no direction.
    return torch.where(lengths > 1e-9 * lengths.max(), centred / lengths.clamp(min=1e-300), 0)


def ask_orders(pairs: Sequence[Pair], known: Labels, orders: Mapping[str, Labels]) -> list[Vote]:
    """How many pairs each of `orders` of the head explains, where `known` are the classes of the other head's rows.

    Orders that are one are asked once. The one that explains most comes first.
    """
    distinct: dict[tuple[int | str, ...], list[str]] = {}
    for name, labels in orders.items():
        distinct.setdefault(labels.keys, []).append(name)
    telling = [pair for pair in pairs if len({keys[pair.row] for keys in distinct}) > 1]
    votes = []
    for keys, names in distinct.items():
        against = [pair for pair in telling if keys[pair.row] != known.keys[pair.other]]
        clear = sum(pair.gap >= LEAST_GAP for pair in against)
        votes.append(Vote(orders[names[0]], tuple(names), len(telling) - len(against), clear, len(telling)))
    return sorted(votes, key=lambda vote: -vote.explained)


def margin(votes: Sequence[Vote]) -> float:
    """By how much the first order's share of the telling pairs exceeds the next one's."""
    return votes[0].share - (votes[1].share if len(votes) > 1 else 0.0)


def is_decided(votes: Sequence[Vote]) -> bool:
    """Whether the first order may be named."""
    if not votes or votes[0].telling < LEAST_PAIRS or margin(votes) < LEAST_MARGIN:
        return False
    return votes[0].against <= MOST_AGAINST * votes[0].telling


def is_an_order(pairs: Sequence[Pair], rows: int) -> bool:
    """Whether the pairs are an order, known or not: most rows have a partner that stands out."""
    clear = sum(pair.gap >= LEAST_GAP for pair in pairs)
    return clear >= LEAST_PAIRS and clear >= rows / 2
