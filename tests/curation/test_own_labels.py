"""Two labels of one clip in one list of a source beside Kinetics: counted, named, and the first counts."""

from __future__ import annotations

import csv
import json

import pytest

LISTS = "file,label,start,end,split\n"
LISTS += "a.mp4,wash,0,5,train\na.mp4,cut,0,5,train\na.mp4,wash,0,5,train\n"  # two labels, one of them twice
LISTS += "a.mp4,cut,5,9,train\n"  # another clip of the video
LISTS += "b.mp4,wash,0,5,train\nb.mp4,cut,0,5,val\n"  # in two lists, which is no conflict of one


@pytest.fixture
def manifest(k710, tmp_path):
    (tmp_path / "mine.csv").write_text(LISTS)
    options = ("--annotations", "sample", "--out", tmp_path / "m", "--fates", tmp_path / "fates.csv")
    result = k710("build", "--sources", "k400", "--sources", f"mine={tmp_path / 'mine.csv'}", *options)
    assert result.exit_code == 0, result.output
    named = "mine train: mine~a_000000_000005 is labelled 'cut' and 'wash'; the first counts"
    assert named in result.stderr
    assert "Conflicts: 1 clip carries two labels at one span" in result.stdout
    return tmp_path / "m"


def test_fates_name_both_labels_and_the_row_that_does_not_count(manifest, tmp_path):
    rows = [row for row in csv.DictReader((tmp_path / "fates.csv").read_text().splitlines()) if row["source"] == "mine"]
    found = sorted((int(row["line"]), row["label"], row["fate"]) for row in rows)
    assert found == [
        (2, "wash", "same_clip"),
        (3, "cut", "other_classes"),
        (4, "wash", "same_clip"),
        (5, "cut", "other_classes"),
        (6, "wash", "other_classes"),
        (7, "cut", "other_classes"),
    ]
    counts = json.loads((manifest / "dataset.json").read_text())["counts"]
    (of_train,) = [one for one in counts["lists"] if (one["source"], one["split"]) == ("mine", "train")]
    assert (of_train["rows"], of_train["same_clip"], of_train["other_classes"]) == (5, 2, 3)


def test_audit_names_them_in_a_manifest_and_in_lists(k710, manifest, tmp_path):
    conflict = {"clip_id": "mine~a_000000_000005", "source": "mine", "split": "train", "labels": ["cut", "wash"]}
    sources = ("--annotations", "sample", "--sources", "k400", "--sources", f"mine={tmp_path / 'mine.csv'}")
    for where in ((manifest,), sources):
        found = json.loads(k710("audit", *where, "--json").stdout)
        assert found["conflicting"]["labels_in_one_list"] == [conflict]
        assert found["conflicting"]["labels_of_one_clip"] == ["mine~a_000000_000005"]
        assert found["conflicts"]["labels_of_one_clip"] == 1
    assert "Conflicts: 1 clip with several labels" in k710("audit", manifest).stdout


def test_explain_and_stats_say_it(k710, manifest):
    story = k710("explain", "--manifest", manifest, "mine~a_000000_000005").stdout
    assert "the train list of mine labels it 'cut' and 'wash'; the first counts" in story
    assert "labels it" not in k710("explain", "--manifest", manifest, "mine~b_000000_000005").stdout
    assert (
        "Clips with several labels in one list of their source; the first counts (1)" in k710("stats", manifest).stdout
    )


def test_a_manifest_without_such_clips_says_nothing_of_them(k710, tmp_path):
    result = k710("build", "--sources", "k400,k600", "--annotations", "sample", "--out", tmp_path / "m")
    assert result.exit_code == 0, result.output
    assert "labels_in_one_list" not in (tmp_path / "m" / "dataset.json").read_text()


def test_a_path_with_a_comma(k710, tmp_path, monkeypatch):
    """Written with a backslash, as for --from, and beside another --sources."""
    folder = tmp_path / "a, b"
    folder.mkdir()
    (folder / "mine.csv").write_text(LISTS)
    escaped = str(folder / "mine.csv").replace(",", "\\,")
    for number, given in enumerate(((f"k400,mine={escaped}",), ("k400", "--sources", f"mine={escaped}"))):
        result = k710("build", "--sources", *given, "--annotations", "sample", "--out", tmp_path / str(number))
        assert result.exit_code == 0, result.output
    monkeypatch.setenv("K710_BUILD_SOURCES", f"k400,mine={escaped}")
    assert k710("build", "--annotations", "sample", "--out", tmp_path / "env").exit_code == 0
    refused = k710("build", "--sources", f"k400,mine={folder / 'mine.csv'}", "--annotations", "sample")
    assert refused.exit_code != 0
    assert "\\," in refused.stderr, "the message says how a comma is written"
