"""Of loading.py: the published pipeline, its parts, k710 up to whole frames, and its augmentation on this core."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import published_pipeline as published
import torch
from loading_clips import Clips, whole_frames

from k710.loading.augment.augment import Augment, augment
from k710.random_key import RandomKey

Work = dict[str, Callable[[int], int]]  # each takes the number of the round and returns how many clips it did


def published_sides(clips: dict[str, Clips]) -> Work:
    media = {clip_id: file.read_bytes() for clip_id, file in sorted(clips["source"].files.items())}
    frames = {clip_id: published.decode_only(content, RandomKey(0, 0, clip_id)) for clip_id, content in media.items()}

    def each(work: Callable[[Any, RandomKey], object], given: dict[str, Any]) -> Callable[[int], int]:
        def do(epoch: int) -> int:
            for clip_id, item in given.items():
                work(item, RandomKey(1, epoch, clip_id))
            return len(given)

        return do

    def loaded(of: Clips) -> Callable[[int], int]:
        passes = whole_frames(of, len(of.dataset), 0)
        return lambda epoch: sum(len(batch.samples) for batch in passes())

    def augmented(settings: Augment) -> Callable[[int], int]:
        tensors = [torch.from_numpy(clip) for clip in frames.values()]

        def do(epoch: int) -> int:
            keys = [RandomKey(1, epoch, number) for number in range(len(tensors))]
            augment(tensors, [settings.choose(key, *tensors[0].shape[1:3]) for key in keys], settings)
            return len(tensors)

        return do

    return {
        "published": each(published.whole, media),
        "published, decode only": each(published.decode_only, media),
        "published, transform only": each(published.transform_only, frames),
        **{kind: loaded(of) for kind, of in clips.items()},
        "augmentation, as published": augmented(Augment()),
        "augmentation, crop first": augmented(Augment(order="crop_first")),
    }
