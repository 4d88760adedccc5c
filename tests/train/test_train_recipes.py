"""UniFormerV2's recipes: complete, sourced, and the numbers of the released scripts and of the paper's Table 11."""

from __future__ import annotations

import csv
import dataclasses
import json
import re
from ast import literal_eval
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from k710.errors import RecipeError, UsageError
from k710.lists.labels import class_names
from k710.models.uniformerv2.config import PRESETS, preset
from k710.models.uniformerv2.family import UNIFORMERV2, layer_of
from k710.models.uniformerv2.model import UniFormerV2
from k710.recipes import read_recipe_text, recipe_files, resource
from k710.sources.others import OTHERS
from k710.train.optimizer import learning_rate, make_optimizer, parameter_groups, set_learning_rate
from k710.train.read_recipe import parse_changes, read_train_recipe, train_recipe_from
from k710.train.recipe import TrainRecipe

HERE = Path(__file__).parent
GIVEN = {name: path for name, path in recipe_files("train").items() if "videomae" not in name}
FAMILY_OF = {name: read_recipe_text("train", name).content["model"]["family"] for name in GIVEN}
PUBLISHED = [
    name for name in GIVEN if FAMILY_OF[name] == "uniformerv2" and re.match("(pretrain|finetune|clip)-k[4-7]", name)
]
OF_OTHERS = {view for source in OTHERS.values() for view in source.views}
TITLES = {"uniformerv2": "UniFormerV2", "evl": "EVL"}


def recipe(name: str, *changes: str) -> TrainRecipe:
    return read_train_recipe(name, changes)[0]


def released() -> dict[str, dict[str, str]]:
    """The released experiments under the names of their recipes here."""
    with (HERE / "released_training.csv").open(newline="") as file:
        return {name_of(row): row for row in csv.DictReader(file)}


def name_of(row: dict[str, str]) -> str:
    view = row["experiment"].split("/")[1]
    size = "l14-336" if row["crop_px"] == "336" else row["backbone"].removeprefix("uniformerv2_")
    frozen = "-frozen" if row["frozen"] == "1" else ""
    frames = "" if row["num_frames"] == "8" else f"-{row['num_frames']}f"
    kind = "pretrain" if view == "k710" else "finetune" if row["from_k710"] == "1" else "clip"
    as_released = "-as-released" if row["head_dropped"] == "1" else ""
    return f"{kind}-{view}-{size}{frozen}{frames}{as_released}"


@pytest.mark.parametrize("name", GIVEN)
def test_every_value_stands_there_with_its_source(name):
    found = read_recipe_text("train", name)
    given = recipe(name).flat()
    without_null = {key for key, value in found.values.items() if value.text != "null" or key in given}
    assert without_null == given.keys(), "no value is left to the code's defaults"
    assert found.title.startswith(TITLES[FAMILY_OF[name]])
    assert all(value.comment for value in found.values.values()), "a value without its source"
    assert all(len(line) <= 120 for line in GIVEN[name].read_text(encoding="utf-8").splitlines())
    own = [key for key, value in found.values.items() if value.file == GIVEN[name]]
    extends = yaml.safe_load(GIVEN[name].read_text(encoding="utf-8")).get("extends")
    if extends is None:
        return
    base = read_recipe_text("train", str(resource("pipelines", "train", f"{extends}.yaml")))
    repeated = [
        key for key in own if base.values.get(key, found.values[key]) != found.values[key] or key not in base.values
    ]
    assert own == repeated, "a recipe holds what differs from the one that it extends"


def flat_recipes_of_0_1() -> dict[str, dict[str, Any]]:
    """Every recipe of 0.1, key by key, as its flat YAML had it."""
    with (HERE / "recipes_of_0_1.csv").open(newline="") as file:
        rows = [dict(row) for row in csv.DictReader(file)]
    return {row.pop("recipe"): {key: literal_eval(value) for key, value in row.items()} for row in rows}


