"""The releases' real val and test lists: what they are, and how they leak into one another; figures of other means."""

from __future__ import annotations

import json
import os
import random
import subprocess
from pathlib import Path

import pytest

from k710.identify.known_copies import known_copies

LISTS = [f"{source}_{split}" for source in ("k400", "k600", "k700") for split in ("val", "test")]


@pytest.fixture(scope="module")
def manifest(k710, real_lists, tmp_path_factory):
    out = tmp_path_factory.mktemp("real") / "manifest"
    result = k710("build", "--annotations", real_lists, "--splits", "val,test", "--out", out)
    assert result.exit_code == 0, result.output
    return out


def other_list(name):
    folder = os.environ.get("K710_TEST_OTHER_LISTS")
    if not folder or not (Path(folder) / name).is_file():
        pytest.skip(f"K710_TEST_OTHER_LISTS has no {name}: it was not tested")
    return Path(folder) / name


def identified(k710, *arguments):
    result = k710("identify", *arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_each_list_is_itself_and_the_published_copy(k710, real_lists, manifest):
    things = [real_lists / f"{name}.csv" for name in LISTS]
    for name, found in zip(LISTS, identified(k710, *things, "--manifest", manifest), strict=True):
        assert (found["is_of"], found["missing"]) == (name.replace("_", ":"), 0)
        (copy,) = found["copies"]
        assert (copy["same"], copy["known"]["copy"]) == ("clips", "published list")
        assert f"{copy['known']['release']}_{copy['known']['split']}" == name


def test_without_a_reference_the_marks_tell(k710, real_lists, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where there is no manifest
    found = identified(k710, *(real_lists / f"{name}.csv" for name in LISTS))
    assert [one["is_of"] for one in found] == [name.replace("_", ":") for name in LISTS]
    assert {fit["by"] for one in found for fit in one["fits"]} == {"mark"}


def test_a_tenth_of_a_list_and_too_few_of_it(k710, real_lists, manifest, tmp_path):
    rows = (real_lists / "k700_val.csv").read_text().splitlines()
    picked = random.Random(710).sample(rows[1:], 3_500)
    (tmp_path / "tenth.csv").write_text("\n".join([rows[0], *picked]))
    (tmp_path / "few.csv").write_text("\n".join([rows[0], *picked[:4]]))
    tenth, few = identified(k710, tmp_path / "tenth.csv", tmp_path / "few.csv", "--manifest", manifest)
    assert (tenth["is_of"], tenth["missing"]) == ("k700:val", 31_500)
    assert few["is_of"] is None
    assert "tells nothing" in few["verdict"]["why"]


def test_the_fingerprint_as_a_shell_makes_it(real_lists):
    """`LC_ALL=C sort -u | sha256sum` of the clips' names."""
    script = (
        r"""tail -n +2 "$1" | tr -d '"' | awk -F, '{printf "%s_%06d_%06d\n", $(NF-4), $(NF-3), $(NF-2)}' """
        "| LC_ALL=C sort -u | sha256sum"
    )
    result = subprocess.run(
        ["bash", "-c", script, "-", real_lists / "k400_val.csv"], capture_output=True, text=True, check=True
    )
    (known,) = [
        copy for copy in known_copies() if (copy.copy, copy.release, copy.split) == ("published list", "k400", "val")
    ]
    assert result.stdout.split()[0] == known.clips_sha256


@pytest.mark.parametrize(
    ("train", "evaluation", "videos"),
    [("k400_test", "k700:val", 4_354), ("k600_test", "k700:val", 6_514), ("k700_test", "k700:val", 109),
     ("k600_val", "k400:val", 13_569), ("k600_val", "k600:test", 28)],
)  # fmt: skip
@pytest.mark.slow
def test_leaks_of_lists_into_lists(k710, real_lists, manifest, train, evaluation, videos):
    result = k710("audit", manifest, "--train", real_lists / f"{train}.csv", "--eval", evaluation, "--json")
    assert json.loads(result.stdout)["leaked_videos"] == videos


def test_the_list_of_2020_is_not_taken_for_that_of_2019(k710, manifest):
    (found,) = identified(k710, other_list("k700_2020_val.csv.gz"), "--manifest", manifest)
    assert found["is_of"] is None
    assert found["verdict"]["why"].startswith("k700_2020 val by the marks")
    assert [copy["known"]["release"] for copy in found["copies"]] == ["k700_2020"]


def test_mini_kinetics(k710, manifest):
    lists = [other_list(f"mini_kinetics200_{split}.txt.gz") for split in ("train", "val")]
    train, val = identified(k710, *lists, "--manifest", manifest)
    assert train["is_of"] is None  # this reference has no train list
    assert {name: train["leaks"][name] for name in ("k400 val", "k600 val", "k700 val")} == {
        "k400 val": 0, "k600 val": 316, "k700 val": 130,
    }  # fmt: skip
    assert (val["is_of"], val["missing"]) == ("k400:val", 14_906)
    assert {one["copies"][0]["known"]["copy"] for one in (train, val)} == {"Mini-Kinetics-200"}
