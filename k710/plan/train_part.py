"""The part of a plan that is about training and evaluation: steps, hours by number of GPUs, memory, cores, money."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from k710.engine.torch_process import pick_device
from k710.manifest.read import Manifest
from k710.models.families import num_parameters
from k710.plan.clock import num_cores
from k710.plan.fetch_part import Footage
from k710.plan.figures import COMPUTED, MANIFEST, RECIPE, Figure
from k710.plan.options import PlanOptions
from k710.plan.rates import rates_of
from k710.plan.rows import DeviceRow, row_of_cpu, row_of_gpus
from k710.plan.work import Work, work_of
from k710.train.memory import estimate_memory
from k710.train.recipe import TrainRecipe
from k710.train.run_folder import needed_bytes
from k710.train.start import config_of_recipe
from k710.train.step import cut

_KEPT_CHECKPOINTS = 2  # as `k710 train --keep` has it


@dataclass(frozen=True)
class TrainPart:
    """The figures of a training and an evaluation, those of one device, and a row for each number of GPUs."""

    figures: tuple[Figure, ...]
    rates: tuple[Figure, ...]
    rows: tuple[DeviceRow, ...]
    notes: tuple[str, ...]


def plan_training(manifest: Manifest, recipe: TrainRecipe, options: PlanOptions, footage: Footage | None) -> TrainPart:
    """What a training of the recipe on all clips of the manifest would take, and an evaluation of its model.

    `footage`: clips to measure the loading on. Raises UsageError for a view that the manifest lacks, for a batch that
    the clips do not fill or the GPUs do not divide, and for a device that is not there.
    """
    work = work_of(manifest, recipe, options)
    for num_gpus in options.gpus:
        cut(recipe.optim.batch_size, gpu_batch_size=recipe.optim.gpu_batch_size, world_size=num_gpus)
    device = _device(options)
    config = config_of_recipe(recipe, manifest.catalogue)
    with torch.device("meta"):
        run_bytes = needed_bytes(recipe.family.build(config), recipe, keep=_KEPT_CHECKPOINTS)
    memory = estimate_memory(
        recipe.family, config, precision=recipe.optim.precision, average=recipe.optim.ema_decay > 0
    )
    if device.type == "cuda" and options.gpu_memory_bytes is None:
        options = replace(options, gpu_memory_bytes=torch.cuda.get_device_properties(device).total_memory)
    rates = rates_of(recipe, config, options, footage, device, work)
    if options.gpus:
        rows = tuple(row_of_gpus(num_gpus, recipe, work, rates, options, memory) for num_gpus in options.gpus)
    elif device.type == "cuda":
        rows = (row_of_gpus(1, recipe, work, rates, options, memory),)
    else:
        rows = (row_of_cpu(recipe, work, rates, options, num_cores(), memory),)
    return TrainPart(
        (*_figures(recipe, config, work), Figure("run folder", run_bytes, "bytes", COMPUTED, "checkpoints at most")),
        rates.figures,
        rows,
        tuple(_notes(recipe, work)),
    )


def _device(options: PlanOptions) -> torch.device:
    """What is measured on: where GPUs are planned for, a GPU if there is one here."""
    if options.gpus and not torch.cuda.is_available():
        return torch.device("cpu")
    return pick_device(options.device)


def _figures(recipe: TrainRecipe, config: Any, work: Work) -> list[Figure]:
    parameters, cost = num_parameters(recipe.family, config), recipe.family.cost(config)
    clips, crops = work.views
    evaluation = Figure("views of an evaluation", work.num_views, "views", MANIFEST, f"{clips} clips x {crops} crops")
    return [
        Figure("train clips", work.num_train, "clips", MANIFEST, f"view {recipe.data.view}, as if all were there"),
        Figure("val clips", work.num_val, "clips", MANIFEST),
        Figure("samples", work.num_samples, "clips", RECIPE, f"{work.num_epochs} epochs"),
        Figure("steps", work.num_steps, "steps", RECIPE, f"of {recipe.optim.batch_size} clips"),
        Figure("validated clips", work.num_validations * work.num_val, "clips", RECIPE, "one view each, in float32"),
        *([evaluation] if work.num_views else []),
        Figure("parameters", parameters["total"], "parameters", COMPUTED, f"{parameters['trainable']:,} trained"),
        Figure("forward", sum(cost.forward.values()), "multiply-adds", COMPUTED, "a clip"),
        Figure("training", cost.training, "multiply-adds", COMPUTED, "a clip"),
    ]


def _notes(recipe: TrainRecipe, work: Work) -> list[str]:
    notes = []
    if not work.num_val:
        notes.append("the view has no val clips: nothing is validated and nothing evaluated")
    if recipe.family.head is None:
        notes.append("the model has no classes: nothing is evaluated")
    if recipe.chosen_objective.needs_teacher:
        notes.append("the teacher of a distillation is not in these numbers, unless your rate has it")
    return notes
