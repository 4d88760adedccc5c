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
        return PublishedOrder(rows, known, doubt=_doubt(found, rows))
    evidence = [f"dialect {order.name}, {order.certainty} for {model.title} ({order.source})" for model, order in found]
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


def _doubt(found: list[tuple[PublishedModel, Order]], rows: int) -> str:
    """What is known of the order of a head, where that does not settle it."""
    if len(found) > 1:
        verdicts = "; ".join(f"{model.title}: {order.verdict}" for model, order in found)
        return f"{len(found)} published models have such tensors: {verdicts}; k710 inspect prints the sources"
    model, order = found[0]
    if part := partial_orders().get(order.name or ""):
        return (
            f"{model.title} ({model.repository}) has an order of its own, by {order.source}; k710 knows "
            f"{len(part.names)} of {rows} rows of it ({part.file}), and only the whole list will do"
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
    say = f"say it with --dialect {'|'.join(DIALECTS)}"
    names = "give the names: k710 remap-head --from LABELFILE"
    answers = f"{say}, or {names}"
    if len(published.models) > 1:
        families = "|".join(model.name for model, _ in published.models)
        answers = f"say whose it is, by the page that it comes from: k710 remap-head --family {families}; or {answers}"
    elif any(order and order.name in partial_orders() for _, order in published.models):
        answers = f"{names}; or, if it was trained on another list than the published ones, {say}"
    return CheckpointError(
        f"{checkpoint.path}: nothing tells the index order of its {counted(published.rows, 'row')} ({why}); {answers}"
    )


def needs(checkpoint: Checkpoint, family: str | None = None) -> str:
    """What it takes to run the published model of a checkpoint; empty where nothing tells which it is."""
    models = chosen_models(checkpoint, family)
    if not models:
        return ""
    titles = ", ".join(model.title for model in models)
    repositories = ", ".join(model.repository for model in models)
    need = "needs its" if len(models) == 1 else "need their"
    return f"{titles} {need} model ({repositories}), and as published {models[0].pixels}"
