"""From the heads of one or more checkpoints to a head of other classes: by class name, row by row.

A head is a linear layer, so each class owns one row of weight and one number of bias. A remap picks rows; where
several sources know a class, their rows are averaged; where none does, a new row is made or the remap is refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from k710.errors import CheckpointError, LabelError, UsageError
from k710.lists.labels import LABEL_SETS, Alignment, published_synonyms
from k710.models.checkpoints.checkpoint import Checkpoint, open_checkpoint
from k710.models.heads.head_labels import (
    OWN_ORDER,
    Labels,
    check_dialect,
    labels_of_set,
    read_label_file,
    source_labels,
)
from k710.models.heads.heads import Head, find_head, other_heads, twin_heads
from k710.text import counted

NEW_ROWS = ("zero", "mean")

# For each row of the new head, the rows it comes from: (number of the source, row in it).
Rows = tuple[tuple[tuple[int, int], ...], ...]


@dataclass(frozen=True)
class Source:
    """A checkpoint that gives rows; `messages` say how its labels are known, `twins` are heads of the same classes."""

    checkpoint: Checkpoint
    head: Head
    labels: Labels
    messages: tuple[str, ...]
    twins: tuple[Head, ...] = ()

    @property
    def heads(self) -> tuple[Head, ...]:
        return self.head, *self.twins


@dataclass(frozen=True)
class Remap:
    """What is to be done: the body comes from the first source, the head's rows from all."""

    sources: tuple[Source, ...]
    target: Labels
    rows: Rows
    new_rows: str | None

    @property
    def only_picks(self) -> bool:
        """Whether every new row is one old row, so that whatever belongs to a row can be picked with it."""
        return all(len(origins) == 1 for origins in self.rows)


def plan_remap(
    paths: Sequence[Path],
    *,
    to: str | Labels,
    label_sets: Sequence[str] = (),
    dialects: Sequence[str] = (),
    families: Sequence[str] = (),
    to_dialect: str | None = None,
    new_rows: str | None = None,
    head: str | None = None,
    again: bool = False,
) -> Remap:
    """Open the checkpoints, learn what their rows mean, and find a row for every class of `to`.

    `to` and `label_sets` are names of label sets or files of class names; `to` may be the labels themselves.
    `label_sets`, `dialects` and `families` (names of published models) are the user's word on the sources: none, one
    for all, or one for each. Raises CheckpointError, LabelError and UsageError.
    """
    if new_rows not in (None, *NEW_ROWS):
        raise UsageError(f"unknown way to make new rows {new_rows!r}; known: {', '.join(NEW_ROWS)}")
    target = to if isinstance(to, Labels) else target_labels(to, to_dialect)
    sources = []
    for path, label_set, dialect, family in zip(
        paths,
        _one_each(label_sets, paths, "--from"),
        _one_each(dialects, paths, "--dialect"),
        _one_each(families, paths, "--family"),
        strict=True,
    ):
        checkpoint = open_checkpoint(path)
        found = find_head(checkpoint, name=head)
        twins = twin_heads(checkpoint, found)
        labels, messages = source_labels(
            checkpoint, found, label_set=label_set, dialect=dialect, family=family, again=again
        )
        messages += [f"remapped with it, a head of the same classes: {twin.name}" for twin in twins]
        messages += [f"stays as it is, another head: {other}" for other in other_heads(checkpoint, found)]
        sources.append(Source(checkpoint, found, labels, tuple(messages), twins))
    _check_together(sources)
    rows = find_rows([source.labels for source in sources], target)
    if new_rows is None:
        _refuse_missing(sources, target, rows)
    return Remap(tuple(sources), target, rows, new_rows)


def target_labels(to: str, dialect: str | None) -> Labels:
    if to in LABEL_SETS:
        return labels_of_set(to, check_dialect(dialect or "canonical"))
    if dialect is not None:
        raise UsageError(f"--to-dialect {dialect} and the list {to}: a list has its own order")
    return read_label_file(Path(to))


def find_rows(sources: Sequence[Labels], target: Labels) -> Rows:
    """For each class of `target`, every row of every source that means it; nothing where none does."""
    origins: dict[int | str, list[tuple[int, int]]] = {}
    for number, labels in enumerate(sources):
        for row, key in enumerate(labels.keys):
            origins.setdefault(key, []).append((number, row))
    return tuple(tuple(origins.get(key, ())) for key in target.keys)


def fill(rows: Rows, tensors: Sequence[torch.Tensor], new_rows: str | None = None) -> torch.Tensor:
    """The new head's weight or bias: (len(rows), …) from tensors (rows of a source, …) of one dtype.

    A row with one origin is copied bit for bit, one with several is their mean (taken in float64), one with none is
    zero, or the mean of all rows of all sources where `new_rows` is "mean".
    """
    first = tensors[0]
    out = torch.zeros((len(rows), *first.shape[1:]), dtype=first.dtype)
    new, old = _as_bytes(out), [_as_bytes(tensor) for tensor in tensors]
    for number, tensor in enumerate(old):
        pairs = [
            (row, origins[0][1]) for row, origins in enumerate(rows) if len(origins) == 1 and origins[0][0] == number
        ]
        if pairs:
            into, outof = (torch.tensor(indices) for indices in zip(*pairs, strict=True))
            new[into] = tensor[outof]
    mean = torch.cat([tensor.double() for tensor in tensors]).mean(0) if new_rows == "mean" else None
    for row, origins in enumerate(rows):
        if len(origins) > 1:
            out[row] = (
                torch.stack([tensors[number][old_row].double() for number, old_row in origins]).mean(0).to(out.dtype)
            )
        elif not origins and mean is not None:
            out[row] = mean.to(out.dtype)
    return out


