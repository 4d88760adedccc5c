"""Which form a checkpoint has: the container that it came in, and the published layout of its tensors' names."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from k710.models.checkpoints.layouts import fitting, nearly_fitting
from k710.models.checkpoints.signatures import Layout, Shape, stem_name

# What wrappers put before a model's own names: DistributedDataParallel, torch.compile, the shells of several trainers.
PREFIXES = ("module.", "_orig_mod.", "backbone.", "model.", "encoder.")

# What FSDP, activation checkpointing and torch.compile of a part put anywhere into a name; and the numbers that k710
# gives to the state dicts of a list.
_WRAPPERS = re.compile(r"_fsdp_wrapped_module\.|_checkpoint_wrapped_module\.|_orig_mod\.|^classifiers\.\d+\.")

# A checkpoint of k710's own carries this top-level key; its value is the version of the form.
OWN_MARK = "k710_format"
OWN_VERSION = 1


def bare(key: str) -> str:
    """A tensor's name without what wrappers put before it, or into it.

    >>> bare("module.backbone.transformer.proj.2.weight")
    'transformer.proj.2.weight'
    """
    key = _WRAPPERS.sub("", key)
    while prefix := next((prefix for prefix in PREFIXES if key.startswith(prefix)), ""):
        key = key[len(prefix) :]
    return key


def bare_shapes(tensors: Iterable[tuple[str, Shape]]) -> dict[str, Shape]:
    """Shapes by bare name, without those names that are of tensors of several shapes: nobody knows which one counts."""
    shapes: dict[str, Shape] = {}
    disputed = set()
    for key, shape in tensors:
        if shapes.setdefault(bare(key), shape) != shape:
            disputed.add(bare(key))
    return {name: shape for name, shape in shapes.items() if name not in disputed}


@dataclass(frozen=True)
class Contents:
    """What a form is recognised by: shapes by bare name, the entry that holds the state dict, the other entries."""

    shapes: Mapping[str, Shape]
    entry: str | None
    top: frozenset[str]
    has_config: bool

    @property
    def where(self) -> str:
        return f"in {self.entry}" if self.entry else "as a bare state dict"


@dataclass(frozen=True)
class Format:
    """A form of checkpoint. `heads` are the bare names that its classification head can have."""

    name: str
    title: str
    heads: tuple[str, ...]


@dataclass(frozen=True)
class Recognised:
    """The form of a checkpoint, the published layout of its tensors if it is one, and why."""

    format: Format
    layout: Layout | None
    why: str


K710 = Format("k710", "k710 checkpoint", ("transformer.proj.2", "head"))
HUGGINGFACE = Format("huggingface", "Hugging Face weights", ("classifier", "head", "transformer.proj.2"))
STATE_DICT = Format("state-dict", "state dict", ("head", "classifier", "fc", "head.projection", "fc_cls"))

# A folder does not change what these names mean.
_MMACTION2_HEADS = ("cls_head.fc_cls",)


def recognise(contents: Contents) -> Recognised:
    """The form of a checkpoint. Where no layout fits, or several do, the layout is None and `why` names them."""
    if OWN_MARK in contents.top and contents.entry == "model":
        return Recognised(K710, None, f"it says so: {OWN_MARK}")
    found = fitting(contents.shapes)
    layout = found[0] if len(found) == 1 else None
    if contents.has_config and not (layout and layout.heads == _MMACTION2_HEADS):
        names = f"; {layout.evidence}" if layout else ""
        return Recognised(HUGGINGFACE, layout, f"a config.json beside the weights{names}")
    if layout is None:
        return Recognised(STATE_DICT, None, _unknown(contents, found))
    if layout.name == "uniformerv2" and contents.entry == "model_state":
        training = Format("uniformerv2-training", "UniFormerV2 training checkpoint", layout.heads)
        return Recognised(training, layout, "names transformer.* in model_state")
    if layout.name.startswith("hf-"):
        return Recognised(HUGGINGFACE, layout, layout.evidence)
    return Recognised(Format(layout.name, layout.title, layout.heads), layout, f"{layout.evidence}, {contents.where}")


def _unknown(contents: Contents, found: list[Layout]) -> str:
    state = f"a state dict {f'in {contents.entry}' if contents.entry else 'alone'}"
    if found:
        return f"{state}; its names are those of several: {', '.join(layout.title for layout in found)}"
    nearly = "; ".join(f"nearly a {layout.title}, but {failure}" for layout, failure in nearly_fitting(contents.shapes))
    return f"{state}; the names are of no model known here{f' ({nearly})' if nearly else ''}"


_GLOBAL_BLOCK = re.compile(r"transformer\.dec\.(\d+)\.")


def model_name(layout: Layout | None, shapes: Mapping[str, Shape]) -> str | None:
    """The model, as far as names and shapes tell it: `UniFormerV2-L/14, 336 px, 4 global blocks`."""
    conv = shapes.get("conv1.weight")
    if conv and len(conv) == 5 and "transformer.temporal_cls_token" in shapes:
        size = {768: "B", 1024: "L"}.get(conv[0], f"width {conv[0]}")
        tokens = shapes.get("positional_embedding", (1,))[0]
        global_blocks = len({match[1] for key in shapes if (match := _GLOBAL_BLOCK.match(key))})
        parts = [
            f"UniFormerV2-{size}/{conv[-1]}",
            f"{math.isqrt(max(tokens - 1, 0)) * conv[-1]} px",
            f"{global_blocks} global blocks",
        ]
        if any(".lmhra1." in key for key in shapes):
            parts.append("local blocks (the Something-Something models have them)")
        if "transformer.balance" not in shapes:
            parts.append("frozen-backbone variant")
        return ", ".join(parts)
    return stem_name(layout, shapes) if layout else None
