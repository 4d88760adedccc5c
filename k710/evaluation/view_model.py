"""A model for evaluation: a checkpoint's weights, with the rows of its head that a view's classes need, in order."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from torch import nn

from k710.errors import CheckpointError, UsageError
from k710.evaluation.frames_of import choose_frames
from k710.loading.sampling import METHODS
from k710.models.checkpoints.checkpoint import Checkpoint, open_checkpoint
from k710.models.checkpoints.recorded_runs import runs_of
from k710.models.families import family_of, refuse_foreign
from k710.models.family import Family, Sampling
from k710.models.heads.head_labels import Labels, labels_of_view, source_labels
from k710.models.heads.heads import find_head
from k710.models.heads.remap import new_head, plan_remap
from k710.models.weights import load_into
from k710.sources.catalogue import Catalogue
from k710.sources.known import KINETICS


@dataclass(frozen=True)
class ViewModel:
    """A model for evaluation whose outputs are `labels`, in order; `messages` say what it is and how that is known.

    `head` are the labels by which its head was read, and `runs` the records of the k710 runs that it comes from, the
    last one first (k710.models.checkpoints.recorded_runs).
    """

    family: Family
    model: nn.Module
    config: Any  # the family's
    labels: Labels
    messages: tuple[str, ...]
    head: Labels | None = None
    runs: tuple[dict[str, Any], ...] = ()
    recorded_sampling: Sampling | None = None

    @property
    def sampling(self) -> Sampling:
        """Which frames of a clip it sees: as its recipe says, else as its family."""
        return self.recorded_sampling or self.family.sampling.of(self.config.num_frames)


def model_for_view(
    path: Path,
    view: str,
    *,
    sources: Catalogue = KINETICS,
    dialect: str | None = None,
    num_frames: int | None = None,
    size_px: int | None = None,
    weights: str | None = None,
) -> ViewModel:
    """The checkpoint with a head of the view's classes in canonical order, as a manifest numbers them.

    Rows are picked by class name, so a head of Kinetics-710 can be looked at on any release. `dialect` is the head's
    index order where the file tells none; `num_frames` the frames of a view, else what the file tells, else 8;
    `size_px` the side of its frames, of a family whose tensors do not tell it; `weights` the source of what the
    checkpoint leaves out (k710.models.left_out). `sources` is the manifest's catalogue. Raises CheckpointError for a
    model of no family, and where a class has no row or nothing tells the order, UsageError for an unknown view, and for
    a size that is not its tensors'.
    """
    refuse_foreign(open_checkpoint(path))  # before any question on its head
    wanted = labels_of_view(sources.check_view(view), sources)
    # What its record says it is, it is, whether it was remapped before or not.
    remap = plan_remap([path], to=wanted, dialects=[dialect] if dialect else [], again=True)
    checkpoint, rows = remap.sources[0].checkpoint, new_head(remap)
    family, model, config_message = _model(checkpoint, len(remap.rows), num_frames, size_px)
    loaded = load_into(family, model, checkpoint, head_rows=rows, weights=weights)
    messages = [
        *loaded.completed,
        *remap.sources[0].messages,
        f"{len(remap.rows)} of the head's {remap.sources[0].head.rows} rows: {view}",
    ]
    runs, sampling = tuple(runs_of(checkpoint.payload.get("run"))), _sampling(family, model, checkpoint)
    head = remap.sources[0].labels
    all_messages = (config_message, *messages)
    return ViewModel(family, model.eval(), model.config, remap.target, all_messages, head, runs, sampling)


def model_as_it_is(
    path: Path,
    *,
    dialect: str | None = None,
    num_frames: int | None = None,
    size_px: int | None = None,
    weights: str | None = None,
) -> ViewModel:
    """The checkpoint with its own head and its own labels. Raises CheckpointError as `model_for_view`."""
    checkpoint = open_checkpoint(path)
    refuse_foreign(checkpoint)  # before any question on its head
    head = find_head(checkpoint)
    labels, messages = source_labels(checkpoint, head, dialect=dialect, again=True)
    family, model, config_message = _model(checkpoint, head.rows, num_frames, size_px)
    loaded = load_into(family, model, checkpoint, weights=weights)
    all_messages = (config_message, *loaded.completed, *messages)
    sampling = _sampling(family, model, checkpoint)
    return ViewModel(family, model.eval(), model.config, labels, all_messages, recorded_sampling=sampling)


@dataclass(frozen=True)
class Body:
    """A model with its own head, whatever its rows mean, or without any; `messages` and `runs` are ViewModel's.

    `sampling`: which frames of a clip it sees.
    """

    family: Family
    model: nn.Module
    sampling: Sampling
    messages: tuple[str, ...]
    runs: tuple[dict[str, Any], ...]

    @property
    def config(self) -> Any:
        return self.model.config


def open_body(
    path: Path, *, num_frames: int | None = None, size_px: int | None = None, weights: str | None = None
) -> Body:
    """The checkpoint as it is. The options are those of `model_for_view`. Raises CheckpointError where it is of no
    family, UsageError for a size that is not its tensors'."""
    checkpoint = open_checkpoint(path)
    family, config = family_of(checkpoint)
    family, model, config_message = _model(checkpoint, getattr(config, "num_classes", None), num_frames, size_px)
    loaded = load_into(family, model, checkpoint, weights=weights)
    messages = (config_message, *loaded.completed)
    runs = tuple(runs_of(checkpoint.payload.get("run")))
    return Body(family, model.eval(), _sampling(family, model, checkpoint), messages, runs)


def _sampling(family: Family, model: nn.Module, checkpoint: Checkpoint) -> Sampling:
    """Which frames a model was trained on, by the recipe of a k710 checkpoint; else its family's."""
    data, config = checkpoint.recorded("data"), cast(Any, model.config)
    method, stride = data.get("sampling"), data.get("stride")
    fits = (method is None or method in METHODS) and (stride is None or isinstance(stride, int))
    if not fits:
        raise CheckpointError(f"{checkpoint.path}: its recipe is damaged: sampling {method!r}, stride {stride!r}")
    return family.sampling.of(config.num_frames).changed(method, stride)


def _model(
    checkpoint: Checkpoint, num_classes: int | None, num_frames: int | None, size_px: int | None = None
) -> tuple[Family, nn.Module, str]:
    family, config = family_of(checkpoint)
    if size_px is not None and family.size_in_shapes and size_px != config.size_px:
        raise UsageError(f"{checkpoint.path}: its tensors are of frames of {config.size_px} px, not {size_px}")
    config = replace(config, size_px=size_px or config.size_px)
    known, why = choose_frames(checkpoint, wanted=num_frames, size_px=config.size_px)
    config = replace(config, num_frames=known or config.num_frames)
    if num_classes is not None:
        config = replace(config, num_classes=num_classes)
    return family, family.build(config), f"{config.title}, {config.num_frames} frames ({why})"
