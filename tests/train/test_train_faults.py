"""Training when something goes wrong: what is left can be gone on from, and one message says what it was."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn

from k710.engine import torch_process as process
from k710.engine.torch_process import LostError, NoGpuError, Process, SharedError, prints_error
from k710.errors import CheckpointError, LoadError, TrainError, UsageError
from k710.evaluation.views_pass import predict_views
from k710.loading.augment.augment import Augment
from k710.models.uniformerv2.family import UNIFORMERV2
from k710.models.uniformerv2.model import UniFormerV2
from k710.train import loop, outcomes, run_folder, validate
from k710.train.loop import train
from k710.train.objectives import OBJECTIVES
from k710.train.optimizer import make_optimizer
from k710.train.prepare import check_precision
from k710.train.read_recipe import read_train_recipe
from k710.train.run_folder import read_checkpoint, step_files, write_checkpoint
from k710.train.run_log import read_log
from k710.train.start import Origin
from k710.train.step import Stepper
from k710.train.stop import StoppedError
from tests.helpers.small_runs import command, torchrun, wait_for_step, weights

pytestmark = pytest.mark.slow

CLASSIFY = OBJECTIVES["classify"]
pytest_plugins = ("tests.helpers.run_fixtures",)

ONE = ("epochs=1", "warmup_epochs=0")


def terminate_at(*prefixes: str):
    """A `say` that signals the own process at the first line that begins so."""

    def say(line: str) -> None:
        if line.startswith(prefixes):
            os.kill(os.getpid(), signal.SIGTERM)

    return say


# Being stopped.


def test_a_stop_in_a_validation_is_heeded_there(start, monkeypatch):
    """With everything saved before it, so that nothing is lost however long it is."""
    run = start("run", *ONE)
    monkeypatch.setattr(loop, "validate", functools.partial(_terminated, loop.validate))
    with pytest.raises(StoppedError, match="stopped by SIGTERM after step 4;"):
        train(run)
    assert not (run.out / "best.pt").exists()
    assert not [line for line in read_log(run.out / "log.jsonl") if line["kind"] == "validation"]
    monkeypatch.undo()
    train(start("run", *ONE, resume=True))
    assert [line["epoch"] for line in read_log(run.out / "log.jsonl") if line["kind"] == "validation"] == [1]


def _terminated(original, *arguments):
    os.kill(os.getpid(), signal.SIGTERM)
    original(*arguments)


def test_a_kill_after_a_validation_was_told_tells_it_once(start, monkeypatch):
    """Between its line in the log and the checkpoint that holds it."""
    write, run = run_folder.write_step, start("run", *ONE)

    def killed(out, step, content, *, keep):
        if content["progress"]["settled_epochs"] == 1:
            raise KeyboardInterrupt
        return write(out, step, content, keep=keep)

    monkeypatch.setattr("k710.train.saved.write_step", killed)
    with pytest.raises(KeyboardInterrupt):
        train(run)
    assert [line["epoch"] for line in read_log(run.out / "log.jsonl") if line["kind"] == "validation"] == [1]
    monkeypatch.undo()
    train(start("run", *ONE, resume=True))
    assert [line["step"] for line in read_log(run.out / "log.jsonl") if line["kind"] == "validation"] == [4]


@pytest.mark.slow
def test_torchrun_passes_a_signal_on_and_all_is_saved(experiment, tmp_path):
    """torchrun signals whole process groups, loader workers among them."""
    out = tmp_path / "two"
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    words = command(experiment, out, "--workers", "1", "--set", "epochs=400")
    program = subprocess.Popen([*launcher, *words], stderr=subprocess.PIPE, text=True)
    wait_for_step(out, 6, program)
    program.terminate()
    stderr = program.communicate(timeout=120)[1]
    assert "k710: stopped by SIGTERM after step" in stderr
    assert stderr.count("k710: ") == 1
    last = read_log(out / "log.jsonl")[-1]["step"]
    assert step_files(out)[0].name == f"step-{last:08d}.pt"


def test_clips_that_failed_before_a_stop_are_named(start, experiment, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(experiment[1], broken)
    names = sorted(path for path in broken.iterdir() if path.name[-23:-18] != "00000")
    for clip in names[:20]:
        clip.write_bytes(clip.read_bytes()[:300])
    said: list[str] = []
    whole = start("whole", *ONE, folder=broken, say=said.append)
    train(whole)

    def failed(run) -> set[str]:
        lines = [line for line in read_log(run.out / "log.jsonl") if line["kind"] == "failed"]
        return {clip for line in lines for clip in line["clips"]}

    with pytest.raises(StoppedError):
        train(start("run", *ONE, folder=broken, say=terminate_at("step 2 "), report_every=1))
    train(run := start("run", *ONE, folder=broken, resume=True))
    assert failed(run) == failed(whole) != set()


# Checkpoints.


def test_falling_back_never_loses_the_only_good_checkpoint(start):
    """The damaged newest one stood for the one to keep, and what was written after it was removed."""
    run = start("run", keep=1)
    with pytest.raises(StoppedError):
        train(start("run", keep=1, say=terminate_at("step 6 "), report_every=1, resume=True))
    (good,) = step_files(run.out)
    shutil.copy(good, run.out / "checkpoints/step-00000012.pt")
    damaged = bytearray(good.read_bytes())
    damaged[len(damaged) // 2] ^= 255
    (run.out / "checkpoints/step-00000012.pt").write_bytes(damaged)
    said: list[str] = []
    again = start("run", keep=1, resume=True, say=said.append)
    assert any("step-00000012.pt: damaged: " in line and "is not what was written" in line for line in said)
    assert again.resumed["step"] == 7  # a step is told of while the next one runs
    (run.out / "checkpoints/step-00000012.damaged").unlink()
    run_folder.write_step(run.out, 8, again.resumed, keep=1)
    assert [path.name for path in step_files(run.out)] == ["step-00000008.pt"]
    shutil.copy(step_files(run.out)[0], run.out / "checkpoints/step-00000010.pt")
    run_folder.write_step(run.out, 9, again.resumed, keep=1)
    assert (run.out / "checkpoints/step-00000009.pt").exists(), "what was just written is never removed"


@pytest.mark.parametrize("part", [0.3, 0.5, 0.7])
def test_one_wrong_bit_is_found(tmp_path, part):
    path = tmp_path / "step-00000001.pt"
    write_checkpoint(path, {"model": {"weight": torch.randn(1000)}})
    run_folder.check_whole(path)
    content = bytearray(path.read_bytes())
    content[int(len(content) * part)] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged: "):
        run_folder.newest_checkpoint(_run_of(path))


def _run_of(path: Path) -> Path:
    (path.parent / "run/checkpoints").mkdir(parents=True)
    shutil.copy(path, path.parent / "run/checkpoints")
    return path.parent / "run"


@pytest.mark.slow
def test_a_full_disk_leaves_the_old_checkpoint_and_says_so(tmp_path):
    """For real: no file of the process may grow beyond 64 kB."""
    program = f"""
