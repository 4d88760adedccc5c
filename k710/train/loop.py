"""The training loop, from the first step or from where a run was stopped, to the last step."""

from __future__ import annotations

import time
from typing import Any, cast

import torch
from torch import nn

from k710.train.memory import out_of_memory
from k710.train.optimizer import Average, learning_rate, make_optimizer, set_learning_rate
from k710.train.outcomes import Outcomes, UnreadStep
from k710.train.run import Progress, Run
from k710.train.run_folder import NEW
from k710.train.run_log import RunLog
from k710.train.saved import Saved
from k710.train.step import Stepper, StepResult
from k710.train.stop import StoppedError, StopRequest
from k710.train.validate import validate


def train(run: Run) -> Progress:
    """Train, from the start or from `run.resumed`.

    Raises TrainError where a loss is NaN or infinite, a GPU has no room or a checkpoint cannot be written, LoadError
    where clips cannot be read, and StoppedError where a signal asked for it.
    """
    recipe, process = run.recipe, run.process
    model = run.model.to(process.device).train()
    average = Average(model, recipe.optim.ema_decay) if recipe.optim.ema_decay else None
    optimizer = make_optimizer(model, recipe.family, recipe.optim, run.facts["start"].get(NEW, ()))
    scaler = torch.amp.GradScaler(process.device.type, enabled=recipe.optim.precision == "fp16")
    loader, progress = run.train_loader(), Progress()
    saved = Saved(run, model, average, optimizer, scaler, loader, progress)
    if run.resumed is not None:
        saved.restore(run.resumed)
    stepper = Stepper(_called(model, run), model, optimizer, scaler, recipe, run.pieces, process, run.teacher)
    num_steps, measures = run.num_steps, recipe.chosen_objective.measures
    log = RunLog(run.out, num_steps, measures, run.options.report_every, run.options.tensorboard, run.say)
    outcomes = Outcomes(run, log)

    with run.alone(), StopRequest() as stop, log.opened(progress, here=process.is_first):
        while True:
            if saved.num_epochs > progress.settled_epochs:
                saved.write()  # a validation is long; a stop that is asked for meanwhile should not wait for it
                validate(saved, log, stop)
                saved.write()
            if progress.step == num_steps:
                return progress
            epoch, batches = loader.epoch, iter(loader)
            for _ in range(min(len(loader) // run.pieces.num_pieces, num_steps - progress.step)):
                begin_s = time.perf_counter()
                place = progress.step % run.steps_per_epoch
                position = epoch + place / run.steps_per_epoch
                rate = learning_rate(recipe.optim, position, run.steps_per_epoch, epochs=run.length_epochs)
                set_learning_rate(optimizer, rate)
                result = _take(stepper, progress.step + 1, batches, run)
                progress.step += 1
                if average is not None:
                    average.update(model, progress.step)
                consumed = (place + 1) * recipe.optim.batch_size
                outcomes.add(UnreadStep(result, progress.step, epoch, consumed, rate, begin_s))
                outcomes.settle(leave=1)
                due = process.is_first and time.monotonic() - progress.saved_at_s > run.options.save_every_s
                asked, due = process.agree(stop.asked, due)
                if asked or due:
                    outcomes.settle_all(epoch, progress.step)
                    saved.write()
                if asked:
                    raise StoppedError(stop.name, progress.step)
            if progress.step % run.steps_per_epoch == 0:
                next(batches, None)  # lets the loader end its epoch
            outcomes.settle_all(epoch, progress.step)


def _called(model: nn.Module, run: Run) -> nn.Module:
    """The model as the loop calls it: compiled where asked, its gradients averaged over the processes."""
    net = cast(nn.Module, torch.compile(model)) if run.options.compiled else model
    if run.process.world_size == 1:
        return net
    ids = [run.process.device.index] if run.process.device.type == "cuda" else None
    with run.process.others():
        return nn.parallel.DistributedDataParallel(net, device_ids=ids, gradient_as_bucket_view=True)


def _take(stepper: Stepper, step: int, batches: Any, run: Run) -> StepResult:
    """One step. Raises TrainError where the GPU has no room for it; the message says how many clips would fit."""
    try:
        with run.process.others():
            return stepper(step, batches)
    except torch.OutOfMemoryError:
        pass  # handled below: here the traceback still holds tensors of the step
    stepper.optimizer.zero_grad(set_to_none=True)
    raise out_of_memory(
        run.recipe.family,
        run.model,
        stepper.optimizer,
        run.process.device,
        run.pieces.piece_size,
        run.recipe.optim.precision,
        kept=bool(run.features),
    )
