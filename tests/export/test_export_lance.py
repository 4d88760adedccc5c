"""Lance datasets, opened by Lance itself; without it most of these tests have nothing to say, and say so."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from k710 import open_manifest
from k710.manifest.views import split_of, splits_of, view
from k710.sources.known import KNOWN_SOURCES, VIEWS
from k710.store.store import Store
from tests.cli.test_bad_input import assert_refused
from tests.helpers.small_stores import clips_of, fake_media, manifest_of, put


@pytest.fixture
def lance() -> Any:
    return pytest.importorskip("lance", reason="pylance is not installed (85 MB): no Lance dataset was written")


@pytest.mark.parametrize("name", VIEWS)
def test_every_view(k710, lance, tmp_path, name):
    sources = ("--sources", ",".join(KNOWN_SOURCES), "--splits", "train,val,test")
    assert k710("build", "--annotations", "sample", "--out", tmp_path / "m", *sources).exit_code == 0
    manifest = open_manifest(tmp_path / "m")
    result = k710("export", tmp_path / "m", "--format", "lance", "--view", name, "--out", tmp_path / "lance")
    assert result.exit_code == 0, result.output
    table = view(manifest.clips, name)
    for split in splits_of(table):
        wanted = split_of(table, split).to_pylist()
        found = lance.dataset(str(tmp_path / "lance" / f"{split}.lance")).to_table().to_pylist()
        columns = ("clip_id", "youtube_id", "time_start_s", "time_end_s", "label", "class_id")
        assert [{key: row[key] for key in columns} for row in found] == [
            {key: row[key] for key in columns} for row in wanted
        ]
        if name == "k710":
            assert [row["k600_class_id"] for row in found] == [
                row["k600_class_id"] for row in manifest.clips.to_pylist() if row["split"] == split
            ]


def test_the_videos(k710, lance, tmp_path, monkeypatch):
    monkeypatch.setattr("k710.export.lance_folder._BATCH_BYTES", 1500)  # of two videos
    clips = clips_of(5, "val")
    manifest, store = manifest_of(k710, tmp_path, clips), Store(tmp_path / "store", "h264")
    contents = {clip.clip_id: fake_media(clip.clip_id) for clip in clips[:3]}
    put(store, {**contents, clips[3].clip_id: "gone"})
    out = tmp_path / "lance"
    arguments = ("export", manifest, "--format", "lance", "--store", store.root, "--media", "--out", out)
    result = k710(*arguments)
    assert result.stdout == f"{out}/val.lance: 5 clips\n", result.output
    dataset = lance.dataset(str(out / "val.lance"))
    rows = dataset.to_table(columns=["clip_id", "failure", "sha256"]).to_pylist()
    assert [row["clip_id"] for row in rows] == [clip.clip_id for clip in clips]
    assert [row["failure"] for row in rows] == [None, None, None, "gone", None]
    with_video = [number for number, row in enumerate(rows) if row["sha256"]]
    blobs = dataset.take_blobs("video", indices=with_video)
    assert [blob.readall() for blob in blobs] == list(contents.values())
    assert_refused(k710(*arguments), "val.lance: exists already; --force replaces it")
    assert k710(*arguments, "--force").exit_code == 0
    moved = out.rename(tmp_path / "elsewhere")
    assert lance.dataset(str(moved / "val.lance")).count_rows() == 5


def test_what_cannot_be_exported(k710, lance, sample, tmp_path):
    arguments = ("export", sample.path, "--format", "lance", "--out", tmp_path / "lance")
    assert k710(*arguments, "--media").exit_code == 2
    assert_refused(k710(*arguments, "--view", "k800"), "unknown view 'k800'", exit_code=2)
    assert not (tmp_path / "lance").exists()
    (tmp_path / "lance" / "val.lance").mkdir(parents=True)
    (tmp_path / "lance" / "val.lance" / "mine").write_text("x")
    assert_refused(k710(*arguments, "--force"), "val.lance: is no dataset of Lance")
    assert (tmp_path / "lance" / "val.lance" / "mine").read_text() == "x"


def test_without_the_library(k710, sample, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "lance", None)
    arguments = ("export", sample.path, "--format", "lance", "--out", tmp_path / "lance")
    assert_refused(k710(*arguments), "pip install 'k710[lance]'")
    another = tmp_path / "packages"
    another.mkdir()
    (another / "lance.py").write_text("")
    monkeypatch.delitem(sys.modules, "lance")
    monkeypatch.syspath_prepend(another)
    assert_refused(k710(*arguments), "is another one than Lance")
    monkeypatch.delitem(sys.modules, "lance")
    assert not Path(tmp_path / "lance").exists()
