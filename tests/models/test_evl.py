"""EVL against its release (names, shapes, numbers) and against its definition, in every published option."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from k710.errors import CheckpointError, UsageError
from k710.models.clip_towers import load_clip
from k710.models.evl import model as evl
from k710.models.evl.config import PRESETS, EvlConfig, config_from_shapes, preset_name
from k710.models.evl.family import EVL
from k710.models.evl.model import Evl
from k710.models.uniformerv2.config import preset
from k710.models.uniformerv2.model import UniFormerV2
from tests.helpers.clip_files import FORMS, UNTOLD, huggingface, openai, tower
from tests.helpers.golden import check_golden, check_stages, clips, gradients, one_thread, randomised  # noqa: F401
from tests.helpers.published_evl import (
    GOLDEN,
    GOLDEN_CONFIGS,
    all_weights,
    fill,
    plain_logits,
    released_config,
    released_shapes,
)

TINY = replace(PRESETS["tiny"], num_frames=3, num_classes=10)
NAMES = released_shapes()


pytestmark = pytest.mark.usefixtures("one_thread")


def shapes_of(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("kinetics")])
def test_names_shapes_and_their_order_are_the_releases(name: str):
    with torch.device("meta"):
        model = Evl(released_config(name))
    assert list(shapes_of(model).items()) == NAMES[name]
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    assert trained == {"kinetics_b16": 33183376, "kinetics_l14": 58727824, "kinetics_l14_32f": 58826128}[name]


@pytest.mark.parametrize(("name", "preset"), [("tower_b16", "kinetics_b16"), ("tower_l14", "kinetics_l14")])
def test_the_tower_has_the_releases_names_where_it_is_kept(name: str, preset: str):
    for config in (replace(PRESETS[preset], keeps_backbone=True), replace(PRESETS[preset], frozen=False)):
        with torch.device("meta"):
            model = Evl(config)
        tower = [(key, shape) for key, shape in shapes_of(model).items() if key.startswith("backbone.")]
        assert tower == NAMES[name]


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_logits_loss_and_gradients(name: str):
    check_golden(fill(Evl(GOLDEN_CONFIGS[name])).eval(), GOLDEN[name])


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_values_on_the_way(name: str):
    model = fill(Evl(GOLDEN_CONFIGS[name])).eval()
    parts = {part: model.get_submodule(part) for part in GOLDEN[name]["stages"]}
    check_stages(model, parts, GOLDEN[name])


PARTS = {
    "conv_only": (True, False, False),
    "positions_only": (False, True, False),
    "attention_only": (False, False, True),
    "no_temporal": (False, False, False),
    "full": (True, True, True),
}


def parts(name: str) -> dict[str, bool]:
    return dict(zip(("temporal_conv", "temporal_positions", "temporal_attention"), PARTS[name], strict=True))


VARIANTS = [
    *(replace(TINY, **parts(name)) for name in PARTS),
    replace(TINY, decoder_layers=1),
    replace(TINY, decoder_layers=2, frozen=False),
    replace(TINY, qkv_width=24, decoder_heads=3, mlp_factor=1.5),
    replace(TINY, qkv_width=128, decoder_heads=1, decoder_layers=3),
    replace(TINY, activation="gelu", num_frames=1),
    replace(TINY, size_px=48, num_frames=2, keeps_backbone=True),
]


@pytest.mark.parametrize("config", VARIANTS, ids=str)
def test_logits_and_gradients_are_those_of_the_definition(config: EvlConfig):
    model = randomised(Evl, config).eval()
    x = clips(config)
    logits = model(x)
    weights = {
        name: parameter.detach().clone().requires_grad_(parameter.requires_grad)
        for name, parameter in model.named_parameters()
    }
    expected = plain_logits(weights, config, x)
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)
    for values in (logits, expected):
        F.cross_entropy(values, torch.tensor([3, 7])).backward()
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            assert parameter.grad is None
            continue
        assert parameter.grad is not None, f"{name} has no gradient; several processes would wait for it"
        wanted = weights[name].grad
        if wanted is None:  # one frame has no neighbour
            assert not parameter.grad.any()
        else:
            torch.testing.assert_close(parameter.grad, wanted, rtol=1e-4, atol=1e-5)


def test_queries_are_projected_some_at_a_time(monkeypatch):
    model, x = randomised(Evl, TINY).eval(), clips(TINY)
    whole = model(x)
    monkeypatch.setattr(evl, "_QUERIES_AT_ONCE", 5)
    torch.testing.assert_close(model(x), whole, rtol=0, atol=1e-6)


def test_the_frozen_tower_keeps_nothing_and_gets_no_gradient():
    """Not one tensor of a tower's pass is kept for backward but what the decoder itself looks at."""
    model = randomised(Evl, TINY).train()
    inside, kept = [], []
    for module in model.backbone.modules():
        module.register_forward_hook(lambda *args: inside.append(args[-1]))
    x = clips(TINY).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        seen = model.see(x)
        assert kept == []
        logits = model.classify(seen)
    assert kept
    assert not any(part.requires_grad for one in seen for part in one)
    logits.sum().backward()
    assert x.grad is None
    assert all(parameter.grad is None for parameter in model.backbone.parameters())
    assert all(parameter.grad is not None for name, parameter in model.named_parameters() if "backbone" not in name)


