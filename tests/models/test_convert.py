"""Conversions between the forms of one model: every bit there and back, the head's order kept or changed as asked."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from k710.errors import CheckpointError, UsageError
from k710.lists.labels import class_names, row_map
from k710.models.checkpoints.checkpoint import open_checkpoint
from k710.models.convert.forms import FORMS, Form, forms_of
from k710.models.convert.plan import plan_conversion
from k710.models.convert.write import default_out, write_conversion
from k710.models.families import FAMILIES
from k710.models.load import model_from_checkpoint
from k710.models.videomaev2.positions import position_table
from tests.helpers import published_uniformerv2, published_videomaev2
from tests.helpers.checkpoints import huggingface
from tests.helpers.tiny_models import bits, released, tiny_state, with_odd_bits

PUBLISHED = {
    "uniformerv2": published_uniformerv2.released_shapes(),
    "videomaev2": published_videomaev2.released_shapes(),
}
CONVERTED = sorted({form.family for form in FORMS})
OWN_NAME = {"uniformerv2": "uniformerv2", "videomaev2": "videomaev2"}
HEAD = {"uniformerv2": "transformer.proj.2", "videomaev2": "head"}


def convert(path: Path, to: str, out: Path, **options) -> Path:
    return write_conversion(plan_conversion(path, to=to, **options), out, force=True)[0]


def ids(form: Form) -> str:
    return f"{form.name} of {form.family}"


@pytest.mark.parametrize("form", FORMS, ids=ids)
def test_every_published_name_has_one_place_in_every_form_and_leads_back(form: Form):
    for model, shapes in PUBLISHED[form.family].items():
        placed = {name: form.theirs(name) for name, _ in shapes}
        keys = list(itertools.chain.from_iterable(placed.values()))
        assert len(keys) == len(set(keys)) >= len(shapes), model
        assert {form.ours(key) for key in keys} == {
            (name, part) for name, parts in placed.items() for part in range(len(parts))
        }


def test_mmaction2_has_its_own_names_for_the_norm_and_the_head():
    form = forms_of("uniformerv2")["mmaction2"]
    assert form.theirs("transformer.proj.0.weight") == ("backbone.transformer.norm.weight",)
    assert form.theirs("transformer.proj.2.bias") == ("cls_head.fc_cls.bias",)
    assert form.theirs("transformer.resblocks.3.ln_1.weight") == ("backbone.transformer.resblocks.3.ln_1.weight",)
    assert form.ours("module.backbone.transformer.norm.bias") == ("transformer.proj.0.bias", 0)
    assert form.ours("backbone.transformer.proj.2.weight") is None


@pytest.mark.parametrize("family", CONVERTED)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.slow
def test_every_way_around_the_forms_keeps_every_bit_every_name_and_the_order(tmp_path, family, dtype):
    start = released(tmp_path / "start", family, with_odd_bits(tiny_state(family, dtype=dtype)))
    for way in itertools.permutations(forms_of(family), 2):
        path = start
        for number, name in enumerate((*way, OWN_NAME[family])):
            path = convert(path, name, tmp_path / f"{number}-{name}")
        assert list(bits(path).items()) == list(bits(start).items()), way


@pytest.mark.parametrize("local", ["none", "double"])
def test_local_blocks_with_their_counters_are_converted_too(tmp_path, local):
    state = tiny_state("uniformerv2", local=local, temporal_downsample=True)
    start = released(tmp_path / "start.pyth", "uniformerv2", state)
    there = convert(start, "mmaction2", tmp_path / "there.pth")
    assert ("num_batches_tracked" in " ".join(bits(there))) is (local == "double")
    assert bits(convert(there, "uniformerv2", tmp_path / "back.pyth")) == bits(start)


@pytest.mark.parametrize("family", CONVERTED)
def test_a_converted_model_computes_the_same(tmp_path, family):
    start = released(tmp_path / "start", family, tiny_state(family))
    config = FAMILIES[family].config("tiny")
    clips = torch.randn(1, 3, config.num_frames, config.size_px, config.size_px)
    with torch.no_grad():
        wanted = model_from_checkpoint(start).eval()(clips)
        own = model_from_checkpoint(convert(start, "k710", tmp_path / "own.pt")).eval()(clips)
    assert torch.equal(own, wanted)


@settings(max_examples=12)
@given(
    label_set=st.sampled_from(["k400", "k600", "k700", "k710"]),
    before=st.sampled_from(["canonical", "uniformerv2", "videomaev2"]),
    after=st.sampled_from(["canonical", "uniformerv2", "videomaev2"]),
    form=st.sampled_from(["mmaction2", "k710"]),
)
@pytest.mark.slow
def test_rows_keep_their_order_or_get_the_one_that_is_asked_for(tmp_path_factory, label_set, before, after, form):
    folder = tmp_path_factory.mktemp("convert")
    rows = len(class_names(label_set))
    state = tiny_state("uniformerv2", num_classes=rows)
    start = released(folder / "start.pyth", "uniformerv2", state)
    kept = open_checkpoint(convert(start, form, folder / "kept", dialect=before))
    assert (kept.record["label_set"], kept.record["dialect"]) == (label_set, before)
    moved = open_checkpoint(convert(start, form, folder / "moved", dialect=before, to_dialect=after))
    assert moved.record["labels"] == list(class_names(label_set, after))
    picked = list(row_map(label_set, label_set, source_dialect=before, target_dialect=after))
    name = "cls_head.fc_cls" if form == "mmaction2" else "transformer.proj.2"
    for kind in ("weight", "bias"):
        old = state[f"transformer.proj.2.{kind}"]
        assert torch.equal(kept.tensor(f"{name}.{kind}"), old)
        assert torch.equal(moved.tensor(f"{name}.{kind}"), old[picked])
    back = convert(folder / "moved", "uniformerv2", folder / "back.pyth", to_dialect=before)
    assert bits(back) == bits(start)


def test_a_record_says_what_was_done(tmp_path):
    start = released(tmp_path / "k710_b16.pyth", "uniformerv2", tiny_state("uniformerv2"))
    kept = open_checkpoint(convert(start, "mmaction2", tmp_path / "kept.pth"))
    assert kept.record["head"] == "cls_head.fc_cls"
    assert "remapped_from" not in kept.record
    assert kept.record["converted_from"] == {
        "file": "k710_b16.pyth",
        "sha256": open_checkpoint(start).sha256(),
        "form": "UniFormerV2 weights",
    }
    assert kept.payload["meta"]["dataset_meta"]["classes"] == list(class_names("k710", "uniformerv2"))
    moved = open_checkpoint(convert(kept.path, "k710", tmp_path / "moved.pt", to_dialect="canonical"))
    assert moved.record["remapped_from"][0]["dialect"] == "uniformerv2"
    assert moved.record["converted_from"]["converted_from"]["file"] == "k710_b16.pyth"
    # Handed on by a conversion that moves nothing, so that a map is not applied twice.
    again = open_checkpoint(convert(moved.path, "uniformerv2", tmp_path / "again.pyth"))
    assert again.record["remapped_from"] == moved.record["remapped_from"]


def test_a_bare_file_parted_from_its_sidecar_keeps_its_record(tmp_path):
    start = released(tmp_path / "start.pyth", "uniformerv2", tiny_state("uniformerv2"))
    out = convert(start, "uniformerv2", tmp_path / "out.pyth", to_dialect="canonical")
    alone = out.rename(tmp_path / "alone.pyth")
    assert open_checkpoint(alone).record["dialect"] == "canonical"


def test_an_order_that_the_forms_own_lists_do_not_have_is_pointed_out(tmp_path):
    start = released(tmp_path / "start.pyth", "uniformerv2", tiny_state("uniformerv2"))
    (note,) = plan_conversion(start, to="mmaction2").notes
    assert "published in this form are canonical, and this one is uniformerv2" in note
    assert plan_conversion(start, to="mmaction2", to_dialect="canonical").notes == ()
    # Of K400, both names are one order.
    k400 = released(tmp_path / "k400.pth", "videomaev2", tiny_state("videomaev2", num_classes=400))
    assert plan_conversion(k400, to="videomaev2", dialect="canonical").notes == ()


def test_what_tells_no_order_is_asked_about(tmp_path):
    start = released(tmp_path / "start.pyth", "uniformerv2", tiny_state("uniformerv2", num_classes=11))
    with pytest.raises(CheckpointError, match="11 rows, as no label set has"):
        plan_conversion(start, to="mmaction2")
    names = tmp_path / "mine.txt"
    names.write_text("".join(f"my class {letter}\n" for letter in "abcdefghijk"))
    out = convert(start, "mmaction2", tmp_path / "out.pth", label_set=str(names))
    assert open_checkpoint(out).record["labels"][0] == "my class a"
    with pytest.raises(UsageError, match="a list has its own order"):
        plan_conversion(start, to="mmaction2", label_set=str(names), to_dialect="canonical")
    unnamed = huggingface(tmp_path, 710)
    (unnamed / "model.safetensors").unlink()
    state = {f"module.{name}": tensor for name, tensor in tiny_state("videomaev2").items()}
    folder = convert(released(tmp_path / "v", "videomaev2", state), "huggingface", tmp_path / "folder")
    config = json.loads((folder / "config.json").read_text())
    del config["k710"]
    config["id2label"] = {str(row): f"LABEL_{row}" for row in range(710)}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="nothing tells the index order of its 710 rows"):
        plan_conversion(folder, to="videomaev2")
    assert plan_conversion(folder, to="videomaev2", dialect="videomaev2").remap.target.dialect == "videomaev2"


def test_another_model_is_refused_with_what_it_is(tmp_path):
    torch.save({"conv.weight": torch.zeros(3, 3), "head.weight": torch.zeros(400, 3)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=r"cannot be converted: state dict .* a model that is not known here"):
        plan_conversion(tmp_path / "other.pth", to="mmaction2")
    folder = huggingface(tmp_path, 400, labels=class_names("k400"))
    with pytest.raises(CheckpointError, match=r"VideoMAEForVideoClassification\. k710 converts whole classifiers of"):
        plan_conversion(folder, to="videomaev2")
    start = released(tmp_path / "v.pth", "videomaev2", tiny_state("videomaev2"))
    with pytest.raises(UsageError, match="has no form 'uniformerv2'; it has videomaev2, mmaction2, huggingface, k710"):
        plan_conversion(start, to="uniformerv2")
    with pytest.raises(UsageError, match="unknown form 'onnx'; known: uniformerv2, mmaction2, k710"):
        plan_conversion(start, to="onnx")


@pytest.mark.parametrize("family", CONVERTED)
def test_a_file_that_is_not_whole_is_refused_with_what_lacks(tmp_path, family):
    state = tiny_state(family)
    middle = next(name for name in state if ".1." in name)
    lacking = released(tmp_path / "lacking", family, {name: x for name, x in state.items() if name != middle})
    with pytest.raises(CheckpointError):
        plan_conversion(lacking, to="k710")
    more = released(tmp_path / "more", family, state | {"prompt.weight": torch.zeros(2, 2)})
    with pytest.raises(CheckpointError):
        plan_conversion(more, to="k710")
    misshapen = released(tmp_path / "misshapen", family, state | {middle: torch.zeros(3)})
    with pytest.raises(CheckpointError, match="1 misshapen"):
        plan_conversion(misshapen, to="k710")
    twice = released(tmp_path / "twice", family, state | {f"module.{middle}": state[middle]})
    with pytest.raises(CheckpointError, match="are both this model's"):
        plan_conversion(twice, to="k710")


def test_a_model_without_its_backbone_is_named_and_refused(tmp_path):
    """EVL's files hold its decoder alone."""
    start = released(tmp_path / "start", "evl", tiny_state("evl"))
    with pytest.raises(CheckpointError, match=r"cannot be converted: EVL.*k710 converts whole classifiers"):
        plan_conversion(start, to="k710")


