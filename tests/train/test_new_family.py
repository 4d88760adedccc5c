"""A model and an objective that k710 does not have, added as a row each: nothing else of the project knows of them."""

from __future__ import annotations

import json
import math
import shutil

import pyarrow as pa
import pytest
import torch
import yaml

from k710.engine.torch_process import Process
from k710.errors import UsageError
from k710.loading.clip_index import NO_CLASS
from k710.loading.clip_source import Media
from k710.models.checkpoints.checkpoint import open_checkpoint
from k710.models.families import FAMILIES, family_of
from k710.recipes import read_recipe_text
from k710.train.loop import train
from k710.train.memory import estimate_memory
from k710.train.objectives import OBJECTIVES
from k710.train.prepare import prepare
from k710.train.read_recipe import read_train_recipe
from k710.train.run_folder import read_checkpoint
from k710.train.run_log import read_log
from k710.train.start import Origin
from k710.train.stop import StoppedError
from tests.helpers.small_cnn import GUESS_BRIGHTNESS, RECIPE, SMALL_CNN, SmallCnnConfig
from tests.helpers.small_runs import losses, same_weights

pytest_plugins = ("tests.helpers.run_fixtures",)


@pytest.fixture(autouse=True)
def rows(monkeypatch):
    monkeypatch.setitem(FAMILIES, "small_cnn", SMALL_CNN)
    monkeypatch.setitem(OBJECTIVES, "guess_brightness", GUESS_BRIGHTNESS)


@pytest.fixture
def recipe(tmp_path) -> str:
    """The new family's recipe. Of tiny-k710's, it takes the data and the augmentation."""
    tiny = yaml.safe_load(read_recipe_text("train", "tiny-k710").whole())
    tiny["model"] = {key: tiny["model"][key] for key in ("start", "head")}
    (tmp_path / "tiny-k710.yaml").write_text(yaml.safe_dump(tiny))
    (tmp_path / "cnn.yaml").write_text(RECIPE)
    return str(tmp_path / "cnn.yaml")


def run(recipe, experiment, out, *changes, **options):
    manifest, clips = experiment
    chosen, _ = read_train_recipe(recipe, changes)
    options = {"say": lambda line: None, "origin": Origin()} | options
    return prepare(chosen, manifest.path, out, Process(torch.device("cpu")), media=Media(folder=clips), **options)


def test_it_trains_resumes_evaluates_predicts_and_is_remapped(recipe, experiment, tmp_path, k710, monkeypatch):
    manifest, clips = experiment
    files = ("--manifest", manifest.path, "--folder", clips)
    dry = k710("train", "--recipe", recipe, *files, "--dry-run")
    assert dry.exit_code == 0, dry.stderr
    assert "memory of a GPU: 0.0 GiB" in dry.stdout
    assert k710("train", "--recipe", recipe, *files, "--out", tmp_path / "whole", "--workers", 0).exit_code == 0
    whole = tmp_path / "whole"
    assert [step for step, _ in losses(whole)] == list(range(1, 13))
    assert losses(whole)[-1][1] < losses(whole)[0][1], "it learns"

    # Stopped after its first epoch and resumed, it is the same run bit for bit.
    from k710.train import validate as module

    real = module.validate

    def stop_once(saved, report, stop):
        monkeypatch.setattr(module, "validate", real)
        monkeypatch.setattr("k710.train.loop.validate", real)
        raise StoppedError("SIGTERM", saved.progress.step)

    monkeypatch.setattr("k710.train.loop.validate", stop_once)
    with pytest.raises(StoppedError):
        train(run(recipe, experiment, tmp_path / "halves"))
    train(run(recipe, experiment, tmp_path / "halves", resume=True))
    assert losses(tmp_path / "halves") == losses(whole)
    assert same_weights(tmp_path / "halves" / "best.pt", whole / "best.pt")

    best = whole / "best.pt"
    found = json.loads(k710("inspect", best, "--json").stdout)
    assert (found["model"], found["preset"]) == ("SmallCnn of width 8, 710 classes", "small")
    assert (found["head"]["name"], found["label_set"], found["dialect"]) == ("classifier", "k710", "canonical")
    assert k710("remap-head", best, "--to", "k400").exit_code == 0
    remapped = read_checkpoint(whole / "best.k400.pt")["model"]["classifier.weight"]
    assert torch.equal(remapped, read_checkpoint(best)["model"]["classifier.weight"][:400])

    scored = k710("eval", "--checkpoint", best, *files, "--view", "k400", "--clips", 1, "--crops", 1, "--json")
    assert scored.exit_code == 0, scored.stderr
    assert json.loads(scored.stdout)["counts"]["evaluated"] > 0
    video = next(clips.rglob("*.mp4"))
    assert k710("predict", "--checkpoint", best, video).exit_code == 0

    finetune = ("start=checkpoint", "head=remap", "view=k400", "epochs=1")
    finetuned = train(run(recipe, experiment, tmp_path / "k400", *finetune, origin=Origin(init=best)))
    assert finetuned.step == 2
    family, config = family_of(open_checkpoint(tmp_path / "k400" / "best.pt"))
    assert (family.name, config.num_classes) == ("small_cnn", 400)


