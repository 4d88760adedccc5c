"""What a conversion will do: which model a checkpoint holds, what its rows mean, and where each tensor goes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from k710.errors import CheckpointError, UsageError
from k710.lists.labels import LABEL_SETS
from k710.models.checkpoints.checkpoint import Checkpoint, open_checkpoint
from k710.models.convert.forms import FORM_NAMES, Form, forms_of
from k710.models.convert.recognise import MOST_POSITIONS, Parts, find_model, table_keys
from k710.models.convert.videomae_folder import check_folder, sizes_of_folder
from k710.models.family import Family
from k710.models.heads.head_labels import Labels, labels_of_set, source_labels
from k710.models.heads.heads import Head, find_head
from k710.models.heads.remap import Remap, Source, fill, find_rows, target_labels
from k710.text import counted


@dataclass(frozen=True)
class Conversion:
    """What is to be done: the tensors of a checkpoint under the names of `form`, the head's rows as `remap` says.

    `config` is the model's. `messages` say how that is known, `notes` what is worth knowing of the result.
    """

    remap: Remap
    family: Family
    config: Any
    form: Form
    parts: Parts
    notes: tuple[str, ...]

    @property
    def checkpoint(self) -> Checkpoint:
        return self.remap.sources[0].checkpoint

    @property
    def moves_rows(self) -> bool:
        return self.remap.rows != tuple(((0, row),) for row in range(len(self.remap.rows)))


def plan_conversion(
    path: Path,
    *,
    to: str,
    label_set: str | None = None,
    dialect: str | None = None,
    family: str | None = None,
    to_dialect: str | None = None,
    size_px: int | None = None,
    num_frames: int | None = None,
) -> Conversion:
    """Open a checkpoint, learn which model it holds and what its rows mean, and find every tensor a place in form `to`.

    `label_set` (a name or a file of class names), `dialect` and `family` (whose published model it is) are the user's
    word on the head. Rows keep their order, or get that of `to_dialect`. `size_px` and `num_frames` are what no tensor
    tells. Raises CheckpointError for another model, for tensors without a place, and where nothing tells the order of
    the head; UsageError for bad choices.
    """
    if to not in FORM_NAMES:
        raise UsageError(f"unknown form {to!r}; known: {', '.join(FORM_NAMES)}")
    checkpoint = open_checkpoint(path)
    model, config, source_form, parts = find_model(checkpoint)
    forms = forms_of(model.name)
    if to not in forms:
        raise UsageError(f"{path}: {config.title} has no form {to!r}; it has {', '.join(forms)}")
    form = forms[to]
    _check_form(checkpoint, form, parts)
    head = _head(checkpoint, model, parts)
    labels, messages = source_labels(checkpoint, head, label_set=label_set, dialect=dialect, family=family, again=True)
    target = _target(labels, to_dialect)
    rows = find_rows([labels], target)
    if not all(len(origins) == 1 for origins in rows):
        raise CheckpointError(
            f"{path}: its rows are not the classes of {target}, one each; k710 remap-head picks rows of other classes"
        )
    is_told = form.folder is not None or bool(form.tables)
    config, notes = _with_sizes(checkpoint, source_form, config, size_px, num_frames, is_told=is_told)
    if is_told:
        _check_tables(checkpoint, source_form, config)
    notes += _notes_on_order(form, target)
    source = Source(checkpoint, head, labels, tuple(messages))
    return Conversion(Remap((source,), target, rows, None), model, config, form, parts, tuple(notes))


def converted(conversion: Conversion) -> dict[str, torch.Tensor]:
    """The tensors under the form's names, in the order of the model's own state dict. No bit of a tensor changes."""
    checkpoint, head = conversion.checkpoint, f"{conversion.family.head}."
    tensors: dict[str, torch.Tensor] = {}
    seen: set[int] = set()
    for name, keys in conversion.parts.items():
        found = [checkpoint.tensor(key) for key in keys]
        whole = found[0] if len(found) == 1 else _joined(found)
        if name.startswith(head) and conversion.moves_rows:
            whole = fill(conversion.remap.rows, [whole])
        theirs = conversion.form.theirs(name)
        for key, part in zip(theirs, whole.chunk(len(theirs)) if len(theirs) > 1 else (whole,), strict=True):
            tensors[key] = _alone(part, seen)
    tensors |= {key: table(conversion.config, None) for key, table in conversion.form.tables.items()}
    return tensors


def _check_form(checkpoint: Checkpoint, form: Form, parts: Mapping[str, Any]) -> None:
    """Raises CheckpointError where the form has no place for a tensor, or its code for such a model."""
    homeless = [name for name in parts if not form.theirs(name)]
    if homeless:
        more = f" and {len(homeless) - 5} more" if len(homeless) > 5 else ""
        raise CheckpointError(
            f"{checkpoint.path}: {form.title} has no place for {', '.join(homeless[:5])}{more}; stay with another form"
        )
    for name, why in form.needs.items():
        if name not in parts:
            raise CheckpointError(f"{checkpoint.path}: it has no {name}, and {why}; choose another --to")
    recorded = checkpoint.recorded("model") if form.name != "k710" else {}
    for setting, value in form.only.items():
        if recorded.get(setting) not in (None, value):
            raise CheckpointError(
                f"{checkpoint.path}: its recipe says {setting} {recorded[setting]!r}, and the code behind the form "
                f"{form.name} knows {value} alone; it would compute something else"
            )


def _head(checkpoint: Checkpoint, family: Family, parts: Parts) -> Head:
    (key,) = parts[f"{family.head}.weight"]
    return find_head(checkpoint, name=key.removesuffix(".weight"))


def _target(labels: Labels, to_dialect: str | None) -> Labels:
    if to_dialect is None:
        return labels
    if labels.label_set not in LABEL_SETS:
        raise UsageError(f"--to-dialect {to_dialect} and the list {labels.label_set}: a list has its own order")
    return target_labels(labels.label_set, to_dialect)


def _notes_on_order(form: Form, target: Labels) -> list[str]:
    if form.dialect is None or target.label_set not in LABEL_SETS or form.dialect == target.dialect:
        return []
    if labels_of_set(target.label_set, form.dialect).keys == target.keys:
        return []
    return [
        f"heads that were published in this form are {form.dialect}, and this one is {target.dialect}: with lists made "
        f"for those, its classes are wrong; --to-dialect {form.dialect} orders its rows so"
    ]


def _with_sizes(
    checkpoint: Checkpoint,
    source_form: Form,
    config: Any,
    size_px: int | None,
    num_frames: int | None,
    *,
    is_told: bool,
) -> tuple[Any, list[str]]:
    """The configuration with the sizes that no tensor tells: as asked, as recorded, or as published."""
    notes: list[str] = []
    known: dict[str, Any] = {}
    if source_form.folder and checkpoint.config is not None:
        notes += check_folder(checkpoint.config, config, checkpoint.path)
        known |= sizes_of_folder(checkpoint.config, checkpoint.path)
    known |= {name: value for name, value in checkpoint.recorded("data").items() if name in ("size_px", "num_frames")}
    asked = {name: each for name, each in (("size_px", size_px), ("num_frames", num_frames)) if each is not None}
    if asked and not is_told:
        raise UsageError("--size-px and --num-frames: this form has no place for them")
    as_published = replace(config)
    try:
        config = replace(config, **{**known, **asked})
    except (UsageError, TypeError) as error:
        if asked:
            raise UsageError(str(error)) from None
        raise CheckpointError(f"{checkpoint.path}: {error}") from None
    if is_told and math.prod(config.grid) > MOST_POSITIONS:
        raise UsageError(
            f"{checkpoint.path}: a clip of {config.num_frames:,} frames of {config.size_px:,} px has "
            f"{math.prod(config.grid):,} tokens; more than {MOST_POSITIONS:,} are no clip"
        )
    if is_told and not {"size_px", "num_frames"} <= (known | asked).keys():
        notes.append(
            f"no tensor tells the size of a clip; written as published: {counted(config.num_frames, 'frame')} of "
            f"{config.size_px} px (--num-frames, --size-px)"
        )
    elif not is_told and (config.size_px, config.num_frames) != (as_published.size_px, as_published.num_frames):
        notes.append(
            f"this form has no place for the size of a clip: {counted(config.num_frames, 'frame')} of "
            f"{config.size_px} px"
        )
    return config, notes


def _check_tables(checkpoint: Checkpoint, source_form: Form, config: Any) -> None:
    """Raises CheckpointError where a table of the file is for clips of another size than `config` says."""
    for key, table in table_keys(checkpoint, source_form).items():
        rows, wanted = checkpoint.tensors[key][1][1], table(config, None).shape[1]
        if rows != wanted:
            raise CheckpointError(
                f"{checkpoint.path}: {key} has {rows} positions, and a clip of "
                f"{counted(config.num_frames, 'frame')} of {config.size_px} px has {wanted}; say what its clips are "
                "with --num-frames and --size-px"
            )


def _joined(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """Parts (rows, …) of one dtype, one below the other. Copying bytes works for every dtype, float8 too."""
    as_bytes = torch.cat([part.contiguous().view(torch.uint8) for part in parts])
    return as_bytes.view(parts[0].dtype)


def _alone(tensor: torch.Tensor, seen: set[int]) -> torch.Tensor:
    """The tensor in memory of its own: a part of a larger one would take the whole into the file, and safetensors
    refuses two names of one piece of memory. `seen` are the places of the tensors before it."""
    is_whole = tensor.is_contiguous() and tensor.untyped_storage().nbytes() == tensor.nbytes
    alone = tensor if is_whole and tensor.data_ptr() not in seen else tensor.contiguous().clone()
    seen.add(alone.data_ptr())
    return alone
