"""Lists of every data set, read by the trainers' own readers where these can be installed, else by their rules.

The rules are those of the public code, with the file that has each. K710_TEST_TRAINERS has the readers themselves run.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from k710.manifest.read import Manifest, open_manifest
from k710.manifest.views import split_of, view
from k710.store.store import Store
from tests.helpers import real_readers
from tests.helpers.small_stores import fake_media, put
from tests.lists.test_published_lists import LISTS, write

# The view to export of each data set, and the paths that its own trainers' lists have.
TEMPLATES = {
    "ucf101_1": "{label}/{id}.avi",
    "hmdb51_1": "{label}/{id}.avi",
    "ssv2": "{id}.webm",
    "ssv1": "{id}.mp4",
    "mit": "{split}/{id}.mp4",
    "activitynet": "v_{clip_id}.mp4",
    "activitynet_videos": "v_{id}.mp4",
    "hacs": "{label_}/v_{clip_id}.mp4",
    "hacs_clips": "{label_}/v_{clip_id}.mp4",
}


@pytest.fixture(scope="module")
def all_lists(k710, tmp_path_factory) -> Manifest:
    """A manifest of miniature lists of every data set in their published forms, with a store that has every clip."""
    folder = tmp_path_factory.mktemp("others")
    for name, files in LISTS.items():
        write(folder / "lists" / name, files)
    sources = ",".join(f"{name}={folder / 'lists' / name}" for name in LISTS)
    result = k710("build", "--sources", sources, "--out", folder / "m")
    assert result.exit_code == 0, result.output
    manifest = open_manifest(folder / "m")
    put(
        Store(folder / "m" / "store", "h264"),
        {name: fake_media(name) for name in manifest.clips["clip_id"].to_pylist()},
    )
    return manifest


def expected(manifest: Manifest, name: str, split: str, template: str) -> list[tuple[str, int]]:
    """(path, class) of the labelled clips, made of the clips table without the code that exports."""
    found = []
    for row in split_of(view(manifest.clips, name, manifest.catalogue), split).to_pylist():
        raw = row["youtube_id"].split("~", 1)[-1]
        raw = "".join(
            chr(int(part[:2], 16)) + part[2:] if number else part for number, part in enumerate(raw.split("~"))
        )
        fields = row | {"id": raw, "label_": row["label"].replace(" ", "_")}
        found.append((template.format(**fields), row["class_id"]))
    return found


def exported(k710, manifest: Manifest, out: Path, form: str, name: str, split: str, *more: object) -> Path:
    options = ("--format", form, "--view", name, "--splits", split, "--out", out, "--force", *more)
    result = k710("export", manifest.path, *options)
    assert result.exit_code == 0, result.output
    (path,) = out.glob(f"{split}.*")
    return path


# The rules, each by the file that has it.


def uniformerv2_mit(path: Path) -> list[Any]:
    """UniFormerV2, slowfast/datasets/mit.py and kinetics_sparse.py: `path,label`, split at the separator into two."""
    return [(file, int(label)) for file, label in (line.split(",") for line in path.read_text().splitlines())]


def uniformerv2_sth(path: Path) -> list[Any]:
    """UniFormerV2, slowfast/datasets/sth.py: `id num_frames label`, split at spaces."""
    rows = (line.strip().split(" ") for line in path.read_text().splitlines())
    return [(video, int(frames), int(label)) for video, frames, label in rows]


def uniformerv2_anet(path: Path) -> list[Any]:
    """UniFormerV2, slowfast/datasets/anet.py: `path total_time start end label`."""
    rows = (line.split(" ") for line in path.read_text().splitlines())
    return [(file, float(total), float(start), float(end), int(label)) for file, total, start, end, label in rows]


def videomaev2_frames(path: Path) -> list[Any]:
    """VideoMAE V2, dataset/datasets.py, RawFrameClsDataset: pandas, a space between folder, frames and label."""
    return [tuple(row) for row in pd.read_csv(path, header=None, delimiter=" ").itertuples(index=False)]


def videomaev2_pretrain(path: Path) -> list[Any]:
    """VideoMAE V2, dataset/pretrain_datasets.py, HybridVideoMAE: `line.split(" ")`, path, first frame, frames."""
    rows = (line.split(" ") for line in path.read_text().splitlines())
    return [(file, int(start), int(total)) for file, start, total in rows]


# The readers themselves.


def real(reader: Callable[..., Any], *arguments: object) -> Any:
    """What a trainer's own reader makes of lists."""
    folder = os.environ.get("K710_TEST_TRAINERS")
    if not folder:
        pytest.skip("K710_TEST_TRAINERS is not set: the trainers' own readers were not run")
    command = [sys.executable, real_readers.__file__, reader.__name__, *map(str, arguments)]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": folder}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def plain(rows: Any) -> Any:
    """Rows as JSON has them."""
    return json.loads(json.dumps(rows))


