"""The results of steps, read one step late so that the CPU does not wait for the GPU."""

from __future__ import annotations

import json
import math
import time
from collections import deque
from dataclasses import dataclass, field

from k710.engine.torch_process import SharedError
from k710.storage.storage import replacing
from k710.train.run import Run
from k710.train.run_log import RunLog, Step
from k710.train.step import StepResult

# A gradient scaler halves its scale at each infinite gradient; after so many, there is nothing left of it.
_SKIPPED_IN_ROW = 50


class DivergedError(SharedError):
    """The loss, or the norm of its gradients, is NaN or infinite."""


@dataclass(frozen=True)
class UnreadStep:
    """A step whose result has not been read yet: its number (from 1), its epoch, the samples consumed after it."""

    result: StepResult
    step: int
    epoch: int
    consumed: int
    lr: float
    begin_s: float


@dataclass
class Outcomes:
    """The steps whose results have not been read yet, and the clips that could not be read."""

    run: Run
    log: RunLog
    _unread: deque[UnreadStep] = field(default_factory=deque)
    _failed: dict[str, str] = field(default_factory=dict)
    _skipped: int = 0

    def add(self, step: UnreadStep) -> None:
        self._unread.append(step)

    def settle(self, *, leave: int = 0) -> None:
        """Read and report all but the newest `leave`.

        Raises DivergedError for a loss, or a norm of the gradients, that is NaN or infinite. Every save settles first,
        so no checkpoint holds weights that came of it.
        """
        while len(self._unread) > leave:
            one = self._unread.popleft()
            loss, values, grad_norm = one.result.numbers()
            # A gradient scaler finds infinite gradients by itself, and leaves the step out.
            self._skipped = 0 if math.isfinite(grad_norm) else self._skipped + 1
            allowed = _SKIPPED_IN_ROW if self.run.recipe.optim.precision == "fp16" else 1
            if not math.isfinite(loss) or self._skipped >= allowed:
                raise self._diverged(one, loss, grad_norm)
            self._failed |= one.result.failed
            # From one step's beginning to the next one's: what a step takes, whoever waits for whom.
            end_s = self._unread[0].begin_s if self._unread else time.perf_counter()
            seconds = end_s - one.begin_s
            if self.run.process.is_first:
                clips = self.run.recipe.optim.batch_size
                place = (one.step, one.epoch, one.consumed)
                measures = dict(zip(self.run.recipe.chosen_objective.measures, values, strict=True))
                drawn = self.run.num_drawn(one.epoch, one.consumed)
                times = (seconds, one.result.waited_s)
                self.log.step(Step(*place, loss, measures, one.lr, grad_norm, clips, *times, drawn))

    def settle_all(self, epoch: int, step: int) -> None:
        """Settle, and log the clips of all processes that could not be read since the last call.

        Called before each save, since a resume starts with an empty list."""
        self.settle()
        failed = {clip_id: why for part in self.run.process.gather(self._failed) for clip_id, why in part.items()}
        self._failed = {}
        if failed and self.run.process.is_first:
            self.log.failed(step, epoch, failed)

    def _diverged(self, one: UnreadStep, loss: float, grad_norm: float) -> DivergedError:
        """Write the clips of the batch, each with its loss, to a file. Returns the error that names the file."""
        mine = [
            {"clip_id": clip_id, "loss": repr(value)}
            for ids, losses in zip(one.result.clip_ids, one.result.losses, strict=True)
            for clip_id, value in zip(ids, losses.tolist(), strict=True)
        ]
        clips = [clip for part in self.run.process.gather(mine) for clip in part]
        path = self.run.out / f"diverged-step-{one.step}.json"
        if self.run.process.is_first:
            content = {"step": one.step, "loss": repr(loss), "grad_norm": repr(grad_norm), "lr": one.lr, "clips": clips}
            with replacing(path) as file:
                file.write((json.dumps(content, indent=1) + "\n").encode())
        return DivergedError(
            f"step {one.step}: the loss is {loss}, the norm of its gradients {grad_norm}; the {len(clips)} clips of "
            f"its batch are in {path}. No checkpoint holds what came of it: look at the clips, or lower lr"
        )
