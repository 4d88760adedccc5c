"""Parameters and multiply-adds of EVL's tables, computed; where the paper errs, the row says so."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from k710.models.evl.config import PRESETS, EvlConfig
from k710.models.evl.cost import BACKBONE_PARTS, multiply_adds
from k710.models.evl.family import EVL
from k710.models.evl.model import Evl
from k710.models.families import num_parameters
from tests.helpers import CHECKOUT
from tests.helpers.published_evl import plain_logits

# Frames and GFLOPs of three views, as printed. The paper counts a pair of frames for every frame and direction, though
# the first has none before it and the last none after it.
TABLES = {
    "Table 1, L/14": ("kinetics_l14", {8: 2022, 16: 4044, 32: 8088}),
    "Table 9, L/14": ("ssv2_l14", {8: 2411, 32: 9641}),
    "Table 9, L/14 at 336 px": ("ssv2_l14_336", {32: 24259}),
}
# The B/16 models of Kinetics are printed without temporal cross attention.
WITHOUT_ATTENTION = {"Table 1, B/16": ("kinetics_b16", {8: 444, 16: 888, 32: 1777})}

# Rows that contradict the others: as printed, and as computed in the paper's own way.
ERRORS = {
    "Table 1, L/14 at 336 px, 32 frames": ("kinetics_l14_336", 32, 18196, 19320),  # the tower alone has 18,332
    "Table 9, B/16, 8 frames": ("ssv2_b16", 8, 512, 523),  # between 489 without temporal attention and 523 with it
    "Table 9, B/16, 16 frames": ("ssv2_b16", 16, 1023, 1045),
    "Table 9, B/16, 32 frames": ("ssv2_b16", 32, 2047, 2091),
}


def giga(preset: str, frames: int, *, without: tuple[str, ...] = (), as_printed: bool = False) -> float:
    """Multiply-adds of three views, in units of 10⁹."""
    parts = multiply_adds(replace(PRESETS[preset], num_frames=frames))
    if as_printed:
        parts["temporal attention"] = parts["temporal attention"] * frames // (frames - 1)
    return 3 * sum(number for part, number in parts.items() if part not in without) / 1e9


@pytest.mark.parametrize("row", TABLES)
def test_the_papers_tables(row: str):
    preset, printed = TABLES[row]
    for frames, number in printed.items():
        assert giga(preset, frames, as_printed=True) == pytest.approx(number, rel=3e-4)
        assert giga(preset, frames) < number, "what is computed is less: there is no pair at the ends"


@pytest.mark.parametrize("row", WITHOUT_ATTENTION)
def test_the_rows_without_temporal_attention(row: str):
    preset, printed = WITHOUT_ATTENTION[row]
    for frames, number in printed.items():
        assert giga(preset, frames, without=("temporal attention",)) == pytest.approx(number, rel=1e-3)
        assert giga(preset, frames) > 1.02 * number


@pytest.mark.parametrize("row", ERRORS)
def test_the_papers_errors(row: str):
    preset, frames, printed, right = ERRORS[row]
    found = giga(preset, frames, as_printed=True)
    assert found == pytest.approx(right, rel=1e-3)
    assert abs(found - printed) > 0.02 * printed


def test_the_row_of_336_px_is_below_the_tower_alone():
    tower = multiply_adds(PRESETS["kinetics_l14_336"])
    assert 3 * sum(tower[part] for part in BACKBONE_PARTS) / 1e9 > 18196


@pytest.mark.parametrize(("layers", "millions"), [(1, None), (4, 33.2)])
def test_the_new_parameters(layers: int, millions: float | None):
    """Table 2 prints none for EVL; the release's four layers have 33,183,376."""
    found = num_parameters(EVL, replace(PRESETS["kinetics_b16"], decoder_layers=layers))
    assert found["total"] - found["trainable"] == 85798656
    if millions:
        assert found["trainable"] / 1e6 == pytest.approx(millions, abs=0.05)


def test_equation_10_a_decoder_layer_is_a_sixth_of_a_block():
    """And all of them are within a fifth of the tower (section 3.3), but for the temporal attention of large ones."""
    parts = multiply_adds(replace(PRESETS["kinetics_b16"], decoder_layers=12))
    tower = sum(parts[part] for part in BACKBONE_PARTS)
    assert parts["keys and values"] / tower == pytest.approx(1 / 6, abs=0.01)
    assert parts["keys and values"] + parts["queries"] < 0.2 * tower


COUNTED = [
    replace(PRESETS["tiny"], num_frames=3),
    replace(PRESETS["tiny"], num_frames=2, decoder_layers=1, qkv_width=24, decoder_heads=3, mlp_factor=1.5),
    replace(PRESETS["tiny"], num_frames=2, temporal_attention=False),
    replace(PRESETS["tiny"], num_frames=2, temporal_conv=False, size_px=24),
]


@pytest.mark.parametrize("config", COUNTED, ids=str)
def test_the_closed_form_is_what_torch_counts(config: EvlConfig):
    """Of the definition, which folds nothing."""
    weights = {name: parameter.detach() for name, parameter in Evl(config).named_parameters()}
    clips = torch.zeros(1, 3, config.num_frames, config.size_px, config.size_px)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        plain_logits(weights, config, clips)
    assert sum(multiply_adds(config).values()) == counter.get_total_flops() / 2


def test_training_a_frozen_tower_costs_one_pass_of_it():
    config = PRESETS["kinetics_b16"]
    frozen, all_trained = EVL.cost(config), EVL.cost(replace(config, frozen=False))
    forward = sum(frozen.forward.values())
    tower = sum(frozen.forward[part] for part in BACKBONE_PARTS)
    assert all_trained.training == 3 * forward
    assert frozen.training == tower + 3 * (forward - tower)
    assert all_trained.training / frozen.training > 2.5


def test_the_table_of_the_page_is_computed():
    page = (CHECKOUT / "docs" / "evl.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", page, re.MULTILINE))
    expected = {}
    for name, config in PRESETS.items():
        count, cost = num_parameters(EVL, config), sum(multiply_adds(config).values()) / 1e9
        expected[name] = f"{count['total']:,} | {count['trainable']:,} | {config.num_frames} | {cost:,.2f} G"
    assert rows == expected
