"""One clip: which of its frames, their pixels, and what becomes of one that cannot be had."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from k710.errors import LoadError, UsageError
from k710.loading.decoders.decode import DEFAULT_DECODER, check_decoder, decode
from k710.loading.decoders.jpegs import decode_jpegs
from k710.loading.order import Sample
from k710.loading.sampling import FrameSampling, View, evaluation_views, nearest_stored
from k710.random_key import Ints, RandomKey

ON_ERROR = ("raise", "zero_weight")
_NO_PICTURE_PX = 32  # the size of the black frames of a clip that failed


class LoadedClip(NamedTuple):
    """A sample of a dataset. `pixels`: uint8 (num_frames, height_px, width_px, 3), RGB; `frames`: (num_frames,) which
    frames of the clip they are. A clip that failed is black, has weight 0, and `error` says why."""

    pixels: Tensor
    class_id: int
    clip_id: str
    frames: Ints
    sample: Sample
    weight: float = 1.0
    error: str | None = None


class StoredFrames(NamedTuple):
    """Of a clip of `num_frames` only the frames `indices` are stored; `read` gives the JPEGs at some of their
    positions (increasing)."""

    num_frames: int
    indices: Ints
    read: Callable[[Ints], list[bytes]]


class Media(NamedTuple):
    """A clip before it is decoded: all its bytes, or the frames that are stored of it. `file` is for messages."""

    clip_id: str
    class_id: int
    file: str
    read: Callable[[], bytes]
    stored: StoredFrames | None


@dataclass(frozen=True)
class HowToLoad:
    """See `how_to_load`."""

    sampling: FrameSampling
    training: bool
    seed: int
    num_clips: int
    views: tuple[View, ...]
    decoder: str
    on_error: str

    def load(self, media: Media, samples: Sequence[Sample]) -> list[LoadedClip]:
        """Samples of one clip, read and decoded once. Raises LoadError where that fails and `on_error` is "raise"."""
        try:
            pixels, frames = self._frames(media, samples)
        except LoadError as error:
            if self.on_error == "raise":
                raise
            return [self._failed(media, sample, str(error)) for sample in samples]
        count = self.sampling.num_frames
        parts = [slice(number * count, (number + 1) * count) for number in range(len(samples))]
        return [
            LoadedClip(torch.from_numpy(pixels[part]), media.class_id, media.clip_id, frames[part], sample)
            for part, sample in zip(parts, samples, strict=True)
        ]

    def _frames(self, media: Media, samples: Sequence[Sample]) -> tuple[npt.NDArray[np.uint8], Ints]:
        """The frames of all samples one behind the other: pixels, and which frames of the clip they are."""
        chosen: list[Ints] = []

        def choose(num_frames: int) -> Ints:
            chosen.append(np.concatenate([self._indices(media, sample, num_frames) for sample in samples]))
            return chosen[-1]

        if media.stored is not None:
            stored = media.stored
            positions = nearest_stored(choose(stored.num_frames), stored.indices)
            needed, where = np.unique(positions, return_inverse=True)
            jpegs = stored.read(needed)
            return _blaming(media, lambda: decode_jpegs(jpegs)[where]), stored.indices[positions]
        content = media.read()
        return _blaming(media, lambda: decode(content, choose, decoder=self.decoder)), chosen[-1]

    def _indices(self, media: Media, sample: Sample, num_frames: int) -> Ints:
        if self.training:
            key = RandomKey(self.seed, sample.epoch, media.clip_id, sample.repeat)
            return self.sampling.train(num_frames, key.draws("frames"))
        return self.sampling.test(num_frames, clip=self.views[sample.view].clip, num_clips=self.num_clips)

    def _failed(self, media: Media, sample: Sample, error: str) -> LoadedClip:
        size = (self.sampling.num_frames, _NO_PICTURE_PX, _NO_PICTURE_PX, 3)
        black, frames = torch.zeros(size, dtype=torch.uint8), np.full(self.sampling.num_frames, -1)
        return LoadedClip(black, media.class_id, media.clip_id, frames, sample, 0.0, error)


def how_to_load(
    *,
    training: bool,
    num_frames: int = 8,
    method: str = "sparse",
    stride: int | None = None,
    num_clips: int = 1,
    num_crops: int = 1,
    seed: int = 0,
    decoder: str = DEFAULT_DECODER,
    on_error: str = "raise",
) -> HowToLoad:
    """How clips are loaded. `num_frames`, `method` and `stride` are FrameSampling's.

    `training`: random frames by `seed` (see RandomKey); else those of one of `num_clips` x `num_crops` views.
    `decoder` is one of decode.DECODERS. `on_error`: a clip that cannot be read or decoded raises LoadError ("raise"),
    or keeps its place with weight 0 ("zero_weight"). Raises UsageError for what is none of these.
    """
    if on_error not in ON_ERROR:
        raise UsageError(f"unknown on_error {on_error!r}; known: {', '.join(ON_ERROR)}")
    if training and (num_clips, num_crops) != (1, 1):
        raise UsageError(f"{num_clips} clips x {num_crops} crops are views of an evaluation; training has one")
    sampling, views = FrameSampling(num_frames, method, stride), evaluation_views(num_clips, num_crops)
    return HowToLoad(sampling, training, seed, num_clips, views, check_decoder(decoder), on_error)


def _blaming(media: Media, work: Callable[[], npt.NDArray[np.uint8]]) -> npt.NDArray[np.uint8]:
    try:
        return work()
    except LoadError as error:
        raise LoadError(f"clip {media.clip_id} ({media.file}): {error}") from None
