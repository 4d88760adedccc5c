"""Masked pretraining in miniature: without labels, resumed, and taken up by a finetune."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pytest
import torch

from k710.engine.torch_process import Process
from k710.errors import CheckpointError, UsageError
from k710.loading import find_clips
from k710.loading.clip_index import NO_CLASS
from k710.loading.clip_source import Media
from k710.models.checkpoints.checkpoint import open_checkpoint
from k710.models.families import FAMILIES, family_of
from k710.train.loop import train
from k710.train.memory import estimate_memory
from k710.train.prepare import prepare
from k710.train.read_recipe import read_train_recipe
from k710.train.run_folder import read_checkpoint
from k710.train.run_log import read_log
from k710.train.start import Origin
from k710.train.stop import StoppedError
from tests.helpers.small_runs import SHORT, losses, same_weights, stopping_after

pytest_plugins = ("tests.helpers.run_fixtures",)

# 38 clips, each four times: 9 steps of 16. Everything that can be on is.
PRETRAIN = (
    "epochs=2", "warmup_epochs=1", "batch_size=16", "gpu_batch_size=8", "lr=2e-3", "every_epochs=1", "drop_path=0.1",
    "checkpoint_blocks=1", "ema_decay=0.9",
)  # fmt: skip


@pytest.fixture(scope="module")
def pretrained(experiment, tmp_path_factory) -> Path:
    """A run on clips that have no labels."""
    manifest, clips = experiment
    chosen, _ = read_train_recipe("tiny-videomae-pretrain", PRETRAIN)
    folder = tmp_path_factory.mktemp("pretrain")
    out = folder / "run"
    wanted = find_clips._wanted

    def without_labels(*arguments):
        table = wanted(*arguments)
        none = pa.array([NO_CLASS] * len(table), table["class_id"].type)
        return table.set_column(table.column_names.index("class_id"), "class_id", none)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(find_clips, "_wanted", without_labels)
        device = Process(torch.device("cpu"))
        media = Media(folder=shutil.copytree(clips, folder / "clips"))  # whose index has no labels either
        train(prepare(chosen, manifest.path, out, device, origin=Origin(), media=media, say=lambda line: None))
    return out


def test_it_learns_from_clips_without_labels(pretrained):
    lines = read_log(pretrained / "log.jsonl")
    steps, validations = ([line for line in lines if line["kind"] == kind] for kind in ("step", "validation"))
    assert [line["step"] for line in steps] == list(range(1, 19))
    assert steps[-1]["loss"] < 0.97 * steps[0]["loss"]
    assert {line["hidden"] for line in steps} == {0.75}
    assert all(line["grad_norm"] > 0 for line in steps)
    assert validations[1]["loss"] < validations[0]["loss"]
    assert validations[1]["best"]
    content = read_checkpoint(pretrained / "best.pt")
    assert content["head"] is None
    assert content["run"]["labels"] is None
    family, config = family_of(open_checkpoint(pretrained / "best.pt"))
    assert (family.name, config.size_px, config.num_frames) == ("videomaev2_pretrain", 32, 8)


def test_it_resumes_bit_for_bit(begin, pretrained, tmp_path):
    with pytest.raises(StoppedError):
        train(begin("tiny-videomae-pretrain", "run", *PRETRAIN, say=stopping_after(4), report_every=1))
    train(begin("tiny-videomae-pretrain", "run", *PRETRAIN, resume=True))
    assert losses(tmp_path / "run") == losses(pretrained), "labels make no difference"
    assert same_weights(tmp_path / "run" / "best.pt", pretrained / "best.pt")


def test_a_finetune_takes_its_encoder(begin, pretrained):
    best = pretrained / "best.pt"
    lines: list[str] = []
    origin = Origin(init=best)
    run = begin("tiny-videomae-k710", "k710", *SHORT, "start=checkpoint", "head=new", origin=origin, say=lines.append)
    source, found = read_checkpoint(best)["model"], run.model.state_dict()
    for name, tensor in found.items():
        assert name.startswith(("head.", "fc_norm.")) or torch.equal(tensor, source[f"encoder.{name}"]), name
    assert lines[:2] == [
        f"from the encoder of {best}: 41 tensors; left out: mask_token, norm, decoder, encoder_to_decoder",
        "new, as they begin: fc_norm., head.",
    ]
    with pytest.raises(CheckpointError, match="was pretrained without classes and has no head: --set head=new"):
        begin("tiny-videomae-k400", "k400", *SHORT[2:], origin=origin)


@pytest.mark.parametrize("prefix", ["", "module.", "module._orig_mod."])
def test_a_finetune_takes_the_encoder_of_a_released_pretraining(prefix, begin, pretrained, tmp_path):
    """As DeepSpeed and torch.compile save it, it is known by its names alone, and what is left behind is said."""
    source = read_checkpoint(pretrained / "best.pt")["model"]
    path = tmp_path / "vit_tiny_hybrid_pt.pth"
    torch.save({"module": {f"{prefix}{name}": tensor.half() for name, tensor in source.items()}}, path)
    lines: list[str] = []
    changes = (*SHORT, "start=checkpoint", "head=new")
    run = begin("tiny-videomae-k710", "k710", *changes, origin=Origin(init=path), say=lines.append)
    assert (
        lines[0] == f"from the encoder of {path}: 41 tensors; left out: mask_token, norm, decoder, encoder_to_decoder"
    )
    qkv = run.model.state_dict()["blocks.2.attn.qkv.weight"]
    assert torch.equal(qkv, source["encoder.blocks.2.attn.qkv.weight"].half().float())


def test_a_pretraining_goes_on_from_another(begin, pretrained):
    lines: list[str] = []
    origin = Origin(init=pretrained / "best.pt")
    changes = (*PRETRAIN, "start=checkpoint", "decoder_mask_ratio=0")
    run = begin("tiny-videomae-pretrain", "more", *changes, origin=origin, say=lines.append)
    source = read_checkpoint(origin.init)["model"]
    assert all(torch.equal(tensor, source[name]) for name, tensor in run.model.state_dict().items())
    assert lines[0] == f"from {origin.init}: 75 tensors (k710 checkpoint)"


def test_inspect_says_what_it_is_and_others_refuse_it(pretrained, experiment, tmp_path, k710):
    manifest, clips = experiment
    best = pretrained / "best.pt"
    found = json.loads(k710("inspect", best, "--json").stdout)
    assert (found["model"], found["preset"]) == ("VideoMAE V2 ViT-tiny, masked pretraining", "tiny")
    assert found["head"] is None
    torch.save({"model": read_checkpoint(best)["model"]}, tmp_path / "released.pth")
    released = json.loads(k710("inspect", tmp_path / "released.pth", "--json").stdout)
    assert released["format"] == "VideoMAE pretraining checkpoint"
    assert [one["name"] for one in released["published"]] == ["videomaev2-pretrain", "videomae-pretrain"]
    files = ("--manifest", manifest.path, "--folder", clips)
    for words in (
        ("eval", "--checkpoint", best, *files, "--view", "k400"),
        ("predict", "--checkpoint", best, tmp_path / "any.mp4"),
        ("remap-head", best, "--to", "k400"),
    ):
        result = k710(*words)
        assert result.exit_code == 1, words
        assert "masked pretraining, before any classes were learned" in result.stderr, words
        assert "k710 train --init" in result.stderr, words
    result = k710("convert", best, "--to", "videomaev2")
    assert result.exit_code == 1
    assert "k710 converts whole classifiers" in result.stderr


@pytest.mark.parametrize(("recipe", "change", "message"), [
    ("tiny-videomae-pretrain", "objective=classify", "objective must be one of reconstruct, not 'classify'"),
    ("tiny-videomae-k710", "objective=reconstruct", "objective must be one of classify, distill, not 'reconstruct'"),
    ("tiny-videomae-pretrain", "head=new", "model.head must be one of none, not 'new'"),
    ("tiny-videomae-k710", "head=none", "model.head must be one of remap, new, not 'none'"),
    ("tiny-videomae-pretrain", "decoder_mask_ratio=0.3", "decoder_mask_ratio is 0.3, want 0, 0.25, 0.5 or 0.75"),
    ("tiny-videomae-pretrain", "mask_ratio=0.01", "at least one of 16 places"),
])  # fmt: skip
def test_what_does_not_go_together_is_refused(recipe, change, message):
    with pytest.raises(UsageError) as refused:
        read_train_recipe(recipe, [change])
    assert message in str(refused.value)


def test_its_memory_falls_with_what_is_hidden():
    family = FAMILIES["videomaev2_pretrain"]
    sizes = [
        estimate_memory(family, family.config("tiny", mask_ratio=ratio, decoder_mask_ratio=decoder), precision="fp32")
        for ratio, decoder in ((0.9, 0.5), (0.5, 0.5), (0.5, 0.0))
    ]
    assert sizes[0].clip_bytes < sizes[1].clip_bytes
    assert sizes[0].model_bytes == pytest.approx(sizes[1].model_bytes, rel=0.05)
