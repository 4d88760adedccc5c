"""EVL's recipes: the numbers of the released scripts and of the paper's appendix A, and how they are trained."""

from __future__ import annotations

import json
import math

import pytest
import torch

from k710.models.evl.family import EVL
from k710.models.evl.model import Evl
from k710.recipes import recipe_files
from k710.train.optimizer import learning_rate, make_optimizer
from k710.train.read_recipe import read_train_recipe
from k710.train.recipe import TrainRecipe

# scripts/train_k400_*.sh: backbone, frames, --sampling_rate, --batch_split, --num_temporal_views, --num_spatial_views.
RELEASED = {
    "evl-k400-b16": ("B/16", 8, 16, 1, 3, 1),
    "evl-k400-b16-16f": ("B/16", 16, 16, 1, 1, 3),
    "evl-k400-b16-32f": ("B/16", 32, 8, 1, 1, 3),
    "evl-k400-l14": ("L/14", 8, 16, 1, 3, 1),
    "evl-k400-l14-16f": ("L/14", 16, 16, 2, 1, 3),
    "evl-k400-l14-32f": ("L/14", 32, 8, 2, 1, 3),
}
# Table 9: frames, preset, decoder layers (appendix A).
SSV2 = {
    "evl-ssv2-b16": (8, "ssv2_b16", 12),
    "evl-ssv2-b16-16f": (16, "ssv2_b16", 12),
    "evl-ssv2-b16-32f": (32, "ssv2_b16", 12),
    "evl-ssv2-l14": (8, "ssv2_l14", 24),
    "evl-ssv2-l14-32f": (32, "ssv2_l14", 24),
    "evl-ssv2-l14-336-32f": (32, "ssv2_l14_336", 24),
}
# Appendix B: the preset, and the steps.
SMALL = {
    f"evl-{source}-{size}-32f": (source, preset, steps)
    for source in ("ucf101", "hmdb51")
    for size, preset, steps in (("l14", "kinetics_l14", 600), ("l14-336", "kinetics_l14_336", 1000))
}
NAMES = [name for name in recipe_files("train") if name.startswith("evl-")]


def recipe(name: str, *changes: str) -> TrainRecipe:
    return read_train_recipe(name, changes)[0]


@pytest.mark.parametrize("name", RELEASED)
def test_a_recipe_is_what_the_released_script_ran(name):
    backbone, frames, stride, split, clips, crops = RELEASED[name]
    given = recipe(name)
    config = given.model.config(given.data, 400)
    assert (config.backbone, config.num_frames, config.decoder_layers) == (backbone, frames, 4)
    assert (config.qkv_width, config.decoder_heads) == {"B/16": (768, 12), "L/14": (1024, 16)}[backbone]
    assert given.sampling.options() == {"method": "dense", "stride": stride}
    assert given.optim.batch_size == 256 == given.optim.gpu_batch_size * split * 8
    assert (given.validate.clips, given.validate.crops, given.augment.flip_prob) == (clips, crops, 0.0)
    assert EVL.sampling.of(frames) == given.sampling, "a released checkpoint is seen as it was trained"


@pytest.mark.parametrize("name", NAMES)
def test_what_all_have(name):
    given = recipe(name)
    optim = given.optim
    steps = SMALL[name][2] if name in SMALL else 30000 if name in SSV2 else 50000
    assert (optim.lr, optim.end_lr, optim.steps, optim.epochs, optim.warmup_epochs) == (4e-4, 0.0, steps, 0, 0.0)
    assert (optim.weight_decay, optim.decay_vectors, optim.clip_grad) == (0.05, True, 0.0)
    config = given.model.config(given.data, 400)
    assert config.frozen
    assert not config.keeps_backbone
    assert (config.mlp_dropout, config.head_dropout) == (0.5, 0.5)
    assert config.temporal_conv
    assert config.temporal_positions
    assert config.temporal_attention
    assert given.augment.randaugment == "rand-m7-n4-mstd0.5-inc1"
    assert (given.augment.min_area, given.augment.max_area) == (0.08, 1.0)


@pytest.mark.parametrize("name", SSV2)
def test_something_something_is_as_the_appendix_sets_it_apart(name):
    frames, preset, layers = SSV2[name]
    given = recipe(name)
    config = given.model.config(given.data, 174)
    assert config == EVL.config(preset, num_frames=frames, num_classes=174)
    assert (config.decoder_layers, given.data.view) == (layers, "ssv2")
    assert given.sampling.options() == {"method": "sparse", "stride": None}
    assert (given.validate.clips, given.validate.crops, given.augment.flip_prob) == (1, 3, 0.0)
    assert given.optim.batch_size == 256


def test_something_something_has_a_recipe_for_each_row_of_table_9():
    assert {name for name in NAMES if "ssv2" in name} == SSV2.keys()


