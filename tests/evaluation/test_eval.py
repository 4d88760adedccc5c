"""Evaluation: the released mathematics, every view once, and on exactly which clips."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
import torch

from k710 import ClipLoader, ClipOptions, open_dataset
from k710.engine.part import Share
from k710.engine.torch_process import Process
from k710.errors import CheckpointError, LoadError, TrainError, UsageError
from k710.evaluation.dialect_vote import raw_scores, vote
from k710.evaluation.evaluate import EvalOptions, common, evaluate, fingerprint
from k710.evaluation.files import compare, read_predictions, write_evaluation
from k710.evaluation.predict import predict_file
from k710.evaluation.scores import accuracies, class_scores, confusions, ranks
from k710.evaluation.view_model import model_as_it_is, model_for_view
from k710.evaluation.views_pass import predict_views
from k710.lists.labels import class_names, row_map
from k710.loading.augment.augment import Augment
from k710.loading.clip_source import Media
from k710.models.uniformerv2.config import preset
from k710.models.uniformerv2.family import UNIFORMERV2
from k710.models.uniformerv2.model import UniFormerV2
from k710.train.read_recipe import read_train_recipe
from k710.train.run_folder import write_checkpoint
from k710.train.start import Origin, head_record, start_model
from tests.helpers.checkpoints import uniformerv2
from tests.helpers.small_runs import SMALL

TINY_CROPS = Augment(crop_px=32)
pytest_plugins = ("tests.helpers.run_fixtures",)

CPU = Process(torch.device("cpu"))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    """A model of Kinetics-710 that has learnt nothing and is sure of it: its head is larger than a new one's."""
    torch.manual_seed(1)
    model = UniFormerV2(preset("tiny", num_frames=8))
    with torch.no_grad():
        model.transformer.proj[2].weight.mul_(8)
    path = tmp_path_factory.mktemp("checkpoint") / "best.pt"
    write_checkpoint(path, {"model": model.state_dict(), "head": head_record(UNIFORMERV2, "k710")})
    return path


def run(checkpoint, experiment, view="k710", **options):
    manifest, clips = experiment
    model = model_for_view(checkpoint, view, num_frames=8)
    options.setdefault("media", Media(folder=clips))
    process, media, split = options.pop("process", CPU), options.pop("media"), options.pop("split", "val")
    return evaluate(model, manifest, process, media, view=view, split=split, options=EvalOptions(**options))


# Scores: by hand.

SCORES = np.array(
    [[0.7, 0.2, 0.1, 0.0], [0.1, 0.2, 0.3, 0.4], [0.25, 0.25, 0.25, 0.25], [0.0, 0.9, 0.1, 0.0]], np.float32
)
CLASSES = np.array([0, 2, 1, 0])


def test_ranks_count_what_is_likelier_and_ties_go_by_class():
    assert ranks(SCORES, CLASSES).tolist() == [0, 1, 1, 2]
    assert ranks(SCORES, np.array([1, 3, 0, 3])).tolist() == [1, 0, 0, 3]


def test_no_number_is_never_right():
    scores = np.full((1, 10), np.nan, np.float32)
    assert ranks(scores, np.array([2])).tolist() == [10]
    assert accuracies(scores, np.array([0]))["top5"] == 0.0


def test_accuracies_by_hand():
    assert accuracies(SCORES, CLASSES) == {"top1": 0.25, "top5": 1.0, "mean_class": pytest.approx(0.5 / 3)}
    assert [(score.class_id, score.num_clips, score.top1) for score in class_scores(SCORES, CLASSES)] == [
        (0, 2, 0.5), (1, 1, 0.0), (2, 1, 0.0),
    ]  # fmt: skip
    assert all(value != value for value in accuracies(SCORES[:0], CLASSES[:0]).values())


def test_confusions_by_hand():
    found = [tuple(pair) for pair in confusions(SCORES, CLASSES)]
    assert found == [(0, 1, 1), (1, 0, 1), (2, 3, 1)]
    twice = confusions(np.concatenate([SCORES, SCORES[3:]]), np.array([0, 2, 1, 0, 0]))
    assert tuple(twice[0]) == (0, 1, 2)
    assert confusions(SCORES[:0], CLASSES[:0]) == []


