"""How many frames a view of a checkpoint's model has: by its recipe, its configuration or its name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from k710.errors import CheckpointError
from k710.models.checkpoints.checkpoint import Checkpoint

# SlowFast's and UniFormerV2's NUM_FRAMES, MMAction2's t_size: as YAML, as Python, or as text of a dict.
_SETTING = re.compile(r"(?<![A-Za-z_])(?:NUM_FRAMES|num_frames|t_size)['\"]?\s*[:=]\s*(\d{1,4})(?!\d)")
# `16x224` and `f16x224` of released names (frames x pixels), `u16` of MMAction2's.
_SIZED, _UNIFORM = re.compile(r"(?<!\d)(\d{1,3})x(\d{3})(?!\d)"), re.compile(r"(?<![a-z0-9])u(\d{1,3})(?![a-z0-9])")

_Known = list[tuple[int, str]]  # a number of frames, and which part of the checkpoint says so


def choose_frames(checkpoint: Checkpoint, *, wanted: int | None, size_px: int) -> tuple[int | None, str]:
    """The frames of a view, and in words how that is known; None where nothing tells. `wanted` comes before all.

    What a file tells comes in the order recipe, configuration, name; what contradicts the choice is in the words.
    Raises CheckpointError where its configuration tells several numbers and nothing comes before it.
    """
    known = [*_of_recipe(checkpoint), *_of_configuration(checkpoint), *_of_name(checkpoint, size_px)]
    if wanted is None and not known:
        return None, "nothing tells another number"
    frames, part = (wanted, "you") if wanted is not None else known[0]
    same_part = [number for number, other in known if other == part]
    if len(same_part) > 1:
        numbers = " and ".join(map(str, same_part))
        raise CheckpointError(f"{checkpoint.path}: {part} says {numbers} frames; which? Say --frames N")
    contradictions = [f"but {other} says {number}" for number, other in known if number != frames]
    why = "as you say" if wanted is not None else f"{part} says so"
    return frames, "; ".join([why, *contradictions])


def _of_recipe(checkpoint: Checkpoint) -> _Known:
    number = checkpoint.recorded("data").get("num_frames")
    return [(number, "its recipe")] if isinstance(number, int) and number > 0 else []


def _of_configuration(checkpoint: Checkpoint) -> _Known:
    payload = checkpoint.payload
    meta = payload.get("meta")
    texts = [payload.get("cfg"), payload.get("config"), meta.get("cfg") if isinstance(meta, dict) else None]
    numbers = [int(number) for text in texts if isinstance(text, str) for number in _SETTING.findall(text)]
    numbers += [value for text in texts if isinstance(text, dict) for value in _settings(text)]
    numbers += list(_settings(checkpoint.config or {}))
    return [(number, "its configuration") for number in dict.fromkeys(numbers) if number > 0]


def _settings(values: Mapping[str, Any]) -> list[int]:
    """Numbers of frames in a configuration that is a dict, and in its sections."""
    found = []
    for key, value in values.items():
        if key in ("NUM_FRAMES", "num_frames", "t_size") and isinstance(value, int):
            found.append(value)
        elif key in ("DATA", "model", "backbone", "UNIFORMERV2") and isinstance(value, dict):
            found += _settings(value)
    return found


def _of_name(checkpoint: Checkpoint, size_px: int) -> _Known:
    name = checkpoint.path.name.casefold()
    numbers = [int(frames) for frames, size in _SIZED.findall(name) if int(size) == size_px]
    numbers += [int(frames) for frames in _UNIFORM.findall(name)]
    return [(number, "its name") for number in dict.fromkeys(numbers) if number > 0]