@pytest.mark.parametrize(("name", "flat"), flat_recipes_of_0_1().items())
@pytest.mark.slow
def test_a_recipe_is_what_it_was_when_recipes_were_flat(name, flat):
    assert recipe(name) == train_recipe_from(flat, "0.1")
    assert train_recipe_from(recipe(name).as_dict(), "written whole") == recipe(name)


@pytest.mark.slow
def test_a_whole_recipe_is_the_recipe(tmp_path):
    for name in GIVEN:
        path = tmp_path / f"{name}.yaml"
        path.write_text(read_recipe_text("train", name).whole(), encoding="utf-8")
        assert recipe(str(path)) == recipe(name)


@pytest.mark.parametrize("name", GIVEN)
def test_every_recipe_can_be_used(name):
    given = recipe(name)
    config = given.family.config(given.model.preset)
    assert config.size_px == given.data.size_px
    assert config.frozen == given.model.options["frozen"] or name.startswith("tiny-")
    assert given.optim.batch_size % given.optim.gpu_batch_size == 0
    assert given.data.view in OF_OTHERS or class_names(given.data.view)


def test_every_released_experiment_has_its_recipe():
    """Of Kinetics; K400's finetunes are there a second time with the head that the paper asks for."""
    names = set(released())
    assert names <= set(GIVEN)
    remapped = {name.removesuffix("-as-released") for name in names if name.endswith("-as-released")}
    paper = {name for name in PUBLISHED if name.endswith("-paper")}
    assert set(PUBLISHED) == names | remapped | paper


@pytest.mark.parametrize("name", list(released()))
def test_a_recipe_is_what_the_released_script_ran(name):
    row, given = released()[name], recipe(name)
    nodes, gpus, node_batch = (int(row[key]) for key in ("nodes", "gpus_per_node", "node_batch"))
    assert given.optim.batch_size == nodes * node_batch
    assert given.optim.gpu_batch_size == node_batch // gpus
    assert (given.optim.lr, given.optim.epochs, given.optim.warmup_epochs) == (
        float(row["lr"]), int(row["epochs"]), float(row["warmup_epochs"]),
    )  # fmt: skip
    assert (given.data.num_frames, given.validate.clips, given.validate.crops) == (
        int(row["num_frames"]), int(row["test_clips"]), int(row["test_crops"]),
    )  # fmt: skip
    assert given.model.options["checkpoint_blocks"] == int(row["checkpoint_blocks"])
    assert given.data.size_px == int(row["crop_px"])
    assert len(class_names(given.data.view)) == int(row["num_classes"])
    assert given.model.options["frozen"] == (row["frozen"] == "1")
    assert given.model.start == ("checkpoint" if row["from_k710"] == "1" else "clip")
    assert given.model.head == ("remap" if row["from_k710"] == "1" and row["head_dropped"] == "0" else "new")
    backbone = {"uniformerv2_b16": "B/16"}.get(row["backbone"], "L/14")
    assert PRESETS[given.model.preset].backbone == backbone
    assert (given.optim.start_lr, given.optim.end_lr, given.optim.weight_decay, given.seed) == (1e-6, 1e-6, 0.05, 6666)
    assert (given.augment.color_jitter, given.optim.clip_grad) == (0.0, 20.0)


def test_k400_keeps_the_head_unless_asked():
    for name in PUBLISHED:
        if name.startswith("finetune-k400") and not name.endswith(("-as-released", "-paper")) and "frozen" not in name:
            ours, theirs = recipe(name), recipe(f"{name}-as-released")
            assert (ours.model.head, theirs.model.head) == ("remap", "new")
            assert ours.replace({"model.head": "new"}) == theirs


# Table 11: batch size, rate of the base and the large model, warmup, epochs of both.
TABLE_11 = {"pretrain": (512, 2e-5, 1e-5, 5, 55, 40), "finetune": (256, 2e-6, 1.5e-6, 1, 5, 5)}


