"""The other side of `benchmarks/model.py`: UniFormerV2's computation in the layout of its release.

Tokens are (1 + H·W, N·T, C) and go through `nn.MultiheadAttention` (`need_weights=False`), the global block's query
too; patches, local MHRA and DPE are `nn.Conv3d` on (N, C, T, H, W), copied into that layout and back; QuickGELU is
`x * sigmoid(1.702 * x)`. A frozen backbone stays inside autograd with `requires_grad` off. Names of tensors are the
release's, so both sides load one state dict. Sequential fusion only; no drop path and no checkpointing.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from k710.models.uniformerv2.config import UniFormerV2Config


class Norm(nn.LayerNorm):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.to(torch.float32)).to(x.dtype)


class FeedForward(nn.Module):
    def __init__(self, width: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.c_fc, self.c_proj = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = self.c_fc(x)
        return self.c_proj(self.drop(x * torch.sigmoid(1.702 * x)))


class Local(nn.Module):
    def __init__(self, width: int, reduction: float) -> None:
        super().__init__()
        inner = int(width // reduction)
        self.pos_embed = nn.Sequential(
            nn.BatchNorm3d(width),
            nn.Conv3d(width, inner, 1),
            nn.Conv3d(inner, inner, (3, 1, 1), padding=(1, 0, 0), groups=inner),
            nn.Conv3d(inner, width, 1),
        )

    def forward(self, x: Tensor, frames: int) -> Tensor:
        video = to_video(x[1:], frames)
        return torch.cat([x[:1], from_video(video + self.pos_embed(video))])


def to_video(patches: Tensor, frames: int) -> Tensor:
    """(H·W, N·T, C) to (N, C, T, H, W), contiguous."""
    num, _, width = patches.shape
    side = int(num**0.5)
    return patches.view(side, side, -1, frames, width).permute(2, 4, 3, 0, 1).contiguous()


def from_video(video: Tensor) -> Tensor:
    clips, width, frames, height, length = video.shape
    return video.permute(3, 4, 0, 2, 1).reshape(height * length, clips * frames, width)


class Block(nn.Module):
    def __init__(self, config: UniFormerV2Config) -> None:
        super().__init__()
        width = config.vit.width
        self.lmhra1 = Local(width, config.local_reduction) if config.local != "none" else None
        self.lmhra2 = Local(width, config.local_reduction) if config.local == "double" else None
        self.attn = nn.MultiheadAttention(width, config.vit.heads)
        self.ln_1, self.ln_2 = Norm(width), Norm(width)
        self.mlp = FeedForward(width)

    def forward(self, x: Tensor, frames: int) -> Tensor:
        x = self.lmhra1(x, frames) if self.lmhra1 else x
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False)[0]
        x = self.lmhra2(x, frames) if self.lmhra2 else x
        return x + self.mlp(self.ln_2(x))


class Summary(nn.Module):
    def __init__(self, config: UniFormerV2Config) -> None:
        super().__init__()
        width = config.vit.width
        self.attn = nn.MultiheadAttention(width, config.vit.heads)
        self.ln_1, self.ln_2, self.ln_3 = (nn.LayerNorm(width) for _ in range(3))
        self.mlp = FeedForward(width, config.mlp_dropout)

    def forward(self, query: Tensor, tokens: Tensor) -> Tensor:
        y = self.ln_3(tokens)
        query = query + self.attn(self.ln_1(query), y, y, need_weights=False)[0]
        return query + self.mlp(self.ln_2(query))


class Stages(nn.Module):
    def __init__(self, config: UniFormerV2Config) -> None:
        super().__init__()
        self.config, width, stages = config, config.vit.width, len(config.global_after)
        if stages:
            self.temporal_cls_token = nn.Parameter(torch.zeros(1, 1, width))
            if config.balance:
                self.balance = nn.Parameter(torch.zeros(width))
        self.resblocks = nn.ModuleList(Block(config) for _ in range(config.vit.layers))
        self.dpe = nn.ModuleList(nn.Conv3d(width, width, 3, padding=1, groups=width) for _ in range(stages))
        self.dec = nn.ModuleList(Summary(config) for _ in range(stages))
        self.proj = nn.Sequential(
            nn.LayerNorm(width), nn.Dropout(config.head_dropout), nn.Linear(width, config.num_classes)
        )

    def forward(self, x: Tensor, frames: int) -> Tensor:
        length, both, width = x.shape
        clips, stage = both // frames, 0
        token = self.temporal_cls_token.repeat(1, clips, 1) if len(self.dec) else None
        for index, block in enumerate(self.resblocks):
            x = block(x, frames)
            if index in self.config.global_after:
                moved = torch.cat([x[:1], x[1:] + from_video(self.dpe[stage](to_video(x[1:], frames)))])
                moved = moved.view(length, clips, frames, width).permute(2, 0, 1, 3).flatten(0, 1)  # T·L, N, C
                token = self.dec[stage](token, moved)
                stage += 1
        means = x.view(length, clips, frames, width)[0].mean(1)
        if token is None:
            return self.proj(means)
        if not self.config.balance:
            return self.proj(token[0])
        share = torch.sigmoid(self.balance)
        return self.proj((1 - share) * token[0] + share * means)


class PublishedLayout(nn.Module):
    """Clips (N, 3, T, size_px, size_px) to logits (N, num_classes), as `UniFormerV2`, tensor for tensor."""

    def __init__(self, config: UniFormerV2Config) -> None:
        super().__init__()
        width, px = config.vit.width, config.vit.patch_px
        kernel, stride = (3, 2) if config.temporal_downsample else (1, 1)
        self.class_embedding = nn.Parameter(torch.zeros(width))
        self.positional_embedding = nn.Parameter(torch.zeros(config.grid**2 + 1, width))
        self.conv1 = nn.Conv3d(3, width, (kernel, px, px), (stride, px, px), (kernel // 2, 0, 0), bias=False)
        self.ln_pre = Norm(width)
        self.transformer = Stages(config)
        if config.frozen:
            for part in (self.conv1, self.ln_pre, self.transformer.resblocks):
                part.requires_grad_(False)
            self.class_embedding.requires_grad_(False)
            self.positional_embedding.requires_grad_(False)

    def forward(self, clips: Tensor) -> Tensor:
        x = self.conv1(clips)  # (N, C, T, H, W)
        frames = x.shape[2]
        x = x.permute(0, 2, 3, 4, 1).flatten(2, 3).flatten(0, 1)  # (N·T, H·W, C)
        first = self.class_embedding.to(x.dtype).expand(len(x), 1, -1)
        x = self.ln_pre(torch.cat([first, x], dim=1) + self.positional_embedding.to(x.dtype))
        return self.transformer(x.permute(1, 0, 2), frames)
