"""The scores of predictions: top-k, mean class accuracy, a table of classes, and confusions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from k710.errors import TrainError

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.integer[Any]]


class ClassScore(NamedTuple):
    """One class: how many clips it has, and which parts of them have it first and among the first five."""

    class_id: int
    num_clips: int
    top1: float
    top5: float


class Confusion(NamedTuple):
    """`num_clips` clips of `class_id` were taken for `taken_for`."""

    class_id: int
    taken_for: int
    num_clips: int


def check_finite(scores: Floats, names: Sequence[str], *, precision: str = "fp32") -> None:
    """Raises TrainError where a row of `scores`, (clips, classes), holds NaN or infinity: an accuracy of such rows is
    no number. `names` (clips) says which they are, `precision` what the model ran in."""
    bad = np.flatnonzero(~np.isfinite(scores).all(axis=1))
    if len(bad):
        cause = "its weights are damaged, or its training diverged"
        if precision != "fp32":
            cause = f"{precision} may be too small for its numbers: try --precision fp32. Else {cause}"
        raise TrainError(f"{names[bad[0]]}: the model's scores are not finite (NaN or infinite); {cause}")


def without_nan(scores: dict[str, float]) -> dict[str, float | None]:
    """`accuracies` for JSON, which knows no NaN: None where no clip has a label."""
    return {name: None if np.isnan(score) else score for name, score in scores.items()}


def ranks(scores: Floats, class_ids: Ints) -> Ints:
    """(clips,) at which place, from 0, each clip's own class stands. Equal scores stand in order of class.

    `scores`: (clips, classes), any that grow with likelihood; `class_ids`: (clips,).
    """
    own = np.take_along_axis(scores, class_ids[:, None].astype(np.int64), axis=1)
    before = np.arange(scores.shape[1])[None, :] < class_ids[:, None]
    # A comparison with NaN is false, which would put a clip first that has no scores at all.
    ahead = ~(scores <= own) | ((scores == own) & before)
    return np.asarray(ahead.sum(axis=1))


def accuracies(scores: Floats, class_ids: Ints) -> dict[str, float]:
    """`top1`, `top5` and `mean_class` (the mean of each class's top-1) as parts of 1; without clips, NaN."""
    place = ranks(scores, class_ids)
    if not len(place):
        return {"top1": float("nan"), "top5": float("nan"), "mean_class": float("nan")}
    mean_class = float(np.mean([score.top1 for score in class_scores(scores, class_ids)]))
    return {"top1": float((place < 1).mean()), "top5": float((place < 5).mean()), "mean_class": mean_class}


def class_scores(scores: Floats, class_ids: Ints) -> list[ClassScore]:
    """A row for each class that has clips, in order of class."""
    place = ranks(scores, class_ids)
    found = []
    for class_id in np.unique(class_ids):
        of_class = place[class_ids == class_id]
        found.append(
            ClassScore(int(class_id), len(of_class), float((of_class < 1).mean()), float((of_class < 5).mean()))
        )
    return found


def confusions(scores: Floats, class_ids: Ints) -> list[Confusion]:
    """Pairs of classes that were taken for one another, the most frequent first; none that is right."""
    if not len(class_ids):
        return []
    taken = scores.argmax(axis=1)
    wrong = taken != class_ids
    pairs, counts = np.unique(np.stack([class_ids[wrong], taken[wrong]], axis=1), axis=0, return_counts=True)
    found = [Confusion(int(own), int(other), int(count)) for (own, other), count in zip(pairs, counts, strict=True)]
    return sorted(found, key=lambda pair: (-pair.num_clips, pair.class_id, pair.taken_for))


def softmax(logits: Floats) -> Floats:
    """Along the last axis, in the type it comes in."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True))
