"""`k710 doubts`: planted contradictions of three kinds, and nothing else."""

from __future__ import annotations

import csv
import json
import shutil

import pyarrow as pa
import pytest

from k710.doubts.find import Witness, find_doubts
from k710.evaluation.files import read_predictions
from k710.lists.labels import class_names
from k710.manifest.pairs import PAIRS_SCHEMA, write_pairs
from k710.manifest.read import open_manifest
from tests.cli.test_bad_input import assert_refused
from tests.compare.test_compare import of_k710
from tests.helpers.small_stores import LABELS, clips_of, manifest_of

K400 = class_names("k400")


@pytest.fixture(scope="module")
def planted(k710, tmp_path_factory):
    """A manifest of 40 K400 clips, and a model that contradicts clips 3 and 7 of them."""
    folder = tmp_path_factory.mktemp("doubts")
    clips = clips_of(40, "val")
    manifest = open_manifest(manifest_of(k710, folder, clips))
    rows = {}
    for number, clip in enumerate(clips):
        label = K400.index(clip.label)
        rows[clip.clip_id] = (K400.index(LABELS[0]) if number in (3, 7) else label, label)
    trained = [{"view": "k400", "manifest": "ab", "clips": 2, "scores_of_others": {}}]
    run = of_k710(folder / "run.parquet", rows | {"absent-0000_000001_000003": (0, 1)}, trained_on=trained)
    return manifest, [clip.clip_id for clip in clips], run


def pair(manifest, one: str, other: str) -> None:
    row = {"distance": [3.0], "shift_s": [0.0], "mirrored": [False], "group": [0]}
    row |= {"clip_id": [one], "other_clip_id": [other], "drop_clip_id": [None], "kept_clip_id": [None]}
    write_pairs(manifest, pa.table(row, schema=PAIRS_SCHEMA), {}, [manifest.content_hash])


def test_a_model_and_the_same_footage(planted, tmp_path):
    manifest, ids, run = planted
    shutil.copytree(manifest.path, tmp_path / "m")
    copied = open_manifest(tmp_path / "m")
    pair(copied, ids[3], ids[8])  # riding a mountain bike, and abseiling
    doubts = find_doubts(copied, [(run, read_predictions(run))])
    assert [doubt.clip_id for doubt in doubts.found] == [ids[3], ids[7], ids[8]]
    first, model_alone, footage_alone = doubts.found
    assert (first.label, first.suggested, first.kinds) == (LABELS[3], (LABELS[0],), ("model", "near-duplicate"))
    assert first.witnesses == (
        Witness("model", str(run), LABELS[0], 1.0),
        Witness("near-duplicate", ids[8], LABELS[0]),
    )
    assert model_alone.kinds == ("model",)
    assert (footage_alone.label, footage_alone.suggested, footage_alone.margin) == (LABELS[0], (LABELS[3],), 0)
    assert doubts.counts == {"model": 2, "release": 0, "near-duplicate": 2}
    assert doubts.num_labelled == 40
    (note,) = doubts.notes
    assert "was trained on the videos of 2 clips of these" in note


def test_the_same_footage_with_one_label_is_no_contradiction(planted, tmp_path):
    manifest, ids, _ = planted
    shutil.copytree(manifest.path, tmp_path / "m")
    pair(open_manifest(tmp_path / "m"), ids[0], ids[4])
    assert find_doubts(open_manifest(tmp_path / "m")).found == ()


def test_other_lists_of_the_sample(sample):
    """The sample has one clip that two releases label differently."""
    doubts = find_doubts(sample)
    found = {doubt.clip_id: doubt for doubt in doubts.found}
    two = found["two-labels0_000033_000043"]
    assert (two.split, two.label, two.suggested, two.kinds) == ("val", "archery", ("abseiling",), ("release",))
    conflicts = sample.about["counts"]["conflicts"]["labels_of_one_clip"]
    assert doubts.counts["release"] == len(found) == conflicts
    assert "near-duplicates were not looked for" in doubts.notes[0]


def test_the_real_val_lists(k710, real_lists, tmp_path):
    """45 clips carry two labels at one span, as `k710 build` counts them."""
    options = ("--annotations", real_lists, "--splits", "val", "--out", tmp_path / "m")
    assert k710("build", "--sources", "k400,k600,k700", *options).exit_code == 0
    assert find_doubts(open_manifest(tmp_path / "m")).counts == {"model": 0, "release": 45, "near-duplicate": 0}


def test_the_command(k710, planted, tmp_path):
    manifest, ids, run = planted
    before = manifest.content_hash
    result = k710("doubts", manifest.path, "--predictions", run, "--csv", tmp_path / "d.csv", "--top", 1)
    assert result.exit_code == 0, result.output
    assert "and 1 more (--csv FILE writes all)" in result.stdout
    assert "The label of 2 of 40 labelled clips is contradicted: 2 by a model." in result.stdout
    with (tmp_path / "d.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["clip_id"] for row in rows] == [ids[3], ids[7]]
    assert (rows[0]["suggested"], rows[0]["kinds"], rows[0]["verdict"]) == (LABELS[0], "model", "")
    data = json.loads(k710("doubts", manifest.path, "--predictions", run, "--json").stdout)
    assert data["counts"]["model"] == 2
    assert [(clip["clip_id"], clip["suggested"]) for clip in data["clips"]] == [
        (ids[3], [LABELS[0]]),
        (ids[7], [LABELS[0]]),
    ]
    assert open_manifest(manifest.path).content_hash == before


def test_what_is_refused(k710, planted, tmp_path):
    manifest, ids, _ = planted
    assert_refused(k710("doubts", tmp_path), "no manifest there")
    inside = ("--csv", manifest.path / "d.csv")
    assert_refused(k710("doubts", manifest.path, *inside), "which must not hold other files", exit_code=2)
    narrow = of_k710(tmp_path / "a.parquet", {ids[0]: (0, 0)}, view="k400")
    about = json.dumps({"view": "k600", "split": "val"}).encode()
    table = pa.parquet.read_table(narrow).replace_schema_metadata({b"k710": about})
    pa.parquet.write_table(table, narrow)
    assert_refused(k710("doubts", manifest.path, "--predictions", narrow), "has 400 classes, k600 has 600", exit_code=2)
    odd = of_k710(tmp_path / "c.parquet", {ids[0]: (0, 999)})
    assert_refused(k710("doubts", manifest.path, "--predictions", odd), "a class that k400 has not", exit_code=2)
    foreign = of_k710(tmp_path / "b.parquet", {"absent-0000_000001_000003": (0, 1)})
    result = k710("doubts", manifest.path, "--predictions", foreign)
    assert (result.exit_code, "has no labelled clip of this manifest" in result.stderr) == (0, True)
