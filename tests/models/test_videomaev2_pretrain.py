"""VideoMAE V2's masked pretraining against its release (names, shapes, numbers, masks) and against itself."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from k710.errors import UsageError
from k710.models.checkpoints.checkpoint import open_checkpoint
from k710.models.families import FAMILIES, family_of, num_parameters
from k710.models.load import model_from_checkpoint
from k710.models.videomaev2.masks import draw_masks, running_cell_mask, tube_mask
from k710.models.videomaev2.pretrain import MaskedVideoMAEV2
from k710.models.videomaev2.pretrain_config import (
    PRESETS,
    PretrainConfig,
    config_from_shapes,
    preset_name,
    tensor_shapes,
)
from k710.models.videomaev2.pretrain_family import VIDEOMAEV2_PRETRAIN, layer_of, multiply_adds
from k710.random_key import RandomKey
from tests.helpers.golden import golden_clips
from tests.helpers.published_videomaev2 import fill
from tests.helpers.released_names import read_shapes

HELPERS = Path(__file__).parents[1] / "helpers"
GOLDEN: dict[str, Any] = json.loads((HELPERS / "videomaev2_pretrain_golden.json").read_text())
RELEASED = read_shapes(HELPERS / "videomaev2_pretrain_names.txt")

TINY = PRESETS["tiny"]
CONFIGS = {"dual mask": TINY, "no decoder mask": replace(TINY, decoder_mask_ratio=0.0)}
PARAMETERS = {
    "small": 24_029_376,
    "base": 94_210_944,
    "large": 317_782_016,
    "huge": 645_659_392,
    "giant": 1_026_306_560,
}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


def keys(num: int) -> list[RandomKey]:
    return [RandomKey(3, 1, f"clip{number}", number % 2) for number in range(num)]


def golden_masks(name: str) -> tuple[Tensor, Tensor]:
    golden, config = GOLDEN["models"][name], CONFIGS[name]
    slots, rows, columns = config.grid
    visible, decoded = [], []
    for number, places in enumerate(golden["places_seen"]):
        seen = [slot * rows * columns + place for slot in range(slots) for place in places]
        visible.append(seen)
        hidden = np.ones(slots * rows * columns, bool)
        hidden[seen] = False
        if golden["first_cells"] is not None:
            hidden = ~running_cell_mask(config.grid, config.decoder_mask_ratio, golden["first_cells"][number])
        decoded.append(np.flatnonzero(hidden).tolist())
    return torch.tensor(visible), torch.tensor(decoded)


@pytest.mark.parametrize("name", RELEASED)
def test_names_shapes_their_order_and_the_count_are_the_releases(name: str):
    with torch.device("meta"):
        model = MaskedVideoMAEV2(PRESETS[name])
    found = [(key, tuple(tensor.shape)) for key, tensor in model.state_dict().items()]
    assert found == RELEASED[name] == list(tensor_shapes(PRESETS[name]).items())
    assert num_parameters(VIDEOMAEV2_PRETRAIN, PRESETS[name])["total"] == PARAMETERS[name]


@pytest.mark.parametrize("name", CONFIGS)
def test_golden_pixels_loss_and_gradients(name: str):
    config, golden, stages = CONFIGS[name], GOLDEN["models"][name], {}
    model = fill(MaskedVideoMAEV2(config))
    model.encoder.register_forward_hook(lambda *args: stages.__setitem__("encoder", args[-1]))
    model.decoder.register_forward_hook(lambda *args: stages.__setitem__("decoder_input", args[1][0]))
    x, masks = golden_clips(config), golden_masks(name)
    found = model(x, *masks)
    torch.testing.assert_close(found[0, 0, :16], torch.tensor(golden["first_row"]), rtol=0, atol=1e-5)
    torch.testing.assert_close(found[1, -1, -16:], torch.tensor(golden["last_row"]), rtol=0, atol=1e-5)
    for tensor, (total, norm) in (
        (found, golden["sum_and_norm"]),
        (stages["encoder"], golden["encoder"]),
        (stages["decoder_input"], golden["decoder_input"]),
    ):
        assert tensor.double().norm().item() == pytest.approx(norm, rel=1e-6)
        assert tensor.double().sum().item() == pytest.approx(total, abs=1e-6 * norm * tensor.numel() ** 0.5)
    losses = model.losses(found, x, *masks)
    assert losses.shape == (2,)
    losses.mean().backward()
    assert losses.mean().item() == pytest.approx(golden["loss"], abs=1e-5)
    norms = {key: parameter.grad.norm().item() for key, parameter in model.named_parameters()}
    assert [norms[key] for key in sorted(norms)] == pytest.approx(golden["grad_norms"], abs=1e-5)


def test_only_what_was_hidden_counts():
    model = fill(MaskedVideoMAEV2(TINY))
    x, (visible, decoded) = golden_clips(TINY), golden_masks("dual mask")
    found = model(x, visible, decoded).detach()
    hidden = ~(decoded[:, :, None] == visible[:, None]).any(2)
    assert hidden.sum().item() == GOLDEN["models"]["dual mask"]["hidden_and_decoded"] * 2
    before = model.losses(found, x, visible, decoded)
    assert torch.equal(model.losses(torch.where(hidden[..., None], found, 99.0), x, visible, decoded), before)
    assert (model.losses(torch.where(hidden[..., None], 99.0, found), x, visible, decoded) > before + 1).all()
    targets = model.targets(x, decoded)
    assert model.losses(targets, x, visible, decoded).tolist() == [0, 0]
    by_channel = targets.unflatten(2, (-1, 3))
    torch.testing.assert_close(by_channel.mean(2), torch.zeros(2, 32, 3), rtol=0, atol=1e-5)
    torch.testing.assert_close(by_channel.std(2), torch.ones(2, 32, 3), rtol=0, atol=1e-3)


@pytest.mark.parametrize("ratio", GOLDEN["running_cells"])
def test_golden_running_cells(ratio: str):
    for start, slots in enumerate(GOLDEN["running_cells"][ratio]):
        mask = running_cell_mask((4, 4, 4), float(ratio), start).reshape(4, 2, 2, 2, 2)
        for slot, cell in enumerate(slots):
            wanted = np.array([digit == "1" for digit in cell]).reshape(2, 2)
            assert (mask[slot] == wanted[None, :, None, :]).all()


@pytest.mark.parametrize(("preset", "hidden", "visible", "decoded"), [
    ("base", 176, 160, 784), ("giant", 230, 208, 1024), ("tiny", 12, 16, 32),
])  # fmt: skip
def test_masks_of_the_published_sizes(preset: str, hidden: int, visible: int, decoded: int):
    config = PRESETS[preset]
    places = config.grid[1] * config.grid[2]
    tube = tube_mask(config.grid, config.mask_ratio, RandomKey(0, 0, "clip").draws("mask")).reshape(-1, places)
    assert (tube == tube[0]).all(), "the same places at all times"
    assert tube[0].sum() == hidden
    assert (config.num_visible, config.num_decoded) == (visible, decoded)
    masks = draw_masks(config, keys(3))
    assert [mask.shape for mask in masks] == [(3, visible), (3, decoded)]
    assert all((mask.diff(dim=1) > 0).all() for mask in masks), "each token once, in order"


def test_without_a_mask_the_decoder_does_what_is_hidden():
    config = CONFIGS["no decoder mask"]
    visible, decoded = draw_masks(config, keys(2))
    assert decoded.shape[1] == config.num_decoded == 48
    assert [sorted(row) for row in torch.cat([visible, decoded], 1).tolist()] == [list(range(64))] * 2


def test_masks_belong_to_the_clip_not_to_the_batch():
    whole = draw_masks(TINY, keys(6))
    alone = [draw_masks(TINY, [key]) for key in keys(6)]
    for number, mask in enumerate(whole):
        assert torch.equal(mask, torch.cat([masks[number] for masks in alone]))
        assert len({tuple(row) for row in mask.tolist()}) > 1, "they differ"
    counts = np.bincount(draw_masks(TINY, [RandomKey(0, 0, clip) for clip in range(2000)])[0].flatten() % 16)
    assert counts.min() > 0.9 * counts.mean(), "every place is seen as often"


def counted_multiply_adds(config: PretrainConfig) -> tuple[int, int]:
    """Of the encoder, and of the whole, for one clip."""
    with torch.device("meta"):
        model = MaskedVideoMAEV2(config)
        x = torch.empty(1, 3, config.num_frames, config.size_px, config.size_px)
        masks = torch.zeros(1, config.num_visible, dtype=int), torch.zeros(1, config.num_decoded, dtype=int)
    with FlopCounterMode(display=False) as counter:
        model(x, *masks)
    by_part = counter.get_flop_counts()
    return sum(by_part["MaskedVideoMAEV2.encoder"].values()) // 2, counter.get_total_flops() // 2


@pytest.mark.parametrize("name", ["tiny", "base", "giant"])
@pytest.mark.slow
def test_multiply_adds_are_those_that_torch_counts(name: str):
    for ratio in (0.5, 0.0):
        config = replace(PRESETS[name], decoder_mask_ratio=ratio)
        assert sum(multiply_adds(config).values()) == counted_multiply_adds(config)[1]


def test_what_is_hidden_costs_the_encoder_nothing():
    """The cost of the encoder falls at least as the visible share does; attention falls by its square."""
    costs = {
        ratio: counted_multiply_adds(replace(PRESETS["base"], mask_ratio=ratio)) for ratio in (0.9, 0.75, 0.5, 0.1)
    }
    shares = {ratio: replace(PRESETS["base"], mask_ratio=ratio).num_visible / 1568 for ratio in costs}
    most = costs[0.1][0]
    for ratio in (0.9, 0.75, 0.5):
        assert costs[ratio][0] < most * shares[ratio] / shares[0.1]


def test_a_masked_decoder_saves_more_than_a_quarter():
    base = PRESETS["base"]
    with_mask, without = (sum(multiply_adds(replace(base, decoder_mask_ratio=ratio)).values()) for ratio in (0.5, 0.0))
    assert 0.25 < 1 - with_mask / without < 0.35


@pytest.mark.parametrize("config", [
    replace(TINY, drop_path=0.2, checkpoint_blocks=2),
    replace(TINY, decoder_mask_ratio=0.75),
    replace(TINY, size_px=64),
], ids=str)  # fmt: skip
def test_gradients_reach_every_parameter(config: PretrainConfig):
    model = MaskedVideoMAEV2(config)
    x, masks = torch.randn(4, 3, 8, config.size_px, config.size_px), model.draw_masks(keys(4))
    model.losses(model(x, *masks), x, *masks).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any() or config.drop_path, name


def test_clips_do_not_see_each_other():
    model = MaskedVideoMAEV2(TINY).eval()
    x, (visible, decoded) = torch.randn(3, 3, 8, 32, 32), draw_masks(TINY, keys(3))
    torch.testing.assert_close(model(x, visible, decoded)[1:2], model(x[1:2], visible[1:2], decoded[1:2]))


def test_hidden_pixels_are_not_seen():
    model = MaskedVideoMAEV2(TINY).eval()
    x, (visible, decoded) = torch.randn(1, 3, 8, 32, 32), draw_masks(TINY, keys(1))
    before, other = model(x, visible, decoded), x.clone()
    slot, row, column = np.unravel_index(next(n for n in range(64) if n not in visible), TINY.grid)
    other[:, :, 2 * slot : 2 * slot + 2, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] = 9.0
    assert torch.equal(model(other, visible, decoded), before)
    slot, row, column = np.unravel_index(int(visible[0, 0]), TINY.grid)
    other[:, :, 2 * slot : 2 * slot + 2, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] = 9.0
    assert not torch.equal(model(other, visible, decoded), before)


@pytest.mark.parametrize("name", PRESETS)
def test_a_checkpoint_tells_its_preset(name: str):
    assert config_from_shapes(tensor_shapes(PRESETS[name])) == PRESETS[name]
    assert preset_name(PRESETS[name]) == name
    assert layer_of("encoder.blocks.2.norm1.weight", PRESETS[name]) == 3
    assert layer_of("decoder.blocks.2.norm1.weight", PRESETS[name]) == PRESETS[name].vit.layers + 1


@pytest.mark.parametrize("wrapped", [
    lambda state: state,
    lambda state: {"module": {f"_orig_mod.{name}": tensor for name, tensor in state.items()}},
    lambda state: {"model": state, "epoch": 3},
])  # fmt: skip
def test_released_forms_load(wrapped, tmp_path):
    source = MaskedVideoMAEV2(TINY)
    torch.save(wrapped(source.state_dict()), tmp_path / "pretrained.pth")
    family, config = family_of(open_checkpoint(tmp_path / "pretrained.pth"))
    assert (family, config) == (FAMILIES["videomaev2_pretrain"], TINY)
    assert open_checkpoint(tmp_path / "pretrained.pth").format.title == "VideoMAE pretraining checkpoint"
    found = model_from_checkpoint(tmp_path / "pretrained.pth").state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in source.state_dict().items())


@pytest.mark.parametrize(("changes", "message"), [
    ({"mask_ratio": 1.0}, "mask_ratio is 1.0, want more than 0, less than 1, and at least one of 196 places"),
    ({"mask_ratio": 0.001}, "mask_ratio is 0.001"),
    ({"decoder_mask_ratio": 0.4}, "decoder_mask_ratio is 0.4, want 0, 0.25, 0.5 or 0.75"),
    ({"decoder_heads": 5}, "decoder_heads is 5, want a divisor of decoder_width 384"),
    ({"size_px": 240}, "size_px is 240, want a multiple of 32, so that cells of 2 x 2 fill the frame"),
    ({"drop_path": 1.0}, "drop_path is 1.0"),
])  # fmt: skip
def test_a_value_that_cannot_be_is_refused(changes, message: str):
    with pytest.raises(UsageError) as refused:
        PretrainConfig(**changes)
    assert str(refused.value).startswith(f"PretrainConfig: {message}")


def test_clips_of_another_shape_are_refused():
    with pytest.raises(UsageError, match=r"it wants \(clips, 3, 8, 32, 32\)"):
        MaskedVideoMAEV2(TINY)(torch.zeros(1, 3, 6, 32, 32), *draw_masks(TINY, keys(1)))


def test_a_decoder_in_float32_computes_in_float32_and_loses_less():
    """The paper's (supplement, C.1); the release has the whole model under one autocast, and so has the default."""
    torch.manual_seed(0)
    model, paper = MaskedVideoMAEV2(TINY), MaskedVideoMAEV2(replace(TINY, decoder_fp32=True))
    paper.load_state_dict(model.state_dict())
    x, masks = torch.randn(8, 3, 8, 32, 32), model.draw_masks(keys(8))
    exact = model(x, *masks)
    assert torch.equal(paper(x, *masks), exact), "nothing changes in float32"
    types: list[torch.dtype] = []
    for net in (model, paper):
        net.encoder.blocks[0].mlp.fc1.register_forward_hook(lambda *args: types.append(args[-1].dtype))
        net.decoder.blocks[0].mlp.fc1.register_forward_hook(lambda *args: types.append(args[-1].dtype))
    with torch.autocast("cpu", torch.bfloat16):
        errors = [(net(x, *masks).float() - exact).square().mean().sqrt().item() for net in (model, paper)]
    assert types == [torch.bfloat16, torch.bfloat16, torch.bfloat16, torch.float32]
    assert errors[1] < 0.8 * errors[0]


def test_how_it_begins():
    state = MaskedVideoMAEV2(PRESETS["small"]).state_dict()
    assert state["mask_token"].std().item() == pytest.approx(0.02, rel=0.2)
    bound = math.sqrt(6 / (384 + 1536))
    assert state["encoder.blocks.3.mlp.fc1.weight"].abs().max().item() == pytest.approx(bound, rel=1e-3)
    assert not state["decoder.head.bias"].any()
