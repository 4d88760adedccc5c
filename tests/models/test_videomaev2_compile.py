"""VideoMAE V2 under torch.compile: one graph, and what it computes is what eager does."""

from __future__ import annotations

import shutil
import warnings
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

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
def test_a_pretraining_is_one_graph(ratio: float):
    config = replace(PRETRAIN_PRESETS["tiny"], decoder_mask_ratio=ratio, checkpoint_blocks=2)
    model = MaskedVideoMAEV2(config)
    x, masks = torch.randn(2, 3, 8, 32, 32), model.draw_masks([RandomKey(0, 0, clip) for clip in range(2)])
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x, *masks), model(x, *masks), rtol=1e-4, atol=1e-5)
