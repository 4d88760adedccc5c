"""One loader for every checkpoint in use: a file or a Hugging Face folder in, what it is and its tensors out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from k710.errors import CheckpointError
from k710.lists.annotation_rows import is_utf8
from k710.lists.labels import label_list_sha256
from k710.models.checkpoints.formats import (
    OWN_MARK,
    OWN_VERSION,
    Contents,
    Format,
    bare,
    bare_shapes,
    recognise,
)
from k710.models.checkpoints.safetensors_files import SafetensorsFile, read_safetensors
from k710.models.checkpoints.signatures import Layout, Shape
from k710.models.checkpoints.torch_files import LEGACY_MAGIC, ZIP_MAGIC, TorchFile, read_torch
from k710.recipes import recorded_section

if TYPE_CHECKING:
    import torch

# In a Hugging Face folder, the first of these that is there holds the weights; the others are copies of them.
FOLDER_WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)

# The name of the record of a head: of a top-level entry, of a line of safetensors metadata, of a key of config.json.
RECORD = "k710"


@dataclass
class Checkpoint:
    """A checkpoint as it was found.

    `files` hold the weights (several where they are sharded), `tensors` maps each tensor's name to its dtype, shape and
    file; `config` is a Hugging Face folder's config.json; `record` is what k710 wrote of the head, if it did, and
    `record_in` where it stands: "sidecar", "k710" (its own form), "config", or "weights". `layout` is the published set
    of names that its tensors have, if they do, and `why` says by what it and the form are known.
    """

    path: Path
    files: tuple[TorchFile | SafetensorsFile, ...]
    config: dict[str, Any] | None
    format: Format = field(init=False)
    layout: Layout | None = field(init=False)
    why: str = field(init=False)
    tensors: dict[str, tuple[str, Shape, int]] = field(init=False)
    record: dict[str, Any] | None = field(init=False)
    record_in: str | None = field(init=False)

    def __post_init__(self) -> None:
        self.tensors = {}
        for number, file in enumerate(self.files):
            for key, (dtype, shape) in file.describe().items():
                if key in self.tensors:
                    first_of_it = self.files[self.tensors[key][2]].path.name
                    raise CheckpointError(f"{file.path}: {key} stands in {first_of_it} too; which one counts?")
                self.tensors[key] = (dtype, shape, number)
        first = self.files[0]
        payload = first.payload if isinstance(first, TorchFile) and first.entry is not None else {}
        contents = Contents(
            bare_shapes((key, shape) for key, (_, shape, _) in self.tensors.items()),
            (" and ".join(first.entries) or None) if isinstance(first, TorchFile) else None,
            frozenset(payload),
            self.config is not None,
        )
        found = recognise(contents)
        self.format, self.layout, self.why = found.format, found.layout, found.why
        if self.format.name == "k710" and payload[OWN_MARK] != OWN_VERSION:
            raise CheckpointError(
                f"{self.path}: {OWN_MARK} is {payload[OWN_MARK]!r}, and this k710 reads {OWN_VERSION}; "
                "use the k710 that wrote it"
            )
        self.record, self.record_in = find_record(self)

    def recorded(self, section: str) -> Mapping[str, Any]:
        """A section of the recipe by which k710 trained the checkpoint; empty for others."""
        run = self.payload.get("run")
        return recorded_section(run.get("recipe") if isinstance(run, dict) else None, section)

    @property
    def is_folder(self) -> bool:
        return self.path.is_dir()

    @property
    def payload(self) -> dict[str, Any]:
        """The top-level entries of a torch file that keeps its state dict under one of them; else nothing."""
        first = self.files[0]
        return first.payload if isinstance(first, TorchFile) and first.entry is not None else {}

    def bare_shapes(self) -> dict[str, Shape]:
        return {bare(key): shape for key, (_, shape, _) in self.tensors.items()}

    def tensor(self, key: str) -> torch.Tensor:
        return self.files[self.tensors[key][2]].tensor(key)

    def sha256(self) -> dict[str, str]:
        """SHA-256 of each weight file, by file name."""
        return {file.path.name: file_sha256(file.path) for file in self.files}


def open_checkpoint(path: Path) -> Checkpoint:
    """Recognise and open a file or a Hugging Face folder. Raises CheckpointError that says what is wrong with it."""
    if path.name.endswith(".index.json") and path.is_file():
        path = path.parent
    if not path.exists():
        raise CheckpointError(f"{path}: no such file or folder")
    if path.name in ("", ".."):
        path = path.resolve()  # `.` has no name to put a new one beside
    if path.is_dir():
        names = _weight_names(path)
        files = tuple(_read(path / name) for name in names)
        if any(isinstance(file, TorchFile) and file.entry is not None for file in files) and len(files) > 1:
            raise CheckpointError(f"{path}: a shard holds more than a state dict; this is no form that k710 knows")
        return Checkpoint(path, files, read_config(path))
    beside = path.parent if path.name in FOLDER_WEIGHTS else None
    return Checkpoint(path, (_read(path),), read_config(beside) if beside else None)


def _read(path: Path) -> TorchFile | SafetensorsFile:
    """Told by content, never by suffix."""
    if not path.is_file():
        why = "is a device or a pipe, not a file" if path.exists() else "missing; the folder's index names it"
        raise CheckpointError(f"{path}: {why}")
    size = path.stat().st_size
    if path.suffix == ".distcp":
        _refuse_parts(path.parent)
    with path.open("rb") as file:
        start = file.read(64)
    if start.startswith((ZIP_MAGIC, LEGACY_MAGIC)):
        return read_torch(path)
    if len(start) > 8 and start[8:9] == b"{":
        return read_safetensors(path)
    if not size:
        guess = "empty"
    elif start.startswith(b"version https://git-lfs"):
        guess = "a Git LFS pointer, not the weights themselves; run `git lfs pull`"
    elif start.lstrip()[:1] == b"<":
        guess = "a web page, not a checkpoint; the download was answered by a page, fetch it again"
    elif start.startswith(b"\x80"):
        guess = (
            "a Python pickle, but not one of torch.save (PySlowFast's old .pkl files are of Caffe2), or cut short; "
            "pickles can run code, so it is not opened"
        )
    else:
        guess = "not a checkpoint: neither a file of torch.save nor safetensors"
    raise CheckpointError(f"{path}: {guess}")


def weights_name(folder: Path) -> str | None:
    """The file of a Hugging Face folder that is its weights, or the index of those; None where there is none."""
    return next((name for name in FOLDER_WEIGHTS if (folder / name).is_file()), None)


def _weight_names(folder: Path) -> list[str]:
    name = weights_name(folder)
    if name is None:
        _refuse_parts(folder)
        found = sorted(
            path.name for path in folder.iterdir() if path.suffix in (".pt", ".pth", ".pyth", ".safetensors")
        )
        hint = f"; give one of its files: {', '.join(found[:5])}" if found else ""
        raise CheckpointError(f"{folder}: a folder without {' or '.join(FOLDER_WEIGHTS)}{hint}")
    if not name.endswith(".index.json"):
        return [name]
    weight_map = read_json(folder / name).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map or not all(isinstance(x, str) for x in weight_map.values()):
        raise CheckpointError(f"{folder / name}: no weight_map from tensor to file in it")
    names = list(dict.fromkeys(weight_map.values()))
    for shard in names:
        if Path(shard).name != shard:  # an index never leads out of its folder
            raise CheckpointError(f"{folder / name}: names {shard!r}, which is no file of this folder")
    return names


def _refuse_parts(folder: Path) -> None:
    """Raises CheckpointError for a folder of torch.distributed.checkpoint, or one around it."""
    for inside in (folder, *sorted(path for path in folder.iterdir() if path.is_dir())):
        if (inside / ".metadata").is_file() and any(inside.glob("*.distcp")):
            raise CheckpointError(
                f"{inside}: a folder of torch.distributed.checkpoint, as FSDP leaves it: each process wrote a part, "
                "and no part is a checkpoint. If you trust it, since that runs code of the folder, make one file of "
                f"it: python -m torch.distributed.checkpoint.format_utils dcp_to_torch {inside} FILE.pt; give FILE.pt"
            )


def read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not JSON: {error}") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: holds a {type(content).__name__}, want an object")
    return content


def read_config(folder: Path) -> dict[str, Any] | None:
    """A Hugging Face folder's config.json, or None where there is none."""
    path = folder / "config.json"
    return read_json(path) if path.is_file() else None