@pytest.mark.parametrize("name", [name for name in PUBLISHED if name.endswith("-paper")])
def test_a_paper_recipe_is_table_11(name):
    given, as_released = recipe(name), recipe(name.removesuffix("-paper"))
    batch, base, large, warmup, epochs, large_epochs = TABLE_11["finetune" if name.startswith("fine") else "pretrain"]
    is_base = "-b16" in name
    rate, warmup = (4e-4, 0) if given.model.options["frozen"] else (base if is_base else large, warmup)
    assert (given.optim.batch_size, given.optim.lr, given.optim.warmup_epochs) == (batch, rate, warmup)
    assert given.optim.epochs == (epochs if is_base else large_epochs)
    assert (given.augment.color_jitter, given.optim.weight_decay) == (0.4, 0.05)
    assert given.model.head == ("remap" if name.startswith("finetune") else "new")
    assert (given.data, given.validate) == (as_released.data, as_released.validate)
    for key in ("model.preset", "model.start", "optim.precision", "optim.gpu_batch_size"):
        assert given.value(key) == as_released.value(key), key


@pytest.mark.parametrize(("name", "facts"), json.loads((HERE / "released_learning_rates.json").read_text()).items())
def test_learning_rates_are_the_released_codes(name, facts):
    given = dataclasses.replace(
        recipe("pretrain-k710-b16").optim,
        lr=facts["BASE_LR"],
        warmup_epochs=facts["WARMUP_EPOCHS"],
        epochs=facts["MAX_EPOCH"],
    )
    for epoch, rate in facts["points"]:
        assert learning_rate(given, epoch) == pytest.approx(rate, rel=1e-7), (name, epoch)


def test_groups_are_the_published_ones():
    model = UniFormerV2(preset("tiny", local="double"))
    groups = parameter_groups(model, UNIFORMERV2, recipe("pretrain-k710-b16").optim)
    assert {(group["weight_decay"], group["lr_scale"]) for group in groups} == {(0.05, 1.0), (0.0, 1.0)}
    decay_of = {name: group["weight_decay"] for group in groups for name in group["names"]}
    assert decay_of.keys() == dict(model.named_parameters()).keys()
    for name, parameter in model.named_parameters():
        assert decay_of[name] == (0.05 if parameter.ndim > 1 else 0.0), name
    assert decay_of["positional_embedding"] == decay_of["transformer.temporal_cls_token"] == 0.05
    assert decay_of["class_embedding"] == decay_of["transformer.balance"] == 0.0
    assert decay_of["transformer.resblocks.0.lmhra1.pos_embed.0.weight"] == 0.0


def test_layers_decay_from_the_head_down():
    model = UniFormerV2(preset("tiny"))
    given = recipe("pretrain-k710-b16", "layer_decay=0.5")
    scale_of = {
        name: group["lr_scale"]
        for group in parameter_groups(model, UNIFORMERV2, given.optim)
        for name in group["names"]
    }
    assert scale_of["transformer.proj.2.weight"] == scale_of["transformer.dec.0.mlp.c_fc.weight"] == 1
    assert scale_of["transformer.resblocks.3.attn.in_proj_weight"] == 0.5
    assert scale_of["transformer.resblocks.0.attn.in_proj_weight"] == 0.5**4
    assert scale_of["conv1.weight"] == scale_of["positional_embedding"] == 0.5**5
    assert layer_of("transformer.resblocks.11.ln_1.weight", preset("kinetics_b16")) == 12
    optimizer = make_optimizer(model, UNIFORMERV2, given.optim)
    set_learning_rate(optimizer, 1e-3)
    assert {group["lr"] for group in optimizer.param_groups} == {1e-3 * 0.5**power for power in range(6)}


def test_a_frozen_backbone_is_not_trained():
    model = UniFormerV2(preset("kinetics_l14_336_frozen", backbone="tiny", size_px=32, global_after=(2, 3)))
    names = {
        n for group in parameter_groups(model, UNIFORMERV2, recipe("pretrain-k710-b16").optim) for n in group["names"]
    }
    assert names
    assert all(name.startswith(("transformer.d", "transformer.proj", "transformer.temporal")) for name in names)
    assert isinstance(make_optimizer(model, UNIFORMERV2, recipe("pretrain-k710-b16").optim), torch.optim.AdamW)


