"""The linear classifier of a probe: multinomial logistic regression on features that are computed once.

As published for frozen features: weights are found by L-BFGS in at most 1,000 iterations, and the strength of their L2
regularisation by a search on held-out clips (Radford et al., 2021, appendix A.3). Features are first normalised by mean
and variance, as by a batch norm without affine parameters (He et al., 2021, appendix A.1).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from k710.errors import TrainError

# Radford et al.: seven strengths from 1e-6 to 1e6, then halves of their distance beside the best, to eight a decade.
_FIRST_EXPONENTS, _STEPS = (-6.0, -4.0, -2.0, 0.0, 2.0, 4.0, 6.0), (1.0, 0.5, 0.25, 0.125)
_MOST_ITERATIONS = 1000
_TOLERANCE = 1e-4  # of the largest number of a gradient of the mean loss; that of scikit-learn, which they use
_ROWS_AT_ONCE = 2**16  # whose scores are in memory
_EPS = 1e-6  # of the batch norm in the public code of He et al.


class Linear(nn.Module):
    """Features (B, C) to scores (B, classes), in float32. A class that no clip of the training had has -inf."""

    weight: Tensor
    bias: Tensor
    mean: Tensor
    deviation: Tensor

    def __init__(self, weight: Tensor, bias: Tensor, mean: Tensor, deviation: Tensor) -> None:
        super().__init__()
        for name, tensor in (("weight", weight), ("bias", bias), ("mean", mean), ("deviation", deviation)):
            self.register_buffer(name, tensor)

    def forward(self, features: Tensor) -> Tensor:
        with torch.autocast(features.device.type, enabled=False):
            normalised = (features.float() - self.mean) / self.deviation
            return functional.linear(normalised, self.weight, self.bias)


@dataclass(frozen=True)
class Fitted:
    """A classifier, the strength of its regularisation, and its top-1 on the held-out clips by which that was chosen,
    and on all clips that it was fitted to."""

    linear: Linear
    l2: float
    held_out_top1: float
    train_top1: float


def fit_linear(
    features: Tensor,
    class_ids: Tensor,
    held_out: Tensor,
    *,
    num_classes: int,
    on_fit: Callable[[int], None] = lambda number: None,
) -> Fitted:
    """Fit to features (N, C) float32 and classes (N,). `held_out`, (N,) bool, are those that choose the strength; the
    classifier is then fitted to all. The same on every call: nothing is drawn.

    `on_fit` is called after each fit, with its number. Raises TrainError where there are fewer than two classes, where
    nothing is held out, or everything.
    """
    present, targets = torch.unique(class_ids, return_inverse=True)
    if len(present) < 2 or held_out.all() or not held_out.any():
        raise TrainError(
            f"{len(features):,} clips of {len(present):,} classes are too few for a linear probe: it needs two "
            "classes, and videos of which some can be held out"
        )
    deviation, mean = torch.var_mean(features, 0, correction=0)
    deviation = (deviation + _EPS).sqrt()
    x = (features - mean) / deviation
    scores: dict[float, tuple[float, float]] = {}
    start = x.new_zeros(len(present), x.shape[1] + 1)

    def try_out(exponent: float) -> None:
        nonlocal start
        if exponent not in scores and min(_FIRST_EXPONENTS) <= exponent <= max(_FIRST_EXPONENTS):
            start = _logistic(x[~held_out], targets[~held_out], start, 10**exponent)
            logits = _scores(x[held_out], start)
            right = (logits.argmax(1) == targets[held_out]).double().mean()
            # As many right: the likelier answers are better.
            scores[exponent] = (right.item(), -functional.cross_entropy(logits, targets[held_out]).item())
            on_fit(len(scores))

    # From strong to weak, each beginning where the last one ended, which is near.
    for exponent in _FIRST_EXPONENTS[::-1]:
        try_out(exponent)
    for step in _STEPS:
        best = max(scores, key=lambda exponent: scores[exponent])
        for exponent in (best - step, best + step):
            try_out(exponent)
    best = max(scores, key=lambda exponent: scores[exponent])
    rows = _logistic(x, targets, start, 10**best)
    train_top1 = (_scores(x, rows).argmax(1) == targets).double().mean().item()
    weight, bias = x.new_zeros(num_classes, x.shape[1]), x.new_full((num_classes,), -torch.inf)
    weight[present], bias[present] = rows[:, :-1], rows[:, -1]
    return Fitted(Linear(weight, bias, mean, deviation), 10**best, scores[best][0], train_top1)


def _scores(x: Tensor, rows: Tensor) -> Tensor:
    """Scores (N, classes) of features (N, C) by `rows` (classes, C + 1), the last column of which is the bias."""
    return functional.linear(x, rows[:, :-1], rows[:, -1])


def _logistic(x: Tensor, targets: Tensor, start: Tensor, l2: float) -> Tensor:
    """Rows (classes, C + 1) of the least cross entropy, summed over clips, plus `l2` / 2 times the squared norm of the
    weights; the search begins at `start`."""
    rows = start.clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [rows], max_iter=_MOST_ITERATIONS, tolerance_grad=_TOLERANCE, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        total = l2 / 2 / len(x) * rows[:, :-1].square().sum()
        total.backward()  # type: ignore[no-untyped-call]
        for some, wanted in zip(torch.split(x, _ROWS_AT_ONCE), torch.split(targets, _ROWS_AT_ONCE), strict=True):
            part = functional.cross_entropy(_scores(some, rows), wanted, reduction="sum") / len(x)
            part.backward()  # type: ignore[no-untyped-call]
            total = total.detach() + part.detach()
        return total

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return rows.detach()
