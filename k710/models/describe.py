"""What a checkpoint is, as far as the file tells: for `k710 inspect`."""

from __future__ import annotations

import math
import re
import reprlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from k710.errors import CheckpointError
from k710.lists.labels import DIALECTS, LABEL_SETS
from k710.models.checkpoints.checkpoint import Checkpoint, open_checkpoint
from k710.models.checkpoints.formats import model_name
from k710.models.checkpoints.published_models import size_of
from k710.models.checkpoints.torch_files import TorchFile
from k710.models.families import family_of
from k710.models.heads.head_labels import current_record, source_labels
from k710.models.heads.heads import Head, find_head, twin_heads
from k710.models.heads.published_order import chosen_models, needs

# Statistics of batch norm, which are stored like parameters and are none.
_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")

_KINETICS = re.compile(r"k(?:inetics)?-?(?:400|600|700|710)")

# What `k710 remap-head` adds to a name: `.k400`, `.k700_2020`, `.k600-uniformerv2`.
_OF_A_REMAP = re.compile(rf"\.(?:{'|'.join(LABEL_SETS)})(?:-(?:{'|'.join(DIALECTS)}))?(?=\.[^.]*$|$)")

_DEPTH = 16

# The lines of a UniFormerV2 or MMAction2 configuration that tell of the data and of what it started from.
_CONFIG_LINE = re.compile(
    r"^\s*(DATASET|PATH_TO_DATA_DIR|NUM_CLASSES|PRETRAIN|MAX_EPOCH|dataset_type|ann_file_train|load_from)\b\s*[:=]\s*(.+)$",
    re.MULTILINE,
)


def describe(path: Path, *, head: str | None = None, family: str | None = None) -> dict[str, Any]:
    """Format, model, parameters, dtypes, head, labels and traces of the training, in plain values.

    `published` are the published models that it can be of, each with the order of its head as far as that is known;
    `needs` says what an evaluation would need that k710 does not have. A head that cannot be found, or whose classes
    nothing tells, is described under `head` or `labels`, not raised. `family` is the user's word on whose model it is;
    raises UsageError where it cannot be.
    """
    checkpoint = open_checkpoint(path)
    tensors = checkpoint.tensors
    parameters = {key: shape for key, (_, shape, _) in tensors.items() if not key.endswith(_BUFFERS)}
    title, preset = _model(checkpoint)
    found: dict[str, Any] = {
        "path": str(path),
        "files": [file.path.name for file in checkpoint.files],
        "size_bytes": sum(file.path.stat().st_size for file in checkpoint.files),
        "format": checkpoint.format.title,
        "why": checkpoint.why,
        "model": model_name(checkpoint.layout, checkpoint.bare_shapes()) or title or _architecture(checkpoint),
        "preset": preset,
        "tensors": len(tensors),
        "parameters": sum(math.prod(shape) for shape in parameters.values()),
        "dtypes": dict(Counter(dtype for dtype, _, _ in tensors.values())),
        **_labels(checkpoint, head, family),
        "needs": "" if title else needs(checkpoint, family),
        "trained_on": _training(checkpoint),
        "other_entries": _other_entries(checkpoint),
    }
    return found


def _labels(checkpoint: Checkpoint, name: str | None, family: str | None) -> dict[str, Any]:
    found: dict[str, Any] = {"head": None, "twin_heads": [], "label_set": None, "dialect": None, "known_by": []}
    found["published"] = _published(checkpoint, None, family)
    try:
        head = find_head(checkpoint, name=name)
        found["head"] = _head(head)
        found["published"] = _published(checkpoint, head, family)
        found["twin_heads"] = [twin.name for twin in twin_heads(checkpoint, head)]
        labels, known_by = source_labels(checkpoint, head, family=family, again=True)
    except CheckpointError as error:
        found["known_by"] = [str(error).removeprefix(f"{checkpoint.path}: ")]
        return found
    record = current_record(checkpoint, head) or {}
    found |= {
        "label_set": labels.label_set,
        "dialect": labels.dialect,
        "label_sha256": labels.sha256,
        "known_by": known_by,
    }
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


