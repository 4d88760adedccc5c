"""Multiply-adds of VideoMAE V2: what torch counts, and what the paper prints."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from k710.models.videomaev2.config import PRESETS, VideoMAEV2Config
from k710.models.videomaev2.cost import multiply_adds
from k710.models.videomaev2.model import VideoMAEV2

HUGE, GIANT = (replace(PRESETS[name], num_classes=400) for name in ("huge", "giant"))

# Of the supplement, Tables 8 and 9: configuration, views (clips x crops), TFLOPs as printed.
PRINTED = {
    "H 16x224, 5x3": (HUGE, 15, 17.88),
    "g 16x224, 5x3": (GIANT, 15, 38.16),
    "H 64x288, 4x3": (replace(HUGE, num_frames=64, size_px=288), 12, 153.34),
    "g 64x266, 2x3": (replace(GIANT, num_frames=64, size_px=266), 6, 160.30),
    "H 32x384, 4x3": (replace(HUGE, num_frames=32, size_px=384), 12, 184.24),
}


def tera(config: VideoMAEV2Config, views: int = 1) -> float:
    return sum(multiply_adds(config).values()) * views / 1e12


@pytest.mark.parametrize("config", [
    *PRESETS.values(), replace(PRESETS["tiny"], tubelet_frames=4, size_px=48), PRINTED["g 64x266, 2x3"][0],
], ids=lambda config: f"{config.backbone} {config.num_frames}x{config.size_px}")  # fmt: skip
def test_the_closed_form_is_what_torch_counts(config: VideoMAEV2Config):
    """Without memory, at full size."""
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        VideoMAEV2(config)(torch.zeros(1, 3, config.num_frames, config.size_px, config.size_px))
    assert sum(multiply_adds(config).values()) == counter.get_total_flops() / 2


@pytest.mark.parametrize("row", PRINTED)
def test_print(row):
    config, views, printed = PRINTED[row]
    print(
        row,
        tera(config, views),
        printed,
        tera(config, views) / printed,
        {k: v * views / 1e12 for k, v in multiply_adds(config).items()},
    )
