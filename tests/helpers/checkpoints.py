"""Small checkpoints in every published form: the real names of the tensors, tiny tensors, and a head to recognise.

Row i of a head is the constant i, so that a remapped head shows where each of its rows came from.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import types
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

WIDTH = 4
ROWS = {"k400": 400, "k600": 600, "k700": 700, "k710": 710}


def constant_head(rows: int, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight (rows, WIDTH) and bias (rows)."""
    counted = torch.arange(rows, dtype=torch.float32)
    return counted[:, None].repeat(1, WIDTH).to(dtype), counted.to(dtype)


def uniformerv2_names(layers: int = 12, global_blocks: int = 4, *, frozen: bool = False) -> list[str]:
    """Every tensor of the public UniFormerV2 for Kinetics but the head, in its order."""
    pair = ("weight", "bias")
    block = (
        "attn.in_proj_weight",
        "attn.in_proj_bias",
        *(f"attn.out_proj.{x}" for x in pair),
        *(f"ln_1.{x}" for x in pair),
    )
    block = (*block, *(f"mlp.{layer}.{x}" for layer in ("c_fc", "c_proj") for x in pair), *(f"ln_2.{x}" for x in pair))
    names = ["class_embedding", "positional_embedding", "conv1.weight", "ln_pre.weight", "ln_pre.bias"]
    names += ["transformer.temporal_cls_token", *([] if frozen else ["transformer.balance"])]
    names += [f"transformer.resblocks.{number}.{name}" for number in range(layers) for name in block]
    names += [f"transformer.dpe.{number}.{x}" for number in range(global_blocks) for x in pair]
    decoder = (*block, *(f"ln_3.{x}" for x in pair))
    names += [f"transformer.dec.{number}.{name}" for number in range(global_blocks) for name in decoder]
    return [*names, "transformer.proj.0.weight", "transformer.proj.0.bias"]


def videomaev2_names(blocks: int = 2) -> list[str]:
    pair = ("weight", "bias")
    block = [f"norm1.{x}" for x in pair] + ["attn.q_bias", "attn.v_bias", "attn.qkv.weight"]
    block += [f"{layer}.{x}" for layer in ("attn.proj", "norm2", "mlp.fc1", "mlp.fc2") for x in pair]
    names = ["patch_embed.proj.weight", "patch_embed.proj.bias"]
    names += [f"blocks.{number}.{name}" for number in range(blocks) for name in block]
    return [*names, "fc_norm.weight", "fc_norm.bias"]


def huggingface_names(layers: int = 2) -> list[str]:
    inside = "videomae.embeddings.patch_embeddings.projection"
    layer = ["attention.attention.q_bias", "attention.attention.v_bias"]
    layer += [f"attention.attention.{x}.weight" for x in ("query", "key", "value")]
    parts = ("attention.output.dense", "intermediate.dense", "output.dense", "layernorm_before", "layernorm_after")
    layer += [f"{part}.{x}" for part in parts for x in ("weight", "bias")]
    names = [f"{inside}.weight", f"{inside}.bias"]
    names += [f"videomae.encoder.layer.{number}.{name}" for number in range(layers) for name in layer]
    return [*names, "fc_norm.weight", "fc_norm.bias"]


_SHAPES = {
    "conv1.weight": (768, 1, 1, 1, 1),
    "backbone.conv1.weight": (768, 1, 1, 1, 1),
    "patch_embed.proj.weight": (768, 1, 2, 1, 16),
    "blocks.0.attn.qkv.weight": (9, 3),
    "videomae.embeddings.patch_embeddings.projection.weight": (3, 1, 2, 1, 1),
}


def body(names: list[str], dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    """A small random tensor for each name; those by which models are recognised have the dimensions for it."""
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(_SHAPES.get(name, (3,)), generator=generator).to(dtype) for name in names}


def with_head(
    state: dict[str, torch.Tensor], name: str, rows: int, *, prefix: str = "", dtype: torch.dtype = torch.float32
):
    """An OrderedDict as `Module.state_dict` makes it, with the attribute _metadata."""
    weight, bias = constant_head(rows, dtype)
    whole = OrderedDict((prefix + key, value) for key, value in state.items())
    whole[f"{prefix}{name}.weight"], whole[f"{prefix}{name}.bias"] = weight, bias
    whole._metadata = OrderedDict([("", {"version": 1})])
    return whole


def uniformerv2(rows: int, prefix: str = "backbone.", **options: torch.dtype):
    return with_head(
        body(uniformerv2_names(layers=1, global_blocks=1)), "transformer.proj.2", rows, prefix=prefix, **options
    )


def adam_state(state: dict[str, torch.Tensor]) -> dict:
    """AdamW's state over the tensors of a state dict, its moments of a head marked like the head's rows."""
    numbers = range(len(state))
    slots = {
        number: {"step": torch.tensor(7.0), "exp_avg": tensor.clone(), "exp_avg_sq": tensor + 1000}
        for number, tensor in zip(numbers, state.values(), strict=True)
    }
    return {"state": slots, "param_groups": [{"lr": 1e-5, "params": list(numbers)}]}


