"""`k710 near-duplicates A --against B`: planted copies under other IDs are found across two datasets."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from k710.near_duplicates.across import ACROSS_SCHEMA
from k710.near_duplicates.hashed_clips import video_codes
from k710.near_duplicates.same_bytes import same_bytes_across
from k710.sample.copies import COPIES
from tests.helpers.planted_copies import Planted, planted_manifest
from tests.helpers.tiny_media import files_under

WAYS = ("encoded anew, crf 32", "mirrored", "cropped by 10 %")
TRAIN = [
    *(Planted(f"copied-{n:04d}", "train", f"video {n}") for n in range(3)),
    Planted("cropped-000", "train", "video 3", COPIES["cropped by 10 %"]),
    Planted("of-both-000", "train", "video 4"),
    Planted("only-here-0", "train", "video 5"),
    Planted("val-of-here", "val", "video 6"),
]
BENCHMARK = [
    *(Planted(f"copy-{n}-abcd", "val", f"video {n}", COPIES[way]) for n, way in enumerate(WAYS)),
    Planted("whole-00000", "val", "video 3"),
    Planted("of-both-000", "val", "video 4"),
    Planted("only-there0", "train", "video 7"),
]
EXPECTED = {
    ("copied-0000_000010_000018", "copy-0-abcd_000010_000018", False),
    ("copied-0001_000010_000018", "copy-1-abcd_000010_000018", True),
    ("copied-0002_000010_000018", "copy-2-abcd_000010_000018", False),
    ("cropped-000_000010_000018", "whole-00000_000010_000018", False),
}


@pytest.fixture(scope="module")
def both(tmp_path_factory, k710) -> tuple[Path, Path]:
    """The two manifests with their stores, compared once; not to be changed."""
    one = planted_manifest(k710, tmp_path_factory.mktemp("one"), TRAIN)
    other = planted_manifest(k710, tmp_path_factory.mktemp("other"), BENCHMARK)
    result = k710("near-duplicates", one, "--against", other, "--workers", 2)
    assert result.exit_code == 0, result.output
    return one, other


def test_copies_under_other_ids_are_found_and_nothing_else(k710, both):
    found = json.loads(k710("near-duplicates", both[0], "--against", both[1], "--json").stdout)
    assert {(row["clip_id"], row["other_clip_id"], row["mirrored"]) for row in found["pairs"]} == EXPECTED
    assert {(row["split"], row["other_split"]) for row in found["pairs"]} == {("train", "val")}
    assert found["counts"]["by_split"] == {"train x val": {"pairs": 4, "clips": 4, "other_clips": 4}}
    assert found["counts"]["same_videos"] == 1
    assert found["counts"]["compared"] == [7, 6]


def test_the_other_way_round_gives_the_same_pairs(k710, both):
    found = json.loads(k710("near-duplicates", both[1], "--against", both[0], "--json").stdout)
    assert {(row["other_clip_id"], row["clip_id"], row["mirrored"]) for row in found["pairs"]} == EXPECTED
    there = json.loads(k710("near-duplicates", both[0], "--against", both[1], "--json").stdout)
    shifts = {(row["other_clip_id"], row["clip_id"]): -row["shift_s"] for row in found["pairs"]}
    assert shifts == {(row["clip_id"], row["other_clip_id"]): row["shift_s"] for row in there["pairs"]}


def test_what_is_printed_and_written(k710, both, tmp_path):
    before = files_under(both[0]), files_under(both[1])
    result = k710("near-duplicates", both[0], "--against", both[1], "--pairs", tmp_path / "pairs.parquet")
    assert result.exit_code == 0, result.output
    assert "train x val       4            4             4" in result.stdout
    assert "1 YouTube video is in both" in result.stdout
    table = pa.parquet.read_table(tmp_path / "pairs.parquet")
    assert table.schema.equals(ACROSS_SCHEMA)
    assert len(table) == 4
    assert k710("near-duplicates", both[0], "--against", both[1], "--pairs", tmp_path / "p.csv").exit_code == 0
    assert len((tmp_path / "p.csv").read_text().splitlines()) == 5
    assert (files_under(both[0]), files_under(both[1])) == before  # no manifest has pairs of another


def test_a_dataset_against_itself_shares_its_videos_and_has_no_pairs(k710, both):
    found = json.loads(k710("near-duplicates", both[0], "--against", both[0], "--json").stdout)
    assert (found["pairs"], found["counts"]["same_videos"]) == ([], 7)


def test_equal_bytes_are_a_pair_even_where_nothing_can_be_seen():
    sha256 = pa.chunked_array([["a", "b", "c"], ["b", "a", "b", None]])
    video = video_codes(pa.array(["v", "w", "x", "w", "y", "z", "q"]))
    found = same_bytes_across(sha256, video, 3)
    assert [(match.clip, match.other, match.distance) for match in found] == [(0, 4, 0.0), (1, 5, 0.0)]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--against", "B", "--apply"), "--apply and --against cannot be combined"),
        (("--against-splits", "val"), "need --against"),
        (("--pairs", "p.csv"), "need --against"),
        (("--against", "B", "--pairs", "p.txt"), "must end in .csv or .parquet"),
        (("--against", "B", "--pairs", "A/p.csv"), "must not hold other files"),
        (("--against", "nothing-there"), "nothing-there"),
    ],
)
def test_wrong_usage(k710, both, options, text):
    named = [str(both[0] / option[2:]) if option.startswith("A/") else option for option in options]
    named = [str(both[1]) if option == "B" else option for option in named]
    result = k710("near-duplicates", both[0], *named)
    assert result.exit_code in (1, 2)
    assert text in result.stderr


def test_a_dry_run_says_what_each_side_would_decode(k710, both, tmp_path):
    one = Path(shutil.copytree(both[0], tmp_path / "one"))
    shutil.rmtree(one / "store" / "signatures")
    result = k710("near-duplicates", one, "--against", both[1], "--dry-run")
    assert "7 have no signature yet" in result.stdout
    assert "0 have no signature yet" in result.stdout
    assert not (one / "store" / "signatures").exists()
