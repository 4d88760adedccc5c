"""Writes a converted checkpoint: whole or not at all, with a record of its head and of what it was made from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from k710.errors import CheckpointError, UsageError
from k710.models.checkpoints.checkpoint import RECORD, sidecar
from k710.models.checkpoints.formats import OWN_MARK
from k710.models.checkpoints.torch_files import TorchFile, write_torch
from k710.models.convert.plan import Conversion, converted
from k710.models.heads.head_labels import current_record
from k710.models.heads.remap_folder import check_replaceable, json_bytes
from k710.models.heads.remap_write import make_record
from k710.storage.storage import HashedFile, replacing, replacing_folder

# Of a folder that transformers loads.
WEIGHTS = "model.safetensors"


def default_out(conversion: Conversion) -> Path:
    """Beside the checkpoint, named for its new form: `k710_b16.pyth` -> `k710_b16.mmaction2.pth`."""
    path, form = conversion.checkpoint.path, conversion.form
    stem = path.name if path.is_dir() else path.stem
    return path.with_name(f"{stem}.{form.name}{form.suffix}")


def check_out(conversion: Conversion, out: Path | None, *, force: bool) -> Path:
    """Where the result goes. Raises CheckpointError where something is there (unless `force`), UsageError for a folder
    where a file must be, and the other way round."""
    out = default_out(conversion) if out is None else out
    if out.exists() and not force:
        raise CheckpointError(f"{out}: exists; write elsewhere with --out, or replace it with --force")
    wants_folder = conversion.form.folder is not None
    if out.exists() and out.is_dir() != wants_folder:
        raise UsageError(f"{out}: {conversion.form.title}: --out must be a {'folder' if wants_folder else 'file'}")
    if wants_folder:
        check_replaceable(out, set(_folder_files(conversion)))
    return out


def write_conversion(conversion: Conversion, out: Path | None = None, *, force: bool = False) -> tuple[Path, list[str]]:
    """Write the checkpoint in its new form; answer where it is and what else is worth saying.

    Raises CheckpointError where `out` exists (unless `force`).
    """
    out = check_out(conversion, out, force=force)
    tensors, record = converted(conversion), conversion_record(conversion)
    notes = _left_out(conversion)
    if conversion.form.folder is not None:
        _write_folder(conversion, out, tensors, record)
        return out, notes
    if conversion.form.entry is None:
        _write_bare(out, tensors, record)
        return out, [*notes, f"its labels are recorded in {sidecar(out).name}: keep the two together"]
    payload = {conversion.form.entry: dict(tensors), **conversion.form.beside(record)}
    with replacing(out) as file:
        write_torch(file, payload)
        sidecar(out).unlink(missing_ok=True)
    return out, notes


def conversion_record(conversion: Conversion) -> dict[str, Any]:
    """What is written of the head: as for a remap, and the file and form that it was converted from.

    Only a conversion that moves rows is a remap; one that keeps them hands on what was recorded of earlier remaps.
    """
    checkpoint, source = conversion.checkpoint, conversion.remap.sources[0]
    record = make_record(conversion.remap)
    record["head"] = conversion.form.theirs(f"{conversion.family.head}.weight")[0].removesuffix(".weight")
    before = current_record(checkpoint, source.head) or {}
    if not conversion.moves_rows:
        del record["remapped_from"]
        if before.get("remapped_from"):
            record["remapped_from"] = before["remapped_from"]
    origin = {"file": checkpoint.path.name, "sha256": checkpoint.sha256(), "form": checkpoint.format.title}
    if before.get("converted_from"):
        origin["converted_from"] = before["converted_from"]
    return {**record, "converted_from": origin}


def _write_bare(out: Path, tensors: Mapping[str, torch.Tensor], record: Mapping[str, Any]) -> None:
    comment = json.dumps({RECORD: record}, ensure_ascii=False).encode()
    with replacing(out) as file:
        hashed = HashedFile(file)
        write_torch(hashed, dict(tensors), comment=comment)
        # The record is there first: without it, a file could be taken for one in the published order.
        with replacing(sidecar(out)) as beside:
            beside.write(json_bytes({"file": out.name, "file_sha256": hashed.sha256, **record}))


def _folder_files(conversion: Conversion) -> dict[str, dict[str, Any]]:
    make = conversion.form.folder
    assert make is not None
    return make(conversion.config, conversion.remap.target.names)


def _write_folder(
    conversion: Conversion, out: Path, tensors: Mapping[str, torch.Tensor], record: Mapping[str, Any]
) -> None:
    files = _folder_files(conversion)
    dtypes = {tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()}
    if len(dtypes) == 1:
        files["config.json"]["dtype"] = str(dtypes.pop()).removeprefix("torch.")
    files["config.json"][RECORD] = dict(record)
    with replacing_folder(out) as folder:
        for name, content in files.items():
            with replacing(folder / name) as file:
                file.write(json_bytes(content))
        try:
            save_file(dict(tensors), folder / WEIGHTS, metadata={"format": "pt"})
        except SafetensorError as error:  # it hides the system's reason inside its own
            raise OSError(f"safetensors could not write it ({error}); is the disk full?") from None


def _left_out(conversion: Conversion) -> list[str]:
    """What the new form has no place for: optimizer state, averages and whatever else a trainer keeps."""
    first = conversion.checkpoint.files[0]
    if not isinstance(first, TorchFile) or first.entry is None:
        return []
    kept = {first.entry, RECORD, *((OWN_MARK, "head") if conversion.checkpoint.format.name == "k710" else ())}
    names = [name for name in first.payload if name not in kept]
    return [f"left out, since a converted checkpoint holds the model alone: {', '.join(names)}"] if names else []
