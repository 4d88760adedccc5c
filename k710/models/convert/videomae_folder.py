"""The other files of a Hugging Face folder of VideoMAE: what transformers must know to build and to feed the model.

And the way back: what such a folder's config.json says of the model. Source: transformers 5.24, models/videomae.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from k710.errors import CheckpointError

# Of every layer norm in the release. transformers has 1e-12 where a config.json does not say.
NORM_EPS = 1e-6
_TRANSFORMERS_EPS = 1e-12

_IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
_BILINEAR = 2  # of Pillow


def videomae_folder(config: Any, labels: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """config.json and preprocessor_config.json for a model of this configuration and the classes of its rows.

    Frames are resized to a short side of the model's size and cropped in the middle, and normalised with ImageNet's
    numbers, as the release does (its --imagenet_default_mean_and_std is on by default).
    """
    vit, size_px = config.vit, config.size_px
    model = {
        "architectures": ["VideoMAEForVideoClassification"],
        "model_type": "videomae",
        "image_size": size_px,
        "patch_size": vit.patch_px,
        "num_channels": 3,
        "num_frames": config.num_frames,
        "tubelet_size": config.tubelet_frames,
        "hidden_size": vit.width,
        "num_hidden_layers": vit.layers,
        "num_attention_heads": vit.heads,
        "intermediate_size": vit.mlp_width,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "layer_norm_eps": NORM_EPS,
        "qv_bias": config.qkv_bias,
        "use_mean_pooling": True,
        "id2label": {str(row): label for row, label in enumerate(labels)},
        "label2id": {label: row for row, label in enumerate(labels)},
    }
    pixels = {
        "image_processor_type": "VideoMAEImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": size_px},
        "resample": _BILINEAR,
        "do_center_crop": True,
        "crop_size": {"height": size_px, "width": size_px},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        **_IMAGENET,
    }
    return {"config.json": model, "preprocessor_config.json": pixels}


def sizes_of_folder(config: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """`size_px` and `num_frames`, as a config.json says. Raises CheckpointError where they are no whole numbers."""
    found: dict[str, Any] = {}
    for name, key in (("size_px", "image_size"), ("num_frames", "num_frames")):
        value = config.get(key)
        if isinstance(value, list) and len(value) == 2 and value[0] == value[1]:
            value = value[0]
        if value is not None:
            if type(value) is not int or value < 1:
                raise CheckpointError(f"{path}: config.json: {key} is {value!r}, want a whole number above 0")
            found[name] = value
    return found


def check_folder(config: Mapping[str, Any], model: Any, path: Path) -> list[str]:
    """What to know of a model that leaves transformers, as its config.json says; `model` is its configuration here.

    Raises CheckpointError where the folder's model computes something else than VideoMAE does with these tensors.
    """
    wanted = {
        "model_type": "videomae",
        "hidden_act": "gelu",
        "use_mean_pooling": True,
        "num_attention_heads": model.vit.heads,
    }
    for key, value in wanted.items():
        if config.get(key, value) != value:
            raise CheckpointError(
                f"{path}: config.json: {key} is {config[key]!r}, and {model.title} has {value!r}; "
                "the same tensors would compute something else"
            )
    eps = config.get("layer_norm_eps", _TRANSFORMERS_EPS)
    if eps == NORM_EPS:
        return []
    return [f"layer_norm_eps is {eps} in config.json, and {NORM_EPS} in the release: logits differ in the last digits"]
