"""Writes a remapped checkpoint in the form it came in: whole or not at all, and all but the head as it was."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from k710 import __version__
from k710.errors import CheckpointError, UsageError
from k710.labels import LABEL_SETS
from k710.models.checkpoint import RECORD, sidecar
from k710.models.formats import bare
from k710.models.remap import Remap, Source, fill, new_head
from k710.models.remap_folder import json_bytes, write_folder
from k710.models.safetensors_files import SafetensorsFile
from k710.models.torch_files import TorchFile
from k710.storage import HashedFile, replacing

OPTIMIZER_ENTRIES = ("optimizer_state", "optimizer", "optimizer_state_dict")


def default_out(remap: Remap) -> Path:
    """Beside the first checkpoint, named for what it becomes: `k710_b16.pyth` -> `k710_b16.k400.pyth`."""
    path, target = remap.sources[0].checkpoint.path, remap.target
    name = target.label_set if target.label_set in LABEL_SETS else Path(target.label_set).stem
    if target.label_set in LABEL_SETS and target.dialect != "canonical":
        name += f"-{target.dialect}"
    return path.with_name(f"{path.name}.{name}" if path.is_dir() else f"{path.stem}.{name}{path.suffix}")


def make_record(remap: Remap) -> dict[str, Any]:
    """What is written of a head: its classes in order, their fingerprint, and what it was made from."""
    return {
        "label_set": remap.target.label_set,
        "dialect": remap.target.dialect,
        "labels": list(remap.target.names),
        "label_sha256": remap.target.sha256,
        "head": remap.sources[0].head.name,
        "remapped_from": [_origin(source) for source in remap.sources],
        "new_rows": remap.new_rows,
        "k710_version": __version__,
    }


def _origin(source: Source) -> dict[str, Any]:
    origin: dict[str, Any] = {
        "file": source.checkpoint.path.name,
        "sha256": source.checkpoint.sha256(),
        "label_set": source.labels.label_set,
        "dialect": source.labels.dialect,
        "label_sha256": source.labels.sha256,
    }
    before = (source.checkpoint.record or {}).get("remapped_from")
    return {**origin, "remapped_from": before} if before else origin


def write_remap(
    remap: Remap, out: Path | None = None, *, keep_optimizer: bool = False, force: bool = False
) -> tuple[Path, list[str]]:
    """Write the first checkpoint with the new head; answer where it is and what else is worth saying.

    Raises CheckpointError where `out` exists (unless `force`) and where optimizer state cannot be kept honestly.
    """
    checkpoint, out = remap.sources[0].checkpoint, check_out(remap, out, force=force)
    tensors, record = new_head(remap), make_record(remap)
    if checkpoint.is_folder:
        return out, write_folder(checkpoint, out, tensors, record, keep_optimizer=keep_optimizer)
    return out, _write_file(remap, out, tensors, record, keep_optimizer)


def check_out(remap: Remap, out: Path | None, *, force: bool) -> Path:
    """Where the result goes. Raises CheckpointError where something is there (unless `force`), UsageError for a folder
    where a file must be, and the other way round."""
    checkpoint = remap.sources[0].checkpoint
    out = default_out(remap) if out is None else out
    if out.exists() and not force:
        raise CheckpointError(f"{out}: exists; write elsewhere with --out, or replace it with --force")
    if out.exists() and out.is_dir() != checkpoint.is_folder:
        kind = "folder" if checkpoint.is_folder else "file"
        raise UsageError(f"{out}: {checkpoint.path} is a {kind}, so --out must be one too")
    return out


def _write_file(
    remap: Remap, out: Path, tensors: Mapping[str, torch.Tensor], record: dict[str, Any], keep_optimizer: bool
) -> list[str]:
    checkpoint = remap.sources[0].checkpoint
    source = checkpoint.files[0]
    notes: list[str] = []
    entries: dict[str, Any] = {}
    dropped: tuple[str, ...] = ()
    if isinstance(source, TorchFile):
        entries, dropped, notes = _other_entries(remap, keep_optimizer)
        if source.entry is not None:
            entries["head" if checkpoint.format.name == "k710" else RECORD] = record
    needs_sidecar = isinstance(source, TorchFile) and source.entry is None
    with replacing(out) as file:
        hashed = HashedFile(file)
        if isinstance(source, SafetensorsFile):
            source.write(hashed, tensors, metadata={RECORD: json.dumps(record, ensure_ascii=False)})
        else:
            source.write(hashed, tensors, entries=entries, dropped=dropped, state_metadata={RECORD: record})
        # A file without its record could be remapped twice; so the record is there first, and a stale one goes first.
        if needs_sidecar:
            with replacing(sidecar(out)) as beside:
                beside.write(json_bytes({"file": out.name, "file_sha256": hashed.sha256, **record}))
        else:
            sidecar(out).unlink(missing_ok=True)
    if needs_sidecar:
        notes.append(f"its labels are recorded in {sidecar(out).name}: keep the two together")
    if checkpoint.config is not None:
        notes.append("config.json beside the source names the old classes; give the folder to have it rewritten too")
    return notes


def _other_entries(remap: Remap, keep_optimizer: bool) -> tuple[dict[str, Any], tuple[str, ...], list[str]]:
    """What becomes of the other top-level entries: (changed, dropped, notes)."""
    source = remap.sources[0]
    payload = source.checkpoint.payload
    present = tuple(name for name in OPTIMIZER_ENTRIES if name in payload)
    changed: dict[str, Any] = {}
    notes = []
    first = source.checkpoint.files[0]
    for name, entry in payload.items():
        if name in present or (isinstance(first, TorchFile) and name == first.entry):
            continue
        renewed = _Copies(remap, name)(entry)
        if renewed is not entry:
            changed[name] = renewed
            notes.append(f"the copy of the head in {name} is remapped too")
    if keep_optimizer:
        changed |= {name: _optimizer(remap, name, payload[name]) for name in present}
        notes += [f"{name} kept, its moments of the head picked by the same rows" for name in present]
        return changed, (), notes
    notes += [f"{name} dropped (--keep-optimizer keeps it)" for name in present]
    return changed, present, notes


class _Copies:
    """Remaps the head wherever it stands under its own name and shape, behind any prefix and at any depth: in running
    averages, as training code keeps them. What holds none is given back as it is.

    Raises CheckpointError for a copy where several checkpoints are combined.
    """

    def __init__(self, remap: Remap, entry: str) -> None:
        source = remap.sources[0]
        keys = filter(None, (source.head.weight, source.head.bias))
        self._shapes = {bare(key): source.checkpoint.tensors[key][1] for key in keys}
        self._remap, self._entry = remap, entry
        self._seen: dict[int, Any] = {}  # a few lists of lists can have more places than anyone can visit

    def __call__(self, value: Any, depth: int = 0) -> Any:
        if not isinstance(value, dict | list) or depth > 16:
            return value
        if id(value) not in self._seen:
            new = copy.copy(value)
            for key, inner in list(value.items() if isinstance(value, dict) else enumerate(value)):
                new[key] = self._renewed(key, inner, depth)
            same = all(new[key] is value[key] for key in (value if isinstance(value, dict) else range(len(value))))
            self._seen[id(value)] = value if same else new
        return self._seen[id(value)]

    def _renewed(self, key: Any, value: Any, depth: int) -> Any:
        if not isinstance(value, torch.Tensor):
            return self(value, depth + 1)
        own = isinstance(key, str) and next((n for n in self._shapes if f".{key}".endswith(f".{n}")), None)
        if not own or not _is_plain(value, self._shapes[own]):
            return value
        if len(self._remap.sources) > 1:
            raise CheckpointError(
                f"{self._remap.sources[0].checkpoint.path}: {self._entry} holds a second copy of the head (a running "
                "average); several checkpoints cannot be combined in it. Give the checkpoint without it"
            )
        return fill(self._remap.rows, [value.detach()], self._remap.new_rows)


def _optimizer(remap: Remap, name: str, optimizer: Any) -> Any:
    """An optimizer's state with the head's moments picked like its rows.

    State goes by number, not by name, so the head's is known by its shape alone. Refused where that is not certain, and
    where rows are averaged or new: moments of another row would be a lie, and zeros under an old step count too.
    """
    source = remap.sources[0]
    where = f"{source.checkpoint.path}: {name} cannot be kept: "
    way = "; drop it with --drop-optimizer"
    if not remap.only_picks:
        raise CheckpointError(f"{where}some rows are new or averaged, and there are no true moments for them{way}")
    state = optimizer.get("state") if isinstance(optimizer, dict) else None
    if not isinstance(state, dict):
        raise CheckpointError(f"{where}it is not in the form of torch.optim{way}")
    changed = dict(state)
    for key in filter(None, (source.head.weight, source.head.bias)):
        shape = source.checkpoint.tensors[key][1]
        found = [number for number, slot in state.items() if _has_shape(slot, shape)]
        if len(found) != 1:
            raise CheckpointError(
                f"{where}{len(found)} parameters have the shape {list(shape)} of {key}, so its own is not certain{way}"
            )
        changed[found[0]] = {
            moment: fill(remap.rows, [value]) if _is_plain(value, shape) else value
            for moment, value in state[found[0]].items()
        }
    return {**optimizer, "state": changed}


def _has_shape(slot: Any, shape: tuple[int, ...]) -> bool:
    values = slot.values() if isinstance(slot, dict) else ()
    return any(_is_plain(value, shape) for value in values)


def _is_plain(value: Any, shape: tuple[int, ...]) -> bool:
    """Whether a value is a tensor of that shape, with its numbers in it."""
    is_tensor = isinstance(value, torch.Tensor) and value.layout == torch.strided and not value.is_meta
    return is_tensor and tuple(value.shape) == shape
