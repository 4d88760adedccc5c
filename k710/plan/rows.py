"""The rows of a plan: what training, validation and evaluation take on so many GPUs, or on this CPU."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from k710.plan.clock import Spent
from k710.plan.hours import PerSample, cores_to_feed, cpu_time, gpu_equivalents, gpus_time_s
from k710.plan.options import PlanOptions
from k710.plan.rates import Rates
from k710.plan.work import Work
from k710.train.memory import MemoryEstimate
from k710.train.recipe import TrainRecipe
from k710.train.step import cut

CUDA_BYTES = 2 << 30  # what CUDA itself takes of a GPU, at most


@dataclass(frozen=True)
class DeviceRow:
    """On `num_devices` devices: seconds of training without validation, of all validations, and of an evaluation; None
    where a rate is unknown.

    `cores` load fast enough that no device waits. `device_hours` are those of training and validation, all devices
    together; `core_s` is the time of the cores, known of a CPU. `money` is that of training and validation, at the
    user's price. `memory_bytes` is that of one device with `piece_size` clips at once, and `fits` whether it has so
    much, if that is known; `fitting` is how many clips at once would fit.
    """

    num_devices: int
    device: str
    piece_size: int
    train_s: float | None
    validate_s: float | None
    eval_s: float | None
    clips_per_s: float | None
    cores: float | None
    device_hours: float | None
    core_s: dict[str, float] | None
    memory_bytes: int
    fits: bool | None
    fitting: int | None
    money: float | None
    waits_for_data: bool | None

    @property
    def time_s(self) -> float | None:
        """Training with its validations."""
        return None if self.train_s is None or self.validate_s is None else self.train_s + self.validate_s

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"time_s": self.time_s}


def row_of_gpus(
    num_gpus: int, recipe: TrainRecipe, work: Work, rates: Rates, options: PlanOptions, memory: MemoryEstimate
) -> DeviceRow:
    """What so many GPUs take; what one takes for a sample is taken to hold for any number at once."""
    efficiency = 1.0 if options.efficiency is None else options.efficiency
    pieces = cut(recipe.optim.batch_size, gpu_batch_size=recipe.optim.gpu_batch_size, world_size=num_gpus)
    cores = None if options.cores_per_gpu is None else options.cores_per_gpu * num_gpus
    shared: dict[str, Any] = {"num_gpus": num_gpus, "efficiency": efficiency, "cores": cores}

    def time_of(num_samples: float, each: Spent | None, load_s: float | None) -> float | None:
        if each is None:
            return None
        return gpus_time_s(num_samples, each.wall_s, load_core_s=load_s, **shared)

    step_start_s = work.num_steps * rates.step_start.wall_s
    train_s = time_of(work.num_samples, rates.train_s, rates.load_train_s)
    train_s = None if train_s is None else train_s + step_start_s + rates.start.wall_s
    validate_s = time_of(work.num_validations * work.num_val, rates.validate_s, rates.load_validate_s)
    eval_s = time_of(work.num_views, rates.eval_s, rates.load_eval_s)
    hours = None if train_s is None or validate_s is None else num_gpus * (train_s + validate_s) / 3600
    needed = waits = None
    if rates.train_s is not None and rates.load_train_s is not None:
        needed = cores_to_feed(
            rates.train_s.wall_s, num_gpus=num_gpus, efficiency=efficiency, load_core_s=rates.load_train_s
        )
        waits = None if cores is None else needed > cores
    price = options.prices.gpu_hour
    memory_bytes, room = memory.of(pieces.piece_size), options.gpu_memory_bytes
    return DeviceRow(
        num_devices=num_gpus,
        device="GPU",
        piece_size=pieces.piece_size,
        train_s=train_s,
        validate_s=validate_s,
        eval_s=eval_s if work.num_views else None,
        clips_per_s=None if rates.train_s is None else gpu_equivalents(num_gpus, efficiency) / rates.train_s.wall_s,
        cores=needed,
        device_hours=hours,
        core_s=None,
        memory_bytes=memory_bytes,
        fits=None if room is None else memory_bytes + CUDA_BYTES <= room,
        fitting=None if room is None else max(0, int((room - CUDA_BYTES - memory.model_bytes) // memory.clip_bytes)),
        money=None if price is None or hours is None else price * hours,
        waits_for_data=waits,
    )


def row_of_cpu(
    recipe: TrainRecipe, work: Work, rates: Rates, options: PlanOptions, cores: int, memory: MemoryEstimate
) -> DeviceRow:
    """What one process on this CPU takes."""
    pieces = cut(recipe.optim.batch_size, gpu_batch_size=recipe.optim.gpu_batch_size, world_size=1)

    def time_of(num_samples: float, each: Spent | None, load_s: float | None, workers: int) -> Spent | None:
        return None if each is None else cpu_time(num_samples, PerSample(each, load_s), workers=workers, cores=cores)

    train = time_of(work.num_samples, rates.train_s, rates.load_train_s, options.workers)
    validate = time_of(work.num_validations * work.num_val, rates.validate_s, rates.load_validate_s, options.workers)
    evaluation = time_of(work.num_views, rates.eval_s, rates.load_eval_s, 0) if work.num_views else None
    core_s = None
    if train is not None and validate is not None:
        start = rates.step_start
        train = Spent(
            train.wall_s + work.num_steps * start.wall_s + rates.start.wall_s,
            train.core_s + work.num_steps * start.core_s + rates.start.core_s,
        )
        core_s = {"train": train.core_s, "validate": validate.core_s}
    if evaluation is not None:
        evaluation = Spent(evaluation.wall_s + rates.start.wall_s, evaluation.core_s + rates.start.core_s)
        core_s = (core_s or {}) | {"eval": evaluation.core_s}
    hours = None if train is None or validate is None else (train.wall_s + validate.wall_s) / 3600
    price = options.prices.core_hour
    money = None if price is None or core_s is None else price * (core_s["train"] + core_s["validate"]) / 3600
    return DeviceRow(
        num_devices=1,
        device="CPU",
        piece_size=pieces.piece_size,
        train_s=None if train is None else train.wall_s,
        validate_s=None if validate is None else validate.wall_s,
        eval_s=None if evaluation is None else evaluation.wall_s,
        clips_per_s=None if train is None else work.num_samples / train.wall_s,
        cores=None,
        device_hours=hours,
        core_s=core_s,
        memory_bytes=memory.of(pieces.piece_size),
        fits=None,
        fitting=None,
        money=money,
        waits_for_data=None,
    )
