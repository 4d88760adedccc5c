"""The classifier of a probe: logistic regression, against its own definition."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from k710.errors import TrainError
from k710.evaluation.linear import fit_linear


def clusters(num: int, spread: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Features about one centre for each of the classes 2, 5 and 6, far from zero and of unlike sizes."""
    made = torch.Generator().manual_seed(seed)
    centres = torch.randn(3, 8, generator=torch.Generator().manual_seed(9))
    which = torch.arange(num) % 3
    noise = torch.randn(num, 8, generator=made) * spread
    return (centres[which] + noise) * torch.logspace(-3, 3, 8) + 100, torch.tensor([2, 5, 6])[which]


def fit(x: torch.Tensor, classes: torch.Tensor, **options):
    return fit_linear(x, classes, torch.arange(len(x)) % 5 == 0, num_classes=8, **options)


def test_it_learns_what_a_line_can_tell_and_nothing_else():
    fitted = fit(*clusters(120, 0.3))
    x, classes = clusters(60, 0.3, seed=1)
    scores = fitted.linear(x)
    assert scores.shape == (60, 8)
    assert (scores.argmax(1) == classes).double().mean() > 0.95
    assert fitted.held_out_top1 > 0.9
    assert fitted.train_top1 > 0.95
    noise = fit(torch.randn(120, 8, generator=torch.Generator().manual_seed(2)), classes.repeat(2))
    assert noise.held_out_top1 < 0.7, "random features tell no class"


def test_classes_that_no_clip_had_are_never_named():
    scores = fit(*clusters(60, 0.5)).linear(clusters(4, 0.5)[0])
    absent = [0, 1, 3, 4, 7]
    assert (scores[:, absent] == -torch.inf).all()
    assert scores[:, [2, 5, 6]].isfinite().all()
    assert scores.softmax(1).isfinite().all()


def test_the_weights_are_the_least_of_the_regularised_loss():
    x, classes = clusters(60, 1.0)
    fitted = fit(x, classes)
    linear = fitted.linear
    weight, bias = (tensor.clone().requires_grad_() for tensor in (linear.weight[[2, 5, 6]], linear.bias[[2, 5, 6]]))
    normed = (x - x.mean(0)) / (x.var(0, correction=0) + 1e-6).sqrt()
    targets = torch.arange(60) % 3
    loss = functional.cross_entropy(functional.linear(normed, weight, bias), targets)
    (loss + fitted.l2 / 2 / 60 * weight.square().sum()).backward()
    assert weight.grad.abs().max() < 2e-4
    assert bias.grad.abs().max() < 2e-4


def test_noisier_features_are_regularised_more():
    strengths = [fit(*clusters(60, spread)).l2 for spread in (0.1, 3.0)]
    assert strengths[0] < strengths[1]


def test_it_is_the_same_every_time_and_tries_to_an_eighth_of_a_decade():
    tried: list[int] = []
    one, other = fit(*clusters(60, 1.0)), fit(*clusters(60, 1.0), on_fit=tried.append)
    assert torch.equal(one.linear.weight, other.linear.weight)
    assert tried[-1] in range(11, 16), "seven strengths, and two for each of four distances, within the bounds"


@pytest.mark.parametrize(("num", "held_out"), [(1, [True]), (3, [True] * 3), (3, [False] * 3)])
def test_too_little_to_learn_from_is_refused(num: int, held_out: list[bool]):
    x, classes = clusters(num, 0.1)
    with pytest.raises(TrainError, match="too few for a linear probe"):
        fit_linear(x, classes, torch.tensor(held_out), num_classes=8)
