"""What a model makes of clips before its head names a class."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from k710.models.families import FAMILIES
from k710.models.features import FeatureModel
from tests.helpers.small_cnn import SMALL_CNN


@pytest.mark.parametrize(
    "family", [*(one for one in FAMILIES.values() if one.head), SMALL_CNN], ids=lambda one: one.name
)
def test_features_are_what_the_head_is_given(family):
    torch.manual_seed(0)
    preset = family.presets.get("tiny") or next(iter(family.presets.values()))
    model = family.build(preset).eval()
    head: Any = model.get_submodule(family.head)
    x = torch.randn(2, 3, preset.num_frames, preset.size_px, preset.size_px)
    with torch.no_grad():
        logits = model(x)
        net = FeatureModel(family, model).eval()
        found = net(x)
    assert found.shape == (2, net.width)
    torch.testing.assert_close(head(found), logits)


def test_features_of_a_pretraining_are_its_encoders_mean_token_with_nothing_hidden():
    family = FAMILIES["videomaev2_pretrain"]
    torch.manual_seed(0)
    model = family.build(family.presets["tiny"]).eval()
    x = torch.randn(2, 3, 8, 32, 32)
    seen: list[torch.Tensor] = []
    model.encoder.register_forward_hook(lambda *args: seen.append(args[-1]))
    with torch.no_grad():
        found = FeatureModel(family, model)(x)
    assert seen[0].shape == (2, 64, 64), "all tokens"
    torch.testing.assert_close(found, seen[0].mean(1))
    # The masks of training, with nothing hidden, give the same tokens.
    everything = torch.arange(64).expand(2, -1)
    with torch.no_grad():
        model(x, everything, everything)
    torch.testing.assert_close(seen[1], seen[0])


@pytest.mark.parametrize("preset", ["small", "giant"])
def test_the_width_is_the_encoders(preset: str):
    family = FAMILIES["videomaev2_pretrain"]
    config = family.presets[preset]
    with torch.device("meta"):
        assert FeatureModel(family, family.build(replace(config, decoder_layers=1))).width == config.vit.width
