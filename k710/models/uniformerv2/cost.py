"""Multiply-adds of a UniFormerV2, as the paper's tables count them."""

from __future__ import annotations

from k710.models.uniformerv2.config import UniFormerV2Config

BACKBONE_PARTS = ("patches", "linear layers", "attention", "local MHRA")


def multiply_adds(config: UniFormerV2Config) -> dict[str, int]:
    """Multiply-adds of one clip (one view of `num_frames` frames) by part; the paper's FLOPs are these times views.

    Counted as the layers are defined, in full, whatever this code saves by folding them; normalisation, activations and
    sums are not counted. The parts of the backbone are BACKBONE_PARTS.
    """
    vit, patches = config.vit, config.grid**2
    width, frames = vit.width, config.num_frames // (2 if config.temporal_downsample else 1)
    per_frame = 1 + patches
    tokens = frames * per_frame
    kernel = 3 if config.temporal_downsample else 1
    inner, modules = int(width // config.local_reduction), ("none", "single", "double").index(config.local)
    stages = len(config.global_after)
    # Hierarchical Q has one query more after each stage; hierarchical KV one more token to look at after the first.
    queries = stages * (stages + 1) // 2 if config.fusion == "hierarchical_q" else stages
    videos = max(stages - 1, 0) if config.fusion == "hierarchical_kv" else 0
    context, pairs = stages * tokens + videos, queries * tokens + videos
    return {
        "patches": frames * patches * width * 3 * kernel * vit.patch_px**2,
        "linear layers": vit.layers * tokens * 12 * width**2,
        "attention": vit.layers * tokens * 2 * per_frame * width,
        "local MHRA": vit.layers * modules * frames * patches * (2 * width * inner + 3 * inner),
        "DPE": (stages if config.dpe else 0) * frames * patches * 27 * width,
        "global blocks": context * 2 * width**2 + queries * 10 * width**2 + pairs * 2 * width,
        "head": width * config.num_classes,
    }
