"""Each video model that transformers saves with a head is recognised, and rows without names are asked about."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from k710.errors import CheckpointError
from k710.lists.labels import class_names
from k710.models.checkpoints.checkpoint import open_checkpoint
from k710.models.describe import describe
from k710.models.heads.remap import plan_remap
from k710.models.heads.remap_write import write_remap

transformers = pytest.importorskip("transformers", reason="transformers is not installed; it needs Python 3.11")

SMALL: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
KINDS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "hf-videomae": (
        "VideoMAEConfig", "VideoMAEForVideoClassification", {**SMALL, "image_size": 32, "num_frames": 4}
    ),
    "hf-timesformer": (
        "TimesformerConfig", "TimesformerForVideoClassification", {**SMALL, "image_size": 32, "num_frames": 4}
    ),
    "hf-vivit": ("VivitConfig", "VivitForVideoClassification", {**SMALL, "image_size": 32, "num_frames": 4}),
    "hf-vjepa2": (
        "VJEPA2Config", "VJEPA2ForVideoClassification",
        {**SMALL, "crop_size": 32, "frames_per_clip": 4, "num_pooler_layers": 1, "pred_hidden_size": 32,
         "pred_num_attention_heads": 2, "pred_num_hidden_layers": 1},
    ),
}  # fmt: skip


def saved(folder: Path, kind: str, names: tuple[str, ...] = ()) -> Path:
    config_name, model_name, sizes = KINDS[kind]
    labels = {"id2label": dict(enumerate(names)), "label2id": {name: row for row, name in enumerate(names)}}
    config = getattr(transformers, config_name)(**sizes, **(labels if names else {"num_labels": 400}))
    getattr(transformers, model_name)(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.slow
def test_models_of_transformers_are_recognised(kind: str, tmp_path: Path):
    folder = saved(tmp_path / "named", kind, class_names("k400", "uniformerv2"))
    checkpoint = open_checkpoint(folder)
    assert checkpoint.layout, checkpoint.why
    assert checkpoint.layout.name == kind
    found = describe(folder)
    assert (found["head"]["name"], found["label_set"], found["dialect"]) == ("classifier", "k400", "uniformerv2")
    out, _ = write_remap(plan_remap([folder], to="k400"))
    again = getattr(transformers, KINDS[kind][1]).from_pretrained(out)
    assert [again.config.id2label[row] for row in range(400)] == list(class_names("k400"))
    with pytest.raises(CheckpointError, match=r"nothing tells the index order.*say it with --dialect"):
        plan_remap([saved(tmp_path / "nameless", kind)], to="k400")
