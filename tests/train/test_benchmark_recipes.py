"""Recipes of other benchmarks than Kinetics: UniFormerV2's numbers, and that views of such sources are trained on."""

from __future__ import annotations

import re
from typing import NamedTuple

import pytest

from k710.manifest.read import open_manifest
from k710.models.families import num_parameters
from k710.models.uniformerv2.config import preset
from k710.recipes import read_recipe_text, recipe_files
from k710.sources.others import OTHERS
from k710.train.read_recipe import read_train_recipe
from k710.train.recipe import TrainRecipe
from tests.helpers.tiny_media import clip_file
from tests.lists.test_published_lists import LISTS, write

VIEWS = {view: name for name, source in OTHERS.items() for view in source.views}


def recipe(name: str, *changes: str) -> TrainRecipe:
    return read_train_recipe(name, changes)[0]


OTHER = [name for name in recipe_files("train") if recipe(name).data.view in VIEWS]


class Released(NamedTuple):
    """A row of exp/*/run.sh and config.yaml. `node_batch` is of 8 GPUs and counts videos, seen `repeats` times each."""

    frames: int
    px: int
    classes: int
    nodes: int
    node_batch: int
    repeats: int
    lr: float
    epochs: int
    clips: int
    checkpoint: int
    drop_path: float
    global_drop_path: float
    start: str


def _something(
    size: str, frames: int, nodes: int, node_batch: int, rate: float, checkpoint: int
) -> dict[str, Released]:
    row = Released(frames, 224, 174, nodes, node_batch, 2, rate, 22, 1, checkpoint, 0.2, 0.4, "clip")
    return {f"clip-ssv{version}-{size}-{frames}f": row for version in (1, 2)}


RELEASED = {
    **_something("b16", 16, 1, 128, 4e-5, 0),
    **_something("b16", 32, 2, 64, 4e-5, 0),
    **_something("l14", 16, 2, 64, 2e-5, 15),
    **_something("l14", 32, 4, 32, 2e-5, 15),
    "finetune-mit-b16": Released(8, 224, 339, 2, 256, 1, 2e-5, 24, 4, 0, 0.0, 0.0, "checkpoint"),
    "finetune-mit-l14": Released(8, 224, 339, 4, 128, 1, 1e-5, 18, 4, 0, 0.0, 0.0, "checkpoint"),
    "finetune-mit-l14-336": Released(8, 336, 339, 4, 128, 1, 1e-5, 18, 4, 21, 0.0, 0.0, "checkpoint"),
    "finetune-activitynet-l14-16f": Released(16, 224, 200, 2, 32, 1, 5e-6, 20, 10, 1, 0.2, 0.4, "checkpoint"),
    "finetune-activitynet-l14-32f": Released(32, 224, 200, 4, 16, 1, 5e-6, 20, 10, 1, 0.2, 0.4, "checkpoint"),
    "finetune-hacs-l14-16f": Released(16, 224, 200, 2, 32, 1, 5e-6, 20, 10, 1, 0.2, 0.4, "checkpoint"),
    "finetune-hacs-l14-32f": Released(32, 224, 200, 4, 16, 1, 5e-6, 20, 10, 1, 0.2, 0.4, "checkpoint"),
}


def test_every_released_experiment_has_its_recipe():
    assert {name for name in OTHER if recipe(name).model.family == "uniformerv2"} == RELEASED.keys()


@pytest.mark.parametrize("name", RELEASED)
def test_a_recipe_is_what_the_released_script_ran(name):
    row, given = RELEASED[name], recipe(name)
    something = "-ssv" in name
    assert given.optim.batch_size == row.nodes * row.node_batch * row.repeats
    assert given.optim.gpu_batch_size * 8 == row.node_batch * row.repeats
    assert (given.data.num_repeats, given.data.num_frames, given.data.size_px) == (row.repeats, row.frames, row.px)
    assert (given.optim.lr, given.optim.epochs, given.optim.warmup_epochs) == (row.lr, row.epochs, 5.0)
    assert (given.optim.start_lr, given.optim.end_lr, given.optim.weight_decay) == (1e-6, 1e-6, 0.05)
    assert (given.optim.clip_grad, given.seed) == (20.0, 6666)
    assert (given.validate.clips, given.validate.crops) == (row.clips, 3)
    assert (given.model.start, given.model.head) == (row.start, "new")
    assert given.augment.flip_prob == (0.0 if something else 0.5)
    assert (given.augment.mixup_alpha, given.augment.erase_prob, given.optim.label_smoothing) == (0.0, 0.0, 0.0)
    assert given.sampling.options() == {"method": "sparse", "stride": None}


@pytest.mark.parametrize("name", RELEASED)
def test_its_model_is_the_released_one(name):
    """Of Something-Something with all designs: the preset's tensors, and its drop paths."""
    row, given = RELEASED[name], recipe(name)
    config = given.model.config(given.data, row.classes)
    size = "b16" if "-b16" in name else "l14_336" if row.px == 336 else "l14"
    known = preset(f"{'ssv2' if '-ssv' in name else 'kinetics'}_{size}", num_frames=row.frames)
    changes = {"drop_path": row.drop_path, "global_drop_path": row.global_drop_path}
    assert config == preset(given.model.preset, num_frames=row.frames, num_classes=row.classes,
                            checkpoint_blocks=row.checkpoint, **changes)  # fmt: skip
    assert (config.local, config.temporal_downsample) == (("double", True) if "-ssv" in name else ("none", False))
    assert (config.backbone, config.global_after) == (known.backbone, known.global_after)
    assert (config.mlp_dropout, config.head_dropout, config.size_px) == (0.5, 0.5, row.px)


def test_a_start_is_of_the_same_frames_and_size():
    for name in RELEASED:
        if (comment := read_recipe_text("train", name).values["model.start"].comment).startswith("PRETRAIN"):
            given = recipe(name).data
            assert re.search(rf"_{given.num_frames}x{given.size_px}\.pyth$", comment), name


@pytest.mark.parametrize("source", [name for name in OTHERS if name != "hacs_clips"])
@pytest.mark.slow
def test_the_view_of_each_recipe_is_one_of_its_source(k710, tmp_path, source):
    """A dry run with each family's tiny preset: the manifest has the view, and the head its classes."""
    lists = write(tmp_path / "lists" / source, LISTS[source]).parent
    built = k710("build", "--sources", source, "--annotations", lists, "--out", tmp_path / "m")
    assert built.exit_code == 0, built.output
    manifest = open_manifest(tmp_path / "m")
    for clip in manifest.clips["clip_id"].to_pylist():
        clip_file(tmp_path / "clips" / f"{clip}.mp4")
    names = {recipe(name).model.family: name for name in OTHER if VIEWS[recipe(name).data.view] == source}
    assert names
    for name in names.values():
        given = recipe(name)
        assert given.data.view in manifest.sources
        repeats = given.data.num_repeats
        changes = [f"batch_size={repeats}", f"gpu_batch_size={repeats}", "preset=tiny", "size_px=32"]
        if "checkpoint_blocks" in given.model.options:
            changes.append("checkpoint_blocks=0")
        words = [word for change in changes for word in ("--set", change)]
        dry = k710("train", "--recipe", name, "--manifest", manifest.path, "--folder", tmp_path / "clips",
                   "--dry-run", *words)  # fmt: skip
        assert dry.exit_code == 0, dry.output
        classes = len(manifest.class_names(given.data.view))
        small = recipe(name, *changes)
        total = num_parameters(small.family, small.model.config(small.data, classes))["total"]
        assert f"model: {total:,} parameters" in dry.stdout
