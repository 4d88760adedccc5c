"""What the public VideoMAE V2 is and computes, read from the files beside this one, which its own code produced."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from k710.models.videomaev2.config import VideoMAEV2Config
from k710.models.videomaev2.model import VideoMAEV2
from tests.helpers.golden import golden_weight
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


def fill(model: VideoMAEV2) -> VideoMAEV2:
    """Every tensor by a formula of k, its place among the sorted names, and i, the element."""
    state = model.state_dict()
    for k, name in enumerate(sorted(state)):
        state[name] = golden_weight(k, state[name], is_norm="norm" in name and name.endswith(".weight"))
    model.load_state_dict(state)
    return model


def released_shapes() -> dict[str, Named]:
    """Name and shape of every tensor of each released classifier, in order."""
    return read_shapes(HERE / "videomaev2_names.txt")
