"""Shards: mixed, uniform, of one split, the same bytes each time, and read by those who are to stream them."""

from __future__ import annotations

import hashlib
import json
import shutil
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from k710.lists.labels import class_names
from k710.maintenance import pack, stored_clips
from k710.maintenance.pack import class_mixed_order
from k710.maintenance.stored_clips import StoredClips
from k710.manifest.read import open_manifest
from k710.manifest.views import view
from k710.store.store import Store
from k710.text import data_size
from tests.helpers.killed import MOST_STEPS, kill_at_every_step
from tests.helpers.small_stores import clips_of, fake_media, film, manifest_of, members, put, stored, tars

CANONICAL, OTHERS = class_names("k400"), class_names("k400", "uniformerv2")
# Classes whose indices differ between the dialects, so that a mix-up shows.
LABELS = [name for name, other in zip(CANONICAL, OTHERS, strict=True) if name != other][:3]
TRAIN, VAL = clips_of(31, labels=LABELS), clips_of(7, "val", first=31, labels=LABELS)
MISSING, FAILED = TRAIN[4].clip_id, TRAIN[5].clip_id
PACKED = {clip.clip_id for clip in TRAIN} - {MISSING, FAILED}


# The order.


class_sizes = st.lists(st.integers(1, 40), min_size=1, max_size=12)
seeds = st.integers(0, 2**32)


def class_ids_of(sizes: list[int], seed: int) -> np.ndarray:
    """The classes of clips in clip_id order: in no order."""
    return np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes), dtype=np.int16) * 7 - 1, sizes))


@given(class_sizes, seeds)
def test_the_order_is_a_permutation_and_follows_from_the_seed(sizes, seed):
    class_ids = class_ids_of(sizes, seed)
    order = class_mixed_order(class_ids, seed)
    assert sorted(order) == list(range(len(class_ids)))
    assert np.array_equal(order, class_mixed_order(class_ids, seed))


@given(class_sizes, seeds, st.data())
def test_every_stretch_has_every_classs_share(sizes, seed, data):
    """A class's clips lie at equal distances, so a stretch has its share of them, up to one at its ends; and as the
    ends are counted in clips, which are as uneven for each of the other classes, up to its share of those."""
    class_ids = class_ids_of(sizes, seed)
    mixed = class_ids[class_mixed_order(class_ids, seed)]
    begin = data.draw(st.integers(0, len(mixed) - 1))
    length = data.draw(st.integers(1, len(mixed) - begin))
    found = Counter(mixed[begin : begin + length].tolist())
    for class_id, size in Counter(class_ids.tolist()).items():
        share = size / len(mixed)
        assert abs(found[class_id] - share * length) <= 1 + share * len(sizes) + 1e-9


def test_equal_classes_alternate():
    """In numbers: of 20 classes with 50 clips, any 100 in a row have 5 of each, give or take two."""
    mixed = class_ids_of([50] * 20, 3)
    mixed = mixed[class_mixed_order(mixed, 0)]
    for begin in range(0, 900, 7):
        counts = Counter(mixed[begin : begin + 100].tolist())
        assert all(3 <= counts[class_id] <= 7 for class_id in set(mixed.tolist()))


def test_rare_classes_do_not_stand_together():
    """A class of one clip may stand anywhere; many of them stand everywhere."""
    class_ids = class_ids_of([400, *[1] * 40], 0)
    order = class_mixed_order(class_ids, 0)
    rare = np.flatnonzero(class_ids[order] != -1)
    assert len(rare) == 40
    assert np.histogram(rare, bins=4, range=(0, 440))[0].min() >= 3


def test_the_seed_changes_the_order_within_and_between_classes():
    class_ids = class_ids_of([20, 20], 0)
    orders = [class_mixed_order(class_ids, seed) for seed in range(5)]
    assert len({order.tobytes() for order in orders}) == 5
    firsts = {tuple(order[class_ids[order] == -1][:5]) for order in orders}
    assert len(firsts) == 5, "a class's own clips are shuffled too"


