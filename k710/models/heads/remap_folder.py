"""Writes a remapped Hugging Face folder: its shard with the head, config.json's names, all other files as they are."""

from __future__ import annotations

import fnmatch
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from k710.errors import CheckpointError
from k710.models.checkpoints.checkpoint import RECORD, Checkpoint, read_json, weights_name
from k710.storage.storage import replacing, replacing_folder

# Copies of the weights in other forms, which would keep the old head; and what a trainer leaves beside them.
_OTHER_WEIGHTS = ("model*.safetensors*", "pytorch_model*.bin*", "tf_model*.h5*", "flax_model*.msgpack*", "*.onnx")
_OPTIMIZERS = ("optimizer.pt", "optimizer.bin")


def write_folder(
    checkpoint: Checkpoint,
    out: Path,
    tensors: Mapping[str, torch.Tensor],
    record: Mapping[str, Any],
    *,
    keep_optimizer: bool = False,
) -> list[str]:
    """Write the folder `out` with these tensors and the record's labels; answer what else is worth saying.

    It is made under another name beside `out` and renamed when it is whole. Hidden files are not taken along.
    """
    folder = checkpoint.path
    if checkpoint.config is None:
        raise CheckpointError(
            f"{folder}: without a config.json there is no place for the new class names; give the weight file itself"
        )
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    optimizers = [name for name in names if name in _OPTIMIZERS]
    if optimizers and keep_optimizer:
        raise CheckpointError(
            f"{folder}: {optimizers[0]} cannot be kept: its moments have no names; drop it with --drop-optimizer"
        )
    weights = [file.path.name for file in checkpoint.files]
    index = weights_name(folder)
    index = index if index and index.endswith(".index.json") else None
    stale = [name for name in names if _is_weight(name) and name not in (*weights, index)]
    check_replaceable(out, {*names})
    with replacing_folder(out) as whole:
        for name in names:
            if name not in (*stale, *optimizers):
                _copy(folder / name, whole / name)
        _write_weights(checkpoint, whole, tensors)
        with replacing(whole / "config.json") as file:
            file.write(json_bytes(_new_config(checkpoint.config, record)))
        if index:
            with replacing(whole / index) as file:
                file.write(json_bytes(_new_index(checkpoint, folder / index, tensors)))
    notes = [f"left out, since they hold the old head: {', '.join(stale)}"] if stale else []
    return [*notes, *(f"{name} dropped" for name in optimizers)]


def check_replaceable(out: Path, names: set[str]) -> None:
    """Raises CheckpointError where `out` is there and has what is in no checkpoint's folder: it would be lost."""
    others = sorted(path.name for path in out.iterdir()) if out.exists() else []
    lost = [name for name in others if name not in names and not _is_weight(name) and name not in _OPTIMIZERS]
    if lost:
        raise CheckpointError(f"{out}: --force would remove {lost[0]!r}, which is in it; choose another --out")


def json_bytes(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()


def _is_weight(name: str) -> bool:
    return any(fnmatch.fnmatch(name, pattern) for pattern in _OTHER_WEIGHTS)


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copy2(source, target)  # follows links: a hub cache is a folder of them


def _write_weights(checkpoint: Checkpoint, whole: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    for number, source in enumerate(checkpoint.files):
        changed = {key: tensor for key, tensor in tensors.items() if checkpoint.tensors[key][2] == number}
        if changed:
            with replacing(whole / source.path.name) as file:
                source.write(file, changed)


def _new_config(config: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, Any]:
    labels = record["labels"]
    new = dict(config)
    new["id2label"] = {str(row): label for row, label in enumerate(labels)}
    new["label2id"] = {label: row for row, label in enumerate(labels)}
    if "num_labels" in new:
        new["num_labels"] = len(labels)
    new[RECORD] = dict(record)
    return new


def _new_index(checkpoint: Checkpoint, path: Path, tensors: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    index = read_json(path)
    metadata = index.get("metadata")
    if isinstance(metadata, dict) and isinstance(metadata.get("total_size"), int):
        grown = sum(tensor.nbytes - checkpoint.tensor(key).nbytes for key, tensor in tensors.items())
        index["metadata"] = {**metadata, "total_size": metadata["total_size"] + grown}
    return index
