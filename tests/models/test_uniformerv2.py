"""UniFormerV2 against its release (names, shapes, numbers) and against itself (frozen, recomputed, every variant)."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from k710.errors import UsageError
from k710.models.uniformerv2 import model as uniformerv2
from k710.models.uniformerv2.config import (
    ACTIVATIONS,
    FUSIONS,
    PRESETS,
    UniFormerV2Config,
    config_from_shapes,
    preset,
    preset_name,
)
from k710.models.uniformerv2.model import CrossAttention, DynamicPosition, UniFormerV2, drop_path, quick_gelu
from tests.helpers.golden import check_golden, check_stages, clips, gradients, one_thread, randomised  # noqa: F401
from tests.helpers.published_uniformerv2 import (
    GOLDEN,
    GOLDEN_CONFIGS,
    fill,
    released_shapes,
)

TINY = preset("tiny", num_classes=10)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("name", released_shapes())
def test_names_shapes_and_their_order_are_the_releases(name: str):
    with torch.device("meta"):
        model = UniFormerV2(PRESETS[name])
    assert [(key, tuple(tensor.shape)) for key, tensor in model.state_dict().items()] == released_shapes()[name]


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_logits_loss_and_gradients(name: str):
    check_golden(fill(UniFormerV2(GOLDEN_CONFIGS[name])).eval(), GOLDEN[name])


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_values_on_the_way(name: str):
    model = fill(UniFormerV2(GOLDEN_CONFIGS[name])).eval()
    parts = {"conv1": model.conv1, "ln_pre": model.ln_pre}
    parts |= {f"resblock{number}": block for number, block in enumerate(model.transformer.resblocks)}
    parts |= {f"dec{number}": block for number, block in enumerate(model.transformer.dec)}
    check_stages(model, parts, GOLDEN[name])


VARIANTS = [
    *(replace(TINY, fusion=fusion) for fusion in FUSIONS),
    *(replace(TINY, fusion=fusion, dpe=False, balance=False) for fusion in FUSIONS),
    *(replace(TINY, local=local, local_reduction=reduction) for local in ("single", "double") for reduction in (1, 4)),
    replace(TINY, temporal_downsample=True, local="double", drop_path=0.2, global_drop_path=0.4),
    replace(TINY, global_after=()),
    replace(TINY, global_after=(), local="double"),
    replace(TINY, global_after=(0, 2), activation="gelu"),
    replace(TINY, frozen=True),
    replace(TINY, frozen=True, balance=False, fusion="hierarchical_q"),
    replace(TINY, checkpoint_blocks=4, local="double"),
    replace(TINY, size_px=48, num_frames=3),
]


@pytest.mark.parametrize("config", VARIANTS, ids=str)
def test_gradients_reach_every_parameter_that_is_trained(config: UniFormerV2Config):
    model = randomised(UniFormerV2, config)
    found = gradients(model, clips(config))
    wanted = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert found.keys() == wanted
    assert all(gradient.isfinite().all() for gradient in found.values())
    still = {name for name, gradient in found.items() if not gradient.any()}
    if not config.global_after:  # the last class token has been read before the last local MHRA, which skips it
        still -= {name for name in still if name.startswith("transformer.resblocks.3.lmhra2")}
    if not config.drop_path:  # which may drop a branch for both clips
        assert still == set()
    logits = model.eval()(clips(config, 3))
    assert logits.shape == (3, 10)
    assert logits.isfinite().all()


def test_frozen_trains_the_same_head_and_leaves_the_backbone_alone():
    full = randomised(UniFormerV2, replace(TINY, balance=False)).eval()
    frozen = UniFormerV2(replace(TINY, balance=False, frozen=True)).eval()
    frozen.load_state_dict(full.state_dict())
    x = clips(TINY)
    assert torch.equal(full(x), frozen(x))
    both, some = gradients(full, x), gradients(frozen, x)
    backbone = {name for name in both if name not in some}
    assert len(list(frozen.backbone_parameters())) == len(backbone)
    prefixes = ("conv1", "class_embedding", "positional_embedding", "ln_pre", "transformer.resblocks")
    assert backbone == {name for name in both if name.startswith(prefixes)}
    for name, gradient in some.items():
        torch.testing.assert_close(gradient, both[name], rtol=1e-5, atol=1e-7)


def test_a_frozen_backbone_is_out_of_autograd_and_never_in_training_mode():
    model = UniFormerV2(replace(TINY, frozen=True, drop_path=0.5)).train()
    seen = []
    model.transformer.resblocks[-1].register_forward_hook(lambda *args: seen.append(args[-1].requires_grad))
    model(clips(TINY).requires_grad_()).sum().backward()  # not even where the clips would ask for it
    assert seen == [False]
    assert model.transformer.dec.training
    assert not any(module.training for module in model.transformer.resblocks.modules())


@pytest.mark.parametrize("local", ["none", "single", "double"])
@pytest.mark.parametrize("blocks", [1, 4])
def test_recomputed_blocks_change_nothing(local: str, blocks: int):
    config = replace(TINY, local=local, drop_path=0.3, mlp_dropout=0.0, head_dropout=0.0)
    plain = randomised(UniFormerV2, config)
    recomputed = UniFormerV2(replace(config, checkpoint_blocks=blocks))
    recomputed.load_state_dict(plain.state_dict())
    x = clips(TINY, 4)
    results = []
    for model in (plain, recomputed):
        torch.manual_seed(5)
        results.append(gradients(model.train(), x))
    for name, gradient in results[0].items():
        torch.testing.assert_close(results[1][name], gradient, rtol=1e-5, atol=1e-7)
    for before, after in zip(plain.buffers(), recomputed.buffers(), strict=True):
        assert torch.equal(before, after), "batch norm must count a batch once"


def test_recomputing_keeps_less():
    def kept(blocks: int) -> int:
        saved = []
        model = UniFormerV2(replace(TINY, checkpoint_blocks=blocks))
        x = clips(TINY)
        with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.numel()) or t, lambda t: t):
            model(x)
        return sum(saved)

    assert kept(4) < kept(2) < kept(0)


def test_bf16_is_near_fp32():
    config = replace(TINY, local="double", temporal_downsample=True)
    model = randomised(UniFormerV2, config).eval()
    x = clips(config, 8)
    with torch.no_grad():
        exact = model(x)
        with torch.autocast("cpu", torch.bfloat16):
            rough = model(x)
    assert rough.dtype == torch.bfloat16
    assert (rough.float() - exact).abs().max() < 0.02 * exact.abs().max()  # bf16 itself resolves 0.004


def test_tokens_stay_in_the_dtype_of_autocast():
    model, seen = UniFormerV2(TINY), []
    for block in model.transformer.resblocks:
        block.register_forward_hook(lambda *args: seen.append(args[-1].dtype))
    with torch.autocast("cpu", torch.bfloat16):
        model(clips(TINY))
    assert seen == [torch.bfloat16] * 4


def test_the_folded_cross_attention_is_the_plain_one():
    attention = CrossAttention(64, 4)
    for parameter in attention.parameters():
        nn.init.normal_(parameter, std=0.3)
    plain = nn.MultiheadAttention(64, 4, batch_first=True)
    plain.load_state_dict(attention.state_dict())
    query, tokens = torch.randn(3, 2, 64), torch.randn(3, 50, 64)
    expected = plain(query, tokens, tokens, need_weights=False)[0]
    torch.testing.assert_close(attention(query, tokens), expected, rtol=1e-5, atol=1e-5)


def test_dynamic_position_is_the_3d_convolution_of_each_clip():
    layer = DynamicPosition(6)
    x = torch.randn(2 * 5, 1 + 9, 6)
    video = x[:, 1:].view(2, 5, 3, 3, 6).permute(0, 4, 1, 2, 3)
    expected = F.conv3d(video, layer.weight, layer.bias, padding=1, groups=6).permute(0, 2, 3, 4, 1)
    found = layer(x, 2)
    torch.testing.assert_close(found[:, 1:], expected.reshape(10, 9, 6))
    assert not found[:, 0].any(), "class tokens get no position"


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_patches_are_the_convolution_of_the_release(frames: int):
    for downsample in (False, True):
        if downsample and frames % 2:
            continue
        conv = uniformerv2.PatchEmbedding(replace(TINY, temporal_downsample=downsample))
        x = torch.randn(2, 3, frames, 32, 32)
        expected = nn.Conv3d.forward(conv, x).permute(0, 2, 3, 4, 1).flatten(0, 1).flatten(1, 2)
        torch.testing.assert_close(conv(x), expected, rtol=1e-5, atol=1e-5)


def test_clips_do_not_see_each_other():
    config = replace(TINY, local="double", temporal_downsample=True)
    model = randomised(UniFormerV2, config).eval()
    x = clips(config, 3)
    torch.testing.assert_close(model(x)[1:2], model(x[1:2]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("local", ["none", "double"])
def test_any_number_of_frames(local: str):
    model = randomised(UniFormerV2, replace(TINY, local=local)).eval()
    for frames in (1, 3, 8):
        assert model(torch.randn(2, 3, frames, 32, 32)).shape == (2, 10)


def test_new_parts_begin_silent():
    """Before training, blocks are CLIP's alone and the video token is as it began: zero."""
    plain = UniFormerV2(replace(TINY, global_after=())).eval()
    model = UniFormerV2(replace(TINY, local="double")).eval()
    model.load_state_dict(
        {key: value for key, value in plain.state_dict().items() if "proj.2" not in key and "proj.0" not in key},
        strict=False,
    )
    seen = {}
    model.transformer.resblocks[-1].register_forward_hook(lambda *args: seen.__setitem__("new", args[-1]))
    plain.transformer.resblocks[-1].register_forward_hook(lambda *args: seen.__setitem__("clip", args[-1]))
    x = clips(TINY)
    tokens = []
    model.transformer.dec[-1].register_forward_hook(lambda *args: tokens.append(args[-1]))
    model(x), plain(x)
    torch.testing.assert_close(seen["new"], seen["clip"])
    assert not tokens[0].any()


