"""Datasets for FiftyOne: what is written, and, where there is one, what the real library makes of it.

FiftyOne brings a database server and about a gigabyte of packages, so it is no part of the development tools. With
K710_TEST_FIFTYONE=/path/to/a/python that has it, the last test runs it there; without, that test skips and says so.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from k710 import open_manifest
from k710.export.fiftyone import export_fiftyone
from k710.lists.labels import class_names
from k710.manifest.views import split_of, splits_of, view
from k710.sources.known import KNOWN_SOURCES, VIEWS
from tests.cli.test_bad_input import assert_refused, files_of


@pytest.fixture(scope="module")
def everything(k710, tmp_path_factory):
    """All lists of the sample's four releases, the unlabelled test lists among them."""
    out = tmp_path_factory.mktemp("everything") / "m"
    sources = ("--sources", ",".join(KNOWN_SOURCES), "--splits", "train,val,test")
    assert k710("build", "--annotations", "sample", "--out", out, *sources).exit_code == 0
    return open_manifest(out)


def samples_of(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "samples.json").read_text())["samples"]


@pytest.mark.parametrize("dialect", ["canonical", "uniformerv2"])
@pytest.mark.parametrize("name", VIEWS)
def test_every_clip_is_a_sample(k710, everything, tmp_path, name, dialect):
    arguments = ("--view", name, "--dialect", dialect, "--template", "/videos/{split}/{clip_id}.mp4")
    result = k710("export", everything.path, "--format", "fiftyone", "--out", tmp_path / "new" / "fo", *arguments)
    assert result.exit_code == 0, result.output
    samples = samples_of(tmp_path / "new" / "fo")
    table = view(everything.clips, name, dialect=dialect)
    wanted = [row for split in splits_of(table) for row in split_of(table, split).to_pylist()]
    assert len(samples) == len(wanted) > 0
    for sample, row in zip(samples, wanted, strict=True):
        assert sample["filepath"] == f"/videos/{row['split']}/{row['clip_id']}.mp4"
        assert sample["tags"] == [row["split"]]
        label = row["label"]
        assert sample["ground_truth"] == (label and {"_cls": "Classification", "label": label})
        for field in ("clip_id", "youtube_id", "time_start_s", "time_end_s", "class_id"):
            assert sample[field] == row[field]
    info = json.loads((tmp_path / "new" / "fo" / "metadata.json").read_text())["info"]
    assert info["default_classes"] == list(class_names(name, dialect))
    assert info["content_hash"] == everything.content_hash
    counts = Counter(row["split"] for row in wanted)
    said = ", ".join(f"{counts[split]} {split}" for split in splits_of(table))
    assert result.stdout == f"{tmp_path / 'new' / 'fo' / 'samples.json'}: {said}\n"


def test_the_files_that_a_folder_has(k710, everything, tmp_path):
    """By span and by video, in folders; of a video with two clips a file of the whole video is none of them."""
    table = view(everything.clips, "k400").to_pylist()
    videos = Counter(row["youtube_id"] for row in table)
    once = [row for row in table if videos[row["youtube_id"]] == 1]
    folder = tmp_path / "videos"
    (folder / "val" / "some class").mkdir(parents=True)
    by_span, by_video = once[0], once[1]
    (folder / "val" / "some class" / f"{by_span['clip_id']}.mkv").write_bytes(b"")
    (folder / f"{by_video['youtube_id']}.mp4").write_bytes(b"")
    (folder / "notes.txt").write_text("no clip")
    arguments = ("--view", "k400", "--videos", folder)
    result = k710("export", everything.path, "--format", "fiftyone", "--out", tmp_path / "fo", *arguments)
    assert {sample["clip_id"]: sample["filepath"] for sample in samples_of(tmp_path / "fo")} == {
        by_span["clip_id"]: f"{folder}/val/some class/{by_span['clip_id']}.mkv",
        by_video["clip_id"]: f"{folder}/{by_video['youtube_id']}.mp4",
    }
    left = Counter(row["split"] for row in table) - Counter(row["split"] for row in (by_span, by_video))
    said = ", ".join(f"{left[split]} {split}" for split in ("train", "val", "test"))
    assert result.stdout.splitlines()[1] == f"left out, because {folder} has no file for them: {said}"


def test_a_whole_video_is_no_clip_where_there_are_two(everything, tmp_path):
    table = view(everything.clips, "k700").to_pylist()
    videos = Counter(row["youtube_id"] for row in table)
    (twice, *_) = (name for name, count in videos.items() if count > 1)
    once = next(name for name, count in videos.items() if count == 1)
    for name in (twice, once):
        (tmp_path / f"{name}.mp4").write_bytes(b"")
    export_fiftyone(everything, tmp_path / "fo", view_name="k700", videos=tmp_path)
    assert {sample["youtube_id"] for sample in samples_of(tmp_path / "fo")} == {once}


