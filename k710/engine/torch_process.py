"""One process of a run: alone, or one of those that `torchrun` started, with the means to talk to each other."""

from __future__ import annotations

import contextlib
import datetime
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from k710.engine.part import Share
from k710.errors import K710Error, TrainError, UsageError
from k710.text import os_error_text

# So long a process waits for the slowest one: inside a step, which may have to compile or to wait for the store, and
# between steps, where the first may be at a checkpoint and another at its last clips of a split.
_STEP_PATIENCE, _PATIENCE = datetime.timedelta(minutes=30), datetime.timedelta(hours=2)


DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


class SharedError(TrainError):
    """An error that every process of a run raises at the same place; only the first process prints it."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class NoGpuError(UsageError):
    """A node has more processes than GPUs. The processes that have a GPU do not notice."""


class LostError(TrainError):
    """Another process has ended or does not answer. It has printed its own error."""


@dataclass(frozen=True)
class Process:
    """Rank and device. `control` is a group over the CPU, for small messages that never wait for a GPU."""

    device: torch.device
    rank: int = 0
    world_size: int = 1
    control: Any = None

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    @property
    def share(self) -> Share:
        return Share(self.rank, self.world_size)

    def agree(self, *flags: bool) -> tuple[bool, ...]:
        """For each flag, whether any process raises it; the same answers on all."""
        if self.world_size == 1:
            return flags
        raised = torch.tensor([int(flag) for flag in flags])
        with self.others():
            dist.all_reduce(raised, dist.ReduceOp.MAX, group=self.control)
        return tuple(bool(flag) for flag in raised.tolist())

    def total(self, values: Tensor) -> Tensor:
        """The sum over all processes, in place, on the device of `values`."""
        if self.world_size > 1:
            with self.others():
                dist.all_reduce(values)
        return values

    def gather(self, value: Any) -> list[Any]:
        """Every process's value, in order of rank, on every process."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        with self.others():
            dist.all_gather_object(values, value, group=self.control)
        return values

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """An error of one process in this block stops all of them after the block, with the same message.

        Without an error, all leave the block together. Inside it, processes must not communicate. Raises SharedError;
        a process that is alone raises its own error.
        """
        if self.world_size == 1:
            yield
            return
        mine: tuple[str, int] | None = None
        raised: Exception | None = None
        try:
            yield
        except K710Error as error:
            mine, raised = (str(error), error.exit_code), error
        except OSError as error:
            mine, raised = (f"{error.filename or ''}: {os_error_text(error)}".lstrip(": "), 1), error
        for rank, failure in enumerate(self.gather(mine)):
            if failure is not None:
                message, exit_code = failure
                raise SharedError(f"process {rank}: {message}" if rank else message, exit_code) from raised

    @contextlib.contextmanager
    def others(self) -> Iterator[None]:
        """Around whatever waits for other processes. Raises LostError where one of them has gone."""
        try:
            yield
        except RuntimeError as error:
            reason = str(error).partition("\n")[0]
            if not isinstance(error, dist.DistError) and "gloo" not in reason:  # gloo's errors have no type
                raise
            raise LostError(
                f"process {self.rank}: another process of this run has gone, or does not answer; what stopped it "
                f"stands in its own message, or in torchrun's ({reason[:200]})"
            ) from None

    def share_buffers(self, model: nn.Module) -> None:
        """The first process's buffers (statistics of batch norm) for all, as its checkpoint will have them."""
        if self.world_size > 1:
            with self.others():
                for buffer in model.buffers():
                    dist.broadcast(buffer, 0)


@contextlib.contextmanager
def joined(device: str | None = None) -> Iterator[Process]:
    """This process among those that torchrun started, or alone. Raises UsageError for a device that is not there.

    `device` is "cpu", "cuda" or nothing: a GPU where there is one. With several processes a node, each has the GPU of
    its number.
    """
    chosen = pick_device(device)
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    if world_size == 1:
        yield Process(chosen)
        return
    # A warning about dimensions of size 1, whose strides do not matter.
    warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
    backend = "nccl" if chosen.type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=_STEP_PATIENCE)
    control = dist.new_group(backend="gloo", timeout=_PATIENCE)
    try:
        yield Process(chosen, dist.get_rank(), world_size, control)
    except SharedError:
        dist.destroy_process_group()
        raise
    # A process that fails alone skips this: NCCL would wait for the others, and they wait for this one.
    dist.destroy_process_group()


def pick_device(device: str | None) -> torch.device:
    """The device of this process. Raises UsageError where it is not there."""
    num_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    kind = device or ("cuda" if num_gpus else "cpu")
    if kind not in ("cpu", "cuda"):
        raise UsageError(f"unknown device {kind!r}; known: cpu, cuda")
    if kind == "cpu":
        return torch.device("cpu")
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    if not num_gpus:
        raise UsageError("torch finds no GPU here; --device cpu does without one")
    if local_rank >= num_gpus:
        raise NoGpuError(f"process {local_rank} of this node has no GPU of its own: there are {num_gpus}")
    return torch.device("cuda", local_rank)


def prints_error(error: K710Error) -> bool:
    """Whether this process prints the error that stopped it, since no other process prints it."""
    if isinstance(error, SharedError | LostError):
        return int(os.environ.get("RANK", "0")) == 0
    # Before they have met, all processes of a node find the same, but for the GPUs.
    alone = dist.is_initialized() or isinstance(error, NoGpuError)
    return alone or int(os.environ.get("LOCAL_RANK", "0")) == 0