@settings(max_examples=25)
@given(family=st.sampled_from(CONVERTED), number=st.integers(0, 1000), change=st.sampled_from(["lost", "named"]))
def test_no_model_with_a_tensor_lost_or_named_otherwise_is_taken_for_whole(tmp_path_factory, family, number, change):
    state = tiny_state(family)
    # Without it, a UniFormerV2 is a whole one: the variant with a frozen backbone.
    names = [name for name in state if name != "transformer.balance"]
    name = names[number % len(names)]
    tensor = state.pop(name)
    if change == "named":
        state[f"{name}_"] = tensor
    start = released(tmp_path_factory.mktemp("convert") / "start", family, state)
    with pytest.raises(CheckpointError):
        plan_conversion(start, to="k710")


def test_missing_and_unexpected_tensors_are_named(tmp_path):
    state = tiny_state("uniformerv2")
    state["extra.weight"] = state.pop("ln_pre.bias")
    start = released(tmp_path / "start.pyth", "uniformerv2", state)
    with pytest.raises(CheckpointError, match=r"1 missing: ln_pre\.bias\. 1 unexpected: backbone\.extra\.weight"):
        plan_conversion(start, to="mmaction2")


def test_what_the_other_code_cannot_build_is_refused(tmp_path):
    frozen = released(tmp_path / "frozen.pyth", "uniformerv2", tiny_state("uniformerv2", frozen=True, balance=False))
    with pytest.raises(
        CheckpointError, match=r"no transformer\.balance, and MMAction2's .* no frozen-backbone variant"
    ):
        plan_conversion(frozen, to="mmaction2")
    assert plan_conversion(frozen, to="k710").notes == ()
    own = convert(frozen, "k710", tmp_path / "own.pt")
    content = torch.load(own, weights_only=True)
    torch.save(content | {"run": {"recipe": {"model": {"activation": "gelu"}, "data": {}}}}, own)
    with pytest.raises(CheckpointError, match="its recipe says activation 'gelu', and the code behind the form"):
        plan_conversion(own, to="uniformerv2")
    scaled = released(tmp_path / "scaled.pth", "videomaev2", tiny_state("videomaev2", layer_scale=0.1))
    with pytest.raises(CheckpointError, match=r"Hugging Face folder has no place for blocks\.0\.gamma_1"):
        plan_conversion(scaled, to="huggingface")


