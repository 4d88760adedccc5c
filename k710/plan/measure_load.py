"""What a sample takes before a model sees it: reading and decoding on a core, then the augmentation on the device."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from k710.loading.batch import PackedBatch
from k710.loading.dataset import ClipDataset
from k710.loading.finish import Finish
from k710.loading.loader import ClipLoader
from k710.plan.clock import Spent, spent

_KEPT = 4  # batches on which the augmentation is timed


@dataclass(frozen=True)
class LoadCost:
    """Of one sample: `load_core_s` core-seconds to read, decode and pack it, from files that the system has in its
    memory; `finish` what its crop and augmentation take on the device."""

    load_core_s: float
    finish: Spent
    num_samples: int


def measure_load(
    dataset: ClipDataset, finish: Finish, device: torch.device, *, batch_size: int, num_repeats: int, measure_s: float
) -> LoadCost:
    """Load a dataset's samples in this process, as a worker of its loader does, for `measure_s` seconds of its time;
    then augment some of them as long."""
    loader = ClipLoader(
        dataset, batch_size=batch_size, augment=finish.augment, mix=finish.mix, num_repeats=num_repeats, packed=True,
        epoch=0 if dataset.training else None,
    )  # fmt: skip
    batches = _for_ever(loader)
    next(batches)  # the first opens the files
    kept: list[PackedBatch] = []
    loaded = Spent()
    num_samples = 0
    while loaded.core_s < measure_s or not num_samples:
        with spent() as found:
            batch = next(batches)
        loaded.core_s += found.core_s
        num_samples += len(batch.samples)
        kept = [*kept, batch][-_KEPT:]
    return LoadCost(loaded.core_s / num_samples, _finished(kept, finish, device, measure_s), num_samples)


def _for_ever(loader: ClipLoader) -> Iterator[PackedBatch]:
    while True:
        yield from loader


def _finished(batches: list[PackedBatch], finish: Finish, device: torch.device, measure_s: float) -> Spent:
    there = [batch.to(device) for batch in batches]
    finish.apply(there[0])
    synchronize(device)
    taken, num_samples = Spent(), 0
    for batch in itertools.cycle(there):
        with spent() as found:
            finish.apply(batch)
            synchronize(device)
        taken, num_samples = added(taken, found), num_samples + len(batch.samples)
        if taken.wall_s >= measure_s / 2 and num_samples >= len(there):
            return taken.each(num_samples)
    raise AssertionError("there is a batch")


def added(one: Spent, other: Spent) -> Spent:
    """Both together."""
    return Spent(one.wall_s + other.wall_s, one.core_s + other.core_s)


def synchronize(device: torch.device) -> None:
    """Wait until a GPU has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
