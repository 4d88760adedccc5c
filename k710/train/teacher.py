"""The model that a distillation learns from: another checkpoint, of any family, which sees the same pixels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from k710.errors import CheckpointError, UsageError
from k710.evaluation.view_model import model_for_view
from k710.models.checkpoints.checkpoint import open_checkpoint
from k710.models.family import Family
from k710.train.recipe import TrainRecipe


@dataclass(frozen=True)
class Teacher:
    """A model in evaluation mode whose outputs are the student's classes in the student's order.

    Its pixels are the student's, with its own normalisation, and resized where it takes another size. `record` is what
    a run keeps of it: the file and its SHA-256. `messages` say what it is and how the order of its head is known.
    """

    model: nn.Module
    family: Family
    student: Family
    record: dict[str, Any]
    messages: tuple[str, ...]

    @torch.no_grad()
    def logits(self, pixels: Tensor) -> Tensor:
        """(B, classes) for the student's pixels (B, 3, T, S, S)."""
        config: Any = self.model.config
        return cast(Tensor, self.model(_resized(self._normalised(pixels), config.size_px)))

    def _normalised(self, pixels: Tensor) -> Tensor:
        """(x std + mean - mean') / std', channel by channel: from the student's normalisation to the teacher's."""
        ours, theirs = self.student, self.family
        if (ours.mean, ours.std) == (theirs.mean, theirs.std):
            return pixels
        mean, std, their_mean, their_std = (
            pixels.new_tensor(values).view(1, 3, 1, 1, 1) for values in (ours.mean, ours.std, theirs.mean, theirs.std)
        )
        return pixels * (std / their_std) + (mean - their_mean) / their_std


def _resized(pixels: Tensor, size_px: int) -> Tensor:
    if pixels.shape[-1] == size_px:
        return pixels
    num_clips = len(pixels)
    frames = pixels.transpose(1, 2).flatten(0, 1)  # (B·T, 3, S, S)
    frames = functional.interpolate(frames, (size_px, size_px), mode="bilinear", antialias=True)
    return torch.unflatten(frames, 0, (num_clips, -1)).transpose(1, 2)


def check_teacher(recipe: TrainRecipe, teacher: Path | None) -> None:
    """Raises UsageError unless a teacher is given exactly where the objective needs one."""
    needed = recipe.chosen_objective.needs_teacher
    if needed and teacher is None:
        raise UsageError(
            f"the objective {recipe.objective} learns from a teacher: --teacher FILE, a checkpoint of any family"
        )
    if teacher is not None and not needed:
        raise UsageError(f"the objective {recipe.objective} has no teacher, and --teacher {teacher} is given")


def open_teacher(recipe: TrainRecipe, path: Path, dialect: str | None, device: torch.device) -> Teacher:
    """The teacher of a recipe, on `device`, its head's rows picked by class name for the recipe's view.

    `dialect` is the index order of its head, where the file does not tell it. Raises CheckpointError for a file of no
    family, a head whose order nothing tells or that lacks classes of the view, UsageError where it cannot take so many
    frames.
    """
    num_frames = recipe.data.num_frames
    try:
        opened = model_for_view(path, recipe.data.view, dialect=dialect, num_frames=num_frames)
    except CheckpointError as error:
        raise CheckpointError(f"the teacher {error} (for the teacher, --dialect is --teacher-dialect)") from None
    except UsageError as error:
        raise UsageError(f"the teacher {path} cannot take the student's {num_frames} frames: {error}") from None
    model = opened.model.to(device).eval().requires_grad_(False)
    record = {"file": str(path.absolute()), "sha256": open_checkpoint(path).sha256(), "labels": opened.labels.sha256}
    messages = tuple(f"the teacher: {message}" for message in opened.messages)
    return Teacher(model, opened.family, recipe.family, record, messages)
