"""The training loop, from the first step to the last, or from where a run was stopped."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from k710.errors import TrainError
from k710.loading.augment import Augment
from k710.loading.dataset import ClipDataset
from k710.loading.loader import ClipLoader
from k710.loading.mix import Mix
from k710.models.uniformerv2 import UniFormerV2
from k710.storage import replacing
from k710.train import checkpoints
from k710.train.average import Average
from k710.train.memory import out_of_memory
from k710.train.optimizer import make_optimizer, set_learning_rate
from k710.train.pieces import Pieces
from k710.train.process import Process
from k710.train.recipe import TrainRecipe
from k710.train.report import Report, Step
from k710.train.schedule import learning_rate
from k710.train.scores import accuracies
from k710.train.step import Stepper, Taken
from k710.train.stop import StopRequest
from k710.train.views_pass import predict_views


@dataclass(frozen=True)
class Run:
    """A run that is about to begin: everything was checked (prepare.py), nothing was written but its folder.

    `head` is the record of the head (docs/heads.md); `facts` are those of run.json; `resumed` is the content of the
    checkpoint to go on from. `val` is None where the view has no val clips.
    """

    out: Path
    recipe: TrainRecipe
    model: UniFormerV2
    head: dict[str, Any]
    train: ClipDataset
    val: ClipDataset | None
    pieces: Pieces
    process: Process
    facts: dict[str, Any]
    resumed: dict[str, Any] | None = None
    num_workers: int = 0
    compiled: bool = False
    keep: int = 2
    save_every_s: float = 1800.0
    report_every: int = 20
    tensorboard: bool = False
    say: Callable[[str], None] = print


@dataclass
class Progress:
    """How far a run is, apart from its place in the order of clips: steps taken, epochs settled (validated or passed
    over), and the best validation."""

    step: int = 0
    settled_epochs: int = 0
    best: dict[str, Any] | None = None
    saved_at_s: float = field(default_factory=time.monotonic)

    def state_dict(self) -> dict[str, Any]:
        return {"step": self.step, "settled_epochs": self.settled_epochs, "best": self.best}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.step, self.settled_epochs, self.best = state["step"], state["settled_epochs"], state["best"]


def train(run: Run) -> Progress:
    """Train. Raises TrainError where the loss is no number, where a GPU has no room, and where a checkpoint cannot be
    written; Stopped where a signal asked for it, once everything is saved."""
    recipe, process = run.recipe, run.process
    torch.manual_seed(recipe.seed)
    model = run.model.to(process.device).train()
    average = Average(model, recipe.ema_decay) if recipe.ema_decay else None
    optimizer = make_optimizer(model, recipe)
    scaler = torch.amp.GradScaler(process.device.type, enabled=recipe.precision == "fp16")
    loader = train_loader(run)
    progress = Progress()
    saved = Saved(run, model, average, optimizer, scaler, loader, progress)
    if run.resumed is not None:
        saved.restore(run.resumed)
    net = called_model(model, run)
    stepper = Stepper(net, model, optimizer, scaler, recipe, run.pieces, process)
    steps_per_epoch = loader_steps(run)
    report = Report(run.out, recipe.epochs * steps_per_epoch, run.report_every, run.tensorboard, run.say)
    if process.is_first:
        report.open(after_step=progress.step)
    pending: deque[Pending] = deque()

    with StopRequest() as stop:
        while True:
            if loader.epoch > progress.settled_epochs:
                settle(run, pending, report)
                validate(run, model, average, loader.epoch, progress, report)
                saved.write()
            if loader.epoch == recipe.epochs:
                break
            epoch, batches = loader.epoch, iter(loader)
            for _ in range(len(loader) // run.pieces.num_pieces):
                begin_s = time.perf_counter()
                place = progress.step % steps_per_epoch
                rate = learning_rate(recipe, epoch + place / steps_per_epoch)
                set_learning_rate(optimizer, rate)
                taken = take(stepper, progress.step + 1, batches, run)
                progress.step += 1
                if average is not None:
                    average.update(model, progress.step)
                consumed = (place + 1) * recipe.batch_size
                pending.append(Pending(taken, progress.step, epoch, consumed, rate, begin_s))
                # One step late, so that the GPU is not waited for after each of them.
                settle(run, pending, report, leave=1)
                due = process.is_first and time.monotonic() - progress.saved_at_s > run.save_every_s
                asked, due = process.agree(stop.asked, due)
                if asked or due:
                    settle(run, pending, report)
                    saved.write()
                if asked:
                    report.close()
                    raise Stopped(stop.name or "another process's signal", progress.step)
            next(batches, None)  # lets the loader end its epoch
    report.close()
    return progress


class Stopped(TrainError):
    """A run that was asked to stop: its state is saved. The exit code is that of a process ended by SIGTERM, by which a
    scheduler knows that it was its own doing."""

    exit_code = 143

    def __init__(self, name: str, step: int) -> None:
        super().__init__(f"stopped by {name} after step {step:,}; everything is saved, --resume goes on from there")


def train_loader(run: Run) -> ClipLoader:
    """Batches as the recipe has them: augmented, mixed, in an order that resumes."""
    recipe = run.recipe
    settings = Augment(
        crop_px=recipe.size_px,
        area=(recipe.min_area, recipe.max_area),
        aspect=(recipe.min_aspect, recipe.max_aspect),
        flip_prob=recipe.flip_prob,
        randaugment=recipe.randaugment,
        color_jitter=recipe.color_jitter,
        erase_prob=recipe.erase_prob,
        order=recipe.augment_order,
    )
    mixes = recipe.mixup_alpha or recipe.cutmix_alpha
    return run.train.loader(
        batch_size=recipe.batch_size,
        device=run.process.device,
        num_workers=run.num_workers,
        augment=settings,
        mix=Mix(recipe.mixup_alpha, recipe.cutmix_alpha) if mixes else None,
        share=run.process.share,
        num_repeats=recipe.num_repeats,
        num_pieces=run.pieces.num_pieces,
    )


def loader_steps(run: Run) -> int:
    """Steps of an epoch; the incomplete last batch is dropped."""
    return len(run.train) * run.recipe.num_repeats // run.recipe.batch_size


def called_model(model: UniFormerV2, run: Run) -> nn.Module:
    """The model as the loop calls it: compiled where asked, and with gradients averaged over processes."""
    net = cast(nn.Module, torch.compile(model)) if run.compiled else model
    if run.process.world_size == 1:
        return net
    ids = [run.process.device.index] if run.process.device.type == "cuda" else None
    return nn.parallel.DistributedDataParallel(net, device_ids=ids, gradient_as_bucket_view=True)


def take(stepper: Stepper, step: int, batches: Any, run: Run) -> Taken:
    """One step. Raises TrainError where the GPU has no room for it, with what it has room for."""
    try:
        return stepper(step, batches)
    except torch.OutOfMemoryError:
        pass  # left first, so that what the traceback holds is free again
    raise out_of_memory(run.model, run.model.config, run.process.device, run.pieces.piece_size)


@dataclass(frozen=True)
class Pending:
    """A step whose numbers nobody has read yet."""

    taken: Taken
    step: int
    epoch: int
    consumed: int
    lr: float
    begin_s: float


def settle(run: Run, pending: deque[Pending], report: Report, *, leave: int = 0) -> None:
    """Read and report the steps that are pending, but for the newest `leave`. Raises TrainError for a loss or a norm of
    the gradients that is no number; nothing has been saved since that step."""
    while len(pending) > leave:
        one = pending.popleft()
        loss, accuracy = one.taken.sums.tolist()
        grad_norm = float(one.taken.grad_norm)
        # A scaler finds infinite gradients by itself, and makes the step again with less scale.
        diverged = loss != loss or abs(loss) == float("inf")
        diverged |= run.recipe.precision != "fp16" and not abs(grad_norm) < float("inf")
        if diverged:
            raise _no_number(run, one, loss, grad_norm)
        if run.process.is_first:
            now_s = time.perf_counter()
            clips = run.recipe.batch_size
            report.step(
                Step(
                    one.step, one.epoch, one.consumed, loss, accuracy, one.lr, grad_norm, clips, now_s - one.begin_s,
                    one.taken.waited_s,
                )
            )  # fmt: skip


def _no_number(run: Run, one: Pending, loss: float, grad_norm: float) -> TrainError:
    """Write down the clips of the batch, each with its loss, and say where."""
    mine = [
        {"clip_id": clip_id, "loss": repr(value)}
        for ids, losses in zip(one.taken.clip_ids, one.taken.losses, strict=True)
        for clip_id, value in zip(ids, losses.tolist(), strict=True)
    ]
    clips = [clip for part in run.process.gather(mine) for clip in part]
    path = run.out / f"diverged-step-{one.step}.json"
    if run.process.is_first:
        content = {"step": one.step, "loss": repr(loss), "grad_norm": repr(grad_norm), "lr": one.lr, "clips": clips}
        with replacing(path) as file:
            file.write((json.dumps(content, indent=1) + "\n").encode())
    return TrainError(
        f"step {one.step}: the loss is {loss}, the norm of its gradients {grad_norm}; the {len(clips)} clips of the "
        f"batch stand in {path}. The checkpoint before it is sound: look at those clips, lower lr, or --resume"
    )


def validate(
    run: Run, model: UniFormerV2, average: Average | None, epoch: int, progress: Progress, report: Report
) -> None:
    """After `epoch` epochs: one centre view of each val clip, as released; the best by top-1 becomes best.pt."""
    progress.settled_epochs = epoch
    last = epoch == run.recipe.epochs
    if epoch % run.recipe.validate_every_epochs and not last:
        return
    trained = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()} if average else None
    if average is not None:
        model.load_state_dict(average.state_dict())
    scores: dict[str, float] = {}
    if run.val is not None:
        found = predict_views(
            model, run.val, run.process, num_classes=model.config.num_classes, size_px=run.recipe.size_px,
            batch_size=run.pieces.piece_size, num_workers=run.num_workers,
        )  # fmt: skip
        scores = accuracies(found.scores, found.class_ids)
    # Without val clips, the newest is the best that can be said.
    is_best = progress.best is None or not scores or scores["top1"] > progress.best["top1"]
    if is_best:
        progress.best = {"epoch": epoch, "step": progress.step, **scores}
        if run.process.is_first:
            checkpoints.write_checkpoint(run.out / checkpoints.BEST, for_use(run, model, progress))
    if run.process.is_first and scores:
        report.validation(progress.step, epoch, scores, is_best)
    if trained is not None:
        model.load_state_dict(trained)


def for_use(run: Run, model: UniFormerV2, progress: Progress) -> dict[str, Any]:
    """A checkpoint for evaluation and finetuning: weights, head, and where they come from."""
    return {
        "model": dict(model.state_dict()),
        "head": run.head,
        "recipe": run.facts["recipe"],
        "run": run.facts,
        "step": progress.step,
        "validation": progress.best,
    }


@dataclass
class Saved:
    """Everything that a resume needs, to a checkpoint and back."""

    run: Run
    model: UniFormerV2
    average: Average | None
    optimizer: torch.optim.Optimizer
    scaler: Any
    loader: ClipLoader
    progress: Progress

    def write(self) -> None:
        """Save; the first process writes, all wait for it, so that none is ahead of what is saved."""
        if self.run.process.is_first:
            content = {
                **for_use(self.run, self.model, self.progress),
                "optimizer": self.optimizer.state_dict(),
                "scaler": self.scaler.state_dict(),
                "average": self.average.state_dict() if self.average else None,
                "position": self.loader.state_dict(),
                "progress": self.progress.state_dict(),
            }
            checkpoints.write_step(self.run.out, self.progress.step, content, keep=self.run.keep)
        self.run.process.wait()
        self.progress.saved_at_s = time.monotonic()

    def restore(self, content: dict[str, Any]) -> None:
        """Go to a saved state. What belongs to the order of clips and to dropout is a function of the position."""
        self.model.load_state_dict(content["model"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.scaler.load_state_dict(content["scaler"])
        if self.average is not None:
            self.average.load_state_dict(content["average"])
        self.loader.load_state_dict(content["position"])
        self.progress.load_state_dict(content["progress"])
