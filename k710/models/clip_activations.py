"""With which activation a CLIP image tower was trained: by what describes its file, or by the file's public name.

No tensor tells it: weights trained with GELU load into a model with QuickGELU, and every token is a little wrong.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from k710.models.checkpoints.checkpoint import file_sha256, read_json

OPENCLIP_CONFIG = "open_clip_config.json"

# Published files by name, with the activation that OpenCLIP's table of pretrained weights, UniFormerV2's code or
# MMAction2's code gives them. Eight hexadecimal digits in a name are the beginning of the file's SHA-256.
_PUBLISHED = (
    (r"vit_[bl]_(?:16|14)(?:_plus_240)?-laion400m_e3[12]-(?P<sha256>[0-9a-f]{8})\.pt", "gelu", "OpenCLIP's file name"),
    (r"[bl](?:16|14)_(?:400m|fullcc2\.5b)\.pt", "quick_gelu", "MetaCLIP's file name"),
    (r"vit_(?:b16|l14|l14_336)\.pth", "quick_gelu", "the file name of OpenAI's tower in UniFormerV2"),
    (
        r"vit-(?:base-p16|large-p14)-res(?:224|336)_clip-rgb_\d{8}-(?P<sha256>[0-9a-f]{8})\.pth",
        "quick_gelu",
        "the file name of OpenAI's tower in MMAction2",
    ),
)
_QUICK = re.compile(r"quick-?_?gelu", re.IGNORECASE)


def activation_of(source: str, path: Path, config: Mapping[str, Any] | None) -> tuple[str | None, str]:
    """The activation of the tower in `path` and how that is known; (None, "") where nothing tells.

    `config` is the config.json of Hugging Face, or the open_clip_config.json, that came with the file; else the one
    beside it counts. `source` is what was asked for: an address has the published name where the cache has not.
    """
    beside = path / OPENCLIP_CONFIG if path.is_dir() else path.with_name(OPENCLIP_CONFIG)
    if config is None and (path.is_dir() or path.name.startswith("open_clip")) and beside.is_file():
        config = read_json(beside)
    for tell in (_by_openclip, _by_huggingface):
        if config is not None and (known := tell(config)):
            return known
    return _by_name(source, path)


def _by_openclip(config: Mapping[str, Any]) -> tuple[str, str] | None:
    """OpenCLIP's model has GELU unless its configuration says quick_gelu."""
    model = config.get("model_cfg", config)
    if not isinstance(model, Mapping) or not isinstance(model.get("vision_cfg"), Mapping):
        return None
    return "quick_gelu" if model.get("quick_gelu") else "gelu", OPENCLIP_CONFIG


def _by_huggingface(config: Mapping[str, Any]) -> tuple[str, str] | None:
    """`hidden_act` of config.json; older versions of transformers left out what is CLIP's own, quick_gelu."""
    vision = config.get("vision_config", config)
    if not isinstance(vision, Mapping):
        return None
    if "hidden_act" in vision:
        return str(vision["hidden_act"]), "hidden_act of config.json"
    if config.get("model_type") in ("clip", "clip_vision_model"):
        return "quick_gelu", "config.json, where CLIP's hidden_act is quick_gelu unless it says otherwise"
    return None


def _by_name(source: str, path: Path) -> tuple[str | None, str]:
    for name in dict.fromkeys((source.rpartition("/")[2], path.name)):
        for pattern, activation, why in _PUBLISHED:
            match = re.fullmatch(pattern, name)
            if match and path.is_file():
                digits = match.groupdict().get("sha256")
                if not digits or file_sha256(path).startswith(digits):
                    return activation, why
        if _QUICK.search(name):
            return "quick_gelu", "its file name"
    return None, ""
