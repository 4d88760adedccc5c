"""What the public UniFormerV2 is and computes, read from the files beside this one, which its own code produced."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch

from k710.models.uniformerv2.config import UniFormerV2Config, preset
from k710.models.uniformerv2.model import UniFormerV2
from tests.helpers.golden import golden_weight, wave
from tests.helpers.released_names import Named, read_shapes

HERE = Path(__file__).parent

# Small models of the public code; `uniformerv2_golden.json` says what they compute with the weights of `fill`.
GOLDEN: dict[str, dict[str, Any]] = json.loads((HERE / "uniformerv2_golden.json").read_text())
GOLDEN_CONFIGS: dict[str, UniFormerV2Config] = {
    "kinetics": preset("tiny", num_classes=10),
    "something-something": preset(
        "tiny",
        num_classes=10,
        num_frames=8,
        global_after=(1, 2, 3),
        local="double",
        temporal_downsample=True,
        drop_path=0.2,
        global_drop_path=0.4,
    ),
    "frozen": preset("tiny", num_classes=10, balance=False),
}

_NORM = re.compile(r"(^|\.)(ln_\w+|pos_embed\.0|proj\.0)\.weight$")


def fill(model: UniFormerV2) -> UniFormerV2:
    """Every tensor by a formula of k, its place among the sorted names, and i, the element."""
    state = model.state_dict()
    for k, name in enumerate(sorted(state)):
        tensor = state[name]
        if name.endswith("num_batches_tracked"):
            state[name] = torch.zeros_like(tensor)
        elif name.endswith("running_var"):
            values = 1 + 0.3 * np.abs(wave(k, tensor.numel()))
            state[name] = torch.from_numpy(values).to(tensor.dtype).view(tensor.shape)
        else:
            state[name] = golden_weight(k, tensor, is_norm=bool(_NORM.search(name)))
    model.load_state_dict(state)
    return model


def released_shapes() -> dict[str, Named]:
    """Name and shape of every tensor of each released model, in order."""
    return read_shapes(HERE / "uniformerv2_names.txt")


def released_file(path: Path, name: str, *, num_classes: int | None = None) -> Path:
    """A file with the names and shapes of a released model that takes no room: each tensor is one zero, expanded."""
    state = {}
    for key, shape in released_shapes()[name]:
        if num_classes and "proj.2" in key:
            shape = (num_classes, *shape[1:])
        state[f"backbone.{key}"] = torch.zeros(()).expand(shape)
    torch.save(state, path)
    return path
