"""What an evaluation says beside its number: frames, index order, chance, and clips that were trained on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from k710.errors import CheckpointError
from k710.evaluation.evaluate import Evaluation
from k710.evaluation.suspicions import suspicions
from k710.evaluation.trained_on import overlap_notes, overlaps, unrecorded
from k710.evaluation.view_model import model_as_it_is, model_for_view
from k710.evaluation.views_pass import Predictions
from k710.lists.labels import class_names, row_map
from k710.manifest.read import Manifest, open_manifest
from k710.manifest.views import split_of, view
from k710.models.checkpoints.recorded_runs import runs_of
from k710.models.heads.head_labels import labels_of_set
from k710.models.uniformerv2.config import preset
from k710.models.uniformerv2.family import UNIFORMERV2
from k710.models.uniformerv2.model import UniFormerV2
from k710.train.run_folder import write_checkpoint
from k710.train.start import head_record

pytest_plugins = ("tests.helpers.run_fixtures",)


def evaluation_of(clip_ids, class_ids, scores, name="k710", split="val") -> Evaluation:
    found = Predictions(list(clip_ids), np.asarray(class_ids), scores, np.ones(len(class_ids), np.int64), {})
    return Evaluation(name, split, class_names(name), 1, 1, found, len(class_ids), (), "")


# Frames.


def slowfast_file(folder: Path, name: str, cfg: str | None = None, *, num_frames: int = 8) -> Path:
    """A checkpoint as PySlowFast's trainers save it."""
    state = UniFormerV2(preset("tiny", num_frames=num_frames)).state_dict()
    torch.save({"model_state": state, "epoch": 3, **({"cfg": cfg} if cfg else {})}, folder / name)
    return folder / name


@pytest.mark.parametrize(
    ("name", "cfg", "wanted", "frames", "words"),
    [
        ("own.pyth", None, None, 8, "8 frames (nothing tells another number)"),
        ("own.pyth", "DATA:\n  NUM_FRAMES: 16\n  CROP: 32\n", None, 16, "16 frames (its configuration says so)"),
        ("own.pyth", "model = dict(backbone=dict(t_size=32))", None, 32, "32 frames (its configuration says so)"),
        ("k710_b16_16x032.pyth", None, None, 16, "16 frames (its name says so)"),
        ("k710_b16_f32x032.pyth", None, None, 32, "32 frames (its name says so)"),
        ("b16_clip-k710-pre_u16_k400.pyth", None, None, 16, "16 frames (its name says so)"),
        ("k710_b16_16x224.pyth", None, None, 8, "8 frames (nothing tells another number)"),  # of another size
        ("16x032.pyth", "NUM_FRAMES: 8", None, 8, "8 frames (its configuration says so; but its name says 16)"),
        ("own.pyth", "DATA:\n  NUM_FRAMES: 16\n", 8, 8, "8 frames (as you say; but its configuration says 16)"),
        ("16x032.pyth", "NUM_FRAMES: 8", 4, 4, "(as you say; but its configuration says 8; but its name says 16)"),
    ],
)  # fmt: skip
def test_frames_that_a_file_tells_are_used_or_contradicted_aloud(tmp_path, name, cfg, wanted, frames, words):
    path = slowfast_file(tmp_path, name, cfg)
    for model in (
        model_for_view(path, "k710", dialect="canonical", num_frames=wanted),
        model_as_it_is(path, dialect="canonical", num_frames=wanted),
    ):
        assert model.model.config.num_frames == frames
        assert model.messages[0].endswith(words)


def test_a_configuration_that_tells_two_numbers_is_asked_about(tmp_path):
    path = slowfast_file(tmp_path, "own.pyth", "NUM_FRAMES: 8\nnum_frames = 16\n")
    with pytest.raises(CheckpointError, match=r"its configuration says 8 and 16 frames; which\? Say --frames N"):
        model_for_view(path, "k710", dialect="canonical")
    assert model_for_view(path, "k710", dialect="canonical", num_frames=16).model.config.num_frames == 16


# Order and chance.


def hot(rows: np.ndarray, num_classes: int) -> np.ndarray:
    scores = np.random.default_rng(0).random((len(rows), num_classes)).astype(np.float32) * 0.01
    scores[np.arange(len(rows)), rows] = 1
    return scores


@pytest.mark.parametrize(("name", "label_set"), [("k710", "k710"), ("k400", "k400"), ("k700_2020", "k700")])
def test_a_head_that_was_read_in_the_wrong_order_is_told_by_its_answers(name, label_set):
    class_ids = np.arange(0, len(class_names(name)), 7)
    clip_ids = [f"c{number}" for number in class_ids]
    for true, read in (("uniformerv2", "canonical"), ("canonical", "uniformerv2")):
        raw = hot(np.array(row_map(label_set, name, source_dialect=true))[class_ids], len(class_names(name)))
        as_read = raw[:, list(row_map(label_set, name, source_dialect=read))]
        found = evaluation_of(clip_ids, class_ids, as_read, name)
        (said,) = suspicions(found, labels_of_set(label_set, read))
        assert "these numbers are likely wrong" in said
        assert f"--dialect {true} reads it so" in said
        right = evaluation_of(clip_ids, class_ids, hot(class_ids, len(class_names(name))), name)
        assert suspicions(right, labels_of_set(label_set, true)) == []


