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
from k710.loading.mixed_dataset import MixedDataset
from k710.random_key import RandomKey
from k710.train.objectives import Objective
from k710.train.run_log import RunLog
from k710.train.saved import Saved
from k710.train.stop import StoppedError, StopRequest


def validate(saved: Saved, log: RunLog, stop: StopRequest) -> None:
    """Validate the model (the average of its weights, where there is one) as released: one centre view of each clip, in
    float32. The best model, by top-1 or the objective's loss, becomes best.pt; without val clips, the newest does.

    Raises StoppedError where `stop` is asked for meanwhile, so the model must have been saved before.
    """
    run, model, progress = saved.run, saved.model, saved.progress
    epoch = progress.settled_epochs = saved.num_epochs
    if epoch % run.recipe.validate.every_epochs and epoch != run.num_epochs:
        return
    trained = None
    if saved.average is not None:
        trained = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        model.load_state_dict(saved.average.state_dict())
    run.process.share_buffers(model)
    scores: dict[str, float] = {}
    failed: dict[str, str] = {}
    objective = run.recipe.chosen_objective
    if isinstance(run.val, ClipDataset) and objective.needs_labels:
        found = _predict(saved, run.val, stop)
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
        log.validation(progress.step, epoch, scores, is_best, failed)
    if trained is not None:
        model.load_state_dict(trained)


def is_better(scores: dict[str, float], best: dict[str, Any] | None, objective: Objective) -> bool:
    """Whether a validation beats the best so far, by the score that the objective names. A validation without a score,
    since no clip could be read, beats none; the first one is the best. Without val clips, the newest is the best."""
    return best is None or not scores or _rank(scores, objective) > _rank(best, objective)


def _rank(scores: dict[str, Any], objective: Objective) -> float:
    rank = objective.rank(scores)
    return -math.inf if math.isnan(rank) else rank


def _losses(
    saved: Saved, val: ClipDataset | MixedDataset, stop: StopRequest
) -> tuple[dict[str, float], dict[str, str]]:
    """The mean loss and measures of the val clips' centre views, over all processes; and the clips that failed."""
    run, model = saved.run, saved.model
    objective, recipe, process = run.recipe.chosen_objective, run.recipe, run.process
    loader = ClipLoader(
        val,
        batch_size=run.pieces.piece_size * process.world_size,
        device=process.device,
        num_workers=run.options.num_workers,
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
            measured = objective.measure(model, batch, keys, recipe.optim)
            parts = [batch.weights, measured.losses, *(measured.measures[name] for name in names)]
            sums += torch.stack([part.double().sum() for part in parts])
            failed |= batch.errors
            if stop.asked:
                raise StoppedError(stop.name, saved.progress.step)
    model.train(was_training)
    num_clips, *totals = process.total(sums).tolist()
    all_failed = {clip_id: reason for part in process.gather(failed) for clip_id, reason in part.items()}
    means = (total / (num_clips or math.nan) for total in totals)
    return dict(zip(("loss", *names), means, strict=True)), all_failed


def _predict(saved: Saved, val: ClipDataset, stop: StopRequest) -> Predictions:
    def check_stop(done: int) -> None:
        if stop.asked:
            raise StoppedError(stop.name, saved.progress.step)

    run = saved.run
    assert run.head is not None, "what needs labels has classes"
    return predict_views(
        saved.model,
        val,
        run.process,
        num_classes=len(run.head["labels"]),
        augment=Augment(**run.recipe.family.crops(run.recipe.data.size_px)),
        batch_size=run.pieces.piece_size,
        num_workers=run.options.num_workers,
        on_progress=check_stop,
        features=run.features.get("val"),
    )
