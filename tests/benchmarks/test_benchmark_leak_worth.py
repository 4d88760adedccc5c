"""The worth of a leak in miniature: its three train sets differ by what they are called, and the numbers add up."""

from __future__ import annotations

import argparse
import sys

import numpy as np
import pytest

from tests.helpers import CHECKOUT

sys.path.insert(0, str(CHECKOUT / "benchmarks"))
import leak_worth


def test_the_train_sets_differ_by_the_leak_alone(tmp_path):
    for world in ("leaked", "others"):
        leak_worth.write_lists(tmp_path / "lists" / world, world, 6, 4)
    manifests = {arm: leak_worth.build_arm(tmp_path, arm) for arm in leak_worth.ARMS}
    train = {arm: {c.clip_id for c in leak_worth.clips_of(m, "k710", "train")} for arm, m in manifests.items()}
    test = {clip.clip_id for clip in leak_worth.clips_of(manifests["k710-strict"], "k400", "test")}
    num_classes = len(leak_worth.labels())
    assert len(test) == 4 * num_classes
    assert train["leaked"] - train["k710-strict"] == train["leaked"] & test
    assert len(train["leaked"] & test) == 2 * num_classes
    assert not train["k710-strict"] & test
    assert train["k710-strict"] < train["other clips"]
    assert len(train["other clips"]) == len(train["leaked"])
    assert not train["other clips"] & test


def test_the_report_splits_the_gain():
    """All clips: the part in train and the part not in train; planted answers."""
    clips = [f"tests0-{number:04d}_000000_000002" for number in range(100)]
    strict = {clip: number < 40 for number, clip in enumerate(clips)}
    leaked = {clip: right or number % 2 == 0 for number, (clip, right) in enumerate(strict.items())}
    found = leak_worth.report([{"leaked": leaked, "k710-strict": strict, "other clips": strict}])
    parts = found["compared"]["leaked - k710-strict"]
    assert [parts[name]["difference"] for name in ("in train", "not in train", "all")] == pytest.approx([0.6, 0, 0.3])
    assert parts["all"]["only_other"] == 30
    assert found["discordant"] == pytest.approx(0.3)
    assert found["clips_needed"] < 40


@pytest.mark.slow
def test_a_leak_is_worth_something():
    options = argparse.Namespace(train=10, test=20, epochs=8)
    found = leak_worth.report([leak_worth.one_seed(0, options)])
    parts = found["compared"]["leaked - k710-strict"]
    assert parts["in train"]["difference"] > 0.3 > abs(parts["not in train"]["difference"])
    assert np.sign(parts["all"]["difference"]) > 0
