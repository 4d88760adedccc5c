"""Published checkpoints: each is recognised as what it is, and its order is proven, asked about or refused."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from k710.errors import CheckpointError, UsageError
from k710.evaluation.view_model import model_as_it_is, model_for_view
from k710.lists.labels import DIALECTS, class_names, row_map
from k710.lists.orders import partial_orders
from k710.models.checkpoints.checkpoint import open_checkpoint
from k710.models.checkpoints.formats import Contents, bare_shapes, recognise
from k710.models.checkpoints.layouts import LAYOUTS
from k710.models.checkpoints.published_models import PROVEN, PUBLISHED_MODELS, UNKNOWN, Order
from k710.models.convert.recognise import find_model
from k710.models.describe import describe
from k710.models.families import FAMILIES, family_of
from k710.models.heads.heads import find_head, twin_heads
from k710.models.heads.published_order import published_order
from k710.models.heads.remap import plan_remap
from k710.models.heads.remap_write import write_remap
from k710.train.read_recipe import read_train_recipe
from k710.train.start import Origin, start_model
from tests.helpers import CHECKOUT
from tests.helpers.checkpoints import huggingface
from tests.helpers.published_checkpoints import (
    SHAPES,
    WRAPPINGS,
    heads_of,
    shapes_of,
    state_of,
    write,
    write_folder,
    write_published,
)

SETS = {400: "k400", 600: "k600", 700: "k700", 710: "k710"}

OPENGVLAB = {400: "uniformerv2", 600: "uniformerv2", 700: "uniformerv2"}
MMACTION2 = dict.fromkeys(SETS, "canonical")

# By number of rows, the order that public code proves; k710 must ask for all others. The layout of each model.
PUBLISHED: dict[str, tuple[str, dict[int, str]]] = {
    "uniformerv2": ("uniformerv2", {**OPENGVLAB, 710: "uniformerv2"}),
    "mmaction2": ("mmaction2", MMACTION2),
    "mmaction2_slowonly": ("mmaction2", MMACTION2),
    "mmaction2_swin": ("mmaction2", MMACTION2),
    "mmaction2_videomae": ("mmaction2", MMACTION2),
    "aim": ("aim", {}),
    "umt": ("umt", OPENGVLAB),
    "internvideo2": ("internvideo2", OPENGVLAB),
    # B and S: those of K400 were published in four repositories, and the list of one of them was not.
    "videomae": ("videomaev2", dict.fromkeys((600, 700, 710), "videomaev2")),
    "videomaev2": ("videomaev2", dict.fromkeys((600, 700, 710), "videomaev2")),
    "videomae_pretrain": ("videomaev2_pretrain", {}),
    "videomamba": ("videomamba", {}),
    "uniformer": ("uniformer", {400: "uniformerv2", 600: "uniformerv2"}),
    "uniformer_light": ("uniformer", {400: "uniformerv2", 600: "uniformerv2"}),
    "timesformer": ("timesformer", {}),
    "mvit": ("mvit", {400: "canonical"}),
    "hiera": ("hiera", {400: "canonical"}),
    "slowfast": ("slowfast", {}),
    "pytorchvideo": ("pytorchvideo-mvit", {}),
    "pytorchvideo_cnn": ("pytorchvideo", {}),
    "evl": ("evl", {400: "canonical"}),
    "st_adapter": ("st-adapter", {}),
    "vjepa_probe": ("vjepa-probe", {}),
    "vjepa2_probe": ("vjepa2-probe", {}),
    "omnivore": ("omnivore", {400: "canonical"}),
    "xclip": ("xclip", {}),
    "hf_videomae": ("hf-videomae", {}),
    "hf_timesformer": ("hf-timesformer", {}),
    "hf_vivit": ("hf-vivit", {}),
    "hf_vjepa2": ("hf-vjepa2", {}),
}
WITH_HEAD = [model for model in PUBLISHED if model not in ("xclip", "videomae_pretrain")]


def layout_of(shapes: dict[str, tuple[int, ...]]) -> str | None:
    contents = Contents(bare_shapes(shapes.items()), None, frozenset(), False)
    found = recognise(contents).layout
    return found.name if found else None


def refusal(path: Path, **options: Any) -> str:
    with pytest.raises(CheckpointError) as caught:
        plan_remap([path], to="k400", new_rows="zero", **options)
    return str(caught.value)


def test_every_published_model_and_layout_has_a_case():
    assert PUBLISHED.keys() == SHAPES.keys()
    assert {layout for layout, _ in PUBLISHED.values()} == {layout.name for layout in LAYOUTS}
    assert {model.layout for model in PUBLISHED_MODELS} == {layout.name for layout in LAYOUTS}
    names = [model.name for model in PUBLISHED_MODELS]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("rows", SETS)
@pytest.mark.parametrize("model", WITH_HEAD)
def test_each_model_has_its_proven_order_or_is_asked_about(model: str, rows: int, tmp_path: Path):
    layout, orders = PUBLISHED[model]
    path = write_published(tmp_path, model, rows)
    checkpoint = open_checkpoint(path)
    assert checkpoint.layout
    assert checkpoint.layout.name == layout
    head = find_head(checkpoint)
    assert (head.name.endswith(heads_of(model)[0]), head.rows) == (True, rows)
    found = describe(path)
    assert (found["dialect"], found["label_set"]) == (orders.get(rows), SETS[rows] if rows in orders else None)
    json.dumps(found)
    if rows not in orders:
        assert "say it with --dialect canonical|uniformerv2|videomaev2" in refusal(path)
        assert found["known_by"][0] in refusal(path)
    else:
        remap = plan_remap([path], to="k400", new_rows="zero")
        wanted = row_map(SETS[rows], "k400", source_dialect=orders[rows])
        assert remap.rows == tuple(() if row is None else ((0, row),) for row in wanted)
        assert any("proven" in message for message in remap.sources[0].messages)


@pytest.mark.parametrize("wrapping", WRAPPINGS)
@pytest.mark.parametrize("model", [model for model in WITH_HEAD if not model.startswith(("hf_", "omnivore"))])
def test_no_wrapping_changes_what_is_recognised(model: str, wrapping: str, tmp_path: Path):
    layout, orders = PUBLISHED[model]
    checkpoint = open_checkpoint(write(tmp_path / "x.pth", WRAPPINGS[wrapping](state_of(model, 400))))
    assert checkpoint.layout, checkpoint.why
    assert checkpoint.layout.name == layout
    assert find_head(checkpoint).rows == 400
    assert published_order(checkpoint, 400, "k400").dialect == orders.get(400)


@pytest.mark.parametrize("model", [model for model in WITH_HEAD if not model.startswith("hf_")])
def test_names_in_a_folder_do_not_change_what_is_recognised(model: str, tmp_path: Path):
    layout, orders = PUBLISHED[model]
    folder = write_folder(tmp_path, state_of(model, 400), [f"LABEL_{row}" for row in range(400)])
    checkpoint = open_checkpoint(folder)
    assert checkpoint.layout
    assert checkpoint.layout.name == layout
    assert describe(folder)["dialect"] == orders.get(400)


SIZES = {
    "UMT-L/16, 16 frames": ("umt", {"patch_embed_proj_weight": (1024, 3, 1, 16, 16)}),
    "InternVideo2-S": ("internvideo2", {"patch_embed_proj_weight": (384, 3, 1, 14, 14)}),
    "InternVideo2-1B": ("internvideo2", {"patch_embed_proj_weight": (1408, 3, 1, 14, 14)}),
    "InternVideo2-6B": ("internvideo2", {"patch_embed_proj_weight": (3200, 3, 1, 14, 14)}),
}


@pytest.mark.parametrize("size", SIZES)
def test_an_opengvlab_head_of_k400_is_not_taken_for_an_alphabetical_one(size: str, tmp_path: Path):
    """They are ViTs like VideoMAE's, whose heads of K400 are alphabetical: not one class of 400 has the same row."""
    model, changes = SIZES[size]
    path = write_published(tmp_path, model, 400, **changes)
    remap = plan_remap([path], to="k400")
    assert [origins[0][1] for origins in remap.rows] == list(row_map("k400", "k400", source_dialect="uniformerv2"))
    assert not any(origins == ((0, row),) for row, origins in enumerate(remap.rows))
    assert describe(path)["model"].startswith(size.partition(",")[0].replace("UMT-", "UMT ViT-"))


