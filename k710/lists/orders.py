"""The index orders of Kinetics heads that are in public use, whole or in part, each with its source: `labelmaps/`."""

from __future__ import annotations

import csv
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from k710.errors import LabelError
from k710.lists.labels import DIALECTS
from k710.recipes import resource


@dataclass(frozen=True)
class KnownOrder:
    """An order of a label set. `known_rows` of its rows are known; `file` of `labelmaps/` holds them."""

    name: str
    label_set: str
    known_rows: int
    file: str
    source: str


@dataclass(frozen=True)
class PartialOrder:
    """An order of which only some rows are known: `names` by row."""

    name: str
    label_set: str
    file: str
    names: Mapping[int, str]
    source: str


@functools.cache
def known_orders() -> tuple[KnownOrder, ...]:
    """The rows of `labelmaps/orders.csv`. Raises LabelError for a row that is not one."""
    path = Path(resource("labelmaps", "orders.csv"))
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        try:
            return tuple(
                KnownOrder(row["order"], row["label_set"], int(row["known_rows"]), row["file"], row["source"])
                for row in reader
            )
        except (KeyError, TypeError, ValueError) as error:
            raise LabelError(
                f"{path}: line {reader.line_num}: not order,label_set,known_rows,file,source: {error}"
            ) from None


@functools.cache
def partial_orders() -> Mapping[str, PartialOrder]:
    """The orders that are known in part, by name."""
    found = {}
    for order in known_orders():
        if order.name not in DIALECTS:
            path = Path(resource("labelmaps", order.file))
            with path.open(encoding="utf-8", newline="") as file:
                names = {int(row["row"]): row["label"] for row in csv.DictReader(file)}
            found[order.name] = PartialOrder(
                order.name, order.label_set, f"labelmaps/{order.file}", names, order.source
            )
    return found
