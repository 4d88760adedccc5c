"""The end of an epoch: one centre view of each val clip, and the best model so far kept."""

from __future__ import annotations

import math
from typing import Any

from k710.evaluation.scores import accuracies
from k710.evaluation.views_pass import Predictions, predict_views
from k710.loading.clip_index import NO_CLASS
from k710.loading.dataset import ClipDataset
from k710.train.run_log import Report
from k710.train.saved import Saved
from k710.train.stop import StoppedError, StopRequest


def validate(saved: Saved, report: Report, stop: StopRequest) -> None:
    """Validate what the epochs so far came to (the average, where there is one), as released: one centre view of each
    clip in float32; the best by top-1 becomes best.pt. Without val clips, the newest model is best.pt.

    Raises StoppedError where `stop` is asked for on the way; what is to be validated must have been saved.
    """
    run, model, progress = saved.run, saved.model, saved.progress
    epoch = progress.settled_epochs = saved.loader.epoch
    if epoch % run.recipe.validate_every_epochs and epoch != run.recipe.epochs:
        return
    trained = None
    if saved.average is not None:
        trained = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        model.load_state_dict(saved.average.state_dict())
    run.process.share_buffers(model)
    scores: dict[str, float] = {}
    failed: dict[str, str] = {}
    if run.val is not None:
        found = _look(saved, run.val, stop)
        labelled = found.class_ids != NO_CLASS
        scores = accuracies(found.scores[labelled], found.class_ids[labelled])
        failed = found.failed
    is_best = is_better(scores, progress.best)
    if is_best:
        progress.best = {"epoch": epoch, "step": progress.step, **scores}
        saved.write_best()
    if run.process.is_first and scores:
        report.validation(progress.step, epoch, scores, is_best, failed)
    if trained is not None:
        model.load_state_dict(trained)


def is_better(scores: dict[str, float], best: dict[str, Any] | None) -> bool:
    """Whether a validation beats the best so far. One in which no clip could be read is worth nothing, but is the best
    where there is no other; without val clips, the newest is."""
    return best is None or not scores or _worth(scores) > _worth(best)


def _worth(scores: dict[str, Any]) -> float:
    top1 = float(scores["top1"])
    return -1.0 if math.isnan(top1) else top1


def _look(saved: Saved, val: ClipDataset, stop: StopRequest) -> Predictions:
    def go_on(done: int) -> None:
        if stop.asked:
            raise StoppedError(stop.name, saved.progress.step)

    run = saved.run
    return predict_views(
        saved.model,
        val,
        run.process,
        num_classes=saved.model.config.num_classes,
        size_px=run.recipe.size_px,
        batch_size=run.pieces.piece_size,
        num_workers=run.num_workers,
        told=go_on,
    )
