"""Weights into a model: each tensor has its place, or the load is refused with a list of those that have none."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from k710.errors import CheckpointError, UsageError
from k710.models.checkpoints.checkpoint import Checkpoint
from k710.models.checkpoints.formats import bare
from k710.models.family import Encoder, Family
from k710.models.left_out import complete

PROBLEMS = ("missing", "unexpected", "misshapen")


@dataclass(frozen=True)
class Loaded:
    """What a load did, by tensor name; the last three of these are empty unless they were allowed.

    `completed` says where the weights came from that the checkpoint leaves out.
    """

    source: str
    loaded: tuple[str, ...]
    interpolated: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    misshapen: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    completed: tuple[str, ...] = ()


def load_into(
    family: Family,
    model: nn.Module,
    checkpoint: Checkpoint,
    *,
    head_rows: Mapping[str, Tensor] | None = None,
    without_head: bool = False,
    allow: Collection[str] = (),
    interpolate_positions: bool = False,
    weights: str | None = None,
) -> Loaded:
    """A checkpoint of the family (any published form of docs/heads.md) into `model`.

    `head_rows` are the head's tensors by the file's names, in place of its own; `without_head` leaves the model's head
    as it is. `allow` names what is let through of PROBLEMS: tensors that do not fit keep the model's values.
    `interpolate_positions` resizes the position embedding. What the checkpoint leaves out comes from `weights`, or from
    where its run had it (k710.models.left_out). Raises CheckpointError with every tensor that has no place, and leaves
    the model as it was; also where a loaded weight is NaN or infinite.
    """
    names, rows, wanted = family.tensor_names(checkpoint), head_rows or {}, set(model.state_dict())
    if without_head and family.head is not None:
        in_head = f"{family.head}."
        names = {name: key for name, key in names.items() if not name.startswith(in_head)}
        wanted = {name for name in wanted if not name.startswith(in_head)}
    found = {name: rows[key] if key in rows else checkpoint.tensor(key) for name, key in names.items()}
    config: Any = model.config
    where, resize = str(checkpoint.path), family.resize_positions
    positions = None
    if family.positions and resize:
        positions = Positions(family.positions, lambda tensor: resize(tensor, config, where))
    completed = complete(family, model, checkpoint.payload.get("run"), weights, where)
    loaded = fit(
        model, found, wanted, where, title=config.title, allow=allow, positions=positions,
        interpolate_positions=interpolate_positions,
    )  # fmt: skip
    check_weights(model, checkpoint.path)
    return replace(loaded, completed=tuple(completed))


def load_encoder(model: nn.Module, checkpoint: Checkpoint, encoder: Encoder) -> Loaded:
    """The encoder of a checkpoint that was pretrained without classes into `model`; the rest stays as it is.

    Raises CheckpointError as `load_into`.
    """
    found = {name: checkpoint.tensor(key) for name, key in encoder.names.items()}
    wanted = {name for name in model.state_dict() if not name.startswith(encoder.new)}
    config: Any = model.config
    loaded = fit(model, found, wanted, str(checkpoint.path), title=config.title)
    check_weights(model, checkpoint.path)
    return loaded


@dataclass(frozen=True)
class Positions:
    """The position embedding of a model: its name, and how one of another size is brought to the model's."""

    name: str
    resize: Callable[[Tensor], Tensor]


def names_without_wrappers(checkpoint: Checkpoint, renamed: Mapping[str, str]) -> dict[str, str]:
    """Each tensor's name without what wrappers put before it, and the file's name of it.

    `renamed` maps the beginnings of names in other forms to the model's own. Raises CheckpointError where two tensors
    have one name.
    """
    names: dict[str, str] = {}
    for key in checkpoint.tensors:
        name = bare(key)
        for theirs, ours in renamed.items():
            name = name.replace(theirs, ours) if name.startswith(theirs) else name
        if (other := names.setdefault(name, key)) != key:
            raise CheckpointError(
                f"{checkpoint.path}: {other} and {key} are both this model's {name}; have the one that is "
                "meant saved alone"
            )
    return names


def fit(
    model: nn.Module,
    found: Mapping[str, Tensor],
    wanted: Collection[str],
    where: str,
    *,
    title: str,
    allow: Collection[str] = (),
    positions: Positions | None = None,
    interpolate_positions: bool = False,
) -> Loaded:
    """Copy `found` into the tensors of `model` named `wanted`, all of them or none; see `load_into`.

    `title` is the model in words, for the message of a refusal.
    """
    if strange := sorted(set(allow) - set(PROBLEMS)):
        raise UsageError(f"allow={strange}: want some of {', '.join(PROBLEMS)}")
    state = model.state_dict()
    interpolated: tuple[str, ...] = ()
    name = positions.name if positions else ""
    if interpolate_positions and positions and name in found and found[name].shape != state[name].shape:
        found = {**found, name: positions.resize(found[name])}
        interpolated = (name,)
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
        raise CheckpointError(_refusal(title, name, found, state, problems, where))
    loaded = tuple(name for name in both if name not in problems["misshapen"])
    model.load_state_dict({name: found[name] for name in loaded}, strict=False)
    return Loaded(where, loaded, interpolated, **problems)


def _tensors(names: Sequence[str]) -> str:
    if len(names) == 1:
        return f"{names[0]} is"
    return f"{names[0]} and {len(names) - 1} {'other is' if len(names) == 2 else 'others are'}"


def _refusal(
    title: str,
    positions: str,
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
    hint = ""
    if positions and problems["misshapen"] == (positions,) and _can_be_resized(found[positions], state[positions]):
        hint = " Position embeddings of another size are resized on request: --interpolate-positions, "
        hint += "interpolate_positions=True."
    elif other := [name for name in problems["misshapen"] if _is_another_patch(found[name], state[name])]:
        theirs, ours = found[other[0]].shape, state[other[0]].shape
        hint = (
            f" This is another backbone: width {theirs[0]} and patches of {theirs[-1]} px, where the model has "
            f"{ours[0]} and {ours[-1]} px."
        )
    return (
        f"{where}: does not fit {title}. "
        f"{'. '.join(lines)}.{hint} Nothing was loaded (in Python, "
        f"allow={[kind for kind in problems if problems[kind]]} lets it)."
    )


def _is_another_patch(theirs: Tensor, ours: Tensor) -> bool:
    """Whether these are patch convolutions (C, 3, …, P, P) of other widths or patch sizes."""
    return theirs.ndim == ours.ndim > 3 and (theirs.shape[0], theirs.shape[-1]) != (ours.shape[0], ours.shape[-1])


def check_weights(model: nn.Module, path: Path) -> None:
    """Raises CheckpointError where a weight that was loaded from `path` is NaN or infinite: no answer comes of it."""
    bad = [name for name, tensor in model.state_dict().items() if not bool(torch.isfinite(tensor).all())]
    if bad:
        more = f" and {len(bad) - 1} more tensors hold" if len(bad) > 1 else " holds"
        raise CheckpointError(
            f"{path}: {bad[0]}{more} NaN or infinite numbers: the training that wrote it diverged, or the file is "
            "damaged; take an earlier checkpoint"
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
            f"{where}: a position embedding of {tuple(positions.shape)} is no class token and a square of patches"
        )
    square = positions[1:].float().T.reshape(1, -1, side, side)
    square = F.interpolate(square, (grid, grid), mode="bicubic", antialias=True)
    return torch.cat([positions[:1].float(), square.flatten(2)[0].T]).to(positions.dtype)
