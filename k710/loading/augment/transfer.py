"""Small host tensors on their way to a device, without waiting for it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def to_device(values: Tensor | Sequence[float] | Sequence[int], device: torch.device) -> Tensor:
    """A host tensor, or numbers (whole ones int64, others float32), on `device`; copied from pinned memory."""
    tensor = values if isinstance(values, Tensor) else torch.tensor(values)
    if device.type == "cpu":
        return tensor
    # From pageable memory the copy would wait for all that is queued on the device.
    return (tensor.pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True)
