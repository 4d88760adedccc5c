"""Clips of a store at a URL: read at random, by workers, through a bounded cache; against a server that speaks S3."""

from __future__ import annotations

import multiprocessing
import pickle
import threading
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from k710 import ClipLoader, ClipOptions, StreamLoader, open_dataset, open_stream
from k710.errors import LoadError, UsageError
from k710.loading.clip_index import Place
from k710.loading.media.media_cache import MediaCache
from k710.loading.media.media_files import MediaFiles
from k710.loading.order import Sample
from k710.manifest.read import Manifest, open_manifest
from tests.helpers.numbered_stores import make_numbered
from tests.helpers.s3_service import S3

K400 = {"view": "k400", "split": "train", "options": ClipOptions(num_frames=4)}
LENIENT = K400 | {"options": ClipOptions(num_frames=4, on_error="zero_weight")}
PROFILES = ("h264", "frames")


@pytest.fixture(scope="module")
def numbered(tmp_path_factory, k710):
    return make_numbered(tmp_path_factory.mktemp("numbered"), k710, PROFILES)


@pytest.fixture
def remote(numbered, s3) -> Manifest:
    """The manifest with its store, in the bucket."""
    upload(s3, numbered.manifest.path)
    return open_manifest(f"{s3.url}/m")


def upload(s3: S3, folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            s3.write(f"m/{path.relative_to(folder)}", path.read_bytes())


def same(one, other) -> None:
    assert (one.clip_id, one.class_id) == (other.clip_id, other.class_id)
    assert torch.equal(one.pixels, other.pixels)


def requests_for(s3: S3, work) -> list[tuple[str, str]]:
    before = len(s3.proxy.requests)
    work()
    return s3.proxy.requests[before:]


# The same clips.


@pytest.mark.parametrize("profile", PROFILES)
def test_a_dataset_at_a_url_is_the_one_on_the_disk_at_a_request_a_clip(numbered, remote, s3, profile):
    here = open_dataset(numbered.manifest, **K400, profile=profile)
    there = open_dataset(remote, **K400, profile=profile)
    assert there.fingerprint == here.fingerprint
    assert there.counts == here.counts
    samples = [Sample(number, epoch=2) for number in range(len(here))]
    expected = here.load(samples)
    asked = requests_for(s3, lambda: [same(*pair) for pair in zip(there.load(samples), expected, strict=True)])
    assert len(asked) == len(samples) == 12
    assert {method for method, _ in asked} == {"GET"}


@pytest.mark.parametrize("frame_reads", ["small", "ranged"])
def test_frames_are_read_either_way(numbered, remote, s3, frame_reads):
    here = open_dataset(numbered.manifest, **K400, profile="frames")
    there = open_dataset(remote, **K400, profile="frames", frame_reads=frame_reads)
    asked = requests_for(s3, lambda: same(there[3], here[3]))
    assert len(asked) == (1 if frame_reads == "ranged" else 5)


@pytest.mark.parametrize("start_method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_workers_open_the_service_for_themselves(numbered, remote, s3, start_method, capfd):
    here = open_dataset(numbered.manifest, **K400, profile="frames")
    there = open_dataset(remote, **K400, profile="frames")
    there[0]  # this process has a connection, and a thread that serves it
    how = {"batch_size": 3, "packed": True, "epoch": 0}
    expected = list(ClipLoader(here, **how))
    found = list(ClipLoader(there, **how, num_workers=2, start_method=start_method))
    assert [batch.clip_ids for batch in found] == [batch.clip_ids for batch in expected]
    for one, other in zip(found, expected, strict=True):
        same_batch(one, other)
    there[1]
    assert capfd.readouterr().err == "", "no worker ends a connection of its parent's"


def test_an_evaluation_reads_a_clip_once_for_all_its_views(remote, s3):
    dataset = open_dataset(
        remote, view="k400", split="val", options=ClipOptions(num_frames=4, num_clips=2, num_crops=3)
    )
    asked = requests_for(s3, lambda: dataset.load([Sample(0, view=view) for view in range(6)]))
    assert len(asked) == 1


def test_it_opens_with_few_requests_and_the_second_time_with_one(remote, s3):
    units = len(s3.keys("m/store/media/h264/"))
    first = requests_for(s3, lambda: open_dataset(remote, **K400))
    assert len(first) == 1 + units + 1 + 2, "listing, units, a listing, the manifest's clips and their size"
    again = requests_for(s3, lambda: open_dataset(remote, **K400))
    assert len(again) == 1
    assert "list-type" in again[0][1]


def test_a_new_unit_is_seen_by_the_next_dataset(remote, s3, numbered, k710):
    keys = s3.keys("m/store/media/h264/")
    content = s3.read(keys[0])
    s3.delete(keys[0])
    fewer = open_dataset(remote, **K400)
    s3.write(keys[0], content)
    assert len(open_dataset(remote, **K400)) == 12 > len(fewer)


@pytest.mark.slow
def test_show_and_the_needs_of_training_read_it_too(remote, s3, k710, tmp_path):
    result = k710("show", f"{s3.url}/m", "--view", "k400", "--clips", 2, "--out", tmp_path / "sheet.png")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "sheet.png").read_bytes()[:4] == b"\x89PNG"
    command = ("--recipe", "tiny-k710", "--manifest", f"{s3.url}/m", "--dry-run", "--set", "batch_size=4")
    result = k710("train", *command, "--cache", tmp_path / "cache")
    assert result.exit_code == 0, result.output


@pytest.mark.slow
def test_training_and_evaluation_from_a_url(remote, s3, k710, tmp_path):
    where = ("--manifest", f"{s3.url}/m", "--profile", "frames", "--cache", tmp_path / "cache", "--cache-gb", 0.5)
    recipe = ("--recipe", "tiny-k710", "--set", "epochs=1", "--set", "warmup_epochs=0", "--set", "batch_size=4")
    result = k710("train", *recipe, *where, "--out", tmp_path / "run", "--workers", 1)
    assert result.exit_code == 0, result.output
    asked = len(s3.proxy.requests)
    result = k710(
        "eval", "--checkpoint", tmp_path / "run/best.pt", "--view", "k400", *where, "--clips", 1, "--crops", 1
    )
    assert result.exit_code == 0, result.output
    assert not [path for _, path in s3.proxy.requests[asked:] if "/tars/" in path], "validation has read these clips"


# Mishaps.


def damage(s3: S3, dataset, number: int, kind: str) -> str:
    place = dataset.index[number]
    key = next(key for key in s3.keys("m/store/tars/") if key.endswith(place.file))
    content = s3.read(key)
    if kind == "gone":
        s3.delete(key)
    elif kind == "cut":
        s3.write(key, content[: place.offset + place.size // 2])
    elif kind == "empty":
        s3.write(key, b"")
    elif kind == "altered":
        at = place.offset + place.size // 2
        s3.write(key, content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    else:
        s3.write(key, content[: place.offset - 512] + b"other" + content[place.offset - 507 :])
    return f"{s3.url}/{key}: clip {place.clip_id}: "


@pytest.mark.parametrize(
    ("kind", "profile", "said"),
    [
        ("gone", "h264", "is gone; `k710 verify MANIFEST --repair` mends the store"),
        ("cut", "h264", "cut off after "),
        ("cut", "frames", "cut off after "),
        ("empty", "h264", "cut off after "),
        ("altered", "h264", "its bytes have changed; "),
        ("other", "h264", "another file is in its place; "),
        ("other", "frames", "another file is in its place; "),
    ],
)
@pytest.mark.slow
def test_what_happens_to_an_object_under_the_reader_names_url_and_clip(remote, s3, kind, profile, said):
    dataset = open_dataset(remote, **K400, profile=profile)
    where = damage(s3, dataset, 5, kind)
    with pytest.raises(LoadError) as raised:
        dataset[5]
    assert str(raised.value).startswith(where + said)
    lenient = open_dataset(remote, **LENIENT, profile=profile)
    assert lenient[5].weight == 0
    assert lenient[5].error == str(raised.value)


@pytest.mark.slow
def test_a_service_that_goes_away_and_comes_back_is_waited_for(remote, s3, numbered):
    dataset = open_dataset(remote, **K400)
    dataset[0]
    s3.proxy.down()
    threading.Timer(1.5, s3.proxy.up).start()
    same(dataset[1], open_dataset(numbered.manifest, **K400)[1])


def test_a_service_that_stays_away_is_a_clip_that_failed(remote, s3, monkeypatch):
    monkeypatch.setenv("K710_REMOTE_PATIENCE_S", "0.5")
    dataset = open_dataset(remote, **LENIENT)
    s3.proxy.down()
    failed = dataset[0]
    assert failed.weight == 0
    assert failed.error.startswith(f"clip {failed.clip_id}: {s3.url}/m/store/tars/h264/")
    assert "no answer for 0.5 s" in failed.error
    s3.proxy.up()
    assert dataset[0].weight == 1


# The cache.


@pytest.mark.parametrize("profile", PROFILES)
def test_a_clip_that_is_kept_is_not_asked_for_again(remote, s3, numbered, profile, tmp_path):
    here = open_dataset(numbered.manifest, **K400, profile=profile)
    there = open_dataset(remote, **K400, profile=profile, cache=tmp_path / "cache")
    assert len(requests_for(s3, lambda: [there[number] for number in range(12)])) == 12
    again = pickle.loads(pickle.dumps(there))
    for epoch in range(2):
        for number in range(12):
            sample = Sample(number, epoch)
            assert requests_for(s3, lambda sample=sample: same(again[sample], here[sample])) == []


def kept(folder: Path) -> list[Path]:
    return sorted(folder.glob("??/*"))


@pytest.mark.slow
def test_the_cache_stays_within_its_bytes(remote, s3, numbered, tmp_path):
    sizes = sorted(open_dataset(remote, **K400).index[number].size + 512 for number in range(12))
    room = sum(sizes[:5]) + 1
    dataset = open_dataset(remote, **K400, cache=tmp_path / "cache", cache_bytes=room)
    here = open_dataset(numbered.manifest, **K400)
    for _ in range(2):
        list(ClipLoader(dataset, batch_size=3, num_workers=2, packed=True, epoch=0))
        found = [path.stat().st_size for path in kept(tmp_path / "cache")]
        assert 0 < sum(found) <= room
        assert int((tmp_path / "cache" / "bytes").read_text()) == sum(found)
    asked = requests_for(s3, lambda: [same(dataset[n], here[n]) for n in range(12)])
    assert len(asked) == 12 - len(found), "what did not fit is read as ever"


@pytest.mark.parametrize("damage", ["cut", "altered", "empty", "another"])
def test_a_kept_clip_that_is_damaged_is_read_anew(remote, s3, numbered, damage, tmp_path):
    dataset = open_dataset(remote, **K400, cache=tmp_path)
    first, second = dataset[0], dataset[1]
    one, other = kept(tmp_path)
    content = one.read_bytes()
    changed = {"cut": content[:-1], "altered": content[:-1] + b"x", "empty": b"", "another": other.read_bytes()}
    one.write_bytes(changed[damage])
    for _ in range(2):
        same(dataset[0], first)
        same(dataset[1], second)
    assert sum(path.stat().st_size for path in kept(tmp_path)) == int((tmp_path / "bytes").read_text())
    assert one.read_bytes() == content


@pytest.mark.parametrize("count", [None, b"", b"many", b"\xff"])
def test_a_count_that_is_gone_or_damaged_is_made_anew(tmp_path, count):
    cache = MediaCache(tmp_path, 1000)
    for number in range(3):
        cache.keep(place_of(number), "s3://b/t", bytes(300))
    assert len(kept(tmp_path)) == 3
    if count is None:
        (tmp_path / "bytes").unlink()
    else:
        (tmp_path / "bytes").write_bytes(count)
    again = MediaCache(tmp_path, 1000)
    again.keep(place_of(4), "s3://b/t", bytes(300))
    assert len(kept(tmp_path)) == 3
    again.keep(place_of(4), "s3://b/t", bytes(100))
    assert len(kept(tmp_path)) == 4
    assert int((tmp_path / "bytes").read_text()) == 1000


def place_of(number: int, size: int = 300) -> Place:
    return Place(f"clip-{number:06d}_000000_000010", 0, "t.tar", 512 * number, size, number, 10, None, None)


def keep_many(folder: Path, first: int) -> None:
    cache = MediaCache(folder, 10_000)
    for number in range(first, first + 40):
        cache.keep(place_of(number), "s3://b/t", bytes([number % 251]) * 300)


@pytest.mark.slow
def test_processes_share_one_bound(tmp_path):
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=keep_many, args=(tmp_path, first)) for first in (0, 20, 40)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    found = kept(tmp_path)
    assert 20 <= len(found) <= 33  # a clip that two keep at the same moment has its room twice
    assert sum(path.stat().st_size for path in found) <= 10_000
    for number in range(80):
        content = MediaCache(tmp_path, 10_000).get(place_of(number), "s3://b/t")
        assert content in (None, bytes([number % 251]) * 300)


@settings(max_examples=30)
@given(sizes=st.lists(st.integers(0, 60), max_size=12), room=st.integers(1, 120))
def test_whatever_is_kept_is_what_was_given_and_never_too_much(tmp_path_factory, sizes, room):
    folder = tmp_path_factory.mktemp("cache")
    cache, contents = MediaCache(folder, room), {}
    for number, size in enumerate(sizes):
        contents[number] = bytes([number]) * size
        cache.keep(place_of(number), "s3://b/t", contents[number])
        assert sum(path.stat().st_size for path in kept(folder)) <= room
    for number, content in contents.items():
        assert cache.get(place_of(number), "s3://b/t") in (None, content)
        assert cache.get(place_of(number), "s3://b/other") is None


def test_a_cache_that_cannot_be_written_ends_no_training(remote, s3, tmp_path):
    (tmp_path / "file").write_text("mine")
    dataset = open_dataset(remote, **K400, cache=tmp_path / "file")
    assert dataset[0].weight == 1
    assert (tmp_path / "file").read_text() == "mine"


def test_what_makes_no_sense_is_refused(remote, numbered, tmp_path):
    with pytest.raises(UsageError, match="cache_bytes is 0"):
        open_dataset(remote, **K400, cache=tmp_path, cache_bytes=0)
    with pytest.raises(UsageError, match="a cache is for a store at a URL"):
        open_dataset(numbered.manifest, **K400, cache=tmp_path)


# Files of this machine, as ever.


def test_a_tar_on_the_disk_is_read_in_pieces_of_any_size(tmp_path, monkeypatch):
    """A read may give less than was asked for."""
    import hashlib
    import os

    from tests.helpers.small_stores import fake_media

    media = fake_media("clip-000000_000000_000010", 5000)
    header = b"clip-000000_000000_000010.mp4".ljust(512, b"\0")
    (tmp_path / "t.tar").write_bytes(header + media)
    digest = int(hashlib.sha256(media).hexdigest()[:16], 16)
    place = place_of(0, len(media))._replace(clip_id="clip-000000_000000_000010", offset=512, digest=digest)
    really = os.pread
    monkeypatch.setattr(os, "pread", lambda descriptor, size, at: really(descriptor, min(size, 999), at))
    assert MediaFiles(tmp_path, in_tars=True).read(place) == media


# Shards.


@pytest.mark.slow
def test_shards_at_a_url_are_streamed_as_from_a_disk(remote, s3, k710, tmp_path):
    options = ("--view", "k400", "--split", "train", "--shard-clips", 3, "--profile", "frames")
    for out in (tmp_path / "shards", f"{s3.url}/shards"):
        assert k710("pack", remote.path, *options, "--out", out).exit_code == 0
    here, there = (
        open_stream(remote, where, options=ClipOptions(num_frames=4))
        for where in (tmp_path / "shards", f"{s3.url}/shards")
    )
    how = {"batch_size": 2, "num_workers": 2, "packed": True, "epoch": 0}
    expected = list(StreamLoader(here, **how))
    asked = requests_for(
        s3, lambda: [same_batch(*pair) for pair in zip(StreamLoader(there, **how), expected, strict=True)]
    )
    assert len(asked) == len(there.shards) == 4, "small shards are a request each"
    key = s3.keys("shards/")[0]
    s3.write(key, s3.read(key)[:2000])
    with pytest.raises(LoadError, match=f"{s3.url}/{key}: cut off or damaged after"):
        list(StreamLoader(there, **how))
    s3.delete(key)
    with pytest.raises(LoadError, match=f"{s3.url}/{key}: is gone; pack it again"):
        list(StreamLoader(there, **how))
    with pytest.raises(LoadError, match="no shards there"):
        open_stream(remote, f"{s3.url}/nothing")


def same_batch(one, other) -> None:
    assert one.clip_ids == other.clip_ids
    assert all(torch.equal(a, b) for a, b in zip(one.clips, other.clips, strict=True))
