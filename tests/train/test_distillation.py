"""Distillation: the loss by hand, teachers of any family, kept answers, resumed and on two processes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch

from k710.errors import CheckpointError, UsageError
from k710.evaluation.kept_logits import read_logits
from k710.loading.augment.evaluation_crops import evaluation_crops
from k710.loading.batch import Batch
from k710.loading.clip_source import Media
from k710.loading.load_clip import ClipOptions
from k710.loading.order import Sample
from k710.models.families import FAMILIES
from k710.models.load import model_from_checkpoint
from k710.models.videomaev2.config import PRESETS
from k710.models.videomaev2.model import VideoMAEV2
from k710.train.loop import train
from k710.train.objectives import OBJECTIVES
from k710.train.read_recipe import read_train_recipe
from k710.train.run_folder import read_checkpoint
from k710.train.run_log import read_log
from k710.train.start import Origin, head_record
from k710.train.stop import StoppedError
from k710.train.teacher import model_teacher
from tests.helpers.small_runs import EVERYTHING, SHORT, losses, same_weights, stopping_after, torchrun

pytest_plugins = ("tests.helpers.run_fixtures",)


def test_the_divergence_by_hand():
    """T² Σ p (log p - log q), p the teacher's softmax at temperature T, q the model's."""
    torch.manual_seed(0)
    logits, teacher = torch.randn(3, 5, requires_grad=True), torch.randn(3, 5)
    recipe = read_train_recipe("tiny-videomae-distill", ["distill_temperature=3.0"])[0].optim
    batch = Batch(
        torch.zeros(3), teacher.argmax(-1), torch.tensor([1.0, 1.0, 0.0]), ["a", "b", "c"], [], {},
        teacher_logits=teacher,
    )  # fmt: skip
    found = OBJECTIVES["distill"].measure(lambda pixels: logits, batch, [], recipe)
    p, q = ((one / 3).softmax(-1).detach().numpy() for one in (teacher, logits))
    expected = 9 * (p * (np.log(p) - np.log(q))).sum(-1)
    assert found.losses.tolist() == pytest.approx([*expected[:2], 0], abs=1e-5)
    assert found.measures["agreement"].tolist()[:2] == (logits.argmax(-1) == teacher.argmax(-1)).float().tolist()[:2]
    found.losses.sum().backward()
    # The gradient is T (q - p): with the square, of the size that cross entropy has.
    torch.testing.assert_close(logits.grad[:2], torch.from_numpy(3 * (q - p))[:2], rtol=1e-4, atol=1e-6)
    same = dataclasses.replace(batch, teacher_logits=logits.detach())
    assert OBJECTIVES["distill"].measure(lambda pixels: logits, same, [], recipe).losses.abs().max() < 1e-6


@pytest.mark.slow
def test_another_family_teaches(begin, uninterrupted, tmp_path):
    """A UniFormerV2 teaches a VideoMAE V2: other pixels, the same clips, and the student comes nearer to it."""
    origin = Origin(teacher=uninterrupted / "best.pt")
    changes = ("epochs=8", "warmup_epochs=1", "batch_size=8", "gpu_batch_size=8", "every_epochs=8")
    run = begin("tiny-videomae-distill", "run", *changes, origin=origin)
    assert run.facts["teacher"]["file"] == str(uninterrupted / "best.pt")
    before = {name: tensor.clone() for name, tensor in run.teacher.model.state_dict().items()}
    train(run)
    found = [loss for _, loss in losses(run.out)]
    assert np.mean(found[-9:]) < 0.5 * np.mean(found[:3])
    steps = [line for line in read_log(run.out / "log.jsonl") if line["kind"] == "step"]
    assert all(0 <= line["agreement"] <= 1 for line in steps)
    assert all(torch.equal(tensor, before[name]) for name, tensor in run.teacher.model.state_dict().items())
    assert not run.teacher.model.training
    best = read_checkpoint(run.out / "best.pt")
    assert best["run"]["teacher"]["sha256"] == run.facts["teacher"]["sha256"]


def test_a_teacher_sees_what_it_would_see_by_itself(begin, uninterrupted):
    """Pixels as its own family normalises them, and as large as it takes them."""
    recipe, _ = read_train_recipe("tiny-videomae-distill", ["view=k400"])
    teacher = model_teacher(recipe, uninterrupted / "best.pt", None, torch.device("cpu"))
    raw = torch.rand(2, 3, 8, 32, 32)

    def normalised(family):
        mean, std = (torch.tensor(values).view(1, 3, 1, 1, 1) for values in (family.mean, family.std))
        return (raw - mean) / std

    alone = model_from_checkpoint(uninterrupted / "best.pt").eval()
    expected = alone(normalised(teacher.family))[:, :400]  # canonical rows of Kinetics-400 are K710's first
    found = teacher.logits(normalised(recipe.family))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert not found.requires_grad
    larger = torch.nn.functional.interpolate(raw.transpose(1, 2).flatten(0, 1), (64, 64)).view(2, 8, 3, 64, 64)
    assert teacher.logits(larger.transpose(1, 2)).shape == (2, 400)


@pytest.fixture
def small(tmp_path) -> Path:
    """A VideoMAE V2 with a head of Kinetics-710, as k710 writes one."""
    torch.manual_seed(0)
    model = VideoMAEV2(dataclasses.replace(PRESETS["tiny"], init_scale=1.0))
    head = head_record(FAMILIES["videomaev2"], "k710")
    torch.save({"k710_format": 1, "model": model.state_dict(), "head": head}, tmp_path / "small.pt")
    return tmp_path / "small.pt"


def test_a_head_is_aligned_by_class_name(small, k710):
    """A teacher whose rows stand in another order answers alike once both are read by name."""
    recipe, _ = read_train_recipe("tiny-videomae-distill")
    files = [small]
    assert k710("remap-head", files[0], "--to", "k710", "--to-dialect", "uniformerv2").exit_code == 0
    files.append(next(path for path in small.parent.iterdir() if "uniformerv2" in path.name))
    teachers = [model_teacher(recipe, path, None, torch.device("cpu")) for path in files]
    pixels = torch.randn(2, 3, 8, 32, 32)
    assert torch.equal(*(teacher.logits(pixels) for teacher in teachers))
    heads = [read_checkpoint(path)["model"]["head.weight"] for path in files]
    assert not torch.equal(*heads)


def test_what_a_teacher_cannot_be(begin, uninterrupted, tmp_path):
    path = uninterrupted / "best.pt"
    with pytest.raises(UsageError, match="learns from a teacher: --teacher FILE"):
        begin("tiny-videomae-distill", "run", *SHORT)
    with pytest.raises(UsageError, match="the objective classify has no teacher, and --teacher"):
        begin("tiny-videomae-k710", "run", *SHORT, origin=Origin(teacher=path))
    unknown = tmp_path / "unknown.pth"
    state = {("fc" + name[4:] if name.startswith("head") else name): tensor for name, tensor in
             VideoMAEV2(dataclasses.replace(PRESETS["tiny"], num_classes=400)).state_dict().items()}  # fmt: skip
    torch.save(state, unknown)
    with pytest.raises(CheckpointError, match="--teacher-dialect"):
        begin("tiny-videomae-distill", "run", *SHORT, "view=k400", origin=Origin(teacher=unknown))
    odd = VideoMAEV2(dataclasses.replace(PRESETS["tiny"], tubelet_frames=4))
    head = read_checkpoint(path)["head"] | {"head": "head"}
    torch.save({"k710_format": 1, "model": odd.state_dict(), "head": head}, tmp_path / "odd.pt")
    with pytest.raises(UsageError, match=r"cannot take the student's 6 frames: .* num_frames is 6, want a positive"):
        begin("tiny-videomae-distill", "run", *SHORT, "num_frames=6", origin=Origin(teacher=tmp_path / "odd.pt"))


@pytest.mark.slow
def test_a_resume_has_the_teacher_that_it_began_with(begin, uninterrupted, small):
    origin = Origin(teacher=uninterrupted / "best.pt")
    whole = begin("tiny-videomae-distill", "whole", *SHORT, "epochs=1", origin=origin)
    train(whole)
    with pytest.raises(StoppedError):
        train(
            begin(
                "tiny-videomae-distill", "run", *SHORT, "epochs=1", origin=origin, say=stopping_after(3), report_every=1
            )
        )
    other = Origin(teacher=small)
    with pytest.raises(CheckpointError, match="learns from another teacher"):
        begin("tiny-videomae-distill", "run", *SHORT, "epochs=1", origin=other, resume=True)
    resumed = begin("tiny-videomae-distill", "run", *SHORT, "epochs=1", origin=origin, resume=True)
    train(resumed)
    assert losses(resumed.out) == losses(whole.out)
    assert same_weights(resumed.out / "best.pt", whole.out / "best.pt")


@pytest.fixture
def kept(uninterrupted, experiment, tmp_path, k710) -> Path:
    """The answers of a teacher to the train clips, one centre view of each."""
    manifest, clips = experiment
    result = k710(
        "predict", "--checkpoint", uninterrupted / "best.pt", "--manifest", manifest.path, "--folder", clips,
        "--logits", tmp_path / "kept.parquet", "--clips", 1, "--crops", 1,
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{tmp_path / 'kept.parquet'}: logits of 38 clips, 1 view each\n"
    return tmp_path / "kept.parquet"


def test_kept_logits_are_the_models(kept, uninterrupted, experiment):
    found = read_logits(kept)
    manifest, clips = experiment
    model = model_from_checkpoint(uninterrupted / "best.pt", num_frames=8).eval()
    family = FAMILIES["uniformerv2"]
    options = ClipOptions(num_frames=8, **family.sampling.options())
    dataset = Media(folder=clips).dataset(manifest, options, view="k710", split="train", training=False)
    assert found.clip_ids == dataset.index.clip_ids.to_pylist()
    for number in (0, 20, 37):
        pixels = evaluation_crops([dataset[Sample(number)].pixels], [1], **family.crops(32))
        with torch.no_grad():
            expected = model(pixels)[0]
        torch.testing.assert_close(
            torch.from_numpy(found.logits[number].copy()).float(), expected, rtol=2e-3, atol=2e-3
        )
    assert found.about["view"] == "k710"
    assert found.failed == []


@pytest.mark.slow
def test_kept_logits_teach(kept, begin, tmp_path):
    run = begin("tiny-videomae-distill", "run", *SHORT, "epochs=4", origin=Origin(teacher=kept))
    found = read_logits(kept)
    ids = [found.clip_ids[5], found.clip_ids[2], "unknown"]
    batch = Batch(torch.zeros(3, 1), torch.zeros(3, dtype=torch.int64), torch.ones(3), ids, [], {})
    answered = run.teacher.answered(batch)
    assert torch.equal(answered.teacher_logits[:2], torch.from_numpy(found.logits[[5, 2]].copy()).float())
    assert answered.weights.tolist() == [1, 1, 0], "a clip without an answer counts for nothing"
    train(run)
    losses_found = [loss for _, loss in losses(run.out)]
    assert np.mean(losses_found[-5:]) < np.mean(losses_found[:5])
    assert run.facts["teacher"]["file"] == str(kept)


def test_kept_logits_that_do_not_fit(kept, begin, tmp_path, k710):
    origin = Origin(teacher=kept)
    with pytest.raises(UsageError, match="answers to whole clips, and the recipe mixes clips"):
        begin("tiny-videomae-distill", "run", *SHORT, "mixup_alpha=0.8", origin=origin)
    with pytest.raises(UsageError, match="holds logits of k710, and the recipe's view is k400"):
        begin("tiny-videomae-distill", "run", *SHORT, "view=k400", origin=origin)
    table = pa.parquet.read_table(kept)
    pa.parquet.write_table(table.slice(3), tmp_path / "fewer.parquet")
    with pytest.raises(UsageError, match="has no logits of 3 train clips of 38, such as mini"):
        begin("tiny-videomae-distill", "run", *SHORT, "epochs=1", origin=Origin(teacher=tmp_path / "fewer.parquet"))
    pa.parquet.write_table(table.replace_schema_metadata({}), tmp_path / "bare.parquet")
    (tmp_path / "text.parquet").write_text("no parquet")
    for name in ("bare", "text"):
        with pytest.raises(CheckpointError, match="no logits of k710 predict --logits"):
            begin(
                "tiny-videomae-distill", "run", *SHORT, "epochs=1", origin=Origin(teacher=tmp_path / f"{name}.parquet")
            )
    for words in (("--logits", "x.parquet"), ("--logits", "x.npy", "--manifest", tmp_path), ()):
        result = k710("predict", "--checkpoint", kept, *words)
        assert result.exit_code == 2
        assert "--logits" in result.stderr


@pytest.mark.slow
def test_two_processes_train_as_one_that_accumulates(experiment, begin, uninterrupted, tmp_path):
    """Bit for bit, with a teacher too."""
    manifest, clips = experiment
    teacher = uninterrupted / "best.pt"
    changes = [word for change in EVERYTHING for word in ("--set", change)]
    train(begin("tiny-videomae-distill", "one", *EVERYTHING, "gpu_batch_size=4", origin=Origin(teacher=teacher)))
    result = torchrun(
        "-m", "k710", "train", "--recipe", "tiny-videomae-distill", "--manifest", str(manifest.path), "--folder",
        str(clips), "--out", str(tmp_path / "two"), "--teacher", str(teacher), *changes,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert losses(tmp_path / "two") == losses(tmp_path / "one")
    assert same_weights(tmp_path / "two/best.pt", tmp_path / "one/best.pt")
