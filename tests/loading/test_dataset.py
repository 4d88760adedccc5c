"""ClipDataset: the right clip, its right class, the right frames; and what cannot be read says so."""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
import subprocess
import sys
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pytest

from k710 import ClipOptions, open_dataset, open_manifest
from k710.errors import FetchError, LoadError, ManifestError, UsageError
from k710.fetch.scratch import scratch_folder
from k710.fetch.store_unit import StoreUnit
from k710.lists.labels import class_names
from k710.loading.clip_index import ClipIndex
from k710.loading.order import Sample
from k710.loading.sampling import FrameSampling, nearest_stored, storage_error
from k710.maintenance.verify import read_media
from k710.manifest.views import split_of, view
from k710.random_key import RandomKey
from k710.sample.footage import clips_of, write_video
from k710.sample.numbered import numbered_frames
from k710.store.store import MEDIA_SCHEMA, Store
from k710.store.stored_frames import stored_indices
from tests.helpers.numbered_stores import LOOK, PROFILES, make_numbered, num_frames_of, numbers

K400 = {"view": "k400", "split": "train"}


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("K710_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def numbered(tmp_path_factory, k710):
    return make_numbered(tmp_path_factory.mktemp("numbered"), k710)


@pytest.fixture
def own(numbered, tmp_path):
    """A copy of the manifest and its store, to be damaged."""
    shutil.copytree(numbered.manifest.path, tmp_path / "m")
    return open_manifest(tmp_path / "m")


def only_tar(manifest, profile):
    """The tar of a store that holds the first clip of the dataset."""
    dataset = open_dataset(manifest, **K400, profile=profile)
    return manifest.path / "store" / "tars" / profile / dataset.index[0].file


# Right to the frame.


@pytest.mark.parametrize("frame_reads", ["small", "ranged"])
@pytest.mark.parametrize("profile", PROFILES)
def test_training_shows_the_frames_that_the_key_draws(numbered, profile, frame_reads):
    dataset = open_dataset(
        numbered.manifest, **K400, profile=profile, frame_reads=frame_reads, options=ClipOptions(seed=5)
    )
    assert len(dataset) == 12
    for number in range(len(dataset)):
        clip = dataset[Sample(number, epoch=3, repeat=1)]
        num_frames = num_frames_of(clip.clip_id)
        drawn = FrameSampling(8).train(num_frames, RandomKey(5, 3, clip.clip_id, 1).draws("frames"))
        if profile == "frames":
            stored = stored_indices(num_frames, 64)
            assert np.abs(clip.frames - drawn).max() <= storage_error(stored, num_frames)
            drawn = stored[nearest_stored(drawn, stored)]
        assert clip.frames.tolist() == drawn.tolist() == numbers(clip.pixels)
        assert clip.weight == 1
        assert clip.error is None


@pytest.mark.parametrize("decoder", ["pyav", "decord"])
@pytest.mark.parametrize("method", [{"num_frames": 8}, {"num_frames": 4, "method": "dense", "stride": 7}])
def test_evaluation_shows_the_published_frames_of_each_view(numbered, decoder, method):
    options = ClipOptions(**method, num_clips=4, num_crops=3, decoder=decoder)
    dataset = open_dataset(numbered.manifest, view="k400", split="val", options=options)
    assert len(dataset.views) == 12
    for number in range(0, len(dataset), 3):
        for clip in dataset.load([Sample(number, view=which) for which in range(12)]):
            sampling = FrameSampling(**method)
            expected = sampling.test(num_frames_of(clip.clip_id), clip=clip.sample.view // 3, num_clips=4)
            assert numbers(clip.pixels) == clip.frames.tolist() == expected.tolist()


def test_a_plain_folder_gives_what_the_store_gives(numbered):
    for split in ("train", "val"):
        stored, plain = (
            open_dataset(numbered.manifest, view="k400", split=split, **where)
            for where in ({"profile": "source"}, {"folder": numbered.clips})
        )
        assert stored.index.clip_ids.equals(plain.index.clip_ids)
        for one, other in ((stored[i], plain[i]) for i in range(len(stored))):
            assert one.class_id == other.class_id
            assert (one.pixels == other.pixels).all()


def test_samples_of_one_clip_are_decoded_once(numbered, monkeypatch):
    from k710.loading import load_clip

    seen = []
    decode = load_clip.decode
    monkeypatch.setattr(load_clip, "decode", lambda media, *rest, **how: seen.append(1) or decode(media, *rest, **how))
    dataset = open_dataset(numbered.manifest, **K400)
    together = dataset.load([Sample(0), Sample(0, repeat=1), Sample(1), Sample(1, repeat=1)])
    assert len(seen) == 2
    for clip in together:
        assert clip.frames.tolist() == dataset[clip.sample].frames.tolist() == numbers(clip.pixels)


def test_frames_that_were_stored_otherwise_are_the_ones_their_rows_name(numbered, own):
    """Rows say which frames are stored, so that another choice of them is no other format."""
    store = Store(own.path / "store", "frames")

    def kept_indices():
        found = store.rows(("frame_indices",), even_indices=False)["frame_indices"].to_pylist()
        return [each and tuple(each) for each in found]

    assert set(kept_indices()) == {None}
    place = open_dataset(own, **K400, profile="frames").index[0]
    assert place.frame_indices.tolist() == stored_indices(num_frames_of(place.clip_id), 64).tolist()
    every_other = {}
    with scratch_folder(store.root) as scratch:
        unit = StoreUnit(store, "other", scratch)
        for row in store.best_rows(MEDIA_SCHEMA.names).drop_columns("unit").to_pylist():
            with (store.tars_folder / row["tar"]).open("rb") as tar:
                media = read_media(tar, row)
            ends = [*row["frame_offsets"][1:], row["size"]]
            kept = list(zip(row["frame_offsets"], ends, row["frame_indices"], strict=True))[::2]
            content = b"".join(media[begin:end] for begin, end, _ in kept)
            sizes = [end - begin for begin, end, _ in kept]
            row["frame_offsets"] = [0, *np.cumsum(sizes)[:-1].tolist()]
            row["frame_indices"] = every_other[row["clip_id"]] = [index for _, _, index in kept]
            sha256 = hashlib.sha256(content).hexdigest()
            settled_at = row["settled_at"] + timedelta(seconds=1)
            unit.carry({**row, "size": len(content), "sha256": sha256, "settled_at": settled_at}, content)
        unit.commit({})
    assert set(kept_indices()) == {None, *map(tuple, every_other.values())}
    dataset = open_dataset(own, **K400, profile="frames")
    for number in range(len(dataset)):
        clip = dataset[number]
        assert dataset.index[number].frame_indices.tolist() == every_other[clip.clip_id]
        assert clip.frames.tolist() == numbers(clip.pixels)
        assert set(clip.frames.tolist()) <= set(every_other[clip.clip_id])


# The right class.


@pytest.mark.parametrize("dialect", ["canonical", "uniformerv2"])
@pytest.mark.parametrize("name", ["k710", "k400", "k600"])
def test_classes_are_those_of_the_view_in_the_dialect(numbered, name, dialect):
    dataset = open_dataset(numbered.manifest, view=name, split="val", dialect=dialect, folder=numbered.clips)
    assert dataset.labels == class_names(name, dialect)
    expected = split_of(view(numbered.manifest.clips, name), "val")
    labels = dict(zip(expected["clip_id"].to_pylist(), expected["label"].to_pylist(), strict=True))
    assert len(dataset)
    for number, class_id in enumerate(dataset.class_ids):
        assert dataset.labels[class_id] == labels[dataset.index[number].clip_id]


def test_clips_without_a_label_have_minus_one_and_are_refused_by_training(k710, tmp_path):
    lists = ("--annotations", "sample", "--splits", "train,val,test")
    assert k710("build", "--sources", "k400,k600,k700", *lists, "--out", tmp_path / "m").exit_code == 0
    manifest = open_manifest(tmp_path / "m")
    (clip, *_) = clips_of(split_of(view(manifest.clips, "k600"), "test"))
    write_video(tmp_path / f"{clip.clip_id}.mp4", numbered_frames(20, LOOK), LOOK)
    where = {"view": "k600", "split": "test", "folder": tmp_path}
    assert open_dataset(manifest, **where)[0].class_id == -1
    with pytest.raises(UsageError, match="1 of the 1 k600 test clips have no label to train on"):
        open_dataset(manifest, **where, training=True)
    assert open_dataset(manifest, **where, training=True, needs_labels=False)[0].class_id == -1


def test_clips_that_are_not_there_are_left_out_and_counted(numbered, tmp_path):
    for path in sorted(numbered.clips.iterdir())[:10]:
        shutil.copy(path, tmp_path)
    dataset = open_dataset(numbered.manifest, **K400, folder=tmp_path)
    assert dataset.counts.in_split == 12
    assert dataset.counts.loaded == len(dataset) == 12 - dataset.counts.missing < 12
    with pytest.raises(LoadError, match=r"k700 train clip in profile h264 \(\d+ are wanted.*k710 fetch"):
        open_dataset(numbered.manifest, view="k700", split="train", store=tmp_path / "none")


def test_a_store_that_grew_is_read_anew_and_an_old_index_goes(own, tmp_path, k710):
    units = sorted((own.path / "store/media/h264").iterdir())
    kept = [unit.rename(tmp_path / unit.name) for unit in units[1:]]
    fewer = open_dataset(own, **K400)
    for unit in kept:
        unit.rename(own.path / "store/media/h264" / unit.name)
    more = open_dataset(own, **K400)
    assert len(fewer) < len(more) == 12
    assert fewer.fingerprint != more.fingerprint
    assert open_dataset(own, **K400).index.path == more.index.path
    again = pickle.loads(pickle.dumps(fewer))  # as a worker that is spawned gets it
    for reader in (fewer, again):
        assert numbers(reader[0].pixels) == reader[0].frames.tolist(), "it stays as long as somebody reads it"
    old = [each.index.path for each in (fewer, more)]
    del fewer, again, reader, more
    os.utime(units[0])
    assert open_dataset(own, **K400).index.path not in old
    assert not any(path.exists() for path in old)


def test_a_damaged_index_is_made_anew(own, tmp_path):
    """Its message says to open the dataset again: that must help."""
    dataset = open_dataset(own, **K400)
    path, whole = dataset.index.path, dataset.index.path.read_bytes()
    pickled = pickle.dumps(dataset)
    del dataset
    with pa.ipc.new_file(tmp_path / "other.arrow", pa.schema([("a", pa.int8())])):
        pass
    for damaged in (b"", whole[: len(whole) // 2], (tmp_path / "other.arrow").read_bytes()):
        path.write_bytes(damaged)
        with pytest.raises(LoadError, match=r"cannot be read .*; open it again"):
            pickle.loads(pickled)
        assert len(open_dataset(own, **K400)) == 12
        assert path.read_bytes() == whole


def test_an_index_that_cannot_be_written_says_what_to_do(own, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("K710_CACHE", str(tmp_path / "file"))
    with pytest.raises(LoadError, match=r"file/index: the index .* cannot be written there .*K710_CACHE"):
        open_dataset(own, **K400)


def test_it_pickles_to_a_path(numbered):
    dataset = open_dataset(numbered.manifest, **K400)
    pickled = pickle.dumps(dataset)
    assert len(pickled) < 2000
    again = pickle.loads(pickled)
    assert (again[2].pixels == dataset[2].pixels).all()
    assert isinstance(again.index, ClipIndex)


@pytest.mark.slow
def test_public_names_are_imported_when_first_used():
    script = (
        "import sys, k710\nassert not {'torch', 'pyarrow', 'numpy'} & set(sys.modules)\n"
        "assert set(k710.__all__) <= set(dir(k710))\nprint([getattr(k710, name) for name in k710.__all__])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_manifest_is_named_by_its_path_or_version(numbered, tmp_path):
    opened = open_dataset(numbered.manifest, **K400)
    path, version = numbered.manifest.path, numbered.manifest.content_hash[:12]
    for name in (path, str(path), f"{path}@{version}"):
        assert open_dataset(name, **K400).fingerprint == opened.fingerprint
    with pytest.raises(ManifestError, match="holds no version 0000"):
        open_dataset(f"{path}@0000", **K400)
    with pytest.raises(ManifestError, match="no manifest there"):
        open_dataset(tmp_path, **K400)


@pytest.mark.slow
def test_a_script_ends_without_a_word(numbered):
    """Modules are taken down before what they hold: a file that is closed by then was reported as an error."""
    script = (
        "import sys\nimport k710.loading.loader\nfrom k710 import open_dataset\n"
        "dataset = open_dataset(sys.argv[1], view='k400')\ndataset[0]\n"
    )
    done = subprocess.run([sys.executable, "-c", script, numbered.manifest.path], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# What cannot be read.


def damage(path, how, clip):
    if how == "deleted":
        path.unlink()
    elif how == "truncated":
        os.truncate(path, clip.offset + clip.size // 2)
    elif how == "altered":
        with path.open("r+b") as file:
            file.seek(clip.offset + clip.size // 2)
            file.write(b"\xff\xd8" * (clip.size // 8))
    else:
        content = path.read_bytes()
        path.write_bytes(bytes(512) + content)


SAID = {
    "deleted": "is gone; `k710 verify MANIFEST --repair`",
    "truncated": "cut off after [0-9,]+ bytes; `k710 verify",
    "altered": "its bytes have changed; `k710 verify|JPEG",
    "moved": "another file is in its place; `k710 verify",
}


@pytest.mark.parametrize("profile", ["h264", "frames"])
@pytest.mark.parametrize("how", SAID)
def test_a_damaged_tar_is_one_clear_error(own, how, profile):
    dataset, path = (
        open_dataset(own, **K400, profile=profile, options=ClipOptions(num_frames=64)),
        only_tar(own, profile),
    )
    damage(path, how, dataset.index[0])
    with pytest.raises(LoadError, match=SAID[how]) as caught:
        dataset[0]
    assert str(path.name) in str(caught.value)
    assert dataset.index[0].clip_id in str(caught.value) or how == "deleted"


def test_a_clip_that_fails_keeps_its_place_with_weight_0(own):
    dataset = open_dataset(own, **K400, options=ClipOptions(on_error="zero_weight"))
    damage(only_tar(own, "h264"), "altered", dataset.index[0])
    clip = dataset[0]
    assert (clip.weight, clip.clip_id, clip.class_id) == (0, dataset.index[0].clip_id, dataset.class_ids[0])
    assert "its bytes have changed" in clip.error
    assert clip.pixels.shape[0] == 8
    assert not clip.pixels.any()
    assert dataset[1].weight == 1


def test_a_file_that_is_no_video_is_named(numbered, tmp_path):
    for path in sorted(numbered.clips.iterdir()):
        shutil.copy(path, tmp_path)
    dataset = open_dataset(numbered.manifest, **K400, folder=tmp_path)
    file = tmp_path / dataset.index[0].file
    for content in (b"", b"<html>", file.read_bytes()[:2000]):
        file.write_bytes(content)
        with pytest.raises(LoadError, match=f"clip {dataset.index[0].clip_id} .*{file.name}"):
            dataset[0]
    file.unlink()
    with pytest.raises(LoadError, match=r"is gone$"):
        pickle.loads(pickle.dumps(dataset))[0]


def test_wrong_options_are_named(numbered):
    for wrong, message in (
        ({"view": "k4000"}, "unknown view 'k4000'"),
        ({"split": "validation"}, "unknown split 'validation'; known: train, val, test"),
        ({"view": "k700_2020"}, "has no train clips"),
        ({"dialect": "mine"}, "unknown dialect"),
        ({"frame_reads": "big"}, "unknown frame_reads"),
        ({"options": ClipOptions(num_crops=3)}, "views of an evaluation"),
        ({"folder": "s3://bucket/clips"}, "s3://bucket/clips: a folder of clips must be a folder of this machine"),
        ({"cache": "s3://bucket/cache"}, "s3://bucket/cache: a cache must be a folder of this machine"),
        ({"cache": "here"}, "is a folder of this machine; a cache is for a store at a URL"),
        ({"store": "here", "folder": "there"}, "a store or a folder"),
    ):
        with pytest.raises(UsageError, match=message):
            open_dataset(numbered.manifest, **{**K400, **wrong})
    for options, message in (
        ({"on_error": "ignore"}, "unknown on_error 'ignore'; known: raise, zero_weight"),
        ({"decoder": "cv2"}, "unknown decoder"),
        ({"num_crops": 2}, "1 or 3 crops"),
        ({"num_frames": 0}, "num_frames is 0"),
        ({"method": "dense"}, "stride is None"),
    ):
        with pytest.raises(UsageError, match=message):
            ClipOptions(**options)
    with pytest.raises(UsageError, match=r"simplecache::s3://bucket/m: chained URLs"):
        open_manifest("simplecache::s3://bucket/m")
    with pytest.raises(FetchError, match="no such folder"):
        open_dataset(numbered.manifest, **K400, folder="nowhere")
    with pytest.raises(IndexError, match="clip 12 of 12"):
        open_dataset(numbered.manifest, **K400)[12]


# Paths that are kept.


@pytest.mark.parametrize("profile", PROFILES)
def test_a_dataset_opened_by_a_relative_path_is_read_from_everywhere(own, tmp_path, monkeypatch, profile):
    """The cached index outlives the working folder in which it was made."""
    monkeypatch.chdir(tmp_path)
    opened = open_dataset(open_manifest("m"), **K400, profile=profile)
    pickled, pixels = pickle.dumps(opened), opened[0].pixels
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    again = open_dataset(own, **K400, profile=profile)
    for dataset in (opened, pickle.loads(pickled), again):
        assert (dataset[0].pixels == pixels).all()


def test_a_cache_folder_given_by_a_relative_path_stays_where_it_is(numbered, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("K710_CACHE", "cache")
    opened = open_dataset(numbered.manifest, **K400, profile="source")
    pickled = pickle.dumps(opened)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert opened.index.path.is_relative_to(tmp_path / "cache")
    assert len(pickle.loads(pickled)) == 12


def test_an_index_that_an_earlier_version_made_is_made_anew(own, tmp_path, monkeypatch):
    """Its folder may be a path that was relative to a folder which nobody knows any more."""
    monkeypatch.setenv("K710_CACHE", str(tmp_path / "cache"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("k710.loading.clip_index._VERSION", 1)
        old = open_dataset(own, **K400, profile="source").index.path
    new = open_dataset(own, **K400, profile="source").index.path
    assert new != old
