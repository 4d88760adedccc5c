"""A model for evaluation: a checkpoint's weights, with the rows of its head that a view's classes need, in order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from k710.errors import CheckpointError
from k710.evaluation.frames_of import choose_frames
from k710.manifest.views import check_view
from k710.models.checkpoints.checkpoint import Checkpoint, open_checkpoint
from k710.models.heads.head_labels import Labels, source_labels
from k710.models.heads.heads import find_head
from k710.models.heads.remap import new_head, plan_remap
from k710.models.uniformerv2.config import UniFormerV2Config
from k710.models.uniformerv2.model import UniFormerV2
from k710.models.weights import config_of, fit, tensor_names

_MOST_RUNS = 20  # of one checkpoint, whatever a forged record says


@dataclass(frozen=True)
class ViewModel:
    """A model for evaluation whose outputs are `labels`, in order; `said` tells what it is and how that is known.

    `head` are the labels by which its head was read, and `runs` the records of the k710 runs that it comes from, the
    last one first (see `runs_of`).
    """

    model: UniFormerV2
    labels: Labels
    said: tuple[str, ...]
    head: Labels | None = None
    runs: tuple[dict[str, Any], ...] = ()


def model_for_view(path: Path, view: str, *, dialect: str | None = None, num_frames: int | None = None) -> ViewModel:
    """The checkpoint with a head of the view's classes in canonical order, as a manifest numbers them.

    Rows are picked by class name, so a head of Kinetics-710 can be looked at on any release. `dialect` is the head's
    index order where the file tells none; `num_frames` the frames of a view, else what the file tells, else 8. Raises
    CheckpointError for what is no UniFormerV2, and where a class has no row or nothing tells the order, UsageError for
    an unknown view.
    """
    # What its record says it is, it is, whether it was remapped before or not.
    remap = plan_remap([path], to=check_view(view), dialects=[dialect] if dialect else [], again=True)
    checkpoint, rows = remap.sources[0].checkpoint, new_head(remap)
    model, config_said = _model(checkpoint, len(remap.rows), num_frames)
    found = {name: rows.get(key, checkpoint.tensor(key)) for name, key in tensor_names(checkpoint).items()}
    fit(model, found, model.state_dict().keys(), str(path))
    check_weights(model, path)
    said = [*remap.sources[0].said, f"{len(remap.rows)} of the head's {remap.sources[0].head.rows} rows: {view}"]
    runs = tuple(runs_of(checkpoint.payload.get("run")))
    return ViewModel(model.eval(), remap.target, (config_said, *said), remap.sources[0].labels, runs)


def model_as_it_is(path: Path, *, dialect: str | None = None, num_frames: int | None = None) -> ViewModel:
    """The checkpoint with its own head and its own labels. Raises CheckpointError as `model_for_view`."""
    checkpoint = open_checkpoint(path)
    head = find_head(checkpoint)
    labels, said = source_labels(checkpoint, head, dialect=dialect, again=True)
    model, config_said = _model(checkpoint, head.rows, num_frames)
    found = {name: checkpoint.tensor(key) for name, key in tensor_names(checkpoint).items()}
    fit(model, found, model.state_dict().keys(), str(path))
    check_weights(model, path)
    return ViewModel(model.eval(), labels, (config_said, *said))


def model_with_any_head(path: Path, *, num_frames: int | None = None) -> UniFormerV2:
    """The checkpoint with its own head, whatever its rows mean. Raises CheckpointError where it is no UniFormerV2."""
    checkpoint = open_checkpoint(path)
    model, _ = _model(checkpoint, find_head(checkpoint).rows, num_frames)
    found = {name: checkpoint.tensor(key) for name, key in tensor_names(checkpoint).items()}
    fit(model, found, model.state_dict().keys(), str(path))
    check_weights(model, path)
    return model.eval()


def check_weights(model: UniFormerV2, path: Path) -> None:
    """Raises CheckpointError where a weight that was loaded from `path` is NaN or infinite: no answer comes of it."""
    bad = [name for name, tensor in model.state_dict().items() if not bool(torch.isfinite(tensor).all())]
    if bad:
        more = f" and {len(bad) - 1} more tensors hold" if len(bad) > 1 else " holds"
        raise CheckpointError(
            f"{path}: {bad[0]}{more} NaN or infinite numbers: the training that wrote it diverged, or the file is "
            "damaged; take an earlier checkpoint"
        )


def _model(checkpoint: Checkpoint, num_classes: int, num_frames: int | None) -> tuple[UniFormerV2, str]:
    config = config_of(checkpoint)
    if config is None:
        raise CheckpointError(f"{checkpoint.path}: not a UniFormerV2 of a known size ({checkpoint.format.title})")
    recipe = recipe_of(checkpoint)
    told, why = choose_frames(checkpoint, recipe, wanted=num_frames, size_px=config.size_px)
    frames = told or config.num_frames
    config = replace(config, num_classes=num_classes, num_frames=frames)
    return UniFormerV2(config), f"{_title(config)}, {frames} frames ({why})"


def runs_of(record: Any) -> Iterator[dict[str, Any]]:
    """The records of the runs that a checkpoint comes from: its own, then that of the checkpoint it started from, and
    so on, as far as they are recorded."""
    for _ in range(_MOST_RUNS):
        if not isinstance(record, dict):
            return
        yield record
        start = record.get("start")
        record = start.get("run") if isinstance(start, dict) else None


def recipe_of(checkpoint: Checkpoint) -> dict[str, Any]:
    """The recipe that k710 trained a checkpoint by; empty for others."""
    run = checkpoint.payload.get("run")
    recipe = run.get("recipe") if isinstance(run, dict) else None
    return recipe if isinstance(recipe, dict) else {}


def _title(config: UniFormerV2Config) -> str:
    return f"UniFormerV2-{config.backbone} at {config.size_px} px"
