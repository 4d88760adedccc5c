"""What the model alone takes on this machine: a training step, and a forward pass, on clips of noise in memory."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from k710.engine.torch_process import Process
from k710.errors import UsageError
from k710.loading.batch import Batch
from k710.loading.order import Sample
from k710.plan.clock import Spent, spent
from k710.plan.measure_load import synchronize
from k710.train.memory import beside_clips
from k710.train.optimizer import Average, make_optimizer
from k710.train.recipe import TrainRecipe
from k710.train.start import config_of_recipe
from k710.train.step import Pieces, Stepper

# A piece on a CPU is measured with at most so many multiply-adds: some seconds of two cores.
_CPU_PIECE = 200e9
_MOST_STEPS = 60


@dataclass(frozen=True)
class StepCost:
    """Of a training step: `start` is what it takes beside its pieces (the optimiser), `sample` what each of its samples
    takes, measured with `piece_size` of them at once. `sample` includes `start` where only one step could be
    measured."""

    start: Spent
    sample: Spent
    piece_size: int


def made_up(recipe: TrainRecipe, device: torch.device, clips: int | None = None) -> Iterator[Batch]:
    """The same batch of noise for ever, on the device already; `clips` of them, or as many as the recipe takes at
    once."""
    size, px = clips or recipe.optim.gpu_batch_size, recipe.data.size_px
    pixels = torch.randn(size, 3, recipe.data.num_frames, px, px, device=device)
    classes = torch.zeros(size, dtype=torch.int64, device=device)
    names, samples = [f"noise-{number}" for number in range(size)], [Sample(number) for number in range(size)]
    while True:
        yield Batch(pixels, classes, torch.ones(size, device=device), names, samples, {})


def stepper_of(
    recipe: TrainRecipe,
    device: torch.device,
    *,
    compiled: bool = False,
    pieces: Pieces | None = None,
    config: Any = None,
) -> Stepper:
    """What takes the steps of a recipe, its model new, its batch one piece unless `pieces` says otherwise."""
    torch.manual_seed(0)
    model = recipe.family.build(config or config_of_recipe(recipe)).to(device).train()
    net: Any = torch.compile(model) if compiled else model
    optimizer = make_optimizer(model, recipe.family, recipe.optim)
    scaler = torch.amp.GradScaler(device.type, enabled=recipe.optim.precision == "fp16")
    return Stepper(
        net, model, optimizer, scaler, recipe, pieces or Pieces(recipe.optim.batch_size, 1, 1), Process(device)
    )


def timed(stepper: Stepper, batches: Iterator[Batch], steps: int, warmup: int) -> dict[str, float]:
    """Clips a second (median step), and the share of the time that was spent waiting for batches."""
    seconds, waited = [], 0.0
    for step in range(1, warmup + steps + 1):
        begin_s = time.perf_counter()
        taken = stepper(step, batches)
        synchronize(stepper.process.device)
        if step > warmup:
            seconds.append(time.perf_counter() - begin_s)
            waited += taken.waited_s
    clips = stepper.pieces.batch_size
    return {"clips_per_s": clips / statistics.median(seconds), "waiting": waited / sum(seconds)}


def measured_piece(recipe: TrainRecipe, config: Any, device: torch.device, piece_size: int) -> int:
    """How many clips at once a step is measured with: as many as a run takes, on a CPU fewer of a large model."""
    if device.type == "cuda":
        return piece_size
    return max(1, min(piece_size, int(_CPU_PIECE // recipe.family.cost(config).training)))


def measure_step(
    recipe: TrainRecipe, config: Any, device: torch.device, *, piece_size: int, measure_s: float
) -> StepCost:
    """Time steps of one piece and of two; what the second adds is a piece's. Where a step takes longer than
    `measure_s`, one more is all that is measured. Raises UsageError for an objective that needs a teacher."""
    if recipe.chosen_objective.needs_teacher:
        raise UsageError(
            f"objective {recipe.objective}: a step needs the answers of a teacher, and none is measured here; give the "
            "rate of a run: --gpu-rate"
        )
    stepper = stepper_of(recipe, device, pieces=Pieces(piece_size, 1, 1), config=config)
    average = Average(stepper.model, recipe.optim.ema_decay) if recipe.optim.ema_decay else None
    batches, count = made_up(recipe, device, piece_size), 0

    def step(num_pieces: int) -> Spent:
        nonlocal count
        count += 1
        stepper.pieces = Pieces(piece_size * num_pieces, 1, num_pieces)
        with spent() as found:
            stepper(count, batches)
            if average is not None:
                average.update(stepper.model, count)
            synchronize(device)
        return found

    first = step(1)
    if first.wall_s > measure_s:
        return StepCost(Spent(), step(1).each(piece_size), piece_size)
    one, two = _in_turns(lambda: step(1), lambda: step(2), measure_s)
    piece = Spent(_positive(two.wall_s - one.wall_s, two.wall_s), _positive(two.core_s - one.core_s, two.core_s))
    start = Spent(max(0.0, one.wall_s - piece.wall_s), max(0.0, one.core_s - piece.core_s))
    return StepCost(start, piece.each(piece_size), piece_size)


def _positive(difference: float, of_two: float) -> float:
    """What the second piece adds; half of both where noise hides it."""
    return difference if difference > 0 else of_two / 2


def _in_turns(one: Callable[[], Spent], two: Callable[[], Spent], measure_s: float) -> tuple[Spent, Spent]:
    """The medians of both, taken in turns for `measure_s` seconds."""
    ones: list[Spent] = []
    twos: list[Spent] = []
    begin_s = time.perf_counter()
    while not twos or (time.perf_counter() - begin_s < measure_s and len(twos) < _MOST_STEPS):
        ones.append(one())
        twos.append(two())
    return _median(ones), _median(twos)


def _median(taken: list[Spent]) -> Spent:
    return Spent(statistics.median(found.wall_s for found in taken), statistics.median(found.core_s for found in taken))


@torch.no_grad()
def measure_forward(
    recipe: TrainRecipe, config: Any, device: torch.device, *, num_views: int, measure_s: float
) -> Spent:
    """What a forward pass takes for one view, in float32, with `num_views` at once, as validation and evaluation take
    them."""
    torch.manual_seed(0)
    model = recipe.family.build(config).to(device).eval()
    clips = torch.randn(num_views, 3, config.num_frames, config.size_px, config.size_px, device=device)
    masks = beside_clips(recipe.family, model, num_views)

    def forward() -> Spent:
        with spent() as found:
            model(clips, *masks)
            synchronize(device)
        return found

    forward()  # makes buffers
    taken: list[Spent] = []
    begin_s = time.perf_counter()
    while not taken or (time.perf_counter() - begin_s < measure_s / 2 and len(taken) < _MOST_STEPS):
        taken.append(forward())
    return _median(taken).each(num_views)
