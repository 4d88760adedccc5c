"""Multiply-adds of an EVL, as the paper's tables count them."""

from __future__ import annotations

from k710.models.evl.config import EvlConfig

BACKBONE_PARTS = ("patches", "linear layers", "attention")


def multiply_adds(config: EvlConfig) -> dict[str, int]:
    """Multiply-adds of one clip (one view of `num_frames` frames) by part; the paper's FLOPs are these times views.

    Counted as the layers are defined, in full, whatever this code saves by folding them; normalisation, activations and
    sums are not counted. The parts of the image tower are BACKBONE_PARTS.
    """
    vit, patches, frames, layers = config.vit, config.grid**2, config.num_frames, config.decoder_layers
    width, qkv, per_frame = vit.width, config.qkv_width, 1 + config.grid**2
    tokens, pairs = frames * per_frame, 2 * (frames - 1) * patches**2
    return {
        "patches": frames * patches * width * 3 * vit.patch_px**2,
        "linear layers": vit.layers * tokens * 12 * width**2,
        "attention": vit.layers * tokens * 2 * per_frame * width,
        "keys and values": layers * tokens * 2 * width * qkv,
        "queries": layers * (2 * width * qkv + 2 * tokens * qkv + 2 * width * config.mlp_width),
        "temporal conv": layers * tokens * 3 * width if config.temporal_conv else 0,
        "temporal attention": layers * pairs * 2 * width if config.temporal_attention else 0,
        "head": width * config.num_classes,
    }
