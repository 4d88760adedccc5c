"""The end of an epoch: one centre view of each val clip, and the best model so far kept."""

from __future__ import annotations

import math
from typing import Any

import torch

from k710.evaluation.scores import accuracies
from k710.evaluation.views_pass import Predictions, predict_views
from k710.loading.augment.augment import Augment
from k710.loading.clip_index import NO_CLASS
from k710.loading.dataset import ClipDataset
from k710.loading.loader import ClipLoader
from k710.random_key import RandomKey
from k710.train.objectives import Objective
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
    if epoch % run.recipe.validate.every_epochs and epoch != run.recipe.optim.epochs:
        return
    trained = None
    if saved.average is not None:
        trained = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        model.load_state_dict(saved.average.state_dict())
    run.process.share_buffers(model)
    scores: dict[str, float] = {}
    failed: dict[str, str] = {}
    objective = run.recipe.learns
    if run.val is not None and objective.needs_labels:
        found = _look(saved, run.val, stop)
        labelled = found.class_ids != NO_CLASS
        scores = accuracies(found.scores[labelled], found.class_ids[labelled])
        failed = found.failed
    elif run.val is not None:
        scores, failed = _losses(saved, run.val, stop)
    is_best = is_better(scores, progress.best, objective)
    if is_best:
        progress.best = {"epoch": epoch, "step": progress.step, **scores}
        saved.write_best()
    if run.process.is_first and scores:
        report.validation(progress.step, epoch, scores, is_best, failed)
    if trained is not None:
        model.load_state_dict(trained)


def is_better(scores: dict[str, float], best: dict[str, Any] | None, objective: Objective) -> bool:
    """Whether a validation beats the best so far, by the score that the objective names. One in which no clip could be
    read is worth nothing, but is the best where there is no other; without val clips, the newest is."""
    return best is None or not scores or _worth(scores, objective) > _worth(best, objective)


def _worth(scores: dict[str, Any], objective: Objective) -> float:
    worth = objective.worth(scores)
    return -math.inf if math.isnan(worth) else worth


def _losses(saved: Saved, val: ClipDataset, stop: StopRequest) -> tuple[dict[str, float], dict[str, str]]:
    """The mean loss and measures of the val clips' centre views, of all processes together; clips that failed."""
    run, model = saved.run, saved.model
    objective, recipe, process = run.recipe.learns, run.recipe, run.process
    loader = ClipLoader(
        val,
        batch_size=run.pieces.piece_size * process.world_size,
        device=process.device,
        num_workers=run.num_workers,
        augment=Augment(**recipe.family.crops(recipe.data.size_px)),
        share=process.share,
    )
    names, failed = list(objective.measures), dict[str, str]()
    sums = torch.zeros(2 + len(names), dtype=torch.float64, device=process.device)  # clips, losses, measures
    was_training = model.training
    model.eval()
    with torch.no_grad():
        for batch in loader:
            keys = [RandomKey(recipe.seed, 0, clip_id) for clip_id in batch.clip_ids]
            measured = objective.of_batch(model, batch, keys, recipe.optim)
            parts = [batch.weights, measured.losses, *(measured.measures[name] for name in names)]
            sums += torch.stack([part.double().sum() for part in parts])
            failed |= batch.errors
            if stop.asked:
                raise StoppedError(stop.name, saved.progress.step)
    model.train(was_training)
    num_clips, *totals = process.total(sums).tolist()
    together = {clip_id: why for part in process.gather(failed) for clip_id, why in part.items()}
    return dict(zip(("loss", *names), (total / (num_clips or math.nan) for total in totals), strict=True)), together


def _look(saved: Saved, val: ClipDataset, stop: StopRequest) -> Predictions:
    def go_on(done: int) -> None:
        if stop.asked:
            raise StoppedError(stop.name, saved.progress.step)

    run = saved.run
    return predict_views(
        saved.model,
        val,
        run.process,
        num_classes=len(run.head["labels"]),
        augment=Augment(**run.recipe.family.crops(run.recipe.data.size_px)),
        batch_size=run.pieces.piece_size,
        num_workers=run.num_workers,
        told=go_on,
    )
