"""Everything that a resume needs, to a checkpoint and back; and the smaller checkpoint for evaluation."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from k710.loading.loader import ClipLoader
from k710.train.optimizer import Average
from k710.train.run import Progress, Run
from k710.train.run_folder import BEST, write_checkpoint, write_step


@dataclass
class Saved:
    """The parts of a run that change."""

    run: Run
    model: nn.Module
    average: Average | None
    optimizer: torch.optim.Optimizer
    scaler: Any
    loader: ClipLoader
    progress: Progress

    @property
    def num_epochs(self) -> int:
        """Epochs that are over; the last one is over with the last step, though that may be in the middle of it."""
        return self.run.num_epochs if self.progress.step == self.run.num_steps else self.loader.epoch

    def write(self) -> None:
        """Save the state after a step. The first process writes; the others wait until it is done.

        Raises TrainError where the disk has no room.
        """
        with self.run.process.together():
            if self.run.process.is_first:
                content = {
                    **self._for_use(),
                    "optimizer": self.optimizer.state_dict(),
                    "scaler": self.scaler.state_dict(),
                    "average": self.average.state_dict() if self.average else None,
                    "position": self.loader.state_dict(),
                    "progress": self.progress.state_dict(),
                }
                write_step(self.run.out, self.progress.step, content, keep=self.run.options.keep)
        self.progress.saved_at_s = time.monotonic()

    def write_best(self) -> None:
        """Save the model as it is now for evaluation and finetuning: weights, head, and where they come from."""
        with self.run.process.together():
            if self.run.process.is_first:
                write_checkpoint(self.run.out / BEST, self._for_use())

    def restore(self, content: dict[str, Any]) -> None:
        """Go to a saved state. Randomness is a function of the position, so no state of a generator is needed."""
        self.model.load_state_dict(content["model"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.scaler.load_state_dict(content["scaler"])
        if self.average is not None:
            self.average.load_state_dict(content["average"])
        self.loader.load_state_dict(content["position"])
        self.progress.load_state_dict(content["progress"])

    def _for_use(self) -> dict[str, Any]:
        return {
            "model": dict(self.model.state_dict()),
            "head": self.run.head,
            "run": self.run.facts,
            "step": self.progress.step,
            "validation": self.progress.best,
        }
