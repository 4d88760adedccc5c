"""CLIP's image towers, from which UniFormerV2 and EVL start: files of OpenAI, Hugging Face, OpenCLIP.

What is taken, dropped and inflated is as in the release: the visual tower without `proj` and `ln_post`, the patch
convolution's 2D weight in the middle frame of the 3D one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from k710.errors import CheckpointError, DownloadError, UsageError
from k710.models.checkpoints.checkpoint import FOLDER_WEIGHTS, file_sha256, open_checkpoint, read_config, read_json
from k710.models.checkpoints.formats import bare
from k710.models.checkpoints.torchscript_files import is_torchscript, read_torchscript
from k710.models.clip_activations import OPENCLIP_CONFIG, activation_of
from k710.models.uniformerv2.config import ACTIVATIONS
from k710.models.weights import PROBLEMS, Loaded, Positions, fit, resize_positions
from k710.storage.download import cached

_OPENAI = "https://openaipublic.azureedge.net/clip/models"

# OpenAI's own files, as its clip.py names them; the folder in the address is the file's SHA-256.
OPENAI_TOWERS = {
    "ViT-B/16": f"{_OPENAI}/5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f/ViT-B-16.pt",
    "ViT-L/14": f"{_OPENAI}/b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836/ViT-L-14.pt",
    "ViT-L/14@336px": f"{_OPENAI}/3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02/ViT-L-14-336px.pt",
}

DROPPED = ("proj", "ln_post.weight", "ln_post.bias")

_MAX_WEIGHTS_BYTES = 64 << 30
_MAX_CONFIG_BYTES = 1 << 20
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(@[\w.-]+)?")
# The files of a Hugging Face repository that hold a tower, each with the one that describes it.
_HUB_FILES = {
    "model.safetensors": "config.json",
    "pytorch_model.bin": "config.json",
    "open_clip_model.safetensors": OPENCLIP_CONFIG,
    "open_clip_pytorch_model.bin": OPENCLIP_CONFIG,
}

# Hugging Face's CLIPVisionModel, where its names are not OpenAI's. `pre_layrnorm` is spelled so there.
_HUGGINGFACE = {
    "embeddings.class_embedding": "class_embedding",
    "embeddings.position_embedding.weight": "positional_embedding",
    "embeddings.patch_embedding.weight": "conv1.weight",
}
_HUGGINGFACE_PARTS = {
    "pre_layrnorm": "ln_pre",
    "post_layernorm": "ln_post",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "self_attn.out_proj": "attn.out_proj",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}


@dataclass(frozen=True)
class Tower:
    """An image tower under OpenAI's names, its patch convolution still 2D.

    `activation` is None where nothing tells; `activation_said` is how it is known.
    """

    source: str
    path: Path
    tensors: dict[str, Tensor]
    activation: str | None
    activation_said: str = ""


def load_clip(
    model: nn.Module,
    source: str | Path,
    *,
    allow: Collection[str] = (),
    interpolate_positions: bool = False,
    sha256: str | None = None,
    cache: str | Path | None = None,
    activation: str | None = None,
) -> Loaded:
    """Start `model` from a CLIP image tower; everything else of it keeps its initialisation.

    The model has the tower's names (OpenAI's), a 3D `conv1`, and in its `config` the tower's `activation` and `grid`.

    `source` is a file, a Hugging Face folder, an http(s) address, a name of OPENAI_TOWERS, or a Hugging Face id
    (`openai/clip-vit-base-patch16`, `id@revision`). What is fetched is kept in the cache. `sha256` is checked
    where given; for OpenAI's addresses it is known. `allow` lets some of PROBLEMS through, or "activation": a
    tower of another activation than the model's. `interpolate_positions` resizes the position embedding (224 and 336
    px). `activation` is the user's word on what the tower was trained with, for the files that nothing tells it of (see
    `activation_of`). Raises CheckpointError, DownloadError, or UsageError, and leaves the model as it was.
    """
    if strange := sorted(set(allow) - {*PROBLEMS, "activation"}):
        raise UsageError(f"allow={strange}: want some of {', '.join(PROBLEMS)}, activation")
    config: Any = model.config
    tower = tower_for(
        source,
        None if "activation" in allow else config.activation,
        activation,
        type(config).__name__,
        sha256=sha256,
        cache=cache,
    )
    wanted = [name for name in model.state_dict() if _of_clip(name)]
    found = {name: tensor for name, tensor in tower.tensors.items() if name not in DROPPED}
    if "conv1.weight" in found:
        found["conv1.weight"] = inflate(found["conv1.weight"], model.get_parameter("conv1.weight").shape[2])
    positions = Positions("positional_embedding", lambda tensor: resize_positions(tensor, config.grid, tower.source))
    loaded = fit(
        model, found, wanted, tower.source, title=config.title, allow=set(allow) & set(PROBLEMS), positions=positions,
        interpolate_positions=interpolate_positions,
    )  # fmt: skip
    return replace(loaded, dropped=tuple(name for name in DROPPED if name in tower.tensors))


def tower_for(
    source: str | Path,
    activation: str | None,
    stated: str | None,
    config_name: str,
    *,
    sha256: str | None = None,
    cache: str | Path | None = None,
) -> Tower:
    """A tower for a model of this `activation`, None for one of any; see `load_clip` for the rest.

    `config_name` is the class of the model's configuration, for the message of a refusal. Raises CheckpointError or
    DownloadError.
    """
    tower = open_tower(source, sha256=sha256, cache=cache)
    if activation is not None:
        _check_activation(tower, activation, stated, config_name)
    return tower


def _check_activation(tower: Tower, ours: str, stated: str | None, config_name: str) -> None:
    """Raises CheckpointError unless the tower was trained with the model's activation, by the file or by the user."""
    theirs = tower.activation or stated
    if theirs is None:
        raise CheckpointError(
            f"{tower.source}: nothing tells whether this tower was trained with quick_gelu (OpenAI's, MetaCLIP's, "
            "DFN's) or with gelu (most others of OpenCLIP); a wrong one changes every token. Say which: "
            "k710 train --set activation=quick_gelu or --set activation=gelu, in Python "
            'load_clip(…, activation="gelu"); or give the folder with its config.json or open_clip_config.json'
        )
    if theirs not in ACTIVATIONS:
        raise CheckpointError(
            f"{tower.source}: was trained with {theirs} ({tower.activation_said}), and the model has "
            f"{' and '.join(ACTIVATIONS)} alone"
        )
    if theirs != ours or stated not in (None, theirs):
        why = f" ({tower.activation_said})" if tower.activation else ""
        raise CheckpointError(
            f"{tower.source}: was trained with {theirs}{why}, and this model has {ours}; make the model with "
            f"activation={theirs}: k710 train --set activation={theirs}; in Python {config_name}(activation="
            f'"{theirs}")'
        )


