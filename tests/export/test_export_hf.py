"""Datasets for Hugging Face, opened by the real library; without it these tests have nothing to say, and say so."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from k710 import open_manifest
from k710.export.hf import MEDIA, export_hf
from k710.fetch.encode.jobs import Made
from k710.lists.labels import class_names
from k710.manifest.views import split_of, splits_of, view
from k710.sources.known import KNOWN_SOURCES, VIEWS
from k710.store.store import Store
from k710.text import counted
from tests.cli.test_bad_input import assert_refused, files_of
from tests.helpers.small_stores import MEASURED, clips_of, fake_media, manifest_of, put

datasets = pytest.importorskip("datasets", reason="not installed: no exported dataset was opened")


@pytest.fixture(scope="module")
def everything(k710, tmp_path_factory):
    """All lists of the sample's four releases, the unlabelled test lists among them."""
    out = tmp_path_factory.mktemp("everything") / "m"
    sources = ("--sources", ",".join(KNOWN_SOURCES), "--splits", "train,val,test")
    assert k710("build", "--annotations", "sample", "--out", out, *sources).exit_code == 0
    return open_manifest(out)


@pytest.fixture
def load(tmp_path, monkeypatch):
    """What a user calls, without a network and with a cache of its own."""
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)

    def opened(folder: Path, **options: Any) -> Any:
        return datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"), **options)

    return opened


@pytest.fixture
def exported(k710, everything, tmp_path):
    """The folder that the command makes of everything."""

    def export(*options: object) -> Path:
        result = k710("export", everything.path, "--format", "hf", "--out", tmp_path / "hf", *options)
        assert result.exit_code == 0, result.output
        return tmp_path / "hf"

    return export


def named(feature: Any, index: int | None) -> str | None:
    return None if index is None else feature.int2str(index)


@pytest.mark.parametrize("dialect", ["canonical", "uniformerv2"])
@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.slow
def test_every_view_opens_with_its_names(k710, everything, load, tmp_path, name, dialect):
    out = tmp_path / "new" / "hf"
    arguments = ("export", everything.path, "--format", "hf", "--view", name, "--dialect", dialect, "--out", out)
    result = k710(*arguments)
    assert result.exit_code == 0, result.output
    table = view(everything.clips, name, dialect=dialect)
    opened = load(out)
    assert list(opened) == list(splits_of(table))
    for split, dataset in opened.items():
        wanted = split_of(table, split)
        label = dataset.features["label"]
        assert label == datasets.ClassLabel(names=list(class_names(name, dialect)))
        assert dataset["label"][:] == wanted["class_id"].to_pylist()
        assert [named(label, index) for index in dataset["label"]] == wanted["label"].to_pylist()
        for column in ("clip_id", "youtube_id", "time_start_s", "time_end_s"):
            assert dataset[column][:] == wanted[column].to_pylist()
        assert f"{out}/data/{split}.parquet: {counted(wanted.num_rows, 'clip')}\n" in result.stdout
    assert f"{out}/README.md: the card" in result.stdout


def test_k710_has_what_each_release_says(everything, load, exported):
    clips = {row["clip_id"]: row for row in everything.clips.to_pylist()}
    for split, dataset in load(exported()).items():
        assert len(dataset)
        for row in dataset:
            clip = clips[row["clip_id"]]
            assert clip["split"] == split
            for source in KNOWN_SOURCES:
                assert row[f"{source}_split"] == clip[f"{source}_split"]
                assert row[f"{source}_label"] == clip[f"{source}_class_id"]
        assert dataset.features["k400_label"].names == list(class_names("k400"))


def test_releases_in_another_dialect(everything, load, exported):
    clips = {row["clip_id"]: row for row in everything.clips.to_pylist()}
    dataset = load(exported("--dialect", "uniformerv2"))["val"]
    names = [named(dataset.features["k400_label"], row["k400_label"]) for row in dataset]
    indices = [clips[clip_id]["k400_class_id"] for clip_id in dataset["clip_id"]]
    assert names == [None if index is None else class_names("k400")[index] for index in indices]
    assert any(names)


def test_it_streams_too(everything, load, exported):
    streamed = load(exported(), split="train", streaming=True)
    assert [row["clip_id"] for row in streamed] == split_of(view(everything.clips, "k710"), "train")[
        "clip_id"
    ].to_pylist()
    assert streamed.features["label"].names == list(class_names("k710"))


def test_without_the_card_the_files_alone_keep_their_types(everything, load, tmp_path):
    written = export_hf(everything, tmp_path / "hf", splits=("val",))
    files = {"val": str(tmp_path / "hf" / "data" / "val.parquet")}
    assert list(written) == ["val"]
    opened = datasets.load_dataset("parquet", data_files=files, cache_dir=str(tmp_path / "cache"))
    assert opened["val"].features["label"].names == list(class_names("k710"))


