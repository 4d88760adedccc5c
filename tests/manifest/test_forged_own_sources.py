"""A manifest that describes sources of its own, changed by someone: it is refused, and says what is wrong."""

from __future__ import annotations

import hashlib
import json
import shutil

import pyarrow as pa
import pyarrow.parquet
import pytest

from k710.errors import ManifestError
from k710.manifest.read import open_manifest

LIST = "id,label,start,end,split\na,run,0.5,2,train\na,walk,3,4.25,train\nb,run,1,2.5,val\n"


@pytest.fixture
def folder(k710, tmp_path):
    (tmp_path / "mine.csv").write_text(LIST)
    result = k710("build", "--sources", f"mine={tmp_path / 'mine.csv'}", "--out", tmp_path / "m")
    assert result.exit_code == 0, result.output
    return tmp_path / "m"


def forge_source(folder, **values):
    path = folder / "dataset.json"
    about = json.loads(path.read_text())
    about["own_sources"][0] |= values
    path.write_text(json.dumps(about))


def forge_row(folder, row, **values):
    (file,) = (folder / "clips").iterdir()
    table = pa.parquet.read_table(file)
    rows = table.to_pylist()
    rows[row] |= values
    pa.parquet.write_table(pa.Table.from_pylist(rows, schema=table.schema), file)
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    new = file.rename(file.with_name(f"clips-{sha256[:16]}.parquet"))
    about = json.loads((folder / "dataset.json").read_text())
    about["clips"] = [{**about["clips"][0], "file": f"clips/{new.name}", "sha256": sha256}]
    (folder / "dataset.json").write_text(json.dumps(about))


def test_as_it_is_built_it_opens(folder):
    manifest = open_manifest(folder)
    manifest.verify()
    assert manifest.clips["clip_id"].to_pylist() == [
        "mine~a_000000500_000002000",
        "mine~a_000003000_000004250",
        "mine~b_000001000_000002500",
    ]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "../x"}, "a source cannot be called '../x'"),
        ({"name": "k400"}, "cannot be called 'k400'; that is the name of another"),
        ({"id_space": "a/b"}, "a source cannot be called 'a/b'"),
        ({"title": 3}, "a value of an own source is not text"),
        ({"ids": "any"}, "ids 'any', spans 'fractional'"),
        ({"colour": "red; x"}, "colour 'red; x' is not of the form #RRGGBB"),
        ({"title": "\x1b[2J"}, "a value of an own source has control characters"),
        ({"classes": ["run", "\x1b[2J"]}, "a class has control characters in its name"),
        ({"classes": []}, "classes is not a list of names"),
        ({"classes": ["run", 3]}, "classes is not a list of names"),
        ({"union_classes": [1]}, "union_classes is not a list of one number for each class"),
        ({"union_classes": [0, 710]}, "union_classes is not"),
        ({"union_classes": [-1, 3]}, "union_classes is not"),
        ({"more": 1}, "an own source has name, title"),
    ],
)
def test_a_description_that_cannot_be(folder, values, message):
    forge_source(folder, **values)
    for attribute in ("clips", "catalogue", "sources"):
        with pytest.raises(ManifestError, match=f"dataset.json is damaged: its own_sources: .*{message}"):
            getattr(open_manifest(folder), attribute)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"youtube_id": "mine~c"},
            "row 0: clip_id mine~a_000000500_000002000 is not what its ID and span say, mine~c_",
        ),
        ({"time_end_s": 2.5}, "is not what its ID and span say, mine~a_000000500_000002500"),
        ({"time_start_s": None, "time_end_s": None}, "is not what its ID and span say, mine~a"),
        ({"time_end_s": None}, "row 0: time_start_s 0.5 and time_end_s None are no span"),
        ({"time_start_s": 5.0}, "row 0: time_start_s 5.0 and time_end_s 2.0 are no span"),
        ({"clip_id": "mine/../a"}, "row 0: clip_id 'mine/../a' names no clip; want a YouTube ID or SOURCE~ID"),
        ({"clip_id": "mine~z"}, "row 1: clip_id mine~a_000003000_000004250 comes after mine~z"),
        ({"mine_class_id": 2}, "row 0: mine_class_id 2 is no class of mine, which has 0 to 1"),
    ],
)
def test_rows_that_cannot_be(folder, values, message):
    forge_row(folder, 0, **values)
    with pytest.raises(ManifestError) as caught:
        _ = open_manifest(folder).clips
    assert message in str(caught.value)


def test_kinetics_manifests_have_no_names_of_the_new_forms(sample, tmp_path):
    """Without own sources, an ID of another form is damage, as it was."""
    shutil.copytree(sample.path, tmp_path / "m")
    forge_row(tmp_path / "m", 0, clip_id="mine~a")
    with pytest.raises(ManifestError, match="want a YouTube ID of 11 characters"):
        _ = open_manifest(tmp_path / "m").clips
