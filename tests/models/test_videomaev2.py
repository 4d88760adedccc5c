"""VideoMAE V2's classifier against its release (names, shapes, numbers) and against itself (every option)."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from k710.errors import CheckpointError, UsageError
from k710.models.checkpoints.checkpoint import open_checkpoint
from k710.models.families import FAMILIES, family_of, num_parameters
from k710.models.load import load_checkpoint, model_from_checkpoint
from k710.models.videomaev2.config import PRESETS, VideoMAEV2Config, config_from_shapes, preset_name, tensor_shapes
from k710.models.videomaev2.family import VIDEOMAEV2, layer_of
from k710.models.videomaev2.model import Attention, VideoMAEV2, drop_path
from k710.models.videomaev2.positions import position_table
from tests.helpers.golden import check_golden, check_stages, clips, gradients, one_thread, randomised  # noqa: F401
from tests.helpers.published_videomaev2 import (
    GOLDEN,
    GOLDEN_CONFIGS,
    fill,
    released_shapes,
)

TINY = replace(PRESETS["tiny"], num_classes=10)

# With 710 classes, as the public code counts them.
PARAMETERS = {
    "small": 22_153_286,
    "base": 86_773_190,
    "large": 304_588_486,
    "huge": 632_516_550,
    "giant": 1_012_611_142,
}


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("name", released_shapes())
def test_names_shapes_their_order_and_the_count_are_the_releases(name: str):
    with torch.device("meta"):
        model = VideoMAEV2(PRESETS[name])
    found = [(key, tuple(tensor.shape)) for key, tensor in model.state_dict().items()]
    assert found == released_shapes()[name]
    assert num_parameters(VIDEOMAEV2, PRESETS[name])["total"] == PARAMETERS[name]


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_logits_loss_and_gradients(name: str):
    check_golden(fill(VideoMAEV2(GOLDEN_CONFIGS[name])).eval(), GOLDEN[name])


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_values_on_the_way(name: str):
    model = fill(VideoMAEV2(GOLDEN_CONFIGS[name])).eval()
    parts = {"patch_embed": model.patch_embed} | {f"block{number}": block for number, block in enumerate(model.blocks)}
    check_stages(model, parts, GOLDEN[name])


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_positions(name: str):
    table = VideoMAEV2(GOLDEN_CONFIGS[name]).positions
    total, *last = GOLDEN[name]["positions"]
    assert table.double().sum().item() == pytest.approx(total, abs=1e-5)
    assert table[-1, -4:].tolist() == pytest.approx(last, abs=1e-7)


def test_positions_by_their_definition():
    """Row p: sine and cosine in turn of p / 10000^(2i / width), i the pair of channels."""
    table = position_table(50, 6)
    for p in (0, 1, 17, 49):
        expected = [f(p / 10000 ** (2 * i / 6)) for i in range(3) for f in (math.sin, math.cos)]
        assert table[p].tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("preset", "size_px", "frames", "tokens"), [
    ("base", 224, 16, 1568), ("giant", 224, 16, 2048), ("base", 224, 64, 6272), ("giant", 266, 64, 11552),
    ("huge", 384, 32, 9216), ("base", 224, 8, 784),
])  # fmt: skip
@pytest.mark.slow
def test_there_is_a_position_for_every_token(preset: str, size_px: int, frames: int, tokens: int):
    """The public code has 25,088 for 64 frames at 224 px."""
    config = replace(PRESETS[preset], size_px=size_px, num_frames=frames)
    assert math.prod(config.grid) == tokens
    with torch.device("meta"):
        model = VideoMAEV2(config)
        assert model(torch.empty(1, 3, frames, size_px, size_px)).shape == (1, 710)
    assert model.positions.shape == (tokens, config.vit.width)
    assert "positions" not in model.state_dict()


def test_another_number_of_frames_has_the_positions_of_its_own_table():
    long = randomised(VideoMAEV2, replace(TINY, num_frames=12)).eval()
    short = VideoMAEV2(replace(TINY, num_frames=4)).eval()
    short.load_state_dict(long.state_dict())
    for frames in (2, 4, 12, 16):
        x = torch.randn(2, 3, frames, 32, 32)
        assert torch.equal(long(x), short(x))


def test_patches_are_the_convolution_of_the_release():
    model = VideoMAEV2(replace(TINY, num_frames=6, tubelet_frames=3))
    x = torch.randn(2, 3, 6, 32, 32)
    expected = model.patch_embed.proj(x).flatten(2).transpose(1, 2)
    torch.testing.assert_close(model.patch_embed(x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("qkv_bias", [True, False])
def test_attention_by_its_definition(qkv_bias: bool):
    """Queries and values have a bias, keys have none; scores over the root of the head's width."""
    attention = Attention(64, 2, qkv_bias)
    for parameter in attention.parameters():
        nn.init.normal_(parameter, std=0.3)
    x = torch.randn(3, 20, 64)
    q, k, v = (x @ weight.T for weight in attention.qkv.weight.chunk(3))
    if qkv_bias:
        q, v = q + attention.q_bias, v + attention.v_bias
    heads = []
    for part in (slice(0, 32), slice(32, 64)):
        scores = q[..., part] @ k[..., part].transpose(1, 2) / math.sqrt(32)
        heads.append(scores.softmax(-1) @ v[..., part])
    expected = attention.proj(torch.cat(heads, -1))
    torch.testing.assert_close(attention(x), expected, rtol=1e-5, atol=1e-5)
    assert {name for name, _ in attention.named_parameters()} >= {"q_bias", "v_bias"} or not qkv_bias


