"""The training pipeline of the released trainers, rebuilt from its description: the other side of loading.py.

decord reads all sampled frames at full size; RandAugment (n4, bicubic) changes each whole frame as a PIL image; the
frames become floats, are normalised, and one random resized crop of the clip is cut, resized and mirrored.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import decord
import numpy as np
import torch
from PIL import Image

from k710.loading.augment.augment import MEAN, STD, Augment
from k710.loading.sampling import FrameSampling
from k710.random_key import RandomKey

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.helpers.pillow_operations import OPERATIONS

SAMPLING, SETTINGS = FrameSampling(8), Augment()


def decode_only(media: bytes, key: RandomKey) -> Any:
    """(8, H, W, 3) uint8."""
    reader = decord.VideoReader(io.BytesIO(media), num_threads=1)
    return reader.get_batch(SAMPLING.train(len(reader), key.draws("frames")).tolist()).asnumpy()


def transform_only(frames: Any, key: RandomKey) -> torch.Tensor:
    """(3, 8, 224, 224) float32 from (8, H, W, 3) uint8."""
    images = [Image.fromarray(frame) for frame in frames]
    choice = SETTINGS.choose(key, *frames.shape[1:3])
    for name, value in choice.operations:
        images = [OPERATIONS[name](image, value) for image in images]
    floats = torch.stack([torch.from_numpy(np.array(image)) for image in images]).permute(0, 3, 1, 2).float() / 255
    floats = (floats - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    top, left, height, width = choice.box
    cut = floats[:, :, top : top + height, left : left + width]
    clip = torch.nn.functional.interpolate(cut, size=(224, 224), mode="bilinear", align_corners=False)
    return (clip.flip(-1) if choice.flip else clip).transpose(0, 1).contiguous()


def whole(media: bytes, key: RandomKey) -> torch.Tensor:
    """One sample, from the bytes of its file."""
    return transform_only(decode_only(media, key), key)
