"""A running average of the weights (Polyak and Juditsky, 1992), for recipes that ask for one."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Average:
    """The exponential average of a model's floating-point tensors; what is no number of that kind is the newest."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.tensors = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """After optimiser step `step` (from 1). The first steps count for more, so that the start is soon forgotten."""
        decay = min(self.decay, step / (step + 9))
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                self.tensors[name].lerp_(tensor.detach(), 1 - decay)
            else:
                self.tensors[name].copy_(tensor)

    def state_dict(self) -> dict[str, Tensor]:
        return self.tensors

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        for name, tensor in state.items():
            self.tensors[name].copy_(tensor)
