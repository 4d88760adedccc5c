"""Checkpoints in and out: what is recognised, what is refused, and that nothing but the head changes on the way."""

from __future__ import annotations

import argparse
import json
import os
import pickle
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from k710.errors import CheckpointError
from k710.models.checkpoints.checkpoint import open_checkpoint
from k710.models.checkpoints.torch_files import TorchFile
from k710.models.describe import describe
from k710.models.heads.heads import find_head
from k710.models.heads.published_order import published_order
from k710.models.heads.remap import plan_remap
from k710.models.heads.remap_write import write_remap
from tests.helpers.checkpoints import (
    FORMS,
    ROWS,
    body,
    huggingface,
    mmaction2,
    own,
    single_safetensors,
    training,
    uniformerv2,
    uniformerv2_names,
    videomaev2_names,
    with_head,
)


def message(path: Path, name: str | None = None) -> str:
    """The one message that opening the checkpoint and finding its head ends with."""
    with pytest.raises(CheckpointError) as caught:
        find_head(open_checkpoint(path), name=name)
    assert str(caught.value).startswith(str(path.parent))
    return str(caught.value)


@pytest.mark.parametrize("form", FORMS)
def test_every_published_form_is_recognised_with_its_head_and_dialect(form: str, tmp_path: Path):
    write, name, dialect = FORMS[form]
    checkpoint = open_checkpoint(write(tmp_path, 710))
    assert (checkpoint.format.name, published_order(checkpoint, 710, "k710").dialect) == (name, dialect)
    assert checkpoint.why
    head = find_head(checkpoint)
    assert (head.rows, head.width) == (710, 4)
    assert torch.equal(checkpoint.tensor(head.weight)[:, 0].float(), torch.arange(710.0))


def test_the_names_of_the_test_files_are_those_of_the_public_model():
    lists = os.environ.get("K710_TEST_LISTS")
    path = Path(lists or ".").parent / "reference" / "uniformerv2_keys_b16.json"
    if not lists or not path.is_file():
        pytest.skip("the public models' names do not stand beside K710_TEST_LISTS")
    public = [name for name, _ in json.loads(path.read_text())["keys"]]
    assert [*uniformerv2_names(), "transformer.proj.2.weight", "transformer.proj.2.bias"] == public
    frozen = json.loads(path.with_name("uniformerv2_keys_frozen_l14_336.json").read_text())["keys"]
    assert set(uniformerv2_names(24, frozen=True)) == {name for name, _ in frozen if "proj.2" not in name}


# Those of trainers have more that belongs to the head's rows: test_checkpoint_trainers.py.
@pytest.mark.parametrize(
    "form", [form for form in FORMS if not form.startswith(("huggingface", "mmengine", "lightning", "deepspeed"))]
)
def test_everything_but_the_head_stays_bit_for_bit(form: str, tmp_path: Path):
    path = FORMS[form][0](tmp_path, 710)
    before = open_checkpoint(path)
    out, _ = write_remap(plan_remap([path], to="k400"))
    after = open_checkpoint(out)
    assert after.format == before.format
    assert list(after.tensors) == list(before.tensors)
    head = find_head(before)
    for key in before.tensors:
        if key not in (head.weight, head.bias):
            assert after.tensors[key] == before.tensors[key]
            assert torch.equal(after.tensor(key), before.tensor(key))
    assert find_head(after).rows == 400
    if isinstance(before.files[0], TorchFile):
        assert isinstance(after.files[0], TorchFile)
        assert after.files[0].legacy == before.files[0].legacy
        assert type(after.files[0].state) is type(before.files[0].state)
        kept = {key: value for key, value in before.payload.items() if key not in ("head", before.files[0].entry)}
        kept = {key: value for key, value in kept.items() if "optimizer" not in key}
        assert {key: after.payload[key] for key in kept} == kept
        assert [key for key in after.payload if key in before.payload] == [
            k for k in before.payload if "optim" not in k
        ]


