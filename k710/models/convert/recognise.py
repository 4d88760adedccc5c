"""Which model a checkpoint holds, by the names of each form; whole, or refused with what lacks."""

from __future__ import annotations

from typing import Any

import torch

from k710.errors import CheckpointError
from k710.models.checkpoints.checkpoint import Checkpoint
from k710.models.checkpoints.formats import bare, model_name
from k710.models.convert.forms import FORMS, Form, Table
from k710.models.families import FAMILIES, refuse_foreign
from k710.models.family import Family

# Of the model's own tensors: the file's tensors that hold it, its parts in order.
Parts = dict[str, tuple[str, ...]]

# Of any clip that such a model was given: 64 frames of 448 px have 25,088.
MOST_POSITIONS = 1 << 16

# Tables that were computed in other ways differ in their last digits.
_TABLE_TOLERANCE = 1e-4

# Layouts that are of no family's name, and of which a form has the tensors.
_RENAMED = ("mmaction2", "hf-videomae")


def find_model(checkpoint: Checkpoint) -> tuple[Family, Any, Form, Parts]:
    """The family whose tensors a checkpoint holds, its configuration, the form of the names, and each tensor's parts.

    Raises CheckpointError that says what the file is where it is of no family here, and which tensors lack or are too
    many where it is not whole.
    """
    if checkpoint.layout and checkpoint.layout.name not in _RENAMED:
        refuse_foreign(checkpoint)  # UMT's tensors have VideoMAE's names, and are not known to be that model
    for form in FORMS:
        parts = _parts(checkpoint, form)
        if parts is None or form.family not in FAMILIES:
            continue
        family = FAMILIES[form.family]
        config = family.config_from_shapes(_shapes(checkpoint, parts))
        if config is not None:
            _check_whole(checkpoint, family, config, parts)
            _check_computed(checkpoint, form, config)
            in_order = {name: parts[name] for name in _expected(family, config)}
            return family, config, form, in_order
    what = (
        model_name(checkpoint.layout, checkpoint.bare_shapes())
        or _architecture(checkpoint)
        or "a model that is not known here"
    )
    known = ", ".join(dict.fromkeys(form.family for form in FORMS if form.family in FAMILIES))
    raise CheckpointError(
        f"{checkpoint.path}: cannot be converted: {checkpoint.format.title} ({checkpoint.why}), {what}. k710 converts "
        f"whole classifiers of {known}, in the sizes that were published"
    )


def _architecture(checkpoint: Checkpoint) -> str | None:
    names = (checkpoint.config or {}).get("architectures")
    return ", ".join(map(str, names)) if isinstance(names, list) else None


def _parts(checkpoint: Checkpoint, form: Form) -> Parts | None:
    """Each tensor's parts, where all tensors have names of this form; None where one has not, or where parts lack.

    Raises CheckpointError where two tensors have one name.
    """
    found: dict[str, dict[int, str]] = {}
    computed = table_keys(checkpoint, form)
    for key in checkpoint.tensors:
        if key in computed:
            continue
        own = form.ours(key)
        if own is None:
            return None
        name, part = own
        other = found.setdefault(name, {}).setdefault(part, key)
        if other != key:
            raise CheckpointError(
                f"{checkpoint.path}: {other} and {key} are both this model's {name}; have the one that is meant saved "
                "alone"
            )
    if any(len(parts) != len(form.theirs(name)) for name, parts in found.items()):
        return None
    return {name: tuple(parts[part] for part in sorted(parts)) for name, parts in found.items()}


def _shapes(checkpoint: Checkpoint, parts: Parts) -> dict[str, tuple[int, ...]]:
    shapes = {}
    for name, keys in parts.items():
        each = [checkpoint.tensors[key][1] for key in keys]
        shapes[name] = each[0] if len(each) == 1 or not each[0] else (sum(one[0] for one in each), *each[0][1:])
    return shapes


def _expected(family: Family, config: Any) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of the model, in the order of its state dict. Takes no memory."""
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in family.build(config).state_dict().items()}


def _check_whole(checkpoint: Checkpoint, family: Family, config: Any, parts: Parts) -> None:
    shapes, wanted = _shapes(checkpoint, parts), _expected(family, config)
    problems = {
        "missing": [name for name in wanted if name not in shapes],
        "unexpected": [parts[name][0] for name in shapes if name not in wanted],
        "misshapen": [
            f"{name} {list(shapes[name])}, want {list(wanted[name])}"
            for name in wanted
            if name in shapes and shapes[name] != wanted[name]
        ],
    }
    uneven = [key for name, keys in parts.items() for key in keys if _differs(checkpoint, key, parts[name][0])]
    problems["unequal to the tensor that they are parts of with"] = uneven
    lines = [
        f"{len(names)} {kind}: {', '.join(names[:5])}{f' and {len(names) - 5} more' if len(names) > 5 else ''}"
        for kind, names in problems.items()
        if names
    ]
    if lines:
        raise CheckpointError(
            f"{checkpoint.path}: not whole, or more than {config.title}: {'. '.join(lines)}. Nothing was written"
        )


def _differs(checkpoint: Checkpoint, key: str, first: str) -> bool:
    return checkpoint.tensors[key][:2] != checkpoint.tensors[first][:2]


def table_keys(checkpoint: Checkpoint, form: Form) -> dict[str, Table]:
    """The file's tensors that are tables of the form, which follow from the model's configuration."""
    tables = {bare(name): table for name, table in form.tables.items()}
    return {key: tables[bare(key)] for key in checkpoint.tensors if bare(key) in tables}


def _check_computed(checkpoint: Checkpoint, form: Form, config: Any) -> None:
    """Raises CheckpointError where a table is not what is computed for so many rows: it was trained."""
    for key, table in table_keys(checkpoint, form).items():
        found = checkpoint.tensor(key)
        wanted = table(config, min(found.shape[1], MOST_POSITIONS) if found.ndim == 3 else 1)
        if found.shape != wanted.shape or not bool((found.double() - wanted).abs().max() < _TABLE_TOLERANCE):
            raise CheckpointError(
                f"{checkpoint.path}: {key} {list(found.shape)} is not the fixed table of {config.title}; a model with "
                "positions of its own cannot be converted"
            )
