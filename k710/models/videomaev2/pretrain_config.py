"""What a VideoMAE V2 is while it is pretrained: its configuration, the published ones, and its tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from k710.errors import UsageError
from k710.models.videomaev2.config import BACKBONES, Backbone, block_shapes

# What the decoder may leave out: quarters of a cell, and nothing.
_DECODER_RATIOS = (0.0, 0.25, 0.5, 0.75)


@dataclass(frozen=True)
class PretrainConfig:
    """The model that is pretrained (VideoMAE V2 paper, section 3; supplement, Table 1); the defaults are B/16.

    `mask_ratio` of the places is hidden from the encoder. `decoder_mask_ratio` of all tokens is left out by the
    decoder: 0.25, 0.5 or 0.75, or 0, where it reconstructs all that is hidden. Drop paths rise linearly to their value
    at the last block, of encoder and decoder each. `checkpoint_blocks`: so many first blocks of the encoder are
    recomputed in backward. `decoder_fp32`: the decoder computes in float32 where the rest does not, as the paper says
    (supplement, C.1) and the release does not. No weight depends on `num_frames` or `size_px`.

    Raises UsageError, which names the field, its value and what is allowed.
    """

    backbone: str = "B/16"
    size_px: int = 224
    num_frames: int = 16
    tubelet_frames: int = 2
    decoder_width: int = 384
    decoder_layers: int = 4
    decoder_heads: int = 6
    mask_ratio: float = 0.9
    decoder_mask_ratio: float = 0.5
    drop_path: float = 0.0
    checkpoint_blocks: int = 0
    decoder_fp32: bool = False

    def __post_init__(self) -> None:
        self._want(self.backbone in BACKBONES, "backbone", " or ".join(BACKBONES))
        patch_px = self.vit.patch_px
        self._want(self.size_px > 0 and self.size_px % patch_px == 0, "size_px", f"a multiple of {patch_px}")
        self._want(self.tubelet_frames > 0, "tubelet_frames", "at least 1")
        whole = self.num_frames > 0 and self.num_frames % self.tubelet_frames == 0
        self._want(whole, "num_frames", f"a positive multiple of {self.tubelet_frames}")
        self._want(self.decoder_width > 0, "decoder_width", "at least 1")
        self._want(self.decoder_layers > 0, "decoder_layers", "at least 1")
        divides = self.decoder_heads > 0 and self.decoder_width % self.decoder_heads == 0
        self._want(divides, "decoder_heads", f"a divisor of decoder_width {self.decoder_width}")
        places = self.grid[1] * self.grid[2]
        sensible = 0 < self.mask_ratio < 1 and int(self.mask_ratio * places) > 0
        self._want(sensible, "mask_ratio", f"more than 0, less than 1, and at least one of {places} places")
        self._want(self.decoder_mask_ratio in _DECODER_RATIOS, "decoder_mask_ratio", "0, 0.25, 0.5 or 0.75")
        # Else clips would have different numbers of tokens, by where their cells begin.
        even = self.decoder_mask_ratio == 0 or self.grid[1] % 2 == 0
        self._want(even, "size_px", f"a multiple of {2 * patch_px}, so that cells of 2 x 2 fill the frame")
        self._want(0 <= self.drop_path < 1, "drop_path", "at least 0 and less than 1")
        self._want(0 <= self.checkpoint_blocks <= self.vit.layers, "checkpoint_blocks", f"0 to {self.vit.layers}")

    @property
    def vit(self) -> Backbone:
        """The encoder's."""
        return BACKBONES[self.backbone]

    @property
    def decoder(self) -> Backbone:
        """The decoder's, whose MLP is as much wider than its tokens as the encoder's, rounded down."""
        hidden = self.decoder_width * self.vit.mlp_width // self.vit.width
        return Backbone(self.decoder_width, self.decoder_layers, self.decoder_heads, hidden, self.vit.patch_px)

    @property
    def grid(self) -> tuple[int, int, int]:
        """Tokens in time, down and across."""
        side = self.size_px // self.vit.patch_px
        return self.num_frames // self.tubelet_frames, side, side

    @property
    def feature_width(self) -> int:
        """The width of what the encoder makes of a clip."""
        return self.vit.width

    @property
    def cube_values(self) -> int:
        """The values of a token: those of its pixels."""
        return 3 * self.tubelet_frames * self.vit.patch_px**2

    @property
    def num_visible(self) -> int:
        """Tokens that the encoder sees."""
        slots, rows, columns = self.grid
        return slots * (rows * columns - int(self.mask_ratio * rows * columns))

    @property
    def num_decoded(self) -> int:
        """Tokens that the decoder reconstructs."""
        slots, rows, columns = self.grid
        tokens = slots * rows * columns
        if not self.decoder_mask_ratio:
            return tokens - self.num_visible
        return tokens - round(tokens * self.decoder_mask_ratio)

    @property
    def title(self) -> str:
        return f"VideoMAE V2 ViT-{self.backbone}, masked pretraining"

    def _want(self, holds: bool, name: str, allowed: str) -> None:
        if not holds:
            raise UsageError(f"{type(self).__name__}: {name} is {getattr(self, name)!r}, want {allowed}")