def test_what_state_dict_keeps_beside_its_tensors_stays(tmp_path: Path):
    path = FORMS["uniformerv2"][0](tmp_path, 710)
    out, _ = write_remap(plan_remap([path], to="k400"))
    state = torch.load(out, weights_only=True)
    assert state._metadata[""] == {"version": 1}
    module = torch.nn.ParameterDict({"weight": torch.zeros(3)})
    part = type(state)({"weight": torch.ones(3)})
    part._metadata = state._metadata
    module.load_state_dict(part)  # the record beside it disturbs no loader


def test_safetensors_keep_order_metadata_and_dtypes_that_torch_may_lack(tmp_path: Path):
    path = tmp_path / "odd.safetensors"
    head = torch.arange(710.0)[:, None].repeat(1, 4)
    header = {
        "__metadata__": {"format": "pt", "note": "kept"},
        "z": {"dtype": "F8_E8M0", "shape": [8], "data_offsets": [0, 8]},
        "head.bias": {"dtype": "F32", "shape": [710], "data_offsets": [8, 2848]},
        "head.weight": {"dtype": "F32", "shape": [710, 4], "data_offsets": [2848, 14208]},
        "a": {"dtype": "BF16", "shape": [2], "data_offsets": [14208, 14212]},
    }
    text = json.dumps(header).encode()
    data = bytes(range(8)) + torch.arange(710.0).numpy().tobytes() + head.numpy().tobytes() + b"wxyz"
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    out, _ = write_remap(plan_remap([path], to="k400", dialects=["canonical"]))
    raw = out.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    new = json.loads(raw[8 : 8 + length])
    assert list(new) == list(header)
    assert new["__metadata__"]["note"] == "kept"
    assert new["z"] == header["z"]
    assert raw[8 + length :][:8] == bytes(range(8))
    assert raw[-4:] == b"wxyz"
    assert length % 8 == 0
    with safe_open(out, framework="pt") as file:
        assert file.get_tensor("head.weight").shape == (400, 4)


@pytest.mark.parametrize("form", [form for form in FORMS if form.startswith("huggingface")])
def test_a_folder_keeps_its_shards_and_names_the_new_classes(form: str, tmp_path: Path):
    folder = FORMS[form][0](tmp_path, 710)
    (folder / "sub").mkdir()
    (folder / "sub" / "notes.txt").write_text("kept")
    out, _ = write_remap(plan_remap([folder], to="k400", dialects=["videomaev2"]))
    assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in folder.iterdir())
    assert (out / "sub" / "notes.txt").read_text() == "kept"
    before, after = open_checkpoint(folder), open_checkpoint(out)
    head = find_head(before)
    assert [file.path.name for file in after.files] == [file.path.name for file in before.files]
    for key, (_, _, number) in before.tensors.items():
        assert after.tensors[key][2] == number
        assert key in (head.weight, head.bias) or torch.equal(after.tensor(key), before.tensor(key))
    shards_of_head = {before.tensors[key][2] for key in (head.weight, head.bias)}
    for number, file in enumerate(before.files):
        same = file.path.read_bytes() == (out / file.path.name).read_bytes()
        assert same == (number not in shards_of_head)
    config = json.loads((out / "config.json").read_text())
    assert len(config["id2label"]) == len(config["label2id"]) == 400
    assert config["id2label"]["0"] == "abseiling"
    assert config["label2id"]["zumba"] == 399
    assert list(config)[:5] == list(json.loads((folder / "config.json").read_text()))
    for index in out.glob("*.index.json"):
        total = sum(after.tensor(key).nbytes for key in after.tensors)
        assert json.loads(index.read_text())["metadata"]["total_size"] == total