import resource, sys, torch
from k710.errors import TrainError
from k710.train.run_folder import write_step
from pathlib import Path
run = Path({str(tmp_path)!r}); (run / "checkpoints").mkdir()
write_step(run, 1, {{"model": {{"weight": torch.ones(10)}}}}, keep=1)
resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))
try:
    write_step(run, 2, {{"model": {{"weight": torch.ones(10**6)}}}}, keep=1)
except TrainError as error:
    print(error)
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "step-00000002.pt: cannot be written" in result.stdout, result.stderr
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000001.pt"]


def test_a_start_that_was_killed_anywhere_is_begun_again(start, tmp_path, monkeypatch):
    """Between run.json and recipe.yaml too, by a job that is always given --resume."""
    replacing = run_folder.replacing
    for number in range(2):
        written: list[Path] = []

        def killed(path, number=number, written=written):
            if len(written) == number:
                raise KeyboardInterrupt
            written.append(path)
            return replacing(path)

        monkeypatch.setattr(run_folder, "replacing", killed)
        with pytest.raises(KeyboardInterrupt):
            start(f"run{number}", resume=True)
        monkeypatch.undo()
        assert start(f"run{number}", resume=True).resumed is None


def test_a_finished_run_whose_checkpoints_were_removed_is_not_begun_anew(start):
    run = start("run", *ONE)
    train(run)
    train(start("run", *ONE, resume=True))  # a finished one has nothing left to do
    for path in step_files(run.out):
        path.unlink()
    with pytest.raises(CheckpointError, match=r"has a best\.pt, and no checkpoint to go on from"):
        start("run", *ONE, resume=True)


