"""The families that k710 can build, train and evaluate. A new one is a row here and a folder beside this file."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from k710.errors import CheckpointError, UsageError
from k710.models.checkpoints.checkpoint import Checkpoint
from k710.models.evl.family import EVL
from k710.models.family import Family
from k710.models.heads.published_order import needs
from k710.models.uniformerv2.family import UNIFORMERV2
from k710.models.videomaev2.family import VIDEOMAEV2
from k710.models.videomaev2.pretrain_family import VIDEOMAEV2_PRETRAIN

FAMILIES: dict[str, Family] = {family.name: family for family in (UNIFORMERV2, VIDEOMAEV2, VIDEOMAEV2_PRETRAIN, EVL)}


def family_of(checkpoint: Checkpoint) -> tuple[Family, Any]:
    """The family whose tensors a checkpoint holds, and the configuration that their shapes tell.

    Shapes do not tell frames, dropouts or, of some families, the size: those are as published, or as the recipe of a
    k710 checkpoint says. Raises CheckpointError where no family, or more than one, has such tensors.
    """
    found, foreign = [], _foreign(checkpoint)
    # A published model that k710 does not have can have the names of one that it has, as UMT has VideoMAE's, and yet it
    # wants other frames.
    for family in FAMILIES.values() if not foreign or checkpoint.format.name == "mmaction2" else ():
        names = family.tensor_names(checkpoint)
        config = family.config_from_shapes({name: checkpoint.tensors[key][1] for name, key in names.items()})
        if config is not None:
            found.append((family, _as_recorded(family, config, checkpoint)))
    if not found:
        raise CheckpointError(
            f"{checkpoint.path}: not of a model and a size that k710 can build: {', '.join(FAMILIES)} "
            f"({checkpoint.format.title}){foreign}"
        )
    if len(found) > 1:
        names_found = " and ".join(family.name for family, _ in found)
        raise CheckpointError(f"{checkpoint.path}: its tensors fit {names_found}; have it saved with its configuration")
    return found[0]


def refuse_foreign(checkpoint: Checkpoint) -> None:
    """Raises CheckpointError for a checkpoint of a published model that k710 does not have, with what it would need."""
    if _foreign(checkpoint):
        family_of(checkpoint)


def _foreign(checkpoint: Checkpoint) -> str:
    """What it takes to run a published model that k710 does not have; empty for its own, which are named alike."""
    if checkpoint.layout is None or checkpoint.layout.name in FAMILIES:
        return ""
    return f". {needs(checkpoint)}. Its head can be remapped all the same: k710 remap-head"


def _as_recorded(family: Family, config: Any, checkpoint: Checkpoint) -> Any:
    """The configuration with what no shape tells, where the recipe of a k710 checkpoint does."""
    recorded = checkpoint.recorded("model")
    told = (*family.not_in_shapes, *family.of_masks)
    known = {name: recorded[name] for name in told if recorded.get(name) is not None}
    size_px = checkpoint.recorded("data").get("size_px")
    if not family.size_in_shapes and size_px is not None:
        known["size_px"] = size_px
    try:
        return replace(config, **known)
    except (UsageError, TypeError) as error:
        raise CheckpointError(f"{checkpoint.path}: its recipe is damaged: {error}") from None


def num_parameters(family: Family, config: Any) -> dict[str, int]:
    """`total` and `trainable` numbers of parameters; they differ where weights are frozen. Takes no memory."""
    with torch.device("meta"):
        model = family.build(config)
    return {
        "total": sum(parameter.numel() for parameter in model.parameters()),
        "trainable": sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad),
    }
