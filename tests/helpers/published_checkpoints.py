"""State dicts with the names and shapes of published models (published_shapes.json), as their code saves them.

The shapes are those of the public code, built with random weights or read in it; some tensors of each model are listed,
with all by which it could be told from others. Row i of a head is the constant i. Everything else takes one number of
storage, whatever its shape.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

SHAPES: dict[str, dict[str, tuple[int, ...]]] = {
    model: {name: tuple(shape) for name, shape in tensors.items()}
    for model, tensors in json.loads(Path(__file__).with_name("published_shapes.json").read_text()).items()
}

HEADS = {
    "uniformer_light": ("head", "head_cls"),
    "uniformerv2": ("transformer.proj.2",),
    "evl": ("proj.2",),
    "st_adapter": ("fc",),
    "omnivore": ("heads.video.1",),
    "pytorchvideo": ("head.proj",),
    "pytorchvideo_cnn": ("blocks.6.proj",),
    **dict.fromkeys(("xclip", "videomae_pretrain"), ()),
    **dict.fromkeys(("slowfast", "mvit", "hiera"), ("head.projection",)),
    **dict.fromkeys(("vjepa_probe", "vjepa2_probe"), ("linear",)),
    **dict.fromkeys(
        ("mmaction2", "mmaction2_slowonly", "mmaction2_swin", "mmaction2_videomae", "aim"), ("cls_head.fc_cls",)
    ),
    **dict.fromkeys(("hf_videomae", "hf_timesformer", "hf_vivit", "hf_vjepa2"), ("classifier",)),
}


def heads_of(model: str) -> tuple[str, ...]:
    return HEADS.get(model, ("head",))


def shapes_of(model: str, rows: int, **changes: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """The shapes of a model whose heads have so many rows; `changes` by the names of tensors, with _ for a dot."""
    shapes = dict(SHAPES[model])
    for head in heads_of(model):
        shapes[f"{head}.weight"] = (rows, *shapes[f"{head}.weight"][1:])
        shapes[f"{head}.bias"] = (rows,)
    by_word = {name.replace(".", "_"): name for name in shapes}
    return {**shapes, **{by_word[word]: shape for word, shape in changes.items()}}


def tensors_of(shapes: Mapping[str, tuple[int, ...]], heads: tuple[str, ...]) -> dict[str, torch.Tensor]:
    weights = {f"{head}.weight" for head in heads}
    biases = {f"{head}.bias" for head in heads}
    found = {}
    for name, shape in shapes.items():
        if name in weights:
            found[name] = torch.arange(float(shape[0]))[:, None].expand(shape)
        elif name in biases:
            found[name] = torch.arange(float(shape[0]))
        else:
            found[name] = torch.zeros(1).expand(shape) if shape else torch.zeros(())
    return found


def state_of(model: str, rows: int, **changes: tuple[int, ...]) -> dict[str, torch.Tensor]:
    return tensors_of(shapes_of(model, rows, **changes), heads_of(model))


def _renamed(rename: Callable[[str], str]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda state: {rename(name): value for name, value in state.items()}


def _inside(name: str, wrapper: str) -> str:
    """`wrapper` between the first two parts of a name, where FSDP and torch.compile of a part have it."""
    first, dot, rest = name.partition(".")
    return f"{first}.{wrapper}{rest}" if dot else name


# What trainers and wrappers make of a state dict before they save it.
WRAPPINGS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "bare": lambda state: state,
    "model": lambda state: {"model": state, "epoch": 3},
    "module": lambda state: {"module": state},
    "model_state": lambda state: {"model_state": state, "cfg": ""},
    "state_dict": lambda state: {"state_dict": state, "meta": {}},
    "DDP": _renamed(lambda name: f"module.{name}"),
    "compiled": _renamed(lambda name: f"_orig_mod.{name}"),
    "compiled in DDP": lambda state: {"model": {f"module._orig_mod.{name}": value for name, value in state.items()}},
    "Lightning": lambda state: {
        "state_dict": {f"model.{name}": value for name, value in state.items()},
        "pytorch-lightning_version": "2.6.6",
    },
    "DeepSpeed": lambda state: {"module": state, "ds_version": "0.16.3"},
    "FSDP": _renamed(lambda name: f"_fsdp_wrapped_module.{_inside(name, '_fsdp_wrapped_module.')}"),
    "parts compiled": _renamed(lambda name: _inside(name, "_orig_mod.")),
}


def write(path: Path, payload: Mapping[str, Any]) -> Path:
    torch.save(payload, path)
    return path


def write_published(folder: Path, model: str, rows: int, **changes: tuple[int, ...]) -> Path:
    """A checkpoint in the container in which its repository publishes it."""
    state = state_of(model, rows, **changes)
    path = folder / f"{model}.pth"
    if model.startswith("hf_"):
        return write_folder(folder, state, [f"LABEL_{row}" for row in range(rows)])
    if model == "vjepa_probe":
        return write(path, {"classifier": WRAPPINGS["DDP"](state), "epoch": 20})
    if model == "vjepa2_probe":
        return write(path, {"classifiers": [WRAPPINGS["DDP"](state) for _ in range(3)], "epoch": 20, "opt": []})
    if model == "omnivore":
        parts: dict[str, dict[str, Any]] = {"trunk": {}, "heads": {}}
        for name, value in state.items():
            part, _, rest = name.partition(".")
            parts[part][rest] = value
        return write(path, parts)
    if model.startswith(("slowfast", "mvit", "hiera", "pytorchvideo", "timesformer")):
        return write(path, {"model_state": state, "epoch": 196})
    if model.startswith(("mmaction2", "aim")):
        return write(path, {"state_dict": state, "meta": {"cfg": ""}})
    if model in ("videomae", "videomaev2", "internvideo2"):
        return write(path, {"module": state})
    return write(path, {"model": state}) if model in ("umt", "videomamba", "evl", "st_adapter") else write(path, state)


def write_folder(folder: Path, state: Mapping[str, torch.Tensor], names: list[str]) -> Path:
    """A Hugging Face folder whose config.json names the classes."""
    folder = folder / "hub"
    folder.mkdir()
    torch.save(dict(state), folder / "pytorch_model.bin")
    config = {"id2label": {str(row): name for row, name in enumerate(names)}}
    (folder / "config.json").write_text(json.dumps(config))
    return folder
