"""The releases' real val and test lists: every figure that was computed of them by other means."""

from __future__ import annotations

import csv
import json

import pytest

from k710.diff.manifests import diff_manifests
from k710.manifest.read import open_manifest


@pytest.fixture(scope="module")
def val(k710, real_lists, tmp_path_factory):
    out = tmp_path_factory.mktemp("real") / "val"
    result = k710("build", "--sources", "k400,k600,k700", "--annotations", real_lists, "--splits", "val", "--out", out)
    assert result.exit_code == 0, result.output
    return open_manifest(out)


@pytest.fixture(scope="module")
def val_and_test(k710, real_lists, tmp_path_factory):
    out = tmp_path_factory.mktemp("real") / "val-test"
    result = k710("build", "--annotations", real_lists, "--splits", "val,test", "--out", out)
    assert result.exit_code == 0, result.output
    return open_manifest(out)


@pytest.fixture(scope="module")
def audit(k710, val_and_test):
    return json.loads(k710("audit", val_and_test.path, "--json").stdout)


def test_val(val):
    counts = val.about["counts"]
    assert counts["rows"] == 84_906
    assert counts["clips"] == 71_126
    assert (counts["train"], counts["val"], counts["classes"]) == (0, 71_047, 710)
    fates = dict.fromkeys(("leaked", "unlabelled", "near_duplicate", "malformed"), 0)
    assert counts["fates"] == fates | {"kept": 71_047, "same_clip": 13_780, "duplicate_id": 79}
    assert counts["conflicts"]["labels_of_one_clip"] == 45


def test_val_and_test(val_and_test):
    counts = val_and_test.about["counts"]
    assert (counts["clips"], counts["videos"]) == (216_254, 215_494)
    assert counts["val"] == 71_047


def test_distinct_ids_of_each_list(audit):
    diagonal = {
        name: row[number]
        for number, (name, row) in enumerate(zip(audit["lists"], audit["overlap"]["by_id"], strict=True))
    }
    assert diagonal == {
        "k400 val": 19_906,
        "k400 test": 38_685,
        "k600 val": 29_994,
        "k600 test": 72_924,
        "k700 val": 34_946,
        "k700 test": 69_700,
    }


@pytest.mark.parametrize(
    ("one", "other", "ids"),
    [
        ("k400 val", "k600 val", 13_569),
        ("k400 val", "k700 val", 209),
        ("k600 val", "k700 val", 38),
        ("k400 val", "k600 test", 450),
        ("k400 val", "k700 test", 93),
        ("k600 val", "k600 test", 28),
        ("k600 val", "k700 test", 13),
        ("k700 val", "k400 test", 4_354),
        ("k700 val", "k600 test", 6_514),
        ("k700 val", "k700 test", 109),
    ],
)
def test_shared_ids(audit, one, other, ids):
    matrix = audit["overlap"]["by_id"]
    assert matrix[audit["lists"].index(one)][audit["lists"].index(other)] == ids
    assert matrix[audit["lists"].index(other)][audit["lists"].index(one)] == ids


def test_unions_and_conflicts(audit):
    assert audit["ids_by_splits"]["val"] == 71_047
    assert audit["ids_by_splits"]["val and test"] == 6_935
    assert audit["conflicts"] == {"labels_of_one_clip": 45, "labels_of_one_id": 110, "spans_of_one_id": 79}
    assert len(audit["conflicting"]["labels_of_one_clip"]) == 45


def test_the_releases_repeat_ids_inside_one_list(val):
    """54 IDs in K700 val, 6 in K600 val, with other spans."""
    counts = {entry["source"]: entry for entry in val.about["counts"]["lists"]}
    assert counts["k700"]["duplicate_id"] == 54
    ids = val.clips.filter(val.clips["k600_split"].is_valid())["youtube_id"]
    assert len(ids) - len(ids.unique()) == 6


def test_the_printed_counts_stand_beside(k710, real_lists, tmp_path):
    result = k710("build", "--annotations", real_lists, "--splits", "val,test", "--out", tmp_path / "m")
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["k400", "val", "19,906", "20,000", "19,787", "+119"] in lines
    assert ["k700", "test", "70,000", "70,000"] in lines  # the paper says nothing of test lists
    assert ["K710", "val", "71,047", "66,803", "+4,244"] in lines
    assert not any(line[:2] == ["K710", "train"] for line in lines)
    assert "counts no vanished one" in result.stdout


def test_a_plain_build_names_the_three_missing_lists_and_writes_nothing(k710, real_lists, tmp_path):
    result = k710("build", "--sources", "k400,k600,k700", "--annotations", real_lists, "--out", tmp_path / "m")
    assert result.exit_code == 1
    assert "3 lists are missing: k400_train.csv, k600_train.csv, k700_train.csv" in result.stderr
    assert list(tmp_path.iterdir()) == []


def rows_of(path):
    columns = ("label", "youtube_id", "time_start", "time_end", "split")
    with path.open(newline="") as file:
        return sorted([row.get(column, "") for column in columns] for row in csv.DictReader(file))


@pytest.mark.slow
def test_views_are_the_releases_row_for_row(val_and_test, real_lists, k710, tmp_path):
    for release in ("k400", "k600", "k700"):
        out = tmp_path / release
        result = k710("export", val_and_test.path, "--format", "csv", "--view", release, "--out", out)
        assert result.exit_code == 0, result.output
        for split in ("val", "test"):
            assert rows_of(out / f"{split}.csv") == rows_of(real_lists / f"{release}_{split}.csv")


def test_what_the_order_of_precedence_decides(k710, real_lists, val, tmp_path):
    """Oldest release first: 20 videos give another clip, and 45 clips another class, which K400 calls "baby waking up"
    and K600 "waking up"; K700 has both."""
    options = ("--splits", "val", "--precedence", "k400,k600,k700", "--out", tmp_path / "m")
    assert k710("build", "--annotations", real_lists, "--sources", "k400,k600,k700", *options).exit_code == 0
    found = diff_manifests(val, open_manifest(tmp_path / "m"))
    assert {name: count for name, count in found.changes.items() if count} == {
        "gained": 20, "lost": 20, "relabelled": 45,
    }  # fmt: skip
    assert {(move.a, move.b): (move.clips, move.same_video) for move in found.moves} == {
        ("val", "val"): (45, 0),
        ("val", "duplicate_id"): (20, 20),
        ("duplicate_id", "val"): (20, 20),
    }
    relabelled = [row for row in found.clips.to_pylist() if row["change"] == "relabelled"]
    assert {(row["label_a"], row["label_b"]) for row in relabelled} == {("waking up", "baby waking up")}
