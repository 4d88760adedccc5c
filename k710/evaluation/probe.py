"""A linear probe: how well a linear classifier tells the classes of a view from what a frozen model makes of clips."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from k710.engine.torch_process import Process
from k710.errors import TrainError, UsageError
from k710.evaluation.evaluate import EvalOptions
from k710.evaluation.linear import Fitted, fit_linear
from k710.evaluation.view_model import Body, ViewModel
from k710.evaluation.views_pass import Predictions, predict_views
from k710.loading.augment.augment import Augment
from k710.loading.clip_index import NO_CLASS
from k710.loading.clip_source import Media
from k710.loading.load_clip import ClipOptions
from k710.manifest.read import Manifest
from k710.models.features import FeatureModel
from k710.models.heads.head_labels import labels_of_view
from k710.models.left_out import left_out
from k710.sources.video_ids import video_of

TRAIN = "train"
_HELD_OUT = 5  # one train video in so many chooses the strength of the regularisation


@dataclass(frozen=True)
class ProbeConfig:
    """The configuration of a probed model, as far as an evaluation asks for it."""

    size_px: int
    num_frames: int
    num_classes: int
    title: str


@dataclass(frozen=True)
class Probe:
    """A probed model, whose outputs are the classes of a view in canonical order; `num_clips` train clips were read."""

    model: ViewModel
    fitted: Fitted
    num_clips: int
    failed: dict[str, str]

    def summary(self) -> dict[str, Any]:
        """In plain values, for summary.json."""
        fitted = self.fitted
        return {
            "train_clips": self.num_clips,
            "failed": self.failed,
            "l2": fitted.l2,
            "held_out_top1": fitted.held_out_top1,
            "train_top1": fitted.train_top1,
        }


def random_body(body: Body) -> Body:
    """The same model with the random weights that a training from nothing begins with: by the seed of the run that the
    checkpoint is of, which are the weights that a run from nothing began with, or by 0 where none is recorded.

    Raises UsageError for a model of which nobody trains all weights, since its checkpoints leave some out.
    """
    if left_out(body.model):
        raise UsageError(
            f"{body.config.title} begins with weights that its checkpoints leave out; with random ones it is no model "
            "that anybody trains. Leave --baseline out"
        )
    torch.manual_seed(_seed_of(body))
    model = body.family.build(body.config).eval()
    return dataclasses.replace(body, model=model, messages=(), runs=())


def _seed_of(body: Body) -> int:
    recipe = body.runs[0].get("recipe") if body.runs else None
    seed = recipe.get("seed") if isinstance(recipe, dict) else None
    return seed if isinstance(seed, int) and 0 <= seed < 2**63 else 0


def fit_probe(
    body: Body,
    manifest: Manifest,
    process: Process,
    media: Media,
    *,
    view: str,
    options: EvalOptions,
    on_progress: Callable[[int], None] = lambda done: None,
    on_fit: Callable[[int], None] = lambda number: None,
) -> Probe:
    """Fit a linear classifier to the features of the view's train clips, each seen once, as in an evaluation.

    The model of `body` loses its head. A fifth of the train videos chooses the strength of the regularisation. All
    processes share the pass over the clips, and the first one fits. Raises UsageError for a view that the manifest
    lacks, LoadError where no clip is there, TrainError where too few of them have a class.
    """
    config, family = body.config, body.family
    with process.together():
        labels = labels_of_view(manifest.catalogue.check_view(view), manifest.catalogue)
        clip_options = ClipOptions(num_frames=config.num_frames, on_error="zero_weight", **body.sampling.options())
        dataset = media.dataset(manifest, clip_options, view=view, split=TRAIN, training=False)
    net = FeatureModel(family, body.model).to(process.device)
    found = predict_views(
        net,
        dataset,
        process,
        num_classes=net.width,
        augment=Augment(**family.crops(config.size_px)),
        batch_size=options.batch_size,
        num_workers=options.num_workers,
        precision=options.precision,
        on_progress=on_progress,
        answer=lambda features: features,
    )
    with process.together():
        fitted = _fit(found, len(labels.names), process.device, on_fit) if process.is_first else None
    fitted = process.gather(fitted)[0]
    assert fitted is not None, "the first process has fitted it"
    probed = ProbeConfig(config.size_px, config.num_frames, len(labels.names), f"{config.title}, probed")
    run = {"recipe": {"data": {"view": view}}, "manifest": {"content_hash": manifest.content_hash}}
    model = ViewModel(
        family, nn.Sequential(net, fitted.linear), probed, labels, body.messages, runs=(run, *body.runs),
        recorded_sampling=body.sampling,
    )  # fmt: skip
    return Probe(model, fitted, int((found.class_ids != NO_CLASS).sum()), found.failed)


def _fit(found: Predictions, num_classes: int, device: torch.device, on_fit: Callable[[int], None]) -> Fitted:
    labelled = found.class_ids != NO_CLASS
    videos = [video_of(clip_id) for clip_id, is_in in zip(found.clip_ids, labelled, strict=True) if is_in]
    if not videos:
        raise TrainError("no train clip that could be read has a label, so there is nothing to fit a probe to")
    # By video: clips of one video are too alike for one of them to judge what was fitted to another.
    held_out = torch.tensor([int(hashlib.sha256(video.encode()).hexdigest(), 16) % _HELD_OUT == 0 for video in videos])
    features, class_ids = torch.from_numpy(found.scores[labelled]), torch.from_numpy(found.class_ids[labelled])
    fitted = fit_linear(
        features.to(device), class_ids.to(device), held_out.to(device), num_classes=num_classes, on_fit=on_fit
    )
    fitted.linear.cpu()  # for the other processes
    return fitted
