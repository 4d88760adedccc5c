"""Exports of a part of a view: what is there, some classes, some clips, so many of each class."""

from __future__ import annotations

import csv
import gzip
import json
import os
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest

from k710.lists.labels import class_names
from k710.manifest.read import open_manifest
from k710.store.store import Store
from tests.cli.test_bad_input import assert_refused
from tests.helpers.small_stores import LABELS, clips_of, fake_media, manifest_of, put

TRAIN, VAL = clips_of(24), clips_of(8, "val", first=24)
MISSING, FAILED = TRAIN[4].clip_id, TRAIN[5].clip_id
THERE = [clip.clip_id for clip in (*TRAIN, *VAL) if clip.clip_id not in (MISSING, FAILED)]
NUMBERS = {name: number for number, name in enumerate(class_names("k400"))}


@pytest.fixture(scope="module")
def house(k710, tmp_path_factory):
    """A K400 of four classes, six train and two val clips each; one clip is not in the store, one failed."""
    folder = tmp_path_factory.mktemp("house")
    manifest = manifest_of(k710, folder, [*TRAIN, *VAL])
    put(Store(manifest / "store", "h264"), {name: fake_media(name) for name in THERE} | {FAILED: "corrupt"})
    return SimpleNamespace(path=manifest, lists=folder / "lists")


@pytest.fixture
def export(k710, house, tmp_path):
    def run(*options, form="slowfast", out="out"):
        return k710("export", house.path, "--view", "k400", "--format", form, "--out", tmp_path / out, *options)

    return run


def rows_of(path: Path) -> list[list[str]]:
    return [line.split(" ") for line in path.read_text().splitlines()]


def test_only_what_is_there_with_counts_and_names(export, tmp_path):
    result = export("--present", "--left-out", tmp_path / "left.csv")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        f"{tmp_path}/out/train.csv: 22 clips",
        f"{tmp_path}/out/val.csv: 8 clips",
        "left out of train: 1 not in the store, 1 corrupt",
        f"{tmp_path}/left.csv names them",
    ]
    found = {
        row[0].removesuffix(".mp4") for split in ("train", "val") for row in rows_of(tmp_path / f"out/{split}.csv")
    }
    assert found == set(THERE)
    left = list(csv.reader((tmp_path / "left.csv").read_text().splitlines()))
    assert left == [["split", "clip_id", "reason"], ["train", MISSING, "not_fetched"], ["train", FAILED, "corrupt"]]


@pytest.mark.parametrize("form", ["csv", "slowfast", "videomae", "videomaev2-pretrain", "mmaction2", "parquet", "hf"])
def test_present_in_every_format(form, export, tmp_path):
    result = export("--present", form=form)
    assert result.exit_code == 0, result.output
    assert "left out of train: 1 not in the store, 1 corrupt" in result.stdout
    (train,) = (tmp_path / "out").rglob("train.*")
    rows = (
        pq.read_table(train).num_rows if train.suffix == ".parquet" else train.read_text().count("\n") - (form == "csv")
    )
    assert rows == 22


def test_present_for_fiftyone(export, tmp_path):
    assert export("--present", form="fiftyone").exit_code == 0
    samples = json.loads((tmp_path / "out" / "samples.json").read_text())["samples"]
    assert {one["clip_id"] for one in samples} == set(THERE)


def test_a_subset_of_classes_has_indices_of_its_own(export, tmp_path):
    (tmp_path / "two.txt").write_text("Juggling Balls\n\nabseiling\n")
    result = export("--classes", tmp_path / "two.txt")
    assert result.exit_code == 0, result.output
    assert "left out of train: 12 of another class, or without a label" in result.stdout
    found = rows_of(tmp_path / "out" / "train.csv")
    of_label = {clip.clip_id: clip.label for clip in TRAIN}
    assert {(of_label[path.removesuffix(".mp4")], index) for path, index in found} == {
        ("juggling balls", "0"),
        ("abseiling", "1"),
    }
    assert export("--classes", tmp_path / "two.txt", "--keep-indices", out="kept").exit_code == 0
    kept = {int(index) for _, index in rows_of(tmp_path / "kept" / "train.csv")}
    assert kept == {NUMBERS["juggling balls"], NUMBERS["abseiling"]}
    assert export("--classes", tmp_path / "two.txt", form="hf", out="hf").exit_code == 0
    schema = pq.read_schema(tmp_path / "hf" / "data" / "train.parquet")
    features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    assert features["label"]["names"] == ["juggling balls", "abseiling"]
    card = " ".join((tmp_path / "hf" / "README.md").read_text().split())
    assert "a part of its clips (left out of train: 12 of another class, or without a label;" in card
    assert "class indices in the order of the chosen classes" in card


