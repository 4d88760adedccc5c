"""The small measurements of a plan, on a tiny model and clips of a few kB."""

from __future__ import annotations

import time
import warnings

import pytest
import torch

from k710.errors import MachineError, UsageError
from k710.loading.augment.augment import Augment
from k710.loading.clip_source import Media
from k710.loading.finish import Finish
from k710.loading.load_clip import ClipOptions
from k710.manifest.read import open_manifest
from k710.plan.clock import busy_note, process_start, spent
from k710.plan.measure_fetch import _slope, made_up_clips
from k710.plan.measure_load import measure_load
from k710.plan.measure_step import made_up, measure_forward, measure_step, measured_piece, stepper_of
from k710.train.read_recipe import read_train_recipe
from k710.train.start import config_of_recipe
from tests.helpers.small_stores import clips_of, film, manifest_of

CPU = torch.device("cpu")


@pytest.fixture
def recipe():
    return read_train_recipe("tiny-k400", ["batch_size=4", "gpu_batch_size=4"])[0]


def test_a_clock_of_the_cores_does_not_run_while_nothing_is_done():
    with spent() as found:
        time.sleep(0.2)
    assert found.wall_s >= 0.2
    assert found.core_s < 0.15
    with spent() as busy:
        until_s = time.process_time() + 0.1
        while time.process_time() < until_s:
            pass
    assert busy.core_s >= 0.1


def test_a_process_that_does_not_start():
    with pytest.raises(MachineError, match="no_such_module"):
        process_start("no_such_module")


def test_a_busy_machine_is_told(monkeypatch):
    monkeypatch.setattr("os.getloadavg", lambda: (500.0, 0.0, 0.0))
    assert "a load of 500.0" in busy_note()
    monkeypatch.setattr("os.getloadavg", lambda: (0.0, 0.0, 0.0))
    assert busy_note() == ""


def test_two_runs_tell_the_start_from_the_clips():
    assert _slope(4, 3.0, 20, 11.0) == 0.5
    assert _slope(4, 3.0, 4, 11.0) == pytest.approx(11 / 4), "no more clips came"
    assert _slope(4, 3.0, 20, 2.0) == pytest.approx(3 / 20), "noise is larger than the clips"


def test_a_step_and_a_forward_pass(recipe):
    config = config_of_recipe(recipe)
    step = measure_step(recipe, config, CPU, piece_size=4, measure_s=0.2)
    assert step.piece_size == 4
    assert step.sample.core_s > 0
    forward = measure_forward(recipe, config, CPU, num_views=4, measure_s=0.2)
    assert 0 < forward.core_s < step.sample.core_s + step.start.core_s, "a forward pass is less than a step"


def test_a_model_without_classes_is_measured_too():
    masked, _ = read_train_recipe("tiny-videomae-pretrain", ())
    config = config_of_recipe(masked)
    assert measure_step(masked, config, CPU, piece_size=4, measure_s=0.1).sample.core_s > 0
    assert measure_forward(masked, config, CPU, num_views=2, measure_s=0.1).core_s > 0


def test_a_slow_step_is_taken_twice_and_no_more(recipe, monkeypatch):
    taken = []
    real = stepper_of(recipe, CPU)

    def counting(*args, **options):
        def step(number, batches):
            taken.append(number)
            return real(number, batches)

        return type("Stepper", (), {"__call__": lambda self, *given: step(*given), "model": real.model})()

    monkeypatch.setattr("k710.plan.measure_step.stepper_of", counting)
    found = measure_step(recipe, config_of_recipe(recipe), CPU, piece_size=4, measure_s=1e-9)
    assert taken == [1, 2]
    assert found.start.core_s == 0


def test_a_distillation_wants_its_teacher():
    distilled, _ = read_train_recipe("tiny-videomae-distill", ())
    with pytest.raises(UsageError, match="teacher"):
        measure_step(distilled, config_of_recipe(distilled), CPU, piece_size=1, measure_s=0.1)


def test_on_a_cpu_a_large_model_is_measured_with_few_clips(recipe):
    assert measured_piece(recipe, config_of_recipe(recipe), CPU, 4) == 4
    large, _ = read_train_recipe("pretrain-k710-l14", ())
    assert measured_piece(large, config_of_recipe(large), CPU, 32) == 1


def test_made_up_batches_are_of_the_recipe(recipe):
    batch = next(made_up(recipe, CPU))
    assert batch.pixels.shape == (4, 3, 8, 32, 32)
    assert len(next(made_up(recipe, CPU, 2)).clip_ids) == 2


@pytest.mark.parametrize("training", [True, False])
def test_loading_counts_every_sample_once(k710, tmp_path, training):
    clips = clips_of(6)
    folder = film(tmp_path / "clips", clips)
    manifest = open_manifest(manifest_of(k710, tmp_path, [*clips, *clips_of(1, "val", first=6)]))
    options = ClipOptions(num_frames=8) if training else ClipOptions(num_frames=8, num_clips=2, num_crops=3)
    dataset = Media(folder=folder).dataset(manifest, options, view="k400", split="train", training=training)
    finish = Finish(Augment(crop_px=32), None, training, 400, torch.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # epochs are counted
        found = measure_load(dataset, finish, CPU, batch_size=3, num_repeats=1, measure_s=0.05)
    assert found.num_samples >= 3
    assert 0 < found.load_core_s < 1
    assert found.finish.core_s > 0


@pytest.mark.slow
def test_made_up_clips_are_all_there(tmp_path):
    manifest, origin = made_up_clips(tmp_path, 5)
    names = set(manifest.clips["clip_id"].to_pylist())
    assert {path.stem for path in origin.folder.glob("*.mp4")} == names
    assert len(names) == 5
