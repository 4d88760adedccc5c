"""A prepared training run, the options it is carried out with, and its progress."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from k710.engine.torch_process import Process
from k710.loading.dataset import ClipDataset
from k710.loading.kept_features import FeatureReader
from k710.loading.loader import ClipLoader
from k710.loading.mixed_dataset import MixedDataset
from k710.train import run_folder
from k710.train.recipe import TrainRecipe, augment_of, mix_of
from k710.train.step import Pieces
from k710.train.teacher import Teacher


@dataclass(frozen=True)
class RunOptions:
    """How a run is carried out. The recipe says what is trained; none of these options changes it.

    `num_workers`: loader processes per GPU, 0 to load in this process. `compiled`: torch.compile the model. `keep`:
    how many checkpoints stay. `save_every_s`: seconds between checkpoints. `report_every`: steps between lines of
    progress. `tensorboard`: write TensorBoard's files too.
    """

    num_workers: int = 0
    compiled: bool = False
    keep: int = 2
    save_every_s: float = 1800.0
    report_every: int = 20
    tensorboard: bool = False


DEFAULT_OPTIONS = RunOptions()


@dataclass(frozen=True)
class Run:
    """A run that is about to begin: everything was checked (prepare.py), and its folder was made.

    `head` is the record of the head (docs/heads.md), None without classes; `facts` are those of run.json; `resumed` is
    the content of the checkpoint to go on from. `val` is None where the view has no val clips. `say` prints a line for
    the user.
    `teacher` is the model that a distillation learns from. `features` are what the model is given in place of clips,
    by split.
    """

    out: Path
    recipe: TrainRecipe
    model: nn.Module
    head: dict[str, Any] | None
    train: ClipDataset | MixedDataset
    val: ClipDataset | MixedDataset | None
    pieces: Pieces
    process: Process
    facts: dict[str, Any]
    options: RunOptions = DEFAULT_OPTIONS
    resumed: dict[str, Any] | None = None
    say: Callable[[str], None] = print
    teacher: Teacher | None = None
    features: Mapping[str, FeatureReader] = field(default_factory=dict)

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps of an epoch; its incomplete last batch is dropped."""
        return self.train.clips_per_epoch * self.recipe.data.num_repeats // self.recipe.optim.batch_size

    @property
    def num_steps(self) -> int:
        """Optimiser steps of the whole run."""
        return self.recipe.optim.steps or self.recipe.optim.epochs * self.steps_per_epoch

    @property
    def num_epochs(self) -> int:
        """Epochs of the whole run; the last one may be a part."""
        return math.ceil(self.length_epochs)

    @property
    def length_epochs(self) -> float:
        """Epochs of the whole run, with the part of the last one."""
        return self.num_steps / self.steps_per_epoch

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Holds the run's folder for the time of the block. Raises TrainError where another process holds it."""
        with contextlib.ExitStack() as stack:
            with self.process.together():
                if self.process.is_first:
                    stack.enter_context(run_folder.locked(self.out))
            yield

    def num_drawn(self, epoch: int, consumed: int) -> dict[str, int]:
        """How many clips of each member of a mix are in the batch that ends at a position; empty without a mix."""
        if not isinstance(self.train, MixedDataset):
            return {}
        start, repeats = consumed - self.recipe.optim.batch_size, self.recipe.data.num_repeats
        return self.train.num_drawn(epoch, start, consumed, repeats)

    def train_loader(self) -> ClipLoader:
        """Batches as the recipe has them: augmented, mixed, in an order that resumes. Raises UsageError for settings
        that cannot be."""
        recipe = self.recipe
        return ClipLoader(
            self.train,
            batch_size=recipe.optim.batch_size,
            device=self.process.device,
            num_workers=self.options.num_workers,
            augment=augment_of(recipe),
            mix=mix_of(recipe),
            share=self.process.share,
            num_repeats=recipe.data.num_repeats,
            num_pieces=self.pieces.num_pieces,
            epoch=0,  # a run begins there, or goes to its own position
            features=self.features.get("train"),
        )


@dataclass
class Progress:
    """How far a run is, apart from its place in the order of clips: steps taken, epochs settled (validated, or passed
    over), and the best validation."""

    step: int = 0
    settled_epochs: int = 0
    best: dict[str, Any] | None = None
    saved_at_s: float = field(default_factory=time.monotonic)

    def state_dict(self) -> dict[str, Any]:
        return {"step": self.step, "settled_epochs": self.settled_epochs, "best": self.best}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.step, self.settled_epochs, self.best = state["step"], state["settled_epochs"], state["best"]