def test_a_published_model_in_a_folder_keeps_the_dialect_it_was_published_with(tmp_path: Path):
    folder = huggingface(tmp_path, 710)
    state = with_head(body(videomaev2_names()), "head", 710, prefix="model.")
    save_file(dict(state), folder / "model.safetensors")
    checkpoint = open_checkpoint(folder)
    assert checkpoint.format.name == "huggingface"
    assert published_order(checkpoint, 710, "k710").dialect == "videomaev2"
    out, _ = write_remap(plan_remap([folder], to="k400"))
    assert open_checkpoint(out).tensor("model.head.bias")[0] == 341  # abseiling


def test_a_folder_leaves_stale_copies_of_the_weights_behind(tmp_path: Path):
    folder = huggingface(tmp_path, 710)
    (folder / "pytorch_model.bin").write_bytes(b"old")
    (folder / "optimizer.pt").write_bytes(b"old")
    (folder / "training_args.bin").write_bytes(b"kept")
    remap = plan_remap([folder], to="k400", dialects=["videomaev2"])
    out, notes = write_remap(remap)
    assert not (out / "pytorch_model.bin").exists()
    assert not (out / "optimizer.pt").exists()
    assert (out / "training_args.bin").exists()
    assert any("pytorch_model.bin" in note for note in notes)
    with pytest.raises(CheckpointError, match="cannot be kept"):
        write_remap(remap, tmp_path / "other", keep_optimizer=True)


@pytest.mark.parametrize("shards", [1, 2])
def test_an_index_of_something_else_is_of_no_concern(shards: int, tmp_path: Path):
    folder = huggingface(tmp_path, 710, shards=shards)
    for number, weight_map in enumerate(([1], {"a": [1]}, None)):
        (folder / f"a{number}.index.json").write_text(json.dumps({"weight_map": weight_map}))
    out, _ = write_remap(plan_remap([folder], to="k400", dialects=["canonical"]))
    assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in folder.iterdir())
    assert describe(out)["label_set"] == "k400"


def test_a_tensor_in_two_shards_is_refused(tmp_path: Path):
    """One of the two would get the new head, and a loader might take the other."""
    folder = huggingface(tmp_path, 710, shards=2, suffix="bin")
    for path in folder.glob("*.bin"):
        torch.save({**torch.load(path), "classifier.bias": torch.zeros(710)}, path)
    assert "classifier.bias stands in pytorch_model-00001-of-00002.bin too" in message(folder)


def test_the_index_of_a_folder_can_be_given_for_it(tmp_path: Path):
    folder = huggingface(tmp_path, 710, shards=2)
    assert open_checkpoint(folder / "model.safetensors.index.json").path == folder


class Dangerous:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_malicious_pickle_does_not_run(zipped: bool, tmp_path: Path):
    marker = tmp_path / "marker"
    path = tmp_path / "best.pyth"
    payload = {"model_state": uniformerv2(400), "cfg": Dangerous(marker)}
    torch.save(payload, path, _use_new_zipfile_serialization=zipped)
    said = message(path)
    assert "posix.mkdir" in said or "nt.mkdir" in said
    assert "none was run" in said
    assert not marker.exists()


def test_a_plain_pickle_is_not_opened(tmp_path: Path):
    path = tmp_path / "weights.pkl"
    path.write_bytes(pickle.dumps(Dangerous(tmp_path / "marker")))
    assert "it is not opened" in message(path)
    assert not (tmp_path / "marker").exists()


def test_harmless_values_of_training_loops_are_read_and_written_back(tmp_path: Path):
    path = tmp_path / "best.pyth"
    values = {"best": np.float64(78.5), "seen": np.int64(9), "ok": np.bool_(True), "half": np.float32(0.5)}
    torch.save({"model_state": uniformerv2(710), "args": argparse.Namespace(lr=1e-5), **values}, path)
    out, _ = write_remap(plan_remap([path], to="k400"))
    payload = open_checkpoint(out).payload
    assert payload["args"].lr == 1e-5
    for name, value in values.items():
        assert payload[name] == value
        assert payload[name].dtype == value.dtype


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (np.array([{}], dtype=object), "a value of numpy of dtype 'O8'"),
        (np.datetime64("2020-01-01"), "a value of numpy of dtype 'M8'"),
        (torch.nn.Linear(2, 2), "torch.nn.modules.linear.Linear"),
    ],
    ids=["array", "date", "module"],
)
def test_what_is_more_than_data_is_refused_by_name(value: object, said: str, tmp_path: Path):
    path = tmp_path / "best.pyth"
    torch.save({"model_state": uniformerv2(400), "value": value}, path)
    assert "refused: " in message(path)
    assert said in message(path)
    assert "damaged" not in message(path)


