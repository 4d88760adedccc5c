"""A small experiment, and runs on it; a test module names this one in `pytest_plugins`."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from k710.curation.build import CurationRecipe, build
from k710.engine.torch_process import Process
from k710.lists.annotations import find_lists
from k710.loading.clip_source import Media
from k710.manifest.read import Manifest
from k710.sample.experiment import write_experiment
from k710.train.loop import train
from k710.train.prepare import prepare
from k710.train.read_recipe import read_train_recipe
from k710.train.run import Run, RunOptions
from k710.train.start import Origin
from tests.helpers.small_runs import SMALL


@pytest.fixture(scope="session")
def experiment(tmp_path_factory) -> tuple[Manifest, Path]:
    """A manifest and a folder of its clips: the experiment with few clips."""
    folder = tmp_path_factory.mktemp("experiment")
    write_experiment(folder, clips_per_class=5)
    sources = ("k400", "k600", "k700")
    files = find_lists(folder / "lists", sources, ("train", "val"))
    manifest = build(CurationRecipe(sources).checked(), files, folder / "manifest")
    return manifest, folder / "clips"


@pytest.fixture
def start(experiment, tmp_path):
    """`start("name", "key=value", …)` is a run that can begin."""
    manifest, clips = experiment

    def start_run(name: str = "run", *changes: str, folder: Path = clips, **options) -> Run:
        recipe, _ = read_train_recipe("tiny-k710", [*SMALL, *changes])
        options.setdefault("say", lambda line: None)
        process = options.pop("process", Process(torch.device("cpu")))
        origin = options.pop("origin", Origin())
        carried = {field.name for field in dataclasses.fields(RunOptions)} & options.keys()
        run_options = RunOptions(**{name: options.pop(name) for name in carried})
        return prepare(
            recipe, manifest.path, tmp_path / name, process, origin=origin, media=Media(folder=folder),
            options=run_options, **options,
        )  # fmt: skip

    return start_run


@pytest.fixture(scope="session")
def uninterrupted(experiment, tmp_path_factory) -> Path:
    """A run from beginning to end."""
    manifest, clips = experiment
    recipe, _ = read_train_recipe("tiny-k710", SMALL)
    out = tmp_path_factory.mktemp("runs") / "whole"
    process = Process(torch.device("cpu"))
    origin, media = Origin(), Media(folder=clips)
    train(prepare(recipe, manifest.path, out, process, origin=origin, media=media, say=lambda line: None))
    return out


@pytest.fixture
def begin(experiment, tmp_path):
    """`begin("recipe", "name", "key=value", …)` is a run that can begin."""
    manifest, clips = experiment

    def begin_run(recipe: str, name: str, *changes: str, **options) -> Run:
        chosen, _ = read_train_recipe(recipe, changes)
        options = {"say": lambda line: None, "origin": Origin()} | options
        carried = {field.name for field in dataclasses.fields(RunOptions)} & options.keys()
        run_options = RunOptions(**{name: options.pop(name) for name in carried})
        return prepare(
            chosen, manifest.path, tmp_path / name, Process(torch.device("cpu")), media=Media(folder=clips),
            options=run_options, **options,
        )  # fmt: skip

    return begin_run
