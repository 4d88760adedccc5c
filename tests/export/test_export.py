"""Exported lists, read back the way their readers read them."""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from k710 import open_manifest
from k710.errors import ManifestError, UsageError
from k710.export.lists import FORMS, export
from k710.export.paths import TEMPLATE_FIELDS, check_template
from k710.lists.annotations import ListFile, read_list
from k710.lists.labels import DIALECTS, class_names
from k710.manifest.read import Manifest
from k710.manifest.views import split_of, splits_of, view
from k710.sources.known import VIEWS
from tests.cli.test_bad_input import assert_refused, files_of

RELEASES = VIEWS[1:]


@pytest.fixture(scope="module")
def everything(k710, tmp_path_factory) -> Manifest:
    """All lists of the sample's four releases, the unlabelled test lists among them."""
    out = tmp_path_factory.mktemp("everything") / "m"
    sources = ("--sources", ",".join(RELEASES), "--splits", "train,val,test")
    assert k710("build", "--annotations", "sample", "--out", out, *sources).exit_code == 0
    return open_manifest(out)


def expected(manifest: Manifest, name: str, split: str) -> list[tuple[str, str]]:
    """(clip_id, class name) of a view's split, straight from the clips table; the name is the view's own."""
    prefix = "" if name == "k710" else f"{name}_"
    names = class_names(name)
    clips = [clip for clip in manifest.clips.to_pylist() if clip[f"{prefix}split"] == split]
    return [(clip["clip_id"], names[clip[f"{prefix}class_id"]]) for clip in clips]


# Each reader as its public code splits a line.


def slowfast(path: Path, separator: str = " ") -> list[tuple[str, int]]:
    """PySlowFast and UniFormerV2: `path, label = path_label.split(PATH_LABEL_SEPARATOR)`, and no third part."""
    pairs = [line.split(separator) for line in path.read_text().splitlines()]
    return [(name, int(index)) for name, index in pairs]


def videomae(path: Path) -> list[tuple[str, int]]:
    """VideoMAE: `pandas.read_csv(path, header=None, delimiter=" ")`, the first column and the second."""
    frame = pd.read_csv(path, header=None, delimiter=" ")
    assert frame.shape[1] == 2
    return [(str(name), int(index)) for name, index in frame.values]


def mmaction2(path: Path) -> list[tuple[str, int]]:
    """MMAction2's VideoDataset: `filename, label = line.strip().split(" ")`."""
    pairs = [line.strip().split(" ") for line in path.read_text().splitlines()]
    return [(name, int(index)) for name, index in pairs]


READERS = {"slowfast": (slowfast, ".csv"), "videomae": (videomae, ".csv"), "mmaction2": (mmaction2, ".txt")}


@pytest.mark.parametrize("form", READERS)
@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("name", VIEWS)
def test_trainers_read_the_right_class_in_every_dialect(k710, everything, tmp_path, name, dialect, form):
    read, suffix = READERS[form]
    result = k710(
        *("export", everything.path, "--format", form, "--view", name, "--dialect", dialect),
        *("--splits", "val,train", "--out", tmp_path / "new" / "lists"),
    )
    assert result.exit_code == 0, result.output
    names = class_names(name, dialect)
    for split in ("train", "val"):
        path = tmp_path / "new" / "lists" / f"{split}{suffix}"
        pairs = [(file.removesuffix(".mp4"), names[index]) for file, index in read(path)]
        assert pairs == expected(everything, name, split)
        assert pairs, "nothing was compared"
        assert f"{path}: {len(pairs)} clips" in result.stdout


@pytest.mark.parametrize("dialect", DIALECTS)
def test_dialects_differ_in_the_index_and_agree_in_the_class(everything, dialect):
    canonical, other = view(everything.clips, "k400"), view(everything.clips, "k400", dialect=dialect)
    assert canonical["label"].to_pylist() == other["label"].to_pylist()
    same = canonical["class_id"].equals(other["class_id"])
    assert same == (dialect != "uniformerv2"), (
        "K400 is shuffled in OpenGVLab's order and in release order in the others"
    )


def test_release_views_are_the_lists_as_published(everything):
    """Curation drops leaked-6000's K700 clip from train; the release keeps it."""
    assert ("leaked-6000_000090_000100", "abseiling") in expected(everything, "k700", "train")
    train = split_of(view(everything.clips, "k700"), "train")["clip_id"].to_pylist()
    assert "leaked-6000_000090_000100" in train
    assert "leaked-6000_000090_000100" not in view(everything.clips, "k710")["clip_id"].to_pylist()