def test_a_resume_needs_no_room_for_what_is_there(start, monkeypatch):
    run = start("run", *ONE)
    train(run)
    there = sum(path.stat().st_size for path in (*step_files(run.out), run.out / "best.pt"))
    usage = shutil.disk_usage("/")
    needed = []
    check_room = run_folder.check_room
    monkeypatch.setattr(run_folder, "check_room", lambda out, size: needed.append(size) or check_room(out, size))
    monkeypatch.setattr(run_folder.shutil, "disk_usage", lambda path: usage._replace(free=needed[-1] - there + 1))
    start("run", *ONE, resume=True)
    monkeypatch.setattr(run_folder.shutil, "disk_usage", lambda path: usage._replace(free=needed[-1] - there - 1))
    with pytest.raises(TrainError, match="its checkpoints need"):
        start("run", *ONE, resume=True)


def test_two_runs_do_not_share_a_folder(start):
    run = start("run", *ONE)
    with run_folder.locked(run.out), pytest.raises(TrainError, match="another process trains there, and holds "):
        train(run)
    train(start("run", *ONE, resume=True))


def test_of_two_runs_that_begin_together_one_is_refused(start, tmp_path):
    """The second would put its recipe in the place of the first one's, which then could not go on."""
    begun = []

    def meanwhile(line: str) -> None:
        if not begun:
            begun.append(start("run"))

    with pytest.raises(TrainError, match="a run is there already"):
        start("run", "lr=2e-3", say=meanwhile)
    assert run_folder.read_facts(tmp_path / "run")[0] == begun[0].recipe


def test_blocks_may_be_computed_again_after_a_resume(start):
    """What the message of a GPU without memory advises."""
    with pytest.raises(StoppedError):
        train(start("run", *ONE, say=terminate_at("step 2 "), report_every=1))
    run = start("run", *ONE, "checkpoint_blocks=4", resume=True)
    assert run.resumed["step"] == 3
    train(run)


def test_a_checkpoint_of_a_gpu_is_read_without_one(tmp_path, monkeypatch):
    from k710.models.checkpoints.checkpoint import open_checkpoint
    from k710.train.start import head_record

    monkeypatch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:3")
    write_checkpoint(
        tmp_path / "gpu.pt", {"model": {"weight": torch.arange(5.0)}, "head": head_record(UNIFORMERV2, "k400")}
    )
    assert b"cuda:3" in (tmp_path / "gpu.pt").read_bytes()
    assert read_checkpoint(tmp_path / "gpu.pt")["model"]["weight"].tolist() == [0, 1, 2, 3, 4]
    assert open_checkpoint(tmp_path / "gpu.pt").tensor("weight").tolist() == [0, 1, 2, 3, 4]


# Validation.


def test_the_best_is_the_best_that_was_seen():
    nothing, some, more = {"top1": math.nan}, {"top1": 0.0}, {"top1": 0.5}
    assert validate.is_better(nothing, None, CLASSIFY)
    assert validate.is_better(some, nothing, CLASSIFY), (
        "a first validation without a readable clip is beaten by any other"
    )
    assert not validate.is_better(nothing, some, CLASSIFY)
    assert validate.is_better(more, some, CLASSIFY)
    assert not validate.is_better(some, some, CLASSIFY), "the first of equals stays"
    assert validate.is_better({}, {"epoch": 3}, CLASSIFY), "without val clips, the newest"


def test_val_clips_that_cannot_be_read_are_named(start, experiment, tmp_path):
    run = start("run", *ONE)
    val = run.val.index[0].clip_id
    broken = tmp_path / "broken"
    shutil.copytree(experiment[1], broken)
    (broken / f"{val}.mp4").write_bytes((broken / f"{val}.mp4").read_bytes()[:300])
    said: list[str] = []
    train(start("broken-run", *ONE, folder=broken, say=said.append))
    (line,) = (line for line in read_log(tmp_path / "broken-run/log.jsonl") if line["kind"] == "validation")
    assert list(line["failed"]) == [val]
    assert any(line.startswith("validation after epoch 1: 1 clip could not be read") for line in said)


