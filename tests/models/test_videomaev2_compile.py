"""VideoMAE V2 under torch.compile: one graph, and what it computes is what eager does."""

from __future__ import annotations

import shutil
import warnings
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F  # noqa: N812
from torch.nn.attention import SDPBackend, sdpa_kernel

from k710.models.videomaev2.config import PRESETS, VideoMAEV2Config
from k710.models.videomaev2.model import VideoMAEV2
from k710.models.videomaev2.pretrain import MaskedVideoMAEV2
from k710.models.videomaev2.pretrain_config import PRESETS as PRETRAIN_PRESETS
from k710.random_key import RandomKey

TINY = replace(PRESETS["tiny"], num_classes=10)


@pytest.fixture(autouse=True)
def fresh():
    torch._dynamo.reset()
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's compiler warns of its own parts
        yield
    torch._dynamo.reset()


def step(run, model: VideoMAEV2, x: torch.Tensor):
    model.zero_grad()
    logits = run(x)
    F.cross_entropy(logits, torch.arange(len(x))).backward()
    return logits.detach(), {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("config", [
    replace(TINY, drop_path=0.2, head_dropout=0.5),
    replace(TINY, checkpoint_blocks=2, layer_scale=0.1, drop_path=0.2),
    replace(TINY, qkv_bias=False, mean_pooling=False),
], ids=["dropped", "recomputed, layer scale", "first token"])  # fmt: skip
@pytest.mark.slow
def test_one_graph(config: VideoMAEV2Config):
    """`fullgraph` raises at the first break."""
    model = VideoMAEV2(config)
    run = torch.compile(model, fullgraph=True, backend="eager")
    run(torch.randn(2, 3, 8, 32, 32)).sum().backward()
    with torch.no_grad():
        model.eval()
        run(torch.randn(2, 3, 8, 32, 32))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU")
@pytest.mark.parametrize("config", [TINY, replace(TINY, checkpoint_blocks=2, layer_scale=0.1)], ids=["plain", "all"])
def test_compiled_is_eager(config: VideoMAEV2Config):
    eager = VideoMAEV2(config)
    with torch.no_grad():
        for parameter in eager.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    compiled = VideoMAEV2(config)
    compiled.load_state_dict(eager.state_dict())
    x = torch.randn(2, 3, 8, 32, 32)
    expected, expected_grads = step(eager, eager, x)
    logits, grads = step(torch.compile(compiled, fullgraph=True), compiled, x)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)
    for name, gradient in expected_grads.items():
        torch.testing.assert_close(grads[name], gradient, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("ratio", [0.5, 0.0])
@pytest.mark.slow
def test_a_pretraining_is_one_graph(ratio: float):
    config = replace(PRETRAIN_PRESETS["tiny"], decoder_mask_ratio=ratio, checkpoint_blocks=2)
    model = MaskedVideoMAEV2(config)
    x, masks = torch.randn(2, 3, 8, 32, 32), model.draw_masks([RandomKey(0, 0, clip) for clip in range(2)])
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x, *masks), model(x, *masks), rtol=1e-4, atol=1e-5)


def pretraining(**changes) -> tuple[MaskedVideoMAEV2, torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
    torch.manual_seed(0)
    model = MaskedVideoMAEV2(replace(PRETRAIN_PRESETS["tiny"], **changes))
    x = torch.randn(2, 3, 8, 32, 32)
    return model, x, model.draw_masks([RandomKey(0, 0, clip) for clip in range(2)])


def pretraining_step(run, model: MaskedVideoMAEV2, x: torch.Tensor, masks):
    model.zero_grad()
    losses = model.losses(run(x, *masks), x, *masks)
    losses.sum().backward()
    return losses.detach(), {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.mark.slow
@pytest.mark.parametrize("decoder_fp32", [False, True])
def test_a_pretraining_in_bf16_is_one_graph(decoder_fp32: bool):
    model, x, masks = pretraining(decoder_fp32=decoder_fp32, checkpoint_blocks=2, drop_path=0.2)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    with torch.autocast("cpu", torch.bfloat16):
        found = compiled(x, *masks)
    assert found.dtype == (torch.float32 if decoder_fp32 else torch.bfloat16)
    model.losses(found, x, *masks).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU")
def test_a_compiled_pretraining_is_eager():
    model, x, masks = pretraining(checkpoint_blocks=2)
    expected, expected_grads = pretraining_step(model, model, x, masks)
    expected_grads = {name: gradient.clone() for name, gradient in expected_grads.items()}
    losses, grads = pretraining_step(torch.compile(model, fullgraph=True), model, x, masks)
    torch.testing.assert_close(losses, expected, rtol=1e-4, atol=1e-5)
    for name, gradient in expected_grads.items():
        torch.testing.assert_close(grads[name], gradient, rtol=1e-3, atol=1e-5)


def test_recomputed_blocks_change_no_bit_of_a_pretraining():
    found = [
        pretraining_step(model, model, x, masks)
        for model, x, masks in (pretraining(checkpoint_blocks=blocks) for blocks in (0, 3))
    ]
    assert torch.equal(found[0][0], found[1][0])
    assert all(torch.equal(found[0][1][name], gradient) for name, gradient in found[1][1].items())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_is_fused(dtype: torch.dtype):
    """Encoder and decoder run where torch has no other attention than the fused one."""
    model, x, masks = pretraining()
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION), torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        fused = model(x, *masks)
        classified = VideoMAEV2(TINY)(x)
    assert classified.isfinite().all()
    with sdpa_kernel(SDPBackend.MATH), torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        torch.testing.assert_close(fused, model(x, *masks), rtol=0.02, atol=1e-5 if dtype == torch.float32 else 0.1)
