"""One optimiser step: forward and backward of each piece, gradients clipped, weights moved."""

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
from k710.loading.batch import Batch
from k710.random_key import RandomKey
from k710.train.objectives import Measured
from k710.train.optimizer import clip_gradients
from k710.train.pieces import Pieces
from k710.train.recipe import TrainRecipe


@dataclass(frozen=True)
class Taken:
    """What a step did, as far as this process knows. Nobody has waited for the device yet: `sums` and `grad_norm` are
    on the host once `done` is reached (None: they are), `losses` still on the device.

    `sums`: (1 + measures,) float64, the loss and the objective's measures, each a mean over the whole batch. `losses`
    and `clip_ids` are of each piece; `failed` says of clips that could not be read why.
    """

    sums: Tensor
    grad_norm: Tensor
    losses: list[Tensor]
    clip_ids: list[list[str]]
    failed: dict[str, str]
    waited_s: float
    done: torch.cuda.Event | None = None

    def numbers(self) -> tuple[float, list[float], float]:
        """Loss, measures, and norm of the gradients; waits for this step, and for none that was begun since."""
        if self.done is not None:
            self.done.synchronize()
        loss, *measures = self.sums.tolist()
        return loss, measures, float(self.grad_norm)


@dataclass
class Stepper:
    """Takes the steps of a run. `net` is the model as it is called: compiled, wrapped for several processes, or itself.

    Randomness inside the model (dropout, drop path) belongs to the place in the order, like that of the pixels: before
    each piece the generators are seeded by (seed, step, first clip of the piece). So a resume needs no generator's
    state, and a batch cut into two pieces meets the same dropout as one shared by two processes.
    """

    net: nn.Module
    model: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: Any
    recipe: TrainRecipe
    pieces: Pieces
    process: Process

    def __call__(self, step: int, batches: Iterator[Batch]) -> Taken:
        """Take step `step` (from 1) with the next pieces of `batches`."""
        self.optimizer.zero_grad(set_to_none=True)
        names = list(self.recipe.learns.measures)
        sums = torch.zeros(1 + len(names), dtype=torch.float64, device=self.process.device)
        losses, clip_ids, failed, waited_s = [], [], dict[str, str](), 0.0
        for number in range(self.pieces.num_pieces):
            begin_s = time.perf_counter()
            batch = next(batches)
            waited_s += time.perf_counter() - begin_s
            is_last = number == self.pieces.num_pieces - 1
            seed_piece(self.recipe.seed, step, self._first_clip(number))
            with _gradients_kept_here(self.net, not is_last):
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
        # Sent now: a copy that is asked for later would wait for all that is queued by then.
        sums, grad_norm = (value.to("cpu", non_blocking=True) for value in (sums, grad_norm.detach()))
        return Taken(sums, grad_norm, losses, clip_ids, failed, waited_s, _mark(self.process.device))

    def measure(self, batch: Batch) -> Measured:
        """The objective on one piece, in the precision of the recipe."""
        dtype, seed = DTYPES[self.recipe.optim.precision], self.recipe.seed
        keys = [
            RandomKey(seed, sample.epoch, clip_id, sample.repeat)
            for sample, clip_id in zip(batch.samples, batch.clip_ids, strict=True)
        ]
        with torch.autocast(self.process.device.type, dtype, enabled=dtype != torch.float32):
            return self.recipe.learns.of_batch(self.net, batch, keys, self.recipe.optim)

    def _first_clip(self, number: int) -> int:
        share = self.pieces.batch_size // self.pieces.world_size
        return self.process.rank * share + number * self.pieces.piece_size


def seed_piece(seed: int, step: int, first_clip: int) -> None:
    """Seed torch's generators, all devices', for one piece of one step."""
    digest = hashlib.blake2b(f"{seed},{step},{first_clip}".encode(), digest_size=8).digest()
    torch.manual_seed(int.from_bytes(digest, "little") >> 1)


def _mark(device: torch.device) -> torch.cuda.Event | None:
    """Reached when all that is queued now is done."""
    if device.type != "cuda":
        return None
    event = torch.cuda.Event()  # type: ignore[no-untyped-call]
    event.record()
    return event


def _gradients_kept_here(net: nn.Module, keep: bool) -> contextlib.AbstractContextManager[Any]:
    """Gradients of all but the last piece need not travel between processes."""
    if keep and isinstance(net, nn.parallel.DistributedDataParallel):
        return net.no_sync()
    return contextlib.nullcontext()
