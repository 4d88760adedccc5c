"""A checkpoint on the clips of a view: its scores, and exactly which clips they are of."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from k710.engine.torch_process import Process
from k710.errors import TrainError, UsageError
from k710.evaluation.features import open_for, reader_for
from k710.evaluation.scores import ClassScore, Confusion, accuracies, class_scores, confusions, without_nan
from k710.evaluation.view_model import ViewModel
from k710.evaluation.views_pass import Predictions, predict_views
from k710.loading.augment.augment import Augment
from k710.loading.clip_index import NO_CLASS
from k710.loading.clip_source import Media
from k710.loading.dataset import ClipDataset
from k710.loading.load_clip import ClipOptions
from k710.manifest.read import Manifest
from k710.manifest.views import split_of, view, view_columns
from k710.store.store import Store
from k710.text import counted


@dataclass(frozen=True)
class EvalOptions:
    """How clips are seen: `num_clips` x `num_crops` views of each, `batch_size` views at once, in `precision` (fp32,
    bf16 or fp16). `num_workers`: loader processes, 0 to load in this process."""

    num_clips: int = 4
    num_crops: int = 3
    batch_size: int = 8
    num_workers: int = 0
    precision: str = "fp32"


DEFAULT_OPTIONS = EvalOptions()


@dataclass(frozen=True)
class Evaluation:
    """The result of a checkpoint on a view's split.

    `predictions` hold every clip that was read, labelled or not; `scores` count the labelled ones. `missing` are the
    clips of the split that are not there, `predictions.failed` those that are and cannot be read. `fingerprint` names
    the clips that were counted, with profile and origin: two numbers of one fingerprint are of the same clips.
    """

    view: str
    split: str
    labels: tuple[str, ...]
    num_clips: int
    num_crops: int
    predictions: Predictions
    in_split: int
    missing: tuple[str, ...]
    fingerprint: str

    @property
    def labelled(self) -> Any:
        """(clips,) which of the predictions are of labelled clips."""
        return self.predictions.class_ids != NO_CLASS

    @property
    def scores(self) -> dict[str, float]:
        return accuracies(self.predictions.scores[self.labelled], self.predictions.class_ids[self.labelled])

    def classes(self) -> list[ClassScore]:
        return class_scores(self.predictions.scores[self.labelled], self.predictions.class_ids[self.labelled])

    def confusions(self) -> list[Confusion]:
        return confusions(self.predictions.scores[self.labelled], self.predictions.class_ids[self.labelled])

    def summary(self) -> dict[str, Any]:
        """Everything but the predictions, in plain values."""
        return {
            "view": self.view,
            "split": self.split,
            "num_clips": self.num_clips,
            "num_crops": self.num_crops,
            "scores": without_nan(self.scores),
            "counts": {
                "in_split": self.in_split,
                "evaluated": int(self.labelled.sum()),
                "unlabelled": int((~self.labelled).sum()),
                "missing": len(self.missing),
                "failed": len(self.predictions.failed),
            },
            "fingerprint": self.fingerprint,
            "missing": list(self.missing),
            "failed": self.predictions.failed,
        }


def evaluate(
    model: ViewModel,
    manifest: Manifest,
    process: Process,
    media: Media,
    *,
    view: str,
    split: str = "val",
    options: EvalOptions = DEFAULT_OPTIONS,
    on_progress: Callable[[int], None] = lambda done: None,
) -> Evaluation:
    """Evaluate on all clips of the view's split that are there, each seen in several views, as published.

    The outputs of `model` are the view's classes in canonical order. It is given kept features in place of clips where
    `media` names some. Raises UsageError for an unknown view or split, one that the manifest lacks, and features of
    something else, LoadError where none of its clips is there, TrainError where none could be read.
    """
    with process.together():
        dataset = _dataset(model, manifest, media, view, split, options)
        features = None
        if media.features is not None:
            kept = open_for(model.family, model.model, model.sampling, media.features)
            features = reader_for(model.family, model.model, kept, dataset)
    config = model.config
    found = predict_views(
        model.model.to(process.device),
        dataset,
        process,
        num_classes=config.num_classes,
        augment=Augment(**model.family.crops(config.size_px)),
        batch_size=options.batch_size,
        num_workers=options.num_workers,
        precision=options.precision,
        on_progress=on_progress,
        features=features,
    )
    return _evaluation(found, dataset, manifest, media, options)


def _dataset(
    model: ViewModel, manifest: Manifest, media: Media, view: str, split: str, options: EvalOptions
) -> ClipDataset:
    clip_options = ClipOptions(
        num_frames=model.config.num_frames,
        num_clips=options.num_clips,
        num_crops=options.num_crops,
        on_error="zero_weight",
        **model.sampling.options(),
    )
    dataset = media.dataset(manifest, clip_options, view=view, split=split, training=False)
    if len(model.labels.names) != len(dataset.labels):
        raise UsageError(f"the model has {len(model.labels.names)} classes, {view} has {len(dataset.labels)}")
    return dataset


def _evaluation(
    found: Predictions, dataset: ClipDataset, manifest: Manifest, media: Media, options: EvalOptions
) -> Evaluation:
    """The evaluation of these predictions. Raises TrainError where no clip could be read."""
    view, split = dataset.view, dataset.split
    if not found.clip_ids:
        raise TrainError(
            f"none of the {counted(len(dataset), 'clip')} could be read: {next(iter(found.failed.values()))}"
        )
    wanted = split_of(_view(manifest, view), split)["clip_id"].to_pylist()
    here = {*found.clip_ids, *found.failed}
    labelled = [clip for clip, number in zip(found.clip_ids, found.class_ids, strict=True) if number != NO_CLASS]
    return Evaluation(
        view,
        split,
        tuple(dataset.labels),
        options.num_clips,
        options.num_crops,
        found,
        len(wanted),
        tuple(clip_id for clip_id in wanted if clip_id not in here),
        fingerprint(labelled, media.profile_name, origins(manifest, media)),
    )


def fingerprint(clip_ids: Iterable[str], profile: str, origin_of: dict[str, str]) -> str:
    """SHA-256 over the clips, by ID, each with profile and origin (an archive set, or `local`)."""
    lines = sorted(f"{clip_id}\t{profile}\t{origin_of.get(clip_id, 'local')}\n" for clip_id in clip_ids)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def origins(manifest: Manifest, media: Media) -> dict[str, str]:
    """Where the store's clips came from: `cvdf:k400`, or `local` wherever that was."""
    if media.folder is not None:
        return {}
    rows = Store(media.store or manifest.path / "store", media.profile).best_rows(("clip_id", "origin"))
    named = zip(rows["clip_id"].to_pylist(), rows["origin"].to_pylist(), strict=True)
    return {clip_id: "local" if (origin or "").startswith("local") else str(origin) for clip_id, origin in named}


def common(evaluation: Evaluation, clip_ids: Iterable[str]) -> Evaluation:
    """The evaluation on those of its clips that are among `clip_ids` too. Raises TrainError where none is."""
    found, wanted = evaluation.predictions, set(clip_ids)
    kept = np.array([clip_id in wanted for clip_id in found.clip_ids], bool)
    if not kept.any():
        raise TrainError("the two evaluations have no clip in common")
    ids = [clip_id for clip_id in found.clip_ids if clip_id in wanted]
    part = Predictions(ids, found.class_ids[kept], found.scores[kept], found.num_views[kept], {})
    return dataclasses.replace(evaluation, predictions=part)


def _view(manifest: Manifest, name: str) -> pa.Table:
    return view(manifest.read_clips(view_columns(name, manifest.catalogue)), name, manifest.catalogue)
