"""AdamW with the published groups, the learning rate of each iteration, and a running average of the weights."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn

from k710.models.family import Family
from k710.train.sections import OptimRecipe


def parameter_groups(
    model: nn.Module, family: Family, recipe: OptimRecipe, new: Collection[str] = ()
) -> list[dict[str, Any]]:
    """AdamW's groups of the parameters that are trained, each with `names`, `weight_decay` and `lr_scale`.

    Batch norms, tensors of one dimension (biases, layer norms, UniFormerV2's class_embedding and balance) and what the
    family names in `no_decay` are not decayed; all others are. With `decay_vectors`, all are. One rate for
    all, unless `layer_decay` is below 1: then each layer has that part of the rate of the layer above it (Bao et al.,
    2021). `new` are the names of the weights that no start gave, where the recipe scales rate or decay of the others.
    """
    config = model.config
    topmost = family.num_layers(config)
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
        kept = parameter.ndim <= 1 or name in norms or name in family.no_decay
        decay = 0.0 if kept and not recipe.decay_vectors else recipe.weight_decay
        scale = recipe.layer_decay ** (topmost - family.layer_of(name, config))
        if recipe.scales_pretrained and name not in new:
            decay, scale = decay * recipe.pretrained_decay_scale, scale * recipe.pretrained_lr_scale
        facts = {"weight_decay": decay, "lr_scale": scale, "lr": recipe.lr * scale}
        group = groups.setdefault((decay, scale), {"params": [], "names": [], **facts})
        group["params"].append(parameter)
        group["names"].append(name)
    return list(groups.values())


def make_optimizer(
    model: nn.Module, family: Family, recipe: OptimRecipe, new: Collection[str] = ()
) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter, 2019) on the groups of `parameter_groups`."""
    groups = parameter_groups(model, family, recipe, new)
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


class Average:
    """A running average of the weights (Polyak and Juditsky, 1992).

    It is the exponential average of a model's floating-point tensors; all other tensors are the model's newest.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.tensors = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """After optimiser step `step` (from 1). The first steps count for more, so that the start is soon forgotten."""
        decay = min(self.decay, step / (step + 9))
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                self.tensors[name].lerp_(tensor.detach(), 1 - decay)
            else:
                self.tensors[name].copy_(tensor)

    def state_dict(self) -> dict[str, Tensor]:
        return self.tensors

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        for name, tensor in state.items():
            self.tensors[name].copy_(tensor)


def learning_rate(
    recipe: OptimRecipe, epoch: float, steps_per_epoch: int | None = None, *, epochs: float | None = None
) -> float:
    """The rate at a point of the training, `epoch` counting parts too (2.5 is halfway through the third).

    `epochs` is how long the training is, None for as long as the recipe's epochs.

    As the released code computes it, once per iteration: from `start_lr` in a straight line to `lr` over the warmup,
    then along half a cosine (Loshchilov and Hutter, 2017) to `end_lr`. Where `warmup_reaches_lr`, the last of the
    warmup's steps has `lr`, as VideoMAE V2's code has it; that takes `steps_per_epoch`.
    """
    if epoch < recipe.warmup_epochs:
        length = recipe.warmup_epochs
        if recipe.warmup_reaches_lr and steps_per_epoch is not None:
            length = max(length - 1 / steps_per_epoch, 1 / steps_per_epoch)
        return recipe.start_lr + (recipe.lr - recipe.start_lr) * epoch / length
    length = max((recipe.epochs if epochs is None else epochs) - recipe.warmup_epochs, 1e-12)
    done = min((epoch - recipe.warmup_epochs) / length, 1.0)
    return recipe.end_lr + (recipe.lr - recipe.end_lr) * 0.5 * (1 + math.cos(math.pi * done))
