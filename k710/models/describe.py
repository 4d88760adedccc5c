"""What a checkpoint is, as far as the file tells: for `k710 inspect`."""

from __future__ import annotations

import math
import re
import reprlib
from collections import Counter
from pathlib import Path
from typing import Any

from k710.errors import CheckpointError
from k710.models.checkpoint import Checkpoint, open_checkpoint
from k710.models.formats import model_name
from k710.models.head_labels import source_labels
from k710.models.heads import Head, find_head
from k710.models.torch_files import TorchFile
from k710.models.uniformerv2_config import preset_name
from k710.models.weights import config_of

# Statistics of batch norm, which are stored like parameters and are none.
_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")

# The lines of a UniFormerV2 or MMAction2 configuration that tell of the data and of what it started from.
_CONFIG_LINE = re.compile(
    r"^\s*(DATASET|PATH_TO_DATA_DIR|NUM_CLASSES|PRETRAIN|MAX_EPOCH|dataset_type|ann_file_train|load_from)\b\s*[:=]\s*(.+)$",
    re.MULTILINE,
)


def describe(path: Path, *, head: str | None = None) -> dict[str, Any]:
    """Format, model, parameters, dtypes, head, labels and traces of the training, in plain values.

    A head that cannot be found, or whose classes nothing tells, is said under `head` or `labels`, not raised.
    """
    checkpoint = open_checkpoint(path)
    tensors = checkpoint.tensors
    parameters = {key: shape for key, (_, shape, _) in tensors.items() if not key.endswith(_BUFFERS)}
    found: dict[str, Any] = {
        "path": str(path),
        "files": [file.path.name for file in checkpoint.files],
        "size_bytes": sum(file.path.stat().st_size for file in checkpoint.files),
        "format": checkpoint.format.title,
        "why": checkpoint.why,
        "model": model_name(checkpoint.bare_shapes()) or _architecture(checkpoint),
        "preset": _preset(checkpoint),
        "tensors": len(tensors),
        "parameters": sum(math.prod(shape) for shape in parameters.values()),
        "dtypes": dict(Counter(dtype for dtype, _, _ in tensors.values())),
        **_labels(checkpoint, head),
        "trained_on": _training(checkpoint),
        "other_entries": _other_entries(checkpoint),
    }
    return found


def _labels(checkpoint: Checkpoint, name: str | None) -> dict[str, Any]:
    found: dict[str, Any] = {"head": None, "label_set": None, "dialect": None, "known_by": []}
    try:
        head = find_head(checkpoint, name=name)
        found["head"] = _head(head)
        labels, said = source_labels(checkpoint, head, again=True)
    except CheckpointError as error:
        found["known_by"] = [str(error).removeprefix(f"{checkpoint.path}: ")]
        return found
    record = checkpoint.record or {}
    found |= {"label_set": labels.label_set, "dialect": labels.dialect, "label_sha256": labels.sha256, "known_by": said}
    if record.get("remapped_from"):
        found["remapped_from"] = record["remapped_from"]
    return found


def _head(head: Head) -> dict[str, Any]:
    return {
        "name": head.name,
        "rows": head.rows,
        "width": head.width,
        "dtype": head.dtype,
        "bias": head.bias is not None,
    }


def _preset(checkpoint: Checkpoint) -> str | None:
    """The preset whose tensors these are but for the head's rows, as `k710.models.uniformerv2_config` names it."""
    try:
        config = config_of(checkpoint)
    except CheckpointError:  # two models in one file
        return None
    return preset_name(config) if config else None


def _architecture(checkpoint: Checkpoint) -> str | None:
    names = (checkpoint.config or {}).get("architectures")
    return ", ".join(map(str, names)) if isinstance(names, list) else None


def _training(checkpoint: Checkpoint) -> list[str]:
    """Traces of the training: the file's name, the configuration's lines on data, how far it went."""
    traces = []
    named = re.findall(r"k(?:inetics)?-?(?:400|600|700|710)", checkpoint.path.name.casefold())
    if named:
        traces.append(f"its file name says {', '.join(dict.fromkeys(named))}")
    payload = checkpoint.payload
    meta = payload.get("meta") if isinstance(payload.get("meta"), dict) else {}
    for text in (payload.get("cfg"), (meta or {}).get("cfg")):
        if isinstance(text, str):
            lines = (f"{key} = {value.strip()}" for key, value in _CONFIG_LINE.findall(text))
            traces += [f"its configuration says {line}" for line in dict.fromkeys(lines)]
    traces += [
        f"{key} {reprlib.repr(value)}"  # lists of lists can make a text of it that fills the memory
        for key, value in {**(meta or {}), **payload}.items()
        if key in ("epoch", "iter", "step")
    ]
    return [_printable(trace) for trace in traces]


def _other_entries(checkpoint: Checkpoint) -> list[str]:
    first = checkpoint.files[0]
    entry = first.entry if isinstance(first, TorchFile) else None
    return [_printable(str(key)) for key in checkpoint.payload if key != entry]


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
