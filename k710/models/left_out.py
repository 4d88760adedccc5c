"""Weights that checkpoints leave out since no training changes them, such as EVL's frozen image tower.

They are parameters of the model and no part of its state dict. A run records where they came from and their SHA-256;
what loads a checkpoint gets them from there again, and checks that they are the same.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from k710.errors import CheckpointError, DownloadError, UsageError
from k710.models.checkpoints.recorded_runs import runs_of
from k710.models.family import Family
from k710.text import counted

SHA256 = "left_out_sha256"  # in the record of a run


def left_out(model: nn.Module) -> dict[str, Tensor]:
    """The parameters of a model that are no part of its state dict, by name."""
    kept = model.state_dict().keys()
    return {name: parameter.detach() for name, parameter in model.named_parameters() if name not in kept}


def left_out_sha256(model: nn.Module) -> str | None:
    """SHA-256 over names and float32 values of what is left out, whatever file it came from; None if nothing is."""
    weights = left_out(model)
    return _sha256(weights) if weights else None


def frozen_sha256(model: nn.Module) -> str:
    """SHA-256 over names and float32 values of the parameters that are not trained, whether checkpoints have them."""
    parameters = model.named_parameters()
    return _sha256({name: parameter.detach() for name, parameter in parameters if not parameter.requires_grad})


def _sha256(weights: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in weights.items():
        digest.update(f"{name} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.float().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def complete(family: Family, model: nn.Module, record: Any, given: str | None, where: str) -> list[str]:
    """Load what the checkpoint `where` leaves out, from `given`, or from where its run had it. Returns messages.

    `record` is the checkpoint's record of its run, None where it has none. Of what it names, files of this machine and
    sources that k710 knows are looked at, no other address. Raises UsageError where `given` is not
    needed, CheckpointError where nothing tells the source, it cannot be loaded, or it has other weights than the run
    recorded.
    """
    missing, start = left_out(model), family.starts.get(family.completed_by)
    if not missing or start is None:
        if given is not None:
            raise UsageError(f"{where}: has all of its weights, and needs no --clip-weights {given}")
        return []
    runs = list(runs_of(record))
    expected = next((run[SHA256] for run in runs if isinstance(run.get(SHA256), str)), None)
    source = given or next(filter(None, map(_source, runs)), None)
    if source is None:
        raise CheckpointError(
            f"{where}: leaves out {counted(len(missing), 'tensor')} that its training never changed, and does not tell "
            f"where they are from: they are those of {start.wants}"
        )
    if given is None and source not in start.names and not Path(source).is_absolute():
        raise CheckpointError(
            f"{where}: its {start.title} is {source}, and what a checkpoint names is fetched from nowhere unless you "
            f"say so: --clip-weights {source}"
        )
    config: Any = model.config
    options = {name: getattr(config, name) for name in family.not_in_shapes if hasattr(config, name)}
    try:
        # Whether positions were resized is in the SHA-256.
        messages = start.load(model, source, expected is not None, options)
    except (CheckpointError, DownloadError) as error:
        raise CheckpointError(
            f"{where}: its {start.title} cannot be loaded: {error}. If it has moved, say where it is: --clip-weights "
            "FILE"
        ) from None
    if expected is not None and (found := left_out_sha256(model)) != expected:
        raise CheckpointError(
            f"{where}: was trained on another {start.title} than {source}: the SHA-256 of its weights is {found}, want "
            f"{expected}. Say where the right one is: --clip-weights FILE"
        )
    return messages


def _source(run: dict[str, Any]) -> str | None:
    start = run.get("start")
    source = start.get("clip_weights") if isinstance(start, dict) else None
    return source if isinstance(source, str) else None
