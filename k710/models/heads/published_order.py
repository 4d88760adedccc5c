"""The index order of a head as its model was published: proven, asked about, or refused; never guessed."""

from __future__ import annotations

from dataclasses import dataclass

from k710.errors import CheckpointError, UsageError
from k710.lists.labels import DIALECTS, k710_classes_of, label_key
from k710.lists.orders import partial_orders
from k710.models.checkpoints.checkpoint import Checkpoint
from k710.models.checkpoints.published_models import (
    PROVEN,
    UNKNOWN,
    Order,
    PublishedModel,
    candidates,
    models_of,
    size_of,
)
from k710.text import counted


@dataclass(frozen=True)
class PublishedOrder:
    """What is known of the order of a head of so many rows.

    `models` are the published models that the checkpoint can be of, each with its order where it publishes such a head.
    `dialect` is the order where it is settled, and `evidence` the sentences that say why; else `doubt` says why not.
    """

    rows: int
    models: tuple[tuple[PublishedModel, Order | None], ...]
    dialect: str | None = None
    evidence: tuple[str, ...] = ()
    doubt: str = ""


def published_order(checkpoint: Checkpoint, rows: int, label_set: str, *, family: str | None = None) -> PublishedOrder:
    """What the published model of a checkpoint tells of a head of `rows` rows that is of `label_set`.

    `family` is the user's word on whose it is, by the name of a published model. An order is settled where all that
    publish such a head agree, and it is proven for one of them at least. Raises UsageError for a family that does not
    have these tensors.
    """
    layout, shapes = checkpoint.layout, checkpoint.bare_shapes()
    models = chosen_models(checkpoint, family)
    width = size_of(layout, shapes)[0]
    known = tuple((model, model.order(rows, width)) for model in models)
    found = [(model, order) for model, order in known if order is not None]
    if not models:
        return PublishedOrder(rows, known)
    if not found:
        titles = " and ".join(model.title for model in models)
        return PublishedOrder(
            rows, known, doubt=f"no head of {rows} rows was published for {titles}: it is somebody's own"
        )
    orders = {_classes(label_set, order) for _, order in found}
    if None in orders or len(orders) > 1 or all(order.certainty != PROVEN for _, order in found):
        return PublishedOrder(rows, known, doubt=". ".join(_doubt(model, order, rows) for model, order in found))
    evidence = [f"dialect {order.name}, {order.certainty} for {model.title}: {order.source}" for model, order in found]
    if len(found) > 1:
        evidence[-1] += f"; all that publish {rows} rows agree"
    return PublishedOrder(rows, known, found[0][1].name, tuple(evidence))


def chosen_models(checkpoint: Checkpoint, family: str | None) -> tuple[PublishedModel, ...]:
    """The published models that a checkpoint can be of, or the one that the user names. Raises UsageError."""
    if family is None:
        return candidates(checkpoint.layout, checkpoint.bare_shapes())
    models = models_of(checkpoint.layout)
    chosen = tuple(model for model in models if model.name == family)
    if not chosen:
        names = ", ".join(model.name for model in models)
        can_be = f"its tensors are of {names}" if names else f"its tensors are of no published model ({checkpoint.why})"
        raise UsageError(f"{checkpoint.path}: --family {family}: {can_be}")
    return chosen


def _classes(label_set: str, order: Order) -> tuple[int, ...] | None:
    """The classes of the rows; None where the order is not known, or only in part."""
    if order.certainty == UNKNOWN or order.name not in DIALECTS:
        return None
    return k710_classes_of(label_set, order.name)


def _doubt(model: PublishedModel, order: Order, rows: int) -> str:
    """What is known of the order of one published model, where that does not settle it."""
    if part := partial_orders().get(order.name or ""):
        return (
            f"{model.title} has an order of its own, by {order.source}; k710 knows {len(part.names)} of {rows} rows of "
            f"it ({part.file}), and only the whole list will do"
        )
    return f"{model.title}: {order}"


def compared_with_known_rows(checkpoint: Checkpoint, names: tuple[str, ...], *, family: str | None = None) -> list[str]:
    """How the names that a user gives to the rows agree with those rows that are known of an order known in part."""
    width = size_of(checkpoint.layout, checkpoint.bare_shapes())[0]
    orders = [model.order(len(names), width) for model in chosen_models(checkpoint, family)]
    parts = [part for order in orders if order and (part := partial_orders().get(order.name or ""))]
    found = []
    for part in parts:
        differ = [row for row, name in part.names.items() if label_key(names[row]) != label_key(name)]
        if not differ:
            found.append(
                f"all {counted(len(part.names), 'row')} that are known of {part.name}'s order agree ({part.file})"
            )
        else:
            row = differ[0]
            found.append(
                f"{len(differ)} of {counted(len(part.names), 'row')} that are known of {part.name}'s order differ "
                f"({part.file}): row {row} is {part.names[row]!r} there and {names[row]!r} here"
            )
    return found


def question(checkpoint: Checkpoint, published: PublishedOrder) -> CheckpointError:
    """The error that asks for the order of a head, with what is known of it and the possible answers."""
    why = published.doubt or f"{checkpoint.format.title}: {checkpoint.why}"
    whose = ""
    if len(published.models) > 1:
        names = "|".join(model.name for model, _ in published.models)
        why = f"{len(published.models)} published models have these tensors. {why}"
        whose = f"say whose it is, by the page that it comes from: k710 remap-head --family {names}; or "
    return CheckpointError(
        f"{checkpoint.path}: nothing tells the index order of its {counted(published.rows, 'row')} ({why}); {whose}"
        f"say it with --dialect {'|'.join(DIALECTS)}, or give the names: k710 remap-head --from LABELFILE"
    )


def needs(checkpoint: Checkpoint, family: str | None = None) -> str:
    """What it takes to run the published model of a checkpoint; empty where nothing tells which it is."""
    models = chosen_models(checkpoint, family)
    if not models:
        return ""
    titles, repositories = (
        ", ".join(words) for words in zip(*((one.title, one.repository) for one in models), strict=True)
    )
    return f"{titles}: running it needs its model ({repositories}), and as published {models[0].pixels}"