@pytest.mark.parametrize("model", SHAPES)
def test_two_tests_or_a_size_stand_between_any_two_layouts(model: str):
    """So one tensor more or less makes none out of another."""
    shapes = bare_shapes(shapes_of(model, 400).items())
    for layout in LAYOUTS:
        failures = layout.failures(shapes)
        if layout.name == PUBLISHED[model][0]:
            assert failures == []
        else:
            assert len(failures) > 1 or "not of" in failures[0], (layout.name, failures)


EVERY_TENSOR = sorted({(name, shape) for tensors in SHAPES.values() for name, shape in tensors.items()})


@given(st.sampled_from(sorted(SHAPES)), st.data())
def test_one_tensor_more_or_less_is_never_another_model(model: str, data: st.DataObject):
    shapes = shapes_of(model, data.draw(st.sampled_from(sorted(SETS))))
    if data.draw(st.booleans()):
        del shapes[data.draw(st.sampled_from(sorted(shapes)))]
    else:
        name, shape = data.draw(st.sampled_from(EVERY_TENSOR))
        prefix = data.draw(st.sampled_from(["", "module.", "encoder.", "_fsdp_wrapped_module."]))
        shapes.setdefault(prefix + name, shape)
    assert layout_of(shapes) in (PUBLISHED[model][0], None)