def _published(checkpoint: Checkpoint, head: Head | None, family: str | None) -> list[dict[str, Any]]:
    """The published models that the checkpoint can be of; `order` is what is known of the order of such a head."""
    width = size_of(checkpoint.layout, checkpoint.bare_shapes())[0]
    found = []
    for model in chosen_models(checkpoint, family):
        order = model.order(head.rows, width) if head else None
        known = asdict(order) | {"known": str(order)} if order else None
        found.append({"name": model.name, "title": model.title, "repository": model.repository, "order": known})
    return found


def _model(checkpoint: Checkpoint) -> tuple[str | None, str | None]:
    """The model in its family's words, and the family's preset whose tensors these are but for the head's rows."""
    try:
        family, config = family_of(checkpoint)
    except CheckpointError:  # of no family here, or two models in one file
        return None, None
    return config.title, family.preset_name(config)


def _architecture(checkpoint: Checkpoint) -> str | None:
    names = (checkpoint.config or {}).get("architectures")
    return ", ".join(map(str, names)) if isinstance(names, list) else None


def _training(checkpoint: Checkpoint) -> list[str]:
    """Traces of the training: the file's name, the configuration's lines on data, how far it went."""
    traces = _traces_of_names(checkpoint)
    payload = checkpoint.payload
    view = checkpoint.recorded("data").get("view")
    if isinstance(view, str):
        traces.append(f"its run's recipe says view {view}")
    meta = payload.get("meta") if isinstance(payload.get("meta"), dict) else {}
    for text in (payload.get("cfg"), (meta or {}).get("cfg")):
        if isinstance(text, str):
            lines = (f"{key} = {value.strip()}" for key, value in _CONFIG_LINE.findall(text))
            traces += [f"its configuration says {line}" for line in dict.fromkeys(lines)]
    traces += [
        f"{key} {reprlib.repr(_plain(value))}"  # lists of lists can make a text of it that fills the memory
        for key, value in {**(meta or {}), **payload}.items()
        if key in ("epoch", "iter", "step", "global_step")
    ]
    return [_printable(trace) for trace in traces]


def _traces_of_names(checkpoint: Checkpoint) -> list[str]:
    """What file names say of the training: the name of a remapped head's original, since a remap chose the other."""
    record = checkpoint.record or {}
    origins = _originals(record.get("remapped_from") or ())
    for name, whose in origins or [(checkpoint.path.name, "its file name")]:
        # Remapped, and the record lost: what `k710 remap-head` put before the suffix is the head's, not the training's.
        named = _KINETICS.findall(_OF_A_REMAP.sub("", name.casefold()))
        if named:
            return [f"{whose} says {', '.join(dict.fromkeys(named))}"]
    return []


def _originals(sources: Any, depth: int = 0) -> list[tuple[str, str]]:
    """The file names of the checkpoints that were there before any remap, and what they are."""
    found = []
    for source in sources if isinstance(sources, list | tuple) and depth < _DEPTH else ():
        if isinstance(source, Mapping):
            before = _originals(source.get("remapped_from"), depth + 1)
            found += before or [(str(source.get("file")), "the name of the file that it was remapped from")]
    return found


def _plain(value: Any) -> Any:
    """A number of numpy, or a tensor of one number, as a number of Python."""
    single = isinstance(value, np.generic) or (isinstance(value, torch.Tensor) and value.numel() == 1)
    return value.item() if single and not getattr(value, "is_meta", False) else value


def _other_entries(checkpoint: Checkpoint) -> list[str]:
    first = checkpoint.files[0]
    own = first.entries if isinstance(first, TorchFile) else ()
    return [_printable(str(key)) for key in checkpoint.payload if key not in own]


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