# The pass.


def test_views_are_summed_as_published(checkpoint, experiment):
    """Softmax of each view, summed: by a second way, clip by clip and view by view."""
    manifest, clips = experiment
    found = run(checkpoint, experiment, num_clips=2, num_crops=3, batch_size=5).predictions
    assert set(found.num_views) == {6}
    model = model_for_view(checkpoint, "k710", num_frames=8).model
    options = ClipOptions(num_frames=8, num_clips=2, num_crops=3)
    dataset = open_dataset(manifest, folder=clips, view="k710", split="val", training=False, options=options)
    loader = ClipLoader(dataset, batch_size=1, augment=Augment(crop_px=32))
    sums: dict[str, np.ndarray] = {}
    with torch.no_grad():
        for batch in loader:
            part = model(batch.pixels).softmax(-1)[0].double().numpy()
            sums[batch.clip_ids[0]] = sums.get(batch.clip_ids[0], 0) + part
    assert list(sums) == found.clip_ids
    assert np.allclose(np.stack(list(sums.values())) / 6, found.scores, atol=1e-6)
    logits_first = run(checkpoint, experiment, num_clips=1, num_crops=1).predictions
    assert not np.allclose(logits_first.scores, found.scores, atol=1e-4), "the views differ"


def test_the_batch_changes_nothing(checkpoint, experiment):
    one, many = (run(checkpoint, experiment, num_clips=2, num_crops=1, batch_size=size) for size in (1, 16))
    assert np.allclose(one.predictions.scores, many.predictions.scores, atol=1e-6)
    assert one.fingerprint == many.fingerprint


