"""The classification head of a checkpoint: which tensors it is, and why it is refused where it is none or not one."""

from __future__ import annotations

from dataclasses import dataclass

from k710.errors import CheckpointError
from k710.lists.labels import LABEL_SETS, class_names
from k710.models.checkpoints.checkpoint import Checkpoint
from k710.models.checkpoints.formats import bare

# dtypes whose rows mean something by themselves; a quantised head needs its scales, which lie elsewhere.
FLOATING = ("float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2")

# Row counts that are met where a Kinetics head was expected, and what they most likely are.
_LIKELY = {
    51: "HMDB51's classes",
    101: "UCF101's classes",
    174: "Something-Something's 174 classes: a model finetuned on it has lost its Kinetics head",
    200: "the classes of ActivityNet, HACS or Mini-Kinetics",
    339: "the classes of Moments in Time",
    512: "the width of CLIP's projection (B models), which is no classification head",
    768: "the width of CLIP's projection (L models) or of a B model, which is no classification head",
    1000: "ImageNet's classes",
    1024: "the width of an L model, which is no classification head",
    21841: "ImageNet-21k's classes",
}


# What torch, bitsandbytes and GPTQ keep beside quantised weights.
_QUANTISED = (".zero_point", ".SCB", ".qweight", ".qzeros")

# A head with so many classes more or fewer than a label set was most likely made for that set.
_FEW = 8


@dataclass(frozen=True)
class Head:
    """The last linear layer: `weight` (rows, width) and `bias` (rows), by their names in the checkpoint.

    `name` is what the two share.
    """

    name: str
    weight: str
    bias: str | None
    rows: int
    width: int
    dtype: str


def class_counts() -> dict[int, str]:
    """How many classes each label set has: 400 -> k400, …; 700 stands for both releases of Kinetics-700."""
    return {len(class_names(name)): name for name in dict.fromkeys(LABEL_SETS.values())}


def likely_cause(rows: int) -> str:
    """What a head with that many rows most likely is; empty where nothing is likely."""
    if rows in class_counts():
        name = class_counts()[rows]
        return f" {rows} rows are most likely a head of {name}: say --from {name}, or leave --from out."
    if rows in _LIKELY:
        return f" {rows} rows are most likely {_LIKELY[rows]}."
    for count, name in class_counts().items():
        if 0 < count - rows <= _FEW:
            lacking = "1 class" if count - rows == 1 else f"{count - rows} classes"
            return (
                f" {rows} rows are most likely {name} without {lacking}: labels that were counted from a list or from "
                "folders in which some classes have no clip."
            )
        if 0 < rows - count <= _FEW:
            own = "one of your own, or a background class" if rows - count == 1 else f"{rows - count} of your own"
            return f" {rows} rows are most likely {count} Kinetics classes and {own}."
    return ""


def find_head(checkpoint: Checkpoint, *, name: str | None = None) -> Head:
    """The head, found by the name its form gives it and by having as many rows as a label set or the labels told.

    Of heads that are published together (see `twin_heads`) it is the first; of two others, `name` picks one. Raises
    CheckpointError for none, two, and a dtype whose rows cannot be picked.
    """
    candidates = _candidates(checkpoint)
    recorded = (checkpoint.record or {}).get("head")
    if name is None and f"{recorded}.weight" in checkpoint.tensors:
        name = recorded
    if name is not None:
        name = name.removesuffix(".weight")
        if f"{name}.weight" not in checkpoint.tensors:
            raise CheckpointError(f"{checkpoint.path}: no tensor {name}.weight in it; heads found: {_list(candidates)}")
        candidates = [name]
    if not candidates:
        raise CheckpointError(
            f"{checkpoint.path}: no classification head in it ({checkpoint.format.title}).{_why_none(checkpoint)}"
        )
    if len(candidates) > 1 and all(_is_published(checkpoint, candidate) for candidate in candidates):
        candidates.sort(key=lambda candidate: _published_names(checkpoint).index(_bare_name(candidate)))
    elif len(candidates) > 1:
        raise CheckpointError(
            f"{checkpoint.path}: {len(candidates)} heads in it: {_list(candidates, checkpoint)}; pick one: "
            "k710 remap-head --head NAME"
        )
    return _head(checkpoint, candidates[0])


