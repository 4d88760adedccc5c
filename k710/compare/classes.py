"""Class names and indices of other frameworks as classes of a view, in canonical order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from k710.compare.answers import Answers
from k710.errors import LabelError, UsageError
from k710.lists.labels import DIALECTS, LABEL_SETS, Alignment, class_names, k710_classes_of, label_key
from k710.sources.catalogue import Catalogue
from k710.text import counted

Ints = npt.NDArray[np.int64]
NONE, OUTSIDE = -1, -2  # without a label; a class that the view lacks


@dataclass(frozen=True)
class ViewClasses:
    """The classes of a view, and how they are found by name or index."""

    view: str
    names: tuple[str, ...]
    sources: Catalogue

    @classmethod
    def of(cls, view: str, sources: Catalogue) -> ViewClasses:
        """Raises UsageError for an unknown view."""
        return cls(view, class_names(sources.check_view(view), sources=sources), sources)

    @property
    def is_published(self) -> bool:
        """Whether it is Kinetics, whose classes have synonyms and several orders."""
        return self.view in LABEL_SETS

    def of_names(self, found: Sequence[str | None], where: str, lines: Sequence[int]) -> Ints:
        """The class of each name; OUTSIDE for one of Kinetics-710 that the view lacks. Raises LabelError for others."""
        own = {label_key(name): number for number, name in enumerate(self.names)}
        known: dict[str | None, int] = {None: NONE}
        for place, name in enumerate(found):
            if name is not None and name not in known:
                number = own.get(label_key(name))
                known[name] = self._by_synonym(name, f"{where}: line {lines[place]}") if number is None else number
        return np.array([known[name] for name in found], np.int64)

    def _by_synonym(self, name: str, where: str) -> int:
        if not self.is_published:
            raise LabelError(f"{where}: {self.view} has no class {name!r}")
        alignment = Alignment()
        index = alignment.find(name)
        if index is None:
            raise LabelError(f"{where}: {alignment.unknown(name)}")
        of_view = k710_classes_of(self.view)
        return of_view.index(index) if index in of_view else OUTSIDE

    def of_indices(self, found: Sequence[int | None], dialect: str, where: str) -> Ints:
        """The class of each index in a dialect's order. Raises UsageError for an index that the view has not."""
        values = np.array([NONE if number is None else number for number in found], np.int64)
        given = np.array([number is not None for number in found], bool)
        wrong = values[given & ((values < 0) | (values >= len(self.names)))]
        if len(wrong):
            raise UsageError(
                f"{where}: class index {wrong[0]}, where {self.view} has 0 to {len(self.names) - 1}. Of another label "
                "set, or counted from 1? Class names would tell"
            )
        ordered = class_names(self.view, dialect, self.sources)
        place = {name: number for number, name in enumerate(self.names)}
        to_canonical = np.array([place[name] for name in ordered], np.int64)
        return np.where(given, to_canonical[np.maximum(values, 0)], NONE)

    def orders(self) -> dict[tuple[int, ...], list[str]]:
        """The different index orders of the view, each with the dialects that have it."""
        if not self.is_published:
            return {tuple(range(len(self.names))): ["canonical"]}
        orders: dict[tuple[int, ...], list[str]] = {}
        for dialect in DIALECTS:
            orders.setdefault(k710_classes_of(self.view, dialect), []).append(dialect)
        return orders


def order_of(answers: Answers, classes: ViewClasses, truth: Ints, stated: str | None) -> tuple[str, list[str]]:
    """The dialect of a file's indices, and notes on it: as stated, else as its own answers or labels tell.

    `truth`: (clips,) the class of each clip as others name it, NONE where nobody does. Raises UsageError where nothing
    is stated and the clips do not decide: an order is believed by the rule of `k710 eval --which-dialect`.
    """
    orders = list(classes.orders().values())
    if stated is not None:
        if stated not in DIALECTS:
            raise UsageError(f"unknown dialect {stated!r}; known: {', '.join(DIALECTS)}")
        same = next((dialects for dialects in orders if stated in dialects), None)
        if same is None:
            raise UsageError(f"the classes of {classes.view} have one order, canonical, and no dialect {stated!r}")
        better = _elected(answers, classes, truth)
        if better is None or stated in better.dialects:
            return stated, []
        return stated, [
            f"{answers.path}: its numbers are likely wrong: read as {stated}, as stated, but of {better.num_clips:,} "
            f"clips that tell the order, {better.num_right:,} are right in the order {' = '.join(better.dialects)}"
        ]
    if len(orders) == 1:
        return orders[0][0], []
    winner = _elected(answers, classes, truth)
    if winner is None:
        raise UsageError(
            f"{answers.path}: class indices of {classes.view}, in which order? "
            f"{', or '.join(' = '.join(dialects) for dialects in orders)}; the clips do not tell. --dialect states it, "
            "or write class names"
        )
    return winner.dialects[0], [
        f"{answers.path}: class indices read in the order {' = '.join(winner.dialects)}, by its "
        f"{'labels' if answers.has_label_indices else 'answers'}: right in {winner.num_right:,} of "
        f"{counted(winner.num_clips, 'clip')} that tell the orders apart"
    ]


def _elected(answers: Answers, classes: ViewClasses, truth: Ints) -> Any:
    """The winner of the vote of a file's label indices, else of its predicted ones; None where there is none."""
    from k710.evaluation.dialect_vote import vote  # takes PyTorch along

    shown: Sequence[Any] = answers.labels if answers.has_label_indices else answers.predicted
    known = np.array([a is not None and number >= 0 for a, number in zip(shown, truth, strict=True)], bool)
    rows = np.array([0 if number is None else number for number in shown], np.int64)[known]
    fits = (rows >= 0) & (rows < len(classes.names))
    if not classes.is_published or not fits.any():
        return None
    one_hot = np.zeros((int(fits.sum()), len(classes.names)), np.float32)
    one_hot[np.arange(len(one_hot)), rows[fits]] = 1
    return vote(one_hot, truth[known][fits], view=classes.view, label_set=LABEL_SETS[classes.view]).winner
