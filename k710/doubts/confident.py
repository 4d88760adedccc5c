"""Confident learning: which labels a model contradicts, measured by how sure it usually is of each class."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class Contradiction(NamedTuple):
    """Row `clip` has another likely class than its label; `margin` is how much more probable that one is."""

    clip: int
    suggested: int
    margin: float


def contradictions(probabilities: npt.NDArray[np.floating], class_ids: npt.NDArray[np.integer]) -> list[Contradiction]:
    """The off-diagonal of the confident joint, the largest margin first.

    `probabilities`: (clips, classes) of a model that did not learn from these clips; `class_ids`: (clips,) their
    labels. A class is likely for a clip if its probability reaches the mean that the clips labelled so have for it. Of
    the likely classes the most probable counts; a clip without one says nothing. Northcutt, Jiang and Chuang (2021),
    JAIR 70, 1373-1411, equations 1 and 2. Only what is more probable than the label contradicts it.
    """
    number, num_classes = probabilities.shape
    own = probabilities[np.arange(number), class_ids].astype(np.float64)
    totals = np.bincount(class_ids, minlength=num_classes)
    sums = np.bincount(class_ids, own, minlength=num_classes)
    # No clip is labelled so: nothing says how sure the model would be.
    thresholds = np.where(totals > 0, sums / np.maximum(totals, 1), np.inf)
    likely = probabilities >= thresholds - 1e-6  # float32 means round either way
    suggested = np.where(likely, probabilities, -1.0).argmax(axis=1)
    margins = probabilities[np.arange(number), suggested].astype(np.float64) - own
    against = likely.any(axis=1) & (suggested != class_ids) & (margins > 0)
    rows = np.flatnonzero(against)
    order = rows[np.argsort(-margins[rows], kind="stable")]
    return [Contradiction(int(row), int(suggested[row]), float(margins[row])) for row in order]