def test_what_is_lacking_is_named(tmp_path: Path):
    state = state_of("umt", 400)
    del state["blocks.0.attn.v_bias"]
    said = refusal(write(tmp_path / "x.pth", state))
    assert "nearly a UMT checkpoint, but it has no blocks.0.attn.v_bias" in said
    assert "say it with --dialect" in said
    state = state_of("umt", 400) | {"cls_token": torch.zeros(1, 1, 768)}
    assert "nearly a UMT checkpoint, but it has cls_token" in refusal(write(tmp_path / "x.pth", state))


def test_two_models_in_one_state_dict_are_neither(tmp_path: Path):
    both = {**state_of("timesformer", 400), **state_of("evl", 400)}
    checkpoint = open_checkpoint(write(tmp_path / "x.pth", both))
    assert checkpoint.layout is None
    assert "those of several: TimeSformer checkpoint, EVL checkpoint" in checkpoint.why
    encoders = {f"encoder.{name}": value for name, value in state_of("videomae", 400).items()}
    mixed = {**state_of("umt", 400), **encoders}
    assert open_checkpoint(write(tmp_path / "y.pth", mixed)).layout is None


IMAGE_VIT = {
    "cls_token": (1, 1, 768), "pos_embed": (1, 197, 768), "patch_embed.proj.weight": (768, 3, 16, 16),
    "blocks.0.attn.qkv.weight": (2304, 768), "blocks.0.attn.qkv.bias": (2304,), "norm.weight": (768,),
    "head.weight": (400, 768), "head.bias": (400,),
}  # fmt: skip
PRETRAINED = {
    "encoder.patch_embed.proj.weight": (768, 3, 2, 16, 16), "encoder.blocks.0.attn.qkv.weight": (2304, 768),
    "encoder.blocks.0.attn.q_bias": (768,), "encoder.blocks.0.attn.v_bias": (768,), "encoder.norm.weight": (768,),
    "decoder.blocks.0.attn.qkv.weight": (1152, 384), "decoder.head.weight": (1536, 384), "mask_token": (1, 1, 384),
}  # fmt: skip
CLIP = {
    "visual.class_embedding": (768,), "visual.conv1.weight": (768, 3, 16, 16), "visual.proj": (768, 512),
    "text_projection": (512, 512), "token_embedding.weight": (49408, 512),
}  # fmt: skip


@pytest.mark.parametrize("shapes", [IMAGE_VIT, PRETRAINED, CLIP], ids=["image ViT", "pretrained VideoMAE", "CLIP"])
def test_other_models_are_none_of_them(shapes: dict[str, tuple[int, ...]]):
    assert layout_of(shapes) is None


# Models whose tensors are the same.

G14 = {"patch_embed_proj_weight": (1408, 3, 2, 14, 14)}
H16 = {"patch_embed_proj_weight": (1280, 3, 2, 16, 16)}


