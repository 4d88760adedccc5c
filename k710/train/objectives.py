"""What a step minimises. An objective is a row of OBJECTIVES; a recipe names it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

from k710.loading.batch import Batch
from k710.random_key import RandomKey
from k710.train.sections import OptimRecipe


@dataclass(frozen=True)
class Measured:
    """What an objective says of a batch of B clips, on the batch's device.

    `losses`: (B,) float32, 0 for a clip that could not be read; `measures`: (B,) each, by the names of the objective.
    """

    losses: Tensor
    measures: dict[str, Tensor]


@dataclass(frozen=True)
class Objective:
    """`of_batch(net, batch, keys, recipe)` runs the model and measures it; `keys` has one RandomKey a clip, from which
    masks and noise are drawn.

    `measures` are the names of what a log shows beside the loss, with the words and the format of its line.
    `needs_labels` says whether clips without a class can be trained on, and how a validation scores: by top-1 of the
    views' classes, or by the loss, of which less is better.
    """

    of_batch: Callable[[nn.Module, Batch, Sequence[RandomKey], OptimRecipe], Measured]
    measures: Mapping[str, str]
    needs_labels: bool

    @property
    def best_by(self) -> str:
        """The score of a validation that decides which model is best."""
        return "top1" if self.needs_labels else "loss"

    def worth(self, scores: Mapping[str, float]) -> float:
        """The score that decides, so that more is better."""
        return scores[self.best_by] * (1 if self.needs_labels else -1)


def _classify(net: nn.Module, batch: Batch, keys: Sequence[RandomKey], recipe: OptimRecipe) -> Measured:
    """Cross entropy on the labels, or on the mixed ones; a hit is a clip whose most likely class is its own."""
    logits = net(batch.pixels)
    targets = batch.class_ids if batch.targets is None else batch.targets
    losses = functional.cross_entropy(logits.float(), targets, reduction="none", label_smoothing=recipe.label_smoothing)
    hits = (logits.detach().argmax(-1) == batch.class_ids) & (batch.weights > 0)
    # The pixels of a clip that failed are finite, so nothing but zero comes of it.
    return Measured(losses * batch.weights, {"accuracy": hits.float()})


OBJECTIVES = {
    "classify": Objective(_classify, {"accuracy": "top-1 {:.1%}"}, needs_labels=True),
}
