"""What a masked VideoMAE V2 sees of clips and reconstructs of the rest, as pixels."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from k710.models.videomaev2.config import MEAN, STD
from k710.models.videomaev2.pretrain import MaskedVideoMAEV2
from k710.models.videomaev2.pretrain_config import PRESETS
from k710.models.videomaev2.reconstruct import reconstruct
from k710.random_key import RandomKey

TINY = PRESETS["tiny"]
KEYS = [RandomKey(3, 0, f"clip{number}") for number in range(3)]


class Knowing(MaskedVideoMAEV2):
    """Finds what it should; counts the tokens of each pass."""

    decoded: list[Tensor]

    def forward(self, clips: Tensor, visible: Tensor, decoded: Tensor) -> Tensor:
        self.decoded.append(decoded)
        return self.targets(clips, decoded)


@pytest.fixture
def frames() -> Tensor:
    torch.manual_seed(0)
    return torch.rand(3, 3, 8, 32, 32)


def normalised(frames: Tensor) -> Tensor:
    mean, std = (torch.tensor(values)[:, None, None, None] for values in (MEAN, STD))
    return (frames - mean) / std


def hidden_pixels(model: MaskedVideoMAEV2) -> Tensor:
    """(3, 8, 32, 32) which pixels of the three clips are hidden by the masks of training."""
    visible, _ = model.draw_masks(KEYS)
    tokens = torch.ones(3, 64, dtype=torch.bool).scatter(1, visible, False).reshape(3, 4, 4, 4)
    for axis, times in ((1, 2), (2, 8), (3, 8)):
        tokens = tokens.repeat_interleave(times, axis)
    return tokens


@pytest.mark.parametrize("ratio", [0.0, 0.25, 0.5, 0.75])
def test_what_is_found_right_is_the_clip_itself(frames: Tensor, ratio: float):
    config = replace(TINY, decoder_mask_ratio=ratio)
    model = Knowing(config).eval()
    model.decoded = []
    found = reconstruct(model, normalised(frames), KEYS)
    torch.testing.assert_close(found.found, frames, rtol=0, atol=1e-5)
    assert found.losses.tolist() == [0, 0, 0]
    assert {decoded.shape[1] for decoded in model.decoded} == {config.num_decoded}, "as many tokens as in training"
    is_hidden = hidden_pixels(model)
    assert is_hidden.float().mean().item() == 0.75
    grey = (found.seen == 0.5).all(1)
    assert torch.equal(grey, is_hidden)
    torch.testing.assert_close(found.seen.movedim(1, -1)[~is_hidden], frames.movedim(1, -1)[~is_hidden])


def test_nothing_found_is_the_mean_of_each_cube(frames: Tensor):
    """The picture then shows where colours are, which the model has not found; the loss tells it."""
    model = MaskedVideoMAEV2(TINY).eval()
    with torch.no_grad():
        for parameter in model.decoder.head.parameters():
            parameter.zero_()
    found = reconstruct(model, normalised(frames), KEYS)
    means = frames.unfold(2, 2, 2).unfold(3, 8, 8).unfold(4, 8, 8).mean((5, 6, 7))
    for axis, times in ((2, 2), (3, 8), (4, 8)):
        means = means.repeat_interleave(times, axis)
    expected = torch.where(hidden_pixels(model)[:, None], means, frames)
    torch.testing.assert_close(found.found, expected, rtol=0, atol=1e-5)
    assert found.losses.tolist() == pytest.approx([127 / 128] * 3, abs=1e-4)


def test_a_clip_is_reconstructed_alike_in_any_batch(frames: Tensor):
    torch.manual_seed(1)
    model = MaskedVideoMAEV2(TINY).eval()
    whole = reconstruct(model, normalised(frames), KEYS)
    alone = reconstruct(model, normalised(frames[1:2]), KEYS[1:2])
    torch.testing.assert_close(whole.found[1:2], alone.found)
    torch.testing.assert_close(whole.losses[1:2], alone.losses)
