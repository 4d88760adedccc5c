"""A model with the weights of a checkpoint, whatever its family."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from k710.errors import UsageError
from k710.models.checkpoints.checkpoint import open_checkpoint
from k710.models.families import FAMILIES, family_of
from k710.models.weights import Loaded, load_into


def load_checkpoint(
    model: nn.Module,
    path: str | Path,
    *,
    allow: Collection[str] = (),
    interpolate_positions: bool = False,
    weights: str | None = None,
) -> Loaded:
    """A checkpoint into a model of its family; see `k710.models.weights.load_into`.

    The head's rows are loaded as they are; `k710 remap-head` picks others.
    """
    family = next((family for family in FAMILIES.values() if isinstance(model.config, family.config_class)), None)
    if family is None:
        raise UsageError(f"{type(model).__name__} is of no family of k710: {', '.join(FAMILIES)}")
    checkpoint = open_checkpoint(Path(path))
    return load_into(
        family, model, checkpoint, allow=allow, interpolate_positions=interpolate_positions, weights=weights
    )


def model_from_checkpoint(
    path: str | Path, *, interpolate_positions: bool = False, weights: str | None = None, **changes: Any
) -> nn.Module:
    """A model as the checkpoint's shapes tell, with its weights; `changes` are fields of the family's configuration.

    Shapes do not tell frames, dropouts, or where UniFormerV2's global blocks are: those are as published unless
    changed. `weights` is the source of what the file leaves out, such as EVL's image tower. Raises
    CheckpointError where the file is of no family.
    """
    checkpoint = open_checkpoint(Path(path))
    family, config = family_of(checkpoint)
    model = family.build(replace(config, **changes))
    load_into(family, model, checkpoint, interpolate_positions=interpolate_positions, weights=weights)
    return model
