"""How fast one device is and one core loads: stated, from multiply-adds, or measured; and which of them it was."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from k710.errors import LoadError, UsageError
from k710.loading.augment.augment import Augment
from k710.loading.clip_source import Media
from k710.loading.dataset import ClipDataset
from k710.loading.finish import Finish
from k710.loading.load_clip import ClipOptions
from k710.plan.clock import Spent, process_start
from k710.plan.fetch_part import Footage
from k710.plan.figures import ASSUMED, MEASURED, STATED, Figure, unknown
from k710.plan.measure_load import LoadCost, added, measure_load
from k710.plan.measure_step import StepCost, measure_forward, measure_step, measured_piece
from k710.plan.options import PlanOptions
from k710.plan.work import Work
from k710.text import counted
from k710.train.recipe import TrainRecipe, augment_of, fixed_views, mix_of
from k710.train.step import cut

_EVAL_VIEWS = 8  # at once, as `k710 eval --batch-size` has it
_LOADED_AT_ONCE = 16
_SETTLED = "--gpu-rate states it, --gpu-tflops what a GPU sustains; on a machine with the GPU it is measured"


@dataclass(frozen=True)
class Rates:
    """What one device takes for a sample of training, for a clip of a validation and for a view of an evaluation
    (`Spent`; None: unknown), beside its share of `step_start`, which each step takes once; and the core-seconds of
    loading each. `start` is that of a process."""

    train_s: Spent | None
    validate_s: Spent | None
    eval_s: Spent | None
    step_start: Spent
    load_train_s: float | None
    load_validate_s: float | None
    load_eval_s: float | None
    start: Spent
    figures: tuple[Figure, ...]


def rates_of(
    recipe: TrainRecipe, config: Any, options: PlanOptions, footage: Footage | None, device: torch.device, work: Work
) -> Rates:
    """The rates of a device: what is stated wins over what could be measured. Measured is on `device`, unless GPUs are
    planned for and it is none."""
    cost = recipe.family.cost(config)
    figures: list[Figure] = []
    loads = _loads(recipe, options, footage, device, work, figures) if options.measures else {}
    start, step_start = Spent(), Spent()
    train_s = validate_s = eval_s = None
    share = sum(cost.forward.values()) / cost.training
    if options.gpu_rate is not None:
        train_s = _exactly(1 / options.gpu_rate)
        figures.append(Figure("a GPU trains", options.gpu_rate, "clips/s", STATED))
    elif options.gpu_flops is not None:
        train_s = _exactly(2 * cost.training / options.gpu_flops)
        note = f"from {options.gpu_flops / 1e12:g} TFLOP/s that you state, and the multiply-adds"
        figures.append(Figure("a GPU trains", 1 / train_s.wall_s, "clips/s", ASSUMED, note))
    elif not options.measures or (options.gpus and device.type != "cuda"):
        settled = _SETTLED if options.gpus else "leave --no-measure out, and a few steps are taken here"
        figures.append(unknown("a GPU trains" if options.gpus else "a step", "clips/s", settled))
    else:
        measured = _measured(recipe, config, options, device, figures)
        step_start, train_s, validate_s = measured
        if (load := loads.get("train")) is not None:
            train_s = added(train_s, _on_quiet_cpu(load.finish, device))
            figures.append(Figure("augmenting a sample", load.finish.wall_s, "s", MEASURED, _name(device)))
        start = process_start("k710.train.loop, k710.train.prepare")
        figures.append(Figure("start of a process", start.wall_s, "s", MEASURED, "Python and PyTorch"))
        eval_s = validate_s
        if (load := loads.get("eval")) is not None:
            validate_s = eval_s = added(validate_s, _on_quiet_cpu(load.finish, device))
    if train_s is not None and validate_s is None:
        validate_s = eval_s = _forward(train_s.wall_s * share, options, figures)
    elif options.eval_rate is not None:
        validate_s = eval_s = _forward(0.0, options, figures)
    load_s = {name: load.load_core_s for name, load in loads.items()}
    return Rates(
        train_s,
        validate_s,
        eval_s,
        step_start,
        load_s.get("train"),
        load_s.get("validate"),
        load_s.get("eval"),
        start,
        tuple(figures),
    )


def _forward(from_training_s: float, options: PlanOptions, figures: list[Figure]) -> Spent:
    """A view's forward pass: as stated, else by its share of a step's multiply-adds."""
    if options.eval_rate is not None:
        figures.append(Figure("a GPU evaluates", options.eval_rate, "views/s", STATED))
        return _exactly(1 / options.eval_rate)
    note = "by its multiply-adds, at the rate of training; float32 may be slower: --eval-rate"
    figures.append(Figure("a GPU evaluates", 1 / from_training_s, "views/s", ASSUMED, note))
    return _exactly(from_training_s)


def _exactly(wall_s: float) -> Spent:
    return Spent(wall_s, 0.0)


def _measured(
    recipe: TrainRecipe,
    config: Any,
    options: PlanOptions,
    device: torch.device,
    figures: list[Figure],
) -> tuple[Spent, Spent, Spent]:
    """Start of a step, a sample of training, a forward pass of a view; without loading and augmentation."""
    pieces = cut(recipe.optim.batch_size, gpu_batch_size=recipe.optim.gpu_batch_size, world_size=1)
    piece_size = measured_piece(recipe, config, device, pieces.piece_size)
    step = measure_step(recipe, config, device, piece_size=piece_size, measure_s=options.measure_s)
    views = min(_EVAL_VIEWS, max(1, piece_size))
    forward = measure_forward(recipe, config, device, num_views=views, measure_s=options.measure_s)
    note = f"{_name(device)}, {counted(piece_size, 'clip')} at once"
    if device.type == "cpu":
        note += f", {counted(torch.get_num_threads(), 'thread')}"
    if piece_size < pieces.piece_size:
        note += f"; a run takes {pieces.piece_size}"
    sample = _on_quiet_cpu(step.sample, device)
    figures.append(Figure("a sample of a step", sample.wall_s, "s", MEASURED, note))
    figures.append(Figure("the rest of a step", _start(step, device).wall_s, "s", MEASURED, "the optimiser"))
    quiet = _on_quiet_cpu(forward, device)
    figures.append(Figure("a forward pass", quiet.wall_s, "s", MEASURED, "of one view, in float32"))
    return _start(step, device), sample, quiet


def _start(step: StepCost, device: torch.device) -> Spent:
    return _on_quiet_cpu(step.start, device)


def _on_quiet_cpu(found: Spent, device: torch.device) -> Spent:
    """On one thread of a CPU the time of the core is what the clock shows on an idle machine; what else runs there does
    not count."""
    if device.type == "cpu" and torch.get_num_threads() == 1:
        return Spent(found.core_s, found.core_s)
    return found


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "this CPU"


def _loads(
    recipe: TrainRecipe,
    options: PlanOptions,
    footage: Footage | None,
    device: torch.device,
    work: Work,
    figures: list[Figure],
) -> dict[str, LoadCost]:
    """What loading takes: `train`, `validate` (one view of a clip) and `eval` (all views of a clip, decoded once)."""
    if footage is None:
        figures.append(unknown("loading a sample", "s", "no clip is there and none was encoded to measure it on"))
        return {}
    found = {}
    sampling = recipe.sampling.options()
    of_train = ClipOptions(
        num_frames=recipe.data.num_frames, on_error="zero_weight", seed=recipe.seed, **sampling, **fixed_views(recipe)
    )
    augment, mix = augment_of(recipe), mix_of(recipe)
    if (dataset := _dataset(recipe, options, footage, of_train, training=True)) is not None:
        repeats = recipe.data.num_repeats
        size = max(1, min(_LOADED_AT_ONCE, len(dataset) * repeats) // repeats) * repeats
        finish = Finish(augment, mix, dataset.draws_frames, len(dataset.labels), torch.float32)
        found["train"] = measure_load(
            dataset, finish, device, batch_size=size, num_repeats=repeats, measure_s=options.measure_s
        )
    crops = Augment(**recipe.family.crops(recipe.data.size_px))
    for name, views in (("validate", (1, 1)), ("eval", work.views)):
        of_views = ClipOptions(
            num_frames=recipe.data.num_frames,
            num_clips=views[0],
            num_crops=views[1],
            on_error="zero_weight",
            **sampling,
        )
        if (dataset := _dataset(recipe, options, footage, of_views, training=False)) is None:
            continue
        finish = Finish(crops, None, False, len(dataset.labels), torch.float32)
        found[name] = measure_load(
            dataset, finish, device, batch_size=_EVAL_VIEWS, num_repeats=1, measure_s=options.measure_s / 2
        )
    if not found:
        figures.append(unknown("loading a sample", "s", f"of {footage.title} none is of view {recipe.data.view}"))
    for name, title in (("train", "loading a sample"), ("eval", "loading a view")):
        if name in found:
            figures.append(Figure(title, found[name].load_core_s, "s", MEASURED, f"of one core; {footage.title}"))
    return found


def _dataset(
    recipe: TrainRecipe, options: PlanOptions, footage: Footage, chosen: ClipOptions, *, training: bool
) -> ClipDataset | None:
    """Clips of the footage, of the split that is wanted where it has some; None where it has none of the view."""
    media = Media(footage.store, options.profile.folder)
    for split in ("train", "val") if training else ("val", "train"):
        try:
            return media.dataset(
                footage.manifest, chosen, view=footage.view or recipe.data.view, split=split, training=training,
                needs_labels=False,
            )  # fmt: skip
        except (LoadError, UsageError):
            continue
    return None