VARIANTS = [
    replace(TINY, layer_scale=0.1),
    replace(TINY, qkv_bias=False),
    replace(TINY, mean_pooling=False),
    replace(TINY, drop_path=0.3, head_dropout=0.5),
    replace(TINY, checkpoint_blocks=3, layer_scale=0.1),
    replace(TINY, size_px=48, num_frames=6, tubelet_frames=3),
]


@pytest.mark.parametrize("config", VARIANTS, ids=str)
def test_gradients_reach_every_parameter(config: VideoMAEV2Config):
    model = randomised(VideoMAEV2, config)
    assert [(name, tuple(tensor.shape)) for name, tensor in model.state_dict().items()] == list(
        tensor_shapes(config).items()
    )
    found = gradients(model, clips(config))
    assert found.keys() == dict(model.named_parameters()).keys()
    assert all(gradient.isfinite().all() for gradient in found.values())
    if not config.drop_path:  # which may drop a branch for both clips
        assert all(gradient.any() for gradient in found.values())
    logits = model.eval()(clips(config, 3))
    assert logits.shape == (3, 10)
    assert torch.equal(model(x := clips(config)), model(x)), "dropouts and drop paths are off in eval mode"


def test_without_mean_pooling_the_first_token_is_classified():
    model = randomised(VideoMAEV2, replace(TINY, mean_pooling=False)).eval()
    seen = []
    model.blocks[-1].register_forward_hook(lambda *args: seen.append(args[-1]))
    x = clips(TINY)
    logits = model(x)
    normed = F.layer_norm(seen[0], (64,), model.norm.weight, model.norm.bias, 1e-6)
    torch.testing.assert_close(logits, model.head(normed[:, 0]))


def test_recomputed_blocks_change_nothing_and_keep_less():
    config = replace(TINY, drop_path=0.3, layer_scale=0.1)
    plain = randomised(VideoMAEV2, config)
    recomputed = VideoMAEV2(replace(config, checkpoint_blocks=3))
    recomputed.load_state_dict(plain.state_dict())
    x, results, kept = clips(TINY, 4), [], []
    for model in (plain, recomputed):
        saved: list[int] = []
        kept.append(saved)
        torch.manual_seed(5)
        with torch.autograd.graph.saved_tensors_hooks(lambda t, s=saved: s.append(t.numel()) or t, lambda t: t):
            results.append(gradients(model.train(), x))
    for name, gradient in results[0].items():
        torch.testing.assert_close(results[1][name], gradient, rtol=1e-5, atol=1e-7)
    assert sum(kept[1]) < sum(kept[0])


def test_drop_path_is_by_clip_and_rises_with_the_blocks():
    x = torch.ones(2000, 5, 2)
    dropped = drop_path(x, 0.25).view(2000, -1)
    assert dropped.unique().tolist() == pytest.approx([0, 4 / 3])
    assert torch.equal(dropped.amin(1), dropped.amax(1)), "a clip is dropped whole"
    assert dropped.mean().item() == pytest.approx(1, abs=0.05)
    assert [block.drop_path for block in VideoMAEV2(replace(TINY, drop_path=0.3)).blocks] == [0, 0.15, 0.3]