def _as_bytes(tensor: torch.Tensor) -> torch.Tensor:
    """(rows, …) as (rows, bytes): copying bytes works for every dtype, float8 too, and changes no bit of a NaN."""
    return tensor.contiguous().view(tensor.shape[0], -1).view(torch.uint8)


def new_head(remap: Remap) -> dict[str, torch.Tensor]:
    """The tensors of the first checkpoint that change, by name: weight and, where it has one, bias of the head and of
    its twins."""
    tensors = {}
    for place, first in enumerate(remap.sources[0].heads):
        heads = [(source.checkpoint, source.heads[place]) for source in remap.sources]
        weights = [checkpoint.tensor(head.weight) for checkpoint, head in heads]
        tensors[first.weight] = fill(remap.rows, weights, remap.new_rows)
        if first.bias:
            biases = [checkpoint.tensor(head.bias) for checkpoint, head in heads if head.bias]
            tensors[first.bias] = fill(remap.rows, biases, remap.new_rows)
    return tensors


def mapping(remap: Remap) -> list[dict[str, Any]]:
    """The remap as a table, a row for each class of the target: row, label, from (rows), from_labels, flags."""
    uses = Counter(origin for origins in remap.rows for origin in origins)
    one_set = {
        LABEL_SETS.get(name, name) for name in (remap.target.label_set, *(s.labels.label_set for s in remap.sources))
    }
    joins = _joins() if len(one_set) > 1 else {}
    table = []
    for row, (label, key, origins) in enumerate(zip(remap.target.names, remap.target.keys, remap.rows, strict=True)):
        flags = list(joins.get(key, ()))
        if len(origins) > 1:
            flags.append(f"many to one: mean of {len(origins)} rows")
        flags += [f"row used {uses[origin]} times" for origin in origins if uses[origin] > 1]
        if not origins:
            flags.append(f"new row: {remap.new_rows}")
        table.append(
            {
                "row": row,
                "label": label,
                "from": list(origins),
                "from_labels": [remap.sources[number].labels.names[old] for number, old in origins],
                "flags": flags,
            }
        )
    return table


def _joins() -> dict[int | str, list[str]]:
    """Flags of the K710 classes in which several names of the releases meet, by canonical index."""
    alignment = Alignment()
    flags: dict[int | str, list[str]] = {}
    for synonym in published_synonyms():
        index = alignment.find(synonym.name)
        assert index is not None  # the alignment is made of these synonyms
        flag = f"many to one: {synonym.name} = {synonym.label}"
        flags.setdefault(index, []).append(f"{flag}; DOUBTFUL: {synonym.doubt}" if synonym.doubt else flag)
    return flags


def missing(target: Labels, rows: Rows) -> list[str]:
    """The target's classes that no source knows."""
    return [name for name, origins in zip(target.names, rows, strict=True) if not origins]


def unknown_names(target: Labels, rows: Rows) -> list[str]:
    """Those of them that are no class of Kinetics: classes of the user's own, or misspelt."""
    return [name for name in missing(target, rows) if isinstance(target.keys[target.names.index(name)], str)]


def _one_each(given: Sequence[str], paths: Sequence[Path], option: str) -> list[str | None]:
    if not given:
        return [None] * len(paths)
    if len(given) == 1:
        return [given[0]] * len(paths)
    if len(given) != len(paths):
        raise UsageError(
            f"{option} stands {len(given)} times for {counted(len(paths), 'checkpoint')}; give one, or one for each"
        )
    return list(given)


def _check_together(sources: Sequence[Source]) -> None:
    first = sources[0]
    for other in sources[1:]:
        compared: list[tuple[str, object, object]] = [("number of heads", len(first.heads), len(other.heads))]
        for ours, theirs in zip(first.heads, other.heads, strict=False):
            compared += [
                ("width", ours.width, theirs.width),
                ("dtype", ours.dtype, theirs.dtype),
                ("bias", bool(ours.bias), bool(theirs.bias)),
            ]
        for what, of_first, of_other in compared:
            if of_first != of_other:
                raise CheckpointError(
                    f"{other.checkpoint.path}: its head cannot join that of {first.checkpoint.path}: {what} "
                    f"{of_other}, not {of_first}; only heads of one model can be combined"
                )


def _refuse_missing(sources: Sequence[Source], target: Labels, rows: Rows) -> None:
    lacking = missing(target, rows)
    if not lacking:
        return
    unknown = unknown_names(target, rows)
    have = " and ".join(str(source.labels) for source in sources)
    ways = f"k710 remap-head --new-rows {'|'.join(NEW_ROWS)} makes rows for them"
    if unknown and target.dialect == OWN_ORDER:
        alignment = Alignment()
        problems = "; ".join(alignment.unknown(name) for name in unknown[:3])
        more = f"; and {len(unknown) - 3} more" if len(unknown) > 3 else ""
        raise LabelError(
            f"{target.label_set}: {problems}{more}. Mend the list; if they are classes of your own, {ways}"
        )
    names = ", ".join(map(repr, lacking[:5])) + (", …" if len(lacking) > 5 else "")
    raise CheckpointError(
        f"{sources[0].checkpoint.path}: {len(lacking)} of the {len(target.names)} classes of {target.label_set} are "
        f"not in {have}: {names}. {ways}; or combine several checkpoints: k710 remap-head A B C --to {target.label_set}"
    )