def test_so_many_of_each_class(export, tmp_path):
    for per_class, seed, out in ((2, 0, "two"), (3, 0, "three"), (3, 1, "other")):
        result = export("--per-class", per_class, "--seed", seed, out=out)
        assert result.exit_code == 0, result.output
    found = {out: rows_of(tmp_path / out / "train.csv") for out in ("two", "three", "other")}
    assert Counter(index for _, index in found["three"]) == {str(NUMBERS[label]): 3 for label in LABELS}
    assert {path for path, _ in found["two"]} < {path for path, _ in found["three"]}
    assert found["other"] != found["three"]
    assert len(rows_of(tmp_path / "three" / "val.csv")) == 8, "where a class has fewer, all of them"
    # Drawn of what is there: both together still have as many.
    export("--per-class", 5, "--present", out="present")
    assert len(rows_of(tmp_path / "present" / "train.csv")) == 20
    assert MISSING not in (tmp_path / "present" / "train.csv").read_text()


def test_the_clips_of_a_list(export, tmp_path):
    """Whole videos, clips, and a name that the view does not have."""
    wanted = gzip.compress(
        f"https://youtu.be/{TRAIN[0].youtube_id}\nabseiling/{VAL[1].clip_id}.mp4 3\nabcdefghijk\n".encode()
    )
    (tmp_path / "clips.txt.gz").write_bytes(wanted)
    result = export("--clips", tmp_path / "clips.txt.gz", "--left-out", tmp_path / "left.csv")
    assert result.exit_code == 0, result.output
    assert "1 in the list of clips and not in the view" in result.stdout
    assert [path for path, _ in rows_of(tmp_path / "out" / "train.csv")] == [f"{TRAIN[0].clip_id}.mp4"]
    assert [path for path, _ in rows_of(tmp_path / "out" / "val.csv")] == [f"{VAL[1].clip_id}.mp4"]
    assert (tmp_path / "left.csv").read_text().splitlines()[-1] == ",abcdefghijk,not_in_view"


def test_clips_of_other_ids(k710, tmp_path):
    (tmp_path / "mine.csv").write_text("file,label,split\na 1.mp4,wave,train\nb.mp4,clap,train\n")
    result = k710("build", "--sources", f"mine={tmp_path / 'mine.csv'}", "--out", tmp_path / "m")
    assert result.exit_code == 0, result.output
    (tmp_path / "list.txt").write_text("videos/a 1.mp4 0\n")
    options = ("--format", "mmaction2", "--view", "mine", "--template", "{label}/{id}.mp4", "--separator", ",")
    result = k710("export", tmp_path / "m", *options, "--clips", tmp_path / "list.txt", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "out" / "train.txt").read_text() == "wave/a 1.mp4,1\n"
    (tmp_path / "list.txt").write_text("videos/c.mp4 0\n")
    refused = k710("export", tmp_path / "m", *options, "--clips", tmp_path / "list.txt", "--out", tmp_path / "o")
    assert_refused(refused, "line 1: 'videos/c.mp4 0' names no clip of the manifest")


def test_lists_with_numbers_that_the_store_has(export, tmp_path):
    result = export(form="mmaction2-frames")
    assert result.exit_code == 0, result.output
    assert "left out of train: 1 not in the store, 1 corrupt" in result.stdout
    lines = (tmp_path / "out" / "train.txt").read_text().splitlines()
    first = TRAIN[0]
    assert len(lines) == 22
    assert lines[0] == f"{first.clip_id} 16 {NUMBERS[first.label]}"
    export(form="uniformerv2-frames", out="uni")
    assert (tmp_path / "uni" / "val.txt").read_text().splitlines()[0].split(" ")[:2] == [VAL[0].youtube_id, "16"]
    export("--template", "/d/{clip_id}.mp4", form="uniformerv2-segments", out="seg")
    line = (tmp_path / "seg" / "train.csv").read_text().splitlines()[0]
    assert line == f"/d/{first.clip_id}.mp4 2.0 0 2.0 {NUMBERS[first.label]}"


def test_is_cc_of_the_lists_is_kept(export, house, tmp_path):
    result = export("--is-cc-from", house.lists, form="csv")
    assert result.exit_code == 0, result.output
    for split in ("train", "val"):
        original = (house.lists / f"k400_{split}.csv").read_text().splitlines()
        assert sorted((tmp_path / "out" / f"{split}.csv").read_text().splitlines()) == sorted(original)
    other = tmp_path / "lists"
    other.mkdir()
    for split in ("train", "val"):
        text = (house.lists / f"k400_{split}.csv").read_text()
        (other / f"k400_{split}.csv").write_text(text.replace(",0\n", ",1\n"))
    assert_refused(export("--is-cc-from", other, form="csv", out="o"), "is not the list that")