@pytest.mark.parametrize("name", SMALL)
def test_ucf101_and_hmdb51_are_as_appendix_b_has_them(name):
    source, preset, _ = SMALL[name]
    given = recipe(name)
    assert given.model.config(given.data, 400) == EVL.config(preset, num_frames=32, num_classes=400)
    assert (given.data.view, given.model.start, given.model.head) == (f"{source}_1", "checkpoint", "new")
    assert given.sampling.options() == {"method": "dense", "stride": 2}
    assert (given.validate.clips, given.validate.crops, given.augment.flip_prob) == (2, 3, 0.5)
    assert (given.optim.pretrained_lr_scale, given.optim.pretrained_decay_scale) == (0.1, 0.1)
    assert recipe(name, f"view={source}_3").data.view == f"{source}_3"


def test_on_kinetics_and_something_something_all_weights_have_one_rate():
    for name in set(NAMES) - SMALL.keys():
        assert not recipe(name).optim.scales_pretrained


def test_pretrained_weights_have_a_tenth_of_rate_and_decay():
    model, optim = Evl(EVL.config("tiny")), recipe("evl-ucf101-l14-32f").optim
    head = ("proj.2.weight", "proj.2.bias")
    groups = {tuple(group["names"]): group for group in make_optimizer(model, EVL, optim, head).param_groups}
    assert (groups[head]["lr"], groups[head]["weight_decay"]) == (4e-4, 0.05)
    (others,) = (group for names, group in groups.items() if names != head)
    assert (others["lr"], others["weight_decay"]) == (pytest.approx(4e-5), pytest.approx(5e-3))


def test_the_papers_differ_by_what_the_paper_says():
    papers = [name for name in NAMES if name.endswith("-paper")]
    assert {name.removesuffix("-paper") for name in papers} == RELEASED.keys()
    for name in papers:
        paper, released = recipe(name), recipe(name.removesuffix("-paper"))
        assert (paper.augment.flip_prob, paper.validate.clips, paper.validate.crops) == (0.5, 3, 1)
        same = {"augment.flip_prob": 0.0, "validate.clips": released.validate.clips}
        assert paper.replace({**same, "validate.crops": released.validate.crops}) == released


def test_the_rate_is_the_releases_cosine_of_steps():
    """CosineAnnealingLR(T_max=50000), stepped once after each step."""
    optim, per_epoch = recipe("evl-k400-b16").optim, 939  # of 240,436 clips
    weight = torch.nn.Parameter(torch.zeros(()))
    theirs = torch.optim.AdamW([weight], lr=4e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(theirs, T_max=50000)
    for step in range(4000):
        rate = learning_rate(optim, step // per_epoch + step % per_epoch / per_epoch, epochs=50000 / per_epoch)
        assert rate == pytest.approx(theirs.param_groups[0]["lr"], rel=1e-9)
        theirs.step()
        schedule.step()
    assert learning_rate(optim, 49999 / per_epoch, epochs=50000 / per_epoch) == pytest.approx(
        2e-4 * (1 + math.cos(math.pi * 49999 / 50000)), rel=1e-6
    )


def test_every_trained_tensor_is_decayed_and_the_tower_is_in_no_group():
    model = Evl(EVL.config("tiny"))
    (group,) = make_optimizer(model, EVL, recipe("evl-k400-b16").optim).param_groups
    assert (group["weight_decay"], group["lr"]) == (0.05, 4e-4)
    assert set(group["names"]) == model.state_dict().keys()
    with_vectors_kept = make_optimizer(model, EVL, recipe("evl-k400-b16", "decay_vectors=false").optim).param_groups
    assert {one["weight_decay"] for one in with_vectors_kept} == {0.0, 0.05}


def test_layers_decay_from_the_decoder_down_where_all_is_trained():
    model = Evl(EVL.config("tiny", frozen=False))
    groups = make_optimizer(model, EVL, recipe("evl-k400-b16", "layer_decay=0.5").optim).param_groups
    scales = {name: group["lr_scale"] for group in groups for name in group["names"]}
    assert scales["proj.2.weight"] == scales["decoder.cls_token"] == 1
    assert scales["backbone.blocks.3.norm1.weight"] == 0.5
    assert scales["backbone.blocks.0.attn.q_proj.weight"] == 0.5**4
    assert scales["backbone.pos_embed"] == scales["backbone.patch_embed.proj.bias"] == 0.5**5


def test_its_recipes_are_listed_and_printed_whole(k710):
    listed = k710("recipes").output
    assert all(f"  {name} " in listed for name in NAMES)
    printed = k710("recipes", "evl-k400-l14-32f").output
    assert "--batch_split 2" in printed
    assert json.dumps("evl") not in printed
    assert "[evl]" in printed
