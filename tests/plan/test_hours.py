"""The arithmetic of a plan: twice the work takes twice as long, and more GPUs never longer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k710.plan.clock import Spent
from k710.plan.hours import PerSample, cores_to_feed, cpu_time, gpu_equivalents, gpus_time_s, validated_epochs

SECONDS = st.floats(1e-5, 100)
SHARE = st.floats(1e-3, 1)
COUNT = st.integers(1, 512)


@given(samples=st.integers(1, 10**8), sample_s=SECONDS, gpus=COUNT, share=SHARE, load_s=SECONDS, cores=COUNT)
def test_twice_the_clips_take_twice_the_hours(samples, sample_s, gpus, share, load_s, cores):
    how = {"num_gpus": gpus, "efficiency": share, "load_core_s": load_s, "cores": cores}
    assert gpus_time_s(2 * samples, sample_s, **how) == pytest.approx(2 * gpus_time_s(samples, sample_s, **how))


@given(sample_s=SECONDS, gpus=COUNT, more=COUNT, share=SHARE, load_s=SECONDS, cores=COUNT)
def test_more_gpus_never_take_more_hours(sample_s, gpus, more, share, load_s, cores):
    def time_s(num_gpus: int, num_cores: int | None) -> float:
        return gpus_time_s(1000, sample_s, num_gpus=num_gpus, efficiency=share, load_core_s=load_s, cores=num_cores)

    assert time_s(gpus + more, None) <= time_s(gpus, None)
    assert time_s(gpus + more, cores) <= time_s(gpus, cores)
    assert time_s(gpus, cores) >= time_s(gpus, None), "too few cores make it no faster"


def test_the_first_gpu_counts_whole_and_each_other_as_much_as_is_said():
    assert [gpu_equivalents(n, 0.5) for n in (1, 2, 3)] == [1, 1.5, 2]


@given(sample_s=SECONDS, gpus=COUNT, share=SHARE, load_s=SECONDS)
def test_with_the_cores_that_it_names_no_gpu_waits(sample_s, gpus, share, load_s):
    needed = cores_to_feed(sample_s, num_gpus=gpus, efficiency=share, load_core_s=load_s)
    loading_s = 1000 * load_s / needed
    alone_s = gpus_time_s(1000, sample_s, num_gpus=gpus, efficiency=share, load_core_s=load_s, cores=None)
    assert loading_s == pytest.approx(alone_s)


def test_a_cpu_loads_before_each_step_or_beside_it():
    sample = PerSample(Spent(3.0, 3.0), 1.0)
    assert cpu_time(10, sample, workers=0, cores=2) == Spent(40, 40)
    assert cpu_time(10, sample, workers=1, cores=2) == Spent(30, 40), "loading is hidden"
    assert cpu_time(10, sample, workers=1, cores=1) == Spent(40, 40), "there is no other core"
    slow = PerSample(Spent(1.0, 2.0), 6.0)
    assert cpu_time(1, slow, workers=2, cores=8) == Spent(3, 8), "two loaders take three seconds each"
    assert cpu_time(1, PerSample(Spent(1.0, 2.0), None), workers=0, cores=2) == Spent(1, 2)


@pytest.mark.parametrize(("epochs", "every", "count"), [(8, 5, 2), (10, 5, 2), (3, 1, 3), (1, 5, 1), (0, 1, 0)])
def test_validated_are_each_nth_epoch_and_the_last(epochs, every, count):
    assert validated_epochs(epochs, every) == count