def test_its_memory_is_counted():
    small, large = (estimate_memory(SMALL_CNN, SmallCnnConfig(width=width), precision="fp32") for width in (8, 64))
    assert 0 < small.model_bytes < large.model_bytes
    assert 0 < small.clip_bytes < large.clip_bytes


def test_its_layers_have_rates_of_their_own(recipe, experiment, tmp_path):
    from k710.train.optimizer import make_optimizer

    prepared = run(recipe, experiment, tmp_path / "run")
    optimizer = make_optimizer(prepared.model, SMALL_CNN, prepared.recipe.optim)
    scales = {name: group["lr_scale"] for group in optimizer.param_groups for name in group["names"]}
    assert scales["stem.weight"] == pytest.approx(0.9**2)
    assert scales["classifier.weight"] == 1


@pytest.mark.slow
def test_an_objective_without_labels_trains_validates_and_resumes(recipe, experiment, tmp_path):
    changes = ("objective=guess_brightness", "lr=5e-2")
    train(run(recipe, experiment, tmp_path / "whole", *changes))
    lines = read_log(tmp_path / "whole" / "log.jsonl")
    steps, validations = ([line for line in lines if line["kind"] == kind] for kind in ("step", "validation"))
    assert len(steps) == 12
    assert all(0 <= line["noise"] < 1 for line in steps)
    assert "measures" not in steps[0], "a measure is a value of the line, by its name"
    assert len({line["noise"] for line in steps}) == 12, "every batch draws its own noise"
    assert [math.isfinite(line["loss"]) for line in validations] == [True] * 3
    best = min(validations, key=lambda line: line["loss"])
    assert [line["best"] for line in validations if line is best] == [True], "less is better"
    assert read_checkpoint(tmp_path / "whole" / "best.pt")["validation"]["loss"] == best["loss"]

    train(run(recipe, experiment, tmp_path / "again", *changes))
    assert losses(tmp_path / "again") == losses(tmp_path / "whole")


@pytest.fixture
def unlabelled(experiment, tmp_path, monkeypatch):
    """The experiment as a dataset would be whose lists have no labels; its clips are in a folder of their own."""
    from k710.loading import find_clips

    manifest, clips = experiment
    wanted = find_clips._wanted

    def without_labels(*arguments):
        table = wanted(*arguments)
        none = pa.array([NO_CLASS] * len(table), table["class_id"].type)
        return table.set_column(table.column_names.index("class_id"), "class_id", none)

    monkeypatch.setattr(find_clips, "_wanted", without_labels)
    return manifest, shutil.copytree(clips, tmp_path / "unlabelled")


def test_clips_without_labels_are_trained_on_by_an_objective_that_needs_none(recipe, unlabelled, tmp_path, k710):
    manifest, clips = unlabelled
    whole = tmp_path / "whole"
    changes = ("--set", "objective=guess_brightness", "--set", "lr=5e-2")
    files = ("--manifest", manifest.path, "--folder", clips)
    result = k710("train", "--recipe", recipe, *files, "--out", whole, "--workers", 0, *changes)
    assert result.exit_code == 0, result.stderr
    best = read_checkpoint(whole / "best.pt")["validation"]
    assert result.stdout.endswith(f"loss {best['loss']:.4f}, noise {best['noise']:.3f}\n"), "not in %"
    report = k710("report", manifest.path, "--runs", whole, "--gallery", 0, "--out", tmp_path / "report.html")
    assert report.exit_code == 0, report.stderr
    page = (tmp_path / "report.html").read_text()
    assert "Learning rate" in page
    assert "Top-1 accuracy" not in page, "there is none"

    with pytest.raises(UsageError, match="38 of the 38 k710 train clips have no label to train on"):
        run(recipe, unlabelled, tmp_path / "classify")
    with pytest.raises(UsageError, match="mixup and cutmix mix the labels of clips"):
        run(recipe, unlabelled, tmp_path / "mixed", "objective=guess_brightness", "mixup_alpha=0.8")


def test_a_checkpoint_of_no_family_is_refused_by_name(tmp_path, k710, experiment):
    manifest, clips = experiment
    torch.save({"model": {"head.weight": torch.zeros(400, 8), "head.bias": torch.zeros(400)}}, tmp_path / "x.pth")
    result = k710(
        "eval", "--checkpoint", tmp_path / "x.pth", "--manifest", manifest.path, "--folder", clips, "--view", "k400",
        "--dialect", "canonical",
    )  # fmt: skip
    assert result.exit_code == 1
    assert f"not of a model and a size that k710 can build: {', '.join(FAMILIES)}" in result.stderr
