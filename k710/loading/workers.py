"""The worker processes of both loaders: how they are started, and how their errors reach the caller."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import threading
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader

from k710.errors import K710Error, LoadError
from k710.loading.batch import PackedBatch
from k710.text import counted

_DIED = re.compile(r"worker \(pid\(?s?\)? ([0-9, ]+)\)")
_FAILED_IN_ROW = 8  # so many failures one after another cannot be chance


class WorkerDiedError(LoadError):
    """A worker was killed or crashed; the loader must be started again."""


def worker_options(
    device: torch.device, num_workers: int, *, prefetch: int, start_method: str | None
) -> dict[str, Any]:
    """Arguments of torch's DataLoader for `num_workers` processes, each of which loads `prefetch` batches ahead."""
    options: dict[str, Any] = {"num_workers": num_workers, "pin_memory": device.type == "cuda"}
    if num_workers:
        options |= {"prefetch_factor": prefetch, "persistent_workers": True, "multiprocessing_context": start_method}
        options["worker_init_fn"] = _ignore_signals
    return options


def _ignore_signals(worker: int) -> None:
    """Lets only the worker's parent process end it.

    A terminal, torchrun and a scheduler send a signal to every process of a group or of a job. The process that trains
    treats it as a request to stop, and needs its workers until it has saved its state.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # macOS has none
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_on_signal_of_parent, daemon=True).start()


def _end_on_signal_of_parent() -> None:
    parent = multiprocessing.parent_process()
    while parent is not None and signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent.pid:
        pass
    os._exit(0)


def checked_batches(loader: DataLoader[Any]) -> Iterator[Any]:
    """The batches of the workers. An error that a worker returned is raised here: torch would raise another one, with
    the worker's traceback in its text. Raises WorkerDiedError where a worker is gone."""
    try:
        for found in _batches(loader):
            if isinstance(found, K710Error):
                try:
                    raise found
                finally:
                    # An error that its own traceback refers to waits for a collection, and the workers with it. That
                    # would tell them too late to end: 5 s for each of them.
                    del found
            yield found
    except RuntimeError as error:
        if not (died := _DIED.search(str(error))):
            raise
        raise WorkerDiedError(
            f"worker {died[1]} died, most often for want of memory: take fewer num_workers or a smaller batch_size; "
            f"the position is kept, and iterating again continues from it"
        ) from None


def _batches(loader: DataLoader[Any]) -> Iterator[Any]:
    """`iter(loader)` without torch's signal handler, which raises for a dead worker wherever the main thread is, even
    in the middle of a training step. Without it, the error comes where the next batch is waited for."""
    before = signal.getsignal(signal.SIGCHLD)
    batches = iter(loader)
    if before is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGCHLD, before)
    return batches


class FailedClips:
    """Counts clips of weight 0. A few that fail are single damaged clips; many in a row mean that the store is lost."""

    def __init__(self) -> None:
        self._in_row = 0
        self._last = ""

    def count(self, packed: PackedBatch, *, training: bool = True) -> int:
        """How many samples of a batch failed. Raises LoadError in training where eight clips in a row, or more, did.

        In evaluation the views of a clip are neighbours, so one clip may be a whole batch.
        """
        weights = packed.weights.tolist()
        for weight, clip_id in zip(weights, packed.clip_ids, strict=True):
            if weight:
                self._in_row = 0
            elif not self._in_row or clip_id != self._last:  # not the repeats of one clip
                self._in_row += 1
            self._last = clip_id
            if training and self._in_row >= _FAILED_IN_ROW:
                raise LoadError(
                    f"{counted(self._in_row, 'clip')} in a row could not be read; the last: {packed.errors[clip_id]}"
                )
        return weights.count(0.0)


def as_it_is(batch: Any) -> Any:
    """Workers make whole batches; there is nothing to collate."""
    return batch
