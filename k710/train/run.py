"""What a run is told, and how far it is."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from k710.engine.torch_process import Process
from k710.loading.augment.augment import Augment
from k710.loading.augment.mix import Mix
from k710.loading.dataset import ClipDataset
from k710.loading.loader import ClipLoader
from k710.models.uniformerv2.model import UniFormerV2
from k710.train import run_folder as checkpoints
from k710.train.pieces import Pieces
from k710.train.recipe import TrainRecipe


@dataclass(frozen=True)
class Run:
    """A run that is about to begin: everything was checked (prepare.py), nothing but its folder is there.

    `head` is the record of the head (docs/heads.md); `facts` are those of run.json; `resumed` is the content of the
    checkpoint to go on from. `val` is None where the view has no val clips.
    """

    out: Path
    recipe: TrainRecipe
    model: UniFormerV2
    head: dict[str, Any]
    train: ClipDataset
    val: ClipDataset | None
    pieces: Pieces
    process: Process
    facts: dict[str, Any]
    resumed: dict[str, Any] | None = None
    num_workers: int = 0
    compiled: bool = False
    keep: int = 2
    save_every_s: float = 1800.0
    report_every: int = 20
    tensorboard: bool = False
    say: Callable[[str], None] = print

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps of an epoch; its incomplete last batch is dropped."""
        return len(self.train) * self.recipe.num_repeats // self.recipe.batch_size

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """The folder as this run's own for the time of the block. Raises TrainError where another has it."""
        with contextlib.ExitStack() as stack:
            with self.process.together():
                if self.process.is_first:
                    stack.enter_context(checkpoints.locked(self.out))
            yield

    def train_loader(self) -> ClipLoader:
        """Batches as the recipe has them: augmented, mixed, in an order that resumes. Raises UsageError for settings
        that cannot be."""
        recipe = self.recipe
        return self.train.loader(
            batch_size=recipe.batch_size,
            device=self.process.device,
            num_workers=self.num_workers,
            augment=augment_of(recipe),
            mix=mix_of(recipe),
            share=self.process.share,
            num_repeats=recipe.num_repeats,
            num_pieces=self.pieces.num_pieces,
            epoch=0,  # a run begins there, or goes to its own position
        )


def augment_of(recipe: TrainRecipe) -> Augment:
    """A recipe's augmentation. Raises UsageError for one that cannot be."""
    return Augment(
        crop_px=recipe.size_px,
        area=(recipe.min_area, recipe.max_area),
        aspect=(recipe.min_aspect, recipe.max_aspect),
        flip_prob=recipe.flip_prob,
        randaugment=recipe.randaugment,
        color_jitter=recipe.color_jitter,
        erase_prob=recipe.erase_prob,
        order=recipe.augment_order,
    )


def mix_of(recipe: TrainRecipe) -> Mix | None:
    """How a recipe mixes clips, or None. Raises UsageError for numbers that cannot be."""
    mixes = recipe.mixup_alpha or recipe.cutmix_alpha
    return Mix(recipe.mixup_alpha, recipe.cutmix_alpha) if mixes else None


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