def _bare(prefix: str, legacy: bool = False) -> Callable[[Path, int], Path]:
    def write(folder: Path, rows: int) -> Path:
        path = folder / "weights.pyth"
        torch.save(uniformerv2(rows, prefix), path, _use_new_zipfile_serialization=not legacy)
        return path

    return write


def training(folder: Path, rows: int) -> Path:
    state = uniformerv2(rows)
    path = folder / "best.pyth"
    payload = {
        "epoch": 54,
        "model_state": state,
        "optimizer_state": adam_state(state),
        "cfg": "TRAIN:\n  DATASET: kinetics_sparse\nMODEL:\n  NUM_CLASSES: 710\n",
        "scaler": {"scale": 65536.0},
    }
    torch.save(payload, path)
    return path


def mmaction2(folder: Path, rows: int) -> Path:
    names = [f"backbone.{name}".replace("transformer.proj.0", "transformer.norm") for name in uniformerv2_names(1, 1)]
    state = with_head(body(names), "cls_head.fc_cls", rows)
    path = folder / "k710.pth"
    torch.save(
        {"meta": {"mmaction_version": "1.0.0", "cfg": "dataset_type = 'VideoDataset'\n"}, "state_dict": state}, path
    )
    return path


def _videomaev2(entry: str | None) -> Callable[[Path, int], Path]:
    def write(folder: Path, rows: int) -> Path:
        state = with_head(body(videomaev2_names()), "head", rows)
        path = folder / "vit.pth"
        arguments = argparse.Namespace(data_set="Kinetics-710", lr=1e-3)
        torch.save({entry: state, "epoch": 9, "args": arguments} if entry else dict(state), path)
        return path

    return write


class HistoryBuffer:
    """As MMEngine's is pickled: curves as arrays, and the methods of its class that summarise them."""

    def __init__(self) -> None:
        self.state = {
            "max_length": 1_000_000,
            "_log_history": np.array([0.5, 0.25]),
            "_count_history": np.array([1, 1]),
            "statistics_methods": {"mean": HistoryBuffer.mean},
        }

    def mean(self) -> float:
        return 0.0

    def __getstate__(self) -> dict:
        return self.state


@contextlib.contextmanager
def mmengine_in_place() -> Iterator[None]:
    """Whatever is pickled meanwhile names MMEngine's class, as in a file that MMEngine wrote."""
    module = types.ModuleType("mmengine.logging.history_buffer")
    module.HistoryBuffer = HistoryBuffer
    HistoryBuffer.__module__ = HistoryBuffer.mean.__module__ = module.__name__
    packages = {name: types.ModuleType(name) for name in ("mmengine", "mmengine.logging")}
    sys.modules.update({**packages, module.__name__: module})
    try:
        yield
    finally:
        for name in (*packages, module.__name__):
            del sys.modules[name]


def mmengine(folder: Path, rows: int) -> Path:
    """`epoch_3.pth` as MMEngine's runner leaves it."""
    names = [f"backbone.{name}".replace("transformer.proj.0", "transformer.norm") for name in uniformerv2_names(1, 1)]
    state = with_head(body(names), "cls_head.fc_cls", rows)
    path = folder / "epoch_3.pth"
    runtime = OrderedDict(epoch=np.int64(2), palette=np.arange(6).reshape(2, 3), best=np.float64(0.5))
    with mmengine_in_place():
        content = {
            "meta": {"epoch": np.int64(3), "iter": 6, "cfg": "", "dataset_meta": {}},
            "state_dict": state,
            "message_hub": {
                "log_scalars": OrderedDict({"train/loss": HistoryBuffer(), "train/lr": HistoryBuffer()}),
                "runtime_info": runtime,
                "resumed_keys": OrderedDict(epoch=True),
            },
            "optimizer": adam_state(state),
            "param_schedulers": [{"milestones": Counter({2: 1}), "last_step": 2}],
            "ema_state_dict": {"steps": torch.tensor(6), **{f"module.{key}": each for key, each in state.items()}},
        }
        torch.save(content, path)
    return path


def lightning(folder: Path, rows: int) -> Path:
    """As Lightning's Trainer.save_checkpoint writes it: `hyper_parameters` are what it builds the module from."""
    state = uniformerv2(rows, prefix="model.")
    path = folder / "last.ckpt"
    content = {
        "epoch": 2,
        "global_step": 8,
        "pytorch-lightning_version": "2.6.6",
        "state_dict": state,
        "loops": {},
        "callbacks": {},
        "optimizer_states": [adam_state(state)],
        "lr_schedulers": [{"last_epoch": 2}],
        "hparams_name": "kwargs",
        "hyper_parameters": {"num_classes": rows, "width": 4, "head": {"num_labels": rows}, "output_dim": rows},
    }
    torch.save(content, path)
    return path


