"""`--json`: one document on stdout, with the numbers of the tables."""

from __future__ import annotations

import json

import click
import pytest

from k710.cli import COMMANDS, main
from tests.helpers.small_stores import clips_of, film, manifest_of
from tests.helpers.tiny_models import released, tiny_state

CLIPS = [*clips_of(3), *clips_of(1, "val", first=3)]


def of(result):
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory, k710):
    """A manifest of four clips, one of whose files is broken; `clips` beside it has them."""
    folder = tmp_path_factory.mktemp("json")
    made = manifest_of(k710, folder, CLIPS)
    film(folder / "clips", CLIPS)
    (folder / "clips" / f"{CLIPS[2].clip_id}.mp4").write_text("<html>gone</html>")
    return made


def test_every_command_that_prints_a_table_has_it():
    without = {"card", "convert", "export", "pack", "prune", "push", "report", "show", "train", "unpack", "completion"}
    for name in COMMANDS:
        command = main.get_command(click.Context(main), name)
        assert any(parameter.name == "as_json" for parameter in command.params) != (name in without), name


def test_build_and_explain(k710, tmp_path):
    build = ("build", "--annotations", "sample", "--out", tmp_path / "m")
    built = of(k710(*build, "--json"))
    about = json.loads((tmp_path / "m" / "dataset.json").read_bytes())
    assert built["counts"] == about["counts"]
    assert built["content_hash"] == about["content_hash"]
    story = of(k710("explain", "sample-0001", "--manifest", tmp_path / "m", "--json"))
    assert {clip["youtube_id"] for clip in story["clips"]} == {"sample-0001"}
    assert "\n".join(story["story"]) + "\n" == k710("explain", "sample-0001", "--manifest", tmp_path / "m").stdout
    refused = k710(*build, "--force", "--clips", "local:x", "--json")
    assert refused.exit_code == 2
    assert "build first" in refused.stderr


def test_fetch_and_verify(k710, manifest):
    origin = ("--from", f"local:{manifest.parent / 'clips'}", "--workers", 1)
    planned = of(k710("fetch", manifest, *origin, "--dry-run", "--json"))
    assert (planned["wanted"], planned["missing"]) == (4, 4)
    fetched = of(k710("fetch", manifest, *origin, "--json"))
    assert fetched["this_run"]["fetched"] == 3
    assert fetched["this_run"]["failed"] == {"not_video": 1}
    assert [line["fetched"] for line in fetched["status"] if line["view"] == "k710" and line["split"] == "train"] == [2]
    (checked,) = of(k710("verify", manifest, "--json"))
    assert (checked["clips"], checked["damaged"], checked["orphans"]) == (3, [], [])
    tar, *_ = (manifest / "store").rglob("*.tar")
    tar.write_bytes(b"")
    damaged = k710("verify", manifest, "--json")
    assert damaged.exit_code == 1
    unit, *_ = json.loads(damaged.stdout)[0]["damaged"]
    assert unit["tars"] or unit["clips"]


def test_recipes(k710):
    kinds = of(k710("recipes", "--json"))
    assert kinds.keys() == {"curation", "encode", "train", "mix", "unions"}
    whole = of(k710("recipes", "k710-strict", "--json"))
    assert whole["values"]["holdout"] == ["val", "test"]


def test_labels(k710):
    classes = of(k710("labels", "--json"))
    assert len(classes) == 710
    assert classes[0]["label"] == "abseiling"
    plain, doubtful = of(k710("labels", "Archery", "picking_fruit", "--json"))
    assert plain == {"name": "Archery", "label": "archery", "class": 5, "doubt": None}
    assert (doubtful["label"], doubtful["doubt"]) == ("picking apples", "apples are one fruit of many")
    mapped = of(k710("labels", "--from", "k710", "--to", "k400", "--json"))
    assert len(mapped) == 400


def test_remap_head(k710, tmp_path):
    checkpoint = released(tmp_path / "head.pth", "uniformerv2", tiny_state("uniformerv2"))
    remap = ("remap-head", checkpoint, "--to", "k400", "--dialect", "canonical", "--json")
    planned = of(k710(*remap, "--dry-run"))
    assert (len(planned["rows"]), planned["written"]) == (400, None)
    written = of(k710(*remap, "--out", tmp_path / "out.pth"))
    assert written["written"] == str(tmp_path / "out.pth")
