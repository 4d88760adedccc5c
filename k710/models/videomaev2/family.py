"""VideoMAE V2 (Wang et al., 2023) as a family: what training, evaluation and inspection ask of it."""

from __future__ import annotations

import re

from k710.models.checkpoints.checkpoint import Checkpoint
from k710.models.family import Cost, Encoder, Family, Sampling
from k710.models.videomaev2.config import MEAN, PRESETS, STD, VideoMAEV2Config, config_from_shapes, preset_name
from k710.models.videomaev2.cost import multiply_adds
from k710.models.videomaev2.model import VideoMAEV2
from k710.models.weights import names_without_wrappers

_BLOCK = re.compile(r"blocks\.(\d+)\.")


def layer_of(name: str, config: VideoMAEV2Config) -> int:
    """Which layer a parameter belongs to: 0 the patch embedding, i + 1 block i, and the head with its norm above."""
    if name.startswith("patch_embed."):
        return 0
    block = _BLOCK.match(name)
    return int(block[1]) + 1 if block else num_layers(config)


def num_layers(config: VideoMAEV2Config) -> int:
    return config.vit.layers + 1


def tensor_names(checkpoint: Checkpoint) -> dict[str, str]:
    """This model's name of each tensor, and the file's. Raises CheckpointError where two tensors have one name."""
    return names_without_wrappers(checkpoint, {})


def encoder_of(checkpoint: Checkpoint, config: VideoMAEV2Config) -> Encoder | None:
    """The encoder of a masked pretraining, or an encoder alone: blocks and patches without a head.

    Its last norm is left out, as the release's strict=False does: what is pooled has a norm of its own, which is new.
    """
    names = tensor_names(checkpoint)
    if "patch_embed.proj.weight" not in names or "head.weight" in names:
        return None
    body = ("patch_embed.", "blocks.") if config.mean_pooling else ("patch_embed.", "blocks.", "norm.")
    taken = {name: key for name, key in names.items() if name.startswith(body)}
    left = dict.fromkeys(name.partition(".")[0] for name in names if name not in taken)
    return Encoder(taken, tuple(left), ("fc_norm.", "head.") if config.mean_pooling else ("head.",))


def cost(config: VideoMAEV2Config) -> Cost:
    """As the paper's tables count. Backward costs twice forward; blocks that are computed again, one forward more."""
    forward = multiply_adds(config)
    blocks = forward["linear layers"] + forward["attention"]
    again = blocks * config.checkpoint_blocks // config.vit.layers
    return Cost(forward, 3 * sum(forward.values()) + again)


VIDEOMAEV2 = Family(
    name="videomaev2",
    presets=PRESETS,
    config_class=VideoMAEV2Config,
    build=VideoMAEV2,
    head="head",
    layer_of=layer_of,
    num_layers=num_layers,
    config_from_shapes=config_from_shapes,
    preset_name=preset_name,
    tensor_names=tensor_names,
    cost=cost,
    mean=MEAN,
    std=STD,
    starts={},
    size_in_shapes=False,
    encoder_of=encoder_of,
    sampling=Sampling("window", 4),
)