def test_the_card_fits_the_library(k710, everything, tmp_path):
    hub = pytest.importorskip("huggingface_hub")
    for name in ("k710", "k400"):
        out = tmp_path / name
        assert k710("export", everything.path, "--format", "hf", "--view", name, "--out", out).exit_code == 0
        header = hub.DatasetCard.load(out / "README.md").data.to_dict()
        splits = splits_of(view(everything.clips, name))
        assert header["configs"] == [
            {"config_name": "default", "data_files": [{"split": s, "path": f"data/{s}.parquet"} for s in splits]}
        ]
    text = (tmp_path / "k400" / "README.md").read_text()
    assert "View `k400`" in text
    assert "data/test.parquet" in text


def test_the_bytes_of_a_clip_are_found_by_its_row(k710, load, tmp_path):
    clips = clips_of(4, "val")
    manifest = manifest_of(k710, tmp_path, clips)
    store = Store(tmp_path / "store", "h264")
    contents = {clip.clip_id: fake_media(clip.clip_id) for clip in clips[:2]}
    put(store, {**contents, clips[2].clip_id: "gone"})
    result = k710("export", manifest, "--format", "hf", "--store", store.root, "--out", tmp_path / "hf")
    assert result.exit_code == 0, result.output
    dataset = load(tmp_path / "hf", split="val")
    assert set(MEDIA) <= set(dataset.features)
    found = {}
    for row in dataset:
        if row["tar"] is not None:
            with (store.tars_folder / row["tar"]).open("rb") as tar:
                tar.seek(row["offset"])
                found[row["clip_id"]] = tar.read(row["size"])
            assert hashlib.sha256(found[row["clip_id"]]).hexdigest() == row["sha256"]
    assert found == contents
    assert dataset["failure"][:] == [None, None, "gone", None]
    assert dataset["width"][:] == [64, 64, None, None]

    # As docs/export.md shows: a column of videos, made on the way.
    def with_video(row: dict[str, Any]) -> dict[str, Any]:
        with (store.tars_folder / row["tar"]).open("rb") as tar:
            tar.seek(row["offset"])
            return {"video": {"bytes": tar.read(row["size"]), "path": f"{row['clip_id']}.{row['suffix']}"}}

    fetched = dataset.filter(lambda row: row["tar"] is not None)
    features = datasets.Features({**fetched.features, "video": datasets.Video(decode=False)})
    videos = fetched.map(with_video, features=features)
    assert [row["video"]["bytes"] for row in videos] == list(contents.values())
    assert "## Media" in (tmp_path / "hf" / "README.md").read_text()


@pytest.fixture
def stored(k710, tmp_path) -> tuple[Path, Store, dict[str, bytes]]:
    """A manifest of five clips, three of which are in a store; the bytes of these."""
    clips = clips_of(5, "val")
    store = Store(tmp_path / "store", "h264")
    contents = {clip.clip_id: fake_media(clip.clip_id) for clip in clips[:3]}
    put(store, {**contents, clips[3].clip_id: "gone"})
    return manifest_of(k710, tmp_path, clips), store, contents


def test_the_videos_themselves(k710, load, tmp_path, stored, monkeypatch):
    """In files of few videos and row groups of one, which a store of real size has too."""
    manifest, store, contents = stored
    monkeypatch.setattr("k710.export.hf_videos._GROUP_BYTES", 800)
    monkeypatch.setattr("k710.export.hf.FILE_BYTES", 1500)
    arguments = ("export", manifest, "--format", "hf", "--store", store.root, "--media", "--out", tmp_path / "hf")
    result = k710(*arguments)
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{tmp_path}/hf/data/val-*.parquet: 5 clips\n{tmp_path}/hf/README.md: the card\n"
    assert set(files_of(tmp_path / "hf" / "data")) == {f"val-0000{n}-of-00002.parquet" for n in (0, 1)}
    dataset = load(tmp_path / "hf", split="val")
    assert dataset.features["video"] == datasets.Video()
    assert dataset.features["label"].names == list(class_names("k710"))
    videos = dataset.cast_column("video", datasets.Video(decode=False))
    assert videos["clip_id"][:] == [clip.clip_id for clip in clips_of(5, "val")]
    assert [row["video"] and row["video"]["bytes"] for row in videos] == [*contents.values(), None, None]
    assert videos[0]["video"]["path"] == f"{videos[0]['clip_id']}.mp4"
    assert "The column `video` holds the video" in (tmp_path / "hf" / "README.md").read_text()
    streamed = load(tmp_path / "hf", split="val", streaming=True).cast_column("video", datasets.Video(decode=False))
    assert next(iter(streamed))["video"]["bytes"] == next(iter(contents.values()))
    assert_refused(k710(*arguments), "val-00000-of-00002.parquet: exists already; --force replaces it")
    monkeypatch.setattr("k710.export.hf.FILE_BYTES", 10**6)  # now in one file: those of before would be clips twice
    assert_refused(k710(*arguments), "exists already; --force replaces it")
    (tmp_path / "hf" / "README.md").unlink()
    assert_refused(k710(*arguments), "-of-00002.parquet: exists already; --force replaces it")
    assert k710(*arguments, "--force").exit_code == 0
    assert set(files_of(tmp_path / "hf" / "data")) == {"val-00000-of-00001.parquet"}
    assert len(load(tmp_path / "hf", split="val")) == 5