def deepspeed(folder: Path, rows: int) -> Path:
    """`mp_rank_00_model_states.pt` of DeepSpeed."""
    state = uniformerv2(rows, prefix="")
    path = folder / "mp_rank_00_model_states.pt"
    shapes = OrderedDict((key, tensor.shape) for key, tensor in state.items())
    torch.save({"module": state, "optimizer": None, "param_shapes": [shapes], "ds_version": "0.16.3"}, path)
    return path


def own(folder: Path, rows: int) -> Path:
    from k710.lists.labels import class_names, label_list_sha256

    label_set = next(name for name, count in ROWS.items() if count == rows)
    labels = list(class_names(label_set))
    head = {"label_set": label_set, "dialect": "canonical", "labels": labels, "label_sha256": label_list_sha256(labels)}
    path = folder / "step_100.pt"
    state = uniformerv2(rows, prefix="")
    torch.save({"k710_format": 1, "model": state, "head": head, "optimizer": adam_state(state), "step": 100}, path)
    return path


def huggingface(
    folder: Path, rows: int, *, shards: int = 1, suffix: str = "safetensors", labels: tuple[str, ...] = ()
) -> Path:
    """A folder as `save_pretrained` leaves it; labels LABEL_0, … where none are given."""
    folder = folder / "hub"
    folder.mkdir()
    state = dict(with_head(body(huggingface_names(), torch.float16), "classifier", rows))
    names = labels or tuple(f"LABEL_{row}" for row in range(rows))
    config = {"architectures": ["VideoMAEForVideoClassification"], "hidden_size": WIDTH}
    config |= {"id2label": {str(row): name for row, name in enumerate(names)}, "model_type": "videomae"}
    config["label2id"] = {name: row for row, name in enumerate(names)}
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    (folder / "preprocessor_config.json").write_text('{"size": 224}')
    stem = "model" if suffix == "safetensors" else "pytorch_model"
    keys = list(state)
    parts = [keys[number::shards] for number in range(shards)]
    weight_map = {}
    for number, part in enumerate(parts, start=1):
        name = f"{stem}.{suffix}" if shards == 1 else f"{stem}-{number:05d}-of-{shards:05d}.{suffix}"
        content = {key: state[key] for key in part}
        if suffix == "safetensors":
            save_file(content, folder / name, metadata={"format": "pt"})
        else:
            torch.save(content, folder / name)
        weight_map |= dict.fromkeys(part, name)
    if shards > 1:
        total = sum(tensor.nbytes for tensor in state.values())
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        (folder / f"{stem}.{suffix}.index.json").write_text(json.dumps(index))
    return folder


def single_safetensors(folder: Path, rows: int) -> Path:
    path = folder / "uniformerv2.safetensors"
    save_file(dict(uniformerv2(rows)), path, metadata={"format": "pt", "note": "kept"})
    return path


# Every form: how it is written, the name k710 gives it, the dialect it implies.
FORMS: dict[str, tuple[Callable[[Path, int], Path], str, str | None]] = {
    "uniformerv2": (_bare(""), "uniformerv2", "uniformerv2"),
    "uniformerv2 wrapped": (_bare("backbone."), "uniformerv2", "uniformerv2"),
    "uniformerv2 in DDP": (_bare("module.backbone."), "uniformerv2", "uniformerv2"),
    "uniformerv2 compiled": (_bare("_orig_mod.backbone."), "uniformerv2", "uniformerv2"),
    "uniformerv2 before torch 1.6": (_bare("backbone.", legacy=True), "uniformerv2", "uniformerv2"),
    "uniformerv2 training": (training, "uniformerv2-training", "uniformerv2"),
    "uniformerv2 safetensors": (single_safetensors, "uniformerv2", "uniformerv2"),
    "mmengine": (mmengine, "mmaction2", "canonical"),
    "lightning": (lightning, "uniformerv2", "uniformerv2"),
    "deepspeed": (deepspeed, "uniformerv2", "uniformerv2"),
    "mmaction2": (mmaction2, "mmaction2", "canonical"),
    "videomaev2 module": (_videomaev2("module"), "videomaev2", "videomaev2"),
    "videomaev2 model": (_videomaev2("model"), "videomaev2", "videomaev2"),
    "videomaev2 bare": (_videomaev2(None), "videomaev2", "videomaev2"),
    "huggingface": (huggingface, "huggingface", None),
    "huggingface sharded": (lambda folder, rows: huggingface(folder, rows, shards=3), "huggingface", None),
    "huggingface bin": (lambda folder, rows: huggingface(folder, rows, suffix="bin"), "huggingface", None),
    "huggingface bin sharded": (
        lambda folder, rows: huggingface(folder, rows, shards=2, suffix="bin"),
        "huggingface",
        None,
    ),
    "k710": (own, "k710", None),
}
