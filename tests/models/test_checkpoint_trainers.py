"""Checkpoints as trainers leave them: MMEngine, Lightning, DeepSpeed, FSDP. Whatever belongs to a row goes with it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from k710.errors import CheckpointError
from k710.lists.labels import class_names, row_map
from k710.models.checkpoints.checkpoint import open_checkpoint, sidecar
from k710.models.describe import describe
from k710.models.heads.remap import plan_remap
from k710.models.heads.remap_write import write_remap
from tests.helpers.checkpoints import (
    adam_state,
    deepspeed,
    huggingface,
    lightning,
    mmaction2,
    mmengine,
    own,
    uniformerv2,
)
from tests.models.test_checkpoint import message

HEAD = "transformer.proj.2.weight"
K400_OF_K710 = list(row_map("k710", "k400", source_dialect="uniformerv2"))


def remapped(path: Path, **options: Any) -> tuple[dict[str, Any], list[str]]:
    """The remapped file's content, and the notes."""
    out, notes = write_remap(plan_remap([path], to="k400"), path.with_name(f"out{path.suffix}"), **options)
    return torch.load(out, weights_only=False), notes


def test_mmengines_own_checkpoint_is_read_and_loses_its_curves_alone(tmp_path: Path):
    path = mmengine(tmp_path, 710)
    assert "epoch 3" in describe(path)["trained_on"]
    payload, notes = remapped(path)
    assert "the curves of MMEngine's log in message_hub are left out" in notes
    hub = payload["message_hub"]
    assert list(hub) == ["log_scalars", "runtime_info", "resumed_keys"]
    assert hub["log_scalars"] == {}
    assert isinstance(hub["runtime_info"]["palette"], np.ndarray)
    assert hub["runtime_info"]["palette"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert type(hub["runtime_info"]["epoch"]) is np.int64
    assert torch.equal(
        payload["ema_state_dict"]["module.cls_head.fc_cls.bias"], payload["state_dict"]["cls_head.fc_cls.bias"]
    )
    assert payload["ema_state_dict"]["steps"] == 6
    assert "optimizer" not in payload


class CallsGetattr:
    def __reduce__(self):
        return getattr, ("text", "upper")


def test_the_stand_in_for_getattr_looks_nothing_up(tmp_path: Path):
    path = tmp_path / "x.pth"
    torch.save({"model_state": uniformerv2(400), "value": CallsGetattr()}, path)
    assert "getattr for something else than MMEngine's HistoryBuffer" in message(path)


def test_lightnings_optimizers_go_or_are_picked_and_the_model_is_built_with_the_new_head(tmp_path: Path):
    path = lightning(tmp_path, 710)
    payload, notes = remapped(path)
    assert "optimizer_states" not in payload
    assert payload["hyper_parameters"] == {
        "num_classes": 400,
        "width": 4,
        "head": {"num_labels": 400},
        "output_dim": 710,
    }
    assert any("hyper_parameters.num_classes is 400" in note for note in notes)
    assert any("hyper_parameters.output_dim = 710" in note for note in notes)
    payload, _ = remapped(path, keep_optimizer=True, force=True)
    old = torch.load(path)["optimizer_states"][0]["state"]
    number = list(payload["state_dict"]).index(f"model.{HEAD}")
    for moment in ("exp_avg", "exp_avg_sq"):
        new = payload["optimizer_states"][0]["state"][number][moment]
        assert torch.equal(new, old[number][moment][K400_OF_K710])


def test_deepspeeds_shapes_are_those_of_the_new_head(tmp_path: Path):
    payload, notes = remapped(deepspeed(tmp_path, 710))
    shapes = payload["param_shapes"][0]
    assert shapes[HEAD] == torch.Size((400, 4))
    assert {key: tensor.shape for key, tensor in payload["module"].items()} == shapes
    assert any("zero_pp_rank_*" in note for note in notes)


@pytest.mark.parametrize("keep", [False, True])
def test_optimizer_state_is_told_by_its_form_wherever_it_stands(keep: bool, tmp_path: Path):
    path, state = tmp_path / "x.pth", uniformerv2(710)
    named = {key: {"exp_avg": tensor.clone()} for key, tensor in state.items()}
    content = {
        "model_state": state,
        "opt": {"state": named, "param_groups": []},
        "trainer": {"adam": adam_state(dict(list(state.items())[:3])), "step": 7},
    }
    torch.save(content, path)
    payload, _ = remapped(path, keep_optimizer=keep)
    assert payload["trainer"]["step"] == 7
    assert ("opt" in payload, "adam" in payload["trainer"]) == (keep, keep)
    if keep:
        key = f"backbone.{HEAD}"
        assert torch.equal(payload["opt"]["state"][key]["exp_avg"], payload["model_state"][key])


def test_what_else_has_a_row_for_each_class_is_named(tmp_path: Path):
    state = uniformerv2(710)
    state["criterion.weight"] = torch.ones(710)
    torch.save({"model_state": state, "shadow": [torch.ones(710, 4)]}, tmp_path / "x.pth")
    _, notes = remapped(tmp_path / "x.pth")
    assert any("criterion.weight, shadow.0" in note for note in notes)


def test_class_names_in_a_file_become_those_of_the_new_head(tmp_path: Path):
    path = mmaction2(tmp_path, 710)
    payload = torch.load(path)
    payload["meta"]["dataset_meta"] = {"classes": list(class_names("k710"))}
    torch.save(payload, path)
    payload, _ = remapped(path)
    assert payload["meta"]["dataset_meta"]["classes"] == list(class_names("k400"))
    assert describe(tmp_path / "out.pth")["label_set"] == "k400"


_SHARDED = """
import sys, torch, torch.distributed as dist
dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor
from k710.errors import CheckpointError
from k710.models.checkpoints.checkpoint import open_checkpoint
from pathlib import Path
path = Path(sys.argv[1])
torch.save({"head.weight": distribute_tensor(torch.ones(710, 4), init_device_mesh("cpu", (1,)), [Shard(0)])}, path)
try:
    open_checkpoint(path)
except CheckpointError as error:
    print(error)
"""


@pytest.mark.slow
def test_sharded_tensors_are_named_with_the_way_out(tmp_path: Path):
    if not torch.distributed.is_available():
        pytest.skip("this torch has no torch.distributed")
    path = tmp_path / "x.pt"
    done = subprocess.run([sys.executable, "-c", _SHARDED, str(path)], capture_output=True, text=True, check=True)
    for said in (done.stdout, message(path)):  # there torch knows DTensor, here it does not
        assert "its tensors are DTensors or ShardedTensors" in said
        assert "full_state_dict=True" in said


def test_a_folder_of_parts_is_named_with_the_way_out(tmp_path: Path):
    folder = tmp_path / "pytorch_model_fsdp_0"
    folder.mkdir()
    (folder / ".metadata").write_bytes(b"x")
    (folder / "__0_0.distcp").write_bytes(b"x")
    for path in (folder, tmp_path, folder / "__0_0.distcp"):
        with pytest.raises(CheckpointError, match=f"format_utils dcp_to_torch {folder} FILE.pt"):
            open_checkpoint(path)


def test_a_plain_dict_parted_from_its_sidecar_is_known(tmp_path: Path):
    path = tmp_path / "vit.pth"
    torch.save(dict(uniformerv2(710)), path)
    out, _ = write_remap(plan_remap([path], to="k400"))
    sidecar(out).unlink()
    assert torch.load(out, mmap=True)[f"backbone.{HEAD}"].shape == (400, 4)
    with pytest.raises(CheckpointError, match=r"remapped already.*k400 \(canonical\)"):
        plan_remap([out.rename(tmp_path / "other.pth")], to="k400")


def k400_folder(tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """A remapped Hugging Face folder and its config.json."""
    out, _ = write_remap(plan_remap([huggingface(tmp_path, 710)], to="k400", dialects=["videomaev2"]))
    return out, json.loads((out / "config.json").read_text())


def write_names(folder: Path, config: dict[str, Any], names: list[str]) -> None:
    config["id2label"] = {str(row): name for row, name in enumerate(names)}
    (folder / "config.json").write_text(json.dumps(config))


def test_a_record_that_the_names_contradict_is_stale(tmp_path: Path):
    folder, config = k400_folder(tmp_path)
    reverse = list(class_names("k400"))[::-1]
    write_names(folder, config, reverse)
    found = describe(folder)
    assert (found["label_set"], found["dialect"]) == ("k400", "own order")
    stale = (
        "its k710 record, k400 (canonical), is stale: row 0 is 'zumba' by the class names in the file, not 'abseiling'"
    )
    assert found["known_by"][0] == stale
    assert "remapped_from" not in found
    remap = plan_remap([folder], to="k400")
    assert [origins[0][1] for origins in remap.rows] == list(range(399, -1, -1))
    out, _ = write_remap(remap, tmp_path / "again")
    assert describe(out)["dialect"] == "canonical"


def test_names_that_are_not_of_kinetics_are_not_taken_for_none(tmp_path: Path):
    folder, config = k400_folder(tmp_path)
    write_names(folder, config, [f"task {row}: stir" for row in range(400)])
    assert describe(folder)["label_set"] == "own"
    with pytest.raises(CheckpointError, match="400 of the 400 classes of k400 are not in own"):
        plan_remap([folder], to="k400")


def test_a_record_without_its_names_or_of_other_rows_asks(tmp_path: Path):
    folder, config = k400_folder(tmp_path)
    write_names(folder, config, [f"LABEL_{row}" for row in range(400)])
    with pytest.raises(CheckpointError, match=r"is stale: config\.json no longer names.*say it with --dialect"):
        plan_remap([folder], to="k400")
    (tmp_path / "finetuned").mkdir()
    trained = huggingface(tmp_path / "finetuned", 700)
    write_names(trained, config, [f"LABEL_{row}" for row in range(700)])
    with pytest.raises(
        CheckpointError, match=r"it names 400 classes, and the head has 700 rows\); say it with --dialect"
    ):
        plan_remap([trained], to="k700")
    labels = plan_remap([trained], to="k700", label_sets=["k700"], dialects=["uniformerv2"]).sources[0].labels
    assert (labels.label_set, labels.dialect) == ("k700", "uniformerv2")


def test_a_record_in_the_weights_and_other_names_beside_them_ask(tmp_path: Path):
    path = mmaction2(tmp_path, 400)
    out, _ = write_remap(plan_remap([path], to="k400", to_dialect="uniformerv2"))
    payload = torch.load(out)
    payload["meta"]["dataset_meta"] = {"classes": list(class_names("k400"))}
    torch.save(payload, out)  # the names of the source: a remap of an earlier k710 left them
    assert describe(out)["dialect"] == "uniformerv2"
    payload["meta"]["dataset_meta"]["classes"] = list(class_names("k400"))[::-1]
    torch.save(payload, out)
    with pytest.raises(CheckpointError, match="is stale: row 0 is 'zumba'"):
        plan_remap([out], to="k400")
    assert plan_remap([out], to="k400", dialects=["canonical"]).sources[0].labels.dialect == "canonical"


def test_the_name_that_a_remap_chose_says_nothing_of_the_training(tmp_path: Path):
    path = own(tmp_path, 710).rename(tmp_path / "k710_b16.pt")
    out, _ = write_remap(plan_remap([path], to="k400"))
    assert out.name == "k710_b16.k400.pt"
    assert describe(out)["trained_on"] == ["the name of the file that it was remapped from says k710", "step 100"]
    twice, _ = write_remap(plan_remap([out], to="k400", to_dialect="uniformerv2", again=True), tmp_path / "k600.pt")
    assert describe(twice)["trained_on"][0] == "the name of the file that it was remapped from says k710"
    for name, said in (("b16.k400.pyth", []), ("k710_b16.k700_2020-uniformerv2.pyth", ["its file name says k710"])):
        torch.save(uniformerv2(400), tmp_path / name)
        assert describe(tmp_path / name)["trained_on"] == said
