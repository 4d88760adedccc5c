"""Held against every published model: small models with weights by a formula, and what the public code computed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

Model = TypeVar("Model", bound=nn.Module)

GOLDEN_CLASSES = (3, 7)  # of the two golden clips


@pytest.fixture
def one_thread():
    """With several threads, sums come out in other orders."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


def randomised(build: Callable[[Any], Model], config: Any, seed: int = 0) -> Model:
    """A model without the zeros of its initialisation, so that every part counts; the same for the same seed."""
    torch.manual_seed(seed)
    model = build(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def clips(config: Any, num: int = 2) -> Tensor:
    """Random clips (num, 3, T, S, S)."""
    return torch.randn(num, 3, config.num_frames, config.size_px, config.size_px)


def gradients(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Of the cross entropy on classes 0, 1, …"""
    model.zero_grad()
    functional.cross_entropy(model(x).float(), torch.arange(len(x))).backward()
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}


def wave(k: int, size: int) -> np.ndarray:
    """(size,) sin(0.37 (k + 1) + 0.011 i + 0.001 i²) of the element i."""
    i = np.arange(size, dtype=np.float64)
    return np.sin(0.37 * (k + 1) + 0.011 * i + 0.001 * i * i)


def golden_weight(k: int, tensor: Tensor, *, is_norm: bool) -> Tensor:
    """The golden values of a tensor, the k-th by its name; `is_norm`: the weight of a norm."""
    s = wave(k, tensor.numel())
    if is_norm:
        s = 1 + 0.2 * s
    elif tensor.ndim >= 2 and tensor.shape[0] > 1:
        s = 1.5 / math.sqrt(tensor.numel() / tensor.shape[0]) * s
    else:
        s = 0.3 * s
    return torch.from_numpy(s).to(tensor.dtype).view(tensor.shape)


def golden_clips(config: Any) -> Tensor:
    """The two clips (2, 3, T, 32, 32) that the golden numbers belong to."""
    i = np.arange(2 * 3 * config.num_frames * 32 * 32, dtype=np.float64)
    return torch.from_numpy(np.sin(0.013 * i + 1e-4 * i * i)).float().view(2, 3, config.num_frames, 32, 32)


def check_golden(model: nn.Module, golden: Mapping[str, Any]) -> None:
    """Logits, loss and the norms of all gradients, to 1e-5."""
    logits = model(golden_clips(model.config))
    torch.testing.assert_close(logits, torch.tensor(golden["logits"]), rtol=0, atol=1e-5)
    loss = functional.cross_entropy(logits, torch.tensor(GOLDEN_CLASSES))
    loss.backward()
    assert loss.item() == pytest.approx(golden["loss"], abs=1e-5)
    norms = {key: value.grad.norm().item() for key, value in model.named_parameters() if value.grad is not None}
    assert [norms[key] for key in sorted(norms)] == pytest.approx(golden["grad_norms"], abs=1e-5)
    if "grad_norm_total" in golden:
        total = sum(norm**2 for norm in norms.values()) ** 0.5
        assert total == pytest.approx(golden["grad_norm_total"], abs=1e-5)


def check_stages(model: nn.Module, parts: Mapping[str, nn.Module], golden: Mapping[str, Any]) -> None:
    """Sum and norm of what each part gives, which no layout changes."""
    found: dict[str, Tensor] = {}
    for part, module in parts.items():

        def keep(module: nn.Module, given: Any, got: Any, part: str = part) -> None:
            found[part] = (got[0] if isinstance(got, tuple) else got).double()

        module.register_forward_hook(keep)
    with torch.no_grad():
        model(golden_clips(model.config))
    for part, (total, norm) in golden["stages"].items():
        assert found[part].norm().item() == pytest.approx(norm, rel=1e-6)
        assert found[part].sum().item() == pytest.approx(total, abs=1e-6 * norm * found[part].numel() ** 0.5)