def test_the_releases_own_spelling(everything):
    assert "tying tie" in view(everything.clips, "k400")["label"].to_pylist()
    assert "tying necktie" in view(everything.clips, "k710")["label"].to_pylist()


@pytest.mark.parametrize("name", VIEWS)
def test_csv_reads_again_into_the_same_clips(everything, tmp_path, name):
    table = view(everything.clips, name)
    written = export(table, tmp_path, form="csv")
    assert set(written) == {f"{split}.csv" for split in splits_of(table)}
    for split in splits_of(table):
        annotation_list = read_list(ListFile("k400", split, tmp_path / f"{split}.csv"))
        part = split_of(table, split)
        assert annotation_list.num_rows == written[f"{split}.csv"] == part.num_rows
        for column in ("youtube_id", "time_start_s", "time_end_s", "label"):
            assert annotation_list.table[column].to_pylist() == part[column].to_pylist()


def test_the_exported_releases_build_the_same_dataset(k710, everything, tmp_path):
    for source in RELEASES:
        result = k710("export", everything.path, "--format", "csv", "--view", source, "--out", tmp_path / source)
        assert result.exit_code == 0, result.output
    built = k710(
        *("build", "--annotations", tmp_path, "--sources", ",".join(RELEASES), "--splits", "train,val,test"),
        *("--out", tmp_path / "m"),
    )
    assert built.exit_code == 0, built.output
    again, first = open_manifest(tmp_path / "m").clips.to_pylist(), everything.clips.to_pylist()
    # A release as published has one label per clip in the table; K600's second label of this one stands there no more.
    (lost,) = (clip for clip in first if clip["clip_id"] == "two-labels1_000008_000018")
    assert lost["other_class_ids"] == [class_names("k710").index("juggling balls")]
    lost["other_class_ids"] = None
    assert again == first


def test_csv_has_quotes_where_a_field_needs_them_alone(everything, tmp_path):
    """The arranging script of the public archives strips quotes from labels, and takes those of an ID for its own."""
    export(view(everything.clips, "k400"), tmp_path, form="csv", splits=("val",))
    lines = (tmp_path / "val.csv").read_text().splitlines()
    assert lines[:2] == ["label,youtube_id,time_start,time_end,split", "archery,leaked-4000,20,30,val"]
    table = np.loadtxt(tmp_path / "val.csv", skiprows=1, dtype=str, delimiter=",")
    assert table[:, 1].tolist() == split_of(view(everything.clips, "k400"), "val")["youtube_id"].to_pylist()
    odd = pa.table({"youtube_id": ["a"], "time_start_s": [1], "time_end_s": [2], "split": ["val"], "label": ['"b", c']})
    export(odd, tmp_path / "odd", form="csv")
    assert (tmp_path / "odd/val.csv").read_text().splitlines()[1] == '"""b"", c",a,1,2,val'


@pytest.mark.parametrize("separator", [" ", ","])
def test_videomae_v2_pretrains_on_videos(k710, everything, tmp_path, separator):
    """Its loader: `path, start, total = line.split(" ")[:3]`, and a negative total says that the path is a video."""
    arguments = ("--format", "videomaev2-pretrain", "--view", "k600", "--template", "{label_}/{clip_id}.mp4")
    result = k710("export", everything.path, *arguments, "--separator", separator, "--out", tmp_path)
    assert result.exit_code == 0, result.output
    for split in ("train", "val", "test"):  # a class is not needed, so test lists are written too
        lines = [line.split(separator) for line in (tmp_path / f"{split}.csv").read_text().splitlines()]
        clips = [clip["clip_id"] for clip in everything.clips.to_pylist() if clip["k600_split"] == split]
        assert [Path(path).stem for path, _, _ in lines] == clips
        assert {(int(start), int(total)) for _, start, total in lines} == {(0, -1)}


def test_csv_of_test_lists_has_no_label_column(everything, tmp_path):
    export(view(everything.clips, "k600"), tmp_path, form="csv", splits=("test",))
    header, *rows = (tmp_path / "test.csv").read_text().splitlines()
    assert header == "youtube_id,time_start,time_end,split"
    assert rows == ["tested-6000,5,15,test", "tested-6001,30,40,test", "tested-6002,60,70,test"]


