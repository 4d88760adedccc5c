"""What an EVL is: its configuration, the published ones by name, and which of them a checkpoint's shapes are."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from k710.errors import UsageError
from k710.models.uniformerv2.config import ACTIVATIONS, BACKBONES, Backbone


@dataclass(frozen=True)
class EvlConfig:
    """The model (EVL paper, section 3 and Appendix A); the defaults are the released B/16 for Kinetics-400.

    The decoder has `decoder_layers` layers; its layer i looks at the tokens after block N - M + i of the N blocks of
    the image tower. `qkv_width` is the width of its queries, keys and values, all heads together; its MLP is
    `mlp_factor` times as wide as the tower. `temporal_conv`, `temporal_positions` and `temporal_attention` are the
    parts of section 3.2, which put motion into the tokens.

    `frozen` keeps the tower as it is and out of autograd. Checkpoints of the release then have no tower; with
    `keeps_backbone` a checkpoint has it all the same, as it must where no file gives it. `activation` is the tower's:
    CLIP's own quick_gelu, or the gelu of most OpenCLIP weights. With `temporal_positions`, the model takes
    `num_frames` frames alone; without, any number.

    Raises UsageError, which names the field, its value and what is allowed.
    """

    backbone: str = "B/16"
    size_px: int = 224
    num_frames: int = 8
    num_classes: int = 400
    decoder_layers: int = 4
    qkv_width: int = 768
    decoder_heads: int = 12
    mlp_factor: float = 4.0
    temporal_conv: bool = True
    temporal_positions: bool = True
    temporal_attention: bool = True
    frozen: bool = True
    keeps_backbone: bool = False
    mlp_dropout: float = 0.5
    head_dropout: float = 0.5
    activation: str = "quick_gelu"

    def __post_init__(self) -> None:
        self._want(self.backbone in BACKBONES, "backbone", " or ".join(BACKBONES))
        self._want(self.activation in ACTIVATIONS, "activation", " or ".join(ACTIVATIONS))
        patch_px, layers = self.vit.patch_px, self.vit.layers
        self._want(self.size_px > 0 and self.size_px % patch_px == 0, "size_px", f"a multiple of {patch_px}")
        self._want(self.num_frames > 0, "num_frames", "at least 1")
        self._want(self.num_classes > 0, "num_classes", "at least 1")
        self._want(1 <= self.decoder_layers <= layers, "decoder_layers", f"1 to {layers}")
        self._want(self.decoder_heads > 0, "decoder_heads", "at least 1")
        fits = self.qkv_width > 0 and self.qkv_width % self.decoder_heads == 0
        self._want(fits, "qkv_width", f"a multiple of decoder_heads, {self.decoder_heads}")
        self._want(0 < self.mlp_factor <= 64 and self.mlp_width > 0, "mlp_factor", "more than 0 and at most 64")
        for name in ("mlp_dropout", "head_dropout"):
            self._want(0 <= getattr(self, name) < 1, name, "at least 0 and less than 1")

    @property
    def vit(self) -> Backbone:
        return BACKBONES[self.backbone]

    @property
    def grid(self) -> int:
        """Patches along a side."""
        return self.size_px // self.vit.patch_px

    @property
    def mlp_width(self) -> int:
        return round(self.mlp_factor * self.vit.width)

    @property
    def title(self) -> str:
        parts = f"{self.decoder_layers} decoder layers, {self.num_classes} classes"
        return f"EVL-{self.backbone} at {self.size_px} px, {parts}"

    def _want(self, holds: bool, name: str, allowed: str) -> None:
        if not holds:
            raise UsageError(f"EvlConfig: {name} is {getattr(self, name)!r}, want {allowed}")


_K400_B16 = EvlConfig()
_K400_L14 = replace(_K400_B16, backbone="L/14", qkv_width=1024, decoder_heads=16)
_SSV2_B16 = replace(_K400_B16, num_classes=174, decoder_layers=12)
_SSV2_L14 = replace(_K400_L14, num_classes=174, decoder_layers=24)

# Kinetics: the release's scripts, and Table 1 for 336 px. Something-Something: Appendix A, a decoder layer for every
# block of the tower. Other numbers of frames are the same models but for the temporal position embedding.
PRESETS = {
    "kinetics_b16": _K400_B16,
    "kinetics_l14": _K400_L14,
    "kinetics_l14_336": replace(_K400_L14, size_px=336, num_frames=32),
    "ssv2_b16": _SSV2_B16,
    "ssv2_l14": _SSV2_L14,
    "ssv2_l14_336": replace(_SSV2_L14, size_px=336, num_frames=32),
    "tiny": EvlConfig("tiny", size_px=32, num_frames=8, decoder_layers=4, qkv_width=64, decoder_heads=2),
}

_LAYER = "decoder.decoder_layers.0"


def config_from_shapes(shapes: Mapping[str, tuple[int, ...]]) -> EvlConfig | None:
    """The configuration that tensors of these names and shapes belong to, or None where they are no EVL.

    What no tensor tells is as published: heads as in the tower; where there is no temporal cross attention, the size;
    where there are no temporal positions, the frames.
    """
    width, qkv = shapes.get("decoder.cls_token", ()), shapes.get(f"{_LAYER}.attn.q_proj.weight", ())
    head, mlp = shapes.get("proj.2.weight", ()), shapes.get(f"{_LAYER}.mlp.fc1.weight", ())
    if len(width) != 1 or not len(qkv) == len(head) == len(mlp) == 2 or not qkv[1] == head[1] == mlp[1] == width[0]:
        return None
    backbone = next((name for name, vit in BACKBONES.items() if vit.width == width[0]), None)
    if backbone is None:
        return None
    vit = BACKBONES[backbone]
    offsets = shapes.get("decoder.cross_attention.0.w1", (0,))[0]  # (2 n - 1)² for a grid of n
    tokens = shapes.get("backbone.pos_embed", (0,))[0]
    published = 32 if backbone == "tiny" else 224
    grid = (math.isqrt(offsets) + 1) // 2 if offsets else math.isqrt(tokens - 1) if tokens > 1 else 0
    positions = shapes.get("decoder.temporal_pos_embed.0", ())
    heads = vit.heads if qkv[0] % vit.heads == 0 else 1
    try:
        return EvlConfig(
            backbone=backbone,
            size_px=grid * vit.patch_px or published,
            num_frames=positions[0] if positions else 8,
            num_classes=head[0],
            decoder_layers=_count(shapes, r"decoder\.decoder_layers\.(\d+)\."),
            qkv_width=qkv[0],
            decoder_heads=heads,
            mlp_factor=4.0 if mlp[0] == 4 * width[0] else mlp[0] / width[0],
            temporal_conv="decoder.temporal_conv.0.weight" in shapes,
            temporal_positions=bool(positions),
            temporal_attention=bool(offsets),
            keeps_backbone="backbone.cls_token" in shapes,
        )
    except UsageError:
        return None


def preset_name(config: EvlConfig) -> str | None:
    """The preset whose tensors, but for the head's rows and the positions of other frames, a model of `config` has."""
    told = ("backbone", "size_px", "decoder_layers", "qkv_width", "mlp_factor")
    parts = ("temporal_conv", "temporal_positions", "temporal_attention")
    for name, known in PRESETS.items():
        if all(getattr(known, key) == getattr(config, key) for key in (*told, *parts)):
            return name
    return None


def _count(shapes: Mapping[str, tuple[int, ...]], pattern: str) -> int:
    return len({match[1] for key in shapes if (match := re.match(pattern, key))})