def test_whose_head_it_is_is_asked_where_tensors_do_not_tell(tmp_path: Path):
    path = write_published(tmp_path, "videomae", 400)
    said = refusal(path)
    assert "4 published models have such tensors" in said
    assert "by the page that it comes from: k710 remap-head --family videomaev2|videomae|internvideo1|mvd" in said
    for known in (
        "VideoMAE V2: videomaev2, proven", "VideoMAE: canonical, proven",
        "InternVideo1's VideoMAE: canonical, likely;", "MVD: canonical, likely but unproven",
    ):  # fmt: skip
        assert known in said
    for family in ("videomaev2", "videomae"):
        remap = plan_remap([path], to="k400", families=[family])
        assert [origins[0][1] for origins in remap.rows] == list(range(400))
    for family in ("internvideo1", "mvd"):
        assert "say it with --dialect" in refusal(path, families=[family])
        assert "--family" not in refusal(path, families=[family])
    assert plan_remap([path], to="k400", families=["mvd"], dialects=["canonical"]).sources[0].labels.label_set == "k400"
    with pytest.raises(UsageError, match="--family umt: its tensors are of videomaev2, videomae, internvideo1, mvd"):
        plan_remap([path], to="k400", families=["umt"])


def test_the_giant_is_video_mae_v2s_alone(tmp_path: Path):
    path = write_published(tmp_path, "videomaev2", 400, **G14)
    assert (describe(path)["dialect"], describe(path)["model"]) == ("videomaev2", "VideoMAE ViT-g/14, 1 block")
    assert [model["name"] for model in describe(path)["published"]] == ["videomaev2"]


def test_a_huge_head_of_k400_can_be_in_either_order(tmp_path: Path):
    path = write_published(tmp_path, "videomae", 400, **H16)
    assert "InternVideo1's VideoMAE: uniformerv2, likely" in refusal(path)


def test_where_all_that_publish_such_a_head_agree_nothing_is_asked(tmp_path: Path):
    remap = plan_remap([write_published(tmp_path, "videomae", 710)], to="k400")
    assert [message for message in remap.sources[0].messages if message.startswith("dialect")] == [
        "dialect videomaev2, proven for VideoMAE V2 (misc/label_710to400.json, label_710to600.json, "
        "label_710to700.json)",
        "dialect uniformerv2, likely for InternVideo1's VideoMAE (its scripts name row lists as UniFormerV2 does); "
        "all that publish 710 rows agree",
    ]


def test_a_users_word_counts_and_the_published_order_is_said(tmp_path: Path):
    path = write_published(tmp_path, "umt", 400)
    (remap,) = [plan_remap([path], to="k400", dialects=["canonical"]).sources[0]]
    assert "dialect canonical as you say" in remap.messages
    assert any(message.startswith("as it was published, another: dialect uniformerv2") for message in remap.messages)
    said = plan_remap([path], to="k400", dialects=["uniformerv2"]).sources[0].messages
    assert not any("another" in message for message in said)


# Orders that are known in part.


def test_an_order_that_is_known_in_part_is_refused_and_never_filled_in(tmp_path: Path):
    probe = write_published(tmp_path, "vjepa_probe", 400)
    said = refusal(probe)
    assert "a probe of V-JEPA (facebookresearch/jepa) has an order of its own, by issue 18" in said
    assert "k710 knows 114 of 400 rows of it (labelmaps/k400_vjepa.csv), and only the whole list will do" in said
    said = refusal(write_published(tmp_path, "slowfast", 600))
    assert "knows 2 of 600 rows of it (labelmaps/k600_slowfast.csv)" in said
    with pytest.raises(UsageError, match="vjepa: of this order of k400 only 114 rows are known"):
        plan_remap([probe], to="k400", dialects=["vjepa"])


def test_a_whole_list_is_compared_with_the_rows_that_are_known(tmp_path: Path):
    probe = write_published(tmp_path, "vjepa_probe", 400)
    known = partial_orders()["vjepa"].names
    rest = iter([name for name in class_names("k400") if name not in known.values()])
    names = [known[row] if row in known else next(rest) for row in range(400)]
    path = tmp_path / "vjepa.txt"
    path.write_text("\n".join(names))
    remap = plan_remap([probe], to="k400", label_sets=[str(path)])
    agree = "all 114 rows that are known of vjepa's order agree (labelmaps/k400_vjepa.csv)"
    assert agree in remap.sources[0].messages
    out, _ = write_remap(remap)
    payload = torch.load(out, weights_only=True)
    assert payload["classifier"]["module.linear.bias"].tolist() == [names.index(name) for name in class_names("k400")]
    path.write_text("\n".join(class_names("k400")))
    (said,) = [
        message
        for message in plan_remap([probe], to="k400", label_sets=[str(path)]).sources[0].messages
        if "differ" in message
    ]
    assert "114 of 114 rows that are known of vjepa's order differ" in said
    assert "row 0 is 'weaving basket' there and 'abseiling' here" in said