def test_a_pass_that_trains_all_keeps_far_more():
    def kept_bytes(config: EvlConfig) -> int:
        kept: dict[int, int] = {}
        model = randomised(Evl, config).train()
        own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}

        def keep(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        alive = []
        with torch.autograd.graph.saved_tensors_hooks(lambda tensor: alive.append(tensor) or keep(tensor), lambda t: t):
            model(clips(config))
        return sum(kept.values())

    few = replace(TINY, decoder_layers=2)
    assert kept_bytes(replace(few, frozen=False)) > 3 * kept_bytes(few)


def test_the_frozen_tower_is_always_in_evaluation_mode_and_moves_with_the_model():
    model = Evl(TINY).train()
    assert not any(module.training for module in model.backbone.modules())
    assert model.decoder.training
    assert all(parameter.dtype == torch.float64 for parameter in model.double().parameters())
    assert Evl(replace(TINY, frozen=False)).train().backbone.training


def test_the_frozen_tower_is_no_part_of_the_state_dict():
    model = randomised(Evl, TINY)
    names = model.state_dict().keys()
    assert {name.split(".")[0] for name in names} == {"decoder", "proj"}
    other = Evl(TINY)
    before = all_weights(other)["backbone.cls_token"].clone()
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.backbone.cls_token, before)
    other.backbone.load_state_dict(model.backbone.state_dict())
    x = clips(TINY)
    assert torch.equal(other.eval()(x), model.eval()(x))
    with pytest.raises(RuntimeError, match=r"decoder\.cls_token"):
        other.load_state_dict({name: tensor for name, tensor in model.state_dict().items() if "cls_token" not in name})


def test_zeros_of_the_initialisation():
    model = Evl(TINY)
    zeros = {name for name, parameter in model.named_parameters() if not parameter.any()}
    expected = {"decoder.cls_token"} | {
        name
        for name, _ in model.named_parameters()
        if "temporal_pos_embed" in name
        or "cross_attention" in name
        or name.endswith(("q_proj.bias", "k_proj.bias", "v_proj.bias", "out_proj.bias", "ln_pre.bias", "proj.0.bias"))
        or ("norm" in name and name.endswith("bias"))
    }
    assert zeros == expected
    layer = model.decoder.decoder_layers[0]
    assert 0 < layer.mlp.fc1.bias.abs().max() < 1e-5
    assert layer.attn.q_proj.weight.abs().max() <= (6 / 128) ** 0.5  # Xavier uniform of (C, C)


def test_bf16_is_near_fp32_and_tokens_stay_in_it():
    model = randomised(Evl, TINY).eval()
    x, dtypes = clips(TINY, 8), []
    model.decoder.decoder_layers[0].norm3.register_forward_hook(lambda *args: dtypes.append(args[-1].dtype))
    with torch.no_grad():
        exact = model(x)
        with torch.autocast("cpu", torch.bfloat16):
            rough = model(x)
    assert dtypes == [torch.float32, torch.bfloat16]
    assert (rough.float() - exact).abs().max() < 0.03 * exact.abs().max()  # bf16 itself resolves 0.004


def test_clips_do_not_see_each_other():
    model, x = randomised(Evl, TINY).eval(), clips(TINY, 3)
    torch.testing.assert_close(model(x)[1:2], model(x[1:2]), rtol=1e-5, atol=1e-5)


def test_dropouts_are_off_in_evaluation_mode():
    model, x = randomised(Evl, TINY).eval(), clips(TINY)
    assert torch.equal(model(x), model(x))
    model.train()
    assert not torch.equal(model(x), model(x))


def test_the_temporal_parts_tell_the_order_of_frames():
    for name in PARTS:
        config = replace(TINY, **parts(name))
        model, x = randomised(Evl, config).eval(), clips(config)
        change = (model(x) - model(x.flip(2))).abs().max()
        assert (change < 1e-5) == (name == "no_temporal"), name


