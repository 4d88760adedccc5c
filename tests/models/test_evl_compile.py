"""EVL under torch.compile: one graph, and what it computes is what eager does."""

from __future__ import annotations

import warnings
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from k710.models.evl.config import PRESETS
from k710.models.evl.model import Evl

TINY = replace(PRESETS["tiny"], num_frames=3, num_classes=10, decoder_layers=1, mlp_dropout=0.0, head_dropout=0.0)


@pytest.mark.slow
@pytest.mark.parametrize("frozen", [True, False])
def test_it_is_one_graph(frozen: bool):
    """Traced by dynamo and autograd, which is what can break; the code that a backend makes of it is torch's."""
    torch._dynamo.reset()
    torch.manual_seed(0)
    model = Evl(replace(TINY, frozen=frozen)).train()
    x = torch.randn(2, 3, 3, 32, 32)
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's compiler warns of its own parts
        for run in (model, torch.compile(model, fullgraph=True, backend="aot_eager")):
            model.zero_grad()
            logits = run(x)
            F.cross_entropy(logits, torch.arange(2)).backward()
            gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
            found.append(
                (logits.detach(), {name: None if one is None else one.clone() for name, one in gradients.items()})
            )
    torch.testing.assert_close(found[1][0], found[0][0])
    assert found[1][1].keys() == found[0][1].keys()
    for name, gradient in found[0][1].items():
        torch.testing.assert_close(found[1][1][name], gradient, rtol=1e-4, atol=1e-6)
    torch._dynamo.reset()