def test_zeros_of_the_initialisation():
    model = UniFormerV2(replace(TINY, local="double", fusion="parallel"))
    zeros = {name for name, parameter in model.named_parameters() if not parameter.any()}
    expected = {"transformer.temporal_cls_token", "transformer.balance"}
    for name, _ in model.named_parameters():
        if name.endswith(("in_proj_bias", "out_proj.bias", "pos_embed.3.weight", "pos_embed.3.bias")):
            expected.add(name)
        if "dec" in name and any(part in name for part in ("out_proj", "c_proj")):
            expected.add(name)
        if (".dpe." in name or "ln_" in name or "proj.0" in name or "pos_embed.0" in name) and name.endswith("bias"):
            expected.add(name)
    assert zeros == expected
    assert model.transformer.fusion_weight.unique().tolist() == [0.5]
    bound = (6 / (4 * 64)) ** 0.5  # Xavier uniform of (3C, C)
    for block in itertools.chain(model.transformer.dec, model.transformer.resblocks):
        assert 0.9 * bound < block.attn.in_proj_weight.abs().max() <= bound


def test_what_each_fusion_does():
    """Section 3.3 by its definitions: how many queries and how many tokens each global block sees."""
    x = clips(TINY, 2)
    seen: dict[str, list[tuple[int, int]]] = {}
    for fusion in FUSIONS:
        model = randomised(UniFormerV2, replace(TINY, fusion=fusion, global_after=(1, 2, 3)))
        sizes = seen.setdefault(fusion, [])
        for block in model.transformer.dec:
            block.register_forward_pre_hook(lambda _, args, s=sizes: s.append((args[0].shape[1], args[1].shape[1])))
        model(x)
        queries = model.transformer.temporal_cls_token.shape[0]
        assert queries == (1 if fusion == "sequential" else 3)
    tokens = 4 * 17
    assert seen["sequential"] == seen["parallel"] == [(1, tokens)] * 3
    assert seen["hierarchical_kv"] == [(1, tokens), (1, tokens + 1), (1, tokens + 1)]
    assert seen["hierarchical_q"] == [(1, tokens), (2, tokens), (3, tokens)]