def test_an_accuracy_near_chance_deserves_a_hint():
    class_ids = np.arange(0, 400, 2)
    nonsense = np.random.default_rng(0).random((200, 400)).astype(np.float32)
    (said,) = suspicions(
        evaluation_of(map(str, class_ids), class_ids, nonsense, "k400"), labels_of_set("k710", "canonical")
    )
    assert said.startswith(
        "top-1 is no better than chance (1 of 400): the head may have another index order than canonical"
    )
    assert "--which-dialect" in said
    nonsense[:10] = hot(class_ids[:10], 400)  # 5 %: poor, and no chance
    assert suspicions(evaluation_of(map(str, class_ids), class_ids, nonsense, "k400"), None) == []
    assert suspicions(evaluation_of(map(str, class_ids), np.full(200, -1), nonsense, "k400"), None) == []


# What was trained on.


def record(manifest: Manifest, name: str, **start: object) -> dict:
    return {"recipe": {"view": name}, "manifest": {"content_hash": manifest.content_hash}, "start": start}


def on_k400_val(sample: Manifest) -> tuple[Evaluation, np.ndarray]:
    """An evaluation on k400 val, and which of its clips k700 trains on: by a set, clip by clip."""
    val, train = split_of(view(sample.clips, "k400"), "val"), split_of(view(sample.clips, "k700"), "train")
    trained = set(train["youtube_id"].to_pylist())
    seen = np.array([video in trained for video in val["youtube_id"].to_pylist()])
    class_ids = val["class_id"].to_numpy()
    scores = hot(np.where(seen, class_ids, (class_ids + 1) % 400), 400)  # right on those alone
    return evaluation_of(val["clip_id"].to_pylist(), class_ids, scores, "k400"), seen


def test_clips_of_videos_that_were_trained_on_are_counted(sample):
    found, seen = on_k400_val(sample)
    assert 0 < seen.sum() < len(seen)
    (shared,) = overlaps((record(sample, "k700"),), sample, found)
    assert (shared.num_clips, shared.others["top1"]) == (seen.sum(), 0.0)
    (said,) = overlap_notes([shared], len(seen))
    assert said.startswith(f"{seen.sum()} of {len(seen)} evaluated clips are of videos in the train split of k700")
    assert "top-1 on the others is 0.00%" in said
    (none,) = overlaps((record(sample, "k710"),), sample, found)
    assert none.num_clips == 0, "curation holds them out"
    assert overlap_notes([none], len(seen)) == []


def test_the_run_before_the_run_counts_too(sample):
    found, seen = on_k400_val(sample)
    runs = tuple(runs_of(record(sample, "k710", init="/a/best.pt", run=record(sample, "k700"))))
    assert [one.num_clips for one in overlaps(runs, sample, found)] == [0, seen.sum()]
    assert unrecorded(runs) == []
    alone = tuple(runs_of(record(sample, "k710", init="/a/best.pt")))
    assert unrecorded(alone) == ["it started from /a/best.pt; what that was trained on is not recorded"]
    endless = record(sample, "k710")
    endless["start"]["run"] = endless
    assert len(overlaps(tuple(runs_of(endless)), sample, found)) == 1
    assert overlaps(tuple(runs_of({"recipe": 3, "manifest": [], "start": "x"})), sample, found) == []


def test_a_run_on_another_manifest_is_looked_up_or_said_to_be_unknown(k710, sample, tmp_path):
    build = ("build", "--annotations", "sample", "--sources", "k400,k600,k700", "--out", tmp_path / "m")
    assert k710(*build).exit_code == 0
    assert k710(*build, "--leak-policy", "val-purge", "--force").exit_code == 0
    newer = open_manifest(tmp_path / "m")
    found, seen = on_k400_val(sample)
    (shared,) = overlaps((record(sample, "k700"),), newer, found)
    assert shared.num_clips == seen.sum(), "of the version before, which the folder keeps"
    (unknown,) = overlaps((record(newer, "k700"),), sample, found)
    assert unknown.num_clips is None
    assert "whether it was trained on these clips is not known" in overlap_notes([unknown], len(seen))[0]


def test_the_command_says_what_was_trained_on(k710, experiment, tmp_path):
    manifest, clips = experiment
    model = UniFormerV2(preset("tiny", num_frames=8))
    content = {"model": model.state_dict(), "head": head_record(UNIFORMERV2, "k710"), "run": record(manifest, "k710")}
    write_checkpoint(tmp_path / "best.pt", content)
    how = ("--manifest", manifest.path, "--folder", clips, "--view", "k400", "--clips", 1, "--crops", 1, "--json")
    for split, words in (("train", "evaluated clips are of videos in the train split of k710"), ("val", None)):
        result = k710("eval", "--checkpoint", tmp_path / "best.pt", *how, "--split", split)
        assert result.exit_code == 0, result.output
        summary = json.loads(result.stdout)
        shared = summary["trained_on"][0]
        assert shared["clips"] == (summary["counts"]["evaluated"] if words else 0)
        assert (words or "x") in result.stderr or words is None
        assert ("it may have seen them in training" in result.stderr) == (words is not None)
