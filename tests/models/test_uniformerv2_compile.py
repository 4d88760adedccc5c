"""UniFormerV2 under torch.compile: one graph, and what it computes is what eager does."""

from __future__ import annotations

import shutil
import warnings
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from k710.models.uniformerv2.config import UniFormerV2Config, preset
from k710.models.uniformerv2.model import UniFormerV2

TINY = preset("tiny", num_classes=10, mlp_dropout=0.0, head_dropout=0.0)
LOCAL = replace(TINY, local="double", temporal_downsample=True, num_frames=8)
CONFIGS = {
    "kinetics": TINY,
    "something-something, recomputed": replace(LOCAL, checkpoint_blocks=2),
    "frozen": replace(TINY, frozen=True, balance=False),
}
ONE_GRAPH = {
    "recomputed": replace(LOCAL, checkpoint_blocks=2),
    "frozen": replace(TINY, frozen=True, balance=False),
    "parallel": replace(TINY, fusion="parallel"),
    "hierarchical_kv": replace(TINY, fusion="hierarchical_kv"),
    "hierarchical_q": replace(TINY, fusion="hierarchical_q"),
}


@pytest.fixture(autouse=True)
def fresh():
    torch._dynamo.reset()
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's compiler warns of its own parts
        yield
    torch._dynamo.reset()


def step(run, model: UniFormerV2, x: torch.Tensor):
    """Logits and gradients of one training step, and the buffers after it."""
    model.zero_grad()
    logits = run(x)
    F.cross_entropy(logits, torch.arange(len(x))).backward()
    grads = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    return logits.detach(), grads, {name: buffer.clone() for name, buffer in model.named_buffers()}


def randomised(config: UniFormerV2Config) -> UniFormerV2:
    model = UniFormerV2(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


@pytest.mark.parametrize("name", ONE_GRAPH)
@pytest.mark.slow
def test_one_graph(name: str):
    """`fullgraph` raises at the first break; drop paths and dropouts on, in training."""
    config = replace(ONE_GRAPH[name], drop_path=0.2, global_drop_path=0.2, mlp_dropout=0.5, head_dropout=0.5)
    model = UniFormerV2(config)
    run = torch.compile(model, fullgraph=True, backend="eager")
    run(torch.randn(2, 3, config.num_frames, 32, 32)).sum().backward()
    with torch.no_grad():
        model.eval()
        run(torch.randn(2, 3, config.num_frames, 32, 32))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU")
@pytest.mark.parametrize("name", CONFIGS)
def test_compiled_is_eager(name: str):
    config = CONFIGS[name]
    eager = randomised(config)
    compiled = UniFormerV2(config)
    compiled.load_state_dict(eager.state_dict())
    x = torch.randn(2, 3, config.num_frames, 32, 32)
    expected = step(eager, eager, x)
    found = step(torch.compile(compiled, fullgraph=True), compiled, x)
    torch.testing.assert_close(found[0], expected[0], rtol=1e-4, atol=1e-5)
    assert found[1].keys() == expected[1].keys()
    for parts in zip(found[1:], expected[1:], strict=True):
        for key in parts[0]:
            torch.testing.assert_close(parts[0][key], parts[1][key], rtol=1e-3, atol=1e-5, msg=key)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU")
def test_compiled_bf16_is_near_eager_fp32():
    model = randomised(LOCAL).eval()
    x = torch.randn(4, 3, LOCAL.num_frames, 32, 32)
    with torch.no_grad():
        expected = model(x)
        with torch.autocast("cpu", torch.bfloat16):
            found = torch.compile(model, fullgraph=True)(x)
    assert found.dtype == torch.bfloat16
    assert (found.float() - expected).abs().max() < 0.02 * expected.abs().max()  # bf16 itself resolves 0.004
