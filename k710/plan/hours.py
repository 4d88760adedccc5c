"""How long many samples take, from what one takes: the arithmetic of a plan. Nothing here measures."""

from __future__ import annotations

from dataclasses import dataclass

from k710.plan.clock import Spent


@dataclass(frozen=True)
class PerSample:
    """What one sample, or one view, takes: `device` the model and the augmentation, `load_core_s` core-seconds of a
    loader."""

    device: Spent
    load_core_s: float | None


def gpu_equivalents(num_gpus: int, efficiency: float) -> float:
    """To how many times one GPU so many come: each beyond the first adds `efficiency` of one. So more are never
    slower."""
    return 1 + (num_gpus - 1) * efficiency


def gpus_time_s(
    num_samples: float,
    sample_s: float,
    *,
    num_gpus: int,
    efficiency: float,
    load_core_s: float | None,
    cores: int | None,
) -> float:
    """Seconds of `num_samples` on GPUs. Where `cores` are given in all, their loaders may be what decides."""
    device_s = num_samples * sample_s / gpu_equivalents(num_gpus, efficiency)
    if cores is None or load_core_s is None:
        return device_s
    return max(device_s, num_samples * load_core_s / cores)


def cores_to_feed(sample_s: float, *, num_gpus: int, efficiency: float, load_core_s: float) -> float:
    """How many cores must load, so that GPUs which take `sample_s` for a sample do not wait."""
    return gpu_equivalents(num_gpus, efficiency) / sample_s * load_core_s


def cpu_time(num_samples: float, sample: PerSample, *, workers: int, cores: int) -> Spent:
    """What `num_samples` take on this CPU. Without workers the loading comes before each step; with some it goes on
    beside it, as far as there are cores. Loading that is not known counts as nothing."""
    load_s, device = sample.load_core_s or 0.0, sample.device
    core_s = device.core_s + load_s
    wall_s = device.wall_s + load_s
    if workers:
        wall_s = max(device.wall_s, load_s / workers, core_s / cores)
    return Spent(num_samples * wall_s, num_samples * core_s)


def validated_epochs(num_epochs: int, every: int) -> int:
    """After how many epochs of a training there is a validation: each `every`-th, and the last."""
    return sum(1 for epoch in range(1, num_epochs + 1) if epoch % every == 0 or epoch == num_epochs)