def test_what_a_trainer_kept_beside_the_model_is_left_out_and_named(tmp_path):
    state = {f"backbone.{name}": tensor for name, tensor in tiny_state("uniformerv2").items()}
    torch.save({"epoch": 4, "model_state": state, "optimizer_state": {"state": {}}, "cfg": ""}, tmp_path / "best.pyth")
    out, notes = write_conversion(plan_conversion(tmp_path / "best.pyth", to="mmaction2"))
    assert out == tmp_path / "best.mmaction2.pth"
    assert notes == ["left out, since a converted checkpoint holds the model alone: epoch, optimizer_state, cfg"]
    assert set(torch.load(out, weights_only=True)) == {"meta", "state_dict", "k710"}


def test_parts_of_larger_tensors_and_shared_ones_are_written_alone(tmp_path):
    state = tiny_state("videomaev2")
    large = torch.randn(1000, 64)
    state["blocks.0.attn.proj.weight"] = large[:64]
    state["blocks.0.norm1.bias"] = state["blocks.0.norm2.bias"]
    start = released(tmp_path / "start.pth", "videomaev2", state)
    out = convert(start, "videomaev2", tmp_path / "out.pth")
    assert out.stat().st_size < start.stat().st_size
    folder = convert(start, "huggingface", tmp_path / "folder")
    assert bits(convert(folder, "videomaev2", tmp_path / "back.pth")) == bits(start)


