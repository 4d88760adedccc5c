"""The miniature of Table 9e: its arms are what they are called, on a tenth of its size."""

from __future__ import annotations

import sys

import pytest
import torch

from tests.helpers import CHECKOUT

sys.path.insert(0, str(CHECKOUT / "benchmarks"))
import table9e

from k710.train.read_recipe import read_train_recipe


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return table9e.World(tmp_path_factory.mktemp("world"), 15, 0)


def test_the_worlds_differ_by_the_leaks_alone(world):
    clean = {clip.clip_id for clip in world.clips("k710", "train")}
    leaky = {clip.clip_id for clip in world.clips("leaky", "train")}
    assert leaky - clean == world.leaked
    assert world.leaked
    assert not clean - leaky
    val = {clip.clip_id for name in table9e.RELEASES for clip in world.clips(name, "val")}
    assert not clean & val
    assert world.leaked <= val


def test_three_heads_are_asked_apart(world):
    clips = world.clips("k600", "val", 400)
    assert all(clip.head == slice(400, 1000) for clip in clips)
    assert all(400 <= clip.row < 1000 for clip in clips)
    recipe, _ = read_train_recipe("tiny-k710")
    model = table9e.new_model(recipe, 1700)
    with torch.no_grad():  # sure of another head's class: which must not matter
        model.transformer.proj[2].bias[5] = 100.0
        model.transformer.proj[2].bias[clips[0].row] = 50.0
    assert table9e.right(model, world, clips[:1]) == {clips[0].clip_id: True}


def test_a_remapped_head_answers_as_the_whole_one(world):
    recipe, _ = read_train_recipe("tiny-k710")
    body = table9e.new_model(recipe, 710)
    model = table9e.finetuned(body, "k400", recipe, remapped=True)
    rows = torch.tensor(table9e.row_map("k710", "k400"))
    clips = torch.randn(2, 3, 8, 32, 32)
    assert torch.allclose(model.eval()(clips), body.eval()(clips)[:, rows], atol=1e-6)
    assert not torch.allclose(table9e.finetuned(body, "k400", recipe, remapped=False).eval()(clips), model(clips))


@pytest.mark.slow
def test_it_runs_from_end_to_end(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["table9e.py", "--seeds", "2", "--epochs", "1", "--clips-per-class", "15"])
    table9e.main()
    told = capsys.readouterr().out
    assert "| K710 + finetune, new head |" in told
    assert "| with leaks |" in told
