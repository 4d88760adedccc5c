"""Weights into a model: each tensor has its place, or the load is refused with a list of those that have none."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from k710.errors import CheckpointError, UsageError
from k710.models.checkpoints.checkpoint import Checkpoint, open_checkpoint
from k710.models.checkpoints.formats import bare
from k710.models.uniformerv2.config import ACTIVATIONS, UniFormerV2Config, config_from_shapes
from k710.models.uniformerv2.model import UniFormerV2

POSITIONS = "positional_embedding"
PROBLEMS = ("missing", "unexpected", "misshapen")

# MMAction2's names, where they are not the release's.
_MMACTION2 = {"transformer.norm.": "transformer.proj.0.", "cls_head.fc_cls.": "transformer.proj.2."}


@dataclass(frozen=True)
class Loaded:
    """What a load did, by tensor name; the last three are empty unless they were allowed."""

    source: str
    loaded: tuple[str, ...]
    interpolated: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    misshapen: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()


def load_checkpoint(
    model: UniFormerV2, path: str | Path, *, allow: Collection[str] = (), interpolate_positions: bool = False
) -> Loaded:
    """A UniFormerV2 checkpoint (released, of MMAction2, or k710's own; any form of docs/heads.md) into `model`.

    The head's rows are loaded as they stand; `k710 remap-head` picks others. `allow` names what is let through of
    PROBLEMS, tensors that do not fit keep the model's values; `interpolate_positions` resizes the position embedding.
    Raises CheckpointError with every tensor that has no place, and leaves the model as it was.
    """
    checkpoint = open_checkpoint(Path(path))
    found = {name: checkpoint.tensor(key) for name, key in tensor_names(checkpoint).items()}
    wanted = model.state_dict().keys()
    return fit(model, found, wanted, str(path), allow=allow, interpolate_positions=interpolate_positions)


def model_from_checkpoint(path: str | Path, *, interpolate_positions: bool = False, **changes: Any) -> UniFormerV2:
    """A model as the checkpoint's shapes say it is, with its weights; `changes` are fields of UniFormerV2Config.

    Shapes do not tell frames, dropouts, or where global blocks sit: those are as published unless changed. Raises
    CheckpointError where the file is no UniFormerV2.
    """
    checkpoint = open_checkpoint(Path(path))
    config = config_of(checkpoint)
    if config is None:
        raise CheckpointError(f"{path}: not a UniFormerV2 of a known size ({checkpoint.format.title})")
    model = UniFormerV2(replace(config, **changes))
    load_checkpoint(model, path, interpolate_positions=interpolate_positions)
    return model


def config_of(checkpoint: Checkpoint) -> UniFormerV2Config | None:
    """The configuration that a checkpoint's shapes tell, or None where they are of no UniFormerV2.

    No shape tells the activation: the recipe of a k710 checkpoint does, and the public code has quick_gelu alone.
    """
    shapes = {name: checkpoint.tensors[key][1] for name, key in tensor_names(checkpoint).items()}
    config = config_from_shapes(shapes)
    run = checkpoint.payload.get("run")
    recipe = run.get("recipe") if isinstance(run, Mapping) else None
    activation = recipe.get("activation") if isinstance(recipe, Mapping) else None
    return replace(config, activation=activation) if config and activation in ACTIVATIONS else config


def tensor_names(checkpoint: Checkpoint) -> dict[str, str]:
    """This model's name of each tensor, and the file's. Raises CheckpointError where two tensors have one name."""
    names: dict[str, str] = {}
    for key in checkpoint.tensors:
        name = bare(key)
        for theirs, ours in _MMACTION2.items() if checkpoint.format.name == "mmaction2" else ():
            name = name.replace(theirs, ours) if name.startswith(theirs) else name
        if (other := names.setdefault(name, key)) != key:
            raise CheckpointError(
                f"{checkpoint.path}: {other} and {key} are both this model's {name}; have the one that is "
                "meant saved alone"
            )
    return names


def fit(
    model: UniFormerV2,
    found: Mapping[str, Tensor],
    wanted: Collection[str],
    where: str,
    *,
    allow: Collection[str] = (),
    interpolate_positions: bool = False,
) -> Loaded:
    """Copy `found` into the tensors of `model` named `wanted`, all of them or none; see `load_checkpoint`."""
    if strange := sorted(set(allow) - set(PROBLEMS)):
        raise UsageError(f"allow={strange}: want some of {', '.join(PROBLEMS)}")
    state = model.state_dict()
    interpolated: tuple[str, ...] = ()
    if interpolate_positions and POSITIONS in found and found[POSITIONS].shape != state[POSITIONS].shape:
        found = {**found, POSITIONS: resize_positions(found[POSITIONS], model.config.grid, where)}
        interpolated = (POSITIONS,)
    both = [name for name in state if name in wanted and name in found]
    # Copied into a weight, the numbers of a quantised one would pass for it.
    if whole := [name for name in both if state[name].is_floating_point() and not found[name].is_floating_point()]:
        raise CheckpointError(
            f"{where}: {_tensors(whole)} {str(found[whole[0]].dtype).removeprefix('torch.')}, not floating-point "
            "numbers; give the checkpoint that it was quantised from"
        )
    problems = {
        "missing": tuple(name for name in state if name in wanted and name not in found),
        "unexpected": tuple(name for name in found if name not in wanted),
        "misshapen": tuple(name for name in both if found[name].shape != state[name].shape),
    }
    if any(names for kind, names in problems.items() if kind not in allow):
        raise CheckpointError(_refusal(model, found, state, problems, where))
    loaded = tuple(name for name in both if name not in problems["misshapen"])
    model.load_state_dict({name: found[name] for name in loaded}, strict=False)
    return Loaded(where, loaded, interpolated, **problems)


def _tensors(names: Sequence[str]) -> str:
    if len(names) == 1:
        return f"{names[0]} is"
    return f"{names[0]} and {len(names) - 1} {'other is' if len(names) == 2 else 'others are'}"


def _refusal(
    model: UniFormerV2,
    found: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
    problems: Mapping[str, tuple[str, ...]],
    where: str,
) -> str:
    lines = []
    for kind, names in problems.items():
        shown = [
            f"{name} {tuple(found[name].shape)}, want {tuple(state[name].shape)}" if kind == "misshapen" else name
            for name in names
        ]
        if shown:
            more = f" and {len(shown) - 8} more" if len(shown) > 8 else ""
            lines.append(f"{len(shown)} {kind}: {'; '.join(shown[:8])}{more}")
    config, hint = model.config, ""
    conv = found.get("conv1.weight")
    if problems["misshapen"] == (POSITIONS,) and _can_be_resized(found[POSITIONS], state[POSITIONS]):
        hint = " Position embeddings of another size are resized on request: --interpolate-positions, "
        hint += "interpolate_positions=True."
    elif (
        conv is not None
        and conv.ndim > 3
        and (conv.shape[0], conv.shape[-1]) != (config.vit.width, config.vit.patch_px)
    ):
        hint = (
            f" This is another backbone: width {conv.shape[0]} and patches of {conv.shape[-1]} px, where "
            f"{config.backbone} has {config.vit.width} and {config.vit.patch_px} px."
        )
    return (
        f"{where}: does not fit UniFormerV2-{config.backbone} at {config.size_px} px, {config.num_classes} classes. "
        f"{'. '.join(lines)}.{hint} Nothing was loaded (in Python, "
        f"allow={[kind for kind in problems if problems[kind]]} lets it)."
    )


def _can_be_resized(theirs: Tensor, ours: Tensor) -> bool:
    """Whether these are a class token and a square of patches, as wide as the model's."""
    side = math.isqrt(max(len(theirs) - 1, 0)) if theirs.ndim == 2 else 0
    return side > 0 and side**2 + 1 == len(theirs) and theirs.shape[1:] == ours.shape[1:]


def resize_positions(positions: Tensor, grid: int, where: str) -> Tensor:
    """A position embedding (1 + n², C) for another grid (1 + grid², C): bicubic, antialiased, in float32.

    The class token's row stays as it is. The released code cannot do this: its 336 px models start from CLIP's own.
    Raises CheckpointError where the rows are no class token and a square.
    """
    side = math.isqrt(max(len(positions) - 1, 0))
    if positions.ndim != 2 or side == 0 or side**2 + 1 != len(positions):
        raise CheckpointError(
            f"{where}: {POSITIONS} {tuple(positions.shape)} is no class token and a square of patches"
        )
    square = positions[1:].float().T.reshape(1, -1, side, side)
    square = F.interpolate(square, (grid, grid), mode="bicubic", antialias=True)
    return torch.cat([positions[:1].float(), square.flatten(2)[0].T]).to(positions.dtype)
