"""What a UniFormerV2 is: its configuration, the published ones by name, and which of them a checkpoint's shapes are."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from k710.errors import UsageError

FUSIONS = ("sequential", "parallel", "hierarchical_kv", "hierarchical_q")
LOCAL = ("none", "single", "double")
ACTIVATIONS = ("quick_gelu", "gelu")


@dataclass(frozen=True)
class Backbone:
    """An image ViT; its head dimension is width / heads."""

    width: int
    layers: int
    heads: int
    patch_px: int


# CLIP's, and `tiny` for tests and the demo.
BACKBONES = {
    "B/16": Backbone(768, 12, 12, 16),
    "L/14": Backbone(1024, 24, 16, 14),
    "tiny": Backbone(64, 4, 2, 8),
}


@dataclass(frozen=True)
class UniFormerV2Config:
    """The model (UniFormerV2 paper, section 3, Table 9); the defaults are B/16 for Kinetics-710.

    `global_after` are the blocks (from 0) that a global UniBlock follows, none for (). `local` is the number of local
    MHRA per block, `local_reduction` their C / C'. `balance` mixes the class tokens into the video token (Table 12);
    the released frozen models have none. `frozen` keeps the backbone as it is and out of autograd. Drop paths rise
    linearly to their value at the last block. `checkpoint_blocks`: so many first blocks are recomputed in backward.
    `activation` is the backbone's: CLIP's own quick_gelu, or the gelu of most OpenCLIP weights. `num_frames` is what
    the model is trained with; it takes any number.

    Raises UsageError, which names the field, its value and what is allowed.
    """

    backbone: str = "B/16"
    size_px: int = 224
    num_frames: int = 8
    num_classes: int = 710
    global_after: tuple[int, ...] = (8, 9, 10, 11)
    fusion: str = "sequential"
    dpe: bool = True
    balance: bool = True
    local: str = "none"
    local_reduction: float = 1.5
    temporal_downsample: bool = False
    frozen: bool = False
    mlp_dropout: float = 0.5
    head_dropout: float = 0.5
    drop_path: float = 0.0
    global_drop_path: float = 0.0
    checkpoint_blocks: int = 0
    activation: str = "quick_gelu"

    def __post_init__(self) -> None:
        self._among("backbone", tuple(BACKBONES))
        self._among("fusion", FUSIONS)
        self._among("local", LOCAL)
        self._among("activation", ACTIVATIONS)
        layers, patch_px = self.vit.layers, self.vit.patch_px
        blocks = tuple(self.global_after)
        in_order = list(blocks) == sorted(set(blocks)) and all(0 <= block < layers for block in blocks)
        self._want(in_order, "global_after", f"rising block numbers from 0 to {layers - 1}")
        self._want(self.size_px > 0 and self.size_px % patch_px == 0, "size_px", f"a multiple of {patch_px}")
        even = 2 if self.temporal_downsample else 1
        self._want(self.num_frames > 0 and self.num_frames % even == 0, "num_frames", f"a positive multiple of {even}")
        self._want(self.num_classes > 0, "num_classes", "at least 1")
        self._want(1 <= self.local_reduction <= self.vit.width, "local_reduction", f"1 to {self.vit.width}")
        for name in ("mlp_dropout", "head_dropout", "drop_path", "global_drop_path"):
            self._want(0 <= getattr(self, name) < 1, name, "at least 0 and less than 1")
        self._want(0 <= self.checkpoint_blocks <= layers, "checkpoint_blocks", f"0 to {layers}")
        # Its last convolution begins at zero and is frozen with the rest: it would never do anything.
        self._want(not self.frozen or self.local == "none", "local", "none, where the backbone is frozen")

    @property
    def vit(self) -> Backbone:
        return BACKBONES[self.backbone]

    @property
    def grid(self) -> int:
        """Patches along a side."""
        return self.size_px // self.vit.patch_px

    @property
    def title(self) -> str:
        return f"UniFormerV2-{self.backbone} at {self.size_px} px, {self.num_classes} classes"

    def _among(self, name: str, allowed: tuple[str, ...]) -> None:
        self._want(getattr(self, name) in allowed, name, " or ".join(allowed))

    def _want(self, holds: bool, name: str, allowed: str) -> None:
        if not holds:
            raise UsageError(f"UniFormerV2Config: {name} is {getattr(self, name)!r}, want {allowed}")


_KINETICS_B16 = UniFormerV2Config()
_KINETICS_L14 = replace(_KINETICS_B16, backbone="L/14", global_after=(20, 21, 22, 23))
_KINETICS_L14_336 = replace(_KINETICS_L14, size_px=336)
_SSV2_B16 = UniFormerV2Config(
    num_frames=16,
    num_classes=174,
    global_after=tuple(range(4, 12)),
    local="double",
    temporal_downsample=True,
    drop_path=0.2,
    global_drop_path=0.4,
)

# The released models (exp/k710 and exp/sthv2 of the release; the paper's sections 4.1 and Appendix A).
PRESETS = {
    "kinetics_b16": _KINETICS_B16,
    "kinetics_l14": _KINETICS_L14,
    "kinetics_l14_336": _KINETICS_L14_336,
    "kinetics_l14_336_frozen": replace(_KINETICS_L14_336, frozen=True, balance=False),
    "ssv2_b16": _SSV2_B16,
    "ssv2_l14": replace(_SSV2_B16, backbone="L/14", global_after=tuple(range(8, 24))),
    "tiny": UniFormerV2Config(backbone="tiny", size_px=32, num_frames=4, global_after=(2, 3)),
}


def preset(name: str, **changes: Any) -> UniFormerV2Config:
    """A published configuration by name, with other values where `changes` says so. Raises UsageError."""
    if name not in PRESETS:
        raise UsageError(f"no preset {name!r}; there are {', '.join(PRESETS)}")
    known = {field.name for field in fields(UniFormerV2Config)}
    if unknown := sorted(changes.keys() - known):
        raise UsageError(f"UniFormerV2Config has no {', '.join(unknown)}; it has {', '.join(sorted(known))}")
    return replace(PRESETS[name], **changes)


def config_from_shapes(shapes: Mapping[str, tuple[int, ...]]) -> UniFormerV2Config | None:
    """The configuration that tensors of these names and shapes belong to, or None where they are no UniFormerV2.

    What no tensor tells is as published: global blocks follow the last blocks, sequential fusion, no dropout known.
    A model without `balance` is taken for a frozen one.
    """
    conv, positions = shapes.get("conv1.weight", ()), shapes.get("positional_embedding", ())
    head = shapes.get("transformer.proj.2.weight", ())
    if len(conv) != 5 or len(positions) != 2 or len(head) != 2 or not conv[0] == positions[1] == head[1]:
        return None
    layers, stages = (_count(shapes, rf"transformer\.{part}\.(\d+)\.") for part in ("resblocks", "dec"))
    found = (conv[0], layers, conv[-1])
    backbone = next((name for name, vit in BACKBONES.items() if (vit.width, vit.layers, vit.patch_px) == found), None)
    queries = shapes.get("transformer.temporal_cls_token", (1,))[0]
    if backbone is None or stages > layers or (queries > 1 and "transformer.fusion_weight" not in shapes):
        return None
    inner = shapes.get("transformer.resblocks.0.lmhra1.pos_embed.1.weight", (0,))[0]
    modules = sum(f"transformer.resblocks.0.lmhra{number}.pos_embed.1.weight" in shapes for number in (1, 2))
    frozen = bool(stages) and "transformer.balance" not in shapes and not modules
    downsample = conv[2] == 3
    try:
        return UniFormerV2Config(
            backbone=backbone,
            size_px=math.isqrt(max(positions[0] - 1, 0)) * conv[-1],
            num_frames=16 if downsample else 8,
            num_classes=head[0],
            global_after=tuple(range(layers - stages, layers)),
            fusion="parallel" if "transformer.fusion_weight" in shapes else "sequential",
            dpe="transformer.dpe.0.weight" in shapes,
            balance="transformer.balance" in shapes,
            local=LOCAL[modules],
            local_reduction=1.5 if not inner or int(conv[0] // 1.5) == inner else conv[0] / inner,
            temporal_downsample=downsample,
            frozen=frozen,
        )
    except UsageError:
        return None


def preset_name(config: UniFormerV2Config) -> str | None:
    """The preset whose tensors, but for the head's rows, a model of `config` has."""
    told = ("backbone", "size_px", "global_after", "fusion", "dpe", "balance", "local")
    told_too = ("local_reduction", "temporal_downsample")
    for name, known in PRESETS.items():
        if all(getattr(known, key) == getattr(config, key) for key in (*told, *told_too)):
            return name
    return None


def _count(shapes: Mapping[str, tuple[int, ...]], pattern: str) -> int:
    return len({match[1] for key in shapes if (match := re.match(pattern, key))})
