"""Which index order a head has, by its answers on clips whose class is known: a file's name or form may be wrong."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from k710.errors import UsageError
from k710.evaluation.scores import check_finite, ranks
from k710.lists.labels import DIALECTS, k710_classes_of
from k710.loading.augment.evaluation_crops import evaluation_crops
from k710.loading.dataset import ClipDataset
from k710.loading.order import Sample
from k710.models.family import Family

# An order is believed when it is right this many times as often as the next one, and in this many clips at least.
_TIMES, _CLIPS = 3, 5


@dataclass(frozen=True)
class Vote:
    """How often a head is right, of the clips that tell, if it has the order of `dialects` (several can be one order
    for a label set)."""

    dialects: tuple[str, ...]
    num_right: int
    num_top5: int
    num_clips: int


@dataclass(frozen=True)
class Election:
    """The votes for all orders, the best first. `winner` is None where the clips do not tell."""

    label_set: str
    votes: tuple[Vote, ...]

    @property
    def winner(self) -> Vote | None:
        first = self.votes[0]
        second = self.votes[1].num_right if len(self.votes) > 1 else 0
        return first if first.num_right >= max(_CLIPS, _TIMES * second) else None


def vote(scores: npt.NDArray[np.float32], class_ids: npt.NDArray[np.int64], *, view: str, label_set: str) -> Election:
    """Count for each order how often a head is right.

    `scores`: (clips, rows) of the head as it is, which has the rows of `label_set` in some order; `class_ids`: (clips,)
    of `view` in canonical order. Clips of a class that the label set lacks, or whose row is the same in every order,
    tell nothing and are left out.
    """
    orders: dict[tuple[int, ...], list[str]] = {}
    for dialect in DIALECTS:
        orders.setdefault(k710_classes_of(label_set, dialect), []).append(dialect)
    keys = np.array(k710_classes_of(view))[class_ids]
    known = np.isin(keys, list(next(iter(orders))))
    rows = np.array([[order.index(key) for key in keys[known]] for order in orders], np.int64)  # (orders, clips)
    # 310 of the 710 rows mean the same in every order; such a clip tells nothing.
    telling = (rows != rows[0]).any(axis=0)
    places = [ranks(scores[known][telling], of_order[telling]) for of_order in rows]
    votes = [
        Vote(tuple(dialects), int((place < 1).sum()), int((place < 5).sum()), len(place))
        for dialects, place in zip(orders.values(), places, strict=True)
    ]
    return Election(label_set, tuple(sorted(votes, key=lambda one: (-one.num_right, -one.num_top5))))


@torch.no_grad()
def raw_scores(
    family: Family, model: nn.Module, dataset: ClipDataset, *, limit: int, device: torch.device, batch_size: int = 8
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """The scores of a model on the centre views of `limit` labelled clips, always the same ones: scores (clips, rows)
    and class ids (clips,). Clips that cannot be read are passed over. Raises UsageError where no clip has a label,
    TrainError where a score is not finite."""
    labelled = [number for number, class_id in enumerate(dataset.class_ids) if class_id >= 0]
    if not labelled:
        raise UsageError(f"the {dataset.view} {dataset.split} clips have no labels to tell an order by")
    chosen = sorted(labelled, key=lambda number: hashlib.sha256(str(number).encode()).digest())[:limit]
    config: Any = model.config
    model = model.to(device)
    scores, classes = [], []
    for start in range(0, len(chosen), batch_size):
        loaded = dataset.load([Sample(number) for number in chosen[start : start + batch_size]])
        read = [clip for clip in loaded if clip.error is None]
        if read:
            pixels = [clip.pixels.to(device) for clip in read]
            batch = evaluation_crops(pixels, [1] * len(read), **family.crops(config.size_px))
            scores.append(model(batch).float().cpu().numpy())
            check_finite(scores[-1], [f"clip {clip.clip_id}" for clip in read])
            classes += [clip.class_id for clip in read]
    if not scores:
        raise UsageError("none of the clips could be read")
    return np.concatenate(scores), np.array(classes, np.int64)
