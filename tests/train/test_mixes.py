"""Masked pretraining on a mix and on a folder of videos: what a run leaves, resumes, and several processes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from k710.engine.torch_process import Process
from k710.errors import CheckpointError, UsageError
from k710.evaluation.trained_on import _views_and_hashes, unrecorded
from k710.loading.clip_source import Media
from k710.loading.mix_file import mix_of_folder, read_mix
from k710.report.figures.runs import run_figures
from k710.train.loop import train
from k710.train.prepare import prepare
from k710.train.read_recipe import read_train_recipe
from k710.train.run import Run, RunOptions
from k710.train.run_folder import read_checkpoint, step_files
from k710.train.run_log import read_log
from k710.train.start import Origin
from k710.train.stop import StoppedError
from tests.helpers.small_runs import losses, same_weights, stopping_after, torchrun, wait_for_step
from tests.helpers.tiny_media import clip_file

pytest_plugins = ("tests.helpers.run_fixtures",)

# 38 clips of the manifest, 7 of 14 pieces of films, each twice: 5 steps of 16 an epoch. Drop paths and an average
# of the weights are on, so that their randomness and state have to be the same too.
CHANGES = (
    "epochs=2", "warmup_epochs=1", "batch_size=16", "gpu_batch_size=8", "lr=2e-3", "every_epochs=1", "drop_path=0.1",
    "ema_decay=0.9", "num_repeats=2",
)  # fmt: skip
MIX = (
    "k710: {{manifest: {manifest}, folder: {clips}}}\n"
    "films: {{folder: films, clip_frames: 20, weight: 0.5, stride: 1}}\n"
)


@pytest.fixture(scope="module")
def mix(experiment, tmp_path_factory) -> Path:
    """The file of a mix, beside a folder of films, two of which are broken."""
    folder = tmp_path_factory.mktemp("mix")
    for number in range(2):
        clip_file(folder / f"films/{number}.mp4", seconds=14, first=1000 * number)
    (folder / "films/broken.mp4").write_text("no video at all")
    (folder / "films/empty.mkv").touch()
    (folder / "mix.yaml").write_text(MIX.format(manifest=experiment[0].path, clips=experiment[1]))
    return folder / "mix.yaml"


def begin(source, out: Path, *changes: str, **options) -> Run:
    recipe, _ = read_train_recipe("tiny-videomae-pretrain", (*CHANGES, *changes))
    given = {"say": lambda line: None, "origin": Origin(), "media": Media()} | options
    run_options = RunOptions(report_every=given.pop("report_every", 20))
    return prepare(recipe, source, out, Process(torch.device("cpu")), options=run_options, **given)


def command(mix: Path, out: Path, *options: str) -> list[str]:
    changes = [word for change in CHANGES for word in ("--set", change)]
    where = ("--recipe", "tiny-videomae-pretrain", "--mix", str(mix), "--out", str(out))
    return ["-m", "k710", "train", *where, *changes, *options]


@pytest.fixture(scope="module")
def uninterrupted(mix, tmp_path_factory) -> tuple[Path, list[str]]:
    """A run from beginning to end, and what it said."""
    out, lines = tmp_path_factory.mktemp("runs") / "whole", []
    train(begin(read_mix(str(mix)), out, say=lines.append, report_every=5))
    return out, lines


def test_a_run_says_and_records_its_members(uninterrupted, mix, experiment):
    out, lines = uninterrupted
    start = lines.index("from nothing: all weights are random") + 1
    assert lines[start : start + 5] == [
        "k710: 38 clips; 38 an epoch, 84.4% of the draws",
        "films: 14 clips (2 videos, 0 min 28 s together); 7 an epoch, 15.6% of the draws",
        "films: 2 files left out: broken.mp4: no video file: begins with b'no video at all'; empty.mkv: an empty file",
        "an epoch: 45 draws of 52 clips",
        "val: 10 clips",
    ]
    facts = json.loads((out / "run.json").read_text())
    assert facts["manifest"] is None
    assert facts["clips"]["train"]["loaded"] == 52
    k710, films = facts["mix"]
    assert (k710["name"], k710["manifest"], k710["view"]) == ("k710", experiment[0].content_hash, "k710")
    assert (films["draws"], films["share"], films["stride"], films["left_out"]) == (7, 0.155556, 1, 2)
    assert all(len(member["fingerprint"]) == 64 for member in facts["mix"])
    assert read_checkpoint(out / "best.pt")["run"]["mix"] == facts["mix"]
    assert read_mix(str(out / "mix.yaml")).members == read_mix(str(mix)).members
    assert json.loads((out / "left-out.json").read_text())["films"]["empty.mkv"] == "an empty file"


def test_its_log_has_what_was_drawn(uninterrupted):
    out, lines = uninterrupted
    steps = [line for line in read_log(out / "log.jsonl") if line["kind"] == "step"]
    assert all(sum(line["drawn"].values()) == 16 for line in steps)
    films = sum(line["drawn"]["films"] for line in steps)
    assert 2 * (14 - 10) <= films <= 2 * 14, "an epoch's last 10 of 90 samples are no whole batch"
    shown = [line for line in lines if line.startswith("step 5 ")]
    share = sum(line["drawn"]["films"] for line in steps[:5]) / (5 * 16)
    assert shown[0].endswith(f"; drawn: k710 {1 - share:.0%}, films {share:.0%}")
    assert steps[-1]["loss"] < steps[0]["loss"]


def test_evaluations_find_the_manifests_of_a_mix(uninterrupted, experiment):
    record = read_checkpoint(uninterrupted[0] / "best.pt")["run"]
    assert _views_and_hashes(record) == [("k710", experiment[0].content_hash)]
    assert unrecorded((record,)) == [
        "it was trained on a folder of videos (films); whether these clips are among them is not known"
    ]


def test_a_report_names_the_members(uninterrupted):
    (run,) = run_figures([uninterrupted[0]])["runs"]
    assert (run["view"], run["clips"], run["content_hash"], run["steps"]) == ("k710 + films", 52, None, 10)


def test_a_run_stopped_in_the_middle_of_an_epoch_resumes_bit_for_bit(uninterrupted, mix, tmp_path):
    out, source = tmp_path / "run", read_mix(str(mix))
    with pytest.raises(StoppedError):
        train(begin(source, out, say=stopping_after(7), report_every=1))
    position = read_checkpoint(step_files(out)[0])["position"]
    assert (position["epoch"], 0 < position["consumed"] < 5 * 16) == (1, True)
    train(begin(source, out, resume=True))
    assert losses(out) == losses(uninterrupted[0])
    assert same_weights(out / "best.pt", uninterrupted[0] / "best.pt")


@pytest.mark.slow
def test_a_run_killed_in_the_middle_of_an_epoch_resumes_bit_for_bit(uninterrupted, mix, tmp_path):
    out = tmp_path / "killed"
    words = [sys.executable, *command(mix, out, "--workers", "1")]
    program = subprocess.Popen([*words, "--save-every", "0.0005"], stderr=subprocess.PIPE)
    wait_for_step(out, 7, program)
    program.kill()
    program.communicate(timeout=30)
    assert 7 <= len(losses(out)) < 10
    done = subprocess.run([*words, "--resume"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "going on after step " in done.stderr
    assert losses(out) == losses(uninterrupted[0])
    assert same_weights(out / "best.pt", uninterrupted[0] / "best.pt")


@pytest.mark.slow
def test_two_processes_pretrain_as_one_that_accumulates(uninterrupted, mix, tmp_path):
    """Bit for bit: clips, frames, crops, masks and drop paths, and gradients averaged the same way."""
    done = torchrun(*command(mix, tmp_path / "two"))
    assert done.returncode == 0, done.stderr
    assert losses(tmp_path / "two") == losses(uninterrupted[0])
    assert same_weights(tmp_path / "two/best.pt", uninterrupted[0] / "best.pt")
    logs = [read_log(run / "log.jsonl") for run in (tmp_path / "two", uninterrupted[0])]
    for kind in ("step", "validation"):
        one, other = ([line for line in log if line["kind"] == kind] for log in logs)
        for key in ("loss", "drawn", "best"):
            assert [line.get(key) for line in one] == [line.get(key) for line in other], (kind, key)


@pytest.mark.slow
def test_two_processes_without_pieces_are_one_but_for_rounding(mix, tmp_path):
    """One process that takes the whole batch at once: sums have another order, and drop paths other places."""
    off = ("drop_path=0", "epochs=1", "gpu_batch_size=16")
    train(begin(read_mix(str(mix)), tmp_path / "one", *off))
    changes = [word for change in off for word in ("--set", change)]
    done = torchrun(*command(mix, tmp_path / "two", *changes))
    assert done.returncode == 0, done.stderr
    for (step, one), (_, two) in zip(losses(tmp_path / "one"), losses(tmp_path / "two"), strict=True):
        assert two == pytest.approx(one, abs=1e-5), step
    weights = [read_checkpoint(tmp_path / name / "best.pt")["model"] for name in ("one", "two")]
    for name, tensor in weights[0].items():
        assert torch.allclose(tensor, weights[1][name], atol=1e-4), name


def test_another_mix_is_not_resumed(uninterrupted, mix, experiment, tmp_path):
    out = uninterrupted[0]
    text = mix.read_text().replace("folder: films", f"folder: {mix.parent / 'films'}")

    def refused(changed: str) -> str:
        (tmp_path / "other.yaml").write_text(changed)
        with pytest.raises(CheckpointError) as error:
            begin(read_mix(str(tmp_path / "other.yaml")), out, resume=True)
        return str(error.value)

    other = f"{out}: the run there is on another mix: "
    assert refused(text.replace("weight: 0.5", "weight: 0.25")).startswith(
        f"{other}weight of films was 0.5 and is 0.25. "
    )
    assert refused(text.replace("stride: 1", "stride: 2")).startswith(f"{other}stride of films was 1 and is 2. ")
    assert refused(text.replace("films:", "own:")).startswith(f"{other}own is new; films is gone. ")
    assert refused("\n".join(reversed(text.splitlines()))).startswith(f"{other}its members have another order. ")
    copied = tmp_path / "films"
    copied.mkdir()
    for film in (mix.parent / "films").glob("?.mp4"):
        (copied / film.name).write_bytes(film.read_bytes())
    moved = text.replace(str(mix.parent / "films"), str(copied))
    (tmp_path / "moved.yaml").write_text(moved)
    begin(read_mix(str(tmp_path / "moved.yaml")), out, resume=True)  # the same files in another place, none broken
    clip_file(copied / "1.mp4", seconds=14, first=7)
    assert refused(moved).startswith(f"{other}the files of films are others. ")
    with pytest.raises(CheckpointError, match="on another mix: it was on a mix and is on a manifest"):
        begin(experiment[0].path, out, resume=True, media=Media(folder=experiment[1]))


def test_a_folder_of_videos_needs_no_file_and_has_no_val(mix, tmp_path):
    lines: list[str] = []
    folder = mix.parent / "films"
    with pytest.raises(UsageError, match=r"films: has 2 train clips, fewer than one batch of 16; --set batch_size=N"):
        begin(mix_of_folder(folder), tmp_path / "run")
    changes = ("batch_size=4", "gpu_batch_size=4", "steps=2", "epochs=0", "warmup_epochs=0")
    run = begin(mix_of_folder(folder), tmp_path / "run", *changes, say=lines.append)
    assert run.val is None
    assert "no val clips: nothing is validated, best.pt is the newest" in lines
    train(run)
    assert read_checkpoint(tmp_path / "run/best.pt")["step"] == 2


def test_a_process_that_sees_other_files_is_refused(mix, tmp_path, monkeypatch):
    monkeypatch.setattr(
        Process, "gather", lambda process, value: [["others"] if isinstance(value, list) else None, value]
    )
    recipe, _ = read_train_recipe("tiny-videomae-pretrain", CHANGES)
    second = Process(torch.device("cpu"), rank=1)
    with pytest.raises(UsageError, match="its clips are not those of process 0: all processes must see the same files"):
        prepare(
            recipe, read_mix(str(mix)), tmp_path / "run", second, origin=Origin(), media=Media(), say=lambda line: None
        )


def test_what_needs_classes_is_refused(mix, tmp_path):
    recipe, _ = read_train_recipe("tiny-k710")
    with pytest.raises(UsageError, match=r"mix\.yaml: a mix and a folder of videos have no classes"):
        prepare(
            recipe, read_mix(str(mix)), tmp_path / "run", Process(torch.device("cpu")), origin=Origin(), media=Media()
        )


def test_the_command_line(k710, mix, experiment, tmp_path, monkeypatch):
    train_it = ("train", "--recipe", "tiny-videomae-pretrain", "--out", tmp_path / "run")
    result = k710(*train_it, "--mix", mix, "--dry-run")
    assert result.exit_code == 0, result.output
    assert "clips: 52 train (2 missing), 10 val; 3,840 in 30 epochs" in result.stdout
    for options, message in (
        ((), "what to train on is missing: --manifest DIR, --mix FILE, or --folder DIR for any videos"),
        (("--mix", mix, "--manifest", experiment[0].path), "--mix and --manifest: the file of a mix says where"),
        (("--mix", mix, "--profile", "h264"), "--mix and --profile: the file of a mix says where"),
        (("--folder", mix.parent / "films", "--store", tmp_path), "--store is where the clips of a manifest are"),
    ):
        result = k710(*train_it, *options)
        assert (result.exit_code, message in result.stderr) == (2, True), result.stderr
    monkeypatch.chdir(tmp_path)
    (tmp_path / "k710.toml").write_text('manifest = "nowhere"\nstore = "nowhere"\n')
    result = k710(*train_it, "--mix", mix, "--dry-run")
    assert result.exit_code == 0, "what is typed wins over the project's options"
    (tmp_path / "k710.toml").write_text(f'[train]\nmix = "{mix}"\n')
    assert "clips: 52 train" in k710(*train_it, "--dry-run").stdout
    of_manifest = ("--manifest", experiment[0].path, "--folder", experiment[1])
    assert "clips: 38 train" in k710(*train_it, *of_manifest, "--dry-run").stdout
    result = k710(*train_it, "--mix", tmp_path / "none.yaml")
    assert result.exit_code == 1
    assert "none.yaml" in result.stderr
    printed = k710("recipes", "unlabeled-hybrid")
    assert printed.exit_code == 0
    assert "stride: 2" in printed.stdout
