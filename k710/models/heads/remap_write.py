"""Writes a remapped checkpoint in the form it came in: whole or not at all, and all but the head as it was."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from k710.errors import CheckpointError, UsageError
from k710.lists.labels import LABEL_SETS
from k710.models.checkpoints.checkpoint import RECORD, sidecar
from k710.models.checkpoints.safetensors_files import SafetensorsFile
from k710.models.checkpoints.torch_files import TorchFile
from k710.models.heads.head_labels import current_record
from k710.models.heads.remap import Remap, Source, new_head
from k710.models.heads.remap_entries import OtherEntries
from k710.models.heads.remap_folder import json_bytes, write_folder
from k710.storage.storage import HashedFile, replacing
from k710.version import __version__


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
    before = (current_record(source.checkpoint, source.head) or {}).get("remapped_from")
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
        others = OtherEntries(remap, keep_optimizer=keep_optimizer)
        entries, dropped, notes = others.changed, others.dropped, others.notes
        if source.entry is not None:
            entries["head" if checkpoint.format.name == "k710" else RECORD] = record
    needs_sidecar = isinstance(source, TorchFile) and source.entry is None
    with replacing(out) as file:
        hashed = HashedFile(file)
        if isinstance(source, SafetensorsFile):
            source.write(hashed, tensors, metadata={RECORD: json.dumps(record, ensure_ascii=False)})
        else:
            own = {RECORD: record}
            comment = json.dumps(own, ensure_ascii=False).encode() if needs_sidecar else b""
            source.write(hashed, tensors, entries=entries, dropped=dropped, state_metadata=own, comment=comment)
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
