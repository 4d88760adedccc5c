"""The order of a mix: what a weight means, exactly; the same on any number of ranks; resumed anywhere."""

from __future__ import annotations

from collections import Counter
from itertools import chain

import pytest

from k710.engine.part import Share
from k710.loading.mix_order import MixOrder, Part
from k710.loading.order import Sample, TrainBatches


def samples(order: MixOrder, epoch: int, share: Share | None = None, *, consumed: int = 0) -> list[Sample]:
    batches = order.batches(epoch, 4, share or Share(), consumed=consumed)
    return [sample for batch in batches for sample in batch]


def test_equal_weights_show_each_clip_once_and_every_epoch_has_another_order():
    order = MixOrder.of([Part("a", 5, 5), Part("b", 7, 7)], seed=1, num_repeats=1)
    first, second = samples(order, 0), samples(order, 1)
    assert sorted(sample.clip for sample in first) == list(range(12))
    assert [sample.clip for sample in first] != [sample.clip for sample in second]
    assert {sample.repeat for sample in first} == {0}


def test_a_weight_below_one_goes_through_all_clips_before_one_comes_again():
    order = MixOrder.of([Part("a", 20, 20), Part("b", 12, 4)], seed=3, num_repeats=1)
    of_b = [[sample.clip - 20 for sample in samples(order, epoch) if sample.clip >= 20] for epoch in range(6)]
    assert all(len(clips) == 4 for clips in of_b)
    for begin in (0, 3):
        assert sorted(chain(*of_b[begin : begin + 3])) == list(range(12))
    assert of_b[:3] != of_b[3:], "another permutation"


@pytest.mark.parametrize("num_draws", [1, 5, 7, 10, 13])
def test_clips_come_as_often_as_one_another(num_draws):
    part = Part("a", 5, num_draws)
    counts: Counter[int] = Counter()
    for epoch in range(9):
        clips, before = part.draws(seed=2, epoch=epoch)
        assert len(clips) == num_draws
        assert len(set(zip(clips.tolist(), before.tolist(), strict=True))) == num_draws, "no sample twice"
        whole = num_draws // 5
        assert all(clips.tolist().count(clip) >= whole for clip in range(5))
        counts.update(clips.tolist())
    often = [counts[clip] for clip in range(5)]
    assert max(often) - min(often) <= 1


def test_a_clip_that_is_drawn_again_has_other_repeats():
    order = MixOrder.of([Part("a", 2, 4), Part("b", 4, 4)], seed=0, num_repeats=3)
    found = samples(order, 0)
    assert sorted(sample.repeat for sample in found if sample.clip == 1) == list(range(6))
    assert sorted(sample.repeat for sample in found if sample.clip == 3) == [0, 1, 2]
    assert len(set(found)) == len(found) == 24


@pytest.mark.parametrize("world_size", [2, 4])
def test_ranks_share_out_the_same_batches(world_size):
    order = MixOrder.of([Part("a", 9, 14), Part("b", 11, 3)], seed=5, num_repeats=2)
    whole = list(order.batches(2, 8, Share()))
    ranks = [list(order.batches(2, 8, Share(rank, world_size))) for rank in range(world_size)]
    assert [list(chain(*parts)) for parts in zip(*ranks, strict=True)] == whole


def test_a_position_resumes_anywhere():
    order = MixOrder.of([Part("a", 9, 14), Part("b", 11, 3)], seed=5, num_repeats=2)
    assert samples(order, 3, consumed=12) == samples(order, 3)[12:]
    one = TrainBatches(order, batch_size=4)
    for _ in range(11):  # 8 batches an epoch
        one.step()
    other = TrainBatches(order, batch_size=4)
    other.load_state_dict(one.state_dict())
    assert list(other) == list(one) == list(order.batches(1, 4, Share(), consumed=12))


def test_an_order_of_members_changes_no_members_own_draws():
    parts = [Part("a", 9, 4), Part("b", 11, 3)]
    one, other = (MixOrder.of(chosen, 7, 1) for chosen in (parts, parts[::-1]))
    of_a = {sample.clip for epoch in range(2) for sample in next(one.batches(epoch, 7, Share())) if sample.clip < 9}
    also = {
        sample.clip - 11 for epoch in range(2) for sample in next(other.batches(epoch, 7, Share())) if sample.clip >= 11
    }
    assert of_a == also


def test_what_was_drawn_is_counted_by_member():
    order = MixOrder.of([Part("a", 9, 14), Part("b", 11, 3)], seed=5, num_repeats=2)
    for epoch in range(2):
        found = samples(order, epoch)
        for start, stop in ((0, 4), (4, 20), (0, 32)):
            of_a = sum(sample.clip < 9 for sample in found[start:stop])
            assert order.num_drawn(epoch, start, stop) == {"a": of_a, "b": stop - start - of_a}
    assert order.num_drawn(0, 0, 34) == {"a": 28, "b": 6}
