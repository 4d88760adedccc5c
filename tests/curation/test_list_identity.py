"""A list that is not what its name says: too few rows, or another release's videos."""

from __future__ import annotations

import gzip
import json
import os
import random
import string
from pathlib import Path

import pyarrow as pa
import pytest

from k710.curation import list_identity
from k710.curation.attrition import list_warnings, why_it_differs
from k710.curation.list_identity import known_marks, marks_text, misnamed, read_marks, shortfalls, video_hashes, whose
from k710.manifest.read import open_manifest
from k710.sources.known import KNOWN_SOURCES

LETTERS = string.ascii_letters + string.digits + "-_"
PUBLISHED = [(source, split) for source in KNOWN_SOURCES for split in ("val", "test")]
RECIPE = {"leak_policy": "train-purge", "holdout": ["val"], "sources": ["k400", "k600", "k700"]}


def entry(source: str, split: str, rows: int) -> dict[str, object]:
    return {"source": source, "split": split, "rows": rows}


def column(ids) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(list(ids), pa.string())])


def hashes(ids) -> set[int]:
    return set(video_hashes(column(ids)).tolist())


@pytest.fixture(scope="module")
def lists():
    """Lists like the published ones: the val lists of K700 and K700-2020 share 97 % of their videos."""
    draw = random.Random(7)
    ids = ["".join(draw.choices(LETTERS, k=11)) for _ in range(80_000)]
    return {
        ("k400", "val"): ids[:20_000],
        ("k600", "val"): ids[6_000:36_000],  # two thirds of K400's are here too
        ("k700", "val"): ids[40_000:75_000],
        ("k700_2020", "val"): ids[41_000:75_200],
    }


@pytest.fixture(scope="module")
def marks(lists):
    return read_marks(marks_text({name: column(ids) for name, ids in lists.items()}))


def test_a_list_is_known_by_any_other_name(lists, marks):
    for true, ids in lists.items():
        for name in [*lists, ("k400", "train"), ("k700_2020", "test")]:
            assert whose(hashes(ids), name, marks) == (None if name == true else true)


@pytest.mark.parametrize("part", [0.5, 0.9])
def test_a_part_of_a_list_is_still_its_own(lists, marks, part):
    for name, ids in lists.items():
        kept = random.Random(1).sample(ids, int(part * len(ids)))
        assert whose(hashes(kept), name, marks) is None


def test_a_list_without_the_videos_that_vanished_before_2020_is_no_list_of_2020(lists, marks):
    kept = sorted({*lists["k700", "val"]} & {*lists["k700_2020", "val"]})
    assert whose(hashes(kept), ("k700", "val"), marks) is None


def test_of_few_videos_nothing_is_said(lists, marks):
    assert whose(hashes(lists["k400", "val"][:1_000]), ("k600", "val"), marks) is None
    assert whose(set(), ("k600", "val"), marks) is None


def test_an_id_has_the_same_hash_everywhere():
    """list_marks.txt was made by these."""
    assert video_hashes(column(["aaaaaaaaaaa", "-_AZaz09xyz"])).tolist() == FIRST_HASHES
    assert video_hashes(column(["aaaaaaaaaab", "-_AZaz09xyz"]).slice(1)).tolist() == FIRST_HASHES[1:]
    assert video_hashes(column([])).tolist() == []


FIRST_HASHES = [676349105, 1665185233]


def test_the_marks_are_of_all_published_val_and_test_lists():
    assert {one for lists in known_marks().values() for one in lists} == set(PUBLISHED)


def test_rows_far_below_a_release():
    whole = [entry("k400", "val", 19_906), entry("k600", "val", 30_000), entry("k700", "train", 545_317)]
    assert shortfalls(whole) == []
    (half,) = shortfalls([*whole[:1], entry("k600", "val", 15_000), entry("k700_2020", "train", 10)])
    assert (half.source, half.split, half.rows, half.published) == ("k600", "val", 15_000, 30_000)
    assert "the list has 15,000 rows, and Kinetics-600 published 30,000" in str(half)
    assert "train may contain them" in str(half)
    assert "Train lacks" in str(shortfalls([*whole, entry("k600", "train", 300_000)])[0])


def test_a_miniature_is_not_far_below_its_release():
    assert shortfalls([entry("k400", "train", 60), entry("k400", "val", 12)]) == []
    assert shortfalls([]) == []
    # One whole list shows that the others should be whole too.
    assert [one.split for one in shortfalls([entry("k400", "train", 246_245), entry("k400", "val", 12)])] == ["val"]


def test_no_upper_bound_of_lists_that_are_not_whole():
    assert "upper bound" in why_it_differs(RECIPE)
    said = why_it_differs(RECIPE, list_warnings([entry("k600", "val", 15_000)], {}))
    assert "upper bound" not in said
    assert "(k600 val)" in said


