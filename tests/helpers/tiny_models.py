"""Tiny models of each family as files of their published forms, with weights whose every bit can be checked."""

from __future__ import annotations

from pathlib import Path

import torch

from k710.models.checkpoints.checkpoint import open_checkpoint
from k710.models.checkpoints.safetensors_files import tensor_bytes
from k710.models.families import FAMILIES

Bits = dict[str, tuple[torch.dtype, tuple[int, ...], bytes]]


def tiny_state(family: str, *, seed: int = 0, dtype: torch.dtype = torch.float32, **changes) -> dict[str, torch.Tensor]:
    """The state dict of the family's tiny model, every float of it random."""
    config = FAMILIES[family].config("tiny", **changes)
    with torch.device("meta"):
        shapes = FAMILIES[family].build(config).state_dict()
    generator = torch.Generator().manual_seed(seed)
    return {
        name: (torch.randn(tensor.shape, generator=generator) * 0.1).to(dtype)
        if tensor.is_floating_point()
        else torch.tensor(7)
        for name, tensor in shapes.items()
    }


def with_odd_bits(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same with random bits in every float: NaNs of all payloads, infinities, subnormal numbers, negative zeros."""
    generator = torch.Generator().manual_seed(1)
    odd = {}
    for name, tensor in state.items():
        size = (*tensor.shape[:-1], tensor.shape[-1] * tensor.element_size()) if tensor.ndim else ()
        random = torch.randint(0, 256, size, generator=generator, dtype=torch.uint8)
        odd[name] = random.view(tensor.dtype).view(tensor.shape) if tensor.ndim else tensor
    return odd


def released(path: Path, family: str, state: dict[str, torch.Tensor]) -> Path:
    """A file as the family's own code publishes it."""
    if family == "uniformerv2":
        torch.save({f"backbone.{name}": tensor for name, tensor in state.items()}, path)
    else:
        torch.save({"module": state}, path)
    return path


def bits(path: Path) -> Bits:
    """Of every tensor of a checkpoint, in its order."""
    checkpoint = open_checkpoint(path)
    tensors = {key: checkpoint.tensor(key) for key in checkpoint.tensors}
    return {key: (each.dtype, tuple(each.shape), tensor_bytes(each)) for key, each in tensors.items()}