def test_another_pickle_protocol_is_not_called_damage(tmp_path: Path):
    path = tmp_path / "best.pyth"
    torch.save(uniformerv2(400), path, pickle_protocol=4)
    assert "pickle protocol 2" in message(path)


def test_a_dtype_of_numpy_by_itself_is_not_written_as_something_of_ours(tmp_path: Path):
    """It is read by a stand-in, which nobody else could read."""
    path = tmp_path / "best.pyth"
    torch.save({"model_state": uniformerv2(710), "kind": np.dtype("f4")}, path)
    with pytest.raises(CheckpointError, match="it holds a dtype of numpy"):
        write_remap(plan_remap([path], to="k400"))
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("key", ["backbone.transformer.proj.2.weight", "backbone.positional_embedding"])
def test_a_shape_that_the_bytes_of_the_file_cannot_fill_is_refused(key: str, tmp_path: Path):
    """One number, repeated by its strides: a copy of it would take terabytes."""
    path = tmp_path / "x.pyth"
    torch.save({**uniformerv2(710), key: torch.zeros(1).expand(710, 10**10)}, path)
    assert f"{key} has the shape [710, 10000000000], and the file only" in message(path)


def test_a_packed_archive_is_not_unpacked(tmp_path: Path):
    """A megabyte that becomes a gigabyte of instructions; torch packs nothing."""
    torch.save(uniformerv2(710), tmp_path / "plain.pyth")
    with (
        zipfile.ZipFile(tmp_path / "plain.pyth") as plain,
        zipfile.ZipFile(tmp_path / "packed.pyth", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
    assert "a compressed archive, as torch.save writes none" in message(tmp_path / "packed.pyth")


@pytest.mark.parametrize("kind", ["sparse", "meta"])
def test_a_head_without_plain_values_is_refused(kind: str, tmp_path: Path):
    state = uniformerv2(710)
    key = "backbone.transformer.proj.2.weight"
    state[key] = state[key].to_sparse() if kind == "sparse" else state[key].to("meta")
    path = tmp_path / "x.pyth"
    torch.save(state, path)
    with pytest.raises(CheckpointError, match="a head must be a plain matrix"):
        write_remap(plan_remap([path], to="k400"))


def test_a_torchscript_program_is_told_apart_from_a_checkpoint(tmp_path: Path):
    path = tmp_path / "ViT-B-16.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated; the files it wrote are still there
        torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)), path)
    assert "TorchScript" in message(path)


