"""Two checkpoints of one model: the order of the one's head, from its rows beside those of the other."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from k710.errors import CheckpointError, UsageError
from k710.lists.labels import DIALECTS
from k710.models.checkpoints.checkpoint import Checkpoint, open_checkpoint
from k710.models.checkpoints.formats import bare
from k710.models.convert.recognise import find_model
from k710.models.heads.head_labels import OWN_ORDER, Labels, labels_of_set, source_labels
from k710.models.heads.heads import Head, class_counts, find_head
from k710.models.heads.match_rows import (
    LEAST_MARGIN,
    LEAST_PAIRS,
    MOST_AGAINST,
    Pair,
    Vote,
    ask_orders,
    is_an_order,
    is_decided,
    margin,
    pair_rows,
)

# Tables of positions: two models of one body may see clips of other sizes.
_POSITIONS = re.compile(r"pos_embed|positional_embedding|temporal_pos|time_embed")


@dataclass(frozen=True)
class Likeness:
    """What the rows of a head say of its order, beside a head of known order.

    `order` are the classes in the order that was found, and `dialects` its names; None where the pairs are an order,
    and none of the known ones. `known` are the classes of the other head, and `known_by` says how. `own` is what the
    file itself says, None where it says nothing.
    """

    order: Labels | None
    dialects: tuple[str, ...]
    votes: tuple[Vote, ...]
    pairs: tuple[Pair, ...]
    known: Labels
    known_by: tuple[str, ...]
    rows: int
    own: Labels | None

    @property
    def contradicts(self) -> bool:
        """Whether the file says another order than its rows do."""
        return self.own is not None and (self.order is None or self.own.keys != self.order.keys)

    def as_dict(self) -> dict[str, Any]:
        """In plain values. `rows` has a class of the known head for each row, null where a row has no partner."""
        classes: list[str | None] = [None] * self.rows
        for pair in self.pairs:
            classes[pair.row] = self.known.names[pair.other]
        return {
            "label_set": self.order.label_set if self.order else None,
            "dialects": list(self.dialects),
            "margin": round(margin(self.votes), 4) if self.votes else None,
            "pairs": len(self.pairs),
            "telling_pairs": self.votes[0].telling if self.votes else 0,
            "votes": [
                {"names": list(vote.names), "explained": vote.explained, "share": round(vote.share, 4)}
                for vote in self.votes
            ],
            "beside": {
                "label_set": self.known.label_set,
                "dialect": self.known.dialect,
                "known_by": list(self.known_by),
            },
            "median_cosine": round(_median([pair.cosine for pair in self.pairs]), 4),
            "contradicts_the_file": self.contradicts,
            "rows": classes,
        }


def compare_heads(path: Path, like: Path, *, head: str | None = None, family: str | None = None) -> Likeness:
    """The order of the head of `path`, from its rows beside those of the head of `like`, whose order is known.

    `family` says whose published model `path` is, where several published such tensors. Raises CheckpointError where
    the bodies differ, where nothing tells the order of `like`, and where the rows do not decide between the known
    orders; UsageError where both are one file.
    """
    checkpoint, other = open_checkpoint(path), open_checkpoint(like)
    if path.samefile(like):
        raise UsageError(f"--like {like}: is the checkpoint itself, beside which its rows tell nothing")
    ours, theirs = find_head(checkpoint, name=head), find_head(other)
    if ours.width != theirs.width:
        raise CheckpointError(
            f"{path}: its head has rows of {ours.width} numbers, and that of {like} of {theirs.width}: rows of two "
            "models cannot be compared; give a checkpoint of the same model"
        )
    _check_bodies(checkpoint, ours, other, theirs)
    known, known_by = source_labels(other, theirs, again=True)
    pairs = pair_rows(_rows(checkpoint, ours), _rows(other, theirs))
    own = _own_word(checkpoint, ours, family)
    votes = ask_orders(pairs, known, _orders(ours, known, own))
    found = partial(
        Likeness, votes=tuple(votes), pairs=tuple(pairs), known=known, known_by=tuple(known_by), rows=ours.rows, own=own
    )
    if is_decided(votes):
        first = votes[0]
        names = tuple(name for name in first.names if name in DIALECTS) or (first.labels.dialect,)
        order = first.labels if first.labels.dialect in names else labels_of_set(first.labels.label_set, names[0])
        return found(order=order, dialects=names)
    if is_an_order(pairs, ours.rows) and not (votes and votes[0].against <= MOST_AGAINST * votes[0].telling):
        return found(order=None, dialects=(OWN_ORDER,))
    raise CheckpointError(f"{path}: beside {like}, {_why_undecided(pairs, votes, ours.rows)}")


def _why_undecided(pairs: list[Pair], votes: list[Vote], rows: int) -> str:
    if not votes:
        return (
            f"{len(pairs)} of {rows} rows have a partner, no more clearly than chance has it; nothing is said of them"
        )
    shown = ", ".join(f"{' = '.join(vote.names)} explains {vote.explained} ({vote.share:.0%})" for vote in votes)
    return (
        f"its rows do not tell their order: of {votes[0].telling} telling pairs of rows, {shown}; wanted are "
        f"{LEAST_PAIRS} pairs and a margin of {LEAST_MARGIN:.0%}. Heads that were trained on other bodies, or too far "
        "from each other, have no likeness; say the order with --dialect, or find it on clips: k710 eval"
    )


def _orders(head: Head, known: Labels, own: Labels | None) -> dict[str, Labels]:
    """The orders that are asked: the published ones for so many rows, that of the other head, and the file's own."""
    label_set = class_counts().get(head.rows)
    orders = {dialect: labels_of_set(label_set, dialect) for dialect in DIALECTS} if label_set else {}
    for name, labels in (("that of the other head", known), ("the file's own", own)):
        if labels is not None and len(labels.keys) == head.rows:
            orders[name] = labels
    return orders