def test_a_profile_of_pictures_has_no_videos(k710, tmp_path, monkeypatch):
    manifest, store = manifest_of(k710, tmp_path, clips_of(1, "val")), Store(tmp_path / "store", "h264")
    monkeypatch.setattr("tests.helpers.small_stores.made_of", as_pictures)
    put(store, {"clip-000000_000000_000002": fake_media("x")})
    result = k710("export", manifest, "--format", "hf", "--store", store.root, "--media", "--out", tmp_path / "hf")
    assert_refused(result, "profile h264 holds pictures, not videos; take another --profile", exit_code=2)


def as_pictures(scratch: Path, clip_id: str, media: bytes) -> Made:
    (scratch / clip_id).write_bytes(media)
    return Made(clip_id, path=str(scratch / clip_id), suffix="mjpeg", measured=MEASURED)


def test_videos_that_are_not_there(k710, tmp_path, stored):
    manifest, store, _ = stored
    arguments = ("export", manifest, "--format", "hf", "--store", store.root, "--media", "--out", tmp_path / "hf")
    (tar,) = store.tars_folder.glob("*.tar")
    whole = tar.read_bytes()
    tar.write_bytes(whole.replace(fake_media("clip-000001_000001_000003")[:50], bytes(50)))
    assert_refused(k710(*arguments), "clip clip-000001_000001_000003 is damaged")
    assert not (tmp_path / "hf").exists()
    put(Store(tmp_path / "failed", "h264"), {"clip-000000_000000_000002": "gone"})
    result = k710(*arguments, "--store", tmp_path / "failed")
    assert_refused(result, "has none of these clips in profile h264")
    result = k710("export", manifest, "--format", "hf", "--media", "--out", tmp_path / "hf")
    assert result.exit_code == 2
    assert "--media needs --store" in result.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--view", "k800"), "unknown view 'k800'"),
        (("--dialect", "other"), "unknown dialect 'other'"),
        (("--splits", "test"), "the view has no test clips; it has train, val"),
        (("--view", "k700_2020"), "the view has no clips to export"),
    ],
)
def test_what_cannot_be_exported(k710, sample, tmp_path, options, message):
    result = k710("export", sample.path, "--format", "hf", "--out", tmp_path / "hf", *options)
    assert_refused(result, message, exit_code=2)
    assert not (tmp_path / "hf").exists()


@pytest.mark.parametrize(
    ("form", "options", "message"),
    [
        (
            "hf",
            ("--template", "{clip_id}"),
            "--template needs --format slowfast or videomae or videomaev2-pretrain or mmaction2 or mmac",
        ),
        ("csv", ("--template", "{clip_id}"), "not with csv"),
        ("hf", ("--separator", ","), "--separator needs"),
        ("hf", ("--videos", "x"), "--videos needs --format fiftyone, not with hf"),
        ("hf", ("--profile", "h264"), "--profile needs --present, --store or"),
        ("fiftyone", ("--store", "x"), "--store needs --present, --format hf or"),
        ("fiftyone", ("--videos", "x", "--template", "{clip_id}"), "--template and --videos cannot be combined"),
    ],
)
def test_options_of_other_formats(k710, sample, tmp_path, form, options, message):
    result = k710("export", sample.path, "--format", form, "--out", tmp_path / "out", *options)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["data/train.parquet", "README.md"])
def test_files_that_exist_need_force(k710, sample, tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    arguments = ("export", sample.path, "--format", "hf", "--out", tmp_path)
    assert_refused(k710(*arguments), f"{tmp_path / name}: exists already; --force replaces it")
    assert set(files_of(tmp_path)) <= {"data", name}
    assert k710(*arguments, "--force").exit_code == 0
    assert (tmp_path / name).read_bytes() != b"mine"


def test_a_full_disk_leaves_nothing(k710, sample, tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    result = k710("export", sample.path, "--format", "hf", "--out", tmp_path / "hf")
    assert_refused(result, "No space left on device")
    assert files_of(tmp_path) == {}


def test_the_same_bytes_every_time(everything, tmp_path):
    for name in ("one", "two"):
        export_hf(everything, tmp_path / name)
    assert files_of(tmp_path / "one") == files_of(tmp_path / "two")


def test_a_manifest_is_no_place_for_it(k710, sample):
    result = k710("export", sample.path, "--format", "hf", "--out", sample.path, "--force")
    assert_refused(result, "is a manifest, which holds nothing else")