def test_no_clip_has_a_place_of_its_own_by_name():
    """A clip's place in the order does not follow from its place in the table."""
    class_ids = class_ids_of([100] * 4, 0)
    places = np.mean([np.argsort(class_mixed_order(class_ids, seed)) for seed in range(200)], axis=0)
    assert np.abs(places - 199.5).max() < 40  # five times the standard error


# The shards.


@pytest.fixture(scope="module")
def packed_from(tmp_path_factory, k710):
    """A manifest with a store that lacks two of its train clips; not to be changed."""
    manifest = manifest_of(k710, tmp_path_factory.mktemp("pack"), [*TRAIN, *VAL])
    store = Store(manifest / "store", "h264")
    media: dict[str, bytes | str] = {clip.clip_id: fake_media(clip.clip_id) for clip in [*TRAIN, *VAL]}
    del media[MISSING]
    media[FAILED] = "corrupt"
    names = sorted(media)
    put(store, {clip_id: media[clip_id] for clip_id in names[::2]}, name="a")
    put(store, {clip_id: media[clip_id] for clip_id in names[1::2]}, name="b")
    return manifest


@pytest.fixture
def manifest(packed_from, tmp_path):
    return Path(shutil.copytree(packed_from, tmp_path / "m"))


OPTIONS = ("--view", "k400", "--shard-clips", 8)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def samples(shard: Path) -> dict[str, dict[str, bytes]]:
    """The shard's samples in their order, each by its members' suffixes; those of a sample stand together."""
    found: dict[str, dict[str, bytes]] = {}
    for name, content in members(shard).items():
        clip_id, _, suffix = name.partition(".")
        assert clip_id not in found or clip_id == list(found)[-1]
        found.setdefault(clip_id, {})[suffix] = content
    return found


def test_a_split_is_packed(k710, packed_from, tmp_path):
    out = tmp_path / "deep" / "shards"
    result = k710("pack", packed_from, *OPTIONS, "--out", out)
    assert result.exit_code == 0, result.output
    said, left_out = result.stdout.splitlines()
    assert said.startswith(f"{out}: 29 clips in 4 shards, 0.")
    assert left_out == "2 clips of k400 train are not in the store and were left out"
    about = json.loads((out / "shards.json").read_text())
    shards = [out / shard["file"] for shard in about["shards"]]
    assert [path.name for path in shards] == [f"k400-train-{number:06d}.tar" for number in range(4)]
    assert {path.name for path in out.iterdir()} == {"shards.json", *(path.name for path in shards)}

    found = {shard.name: samples(shard) for shard in shards}
    clips = [clip_id for shard in found.values() for clip_id in shard]
    assert len(clips) == len(set(clips))
    assert set(clips) == PACKED, "of the split, and no other"
    sizes = [len(shard) for shard in found.values()]
    assert max(sizes) <= 8
    assert max(sizes) - min(sizes) <= 1

    media, labels = stored(Store(packed_from / "store", "h264")), {clip.clip_id: clip.label for clip in TRAIN}
    for shard in found.values():
        for clip_id, sample in shard.items():
            assert sample.keys() == {"mp4", "cls", "json"}
            assert sample["mp4"] == media[clip_id]
            assert int(sample["cls"]) == CANONICAL.index(labels[clip_id])
            assert json.loads(sample["json"]) == {
                "clip_id": clip_id,
                "label": labels[clip_id],
                "class_id": int(sample["cls"]),
                "width": 64,
                "height": 48,
                "fps": 8.0,
                "num_frames": 16,
                "view": "k400",
                "split": "train",
                "dialect": "canonical",
            }
        counts = Counter(int(sample["cls"]) for sample in shard.values())
        assert len(counts) == 3, "every shard has every class"
        assert max(counts.values()) - min(counts.values()) <= 3

    assert about["shards"] == [
        {
            "file": shard.name,
            "clips": len(found[shard.name]),
            "bytes": shard.stat().st_size,
            "sha256": hashlib.sha256(shard.read_bytes()).hexdigest(),
        }
        for shard in shards
    ]
    del about["shards"], about["shardlist"], about["wids_version"]  # the last two for wids, which a test below asks
    assert about == {
        "view": "k400",
        "split": "train",
        "dialect": "canonical",
        "shard_clips": 8,
        "seed": 0,
        "manifest": open_manifest(packed_from).content_hash,
        "profile": "h264",
        "clips": 29,
        "missing": 2,
    }


