"""A linear probe: frozen features of train clips, a classifier, and the evaluation of both."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
import torch

from k710 import ClipOptions, open_dataset
from k710.engine.torch_process import Process
from k710.errors import UsageError
from k710.evaluation.evaluate import EvalOptions, evaluate
from k710.evaluation.probe import fit_probe, random_body
from k710.evaluation.view_model import Body, open_body
from k710.loading.augment.evaluation_crops import evaluation_crops
from k710.loading.clip_source import Media
from k710.models.evl.config import PRESETS as EVL_PRESETS
from k710.models.evl.family import EVL
from k710.models.evl.model import Evl
from k710.models.uniformerv2.config import preset
from k710.models.uniformerv2.model import UniFormerV2
from k710.models.videomaev2.config import MEAN, STD
from k710.models.videomaev2.pretrain import MaskedVideoMAEV2
from k710.models.videomaev2.pretrain_config import PRESETS
from k710.models.videomaev2.pretrain_family import VIDEOMAEV2_PRETRAIN
from k710.sample.experiment import write_experiment
from tests.helpers.small_runs import torchrun

pytest_plugins = ("tests.helpers.run_fixtures",)

CPU = Process(torch.device("cpu"))
OPTIONS = EvalOptions(1, 1)


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory) -> Path:
    """A pretraining that has learnt nothing, as the release saves one."""
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("pretrained") / "pretrained.pth"
    torch.save({"model": MaskedVideoMAEV2(PRESETS["tiny"]).state_dict()}, path)
    return path


def test_a_probe_is_a_classifier_of_what_the_encoder_makes_of_train_clips(experiment, pretrained):
    """Computed a second time, clip by clip."""
    manifest, clips = experiment
    probe = fit_probe(open_body(pretrained), manifest, CPU, Media(folder=clips), view="k600", options=OPTIONS)
    found = evaluate(probe.model, manifest, CPU, Media(folder=clips), view="k600", options=OPTIONS)

    model = open_body(pretrained).model
    features, classes, ids = {}, {}, {}
    for split in ("train", "val"):
        options = ClipOptions(num_frames=8, method="window", stride=4)
        dataset = open_dataset(manifest, view="k600", split=split, folder=clips, training=False, options=options)
        loaded = [dataset[number] for number in range(len(dataset))]
        pixels = evaluation_crops([clip.pixels for clip in loaded], [1] * len(loaded), crop_px=32, mean=MEAN, std=STD)
        with torch.no_grad():
            features[split] = model.features(pixels)
        classes[split], ids[split] = torch.tensor([clip.class_id for clip in loaded]), [clip.clip_id for clip in loaded]
    assert probe.num_clips == len(ids["train"])
    expected = probe.fitted.linear(features["val"]).softmax(1).numpy()
    assert found.predictions.clip_ids == ids["val"]
    np.testing.assert_allclose(found.predictions.scores, expected, atol=1e-4)
    torch.testing.assert_close(probe.fitted.linear.mean, features["train"].mean(0), rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_features_are_frozen_and_the_baseline_has_other_weights(experiment, pretrained):
    manifest, clips = experiment
    body = open_body(pretrained)
    before = {name: tensor.clone() for name, tensor in body.model.state_dict().items()}
    random = random_body(body)
    probes = [
        fit_probe(one, manifest, CPU, Media(folder=clips), view="k710", options=OPTIONS) for one in (body, random)
    ]
    assert all(torch.equal(before[name], tensor) for name, tensor in body.model.state_dict().items())
    assert not torch.equal(probes[0].fitted.linear.mean, probes[1].fitted.linear.mean)
    again = fit_probe(random_body(body), manifest, CPU, Media(folder=clips), view="k710", options=OPTIONS)
    assert torch.equal(probes[1].fitted.linear.weight, again.fitted.linear.weight), "always the same random weights"


def test_a_classifier_is_probed_too_and_its_head_is_of_no_account(experiment, tmp_path):
    manifest, clips = experiment
    torch.manual_seed(0)
    model = UniFormerV2(preset("tiny", num_frames=8, num_classes=13))
    torch.save(model.state_dict(), tmp_path / "a.pth")
    with torch.no_grad():
        model.transformer.proj[2].weight.fill_(7)
    torch.save(model.state_dict(), tmp_path / "b.pth")
    fitted = [
        fit_probe(open_body(tmp_path / name), manifest, CPU, Media(folder=clips), view="k400", options=OPTIONS).fitted
        for name in ("a.pth", "b.pth")
    ]
    assert fitted[0].linear.weight.shape == (400, 64)
    assert torch.equal(fitted[0].linear.weight, fitted[1].linear.weight)


@pytest.mark.parametrize(("runs", "seed"), [(({"recipe": {"seed": 3}}, {"recipe": {"seed": 4}}), 3), ((), 0)])
def test_random_weights_are_those_that_the_run_began_with(runs, seed):
    body = Body(VIDEOMAEV2_PRETRAIN, MaskedVideoMAEV2(PRESETS["tiny"]), VIDEOMAEV2_PRETRAIN.sampling, (), runs)
    torch.manual_seed(seed)
    first = MaskedVideoMAEV2(PRESETS["tiny"]).state_dict()
    found = random_body(body)
    assert all(torch.equal(first[name], tensor) for name, tensor in found.model.state_dict().items())
    assert found.runs == (), "what the weights were trained on is not theirs"


def test_random_weights_are_refused_where_some_are_never_trained():
    body = Body(EVL, Evl(EVL_PRESETS["tiny"]), EVL.sampling, (), ())
    with pytest.raises(UsageError, match="begins with weights that its checkpoints leave out"):
        random_body(body)


def test_the_command_writes_an_evaluation_and_the_baseline_beside_it(experiment, pretrained, tmp_path, k710):
    manifest, clips = experiment
    out = tmp_path / "probe"
    words = ("--checkpoint", pretrained, "--manifest", manifest.path, "--folder", clips, "--view", "k710")
    result = k710("eval", "--probe", "--baseline", *words, "--clips", 1, "--crops", 1, "--out", out)
    assert result.exit_code == 0, result.output
    assert "a linear probe on the frozen features of 38 train clips" in result.stdout
    assert "random weights, probed likewise: top-1" in result.stdout
    summary = json.loads((out / "summary.json").read_text())
    beside = json.loads((out / "random" / "summary.json").read_text())
    assert summary["probe"]["random"]["scores"] == beside["scores"]
    assert summary["fingerprint"] == beside["fingerprint"]
    assert (summary["probe"]["train_clips"], summary["checkpoint"]) == (38, str(pretrained))
    assert beside["checkpoint"] == "random weights"
    table = pyarrow.parquet.read_table(out / "predictions.parquet")
    assert len(table) == summary["counts"]["evaluated"]
    # Another evaluation can be compared with it.
    again = k710("eval", "--probe", *words, "--clips", 1, "--crops", 1, "--common-with", out, "--json")
    common = json.loads(again.stdout)["common"]
    assert common["same_clips"]
    assert common["here"] == common["there"]


@pytest.mark.parametrize(("options", "message"), [
    (("--baseline",), "--baseline belongs to --probe"),
    (("--probe", "--which-dialect"), "a probe has a classifier of its own"),
    (("--probe", "--dialect", "canonical"), "a probe has a classifier of its own"),
])  # fmt: skip
def test_options_that_do_not_go_together_are_refused(options, message, experiment, pretrained, k710):
    result = k710("eval", "--checkpoint", pretrained, "--manifest", experiment[0].path, "--view", "k710", *options)
    assert result.exit_code == 2
    assert message in result.stderr


@pytest.mark.slow
def test_two_processes_probe_as_one(experiment, pretrained, tmp_path):
    manifest, clips = experiment
    words = (
        "-m", "k710", "eval", "--probe", "--checkpoint", str(pretrained), "--manifest", str(manifest.path), "--folder",
        str(clips), "--view", "k710", "--clips", "1", "--crops", "1", "--device", "cpu",
    )  # fmt: skip
    result = torchrun(*words, "--out", str(tmp_path / "two"))
    assert result.returncode == 0, result.stderr
    probe = fit_probe(open_body(pretrained), manifest, CPU, Media(folder=clips), view="k710", options=OPTIONS)
    found = evaluate(probe.model, manifest, CPU, Media(folder=clips), view="k710", options=OPTIONS)
    table = pyarrow.parquet.read_table(tmp_path / "two" / "predictions.parquet")
    assert table["clip_id"].to_pylist() == found.predictions.clip_ids
    np.testing.assert_allclose(np.stack(table["probabilities"].to_numpy()), found.predictions.scores, atol=1e-4)


@pytest.mark.slow
def test_masked_pretraining_rises_above_random_weights(tmp_path, k710):
    """From footage to number, about two minutes of one core: the clearest of the three seeds of benchmarks/probe.py.
    With another one, or half as many clips, the rise may be within the error of so few clips."""
    folder, manifest, run, out = tmp_path / "files", tmp_path / "manifest", tmp_path / "run", tmp_path / "probe"
    write_experiment(folder, clips_per_class=300, look="plain")
    words = ("--sources", "k400,k600,k700", "--annotations", folder / "lists")
    where = ("--manifest", manifest, "--folder", folder / "clips", "--device", "cpu")
    for command in (
        ("build", *words, "--out", manifest),
        ("train", "--recipe", "tiny-videomae-pretrain-plain", *where, "--out", run, "--set", "seed=2"),
        ("eval", "--probe", "--baseline", "--checkpoint", run / "best.pt", *where, "--view", "k710", "--clips", 1,
         "--crops", 1, "--batch-size", 64, "--out", out),
    ):  # fmt: skip
        result = k710(*command)
        assert result.exit_code == 0, result.output
    right = [
        pyarrow.parquet.read_table(place / "predictions.parquet")["rank"].to_numpy() == 0
        for place in (out, out / "random")
    ]
    gain = right[0].astype(float) - right[1]
    assert len(gain) > 400
    assert gain.mean() > 2 * gain.std() / len(gain) ** 0.5, [float(one.mean()) for one in right]
