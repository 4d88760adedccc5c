"""The order of samples: the same on any number of ranks, and resumed exactly."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader, Dataset

from k710.engine.part import Share
from k710.errors import UsageError
from k710.loading.order import EpochOrder, EvaluationBatches, Sample, TrainBatches, evaluation_batches

orders = st.builds(
    EpochOrder, num_clips=st.integers(1, 200), seed=st.integers(0, 2**64 - 1), num_repeats=st.integers(1, 3)
)
epochs = st.integers(0, 1000)
worlds = st.integers(1, 8)


def global_batches(order, epoch, batch_size, world_size, *, consumed=0):
    """Every global batch, put together from the parts of all ranks."""
    ranks = [Share(rank, world_size) for rank in range(world_size)]
    parts = [list(order.batches(epoch, batch_size, share, consumed=consumed)) for share in ranks]
    return [[sample for part in batch for sample in part] for batch in zip(*parts, strict=True)]


@given(orders, epochs)
def test_an_epoch_is_every_clip_as_often_as_it_is_repeated(order, epoch):
    samples = [sample for batch in global_batches(order, epoch, 1, 1) for sample in batch]
    assert sorted(samples) == [
        Sample(clip, epoch, repeat) for clip in range(order.num_clips) for repeat in range(order.num_repeats)
    ]
    assert [sample.repeat for sample in samples[: order.num_repeats]] == list(range(order.num_repeats))
    assert len({sample.clip for sample in samples[: order.num_repeats]}) == 1


@given(orders, epochs, worlds, worlds, st.integers(1, 4))
def test_global_batches_do_not_depend_on_the_world_size(order, epoch, world, other_world, factor):
    batch_size = world * other_world * factor
    batches = global_batches(order, epoch, batch_size, world)
    assert batches == global_batches(order, epoch, batch_size, other_world)
    assert len(batches) == order.num_samples // batch_size  # an incomplete last batch is dropped
    assert all(len(batch) == batch_size for batch in batches)


@given(orders, epochs, worlds, worlds, st.integers(1, 3), st.integers(1, 3), st.data())
def test_a_resume_on_another_world_size_repeats_and_skips_nothing(
    order, epoch, world, other, factor, other_factor, data
):
    whole = [sample for batch in global_batches(order, epoch, 1, 1) for sample in batch]
    batches = global_batches(order, epoch, world * factor, world)
    done = data.draw(st.integers(0, len(batches)))
    consumed = done * world * factor
    before = [sample for batch in batches[:done] for sample in batch]
    after = [s for batch in global_batches(order, epoch, other * other_factor, other, consumed=consumed) for s in batch]
    assert before + after == whole[: len(before) + len(after)]
    assert len(whole) - len(before) - len(after) < other * other_factor


@given(orders, worlds, st.integers(1, 3), st.integers(1, 3), st.integers(0, 12))
def test_the_sampler_resumes_where_its_state_says(order, world, pieces, factor, steps):
    batch_size = world * pieces * factor
    if order.num_samples < batch_size:
        order = EpochOrder(batch_size, order.seed, order.num_repeats)
    share = Share(world - 1, world)

    def make():
        return TrainBatches(order, batch_size=batch_size, share=share, num_pieces=pieces)

    def stream(sampler, start_steps):
        """Batches of this rank over several epochs, told as a trainer tells."""
        for _ in range(start_steps, 14):
            yield list(islice(iter(sampler), pieces))
            sampler.step()

    whole = list(stream(make(), 0))
    stopped = make()
    for _ in range(steps):
        stopped.step()
    per_epoch = order.num_samples // batch_size
    assert (stopped.epoch, stopped.consumed) == (steps // per_epoch, steps % per_epoch * batch_size)
    resumed = make()
    resumed.load_state_dict(stopped.state_dict())
    assert list(stream(resumed, steps)) == whole[steps:]
    assert all(len(piece) == factor for step in whole for piece in step)


def test_reading_ahead_does_not_move_the_position():
    sampler = TrainBatches(EpochOrder(100, 1), batch_size=10)
    ahead = list(islice(iter(sampler), 5))
    assert sampler.state_dict() == {"epoch": 0, "consumed": 0, "seed": 1, "num_clips": 100, "num_repeats": 1}
    sampler.step()
    assert next(iter(sampler)) == ahead[1]
    assert len(sampler) == len(list(sampler)) == 9


def test_the_epoch_ends_when_no_whole_batch_is_left():
    sampler = TrainBatches(EpochOrder(25, 1), batch_size=10)
    for _ in range(2):
        sampler.step()
    assert (sampler.epoch, sampler.consumed) == (1, 0)
    other = TrainBatches(EpochOrder(25, 1), batch_size=20)
    other.load_state_dict(TrainBatches(EpochOrder(25, 1), batch_size=5).state_dict() | {"consumed": 10})
    assert (other.epoch, other.consumed) == (1, 0)


def test_orders_of_epochs_and_seeds_differ_and_mix():
    order = EpochOrder(1000, 6666)
    first, second = order.permutation(0), order.permutation(1)
    other_seed = EpochOrder(1000, 6667).permutation(0)
    for one, two in ((first, second), (first, other_seed), (second, other_seed), (first, np.arange(1000))):
        assert (one == two).sum() < 10  # one on average
        assert abs(np.corrcoef(one, two)[0, 1]) < 0.15
    assert (order.permutation(0) == first).all()


def test_the_order_of_a_seed_stays_what_it_is():
    """It is part of a run's identity, and of what a resume relies on."""
    assert EpochOrder(10, 6666).permutation(3).tolist() == [2, 5, 0, 6, 7, 4, 3, 8, 1, 9]


