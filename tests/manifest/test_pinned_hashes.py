"""The content hashes of datasets that have been published or could have been: they stay, byte for byte.

A hash names a dataset for good: runs, exports and cards cite it. Whatever is moved or rewritten, the same lists and the
same recipe give the same rows in the same columns. Who changes a rule of curation on purpose changes a hash here too
and says so in CHANGELOG.md.
"""

from __future__ import annotations

import csv
import hashlib

import pytest

from k710.manifest.read import open_manifest

ALL = "k400,k600,k700,k700_2020"

OF_THE_SAMPLE = {
    "as the README builds it": (
        (),
        "584da9b5124f5ce541da2ffeffb6a62ff0f9109f9f2956ccce61d51799ea6fd3",
    ),
    "another recipe": (
        ("--recipe", "k710-val-purge"),
        "ba753c0f7cc11971cbb7de4395a9287d51337c392c0721bc02d5019799e18a5e",
    ),
    "all releases and splits": (
        ("--recipe", "k710-strict", "--sources", ALL),
        "8fee5c82d0b3a1ee4216dd4652cf9e33bd4bce9c1ca856aea0d9f747bdfcec6d",
    ),
    "oldest release first": (
        ("--precedence", "k400,k600,k700"),
        "0ac0b61b884268cf26a2378ffa8652529567331d78993ff6fc632619170edb15",
    ),
    "one release": (
        ("--sources", "k600", "--splits", "train,val,test"),
        "047c572849cb0a934babd62991aebf5a732cbf56ecbb2e4ebce14b99de9bc962",
    ),
}

OF_THE_REAL_LISTS = {
    "val": (
        ("--sources", "k400,k600,k700", "--splits", "val"),
        "dafdec63c1e1ff234221009cb13285d164f48fa9d67814dd42862abcf1116a9c",
    ),
    "val and test": (
        ("--splits", "val,test"),
        "df677077f7ae0e49b6c0a2b04726c39584e91c9113683bfff401b5a8febe5d6b",
    ),
    "val, oldest release first": (
        ("--splits", "val", "--precedence", "k400,k600,k700"),
        "3b2d0cf389cee981bfdcbc832df8a00417429f3f0e520084be1466aee75446e2",
    ),
}

# A clip in several lists of one release, under two labels: the table then has a column more.
SEVERAL_SPLITS = {
    "k400_train.csv": [("abseiling", "AAAAAAAAAAA", 0, 10), ("archery", "BBBBBBBBBBB", 3, 9)],
    "k400_val.csv": [("archery", "AAAAAAAAAAA", 0, 10), ("archery", "CCCCCCCCCCC", 1, 11)],
    "k400_test.csv": [("", "CCCCCCCCCCC", 1, 11), ("", "DDDDDDDDDDD", 5, 15)],
}


@pytest.mark.parametrize("name", OF_THE_SAMPLE)
def test_the_sample(k710, tmp_path, name):
    options, expected = OF_THE_SAMPLE[name]
    result = k710("build", "--annotations", "sample", *options, "--out", tmp_path / "m")
    assert result.exit_code == 0, result.output
    assert open_manifest(tmp_path / "m").content_hash == expected


@pytest.mark.parametrize("name", OF_THE_REAL_LISTS)
def test_the_real_lists(k710, real_lists, tmp_path, name):
    options, expected = OF_THE_REAL_LISTS[name]
    result = k710("build", "--annotations", real_lists, *options, "--out", tmp_path / "m")
    assert result.exit_code == 0, result.output
    assert open_manifest(tmp_path / "m").content_hash == expected


def test_a_clip_in_several_splits_and_every_row_s_fate(k710, tmp_path):
    for name, rows in SEVERAL_SPLITS.items():
        with (tmp_path / name).open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("label", "youtube_id", "time_start", "time_end"))
            writer.writerows(rows)
    lists = ("--annotations", tmp_path, "--sources", "k400", "--splits", "train,val,test")
    result = k710("build", *lists, "--fates", tmp_path / "fates.csv", "--out", tmp_path / "m")
    assert result.exit_code == 0, result.output
    manifest = open_manifest(tmp_path / "m")
    assert manifest.clips.column_names[-1] == "k400_class_ids"
    assert manifest.content_hash == "d078dea7adfe7a70864aac2c825dded6b632f67bfd126d8117b5151431bae3dc"
    assert (
        hashlib.sha256((tmp_path / "fates.csv").read_bytes()).hexdigest()
        == "7e891276614d465696f8fedabf964acef2d4dd9ab1f67accdff078be47a6999c"
    )


def test_columns_and_their_order(sample):
    """All four releases have their columns, whichever were read; the hash is taken over them."""
    assert sample.clips.column_names == [
        *("clip_id", "youtube_id", "time_start_s", "time_end_s", "label", "class_id", "other_class_ids", "split"),
        *("drop_reason", "kept_clip_id", "k400_split", "k400_class_id", "k600_split", "k600_class_id", "k700_split"),
        *("k700_class_id", "k700_2020_split", "k700_2020_class_id"),
    ]  # fmt: skip