def test_parquet_holds_every_column(everything, tmp_path):
    table = view(everything.clips, "k710")
    export(table, tmp_path, form="parquet")
    for split in ("train", "val"):
        assert pa.parquet.read_table(tmp_path / f"{split}.parquet").to_pylist() == split_of(table, split).to_pylist()


@pytest.mark.parametrize(
    ("template", "separator", "first"),
    [
        ("{clip_id}.mp4", ",", "leaked-4000_000020_000030.mp4,5"),
        ("/d/{split}/{label}/{clip_id}.mp4", ",", "/d/val/archery/leaked-4000_000020_000030.mp4,5"),
        ("{youtube_id}/{time_start_s:06d}-{time_end_s}.mkv", "\t", "leaked-4000/000020-30.mkv\t5"),
        ("{label_}/{class_id:03}_{clip_id}", " ", "archery/005_leaked-4000_000020_000030 5"),
        ("{{{youtube_id}}}", "::", "{leaked-4000}::5"),
    ],
)
def test_templates_and_separators(everything, tmp_path, template, separator, first):
    table = view(everything.clips, "k400")
    export(table, tmp_path, form="slowfast", template=template, separator=separator, splits=("val",))
    assert (tmp_path / "val.csv").read_text().splitlines()[0] == first
    names = class_names("k400")
    labels = [names[index] for _, index in slowfast(tmp_path / "val.csv", separator)]
    assert labels == split_of(table, "val")["label"].to_pylist()


def test_underscored_labels_have_no_spaces(everything, tmp_path):
    export(view(everything.clips, "k710"), tmp_path, form="mmaction2", template="{label_}/{clip_id}.mp4")
    for file, index in mmaction2(tmp_path / "train.txt"):
        assert file.split("/")[0] == class_names("k710")[index].replace(" ", "_")


@pytest.mark.parametrize(
    ("options", "exit_code", "message"),
    [
        ("--view k800", 2, "unknown view 'k800'; known: k710, k400, k600, k700, k700_2020"),
        ("--dialect opengvlab", 2, "unknown dialect 'opengvlab'; known: canonical, uniformerv2, videomaev2"),
        ("--format webdataset", 2, "unknown format 'webdataset'; known: csv, slowfast, videomae, videomaev2-pretrain"),
        ("--splits foo", 2, "unknown split 'foo'"),
        ("--splits test", 2, "the view has no test clips; it has train, val"),
        ("--view k600", 2, "3 test clips have no label, which this format needs; leave them out with --splits"),
        ("--template {clip}.mp4", 2, "path template '{clip}.mp4': no field 'clip'; known: clip_id, youtube_id"),
        ("--template {clip_id", 2, "path template '{clip_id': "),
        ("--template {clip_id}}", 2, "path template '{clip_id}}': "),
        ("--template {}{clip_id}", 2, "no field ''; known: "),
        ("--template {0}{clip_id}", 2, "no field '0'; known: "),
        ("--template {clip_id.__class__}", 2, "no field 'clip_id.__class__'; known: "),
        ("--template {clip_id[0]}", 2, "no field 'clip_id[0]'; known: "),
        ("--template {clip_id:{nope}}", 2, "path template '{clip_id:{nope}}': a field inside another field, '{nope}'"),
        ("--template {clip_id:d}", 2, "path template '{clip_id:d}': Unknown format code 'd'"),
        ("--template {label_:{clip_id}}{clip_id}", 2, "a field inside another field, '{clip_id}'"),
        ("--template {clip_id!x}", 2, "path template '{clip_id!x}': "),
        ("--template video.mp4", 2, "path template 'video.mp4' makes one path for all clips; it needs {clip_id} or"),
        ("--template {label_}/{split}.mp4", 2, "makes one path for all clips"),
        ("--template {clip_id}\n.mp4", 2, "path template '{clip_id}\\n.mp4' contains a line break"),
        ("--template {label}/{clip_id}", 2, "contains the separator ' '; use {label_} for {label}, or another"),
        ("--template {clip_id}.mp4 --separator .", 2, "contains the separator '.'"),
        ("--separator ", 2, "separator '' does not separate the two fields of a line"),
        ("--separator \n", 2, "separator '\\n' does not separate"),
    ],
)  # fmt: skip
def test_what_cannot_be_exported(k710, everything, tmp_path, options, exit_code, message):
    before = files_of(everything.path)
    arguments = ["export", everything.path, "--out", tmp_path / "lists", *options.split(" ")]
    if "--format" not in arguments:
        arguments += ["--format", "slowfast"]
    assert_refused(k710(*arguments), message, exit_code=exit_code)
    assert not (tmp_path / "lists").exists(), "not even the lists that could be written, nor the folder"
    assert files_of(everything.path) == before


