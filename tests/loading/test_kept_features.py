"""Kept features are of the clips' bytes and views; a changed clip, a damaged file and a random view are refused."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch

from k710.errors import LoadError, UsageError
from k710.loading.augment.augment import Augment
from k710.loading.augment.mix import Mix
from k710.loading.dataset import ClipDataset, open_dataset
from k710.loading.kept_features import ABOUT, KeptFeatures, KeptView, check_all_there, open_features, reader_of
from k710.loading.load_clip import ClipOptions
from k710.loading.loader import ClipLoader

pytest_plugins = ("tests.helpers.run_fixtures",)

SHAPES = {"tokens": (2, 3), "nothing": (0, 3)}


@pytest.fixture
def clips(experiment, tmp_path) -> Path:
    return Path(shutil.copytree(experiment[1], tmp_path / "clips"))


def opened(experiment, clips: Path, *, split: str = "val", **options) -> ClipDataset:
    return open_dataset(
        experiment[0], view="k710", split=split, folder=clips, options=ClipOptions(on_error="zero_weight", **options)
    )


def views_of(dataset: ClipDataset, error: str | None = None) -> list[KeptView]:
    """Every view, in the order of the dataset."""
    return [
        KeptView(clip_id, dataset.stamp(n), view.clip, dataset.reader.options.num_clips, view.crop, error)
        for n, clip_id in enumerate(dataset.index.clip_ids.to_pylist())
        for view in dataset.views
    ]


def write(folder: Path, dataset: ClipDataset, first: float = 0.0, error: str | None = None) -> KeptFeatures:
    """Features that number the views from `first`."""
    found = KeptFeatures(folder, {"family": "made up"}, SHAPES, "float32")
    found.begin()
    views = views_of(dataset, error)
    numbers = torch.arange(len(views), dtype=torch.float32).view(-1, 1, 1) + first
    found.write(views, {"tokens": numbers.expand(-1, 2, 3), "nothing": torch.empty(len(views), 0, 3)})
    return found


def test_each_view_has_its_own(experiment, clips, tmp_path):
    dataset = opened(experiment, clips, num_clips=2, num_crops=3)
    features = write(tmp_path / "kept", dataset)
    reader = reader_of(features, dataset, SHAPES)
    check_all_there(reader, dataset)
    found = pickle.loads(pickle.dumps(reader)).read([(3, 4), (0, 0), (3, 4)])
    assert found["tokens"][:, 0, 0].tolist() == [22, 0, 22]
    assert found["nothing"].shape == (3, 0, 3)
    assert features.view_bytes == 24
    # Of other views of the same clips there are none.
    other = opened(experiment, clips, num_clips=3, num_crops=3)
    with pytest.raises(
        UsageError,
        match=r"has no features of 10 of the 10 k710 val clips in 9 views of each.*--clips 3 --crops 3` comp",
    ):
        check_all_there(reader_of(features, other, SHAPES), other)


def test_a_changed_clip_has_none(experiment, clips, tmp_path):
    dataset = opened(experiment, clips)
    features = write(tmp_path / "kept", dataset)
    changed = clips / dataset.index[4].file
    os.utime(changed, ns=(1, 1))
    reader = reader_of(features, dataset, SHAPES)
    assert (reader.missing.tolist(), reader.changed) == ([4], {4})
    with pytest.raises(UsageError, match=r"no features of 1 of the 10 .*, 1 of them since their bytes have changed"):
        check_all_there(reader, dataset)
    write(tmp_path / "kept", dataset, first=100)
    again = reader_of(features, dataset, SHAPES)
    assert not len(again.missing)
    assert again.read([(4, 0)])["tokens"][0, 0, 0] == 104


def test_a_clip_that_could_not_be_read_has_weight_0_until_it_can(experiment, clips, tmp_path):
    dataset = opened(experiment, clips)
    features = write(tmp_path / "kept", dataset, error="cut off")
    batch = next(iter(ClipLoader(dataset, batch_size=4, features=reader_of(features, dataset, SHAPES))))
    assert batch.weights.tolist() == [0] * 4
    assert set(batch.errors.values()) == {"cut off"}
    assert batch.inputs is batch.seen
    write(tmp_path / "kept", dataset, first=50)
    good = next(iter(ClipLoader(dataset, batch_size=4, features=reader_of(features, dataset, SHAPES))))
    assert good.weights.tolist() == [1] * 4
    assert good.errors == {}
    assert good.seen["tokens"][:, 0, 0].tolist() == [50, 51, 52, 53]


def test_training_on_fixed_views_shows_each_of_them(experiment, clips, tmp_path):
    fixed = {"fixed_views": True, "num_clips": 2, "num_crops": 3, "seed": 5}
    train = opened(experiment, clips, split="train", **fixed)
    reader = reader_of(write(tmp_path / "kept", train), train, SHAPES)
    loader = ClipLoader(train, batch_size=4, features=reader, num_workers=2)
    shown = set()
    for epoch in range(8):
        for batch in loader:
            for sample, clip_id, number in zip(
                batch.samples, batch.clip_ids, batch.seen["tokens"][:, 0, 0], strict=True
            ):
                view = train.view_number(sample)
                assert sample.epoch == epoch
                assert (int(number), train.index[sample.clip].clip_id) == (sample.clip * 6 + view, clip_id)
                shown.add(view)
    assert shown == set(range(6))


def test_fixed_views_are_those_of_an_evaluation(experiment, clips):
    """Without features too: a sample has the pixels of the view that its key draws."""
    train = opened(experiment, clips, split="train", fixed_views=True, num_clips=2, num_crops=3)
    looked_at = open_dataset(
        experiment[0], view="k710", split="train", folder=clips, training=False,
        options=ClipOptions(num_clips=2, num_crops=3),
    )  # fmt: skip
    crops = Augment(crop_px=32)
    pixels = {}
    for batch in ClipLoader(looked_at, batch_size=8, augment=crops):
        pixels |= {(one.clip, one.view): frames for one, frames in zip(batch.samples, batch.pixels, strict=True)}
    for batch in ClipLoader(train, batch_size=8, augment=crops, epoch=3):
        for sample, frames in zip(batch.samples, batch.pixels, strict=True):
            assert torch.equal(frames, pixels[sample.clip, train.view_number(sample)])


def test_random_views_and_mixed_clips_have_no_features(experiment, clips, tmp_path):
    train = opened(experiment, clips, split="train")
    reader = reader_of(write(tmp_path / "kept", train), train, SHAPES)
    with pytest.raises(UsageError, match="features are kept of fixed views; random frames and mixed clips have none"):
        ClipLoader(train, batch_size=4, features=reader)
    fixed = opened(experiment, clips, split="train", fixed_views=True)
    with pytest.raises(UsageError, match="mixed clips have none"):
        ClipLoader(fixed, batch_size=4, features=reader, mix=Mix(mixup_alpha=0.8))


def test_only_some_clips_of_an_evaluation(experiment, clips):
    dataset = opened(experiment, clips, num_crops=3)
    loader = ClipLoader(dataset, batch_size=4, augment=Augment(crop_px=32), only=torch.tensor([2, 7]).numpy())
    assert [(one.clip, one.view) for batch in loader for one in batch.samples] == [
        (2, 0), (2, 1), (2, 2), (7, 0), (7, 1), (7, 2),
    ]  # fmt: skip


def test_a_damaged_file_is_named(experiment, clips, tmp_path):
    dataset = opened(experiment, clips)
    features = write(tmp_path / "kept", dataset)
    (file,) = features.files()
    (tmp_path / "kept" / file).write_bytes((tmp_path / "kept" / file).read_bytes()[:-4])
    with pytest.raises(LoadError, match=rf"{file}: no file of features, or damaged .*; remove the file and run"):
        reader_of(features, dataset, SHAPES)


def test_a_file_of_other_shapes_is_refused(experiment, clips, tmp_path):
    dataset = opened(experiment, clips)
    features = write(tmp_path / "kept", dataset)
    with pytest.raises(LoadError, match=r"tokens is \[10, 2, 3\]"):
        reader_of(KeptFeatures(features.folder, {}, {"tokens": (2, 4)}, "float32"), dataset, SHAPES)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "damaged"),
        ("[]", "damaged"),
        (json.dumps({"format": 1, "of": {}, "dtype": "float32", "tensors": {"a": "x"}}), "damaged"),
        (json.dumps({"format": 2, "of": {}, "dtype": "float32", "tensors": {}}), "not the features of this k710"),
        (json.dumps({"format": 1, "of": {}, "dtype": "int8", "tensors": {}}), "not the features of this k710"),
    ],
)
def test_a_record_that_is_none_is_refused(content, message, tmp_path):
    (tmp_path / ABOUT).write_text(content)
    with pytest.raises(LoadError, match=message):
        open_features(tmp_path)
