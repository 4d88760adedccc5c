"""Packed shards as a stream: every clip once, on any number of ranks and workers, resumed shard by shard."""

from __future__ import annotations

import io
import itertools
import json
import os
import shutil
import tarfile
from dataclasses import replace

import pytest
import torch

from k710 import ClipOptions, StreamLoader, open_dataset, open_stream
from k710.engine.part import Share
from k710.errors import LoadError, UsageError
from k710.loading.augment.augment import Augment
from k710.loading.epochs import RepeatedEpochWarning
from tests.helpers.numbered_stores import make_numbered, numbers

PLAIN = Augment(crop_px=32, randaugment=None)


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("K710_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def packed(tmp_path_factory, k710):
    """The manifest, and the folders of its shards by profile and split; twelve clips, three a shard."""
    folder = tmp_path_factory.mktemp("packed")
    manifest = make_numbered(folder, k710, ("h264", "frames")).manifest
    for profile in ("h264", "frames"):
        for split in ("train", "val"):
            chosen = ("--view", "k400", "--split", split, "--profile", profile, "--shard-clips", 3)
            assert k710("pack", manifest.path, *chosen, "--out", folder / f"{profile}-{split}").exit_code == 0
    return manifest, folder


@pytest.fixture
def stream(packed):
    manifest, folder = packed
    return open_stream(manifest, folder / "frames-train", options=ClipOptions(seed=4))


def clip_ids(loader):
    return [clip_id for batch in loader for clip_id in batch.clip_ids]


@pytest.mark.parametrize("profile", ["h264", "frames"])
def test_a_stream_gives_the_samples_of_the_dataset(packed, profile):
    manifest, folder = packed
    dataset = open_dataset(manifest, view="k400", profile=profile, options=ClipOptions(seed=4))
    position = {dataset.index[number].clip_id: number for number in range(len(dataset))}
    loader = StreamLoader(
        open_stream(manifest, folder / f"{profile}-train", options=ClipOptions(seed=4)), batch_size=3, packed=True
    )
    seen = []
    for batch in loader:
        for clip, clip_id, class_id in zip(batch.clips, batch.clip_ids, batch.class_ids.tolist(), strict=True):
            expected = dataset[position[clip_id]]
            assert torch.equal(clip, expected.pixels)
            assert numbers(clip) == expected.frames.tolist()
            assert class_id == expected.class_id
            seen.append(clip_id)
    assert sorted(seen) == sorted(position)


def test_every_epoch_has_an_order_of_its_own_and_every_run_the_same(stream):
    loader = StreamLoader(stream, batch_size=3, augment=PLAIN)
    first, second = clip_ids(loader), clip_ids(loader)
    assert loader.epoch == 2
    assert first != second
    assert sorted(first) == sorted(second)
    with pytest.warns(RepeatedEpochWarning, match="epoch 0 of these 12 clips"):
        assert clip_ids(StreamLoader(stream, batch_size=3, augment=PLAIN)) == first
    assert clip_ids(StreamLoader(stream, batch_size=3, augment=PLAIN, epoch=1)) == second


@pytest.mark.parametrize(("world_size", "workers"), [(2, 0), (1, 2), (2, 2)])
def test_ranks_and_workers_share_the_shards_out(stream, world_size, workers):
    ranks = [
        StreamLoader(
            stream, batch_size=3 * world_size, augment=PLAIN, num_workers=workers, share=Share(rank, world_size)
        )
        for rank in range(world_size)
    ]
    seen = [list(rank) for rank in ranks]
    assert len({len(batches) for batches in seen}) == 1
    assert len({clip for batches in seen for batch in batches for clip in batch.clip_ids}) == 12


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resume_goes_on_with_the_shards_that_are_not_done(stream, workers):
    first = StreamLoader(stream, batch_size=2, augment=PLAIN)
    before = []
    for batch in first:
        before += batch.clip_ids
        if len(before) == 8:
            break
    state = first.state_dict()
    assert len(state["done"]) == 2, "two shards of three clips are read to their end, of the third two clips"
    again = StreamLoader(stream, batch_size=1, augment=PLAIN, num_workers=workers)
    again.load_state_dict(state)
    after = clip_ids(again)
    assert len(after) == 6
    assert set(before) | set(after) == set(clip_ids(StreamLoader(stream, batch_size=3, augment=PLAIN, epoch=0)))
    assert len(set(before[:6]) & set(after)) == 0
    assert again.state_dict() == {"seed": 4, "epoch": 1, "done": []}


def test_the_last_batch_of_an_epoch_ends_it(stream):
    """Saved there, a position must not bring back what that epoch has dropped."""
    loader = StreamLoader(stream, batch_size=5, augment=PLAIN)
    batches = iter(loader)
    assert len([next(batches) for _ in range(len(loader))]) == 2
    assert loader.state_dict() == {"seed": 4, "epoch": 1, "done": []}
    assert list(batches) == []
    assert loader.epoch == 1


def test_the_states_of_all_ranks_make_one_position(stream):
    ranks = [StreamLoader(stream, batch_size=6, augment=PLAIN, share=Share(rank, 2)) for rank in (0, 1)]
    for rank in ranks:
        batches = iter(rank)
        next(batches)
        batches.close()
    states = [rank.state_dict() for rank in ranks]
    again = StreamLoader(stream, batch_size=1, augment=PLAIN)
    again.load_state_dict(*states)
    done = {name for state in states for name in state["done"]}
    assert len(done) == 2
    assert len(clip_ids(again)) == 12 - 3 * len(done)
    with pytest.raises(UsageError, match="seed 4"):
        again.load_state_dict({**states[0], "seed": 5})
    with pytest.raises(UsageError, match="has no shard zzz"):
        again.load_state_dict({**states[0], "done": ["zzz"]})


def test_evaluation_shows_every_view_and_drops_nothing(packed):
    manifest, folder = packed
    stream = open_stream(manifest, folder / "h264-val", options=ClipOptions(num_clips=2, num_crops=3))
    loader = StreamLoader(stream, batch_size=5, augment=PLAIN)
    batches = list(loader)
    assert len(batches) == len(loader)
    views = [
        (clip, sample.view) for batch in batches for clip, sample in zip(batch.clip_ids, batch.samples, strict=True)
    ]
    assert len(views) == len(set(views)) == 12 * 6


def with_shards(stream, clips):
    """The stream as if its shards had so many clips; to be counted, not to be read."""
    shards = [{"file": f"k400-train-{number:06d}.tar", "clips": count} for number, count in enumerate(clips)]
    return replace(stream, about=stream.about | {"shards": shards})


def test_ranks_have_as_many_shards_however_many_workers_they_have(stream):
    """A rank waits for no other, so what one has more than another is not seen in an epoch."""
    for workers in (0, 3, 8):
        ranks = [
            StreamLoader(with_shards(stream, [6] * 10), batch_size=8, num_workers=workers, share=Share(rank, 4))
            for rank in range(4)
        ]
        dealt = [list(itertools.chain(*rank._parts(number))) for number, rank in enumerate(ranks)]
        assert sorted(map(len, dealt)) == [2, 2, 3, 3]
        assert sorted(itertools.chain(*dealt)) == sorted(ranks[0].stream.shards)
        assert {len(rank) for rank in ranks} == {6}


def test_no_epoch_is_without_batches(stream):
    """In the first, both ranks have some; in others, one has the small shard alone."""
    with pytest.raises(UsageError, match="3 shards for 2 ranks x 1 workers and batches of 2: a rank may get none"):
        StreamLoader(with_shards(stream, [3, 3, 1]), batch_size=4, share=Share(0, 2))
    loader = StreamLoader(with_shards(stream, [3, 3, 2]), batch_size=4, share=Share(0, 2))
    for loader.epoch in range(20):
        assert len(loader) == 1


def test_what_does_not_fit_is_refused(packed, sample, tmp_path):
    manifest, folder = packed
    with pytest.raises(LoadError, match=r"no shards there \(no shards.json that can be read\); `k710 pack`"):
        open_stream(manifest, tmp_path)
    with pytest.raises(UsageError, match=r"4 shards for 8 ranks x 1 workers .*a rank may get none"):
        StreamLoader(open_stream(manifest, folder / "h264-train"), batch_size=8, share=Share(0, 8))
    shutil.copytree(folder / "h264-train", tmp_path / "other")
    about = json.loads((tmp_path / "other/shards.json").read_text())
    (tmp_path / "other/shards.json").write_text(json.dumps(about | {"manifest": "0" * 64}))
    with pytest.raises(UsageError, match="made of manifest 0000000000000000"):
        open_stream(manifest, tmp_path / "other")
    about["shards"][0]["file"] = "../h264-train/k400-train-000000.tar"
    (tmp_path / "other/shards.json").write_text(json.dumps(about))
    with pytest.raises(LoadError, match="which is no shard of this folder"):
        open_stream(manifest, tmp_path / "other")


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("deleted", "is gone; pack it again"),
        ("truncated", "cut off or damaged after [0-9] of 3 clips"),
        ("altered", "clip "),
    ],
)
def test_a_damaged_shard_is_one_clear_error(packed, tmp_path, how, said, workers):
    manifest, folder = packed
    shutil.copytree(folder / "h264-train", tmp_path / "s")
    for path in (tmp_path / "s").glob("*.tar"):
        if how == "deleted":
            path.unlink()
        elif how == "truncated":
            os.truncate(path, path.stat().st_size // 2)
        else:
            with path.open("r+b") as file:
                file.seek(512)
                file.write(bytes(400))
    with pytest.raises(LoadError, match=said):
        next(
            iter(StreamLoader(open_stream(manifest, tmp_path / "s"), batch_size=1, num_workers=workers, augment=PLAIN))
        )


def rewritten(shard, suffix, change):
    """A shard whose members of this suffix have another content."""
    with tarfile.open(shard) as opened:
        members = [(member, opened.extractfile(member).read()) for member in opened]
    with tarfile.open(shard, "w") as written:
        for member, content in members:
            content = change(content) if member.name.endswith(suffix) else content
            member.size = len(content)
            written.addfile(member, io.BytesIO(content))


@pytest.mark.parametrize(
    ("suffix", "content"),
    [
        (".cls", b"x"),
        (".cls", b"400"),
        (".json", b"null"),
        (".mjpeg", b""),
        (".json", {"num_frames": None}),
        (".json", {"num_frames": 1}),
        (".json", {"frame_indices": [0]}),
        (".json", {"frame_indices": [3, 2, 1], "frame_offsets": [0, 10, 20]}),
        (".json", {"frame_offsets": [0, 10**9], "frame_indices": [0, 1]}),
    ],
)
def test_a_sample_that_contradicts_itself_is_one_clear_error(packed, tmp_path, suffix, content):
    """A class beyond the last would otherwise end a GPU's process; the others, in a traceback."""
    manifest, folder = packed
    shutil.copytree(folder / "frames-train", tmp_path / "s")

    def change(old):
        return json.dumps(json.loads(old) | content).encode() if isinstance(content, dict) else content

    for shard in (tmp_path / "s").glob("*.tar"):
        rewritten(shard, suffix, change)
    with pytest.raises(LoadError, match=r"clip sample-\S+ is no sample of k710 pack|has class 400; pack it again"):
        clip_ids(StreamLoader(open_stream(manifest, tmp_path / "s"), batch_size=1, packed=True))


def test_a_damaged_list_of_shards_is_no_list(packed, tmp_path):
    manifest, folder = packed
    shutil.copytree(folder / "frames-train", tmp_path / "s")
    about = json.loads((tmp_path / "s/shards.json").read_text())
    for damaged in ({"view": ...}, {"dialect": ...}, {"shards": [about["shards"][0] | {"clips": -1}]}, {"shards": [3]}):
        left = {name: value for name, value in (about | damaged).items() if value is not ...}
        (tmp_path / "s/shards.json").write_text(json.dumps(left))
        with pytest.raises(LoadError, match="no shards there"):
            open_stream(manifest, tmp_path / "s")


def test_clips_without_a_label_are_refused_by_training(packed, tmp_path):
    manifest, folder = packed
    shutil.copytree(folder / "h264-val", tmp_path / "s")
    from k710.loading import shard

    original = shard._clip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shard, "_clip", lambda *arguments: original(*arguments)._replace(class_id=-1))
        with pytest.raises(UsageError, match="has no label to train on"):
            clip_ids(StreamLoader(open_stream(manifest, tmp_path / "s", training=True), batch_size=3))


def test_a_manifest_opened_again_takes_its_shards(packed):
    manifest, folder = packed
    assert open_stream(manifest.path, folder / "frames-val").labels[0] == "abseiling"
