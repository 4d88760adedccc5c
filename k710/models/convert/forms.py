"""The forms that a model's checkpoints are written in: for each, its names of the tensors and its container.

Sources of the names: the public UniFormerV2 (OpenGVLab/UniFormerV2), VideoMAE V2 (OpenGVLab/VideoMAEv2) and MMAction2
(open-mmlab/mmaction2, mmaction/models/backbones: uniformerv2.py and vit_mae.py), and Hugging Face's transformers
(models/videomae and conversion_mapping.py of 5.24).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from k710.models.checkpoints.checkpoint import RECORD
from k710.models.checkpoints.formats import OWN_MARK, OWN_VERSION, bare
from k710.models.convert.videomae_folder import videomae_folder
from k710.models.videomaev2.positions import position_table

# A tensor that is computed: from the model's configuration, for so many rows, or as many as its clips have tokens.
Table = Callable[[Any, int | None], Tensor]

# The beginning of a tensor's name here, and those of the tensors in which the form keeps it, in order: one, or several
# that are its parts along the first dimension. `{n}` stands for a number; what follows the beginning is the same.
Names = tuple[str, tuple[str, ...]]


def _only_the_record(record: Mapping[str, Any]) -> dict[str, Any]:
    return {RECORD: dict(record)}


def _beside_mmaction2(record: Mapping[str, Any]) -> dict[str, Any]:
    return {"meta": {"dataset_meta": {"classes": list(record["labels"])}}, RECORD: dict(record)}


def _beside_own(record: Mapping[str, Any]) -> dict[str, Any]:
    return {OWN_MARK: OWN_VERSION, "head": dict(record)}


@dataclass(frozen=True)
class Form:
    """A published form of a model's checkpoint.

    `family` is the model's; `names` are read from the top, and the first row that fits counts; `aliases` are names that
    are read and never written; `tables` are tensors that the form has beside the model's own, and that are computed.

    `suffix` is that of a file, and "" for a folder. `entry` is the top-level entry that holds the state dict, None
    where the file is the state dict itself, and `beside` makes the other entries of the head's record. A folder's other
    files are what `folder` makes of the model's configuration and its classes in order: contents by name.

    `dialect` is the index order of the heads that were published in this form. `needs` names tensors without which the
    form's code cannot build the model, and says why; `only` are settings of which the form's code knows one value.
    """

    name: str
    title: str
    family: str
    names: tuple[Names, ...]
    suffix: str
    aliases: tuple[Names, ...] = ()
    entry: str | None = None
    beside: Callable[[Mapping[str, Any]], dict[str, Any]] = _only_the_record
    folder: Callable[[Any, tuple[str, ...]], dict[str, dict[str, Any]]] | None = None
    tables: Mapping[str, Table] = field(default_factory=dict)
    dialect: str | None = None
    needs: Mapping[str, str] = field(default_factory=dict)
    only: Mapping[str, str] = field(default_factory=dict)

    def theirs(self, name: str) -> tuple[str, ...]:
        """The form's names of the tensor that is called `name` here; none where it has no place for it."""
        for ours, theirs in self.names:
            if found := _beginning(ours).match(name):
                rest = name[found.end() :]
                return tuple(_filled(each, found.groups()) + rest for each in theirs)
        return ()

    def ours(self, key: str) -> tuple[str, int] | None:
        """The name here of a tensor of such a file, wrappers or not, and which part of that tensor it is."""
        name = bare(key)
        for row in (*self.names, *self.aliases):
            for part, each in enumerate(row[1]):
                if found := _beginning(bare(each)).match(name):
                    own = _filled(row[0], found.groups()) + name[found.end() :]
                    # A name of another form can begin like one of this form.
                    if row in self.aliases or [bare(again) for again in self.theirs(own)][part:][:1] == [name]:
                        return own, part
        return None


def _beginning(template: str) -> re.Pattern[str]:
    return re.compile(re.escape(template).replace(r"\{n\}", r"(\d+)"))


def _filled(template: str, numbers: tuple[str, ...]) -> str:
    for number in numbers:
        template = template.replace("{n}", number, 1)
    return template


def _same(prefix: str = "") -> tuple[Names, ...]:
    return (("", (prefix,)),)


_PUBLISHED_UNIFORMERV2 = {"fusion": "sequential", "activation": "quick_gelu"}