@pytest.mark.parametrize(("name", "dialect"), [("k400", "uniformerv2"), ("k710", "canonical"), ("k710", "uniformerv2")])
def test_classes_are_those_of_view_and_dialect(k710, packed_from, tmp_path, name, dialect):
    options = ("--view", name, "--dialect", dialect, "--split", "val", "--out", tmp_path / "s")
    assert k710("pack", packed_from, *options).exit_code == 0
    rows = view(open_manifest(packed_from).clips, name, dialect=dialect).to_pylist()
    expected = {row["clip_id"]: row["class_id"] for row in rows if row["split"] == "val"}
    [shard] = (tmp_path / "s").glob("*.tar")
    found = {clip_id: int(sample["cls"]) for clip_id, sample in samples(shard).items()}
    assert found == expected
    assert len(found) == len(VAL)
    if name == "k400":
        assert {clip.clip_id: clip.label for clip in VAL} == {k: class_names(name, dialect)[found[k]] for k in found}


def test_clips_of_lists_without_labels_have_no_class(k710, tmp_path):
    tests = clips_of(3, "test", first=100)
    manifest = manifest_of(k710, tmp_path, [*clips_of(3), *clips_of(3, "val", first=50), *tests])
    lists = tmp_path / "lists" / "k400_test.csv"
    lists.write_text("".join(line.partition(",")[2] + "\n" for line in lists.read_text().splitlines()))
    options = ("--sources", "k400", "--splits", "train,val,test", "--annotations", tmp_path / "lists", "--force")
    assert k710("build", *options, "--out", manifest).exit_code == 0
    put(Store(manifest / "store", "h264"), {clip.clip_id: fake_media(clip.clip_id) for clip in tests})
    result = k710("pack", manifest, "--view", "k400", "--split", "test", "--out", tmp_path / "s")
    assert result.exit_code == 0, result.output
    [shard] = (tmp_path / "s").glob("*.tar")
    found = samples(shard)
    assert found.keys() == {clip.clip_id for clip in tests}
    assert {sample["cls"] for sample in found.values()} == {b"-1"}
    assert {json.loads(sample["json"])["label"] for sample in found.values()} == {None}


