"""AdamW with the published groups: no weight decay for vectors, and a rate per layer where a recipe asks for it."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor, nn

from k710.train.recipe import TrainRecipe

_BLOCK = re.compile(r"transformer\.resblocks\.(\d+)\.")
# What stands before the first block; the stem of a ViT counts as layer 0.
_STEM = ("conv1.", "class_embedding", "positional_embedding", "ln_pre.")


def layer_of(name: str, num_layers: int) -> int:
    """Which layer a parameter belongs to, for layer-wise decay (Bao et al., 2021): 0 the stem, i + 1 block i,
    num_layers + 1 whatever is new on top (global blocks, fusion, head)."""
    if name.startswith(_STEM):
        return 0
    block = _BLOCK.match(name)
    return int(block[1]) + 1 if block else num_layers + 1


def parameter_groups(model: nn.Module, recipe: TrainRecipe) -> list[dict[str, Any]]:
    """AdamW's groups of the parameters that are trained, each with `names`, `weight_decay` and `lr_scale`.

    As released: batch norms and tensors of one dimension (biases, layer norms, class_embedding, balance) are not
    decayed; all others are, positional_embedding and temporal_cls_token with them. One rate for all, unless
    `layer_decay` is below 1.
    """
    num_layers = 1 + max(
        (int(match[1]) for name, _ in model.named_parameters() if (match := _BLOCK.match(name))), default=-1
    )
    norms = {
        f"{prefix}.{name}"
        for prefix, module in model.named_modules()
        if isinstance(module, nn.modules.batchnorm._NormBase)
        for name, _ in module.named_parameters(recurse=False)
    }
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        decay = 0.0 if parameter.ndim <= 1 or name in norms else recipe.weight_decay
        scale = recipe.layer_decay ** (num_layers + 1 - layer_of(name, num_layers))
        facts = {"weight_decay": decay, "lr_scale": scale, "lr": recipe.lr * scale}
        group = groups.setdefault((decay, scale), {"params": [], "names": [], **facts})
        group["params"].append(parameter)
        group["names"].append(name)
    return list(groups.values())


def make_optimizer(model: nn.Module, recipe: TrainRecipe) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter, 2019) on the groups of `parameter_groups`."""
    groups = parameter_groups(model, recipe)
    fused = all(parameter.is_cuda for group in groups for parameter in group["params"]) and bool(groups)
    return torch.optim.AdamW(groups, lr=recipe.lr, betas=(recipe.beta1, recipe.beta2), eps=1e-8, fused=fused)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set every group's rate to `rate` times its own scale."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["lr_scale"]


def clip_gradients(model: nn.Module, limit: float) -> Tensor:
    """Scale the gradients so that their norm is at most `limit` (0: leave them). Returns the norm before, ()."""
    parameters = [parameter for parameter in model.parameters() if parameter.grad is not None]
    return nn.utils.clip_grad_norm_(parameters, limit or float("inf"))
