"""What a VideoMAE V2 classifier is: its configuration, the published ones, and how a checkpoint's shapes tell them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from k710.errors import UsageError


@dataclass(frozen=True)
class Backbone:
    """A video ViT with joint space-time attention; its head dimension is width / heads."""

    width: int
    layers: int
    heads: int
    mlp_width: int
    patch_px: int


# ImageNet's (--imagenet_default_mean_and_std, the release's default), of pixels in 0 to 1.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)

# The release's (models/modeling_finetune.py), and `tiny` for tests and the demo.
BACKBONES = {
    "S/16": Backbone(384, 12, 6, 1536, 16),
    "B/16": Backbone(768, 12, 12, 3072, 16),
    "L/16": Backbone(1024, 24, 16, 4096, 16),
    "H/16": Backbone(1280, 32, 16, 5120, 16),
    "g/14": Backbone(1408, 40, 16, 6144, 14),
    "tiny": Backbone(64, 3, 2, 256, 8),
}


@dataclass(frozen=True)
class VideoMAEV2Config:
    """The model that is finetuned (VideoMAE V2 paper, section 3; supplement, Table 1); the defaults are B/16 for K710.

    A token is `tubelet_frames` frames of a patch. `mean_pooling` classifies the mean of the tokens, normed after it, as
    all released models do; without it, the first token is, normed before. `qkv_bias` gives queries and values a bias.
    `layer_scale` is the start of a factor per channel on each branch, 0 for none. `init_std` is the standard deviation
    of the first weights; `init_scale` multiplies the head's. Drop paths rise linearly to their value at the last block.
    `checkpoint_blocks`: so many first blocks are recomputed in backward. The table of positions is computed for
    `num_frames` and `size_px`; no weight depends on either.

    Raises UsageError, which names the field, its value and what is allowed.
    """

    backbone: str = "B/16"
    size_px: int = 224
    num_frames: int = 16
    num_classes: int = 710
    tubelet_frames: int = 2
    mean_pooling: bool = True
    qkv_bias: bool = True
    layer_scale: float = 0.0
    head_dropout: float = 0.0
    drop_path: float = 0.0
    init_std: float = 0.02
    init_scale: float = 0.001
    checkpoint_blocks: int = 0

    def __post_init__(self) -> None:
        self._want(self.backbone in BACKBONES, "backbone", " or ".join(BACKBONES))
        layers, patch_px = self.vit.layers, self.vit.patch_px
        self._want(self.size_px > 0 and self.size_px % patch_px == 0, "size_px", f"a multiple of {patch_px}")
        self._want(self.tubelet_frames > 0, "tubelet_frames", "at least 1")
        whole = self.num_frames > 0 and self.num_frames % self.tubelet_frames == 0
        self._want(whole, "num_frames", f"a positive multiple of {self.tubelet_frames}")
        self._want(self.num_classes > 0, "num_classes", "at least 1")
        self._want(0 <= self.layer_scale <= 1e3, "layer_scale", "0 to 1000")
        self._want(0 < self.init_std <= 1, "init_std", "more than 0, at most 1")
        self._want(0 <= self.init_scale <= 1e3, "init_scale", "0 to 1000")
        for name in ("head_dropout", "drop_path"):
            self._want(0 <= getattr(self, name) < 1, name, "at least 0 and less than 1")
        self._want(0 <= self.checkpoint_blocks <= layers, "checkpoint_blocks", f"0 to {layers}")

    @property
    def vit(self) -> Backbone:
        return BACKBONES[self.backbone]

    @property
    def grid(self) -> tuple[int, int, int]:
        """Tokens in time, down and across."""
        side = self.size_px // self.vit.patch_px
        return self.num_frames // self.tubelet_frames, side, side

    @property
    def title(self) -> str:
        return f"VideoMAE V2 ViT-{self.backbone}, {self.num_classes} classes"

    def _want(self, holds: bool, name: str, allowed: str) -> None:
        if not holds:
            raise UsageError(f"VideoMAEV2Config: {name} is {getattr(self, name)!r}, want {allowed}")


_BASE = VideoMAEV2Config()

# The released models. Their drop paths and dropouts are their recipes'.
PRESETS = {
    "small": replace(_BASE, backbone="S/16"),
    "base": _BASE,
    "large": replace(_BASE, backbone="L/16"),
    "huge": replace(_BASE, backbone="H/16"),
    "giant": replace(_BASE, backbone="g/14"),
    # Its width wants larger first weights than the published ones: with 0.02 its blocks take long to begin to act.
    "tiny": VideoMAEV2Config(backbone="tiny", size_px=32, num_frames=8, init_std=0.05),
}


def config_from_shapes(shapes: Mapping[str, tuple[int, ...]]) -> VideoMAEV2Config | None:
    """The configuration that tensors of these names and shapes belong to, or None where they are no such classifier.

    What no tensor tells is as published: 224 px (the tiny model: 32) and 16 frames (8), no dropout known. VideoMAE,
    VideoMAE V2, InternVideo and MVD have the same tensors, and compute the same with them.
    """
    patches, head = shapes.get("patch_embed.proj.weight", ()), shapes.get("head.weight", ())
    hidden = shapes.get("blocks.0.mlp.fc1.weight", (0,))[0]
    if len(patches) != 5 or len(head) != 2 or patches[0] != head[1] or patches[1] != 3:
        return None
    found = (patches[0], _count(shapes), hidden, patches[-1])
    name = next(
        (
            name
            for name, preset in PRESETS.items()
            if (preset.vit.width, preset.vit.layers, preset.vit.mlp_width, preset.vit.patch_px) == found
        ),
        None,
    )
    if name is None:
        return None
    config = replace(
        PRESETS[name],
        num_classes=head[0],
        tubelet_frames=patches[2],
        num_frames=PRESETS[name].num_frames // 2 * patches[2],
        mean_pooling="fc_norm.weight" in shapes,
        qkv_bias="blocks.0.attn.q_bias" in shapes,
        layer_scale=0.1 if "blocks.0.gamma_1" in shapes else 0.0,
    )
    # A class token, relative positions or norms of queries make another model of what looks like this one.
    return config if shapes.keys() == tensor_shapes(config).keys() else None


def tensor_shapes(config: VideoMAEV2Config) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of the model, in the order of its state dict."""
    vit = config.vit
    width, hidden = vit.width, vit.mlp_width
    block = block_shapes(width, hidden, qkv_bias=config.qkv_bias, layer_scale=config.layer_scale != 0)
    norm = "fc_norm" if config.mean_pooling else "norm"
    return {
        "patch_embed.proj.weight": (width, 3, config.tubelet_frames, vit.patch_px, vit.patch_px),
        "patch_embed.proj.bias": (width,),
        **{f"blocks.{number}.{name}": shape for number in range(vit.layers) for name, shape in block.items()},
        f"{norm}.weight": (width,),
        f"{norm}.bias": (width,),
        "head.weight": (config.num_classes, width),
        "head.bias": (config.num_classes,),
    }


