"""EVL (Lin et al., 2022): the paper's model in one file, with the names, shapes and numbers of its release.

An image tower looks at each frame by itself. A decoder with one query, the video's class token, looks at the tokens of
its last blocks, to which local temporal information was added before. Section numbers are the paper's; "the release" is
the public code, which decides where the two differ (see docs/evl.md).

A tower that is frozen is a part of the model that moves with it, and yet no part of its state dict: a checkpoint has
the decoder and the head alone, as those of the release do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from k710.errors import UsageError
from k710.models.evl.config import EvlConfig
from k710.models.evl.seen import Seen, seen_of
from k710.models.uniformerv2.model import ACTIVATIONS, LayerNorm, grad_unless, working_dtype

BACKBONE = "backbone."

# So many queries of the temporal cross attention are projected at once, since their weights take
# (queries, H·W, C) once laid out: 2 GiB for L/14 at 336 px, if it were all of them.
_QUERIES_AT_ONCE = 64


class Attention(nn.Module):
    """Multi-head attention with q, k and v of `qkv_width`, as the release keeps it: four linear layers."""

    def __init__(self, width: int, qkv_width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(width, qkv_width)
        self.k_proj = nn.Linear(width, qkv_width)
        self.v_proj = nn.Linear(width, qkv_width)
        self.out_proj = nn.Linear(qkv_width, width)


class SelfAttention(Attention):
    """Attention inside one frame."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B·T, L, C), and q and k (B·T, heads, L, D)."""
        q, k, v = (
            torch.unflatten(project(x), -1, (self.heads, -1)).transpose(1, 2)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        mixed = F.scaled_dot_product_attention(q, k, v)
        return self.out_proj(mixed.transpose(1, 2).flatten(2)), q, k


class CrossAttention(Attention):
    """MHA (eq. 2): one query (B, C) looks at all tokens (B, S, C) of a clip.

    With one query it pays to project it instead of the tokens: qᵀ(W x) = (Wᵀq)ᵀ x for the keys, and values are
    projected once pooled. So no key or value of a token is ever made, and none is kept for backward.
    """

    def forward(self, query: Tensor, tokens: Tensor) -> Tensor:
        depth = self.q_proj.out_features // self.heads
        keys, values = (
            torch.unflatten(layer.weight, 0, (self.heads, depth)) for layer in (self.k_proj, self.v_proj)
        )  # (heads, D, C)
        q = torch.unflatten(self.q_proj(query), -1, (self.heads, depth)) * depth**-0.5  # (B, heads, D)
        # One number for all scores of a head, which softmax does not see; without it, the bias had no gradient at all.
        same_for_all = (q * torch.unflatten(self.k_proj.bias, 0, (self.heads, depth))).sum(-1, keepdim=True)
        scores = torch.einsum("bhd,hdc->bhc", q, keys) @ tokens.transpose(1, 2) + same_for_all  # (B, heads, S)
        pooled = scores.softmax(-1, dtype=torch.float32).to(tokens.dtype) @ tokens  # (B, heads, C)
        mixed = torch.einsum("bhc,hdc->bhd", pooled, values).flatten(1)
        return cast(Tensor, self.out_proj(mixed + self.v_proj.bias))


class MLP(nn.Module):
    """Its dropout follows the activation."""

    def __init__(self, width: int, inner: int, activation: str, dropout: float = 0.0) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, inner)
        self.fc2 = nn.Linear(inner, width)
        self.activation, self.dropout = ACTIVATIONS[activation], dropout

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.fc2(F.dropout(self.activation(self.fc1(x)), self.dropout, self.training)))


class TowerBlock(nn.Module):
    """A block of the image tower."""

    def __init__(self, config: EvlConfig) -> None:
        super().__init__()
        width = config.vit.width
        self.attn = SelfAttention(width, width, config.vit.heads)
        self.mlp = MLP(width, 4 * width, config.activation)
        self.norm1 = LayerNorm(width)
        self.norm2 = LayerNorm(width)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mixed, q, k = self.attn(self.norm1(x))
        x = x + mixed
        return x + self.mlp(self.norm2(x)), q, k