def test_set_changes_a_recipe_and_says_so():
    given, said = read_train_recipe("finetune-k400-b16", ["lr=1e-5", "randaugment=null", "frozen=true", "clip_grad=0"])
    assert (given.optim.lr, given.augment.randaugment, given.model.options["frozen"], given.optim.clip_grad) == (
        1e-5,
        None,
        True,
        0.0,
    )
    assert said[0] == "optim.lr is 1e-05, not the recipe's 2e-06"


def test_the_rate_is_scaled_only_when_the_user_changes_the_batch():
    given, said = read_train_recipe("finetune-k400-b16", ["batch_size=64"])
    assert (given.optim.batch_size, given.optim.lr, given.optim.end_lr) == (64, 5e-7, 2.5e-7)
    assert said[-1] == "the learning rate is scaled with the batch by 0.25: lr 5e-07 instead of 2e-06"
    given, said = read_train_recipe("finetune-k400-b16", ["batch_size=64", "lr=2e-6"])
    assert (given.optim.lr, given.optim.end_lr) == (2e-6, 1e-6)
    assert not any("scaled" in sentence for sentence in said)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("lrr=1e-5", "--set: unknown key 'lrr'; did you mean 'optim.lr'?"),
        ("epoch=3", "--set: unknown key 'epoch'; did you mean 'optim.epochs'?"),
        ("test_crops=1", "--set: unknown key 'test_crops'; did you mean 'validate.crops'?"),
        ("epochs=many", "--set: optim.epochs must be int, not 'many'"),
        ("epochs=1.5", "--set: optim.epochs must be int, not 1.5"),
        ("epochs=true", "--set: optim.epochs must be int, not True"),
        ("lr=fast", "--set: optim.lr must be float, not 'fast'"),
        ("lr=true", "--set: optim.lr must be float, not True"),
        ("lr=nan", "--set: optim.lr must lie between 0 and 10, not nan"),
        ("lr=-1", "--set: optim.lr must lie between 0 and 10, not -1.0"),
        ("lr=[1", "--set 'lr=[1': the value is not YAML"),
        ("lr=2026-99-99", "--set 'lr=2026-99-99': the value is not YAML"),
        ("max_aspect=.inf", "--set: augment.max_aspect must lie between 0.001 and 1000.0, not inf"),
        ("epochs=2026-99-99", "--set 'epochs=2026-99-99': the value is not YAML"),
        ("epochs=" + 3000 * "[", "--set 'epochs=[["),
        ("randaugment=7", "--set: augment.randaugment must be str or nothing (null), not 7"),
        ("view=K-500", "--set: data.view must be k710 or the name of a source, not 'K-500'"),
        ("precision=int8", "--set: optim.precision must be one of bf16, fp16, fp32, not 'int8'"),
        ("epochs=-1", "--set: optim.epochs must lie between 0 and 100000, not -1"),
        ("epochs=0", "--set: optim.epochs is 0 and optim.steps 0; one of them says how long"),
        ("steps=100", "--set: optim.epochs is 55 and optim.steps 100; one of them says how long"),
        ("sampling=uniform", "--set: unknown frame sampling 'uniform'; known: sparse, dense"),
        ("sampling=dense", "--set: stride is None; dense and window sampling need one of at least 1"),
        ("stride=4", "--set: stride is 4; dense and window sampling need one of at least 1, sparse takes none"),
        ("warmup_epochs=60", "--set: optim.warmup_epochs is 60.0, and there are 55 epochs"),
        ("crops=2", "--set: validate.crops must be 1 or 3, not 2"),
        ("head=remap", "--set: model.head: remap takes rows of a checkpoint's head, and model.start is clip"),
    ],
)
def test_a_change_that_cannot_be_is_refused(change, message):
    with pytest.raises(UsageError) as refused:
        read_train_recipe("pretrain-k710-b16", [change])
    assert str(refused.value).startswith(message)


def test_a_change_has_the_form_key_equals_value():
    for change in ("lr", "=3", " =3"):
        with pytest.raises(UsageError, match="want KEY=VALUE, such as lr=1e-5"):
            parse_changes([change], recipe("pretrain-k710-b16"))


