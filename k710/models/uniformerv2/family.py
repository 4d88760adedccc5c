"""UniFormerV2 (Li et al., 2022) as a family: what training, evaluation and inspection ask of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn

from k710.models.checkpoints.checkpoint import Checkpoint
from k710.models.clip_towers import load_clip
from k710.models.family import Cost, Family, Frozen, Start
from k710.models.uniformerv2.config import PRESETS, UniFormerV2Config, config_from_shapes, preset_name
from k710.models.uniformerv2.cost import BACKBONE_PARTS, multiply_adds
from k710.models.uniformerv2.model import UniFormerV2
from k710.models.uniformerv2.seen import shapes_of_seen
from k710.models.weights import check_weights, names_without_wrappers, resize_positions
from k710.text import counted

HEAD = "transformer.proj.2"

# MMAction2's names, where they are not the release's.
_MMACTION2 = {"transformer.norm.": "transformer.proj.0.", "cls_head.fc_cls.": f"{HEAD}."}

_BLOCK = re.compile(r"transformer\.resblocks\.(\d+)\.")
# What stands before the first block; the stem of a ViT counts as layer 0.
_STEM = ("conv1.", "class_embedding", "positional_embedding", "ln_pre.")


def layer_of(name: str, config: UniFormerV2Config) -> int:
    """Which layer a parameter belongs to: 0 the stem, i + 1 block i, and above them whatever is new on top (global
    blocks, fusion, head)."""
    if name.startswith(_STEM):
        return 0
    block = _BLOCK.match(name)
    return int(block[1]) + 1 if block else num_layers(config)


def num_layers(config: UniFormerV2Config) -> int:
    return config.vit.layers + 1


def tensor_names(checkpoint: Checkpoint) -> dict[str, str]:
    """This model's name of each tensor, and the file's. Raises CheckpointError where two tensors have one name."""
    return names_without_wrappers(checkpoint, _MMACTION2 if checkpoint.format.name == "mmaction2" else {})


def cost(config: UniFormerV2Config) -> Cost:
    """As the paper's tables count. Backward costs twice forward; a frozen backbone has none, and blocks that are
    computed again have one forward more."""
    forward = multiply_adds(config)
    backbone = sum(forward[part] for part in BACKBONE_PARTS)
    again = backbone * config.checkpoint_blocks // config.vit.layers
    return Cost(forward, 3 * sum(forward.values()) + (-2 * backbone if config.frozen else again))


def _resize_positions(positions: Tensor, config: UniFormerV2Config, where: str) -> Tensor:
    return resize_positions(positions, config.grid, where)


def _from_clip(
    model: nn.Module, source: str | Path, interpolate_positions: bool, options: Mapping[str, Any]
) -> list[str]:
    loaded = load_clip(model, source, interpolate_positions=interpolate_positions, activation=options.get("activation"))
    check_weights(model, Path(source))
    return [f"from the image tower {loaded.source}: {counted(len(loaded.loaded), 'tensor')}"]


_CLIP = Start(
    _from_clip,
    "CLIP image tower",
    "a CLIP image tower: --clip-weights FILE (ViT-B/16, ViT-L/14 and ViT-L/14@336px fetch OpenAI's)",
)


def _see(model: nn.Module, clips: Tensor) -> dict[str, Tensor]:
    return cast(UniFormerV2, model).see(clips)


UNIFORMERV2 = Family(
    name="uniformerv2",
    presets=PRESETS,
    config_class=UniFormerV2Config,
    build=UniFormerV2,
    head=HEAD,
    layer_of=layer_of,
    num_layers=num_layers,
    config_from_shapes=config_from_shapes,
    preset_name=preset_name,
    tensor_names=tensor_names,
    cost=cost,
    # The released code's, not CLIP's own.
    mean=(0.45, 0.45, 0.45),
    std=(0.225, 0.225, 0.225),
    starts={"clip": _CLIP},
    not_in_shapes=("activation",),
    positions="positional_embedding",
    resize_positions=_resize_positions,
    frozen=Frozen(
        is_frozen=lambda config: config.frozen,
        see=_see,
        shapes=shapes_of_seen,
        told_by=("backbone", "size_px", "num_frames", "temporal_downsample", "activation"),
    ),
)