def twin_heads(checkpoint: Checkpoint, head: Head) -> tuple[Head, ...]:
    """The heads that are published together with `head`, of the same classes in the same order: those of the two kinds
    of token in UniFormer's light models, those of V-JEPA 2's several probes. A remap moves them all.

    Raises CheckpointError where they have other numbers of rows, so that they cannot be of the same classes.
    """
    if not _is_published(checkpoint, head.name):
        return ()
    names = [name for name in _candidates(checkpoint) if name != head.name and _is_published(checkpoint, name)]
    twins = tuple(_head(checkpoint, name) for name in names)
    if other := next((twin for twin in twins if twin.rows != head.rows), None):
        raise CheckpointError(
            f"{checkpoint.path}: {head.name} has {head.rows} rows and {other.name} {other.rows}; in a "
            f"{checkpoint.format.title} the two are of the same classes. One of them was replaced, or remapped by "
            "other means; have the checkpoint saved with the right one alone"
        )
    return twins


def _published_names(checkpoint: Checkpoint) -> tuple[str, ...]:
    return checkpoint.layout.heads if checkpoint.layout else ()


def _is_published(checkpoint: Checkpoint, name: str) -> bool:
    return _bare_name(name) in _published_names(checkpoint)


def _bare_name(name: str) -> str:
    """A head's name without what wrappers put before it or behind it."""
    return bare(f"{name}.weight").removesuffix(".weight")


def other_heads(checkpoint: Checkpoint, head: Head) -> list[str]:
    """What else could be a head, with its rows: a remap leaves it as it is."""
    moved = {head.name, *(twin.name for twin in twin_heads(checkpoint, head))}
    return [f"{name} ({_rows(checkpoint, name)} rows)" for name in _candidates(checkpoint) if name not in moved]


def _rows(checkpoint: Checkpoint, name: str) -> int:
    return checkpoint.tensors[f"{name}.weight"][1][0]


def _candidates(checkpoint: Checkpoint) -> list[str]:
    known_names = {*checkpoint.format.heads, *_published_names(checkpoint)}
    rows = set(class_counts())
    if checkpoint.record:
        rows.add(len(checkpoint.record["labels"]))
    found = []
    for key, (_, shape, _) in checkpoint.tensors.items():
        name = key.removesuffix(".weight")
        # A head is a matrix, or a convolution of size one.
        if name == key or len(shape) < 2 or any(size != 1 for size in shape[2:]):
            continue
        has_bias = checkpoint.tensors.get(f"{name}.bias", ("", (), 0))[1] == shape[:1]
        if _bare_name(name) in known_names or (shape[0] in rows and has_bias):
            found.append(name)
    return found


def _head(checkpoint: Checkpoint, name: str) -> Head:
    dtype, shape, _ = checkpoint.tensors[f"{name}.weight"]
    where = f"{checkpoint.path}: head {name}"
    if len(shape) < 2:
        raise CheckpointError(f"{where}: has the shape {list(shape)}; a head is a matrix, one row for a class")
    if dtype not in FLOATING:
        raise CheckpointError(
            f"{where}: its dtype {dtype} cannot be remapped; rows can be picked of {', '.join(FLOATING)}. Convert the "
            "head, or remap the checkpoint that it was quantised from"
        )
    bias = f"{name}.bias" if f"{name}.bias" in checkpoint.tensors else None
    if bias and checkpoint.tensors[bias][1] != shape[:1]:
        raise CheckpointError(f"{where}: {shape[0]} rows of weight, but a bias of {list(checkpoint.tensors[bias][1])}")
    return Head(name, f"{name}.weight", bias, shape[0], shape[1], dtype)


def _list(names: list[str], checkpoint: Checkpoint | None = None) -> str:
    if checkpoint is None:
        return ", ".join(names) or "none"
    return ", ".join(f"{name} ({_rows(checkpoint, name)} rows)" for name in names)


def _why_none(checkpoint: Checkpoint) -> str:
    shapes = checkpoint.bare_shapes()
    if any(".decoder." in f".{key}" or key.endswith("mask_token") for key in shapes):
        return (
            " It looks like a masked pretraining, before any classes were learned; a finetune begins from its encoder: "
            "k710 train --init FILE."
        )
    if checkpoint.layout and not checkpoint.layout.heads:
        return " Its classes come in as text, so there are no rows to pick."
    if "visual.proj" in shapes or "text_projection" in shapes:
        return " It looks like the whole of CLIP, whose projection is no classification head."
    if "embeddings.class_embedding" in shapes or "vision_model.embeddings.class_embedding" in shapes:
        return " It looks like CLIP's image encoder, from which models start; a head comes with training."
    if "class_embedding" in shapes and "transformer.temporal_cls_token" not in shapes:
        return " It looks like CLIP's image encoder, from which models start; a head comes with training."
    if any(key.endswith(_QUANTISED) for key in shapes):
        return " It is quantised, so no head has rows that could be picked; give the checkpoint that it was made from."
    counts = ", ".join(map(str, sorted(class_counts())))
    return f" No layer has a head's name, and none with {counts} rows has a bias; name it: k710 remap-head --head NAME."