@given(st.integers(0, 60), st.integers(1, 12), st.integers(1, 17), worlds)
def test_evaluation_sees_every_view_once(num_clips, num_views, batch_size, world):
    shares = [Share(rank, world) for rank in range(world)]
    per_rank = [list(evaluation_batches(num_clips, num_views, batch_size, share)) for share in shares]
    seen = Counter(sample for batches in per_rank for batch in batches for sample in batch)
    assert seen == Counter(Sample(clip, view=view) for clip in range(num_clips) for view in range(num_views))
    for share, batches in zip(shares, per_rank, strict=True):
        assert all(len(batch) == batch_size for batch in batches[:-1])
        assert len(EvaluationBatches(num_clips, num_views=num_views, batch_size=batch_size, share=share)) == len(
            batches
        )
    clips_of = [{sample.clip for batch in batches for sample in batch} for batches in per_rank]
    assert sum(map(len, clips_of)) == num_clips  # no clip stands on two ranks
    assert max(map(len, clips_of)) - min(map(len, clips_of)) <= 1


class _Echo(Dataset):
    def __getitem__(self, sample):
        return sample


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_keeps_the_order_with_any_number_of_workers(workers):
    sampler = TrainBatches(EpochOrder(40, 3, num_repeats=2), batch_size=8, share=Share(1, 2), num_pieces=2)
    loaded = list(DataLoader(_Echo(), batch_sampler=sampler, num_workers=workers, collate_fn=list))
    assert loaded == list(sampler)
    assert len(loaded) == 20
    evaluation = EvaluationBatches(5, num_views=3, batch_size=4)
    loaded = list(DataLoader(_Echo(), batch_sampler=evaluation, num_workers=workers, collate_fn=list))
    assert loaded == list(evaluation)


def refused_state(**changes):
    sampler = TrainBatches(EpochOrder(40, 3), batch_size=8)
    sampler.load_state_dict(sampler.state_dict() | changes)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Share(2, 2), "rank 2 of 2; allowed: 0 to 1"),
        (lambda: EpochOrder(0, 1), "0 clips"),
        (lambda: EpochOrder(5, 1, num_repeats=0), "0 repeats"),
        (lambda: TrainBatches(EpochOrder(40, 3), batch_size=10, share=Share(0, 4)), "multiples of 4"),
        (lambda: TrainBatches(EpochOrder(40, 3), batch_size=10, num_pieces=4), "1 ranks x 4 pieces"),
        (lambda: TrainBatches(EpochOrder(7, 3), batch_size=8), "at most 7"),
        (lambda: TrainBatches(EpochOrder(7, 3), batch_size=0), "global batch of 0"),
        (lambda: list(EpochOrder(7, 3).batches(0, 3, Share(0, 2))), "multiples of 2"),
        (lambda: list(EpochOrder(7, 3).batches(0, 1, Share(), consumed=8)), "an epoch has 7"),
        (lambda: refused_state(seed=4), "saved position has seed 4, this run 3"),
        (lambda: refused_state(num_clips=39), "num_clips 39"),
        (lambda: refused_state(num_repeats=2), "num_repeats 2"),
        (lambda: list(evaluation_batches(3, 0, 4, Share())), "0 views"),
        (lambda: EvaluationBatches(3, num_views=1, batch_size=0), "batches of 0"),
    ],
)
def test_values_that_make_no_sense_are_refused(make, says):
    with pytest.raises(UsageError, match=says):
        make()
