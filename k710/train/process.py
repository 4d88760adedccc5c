"""One process of a run: alone, or one of those that `torchrun` started, with what they need to say to each other."""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from k710.errors import UsageError
from k710.loading.order import Share

# A rank waits as long as this for the slowest one: a rank may be at a checkpoint, or at its last clips of a split.
_PATIENCE = datetime.timedelta(hours=2)


@dataclass(frozen=True)
class Process:
    """Rank and device. `control` is a group over the CPU: small talk that never waits for a GPU."""

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
        dist.all_reduce(raised, dist.ReduceOp.MAX, group=self.control)
        return tuple(bool(flag) for flag in raised.tolist())

    def total(self, values: Tensor) -> Tensor:
        """The sum over all processes, in place, on the device of `values`."""
        if self.world_size > 1:
            dist.all_reduce(values)
        return values

    def gather(self, value: Any) -> list[Any]:
        """Every process's value, in order of rank, on every process."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value, group=self.control)
        return values

    def share_buffers(self, model: nn.Module) -> None:
        """The first process's buffers (statistics of batch norm) for all, as its checkpoint will have them."""
        if self.world_size > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, 0)

    def wait(self) -> None:
        """Until every process has come here."""
        if self.world_size > 1:
            dist.barrier(group=self.control)


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
    backend = "nccl" if chosen.type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=_PATIENCE)
    try:
        control = dist.new_group(backend="gloo", timeout=_PATIENCE)
        yield Process(chosen, dist.get_rank(), world_size, control)
    finally:
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
    if local_rank >= num_gpus:
        raise UsageError(f"process {local_rank} of this node has no GPU of its own: there are {num_gpus}")
    return torch.device("cuda", local_rank)


def rank_of_environment() -> int:
    """The rank that torchrun gave this process, before the processes have joined."""
    return int(os.environ.get("RANK", "0"))
