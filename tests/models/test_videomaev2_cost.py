"""Multiply-adds of VideoMAE V2: what torch counts, and what the paper prints."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from k710.models.families import num_parameters
from k710.models.videomaev2.config import PRESETS, VideoMAEV2Config
from k710.models.videomaev2.cost import multiply_adds
from k710.models.videomaev2.family import VIDEOMAEV2
from k710.models.videomaev2.model import VideoMAEV2
from k710.models.videomaev2.pretrain_family import VIDEOMAEV2_PRETRAIN
from tests.helpers import CHECKOUT

HUGE, GIANT = (replace(PRESETS[name], num_classes=400) for name in ("huge", "giant"))

# Of the supplement, Tables 8 and 9: configuration, views (clips x crops), TFLOPs as printed.
TABLES = {
    "H 16x224, 5x3": (HUGE, 15, 17.88),
    "g 16x224, 5x3": (GIANT, 15, 38.16),
    "g 64x266, 2x3": (replace(GIANT, num_frames=64, size_px=266), 6, 160.30),
}
# Table 8 prints the cost of Table 9's model for its own, and the other way round: as printed, and as computed.
SWAPPED = {
    "Table 8, H 64x288, 4x3": (replace(HUGE, num_frames=64, size_px=288), 12, 153.34, 184.24),
    "Table 9, H 32x384, 4x3": (replace(HUGE, num_frames=32, size_px=384), 12, 184.24, 153.34),
}


def tera(config: VideoMAEV2Config, views: int = 1) -> float:
    return sum(multiply_adds(config).values()) * views / 1e12


@pytest.mark.parametrize("config", [
    *PRESETS.values(), replace(PRESETS["tiny"], tubelet_frames=4, size_px=48), TABLES["g 64x266, 2x3"][0],
], ids=lambda config: f"{config.backbone} {config.num_frames}x{config.size_px}")  # fmt: skip
@pytest.mark.slow
def test_the_closed_form_is_what_torch_counts(config: VideoMAEV2Config):
    """Without memory, at full size."""
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        VideoMAEV2(config)(torch.zeros(1, 3, config.num_frames, config.size_px, config.size_px))
    assert sum(multiply_adds(config).values()) == counter.get_total_flops() / 2


@pytest.mark.parametrize("row", TABLES)
def test_the_papers_tables(row: str):
    config, views, printed = TABLES[row]
    assert tera(config, views) == pytest.approx(printed, rel=0.001)  # views times a number of four digits


@pytest.mark.parametrize("row", SWAPPED)
def test_the_papers_swapped_rows(row: str):
    config, views, printed, of_the_other = SWAPPED[row]
    assert tera(config, views) == pytest.approx(of_the_other, rel=0.001)
    assert abs(tera(config, views) - printed) > 30


def test_training_costs_three_forwards_and_recomputed_blocks_one_more():
    plain, recomputed = PRESETS["base"], replace(PRESETS["base"], checkpoint_blocks=12)
    forward = sum(multiply_adds(plain).values())
    assert VIDEOMAEV2.cost(plain).training == 3 * forward
    blocks = VIDEOMAEV2.cost(recomputed).training - 3 * forward
    assert 0.98 * forward < blocks < forward


def test_the_table_of_the_page_is_computed():
    page = (CHECKOUT / "docs" / "videomae.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]+ \| [^|]+) \|$", page, re.MULTILINE))
    expected = {
        name: f"{num_parameters(VIDEOMAEV2, config)['total']:,} | {sum(multiply_adds(config).values()) / 1e9:,.2f} G"
        for name, config in PRESETS.items()
    }
    assert rows == expected


def test_the_table_of_pretraining_is_computed():
    page = (CHECKOUT / "docs" / "videomae.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| ((?:[^|]+\|){3}[^|]+) \|$", page, re.MULTILINE))
    presets = {name: config for name, config in VIDEOMAEV2_PRETRAIN.presets.items() if name != "tiny"}
    assert rows.keys() == presets.keys()
    for name, config in presets.items():
        masked, full = (
            sum(VIDEOMAEV2_PRETRAIN.cost(replace(config, decoder_mask_ratio=ratio)).forward.values()) / 1e9
            for ratio in (0.5, 0.0)
        )
        parameters = num_parameters(VIDEOMAEV2_PRETRAIN, config)["total"]
        assert rows[name] == f"{parameters:,} | {masked:.2f} G | {full:.2f} G | {100 * (1 - masked / full):.0f} %"