@pytest.mark.slow
def test_two_processes_count_every_view_once(checkpoint, experiment, tmp_path):
    manifest, clips = experiment
    words = [
        "-m", "k710", "eval", "--checkpoint", checkpoint, "--manifest", manifest.path, "--folder", clips, "--view",
        "k710", "--clips", "2", "--crops", "3", "--frames", "8", "--out", tmp_path / "two",
    ]  # fmt: skip
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    result = subprocess.run([*launcher, *map(str, words)], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("fingerprint ") == 1, "only the first process speaks"
    one = run(checkpoint, experiment, num_clips=2, num_crops=3)
    two = read_predictions(tmp_path / "two")
    assert two.clip_ids == one.predictions.clip_ids
    assert np.allclose(two.scores, one.predictions.scores, atol=1e-6)
    assert two.summary["fingerprint"] == one.fingerprint
    assert two.summary["scores"] == one.scores
    assert set(pyarrow.parquet.read_table(tmp_path / "two/predictions.parquet")["num_views"].to_pylist()) == {6}


# Heads.


def test_a_head_of_k710_is_looked_at_on_a_release_by_class_name(checkpoint, experiment):
    whole, part = run(checkpoint, experiment, num_clips=1, num_crops=1), model_for_view(checkpoint, "k400")
    rows = row_map("k710", "k400")
    full = model_for_view(checkpoint, "k710").model
    assert torch.equal(part.model.transformer.proj[2].weight, full.transformer.proj[2].weight[list(rows)])
    assert whole.labels == class_names("k710")
    k400 = run(checkpoint, experiment, view="k400", num_clips=1, num_crops=1)
    assert k400.predictions.scores.shape[1] == 400


def test_a_shuffled_head_gives_the_same_number(checkpoint, experiment, tmp_path):
    """The release's own order, under its own names: it says so by its form."""
    model = model_for_view(checkpoint, "k710", num_frames=8).model
    rows = row_map("k710", "k710", target_dialect="uniformerv2")
    state = {f"backbone.{name}": tensor.clone() for name, tensor in model.state_dict().items()}
    for part in ("weight", "bias"):
        state[f"backbone.transformer.proj.2.{part}"] = state[f"backbone.transformer.proj.2.{part}"][list(rows)]
    torch.save(state, tmp_path / "released.pyth")
    expected = run(checkpoint, experiment, num_clips=1, num_crops=1)
    found = run(tmp_path / "released.pyth", experiment, num_clips=1, num_crops=1)
    assert np.array_equal(found.predictions.scores, expected.predictions.scores)


def test_a_head_that_tells_no_order_is_refused(tmp_path):
    model = UniFormerV2(preset("tiny", num_classes=400))
    state = {f"net.{name}": tensor for name, tensor in model.state_dict().items()}
    torch.save(state, tmp_path / "own.pt")
    with pytest.raises(CheckpointError):
        model_for_view(tmp_path / "own.pt", "k400")
    torch.save(uniformerv2(401), tmp_path / "401.pt")
    with pytest.raises(CheckpointError, match="401 rows, as no label set has"):
        model_for_view(tmp_path / "401.pt", "k400")
    torch.save({f"backbone.{k}": v for k, v in model.state_dict().items()}, tmp_path / "k400.pyth")
    with pytest.raises(CheckpointError, match="of the 710 classes of k710 are not in k400"):
        model_for_view(tmp_path / "k400.pyth", "k710")


# Clips.


def test_missing_and_unreadable_clips_are_counted_and_named(checkpoint, experiment, tmp_path):
    fewer = tmp_path / "fewer"
    shutil.copytree(experiment[1], fewer)
    whole = run(checkpoint, experiment, num_clips=2, num_crops=3)
    gone, broken = whole.predictions.clip_ids[0], whole.predictions.clip_ids[3]
    (fewer / f"{gone}.mp4").unlink()
    (fewer / f"{broken}.mp4").write_bytes((fewer / f"{broken}.mp4").read_bytes()[:200])
    part = run(checkpoint, experiment, num_clips=2, num_crops=3, media=Media(folder=fewer), batch_size=3)
    assert part.missing == (gone,)
    assert list(part.predictions.failed) == [broken]
    assert part.summary()["counts"] == {
        "in_split": len(whole.predictions.clip_ids), "evaluated": len(whole.predictions.clip_ids) - 2, "unlabelled": 0,
        "missing": 1, "failed": 1,
    }  # fmt: skip
    assert part.fingerprint != whole.fingerprint
    both = common(whole, part.predictions.clip_ids)
    assert both.predictions.clip_ids == part.predictions.clip_ids
    assert np.allclose(both.predictions.scores, part.predictions.scores, atol=1e-6)


def test_a_fingerprint_is_of_ids_profile_and_origin():
    one = fingerprint(["b", "a"], "h264", {"a": "cvdf:k400"})
    assert one == fingerprint(["a", "b"], "h264", {"a": "cvdf:k400", "b": "local"})
    assert len({one, fingerprint(["a"], "h264", {"a": "cvdf:k400"}), fingerprint(["a", "b"], "source", {}),
                fingerprint(["a", "b"], "h264", {})}) == 4  # fmt: skip


def test_what_is_written_is_read_again(checkpoint, experiment, tmp_path):
    found = run(checkpoint, experiment, view="k400", num_clips=1, num_crops=1)
    write_evaluation(tmp_path / "out", found, {"checkpoint": "c"})
    again = read_predictions(tmp_path / "out")
    assert again.clip_ids == found.predictions.clip_ids
    assert np.array_equal(again.scores, found.predictions.scores)
    assert again.summary["scores"] == found.scores
    assert compare(found, again) == found.scores
    table = pyarrow.parquet.read_table(tmp_path / "out/predictions.parquet").to_pylist()
    assert table[0]["label"] == class_names("k400")[table[0]["class_id"]]
    assert (table[0]["rank"] == 0) == (table[0]["top5"][0] == table[0]["class_id"])
    assert json.loads((tmp_path / "out/summary.json").read_text())["fingerprint"] == found.fingerprint
    assert (tmp_path / "out/classes.csv").read_text().splitlines()[0] == "class_id,label,num_clips,top1,top5"
    (tmp_path / "other.parquet").write_bytes(b"PAR1")
    for path in (tmp_path / "other.parquet", tmp_path / "nothing"):
        with pytest.raises(TrainError):
            read_predictions(path)
    k710 = run(checkpoint, experiment, num_clips=1, num_crops=1)
    with pytest.raises(TrainError, match=r"has 400 classes \(k400\), this one 710 \(k710\)"):
        compare(k710, again)
    with pytest.raises(TrainError, match="no clip in common"):
        common(k710, ["elsewhere"])


def test_an_evaluation_names_its_checkpoint_for_readers_in_other_folders(
    k710, checkpoint, experiment, tmp_path, monkeypatch
):
    manifest, clips = experiment
    monkeypatch.chdir(checkpoint.parent)
    how = ("--manifest", manifest.path, "--folder", clips, "--view", "k400", "--clips", 1, "--crops", 1)
    result = k710("eval", "--checkpoint", "best.pt", *how, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "out/summary.json").read_text())["checkpoint"] == str(checkpoint)