def test_a_folder_says_what_its_model_is(tmp_path):
    start = released(tmp_path / "start.pth", "videomaev2", tiny_state("videomaev2", num_classes=400))
    with pytest.raises(CheckpointError, match="nothing tells the index order of its 400 rows"):
        plan_conversion(start, to="huggingface")
    conversion = plan_conversion(start, to="huggingface", family="videomaev2")
    assert conversion.notes == (
        "no tensor tells the size of a clip; written as published: 8 frames of 32 px (--num-frames, --size-px)",
    )
    asked = plan_conversion(start, to="huggingface", family="videomaev2", num_frames=4, size_px=48)
    folder, _ = write_conversion(asked)
    assert folder == default_out(asked) == tmp_path / "start.huggingface"
    config = json.loads((folder / "config.json").read_text())
    assert (config["num_frames"], config["image_size"], config["dtype"]) == (4, 48, "float32")
    assert config["id2label"]["0"] == "abseiling"
    assert config["label2id"]["zumba"] == 399
    assert config["k710"]["dialect"] == "videomaev2"
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
    ]
    assert "this form has no place for the size of a clip: 4 frames of 48 px" in str(
        plan_conversion(folder, to="k710").notes
    )
    assert plan_conversion(folder, to="huggingface").notes == ()
    with pytest.raises(UsageError, match="size_px is 33, want a multiple of 8"):
        plan_conversion(start, to="huggingface", family="videomaev2", size_px=33)
    with pytest.raises(UsageError, match="this form has no place for them"):
        plan_conversion(start, to="k710", family="videomaev2", size_px=32)


