"""How much memory a step needs: estimated before a run, measured when the GPU had too little."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from k710.engine.torch_process import DTYPES
from k710.errors import TrainError
from k710.models.family import Family
from k710.random_key import RandomKey
from k710.text import counted

_BYTES_PER_TRAINED = 16  # AdamW in float32: the weight, its gradient, two moments


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes on one GPU: those of the model, and those that each clip adds. CUDA's own are not included."""

    model_bytes: int
    clip_bytes: int

    def of(self, num_clips: int) -> int:
        return self.model_bytes + num_clips * self.clip_bytes


def estimate_memory(family: Family, config: Any, *, precision: str, average: bool = False) -> MemoryEstimate:
    """What training a model needs on one GPU: the tensors that a forward pass keeps for backward. It takes no memory.

    Counted on fake tensors, with autocast as in the run; `average` adds a copy of all weights.
    """
    with FakeTensorMode(allow_non_fake_inputs=True):
        model = family.build(config).train()
        parameters = list(model.parameters())
        total = sum(parameter.numel() for parameter in parameters)
        trained = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
        one, two = (_kept_bytes(family, model, num_clips, precision) for num_clips in (1, 2))
    model_bytes = trained * _BYTES_PER_TRAINED + (total - trained) * 4 + (total * 4 if average else 0)
    pixels = 3 * config.num_frames * config.size_px**2 * 4
    # What both passes keep, such as weights in the precision of the pass, is the model's.
    return MemoryEstimate(model_bytes + max(2 * one - two, 0), two - one + pixels)


def _kept_bytes(family: Family, model: nn.Module, num_clips: int, precision: str) -> int:
    """Bytes of the tensors kept for backward, each storage once, but for the parameters themselves."""
    config: Any = model.config
    own = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
    kept: dict[int, tuple[int, Any]] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = (storage.nbytes(), storage)
        return tensor

    dtype = DTYPES[precision]
    clips = torch.zeros(num_clips, 3, config.num_frames, config.size_px, config.size_px)
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", dtype, enabled=dtype != torch.float32),
    ):
        output = model(clips, *beside_clips(family, model, num_clips))
    del output
    return sum(size for size, _ in kept.values())


def beside_clips(family: Family, model: nn.Module, num_clips: int) -> tuple[torch.Tensor, ...]:
    """What the model takes beside clips."""
    if family.head is not None:
        return ()
    masked: Any = model
    return tuple(masked.draw_masks([RandomKey(0, 0, clip) for clip in range(num_clips)]))


def largest_that_fits(try_clips: Callable[[int], None], below: int) -> int:
    """The largest power-of-two part of `below` clips that `try_clips` gets through; 0 where none does."""
    size = below // 2
    while size >= 1:
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        try:
            try_clips(size)
        except torch.OutOfMemoryError:
            size //= 2
            continue
        return size
    return 0


def out_of_memory(
    family: Family,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    device: torch.device,
    piece_size: int,
    precision: str,
    kept: bool = False,
) -> TrainError:
    """The error for a GPU without room for `piece_size` clips; its message says how many fit, found by trying."""
    config: Any = model.config
    dtype = DTYPES[precision]
    shapes = family.frozen.shapes(config) if kept and family.frozen is not None else {}

    def try_clips(num_clips: int) -> None:
        # Before the end of the first step, AdamW has not yet made its two moments.
        made = [] if optimizer.state else [torch.empty_like(weight) for weight in _trained(model) for _ in range(2)]
        clips: Any = {name: torch.zeros(num_clips, *shape, device=device) for name, shape in shapes.items()}
        if not shapes:
            clips = torch.zeros(num_clips, 3, config.num_frames, config.size_px, config.size_px, device=device)
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            loss = model(clips, *beside_clips(family, model, num_clips)).float().sum()
        loss.backward()
        model.zero_grad(set_to_none=True)
        del made

    fits = largest_that_fits(try_clips, piece_size)
    if not fits:
        advice = "not even one fits"
        if hasattr(config, "checkpoint_blocks"):
            blocks = family.num_layers(config) - 1
            advice += f"; --set checkpoint_blocks={blocks} computes blocks again instead of keeping them"
    else:
        advice = (
            f"{fits} would fit: --set gpu_batch_size={fits}; the batch and the learning rate stay as they are, more "
            "pieces are accumulated"
        )
    return TrainError(f"{device}: no memory for {counted(piece_size, 'clip')} at once ({_size(device)}); {advice}")


def _trained(model: nn.Module) -> list[torch.nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def _size(device: torch.device) -> str:
    if device.type != "cuda":
        return "of the CPU"
    return f"{torch.cuda.get_device_properties(device).total_memory / 2**30:.0f} GiB"
