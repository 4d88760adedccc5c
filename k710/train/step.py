"""One optimiser step: the batch in pieces, forward and backward of each, gradients clipped, weights updated."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from k710.engine.torch_process import DTYPES, Process
from k710.errors import UsageError
from k710.loading.batch import Batch
from k710.random_key import RandomKey
from k710.text import counted
from k710.train.objectives import Measured
from k710.train.optimizer import clip_gradients
from k710.train.recipe import TrainRecipe
from k710.train.teacher import Teacher


@dataclass(frozen=True)
class StepResult:
    """The result of a step in this process. The device may still be working on it: `sums` and `grad_norm` are on the
    host once `done` is reached (None: they are there already); `losses` stay on the device.

    `sums`: (1 + measures,) float64, the loss and the objective's measures, each a mean over the whole batch. `losses`
    and `clip_ids` are lists with one entry a piece. `failed` maps a clip that could not be read to the reason.
    `waited_s` is the time that the step waited for data.
    """

    sums: Tensor
    grad_norm: Tensor
    losses: list[Tensor]
    clip_ids: list[list[str]]
    failed: dict[str, str]
    waited_s: float
    done: torch.cuda.Event | None = None

    def numbers(self) -> tuple[float, list[float], float]:
        """Loss, measures, and norm of the gradients. Waits until this step is done, not for later steps."""
        if self.done is not None:
            self.done.synchronize()
        loss, *measures = self.sums.tolist()
        return loss, measures, float(self.grad_norm)


@dataclass
class Stepper:
    """Takes the steps of a run. `net` is what is called: the model itself, compiled, or wrapped for several processes.

    Randomness inside the model (dropout, drop path) belongs to the place in the order, like that of the pixels: before
    each piece the generators are seeded by (seed, step, first clip of the piece). So a resume needs no generator's
    state, and a batch cut into two pieces has the same dropout as one shared by two processes.
    """

    net: nn.Module
    model: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: Any
    recipe: TrainRecipe
    pieces: Pieces
    process: Process
    teacher: Teacher | None = None

    def __call__(self, step: int, batches: Iterator[Batch]) -> StepResult:
        """Take step `step` (from 1) with the next pieces of `batches`."""
        self.optimizer.zero_grad(set_to_none=True)
        names = list(self.recipe.chosen_objective.measures)
        sums = torch.zeros(1 + len(names), dtype=torch.float64, device=self.process.device)
        losses, clip_ids, failed, waited_s = [], [], dict[str, str](), 0.0
        for number in range(self.pieces.num_pieces):
            begin_s = time.perf_counter()
            batch = next(batches)
            waited_s += time.perf_counter() - begin_s
            is_last = number == self.pieces.num_pieces - 1
            seed_piece(self.recipe.seed, step, self._first_clip(number))
            with _gradients_kept_local(self.net, not is_last):
                measured = self.measure(batch)
                # Parts of the whole batch, whatever it is cut into; processes are averaged, pieces are summed.
                share = self.pieces.piece_size * self.pieces.num_pieces
                loss = measured.losses.sum() / share
                self.scaler.scale(loss).backward()
            parts = [measured.measures[name].sum().double() / share for name in names]
            sums += torch.stack([loss.detach().double(), *parts])
            losses.append(measured.losses.detach())
            clip_ids.append(list(batch.clip_ids))
            failed |= batch.errors
        self.scaler.unscale_(self.optimizer)
        grad_norm = clip_gradients(self.model, self.recipe.optim.clip_grad)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        sums = self.process.total(sums) / self.pieces.world_size
        # Copied now: a copy that is started later would wait for everything that is queued by then.
        sums, grad_norm = (value.to("cpu", non_blocking=True) for value in (sums, grad_norm.detach()))
        return StepResult(sums, grad_norm, losses, clip_ids, failed, waited_s, _mark(self.process.device))

    def measure(self, batch: Batch) -> Measured:
        """The objective on one piece, in the precision of the recipe."""
        dtype, seed = DTYPES[self.recipe.optim.precision], self.recipe.seed
        keys = [
            RandomKey(seed, sample.epoch, clip_id, sample.repeat)
            for sample, clip_id in zip(batch.samples, batch.clip_ids, strict=True)
        ]
        with torch.autocast(self.process.device.type, dtype, enabled=dtype != torch.float32):
            if self.teacher is not None:
                batch = self.teacher.answered(batch)
            return self.recipe.chosen_objective.measure(self.net, batch, keys, self.recipe.optim)

    def _first_clip(self, number: int) -> int:
        share = self.pieces.batch_size // self.pieces.world_size
        return self.process.rank * share + number * self.pieces.piece_size


def seed_piece(seed: int, step: int, first_clip: int) -> None:
    """Seed torch's generators, all devices', for one piece of one step."""
    digest = hashlib.blake2b(f"{seed},{step},{first_clip}".encode(), digest_size=8).digest()
    torch.manual_seed(int.from_bytes(digest, "little") >> 1)


def _mark(device: torch.device) -> torch.cuda.Event | None:
    """An event that is reached when everything queued so far is done; None on a CPU."""
    if device.type != "cuda":
        return None
    event = torch.cuda.Event()  # type: ignore[no-untyped-call]
    event.record()
    return event


def _gradients_kept_local(net: nn.Module, keep: bool) -> contextlib.AbstractContextManager[Any]:
    """Gradients of all but the last piece need not travel between processes."""
    if keep and isinstance(net, nn.parallel.DistributedDataParallel):
        return net.no_sync()
    return contextlib.nullcontext()


@dataclass(frozen=True)
class Pieces:
    """A global batch of `batch_size` clips: each of `world_size` GPUs takes `num_pieces` of `piece_size` clips."""

    batch_size: int
    world_size: int
    num_pieces: int

    @property
    def piece_size(self) -> int:
        return self.batch_size // (self.world_size * self.num_pieces)

    def __str__(self) -> str:
        accumulated = f", {self.num_pieces} times before each step" if self.num_pieces > 1 else ""
        gpus = f"{self.world_size} processes take" if self.world_size > 1 else "1 process takes"
        return f"a batch of {self.batch_size}: {gpus} {counted(self.piece_size, 'clip')} at once{accumulated}"


def cut(batch_size: int, *, gpu_batch_size: int, world_size: int) -> Pieces:
    """The fewest pieces of at most `gpu_batch_size` clips that make up the batch exactly.

    The batch, and with it the learning rate, is the recipe's on any number of GPUs. Raises UsageError where the GPUs do
    not divide it.
    """
    if batch_size % world_size:
        raise UsageError(
            f"a batch of {batch_size} does not divide into {world_size} processes; use a number of processes that "
            "divides it, or another batch: --set batch_size=N"
        )
    share = batch_size // world_size
    num_pieces = next(n for n in range(1, share + 1) if share % n == 0 and share // n <= gpu_batch_size)
    return Pieces(batch_size, world_size, num_pieces)
