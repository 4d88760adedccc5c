"""A model and an objective that k710 does not have: a 3D CNN in one file, as a new family would come."""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from k710.models.family import Cost, Family
from k710.models.weights import names_without_wrappers
from k710.train.objectives import Measured, Objective


@dataclass(frozen=True)
class SmallCnnConfig:
    width: int = 8
    size_px: int = 32
    num_frames: int = 8
    num_classes: int = 710
    dropout: float = 0.1

    @property
    def title(self) -> str:
        return f"SmallCnn of width {self.width}, {self.num_classes} classes"


class SmallCnn(nn.Module):
    def __init__(self, config: SmallCnnConfig) -> None:
        super().__init__()
        self.config = config
        self.stem = nn.Conv3d(3, config.width, 3, stride=(1, 2, 2), padding=1)
        self.body = nn.Conv3d(config.width, config.width, 3, stride=2, padding=1)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(config.width, config.num_classes)

    def forward(self, clips: Tensor) -> Tensor:
        x = self.body(self.stem(clips).relu()).relu()  # (B, C, T/2, H/4, W/4)
        return self.classifier(self.dropout(x.mean((2, 3, 4))))


def _config_from_shapes(shapes) -> SmallCnnConfig | None:
    stem, head = shapes.get("stem.weight", ()), shapes.get("classifier.weight", ())
    if len(stem) != 5 or stem[2:] != (3, 3, 3) or len(head) != 2:
        return None
    return SmallCnnConfig(width=stem[0], num_classes=head[0])


def _cost(config: SmallCnnConfig) -> Cost:
    positions = config.num_frames * config.size_px**2 // 4
    forward = {"stem": positions * config.width * 81, "body": positions // 8 * config.width**2 * 27}
    return Cost(forward, 3 * sum(forward.values()))


SMALL_CNN = Family(
    name="small_cnn",
    presets={"small": SmallCnnConfig()},
    config_class=SmallCnnConfig,
    build=SmallCnn,
    head="classifier",
    layer_of=lambda name, config: 0 if re.match("stem", name) else 1 if re.match("body", name) else 2,
    num_layers=lambda config: 2,
    config_from_shapes=_config_from_shapes,
    preset_name=lambda config: "small" if config.width == 8 else None,
    tensor_names=lambda checkpoint: names_without_wrappers(checkpoint, {}),
    cost=_cost,
    mean=(0.5, 0.5, 0.5),
    std=(0.25, 0.25, 0.25),
    starts={},
)

RECIPE = """\
extends: tiny-k710.yaml
model: {family: small_cnn, preset: small, dropout: 0.2}
optim: {batch_size: 8, gpu_batch_size: 8, epochs: 3, warmup_epochs: 1.0, lr: 1.0e-2, layer_decay: 0.9}
validate: {every_epochs: 1}
"""


def _guess_brightness(net, batch, keys, recipe) -> Measured:
    """Learn the mean of the pixels, which needs no label, from inputs with noise of their own."""
    noise = torch.tensor([[key.draws("erase").uniform()] for key in keys])
    found = net(batch.pixels + 0.01 * noise[..., None, None, None]).float().mean(1)
    losses = (found - batch.pixels.float().mean((1, 2, 3, 4))) ** 2 * batch.weights
    return Measured(losses, {"noise": noise[:, 0]})


GUESS_BRIGHTNESS = Objective(_guess_brightness, {"noise": "noise {:.3f}"}, needs_labels=False)
