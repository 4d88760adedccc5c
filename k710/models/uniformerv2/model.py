"""UniFormerV2 (Li et al., 2022): the paper's model in one file, with the names, shapes and numbers of its release.

A clip's tokens are (B·T, 1 + H·W, C) from the first layer to the last: of each frame the class token, then its patches,
channels last. Nothing is laid out anew on the way. Section numbers are the paper's; "the release" is the public code
and its weights, which decide where the two differ (see docs/model.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.utils.checkpoint import checkpoint

from k710.errors import UsageError
from k710.models.uniformerv2.config import UniFormerV2Config
from k710.models.uniformerv2.seen import CLASS_TOKENS, stage_names, takes_class_tokens


def quick_gelu(x: Tensor) -> Tensor:
    """x * sigmoid(1.702 x), as CLIP has it; written by silu, whose backward keeps one tensor instead of two."""
    return F.silu(x * 1.702) * (1 / 1.702)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"quick_gelu": quick_gelu, "gelu": F.gelu}


def drop_path(x: Tensor, rate: float, num_clips: int) -> Tensor:
    """Stochastic depth (Huang et al., 2016): a branch `x` (B·T, …) or (B, …) is left out for whole clips."""
    if rate == 0:
        return x
    kept = x.new_empty(num_clips, *(1 for _ in x.shape)).bernoulli_(1 - rate) / (1 - rate)
    return (torch.unflatten(x, 0, (num_clips, -1)) * kept).flatten(0, 1)


def grad_unless(frozen: bool) -> torch.set_grad_enabled:
    return torch.set_grad_enabled(torch.is_grad_enabled() and not frozen)


def working_dtype(weight: Tensor) -> torch.dtype:
    """The type that tokens have in a pass: that of autocast where it is on, else that of the weights."""
    device = weight.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype


class LayerNorm(nn.LayerNorm):
    """In float32 whatever the tokens are, which it gives back as they came."""

    def forward(self, x: Tensor) -> Tensor:
        normed = F.layer_norm(x.float(), self.normalized_shape, self.weight.float(), self.bias.float(), self.eps)
        return normed.to(x.dtype)


class PatchEmbedding(nn.Conv3d):
    """Section 3, overall framework: pixels to tokens, as one matrix product since patches do not overlap."""

    def __init__(self, config: UniFormerV2Config) -> None:
        kernel, stride = (3, 2) if config.temporal_downsample else (1, 1)
        patch_px = config.vit.patch_px
        size, step = (kernel, patch_px, patch_px), (stride, patch_px, patch_px)
        super().__init__(3, config.vit.width, size, step, padding=(kernel // 2, 0, 0), bias=False)

    def forward(self, clips: Tensor) -> Tensor:
        num_clips, _, frames, height, width = clips.shape
        px = self.kernel_size[1]
        x = clips.view(num_clips, 3, frames, height // px, px, width // px, px)
        x = x.permute(0, 2, 3, 5, 1, 4, 6).reshape(num_clips, frames, -1, 3 * px * px)  # (B, T, H·W, 3·P·P)
        if self.kernel_size[0] == 3:  # token frame t sees frames 2t-1, 2t, 2t+1; before the first there is nothing
            even, odd = x[:, 0::2], x[:, 1::2]
            x = torch.cat([F.pad(odd[:, :-1], (0, 0, 0, 0, 1, 0)), even, odd], dim=-1)  # (B, T/2, H·W, 3·3·P·P)
        return F.linear(x.flatten(0, 1), self.weight.transpose(1, 2).flatten(1))  # (B·T, H·W, C)


class SelfAttention(nn.Module):
    """GS_MHRA (eq. 7): global spatial attention inside one frame."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        qkv = torch.unflatten(F.linear(x, self.in_proj_weight, self.in_proj_bias), -1, (3, self.heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # 3 x (B·T, heads, L, D), views all
        mixed = F.scaled_dot_product_attention(q, k, v)
        return cast(Tensor, self.out_proj(mixed.transpose(1, 2).flatten(2)))