_BASE = PretrainConfig()
_LARGE = replace(_BASE, backbone="L/16", decoder_width=512, decoder_heads=8)

# The release's (models/modeling_pretrain.py; every script says --decoder_depth 4), and `tiny` for tests and the demo.
PRESETS = {
    "small": replace(_BASE, backbone="S/16", decoder_width=192, decoder_heads=3),
    "base": _BASE,
    "large": _LARGE,
    "huge": replace(_LARGE, backbone="H/16"),
    "giant": replace(_LARGE, backbone="g/14"),
    "tiny": PretrainConfig(
        backbone="tiny", size_px=32, num_frames=8, decoder_width=48, decoder_layers=2, decoder_heads=2, mask_ratio=0.75
    ),
}


def tensor_shapes(config: PretrainConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of the model, in the order of its state dict."""
    encoder, decoder = config.vit, config.decoder
    parts = {
        name: {f"{name}.blocks.{number}.{key}": shape for number in range(vit.layers) for key, shape in block.items()}
        | {f"{name}.norm.weight": (vit.width,), f"{name}.norm.bias": (vit.width,)}
        for name, vit in (("encoder", encoder), ("decoder", decoder))
        for block in (block_shapes(vit.width, vit.mlp_width),)
    }
    return {
        "mask_token": (1, 1, decoder.width),
        "encoder.patch_embed.proj.weight": (
            encoder.width, 3, config.tubelet_frames, encoder.patch_px, encoder.patch_px,
        ),
        "encoder.patch_embed.proj.bias": (encoder.width,),
        **parts["encoder"],
        **parts["decoder"],
        "decoder.head.weight": (config.cube_values, decoder.width),
        "decoder.head.bias": (config.cube_values,),
        "encoder_to_decoder.weight": (decoder.width, encoder.width),
    }  # fmt: skip


def config_from_shapes(shapes: Mapping[str, tuple[int, ...]]) -> PretrainConfig | None:
    """The configuration that tensors of these names and shapes belong to, or None where they are of no such model.

    What no tensor tells is as published: size, frames, heads, ratios of the masks.
    """
    patches, token = shapes.get("encoder.patch_embed.proj.weight", ()), shapes.get("mask_token", ())
    if len(patches) != 5 or len(token) != 3:
        return None
    numbers = (re.match(r"decoder\.blocks\.(\d+)\.", name) for name in shapes)
    layers = len({number[1] for number in numbers if number})
    for preset in PRESETS.values():
        if (preset.vit.width, preset.vit.patch_px) != (patches[0], patches[-1]) or patches[2] < 1 or layers < 1:
            continue
        frames = preset.num_frames // preset.tubelet_frames * patches[2]
        heads = preset.decoder_heads if preset.decoder_width == token[2] else 1
        config = replace(
            preset, tubelet_frames=patches[2], num_frames=frames,
            decoder_width=token[2], decoder_layers=layers, decoder_heads=heads,
        )  # fmt: skip
        if tensor_shapes(config) == dict(shapes):
            return config
    return None


def preset_name(config: PretrainConfig) -> str | None:
    """The preset whose tensors a model of `config` has."""
    told = ("backbone", "tubelet_frames", "decoder_width", "decoder_layers")
    return next(
        (name for name, known in PRESETS.items() if all(getattr(known, key) == getattr(config, key) for key in told)),
        None,
    )
