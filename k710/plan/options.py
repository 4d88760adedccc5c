"""What the user states for a plan."""

from __future__ import annotations

import math
from dataclasses import dataclass

from k710.errors import UsageError
from k710.fetch.encode.profiles import Profile
from k710.fetch.origins.parse import Origin
from k710.fetch.wanted import DEFAULT_SPLITS
from k710.loading.sampling import evaluation_views
from k710.storage.storage import Location


@dataclass(frozen=True)
class Prices:
    """What the user pays, in a unit of theirs, None where they do not say: for a GPU and an hour, for a core and an
    hour, for a terabyte and a month."""

    gpu_hour: float | None = None
    core_hour: float | None = None
    disk_month: float | None = None


@dataclass(frozen=True)
class PlanOptions:
    """What a plan is of, and what is stated; None or empty is not stated.

    `origins` are those that a fetch would ask; `cores` those that it would have. `gpus`: numbers of GPUs to plan a
    training for; without one, it is planned for this machine as it is, on `device`. Of one GPU, `gpu_rate` is clips/s
    of a training, `eval_rate` views/s of an evaluation in float32, `gpu_flops` floating-point operations a second that
    it sustains. `efficiency` is what each GPU beyond the first adds, of one GPU's rate. `views`: temporal clips and
    crops of an evaluation. `workers`: loader processes beside a training on the CPU. `measures`: whether
    anything is measured, about `measure_s` seconds each.
    """

    profile: Profile
    origins: tuple[Origin, ...] = ()
    store: Location | None = None
    view: str | None = None
    splits: tuple[str, ...] = DEFAULT_SPLITS
    cores: int | None = None
    download_bytes: float | None = None
    bandwidth: float | None = None  # bytes/s
    device: str | None = None
    gpus: tuple[int, ...] = ()
    gpu_rate: float | None = None
    gpu_flops: float | None = None
    gpu_memory_bytes: float | None = None
    eval_rate: float | None = None
    efficiency: float | None = None
    cores_per_gpu: int | None = None
    views: tuple[int, int] | None = None
    workers: int = 0
    prices: Prices = Prices()
    measures: bool = True
    measure_s: float = 5.0

    def checked(self) -> PlanOptions:
        """The options themselves. Raises UsageError, naming the option, for a value that cannot be."""
        numbers = {
            "--cores": self.cores,
            "--bandwidth": self.bandwidth,
            "--gpu-rate": self.gpu_rate,
            "--gpu-tflops": self.gpu_flops,
            "--gpu-memory": self.gpu_memory_bytes,
            "--eval-rate": self.eval_rate,
            "--cores-per-gpu": self.cores_per_gpu,
            "--measure-s": self.measure_s,
        } | {"--gpus": min(self.gpus, default=None)}
        for name, value in numbers.items():
            if value is not None and not (math.isfinite(value) and value > 0):
                raise UsageError(f"{name} must be above 0, not {value:g}")
        from_nothing = {
            "--download-gb": self.download_bytes,
            "--gpu-price": self.prices.gpu_hour,
            "--core-price": self.prices.core_hour,
            "--disk-price": self.prices.disk_month,
            "--workers": self.workers,
        }
        for name, value in from_nothing.items():
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise UsageError(f"{name} must be 0 or above, not {value:g}")
        if self.efficiency is not None and not 0 < self.efficiency <= 1:
            raise UsageError(
                f"--efficiency must lie above 0 and at most at 1, not {self.efficiency:g}; it is what each GPU "
                "beyond the first adds, of one GPU's rate"
            )
        if self.gpu_rate is not None and self.gpu_flops is not None:
            raise UsageError("--gpu-rate and --gpu-tflops both say how fast a GPU trains; leave one out")
        if not self.gpus:
            of_gpus = {"--gpu-rate": self.gpu_rate, "--gpu-tflops": self.gpu_flops, "--efficiency": self.efficiency}
            of_gpus |= {"--cores-per-gpu": self.cores_per_gpu, "--eval-rate": self.eval_rate}
            if given := [name for name, value in of_gpus.items() if value is not None]:
                raise UsageError(f"{given[0]} is of GPUs; --gpus says of how many, such as --gpus 1,8")
        elif self.device == "cpu":
            raise UsageError("--gpus plans a training on GPUs, --device cpu one on this machine's CPU; leave one out")
        if self.views is not None:
            evaluation_views(*self.views)
        return self
