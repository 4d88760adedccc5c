"""What loaders have in common: how their workers are started, and what comes of an error in one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader

from k710.errors import K710Error, LoadError
from k710.loading.batch import PackedBatch

_DIED = re.compile(r"worker \(pid\(?s?\)? ([0-9, ]+)\)")


class WorkerDiedError(LoadError):
    """A worker was killed or crashed; the loader must be started anew."""


def worker_options(
    device: torch.device, num_workers: int, *, prefetch: int, start_method: str | None
) -> dict[str, Any]:
    """How torch's DataLoader is to start `num_workers` processes, each with `prefetch` batches in hand."""
    options: dict[str, Any] = {"num_workers": num_workers, "pin_memory": device.type == "cuda"}
    if num_workers:
        options |= {"prefetch_factor": prefetch, "persistent_workers": True, "multiprocessing_context": start_method}
    return options


def checked_batches(loader: DataLoader[Any]) -> Iterator[Any]:
    """What the workers made. An error is an answer too, raised here: torch would raise another, with the worker's
    traceback in its text. Raises WorkerDiedError where a worker is gone."""
    try:
        for found in loader:
            if isinstance(found, K710Error):
                raise found
            yield found
    except RuntimeError as error:
        if not (died := _DIED.search(str(error))):
            raise
        raise WorkerDiedError(
            f"worker {died[1]} died, most often for want of memory: take fewer num_workers or a smaller batch_size; "
            f"the position is kept, and iterating again goes on from it"
        ) from None


def check_weights(packed: PackedBatch, *, training: bool = True) -> int:
    """How many clips of a batch failed. Raises LoadError where all of several did: there is nothing to learn from.

    A batch of one clip may fail whole, and so may one of an evaluation, where a clip's views stand side by side.
    """
    num_failed = packed.weights.tolist().count(0.0)
    if training and num_failed == len(packed.weights) > 1:
        raise LoadError(f"all clips of a batch failed; the first: {next(iter(packed.errors.values()))}")
    return num_failed


def as_it_is(batch: Any) -> Any:
    """Workers make whole batches; there is nothing to collate."""
    return batch
