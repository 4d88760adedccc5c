"""A converted folder in transformers itself: it loads whole, and gives the logits of the model it was made from."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from k710.lists.labels import class_names
from k710.models.convert.plan import plan_conversion
from k710.models.convert.write import write_conversion
from k710.models.load import model_from_checkpoint
from k710.models.videomaev2.config import PRESETS
from k710.models.videomaev2.model import VideoMAEV2
from tests.helpers.golden import golden_clips
from tests.helpers.published_videomaev2 import GOLDEN_CONFIGS, fill
from tests.helpers.tiny_models import bits, released, tiny_state

transformers = pytest.importorskip("transformers", reason="transformers is not installed; it needs Python 3.11")


def load(folder: Path):
    """The model of a folder, which must be whole: transformers says of every tensor whether it had a place."""
    model, info = transformers.VideoMAEForVideoClassification.from_pretrained(folder, output_loading_info=True)
    assert not any(info.values()), info
    return model.eval()


def to_folder(checkpoint: Path, folder: Path, **options) -> Path:
    return write_conversion(plan_conversion(checkpoint, to="huggingface", **options), folder)[0]


def logits(model, clips: torch.Tensor) -> torch.Tensor:
    """Clips (B, 3, T, H, W); transformers wants frames before channels."""
    with torch.no_grad():
        return model(clips.transpose(1, 2)).logits


@pytest.mark.parametrize("name", ["plain", "eight frames, drop path, head dropout"])
def test_the_logits_are_those_of_the_public_model(tmp_path, name):
    config = replace(GOLDEN_CONFIGS[name], num_classes=400)
    model = fill(VideoMAEV2(config)).eval()
    start = released(tmp_path / "vit.pth", "videomaev2", model.state_dict())
    there = load(to_folder(start, tmp_path / "folder", family="videomaev2", num_frames=config.num_frames))
    clips = golden_clips(config)
    with torch.no_grad():
        wanted = model(clips)
    found = logits(there, clips)
    assert wanted.abs().max() > 0.5
    assert (found - wanted).abs().max() < 1e-5
    # Query and value biases count here; as zeros, they would move the logits.
    for layer in there.videomae.encoder.layer:
        assert layer.attention.attention.query.bias.abs().max() > 0.1
        torch.nn.init.zeros_(layer.attention.attention.query.bias)
    assert (logits(there, clips) - wanted).abs().max() > 1e-3


def test_half_precision_stays_what_it_is(tmp_path):
    start = released(tmp_path / "vit.pth", "videomaev2", tiny_state("videomaev2", dtype=torch.float16))
    there = load(to_folder(start, tmp_path / "folder"))
    assert {parameter.dtype for parameter in there.parameters()} == {torch.float16}


def test_what_transformers_saved_comes_back_with_every_bit(tmp_path):
    start = released(tmp_path / "vit.pth", "videomaev2", tiny_state("videomaev2"))
    model = load(to_folder(start, tmp_path / "folder"))
    assert model.config.id2label[3] == class_names("k710", "videomaev2")[3]
    model.save_pretrained(tmp_path / "saved")
    back, _ = write_conversion(plan_conversion(tmp_path / "saved", to="videomaev2"), tmp_path / "back.pth")
    assert bits(back) == bits(start)


def test_shards_of_transformers_are_read(tmp_path):
    start = released(tmp_path / "vit.pth", "videomaev2", tiny_state("videomaev2"))
    model = load(to_folder(start, tmp_path / "folder"))
    model.save_pretrained(tmp_path / "saved", max_shard_size="200KB")
    assert len(list((tmp_path / "saved").glob("model-*.safetensors"))) > 2
    back, _ = write_conversion(plan_conversion(tmp_path / "saved", to="videomaev2"), tmp_path / "back.pth")
    assert bits(back) == bits(start)


def test_a_model_that_was_made_in_transformers_runs_here(tmp_path):
    torch.manual_seed(0)
    names = dict(enumerate(class_names("k400")))
    config = transformers.VideoMAEConfig(
        image_size=32, patch_size=8, num_frames=8, hidden_size=64, num_hidden_layers=3, num_attention_heads=2,
        intermediate_size=256, id2label=names, label2id={name: row for row, name in names.items()},
    )  # fmt: skip
    model = transformers.VideoMAEForVideoClassification(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(tmp_path / "folder")
    conversion = plan_conversion(tmp_path / "folder", to="k710")
    assert "layer_norm_eps is 1e-12 in config.json" in conversion.notes[0]
    out, _ = write_conversion(conversion, tmp_path / "own.pt")
    clips = torch.randn(2, 3, 8, 32, 32)
    with torch.no_grad():
        found = model_from_checkpoint(out).eval()(clips)
    wanted = logits(model, clips)
    assert (found - wanted).abs().max() < 1e-4 * wanted.abs().max()


def test_frames_are_normalised_as_the_release_does(tmp_path):
    start = released(tmp_path / "vit.pth", "videomaev2", tiny_state("videomaev2"))
    folder = to_folder(start, tmp_path / "folder")
    pixels = json.loads((folder / "preprocessor_config.json").read_text())
    assert (pixels["size"], pixels["crop_size"]) == ({"shortest_edge": 32}, {"height": 32, "width": 32})
    assert hasattr(transformers, pixels["image_processor_type"])
    assert (pixels["image_mean"][0], pixels["image_std"][0]) == (0.485, 0.229)


@pytest.mark.parametrize("name", [name for name in PRESETS if name != "tiny"])
def test_the_published_sizes_are_what_transformers_builds(tmp_path, name):
    """Names and shapes of the models in full size, on torch's device meta."""
    from k710.models.convert.forms import forms_of
    from k710.models.convert.videomae_folder import videomae_folder
    from k710.models.videomaev2.config import tensor_shapes

    config = PRESETS[name]
    files = videomae_folder(config, class_names("k710"))
    made = transformers.VideoMAEConfig(**{**files["config.json"], "num_frames": 2, "image_size": vit_px(config)})
    with torch.device("meta"):
        model = transformers.VideoMAEForVideoClassification(made)
    wanted = {
        key.replace("query.bias", "q_bias").replace("value.bias", "v_bias"): tuple(tensor.shape)
        for key, tensor in model.state_dict().items()
    }
    form = forms_of("videomaev2")["huggingface"]
    found = {}
    for own, shape in tensor_shapes(config).items():
        theirs = form.theirs(own)
        found |= dict.fromkeys(theirs, (shape[0] // len(theirs), *shape[1:]))
    assert found == wanted


def vit_px(config) -> int:
    """The smallest picture: transformers computes its position table in slow loops, and no tensor depends on it."""
    return config.vit.patch_px
