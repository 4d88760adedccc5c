"""A pass over the views of an evaluation: softmax of each view, summed over a clip's views, each view once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from k710.engine.torch_process import DTYPES, Process
from k710.errors import TrainError
from k710.evaluation.scores import check_finite
from k710.loading.augment.augment import Augment
from k710.loading.batch import Batch
from k710.loading.dataset import ClipDataset
from k710.loading.kept_features import FeatureReader
from k710.loading.loader import ClipLoader


@dataclass(frozen=True)
class Predictions:
    """What a model says of the clips of a dataset, of all processes together, in the order of the dataset.

    `scores`: (clips, classes) float32, the mean of the views' probabilities; `num_views`: (clips,) how many there were;
    `failed`: why the clips that could not be read could not, by clip_id. They are in none of the arrays.
    """

    clip_ids: list[str]
    class_ids: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]
    num_views: npt.NDArray[np.int64]
    failed: dict[str, str]


def softmax(logits: Tensor) -> Tensor:
    """Probabilities of logits (views, classes)."""
    return logits.softmax(-1)


@torch.no_grad()
def predict_views(
    model: nn.Module,
    dataset: ClipDataset,
    process: Process,
    *,
    num_classes: int,
    augment: Augment,
    batch_size: int = 8,
    num_workers: int = 0,
    precision: str = "fp32",
    on_progress: Callable[[int], None] = lambda done: None,
    answer: Callable[[Tensor], Tensor] = softmax,
    features: FeatureReader | None = None,
) -> Predictions:
    """Look at every view of every clip once, clips shared out between the processes; the same answer on all of them.

    As released: softmax of each view, summed over views, in float32 unless `precision` says otherwise. `augment` gives
    crop size, mean and std. Each process takes `batch_size` views at once, and calls `on_progress` with the number of
    its clips that are done. `answer` makes of float32 logits (views, classes) what is averaged over a clip's views.
    `features` are given to the model in place of clips. Raises LoadError where a loader's worker dies, TrainError where
    a GPU has no room for the views or a score is not finite, and what `on_progress` raises.
    """
    was_training, num_views = model.training, len(dataset.views)
    model.eval()
    loader = ClipLoader(
        dataset,
        batch_size=batch_size * process.world_size,
        device=process.device,
        num_workers=num_workers,
        augment=augment,
        share=process.share,
        features=features,
    )
    mine = process.share.of(0, len(dataset))
    sums = np.zeros((len(mine), num_classes), np.float64)
    seen = np.zeros(len(mine), np.int64)
    clip_ids = [""] * len(mine)
    failed: dict[str, str] = {}
    dtype = DTYPES[precision]
    with process.together(), _room_for(batch_size):
        for batch in loader:
            with torch.autocast(process.device.type, dtype, enabled=dtype != torch.float32):
                logits = model(batch.inputs)
            probabilities = answer(logits.float()).double().cpu().numpy()
            failed |= batch.errors
            _check_scores(batch, probabilities, precision)
            for row, sample, clip_id in zip(probabilities, batch.samples, batch.clip_ids, strict=True):
                place = sample.clip - mine.start
                sums[place] += row
                seen[place] += 1
                clip_ids[place] = clip_id
            on_progress(int(seen.sum()) // num_views)
    model.train(was_training)
    assert (seen == num_views).all(), "a view was left out or seen twice"
    return _together(dataset, process, clip_ids, sums / num_views, seen, failed)


def _check_scores(batch: Batch, probabilities: npt.NDArray[np.float64], precision: str) -> None:
    """Raises TrainError for scores that are not finite, but for those of clips that could not be read."""
    read = [number for number, clip_id in enumerate(batch.clip_ids) if clip_id not in batch.errors]
    names = [f"clip {batch.clip_ids[number]}" for number in read]
    check_finite(probabilities[read], names, precision=precision)


@contextlib.contextmanager
def _room_for(num_views: int) -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError:
        raise TrainError(f"no memory for {num_views} views at once; take fewer: --batch-size") from None


def _together(
    dataset: ClipDataset,
    process: Process,
    clip_ids: list[str],
    scores: npt.NDArray[np.float64],
    seen: npt.NDArray[np.int64],
    failed: dict[str, str],
) -> Predictions:
    """All processes' parts. Clips that failed leave; they are named."""
    parts = process.gather((clip_ids, scores.astype(np.float32), seen, failed))
    all_ids = [clip_id for part in parts for clip_id in part[0]]
    all_scores, all_seen = (np.concatenate([part[number] for part in parts]) for number in (1, 2))
    all_failed = {clip_id: why for part in parts for clip_id, why in part[3].items()}
    kept = np.array([clip_id not in all_failed for clip_id in all_ids], bool)
    return Predictions(
        [clip_id for clip_id in all_ids if clip_id not in all_failed],
        np.asarray(dataset.class_ids, np.int64)[kept],
        all_scores[kept],
        all_seen[kept],
        all_failed,
    )
