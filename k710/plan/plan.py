"""A plan: what the fetch, the training and the evaluation of a manifest would take, part by part."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from k710.manifest.read import Manifest
from k710.plan.clock import busy_note
from k710.plan.fetch_part import FetchPart, plan_fetch
from k710.plan.options import PlanOptions
from k710.plan.train_part import TrainPart, plan_training
from k710.train.recipe import TrainRecipe


@dataclass(frozen=True)
class Plan:
    """What was found; `training` is None where no recipe was given."""

    fetch: FetchPart
    training: TrainPart | None
    busy: str = ""  # a warning, where other work was on the cores while this was measured

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know of the numbers."""
        notes = (*self.fetch.notes, *(self.training.notes if self.training else ()), self.busy)
        return tuple(note for note in dict.fromkeys(notes) if note)

    def as_json(self) -> dict[str, Any]:
        """In plain values; figures by name."""
        plain: dict[str, Any] = {"fetch": {figure.name: figure.as_json() for figure in self.fetch.figures}}
        if (training := self.training) is not None:
            plain["training"] = {figure.name: figure.as_json() for figure in training.figures}
            plain["rates"] = {figure.name: figure.as_json() for figure in training.rates}
            plain["devices"] = [row.as_json() for row in training.rows]
        return plain | {"notes": list(self.notes)}


def make_plan(
    manifest: Manifest,
    recipe: TrainRecipe | None,
    options: PlanOptions,
    *,
    on_step: Callable[[str], None] = lambda what: None,
) -> Plan:
    """The plan of a manifest, and of a recipe where one is given. `on_step` is told what is being measured.

    What is measured is measured here, in a temporary folder; the manifest and its store are only read. Raises
    UsageError for options and recipes that cannot be, and as `fetch` does for what it would read.
    """
    options = options.checked()
    busy = busy_note() if options.measures else ""
    with tempfile.TemporaryDirectory(prefix="k710-plan-") as scratch:
        on_step("fetching a few clips, to measure what a clip takes" if options.measures else "reading the manifest")
        fetch = plan_fetch(manifest, options, Path(scratch))
        training = None
        if recipe is not None:
            on_step("loading and training a little, to measure it" if options.measures else "counting a step's work")
            training = plan_training(manifest, recipe, options, fetch.footage)
    return Plan(fetch, training, busy)
