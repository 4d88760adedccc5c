"""What a step minimises. An objective is a row of OBJECTIVES; a recipe names it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from k710.loading.batch import Batch
from k710.random_key import RandomKey
from k710.train.sections import OptimRecipe


@dataclass(frozen=True)
class Measured:
    """What an objective measures on a batch of B clips, on the batch's device.

    `losses`: (B,) float32; `measures`: (B,) each, by the objective's names.
    """

    losses: Tensor
    measures: dict[str, Tensor]


@dataclass(frozen=True)
class Objective:
    """`of_batch(net, batch, keys, recipe)` runs the model on a batch and measures it. `keys` holds one RandomKey per
    clip, from which masks and noise are drawn.

    `measures` are the values that a log shows beside the loss: a format string for each name. `needs_labels`: every
    clip must have a class, and a validation is scored by top-1. Without it, clips need no class, and a validation is
    scored by the loss, of which less is better. `needs_teacher`: the batch must have `teacher_logits`. `of_classes`:
    it is of models that give logits; without it, of those that reconstruct what is hidden (see Family).
    """

    of_batch: Callable[[nn.Module, Batch, Sequence[RandomKey], OptimRecipe], Measured]
    measures: Mapping[str, str]
    needs_labels: bool
    needs_teacher: bool = False
    of_classes: bool = True

    def measure(self, net: nn.Module, batch: Batch, keys: Sequence[RandomKey], recipe: OptimRecipe) -> Measured:
        """The losses and measures of a batch; all are 0 for a clip that could not be read."""
        found = self.of_batch(net, batch, keys, recipe)
        # The pixels of a clip that failed are finite, so its product with 0 is 0.
        measures = {name: values * batch.weights for name, values in found.measures.items()}
        return Measured(found.losses * batch.weights, measures)

    @property
    def best_by(self) -> str:
        """The score of a validation that decides which model is best."""
        return "top1" if self.needs_labels else "loss"

    def rank(self, scores: Mapping[str, float]) -> float:
        """The deciding score of a validation, signed so that more is better."""
        return scores[self.best_by] * (1 if self.needs_labels else -1)


def _classify(net: nn.Module, batch: Batch, keys: Sequence[RandomKey], recipe: OptimRecipe) -> Measured:
    """Cross entropy on the labels, or on the mixed ones. The accuracy of a clip is 1 if its class is the likeliest."""
    logits = net(batch.inputs)
    targets = batch.class_ids if batch.targets is None else batch.targets
    losses = functional.cross_entropy(logits.float(), targets, reduction="none", label_smoothing=recipe.label_smoothing)
    is_right = logits.detach().argmax(-1) == batch.class_ids
    return Measured(losses, {"accuracy": is_right.float()})


def _distill(net: nn.Module, batch: Batch, keys: Sequence[RandomKey], recipe: OptimRecipe) -> Measured:
    """The divergence of Kullback and Leibler from the teacher's answer to the model's, both softened by the temperature
    (VideoMAE V2 paper, supplement, Table 10: 3), times its square, which keeps the gradients' size (Hinton et al.,
    2015). The teacher saw the same pixels; labels count for the measures alone. `agreement`: both say the same class.
    """
    assert batch.teacher_logits is not None, "the run has a teacher, or was refused"
    logits, temperature = net(batch.inputs).float(), recipe.distill_temperature
    answer, wanted = ((one / temperature).log_softmax(-1) for one in (logits, batch.teacher_logits.float()))
    losses = functional.kl_div(answer, wanted, reduction="none", log_target=True).sum(-1) * temperature**2
    likeliest = logits.detach().argmax(-1)
    is_right, agrees = likeliest == batch.class_ids, likeliest == wanted.argmax(-1)
    return Measured(losses, {"accuracy": is_right.float(), "agreement": agrees.float()})


def _reconstruct(net: nn.Module, batch: Batch, keys: Sequence[RandomKey], recipe: OptimRecipe) -> Measured:
    """The model's own loss on what is hidden from it, by masks that each clip's key draws. `hidden`: the hidden
    share of a clip."""
    model: Any = net.module if isinstance(net, nn.parallel.DistributedDataParallel) else net
    masks = model.draw_masks(keys)
    losses = model.losses(net(batch.pixels, *masks), batch.pixels, *masks)
    share = 1 - masks[0].shape[1] / math.prod(model.config.grid)
    return Measured(losses, {"hidden": torch.full_like(losses.detach(), share)})


OBJECTIVES = {
    "classify": Objective(_classify, {"accuracy": "top-1 {:.1%}"}, needs_labels=True),
    "distill": Objective(
        _distill,
        {"accuracy": "top-1 {:.1%}", "agreement": "as the teacher {:.1%}"},
        needs_labels=True,
        needs_teacher=True,
    ),
    "reconstruct": Objective(_reconstruct, {"hidden": "hidden {:.0%}"}, needs_labels=False, of_classes=False),
}
