"""Which published form a checkpoint has, by the names in it; each form's head and index order.

Sources of the names: the public UniFormerV2, VideoMAE V2 and MMAction2 code, and Hugging Face's transformers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

# What wrappers put before a model's own names: DistributedDataParallel, torch.compile, the shells of several trainers.
PREFIXES = ("module.", "_orig_mod.", "backbone.", "model.", "encoder.")

# A checkpoint of k710's own carries this top-level key; its value is the version of the form.
OWN_MARK = "k710_format"
OWN_VERSION = 1

Shape = tuple[int, ...]


def bare(key: str) -> str:
    """A tensor's name without what wrappers put before it.

    >>> bare("module.backbone.transformer.proj.2.weight")
    'transformer.proj.2.weight'
    """
    while prefix := next((prefix for prefix in PREFIXES if key.startswith(prefix)), ""):
        key = key[len(prefix) :]
    return key


@dataclass(frozen=True)
class Contents:
    """What a form is recognised by: shapes by bare name, the entry that holds the state dict, the other entries."""

    shapes: Mapping[str, Shape]
    entry: str | None
    top: frozenset[str]
    has_config: bool


@dataclass(frozen=True)
class Format:
    """A published form. `dialect` is the index order of its heads, None where the form does not settle it.

    `heads` are the bare names that its classification head can have; `reason` answers why a file has the form, or None.
    """

    name: str
    title: str
    dialect: str | None
    heads: tuple[str, ...]
    reason: Callable[[Contents], str | None]


def _own(contents: Contents) -> str | None:
    return f"it says so: {OWN_MARK}" if OWN_MARK in contents.top and contents.entry == "model" else None


def _mmaction2(contents: Contents) -> str | None:
    if "cls_head.fc_cls.weight" in contents.shapes:
        return "names cls_head.fc_cls.*" + (f" in {contents.entry}" if contents.entry else "")
    return None


def _huggingface(contents: Contents) -> str | None:
    if contents.has_config:
        return "a config.json beside the weights"
    if "classifier.weight" in contents.shapes and any(key.startswith("videomae.") for key in contents.shapes):
        return "names videomae.* and classifier.*"
    return None


def _uniformerv2_body(contents: Contents) -> bool:
    return {"class_embedding", "transformer.temporal_cls_token"} <= contents.shapes.keys()


def _uniformerv2_training(contents: Contents) -> str | None:
    if contents.entry == "model_state" and _uniformerv2_body(contents):
        return "names transformer.* in model_state"
    return None


def _uniformerv2(contents: Contents) -> str | None:
    if _uniformerv2_body(contents):
        where = f"in {contents.entry}" if contents.entry else "as a bare state dict"
        return f"names transformer.temporal_cls_token and others, {where}"
    return None


def _videomaev2(contents: Contents) -> str | None:
    patches = contents.shapes.get("patch_embed.proj.weight", ())
    if (
        len(patches) == 5 and "blocks.0.attn.qkv.weight" in contents.shapes
    ):  # an image ViT has the names, in 4 dimensions
        where = f"in {contents.entry}" if contents.entry else "as a bare state dict"
        return f"names patch_embed.proj.*, blocks.*.attn.qkv.*, {where}"
    return None


def _any(contents: Contents) -> str:
    return f"a state dict {f'in {contents.entry}' if contents.entry else 'alone'}; the names are of no model known here"


# The first that gives a reason.
FORMATS = (
    Format("k710", "k710 checkpoint", None, ("transformer.proj.2", "head"), _own),
    Format("mmaction2", "MMAction2 checkpoint", "canonical", ("cls_head.fc_cls",), _mmaction2),
    Format("huggingface", "Hugging Face weights", None, ("classifier", "head", "transformer.proj.2"), _huggingface),
    Format(
        "uniformerv2-training",
        "UniFormerV2 training checkpoint",
        "uniformerv2",
        ("transformer.proj.2",),
        _uniformerv2_training,
    ),
    Format("uniformerv2", "UniFormerV2 weights", "uniformerv2", ("transformer.proj.2",), _uniformerv2),
    Format("videomaev2", "VideoMAE V2 checkpoint", "videomaev2", ("head",), _videomaev2),
    Format("state-dict", "state dict", None, ("head", "classifier", "fc", "head.projection", "fc_cls"), _any),
)

_PUBLISHED_BODIES = {"uniformerv2": _uniformerv2, "videomaev2": _videomaev2}


def recognise(contents: Contents) -> tuple[Format, str]:
    """The form of a checkpoint and the reason for saying so."""
    for form in FORMATS:
        reason = form.reason(contents)
        if reason:
            return form, reason
    raise AssertionError("the last form takes everything")


def body_dialect(contents: Contents) -> str | None:
    """The index order of the published model whose names these are: for forms that do not settle it themselves."""
    return next((dialect for dialect, reason in _PUBLISHED_BODIES.items() if reason(contents)), None)


_GLOBAL_BLOCK = re.compile(r"transformer\.dec\.(\d+)\.")
_BLOCK = re.compile(r"blocks\.(\d+)\.")


def model_name(shapes: Mapping[str, Shape]) -> str | None:
    """The model, as far as names and shapes tell it: `UniFormerV2-L/14, 336 px, 4 global blocks`."""
    conv = shapes.get("conv1.weight")
    if conv and len(conv) == 5 and "transformer.temporal_cls_token" in shapes:
        size = {768: "B", 1024: "L"}.get(conv[0], f"width {conv[0]}")
        tokens = shapes.get("positional_embedding", (1,))[0]
        parts = [
            f"UniFormerV2-{size}/{conv[-1]}",
            f"{math.isqrt(max(tokens - 1, 0)) * conv[-1]} px",
            f"{_count(shapes, _GLOBAL_BLOCK)} global blocks",
        ]
        if any(".lmhra1." in key for key in shapes):
            parts.append("local blocks (the Something-Something models have them)")
        if "transformer.balance" not in shapes:
            parts.append("frozen-backbone variant")
        return ", ".join(parts)
    conv = shapes.get("patch_embed.proj.weight")
    if conv and len(conv) == 5:
        size = {384: "S", 768: "B", 1024: "L", 1280: "H", 1408: "g"}.get(conv[0], f"width {conv[0]}")
        return f"VideoMAE ViT-{size}/{conv[-1]}, {_count(shapes, _BLOCK)} blocks"
    return None


def _count(shapes: Mapping[str, Shape], pattern: re.Pattern[str]) -> int:
    return len({match[1] for key in shapes if (match := pattern.match(key))})