def test_a_view_without_that_split_is_refused(checkpoint, experiment, tmp_path):
    with pytest.raises(UsageError, match="k700_2020 has no val clips"):
        run(checkpoint, experiment, view="k700_2020")
    with pytest.raises(UsageError, match="k400 has no test clips"):
        run(checkpoint, experiment, view="k400", split="test")
    with pytest.raises(LoadError, match="k710 fetch"):
        run(checkpoint, experiment, media=Media())


# Scores that are no numbers.


@pytest.fixture(params=["nan", "inf"])
def broken(request, checkpoint, tmp_path) -> Path:
    """The checkpoint with one number of its head that is none."""
    content = torch.load(checkpoint)
    content["model"]["transformer.proj.2.weight"][5, 3] = float(request.param)
    write_checkpoint(tmp_path / "broken.pt", {"model": content["model"], "head": content["head"]})
    return tmp_path / "broken.pt"


def test_weights_that_are_not_finite_are_refused(k710, broken, experiment, tmp_path):
    manifest, clips = experiment
    where = ("--checkpoint", broken, "--manifest", manifest.path, "--folder", clips, "--view", "k710")
    said = f"k710: {broken}: transformer.proj.2.weight holds NaN or infinite numbers"
    for words in (
        ("eval", *where, "--out", tmp_path / "out"),
        ("eval", *where, "--which-dialect"),
        ("predict", next(clips.iterdir()), "--checkpoint", broken),
        ("predict", next(clips.iterdir()), "--checkpoint", broken, "--json"),
    ):
        result = k710(*words)
        assert (result.exit_code, result.stdout) == (1, ""), words
        assert said in result.stderr
    assert not (tmp_path / "out/summary.json").exists()
    recipe, _ = read_train_recipe("tiny-k710", [*SMALL, "start=checkpoint", "head=remap"])
    with pytest.raises(CheckpointError, match="NaN or infinite"):
        start_model(recipe, Origin(init=broken))


def test_scores_that_are_not_finite_are_refused(checkpoint, experiment, tmp_path):
    """Finite weights, whose products overflow."""
    model = model_for_view(checkpoint, "k710", num_frames=8)
    with torch.no_grad():
        model.model.transformer.proj[2].weight.fill_(3e38)
    manifest, clips = experiment
    with pytest.raises(TrainError, match=r"^clip \S+: the model's scores are not finite"):
        evaluate(model, manifest, CPU, Media(folder=clips), view="k710", options=EvalOptions(1, 1))
    path = next(clips.iterdir())
    with pytest.raises(TrainError, match=rf"^{path}: the model's scores are not finite"):
        predict_file(model, path)
    val = open_dataset(
        manifest, folder=clips, view="k710", split="val", training=False, options=ClipOptions(num_frames=8)
    )
    with pytest.raises(TrainError, match="not finite"):
        raw_scores(model.family, model.model, val, limit=3, device=torch.device("cpu"))


def test_predictions_that_are_not_finite_are_not_compared_with(checkpoint, experiment, tmp_path):
    found = run(checkpoint, experiment, view="k400", num_clips=1, num_crops=1)
    found.predictions.scores[0, 0] = np.nan
    write_evaluation(tmp_path / "out", found, {"checkpoint": "c"})
    with pytest.raises(TrainError, match="holds scores that are not finite"):
        read_predictions(tmp_path / "out")