@pytest.mark.parametrize("name", TEMPLATES)
def test_videos_of_every_data_set_by_their_rules(k710, all_lists, tmp_path, name):
    want = expected(all_lists, name, "train", TEMPLATES[name])
    commas = exported(
        k710, all_lists, tmp_path / "c", "slowfast", name, "train", "--template", TEMPLATES[name], "--separator", ","
    )
    assert uniformerv2_mit(commas) == want
    spaced = TEMPLATES[name].replace("{label}", "{label_}")
    path = exported(k710, all_lists, tmp_path, "videomae", name, "train", "--template", spaced)
    frame = pd.read_csv(path, header=None, delimiter=" ")
    assert [tuple(row) for row in frame.itertuples(index=False)] == expected(all_lists, name, "train", spaced)


@pytest.mark.slow
def test_videos_of_every_data_set_by_the_real_readers(k710, all_lists, tmp_path):
    templates = {name: template.replace("{label}", "{label_}") for name, template in TEMPLATES.items()}
    want = [expected(all_lists, name, "train", template) for name, template in templates.items()]

    def lists(form: str) -> list[Path]:
        return [
            exported(k710, all_lists, tmp_path / form / name, form, name, "train", "--template", template)
            for name, template in templates.items()
        ]

    assert real(real_readers.mmaction2, *lists("mmaction2")) == plain(want)
    assert real(real_readers.pytorchvideo, *lists("slowfast")) == plain(want)


@pytest.mark.slow
def test_paths_with_spaces_for_the_real_reader(k710, all_lists, tmp_path):
    options = ("--template", "{label}/{id}.mp4", "--separator", ",")
    want = expected(all_lists, "activitynet_videos", "val", "{label}/{id}.mp4")
    path = exported(k710, all_lists, tmp_path, "mmaction2", "activitynet_videos", "val", *options)
    assert real(real_readers.mmaction2_commas, path) == plain([want])


@pytest.mark.parametrize("name", ["ssv1", "ssv2", "ucf101_1"])
def test_folders_of_frames_by_their_rules(k710, all_lists, tmp_path, name):
    of_id, of_clip = expected(all_lists, name, "train", "{id}"), expected(all_lists, name, "train", "{clip_id}")
    path = exported(k710, all_lists, tmp_path / "u", "uniformerv2-frames", name, "train")
    assert uniformerv2_sth(path) == [(video, 16, label) for video, label in of_id]
    path = exported(k710, all_lists, tmp_path / "v", "videomae-frames", name, "train")
    assert videomaev2_frames(path) == [(video, 16, label) for video, label in of_clip]
    path = exported(k710, all_lists, tmp_path / "p", "videomaev2-pretrain-frames", name, "train")
    assert videomaev2_pretrain(path) == [(video, 1, 16) for video, _ in of_clip]


@pytest.mark.slow
def test_folders_of_frames_by_the_real_reader(k710, all_lists, tmp_path):
    want = [(folder, 16, label) for folder, label in expected(all_lists, "ssv1", "train", "{clip_id}")]
    path = exported(k710, all_lists, tmp_path, "mmaction2-frames", "ssv1", "train")
    assert real(real_readers.mmaction2_frames, path) == plain(want)


def test_segments_are_whole_files_by_the_rule(k710, all_lists, tmp_path):
    """Frames = all of the file's, from 0: the clips are cut to files."""
    template = "{label_}/v_{clip_id}.mp4"
    options = ("--template", template)
    path = exported(k710, all_lists, tmp_path, "uniformerv2-segments", "activitynet", "train", *options)
    want = expected(all_lists, "activitynet", "train", template)
    assert uniformerv2_anet(path) == [(file, 2.0, 0.0, 2.0, label) for file, label in want]


@pytest.mark.slow
def test_something_something_with_its_own_json(k710, all_lists, tmp_path):
    """PyTorchVideo takes paths from the list, labels from the official files; SlowFast reads the same three files."""
    lists = all_lists.path.parent / "lists" / "ssv2"
    for split, official in (("train", "train.json"), ("val", "validation.json")):
        path = exported(k710, all_lists, tmp_path / split, "slowfast-frames", "ssv2", split)
        rows = pd.read_csv(path, delimiter=" ", keep_default_na=False)
        assert list(rows.columns) == ["original_vido_id", "video_id", "frame_id", "path", "labels"]
        assert set(rows["labels"]) == {""}
        found = real(real_readers.pytorchvideo_ssv2, lists / "labels.json", lists / official, path)
        want = [
            ([f"{video}/img_{n:05d}.jpg" for n in range(1, 17)], label)
            for video, label in expected(all_lists, "ssv2", split, "{id}")
        ]
        assert found == plain(want)


def test_the_classes_of_a_file_give_the_order_that_another_trainer_has(k710, all_lists, tmp_path):
    """UniFormerV2 and TSM number the classes of SSv1 sorted; the official file is not."""
    names = all_lists.class_names("ssv1")
    (tmp_path / "sorted.txt").write_text("".join(f"{name}\n" for name in sorted(names)))
    options = ("--classes", tmp_path / "sorted.txt")
    path = exported(k710, all_lists, tmp_path / "out", "uniformerv2-frames", "ssv1", "train", *options)
    assert uniformerv2_sth(path) == [("12345", 16, sorted(names).index("Holding something"))]
    assert names.index("Holding something") != sorted(names).index("Holding something")