# Heads that belong together, and containers of several state dicts.


def test_both_heads_of_a_light_uniformer_move(tmp_path: Path):
    path = write_published(tmp_path, "uniformer_light", 400)
    remap = plan_remap([path], to="k400")
    assert "remapped with it, a head of the same classes: head_cls" in remap.sources[0].messages
    out, _ = write_remap(remap)
    state = torch.load(out, weights_only=True)
    wanted = list(row_map("k400", "k400", source_dialect="uniformerv2"))
    for name in ("head", "head_cls"):
        assert state[f"{name}.bias"].tolist() == wanted
        assert state[f"{name}.weight"][:, 0].tolist() == wanted
    assert describe(out)["twin_heads"] == ["head_cls"]
    again, _ = write_remap(plan_remap([out], to="k400", to_dialect="uniformerv2", again=True))
    assert torch.load(again, weights_only=True)["head_cls.bias"].tolist() == list(range(400))
    named = plan_remap([path], to="k400", head="head_cls").sources[0]
    assert [head.name for head in named.heads] == ["head_cls", "head"]


def test_heads_that_belong_together_and_differ_are_refused(tmp_path: Path):
    state = state_of("uniformer_light", 400)
    state["head_cls.weight"], state["head_cls.bias"] = torch.zeros(600, 448), torch.zeros(600)
    said = refusal(write(tmp_path / "x.pth", state))
    assert "head has 400 rows and head_cls 600; in a UniFormer checkpoint the two are of the same classes" in said


def test_light_and_other_uniformers_are_not_combined(tmp_path: Path):
    paths = [write_published(tmp_path, model, 400) for model in ("uniformer_light", "uniformer")]
    with pytest.raises(CheckpointError, match="number of heads 1, not 2"):
        plan_remap(paths, to="k400")


def test_every_probe_of_a_list_moves(tmp_path: Path):
    path = write_published(tmp_path, "vjepa2_probe", 400)
    remap = plan_remap([path], to="k400", dialects=["uniformerv2"])
    source = remap.sources[0]
    assert [head.name for head in source.heads] == [f"classifiers.{number}.module.linear" for number in range(3)]
    out, _ = write_remap(remap)
    payload = torch.load(out, weights_only=True)
    wanted = list(row_map("k400", "k400", source_dialect="uniformerv2"))
    assert [probe["module.linear.bias"].tolist() for probe in payload["classifiers"]] == [wanted] * 3
    assert list(payload) == ["classifiers", "epoch", "opt", "k710"]
    assert refusal(out).endswith("or say --again to start from k400 (canonical) as recorded")
    assert twin_heads(open_checkpoint(out), find_head(open_checkpoint(out)))


def test_trunk_and_heads_stay_two_entries(tmp_path: Path):
    path = write_published(tmp_path, "omnivore", 400)
    before = torch.load(path, weights_only=True)
    assert describe(path)["other_entries"] == []
    out, _ = write_remap(plan_remap([path], to="k400", to_dialect="uniformerv2"))
    after = torch.load(out, weights_only=True)
    assert after["heads"].keys() == before["heads"].keys()
    wanted = list(row_map("k400", "k400", target_dialect="uniformerv2"))
    assert after["heads"]["video.1.bias"].tolist() == wanted
    for name in ("image.weight", "rgbd.weight"):
        assert torch.equal(after["heads"][name], before["heads"][name])
    assert after["trunk"].keys() == before["trunk"].keys()


# Names, and what is not there.


def test_class_names_in_config_json_count_before_everything_else(tmp_path: Path):
    folder = write_folder(tmp_path, state_of("hf_vivit", 400), list(class_names("k400")))
    assert describe(folder)["known_by"] == ["k400 (canonical) by its class names"]
    (tmp_path / "umt").mkdir()
    folder = write_folder(tmp_path / "umt", state_of("umt", 400), list(class_names("k400")))
    assert describe(folder)["known_by"] == [
        "k400 (canonical) by its class names",
        "published in this form, it would be uniformerv2; --dialect overrides the names",
    ]