def test_an_id_does_not_make_a_line_of_its_own(everything, tmp_path):
    table = view(everything.clips, "k400")
    names = [f"{name}\n/etc/passwd" for name in table["clip_id"].to_pylist()]
    hostile = table.set_column(0, "clip_id", pa.array(names))
    with pytest.raises(ManifestError, match="contains a line break"):
        export(hostile, tmp_path / "out", form="slowfast", splits=("train",))
    assert not (tmp_path / "out").exists()


def test_a_view_without_clips(k710, sample, tmp_path):
    arguments = ("export", sample.path, "--out", tmp_path / "lists", "--format", "csv", "--view", "k700_2020")
    assert_refused(k710(*arguments), "the view has no clips to export", exit_code=2)
    assert_refused(k710(*arguments, "--splits", "val"), "no val clips; it has none at all", exit_code=2)
    assert not (tmp_path / "lists").exists()


@pytest.mark.parametrize("form", FORMS)
def test_files_that_exist_need_force(k710, sample, tmp_path, form):
    suffix = FORMS[form][0]
    (tmp_path / f"val{suffix}").write_text("mine")
    arguments = ("export", sample.path, "--out", tmp_path, "--format", form)
    assert_refused(k710(*arguments), f"{tmp_path / 'val'}{suffix}: exists already; --force replaces it")
    assert files_of(tmp_path) == {f"val{suffix}": b"mine"}
    assert k710(*arguments, "--force").exit_code == 0
    assert set(files_of(tmp_path)) == {f"train{suffix}", f"val{suffix}"}
    assert (tmp_path / f"val{suffix}").read_bytes() != b"mine"


def test_a_folder_that_cannot_be_made(k710, sample, tmp_path):
    (tmp_path / "file").write_text("mine")
    out = tmp_path / "file" / "lists"
    assert_refused(k710("export", sample.path, "--out", out, "--format", "csv"), f"{out}: Not a directory")
    assert k710("export", sample.path, "--out", tmp_path / "file", "--format", "csv").exit_code == 2
    assert files_of(tmp_path) == {"file": b"mine"}


def test_the_same_bytes_every_time(everything, tmp_path):
    for form, (suffix, _) in FORMS.items():
        for folder in ("one", "two"):
            export(view(everything.clips, "k710"), tmp_path / folder / form, form=form)
        one, two = (tmp_path / folder / form / f"train{suffix}" for folder in ("one", "two"))
        assert one.read_bytes() == two.read_bytes()


ROW: dict[str, Any] = dict.fromkeys(TEMPLATE_FIELDS, "x") | {"time_start_s": 1, "time_end_s": 11, "class_id": 5}


@given(st.text("{}[]().:!d03 clip_idx", max_size=30) | st.text().map(lambda text: "{clip_id}" + text))
@pytest.mark.slow
def test_an_accepted_template_can_be_filled_in(template):
    """And asks for nothing but the fields: no attributes, no items, whatever a format string could do."""
    try:
        check_template(template)
    except UsageError:
        return
    template.format(**ROW)
    assert {field for _, field, _, _ in string.Formatter().parse(template) if field is not None} <= set(TEMPLATE_FIELDS)


def test_what_the_command_says(k710, sample, tmp_path):
    result = k710("export", sample.path, "--format", "csv", "--out", tmp_path)
    counts = json.loads((sample.path / "dataset.json").read_text())["counts"]
    assert result.stdout.splitlines() == [
        f"{tmp_path / split}.csv: {counts[split]} clips" for split in ("train", "val")
    ]


def test_a_manifest_is_no_place_for_list_files(k710, sample):
    result = k710("export", sample.path, "--format", "csv", "--out", sample.path)
    assert result.exit_code == 1
    assert result.stderr == f"k710: {sample.path}: is a manifest, which holds nothing else; choose another --out\n"
    assert not list(sample.path.glob("*.csv"))
