"""Training recipes: complete, sourced, and the numbers of the released scripts and of the paper's Table 11."""

from __future__ import annotations

import csv
import dataclasses
import json
import re
from pathlib import Path

import pytest
import torch
import yaml

from k710.errors import RecipeError, UsageError
from k710.lists.labels import class_names
from k710.models.uniformerv2.config import PRESETS, preset
from k710.models.uniformerv2.model import UniFormerV2
from k710.recipes import recipe_files
from k710.train.optimizer import layer_of, make_optimizer, parameter_groups, set_learning_rate
from k710.train.recipe import TrainRecipe, parse_changes, read_train_recipe
from k710.train.schedule import learning_rate

HERE = Path(__file__).parent
GIVEN = recipe_files("train")
KEYS = [field.name for field in dataclasses.fields(TrainRecipe)]
PUBLISHED = [name for name in GIVEN if not name.startswith("tiny-")]


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
    text = GIVEN[name].read_text(encoding="utf-8")
    assert set(yaml.safe_load(text)) == set(KEYS), "a recipe inherits from none"
    assert text.startswith("# UniFormerV2")
    for line in text.splitlines():
        assert not re.match(r"\w", line) or "  # " in line, f"no source: {line}"
        assert len(line) <= 120


@pytest.mark.parametrize("name", GIVEN)
def test_every_recipe_can_be_used(name):
    given = recipe(name)
    config = preset(given.model)
    assert (config.size_px, config.frozen) == (given.size_px, given.frozen)
    assert given.batch_size % given.gpu_batch_size == 0
    assert class_names(given.view)


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
    assert given.batch_size == nodes * node_batch
    assert given.gpu_batch_size == node_batch // gpus
    assert (given.lr, given.epochs, given.warmup_epochs) == (
        float(row["lr"]), int(row["epochs"]), float(row["warmup_epochs"]),
    )  # fmt: skip
    for key in ("num_frames", "test_clips", "test_crops", "checkpoint_blocks"):
        assert getattr(given, key) == int(row[key]), key
    assert given.size_px == int(row["crop_px"])
    assert len(class_names(given.view)) == int(row["num_classes"])
    assert given.frozen == (row["frozen"] == "1")
    assert given.start == ("checkpoint" if row["from_k710"] == "1" else "clip")
    assert given.head == ("remap" if row["from_k710"] == "1" and row["head_dropped"] == "0" else "new")
    backbone = {"uniformerv2_b16": "B/16"}.get(row["backbone"], "L/14")
    assert PRESETS[given.model].backbone == backbone
    assert (given.start_lr, given.end_lr, given.weight_decay, given.seed) == (1e-6, 1e-6, 0.05, 6666)
    assert (given.color_jitter, given.clip_grad) == (0.0, 20.0)


def test_k400_keeps_the_head_unless_asked():
    for name in PUBLISHED:
        if name.startswith("finetune-k400") and not name.endswith(("-as-released", "-paper")) and "frozen" not in name:
            ours, theirs = recipe(name), recipe(f"{name}-as-released")
            assert (ours.head, theirs.head) == ("remap", "new")
            assert dataclasses.replace(ours, head="new") == theirs


# Table 11: batch size, rate of the base and the large model, warmup, epochs of both.
TABLE_11 = {"pretrain": (512, 2e-5, 1e-5, 5, 55, 40), "finetune": (256, 2e-6, 1.5e-6, 1, 5, 5)}


@pytest.mark.parametrize("name", [name for name in PUBLISHED if name.endswith("-paper")])
def test_a_paper_recipe_is_table_11(name):
    given, as_released = recipe(name), recipe(name.removesuffix("-paper"))
    batch, base, large, warmup, epochs, large_epochs = TABLE_11["finetune" if name.startswith("fine") else "pretrain"]
    is_base = "-b16" in name
    rate, warmup = (4e-4, 0) if given.frozen else (base if is_base else large, warmup)
    assert (given.batch_size, given.lr, given.warmup_epochs) == (batch, rate, warmup)
    assert given.epochs == (epochs if is_base else large_epochs)
    assert (given.color_jitter, given.weight_decay) == (0.4, 0.05)
    assert given.head == ("remap" if name.startswith("finetune") else "new")
    same = ("model", "num_frames", "view", "start", "test_clips", "test_crops", "precision", "gpu_batch_size")
    assert all(getattr(given, key) == getattr(as_released, key) for key in same)


@pytest.mark.parametrize(("name", "facts"), json.loads((HERE / "released_learning_rates.json").read_text()).items())
def test_learning_rates_are_the_released_codes(name, facts):
    given = dataclasses.replace(
        recipe("pretrain-k710-b16"),
        lr=facts["BASE_LR"],
        warmup_epochs=facts["WARMUP_EPOCHS"],
        epochs=facts["MAX_EPOCH"],
    )
    for epoch, rate in facts["points"]:
        assert learning_rate(given, epoch) == pytest.approx(rate, rel=1e-7), (name, epoch)


def test_groups_are_the_published_ones():
    model = UniFormerV2(preset("tiny", local="double"))
    groups = parameter_groups(model, recipe("pretrain-k710-b16"))
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
    scale_of = {name: group["lr_scale"] for group in parameter_groups(model, given) for name in group["names"]}
    assert scale_of["transformer.proj.2.weight"] == scale_of["transformer.dec.0.mlp.c_fc.weight"] == 1
    assert scale_of["transformer.resblocks.3.attn.in_proj_weight"] == 0.5
    assert scale_of["transformer.resblocks.0.attn.in_proj_weight"] == 0.5**4
    assert scale_of["conv1.weight"] == scale_of["positional_embedding"] == 0.5**5
    assert layer_of("transformer.resblocks.11.ln_1.weight", 12) == 12
    optimizer = make_optimizer(model, given)
    set_learning_rate(optimizer, 1e-3)
    assert {group["lr"] for group in optimizer.param_groups} == {1e-3 * 0.5**power for power in range(6)}


