"""VideoMAE V2 (Wang et al., 2023) as it is pretrained: an encoder of the few visible tokens and a small decoder, which
reconstructs hidden ones from them. Names, shapes and numbers are those of the release.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from k710.errors import UsageError
from k710.models.videomaev2.config import MEAN, STD, Backbone
from k710.models.videomaev2.masks import draw_masks
from k710.models.videomaev2.model import Block, LayerNorm, PatchEmbedding
from k710.models.videomaev2.positions import position_table
from k710.models.videomaev2.pretrain_config import PretrainConfig
from k710.random_key import RandomKey

_TARGET_EPS = 1e-6  # what the release adds to a cube's standard deviation


def rows(x: Tensor, numbers: Tensor) -> Tensor:
    """The rows `numbers` (B, M) of `x` (B, N, C), each clip its own: (B, M, C)."""
    return x.gather(1, numbers[..., None].expand(-1, -1, x.shape[2]))


def in_unit_range(cubes: Tensor) -> Tensor:
    """The pixels of cubes (B, M, 3·2·P·P), no longer normalised: (B, M, 3, 2·P·P), in 0 to 1."""
    cubes = torch.unflatten(cubes, 2, (3, -1))
    mean, std = (cubes.new_tensor(values)[:, None] for values in (MEAN, STD))
    return cubes * std + mean


def mean_and_deviation(cubes: Tensor) -> tuple[Tensor, Tensor]:
    """Of each channel of each cube (B, M, 3, 2·P·P): (B, M, 3, 1) each; the deviation is unbiased and never 0."""
    return cubes.mean(3, keepdim=True), cubes.var(3, keepdim=True).sqrt() + _TARGET_EPS


class Encoder(nn.Module):
    """Cubes of pixels (B, visible, 3·2·P·P) and their positions (B, visible, C) to tokens (B, visible, C)."""

    def __init__(self, config: PretrainConfig) -> None:
        super().__init__()
        self.patch_embed = PatchEmbedding(config.vit.width, config.tubelet_frames, config.vit.patch_px)
        self.blocks = _blocks(config.vit, config.drop_path, config.checkpoint_blocks)
        self.norm = LayerNorm(config.vit.width)

    def forward(self, cubes: Tensor, positions: Tensor) -> Tensor:
        x = self.patch_embed.embed(cubes)
        x = x + positions.to(x.dtype)
        for block in self.blocks:
            x = block(x)
        return cast(Tensor, self.norm(x))


class Decoder(nn.Module):
    """Tokens (B, visible + decoded, D) to the values (B, decoded, 3·2·P·P) of the last `num_decoded`."""

    def __init__(self, config: PretrainConfig) -> None:
        super().__init__()
        self.blocks = _blocks(config.decoder, config.drop_path, 0)
        self.norm = LayerNorm(config.decoder.width)
        self.head = nn.Linear(config.decoder.width, config.cube_values)

    def forward(self, x: Tensor, num_decoded: int) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return cast(Tensor, self.head(self.norm(x[:, -num_decoded:])))


def _blocks(vit: Backbone, drop_path: float, recomputed: int) -> nn.ModuleList:
    return nn.ModuleList(
        Block(
            vit.width, vit.heads, vit.mlp_width,
            drop_path=drop_path * index / max(vit.layers - 1, 1), recomputed=index < recomputed,
        )
        for index in range(vit.layers)
    )  # fmt: skip


class MaskedVideoMAEV2(nn.Module):
    """Clips (B, 3, T, size_px, size_px), normalised, and two masks to the values (B, decoded, 3·2·P·P) of the decoded
    tokens: normalised pixels, by time, row, column and channel.

    The masks are numbers of tokens, as `draw_masks` draws them: those that the encoder sees (B, visible) and those that
    the decoder reconstructs (B, decoded). What is hidden costs the encoder nothing. Raises UsageError for clips of
    another shape.
    """

    positions: Tensor
    decoder_positions: Tensor

    def __init__(self, config: PretrainConfig) -> None:
        super().__init__()
        self.config = config
        self.mask_token = nn.Parameter(torch.zeros(1, 1, config.decoder_width))
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.encoder_to_decoder = nn.Linear(config.vit.width, config.decoder_width, bias=False)
        slots, down, across = config.grid
        # Constants, and no tensors of the release's files.
        for name, width in (("positions", config.vit.width), ("decoder_positions", config.decoder_width)):
            table = position_table(slots * down * across, width).to(self.mask_token.device)
            self.register_buffer(name, table, persistent=False)
        self.init_weights()

    def forward(self, clips: Tensor, visible: Tensor, decoded: Tensor) -> Tensor:
        self._check(clips)
        seen = self.encoder(rows(self.encoder.patch_embed.cubes(clips), visible), self.positions[visible])
        x = self.encoder_to_decoder(seen)  # (B, visible, D)
        x = x + self.decoder_positions[visible].to(x.dtype)
        # Every decoded place has a mask token, also those that the encoder saw.
        masked = (self.mask_token + self.decoder_positions[decoded]).to(x.dtype)
        tokens = torch.cat([x, masked], 1)
        if not self.config.decoder_fp32:
            return cast(Tensor, self.decoder(tokens, decoded.shape[1]))
        with torch.autocast(clips.device.type, enabled=False):
            return cast(Tensor, self.decoder(tokens.float(), decoded.shape[1]))

    def features(self, clips: Tensor) -> Tensor:
        """What the encoder makes of clips of which nothing is hidden, the mean of its tokens: (B, C)."""
        self._check(clips)
        return cast(Tensor, self.encoder(self.encoder.patch_embed.cubes(clips), self.positions).mean(1))

    def draw_masks(self, keys: Sequence[RandomKey]) -> tuple[Tensor, Tensor]:
        """The masks of clips, each by its own key, on the model's device."""
        visible, decoded = draw_masks(self.config, keys)
        return visible.to(self.positions.device), decoded.to(self.positions.device)

    def losses(self, found: Tensor, clips: Tensor, visible: Tensor, decoded: Tensor) -> Tensor:
        """The mean squared error (B,) of the reconstructions `found` in the tokens that are hidden from the encoder.

        The release divides by the hidden tokens of a GPU's batch, not of each clip. All clips have as many where the
        slots of time are a multiple of 4, as in all published models, and so the mean of clips is the release's loss.
        """
        hidden = torch.ones(len(clips), len(self.positions), device=found.device)
        hidden = hidden.scatter(1, visible, 0.0).gather(1, decoded)
        errors = (found.float() - self.targets(clips, decoded)).square().mean(2)
        return (errors * hidden).sum(1) / hidden.sum(1).clamp(min=1)

    @torch.no_grad()
    def targets(self, clips: Tensor, decoded: Tensor) -> Tensor:
        """What the decoder should find (B, decoded, 3·2·P·P): each channel of a cube less its mean, by its standard
        deviation, which is unbiased; float32."""
        # Pixels in 0 to 1, as the release has them here.
        cubes = in_unit_range(rows(self.encoder.patch_embed.cubes(clips.float()), decoded))
        mean, deviation = mean_and_deviation(cubes)
        return ((cubes - mean) / deviation).transpose(2, 3).flatten(2)

    def _check(self, clips: Tensor) -> None:
        config = self.config
        wanted = (3, config.num_frames, config.size_px, config.size_px)
        if clips.ndim != 5 or tuple(clips.shape[1:]) != wanted:
            sizes = ", ".join(map(str, wanted))
            raise UsageError(f"clips of shape {tuple(clips.shape)} do not fit this model: it wants (clips, {sizes})")

    @torch.no_grad()
    def init_weights(self) -> None:
        """As the release: linear layers of encoder and decoder are uniform (Glorot and Bengio, 2010), biases 0; the
        mask token is normal with 0.02. What is not named here begins as torch begins it."""
        for layer in (*self.encoder.modules(), *self.decoder.modules()):
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        nn.init.normal_(self.mask_token, std=0.02)