@pytest.mark.slow
def test_val_clips_without_a_label_are_not_scored(start, monkeypatch):
    run = start("run", *ONE)
    seen = []
    monkeypatch.setattr(validate, "accuracies", lambda scores, classes: seen.append(classes) or {"top1": 0.0})

    def unlabelled(*arguments, **options):
        found = predict_views(*arguments, **options)
        return dataclasses.replace(found, class_ids=np.where(np.arange(len(found.class_ids)) == 0, -1, found.class_ids))

    monkeypatch.setattr(validate, "predict_views", unlabelled)
    train(run)
    assert len(seen[0]) == len(run.val) - 1
    assert (seen[0] >= 0).all()


def test_a_gpu_without_room_for_a_batch_of_views_says_so(start, monkeypatch):
    run = start("run", *ONE)

    def full(model, clips):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(UniFormerV2, "forward", full)
    with pytest.raises(TrainError, match="no memory for 8 views at once; take fewer: --batch-size"):
        predict_views(run.model, run.val, run.process, num_classes=710, augment=Augment(crop_px=32))


# Numbers.


@pytest.mark.slow
def test_gradients_that_stay_infinite_under_a_scaler_stop_the_run(start, monkeypatch):
    """A scaler leaves such steps out, all of them if need be: a week of nothing."""
    monkeypatch.setattr(outcomes, "_SKIPPED_IN_ROW", 3)
    run = start("run", "precision=fp16", *ONE)
    steps = []
    original = loop.Stepper.__call__

    def infinite(stepper, step, batches):
        steps.append(step)
        return dataclasses.replace(original(stepper, step, batches), grad_norm=torch.tensor(math.inf))

    monkeypatch.setattr(loop.Stepper, "__call__", infinite)
    with pytest.raises(TrainError, match=r"step 3: the loss is .*, the norm of its gradients inf"):
        train(run)
    assert len(steps) == 4
    for line in (run.out / "log.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=pytest.fail)  # Infinity is no JSON


def test_the_scaler_is_undone_before_gradients_are_clipped(start):
    """The same step with a scale of 1 and of 1024, with a limit that acts."""
    norms, weights_of = [], []
    for scale in (1.0, 1024.0):
        run = start(f"run{scale:.0f}", "clip_grad=0.01", "mlp_dropout=0", "head_dropout=0")
        model = run.model.train()
        scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        stepper = Stepper(
            model,
            model,
            make_optimizer(model, UNIFORMERV2, run.recipe.optim),
            scaler,
            run.recipe,
            run.pieces,
            run.process,
        )
        taken = stepper(1, iter(run.train_loader()))
        norms.append(float(taken.grad_norm))
        weights_of.append(model.transformer.proj[2].weight.grad.norm())
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)
    assert norms[0] > 0.01, "the limit acts"
    assert all(float(norm) <= 0.01 + 1e-6 for norm in weights_of)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Grad strides do not match")