def block_shapes(
    width: int, hidden: int, *, qkv_bias: bool = True, layer_scale: bool = False
) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of one block, in the order of its state dict."""
    bias = {"attn.q_bias": (width,), "attn.v_bias": (width,)} if qkv_bias else {}
    scale = {"gamma_1": (width,), "gamma_2": (width,)} if layer_scale else {}
    return {
        **scale,
        "norm1.weight": (width,),
        "norm1.bias": (width,),
        **bias,
        "attn.qkv.weight": (3 * width, width),
        "attn.proj.weight": (width, width),
        "attn.proj.bias": (width,),
        "norm2.weight": (width,),
        "norm2.bias": (width,),
        "mlp.fc1.weight": (hidden, width),
        "mlp.fc1.bias": (hidden,),
        "mlp.fc2.weight": (width, hidden),
        "mlp.fc2.bias": (width,),
    }


def preset_name(config: VideoMAEV2Config) -> str | None:
    """The preset whose tensors, but for the head's rows, a model of `config` has."""
    told = ("backbone", "tubelet_frames", "mean_pooling", "qkv_bias", "layer_scale")
    return next(
        (name for name, known in PRESETS.items() if all(getattr(known, key) == getattr(config, key) for key in told)),
        None,
    )


def _count(shapes: Mapping[str, tuple[int, ...]]) -> int:
    return len({match[1] for key in shapes if (match := re.match(r"blocks\.(\d+)\.", key))})
