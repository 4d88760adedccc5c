"""What the frozen part of a model sees of clips: computed of all views of a dataset and kept, checked before use."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from k710.engine.torch_process import DTYPES as PRECISIONS
from k710.engine.torch_process import Process
from k710.errors import LoadError, TrainError, UsageError
from k710.loading.augment.augment import Augment
from k710.loading.batch import Batch
from k710.loading.dataset import ClipDataset
from k710.loading.kept_features import (
    DTYPES,
    FeatureReader,
    KeptFeatures,
    KeptView,
    check_all_there,
    differences,
    open_features,
    reader_of,
)
from k710.loading.loader import ClipLoader
from k710.models.families import FAMILIES
from k710.models.family import Family, Frozen, Sampling
from k710.models.left_out import frozen_sha256, left_out
from k710.random_key import Ints
from k710.text import data_size

# A file is written when it has so many bytes, or after so many seconds: what a killed computation loses at most.
_FILE_BYTES, _FILE_S = 256 << 20, 60.0


@dataclass(frozen=True)
class FeatureOptions:
    """How features are computed: `batch_size` views at once, in `precision` (fp32, bf16 or fp16). `num_workers`: loader
    processes, 0 to load in this process."""

    batch_size: int = 8
    num_workers: int = 0
    precision: str = "fp32"


@dataclass
class Computed:
    """What a computation did: views kept, and clips that could not be read. `rounding` is the root mean square of what
    their type took from the numbers, as a part of theirs."""

    num_views: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    error: float = 0.0
    size: float = 0.0

    @property
    def rounding(self) -> float:
        return float((self.error / self.size) ** 0.5) if self.size else 0.0


def features_for(
    family: Family, model: nn.Module, sampling: Sampling, folder: Path, *, precision: str, dtype: str
) -> KeptFeatures:
    """The features that a model takes in place of clips, which are to be kept in `folder`.

    Raises UsageError where the model has no part that is frozen.
    """
    config: Any = model.config
    of = _facts(family, model, sampling) | {"precision": precision}
    return KeptFeatures(folder, of, _frozen_of(family, config).shapes(config), dtype)


def _facts(family: Family, model: nn.Module, sampling: Sampling) -> dict[str, Any]:
    """What features depend on, but for their precision, as JSON has it."""
    config: Any = model.config
    told_by = _frozen_of(family, config).told_by
    facts = {
        "family": family.name,
        "frozen_sha256": frozen_sha256(model),
        **{name: getattr(config, name) for name in told_by},
        "sampling": sampling.options(),
        **{name: value for name, value in family.crops(config.size_px).items() if name != "crop_px"},
    }
    return dict(json.loads(json.dumps(facts)))


def _frozen_of(family: Family, config: Any) -> Frozen:
    if family.frozen is None or not family.frozen.is_frozen(config):
        with_one = ", ".join(name for name, one in FAMILIES.items() if one.frozen is not None)
        raise UsageError(
            f"{config.title} has no frozen part, so that no features of it can be kept; families with one: {with_one} "
            "(--set frozen=true)"
        )
    return family.frozen


def see(family: Family, model: nn.Module, clips: Tensor) -> dict[str, Tensor]:
    """What the frozen part of a model sees of clips (B, 3, T, S, S), normalised: tensors (B, …) by name.

    Raises UsageError where the model has no such part.
    """
    with torch.no_grad():
        return _frozen_of(family, model.config).see(model, clips)


def views_to_do(features: KeptFeatures, dataset: ClipDataset) -> tuple[Ints, FeatureReader]:
    """Positions of the clips of which a view is missing or could not be read, and what is there."""
    reader = reader_of(features, dataset, features.shapes)
    failed = {clip for clip, _ in reader.errors}
    missing = reader.missing
    return torch.tensor(sorted({*missing.tolist(), *failed}), dtype=torch.int64).numpy(), reader


def check_room(features: KeptFeatures, num_views: int) -> None:
    """Raises LoadError where the disk has no room for so many views."""
    place = next(path for path in (features.folder, *features.folder.absolute().parents) if path.exists())
    needed, free = num_views * features.view_bytes, shutil.disk_usage(place).free
    if needed > free:
        raise LoadError(
            f"{features.folder}: the features need {data_size(needed)}, and the disk has {data_size(free)} free; make "
            "room, or take another --out, a smaller --dtype or fewer views"
        )


@torch.no_grad()
def compute_features(
    family: Family,
    model: nn.Module,
    dataset: ClipDataset,
    features: KeptFeatures,
    process: Process,
    *,
    options: FeatureOptions,
    on_progress: Callable[[int], None] = lambda done: None,
) -> Computed:
    """Compute and keep what is missing of a dataset's views, clips shared out between the processes.

    What is kept stays when it is interrupted, and the next call goes on from there. `on_progress` is called with the
    number of clips that this process has done. Raises LoadError where the disk is full, TrainError where a number is
    not finite in the type that they are kept in.
    """
    with process.together():
        todo, _ = views_to_do(features, dataset)
    config: Any = model.config
    model.to(process.device).eval()
    loader = ClipLoader(
        dataset,
        batch_size=options.batch_size * process.world_size,
        device=process.device,
        num_workers=options.num_workers,
        augment=Augment(**family.crops(config.size_px)),
        share=process.share,
        only=todo,
    )
    found, writer = Computed(), _Writer(features)
    dtype = PRECISIONS[options.precision]
    with process.together():
        try:
            for batch in loader:
                with torch.autocast(process.device.type, dtype, enabled=dtype != torch.float32):
                    seen = see(family, model, batch.pixels)
                writer.add(_kept_views(batch, dataset), _rounded(seen, features, batch, found))
                found.failed |= batch.errors
                found.num_views += len(batch.samples)
                on_progress(found.num_views // len(dataset.views))
        except KeyboardInterrupt:
            writer.write()
            raise
        writer.write()
    return found


def _kept_views(batch: Batch, dataset: ClipDataset) -> Iterator[KeptView]:
    num_clips = dataset.reader.options.num_clips
    for sample, clip_id in zip(batch.samples, batch.clip_ids, strict=True):
        view = dataset.view_of(sample)
        error = batch.errors.get(clip_id)
        yield KeptView(clip_id, dataset.stamp(sample.clip), view.clip, num_clips, view.crop, error)


def _rounded(seen: dict[str, Tensor], features: KeptFeatures, batch: Batch, found: Computed) -> dict[str, Tensor]:
    """The tensors in the type that they are kept in, on the CPU. What that takes from them is added to `found`."""
    dtype, kept = DTYPES[features.dtype], {}
    for name, tensor in seen.items():
        kept[name] = tensor.to(dtype)
        if not bool(torch.isfinite(kept[name]).all()):
            raise TrainError(
                f"{batch.clip_ids[0]} or a clip beside it: {name} is not finite in {features.dtype}; bfloat16 and "
                "float32 have a larger range: --dtype"
            )
        if tensor.dtype != dtype:
            exact = tensor.double()
            found.error += float((kept[name].double() - exact).square().sum())
            found.size += float(exact.square().sum())
        kept[name] = kept[name].cpu()
    return kept


@dataclass
class _Writer:
    """Collects views until they are a file."""

    features: KeptFeatures
    _views: list[KeptView] = field(default_factory=list)
    _parts: list[dict[str, Tensor]] = field(default_factory=list)
    _began_s: float = field(default_factory=time.monotonic)

    def add(self, views: Iterator[KeptView], tensors: dict[str, Tensor]) -> None:
        self._views += views
        self._parts.append(tensors)
        is_full = len(self._views) * self.features.view_bytes >= _FILE_BYTES
        if is_full or time.monotonic() - self._began_s > _FILE_S:
            self.write()

    def write(self) -> None:
        if self._views:
            joined = {name: torch.cat([part[name] for part in self._parts]) for name in self.features.shapes}
            self.features.write(self._views, joined)
        self._views, self._parts, self._began_s = [], [], time.monotonic()


def open_for(family: Family, model: nn.Module, sampling: Sampling, folder: Path) -> KeptFeatures:
    """The features in a folder, for a model. Raises UsageError where they are of other weights, frames or pixels, or
    lack what the model takes, LoadError where there are none."""
    config: Any = model.config
    found = open_features(folder)
    wanted = features_for(family, model, sampling, found.folder, precision="", dtype=found.dtype)
    # Features of more layers than the model looks at are as good.
    missing = [name for name, shape in wanted.shapes.items() if found.shapes.get(name) != shape]
    other = differences(found, wanted, but=("tensors", "precision"))
    if missing and not other:
        other = [f"they lack {', '.join(missing)}"]
    if other:
        raise UsageError(f"{folder}: features of something else than {config.title}: {'; '.join(other)}")
    return found


def reader_for(family: Family, model: nn.Module, features: KeptFeatures, dataset: ClipDataset) -> FeatureReader:
    """The features of all views of a dataset, for a model. Raises UsageError where some are missing."""
    config: Any = model.config
    reader = reader_of(features, dataset, _frozen_of(family, config).shapes(config))
    check_all_there(reader, dataset)
    return reader


def drop_frozen(family: Family, model: nn.Module) -> None:
    """Take the frozen part out of a model that is given features alone, where no checkpoint needs it."""
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    drop = _frozen_of(family, model.config).drop
    if drop is not None and frozen == left_out(model).keys():
        drop(model)
