"""A manifest that describes a union of its own, changed by someone: it is refused, and says what is wrong."""

from __future__ import annotations

import json

import pytest

from k710.errors import ManifestError
from k710.manifest.read import open_manifest
from k710.sources.unions import as_plain, from_plain
from tests.helpers.union_lists import write_union

LIST = "id,label,split\na,run,train\nb,walk,val\n"
UNION = "name: mix\nmembers: [mine: mine.csv, yours: yours.csv]\nsame_names: merge\n"


@pytest.fixture
def folder(k710, tmp_path):
    for name in ("mine.csv", "yours.csv"):
        (tmp_path / name).write_text(LIST)
    result = k710("build", "--union", write_union(tmp_path, UNION), "--out", tmp_path / "m")
    assert result.exit_code == 0, result.output
    return tmp_path / "m"


def forge(folder, **values):
    path = folder / "dataset.json"
    about = json.loads(path.read_text())
    about["union"] |= values
    path.write_text(json.dumps(about))


def test_as_it_is_built_it_opens(folder):
    manifest = open_manifest(folder)
    manifest.verify()
    union = manifest.catalogue.union
    assert (union.classes, dict(union.class_maps)) == (("run", "walk"), {"mine": (0, 1), "yours": (0, 1)})
    assert from_plain(json.loads(json.dumps(as_plain(union)))) == union


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "../x"}, "cannot be called '../x'"),
        ({"name": "k400"}, "a union cannot be called 'k400'; that is the name of another data set"),
        ({"name": "mine"}, "a union cannot be called 'mine'"),
        ({"title": 3}, "its name or its title is not text"),
        ({"title": "\x1b[2J"}, "its title or a class has control characters"),
        ({"classes": ["run", "\x1b[2J"]}, "its title or a class has control characters"),
        ({"classes": ["run", "run"]}, "classes is not a list of different names"),
        ({"classes": []}, "classes is not a list of different names"),
        ({"classes": ["run", 3]}, "classes is not a list of names"),
        ({"members": ["mine"]}, "members, precedence and all_clips do not name the same sources"),
        ({"members": ["mine", "nobody"], "precedence": ["nobody", "mine"],
          "class_maps": {"mine": [0, 1], "nobody": [0]}}, "the union mix names 'nobody'; known: k400"),
        ({"precedence": ["mine", "mine"]}, "members, precedence and all_clips do not name the same sources"),
        ({"all_clips": ["k400"]}, "members, precedence and all_clips do not name the same sources"),
        ({"class_maps": {"mine": [0, 1]}}, "class_maps does not have one list for each member"),
        ({"class_maps": {"mine": [0, 2], "yours": [0, 1]}}, "class_maps of mine is not a list of classes from 0 to 1"),
        ({"class_maps": {"mine": [0], "yours": [0, 1]}}, "class_maps of mine has 1 classes, and the source 2"),
        ({"holdout": {"k400": ["all"]}}, r"holdout does not give splits \(train, val, test\) by source"),
        ({"holdout": ["val"]}, "holdout does not give splits"),
        ({"holdout": {"nobody": ["val"]}}, "the union mix names 'nobody'; known: k400"),
        ({"more": 1}, "a union has name, title, members"),
    ],
)  # fmt: skip
def test_a_description_that_cannot_be(folder, values, message):
    forge(folder, **values)
    for attribute in ("clips", "catalogue", "labels"):
        with pytest.raises(ManifestError, match=f"dataset.json is damaged: its union: .*{message}"):
            getattr(open_manifest(folder), attribute)


def test_a_class_that_the_union_lacks(folder):
    forge(folder, classes=["run"], class_maps={"mine": [0, 0], "yours": [0, 0]})
    with pytest.raises(ManifestError, match="class_id 1 is no class of mix, which has 0 to 0"):
        _ = open_manifest(folder).clips
