"""VideoMAE V2 in miniature: post-pretrained with everything on, resumed, finetuned."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from k710.engine.torch_process import Process
from k710.errors import CheckpointError, UsageError
from k710.evaluation.view_model import model_as_it_is, model_for_view
from k710.loading.clip_source import Media
from k710.models.checkpoints.checkpoint import open_checkpoint
from k710.models.families import family_of
from k710.models.load import model_from_checkpoint
from k710.models.videomaev2.config import PRESETS
from k710.models.videomaev2.model import VideoMAEV2
from k710.train.loop import train
from k710.train.prepare import prepare
from k710.train.read_recipe import read_train_recipe
from k710.train.run_folder import read_checkpoint
from k710.train.run_log import read_log
from k710.train.start import Origin
from k710.train.stop import StoppedError
from tests.helpers.small_runs import EVERYTHING, SHORT, losses, same_weights, stopping_after

pytest_plugins = ("tests.helpers.run_fixtures",)


@pytest.fixture(scope="module")
def post_pretrained(experiment, tmp_path_factory) -> Path:
    manifest, clips = experiment
    chosen, _ = read_train_recipe("tiny-videomae-k710", EVERYTHING)
    out = tmp_path_factory.mktemp("videomae") / "k710"
    media = Media(folder=clips)
    device = Process(torch.device("cpu"))
    train(prepare(chosen, manifest.path, out, device, origin=Origin(), media=media, say=lambda line: None))
    return out


@pytest.mark.slow
def test_a_run_with_everything_on_resumes_bit_for_bit(begin, post_pretrained):
    with pytest.raises(StoppedError):
        train(begin("tiny-videomae-k710", "run", *EVERYTHING, say=stopping_after(4), report_every=1))
    train(begin("tiny-videomae-k710", "run", *EVERYTHING, resume=True))
    found = begin("tiny-videomae-k710", "other", *EVERYTHING).out.parent / "run"
    assert [step for step, _ in losses(found)] == list(range(1, 19))
    assert losses(found) == losses(post_pretrained)
    assert same_weights(found / "best.pt", post_pretrained / "best.pt")


def test_the_log_has_the_released_codes_rates(post_pretrained):
    steps = [line for line in read_log(post_pretrained / "log.jsonl") if line["kind"] == "step"]
    assert [line["lr"] for line in steps[:9]] == pytest.approx(np.linspace(0, 1e-3, 9).tolist())
    assert steps[9]["lr"] == pytest.approx(1e-3)


def test_a_finetune_keeps_the_rows_of_its_classes(begin, post_pretrained, tmp_path, experiment, k710):
    origin = Origin(init=post_pretrained / "best.pt")
    run = begin("tiny-videomae-k400", "k400", *SHORT[2:], "layer_scale=0.1", "epochs=1", origin=origin)
    whole, rows = read_checkpoint(post_pretrained / "best.pt")["model"], run.model.state_dict()
    assert torch.equal(rows["head.weight"], whole["head.weight"][:400])
    assert torch.equal(rows["blocks.2.mlp.fc2.weight"], whole["blocks.2.mlp.fc2.weight"])
    train(run)
    manifest, clips = experiment
    scored = k710(
        "eval", "--checkpoint", tmp_path / "k400" / "best.pt", "--manifest", manifest.path, "--folder", clips,
        "--view", "k400", "--clips", 5, "--crops", 3, "--json",
    )  # fmt: skip
    assert scored.exit_code == 0, scored.stderr
    summary = json.loads(scored.stdout)
    assert summary["counts"]["evaluated"] > 0
    assert summary["num_frames"] == 8


def test_a_checkpoint_records_its_size(begin, tmp_path):
    train(begin("tiny-videomae-k710", "large", *SHORT, "epochs=1", "size_px=48"))
    family, config = family_of(open_checkpoint(tmp_path / "large" / "best.pt"))
    assert (family.name, config.size_px, config.num_frames) == ("videomaev2", 48, 8)
    assert model_from_checkpoint(tmp_path / "large" / "best.pt").config.size_px == 48


def test_evaluation_sees_the_frames_that_the_recipe_says(begin, post_pretrained, tmp_path):
    assert model_for_view(post_pretrained / "best.pt", "k710").sampling.options() == {"method": "window", "stride": 2}
    train(begin("tiny-videomae-k710", "sparse", *SHORT, "epochs=1", "sampling=sparse", "stride=null"))
    path = tmp_path / "sparse" / "best.pt"
    assert model_for_view(path, "k400").sampling.options() == {"method": "sparse", "stride": None}
    assert model_as_it_is(path).sampling == model_for_view(path, "k400").sampling
    for changes, message in (
        (("sampling=dense", "stride=null"), "dense and window sampling need one of at least 1"),
        (("sampling=sparse",), "sparse takes none"),
        (("sampling=every",), "unknown frame sampling 'every'; known: sparse, dense, window"),
        (("stride=0",), "stride is 0"),
        (("mix_per=pair",), "augment.mix_per must be one of clip, batch, not 'pair'"),
        (("crop=centre",), "augment.crop must be one of random_resized, multi_scale, not 'centre'"),
    ):
        with pytest.raises(UsageError, match=message):
            read_train_recipe("tiny-videomae-k710", changes)


def test_the_size_of_a_file_that_does_not_tell_it_is_the_users(tmp_path, uninterrupted, k710):
    torch.manual_seed(0)
    state = VideoMAEV2(dataclasses.replace(PRESETS["tiny"], num_classes=710)).state_dict()
    torch.save({"module": state}, tmp_path / "foreign.pth")
    model = model_for_view(tmp_path / "foreign.pth", "k400", size_px=48, num_frames=4)
    assert (model.config.size_px, model.config.num_frames) == (48, 4)
    assert model.model(torch.randn(1, 3, 4, 48, 48)).shape == (1, 400)
    with pytest.raises(UsageError, match="its tensors are of frames of 32 px, not 48"):
        model_for_view(uninterrupted / "best.pt", "k400", size_px=48)
    result = k710("predict", "--checkpoint", tmp_path / "foreign.pth", "--size", 36, tmp_path / "any.mp4")
    assert result.exit_code == 2
    assert "size_px is 36, want a multiple of 8" in result.stderr


# What a masked pretraining has beside its encoder, by the public names.
PRETRAINING = {
    "mask_token": (1, 1, 32),
    "encoder_to_decoder.weight": (32, 64),
    "decoder.blocks.0.norm1.weight": (32,),
    "decoder.norm.weight": (32,),
    "decoder.head.weight": (384, 32),
}


def pretrained(folder: Path) -> tuple[Path, VideoMAEV2]:
    torch.manual_seed(7)
    model = VideoMAEV2(PRESETS["tiny"])
    body = {name: tensor for name, tensor in model.state_dict().items() if name.startswith(("patch", "blocks"))}
    state = {f"encoder.{name}": tensor for name, tensor in body.items()}
    state |= {"encoder.norm.weight": torch.ones(64), "encoder.norm.bias": torch.zeros(64)}
    state |= {name: torch.zeros(shape) for name, shape in PRETRAINING.items()}
    torch.save({"model": state}, folder / "pretrained.pth")
    return folder / "pretrained.pth", model


def test_a_finetune_begins_from_the_encoder_of_a_pretraining(begin, tmp_path):
    path, source = pretrained(tmp_path)
    lines: list[str] = []
    from_encoder = ("start=checkpoint", "head=new")
    run = begin(
        "tiny-videomae-k710", "run", *SHORT, *from_encoder, origin=Origin(init=path), say=lines.append
    )  # fmt: skip
    for name, tensor in run.model.state_dict().items():
        assert torch.equal(tensor, source.state_dict()[name]) or name.startswith(("head.", "fc_norm.")), name
    assert lines[0].startswith(f"from the encoder of {path}: {3 * 13 + 2} tensors; left out: ")
    assert {"norm", "mask_token", "decoder", "encoder_to_decoder"} == set(
        lines[0].partition("left out: ")[2].split(", ")
    )
    assert lines[1] == "new, as they begin: fc_norm., head."
    with pytest.raises(CheckpointError, match="was pretrained without classes and has no head: --set head=new"):
        begin("tiny-videomae-k400", "k400", *SHORT[2:], origin=Origin(init=path))
    with pytest.raises(CheckpointError, match=r"does not fit VideoMAE V2 ViT-B/16"):
        begin("videomae-k710-b", "b", "batch_size=4", "gpu_batch_size=4", origin=Origin(init=path))
