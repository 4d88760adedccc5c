"""RandAugment's operations as Pillow does them, frame by frame: what the library's own are held against."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageOps

GREY = (128, 128, 128)


def _affine(image, *matrix):
    return image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC, fillcolor=GREY)


def _solarize_add(image, added):
    return image.point([min(255, value + int(added)) if value < 128 else value for value in range(256)] * 3)


OPERATIONS = {
    "auto_contrast": lambda image, value: ImageOps.autocontrast(image),
    "equalize": lambda image, value: ImageOps.equalize(image),
    "invert": lambda image, value: ImageOps.invert(image),
    "rotate": lambda image, value: image.rotate(value, Image.Resampling.BICUBIC, fillcolor=GREY),
    "posterize": lambda image, value: ImageOps.posterize(image, int(value)) if value else Image.new("RGB", image.size),
    "solarize": lambda image, value: ImageOps.solarize(image, int(value)),
    "solarize_add": _solarize_add,
    "color": lambda image, value: ImageEnhance.Color(image).enhance(value),
    "contrast": lambda image, value: ImageEnhance.Contrast(image).enhance(value),
    "brightness": lambda image, value: ImageEnhance.Brightness(image).enhance(value),
    "sharpness": lambda image, value: ImageEnhance.Sharpness(image).enhance(value),
    "shear_x": lambda image, value: _affine(image, 1, value, 0, 0, 1, 0),
    "shear_y": lambda image, value: _affine(image, 1, 0, 0, value, 1, 0),
    "translate_x": lambda image, value: _affine(image, 1, 0, value * image.size[0], 0, 1, 0),
    "translate_y": lambda image, value: _affine(image, 1, 0, 0, 0, 1, value * image.size[1]),
}


def with_pillow(clip, operations):
    """A clip (T, H, W, 3) after its operations, by Pillow."""
    frames = []
    for frame in clip:
        image = Image.fromarray(frame.numpy())
        for name, value in operations:
            image = OPERATIONS[name](image, value)
        frames.append(torch.from_numpy(np.array(image)))
    return torch.stack(frames)


def clip_like_footage(seed, num_frames=2, height=60, width=80):
    """A clip with slopes, edges and noise: uint8 (T, H, W, 3)."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    frames = []
    for number in range(num_frames):
        waves = [np.sin(x / 13 + number), np.cos(x / 29 + y / 17 + number), np.sin(y / 11 - number)]
        frame = np.stack(waves, -1) * random.integers(20, 90, 3) + random.integers(80, 150, 3)
        frame[height // 5 : height // 2, width // 4 : width // 2] = random.integers(0, 255, 3)
        frames.append(np.clip(frame + random.normal(0, 5, frame.shape), 0, 255))
    return torch.from_numpy(np.stack(frames).astype(np.uint8))
