"""EVL trained, stopped, evaluated and remapped: its checkpoints have no tower, and it is always the right one again."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from k710.engine.torch_process import Process
from k710.errors import CheckpointError, UsageError
from k710.evaluation.view_model import model_as_it_is, model_for_view
from k710.loading.clip_source import Media
from k710.models.checkpoints.checkpoint import open_checkpoint
from k710.models.evl.config import PRESETS
from k710.models.evl.family import EVL
from k710.models.evl.model import Evl
from k710.models.families import family_of
from k710.models.left_out import left_out_sha256
from k710.models.load import model_from_checkpoint
from k710.train.loop import train
from k710.train.prepare import prepare
from k710.train.read_recipe import read_train_recipe
from k710.train.run_folder import read_checkpoint
from k710.train.run_log import read_log
from k710.train.start import Origin
from k710.train.stop import StoppedError
from tests.helpers.clip_files import huggingface, openai, tower
from tests.helpers.one_thread import one_thread  # noqa: F401  # a fixture for every test here
from tests.helpers.published_evl import released_file
from tests.helpers.small_runs import losses, same_weights, torchrun

pytest_plugins = ("tests.helpers.run_fixtures",)

# 38 train clips in batches of 8: four steps an epoch, and the sixth step is in the middle of the second.
FEW = (
    "start=clip", "keeps_backbone=false", "frozen=true", "decoder_layers=2", "view=k710", "batch_size=8",
    "gpu_batch_size=8", "epochs=0", "steps=6", "lr=2e-3", "end_lr=0", "warmup_epochs=0",
)  # fmt: skip


@pytest.fixture(scope="session")
def clip_file(tmp_path_factory) -> Path:
    return openai(tmp_path_factory.mktemp("clip"), tower())


def run(experiment, out, *changes, **options):
    manifest, clips = experiment
    recipe, _ = read_train_recipe("tiny-evl-k710", [*FEW, *changes])
    options = {"say": lambda line: None} | options
    return prepare(recipe, manifest.path, out, Process(torch.device("cpu")), media=Media(folder=clips), **options)


@pytest.fixture(scope="session")
def trained(experiment, clip_file, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("evl") / "run"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    train(run(experiment, out, origin=Origin(weights=str(clip_file))))
    torch.set_num_threads(threads)
    return out


def test_it_trains_for_so_many_steps_and_ends_in_the_middle_of_an_epoch(trained):
    lines = read_log(trained / "log.jsonl")
    steps = [line for line in lines if line["kind"] == "step"]
    validations = [line for line in lines if line["kind"] == "validation"]
    assert [(line["step"], line["epoch"]) for line in steps] == [(1, 0), (2, 0), (3, 0), (4, 0), (5, 1), (6, 1)]
    assert [line["epoch"] for line in validations] == [1, 2], "the last one is over with the last step"
    rates = [line["lr"] for line in steps]
    assert rates[0] == 2e-3
    assert rates[3] == pytest.approx(1e-3), "half a cosine over all steps"


def test_its_checkpoints_have_no_tower_and_say_where_it_is_from(trained, clip_file):
    for path in (trained / "best.pt", trained / "checkpoints" / "step-00000006.pt"):
        content = read_checkpoint(path)
        assert {name.split(".")[0] for name in content["model"]} == {"decoder", "proj"}
        assert content["run"]["start"]["clip_weights"] == str(clip_file)
        assert len(content["run"]["left_out_sha256"]) == 64
    optimizer = read_checkpoint(trained / "checkpoints" / "step-00000006.pt")["optimizer"]
    assert len(optimizer["state"]) == len(read_checkpoint(trained / "best.pt")["model"])


def test_the_tower_comes_back_with_a_checkpoint(trained, clip_file):
    model = model_from_checkpoint(trained / "best.pt").eval()
    start = Evl(model.config)
    EVL.starts["clip"].load(start, str(clip_file), False, {})
    for mine, theirs in zip(model.backbone.parameters(), start.backbone.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    family, config = family_of(open_checkpoint(trained / "best.pt"))
    assert (family.name, config.decoder_layers, config.num_frames, config.size_px) == ("evl", 2, 8, 32)


def test_stopped_and_resumed_it_is_the_same_run(experiment, clip_file, trained, tmp_path, monkeypatch):
    from k710.train import loop

    real, taken = loop._take, []

    def stop_after_five(stepper, step, batches, of):
        result = real(stepper, step, batches, of)
        taken.append(step)
        if step == 5:
            raise StoppedError("SIGTERM", step)
        return result

    monkeypatch.setattr(loop, "_take", stop_after_five)
    with pytest.raises(StoppedError):
        train(run(experiment, tmp_path / "run", origin=Origin(weights=str(clip_file))))
    monkeypatch.setattr(loop, "_take", real)
    resumed = run(experiment, tmp_path / "run", origin=Origin(), resume=True)
    train(resumed)
    assert losses(tmp_path / "run")[-6:] == losses(trained)
    assert same_weights(tmp_path / "run" / "best.pt", trained / "best.pt")
    # A run that is over is validated no second time.
    before = (tmp_path / "run" / "log.jsonl").read_bytes()
    train(run(experiment, tmp_path / "run", origin=Origin(), resume=True))
    assert (tmp_path / "run" / "log.jsonl").read_bytes() == before


def test_it_is_evaluated_predicts_and_is_remapped(experiment, trained, k710):
    manifest, clips = experiment
    best, files = trained / "best.pt", ("--manifest", manifest.path, "--folder", clips)
    scored = k710("eval", "--checkpoint", best, *files, "--view", "k400", "--clips", 1, "--crops", 1, "--json")
    assert scored.exit_code == 0, scored.stderr
    assert json.loads(scored.stdout)["counts"]["evaluated"] > 0
    assert k710("predict", "--checkpoint", best, next(clips.rglob("*.mp4"))).exit_code == 0
    found = json.loads(k710("inspect", best, "--json").stdout)
    assert found["model"] == "EVL-tiny at 32 px, 2 decoder layers, 710 classes"
    assert (found["head"]["name"], found["label_set"], found["dialect"]) == ("proj.2", "k710", "canonical")
    assert k710("remap-head", best, "--to", "k400").exit_code == 0
    remapped = model_from_checkpoint(trained / "best.k400.pt").eval()
    x = torch.randn(1, 3, 8, 32, 32)
    torch.testing.assert_close(remapped(x), model_from_checkpoint(best).eval()(x)[:, :400])
    assert k710("eval", "--checkpoint", best, *files, "--view", "k400", "--which-dialect").exit_code == 0


def test_the_frames_of_an_evaluation_are_the_recipes(trained, tmp_path):
    assert model_as_it_is(trained / "best.pt").sampling.options() == {"method": "sparse", "stride": None}
    content = read_checkpoint(trained / "best.pt")
    content["run"]["recipe"]["data"] |= {"sampling": "dense", "stride": 3}
    torch.save(content, tmp_path / "dense.pt")
    assert model_for_view(tmp_path / "dense.pt", "k400").sampling.options() == {"method": "dense", "stride": 3}
    content["run"]["recipe"]["data"]["stride"] = "3"
    torch.save(content, tmp_path / "damaged.pt")
    with pytest.raises(CheckpointError, match=r"its recipe is damaged: sampling 'dense', stride '3'"):
        model_as_it_is(tmp_path / "damaged.pt")


def test_a_finetune_starts_from_it_and_knows_the_tower(experiment, trained, tmp_path):
    changes = ("start=checkpoint", "head=remap", "view=k400", "steps=1")
    finetuned = run(experiment, tmp_path / "k400", *changes, origin=Origin(init=trained / "best.pt"))
    train(finetuned)
    first = model_from_checkpoint(trained / "best.pt")
    again = model_from_checkpoint(tmp_path / "k400" / "best.pt")
    assert left_out_sha256(again) == left_out_sha256(first)
    assert again.config.num_classes == 400


def test_a_tower_that_has_moved_is_asked_for_and_checked(trained, clip_file, tmp_path, k710, experiment):
    content = read_checkpoint(trained / "best.pt")
    content["run"]["start"]["clip_weights"] = str(tmp_path / "gone.pt")
    path = tmp_path / "moved.pt"
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=r"its CLIP image tower cannot be loaded: .*gone\.pt.*--clip-w"):
        model_from_checkpoint(path)
    assert model_from_checkpoint(path, weights=str(clip_file))
    # Another form of the same weights is as good.
    assert model_from_checkpoint(path, weights=str(huggingface(tmp_path, tower(), activation="quick_gelu")))
    other = {name: tensor + 0.01 for name, tensor in tower().items()}
    (tmp_path / "other").mkdir()
    with pytest.raises(CheckpointError, match=r"was trained on another CLIP image tower than .*want [0-9a-f]{64}"):
        model_from_checkpoint(path, weights=str(openai(tmp_path / "other", other)))
    clips = experiment[1]
    result = k710("predict", "--checkpoint", path, "--clip-weights", clip_file, next(clips.rglob("*.mp4")))
    assert result.exit_code == 0, result.stderr
    assert k710("predict", "--checkpoint", path, next(clips.rglob("*.mp4"))).exit_code == 1


def test_the_released_form_is_read_inspected_and_remapped(trained, clip_file, tmp_path, k710, experiment):
    own = model_from_checkpoint(trained / "best.pt").eval()
    path = released_file(tmp_path / "k710_tiny_8f_dec2x64.pth", own.state_dict())
    with pytest.raises(CheckpointError, match=r"leaves out 70 tensors .* a CLIP image tower: --clip-weights FILE"):
        model_from_checkpoint(path)
    again = model_from_checkpoint(path, weights=str(clip_file)).eval()
    x = torch.randn(2, 3, 8, 32, 32)
    assert torch.equal(again(x), own(x))
    found = json.loads(k710("inspect", path, "--json", "--head", "module.proj.2").stdout)
    assert found["model"].startswith("EVL-tiny at 32 px")
    assert found["head"]["rows"] == 710
    result = k710("remap-head", path, "--to", "k400", "--dialect", "canonical", "--head", "module.proj.2")
    assert result.exit_code == 0, result.stderr
    remapped = torch.load(tmp_path / "k710_tiny_8f_dec2x64.k400.pth", weights_only=True)
    assert torch.equal(remapped["model"]["module.proj.2.weight"], own.state_dict()["proj.2.weight"][:400])
    assert remapped["model"].keys() == {f"module.{name}" for name in own.state_dict()}
    assert remapped["next_step"] == 50000


def test_a_released_head_of_kinetics_400_has_the_canonical_order(clip_file, tmp_path, k710):
    own = Evl(replace(PRESETS["tiny"], num_classes=400))
    path = released_file(tmp_path / "k400_tiny_8f_dec4x64.pth", own.state_dict())
    found = json.loads(k710("inspect", path, "--json").stdout)
    assert found["format"] == "EVL checkpoint"
    assert (found["head"]["name"], found["label_set"], found["dialect"]) == ("module.proj.2", "k400", "canonical")
    model = model_for_view(path, "k400", weights=str(clip_file))
    assert model.sampling.options() == {"method": "dense", "stride": 16}
    assert torch.equal(model.model.state_dict()["proj.2.weight"], own.state_dict()["proj.2.weight"])


def test_a_tower_that_no_file_gives_is_kept_or_refused(experiment, tmp_path):
    with pytest.raises(UsageError, match="--set keeps_backbone=true keeps them"):
        run(experiment, tmp_path / "no", "start=nothing", origin=Origin())
    changes = ("start=nothing", "keeps_backbone=true", "steps=2")
    train(run(experiment, tmp_path / "run", *changes, origin=Origin()))
    best = read_checkpoint(tmp_path / "run" / "best.pt")
    assert "backbone.pos_embed" in best["model"]
    assert "left_out_sha256" not in best["run"]
    model = model_from_checkpoint(tmp_path / "run" / "best.pt")
    assert torch.equal(model.backbone.pos_embed, best["model"]["backbone.pos_embed"])
    with pytest.raises(UsageError, match="has all of its weights, and needs no --clip-weights"):
        model_from_checkpoint(tmp_path / "run" / "best.pt", weights="ViT-B/16")


def test_a_whole_model_of_the_public_finetuning_is_read(tmp_path):
    """The public code trains the tower too if it is asked to; then a checkpoint has it, under its own names."""
    own = Evl(replace(PRESETS["tiny"], frozen=False, decoder_layers=1)).eval()
    path = released_file(tmp_path / "open.pth", own.state_dict())
    again = model_from_checkpoint(path).eval()
    assert again.config.keeps_backbone
    x = torch.randn(1, 3, 8, 32, 32)
    assert torch.equal(again(x), own(x))


@pytest.mark.parametrize("source", ["http://127.0.0.1:9/x.pt", "owner/tower", "tower.pt"])
def test_an_address_that_a_checkpoint_names_is_not_fetched(source, trained, tmp_path):
    content = read_checkpoint(trained / "best.pt")
    content["run"]["start"]["clip_weights"] = source
    torch.save(content, tmp_path / "elsewhere.pt")
    with pytest.raises(CheckpointError, match=rf"fetched from nowhere unless you say so: --clip-weights {source}"):
        model_from_checkpoint(tmp_path / "elsewhere.pt")


@pytest.mark.parametrize("forged", [7, [], {"start": 3}, {"start": {"clip_weights": 7}}, {"left_out_sha256": 7}])
def test_a_forged_record_of_the_tower_is_no_tower(forged, trained, tmp_path):
    content = read_checkpoint(trained / "best.pt")
    content["run"] = forged
    torch.save(content, tmp_path / "forged.pt")
    with pytest.raises(CheckpointError, match="does not tell where they are from"):
        model_from_checkpoint(tmp_path / "forged.pt")


def test_another_backbone_is_refused_by_its_patches(tmp_path):
    path = openai(tmp_path, tower(width=32))
    with pytest.raises(CheckpointError, match=r"another backbone than the tiny .*\(32, 3, 8, 8\), want \(64,"):
        EVL.starts["clip"].load(Evl(PRESETS["tiny"]), str(path), False, {})


def test_a_dry_run_says_what_it_needs(experiment, clip_file, tmp_path, k710):
    manifest, clips = experiment
    shutil.copy(clip_file, tmp_path / "tower.pt")
    changes = [part for change in FEW for part in ("--set", change)]
    result = k710(
        "train", "--recipe", "tiny-evl-k710", "--manifest", manifest.path, "--folder", clips, "--dry-run",
        "--clip-weights", tmp_path / "tower.pt", *changes,
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert "48 in 2 epochs" in result.stdout
    assert "from the image tower" in result.stdout


@pytest.mark.slow
def test_two_processes_train_as_one_that_accumulates(experiment, clip_file, tmp_path):
    """Also where the tower is in no state dict, and every decoder tensor must have its gradient."""
    manifest, clips = experiment
    few = (*FEW, "steps=2", "gpu_batch_size=4")
    train(run(experiment, tmp_path / "one", "steps=2", "gpu_batch_size=4", origin=Origin(weights=str(clip_file))))
    changes = [word for change in few for word in ("--set", change)]
    result = torchrun(
        "-m", "k710", "train", "--recipe", "tiny-evl-k710", "--manifest", str(manifest.path), "--folder", str(clips),
        "--out", str(tmp_path / "two"), "--clip-weights", str(clip_file), "--workers", "0", *changes,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert losses(tmp_path / "two") == losses(tmp_path / "one")
    assert same_weights(tmp_path / "two/best.pt", tmp_path / "one/best.pt")