def test_files_that_are_no_checkpoints_are_named_for_what_they_are(tmp_path: Path):
    path = tmp_path / "k710.pth"
    for content, said in {
        b"": "empty",
        b"<!DOCTYPE html><html>": "web page",
        b"version https://git-lfs.github.com/spec/v1\n": "Git LFS pointer",
        b"epoch,loss\n0,1\n": "not a checkpoint",
        b"\x00" * 200: "not a checkpoint",
    }.items():
        path.write_bytes(content)
        assert said in message(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", b"")
    assert "not one that torch.save wrote" in message(path)
    assert "no such file" in message(tmp_path / "missing.pth")


@pytest.mark.parametrize("form", ["uniformerv2", "uniformerv2 before torch 1.6", "uniformerv2 safetensors"])
def test_a_truncated_file_is_said_to_be_damaged_wherever_it_ends(form: str, tmp_path: Path):
    whole = FORMS[form][0](tmp_path, 710).read_bytes()
    path = tmp_path / "cut.pth"
    for num_bytes in sorted({*range(1, 64, 7), *range(64, len(whole), len(whole) // 40), len(whole) - 1}):
        path.write_bytes(whole[:num_bytes])
        said = message(path)
        assert "damaged" in said or "not a checkpoint" in said or "cut short" in said
        assert "Traceback" not in said


def test_payloads_without_a_state_dict(tmp_path: Path):
    path = tmp_path / "x.pth"
    for payload, said in [
        ([torch.zeros(1)], "holds a list"),
        ({"optimizer": {"state": {}}}, "no state dict in it; it holds 'optimizer'"),
        ({}, "it holds nothing"),
    ]:
        torch.save(payload, path)
        assert said in message(path)


def test_no_head_is_said_with_what_the_file_looks_like(tmp_path: Path):
    path = tmp_path / "x.pth"
    clip = {"class_embedding": torch.zeros(8), "proj": torch.zeros(8, 4), "ln_pre.weight": torch.zeros(8)}
    whole_clip = {"visual.proj": torch.zeros(8, 512), "text_projection": torch.zeros(512, 512)}
    masked = {"encoder.blocks.0.norm1.weight": torch.zeros(3), "mask_token": torch.zeros(1, 1, 3)}
    headless = body(uniformerv2_names(1, 1))
    for state, said in [
        (clip, "CLIP's image encoder"),
        (whole_clip, "the whole of CLIP"),
        (masked, "masked pretraining"),
        (headless, "--head NAME"),
    ]:
        torch.save(state, path)
        assert "no classification head in it" in message(path)
        assert said in message(path)


def test_a_quantised_checkpoint_is_told_from_one_without_a_head(tmp_path: Path):
    path = tmp_path / "x.pth"
    torch.save({"head.scale": torch.ones(()), "head.zero_point": torch.zeros(()), "w": torch.zeros(3)}, path)
    assert "It is quantised, so no head has rows" in message(path)


def test_two_heads_are_listed_and_one_can_be_picked(tmp_path: Path):
    path = tmp_path / "two.pth"
    state = with_head(body(videomaev2_names()), "head", 710)
    state["aux.weight"], state["aux.bias"] = torch.zeros(400, 4), torch.zeros(400)
    torch.save({"model": state}, path)
    said = message(path)
    assert "2 heads" in said
    assert "head (710 rows), aux (400 rows)" in said
    assert find_head(open_checkpoint(path), name="aux").rows == 400
    assert "no tensor other.weight" in message(path, "other")


def test_a_head_of_another_name_is_found_by_its_rows(tmp_path: Path):
    path = tmp_path / "own.pth"
    torch.save({"state_dict": with_head({"conv.weight": torch.zeros(8, 3, 3)}, "my_classes", 600)}, path)
    assert find_head(open_checkpoint(path)).name == "my_classes"


def test_dtypes_whose_rows_mean_nothing_alone_are_refused(tmp_path: Path):
    path = tmp_path / "int8.pth"
    state = with_head(body(videomaev2_names()), "head", 710)
    state["head.weight"] = state["head.weight"].to(torch.int8)
    torch.save(state, path)
    assert "its dtype int8 cannot be remapped" in message(path)
    path = tmp_path / "f9.safetensors"
    header = json.dumps({"head.weight": {"dtype": "F9", "shape": [1], "data_offsets": [0, 1]}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"x")
    assert "a dtype that cannot be read" in message(path)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn], ids=str)
def test_a_head_keeps_its_dtype(dtype: torch.dtype, tmp_path: Path):
    path = tmp_path / "x.pth"
    torch.save(uniformerv2(710, dtype=dtype), path)
    out, _ = write_remap(plan_remap([path], to="k400"))
    old, new = torch.load(path, weights_only=True), torch.load(out, weights_only=True)
    key = "backbone.transformer.proj.2.weight"
    assert new[key].dtype == dtype
    assert torch.equal(new[key][0].float(), old[key][341].float())  # abseiling


def test_a_folder_that_is_none_of_hugging_faces(tmp_path: Path):
    (tmp_path / "mp_rank_00_model_states.pt").write_bytes(b"")
    assert "give one of its files: mp_rank_00_model_states.pt" in message(tmp_path / ".")
    folder = huggingface(tmp_path, 710, shards=2)
    index = folder / "model.safetensors.index.json"
    good = index.read_text()
    index.write_text(good.replace("model-00002-of-00002.safetensors", "../elsewhere.safetensors"))
    assert "is no file of this folder" in message(folder)
    index.write_text(good)
    (folder / "model-00002-of-00002.safetensors").unlink()
    assert "missing" in message(folder)
    index.write_text("{")
    assert "not JSON" in message(folder)


def test_a_newer_form_of_our_own_is_refused(tmp_path: Path):
    path = own(tmp_path, 710)
    payload = torch.load(path, weights_only=True)
    torch.save({**payload, "k710_format": 2}, path)
    assert "k710_format is 2" in message(path)


@pytest.mark.parametrize("form", FORMS)
def test_inspect_tells_form_head_and_labels(form: str, tmp_path: Path):
    write, name, dialect = FORMS[form]
    found = describe(write(tmp_path, 710))
    assert found["head"]["rows"] == 710
    assert found["label_set"] == ("k710" if dialect or name == "k710" else None)
    assert found["dialect"] == (dialect or ("canonical" if name == "k710" else None))
    assert found["parameters"] > 710 * 5
    assert found["model"]
    json.dumps(found)


def test_inspect_tells_what_the_training_left(tmp_path: Path):
    found = describe(training(tmp_path, 710))
    assert "epoch 54" in found["trained_on"]
    assert "its configuration says NUM_CLASSES = 710" in found["trained_on"]
    assert found["other_entries"] == ["epoch", "optimizer_state", "cfg", "scaler"]
    assert "its file name says k710" in describe(mmaction2(tmp_path, 710))["trained_on"]
    state = {"model_state": with_head(body(uniformerv2_names()), "transformer.proj.2", 174)}
    state["model_state"]["positional_embedding"] = torch.zeros(197, 3)
    path = tmp_path / "x.pyth"
    torch.save(state, path)
    found = describe(path)
    assert found["label_set"] is None
    assert "Something-Something" in found["known_by"][0]
    assert found["model"].startswith("UniFormerV2-B/1, 14 px, 4 global blocks")


def test_inspect_prints_nothing_that_floods_or_commands_a_terminal(k710, tmp_path: Path):
    path, doubled = tmp_path / "x.pth", [0]
    for _ in range(30):
        doubled = [doubled, doubled]
    torch.save({"model_state": uniformerv2(710), "epoch": doubled, "\ud800": 1, "\x1b[31m": 2}, path)
    result = k710("inspect", path)
    assert result.exit_code == 0, result.output
    assert "epoch [[[" in result.stdout
    assert "holds too   epoch, \\ud800, \\x1b[31m\n" in result.stdout
    assert "\x1b" not in result.stdout


def test_parameters_are_counted_without_the_statistics_of_batch_norm(tmp_path: Path):
    path = tmp_path / "x.pth"
    torch.save(
        {"bn.running_mean": torch.zeros(5), "bn.num_batches_tracked": torch.tensor(1), "w": torch.zeros(7)}, path
    )
    found = describe(path)
    assert (found["parameters"], found["tensors"]) == (7, 3)
    assert found["head"] is None
    assert "no classification head" in found["known_by"][0]


def test_single_files_of_a_hub_folder_read_the_names_beside_them(tmp_path: Path):
    from k710.lists.labels import class_names

    folder = huggingface(tmp_path, ROWS["k600"], labels=class_names("k600"))
    assert describe(folder / "model.safetensors")["label_set"] == "k600"
    assert describe(single_safetensors(tmp_path, 600))["dialect"] == "uniformerv2"
