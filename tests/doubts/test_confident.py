"""Confident learning: against cleanlab's answers, against the definition row by row, and on planted labels."""

from __future__ import annotations

import numpy as np
import pytest

from k710.doubts.confident import contradictions


def planted(number: int, num_classes: int, seed: int = 0):
    """True classes, labels of which one in twelve is wrong, and a model's probabilities."""
    rng = np.random.default_rng(seed)
    true = rng.integers(num_classes, size=number)
    given = np.where(rng.random(number) < 0.08, rng.integers(num_classes, size=number), true)
    logits = rng.normal(size=(number, num_classes)) * 1.2
    logits[np.arange(number), true] += 3
    scores = np.exp(logits)
    return true, given, (scores / scores.sum(1, keepdims=True)).astype(np.float32)


def test_cleanlab_says_the_same():
    """cleanlab 2.9.0, find_label_issues(filter_by="confident_learning", return_indices_ranked_by="normalized_margin"),
    on these probabilities."""
    of_cleanlab = [22, 203, 12, 140, 69, 7, 261, 328, 365, 48, 23, 165, 188, 133, 376, 25, 47, 347, 164, 301]
    _, given, scores = planted(400, 6)
    assert [found.clip for found in contradictions(scores, given)] == of_cleanlab


@pytest.mark.parametrize("seed", range(5))
def test_the_definition(seed):
    """Northcutt and others, equations 1 and 2, one clip at a time; a class without clips has no threshold."""
    rng = np.random.default_rng(seed)
    _, given, scores = planted(150, 9, seed)
    given[given == 4] = 5
    scores[rng.integers(150, size=20)] = 1 / 9
    thresholds = [scores[given == j, j].astype(float).mean() if (given == j).any() else np.inf for j in range(9)]
    expected = {}
    for row in range(150):
        likely = [j for j in range(9) if scores[row, j] >= thresholds[j] - 1e-6]
        if likely:
            best = max(likely, key=lambda j: (scores[row, j], -j))
            if best != given[row] and scores[row, best] > scores[row, given[row]]:
                expected[row] = best
    found = contradictions(scores, given)
    assert {one.clip: one.suggested for one in found} == expected
    assert [one.margin for one in found] == sorted((one.margin for one in found), reverse=True)
    assert all(
        one.margin == pytest.approx(scores[one.clip, one.suggested] - scores[one.clip, given[one.clip]])
        for one in found
    )


def test_planted_labels_come_first():
    true, given, scores = planted(2000, 12)
    found = contradictions(scores, given)
    wrong = set(np.flatnonzero(true != given))
    first = [one.clip for one in found[:60]]
    assert sum(clip in wrong for clip in first) > 50, "one in twelve is wrong at large"
    assert all(one.suggested == true[one.clip] for one in found[:30])


def test_a_model_that_repeats_the_labels_contradicts_none():
    scores = np.full((30, 3), 0.1, np.float32)
    given = np.arange(30) % 3
    scores[np.arange(30), given] = 0.8
    assert contradictions(scores, given) == []
    assert contradictions(scores[:1], given[:1]) == []
