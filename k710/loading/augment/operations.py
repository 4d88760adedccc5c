"""Apply to each clip of a batch its own operations.

Operations of one kind need one pass for the whole batch: one look-up for all tables, one resampling for all moves along
one axis. The host knows which clip gets which operation, so nothing waits for the device.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from k710.loading.augment import affine, pixel_ops
from k710.loading.augment.pixel_ops import to_device
from k710.loading.augment.randaugment import Operation

Named = Sequence[Operation]

_FRAME_TABLES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "auto_contrast": lambda clips, values: pixel_ops.auto_contrast_tables(clips),
    "equalize": lambda clips, values: pixel_ops.equalize_tables(clips),
    "contrast": pixel_ops.contrast_tables,
}
_BLENDS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "color": pixel_ops.saturate,
    "sharpness": pixel_ops.sharpen,
}


def apply_operations(clips: Tensor, operations: Sequence[Named]) -> Tensor:
    """Clips uint8 (N, T, 3, H, W), and each one's operations; same shape and type back, the input left as it was.

    Each operation's result is uint8 again, as between Pillow's operations. On a CPU clips go one after another, which
    keeps a clip in the cache; elsewhere together.
    """
    assert len(clips) == len(operations)
    return (one_by_one if clips.device.type == "cpu" else together)(clips, operations)


def one_by_one(clips: Tensor, operations: Sequence[Named]) -> Tensor:
    """Each clip through all its operations, then the next."""
    changed = []
    for number, named in enumerate(operations):
        clip = clips[number : number + 1]
        for operation in named:
            clip = _apply(_kind(operation.name), clip, [operation])
        changed.append(clip)
    return torch.cat(changed)


def together(clips: Tensor, operations: Sequence[Named]) -> Tensor:
    """The n-th operations of all clips at once, as few passes as there are kinds of operation."""
    clips = clips.clone(memory_format=torch.contiguous_format)
    for step in range(max(map(len, operations), default=0)):
        groups: dict[object, list[int]] = defaultdict(list)
        for number, named in enumerate(operations):
            if step < len(named):
                groups[_kind(named[step].name)].append(number)
        for kind, members in groups.items():
            index = to_device(members, clips.device)
            chosen = [operations[number][step] for number in members]
            clips.index_copy_(0, index, _apply(kind, clips.index_select(0, index), chosen))
    return clips


def _kind(name: str) -> object:
    """Operations of one kind are done in one pass."""
    if name in affine.MATRICES:
        return affine.axis(name)
    return name if name in _BLENDS else "table"


def _apply(kind: object, clips: Tensor, operations: Named) -> Tensor:
    """One operation for each clip, all of one kind."""
    height, width = clips.shape[3:]
    if kind == "table":
        return pixel_ops.look_up(clips, _tables(clips, operations))
    if isinstance(kind, str):
        return _BLENDS[kind](clips, _values(operations, clips.device))
    matrices = [affine.MATRICES[name](value, height, width) for name, value in operations]
    taps = affine.axis(operations[0].name)
    return affine.transform(clips, to_device(torch.tensor(matrices, dtype=torch.float64), clips.device), taps)


def _tables(clips: Tensor, operations: Named) -> Tensor:
    """(N, T, C, 256): tables that depend on pixels are made for the clips that need them, the others on the host."""
    members = defaultdict(list)
    for number, operation in enumerate(operations):
        members[operation.name if operation.name in _FRAME_TABLES else ""].append(number)
    num_clips, num_frames, num_channels = clips.shape[:3]
    tables = clips.new_empty((num_clips, num_frames, num_channels, 256))
    for name, numbers in members.items():
        index, chosen = to_device(numbers, clips.device), [operations[number] for number in numbers]
        if name:
            made = _FRAME_TABLES[name](clips.index_select(0, index), _values(chosen, clips.device))
        else:
            made = pixel_ops.plain_tables(chosen, clips.device)
        tables.index_copy_(0, index, made.expand(-1, num_frames, num_channels, -1))
    return tables


def _values(operations: Named, device: torch.device) -> Tensor:
    return to_device([operation.value for operation in operations], device)
