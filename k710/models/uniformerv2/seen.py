"""What the backbone of a UniFormerV2 gives to its global blocks and its head, as tensors by name."""

from __future__ import annotations

from k710.models.uniformerv2.config import UniFormerV2Config

CLASS_TOKENS = "class_tokens"


def stage_names(config: UniFormerV2Config) -> list[str]:
    """The names of what each global block looks at, by the block of the backbone that it follows."""
    return [f"block{block:02d}" for block in config.global_after]


def takes_class_tokens(config: UniFormerV2Config) -> bool:
    """Whether the head is given the last block's class tokens, beside the video token or instead of it."""
    return config.balance or not config.global_after


def shapes_of_seen(config: UniFormerV2Config) -> dict[str, tuple[int, ...]]:
    """The shapes of one clip's tensors, by name: all tokens of a stage, and of each frame the class token."""
    frames, width = config.num_frames // (2 if config.temporal_downsample else 1), config.vit.width
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys(stage_names(config), (frames, 1 + config.grid**2, width))
    return shapes | ({CLASS_TOKENS: (frames, width)} if takes_class_tokens(config) else {})