def test_a_folder_with_none_of_the_clips(k710, sample, tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    arguments = ("export", sample.path, "--format", "fiftyone", "--out", tmp_path / "fo", "--videos", folder)
    assert_refused(k710(*arguments), "has no clips")
    (folder / "abcdefghijk_000010_000020.mp4").write_bytes(b"")
    assert_refused(k710(*arguments), f"{folder}: has none of the 69 clips")
    assert not (tmp_path / "fo").exists()


@pytest.mark.parametrize("name", ["samples.json", "metadata.json"])
def test_files_that_exist_need_force(k710, sample, tmp_path, name):
    (tmp_path / name).write_text("mine")
    arguments = ("export", sample.path, "--format", "fiftyone", "--out", tmp_path)
    assert_refused(k710(*arguments), f"{tmp_path / name}: exists already; --force replaces it")
    assert files_of(tmp_path) == {name: b"mine"}
    assert k710(*arguments, "--force").exit_code == 0
    assert len(samples_of(tmp_path)) == 69


def test_a_full_disk_leaves_the_old_files(k710, sample, tmp_path, monkeypatch):
    (tmp_path / "samples.json").write_text("mine")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    result = k710("export", sample.path, "--format", "fiftyone", "--out", tmp_path, "--force")
    assert_refused(result, f"{tmp_path / 'samples.json'}: No space left on device")
    assert files_of(tmp_path) == {"samples.json": b"mine"}


def test_bad_templates_are_refused(k710, sample, tmp_path):
    arguments = ("export", sample.path, "--format", "fiftyone", "--out", tmp_path / "fo", "--template")
    assert_refused(k710(*arguments, "video.mp4"), "makes one path for all clips", exit_code=2)
    assert not (tmp_path / "fo").exists()


@pytest.mark.parametrize(
    "template", ["{class_id:03d}/{clip_id}.mp4", "{label}/{clip_id}.mp4", "{label_}/{clip_id}.mp4"]
)
def test_a_template_of_labels_needs_labels(k710, everything, tmp_path, template):
    arguments = ("export", everything.path, "--view", "k600", "--format", "fiftyone", "--out", tmp_path / "fo")
    result = k710(*arguments, "--template", template)
    assert_refused(result, "3 test clips have no label, which the template needs", exit_code=2)
    assert not (tmp_path / "fo").exists()
    assert k710(*arguments, "--template", template, "--splits", "train,val").exit_code == 0


IMPORT = """
import json, sys
import fiftyone
dataset = fiftyone.Dataset.from_dir(dataset_dir=sys.argv[1], dataset_type=fiftyone.types.FiftyOneDataset)
fields = ["filepath", "tags", "ground_truth.label", "clip_id", "time_start_s", "class_id"]
found = {"media_type": dataset.media_type, "classes": dataset.default_classes, "info": dataset.info}
found["values"] = dict(zip(fields, dataset.values(fields)))
print("FOUND" + json.dumps(found))
"""


def test_the_real_library_imports_it(k710, everything, tmp_path):
    python = os.environ.get("K710_TEST_FIFTYONE")
    if not python:
        pytest.skip("K710_TEST_FIFTYONE names no Python with fiftyone: the real import was not tested")
    table = view(everything.clips, "k400")
    folder = tmp_path / "videos"
    folder.mkdir()
    for clip_id in table["clip_id"].to_pylist()[:20]:
        (folder / f"{clip_id}.mp4").write_bytes(b"")
    arguments = ("--format", "fiftyone", "--view", "k400", "--videos", folder, "--out", tmp_path / "fo")
    assert k710("export", everything.path, *arguments).exit_code == 0
    own = {"HOME": str(tmp_path), "FIFTYONE_DATABASE_DIR": str(tmp_path / "db"), "FIFTYONE_DO_NOT_TRACK": "true"}
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    result = subprocess.run(
        [python, "-c", IMPORT, str(tmp_path / "fo")],
        env=environment | own | {"FIFTYONE_DATABASE_VALIDATION": "false"},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout.partition("FOUND")[2].splitlines()[0])
    assert found["media_type"] == "video"
    assert found["classes"] == list(class_names("k400"))
    assert found["info"]["content_hash"] == everything.content_hash
    samples = samples_of(tmp_path / "fo")
    assert len(samples) == 20
    assert found["values"] == {
        "filepath": [sample["filepath"] for sample in samples],
        "tags": [sample["tags"] for sample in samples],
        "ground_truth.label": [sample["ground_truth"] and sample["ground_truth"]["label"] for sample in samples],
        **{name: [sample[name] for sample in samples] for name in ("clip_id", "time_start_s", "class_id")},
    }
