"""What a masked VideoMAE V2 sees of clips, and what it reconstructs of all that is hidden, as pixels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from k710.models.family import Reconstruction
from k710.models.videomaev2.masks import STARTS, running_cell_mask
from k710.models.videomaev2.pretrain import MaskedVideoMAEV2, in_unit_range, mean_and_deviation, rows
from k710.models.videomaev2.pretrain_config import PretrainConfig
from k710.random_key import RandomKey

_GREY = 0.5  # of what is hidden


@torch.no_grad()
def reconstruct(model: MaskedVideoMAEV2, clips: Tensor, keys: Sequence[RandomKey]) -> Reconstruction:
    """Clips (B, 3, T, size_px, size_px), normalised, under the masks that the keys draw.

    The decoder reconstructs everything that is hidden, in passes that have as many tokens each as in training. It finds
    pixels less their mean, by their deviation. As in VideoMAE's run_videomae_vis.py, each channel of a reconstructed
    cube is given the mean and deviation of the true one, and what is visible is shown as it is.
    """
    config = model.config
    visible, _ = model.draw_masks(keys)
    cubes = model.encoder.patch_embed.cubes(clips.float())
    is_hidden = torch.ones(cubes.shape[:2], dtype=torch.bool, device=clips.device).scatter(1, visible, False)
    hidden = is_hidden.nonzero()[:, 1].reshape(len(clips), -1)
    found = torch.zeros_like(cubes)
    for decoded in _passes(config, hidden):
        values = model(clips, visible, decoded).float()
        found.scatter_(1, decoded[..., None].expand_as(values), values)
    pixels = in_unit_range(cubes)
    mean, deviation = mean_and_deviation(pixels)
    guessed = torch.unflatten(found, 2, (-1, 3)).transpose(2, 3) * deviation + mean
    where = is_hidden[:, :, None, None]
    return Reconstruction(
        _clips(torch.where(where, _GREY, pixels), config),
        _clips(torch.where(where, guessed, pixels), config).clamp(0, 1),
        model.losses(rows(found, hidden), clips, visible, hidden),
    )


def _passes(config: PretrainConfig, hidden: Tensor) -> Iterator[Tensor]:
    """The tokens (B, decoded) of each pass; together they are all that is `hidden` (B, hidden)."""
    ratio = config.decoder_mask_ratio
    if not ratio:
        yield hidden
        return
    kept = STARTS - round(ratio * STARTS)  # places of a cell that a pass decodes: these, from its start on
    for start in range(0, STARTS, kept):
        decoded = torch.from_numpy(~running_cell_mask(config.grid, ratio, start)).nonzero()[:, 0]
        yield decoded.to(hidden.device).expand(len(hidden), -1)


def _clips(cubes: Tensor, config: PretrainConfig) -> Tensor:
    """(B, 3, T, size_px, size_px) of cubes (B, N, 3, 2·P·P)."""
    slots, down, across = config.grid
    px = config.vit.patch_px
    x = cubes.reshape(len(cubes), slots, down, across, 3, config.tubelet_frames, px, px)
    return x.permute(0, 4, 1, 5, 2, 6, 3, 7).reshape(len(cubes), 3, config.num_frames, config.size_px, config.size_px)