def test_compiled_and_wrapped_is_the_same_step(start, monkeypatch):
    """What torchrun --compile makes of a model: the same gradients, and names without prefix in the checkpoint."""
    monkeypatch.setattr(loop.torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        found = []
        for compiled in (False, True):
            run = start(f"run{compiled}", "gpu_batch_size=4", compiled=compiled, resume=True)
            model = run.model.train()
            net = loop._called(model, run)
            net = nn.parallel.DistributedDataParallel(net, gradient_as_bucket_view=True) if compiled else net
            optimizer, scaler = (
                make_optimizer(model, UNIFORMERV2, run.recipe.optim),
                torch.amp.GradScaler("cpu", enabled=False),
            )
            stepper = Stepper(net, model, optimizer, scaler, run.recipe, run.pieces, run.process)
            batches = iter(run.train_loader())
            norm = [float(stepper(step, batches).grad_norm) for step in (1, 2)]
            found.append((norm, dict(model.state_dict())))
        assert found[0][0] == pytest.approx(found[1][0], rel=1e-3)
        assert found[0][1].keys() == found[1][1].keys()
        assert not any("_orig_mod" in name or "module." in name for name in found[1][1])
        for name, tensor in found[0][1].items():
            assert torch.allclose(tensor, found[1][1][name], atol=2e-3), name
    finally:
        dist.destroy_process_group()


def test_a_gpu_that_imitates_bf16_is_refused(start, monkeypatch):
    recipe = read_train_recipe("finetune-k400-b16")[0]
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla V100")
    with pytest.raises(UsageError, match="Tesla V100 has no bf16; --set precision=fp16"):
        check_precision(recipe, torch.device("cuda", 0))
    check_precision(recipe, torch.device("cpu"))
    check_precision(recipe.replace({"optim.precision": "fp16"}), torch.device("cuda", 0))


@pytest.mark.slow
def test_what_fits_is_tried_as_the_run_would(start, monkeypatch):
    """In the run's precision, beside the moments that AdamW has yet to make."""
    run, seen = start("run", *ONE), []
    forward = UniFormerV2.forward
    made = []
    empty_like = torch.empty_like
    monkeypatch.setattr(torch, "empty_like", lambda tensor: made.append(tensor) or empty_like(tensor))

    def small_gpu(model, clips):
        if len(clips) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory")
        seen.append(torch.is_autocast_enabled("cpu"))
        return forward(model, clips)

    monkeypatch.setattr(UniFormerV2, "forward", small_gpu)
    with pytest.raises(TrainError, match="4 would fit"):
        train(run)
    assert seen == [False], "tiny-k710 is float32"
    assert len(made) == 2 * len(list(run.model.parameters()))


# Several processes.


@pytest.fixture
def two_processes(monkeypatch):
    """What `gather` brings is made up: the other process's value."""

    def process_with(other) -> Process:
        process_here = Process(torch.device("cpu"), 0, 2)
        monkeypatch.setattr(Process, "gather", lambda here, value: [value, other])
        return process_here

    return process_with


def test_what_stops_one_stops_all_with_one_message(two_processes):
    with pytest.raises(SharedError, match=r"^no room$") as stopped, two_processes(None).together():
        raise TrainError("no room")
    assert stopped.value.exit_code == 1
    told = two_processes(("not mounted", 2))
    with pytest.raises(SharedError, match=r"^process 1: not mounted$") as stopped, told.together():
        pass
    assert stopped.value.exit_code == 2
    with pytest.raises(SharedError, match=r"x\.pt: No space left on device"), two_processes(None).together():
        raise OSError(28, "No space left on device", "x.pt")
    with two_processes(None).together():
        pass
    with pytest.raises(UsageError), Process(torch.device("cpu")).together():
        raise UsageError("alone, an error is what it is")


def test_who_speaks(monkeypatch):
    shared, own = SharedError("all"), LoadError("mine")
    for rank, local, met, expected in [(0, 0, True, (True, True)), (3, 3, True, (False, True)),
                                       (3, 3, False, (False, False)), (8, 0, False, (False, True))]:  # fmt: skip
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("LOCAL_RANK", str(local))
        monkeypatch.setattr(process.dist, "is_initialized", lambda met=met: met)
        assert (prints_error(shared), prints_error(own)) == expected
    assert prints_error(NoGpuError("those that have one do not know"))
    monkeypatch.setenv("RANK", "1")
    assert not prints_error(LostError("the other says why"))


def test_a_process_without_a_gpu_says_so(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert process.pick_device(None) == torch.device("cuda", 3)
    monkeypatch.setenv("LOCAL_RANK", "4")
    with pytest.raises(NoGpuError, match="process 4 of this node has no GPU of its own: there are 4"):
        process.pick_device(None)


FAULTS = """
import os, signal, sys
import k710.train.prepare, k710.train.step
from k710.errors import LoadError
from k710.cli import main

fault, sys.argv[1:] = sys.argv[1], sys.argv[2:]

def spoiled(*arguments, **options):
    raise LoadError("the store of this node is not mounted")

steps = []
measure = k710.train.step.Stepper.measure

def ended(stepper, batch):
    steps.append(batch)
    if len(steps) == 6:
        if fault == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        raise LoadError("8 clips in a row could not be read")
    return measure(stepper, batch)

if os.environ["RANK"] == "1":
    if fault == "store":
        k710.train.prepare.open_clips = spoiled
    else:
        k710.train.step.Stepper.measure = ended
main()
"""


GONE = "k710: process 0: another process of this run has gone"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("store", ["k710: process 1: the store of this node is not mounted"]),
        ("clips", ["k710: 8 clips in a row could not be read", GONE]),
        ("killed", [GONE]),
    ],
)
def test_one_process_that_fails_ends_all_with_its_message(experiment, tmp_path, fault, said):
    (tmp_path / "faults.py").write_text(FAULTS)
    began_s = time.perf_counter()
    result = torchrun(str(tmp_path / "faults.py"), fault, *command(experiment, tmp_path / "run")[2:])
    assert time.perf_counter() - began_s < 120
    assert result.returncode == 1
    lines = [line for line in result.stderr.splitlines() if line.startswith("k710: ")]
    assert len(lines) == len(said)
    assert all(line.startswith(begin) for line, begin in zip(sorted(lines), sorted(said), strict=True))
    assert "[rank" not in result.stderr, "no traceback of ours"