class CrossAttention(SelfAttention):
    """C_MHRA (eq. 11-13): a few queries (B, Q, C) look at all tokens (B, S, C) of a clip.

    With so few queries it pays to project them instead of the tokens: qᵀ(W x) = (Wᵀq)ᵀ x for the keys, and values are
    projected once pooled. The keys' bias adds one number to all scores of a query, which softmax does not see.
    """

    def forward(self, query: Tensor, tokens: Tensor) -> Tensor:  # type: ignore[override]
        width, depth = query.shape[-1], query.shape[-1] // self.heads
        _, keys, values = self.in_proj_weight.view(3, self.heads, depth, width)  # 3 x (heads, D, C)
        q_bias, _, v_bias = self.in_proj_bias.view(3, width)
        q = F.linear(query, self.in_proj_weight[:width], q_bias) * depth**-0.5
        q = torch.einsum("bqhd,hdc->bqhc", torch.unflatten(q, -1, (self.heads, depth)), keys)
        scores = q.flatten(1, 2) @ tokens.transpose(1, 2)  # (B, Q·heads, S)
        pooled = scores.softmax(-1, dtype=torch.float32).to(tokens.dtype) @ tokens  # (B, Q·heads, C)
        mixed = torch.einsum("bqhc,hdc->bqhd", torch.unflatten(pooled, 1, (-1, self.heads)), values)
        return cast(Tensor, self.out_proj(mixed.flatten(2) + v_bias))


class MLP(nn.Module):
    """FFN (eq. 3, 10); its dropout follows the activation."""

    def __init__(self, width: int, activation: str, dropout: float = 0.0) -> None:
        super().__init__()
        self.c_fc = nn.Linear(width, 4 * width)
        self.c_proj = nn.Linear(4 * width, width)
        self.activation, self.dropout = ACTIVATIONS[activation], dropout

    def forward(self, x: Tensor) -> Tensor:
        x = F.dropout(self.activation(self.c_fc(x)), self.dropout, self.training)
        return cast(Tensor, self.c_proj(x))


