"""What the image tower of an EVL gives to its decoder, also as tensors by name, in which form it can be kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from k710.errors import UsageError
from k710.models.evl.config import EvlConfig


class Seen(NamedTuple):
    """What a block of the tower gives to a layer of the decoder.

    `tokens`: (B, T, 1 + H·W, C), of each frame the class token, then its patches. `before` and `after`: (B, T - 1, H·W,
    H·W), how much each patch of a frame looks at those of the frame before it, and of the frame after it; the first
    is of frames 1 to T - 1, the second of frames 0 to T - 2. None without temporal attention.
    """

    tokens: Tensor
    before: Tensor | None
    after: Tensor | None


def names_of_seen(config: EvlConfig) -> list[list[str]]:
    """The names of the tensors of each layer, by the block of the tower that they come from: a model with fewer layers
    or without temporal attention takes some of them."""
    parts = Seen._fields if config.temporal_attention else Seen._fields[:1]
    blocks = range(config.vit.layers - config.decoder_layers, config.vit.layers)
    return [[f"block{block:02d}.{part}" for part in parts] for block in blocks]


def shapes_of_seen(config: EvlConfig) -> dict[str, tuple[int, ...]]:
    """The shapes of one clip's tensors, by name."""
    frames, patches = config.num_frames, config.grid**2
    tokens, looks = (frames, 1 + patches, config.vit.width), (frames - 1, patches, patches)
    return {name: tokens if name.endswith("tokens") else looks for layer in names_of_seen(config) for name in layer}


def tensors_of(seen: list[Seen], config: EvlConfig) -> dict[str, Tensor]:
    """(B, …) each, by name."""
    found: dict[str, Tensor] = {}
    for names, layer in zip(names_of_seen(config), seen, strict=True):
        found |= {name: tensor for name, tensor in zip(names, layer, strict=False) if tensor is not None}
    return found


def seen_of(tensors: Mapping[str, Tensor], config: EvlConfig, dtype: torch.dtype) -> list[Seen]:
    """The form that the decoder takes, in the type `dtype`. Raises UsageError where a tensor is not there."""
    layers = names_of_seen(config)
    if missing := [name for names in layers for name in names if name not in tensors]:
        raise UsageError(f"{config.title} is given features without {', '.join(missing)}")
    if config.temporal_attention:
        return [Seen(*(tensors[name].to(dtype) for name in names)) for names in layers]
    return [Seen(tensors[name].to(dtype), None, None) for (name,) in layers]
