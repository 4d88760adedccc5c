"""Labels for any video, from views of the file as in an evaluation."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from k710.errors import LoadError
from k710.evaluation.scores import check_finite
from k710.evaluation.view_model import ViewModel
from k710.loading.augment.evaluation_crops import evaluation_crops
from k710.loading.decoders.decode import DEFAULT_DECODER, decode
from k710.loading.media.open_files import open_media
from k710.loading.sampling import FrameSampling, evaluation_views
from k710.text import os_error_text


@dataclass(frozen=True)
class Prediction:
    """A model's answer on a video: `probabilities` (classes,), of which `labels` are the names."""

    path: Path
    labels: tuple[str, ...]
    probabilities: npt.NDArray[np.float32]

    def top(self, count: int) -> list[tuple[str, float]]:
        """The likeliest classes, the likeliest first."""
        order = np.argsort(-self.probabilities, kind="stable")[:count]
        return [(self.labels[number], float(self.probabilities[number])) for number in order]


@torch.no_grad()
def predict_file(
    model: ViewModel,
    path: Path,
    *,
    num_clips: int = 4,
    num_crops: int = 3,
    batch_size: int = 8,
    device: torch.device | None = None,
    decoder: str = DEFAULT_DECODER,
) -> Prediction:
    """Label a video file by the mean of its views' probabilities, `num_clips` x `num_crops` of them.

    Raises LoadError, naming the file, for what is missing or no video, UsageError for numbers of views that cannot be,
    TrainError for a model whose scores are not finite.
    """
    device = device or torch.device("cpu")
    config, net = model.config, model.model.to(device)
    sampling = FrameSampling(config.num_frames, **model.sampling.options())
    views = evaluation_views(num_clips, num_crops)

    def choose(num_source_frames: int) -> npt.NDArray[np.int64]:
        parts = [sampling.test(num_source_frames, clip=clip, num_clips=num_clips) for clip in range(num_clips)]
        return np.concatenate(parts)

    try:
        pixels = torch.from_numpy(decode(_bytes_of(path), choose, decoder=decoder))
    except OSError as error:
        raise LoadError(f"{path}: {os_error_text(error)}") from None
    except LoadError as error:
        raise LoadError(f"{path}: {error}") from None
    clips = torch.unflatten(pixels.to(device), 0, (num_clips, config.num_frames))
    how = model.family.crops(config.size_px)
    sums = torch.zeros(config.num_classes, dtype=torch.float64)
    for start in range(0, len(views), batch_size):
        part: Sequence[tuple[int, int]] = views[start : start + batch_size]
        batch = evaluation_crops([clips[clip] for clip, _ in part], [crop for _, crop in part], **how)
        sums += net(batch).float().softmax(-1).double().sum(0).cpu()
    probabilities = (sums / len(views)).float().numpy()
    check_finite(probabilities[None], [str(path)])
    return Prediction(path, model.labels.names, probabilities)


def _bytes_of(path: Path) -> bytes:
    """A file's bytes. Raises OSError, also for a pipe or a device, which may have no end."""
    descriptor = open_media(path)
    with os.fdopen(descriptor, "rb") as file:
        return file.read()
