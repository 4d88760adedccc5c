"""VideoMAE V2 (Wang et al., 2023) as it is finetuned: a plain video ViT in one file, with the names, shapes and numbers
of its release.

A clip's tokens are (B, N, C): N = T/2·H·W cubes of two frames, time outermost. All of them attend to all (section 3).
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.utils.checkpoint import checkpoint

from k710.errors import UsageError
from k710.models.videomaev2.config import VideoMAEV2Config
from k710.models.videomaev2.positions import position_table

_EPS = 1e-6  # of every layer norm in the release


def drop_path(x: Tensor, rate: float) -> Tensor:
    """Stochastic depth (Huang et al., 2016): a branch `x` (B, N, C) is left out for whole clips."""
    if rate == 0:
        return x
    kept = x.new_empty(len(x), *(1 for _ in x.shape[1:])).bernoulli_(1 - rate) / (1 - rate)
    return x * kept


class LayerNorm(nn.LayerNorm):
    """In float32 whatever the tokens are, which it gives back as they came."""

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=_EPS)

    def forward(self, x: Tensor) -> Tensor:
        normed = F.layer_norm(x.float(), self.normalized_shape, self.weight.float(), self.bias.float(), self.eps)
        return normed.to(x.dtype)


class PatchEmbedding(nn.Module):
    """Cubes of pixels to tokens, as one matrix product since cubes do not overlap."""

    def __init__(self, width: int, tubelet_frames: int, patch_px: int) -> None:
        super().__init__()
        size = (tubelet_frames, patch_px, patch_px)
        self.proj = nn.Conv3d(3, width, size, stride=size)

    def forward(self, clips: Tensor) -> Tensor:
        return self.embed(self.cubes(clips))

    def cubes(self, clips: Tensor) -> Tensor:
        """The pixels of every token: (B, N, 3·2·P·P), the channel outermost, then time."""
        frames, px = self.proj.kernel_size[:2]
        num_clips, _, length, height, width = clips.shape
        x = clips.reshape(num_clips, 3, length // frames, frames, height // px, px, width // px, px)
        return x.permute(0, 2, 4, 6, 1, 3, 5, 7).reshape(num_clips, -1, 3 * frames * px * px)

    def embed(self, cubes: Tensor) -> Tensor:
        return F.linear(cubes, self.proj.weight.flatten(1), self.proj.bias)


class Attention(nn.Module):
    """Joint space-time attention. Keys have no bias: it would add one number to all scores of a query."""

    def __init__(self, width: int, heads: int, qkv_bias: bool) -> None:
        super().__init__()
        self.heads = heads
        if qkv_bias:
            self.q_bias = nn.Parameter(torch.zeros(width))
            self.v_bias = nn.Parameter(torch.zeros(width))
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        qkv = torch.unflatten(F.linear(x, self.qkv.weight, self._bias()), -1, (3, self.heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # 3 x (B, heads, N, D), views all
        mixed = F.scaled_dot_product_attention(q, k, v)
        return cast(Tensor, self.proj(mixed.transpose(1, 2).flatten(2)))

    def _bias(self) -> Tensor | None:
        if not hasattr(self, "q_bias"):
            return None
        return torch.cat([self.q_bias, torch.zeros_like(self.v_bias), self.v_bias])


class MLP(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.fc2(F.gelu(self.fc1(x))))


class Block(nn.Module):
    """A block of a ViT, each branch normed before it. `layer_scale` 0: no factors."""

    def __init__(
        self, width: int, heads: int, hidden: int, *, qkv_bias: bool = True, layer_scale: float = 0.0,
        drop_path: float = 0.0, recomputed: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.norm1 = LayerNorm(width)
        self.attn = Attention(width, heads, qkv_bias)
        self.norm2 = LayerNorm(width)
        self.mlp = MLP(width, hidden)
        if layer_scale:
            self.gamma_1 = nn.Parameter(torch.full((width,), layer_scale))
            self.gamma_2 = nn.Parameter(torch.full((width,), layer_scale))
        self.layer_scale, self.drop_path, self.recomputed = layer_scale, drop_path, recomputed

    def forward(self, x: Tensor) -> Tensor:
        if self.recomputed and torch.is_grad_enabled():
            return cast(Tensor, checkpoint(self._whole, x, use_reentrant=False))
        return self._whole(x)

    def _whole(self, x: Tensor) -> Tensor:
        rate = self.drop_path if self.training else 0.0
        attended = self.attn(self.norm1(x))
        if self.layer_scale:
            attended = self.gamma_1.to(x.dtype) * attended
        x = x + drop_path(attended, rate)
        fed = self.mlp(self.norm2(x))
        if self.layer_scale:
            fed = self.gamma_2.to(x.dtype) * fed
        return x + drop_path(fed, rate)


class VideoMAEV2(nn.Module):
    """Clips (B, 3, T, size_px, size_px), normalised, to logits (B, num_classes).

    No weight depends on the number of frames: T may be any multiple of `tubelet_frames`. Raises UsageError for clips of
    another shape.
    """

    positions: Tensor

    def __init__(self, config: VideoMAEV2Config) -> None:
        super().__init__()
        self.config = config
        vit = config.vit
        self.patch_embed = PatchEmbedding(vit.width, config.tubelet_frames, vit.patch_px)
        self.blocks = nn.ModuleList(
            Block(
                vit.width, vit.heads, vit.mlp_width, qkv_bias=config.qkv_bias, layer_scale=config.layer_scale,
                drop_path=config.drop_path * index / max(vit.layers - 1, 1),
                recomputed=index < config.checkpoint_blocks,
            )
            for index in range(vit.layers)
        )  # fmt: skip
        if config.mean_pooling:
            self.fc_norm = LayerNorm(vit.width)
        else:
            self.norm = LayerNorm(vit.width)
        self.head = nn.Linear(vit.width, config.num_classes)
        slots, rows, columns = config.grid
        # A constant, and no tensor of the release's files.
        table = position_table(slots * rows * columns, vit.width).to(self.head.weight.device)
        self.register_buffer("positions", table, persistent=False)
        self.init_weights()

    def forward(self, clips: Tensor) -> Tensor:
        feature = F.dropout(self.features(clips), self.config.head_dropout, self.training)
        return cast(Tensor, self.head(feature))

    def features(self, clips: Tensor) -> Tensor:
        """What the head classifies: (B, C)."""
        self._check(clips)
        x = self.patch_embed(clips)  # (B, N, C)
        x = x + self._positions(x).to(x.dtype)
        for block in self.blocks:
            x = block(x)
        if self.config.mean_pooling:
            return cast(Tensor, self.fc_norm(x.mean(1)))
        return cast(Tensor, self.norm(x[:, 0]))

    def _positions(self, x: Tensor) -> Tensor:
        """The table for as many tokens as `x` (B, N, C) has: positions are numbers along the clip, so a shorter clip
        has the first rows, and a longer one more."""
        if x.shape[1] <= len(self.positions):
            return self.positions[: x.shape[1]]
        return position_table(x.shape[1], x.shape[2]).to(x.device)

    def _check(self, clips: Tensor) -> None:
        side, frames = self.config.size_px, self.config.tubelet_frames
        fits = clips.ndim == 5 and clips.shape[2] > 0 and clips.shape[2] % frames == 0
        if not fits or clips.shape[1] != 3 or tuple(clips.shape[3:]) != (side, side):
            raise UsageError(
                f"clips of shape {tuple(clips.shape)} do not fit this model: it wants "
                f"(clips, 3, frames, {side}, {side}) with a multiple of {frames} frames"
            )

    @torch.no_grad()
    def init_weights(self) -> None:
        """As the release: the weights of linear layers are normal (it cuts them off at ±2, 100 standard deviations),
        their biases 0; the head's are multiplied by `init_scale`. What is not named here begins as torch begins it."""
        for layer in (module for module in self.modules() if isinstance(module, nn.Linear)):
            nn.init.normal_(layer.weight, std=self.config.init_std)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        for parameter in self.head.parameters():
            parameter.mul_(self.config.init_scale)
