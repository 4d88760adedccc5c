"""One clip: which of its frames are shown, their pixels, and what happens where it cannot be read or decoded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from k710.errors import LoadError, UsageError
from k710.loading.augment.augment import Augment, Choices
from k710.loading.augment.boxes import Box
from k710.loading.decoders.decode import DEFAULT_DECODER, check_decoder, decode
from k710.loading.decoders.jpegs import decode_jpegs, jpeg_size
from k710.loading.decoders.pixels import Choose, Pixels
from k710.loading.order import Sample
from k710.loading.sampling import FrameSampling, View, evaluation_views, nearest_stored
from k710.random_key import Ints, RandomKey

ON_ERROR = ("raise", "zero_weight")
_FAILED_PX = 32  # width and height of the black frames of a clip that failed


class LoadedClip(NamedTuple):
    """A sample of a dataset. `pixels`: uint8 (num_frames, height_px, width_px, 3), RGB; `frames`: (num_frames,) which
    frames of the clip they are. The frames of a clip that failed are black, its weight is 0, and `error` says why.

    With `choices`, its augmentation is chosen already, and `pixels` may be only the part of the frames that it needs;
    its box is one of that part then.
    """

    pixels: Tensor
    class_id: int
    clip_id: str
    frames: Ints
    sample: Sample
    weight: float = 1.0
    error: str | None = None
    choices: Choices | None = None


class StoredFrames(NamedTuple):
    """Of a clip of `num_frames` only the frames `indices` are stored; `read` gives the JPEGs at some of their
    positions (increasing)."""

    num_frames: int
    indices: Ints
    read: Callable[[Ints], list[bytes]]


class UndecodedClip(NamedTuple):
    """A clip before it is decoded: all its bytes, or its stored frames. `file` is named in messages.

    `decode` is of a part of a video file, which is decoded where it is and not read whole.
    """

    clip_id: str
    class_id: int
    file: str
    read: Callable[[], bytes]
    stored: StoredFrames | None
    decode: Callable[[Choose], Pixels] | None = None


@dataclass(frozen=True, kw_only=True)
class ClipOptions:
    """How the clips of a dataset or a stream of shards are sampled and decoded.

    `num_frames`, `method` and `stride` are FrameSampling's. In training, frames are drawn by `seed` (see RandomKey); in
    evaluation each clip has `num_clips` x `num_crops` views; with `fixed_views` a sample of training is one of them
    too, drawn by `seed`. `decoder` is one of decode.DECODERS. `on_error`: a clip that cannot be read or decoded raises
    LoadError ("raise"), or keeps its place with weight 0 ("zero_weight"). Raises UsageError for values that are not
    allowed.
    """

    num_frames: int = 8
    method: str = "sparse"
    stride: int | None = None
    num_clips: int = 1
    num_crops: int = 1
    fixed_views: bool = False
    seed: int = 0
    decoder: str = DEFAULT_DECODER
    on_error: str = "raise"

    def __post_init__(self) -> None:
        if self.on_error not in ON_ERROR:
            raise UsageError(f"unknown on_error {self.on_error!r}; known: {', '.join(ON_ERROR)}")
        check_decoder(self.decoder)
        _ = self.sampling, self.views  # both raise UsageError for values that are not allowed

    @cached_property
    def sampling(self) -> FrameSampling:
        """Which frames of a clip are shown."""
        return FrameSampling(self.num_frames, self.method, self.stride)

    @cached_property
    def views(self) -> tuple[View, ...]:
        """The views of a clip in evaluation."""
        return evaluation_views(self.num_clips, self.num_crops)


@dataclass(frozen=True)
class ClipReader:
    """Reads samples of clips: random frames in training, else the frames of one of the views.

    Raises UsageError for several views of a clip in training, unless they are fixed.
    """

    options: ClipOptions
    training: bool

    def __post_init__(self) -> None:
        num_clips, num_crops = self.options.num_clips, self.options.num_crops
        if self.draws_frames and (num_clips, num_crops) != (1, 1):
            raise UsageError(f"{num_clips} clips x {num_crops} crops are views of an evaluation; training has one")

    @property
    def draws_frames(self) -> bool:
        """Whether a sample has random frames and a random crop, and not those of a view."""
        return self.training and not self.options.fixed_views

    def view_number(self, clip_id: str, sample: Sample) -> int:
        """Which of the views a sample is: in evaluation as it says, in training as its key draws."""
        if not self.training or len(self.options.views) == 1:
            return sample.view
        key = RandomKey(self.options.seed, sample.epoch, clip_id, sample.repeat)
        return key.draws("view").integer(0, len(self.options.views) - 1)

    def load(self, clip: UndecodedClip, samples: Sequence[Sample], augment: Augment | None = None) -> list[LoadedClip]:
        """Samples of one clip, read and decoded once. Raises LoadError where that fails and `on_error` is "raise".

        With `augment`, stored frames of training are decoded only as far as their augmentation needs them: each sample
        by itself, since samples have boxes of their own.
        """
        try:
            if augment is not None and clip.stored is not None and self.draws_frames:
                return [self._part(clip, clip.stored, sample, augment) for sample in samples]
            pixels, frames = self._frames(clip, samples)
        except LoadError as error:
            if self.options.on_error == "raise":
                raise
            return [self._failed(clip, sample, str(error)) for sample in samples]
        count = self.options.num_frames
        parts = [slice(number * count, (number + 1) * count) for number in range(len(samples))]
        return [
            LoadedClip(torch.from_numpy(pixels[part]), clip.class_id, clip.clip_id, frames[part], sample)
            for part, sample in zip(parts, samples, strict=True)
        ]

    def _frames(self, clip: UndecodedClip, samples: Sequence[Sample]) -> tuple[npt.NDArray[np.uint8], Ints]:
        """The frames of all samples, one sample after another: pixels, and their numbers in the clip."""
        chosen: list[Ints] = []

        def choose(num_frames: int) -> Ints:
            chosen.append(np.concatenate([self._indices(clip, sample, num_frames) for sample in samples]))
            return chosen[-1]

        if clip.stored is not None:
            stored = clip.stored
            positions = nearest_stored(choose(stored.num_frames), stored.indices)
            needed, where = np.unique(positions, return_inverse=True)
            jpegs = stored.read(needed)
            return _in_order(_naming_clip(clip, lambda: decode_jpegs(jpegs)), where), stored.indices[positions]
        if (of_part := clip.decode) is not None:
            return _naming_clip(clip, lambda: of_part(choose)), chosen[-1]
        content = clip.read()
        return _naming_clip(clip, lambda: decode(content, choose, decoder=self.options.decoder)), chosen[-1]

    def _part(self, clip: UndecodedClip, stored: StoredFrames, sample: Sample, augment: Augment) -> LoadedClip:
        """A sample of stored frames, its augmentation chosen, and of its frames the part that is needed for it."""
        positions = nearest_stored(self._indices(clip, sample, stored.num_frames), stored.indices)
        needed, where = np.unique(positions, return_inverse=True)
        jpegs = stored.read(needed)
        key = RandomKey(self.options.seed, sample.epoch, clip.clip_id, sample.repeat)
        chosen: list[Choices] = []

        def decoded() -> npt.NDArray[np.uint8]:
            choices = augment.choose(key, *jpeg_size(jpegs[0]))
            part = augment.part(choices)
            chosen.append(choices if part is None else choices._replace(box=Box(0, 0, part.height, part.width)))
            return decode_jpegs(jpegs, part)

        pixels = torch.from_numpy(_in_order(_naming_clip(clip, decoded), where))
        return LoadedClip(pixels, clip.class_id, clip.clip_id, stored.indices[positions], sample, choices=chosen[0])

    def _indices(self, clip: UndecodedClip, sample: Sample, num_frames: int) -> Ints:
        if self.draws_frames:
            key = RandomKey(self.options.seed, sample.epoch, clip.clip_id, sample.repeat)
            return self.options.sampling.train(num_frames, key.draws("frames"))
        view = self.options.views[self.view_number(clip.clip_id, sample)]
        return self.options.sampling.test(num_frames, clip=view.clip, num_clips=self.options.num_clips)

    def _failed(self, clip: UndecodedClip, sample: Sample, error: str) -> LoadedClip:
        size = (self.options.num_frames, _FAILED_PX, _FAILED_PX, 3)
        black, frames = torch.zeros(size, dtype=torch.uint8), np.full(self.options.num_frames, -1)
        return LoadedClip(black, clip.class_id, clip.clip_id, frames, sample, 0.0, error)


def _in_order(frames: npt.NDArray[np.uint8], where: Ints) -> npt.NDArray[np.uint8]:
    """`frames[where]`, without a copy where that is what they are."""
    return frames if np.array_equal(where, np.arange(len(frames))) else frames[where]


def _naming_clip(clip: UndecodedClip, work: Callable[[], npt.NDArray[np.uint8]]) -> npt.NDArray[np.uint8]:
    """The result of `work`; its LoadError is raised again with the clip and the file in its text."""
    try:
        return work()
    except LoadError as error:
        raise LoadError(f"clip {clip.clip_id} ({clip.file}): {error}") from None