_LAYER = "videomae.encoder.layer.{n}"
_ATTENTION = f"{_LAYER}.attention.attention"

_VIDEOMAE: tuple[Names, ...] = (
    ("patch_embed.proj.", ("videomae.embeddings.patch_embeddings.projection.",)),
    ("blocks.{n}.norm1.", (f"{_LAYER}.layernorm_before.",)),
    ("blocks.{n}.norm2.", (f"{_LAYER}.layernorm_after.",)),
    ("blocks.{n}.attn.qkv.weight", tuple(f"{_ATTENTION}.{each}.weight" for each in ("query", "key", "value"))),
    ("blocks.{n}.attn.q_bias", (f"{_ATTENTION}.q_bias",)),
    ("blocks.{n}.attn.v_bias", (f"{_ATTENTION}.v_bias",)),
    ("blocks.{n}.attn.proj.", (f"{_LAYER}.attention.output.dense.",)),
    ("blocks.{n}.mlp.fc1.", (f"{_LAYER}.intermediate.dense.",)),
    ("blocks.{n}.mlp.fc2.", (f"{_LAYER}.output.dense.",)),
    ("fc_norm.", ("fc_norm.",)),
    ("head.", ("classifier.",)),
)

# As the first releases of transformers 5 saved them.
_VIDEOMAE_ALIASES: tuple[Names, ...] = (
    ("blocks.{n}.attn.q_bias", (f"{_ATTENTION}.query.bias",)),
    ("blocks.{n}.attn.v_bias", (f"{_ATTENTION}.value.bias",)),
)

_MMACTION2_VIDEOMAE: tuple[Names, ...] = (
    ("patch_embed.proj.", ("backbone.patch_embed.projection.",)),
    ("blocks.{n}.mlp.fc1.", ("backbone.blocks.{n}.mlp.layers.0.0.",)),
    ("blocks.{n}.mlp.fc2.", ("backbone.blocks.{n}.mlp.layers.1.",)),
    ("head.", ("cls_head.fc_cls.",)),
    *_same("backbone."),
)


def _positions(config: Any, rows: int | None) -> Tensor:
    """(1, tokens, width): MMAction2 keeps the fixed position table with the weights."""
    return position_table(math.prod(config.grid) if rows is None else rows, config.vit.width)[None]


FORMS = (
    Form(
        "uniformerv2", "UniFormerV2 weights", "uniformerv2", _same("backbone."), ".pyth",
        dialect="uniformerv2", only=_PUBLISHED_UNIFORMERV2,
    ),
    Form(
        "mmaction2", "MMAction2 checkpoint", "uniformerv2",
        (
            ("transformer.proj.0.", ("backbone.transformer.norm.",)),
            ("transformer.proj.2.", ("cls_head.fc_cls.",)),
            *_same("backbone."),
        ),
        ".pth",
        entry="state_dict",
        beside=_beside_mmaction2,
        dialect="canonical",
        needs={"transformer.balance": "MMAction2's UniFormerV2 has no frozen-backbone variant"},
        only=_PUBLISHED_UNIFORMERV2,
    ),
    Form("k710", "k710 checkpoint", "uniformerv2", _same(), ".pt", entry="model", beside=_beside_own),
    Form("videomaev2", "VideoMAE V2 checkpoint", "videomaev2", _same(), ".pth", entry="module", dialect="videomaev2"),
    Form(
        "mmaction2", "MMAction2 checkpoint", "videomaev2", _MMACTION2_VIDEOMAE, ".pth",
        entry="state_dict", beside=_beside_mmaction2, dialect="canonical", tables={"backbone.pos_embed": _positions},
    ),
    Form(
        "huggingface", "Hugging Face folder", "videomaev2", _VIDEOMAE, "",
        aliases=_VIDEOMAE_ALIASES, folder=videomae_folder,
    ),
    Form("k710", "k710 checkpoint", "videomaev2", _same(), ".pt", entry="model", beside=_beside_own),
)  # fmt: skip

# As `--to` takes them.
FORM_NAMES = tuple(dict.fromkeys(form.name for form in FORMS))


def forms_of(family: str) -> dict[str, Form]:
    """The forms of a family's checkpoints, by name."""
    return {form.name: form for form in FORMS if form.family == family}