def test_an_evaluation_without_labels_has_no_score(checkpoint, experiment, k710, tmp_path):
    """And its JSON is JSON."""
    found = run(checkpoint, experiment, view="k400", num_clips=1, num_crops=1)
    found.predictions.class_ids[:] = -1
    write_evaluation(tmp_path / "out", found, {"checkpoint": "c"})

    def no_number(word):
        raise AssertionError(word)

    summary = json.loads((tmp_path / "out/summary.json").read_text(), parse_constant=no_number)
    assert summary["scores"] == {"top1": None, "top5": None, "mean_class": None}


# Dialects by vote.


def test_the_order_of_a_head_is_told_by_its_answers():
    rng = np.random.default_rng(0)
    class_ids = rng.integers(0, 710, 60)
    for dialect, told in (("canonical", ("canonical",)), ("uniformerv2", ("uniformerv2", "videomaev2"))):
        rows = np.array([row_map("k710", "k710", source_dialect=dialect)[c] for c in class_ids])
        scores = rng.normal(size=(60, 710)).astype(np.float32)
        scores[np.arange(60), rows] += 4.0
        election = vote(scores, class_ids, view="k710", label_set="k710")
        assert election.winner is not None
        assert election.winner.dialects == told
        assert election.winner.num_clips < 60, "clips of rows that are the same in every order tell nothing"
    nonsense = rng.normal(size=(60, 710)).astype(np.float32)
    assert vote(nonsense, class_ids, view="k710", label_set="k710").winner is None


def test_clips_of_a_release_tell_of_a_head_of_k710():
    class_ids = np.arange(0, 400, 20)
    rows = np.array([row_map("k710", "k400", source_dialect="uniformerv2")[c] for c in class_ids])
    scores = np.zeros((len(rows), 710), np.float32)
    scores[np.arange(len(rows)), rows] = 1
    election = vote(scores, class_ids, view="k400", label_set="k710")
    assert election.winner is not None
    assert "uniformerv2" in election.winner.dialects


# Prediction, and the commands.


def test_a_file_is_labelled_as_the_evaluation_labels_it(checkpoint, experiment, tmp_path):
    found = run(checkpoint, experiment, num_clips=2, num_crops=3).predictions
    model = model_as_it_is(checkpoint, num_frames=8)
    for number in (0, 4):
        path = experiment[1] / f"{found.clip_ids[number]}.mp4"
        prediction = predict_file(model, path, num_clips=2, num_crops=3)
        assert np.allclose(prediction.probabilities, found.scores[number], atol=1e-6)
        assert prediction.top(1)[0][0] == class_names("k710")[found.scores[number].argmax()]
    with pytest.raises(LoadError, match=r"none\.mp4: No such file"):
        predict_file(model, tmp_path / "none.mp4")


def test_the_commands(k710, checkpoint, experiment, tmp_path):
    manifest, clips = experiment
    how = ("--checkpoint", checkpoint, "--manifest", manifest.path, "--folder", clips, "--frames", 8)
    one = ("--clips", 1, "--crops", 1)
    result = k710("eval", *how, *one, "--view", "k400", "--out", tmp_path / "first")
    assert result.exit_code == 0, result.output
    assert "k400 val, 1 clip x 1 crop: top-1 " in result.stdout
    assert "k710 (canonical) by its own record" in result.stderr
    result = k710("eval", *how, *one, "--view", "k400", "--common-with", tmp_path / "first")
    assert "the two are of the same clips" in result.stdout
    summary = json.loads(k710("eval", *how, *one, "--view", "k400", "--json").stdout)
    assert summary["counts"]["missing"] == 0
    result = k710("eval", *how, "--view", "k400", "--which-dialect")
    assert "no order is clearly right" in result.stdout
    assert k710("eval", *how, "--view", "k400", "--crops", 2).exit_code == 2
    result = k710("eval", *how, "--view", "k500")
    assert (result.exit_code, result.stderr) == (
        2,
        "k710: unknown view 'k500'; known: k710, k400, k600, k700, k700_2020\n",
    )
    lacking = ("--checkpoint", tmp_path / "k400.pt", *how[2:])
    assert k710("remap-head", checkpoint, "--to", "k400", "--out", tmp_path / "k400.pt").exit_code == 0
    result = k710("eval", *lacking, "--view", "k710")
    assert "k710 remap-head --new-rows zero|mean makes rows" in result.stderr
    film = next(clips.iterdir())
    (tmp_path / "text.mp4").write_text("no film")
    result = k710("predict", film, tmp_path / "text.mp4", "--checkpoint", checkpoint, "--top", 2, *one)
    assert result.exit_code == 1, "a script must not take a part for the whole"
    assert result.stdout.startswith(f"{film}: ")
    assert "text.mp4: no video file" in result.stderr
    assert result.stderr.endswith("k710: 1 of 2 files could not be read\n")
    result = k710("predict", film, tmp_path / "text.mp4", "--checkpoint", checkpoint, "--json", *one)
    assert result.exit_code == 1
    assert [one["file"] for one in json.loads(result.stdout)] == [str(film)]
    data = json.loads(k710("predict", film, "--checkpoint", checkpoint, "--json", *one).stdout)
    assert len(data[0]["probabilities"]) == 710
    assert k710("predict", tmp_path / "text.mp4", "--checkpoint", checkpoint).exit_code == 1


