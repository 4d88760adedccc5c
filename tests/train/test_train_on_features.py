"""A training on kept features is the training with the tower in the loop, on the same fixed views; nothing else is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from k710.engine.torch_process import Process
from k710.errors import CheckpointError, RecipeError, UsageError
from k710.loading.clip_source import Media
from k710.models.load import model_from_checkpoint
from k710.train.loop import train
from k710.train.prepare import prepare
from k710.train.read_recipe import read_train_recipe
from k710.train.run_folder import read_checkpoint, step_files
from k710.train.run_log import read_log
from k710.train.start import Origin
from tests.helpers.clip_files import openai, tower
from tests.helpers.one_thread import one_thread  # noqa: F401  # a fixture for every test here
from tests.helpers.small_runs import losses, same_weights, torchrun, weights

pytest_plugins = ("tests.helpers.run_fixtures",)

# Dropout is on, so that its randomness has to be the same too. 38 train clips: 4 steps of 8 an epoch.
SHORT = (
    "view=k710", "batch_size=8", "gpu_batch_size=4", "warmup_epochs=0", "epochs=0", "steps=6", "end_lr=0", "start=clip",
    "frozen=true", "mlp_dropout=0.5", "head_dropout=0.5", "flip_prob=0",
)  # fmt: skip
RECIPES = {
    "tiny-evl-k710": (*SHORT, "keeps_backbone=false", "decoder_layers=2"),
    "tiny-k710": (*SHORT, "local=none"),
}
FIXED = ("fixed_clips=2", "fixed_crops=3")


@pytest.fixture(scope="session")
def clip_file(tmp_path_factory) -> Path:
    return openai(tmp_path_factory.mktemp("clip"), tower())


@pytest.fixture
def words(experiment, clip_file):
    """`words("recipe", "key=value", …)`: the options of a command, of the recipe with these changes."""
    manifest, clips = experiment

    def options(recipe: str, *changes: str) -> list[str]:
        all_changes = [word for change in (*RECIPES[recipe], *changes) for word in ("--set", change)]
        of = ["--recipe", recipe, "--manifest", manifest.path, "--folder", clips, "--clip-weights", clip_file]
        return [str(word) for word in [*of, *all_changes]]

    return options


@pytest.fixture
def keep(k710, words, tmp_path):
    """`keep("recipe", "key=value", …, dtype=…)`: the folder of its features."""

    def computed(recipe: str, *changes: str, dtype: str = "float32", precision: str = "fp32") -> Path:
        out = tmp_path / f"{recipe}-{dtype}-{precision}"
        result = k710(
            "features", *words(recipe, *changes), "--out", out, "--dtype", dtype, "--precision", precision,
            "--batch-size", 5,
        )  # fmt: skip
        assert result.exit_code == 0, result.stderr
        return out

    return computed


@pytest.fixture
def run(experiment, clip_file, tmp_path):
    """`run("recipe", "name", "key=value", …, features=…)`: the folder of a run that is over."""
    manifest, clips = experiment

    def trained(recipe: str, name: str, *changes: str, features: Path | None = None, **options) -> Path:
        chosen, _ = read_train_recipe(recipe, [*RECIPES[recipe], *changes])
        options = {"say": lambda line: None, "origin": Origin(weights=str(clip_file))} | options
        media = Media(folder=clips, features=features)
        train(prepare(chosen, manifest.path, tmp_path / name, Process(torch.device("cpu")), media=media, **options))
        return tmp_path / name

    return trained


def validations(out: Path) -> list[float]:
    return [line["top5"] for line in read_log(out / "log.jsonl") if line["kind"] == "validation"]


def close(one: Path, other: Path, atol: float) -> None:
    mine, theirs = (weights(step_files(path)[0]) for path in (one, other))
    assert mine.keys() == theirs.keys()
    for name, tensor in mine.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=0, atol=atol, msg=name)


@pytest.mark.parametrize("recipe", ["tiny-evl-k710", pytest.param("tiny-k710", marks=pytest.mark.slow)])
def test_it_is_the_training_with_the_tower_in_the_loop(recipe, keep, run):
    features = keep(recipe, *FIXED)
    loop, kept = run(recipe, "loop", *FIXED), run(recipe, "kept", *FIXED, features=features)
    for (step, mine), (other_step, theirs) in zip(losses(kept), losses(loop), strict=True):
        assert step == other_step
        assert mine == pytest.approx(theirs, abs=2e-6)
    close(kept, loop, 2e-6)
    assert validations(kept) == validations(loop)
    record = read_checkpoint(kept / "best.pt")["run"]
    assert record["features"]["dtype"] == "float32"
    assert "features" not in read_checkpoint(loop / "best.pt")["run"]
    # The checkpoint is a whole one, whatever was dropped in its training.
    x = torch.randn(2, 3, 8, 32, 32)
    mine, theirs = (model_from_checkpoint(path / "best.pt").eval()(x) for path in (kept, loop))
    torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-4)


@pytest.mark.slow
def test_in_bf16_what_the_tower_gives_is_kept_as_it_is(keep, run):
    features = keep("tiny-evl-k710", *FIXED, dtype="bfloat16", precision="bf16")
    runs = [
        run("tiny-evl-k710", name, *FIXED, "precision=bf16", features=folder)
        for name, folder in (("loop", None), ("kept", features))
    ]
    for (_, mine), (_, theirs) in zip(*map(losses, runs), strict=True):
        assert mine == pytest.approx(theirs, abs=2e-3)


@pytest.mark.slow
def test_stopped_and_resumed_it_is_the_same_run(keep, run, experiment):
    features = keep("tiny-evl-k710", *FIXED)
    whole = run("tiny-evl-k710", "whole", *FIXED, features=features)
    run("tiny-evl-k710", "stopped", *FIXED, features=features)
    for path in step_files(whole.parent / "stopped")[:1]:
        path.unlink()
    again = run("tiny-evl-k710", "stopped", *FIXED, features=features, resume=True, origin=Origin())
    assert same_weights(step_files(again)[0], step_files(whole)[0])
    with pytest.raises(CheckpointError, match=r"is trained on features [0-9a-f]{16}, and would go on with clips"):
        run("tiny-evl-k710", "stopped", *FIXED, resume=True, origin=Origin())


def test_random_views_are_refused_with_what_would_allow_them(k710, words, tmp_path, keep):
    recipe = words("tiny-evl-k710", "randaugment=rand-m7-n4-mstd0.5-inc1", "flip_prob=0.5", "mixup_alpha=0.8")
    for command in (("features", "--out"), ("train", "--features", keep("tiny-evl-k710", *FIXED), "--out")):
        result = k710(command[0], *recipe, *command[1:], tmp_path / "new")
        assert result.exit_code == 2
        wanted = (
            "the recipe draws frames, crop, flip_prob, randaugment, mixing anew for each sample; --set fixed_clips=1 "
            "--set flip_prob=0 --set randaugment=null --set mixup_alpha=0 --set cutmix_alpha=0 shows the centre view"
        )
        assert wanted in result.stderr


def test_a_recipe_of_fixed_views_says_what_else_must_be_off():
    with pytest.raises(UsageError, match=r"flip_prob would change them: --set flip_prob=0"):
        read_train_recipe("tiny-k710", ["fixed_clips=1"])
    with pytest.raises(UsageError, match=r"augment.fixed_crops must be 1 or 3, not 2"):
        read_train_recipe("tiny-k710", ["fixed_crops=2"])


@pytest.mark.slow
def test_a_run_wants_features_of_its_own_views_and_tower(keep, run, tmp_path):
    features = keep("tiny-evl-k710", *FIXED)
    with pytest.raises(UsageError, match=r"has no features of 38 of the 38 k710 train clips in 1 view of each"):
        run("tiny-evl-k710", "one", "fixed_clips=1", features=features)
    other = openai(tmp_path, {name: tensor + 0.01 for name, tensor in tower().items()})
    with pytest.raises(UsageError, match=r"features of something else than EVL-tiny .*: frozen_sha256"):
        run("tiny-evl-k710", "other", *FIXED, features=features, origin=Origin(weights=str(other)))
    with pytest.raises(UsageError, match="has no frozen part"):
        run("tiny-evl-k710", "trained", *FIXED, "frozen=false", features=features)
    assert not (tmp_path / "one" / "run.json").exists()


def test_it_says_how_much_it_will_keep_and_keeps_it(k710, words, tmp_path):
    recipe, out = words("tiny-evl-k710", *FIXED), tmp_path / "kept"
    dry = k710("features", *recipe, "--out", out, "--dry-run")
    assert dry.exit_code == 0, dry.stderr
    assert (
        "38 train clips x 6 views and 10 val clips x 1 view: 238 views to compute, 11.7 MB (0.01 GiB) in" in dry.stderr
    )
    assert not out.exists()
    done = k710("features", *recipe, "--out", out, "--json")
    found = json.loads(done.stdout)
    assert (found["views"], found["failed"], found["view_bytes"]) == (238, {}, 49_152)
    assert 1e-5 < found["rounding"] < 1e-3
    size = sum(path.stat().st_size for path in out.glob("*.safetensors"))
    assert 238 * 49_152 < size < 1.02 * 238 * 49_152
    again = k710("features", *recipe, "--out", out)
    assert again.stdout == f"{out}: 0 views computed\n"
    assert "0 views to compute, 0 bytes (0.00 GiB) in float16, 49.2 kB each; 238 are there" in again.stderr
    other = k710("features", *recipe, "--out", out, "--dtype", "float32")
    assert other.exit_code == 1
    assert "holds other features: dtype 'float16', not 'float32'" in other.stderr
    nowhere = k710("features", *recipe)
    assert nowhere.exit_code == 2
    assert "is no store of this machine; say where the features are kept: --out FOLDER" in nowhere.stderr


def test_an_evaluation_reads_them(k710, words, run, experiment, tmp_path):
    manifest, clips = experiment
    best = run("tiny-evl-k710", "run", "steps=1") / "best.pt"
    kept = (*words("tiny-evl-k710"), "--split", "val", "--clips", 2, "--crops", 3, "--dtype", "float32")
    computed = k710("features", *kept, "--out", tmp_path / "kept")
    assert computed.exit_code == 0, computed.stderr
    views = ("--manifest", manifest.path, "--folder", clips, "--view", "k710", "--clips", 2, "--crops", 3)
    summaries = []
    for name, more in (("pixels", ()), ("features", ("--features", tmp_path / "kept"))):
        result = k710("eval", "--checkpoint", best, *views, *more, "--out", tmp_path / name)
        assert result.exit_code == 0, result.stderr
        summaries.append(json.loads((tmp_path / name / "summary.json").read_text()))
    assert summaries[0]["scores"] == summaries[1]["scores"]
    assert summaries[0]["fingerprint"] == summaries[1]["fingerprint"]
    for other in ("--which-dialect", "--probe"):
        refused = k710("eval", "--checkpoint", best, *views[:6], other, "--features", tmp_path / "kept")
        assert refused.exit_code == 2
        assert f"{other} looks at clips; leave --features out" in refused.stderr


def test_a_dry_run_of_a_training_on_features(k710, words, keep, tmp_path):
    features = keep("tiny-evl-k710", "fixed_clips=1", dtype="float16")
    recipe = words("tiny-evl-k710", "fixed_clips=1")
    result = k710("train", *recipe, "--features", features, "--out", tmp_path / "run", "--dry-run")
    assert result.exit_code == 0, result.stderr
    assert f"features in place of clips: {features}, computed in fp32, rounded to float16" in result.stdout


@pytest.mark.slow
def test_two_processes_compute_and_train_as_one(words, keep, run, tmp_path):
    alone = run("tiny-evl-k710", "alone", *FIXED, features=keep("tiny-evl-k710", *FIXED))
    recipe = words("tiny-evl-k710", *FIXED)
    result = torchrun("-m", "k710", "features", *recipe, "--out", str(tmp_path / "two"), "--dtype", "float32")
    assert result.returncode == 0, result.stderr
    assert "238 views computed" in result.stdout
    result = torchrun(
        "-m", "k710", "train", *recipe, "--features", str(tmp_path / "two"), "--out", str(tmp_path / "run"),
        "--workers", "0",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    close(tmp_path / "run", alone, 2e-6)


def test_pretrained_weights_have_their_own_rate_and_decay(run, clip_file, experiment, tmp_path):
    first = run("tiny-evl-k710", "first", "steps=2")
    finetune = ("start=checkpoint", "head=new", "pretrained_lr_scale=0.1", "pretrained_decay_scale=0.5", "steps=5")
    origin = Origin(init=first / "best.pt")
    out = run("tiny-evl-k710", "second", *finetune, "weight_decay=0.04", "lr=1e-3", origin=origin)
    record = read_checkpoint(out / "best.pt")["run"]
    assert record["start"]["new"] == ["proj.2.weight", "proj.2.bias"]
    groups = read_checkpoint(step_files(out)[0])["optimizer"]["param_groups"]
    found = {("proj.2.weight" in group["names"]): (group["lr_scale"], group["weight_decay"]) for group in groups}
    assert found == {True: (1.0, 0.04), False: (pytest.approx(0.1), pytest.approx(0.02))}
    whole = weights(step_files(out)[0])
    # A resume knows which they were, whatever it is given.
    step_files(out)[0].unlink()
    again = run("tiny-evl-k710", "second", *finetune, "weight_decay=0.04", "lr=1e-3", origin=Origin(), resume=True)
    for name, tensor in weights(step_files(again)[0]).items():
        assert torch.equal(tensor, whole[name]), name


def test_a_remapped_head_is_pretrained_and_a_tower_that_is_trained_too(run, tmp_path):
    first = run("tiny-evl-k710", "first", "steps=1")
    changes = ("start=checkpoint", "view=k400", "head=remap", "pretrained_lr_scale=0.1", "steps=1")
    remapped = run("tiny-evl-k710", "second", *changes, origin=Origin(init=first / "best.pt"))
    assert read_checkpoint(remapped / "best.pt")["run"]["start"]["new"] == []
    tuned = run("tiny-evl-k710", "third", "frozen=false", "pretrained_lr_scale=0.01", "steps=1")
    new = read_checkpoint(tuned / "best.pt")["run"]["start"]["new"]
    assert all(not name.startswith("backbone.") for name in new)
    assert "decoder.cls_token" in new
    with pytest.raises((RecipeError, UsageError), match="a training from nothing has no pretrained weights"):
        read_train_recipe("tiny-evl-k710", ["pretrained_lr_scale=0.1"])
