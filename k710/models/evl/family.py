"""EVL (Lin et al., 2022) as a family: what training, evaluation and inspection ask of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn

from k710.errors import CheckpointError
from k710.models.checkpoints.checkpoint import Checkpoint
from k710.models.clip_towers import DROPPED, OPENAI_TOWERS, Tower, tower_for
from k710.models.evl.config import PRESETS, EvlConfig, config_from_shapes, preset_name
from k710.models.evl.cost import BACKBONE_PARTS, multiply_adds
from k710.models.evl.model import BACKBONE, Evl
from k710.models.evl.seen import shapes_of_seen, tensors_of
from k710.models.family import Cost, Family, Frozen, Sampling, Start
from k710.models.weights import Positions, check_weights, fit, names_without_wrappers, resize_positions
from k710.text import counted

HEAD = "proj.2"
_OWN = ("decoder.", "proj.")
_POSITIONS = "pos_embed"

_BLOCK = re.compile(r"backbone\.blocks\.(\d+)\.")

# OpenAI's names of a tower, where they are not the release's of EVL. A block's q, k and v are one tensor there.
_TOP = {"class_embedding": "cls_token", "positional_embedding": _POSITIONS}
_PARTS = {"ln_1": "norm1", "ln_2": "norm2", "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2"}
_IN_BLOCK = re.compile(r"transformer\.resblocks\.(\d+)\.(.+?)[._](weight|bias)")


def layer_of(name: str, config: EvlConfig) -> int:
    """Which layer a parameter belongs to: 0 the tower's stem, i + 1 its block i, and above them decoder and head."""
    if not name.startswith(BACKBONE):
        return num_layers(config)
    block = _BLOCK.match(name)
    return int(block[1]) + 1 if block else 0


def num_layers(config: EvlConfig) -> int:
    return config.vit.layers + 1


def tensor_names(checkpoint: Checkpoint) -> dict[str, str]:
    """This model's name of each tensor, and the file's. Raises CheckpointError where two tensors have one name."""
    names = names_without_wrappers(checkpoint, {})  # `backbone.` is taken for a wrapper
    return {name if name.startswith(_OWN) else f"{BACKBONE}{name}": key for name, key in names.items()}


def cost(config: EvlConfig) -> Cost:
    """As the paper's tables count. Backward costs twice forward; a frozen tower has none."""
    forward = multiply_adds(config)
    tower = sum(forward[part] for part in BACKBONE_PARTS)
    return Cost(forward, 3 * sum(forward.values()) - (2 * tower if config.frozen else 0))


def tower_tensors(tower: Tower) -> dict[str, Tensor]:
    """The tensors of a CLIP tower under the release's names of EVL's tower, which has a bias of zero at its patches."""
    found: dict[str, Tensor] = {}
    for name, tensor in tower.tensors.items():
        block = _IN_BLOCK.fullmatch(name)
        if name in DROPPED:
            continue
        if block and block[2] == "attn.in_proj":
            for part, third in zip("qkv", tensor.chunk(3), strict=True):
                found[f"blocks.{block[1]}.attn.{part}_proj.{block[3]}"] = third
        elif block:
            found[f"blocks.{block[1]}.{_PARTS.get(block[2], block[2])}.{block[3]}"] = tensor
        elif name == "conv1.weight":
            found["patch_embed.proj.weight"] = tensor.flatten(1)
            found["patch_embed.proj.bias"] = tensor.new_zeros(len(tensor))
        else:
            found[_TOP.get(name, name)] = tensor
    return found


def _from_clip(
    model: nn.Module, source: str | Path, interpolate_positions: bool, options: Mapping[str, Any]
) -> list[str]:
    evl = cast(Evl, model)
    config = evl.config
    tower = tower_for(source, config.activation, options.get("activation"), type(config).__name__)
    patches = tuple(tower.tensors["conv1.weight"].shape) if "conv1.weight" in tower.tensors else ()
    px = config.vit.patch_px
    if patches not in ((), (config.vit.width, 3, px, px), (config.vit.width, 3, 1, px, px)):
        raise CheckpointError(
            f"{source}: another backbone than the {config.backbone} of {config.title}: its patches are {patches}, want "
            f"{(config.vit.width, 3, px, px)}"
        )
    positions = Positions(_POSITIONS, lambda tensor: resize_positions(tensor, config.grid, tower.source))
    loaded = fit(
        evl.backbone, tower_tensors(tower), evl.backbone.state_dict().keys(), tower.source, title=config.title,
        positions=positions, interpolate_positions=interpolate_positions,
    )  # fmt: skip
    check_weights(evl.backbone, tower.path)
    return [f"from the image tower {tower.source}: {counted(len(loaded.loaded), 'tensor')}"]


def _resize_positions(positions: Tensor, config: EvlConfig, where: str) -> Tensor:
    return resize_positions(positions, config.grid, where)


def _see(model: nn.Module, clips: Tensor) -> dict[str, Tensor]:
    evl = cast(Evl, model)
    return tensors_of(evl.see(clips), evl.config)


def _drop_tower(model: nn.Module) -> None:
    model.backbone = nn.Module()


_CLIP = Start(
    _from_clip,
    "CLIP image tower",
    "a CLIP image tower: --clip-weights FILE (ViT-B/16, ViT-L/14 and ViT-L/14@336px fetch OpenAI's)",
    frozenset(OPENAI_TOWERS),
)

EVL = Family(
    name="evl",
    presets=PRESETS,
    config_class=EvlConfig,
    build=Evl,
    head=HEAD,
    layer_of=layer_of,
    num_layers=num_layers,
    config_from_shapes=config_from_shapes,
    preset_name=preset_name,
    tensor_names=tensor_names,
    cost=cost,
    # CLIP's own, as the release's scripts give them.
    mean=(0.48145466, 0.4578275, 0.40821073),
    std=(0.26862954, 0.26130258, 0.27577711),
    starts={"clip": _CLIP},
    sampling=Sampling("dense", 16, strides={32: 8}),  # of the release's scripts, and Appendix A
    completed_by="clip",
    in_integers=True,
    not_in_shapes=("activation", "decoder_heads"),
    size_in_shapes=False,  # temporal cross attention tells it; without that, nothing does
    positions=f"{BACKBONE}{_POSITIONS}",
    resize_positions=_resize_positions,
    frozen=Frozen(
        is_frozen=lambda config: config.frozen,
        see=_see,
        shapes=shapes_of_seen,
        told_by=("backbone", "size_px", "num_frames", "activation"),
        drop=_drop_tower,
    ),
)