def _of_clip(name: str) -> bool:
    """Whether CLIP has this tensor of the model: its backbone but for local MHRA."""
    own = ("class_embedding", "positional_embedding", "conv1.", "ln_pre.", "transformer.resblocks.")
    return name.startswith(own) and ".lmhra" not in name


def inflate(weight: Tensor, num_frames: int) -> Tensor:
    """A 2D patch convolution (C, 3, P, P) as a 3D one (C, 3, num_frames, P, P) that sees the middle frame alone."""
    if weight.ndim != 4:
        return weight
    inflated = weight.new_zeros(*weight.shape[:2], num_frames, *weight.shape[2:])
    inflated[:, :, num_frames // 2] = weight
    return inflated


def open_tower(source: str | Path, *, sha256: str | None = None, cache: str | Path | None = None) -> Tower:
    """Find, fetch, check and read a tower; see `load_clip`. Raises CheckpointError where the file holds none."""
    path, config = _locate(str(source), cache)
    named = re.search(r"^https?://.*/([0-9a-f]{64})/", OPENAI_TOWERS.get(str(source), str(source)))
    expected = sha256 or (named[1] if named else None)
    if expected and path.is_file() and (found := file_sha256(path)) != expected.lower():
        raise CheckpointError(
            f"{path}: its SHA-256 is {found}, want {expected.lower()}; not the file that was asked for, or damaged: "
            "remove it and fetch it again"
        )
    if is_torchscript(path):
        archive = read_torchscript(path)
        tensors = _pick(archive.describe(), archive, str(path))
        return Tower(str(source), path, tensors, "quick_gelu", "a TorchScript archive, as OpenAI's are")
    checkpoint = open_checkpoint(path)
    shapes = {key: (dtype, shape) for key, (dtype, shape, _) in checkpoint.tensors.items()}
    told_by = activation_of(str(source), path, config or checkpoint.config)
    return Tower(str(source), path, _pick(shapes, checkpoint, str(path)), *told_by)


def _locate(source: str, cache: str | Path | None) -> tuple[Path, dict[str, Any] | None]:
    """The file or folder, fetched if need be, and a config.json that was fetched with it."""
    address = OPENAI_TOWERS.get(source, source)
    if address.startswith(("http://", "https://")):
        return cached(address, cache=cache, max_bytes=_MAX_WEIGHTS_BYTES).path, None
    if Path(source).exists() or not _HUB_ID.fullmatch(source):
        return _here(Path(source)), read_config(Path(source)) if Path(source).is_dir() else None
    name, _, revision = source.partition("@")
    base = f"{os.environ.get('HF_ENDPOINT', 'https://huggingface.co')}/{name}/resolve/{revision or 'main'}"
    for file, config in _HUB_FILES.items():
        try:
            path = cached(f"{base}/{file}", cache=cache, max_bytes=_MAX_WEIGHTS_BYTES).path
        except DownloadError as error:
            if f"{base}/{file}: 404" not in str(error):
                raise
            continue
        return path, read_json(cached(f"{base}/{config}", cache=cache, max_bytes=_MAX_CONFIG_BYTES).path)
    raise CheckpointError(
        f"{source}: no such file or folder here, and {base} has none of {', '.join(_HUB_FILES)}; OpenAI's own towers "
        f"are {', '.join(OPENAI_TOWERS)}"
    )


def _here(path: Path) -> Path:
    """The file of a folder as OpenCLIP leaves it; any other file or folder as it is."""
    if path.is_dir() and not any((path / name).is_file() for name in FOLDER_WEIGHTS):
        return next((path / name for name in _HUB_FILES if (path / name).is_file()), path)
    return path


def _pick(shapes: Mapping[str, Any], file: Any, where: str) -> dict[str, Tensor]:
    """The tower's tensors under OpenAI's names, whatever wrapper, form or text tower is around it."""
    keys = {bare(key): key for key in shapes}
    if any(name.startswith("visual.trunk.") for name in keys):
        raise CheckpointError(f"{where}: an OpenCLIP tower from timm (visual.trunk.*), which is no CLIP ViT")
    for prefix in ("visual.", "vision_model."):
        inside = {name.removeprefix(prefix): key for name, key in keys.items() if name.startswith(prefix)}
        if inside:
            break
    else:  # the tower alone, as the release and MMAction2 keep it
        prefix, inside = "", keys
    if not prefix and "embeddings.patch_embedding.weight" in keys:
        # Hugging Face's CLIPVisionModel by itself, since transformers 5; `bare` took `encoder.` for a wrapper's.
        prefix = "vision_model."
        inside = {f"encoder.{name}" if name.startswith("layers.") else name: key for name, key in keys.items()}
    positions = "embeddings.position_embedding.weight" if prefix == "vision_model." else "positional_embedding"
    if positions not in inside or not any("resblocks.0." in name or "layers.0." in name for name in inside):
        raise CheckpointError(
            f"{where}: no ViT image tower of CLIP in it (visual.*, vision_model.*, or conv1, class_embedding, …); it "
            f"holds {', '.join(list(keys)[:4])}, …"
        )
    tensors = {name: file.tensor(key) for name, key in inside.items()}
    return _from_huggingface(tensors) if prefix == "vision_model." else tensors


def _from_huggingface(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names of Hugging Face's vision model to OpenAI's, which has q, k and v of a layer in one tensor."""
    out: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name == "embeddings.position_ids":  # 0, 1, 2, …: no weight
            continue
        layer = re.fullmatch(r"encoder\.layers\.(\d+)\.(.+)\.(weight|bias)", name)
        number, part, kind = layer.groups() if layer else ("", *name.rpartition(".")[::2])
        start = f"transformer.resblocks.{number}." if layer else ""
        if layer and part in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"):
            three = [f"encoder.layers.{number}.self_attn.{each}_proj.{kind}" for each in "qkv"]
            if tensors.keys() >= set(three):
                out[f"{start}attn.in_proj_{kind}"] = torch.cat([tensors[each] for each in three])
                continue
        known = f"{start}{_HUGGINGFACE_PARTS[part]}.{kind}" if part in _HUGGINGFACE_PARTS else name
        out[_HUGGINGFACE.get(name, known)] = tensor
    return out
