"""The end of an epoch: one centre view of each val clip, and the best model so far kept."""

from __future__ import annotations

from k710.train.report import Report
from k710.train.saved import Saved
from k710.train.scores import accuracies
from k710.train.views_pass import predict_views


def validate(saved: Saved, report: Report) -> None:
    """Validate what the epochs so far came to (the average, where there is one), as released: one centre view of each
    clip in float32; the best by top-1 becomes best.pt. Without val clips, the newest model is best.pt."""
    run, model, progress = saved.run, saved.model, saved.progress
    epoch = progress.settled_epochs = saved.loader.epoch
    if epoch % run.recipe.validate_every_epochs and epoch != run.recipe.epochs:
        return
    run.process.share_buffers(model)
    trained = None
    if saved.average is not None:
        trained = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        model.load_state_dict(saved.average.state_dict())
    scores: dict[str, float] = {}
    if run.val is not None:
        found = predict_views(
            model,
            run.val,
            run.process,
            num_classes=model.config.num_classes,
            size_px=run.recipe.size_px,
            batch_size=run.pieces.piece_size,
            num_workers=run.num_workers,
        )
        scores = accuracies(found.scores, found.class_ids)
    is_best = progress.best is None or not scores or scores["top1"] > progress.best["top1"]
    if is_best:
        progress.best = {"epoch": epoch, "step": progress.step, **scores}
        saved.write_best()
    if run.process.is_first and scores:
        report.validation(progress.step, epoch, scores, is_best)
    if trained is not None:
        model.load_state_dict(trained)