def test_a_recipe_of_ones_own(tmp_path):
    text = read_recipe_text("train", "pretrain-k710-b16").whole()
    own = tmp_path / "own.yaml"
    own.write_text(text.replace("lr: 1.0e-5 ", "lr: 1e-5 "), encoding="utf-8")  # which YAML 1.1 takes for text
    assert recipe(str(own)) == recipe("pretrain-k710-b16")
    own.write_text("extends: pretrain-k710-b16\noptim: {lr: 1.0e-3}\n")
    assert recipe(str(own)) == recipe("pretrain-k710-b16").replace({"optim.lr": 1e-3})
    (tmp_path / "grandchild.yaml").write_text("extends: own.yaml\n")
    with pytest.raises(RecipeError, match=r"extends own\.yaml, which extends 'pretrain-k710-b16' itself"):
        recipe(str(tmp_path / "grandchild.yaml"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "child.yaml").write_text("extends: ../base.yaml\noptim: {lr: 1.0e-3}\n")
    (tmp_path / "base.yaml").write_text(text)
    child = recipe(str(tmp_path / "mine" / "child.yaml"))
    assert child == recipe("pretrain-k710-b16").replace({"optim.lr": 1e-3})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "own.yaml: a recipe maps keys to values"),
        ("extends: [a, b]", "own.yaml: extends must be the name of one recipe, not ['a', 'b']"),
        ("extends: base/uniformerv1", "own.yaml: extends 'base/uniformerv1', which is not a recipe; known: clip"),
        ("extends: whole.yaml\noptim: {lr: [1.0e-5]}", "own.yaml: optim: lr must be float, not [1e-05]"),
        ("extends: whole.yaml\noptim: {lrr: 1.0e-5}", "own.yaml: optim: unknown key 'lrr'; did you mean 'lr'?"),
        ("extends: whole.yaml\noptin: {lr: 1.0e-5}", "own.yaml: unknown key 'optin'; did you mean 'optim'?"),
        ("extends: whole.yaml\noptim: 3", "own.yaml: optim maps keys to values; this one does not"),
        ("extends: whole.yaml\nmodel: {head_dropuot: 0.1}", "unknown key 'head_dropuot'; did you mean 'head_dropout'?"),
        ("extends: whole.yaml\nmodel: {family: evil}", "own.yaml: model.family must be one of uniformerv2"),
        ("extends: whole.yaml\nmodel: {frozen: 1}", "own.yaml: model: frozen must be bool, not 1"),
        ("extends: base/uniformerv2", "own.yaml: data: view, num_frames, size_px must be given; it has no default"),
        ("optim: {lr: 1.0, lr: 2.0}", "own.yaml: key 'lr' appears twice"),
        ("optim: {lr: 1.0}\noptim: {lr: 2.0}", "own.yaml: key 'optim' appears twice"),
    ],
)  # fmt: skip
def test_a_recipe_that_cannot_be_is_refused(text, message, tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text(text)
    (tmp_path / "whole.yaml").write_text(read_recipe_text("train", "tiny-k710").whole())
    with pytest.raises(RecipeError) as refused:
        recipe(str(own))
    assert message in str(refused.value)


def test_the_list_names_every_recipe(k710):
    result = k710("recipes")
    for name in GIVEN:
        assert re.search(rf"^  {name}  +{TITLES[FAMILY_OF[name]]}", result.output, re.MULTILINE)
    printed = k710("recipes", "finetune-k400-b16").output
    assert printed == read_recipe_text("train", "finetune-k400-b16").whole()
    assert re.search(r"^  seed: |^seed: 6666 +# RNG_SEED \[uniformerv2\]$", printed, re.MULTILINE)
    assert re.search(
        r"^  lr: 2.0e-6 +# exp/k400/k400\+k710_b16_f8x224/run.sh: SOLVER.BASE_LR, as it is$", printed, re.MULTILINE
    )
    assert "extends" not in printed
