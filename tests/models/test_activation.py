"""The backbone's activation, from the recipe to the model that is trained, resumed, evaluated and started from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from k710.errors import CheckpointError, RecipeError, UsageError
from k710.models.checkpoints.checkpoint import open_checkpoint
from k710.models.families import family_of
from k710.models.load import model_from_checkpoint
from k710.models.uniformerv2.family import UNIFORMERV2
from k710.train.read_recipe import read_train_recipe, train_recipe_from
from k710.train.recipe import TrainRecipe
from k710.train.start import Origin, head_record, start_model
from tests.helpers.clip_files import openclip, tower


def recipe(*changes: str) -> TrainRecipe:
    tiny = ["preset=tiny", "size_px=32", "num_frames=4", "checkpoint_blocks=0"]
    return read_train_recipe("pretrain-k710-b16", [*tiny, *changes])[0]


def test_a_recipe_says_the_activation_where_the_tower_does_not(tmp_path: Path):
    path = str(openclip(tmp_path, tower()))
    with pytest.raises(CheckpointError, match="--set activation=quick_gelu or --set activation=gelu"):
        start_model(recipe(), Origin(path))
    for activation in ("gelu", "quick_gelu"):
        start = start_model(recipe(f"activation={activation}"), Origin(path))
        assert start.model.config.activation == activation
    with pytest.raises((UsageError, RecipeError), match="activation is 'relu', want quick_gelu or gelu"):
        recipe("activation=relu")


def test_recipes_of_before_have_the_published_activation():
    assert "activation" not in recipe().as_dict()["model"]
    assert train_recipe_from(recipe().as_dict(), "recipe.yaml") == recipe()
    start = start_model(recipe("start=nothing", "head=new"), Origin())
    assert start.model.config.activation == "quick_gelu"


def test_a_checkpoint_keeps_its_activation(tmp_path: Path):
    trained = recipe("start=nothing", "head=new", "activation=gelu")
    start = start_model(trained, Origin())
    path = tmp_path / "best.pt"
    run = {"recipe": trained.as_dict()}
    content = {
        "k710_format": 1,
        "model": start.model.state_dict(),
        "head": head_record(UNIFORMERV2, "k710"),
        "run": run,
    }
    torch.save(content, path)
    _, config = family_of(open_checkpoint(path))
    assert config.activation == "gelu"
    clip = torch.randn(1, 3, 4, 32, 32)
    with torch.no_grad():
        found = model_from_checkpoint(path).eval()(clip)
        torch.testing.assert_close(found, start.model.eval()(clip))
    goes_on = ("start=checkpoint", "head=remap")
    with pytest.raises(CheckpointError, match=r"trained with gelu, .* has quick_gelu: --set activation=gelu"):
        start_model(recipe(*goes_on), Origin(init=path))
    assert start_model(recipe(*goes_on, "activation=gelu"), Origin(init=path)).model.config.activation == "gelu"