def test_bf16_is_near_fp32_and_tokens_stay_in_it():
    model, seen = randomised(VideoMAEV2, TINY).eval(), []
    for block in model.blocks:
        block.register_forward_hook(lambda *args: seen.append(args[-1].dtype))
    x = clips(TINY, 8)
    with torch.no_grad():
        exact = model(x)
        with torch.autocast("cpu", torch.bfloat16):
            rough = model(x)
    assert seen == [torch.float32] * 3 + [torch.bfloat16] * 3
    assert (rough.float() - exact).abs().max() < 0.03 * exact.abs().max()  # bf16 itself resolves 0.004


def test_how_it_begins():
    model = VideoMAEV2(replace(PRESETS["tiny"], layer_scale=0.1, init_std=0.02))
    state = model.state_dict()
    weight = torch.cat([state[f"blocks.{n}.mlp.fc1.weight"].flatten() for n in range(3)])
    assert weight.std().item() == pytest.approx(0.02, rel=0.03)
    assert state["head.weight"].std().item() == pytest.approx(0.02 * 0.001, rel=0.03)
    zeros = {name for name, tensor in state.items() if not tensor.any()}
    assert zeros == {name for name in state if name.endswith("bias") and not name.startswith("patch_embed")}
    assert state["blocks.1.gamma_1"].unique().tolist() == pytest.approx([0.1])


def test_layers_decay_from_the_head_down():
    names = list(tensor_shapes(PRESETS["base"]))
    layers = {name: layer_of(name, PRESETS["base"]) for name in names}
    assert VIDEOMAEV2.num_layers(PRESETS["base"]) == layers["head.bias"] == layers["fc_norm.weight"] == 13
    assert layers["patch_embed.proj.bias"] == 0
    assert (layers["blocks.0.attn.q_bias"], layers["blocks.11.mlp.fc2.weight"]) == (1, 12)


@pytest.mark.parametrize("name", PRESETS)
def test_a_checkpoint_tells_its_preset(name: str):
    config = replace(PRESETS[name], num_classes=400)
    found = config_from_shapes(tensor_shapes(config))
    assert found == config
    assert preset_name(found) == name


@pytest.mark.parametrize("config", VARIANTS[:3], ids=["layer scale", "no bias", "first token"])
def test_shapes_tell_what_is_not_published_too(config: VideoMAEV2Config):
    found = config_from_shapes(tensor_shapes(config))
    assert found == config
    assert preset_name(found) is None


def _without(name: str):
    return {key: shape for key, shape in tensor_shapes(PRESETS["base"]).items() if key != name}


@pytest.mark.parametrize("shapes", [
    tensor_shapes(PRESETS["base"]) | {"cls_token": (1, 1, 768)},  # UMT, InternVideo2
    tensor_shapes(PRESETS["base"]) | {"blocks.0.attn.q_norm.weight": (768,)},
    _without("blocks.3.attn.v_bias"),
    tensor_shapes(PRESETS["base"]) | {"head.weight": (400, 512)},
    {key: shape for key, shape in tensor_shapes(PRESETS["base"]).items() if "blocks.11." not in key},
    {},
])  # fmt: skip
def test_other_models_are_not_taken_for_it(shapes):
    assert config_from_shapes(shapes) is None


WRAPPED = {
    "bare": lambda state: state,
    "module": lambda state: {"module": state},
    "model": lambda state: {"model": state, "epoch": 35},
    "compiled": lambda state: {"module": {f"_orig_mod.{name}": tensor for name, tensor in state.items()}},
    "backbone": lambda state: {"model": {f"backbone.{name}": tensor for name, tensor in state.items()}},
    "encoder": lambda state: {f"encoder.{name}": tensor for name, tensor in state.items()},
}