def file_sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def sidecar(path: Path) -> Path:
    """Where the record of a head stands whose file has no room for it."""
    return path.with_name(f"{path.name}.k710.json")


def find_record(checkpoint: Checkpoint) -> tuple[dict[str, Any] | None, str | None]:
    """What k710 wrote of the head and where, wherever the form has room for it; a sidecar must fit its file.

    Raises CheckpointError for a sidecar of another file and for a record that is no record.
    """
    beside = sidecar(checkpoint.path)
    if not checkpoint.is_folder and beside.is_file():
        record = read_json(beside)
        if record.get("file_sha256") != file_sha256(checkpoint.path):
            raise CheckpointError(
                f"{beside}: describes another file than {checkpoint.path.name}: its file_sha256 differs; one of the "
                "two was replaced. Restore the pair, or remove the sidecar if it is the stale one"
            )
        return _checked(record, beside), "sidecar"
    record, place = _record_inside(checkpoint)
    return (None, None) if record is None else (_checked(record, checkpoint.path), place)


def _record_inside(checkpoint: Checkpoint) -> tuple[Any, str]:
    first = checkpoint.files[0]
    if checkpoint.format.name == "k710":
        return checkpoint.payload.get("head"), "k710"
    if isinstance(first, SafetensorsFile) and RECORD in (first.metadata or {}):
        return _json_or_text((first.metadata or {})[RECORD]), "weights"
    if checkpoint.config and RECORD in checkpoint.config:
        return checkpoint.config[RECORD], "config"
    if isinstance(first, SafetensorsFile):
        return None, "weights"
    if first.entry is not None:
        return first.payload.get(RECORD), "weights"
    record = (getattr(first.payload, "_metadata", None) or {}).get(RECORD)
    if record is None:  # a plain dict has no _metadata
        comment = _json_or_text(first.comment)
        record = comment.get(RECORD) if isinstance(comment, dict) else None
    return record, "weights"


def _json_or_text(text: str | bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _checked(record: Any, where: Path) -> dict[str, Any]:
    labels = record.get("labels") if isinstance(record, Mapping) else None
    if not isinstance(labels, list) or not all(isinstance(label, str) and is_utf8(label) for label in labels):
        raise CheckpointError(f"{where}: its record of the head has no list of labels")
    before = record.get("remapped_from") or []
    required = {"file", "label_set", "dialect"}
    if not isinstance(before, list) or not all(
        isinstance(source, Mapping) and source.keys() >= required for source in before
    ):
        raise CheckpointError(f"{where}: its record of the head was edited: remapped_from is no list of sources")
    if record.get("label_sha256") != label_list_sha256(labels):
        raise CheckpointError(f"{where}: its record of the head was edited: label_sha256 does not fit the labels")
    if not all(isinstance(record.get(name), str) for name in ("label_set", "dialect")):
        raise CheckpointError(f"{where}: its record of the head names no label_set and dialect")
    return dict(record)