class LocalMHRA(nn.Module):
    """LT_MHRA (eq. 6): each patch mixes with itself a frame before and after. Class tokens take no part."""

    def __init__(self, width: int, reduction: float) -> None:
        super().__init__()
        inner = int(width // reduction)
        self.pos_embed = nn.Sequential(
            nn.BatchNorm1d(width),  # over (B·T·H·W, C): the release's BatchNorm3d, with nothing to lay out anew
            nn.Conv3d(width, inner, 1),
            nn.Conv3d(inner, inner, (3, 1, 1), padding=(1, 0, 0), groups=inner),
            nn.Conv3d(inner, width, 1),
        )

    def forward(self, x: Tensor, num_clips: int) -> Tensor:
        norm, narrow, mix, widen = cast("Iterable[Any]", self.pos_embed)
        patches = x[:, 1:]  # (B·T, H·W, C)
        y = F.linear(norm(patches.flatten(0, 1)), narrow.weight.flatten(1), narrow.bias)
        y = y.view(num_clips, -1, patches.shape[1], y.shape[-1]).permute(0, 3, 1, 2)  # (B, C', T, H·W), channels last
        y = F.conv2d(y, mix.weight.squeeze(-1), mix.bias, padding=(1, 0), groups=y.shape[1])
        y = F.linear(y.permute(0, 2, 3, 1).flatten(0, 1), widen.weight.flatten(1), widen.bias)
        return F.pad(y, (0, 0, 1, 0))  # (B·T, 1 + H·W, C)


class LocalBlock(nn.Module):
    """Local UniBlock (section 3.1): CLIP's block, with LT_MHRA before its attention, its MLP, or neither."""

    def __init__(self, config: UniFormerV2Config, index: int) -> None:
        super().__init__()
        width, modules = config.vit.width, ("none", "single", "double").index(config.local)
        self.lmhra1 = LocalMHRA(width, config.local_reduction) if modules > 0 else None
        self.lmhra2 = LocalMHRA(width, config.local_reduction) if modules > 1 else None
        self.attn = SelfAttention(width, config.vit.heads)
        self.ln_1 = LayerNorm(width)
        self.mlp = MLP(width, config.activation)
        self.ln_2 = LayerNorm(width)
        self.drop_path = config.drop_path * index / max(config.vit.layers - 1, 1)
        self.checkpointed = index < config.checkpoint_blocks

    def forward(self, x: Tensor, num_clips: int) -> Tensor:
        # LT_MHRA is never recomputed: its batch norm would count the batch twice.
        if self.lmhra1 is not None:
            x = x + self._dropped(self.lmhra1(x, num_clips), num_clips)
        if self.lmhra2 is None:
            return self._kept_or_recomputed(lambda x: self._feed(self._attend(x, num_clips), num_clips), x)
        x = self._kept_or_recomputed(lambda x: self._attend(x, num_clips), x)
        x = x + self._dropped(self.lmhra2(x, num_clips), num_clips)
        return self._kept_or_recomputed(lambda x: self._feed(x, num_clips), x)

    def _attend(self, x: Tensor, num_clips: int) -> Tensor:
        return x + self._dropped(self.attn(self.ln_1(x)), num_clips)

    def _feed(self, x: Tensor, num_clips: int) -> Tensor:
        return x + self._dropped(self.mlp(self.ln_2(x)), num_clips)

    def _dropped(self, branch: Tensor, num_clips: int) -> Tensor:
        return drop_path(branch, self.drop_path if self.training else 0.0, num_clips)

    def _kept_or_recomputed(self, part: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        if self.checkpointed and torch.is_grad_enabled():
            return cast(Tensor, checkpoint(part, x, use_reentrant=False))
        return part(x)


class GlobalBlock(nn.Module):
    """Global UniBlock (section 3.2) without its DPE: queries (B, Q, C) summarise tokens (B, S, C)."""

    def __init__(self, config: UniFormerV2Config, index: int) -> None:
        super().__init__()
        width = config.vit.width
        self.attn = CrossAttention(width, config.vit.heads)
        self.ln_1 = LayerNorm(width)
        self.mlp = MLP(width, "quick_gelu", config.mlp_dropout)
        self.ln_2 = LayerNorm(width)
        self.ln_3 = LayerNorm(width)
        self.drop_path = config.global_drop_path * index / max(len(config.global_after) - 1, 1)

    def forward(self, query: Tensor, tokens: Tensor) -> Tensor:
        rate = self.drop_path if self.training else 0.0
        query = query + drop_path(self.attn(self.ln_1(query), self.ln_3(tokens)), rate, len(query))
        return query + drop_path(self.mlp(self.ln_2(query)), rate, len(query))


class DynamicPosition(nn.Conv3d):
    """DPE (eq. 8): depthwise 3x3x3 convolution of the patches; class tokens get nothing.

    Each frame tap is a 2D convolution of its own: the backward of a depthwise 3D one is many times slower.
    """

    def __init__(self, width: int) -> None:
        super().__init__(width, width, 3, padding=1, groups=width)

    def forward(self, x: Tensor, num_clips: int) -> Tensor:  # type: ignore[override]
        side = math.isqrt(x.shape[1] - 1)
        patches = torch.unflatten(x[:, 1:], 1, (side, side)).permute(0, 3, 1, 2)  # (B·T, C, H, W)
        patches = patches.contiguous(memory_format=torch.channels_last)
        before, now, after = (torch.unflatten(self._tap(patches, tap), 0, (num_clips, -1)) for tap in range(3))
        # What a frame gives to the next, to itself, to the one before; nothing leaves the clip.
        y = now + F.pad(before[:, :-1], (0, 0, 0, 0, 1, 0)) + F.pad(after[:, 1:], (0, 0, 0, 0, 0, 1))
        return F.pad(y.flatten(0, 1), (0, 0, 1, 0))  # (B·T, 1 + H·W, C)

    def _tap(self, patches: Tensor, tap: int) -> Tensor:
        bias = self.bias if tap == 1 else None
        y = F.conv2d(patches, self.weight[:, :, tap], bias, padding=1, groups=self.groups)
        return y.permute(0, 2, 3, 1).flatten(1, 2)  # (B·T, H·W, C)


class Transformer(nn.Module):
    """Local and global UniBlocks and their multi-stage fusion (section 3.3), with the head."""

    def __init__(self, config: UniFormerV2Config) -> None:
        super().__init__()
        width, stages = config.vit.width, len(config.global_after)
        self.config = config
        if stages:
            queries = 1 if config.fusion == "sequential" else stages
            self.temporal_cls_token = nn.Parameter(torch.empty(queries, 1, width))
            if config.balance:
                self.balance = nn.Parameter(torch.empty(width))
            if config.fusion == "parallel":
                self.fusion_weight = nn.Parameter(torch.empty(stages, width))
        self.resblocks = nn.ModuleList(LocalBlock(config, index) for index in range(config.vit.layers))
        self.dpe = nn.ModuleList(DynamicPosition(width) for _ in range(stages if config.dpe else 0))
        self.dec = nn.ModuleList(GlobalBlock(config, index) for index in range(stages))
        self.proj = nn.Sequential(
            LayerNorm(width), nn.Dropout(config.head_dropout), nn.Linear(width, config.num_classes)
        )

    def see(self, x: Tensor, num_clips: int) -> dict[str, Tensor]:
        """What the blocks give of tokens (B·T, 1 + H·W, C): tensors (B, T, …) by name, see seen.py."""
        seen = {}
        with grad_unless(self.config.frozen):
            for index, block in enumerate(self.resblocks):
                x = block(x, num_clips)
                if index in self.config.global_after:
                    seen[f"block{index:02d}"] = torch.unflatten(x, 0, (num_clips, -1))
            if takes_class_tokens(self.config):
                seen[CLASS_TOKENS] = torch.unflatten(x[:, 0], 0, (num_clips, -1))
        return seen

    def forward(self, seen: Mapping[str, Tensor]) -> Tensor:
        return cast(Tensor, self.proj(self._feature(seen)))

    def _feature(self, seen: Mapping[str, Tensor]) -> Tensor:
        """(B, C): the video token, and the mean of the last block's class tokens by as much as `balance` says."""
        num_clips = len(next(iter(seen.values())))
        stages = [seen[name].flatten(0, 1) for name in stage_names(self.config)]
        if not takes_class_tokens(self.config):
            return self.video_token(stages, num_clips)
        class_token = seen[CLASS_TOKENS].mean(1)
        if not stages:
            return class_token
        share = self.balance.sigmoid()
        return (1 - share) * self.video_token(stages, num_clips) + share * class_token

    def video_token(self, stages: list[Tensor], num_clips: int) -> Tensor:
        """Section 3.3, a to d: one token (B, C) of the tokens after each stage."""
        fusion, query = self.config.fusion, self.temporal_cls_token.expand(-1, num_clips, -1)  # (1 or N, B, C)
        token = query[0].unsqueeze(1)  # (B, 1, C)
        tokens = []
        for index, (block, stage) in enumerate(zip(self.dec, stages, strict=True)):
            if self.config.dpe:
                stage = stage + self.dpe[index](stage, num_clips)
            context = torch.unflatten(stage, 0, (num_clips, -1)).flatten(1, 2)  # (B, T·(1 + H·W), C)
            if index and fusion != "sequential":
                own = query[index].unsqueeze(1)
                if fusion == "hierarchical_kv":
                    context = torch.cat([token.to(context.dtype), context], dim=1)
                token = torch.cat([token, own], dim=1) if fusion == "hierarchical_q" else own
            token = block(token, context)
            tokens.append(token)
        if fusion == "parallel":
            return (torch.cat(tokens, dim=1) * self.fusion_weight).sum(1)
        return token.mean(1)


class UniFormerV2(nn.Module):
    """Clips (B, 3, T, size_px, size_px), normalised, to logits (B, num_classes).

    No weight depends on the number of frames: T may be any, even where `temporal_downsample` is on. In place of clips
    it takes what its backbone sees of them (seen.py). Raises UsageError for clips of another shape.
    """

    def __init__(self, config: UniFormerV2Config) -> None:
        super().__init__()
        self.config = config
        width = config.vit.width
        self.class_embedding = nn.Parameter(torch.empty(width))
        self.positional_embedding = nn.Parameter(torch.empty(config.grid**2 + 1, width))
        self.conv1 = PatchEmbedding(config)
        self.ln_pre = LayerNorm(width)
        self.transformer = Transformer(config)
        self.init_weights()
        for parameter in self.backbone_parameters():
            parameter.requires_grad_(not config.frozen)

    def forward(self, clips: Tensor | Mapping[str, Tensor]) -> Tensor:
        if isinstance(clips, Tensor):
            return cast(Tensor, self.transformer(self.see(clips)))
        dtype = working_dtype(self.class_embedding)
        return cast(Tensor, self.transformer({name: tensor.to(dtype) for name, tensor in clips.items()}))

    def see(self, clips: Tensor) -> dict[str, Tensor]:
        """What the backbone sees of clips: where it is frozen, all that the trained part needs."""
        self._check(clips)
        with grad_unless(self.config.frozen):
            x = self.conv1(clips)  # (B·T, H·W, C)
            first = self.class_embedding.to(x.dtype).expand(len(x), 1, -1)
            x = self.ln_pre(torch.cat([first, x], dim=1) + self.positional_embedding.to(x.dtype))
        return self.transformer.see(x, len(clips))

    def _check(self, clips: Tensor) -> None:
        side = self.config.size_px
        frames_fit = (
            clips.ndim == 5 and clips.shape[2] > 0 and not (self.config.temporal_downsample and clips.shape[2] % 2)
        )
        if not frames_fit or clips.shape[1] != 3 or tuple(clips.shape[3:]) != (side, side):
            number = "an even number of frames" if self.config.temporal_downsample else "any number of frames"
            raise UsageError(
                f"clips of shape {tuple(clips.shape)} do not fit this model: it wants "
                f"(clips, 3, frames, {side}, {side}) with {number}"
            )

    def backbone_parameters(self) -> Iterator[nn.Parameter]:
        """What the release freezes: CLIP's tower, local MHRA included; all but the global blocks and the head."""
        yield from (self.class_embedding, self.positional_embedding)
        for module in (self.conv1, self.ln_pre, self.transformer.resblocks):
            yield from module.parameters()

    def train(self, mode: bool = True) -> UniFormerV2:
        super().train(mode)
        if self.config.frozen:
            self.transformer.resblocks.eval()
        return self

    @torch.no_grad()
    def init_weights(self) -> None:
        """As the release before CLIP is loaded (Appendix A): what is new begins at zero, so CLIP is not disturbed.

        What is not named here begins as torch begins it.
        """
        transformer, blocks = self.transformer, list(cast("Iterable[GlobalBlock]", self.transformer.dec))
        attentions = [module for module in self.modules() if isinstance(module, SelfAttention)]
        for weight in (*(module.in_proj_weight for module in attentions), *(block.mlp.c_fc.weight for block in blocks)):
            nn.init.xavier_uniform_(weight)
        silent: list[nn.Module] = [module.pos_embed[3] for module in self.modules() if isinstance(module, LocalMHRA)]
        silent += [layer for block in blocks for layer in (block.attn.out_proj, block.mlp.c_proj)]
        zeros = [parameter for module in silent for parameter in module.parameters()]
        zeros += [bias for module in attentions for bias in (module.in_proj_bias, module.out_proj.bias)]
        zeros += [cast(nn.Parameter, layer.bias) for layer in transformer.dpe]
        for parameter in zeros:
            nn.init.zeros_(parameter)
        starts = {"temporal_cls_token": 0.0, "balance": 0.0, "fusion_weight": 1 / max(len(blocks), 1)}
        for name, parameter in transformer.named_parameters(recurse=False):
            nn.init.constant_(parameter, starts[name])
        for embedding in (self.class_embedding, self.positional_embedding):
            nn.init.normal_(embedding, std=self.config.vit.width**-0.5)