class PatchEmbed(nn.Module):
    """Frames (B·T, 3, H, W) to tokens (B·T, H·W, C), as one matrix product since patches do not overlap."""

    def __init__(self, width: int, patch_px: int) -> None:
        super().__init__()
        self.patch_px = patch_px
        self.proj = nn.Linear(3 * patch_px**2, width)

    def forward(self, frames: Tensor) -> Tensor:
        px, (number, _, height, width) = self.patch_px, frames.shape
        patches = frames.reshape(number, 3, height // px, px, width // px, px).permute(0, 2, 4, 1, 3, 5)
        return cast(Tensor, self.proj(patches.reshape(number, -1, 3 * px * px)))


class Tower(nn.Module):
    """CLIP's image tower under the release's names."""

    def __init__(self, config: EvlConfig) -> None:
        super().__init__()
        self.config = config
        width = config.vit.width
        self.cls_token = nn.Parameter(torch.empty(width))
        self.pos_embed = nn.Parameter(torch.empty(config.grid**2 + 1, width))
        self.patch_embed = PatchEmbed(width, config.vit.patch_px)
        self.blocks = nn.ModuleList(TowerBlock(config) for _ in range(config.vit.layers))
        self.ln_pre = LayerNorm(width)

    def forward(self, clips: Tensor) -> list[Seen]:
        """What its last `decoder_layers` blocks give, the first of them first."""
        num_clips, first_seen = len(clips), len(self.blocks) - self.config.decoder_layers
        x = self.patch_embed(clips.transpose(1, 2).flatten(0, 1))  # (B·T, H·W, C)
        first = self.cls_token.to(x.dtype).expand(len(x), 1, -1)
        x = self.ln_pre(torch.cat([first, x], dim=1) + self.pos_embed.to(x.dtype))
        seen: list[Seen] = []
        for index, block in enumerate(self.blocks):
            x, q, k = block(x)
            if index >= first_seen:
                tokens = torch.unflatten(x, 0, (num_clips, -1))
                pairs = looks_at_neighbours(q, k, num_clips) if self.config.temporal_attention else (None, None)
                seen.append(Seen(tokens, *pairs))
        return seen


def looks_at_neighbours(q: Tensor, k: Tensor, num_clips: int) -> tuple[Tensor, Tensor]:
    """How much the patches of a frame look at those of the frame before and after it (eq. 7): Seen's `before`, `after`.

    `q` and `k`: (B·T, heads, 1 + H·W, D). The mean over heads is taken after the softmax, head by head, since all heads
    together would take as many times the memory.
    """
    dtype, (heads, depth) = q.dtype, (q.shape[1], q.shape[-1])
    q, k = (torch.unflatten(x[:, :, 1:], 0, (num_clips, -1)) for x in (q * depth**-0.5, k))  # (B, T, heads, H·W, D)

    def looks(of: Tensor, at: Tensor) -> Tensor:
        total: Tensor | None = None
        for head in range(heads):
            share = (of[:, :, head] @ at[:, :, head].transpose(-1, -2)).softmax(-1, dtype=torch.float32)
            total = share if total is None else total + share
        assert total is not None
        return (total / heads).to(dtype)

    return looks(q[:, 1:], k[:, :-1]), looks(q[:, :-1], k[:, 1:])


class TemporalConv(nn.Conv1d):
    """Y_conv (eq. 5): a depthwise convolution over three frames; class tokens take part.

    It is written as three products, so that tokens (B, T, L, C) need not be laid out anew.
    """

    def __init__(self, width: int) -> None:
        super().__init__(width, width, 3, padding=1, groups=width)

    def forward(self, x: Tensor) -> Tensor:
        before, now, after = self.weight[:, 0].to(x.dtype).unbind(-1)  # (C,) each
        assert self.bias is not None
        y = x * now + self.bias.to(x.dtype)
        y = y + F.pad(x[:, :-1] * before, (0, 0, 0, 0, 1, 0))
        return y + F.pad(x[:, 1:] * after, (0, 0, 0, 0, 0, 1))


class TemporalCrossAttention(nn.Module):
    """Y_attn (eq. 8): what patches look at in the frames before and after, by how far it is away, as features.

    `w1` belongs to the frame before, `w2` to the one after. Rows are offsets (row of the query - row of the key, then
    columns), each from -(n - 1) to n - 1 for a grid of n.
    """

    offsets: Tensor  # (H·W, H·W) rows of w1 and w2, by query and key

    def __init__(self, width: int, grid: int) -> None:
        super().__init__()
        num_offsets = (2 * grid - 1) ** 2
        self.w1 = nn.Parameter(torch.empty(num_offsets, width))
        self.w2 = nn.Parameter(torch.empty(num_offsets, width))
        self.grid = grid
        place = torch.arange(grid**2)
        rows, columns = (part[:, None] - part[None, :] + grid - 1 for part in (place // grid, place % grid))
        self.register_buffer("offsets", rows * (2 * grid - 1) + columns, persistent=False)

    def forward(self, seen: Seen) -> Tensor:
        """(B, T, 1 + H·W, C): nothing for class tokens, and nothing of a frame that is not there."""
        assert seen.before is not None
        assert seen.after is not None
        from_before = F.pad(self._half(seen.before, self.w1), (0, 0, 1, 0, 1, 0))
        return from_before + F.pad(self._half(seen.after, self.w2), (0, 0, 1, 0, 0, 1))

    def _half(self, looks: Tensor, weight: Tensor) -> Tensor:
        """(B, T - 1, H·W, C) of (B, T - 1, H·W, H·W)."""
        weight, parts = weight.to(looks.dtype), []
        by_query = looks.flatten(0, 1).transpose(0, 1)  # (queries, B·(T - 1), keys)
        for start in range(0, len(by_query), _QUERIES_AT_ONCE):
            some = slice(start, start + _QUERIES_AT_ONCE)
            parts.append(by_query[some] @ F.embedding(self.offsets[some], weight))
        return torch.unflatten(torch.cat(parts).transpose(0, 1), 0, looks.shape[:2])


class DecoderLayer(nn.Module):
    """Eq. 2 and 3: the query looks at the tokens, then goes through an MLP."""

    def __init__(self, config: EvlConfig) -> None:
        super().__init__()
        width = config.vit.width
        self.attn = CrossAttention(width, config.qkv_width, config.decoder_heads)
        self.mlp = MLP(width, config.mlp_width, "quick_gelu", config.mlp_dropout)
        self.norm1 = LayerNorm(width)
        self.norm2 = LayerNorm(width)
        self.norm3 = LayerNorm(width)

    def forward(self, query: Tensor, tokens: Tensor) -> Tensor:
        query = query + self.attn(self.norm1(query), self.norm3(tokens))
        return query + cast(Tensor, self.mlp(self.norm2(query)))


class Decoder(nn.Module):
    """Section 3.1 and 3.2: a video-level query (B, C) of what the tower's last blocks see."""

    def __init__(self, config: EvlConfig) -> None:
        super().__init__()
        width, layers = config.vit.width, range(config.decoder_layers)
        self.cls_token = nn.Parameter(torch.empty(width))
        self.decoder_layers = nn.ModuleList(DecoderLayer(config) for _ in layers)
        self.temporal_conv = self.temporal_pos_embed = self.cross_attention = None
        if config.temporal_conv:
            self.temporal_conv = nn.ModuleList(TemporalConv(width) for _ in layers)
        if config.temporal_positions:
            positions = (nn.Parameter(torch.empty(config.num_frames, width)) for _ in layers)
            self.temporal_pos_embed = nn.ParameterList(positions)
        if config.temporal_attention:
            self.cross_attention = nn.ModuleList(TemporalCrossAttention(width, config.grid) for _ in layers)

    def forward(self, seen: list[Seen]) -> Tensor:
        query = self.cls_token.expand(len(seen[0].tokens), -1)
        for index, layer in enumerate(self.decoder_layers):
            query = layer(query, self.with_motion(seen[index], index).flatten(1, 2))
        return query

    def with_motion(self, seen: Seen, index: int) -> Tensor:
        """Y = X + Y_conv + Y_pos + Y_attn of section 3.2, (B, T, 1 + H·W, C)."""
        y = x = seen.tokens
        if self.temporal_conv is not None:
            y = y + self.temporal_conv[index](x)
        if self.temporal_pos_embed is not None:
            y = y + self.temporal_pos_embed[index].to(x.dtype)[:, None]
        if self.cross_attention is not None:
            y = y + self.cross_attention[index](seen)
        return y


class Evl(nn.Module):
    """Clips (B, 3, T, size_px, size_px), normalised, to logits (B, num_classes).

    With temporal positions, T is `num_frames`. In place of clips it takes what its tower sees of them (seen.py). Raises
    UsageError for clips of another shape.

    `backbone`, the image tower, is part of the state dict unless it is frozen and `keeps_backbone` is off: then its
    weights come from where they came from at first, see k710.models.left_out.
    """

    def __init__(self, config: EvlConfig) -> None:
        super().__init__()
        self.config = config
        width = config.vit.width
        self.backbone = Tower(config)
        self.decoder = Decoder(config)
        self.proj = nn.Sequential(
            nn.LayerNorm(width), nn.Dropout(config.head_dropout), nn.Linear(width, config.num_classes)
        )
        self.init_weights()
        self.backbone.requires_grad_(not config.frozen)
        if config.frozen and not config.keeps_backbone:
            self.register_state_dict_post_hook(_without_backbone)  # type: ignore[no-untyped-call]
            self.register_load_state_dict_post_hook(_misses_no_backbone)  # type: ignore[no-untyped-call]

    def forward(self, clips: Tensor | Mapping[str, Tensor]) -> Tensor:
        if isinstance(clips, Tensor):
            return self.classify(self.see(clips))
        return self.classify(seen_of(clips, self.config, working_dtype(self.decoder.cls_token)))

    def see(self, clips: Tensor) -> list[Seen]:
        """What the tower sees of clips: all that the trained part needs, and nothing that training changes."""
        self._check(clips)
        with grad_unless(self.config.frozen):
            return cast("list[Seen]", self.backbone(clips))

    def classify(self, seen: list[Seen]) -> Tensor:
        return cast(Tensor, self.proj(self.decoder(seen)))

    def _check(self, clips: Tensor) -> None:
        side, frames = self.config.size_px, self.config.num_frames
        frames_fit = clips.ndim == 5 and clips.shape[2] in (
            (frames,) if self.config.temporal_positions else clips.shape
        )
        if not frames_fit or clips.shape[1] != 3 or tuple(clips.shape[3:]) != (side, side) or not clips.shape[2]:
            number = str(frames) if self.config.temporal_positions else "frames"
            raise UsageError(
                f"clips of shape {tuple(clips.shape)} do not fit this model: it wants (clips, 3, {number}, {side}, "
                f"{side})"
            )

    def backbone_parameters(self) -> Iterator[nn.Parameter]:
        return self.backbone.parameters()

    def train(self, mode: bool = True) -> Evl:
        super().train(mode)
        if self.config.frozen:
            self.backbone.eval()
        return self

    @torch.no_grad()
    def init_weights(self) -> None:
        """As the release. The query, the temporal positions and the temporal cross attention begin at zero.

        What is not named here begins as torch begins it.
        """
        for module in self.modules():
            if isinstance(module, Attention):
                for layer in (module.q_proj, module.k_proj, module.v_proj, module.out_proj):
                    nn.init.xavier_uniform_(layer.weight)
                    nn.init.zeros_(layer.bias)
            elif isinstance(module, MLP):
                for layer in (module.fc1, module.fc2):
                    nn.init.xavier_uniform_(layer.weight)
                    nn.init.normal_(layer.bias, std=1e-6)
            elif isinstance(module, TemporalCrossAttention):
                nn.init.zeros_(module.w1)
                nn.init.zeros_(module.w2)
        nn.init.zeros_(self.decoder.cls_token)
        for positions in self.decoder.temporal_pos_embed or ():
            nn.init.zeros_(positions)
        nn.init.normal_(self.backbone.cls_token, std=0.02)
        nn.init.normal_(self.backbone.pos_embed, std=0.02)


def _without_backbone(model: nn.Module, state: dict[str, Any], prefix: str, metadata: Any) -> None:
    for name in [name for name in state if name.startswith(prefix + BACKBONE)]:
        del state[name]


def _misses_no_backbone(model: nn.Module, found: Any) -> None:
    found.missing_keys[:] = [name for name in found.missing_keys if BACKBONE not in name]