def test_the_real_list_comes_out_as_it_was_published(k710, real_lists, tmp_path):
    options = ("--sources", "k400", "--splits", "val", "--annotations", real_lists)
    assert k710("build", *options, "--out", tmp_path / "m").exit_code == 0
    options = ("--format", "csv", "--view", "k400", "--is-cc-from", real_lists)
    result = k710("export", tmp_path / "m", *options, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    published = list(csv.reader((real_lists / "k400_val.csv").read_text().splitlines()))
    found = list(csv.reader((tmp_path / "out" / "val.csv").read_text().splitlines()))
    assert found[0] == published[0]
    assert sorted(found) == sorted(published)


@pytest.mark.slow
def test_mini_kinetics_200_by_its_list(k710, real_lists, tmp_path):
    """Its published val list has IDs of Kinetics-400's val alone: 5,000 videos of 200 classes."""
    folder = os.environ.get("K710_TEST_OTHER_LISTS")
    if not folder:
        pytest.skip("K710_TEST_OTHER_LISTS is not set: the real lists of other data sets were not tested")
    options = ("--sources", "k400", "--splits", "val", "--annotations", real_lists)
    assert k710("build", *options, "--out", tmp_path / "m").exit_code == 0
    listed = Path(folder) / "mini_kinetics200_val.txt.gz"
    options = ("--format", "slowfast", "--view", "k400", "--clips", listed, "--left-out", tmp_path / "left.csv")
    result = k710("export", tmp_path / "m", *options, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    found = rows_of(tmp_path / "out" / "val.csv")
    unknown = [line for line in (tmp_path / "left.csv").read_text().splitlines() if line.endswith(",not_in_view")]
    assert len(found) + len(unknown) == 5000
    assert len({index for _, index in found}) == 200
    names = class_names("k400")
    (tmp_path / "classes.txt").write_text("".join(f"{names[int(index)]}\n" for index in {i for _, i in found}))
    options = ("--format", "slowfast", "--view", "k400", "--classes", tmp_path / "classes.txt")
    assert k710("export", tmp_path / "m", *options, "--per-class", 25, "--out", tmp_path / "drawn").exit_code == 0
    assert len(rows_of(tmp_path / "drawn" / "val.csv")) == 5000


@pytest.mark.parametrize(
    ("options", "content", "message"),
    [
        (("--store", "x"), "", "--store needs --present, --format hf or lance, or a format of clips in a store"),
        (("--seed", "1"), "", "--seed needs --per-class"),
        (("--media",), "", "--media needs --format hf or lance, not with slowfast"),
        (("--keep-indices",), "", "--keep-indices needs --classes"),
        (("--left-out", "x.csv"), "", "--left-out needs --present, --classes, --clips or --per-class"),
        (("--is-cc-from", "sample"), "", "--is-cc-from needs --format csv, not with slowfast"),
        (("--present", "--store", "nowhere"), "", "nowhere: no store there"),
        (("--present", "--profile", "frames"), "", "has no profile frames; it has h264"),
        (("--classes", "FILE"), "archery\nArchery\n", "line 2: class 'archery' appears twice"),
        (("--classes", "FILE"), "archry\n", "line 1: 'archry' is no class of the view; nearest: 'archery'"),
        (("--classes", "FILE"), "\n", "the list is empty"),
        (("--classes", "FILE"), "zumba\n", "nothing of the view is left to export; left out of train: 24 of another"),
        (("--classes", "none"), "", "none: no such file"),
        (("--clips", "FILE"), "nothing at all\n", "names no YouTube ID and no clip"),
    ],
)
def test_what_cannot_be_selected(options, content, message, export, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.txt").write_text(content)
    result = export(*("list.txt" if option == "FILE" else option for option in options))
    assert result.exit_code != 0
    assert message in " ".join(result.stderr.split())
    assert not (tmp_path / "out").exists()


def test_the_view_of_a_manifest_is_as_before(export, house, tmp_path):
    """A selection that keeps everything gives the same files as none."""
    assert export().exit_code == 0
    (tmp_path / "all.txt").write_text("".join(f"{name}\n" for name in class_names("k400")))
    assert export("--classes", tmp_path / "all.txt", "--per-class", 100, out="all").exit_code == 0
    for split in ("train", "val"):
        assert (tmp_path / "out" / f"{split}.csv").read_bytes() == (tmp_path / "all" / f"{split}.csv").read_bytes()
    assert open_manifest(house.path).clips.num_rows == 32


def test_the_store_of_a_project_is_used_where_one_is_needed(export, house, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("k710.toml").write_text(f'store = "{house.path / "store"}"\nprofile = "h264"\n')
    assert export().exit_code == 0, "a list of all clips needs none"
    assert "left out of train" in export("--present", out="here").stdout
    Path("k710.toml").write_text('store = "nowhere"\n')
    refused = export("--present", out="there")
    assert (refused.exit_code, "nowhere: no store there" in refused.stderr) == (1, True)
    assert export("--store", "x", out="o").exit_code == 2, "one that the command names must fit"
