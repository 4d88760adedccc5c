"""`k710 doubts --apply`: a reviewed file leaves train clips out, and says so everywhere; anything else is refused."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest

from k710.manifest.read import open_manifest

TRAIN = "two-labels1_000008_000018"  # of the sample: contradicted by another list
VAL = "two-labels0_000033_000043"


@pytest.fixture
def manifest(sample, tmp_path) -> Path:
    return Path(shutil.copytree(sample.path, tmp_path / "m"))


@pytest.fixture
def review(k710, manifest, tmp_path):
    """Writes the review of the sample with these verdicts; returns its path."""

    def write(verdicts: dict[str, str], **changes: str) -> Path:
        path = tmp_path / "review.csv"
        assert k710("doubts", manifest, "--csv", path).exit_code == 0
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        for row in rows:
            row["verdict"] = verdicts.get(row["clip_id"], "")
            if row["clip_id"] in verdicts:
                row |= changes
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0].keys())
            writer.writeheader()
            writer.writerows(rows)
        return path

    return write


def test_a_dropped_clip_is_out_of_train_and_every_page_says_so(k710, manifest, review):
    before = open_manifest(manifest)
    result = k710("doubts", manifest, "--apply", review({TRAIN: "Drop", VAL: "keep"}))
    assert result.exit_code == 0, result.output
    assert "Applied: 1 clip is out of train." in result.stdout
    after = open_manifest(manifest)
    assert after.content_hash != before.content_hash
    (clip,) = [row for row in after.clips.to_pylist() if row["clip_id"] == TRAIN]
    assert (clip["split"], clip["drop_reason"], clip["kept_clip_id"]) == (None, "doubtful_label", None)
    counts, old = after.about["counts"], before.about["counts"]
    assert counts["train"] == old["train"] - 1
    assert counts["fates"]["doubtful_label"] == old["fates"]["kept"] - counts["fates"]["kept"] > 0
    for entry in counts["lists"]:
        assert sum(value for key, value in entry.items() if key in counts["fates"]) == entry["rows"]
    assert after.about["doubtful_labels"]["dropped"] == 1
    told = k710("explain", TRAIN, "--manifest", manifest).stdout
    assert "doubtful_label: a review of its label left it out" in told
    assert "left out (doubtful_label)" in told
    assert "doubtful label" in k710("stats", manifest).stdout
    after.verify()
    assert open_manifest(f"{manifest}@{before.content_hash[:16]}").content_hash == before.content_hash


def test_the_last_review_alone_counts(k710, manifest, review):
    before = open_manifest(manifest).content_hash
    drop = review({TRAIN: "drop"})
    assert k710("doubts", manifest, "--apply", drop).exit_code == 0
    dropped = open_manifest(manifest).content_hash
    again = k710("doubts", manifest, "--apply", drop)
    assert "Nothing to apply: the 1 clip is out of train already." in again.stdout
    assert open_manifest(manifest).content_hash == dropped
    back = k710("doubts", manifest, "--apply", review({TRAIN: "keep"}))
    assert back.exit_code == 0, back.output
    assert open_manifest(manifest).content_hash == before
    assert "doubtful_labels" not in json.loads((manifest / "dataset.json").read_bytes())


@pytest.mark.parametrize(
    ("verdicts", "changes", "text"),
    [
        ({TRAIN: "wrong"}, {}, "verdict 'wrong': want drop, keep or nothing"),
        ({VAL: "drop"}, {}, "is in val; only train clips are dropped, a benchmark stays"),
        ({TRAIN: "drop"}, {"label": "archery"}, "now, not 'archery'; review it anew"),
        ({TRAIN: "drop"}, {"clip_id": "never-heard_000000_000010"}, "no clip 'never-heard_000000_000010'"),
    ],
)
def test_what_is_no_verdict_is_refused_with_its_line(k710, manifest, review, verdicts, changes, text):
    before = open_manifest(manifest).content_hash
    path = review(verdicts, **changes)
    result = k710("doubts", manifest, "--apply", path)
    assert result.exit_code == 1
    assert f"{path}: line " in result.stderr
    assert text in result.stderr
    assert open_manifest(manifest).content_hash == before


def test_files_that_are_no_reviews(k710, manifest, tmp_path):
    for content, text in (
        (b"clip_id,label\n", "no column verdict"),
        (b"", "no column clip_id"),
        (b"clip_id,label,verdict\n\xff", "not UTF-8"),
        (b"clip_id,label,verdict\na,b,keep\na,b,drop\n", "has another verdict above"),
    ):
        (tmp_path / "r.csv").write_bytes(content)
        result = k710("doubts", manifest, "--apply", tmp_path / "r.csv")
        assert result.exit_code == 1, content
        assert text in result.stderr
    assert k710("doubts", manifest, "--apply", tmp_path / "missing.csv").exit_code == 1
    assert k710("doubts", manifest, "--apply", tmp_path / "r.csv", "--json").exit_code == 2


def test_an_earlier_version_is_not_changed(k710, manifest, review):
    before = open_manifest(manifest).content_hash
    path = review({TRAIN: "drop"})
    assert k710("doubts", manifest, "--apply", path).exit_code == 0
    result = k710("doubts", f"{manifest}@{before[:16]}", "--apply", path)
    assert result.exit_code == 2
    assert "only the current version can be changed" in result.stderr
