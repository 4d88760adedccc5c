"""Multiply-adds of a VideoMAE V2, as the paper's tables count them."""

from __future__ import annotations

import math

from k710.models.videomaev2.config import VideoMAEV2Config


def multiply_adds(config: VideoMAEV2Config) -> dict[str, int]:
    """Multiply-adds of one clip (one view of `num_frames` frames) by part; the paper's FLOPs are these times views.

    Normalisation, activations and sums are not counted.
    """
    vit, tokens = config.vit, math.prod(config.grid)
    return {
        "patches": tokens * vit.width * 3 * config.tubelet_frames * vit.patch_px**2,
        "linear layers": vit.layers * tokens * (4 * vit.width + 2 * vit.mlp_width) * vit.width,
        "attention": vit.layers * 2 * tokens**2 * vit.width,
        "head": vit.width * config.num_classes,
    }
