"""A manifest that was changed after its build, with hashes made to fit: every door says so, and none crashes."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from k710.errors import ManifestError
from k710.manifest.checks import table_problem
from k710.manifest.read import open_manifest
from k710.manifest.schema import CLIPS_SCHEMA, content_hash


@pytest.fixture
def folder(sample, tmp_path) -> Path:
    shutil.copytree(sample.path, tmp_path / "m")
    return tmp_path / "m"


def forge(folder: Path, row: int = 3, *, fit_content_hash: bool = False, **values: object) -> None:
    """Change values of a row, and the hash of the file with them."""
    (file,) = (folder / "clips").iterdir()
    rows = pa.parquet.read_table(file).to_pylist()
    rows[row] |= values
    clips = pa.Table.from_pylist(rows, schema=CLIPS_SCHEMA)
    pa.parquet.write_table(clips, file)
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    new = file.with_name(f"clips-{sha256[:16]}.parquet")
    file.rename(new)
    about = json.loads((folder / "dataset.json").read_text())
    about["clips"] = [{**about["clips"][0], "file": f"clips/{new.name}", "sha256": sha256}]
    if fit_content_hash:
        about["content_hash"] = content_hash(clips)
    (folder / "dataset.json").write_text(json.dumps(about))


def test_rows_that_have_another_content_hash_are_refused_by_what_publishes_it(k710, folder, tmp_path):
    said = "the rows have content hash"
    forge(folder, split="val")
    assert open_manifest(folder).clips.num_rows, "it has the form of one"
    with pytest.raises(ManifestError, match=said):
        open_manifest(folder).verify()
    for words in (
        ("verify", folder),
        ("card", folder),
        ("report", folder, "--out", tmp_path / "report.html"),
        ("export", folder, "--format", "fiftyone", "--out", tmp_path / "fiftyone"),
        ("export", folder, "--format", "hf", "--out", tmp_path / "hf"),
    ):
        result = k710(*words)
        assert (result.exit_code, said in result.stderr) == (1, True), (words, result.output)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m"]


@pytest.mark.parametrize("fit_content_hash", [False, True])
@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"clip_id": "no clip"}, "row 3: clip_id 'no clip' names no clip; want a YouTube ID of 11 characters"),
        ({"clip_id": None}, "row 3: clip_id None names no clip"),
        ({"clip_id": "../../../etc/passwd"}, "row 3: clip_id '../../../etc/passwd' names no clip"),
        ({"youtube_id": "AAAAAAAAAAA"}, "row 3: youtube_id AAAAAAAAAAA is not what its clip_id"),
        ({"time_end_s": 999}, "row 3: time_end_s 999 is not what its clip_id"),
        ({"time_start_s": None}, "row 3: time_start_s None is not what its clip_id"),
        ({"class_id": 710}, "row 3: class_id 710 is no class of k710, which has 0 to 709"),
        ({"k400_class_id": -2}, "row 3: k400_class_id -2 is no class of k400, which has 0 to 399"),
    ],
)
def test_ids_and_classes_are_looked_at_when_a_table_is_opened(
    k710, folder, tmp_path, values, problem, fit_content_hash
):
    forge(folder, fit_content_hash=fit_content_hash, **values)
    with pytest.raises(ManifestError) as error:
        open_manifest(folder).read_clips()
    assert problem in str(error.value)
    for words in (("verify", folder), ("card", folder), ("fetch", folder, "--from", f"local:{tmp_path}")):
        result = k710(*words)
        assert result.exit_code == 1, words
        assert result.stderr.startswith("k710: ")
        assert "Traceback" not in result.output


def test_a_clip_stands_once_and_in_order(sample):
    clips = sample.clips
    assert table_problem(clips) is None
    assert table_problem(clips.slice(0, 0)) is None
    twice = pa.concat_tables([clips.slice(0, 4), clips.slice(3)])
    name = clips["clip_id"][3].as_py()
    assert table_problem(twice) == f"row 4: clip_id {name} comes after {name}; want each once, in order"
    assert "want each once, in order" in (table_problem(clips.take(list(range(len(clips)))[::-1])) or "")