@pytest.mark.parametrize("fusion", FUSIONS)
def test_every_stage_counts_in_every_fusion(fusion: str):
    model = randomised(UniFormerV2, replace(TINY, fusion=fusion, global_after=(1, 2, 3), balance=False)).eval()
    x = clips(TINY)
    before = model(x)
    for block in model.transformer.dec:
        kept = block.mlp.c_proj.bias.detach().clone()
        with torch.no_grad():
            block.mlp.c_proj.bias.add_(torch.randn(64))
            assert (model(x) - before).abs().max() > 1e-4
            block.mlp.c_proj.bias.copy_(kept)


def test_drop_path_is_by_clip_and_keeps_the_mean():
    x = torch.ones(2000 * 3, 5, 2)
    dropped = drop_path(x, 0.25, 2000).view(2000, -1)
    assert dropped.unique().tolist() == pytest.approx([0, 4 / 3])
    assert torch.equal(dropped.amin(1), dropped.amax(1)), "a clip is dropped whole"
    assert dropped.mean().item() == pytest.approx(1, abs=0.05)
    rates = [block.drop_path for block in UniFormerV2(replace(TINY, drop_path=0.3)).transformer.resblocks]
    assert rates == pytest.approx([0, 0.1, 0.2, 0.3])


def test_dropouts_and_drop_paths_are_off_in_eval_mode():
    model = randomised(UniFormerV2, replace(TINY, drop_path=0.5, global_drop_path=0.5)).eval()
    x = clips(TINY)
    assert torch.equal(model(x), model(x))
    model.train()
    assert not torch.equal(model(x), model(x))