def test_a_frozen_backbone_is_not_trained():
    model = UniFormerV2(preset("kinetics_l14_336_frozen", backbone="tiny", size_px=32, global_after=(2, 3)))
    names = {n for group in parameter_groups(model, recipe("pretrain-k710-b16")) for n in group["names"]}
    assert names
    assert all(name.startswith(("transformer.d", "transformer.proj", "transformer.temporal")) for name in names)
    assert isinstance(make_optimizer(model, recipe("pretrain-k710-b16")), torch.optim.AdamW)


def test_set_changes_a_recipe_and_says_so():
    given, said = read_train_recipe("finetune-k400-b16", ["lr=1e-5", "randaugment=null", "frozen=true", "clip_grad=0"])
    assert (given.lr, given.randaugment, given.frozen, given.clip_grad) == (1e-5, None, True, 0.0)
    assert said[0] == "lr is 1e-05, not the recipe's 2e-06"


def test_the_rate_is_scaled_only_when_the_user_changes_the_batch():
    given, said = read_train_recipe("finetune-k400-b16", ["batch_size=64"])
    assert (given.batch_size, given.lr, given.end_lr) == (64, 5e-7, 2.5e-7)
    assert said[-1] == "the learning rate is scaled with the batch by 0.25: lr 5e-07 instead of 2e-06"
    given, said = read_train_recipe("finetune-k400-b16", ["batch_size=64", "lr=2e-6"])
    assert (given.lr, given.end_lr) == (2e-6, 1e-6)
    assert not any("scaled" in sentence for sentence in said)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("lrr=1e-5", "--set: unknown key 'lrr'; did you mean 'lr'?"),
        ("epoch=3", "--set: unknown key 'epoch'; did you mean 'epochs'?"),
        ("epochs=many", "--set: epochs must be int, not 'many'"),
        ("epochs=1.5", "--set: epochs must be int, not 1.5"),
        ("epochs=true", "--set: epochs must be int, not True"),
        ("lr=fast", "--set: lr must be float, not 'fast'"),
        ("lr=true", "--set: lr must be float, not True"),
        ("lr=nan", "--set: lr must lie between 0 and 10, not nan"),
        ("lr=-1", "--set: lr must lie between 0 and 10, not -1.0"),
        ("lr=[1", "--set 'lr=[1': the value is not YAML"),
        ("lr=2026-99-99", "--set 'lr=2026-99-99': the value is not YAML"),
        ("max_aspect=.inf", "--set: max_aspect must lie between 0.001 and 1000.0, not inf"),
        ("epochs=2026-99-99", "--set 'epochs=2026-99-99': the value is not YAML"),
        ("epochs=" + 3000 * "[", "--set 'epochs=[["),
        ("randaugment=7", "--set: randaugment must be str or nothing (null), not 7"),
        ("view=k500", "--set: view must be one of k710, k400, k600, k700, k700_2020, not 'k500'"),
        ("precision=int8", "--set: precision must be one of bf16, fp16, fp32, not 'int8'"),
        ("epochs=0", "--set: epochs must lie between 1 and 100000, not 0"),
        ("warmup_epochs=60", "--set: warmup_epochs is 60.0, and there are 55 epochs"),
        ("test_crops=2", "--set: test_crops must be 1 or 3, not 2"),
        ("head=remap", "--set: head: remap takes rows of a checkpoint's head, and start is clip"),
    ],
)
def test_a_change_that_cannot_be_is_refused(change, message):
    with pytest.raises(UsageError) as refused:
        read_train_recipe("pretrain-k710-b16", [change])
    assert str(refused.value).startswith(message)


def test_a_change_has_the_form_key_equals_value():
    for change in ("lr", "=3", " =3"):
        with pytest.raises(UsageError, match="want KEY=VALUE, such as lr=1e-5"):
            parse_changes([change])


def test_a_recipe_of_ones_own(tmp_path):
    text = GIVEN["pretrain-k710-b16"].read_text(encoding="utf-8")
    own = tmp_path / "own.yaml"
    own.write_text(text.replace("lr: 1.0e-5 ", "lr: 1e-5 "), encoding="utf-8")  # which YAML 1.1 takes for text
    assert recipe(str(own)) == recipe("pretrain-k710-b16")
    own.write_text("view: k400\n")
    with pytest.raises(RecipeError, match=r"model, size_px, num_frames, .* must be given; it has no default"):
        recipe(str(own))
    own.write_text(text.replace("lr: 1.0e-5", "lr: [1.0e-5]"), encoding="utf-8")
    with pytest.raises(RecipeError, match=r"own\.yaml: lr must be float, not \[1e-05\]"):
        recipe(str(own))


def test_the_list_names_every_recipe(k710):
    result = k710("recipes")
    assert all(re.search(rf"^  {name}  +UniFormerV2", result.output, re.MULTILINE) for name in GIVEN)
    assert k710("recipes", "finetune-k400-b16").output == GIVEN["finetune-k400-b16"].read_text(encoding="utf-8")