@pytest.mark.parametrize("form", WRAPPED)
def test_released_forms_load(form: str, tmp_path):
    """The containers and prefixes of the public code's loader."""
    source = randomised(VideoMAEV2, TINY).eval()
    torch.save(WRAPPED[form](source.state_dict()), tmp_path / "model.pth")
    model = model_from_checkpoint(tmp_path / "model.pth").eval()
    assert model.config == TINY
    x = clips(TINY)
    assert torch.equal(model(x), source(x))
    again = VideoMAEV2(TINY).eval()
    assert len(load_checkpoint(again, tmp_path / "model.pth").loaded) == len(source.state_dict())
    assert torch.equal(again(x), source(x))


def test_half_precision_files_load(tmp_path):
    """The released distilled models are kept in fp16."""
    source = randomised(VideoMAEV2, TINY).half()
    torch.save({"module": source.state_dict()}, tmp_path / "half.pth")
    model = model_from_checkpoint(tmp_path / "half.pth")
    assert {tensor.dtype for tensor in model.state_dict().values()} == {torch.float32}
    assert torch.equal(model.head.weight, source.head.weight.float())


def test_a_file_with_more_is_refused_by_name(tmp_path):
    state = VideoMAEV2(TINY).state_dict() | {"decoder.norm.weight": torch.zeros(64)}
    torch.save(state, tmp_path / "more.pth")
    with pytest.raises(CheckpointError, match=r"1 unexpected: decoder\.norm\.weight"):
        load_checkpoint(VideoMAEV2(TINY), tmp_path / "more.pth")
    with pytest.raises(CheckpointError, match="can build: uniformerv2, videomaev2, videomaev2_pretrain"):
        family_of(open_checkpoint(tmp_path / "more.pth"))


def test_the_size_is_the_recipes_since_no_tensor_tells_it(tmp_path):
    config = replace(TINY, size_px=48)
    recipe = {"data": {"view": "k400", "num_frames": 8, "size_px": 48}, "model": {"family": "videomaev2"}}
    own = {"k710_format": 1, "model": VideoMAEV2(config).state_dict(), "run": {"recipe": recipe}}
    torch.save(own, tmp_path / "own.pt")
    assert family_of(open_checkpoint(tmp_path / "own.pt")) == (FAMILIES["videomaev2"], config)
    assert family_of(open_checkpoint(_bare(own["model"], tmp_path)))[1] == TINY


def _bare(state, folder):
    torch.save(state, folder / "bare.pth")
    return folder / "bare.pth"


@pytest.mark.parametrize(("changes", "message"), [
    ({"backbone": "B/14"}, "backbone is 'B/14', want S/16 or B/16"),
    ({"size_px": 225}, "size_px is 225, want a multiple of 16"),
    ({"num_frames": 15}, "num_frames is 15, want a positive multiple of 2"),
    ({"tubelet_frames": 0}, "tubelet_frames is 0, want at least 1"),
    ({"num_classes": 0}, "num_classes is 0, want at least 1"),
    ({"drop_path": 1.0}, "drop_path is 1.0, want at least 0 and less than 1"),
    ({"head_dropout": float("nan")}, "head_dropout is nan"),
    ({"layer_scale": -1.0}, "layer_scale is -1.0"),
    ({"checkpoint_blocks": 13}, "checkpoint_blocks is 13, want 0 to 12"),
])  # fmt: skip
def test_a_value_that_cannot_be_is_refused(changes, message: str):
    with pytest.raises(UsageError) as refused:
        VideoMAEV2Config(**changes)
    assert str(refused.value).startswith(f"VideoMAEV2Config: {message}")


@pytest.mark.parametrize("shape", [(2, 3, 7, 32, 32), (2, 3, 0, 32, 32), (2, 1, 8, 32, 32), (2, 3, 8, 32, 40), (3, 8)])
def test_clips_of_another_shape_are_refused(shape):
    with pytest.raises(UsageError, match=r"\(clips, 3, frames, 32, 32\) with a multiple of 2 frames"):
        VideoMAEV2(TINY)(torch.zeros(shape))


def test_clips_do_not_see_each_other():
    model = randomised(VideoMAEV2, TINY).eval()
    x = clips(TINY, 3)
    torch.testing.assert_close(model(x)[1:2], model(x[1:2]), rtol=1e-5, atol=1e-5)


def test_the_golden_file_is_read_whole():
    assert json.dumps(sorted(GOLDEN)) == json.dumps(sorted(GOLDEN_CONFIGS))
    assert all(np.isfinite(golden["grad_norms"]).all() for golden in GOLDEN.values())
