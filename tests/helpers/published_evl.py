"""What the public EVL is and computes: read from the files beside this one, which its own code produced, and its
definition written out plainly."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from k710.models.evl.config import PRESETS, EvlConfig
from k710.models.evl.model import Evl
from tests.helpers.golden import golden_weight
from tests.helpers.released_names import Named, read_shapes

HERE = Path(__file__).parent

# Small models of the public code; `evl_golden.json` says what they compute with the weights of `fill`.
GOLDEN: dict[str, dict[str, Any]] = json.loads((HERE / "evl_golden.json").read_text())
_SMALL = EvlConfig(
    "tiny", 32, num_frames=4, num_classes=10, decoder_layers=2, qkv_width=64, decoder_heads=2, keeps_backbone=True
)
GOLDEN_CONFIGS = {
    "full": _SMALL,
    "no_temporal": replace(_SMALL, temporal_conv=False, temporal_positions=False, temporal_attention=False),
}

_NORM = re.compile(r"(norm\d|ln_pre|^proj\.0)\.weight$")


def fill(model: Evl) -> Evl:
    """Every tensor, the tower's too, by a formula of k, its place among the sorted names, and i, the element."""
    tensors = dict(model.named_parameters())
    with torch.no_grad():
        for k, name in enumerate(sorted(tensors)):
            tensors[name].copy_(golden_weight(k, tensors[name], is_norm=bool(_NORM.search(name))))
    return model


def released_file(path: Path, state: Mapping[str, Tensor], **entries: Any) -> Path:
    """A file as the public training writes it: the model under DistributedDataParallel's names, with its optimiser."""
    rest = {"optimizer": {"state": {}}, "lr_sched": {"last_epoch": 50000}, "loss_scaler": {}, "next_step": 50000}
    torch.save({"model": {f"module.{name}": tensor for name, tensor in state.items()}, **rest, **entries}, path)
    return path


def plain_logits(weights: Mapping[str, Tensor], config: EvlConfig, clips: Tensor) -> Tensor:
    """The paper's equations one by one, with nothing folded: every key, value and offset is made."""

    def linear(name: str, x: Tensor) -> Tensor:
        return F.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def norm(name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"])

    def attend(name: str, heads: int, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q = linear(f"{name}.q_proj", x).unflatten(-1, (heads, -1))
        k, v = (linear(f"{name}.{part}_proj", y).unflatten(-1, (heads, -1)) for part in "kv")
        shares = torch.einsum("nqhd,nkhd->nhqk", q / q.shape[-1] ** 0.5, k).softmax(-1)
        return linear(f"{name}.out_proj", torch.einsum("nhqk,nkhd->nqhd", shares, v).flatten(2)), q, k

    def mlp(name: str, x: Tensor, activation: str = "quick_gelu") -> Tensor:
        x = linear(f"{name}.fc1", x)
        return linear(f"{name}.fc2", F.gelu(x) if activation == "gelu" else x * torch.sigmoid(1.702 * x))

    number, frames, px, n = len(clips), clips.shape[2], config.vit.patch_px, config.grid
    width = config.vit.width
    kernel = weights["backbone.patch_embed.proj.weight"].view(width, 3, px, px)
    x = F.conv2d(
        clips.transpose(1, 2).flatten(0, 1), kernel, weights["backbone.patch_embed.proj.bias"], stride=px
    ).flatten(2)
    x = torch.cat([weights["backbone.cls_token"].expand(len(x), 1, -1), x.transpose(1, 2)], 1)
    x = norm("backbone.ln_pre", x + weights["backbone.pos_embed"])
    features = []
    for block in range(config.vit.layers):
        name = f"backbone.blocks.{block}"
        normed = norm(f"{name}.norm1", x)
        mixed, q, k = attend(f"{name}.attn", config.vit.heads, normed, normed)
        x = x + mixed
        x = x + mlp(f"{name}.mlp", norm(f"{name}.norm2", x), config.activation)
        features.append([part.unflatten(0, (number, frames)) for part in (x, q, k)])

    query = weights["decoder.cls_token"].expand(number, 1, -1)
    for layer, (seen, q, k) in enumerate(features[-config.decoder_layers :]):
        y = seen
        if config.temporal_conv:
            name = f"decoder.temporal_conv.{layer}"
            lines = seen.permute(0, 2, 3, 1).flatten(0, 1)  # (B·L, C, T)
            y = y + F.conv1d(
                lines, weights[f"{name}.weight"], weights[f"{name}.bias"], padding=1, groups=width
            ).unflatten(0, (number, -1)).permute(0, 3, 1, 2)
        if config.temporal_positions:
            y = y + weights[f"decoder.temporal_pos_embed.{layer}"][None, :, None]
        if config.temporal_attention:
            y = y + _offsets_looked_at(weights, f"decoder.cross_attention.{layer}", q, k, n)
        name = f"decoder.decoder_layers.{layer}"
        tokens = norm(f"{name}.norm3", y.flatten(1, 2))
        query = query + attend(f"{name}.attn", config.decoder_heads, norm(f"{name}.norm1", query), tokens)[0]
        query = query + mlp(f"{name}.mlp", norm(f"{name}.norm2", query))
    return linear("proj.2", norm("proj.0", query[:, 0]))


def _offsets_looked_at(weights: Mapping[str, Tensor], name: str, q: Tensor, k: Tensor, n: int) -> Tensor:
    """Eq. 7 and 8, frame by frame and patch by patch."""
    number, frames, tokens = q.shape[:3]
    out = torch.zeros(number, frames, tokens, weights[f"{name}.w1"].shape[1])
    for frame in range(frames):
        for other, part in ((frame - 1, "w1"), (frame + 1, "w2")):
            if not 0 <= other < frames:
                continue
            scores = torch.einsum("nqhd,nkhd->nhqk", q[:, frame, 1:], k[:, other, 1:]) / q.shape[-1] ** 0.5
            shares = scores.softmax(-1).mean(1)
            for query in range(n * n):
                rows = [
                    (query // n - key // n + n - 1) * (2 * n - 1) + query % n - key % n + n - 1 for key in range(n * n)
                ]
                out[:, frame, 1 + query] += shares[:, query] @ weights[f"{name}.{part}"][rows]
    return out


def released_shapes() -> dict[str, Named]:
    """Name and shape of every tensor of each released model, in order, from `evl_names.txt`."""
    return read_shapes(HERE / "evl_names.txt")


def released_config(name: str) -> EvlConfig:
    """The configuration of a section of `evl_names.txt`."""
    frames = 32 if name.endswith("_32f") else 8
    return replace(PRESETS[name.removesuffix("_32f")], num_frames=frames)


def all_weights(model: nn.Module) -> dict[str, Tensor]:
    """The state dict with the frozen tower that it leaves out."""
    return {name: parameter.detach() for name, parameter in model.named_parameters()}
