"""VideoMAE V2's recipes: complete, sourced, and the numbers of the released scripts and of the supplement's tables."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from k710.lists.labels import class_names
from k710.loading.augment.mix import Mix
from k710.models.families import FAMILIES
from k710.models.videomaev2.config import PRESETS
from k710.models.videomaev2.family import VIDEOMAEV2
from k710.models.videomaev2.model import VideoMAEV2
from k710.models.videomaev2.pretrain import MaskedVideoMAEV2
from k710.models.videomaev2.pretrain_config import PRESETS as PRETRAIN_PRESETS
from k710.models.videomaev2.pretrain_family import VIDEOMAEV2_PRETRAIN
from k710.recipes import read_recipe_text, recipe_files, resource
from k710.train.optimizer import learning_rate, parameter_groups
from k710.train.read_recipe import read_train_recipe, train_recipe_from
from k710.train.recipe import TrainRecipe, augment_of, mix_of
from k710.train.start import config_of_recipe

GIVEN = {name: path for name, path in recipe_files("train").items() if "videomae" in name}


def recipe(name: str, *changes: str) -> TrainRecipe:
    return read_train_recipe(name, changes)[0]


@pytest.mark.parametrize("name", GIVEN)
def test_every_value_stands_there_with_its_source(name):
    found, given = read_recipe_text("train", name), recipe(name).flat()
    assert found.values.keys() - {"augment.randaugment"} == given.keys() - {"augment.randaugment"}
    assert found.title.startswith("VideoMAE V2")
    assert all(value.comment for value in found.values.values()), "a value without its source"
    base = "videomaev2-tiny" if name.startswith("tiny") else "videomaev2"
    base = "videomaev2-pretrain" if "-pretrain" in name else base
    shared = read_recipe_text("train", str(resource("pipelines", "train", f"base/{base}.yaml"))).values
    own = {key: value for key, value in found.values.items() if value.file == GIVEN[name]}
    assert all(key not in shared or shared[key].text != value.text for key, value in own.items())
    assert train_recipe_from(recipe(name).as_dict(), "written whole") == recipe(name)


# Script's rate, videos of a step, epochs, warmup, decay of weights and layers, drop path, dropout, clipping.
RELEASED = {
    "videomae-k710-b": (7e-4, 512, 90, 5, 0.05, 0.75, 0.1, 0.0, 0.0),
    "videomae-k710-h": (1e-3, 128, 40, 5, 0.05, 0.8, 0.2, 0.5, 0.0),
    "videomae-k710-g": (1e-3, 96, 35, 5, 0.1, 0.9, 0.3, 0.0, 5.0),
    "videomae-k400-g": (1e-5, 96, 3, 1, 0.1, 0.9, 0.25, 0.0, 0.0),
    "videomae-k600-g": (1e-5, 96, 3, 1, 0.1, 0.9, 0.25, 0.0, 0.0),
    "videomae-k700-g": (1e-5, 96, 3, 1, 0.1, 0.9, 0.25, 0.0, 0.0),
    "videomae-ssv2-b": (2e-3, 256, 25, 5, 0.05, 0.65, 0.1, 0.0, 0.0),
    "videomae-ssv2-l": (5e-4, 192, 20, 5, 0.05, 0.75, 0.2, 0.0, 0.0),
    "videomae-ssv2-h": (5e-4, 128, 20, 5, 0.05, 0.8, 0.2, 0.0, 0.0),
    "videomae-ssv2-g": (3e-4, 96, 20, 5, 0.05, 0.9, 0.25, 0.0, 0.0),
    "videomae-ucf101-g": (1e-3, 24, 50, 5, 0.05, 0.9, 0.35, 0.5, 0.0),
    "videomae-hmdb51-g": (5e-4, 24, 15, 5, 0.05, 0.9, 0.35, 0.5, 0.0),
}
# The supplement's Tables 3, 5 and 10: the same columns.
PAPER = {
    "videomae-k710-h-paper": (1e-3, 128, 40, 5, 0.05, 0.8, 0.2, 0.5, 0.0),
    "videomae-k710-g-paper": (1e-3, 128, 35, 5, 0.1, 0.9, 0.3, 0.0, 5.0),
    "videomae-k400-g-paper": (1e-5, 32, 3, 0, 0.05, 0.9, 0.3, 0.5, 0.0),
    "videomae-k400-g-64f-266-paper": (1e-4, 32, 5, 0, 0.05, 0.9, 0.35, 0.5, 0.0),
    "videomae-ssv2-g-paper": (3e-4, 96, 10, 5, 0.05, 0.9, 0.35, 0.5, 0.0),
    "videomae-ucf101-g-paper": (1e-3, 24, 50, 5, 0.05, 0.9, 0.35, 0.5, 0.0),
    "videomae-hmdb51-g-paper": (5e-4, 24, 15, 5, 0.05, 0.9, 0.35, 0.5, 0.0),
}
TABLE_10 = (1e-3, 1024, 100, 5, 0.05, 0.75, 0.1, 0.0, 1.0)


def numbers(given: TrainRecipe) -> tuple[float, ...]:
    """The same columns, of a recipe: its rates are the script's times the videos of a step over 256."""
    optim, videos = given.optim, given.optim.batch_size // given.data.num_repeats
    assert optim.end_lr == pytest.approx(1e-6 * videos / 256)
    return (
        optim.lr * 256 / videos, videos, optim.epochs, optim.warmup_epochs, optim.weight_decay, optim.layer_decay,
        given.model.options["drop_path"], given.model.options["head_dropout"], optim.clip_grad,
    )  # fmt: skip