def test_a_file_whose_name_begins_with_a_dash(k710, checkpoint, experiment, tmp_path, monkeypatch):
    """As the clips of thousands of YouTube IDs are called."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(next(experiment[1].iterdir()), "-AbCdEfGhIj_000010_000020.mp4")
    one = ("--checkpoint", checkpoint, "--clips", 1, "--crops", 1, "--top", 1)
    result = k710("predict", "-AbCdEfGhIj_000010_000020.mp4", *one)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("-AbCdEfGhIj_000010_000020.mp4: ")
    result = k710("predict", tmp_path, *one)
    assert (result.exit_code, "a folder, no file" in result.stderr) == (1, True)


def test_what_cannot_be_written_or_compared_is_known_before_the_first_view(k710, checkpoint, experiment, tmp_path):
    manifest, clips = experiment
    how = ("--checkpoint", checkpoint, "--manifest", manifest.path, "--folder", clips, "--clips", 1, "--crops", 1)
    (tmp_path / "file").touch()
    result = k710("eval", *how, "--view", "k400", "--out", tmp_path / "file/out")
    assert result.exit_code == 1
    assert "Not a directory" in result.stderr
    assert "top-1" not in result.stdout
    k710("eval", *how, "--view", "k400", "--out", tmp_path / "first")
    result = k710("eval", *how, "--view", "k600", "--common-with", tmp_path / "first")
    assert "the other evaluation is of k400, this one of k600" in result.stderr
    assert "top-1" not in result.stdout
    shared = json.loads(k710("eval", *how, "--view", "k400", "--common-with", tmp_path / "first", "--json").stdout)
    assert shared["common"]["here"] == shared["common"]["there"] == shared["scores"]
    assert shared["common"]["same_clips"] is True


def test_a_process_without_a_clip_of_its_own_takes_part(checkpoint, experiment, monkeypatch):
    """More processes than clips: theirs are empty parts."""
    parts = []
    monkeypatch.setattr(Process, "gather", lambda process, value: parts.append(value) or [value])
    monkeypatch.setattr(Process, "together", lambda process: contextlib.nullcontext())
    model = model_for_view(checkpoint, "k710", num_frames=8).model
    val = open_dataset(experiment[0], folder=experiment[1], view="k710", split="val", options=ClipOptions(num_frames=8))
    shares = [Share(rank, 16).of(0, len(val)) for rank in range(16)]
    found = []
    for rank, share in enumerate(shares):
        monkeypatch.setattr(type(val), "class_ids", np.zeros(len(share), np.int16))  # what the others would bring
        process = Process(torch.device("cpu"), rank, 16)
        found += predict_views(model, val, process, num_classes=710, augment=TINY_CROPS, batch_size=1).clip_ids
    assert 0 in {len(part[0]) for part in parts}
    assert found == [val.index[number].clip_id for number in range(len(val))]