def test_quick_gelu():
    x = torch.linspace(-8, 8, 1001)
    torch.testing.assert_close(quick_gelu(x), x * torch.sigmoid(1.702 * x), rtol=1e-6, atol=1e-6)
    assert uniformerv2.ACTIVATIONS.keys() == set(ACTIVATIONS)


@pytest.mark.parametrize(
    "shape", [(2, 3, 4, 32, 31), (2, 3, 4, 64, 64), (2, 4, 3, 32, 32), (3, 4, 32, 32), (2, 3, 0, 32, 32)]
)
def test_clips_of_another_shape_are_refused(shape: tuple[int, ...]):
    with pytest.raises(UsageError, match=r"wants \(clips, 3, frames, 32, 32\)"):
        UniFormerV2(TINY)(torch.zeros(shape))


def test_an_odd_number_of_frames_cannot_be_halved():
    with pytest.raises(UsageError, match="an even number of frames"):
        UniFormerV2(replace(TINY, temporal_downsample=True))(torch.zeros(1, 3, 5, 32, 32))


@pytest.mark.parametrize(
    "changes",
    [
        {"backbone": "B/32"},
        {"fusion": "mean"},
        {"local": "triple"},
        {"activation": "relu"},
        {"global_after": (3, 2)},
        {"global_after": (2, 2)},
        {"global_after": (4,)},
        {"global_after": (-1,)},
        {"size_px": 33},
        {"size_px": 0},
        {"num_frames": 0},
        {"num_frames": 3, "temporal_downsample": True},
        {"num_classes": 0},
        {"local_reduction": 0.5},
        {"drop_path": 1.0},
        {"head_dropout": -0.1},
        {"checkpoint_blocks": 5},
        {"frozen": True, "local": "double"},
    ],
    ids=str,
)
def test_a_configuration_says_what_it_wants(changes):
    with pytest.raises(
        UsageError, match=f"UniFormerV2Config: {next(iter(changes)).replace('frozen', 'local')} is .*want"
    ):
        preset("tiny", **changes)


def test_presets_by_name():
    assert preset("kinetics_b16", num_classes=400).num_classes == 400
    with pytest.raises(UsageError, match="no preset 'b16'; there are kinetics_b16"):
        preset("b16")
    with pytest.raises(UsageError, match="has no classes"):
        preset("kinetics_b16", classes=400)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_told_by_its_shapes(name: str):
    with torch.device("meta"):
        model = UniFormerV2(PRESETS[name])
    shapes = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    found = config_from_shapes(shapes)
    assert found is not None
    assert preset_name(found) == name
    assert found.num_classes == PRESETS[name].num_classes
    assert found.frozen == PRESETS[name].frozen
    with torch.device("meta"):
        again = UniFormerV2(found)
    assert {key: tuple(tensor.shape) for key, tensor in again.state_dict().items()} == shapes


def test_no_preset_for_what_is_none():
    with torch.device("meta"):
        model = UniFormerV2(replace(TINY, dpe=False))
    found = config_from_shapes({key: tuple(tensor.shape) for key, tensor in model.state_dict().items()})
    assert found == replace(found, dpe=False)
    assert preset_name(found) is None
    assert config_from_shapes({}) is None
    assert config_from_shapes({"conv1.weight": (9, 3, 1, 16, 16), "positional_embedding": (5, 9)}) is None
