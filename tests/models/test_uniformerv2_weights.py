"""Checkpoints into the model and back: released forms, `k710 inspect`, `k710 remap-head` on a whole model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from k710.errors import CheckpointError
from k710.lists.labels import row_map
from k710.models.load import load_checkpoint, model_from_checkpoint
from k710.models.uniformerv2.config import preset
from k710.models.uniformerv2.model import UniFormerV2
from k710.models.weights import resize_positions
from tests.helpers.published_uniformerv2 import released_file

TINY = preset("tiny")


def trained(**changes) -> UniFormerV2:
    torch.manual_seed(1)
    model = UniFormerV2(preset("tiny", **changes)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def clips(num: int = 2) -> torch.Tensor:
    return torch.randn(num, 3, 4, 32, 32, generator=torch.Generator().manual_seed(2))


def released(path: Path, model: UniFormerV2) -> Path:
    torch.save({f"backbone.{key}": tensor for key, tensor in model.state_dict().items()}, path)
    return path


def training(path: Path, model: UniFormerV2) -> Path:
    state = {f"module.backbone.{key}": tensor for key, tensor in model.state_dict().items()}
    torch.save({"epoch": 54, "model_state": state, "optimizer_state": {}, "cfg": "", "scaler": {}}, path)
    return path


def mmaction2(path: Path, model: UniFormerV2) -> Path:
    state = {}
    for key, tensor in model.state_dict().items():
        key = f"backbone.{key}".replace("backbone.transformer.proj.2", "cls_head.fc_cls")
        state[key.replace("transformer.proj.0", "transformer.norm")] = tensor
    torch.save({"meta": {}, "state_dict": state}, path)
    return path


FORMS = {"released": released, "training": training, "mmaction2": mmaction2}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("local", ["none", "double"])
def test_a_checkpoint_makes_the_model_that_wrote_it(form: str, local: str, tmp_path: Path):
    model = trained(local=local, temporal_downsample=local == "double", num_classes=400)
    again = model_from_checkpoint(FORMS[form](tmp_path / "w.pyth", model)).eval()
    assert again.config.num_classes == 400
    assert torch.equal(again(clips()), model(clips()))


def test_a_frozen_models_file_makes_a_frozen_model(tmp_path: Path):
    model = trained(frozen=True, balance=False)
    again = model_from_checkpoint(released(tmp_path / "w.pyth", model), num_frames=8, head_dropout=0.0)
    assert (again.config.frozen, again.config.num_frames, again.config.head_dropout) == (True, 8, 0.0)
    assert torch.equal(again.eval()(clips()), model(clips()))
    full = model_from_checkpoint(tmp_path / "w.pyth", frozen=False)
    assert all(parameter.requires_grad for parameter in full.parameters())


def test_a_head_of_other_classes_is_refused(tmp_path: Path):
    path = released(tmp_path / "w.pyth", trained())
    model = UniFormerV2(preset("tiny", num_classes=400))
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"2 misshapen: transformer.proj.2.weight \(710, 64\), want \(400, 64\)"):
        load_checkpoint(model, path)
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())
    loaded = load_checkpoint(model, path, allow=["misshapen"])
    assert loaded.misshapen == ("transformer.proj.2.weight", "transformer.proj.2.bias")
    assert torch.equal(model.transformer.proj[2].weight, before["transformer.proj.2.weight"])
    assert not torch.equal(model.conv1.weight, before["conv1.weight"])


def test_positions_of_a_checkpoint_are_resized_on_request(tmp_path: Path):
    model = trained()
    path = released(tmp_path / "w.pyth", model)
    with pytest.raises(CheckpointError, match="interpolate_positions=True"):
        model_from_checkpoint(path, size_px=48)
    larger = model_from_checkpoint(path, size_px=48, interpolate_positions=True)
    assert torch.equal(larger.positional_embedding, resize_positions(model.positional_embedding, 6, ""))
    assert larger(torch.zeros(1, 3, 4, 48, 48)).shape == (1, 710)


def test_what_is_no_uniformerv2(tmp_path: Path):
    torch.save({"head.weight": torch.zeros(400, 3), "head.bias": torch.zeros(400)}, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match="not of a model and a size that k710 can build: uniformerv2"):
        model_from_checkpoint(tmp_path / "w.pt")


def test_two_models_in_one_file_are_not_mixed(k710, tmp_path: Path):
    """As a teacher and a student are kept: the last one would be taken, or some tensors of each."""
    state, path = trained().state_dict(), tmp_path / "two.pth"
    torch.save(
        {**{f"module.{key}": value for key, value in state.items()}, "model.class_embedding": torch.zeros(64)}, path
    )
    with pytest.raises(
        CheckpointError, match=r"module\.class_embedding and model\.class_embedding are both this model's"
    ):
        load_checkpoint(UniFormerV2(TINY), path)
    assert k710("inspect", path).exit_code == 0


def test_the_numbers_of_a_quantised_model_are_not_taken_for_weights(tmp_path: Path):
    model, path = trained(), tmp_path / "int8.pth"
    key = "transformer.resblocks.0.mlp.c_fc.weight"
    torch.save({**model.state_dict(), key: torch.ones(256, 64, dtype=torch.int8)}, path)
    with pytest.raises(CheckpointError, match=r"c_fc\.weight is int8, not floating-point numbers"):
        load_checkpoint(model, path)


def test_shapes_without_bytes_make_no_model(tmp_path: Path):
    """A size of 0 lets any other size be told for nothing; the model of it would fill the memory."""
    state = {**trained().state_dict(), "positional_embedding": torch.zeros(10**12 + 1, 0)}
    save_file(state, tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match="not of a model and a size that k710 can build: uniformerv2"):
        model_from_checkpoint(tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("kinetics_b16", "UniFormerV2-B/16, 224 px, 4 global blocks"),
        ("kinetics_l14", "UniFormerV2-L/14, 224 px, 4 global blocks"),
        ("kinetics_l14_336", "UniFormerV2-L/14, 336 px, 4 global blocks"),
        ("kinetics_l14_336_frozen", "UniFormerV2-L/14, 336 px, 4 global blocks, frozen-backbone variant"),
        ("ssv2_b16", "UniFormerV2-B/16, 224 px, 8 global blocks, local blocks"),
        ("ssv2_l14", "UniFormerV2-L/14, 224 px, 16 global blocks, local blocks"),
    ],
)
def test_inspect_names_model_and_preset(k710, name: str, said: str, tmp_path: Path):
    path = released_file(tmp_path / "w.pyth", name)
    result = k710("inspect", path)
    assert result.exit_code == 0, result.output
    line = next(line for line in result.stdout.splitlines() if line.startswith("model"))
    assert said in line
    assert line.endswith(f"; preset {name}")
    assert json.loads(k710("inspect", path, "--json").stdout)["preset"] == name
    # The head's rows do not make another model.
    other = released_file(tmp_path / "k400.pyth", name, num_classes=400)
    assert json.loads(k710("inspect", other, "--json").stdout)["preset"] == name


def test_inspect_names_no_preset_where_there_is_none(k710, tmp_path: Path):
    path = released(tmp_path / "w.pyth", trained(dpe=False))
    assert json.loads(k710("inspect", path, "--json").stdout)["preset"] is None
    assert "; preset" not in k710("inspect", path).stdout


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("to", ["k400", "k600", "k700"])
def test_remap_head_changes_the_logits_only_by_selection(k710, form: str, to: str, tmp_path: Path):
    model = trained()
    path = FORMS[form](tmp_path / "w.pyth", model)
    result = k710("remap-head", path, "--to", to, "--out", tmp_path / "out.pyth")
    assert result.exit_code == 0, result.output
    dialect = "canonical" if form == "mmaction2" else "uniformerv2"
    remapped = model_from_checkpoint(tmp_path / "out.pyth").eval()
    picked = list(row_map("k710", to, source_dialect=dialect))
    with torch.no_grad():
        expected, found = model(clips(4))[:, picked], remapped(clips(4))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert found.shape == (4, len(picked))
