"""A model without its head: what it makes of clips before any class is named."""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor, nn

from k710.models.family import Family


class FeatureModel(nn.Module):
    """Clips (B, 3, T, H, W), normalised, to features (B, `width`): what the head of a model is given, or, of a model
    without classes, what its own `features` gives.

    `model` loses its head, so it can be used for nothing else. In evaluation mode nothing is dropped from the features.
    """

    def __init__(self, family: Family, model: nn.Module) -> None:
        super().__init__()
        self.model, self.width = model, 0
        if family.head is None:
            config: Any = model.config
            self.width, self._features = config.feature_width, cast(Any, model).features
        else:
            self.width = cast(nn.Linear, model.get_submodule(family.head)).in_features
            model.set_submodule(family.head, nn.Identity())
            self._features = model

    def forward(self, clips: Tensor) -> Tensor:
        return cast(Tensor, self._features(clips))