def _own_word(checkpoint: Checkpoint, head: Head, family: str | None) -> Labels | None:
    try:
        return source_labels(checkpoint, head, family=family, again=True)[0]
    except CheckpointError:
        return None


def _rows(checkpoint: Checkpoint, head: Head) -> torch.Tensor:
    weight = checkpoint.tensor(head.weight).double().flatten(1)
    if not bool(torch.isfinite(weight).all()):
        raise CheckpointError(f"{checkpoint.path}: {head.weight} holds NaN or infinite numbers; no order is in them")
    return weight


def _check_bodies(checkpoint: Checkpoint, head: Head, other: Checkpoint, other_head: Head) -> None:
    """Raises CheckpointError unless all tensors but the heads' are of the same names and shapes, positions aside."""
    ours, theirs = _body(checkpoint, head), _body(other, other_head)
    different = [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]
    if different:
        name = different[0]
        sides = " and ".join(
            f"{'none' if name not in body else list(body[name])} in {each.path.name}"
            for each, body in ((checkpoint, ours), (other, theirs))
        )
        more = f", and {len(different) - 1} more differ" if len(different) > 1 else ""
        raise CheckpointError(
            f"{checkpoint.path}: not the model of {other.path}: {name} has the shape {sides}{more}. Rows of heads are "
            "comparable on one body alone"
        )


def _body(checkpoint: Checkpoint, head: Head) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor but the head's; a model that k710 converts has one name in all its forms."""
    try:
        family, config, _, parts = find_model(checkpoint)
    except CheckpointError:
        mine = {head.weight, head.bias}
        shapes = {bare(key): shape for key, (_, shape, _) in checkpoint.tensors.items() if key not in mine}
    else:
        with torch.device("meta"):
            built = family.build(config).state_dict()
        shapes = {name: tuple(built[name].shape) for name in parts if not name.startswith(f"{family.head}.")}
    return {name: () if _POSITIONS.search(name) else shape for name, shape in shapes.items()}


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2] if values else 0.0
