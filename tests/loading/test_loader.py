"""The loader: the same batches with any number of workers and ranks, exact resumes, one clear error for each mishap."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch

from k710 import ClipLoader, ClipOptions, open_dataset, open_manifest
from k710.engine.part import Share
from k710.errors import LoadError, UsageError
from k710.loading.augment.augment import Augment, augment
from k710.loading.augment.evaluation_crops import evaluation_crops
from k710.loading.augment.mix import Mix
from k710.loading.epochs import RepeatedEpochWarning
from k710.loading.load_clip import ClipReader
from k710.loading.order import EpochOrder, Sample
from k710.loading.sampling import evaluation_views
from tests.helpers.numbered_stores import make_numbered, numbers

K400 = {"view": "k400", "split": "train"}
PLAIN = Augment(crop_px=32, randaugment=None)


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("K710_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def manifest(tmp_path_factory, k710):
    """Ten clips of twelve are enough to be split among ranks; they are stored as frames, which load quickest."""
    return make_numbered(tmp_path_factory.mktemp("numbered"), k710, ("frames",)).manifest


@pytest.fixture
def dataset(manifest):
    return open_dataset(manifest, **K400, profile="frames", options=ClipOptions(seed=9))


def samples_of(loader, batches=None):
    found = []
    for number, batch in enumerate(loader, start=1):
        found.append(batch)
        if number == batches:
            break
    return [(batch.clip_ids, batch.samples) for batch in found]


def test_three_lines_give_batches(manifest):
    for batch in ClipLoader(
        open_dataset(manifest, **K400, profile="frames"), batch_size=4, augment=Augment(crop_px=64)
    ):
        assert batch.pixels.shape == (4, 3, 8, 64, 64)
        assert batch.pixels.dtype == torch.float32
        assert batch.class_ids.dtype == torch.int64
        assert batch.weights.tolist() == [1, 1, 1, 1]


def test_a_batch_is_the_samples_of_the_order_augmented_by_their_keys(dataset):
    loader = ClipLoader(dataset, batch_size=6, augment=Augment(crop_px=48))
    order = list(EpochOrder(12, 9).batches(0, 6, Share()))
    for batch, samples in zip(loader, order, strict=True):
        assert batch.samples == samples
        clips = [dataset[sample] for sample in samples]
        settings = Augment(crop_px=48)
        choices = [settings.choose(dataset.key(clip.sample), 96, 128) for clip in clips]
        torch.testing.assert_close(batch.pixels, augment([clip.pixels for clip in clips], choices, settings))
        assert batch.class_ids.tolist() == [clip.class_id for clip in clips]
        assert batch.clip_ids == [clip.clip_id for clip in clips]


def test_any_number_of_workers_gives_the_same_batches(dataset):
    with_0, with_1, with_2 = (
        list(ClipLoader(dataset, batch_size=4, num_workers=workers, augment=Augment(crop_px=32), epoch=0))
        for workers in (0, 1, 2)
    )
    for one, *others in zip(with_0, with_1, with_2, strict=True):
        for other in others:
            assert one.samples == other.samples
            assert torch.equal(one.pixels, other.pixels)


@pytest.mark.slow
def test_workers_that_are_spawned_give_them_too(dataset):
    one, other = (ClipLoader(dataset, batch_size=4, augment=PLAIN, epoch=0, **how) for how in ({}, SPAWN))
    assert samples_of(one) == samples_of(other)


SPAWN = {"num_workers": 1, "start_method": "spawn"}


def test_ranks_share_each_batch_out(dataset):
    whole = [batch.samples for batch in ClipLoader(dataset, batch_size=6, augment=PLAIN)]
    for world_size in (2, 3):
        ranks = [
            ClipLoader(dataset, batch_size=6, augment=PLAIN, share=Share(rank, world_size))
            for rank in range(world_size)
        ]
        parts = zip(*([batch.samples for batch in rank] for rank in ranks), strict=True)
        assert [[sample for part in batch for sample in part] for batch in parts] == whole


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resume_repeats_nothing_and_skips_nothing(dataset, workers):
    """Stopped after two batches on one rank, resumed on two."""
    loader = ClipLoader(dataset, batch_size=2, augment=PLAIN, num_workers=workers)
    before = [sample for _, samples in samples_of(loader, batches=2) for sample in samples]
    state = loader.state_dict()
    assert (state["epoch"], state["consumed"]) == (0, 4)
    after = []
    ranks = [
        ClipLoader(dataset, batch_size=4, augment=PLAIN, num_workers=workers, share=Share(rank, 2)) for rank in (0, 1)
    ]
    for rank in ranks:
        rank.load_state_dict(state)
        assert len(rank) == 2
    for parts in zip(*(samples_of(rank) for rank in ranks), strict=True):
        after += [sample for _, samples in parts for sample in samples]
    whole = [sample for batch in EpochOrder(12, 9).batches(0, 1, Share()) for sample in batch]
    assert before + after == whole
    assert all(rank.state_dict() == {**state, "epoch": 1, "consumed": 0} for rank in ranks)
    # Left in mid-epoch, the loader itself goes on too, and then begins the next epoch.
    assert [sample for _, samples in samples_of(loader) for sample in samples] == after
    assert loader.epoch == 1
    assert {sample.epoch for _, samples in samples_of(loader) for sample in samples} == {1}


def test_pieces_of_a_step_count_together(dataset):
    loader = ClipLoader(dataset, batch_size=4, augment=PLAIN, num_pieces=2)
    positions = [(len(batch.samples), loader.state_dict()["consumed"]) for batch in loader]
    assert positions == [(2, 0), (2, 4), (2, 4), (2, 8), (2, 8), (2, 0)]


def test_a_position_in_other_clips_is_refused(manifest, dataset):
    state = ClipLoader(dataset, batch_size=4).state_dict()
    other = ClipLoader(
        open_dataset(manifest, view="k400", split="val", profile="frames", training=True, options=ClipOptions(seed=9)),
        batch_size=4,
    )
    with pytest.raises(UsageError, match="other clips"):
        other.load_state_dict(state)
    with pytest.raises(UsageError, match="seed 9"):
        ClipLoader(
            open_dataset(manifest, **K400, profile="frames", options=ClipOptions(seed=1)), batch_size=4
        ).load_state_dict(state)


def test_evaluation_shows_every_view_once_on_any_number_of_ranks(manifest):
    dataset = open_dataset(
        manifest, view="k400", split="val", profile="frames", options=ClipOptions(num_clips=2, num_crops=3)
    )
    everything = {Sample(clip, view=view) for clip in range(len(dataset)) for view in range(6)}
    for world_size in (1, 2, 3):
        seen = []
        for rank in range(world_size):
            loader = ClipLoader(dataset, batch_size=6, augment=PLAIN, share=Share(rank, world_size))
            batches = list(loader)
            assert len(batches) == len(loader)
            seen += [sample for batch in batches for sample in batch.samples]
        assert len(seen) == len(everything)
        assert set(seen) == everything
    with pytest.raises(UsageError, match="no position"):
        loader.state_dict()


def test_evaluation_crops_are_the_published_ones(manifest):
    dataset = open_dataset(
        manifest, view="k400", split="val", profile="frames", options=ClipOptions(num_clips=2, num_crops=3)
    )
    assert dataset.views == evaluation_views(2, 3)
    batch = next(iter(ClipLoader(dataset, batch_size=6, augment=Augment(crop_px=48))))
    clips = [dataset[sample] for sample in batch.samples]
    expected = evaluation_crops([clip.pixels for clip in clips], [0, 1, 2, 0, 1, 2], crop_px=48)
    assert torch.equal(batch.pixels, expected)


def test_mixing_gives_targets(dataset):
    loader = ClipLoader(dataset, batch_size=4, augment=PLAIN, mix=Mix(mixup_alpha=0.8, cutmix_alpha=1.0), num_repeats=2)
    batch = next(iter(loader))
    assert batch.targets.shape == (4, 400)
    torch.testing.assert_close(batch.targets.sum(1), torch.ones(4))
    assert [sample.repeat for sample in batch.samples] == [0, 1, 0, 1]


def test_packed_batches_are_bytes(dataset):
    batch = next(iter(ClipLoader(dataset, batch_size=4, packed=True)))
    assert batch.block.dtype == torch.uint8
    for clip, sample in zip(batch.clips, batch.samples, strict=True):
        assert numbers(clip) == dataset[sample].frames.tolist()


def test_what_belongs_to_training_is_refused_in_evaluation(manifest, dataset):
    evaluation = open_dataset(manifest, view="k400", split="val", profile="frames")
    with pytest.raises(UsageError, match="belong to training"):
        ClipLoader(evaluation, batch_size=4, mix=Mix(0.8))
    for nothing in (0, -3):
        with pytest.raises(UsageError, match=f"batches of {nothing}; at least"):
            ClipLoader(evaluation, batch_size=nothing)
    with pytest.raises(UsageError, match="at most 12"):
        ClipLoader(dataset, batch_size=24)
    with pytest.raises(UsageError, match="does not divide"):
        ClipLoader(dataset, batch_size=3, share=Share(0, 2))


# Mishaps.


@pytest.fixture
def own(manifest, tmp_path):
    shutil.copytree(manifest.path, tmp_path / "m")
    return open_manifest(tmp_path / "m")


def break_clip(manifest, number):
    dataset = open_dataset(manifest, **K400, profile="frames")
    place = dataset.index[number]
    with (manifest.path / "store/tars/frames" / place.file).open("r+b") as file:
        file.seek(place.offset)
        file.write(bytes(place.size))
    return place.clip_id


def error_of(batches) -> str:
    """What a loader raises, as text: an exception that is kept keeps its workers too, until a collection finds them."""
    try:
        list(batches)
    except LoadError as error:
        return str(error)
    pytest.fail("nothing was raised")


@pytest.mark.parametrize("workers", [0, 2])
def test_a_clip_that_fails_is_one_error_or_a_weight(own, workers):
    broken = break_clip(own, 3)
    said = error_of(
        ClipLoader(open_dataset(own, **K400, profile="frames"), batch_size=4, num_workers=workers, augment=PLAIN)
    )
    assert said.startswith(f"clip {broken} (")
    assert "Traceback" not in said
    dataset = open_dataset(own, **K400, profile="frames", options=ClipOptions(on_error="zero_weight"))
    loader = ClipLoader(dataset, batch_size=4, num_workers=workers, augment=PLAIN, mix=Mix(mixup_alpha=0.8))
    batches = list(loader)
    assert sum(len(batch.samples) for batch in batches) == 12
    assert loader.num_failed == 1
    (batch,) = (batch for batch in batches if batch.errors)
    assert list(batch.errors) == [broken]
    where = batch.clip_ids.index(broken)
    assert batch.weights.tolist() == [float(number != where) for number in range(4)]
    partner = 3 - where
    assert batch.targets[partner, batch.class_ids[partner]] == 1, "nothing black was mixed into its partner"


def test_the_workers_of_a_loader_that_failed_end_at_once(own):
    """They waited for 5 s each."""
    break_clip(own, 3)
    gc.disable()
    try:
        loader = ClipLoader(open_dataset(own, **K400, profile="frames"), batch_size=4, num_workers=2, augment=PLAIN)
        error_of(loader)
        workers = loader._loader._iterator._workers
        begin_s = time.monotonic()
        del loader
        assert time.monotonic() - begin_s < 5
        assert [worker.exitcode for worker in workers] == [0, 0]
    finally:
        gc.enable()


@pytest.mark.slow
def test_clips_that_fail_one_after_another_raise_all_the_same(own):
    """A pair in a small batch may: with two clips a GPU, that would end a long run by bad luck."""
    order = [sample.clip for batch in EpochOrder(12, 0).batches(0, 2, Share()) for sample in batch]
    for number in order[:8]:
        break_clip(own, number)
    dataset = open_dataset(own, **K400, profile="frames", options=ClipOptions(on_error="zero_weight", seed=0))
    seen = []
    with pytest.raises(LoadError, match="8 clips in a row could not be read; the last: clip"):
        seen += [batch.weights.tolist() for batch in ClipLoader(dataset, batch_size=2, augment=PLAIN)]
    with pytest.raises(LoadError, match="8 clips in a row"):
        list(ClipLoader(dataset, batch_size=8, augment=PLAIN))
    loader = ClipLoader(dataset, batch_size=1, augment=PLAIN)
    position = {**loader.state_dict(), "consumed": 1}
    loader.load_state_dict(position)  # one failed clip less
    assert [batch.weights.item() for batch in loader] == [0.0] * 7 + [1.0] * 4


def test_the_repeats_of_one_clip_that_fails_are_no_row_of_clips(own):
    break_clip(own, 3)
    dataset = open_dataset(own, **K400, profile="frames", options=ClipOptions(on_error="zero_weight"))
    loader = ClipLoader(dataset, batch_size=16, num_repeats=8, augment=PLAIN)
    assert len(list(loader)) == 6
    assert loader.num_failed == 8


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_worker_outlives_the_signals_of_others(dataset, number):
    """torchrun, SLURM and a terminal send them to all processes; the one that trains decides what to do."""
    loader = ClipLoader(dataset, batch_size=1, num_workers=1, augment=PLAIN)
    batches = iter(loader)
    next(batches)
    (worker,) = loader._loader._iterator._workers
    killer = f"import os, signal; os.kill({worker.pid}, {int(number)})"
    subprocess.run([sys.executable, "-c", killer], check=True)
    assert len(list(batches)) == 11
    assert worker.is_alive()
    worker.terminate()  # its own process may
    worker.join(10)
    assert worker.exitcode == 0


@pytest.mark.slow
def test_a_worker_that_is_killed_is_one_error_and_the_position_is_kept(dataset, monkeypatch):
    load = ClipReader.load
    monkeypatch.setattr(ClipReader, "load", lambda *arguments: time.sleep(0.2) or load(*arguments))
    loader = ClipLoader(dataset, batch_size=1, num_workers=1, augment=PLAIN, prefetch=1)
    batches, seen = iter(loader), []
    for _ in range(3):
        seen += next(batches).samples
    (worker,) = loader._loader._iterator._workers
    threading.Timer(0.05, os.kill, (worker.pid, signal.SIGKILL)).start()
    said = error_of(seen.extend(batch.samples) for batch in batches)
    assert said.startswith(f"worker {worker.pid} died, most often for want of memory")
    seen += [sample for _, samples in samples_of(loader) for sample in samples]
    assert seen == [sample for batch in EpochOrder(12, 9).batches(0, 1, Share()) for sample in batch]


@pytest.mark.slow
def test_a_worker_that_is_killed_during_a_step_is_missed_at_the_next_batch(dataset, monkeypatch):
    """Torch would raise in the midst of the step, an error that nobody expects there."""
    monkeypatch.setattr("torch.utils.data._utils.signal_handling._SIGCHLD_handler_set", False)
    before = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        loader = ClipLoader(dataset, batch_size=1, num_workers=1, augment=PLAIN, prefetch=1)
        batches = iter(loader)
        next(batches)
        (worker,) = loader._loader._iterator._workers
        worker.kill()
        until_s = time.monotonic() + 0.3
        while time.monotonic() < until_s:  # the step
            pass
        assert error_of(batches).startswith(f"worker {worker.pid} died")
        assert {len(batch.samples) for batch in loader} == {1}
        assert loader.epoch == 1
    finally:
        signal.signal(signal.SIGCHLD, before)


# Epochs.


def test_one_loader_gives_every_epoch_anew(dataset):
    loader = ClipLoader(dataset, batch_size=6, augment=PLAIN)
    epochs = [list(loader) for _ in range(3)]
    assert loader.epoch == 3
    orders = [[sample for batch in batches for sample in batch.samples] for batches in epochs]
    assert [{sample.epoch for sample in order} for order in orders] == [{0}, {1}, {2}]
    assert len({tuple(sample.clip for sample in order) for order in orders}) == 3
    pixels = [{sample.clip: clip for batch in batches for sample, clip in zip(batch.samples, batch.pixels, strict=True)}
              for batches in epochs]  # fmt: skip
    assert not any(torch.equal(pixels[0][clip], pixels[1][clip]) for clip in pixels[0])


@pytest.mark.parametrize("anew", ["loader", "dataset"])
def test_a_loader_made_anew_for_each_epoch_is_reported(manifest, dataset, anew):
    for _ in ClipLoader(dataset, batch_size=6, augment=PLAIN):
        pass
    if anew == "dataset":
        dataset = open_dataset(manifest, **K400, profile="frames", options=ClipOptions(seed=9))
    with pytest.warns(RepeatedEpochWarning, match=r"epoch 0 of these 12 clips .* Make the loader once") as caught:
        list(ClipLoader(dataset, batch_size=6, augment=PLAIN))
    assert len(caught) == 1
    assert caught[0].filename == __file__, "it points at the loop"


def test_an_epoch_that_is_broken_off_and_begun_anew_is_reported(dataset):
    samples_of(ClipLoader(dataset, batch_size=2, augment=PLAIN), batches=3)
    with pytest.warns(RepeatedEpochWarning):
        samples_of(ClipLoader(dataset, batch_size=2, augment=PLAIN), batches=1)


def test_what_is_no_repetition_by_mistake_is_not_reported(manifest, dataset):
    """Each of these would be an error here."""
    next(iter(ClipLoader(dataset, batch_size=2, augment=PLAIN)))  # a look at a batch
    loader = ClipLoader(dataset, batch_size=2, augment=PLAIN)
    list(loader), list(loader)
    state = loader.state_dict()
    first = samples_of(ClipLoader(dataset, batch_size=2, augment=PLAIN, epoch=0))
    assert {sample.epoch for _, samples in first for sample in samples} == {0}
    resumed = ClipLoader(dataset, batch_size=2, augment=PLAIN)
    resumed.load_state_dict(state)
    third = samples_of(resumed)
    assert third == samples_of(ClipLoader(dataset, batch_size=2, augment=PLAIN, epoch=2))
    list(ClipLoader(dataset, batch_size=2, augment=Augment(crop_px=16)))
    list(
        ClipLoader(
            open_dataset(manifest, **K400, profile="frames", options=ClipOptions(seed=8)), batch_size=2, augment=PLAIN
        )
    )
    evaluation = open_dataset(manifest, view="k400", split="val", profile="frames")
    for _ in range(2):
        list(ClipLoader(evaluation, batch_size=6, augment=PLAIN))


def test_an_epoch_that_cannot_be_is_refused(manifest, dataset):
    with pytest.raises(UsageError, match="epoch is -1; epochs count from 0"):
        ClipLoader(dataset, batch_size=2, epoch=-1)
    with pytest.raises(UsageError, match="this dataset is for evaluation"):
        ClipLoader(open_dataset(manifest, view="k400", split="val", profile="frames"), batch_size=2, epoch=0)


@pytest.mark.slow
def test_training_clips_asked_for_by_number_epoch_after_epoch_are_reported(dataset):
    """As torch's own DataLoader asks."""
    first = [dataset[number] for number in range(len(dataset))]
    with pytest.warns(RepeatedEpochWarning, match="dataset\\[number\\] is the clip as epoch 0 shows it"):
        again = dataset[0]
    assert torch.equal(first[0].pixels, again.pixels)
    workers = torch.utils.data.DataLoader(dataset, batch_size=None, num_workers=1)
    with pytest.raises(RepeatedEpochWarning):  # pytest makes an error of it, in the worker too
        next(iter(workers))
    assert dataset[Sample(0, epoch=1)].frames.tolist() != first[0].frames.tolist()