# What can be known.


def test_settings_that_cannot_be_are_refused_before_a_run_is_there(start, tmp_path):
    with pytest.raises(UsageError, match=r"mixup_alpha is 2\.0; allowed: 0 to 1"):
        start("refused", "mixup_alpha=2.0")
    with pytest.raises(UsageError, match="fewer than one batch of 4096"):
        start("refused", "batch_size=4096")
    assert not (tmp_path / "refused").exists(), "no empty folder is left where nothing was begun"
    with pytest.raises(Exception, match="seed must lie between 0 and"):
        read_train_recipe("tiny-k710", [f"seed={10**400}"])


@pytest.mark.slow
def test_the_average_is_shared_before_it_is_validated(start, monkeypatch):
    """Processes' averages of batch norm's statistics differ; that of the first is the one that is kept."""
    run = start("run", *ONE, "ema_decay=0.9", "local=double")
    shared = []

    def share(process, model):
        shared.append({name: buffer.clone() for name, buffer in model.named_buffers()})

    monkeypatch.setattr(Process, "share_buffers", share)
    train(run)
    kept = weights(run.out / "best.pt")
    assert len(shared) == 1
    assert shared[0]
    assert all(torch.equal(tensor, kept[name]) for name, tensor in shared[0].items())


def test_best_is_of_the_best_epoch(start, monkeypatch):
    scores = iter([0.2, 0.5, 0.5])
    monkeypatch.setattr(validate, "accuracies", lambda found, classes: {"top1": next(scores)})
    run = start("run", "epochs=3", "warmup_epochs=0")
    assert train(run).best == {"epoch": 2, "step": 8, "top1": 0.5}
    assert read_checkpoint(run.out / "best.pt")["step"] == 8
    lines = [line for line in read_log(run.out / "log.jsonl") if line["kind"] == "validation"]
    assert [line["best"] for line in lines] == [True, True, False]


def test_a_resume_from_another_start_says_so(start, uninterrupted, monkeypatch):
    """The weights are the checkpoint's, whatever the command still names."""
    train(start("run", *ONE))
    said: list[str] = []
    start("run", *ONE, resume=True, say=said.append)
    assert not any("is not looked at" in line for line in said)
    run = start("run", *ONE, resume=True, say=said.append, origin=Origin(init=uninterrupted / "best.pt"))
    assert f"it began from nothing; {uninterrupted / 'best.pt'} is not looked at" in said
    assert run.facts["start"] == {"clip_weights": None, "init": None}, "the record is of what it did begin from"


def test_a_steps_numbers_are_waited_for_and_no_later_step(start, monkeypatch):
    """On a GPU they are on their way to the host before the next step is queued; here, by a mark that is made up."""
    order = []

    class Mark:
        def __init__(self, step: int) -> None:
            self.step = step

        def synchronize(self) -> None:
            order.append(("waited for", self.step))

    original = loop.Stepper.__call__

    def marked(stepper, step, batches):
        order.append(("begun", step))
        return dataclasses.replace(original(stepper, step, batches), done=Mark(step))

    monkeypatch.setattr(loop.Stepper, "__call__", marked)
    train(start("run", *ONE))
    assert order[:5] == [("begun", 1), ("begun", 2), ("waited for", 1), ("begun", 3), ("waited for", 2)]
    assert order.count(("waited for", 4)) == 1