@pytest.mark.parametrize("shard_clips", [1, 2, 28, 29, 30, 500])
def test_shards_are_uniform(k710, packed_from, tmp_path, shard_clips):
    options = ("--view", "k400", "--shard-clips", shard_clips, "--out", tmp_path / "s")
    assert k710("pack", packed_from, *options).exit_code == 0
    sizes = [len(samples(shard)) for shard in sorted((tmp_path / "s").glob("*.tar"))]
    assert sum(sizes) == 29
    assert len(sizes) == -(-29 // shard_clips)
    assert max(sizes) - min(sizes) <= 1


def test_the_same_bytes_again(k710, manifest, tmp_path):
    """They follow from manifest, clips and seed: not from the time, the place, or how the store came about."""
    out = tmp_path / "s"
    assert k710("pack", manifest, *OPTIONS, "--out", out).exit_code == 0
    before = contents(out)
    store = Store(manifest / "store", "h264")
    media = stored(store)
    shutil.rmtree(store.root)
    put(store, {clip_id: media[clip_id] for clip_id in sorted(media, reverse=True)}, name="other", origin="cvdf:k400")
    assert k710("pack", manifest, *OPTIONS, "--out", out, "--force").exit_code == 0
    assert contents(out) == before
    assert k710("pack", manifest, *OPTIONS, "--out", tmp_path / "seeded", "--seed", 1).exit_code == 0
    assert contents(tmp_path / "seeded").keys() == before.keys()
    assert contents(tmp_path / "seeded") != before


def test_more_tars_than_may_be_open(k710, manifest, tmp_path, monkeypatch):
    monkeypatch.setattr(stored_clips, "_OPEN_TARS", 2)
    store = Store(manifest / "store", "h264")
    media = stored(store)
    shutil.rmtree(store.root)
    for clip_id, content in media.items():
        put(store, {clip_id: content})
    assert k710("pack", manifest, *OPTIONS, "--out", tmp_path / "s").exit_code == 0
    found = {name: sample["mp4"] for shard in (tmp_path / "s").glob("*.tar") for name, sample in samples(shard).items()}
    assert found == {clip_id: media[clip_id] for clip_id in PACKED}


# What is refused.


def refused(k710: Any, *arguments: object, exit_code: int = 1) -> str:
    result = k710("pack", *arguments)
    assert result.exit_code == exit_code, result.output
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1 or exit_code == 2
    return str(result.stderr)


def test_where_nothing_is_in_the_store(k710, manifest, tmp_path):
    said = refused(k710, manifest, *OPTIONS, "--out", tmp_path / "s", "--profile", "source")
    store = manifest / "store"
    told = f"`k710 fetch {manifest} --profile source` brings them"
    assert said == f"k710: {store}: has no k400 train clip in profile source; {told}\n"
    assert not (tmp_path / "s").exists()


def test_views_splits_and_dialects_that_are_not_there(k710, manifest, tmp_path):
    out = ("--out", tmp_path / "s")
    assert "unknown view 'k500'" in refused(k710, manifest, "--view", "k500", *out, exit_code=2)
    assert "view k600 has no train clips" in refused(k710, manifest, "--view", "k600", *out, exit_code=2)
    assert "view k400 has no test clips" in refused(k710, manifest, *OPTIONS, "--split", "test", *out, exit_code=2)
    assert "unknown dialect 'mine'" in refused(k710, manifest, "--dialect", "mine", *out, exit_code=2)
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("out", [".", "..", "/"])
def test_a_folder_without_a_name(k710, manifest, tmp_path, monkeypatch, out):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    said = refused(k710, manifest, *OPTIONS, "--out", out, exit_code=2)
    assert said == f"k710: --out {out}: the shards need a folder with a name, such as shards/k400-train\n"


def test_what_somebody_put_beside_the_shards_is_not_thrown_away(k710, manifest, tmp_path):
    out = tmp_path / "shards"
    assert k710("pack", manifest, *OPTIONS, "--out", out).exit_code == 0
    (out / "index.txt").write_text("hours of work")
    assert refused(k710, manifest, *OPTIONS, "--out", out, "--force") == (
        f"k710: {out}: holds something else ('index.txt'); choose another --out\n"
    )
    assert (out / "index.txt").read_text() == "hours of work"
    (out / "index.txt").unlink()
    assert k710("pack", manifest, *OPTIONS, "--out", out, "--force").exit_code == 0


def test_a_folder_that_holds_something_else(k710, manifest, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"a cat")
    for more in ((), ("--force",)):
        said = refused(k710, manifest, *OPTIONS, "--out", tmp_path / "photos", *more)
        assert said == f"k710: {tmp_path / 'photos'}: holds something else ('cat.jpg'); choose another --out\n"
    assert contents(tmp_path / "photos") == {"cat.jpg": b"a cat"}


def test_an_empty_folder_is_taken(k710, manifest, tmp_path):
    (tmp_path / "s").mkdir()
    assert k710("pack", manifest, *OPTIONS, "--out", tmp_path / "s").exit_code == 0


def test_shards_that_are_there_stay_without_force(k710, manifest, tmp_path):
    out = tmp_path / "s"
    assert k710("pack", manifest, *OPTIONS, "--out", out).exit_code == 0
    before = contents(out)
    said = refused(k710, manifest, *OPTIONS, "--out", out, "--seed", 1)
    assert said == f"k710: {out}: shards are there already; --force replaces them\n"
    assert contents(out) == before
    assert k710("pack", manifest, "--view", "k400", "--shard-clips", 20, "--out", out, "--force").exit_code == 0
    assert sorted(contents(out)) == ["k400-train-000000.tar", "k400-train-000001.tar", "shards.json"]


def test_a_damaged_clip(k710, manifest, tmp_path):
    store = Store(manifest / "store", "h264")
    [row] = [row for row in store.best_rows().to_pylist() if row["clip_id"] == TRAIN[0].clip_id]
    tar = store.tars_folder / row["tar"]
    content = bytearray(tar.read_bytes())
    content[row["offset"]] ^= 1
    tar.write_bytes(content)
    said = refused(k710, manifest, *OPTIONS, "--out", tmp_path / "s")
    assert said == f"k710: {tar.name}: clip {TRAIN[0].clip_id} is damaged; `k710 verify --repair` mends it\n"
    tar.unlink()
    said = refused(k710, manifest, *OPTIONS, "--out", tmp_path / "s")
    assert said == f"k710: {tar} is gone; `k710 verify --repair` mends it\n"
    assert {path.name for path in tmp_path.iterdir()} == {"m"}


def test_a_disk_without_room(k710, manifest, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    media = stored(Store(manifest / "store", "h264"))
    needed = sum(len(media[clip.clip_id]) + 4096 for clip in TRAIN if clip.clip_id in media)
    said = refused(k710, manifest, *OPTIONS, "--out", tmp_path / "s")
    assert said == f"k710: {tmp_path / 's'}: {data_size(needed)} are needed, 1.0 kB are free\n"
    assert not (tmp_path / "s").exists()


# Whole or not at all.


@pytest.mark.parametrize("there", [False, True], ids=["new", "over old shards"])
@pytest.mark.parametrize("broken", ["second shard", "commit", "rename"])
def test_an_interrupted_pack_leaves_what_was_there(k710, manifest, tmp_path, monkeypatch, there, broken):
    out = tmp_path / "s"
    if there:
        assert k710("pack", manifest, *OPTIONS, "--seed", 7, "--out", out).exit_code == 0
    before = contents(out) if there else None
    calls = 0
    place, name, last = {
        "second shard": (StoredClips, "read", 12),
        "commit": (pack, "replacing", 5),
        "rename": (Path, "rename", 2 if there else 1),
    }[broken]
    really = getattr(place, name)

    def interrupted(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == last:
            raise KeyboardInterrupt
        return really(*arguments)

    with monkeypatch.context() as breaking:
        breaking.setattr(place, name, interrupted)
        assert k710("pack", manifest, *OPTIONS, "--out", out, "--force").exit_code != 0
    assert {path.name for path in tmp_path.iterdir()} == ({"m", "s"} if there else {"m"})
    if before is not None:
        assert contents(out) == before


@pytest.mark.parametrize("there", [False, True], ids=["new", "over old shards"])
@pytest.mark.slow
def test_a_pack_killed_at_any_step_leaves_nothing_partial(k710, manifest, tmp_path, there):
    old, new = tmp_path / "old", tmp_path / "new"
    assert k710("pack", manifest, *OPTIONS, "--out", old, "--seed", 7).exit_code == 0
    assert k710("pack", manifest, *OPTIONS, "--out", new).exit_code == 0
    for step in range(MOST_STEPS):
        (tmp_path / f"k.{step}").mkdir()
        if there:
            shutil.copytree(old, tmp_path / f"k.{step}" / "shards")
    command = ("pack", str(manifest), *map(str, OPTIONS), "--out", "{folder}/shards", "--force")
    steps = kill_at_every_step(tmp_path / "k", command, imports=("k710.cli.pack", "k710.maintenance.pack"))
    assert steps > 15
    outcomes = []
    for step in range(steps + 1):
        folder = tmp_path / f"k.{step}"
        found = contents(folder / "shards") if (folder / "shards").exists() else None
        outcomes.append({None: "none", str(contents(old)): "old", str(contents(new)): "new"}.get(found and str(found)))
        assert k710("pack", manifest, *OPTIONS, "--out", folder / "shards", "--force").exit_code == 0
        assert contents(folder / "shards") == contents(new)
        assert [path.name for path in folder.iterdir()] == ["shards"], "the next one clears up"
    assert set(outcomes) <= {"none", "old", "new"}
    assert outcomes[0] == ("old" if there else "none")
    assert outcomes[-1] == "new"
    # Two folders cannot change names at once: for one step the old shards stand aside.
    assert outcomes.count("none") <= 1 or not there


# Those who stream.


@pytest.fixture(scope="module")
def filmed(tmp_path_factory, k710):
    """A manifest, a store and shards of clips that decode."""
    folder = tmp_path_factory.mktemp("filmed")
    clips = [*clips_of(6), *clips_of(3, "val", first=6)]
    manifest = manifest_of(k710, folder, clips)
    film(folder / "clips", clips)
    result = k710("fetch", manifest, "--from", f"local:{folder / 'clips'}", "--workers", 1)
    assert result.exit_code == 0, result.output
    options = ("--view", "k400", "--shard-clips", 4, "--out", folder / "shards")
    assert k710("pack", manifest, *options).exit_code == 0
    return folder


def wanted_of(filmed: Path, what: str) -> tuple[list[str], dict[str, bytes]]:
    """Tars to be read, and the clips that are to be found in them."""
    store = Store(filmed / "m" / "store", "h264")
    media = stored(store)
    if what == "store":
        return [str(store.tars_folder / name) for name in tars(store)], media
    shards = sorted((filmed / "shards").glob("*.tar"))
    return [str(path) for path in shards], {clip.clip_id: media[clip.clip_id] for clip in clips_of(6)}


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # webdataset's own
@pytest.mark.parametrize("what", ["shards", "store"])
def test_webdataset_reads_them(filmed, what):
    webdataset = pytest.importorskip("webdataset")
    urls, expected = wanted_of(filmed, what)
    with webdataset.WebDataset(urls, shardshuffle=False) as dataset:
        found = {sample["__key__"]: sample for sample in dataset}
    assert {clip_id: sample["mp4"] for clip_id, sample in found.items()} == expected
    with webdataset.WebDataset(urls, shardshuffle=False) as dataset:
        for sample in dataset.decode():
            assert sample["json"]["clip_id"] == sample["__key__"]
            assert ("cls" in sample) == (what == "shards")
            if what == "shards":
                assert CANONICAL[sample["cls"]] == sample["json"]["label"]


@pytest.mark.parametrize("what", ["shards", "store"])
def test_hugging_face_datasets_reads_them(filmed, what, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on import, of what it depends on
        datasets = pytest.importorskip("datasets")
    urls, expected = wanted_of(filmed, what)
    dataset = datasets.load_dataset("webdataset", data_files=urls, split="train", streaming=True)
    # It takes .mp4 for a video that a decoder of its own opens; we are after the bytes.
    dataset = dataset.cast_column("mp4", datasets.Video(decode=False))
    found = {sample["__key__"]: sample for sample in dataset}
    assert {clip_id: sample["mp4"]["bytes"] for clip_id, sample in found.items()} == expected
    for clip_id, sample in found.items():
        assert sample["json"]["clip_id"] == clip_id
        if what == "shards":
            assert CANONICAL[sample["cls"]] == sample["json"]["label"]


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # wids' own
def test_wids_reads_any_clip_by_its_number(filmed, tmp_path):
    """Random access by shards.json alone, in the order of the shards."""
    wids = pytest.importorskip("wids", reason="not installed: no clip was read at random")
    shards, expected = wanted_of(filmed, "shards")
    dataset = wids.ShardListDataset(str(filmed / "shards" / "shards.json"), cache_dir=str(tmp_path), transformations=[])
    assert len(dataset) == len(expected)
    in_order = [name.removesuffix(".mp4") for path in shards for name in members(Path(path)) if name.endswith(".mp4")]
    for number in (5, 0, 3, 1, 4, 2):
        sample = dataset[number]
        assert sample["__key__"] == in_order[number]
        assert sample[".mp4"].read() == expected[in_order[number]]
        about = json.loads(sample[".json"].read())
        assert CANONICAL[int(sample[".cls"].read())] == about["label"]
    dataset.close()
    index = json.loads((filmed / "shards" / "shards.json").read_bytes())["shardlist"]
    assert [one["filesize"] for one in index] == [Path(path).stat().st_size for path in shards]