def test_a_list_of_another_release_is_named_once():
    (warning,) = list_warnings([entry("k700", "val", 34_198)], {"k700 val": "k700_2020 val"}).values()
    assert warning.startswith("k700 val: the videos of this list are those of the val list of Kinetics-700-2020.")


def test_the_sample_has_none(sample, k710):
    assert misnamed(sample.clips) == {}
    assert "misnamed" not in sample.about["counts"]
    assert "Warning" not in k710("audit", sample.path).stderr


def write_lists(folder, real_lists, lines: dict[str, int | None]) -> None:
    folder.mkdir()
    for name, count in lines.items():
        text = (real_lists / f"{name}.csv").read_text().splitlines(keepends=True)
        (folder / f"{name}.csv").write_text("".join(text[:count]))


def test_half_of_a_real_list_is_said_everywhere(k710, real_lists, tmp_path):
    write_lists(tmp_path / "lists", real_lists, {"k400_val": None, "k600_val": 15_001})
    options = ("--sources", "k400,k600", "--splits", "val", "--annotations", tmp_path / "lists")
    result = k710("build", *options, "--out", tmp_path / "m")
    assert result.exit_code == 0
    sentence = "k600 val: the list has 15,000 rows, and Kinetics-600 published 30,000. 15,000 are missing."
    assert f"Warning: {sentence}" in result.stderr
    assert "upper bound" not in result.stdout
    for command in (("audit", *options), ("audit", tmp_path / "m")):
        found = k710(*command, "--json")
        assert found.exit_code == 0
        assert sentence in found.stderr
        assert json.loads(found.stdout)["list_warnings"][0].startswith(sentence)
    stats = k710("stats", tmp_path / "m").stdout
    assert sentence in stats
    assert sentence in k710("card", tmp_path / "m").stdout
    assert "upper bound" not in stats


def test_whole_real_lists_are_what_they_are(k710, real_lists, tmp_path):
    result = k710("build", "--annotations", real_lists, "--splits", "val,test", "--out", tmp_path / "m")
    assert "Warning" not in result.stderr
    assert "upper bound" in result.stdout
    assert "misnamed" not in open_manifest(tmp_path / "m").about["counts"]


def test_a_real_test_list_under_another_name(k710, real_lists, tmp_path):
    """Test lists have no labels: nothing but the videos tells them apart."""
    write_lists(tmp_path / "lists", real_lists, {"k600_test": None})
    (tmp_path / "lists" / "k600_test.csv").rename(tmp_path / "lists" / "k700_test.csv")
    options = ("--sources", "k700", "--splits", "test", "--annotations", tmp_path / "lists")
    found = k710("audit", *options)
    assert "Warning: k700 test: the videos of this list are those of the test list of Kinetics-600." in found.stderr


def test_the_2020_list_under_the_name_of_2019(k710, tmp_path):
    list_2020 = Path(os.environ.get("K710_TEST_OTHER_LISTS", "none")) / "k700_2020_val.csv.gz"
    if not list_2020.exists():
        pytest.skip(f"K710_TEST_OTHER_LISTS has no {list_2020.name}: the real list of 2020 was not tested")
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "k700_val.csv").write_bytes(gzip.decompress(list_2020.read_bytes()))
    options = ("--sources", "k700", "--splits", "val", "--annotations", tmp_path / "lists", "--out", tmp_path / "m")
    result = k710("build", *options)
    assert "k700 val: the videos of this list are those of the val list of Kinetics-700-2020" in result.stderr
    assert open_manifest(tmp_path / "m").about["counts"]["misnamed"] == {"k700 val": "k700_2020 val"}
    assert "upper bound" not in result.stdout


def test_marks_decide_in_a_build(k710, lists, marks, tmp_path, monkeypatch):
    """The same without real lists: the marks are of lists that are made here."""
    monkeypatch.setattr(list_identity, "known_marks", lambda: marks)
    (tmp_path / "lists").mkdir()
    rows = [f"abseiling,{video},0,10,val" for video in lists["k700_2020", "val"]]
    (tmp_path / "lists" / "k700_val.csv").write_text(
        "\n".join(["label,youtube_id,time_start,time_end,split", *rows, ""])
    )
    options = ("--sources", "k700", "--splits", "val", "--annotations", tmp_path / "lists", "--out", tmp_path / "m")
    result = k710("build", *options)
    assert "k700 val: the videos of this list are those of the val list of Kinetics-700-2020" in result.stderr
    again = k710("stats", tmp_path / "m").stdout
    assert "those of the val list of Kinetics-700-2020" in again
