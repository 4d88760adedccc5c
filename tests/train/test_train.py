"""Training: the same losses whatever cuts a run in two, and one message for whatever stops it."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch

import k710.train.memory
from k710.engine.torch_process import Process
from k710.errors import CheckpointError, K710Error, TrainError, UsageError
from k710.loading.clip_source import Media
from k710.models.heads.remap import plan_remap
from k710.models.heads.remap_write import write_remap
from k710.models.uniformerv2.family import UNIFORMERV2
from k710.models.uniformerv2.model import UniFormerV2
from k710.train import loop, run_folder
from k710.train.loop import train
from k710.train.memory import estimate_memory, largest_that_fits
from k710.train.needs import needs
from k710.train.optimizer import Average, make_optimizer
from k710.train.prepare import prepare
from k710.train.read_recipe import read_train_recipe
from k710.train.run_log import read_log
from k710.train.start import Origin
from k710.train.step import Stepper, cut
from k710.train.stop import StoppedError
from tests.helpers.small_runs import SMALL, STEPS, command, losses, same_weights, torchrun, wait_for_step, weights

pytest_plugins = ("tests.helpers.run_fixtures",)


def test_a_run_learns_and_leaves_what_it_should(uninterrupted, experiment):
    told = losses(uninterrupted)
    assert [step for step, _ in told] == list(range(1, STEPS + 1))
    assert told[-1][1] < told[0][1]
    names = sorted(path.name for path in uninterrupted.iterdir())
    assert names == ["best.pt", "checkpoints", "log.jsonl", "recipe.yaml", "run.json"]
    assert [path.name for path in run_folder.step_files(uninterrupted)] == ["step-00000012.pt", "step-00000008.pt"]
    best = run_folder.read_checkpoint(uninterrupted / "best.pt")
    assert best["head"]["label_set"] == "k710"
    assert len(best["head"]["labels"]) == 710
    facts = json.loads((uninterrupted / "run.json").read_text())
    assert facts["manifest"]["content_hash"] == experiment[0].content_hash
    assert facts["clips"]["train"]["loaded"] == 38
    assert len(facts["clips"]["train"]["fingerprint"]) == 64
    assert facts["labels"]["dialect"] == "canonical"
    validated = [line for line in read_log(uninterrupted / "log.jsonl") if line["kind"] == "validation"]
    assert [line["epoch"] for line in validated] == [1, 2, 3]


@pytest.mark.slow
def test_the_same_run_twice_is_the_same(start, uninterrupted):
    train(start())
    assert losses(start("other").out.parent / "run") == losses(uninterrupted)


@pytest.mark.parametrize("after", [2, 4, 7])
@pytest.mark.slow
def test_sigterm_and_resume_is_the_uninterrupted_run(start, uninterrupted, after):
    """In the middle of an epoch, and at its end before the validation."""

    def terminate(line: str) -> None:
        if line.startswith(f"step {after} "):
            os.kill(os.getpid(), signal.SIGTERM)

    run = start(say=terminate, report_every=1)
    with pytest.raises(
        StoppedError, match=r"stopped by SIGTERM after step .; everything is saved, --resume"
    ) as stopped:
        train(run)
    assert stopped.value.exit_code == 143
    assert len(losses(run.out)) < STEPS
    train(start(resume=True))
    assert losses(run.out) == losses(uninterrupted)
    assert same_weights(run.out / "best.pt", uninterrupted / "best.pt")
    assert same_weights(run.out / "checkpoints/step-00000012.pt", uninterrupted / "checkpoints/step-00000012.pt")
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.slow
def test_sigkill_and_resume_is_the_uninterrupted_run(experiment, uninterrupted, tmp_path):
    out = tmp_path / "killed"
    program = subprocess.Popen(
        [sys.executable, *command(experiment, out, "--save-every", "0.0005")], stderr=subprocess.PIPE
    )
    wait_for_step(out, 7, program)
    program.kill()
    program.communicate(timeout=30)
    assert len(losses(out)) < STEPS
    result = subprocess.run([sys.executable, *command(experiment, out, "--resume")], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "going on after step" in result.stderr
    assert losses(out) == losses(uninterrupted)
    assert same_weights(out / "best.pt", uninterrupted / "best.pt")
    assert not list(out.glob("**/.tmp-*"))


@pytest.mark.slow
def test_a_terminated_command_says_so_and_exits_as_the_signal_would(experiment, tmp_path):
    out = tmp_path / "terminated"
    program = subprocess.Popen([sys.executable, *command(experiment, out)], stderr=subprocess.PIPE, text=True)
    wait_for_step(out, 2, program)
    program.terminate()
    stderr = program.communicate(timeout=30)[1]
    assert program.returncode == 143
    assert stderr.splitlines()[-1].startswith("k710: stopped by SIGTERM after step")


@pytest.mark.slow
def test_two_processes_train_as_one_that_accumulates(experiment, start, tmp_path):
    """Bit for bit: the same clips, augmentation and dropout, and gradients averaged the same way."""
    train(start("one", "gpu_batch_size=4"))
    result = torchrun(*command(experiment, tmp_path / "two"))
    assert result.returncode == 0, result.stderr
    assert losses(tmp_path / "two") == losses(tmp_path / "one")
    assert same_weights(tmp_path / "two/best.pt", tmp_path / "one/best.pt")
    scores = [
        [line for line in read_log(tmp_path / name / "log.jsonl") if line["kind"] == "validation"]
        for name in ("one", "two")
    ]
    assert scores[0] == scores[1]


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_processes(experiment, start, tmp_path):
    def terminate(line: str) -> None:
        if line.startswith("step 6 "):
            os.kill(os.getpid(), signal.SIGTERM)

    train(start("one", "gpu_batch_size=4"))
    with pytest.raises(StoppedError):
        train(start("two", "gpu_batch_size=4", say=terminate, report_every=1))
    result = torchrun(*command(experiment, tmp_path / "two", "--resume"))
    assert result.returncode == 0, result.stderr
    assert losses(tmp_path / "two") == losses(tmp_path / "one")


@pytest.mark.slow
def test_pieces_change_nothing_but_rounding(start, uninterrupted):
    """Without dropout: which pieces a batch is cut into shows in the last digits alone."""
    off = ("mlp_dropout=0", "head_dropout=0", "epochs=1")
    whole, pieces = start("whole", *off), start("pieces", *off, "gpu_batch_size=3")
    assert (whole.pieces.num_pieces, pieces.pieces.num_pieces, pieces.pieces.piece_size) == (1, 4, 2)
    train(whole)
    train(pieces)
    for (_, one), (_, other) in zip(losses(whole.out), losses(pieces.out), strict=True):
        assert one == pytest.approx(other, abs=2e-4)


def test_a_run_on_other_clips_is_not_resumed(start, experiment, tmp_path):
    def terminate(line: str) -> None:
        if line.startswith("step 2 "):
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(StoppedError):
        train(start(say=terminate, report_every=1))
    fewer = tmp_path / "fewer"
    shutil.copytree(experiment[1], fewer)
    next(path for path in sorted(fewer.iterdir()) if "-00000_" in path.name).unlink()
    with pytest.raises(CheckpointError, match=r"is on other train clips \(38 clips, now 37 clips\)"):
        start(resume=True, folder=fewer)
    with pytest.raises(CheckpointError, match=r"another recipe: optim.lr was 0\.001 and is 0\.002"):
        start("run", "lr=2e-3", resume=True)
    start("run", "gpu_batch_size=2", resume=True)  # how a batch is cut may change


def test_a_run_is_not_begun_over_another(start, tmp_path):
    start()
    with pytest.raises(TrainError, match="a run is there already; --resume goes on with it"):
        start()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").touch()
    for resume in (False, True):
        with pytest.raises(TrainError, match=r"holds 'thesis\.tex', so it is no folder for a run"):
            start("mine", resume=resume)
    assert start("new", resume=True).resumed is None, "nothing to go on with: a job's first start"
    assert start("new", resume=True).resumed is None, "killed before its first checkpoint"


def test_a_damaged_checkpoint_is_passed_over(start, uninterrupted, tmp_path):
    shutil.copytree(uninterrupted, tmp_path / "run")
    newest = tmp_path / "run/checkpoints/step-00000012.pt"
    newest.write_bytes(newest.read_bytes()[:20_000])
    said: list[str] = []
    train(start(resume=True, say=said.append))
    assert any("step-00000012.pt: damaged" in line and "the one before it" in line for line in said)
    assert losses(tmp_path / "run") == losses(uninterrupted)
    for path in run_folder.step_files(tmp_path / "run"):
        path.write_bytes(b"PK\x03\x04")
    with pytest.raises(CheckpointError, match="no checkpoint to go on from"):
        start(resume=True)


def test_no_number_stops_the_run_with_its_clips(start, monkeypatch):
    run = start(report_every=1)
    original = Stepper.measure

    def spoiled(stepper, batch):
        found = original(stepper, batch)
        if steps.pop(0) == 7:
            found = dataclasses.replace(found, losses=found.losses.clone())
            found.losses[3] = float("nan")
        return found

    steps = list(range(1, STEPS + 1))
    monkeypatch.setattr(Stepper, "measure", spoiled)
    with pytest.raises(TrainError, match="step 7: the loss is nan") as stopped:
        train(run)
    path = run.out / "diverged-step-7.json"
    assert str(path) in str(stopped.value)
    content = json.loads(path.read_text())
    assert content["step"] == 7
    assert len(content["clips"]) == 8
    assert [clip["loss"] == "nan" for clip in content["clips"]] == [False] * 3 + [True] + [False] * 4
    assert all(clip["clip_id"].startswith("mini") for clip in content["clips"])
    for file in run_folder.step_files(run.out):
        assert all(tensor.isfinite().all() for tensor in weights(file).values())
    assert max(number for number, _ in losses(run.out)) == 6


@pytest.mark.slow
def test_a_gpu_without_room_is_told_what_fits(start, monkeypatch):
    run, forward = start(), UniFormerV2.forward

    def small_gpu(model, clips):
        if len(clips) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(model, clips)

    monkeypatch.setattr(UniFormerV2, "forward", small_gpu)
    with pytest.raises(TrainError, match=r"no memory for 8 clips at once .*; 4 would fit: --set gpu_batch_size=4; the"):
        train(run)
    assert largest_that_fits(lambda size: None, 9) == 4

    def no_gpu(size):
        raise torch.OutOfMemoryError

    assert largest_that_fits(no_gpu, 8) == 0


def test_no_room_for_checkpoints_is_known_before_the_first_step(start, monkeypatch):
    usage = shutil.disk_usage("/")._replace(free=10_000_000)
    monkeypatch.setattr(run_folder.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(TrainError, match=r"its checkpoints need .* MB, and the disk has 10\.0 MB free"):
        start()


def test_a_checkpoint_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "best.pt"
    run_folder.write_checkpoint(path, {"model": {"weight": torch.ones(3)}})

    def full(*args, **options):
        raise RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(TrainError, match=r"cannot be written .*is the disk full"):
        run_folder.write_checkpoint(path, {"model": {}})
    assert weights(path)["weight"].tolist() == [1, 1, 1]
    assert [file.name for file in tmp_path.iterdir()] == ["best.pt"]


def test_a_clip_that_cannot_be_read_stops_nothing_and_is_named(start, experiment, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(experiment[1], broken)
    clip = next(path for path in sorted(broken.iterdir()) if "-00000_" in path.name)
    clip.write_bytes(clip.read_bytes()[:300])
    said: list[str] = []
    run = start("run", "epochs=1", folder=broken, say=said.append)
    train(run)
    assert any(line.startswith("epoch 1: 1 clip could not be read") and clip.stem in line for line in said)
    failed = [line for line in read_log(run.out / "log.jsonl") if line["kind"] == "failed"]
    assert list(failed[0]["clips"]) == [clip.stem]


def test_a_clip_that_failed_teaches_nothing(start):
    run = start("run", "mlp_dropout=0", "head_dropout=0")
    model = run.model.train()
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    stepper = Stepper(
        model, model, make_optimizer(model, UNIFORMERV2, run.recipe.optim), scaler, run.recipe, run.pieces, run.process
    )
    batch = next(iter(run.train_loader()))
    gradients = []
    for pixels in (batch.pixels, torch.cat([batch.pixels[:3], torch.zeros_like(batch.pixels[3:4]), batch.pixels[4:]])):
        weights_of = torch.tensor([1.0, 1, 1, 0, 1, 1, 1, 1])
        losses_of = stepper.measure(dataclasses.replace(batch, pixels=pixels, weights=weights_of)).losses
        assert losses_of[3] == 0
        assert (losses_of > 0).sum() == 7
        model.zero_grad()
        losses_of.sum().backward()
        gradients.append(model.transformer.proj[2].weight.grad.clone())
    assert torch.allclose(*gradients, atol=1e-5)


def test_the_report_adds_up(start):
    """Time from step to step, so that rates and the share of waiting are of the whole run."""
    run = start("run", "epochs=1", "warmup_epochs=0")
    began_s = time.perf_counter()
    train(run)
    took_s = time.perf_counter() - began_s
    lines = [line for line in read_log(run.out / "log.jsonl") if line["kind"] == "step"]
    assert 0 < sum(line["seconds"] for line in lines) <= took_s
    assert all(0 <= line["waited_s"] <= line["seconds"] for line in lines)


def test_the_average_is_what_is_validated_and_kept(start):
    run = start("run", "ema_decay=0.9", "epochs=1", "warmup_epochs=0")
    train(run)
    newest = run_folder.read_checkpoint(run_folder.newest_checkpoint(run.out)[0])
    best = weights(run.out / "best.pt")
    assert all(torch.equal(best[name], newest["average"][name]) for name in best)
    assert not torch.equal(best["transformer.proj.2.weight"], newest["model"]["transformer.proj.2.weight"])


def test_the_average_is_the_textbooks():
    model = torch.nn.Linear(2, 1, bias=False)
    average = Average(model, 0.75)
    before = model.weight.detach().clone()
    with torch.no_grad():
        model.weight += 1
    average.update(model, 100)
    assert torch.allclose(average.tensors["weight"], before + 0.25)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.slow
def test_less_precision_trains_too(start, precision):
    run = start("run", f"precision={precision}", "epochs=1", "warmup_epochs=0", "checkpoint_blocks=2", "clip_grad=0")
    train(run)
    assert len(losses(run.out)) == 4
    assert all(loss == loss for _, loss in losses(run.out))


def test_everything_on(start):
    on = ("mixup_alpha=0.8", "cutmix_alpha=1.0", "label_smoothing=0.1", "num_repeats=2", "drop_path=0.2",
          "global_drop_path=0.2", "layer_decay=0.8", "color_jitter=0.4", "erase_prob=0.25",
          "randaugment=rand-m7-n4-mstd0.5-inc1", "local=double", "epochs=1", "warmup_epochs=0")  # fmt: skip
    run = start("run", *on)
    train(run)
    assert len(losses(run.out)) == 9  # each clip twice


@pytest.mark.parametrize(
    ("batch_size", "gpu", "world", "expected"),
    [(256, 32, 8, (1, 32)), (256, 32, 1, (8, 32)), (256, 32, 3, None), (256, 30, 8, (2, 16)), (6, 4, 2, (1, 3))],
)
def test_the_batch_is_kept_on_any_number_of_gpus(batch_size, gpu, world, expected):
    if expected is None:
        with pytest.raises(UsageError, match="a batch of 256 does not divide into 3 processes"):
            cut(batch_size, gpu_batch_size=gpu, world_size=world)
        return
    pieces = cut(batch_size, gpu_batch_size=gpu, world_size=world)
    assert (pieces.num_pieces, pieces.piece_size) == expected
    assert pieces.num_pieces * pieces.piece_size * world == batch_size


@pytest.mark.slow
def test_memory_is_counted_without_any():
    from k710.models.uniformerv2.config import preset

    b16 = estimate_memory(UNIFORMERV2, preset("kinetics_b16"), precision="bf16")
    # 114.8 M parameters of 16 bytes, and a little; 12 blocks of 8 x 197 tokens of 768, some 34 bytes a number
    # (Korthikanti et al., 2022).
    assert b16.model_bytes == pytest.approx(114.8e6 * 16, rel=0.15)
    assert b16.clip_bytes == pytest.approx(12 * 8 * 197 * 768 * 34, rel=0.25)
    recomputed = estimate_memory(UNIFORMERV2, preset("kinetics_b16", checkpoint_blocks=12), precision="bf16")
    frozen = estimate_memory(UNIFORMERV2, preset("kinetics_l14_336_frozen"), precision="bf16")
    assert recomputed.clip_bytes < b16.clip_bytes / 2
    assert frozen.model_bytes < 354e6 * 8
    assert k710.train.memory.estimate_memory(UNIFORMERV2, preset("tiny"), precision="fp32").clip_bytes > 0


def test_a_dry_run_says_what_would_be_needed(experiment):
    manifest, clips = experiment
    recipe, _ = read_train_recipe("tiny-k710", SMALL)
    how = {"world_size": 2, "origin": Origin()}
    lines = "\n".join(needs(recipe, manifest.path, Media(folder=clips), rate=4.0, **how))
    assert "start: from nothing: all weights are random" in lines
    assert "409,942 parameters" not in lines  # local=none has fewer
    assert "2 processes take 4 clips at once" in lines
    assert "96 in 3 epochs" in lines
    assert "rate: 4.0 clips/s as you say; the loaders of each of 2 processes must give 2.0 clips/s" in lines
    assert "time: 0 min 24 s" in lines
    reckoned = "\n".join(needs(recipe, manifest.path, Media(folder=clips), rate=None, **how))
    assert "rate: not known; so small a model" in reckoned
    assert "time:" not in reckoned
    released, _ = read_train_recipe("clip-k400-b16", ["batch_size=4"])
    large = "\n".join(needs(released, manifest.path, Media(folder=clips), rate=None, **how))
    assert "if a GPU sustains 156 TFLOP/s" in large
    assert "start: from a CLIP image tower, which --clip-weights must name; not looked at" in large


def test_a_dry_run_refuses_what_training_refuses(k710, experiment, uninterrupted, tmp_path):
    manifest, clips = experiment
    plain = ("train", "--recipe", "tiny-k710", "--manifest", manifest.path, "--folder", clips, "--device", "cpu")
    small = [word for change in SMALL for word in ("--set", change)]
    (tmp_path / "full").mkdir()
    (tmp_path / "full/thesis.txt").touch()
    wrong = {
        "a batch above the dataset": (*small, "--set", "batch_size=64"),
        "a batch without clips": (*small, "--set", "batch_size=0"),
        "augmentation": (*small, "--set", "flip_prob=2"),
        "a run is there": (*small, "--out", uninterrupted),
        "something else is there": (*small, "--out", tmp_path / "full"),
        "no such checkpoint": (*small, "--set", "start=checkpoint", "--init", tmp_path / "none.pt"),
        "a start that the recipe has not": (*small, "--init", uninterrupted / "best.pt"),
        "no such tower": (*small, "--set", "start=clip", "--clip-weights", clips),
    }
    for name, words in wrong.items():
        out = () if "--out" in words else ("--out", tmp_path / "new")
        planned = k710(*plain, *words, *out, "--dry-run")
        assert not (tmp_path / "new").exists(), name
        trained = k710(*plain, *words, *out)
        shutil.rmtree(tmp_path / "new", ignore_errors=True)
        assert (planned.exit_code, planned.stdout) == (trained.exit_code, ""), name
        assert planned.exit_code in (1, 2), name
        assert planned.stderr.splitlines()[-1] == trained.stderr.splitlines()[-1], name


def test_a_dry_run_says_that_the_rate_is_scaled(k710, experiment, tmp_path):
    manifest, clips = experiment
    plain = (
        "train",
        "--recipe",
        "tiny-k710",
        "--manifest",
        manifest.path,
        "--folder",
        clips,
        "--out",
        tmp_path / "run",
    )
    result = k710(*plain, "--set", "batch_size=4", "--dry-run")
    assert result.exit_code == 0, result.output
    assert "lr" in result.stderr
    assert "batch" in result.stderr


def test_a_finetune_starts_from_the_rows_of_its_classes(start, uninterrupted, experiment, tmp_path):
    manifest, clips = experiment
    recipe, _ = read_train_recipe("tiny-k400", [*SMALL, "start=checkpoint", "batch_size=4", "epochs=1"])
    said: list[str] = []
    arguments = {"media": Media(folder=clips), "say": said.append}
    process = Process(torch.device("cpu"))
    origin = Origin(init=uninterrupted / "best.pt")
    run = prepare(recipe, manifest.path, tmp_path / "k400", process, origin=origin, **arguments)
    assert any("400 rows picked by class name, to k400 (canonical)" in line for line in said)
    body, head = weights(uninterrupted / "best.pt"), run.head["labels"]
    whole = run_folder.read_checkpoint(uninterrupted / "best.pt")["head"]["labels"]
    rows = torch.tensor([whole.index({"tying tie": "tying necktie"}.get(head[i], head[i])) for i in (0, 5)])
    assert torch.equal(run.model.transformer.proj[2].weight[[0, 5]], body["transformer.proj.2.weight"][rows])
    assert torch.equal(run.model.conv1.weight, body["conv1.weight"])
    began = run.facts["start"]
    assert began["init"] == str(uninterrupted / "best.pt")
    assert began["run"]["recipe"]["data"]["view"] == "k710"
    assert began["run"] == run_folder.read_checkpoint(uninterrupted / "best.pt")["run"], "what that was trained on"
    fresh = prepare(
        read_train_recipe("tiny-k400", [*SMALL, "batch_size=4", "epochs=1", "head=new"])[0],
        manifest.path, tmp_path / "fresh", process, origin=origin, **arguments,
    )  # fmt: skip
    assert torch.equal(fresh.model.conv1.weight, body["conv1.weight"])
    assert not torch.equal(fresh.model.transformer.proj[2].weight, run.model.transformer.proj[2].weight)
    train(run)


def refused(start, *changes, **options) -> K710Error:
    with pytest.raises(K710Error) as error:
        start("refused", *changes, **options)
    return error.value


def test_what_can_be_known_is_known_before_the_first_step(start, experiment, uninterrupted, tmp_path):
    best = Origin(init=uninterrupted / "best.pt")
    assert "starts from nothing; --init is given" in str(refused(start, origin=best))
    assert "starts from a checkpoint: --init FILE" in str(refused(start, "start=checkpoint"))
    assert "starts from a CLIP image tower: --clip-weights FILE" in str(refused(start, "start=clip"))
    assert str(
        refused(start, "start=checkpoint", "head=remap", "view=k700", origin=Origin(init=tmp_path / "none"))
    ) == (f"{tmp_path / 'none'}: no such file or folder")
    shutil.copy(uninterrupted / "best.pt", tmp_path / "best.pt")
    k400, _ = write_remap(plan_remap([tmp_path / "best.pt"], to="k400"))
    lacking = refused(start, "start=checkpoint", "head=remap", origin=Origin(init=k400))
    assert str(lacking).endswith("To take the body alone: --set head=new")
    other_size = refused(start, "start=checkpoint", "size_px=64", origin=best)
    assert isinstance(other_size, CheckpointError)
    assert "positional_embedding" in str(other_size)
    assert "does not fit" in str(refused(start, "start=checkpoint", "local=double", origin=best))
    assert "38 k710 train clips, fewer than one batch of 64" in str(refused(start, "batch_size=64"))
    assert "has no clips" in str(refused(start, folder=tmp_path))
    assert isinstance(refused(start, "randaugment=rand-x"), UsageError)
    missing = refused(start, "view=k700_2020")
    assert "k700_2020 has no train clips" in str(missing)
    assert not (tmp_path / "refused/run.json").exists()


def test_the_command_says_one_message(k710, experiment, tmp_path):
    manifest = experiment[0]
    result = k710("train", "--recipe", "tiny-k71", "--manifest", manifest.path)
    assert result.exit_code == 1
    assert "no recipe 'tiny-k71'; known: " in result.stderr
    result = k710("train", "--recipe", "tiny-k710", "--manifest", manifest.path, "--set", "lrr=1")
    assert "unknown key 'lrr'; did you mean 'optim.lr'?" in result.stderr
    assert result.exit_code == 2
    result = k710("train", "--recipe", "tiny-k710", "--manifest", tmp_path / "none")
    assert "no manifest there" in result.stderr
    result = k710("train", "--recipe", "tiny-k710", "--manifest", manifest.path, "--out", tmp_path / "run")
    assert result.exit_code == 1
    assert "has no k710 train clip" in result.stderr
    assert "k710 fetch" in result.stderr
    assert loop.train is train
