"""What the public VideoMAE V2 is and computes, read from the files beside this one, which its own code produced."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch

from k710.models.videomaev2.config import VideoMAEV2Config
from k710.models.videomaev2.model import VideoMAEV2
from tests.helpers.released_names import Named, read_shapes

HERE = Path(__file__).parent

# Small models of the public code; `videomaev2_golden.json` says what they compute with the weights of `fill`.
GOLDEN: dict[str, dict[str, Any]] = json.loads((HERE / "videomaev2_golden.json").read_text())

GOLDEN_CONFIGS: dict[str, VideoMAEV2Config] = {
    "plain": VideoMAEV2Config(backbone="tiny", size_px=32, num_frames=4, num_classes=10),
    "eight frames, drop path, head dropout": VideoMAEV2Config(
        backbone="tiny", size_px=32, num_frames=8, num_classes=10, drop_path=0.3, head_dropout=0.5
    ),
    "layer scale": VideoMAEV2Config(backbone="tiny", size_px=32, num_frames=4, num_classes=10, layer_scale=0.1),
}
GOLDEN_CLASSES = (3, 7)


def fill(model: VideoMAEV2) -> VideoMAEV2:
    """Every tensor by a formula of k, its place among the sorted names, and i, the element."""
    state = model.state_dict()
    for k, name in enumerate(sorted(state)):
        tensor = state[name]
        i = np.arange(tensor.numel(), dtype=np.float64)
        s = np.sin(0.37 * (k + 1) + 0.011 * i + 0.001 * i * i)
        if "norm" in name and name.endswith(".weight"):
            s = 1 + 0.2 * s
        elif tensor.ndim >= 2 and tensor.shape[0] > 1:
            s = 1.5 / math.sqrt(tensor.numel() / tensor.shape[0]) * s
        else:
            s = 0.3 * s
        state[name] = torch.from_numpy(s).to(tensor.dtype).view(tensor.shape)
    model.load_state_dict(state)
    return model


def golden_clips(config: VideoMAEV2Config) -> torch.Tensor:
    """The two clips (2, 3, T, 32, 32) that the golden numbers belong to."""
    i = np.arange(2 * 3 * config.num_frames * 32 * 32, dtype=np.float64)
    return torch.from_numpy(np.sin(0.013 * i + 1e-4 * i * i)).float().view(2, 3, config.num_frames, 32, 32)


def released_shapes() -> dict[str, Named]:
    """Name and shape of every tensor of each released classifier, in order."""
    return read_shapes(HERE / "videomaev2_names.txt")