def test_mmaction2_keeps_the_position_table_with_the_weights(tmp_path):
    start = released(tmp_path / "start.pth", "videomaev2", tiny_state("videomaev2"))
    there = convert(start, "mmaction2", tmp_path / "there.pth", to_dialect="canonical")
    content = torch.load(there, weights_only=True)
    state = content["state_dict"]
    assert torch.equal(state["backbone.pos_embed"], position_table(4 * 16, 64)[None])
    assert state["backbone.blocks.1.mlp.layers.0.0.weight"].shape == (256, 64)
    assert {"backbone.patch_embed.projection.bias", "backbone.fc_norm.weight", "cls_head.fc_cls.bias"} <= state.keys()
    assert bits(convert(there, "videomaev2", tmp_path / "back.pth", to_dialect="videomaev2")) == bits(start)
    # The published files may lack the table; one for other clips is taken where the target has no place for it.
    for table in (None, position_table(8 * 16, 64)[None]):
        content["state_dict"].pop("backbone.pos_embed", None)
        if table is not None:
            content["state_dict"]["backbone.pos_embed"] = table
        torch.save(content, there)
        assert bits(convert(there, "videomaev2", tmp_path / "back.pth", to_dialect="videomaev2")) == bits(start)
    with pytest.raises(CheckpointError, match="128 positions, and a clip of 8 frames of 32 px has 64; say what"):
        plan_conversion(there, to="huggingface")
    assert plan_conversion(there, to="huggingface", num_frames=16).config.num_frames == 16
    content["state_dict"]["backbone.pos_embed"] = torch.randn(1, 64, 64)
    torch.save(content, there)
    with pytest.raises(CheckpointError, match="is not the fixed table of VideoMAE V2 ViT-tiny"):
        plan_conversion(there, to="videomaev2")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_act": "relu"}, "hidden_act is 'relu'"),
        ({"use_mean_pooling": False}, "use_mean_pooling is False"),
        ({"num_attention_heads": 4}, "num_attention_heads is 4"),
        ({"model_type": "timesformer"}, "model_type is 'timesformer'"),
        ({"image_size": "big"}, "image_size is 'big', want a whole number"),
        ({"image_size": 33}, "size_px is 33"),
        ({"num_frames": True}, "num_frames is True"),
        ({"num_frames": -2}, "num_frames is -2"),
    ],
)
def test_a_folder_whose_model_computes_something_else_is_refused(tmp_path, change, message):
    start = released(tmp_path / "start.pth", "videomaev2", tiny_state("videomaev2"))
    folder = convert(start, "huggingface", tmp_path / "folder")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(CheckpointError, match=message):
        plan_conversion(folder, to="videomaev2")


def test_biases_as_the_first_releases_of_transformers_5_saved_them_are_read(tmp_path):
    start = released(tmp_path / "start.pth", "videomaev2", tiny_state("videomaev2"))
    folder = convert(start, "huggingface", tmp_path / "folder")
    renamed = {
        name.replace("q_bias", "query.bias").replace("v_bias", "value.bias"): tensor
        for name, tensor in load_file(folder / "model.safetensors").items()
    }
    save_file(renamed, folder / "model.safetensors", metadata={"format": "pt"})
    assert bits(convert(folder, "videomaev2", tmp_path / "back.pth")) == bits(start)


def test_parts_of_a_matrix_that_do_not_fit_together_are_refused(tmp_path):
    start = released(tmp_path / "start.pth", "videomaev2", tiny_state("videomaev2"))
    folder = convert(start, "huggingface", tmp_path / "folder")
    state = load_file(folder / "model.safetensors")
    name = "videomae.encoder.layer.0.attention.attention.key.weight"
    state[name] = state[name].half()
    save_file(state, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match="unequal to the tensor that they are parts of with"):
        plan_conversion(folder, to="videomaev2")
    del state[name]
    save_file(state, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match="cannot be converted"):
        plan_conversion(folder, to="videomaev2")


def test_a_write_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    start = released(tmp_path / "start.pth", "videomaev2", tiny_state("videomaev2"))
    folder = convert(start, "huggingface", tmp_path / "folder")
    before = bits(folder)

    def full(*_args, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("k710.models.convert.write.save_file", full)
    with pytest.raises(OSError, match="No space left"):
        convert(start, "huggingface", folder)
    assert bits(folder) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "start.pth"]


@pytest.mark.parametrize("failing", [1, 2])
def test_a_folder_that_cannot_take_its_name_leaves_the_old_one(tmp_path, monkeypatch, failing):
    start = released(tmp_path / "start.pth", "videomaev2", tiny_state("videomaev2"))
    folder = convert(start, "huggingface", tmp_path / "folder")
    before, renamed = bits(folder), Path.rename
    newer = released(tmp_path / "newer.pth", "videomaev2", tiny_state("videomaev2", seed=1))
    calls = itertools.count(1)

    def rename(self: Path, target: Path) -> Path:
        if next(calls) == failing:
            raise PermissionError(13, "Permission denied", str(self))
        return renamed(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(PermissionError) as caught:
        convert(newer, "huggingface", folder)
    assert caught.value.filename == str(folder)
    monkeypatch.undo()
    assert bits(folder) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "newer.pth", "start.pth"]
    assert bits(convert(newer, "huggingface", folder)) != before
