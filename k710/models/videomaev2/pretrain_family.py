"""VideoMAE V2's masked pretraining as a family: it has no classes, and learns from pixels alone."""

from __future__ import annotations

import re

from k710.models.checkpoints.checkpoint import Checkpoint
from k710.models.family import Cost, Family, Sampling
from k710.models.videomaev2.config import MEAN, STD
from k710.models.videomaev2.pretrain import MaskedVideoMAEV2
from k710.models.videomaev2.pretrain_config import PRESETS, PretrainConfig, config_from_shapes, preset_name
from k710.models.videomaev2.reconstruct import reconstruct
from k710.models.weights import names_without_wrappers

_BLOCK = re.compile(r"encoder\.blocks\.(\d+)\.")

# Wrappers may be called `encoder.` too, which therefore is gone from names without wrappers.
_OF_ENCODER = {"patch_embed.": "encoder.patch_embed.", "blocks.": "encoder.blocks.", "norm.": "encoder.norm."}


def layer_of(name: str, config: PretrainConfig) -> int:
    """Which layer a parameter belongs to: 0 the patch embedding, i + 1 the encoder's block i, all else above."""
    if name.startswith("encoder.patch_embed."):
        return 0
    block = _BLOCK.match(name)
    return int(block[1]) + 1 if block else num_layers(config)


def num_layers(config: PretrainConfig) -> int:
    return config.vit.layers + 1


def tensor_names(checkpoint: Checkpoint) -> dict[str, str]:
    """This model's name of each tensor, and the file's. Raises CheckpointError where two tensors have one name."""
    return names_without_wrappers(checkpoint, _OF_ENCODER)


def multiply_adds(config: PretrainConfig) -> dict[str, int]:
    """Multiply-adds of one clip by part. Normalisation, activations and sums are not counted."""
    encoder, decoder, visible = config.vit, config.decoder, config.num_visible
    tokens = visible + config.num_decoded
    return {
        "patches": visible * encoder.width * config.cube_values,
        "encoder": encoder.layers * visible * (4 * encoder.width + 2 * encoder.mlp_width) * encoder.width,
        "encoder attention": encoder.layers * 2 * visible**2 * encoder.width,
        "encoder to decoder": visible * encoder.width * decoder.width,
        "decoder": decoder.layers * tokens * (4 * decoder.width + 2 * decoder.mlp_width) * decoder.width,
        "decoder attention": decoder.layers * 2 * tokens**2 * decoder.width,
        "pixels": config.num_decoded * decoder.width * config.cube_values,
    }


def cost(config: PretrainConfig) -> Cost:
    """Backward costs twice forward; blocks that are computed again, one forward more."""
    forward = multiply_adds(config)
    blocks = forward["encoder"] + forward["encoder attention"]
    again = blocks * config.checkpoint_blocks // config.vit.layers
    return Cost(forward, 3 * sum(forward.values()) + again)


VIDEOMAEV2_PRETRAIN = Family(
    name="videomaev2_pretrain",
    presets=PRESETS,
    config_class=PretrainConfig,
    build=MaskedVideoMAEV2,
    head=None,
    layer_of=layer_of,
    num_layers=num_layers,
    config_from_shapes=config_from_shapes,
    preset_name=preset_name,
    tensor_names=tensor_names,
    cost=cost,
    mean=MEAN,
    std=STD,
    starts={},
    no_decay=frozenset({"mask_token"}),
    not_in_shapes=("decoder_heads",),
    of_masks=("mask_ratio", "decoder_mask_ratio"),
    size_in_shapes=False,
    sampling=Sampling("window", 4),
    reconstruct=reconstruct,
)
