"""Equal forms of single parts of UniFormerV2, timed at B/16's sizes: why the model is written as it is."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from k710.models.uniformerv2.model import CrossAttention, DynamicPosition, quick_gelu

Seconds = Callable[[Callable[[], object], torch.device, int], float]

FRAMES, SIDE, WIDTH, HEADS = 8, 14, 768, 12


def position_forms(clips: int, options: dict) -> tuple[dict[str, Callable[[], Tensor]], list[Tensor]]:
    layer = DynamicPosition(WIDTH).to(**options)
    x = torch.randn(clips * FRAMES, 1 + SIDE**2, WIDTH, **options).requires_grad_()

    def volume() -> Tensor:
        video = x[:, 1:].unflatten(0, (clips, -1)).unflatten(2, (SIDE, SIDE)).permute(0, 4, 1, 2, 3)
        return F.conv3d(video.contiguous(), layer.weight, layer.bias, padding=1, groups=WIDTH)

    return {"DPE, 3 taps of conv2d": lambda: layer(x, clips), "DPE, conv3d": volume}, [x, layer.weight, layer.bias]


def temporal_forms(clips: int, options: dict) -> tuple[dict[str, Callable[[], Tensor]], list[Tensor]]:
    inner = 512
    weight = torch.randn(inner, 1, 3, 1, 1, **options).requires_grad_()
    x = torch.randn(clips, FRAMES, SIDE**2, inner, **options).requires_grad_()

    def plane() -> Tensor:
        return F.conv2d(x.permute(0, 3, 1, 2), weight.squeeze(-1), padding=(1, 0), groups=inner)

    def volume() -> Tensor:
        video = x.unflatten(2, (SIDE, SIDE)).permute(0, 4, 1, 2, 3).contiguous()
        return F.conv3d(video, weight, padding=(1, 0, 0), groups=inner)

    def shifted() -> Tensor:
        padded, taps = F.pad(x, (0, 0, 0, 0, 1, 1)), weight.view(inner, 3).t()
        return padded[:, :-2] * taps[0] + padded[:, 1:-1] * taps[1] + padded[:, 2:] * taps[2]

    return {"local MHRA, conv2d": plane, "local MHRA, shifts": shifted, "local MHRA, conv3d": volume}, [x, weight]


def attention_forms(clips: int, options: dict) -> tuple[dict[str, Callable[[], Tensor]], list[Tensor]]:
    attention = CrossAttention(WIDTH, HEADS).to(**options)
    torch.nn.init.xavier_uniform_(attention.in_proj_weight)
    torch.nn.init.zeros_(attention.in_proj_bias)
    query = torch.randn(clips, 1, WIDTH, **options).requires_grad_()
    tokens = torch.randn(clips, FRAMES * (1 + SIDE**2), WIDTH, **options).requires_grad_()

    def plain() -> Tensor:
        weights, biases = attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3)
        q, k, v = (
            F.linear(x, weight, bias).unflatten(-1, (HEADS, -1)).transpose(1, 2)
            for x, weight, bias in zip((query, tokens, tokens), weights, biases, strict=True)
        )
        return attention.out_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))

    leaves = [query, tokens, *attention.parameters()]
    return {"cross attention, folded": lambda: attention(query, tokens), "cross attention, plain": plain}, leaves


def activation_forms(clips: int, options: dict) -> tuple[dict[str, Callable[[], Tensor]], list[Tensor]]:
    x = torch.randn(clips * FRAMES * (1 + SIDE**2), 4 * WIDTH, **options).requires_grad_()
    return {"QuickGELU, silu": lambda: quick_gelu(x), "QuickGELU, sigmoid": lambda: x * torch.sigmoid(1.702 * x)}, [x]


def forms(device: torch.device, seconds: Seconds) -> None:
    """Print milliseconds of forward, and of forward and backward, eager, in bf16; the best of five."""
    clips = 64 if device.type == "cuda" else 2
    options = {"device": device, "dtype": torch.bfloat16}
    print(f"{clips} clips, bf16, {device}\n\n| form | forward, ms | forward and backward, ms |\n| --- | ---: | ---: |")
    for part in (position_forms, temporal_forms, attention_forms, activation_forms):
        runs, leaves = part(clips, options)
        for name, run in runs.items():
            gradient = torch.ones_like(run())

            def both(run: Callable[[], Tensor] = run, gradient: Tensor = gradient, leaves: list = leaves) -> None:
                torch.autograd.grad(run(), leaves, gradient)

            with torch.no_grad():
                forward = min(seconds(run, device, 3) for _ in range(5))
            whole = min(seconds(both, device, 3) for _ in range(5))
            print(f"| {name} | {forward * 1e3:.2f} | {whole * 1e3:.2f} |")