@pytest.mark.parametrize("name", [*RELEASED, *PAPER])
def test_a_finetune_is_what_was_released_or_printed(name):
    given = recipe(name)
    assert numbers(given) == pytest.approx((RELEASED | PAPER)[name])
    assert given.augment.crop == ("multi_scale" if name in PAPER else "random_resized")
    assert (given.optim.beta1, given.optim.beta2, given.optim.label_smoothing) == (0.9, 0.999, 0.1)
    assert (given.augment.mixup_alpha, given.augment.cutmix_alpha, given.augment.erase_prob) == (0.8, 1.0, 0.25)
    assert (given.data.num_repeats, given.optim.start_lr, given.seed) == (2, 0.0, 0)
    assert given.model.head == ("remap" if given.data.view in ("k400", "k600", "k700") else "new")
    assert (given.validate.clips, given.validate.crops) == ((2 if "64f" in name or "ssv2" in name else 5), 3)
    assert FAMILIES["videomaev2"].sampling.options() == {"method": "window", "stride": 4}


@pytest.mark.parametrize("name", [name for name in RELEASED | PAPER if "-k" not in name])
def test_frames_and_mirroring_are_those_of_the_data_set(name):
    """Frames of Something-Something are spread over the clip, those of HMDB51 are 2 apart; SSv2 is not mirrored."""
    given = recipe(name)
    of_view = {"ssv2": ("sparse", None, 0.0), "ucf101_1": ("window", 4, 0.5), "hmdb51_1": ("window", 2, 0.5)}
    sampling = given.sampling.options()
    assert (sampling["method"], sampling["stride"], given.augment.flip_prob) == of_view[given.data.view]
    assert (given.model.start, given.data.num_frames, given.data.size_px) == ("checkpoint", 16, 224)
    letter = name.removesuffix("-paper")[-1]
    assert given.model.preset == {"b": "base", "l": "large", "h": "huge", "g": "giant"}[letter]


@pytest.mark.parametrize("size", ["", "-paper", "-64f-266-paper"])
def test_releases_are_finetuned_alike(size):
    first = recipe(f"videomae-k400-g{size}")
    for view in ("k600", "k700"):
        assert recipe(f"videomae-{view}-g{size}") == first.replace({"data.view": view})
        assert len(class_names(view)) == int(view[1:])


@pytest.mark.parametrize(("letter", "preset"), [("s", "small"), ("b", "base")])
def test_distillation_is_table_10(letter, preset):
    given = recipe(f"videomae-distill-k710-{letter}")
    assert numbers(given) == pytest.approx(TABLE_10)
    assert (given.objective, given.optim.distill_temperature, given.model.preset) == ("distill", 3.0, preset)
    assert (given.augment.mixup_alpha, given.augment.cutmix_alpha, given.augment.crop) == (0.8, 1.0, "multi_scale")
    assert given.data.num_repeats == 1


# Script's rate, videos of a step, epochs, warmup, clipping; of S there is no script, and the rest of H is Table 4's.
PRETRAINED = {
    "s": (1e-3, 1024, 200, 20, 0.0),
    "b": (1e-3, 1024, 200, 20, 0.0),
    "l": (1e-3, 1536, 300, 30, 0.0),
    "h": (1e-3, 2048, 300, 30, 0.02),
    "g": (6e-4, 2048, 300, 30, 0.02),
    "h-paper": (6e-4, 2048, 300, 30, 0.02),
}


