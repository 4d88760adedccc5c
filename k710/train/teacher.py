"""What a distillation learns from: a checkpoint of any family, which sees the same pixels, or its kept answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from k710.errors import CheckpointError, UsageError
from k710.evaluation.kept_logits import SUFFIX, read_logits
from k710.evaluation.view_model import model_for_view
from k710.loading.batch import Batch
from k710.models.checkpoints.checkpoint import file_sha256, open_checkpoint
from k710.models.family import Family
from k710.models.heads.head_labels import labels_of_view
from k710.sources.catalogue import Catalogue
from k710.sources.known import KINETICS
from k710.text import counted
from k710.train.recipe import TrainRecipe, mix_of


class Teacher(Protocol):
    """Where the answers come from: `record` is what a run keeps of it, the file and its SHA-256; `messages` say what it
    is and how the order of its classes is known; `num_bytes` are those of its weights.
    """

    @property
    def record(self) -> dict[str, Any]: ...
    @property
    def messages(self) -> tuple[str, ...]: ...
    @property
    def num_bytes(self) -> int: ...

    def answered(self, batch: Batch) -> Batch:
        """The batch with `teacher_logits`; the weight of a clip without an answer is 0."""
        ...


@dataclass(frozen=True)
class ModelTeacher:
    """A model in evaluation mode whose outputs are the student's classes in the student's order.

    Its pixels are the student's, with its own normalisation, and resized where it takes another size.
    """

    model: nn.Module
    family: Family
    student: Family
    record: dict[str, Any]
    messages: tuple[str, ...]

    @property
    def num_bytes(self) -> int:
        return sum(weight.numel() * weight.element_size() for weight in self.model.parameters())

    def answered(self, batch: Batch) -> Batch:
        return replace(batch, teacher_logits=self.logits(batch.pixels))

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


@dataclass(frozen=True)
class KeptTeacher:
    """Answers that were computed once, of a clip's evaluation views: the same in every epoch."""

    rows: dict[str, int]
    logits: Tensor  # float16, (clips, classes), on the CPU
    record: dict[str, Any]
    messages: tuple[str, ...]
    num_bytes: int = 0

    def answered(self, batch: Batch) -> Batch:
        known = torch.tensor([clip_id in self.rows for clip_id in batch.clip_ids])
        rows = torch.tensor([self.rows.get(clip_id, 0) for clip_id in batch.clip_ids])
        device = batch.pixels.device
        weights = batch.weights * known.to(device)
        return replace(batch, teacher_logits=self.logits[rows].float().to(device), weights=weights)


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


def open_teacher(
    recipe: TrainRecipe,
    path: Path,
    dialect: str | None,
    device: torch.device,
    clip_ids: Sequence[str],
    *,
    sources: Catalogue = KINETICS,
) -> Teacher:
    """The teacher of a recipe: a checkpoint, or the logits that `k710 predict --logits` kept of the clips. `sources`:
    the manifest's catalogue, which knows the classes of the recipe's view."""
    if path.suffix == SUFFIX:
        return _kept_teacher(recipe, path, clip_ids, sources)
    return model_teacher(recipe, path, dialect, device, sources=sources)


def _kept_teacher(recipe: TrainRecipe, path: Path, clip_ids: Sequence[str], sources: Catalogue) -> KeptTeacher:
    """Raises CheckpointError for a file that holds no such logits, UsageError where they are of other classes or clips,
    or where the recipe mixes clips, of which none is kept."""
    if mix_of(recipe) is not None:
        raise UsageError(
            f"{path}: holds answers to whole clips, and the recipe mixes clips; give the teacher itself, or --set "
            "mixup_alpha=0 --set cutmix_alpha=0"
        )
    kept = read_logits(path)
    labels = labels_of_view(recipe.data.view, sources)
    if kept.about["label_sha256"] != labels.sha256 or kept.logits.shape[1] != len(labels.names):
        raise UsageError(f"{path}: holds logits of {kept.about['view']}, and the recipe's view is {recipe.data.view}")
    rows = {clip_id: row for row, clip_id in enumerate(kept.clip_ids)}
    known = {*rows, *kept.failed}
    if missing := [clip_id for clip_id in clip_ids if clip_id not in known]:
        raise UsageError(
            f"{path}: has no logits of {counted(len(missing), 'train clip')} of {len(clip_ids)}, such as {missing[0]}; "
            "compute them of the train split of this manifest"
        )
    record = {"file": str(path.absolute()), "sha256": {path.name: file_sha256(path)}, "labels": labels.sha256}
    messages = (
        f"the teacher: {counted(len(rows), 'answer')} of {kept.about['checkpoint']['file']}, kept in {path}: the same "
        "in every epoch, whatever the student's crop and frames",
    )
    return KeptTeacher(rows, torch.from_numpy(kept.logits.copy()), record, messages)


def model_teacher(
    recipe: TrainRecipe, path: Path, dialect: str | None, device: torch.device, *, sources: Catalogue = KINETICS
) -> ModelTeacher:
    """A checkpoint as the teacher of a recipe, on `device`, its head's rows picked by class name for the recipe's view.

    `dialect` is the index order of its head, where the file does not tell it. Raises CheckpointError for a file of no
    family, a head whose order nothing tells or that lacks classes of the view, UsageError where it cannot take so many
    frames.
    """
    num_frames = recipe.data.num_frames
    try:
        opened = model_for_view(path, recipe.data.view, sources=sources, dialect=dialect, num_frames=num_frames)
    except CheckpointError as error:
        raise CheckpointError(f"the teacher {error} (for the teacher, --dialect is --teacher-dialect)") from None
    except UsageError as error:
        raise UsageError(f"the teacher {path} cannot take the student's {num_frames} frames: {error}") from None
    model = opened.model.to(device).eval().requires_grad_(False)
    record = {"file": str(path.absolute()), "sha256": open_checkpoint(path).sha256(), "labels": opened.labels.sha256}
    messages = tuple(f"the teacher: {message}" for message in opened.messages)
    return ModelTeacher(model, opened.family, recipe.family, record, messages)