def test_placeholders_of_names_ask_and_say_what_is_likely(tmp_path: Path):
    said = refusal(write_published(tmp_path, "hf_vivit", 400))
    assert "ViViT of transformers: canonical, likely (Google's file answers row 116 for eating spaghetti" in said
    (tmp_path / "own").mkdir()
    said = refusal(huggingface(tmp_path / "own", 710))
    assert "no head of 710 rows was published for VideoMAE of transformers: it is somebody's own" in said


def test_a_model_that_takes_classes_as_text_has_no_head(tmp_path: Path):
    path = write(tmp_path / "x.pth", {"model": state_of("xclip", 400)})
    assert "no classification head in it (X-CLIP checkpoint). Its classes come in as text" in refusal(path)


@pytest.mark.parametrize("model", ["umt", "internvideo2", "videomamba", "mvit", "vjepa_probe", "vjepa2_probe"])
def test_an_evaluation_of_a_foreign_model_says_what_it_needs(model: str, tmp_path: Path):
    path = write_published(tmp_path, model, 400)
    needs = describe(path)["needs"]
    assert re.search(r"needs its model \([A-Za-z]+/\w+\), and as published \d+ ", needs)
    for load in (lambda: model_for_view(path, "k400"), lambda: model_as_it_is(path)):
        with pytest.raises(CheckpointError, match="not of a model and a size that k710 can build") as caught:
            load()
        assert needs in str(caught.value)
        assert "k710 remap-head" in str(caught.value)
        assert "--dialect" not in str(caught.value)


def test_a_training_does_not_start_from_a_foreign_model(tmp_path: Path):
    path = write_published(tmp_path, "timesformer", 400)
    tiny = ["preset=tiny", "size_px=32", "num_frames=4", "checkpoint_blocks=0", "start=checkpoint"]
    recipe = read_train_recipe("pretrain-k710-b16", tiny)[0]
    with pytest.raises(CheckpointError, match="TimeSformer needs its model") as caught:
        start_model(recipe, Origin(init=path))
    assert "--dialect" not in str(caught.value)


def test_a_family_with_the_same_names_does_not_take_a_foreign_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """UMT's tensors have the names of VideoMAE's, and it wants other frames."""
    greedy = replace(
        FAMILIES["uniformerv2"], config_from_shapes=lambda shapes: FAMILIES["uniformerv2"].config("kinetics_b16")
    )
    monkeypatch.setitem(FAMILIES, "uniformerv2", greedy)
    with pytest.raises(CheckpointError, match="UMT needs its model"):
        family_of(open_checkpoint(write_published(tmp_path, "umt", 400)))
    for model in ("mmaction2", "uniformerv2"):  # these can be of a family that k710 has
        assert family_of(open_checkpoint(write_published(tmp_path, model, 400)))[0] is greedy


def test_certain_orders_are_dialects_with_a_source():
    for model in PUBLISHED_MODELS:
        for order in model.orders:
            assert order.source
            assert order.certainty in (PROVEN, "likely", UNKNOWN)
            assert order.name in (*DIALECTS, *partial_orders(), None)
            assert order.name or order.certainty == UNKNOWN


DASH = "\N{EN DASH}"


def cell(order: Order | None) -> str:
    """An order in the page's table: bold where proven, a question mark where it is likely, or not known."""
    if order is None:
        return DASH
    if order.certainty == PROVEN:
        return f"**{order.name}**"
    return f"{order.name}?" if order.name else "?"


def test_the_page_has_every_published_model_with_its_orders_and_sources():
    page = (CHECKOUT / "docs" / "heads.md").read_text(encoding="utf-8")
    for model in PUBLISHED_MODELS:
        orders = {rows: [order for order in model.orders if order.rows == rows] for rows in SETS}
        cells = [" or ".join(map(cell, found)) or DASH for found in orders.values()]
        sources = "; ".join(dict.fromkeys(order.source for order in model.orders)) or DASH
        line = f"| `{model.name}` | {model.title}, {model.repository} | {' | '.join(cells)} | {sources} |"
        assert line in page, line


def test_a_foreign_model_with_the_names_of_another_is_not_converted(tmp_path: Path):
    path = tmp_path / "umt.pth"
    write(path, {"model": state_of("umt", 400)})
    with pytest.raises(CheckpointError, match="UMT needs its model"):
        find_model(open_checkpoint(path))