@pytest.mark.parametrize("size", PRETRAINED)
def test_a_pretraining_is_what_was_released_or_printed(size):
    """Supplement, Table 4, counts repeats: a rate of 1.5e-4 for 8192 clips, 1200 epochs, 120 of warmup."""
    given = recipe(f"videomae-pretrain-{size}")
    optim, config = given.optim, config_of_recipe(given)
    videos = optim.batch_size // given.data.num_repeats
    found = (optim.lr * 256 / videos, videos, optim.epochs, optim.warmup_epochs, optim.clip_grad)
    assert found == pytest.approx(PRETRAINED[size])
    assert optim.end_lr == pytest.approx(1e-5 * videos / 256)
    assert (optim.beta1, optim.beta2, optim.weight_decay, optim.start_lr) == (0.9, 0.95, 0.05, 0.0)
    assert (given.data.num_repeats, given.sampling.options()) == (4, {"method": "window", "stride": 4})
    assert (given.augment.crop, given.augment.flip_prob) == ("multi_scale", 0.0)
    assert (given.objective, given.model.head) == ("reconstruct", "none")
    assert (config.mask_ratio, config.decoder_mask_ratio, config.decoder_layers) == (0.9, 0.5, 4)
    if size in ("g", "h-paper"):
        assert optim.lr == pytest.approx(1.5e-4 * 8192 / 256)
        assert (optim.epochs * 4, optim.warmup_epochs * 4) == (1200, 120)


def test_the_mask_token_does_not_decay():
    groups = parameter_groups(
        MaskedVideoMAEV2(PRETRAIN_PRESETS["tiny"]), VIDEOMAEV2_PRETRAIN, recipe("videomae-pretrain-b").optim
    )
    decays = {name: group["weight_decay"] for group in groups for name in group["names"]}
    assert decays["mask_token"] == decays["encoder.norm.bias"] == 0
    assert decays["encoder_to_decoder.weight"] == 0.05


@pytest.mark.parametrize("name", GIVEN)
def test_it_can_be_augmented(name):
    given = recipe(name)
    assert augment_of(given).mean == (0.485, 0.456, 0.406)
    mixes = not name.startswith("tiny") and "-pretrain" not in name
    mix = Mix(0.8, 1.0, per="batch") if mixes else None
    assert mix_of(given) == mix


def test_learning_rates_are_the_released_codes():
    """utils.cosine_scheduler: numpy.linspace over the warmup's steps, both ends included, then half a cosine."""
    given, steps = recipe("videomae-k710-b").optim, 7
    warmup = np.linspace(0, given.lr, int(given.warmup_epochs) * steps)
    length = (given.epochs - int(given.warmup_epochs)) * steps
    cosine = [given.end_lr + 0.5 * (given.lr - given.end_lr) * (1 + np.cos(np.pi * i / length)) for i in range(length)]
    expected = [*warmup, *cosine]
    found = [learning_rate(given, step // steps + step % steps / steps, steps) for step in range(len(expected))]
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-12)
    assert found[34] == pytest.approx(given.lr), "the last step of the warmup has the rate"
    one_step = replace(given, warmup_epochs=1.0)
    assert learning_rate(one_step, 0.0, 1) == 0, "linspace of one point is its start"


def test_groups_are_the_published_ones():
    """Everything of one dimension is not decayed; rates fall by the layer's distance from the head."""
    model = VideoMAEV2(replace(PRESETS["tiny"], layer_scale=0.1))
    groups = parameter_groups(model, VIDEOMAEV2, recipe("videomae-k710-g").optim)
    facts = {name: (group["weight_decay"], group["lr_scale"]) for group in groups for name in group["names"]}
    assert facts.keys() == dict(model.named_parameters()).keys()
    for name, parameter in model.named_parameters():
        assert facts[name][0] == (0.1 if parameter.ndim > 1 else 0.0), name
    assert facts["head.weight"][1] == facts["fc_norm.weight"][1] == 1
    assert facts["blocks.2.attn.q_bias"][1] == pytest.approx(0.9)
    assert facts["blocks.0.mlp.fc1.weight"][1] == pytest.approx(0.9**3)
    assert facts["patch_embed.proj.weight"][1] == pytest.approx(0.9**4)