@pytest.mark.parametrize(
    ("shape", "wants"),
    [
        ((2, 3, 4, 32, 32), r"\(clips, 3, 3, 32, 32\)"),
        ((2, 3, 3, 32, 31), r"\(clips, 3, 3, 32, 32\)"),
        ((2, 4, 3, 32, 32), r"\(clips, 3, 3, 32, 32\)"),
        ((3, 3, 32, 32), r"\(clips, 3, 3, 32, 32\)"),
    ],
)
def test_clips_of_another_shape_are_refused(shape: tuple[int, ...], wants: str):
    with pytest.raises(UsageError, match=f"it wants {wants}"):
        Evl(TINY)(torch.zeros(shape))


def test_without_temporal_positions_any_number_of_frames():
    model = Evl(replace(TINY, temporal_positions=False)).eval()
    for frames in (1, 2, 5):
        assert model(torch.randn(1, 3, frames, 32, 32)).shape == (1, 10)
    with pytest.raises(UsageError, match=r"\(clips, 3, frames, 32, 32\)"):
        model(torch.zeros(1, 3, 0, 32, 32))


@pytest.mark.parametrize(
    "changes",
    [
        {"backbone": "B/32"},
        {"activation": "relu"},
        {"size_px": 33},
        {"num_frames": 0},
        {"num_classes": 0},
        {"decoder_layers": 5},
        {"decoder_layers": 0},
        {"decoder_heads": 0},
        {"qkv_width": 63},
        {"mlp_factor": 0.0},
        {"mlp_factor": float("nan")},
        {"head_dropout": 1.0},
        {"mlp_dropout": -0.1},
    ],
    ids=str,
)
def test_a_configuration_says_what_it_wants(changes):
    with pytest.raises(UsageError, match=f"EvlConfig: {next(iter(changes))} is .*want"):
        EVL.config("tiny", **changes)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_told_by_its_shapes(name: str):
    with torch.device("meta"):
        model = Evl(PRESETS[name])
    found = config_from_shapes(shapes_of(model))
    assert found == PRESETS[name]
    assert preset_name(found) == name


@pytest.mark.parametrize("config", VARIANTS, ids=str)
def test_what_shapes_tell(config: EvlConfig):
    found = config_from_shapes(shapes_of(Evl(config)))
    assert found is not None
    again = Evl(found)
    assert shapes_of(again) == shapes_of(Evl(config))
    assert (found.temporal_conv, found.temporal_attention) == (config.temporal_conv, config.temporal_attention)


def test_no_configuration_for_what_is_none():
    assert config_from_shapes({}) is None
    shapes = shapes_of(Evl(TINY))
    for name in ("decoder.cls_token", "proj.2.weight", "decoder.decoder_layers.0.attn.q_proj.weight"):
        assert config_from_shapes({key: shape for key, shape in shapes.items() if key != name}) is None
    assert config_from_shapes({**shapes, "decoder.cls_token": (65,)}) is None


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_tower_gives_the_tokens_of_clip(form: str, tmp_path: Path):
    """Against UniFormerV2's backbone, which is CLIP's under CLIP's own names."""
    path = FORMS[form](tmp_path, tower())
    told = "quick_gelu" if form in UNTOLD else None
    model, clip = Evl(TINY).eval(), UniFormerV2(preset("tiny")).eval()
    before = {name: parameter.clone() for name, parameter in model.state_dict().items()}
    messages = EVL.starts["clip"].load(model, str(path), False, {"activation": told})
    assert messages == [f"from the image tower {path}: 70 tensors"]
    load_clip(clip, path, activation=told)
    tokens = []
    clip.transformer.resblocks[-1].register_forward_hook(lambda *args: tokens.append(args[-1]))
    x = clips(TINY)
    with torch.no_grad():
        clip(x)
        seen = model.see(x)
    torch.testing.assert_close(seen[-1].tokens.flatten(0, 1), tokens[0], rtol=1e-5, atol=1e-5)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_tower_that_does_not_fit_is_refused_and_nothing_is_loaded(tmp_path: Path):
    model = Evl(TINY)
    before = all_weights(model)["backbone.pos_embed"].clone()
    (tmp_path / "36").mkdir()
    refused = {
        openai(tmp_path / "36", tower(grid=6)): r"1 misshapen: pos_embed \(37, 64\), want \(17, 64\)",
        huggingface(tmp_path, tower(), activation="gelu"): r"trained with gelu .*EvlConfig\(activation=\"gelu\"\)",
    }
    for path, says in refused.items():
        with pytest.raises(CheckpointError, match=says):
            EVL.starts["clip"].load(model, str(path), False, {})
    assert torch.equal(model.backbone.pos_embed, before)
    EVL.starts["clip"].load(model, str(tmp_path / "36" / "ViT-tiny.pt"), True, {})
    assert not torch.equal(model.backbone.pos_embed, before)
