"""K-Mash as it ships, built of lists of its members in their published forms: no video is on both sides."""

from __future__ import annotations

import csv
import gzip
import itertools
import json

import pytest

from k710.identify.reference import reference_of_manifest
from k710.lists.labels import class_names
from k710.lists.union_spec import read_union_spec
from k710.manifest.listings import is_in
from k710.manifest.read import open_manifest
from k710.manifest.views import view
from tests.helpers import union_lists as lists


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return lists.write_members(tmp_path_factory.mktemp("kmash") / "lists")


@pytest.fixture(scope="module")
def built(folder, k710):
    result = k710(
        "build", "--union", "kmash", "--annotations", folder, "--out", folder.parent / "m",
        "--fates", folder.parent / "fates.csv",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    return open_manifest(folder.parent / "m")


def videos(manifest, split):
    table = view(manifest.clips, "kmash", manifest.catalogue)
    return {row["youtube_id"] for row in table.to_pylist() if row["split"] == split}


def test_what_ships_says_what_it_is_made_of():
    spec = read_union_spec("kmash")
    assert spec.sources == ("k400", "k600", "k700", "mit", "ssv2", "activitynet", "hacs")
    assert sorted(spec.ranked) == sorted(spec.sources)
    text = spec.where.read_text()
    for unknown in ("self-collected", "Not stated there", "without labels", "by what rule"):
        assert unknown in text


def test_its_rows_and_its_content_hash(built):
    """Pinned, as the hashes of Kinetics are: the same lists and the same file give the same rows."""
    assert built.about["schema_version"] == "4.0", "a k710 that knows no such manifest must not read it"
    assert built.content_hash == "44852b0d41c4a03e99f1a3055603dc368193fb236eecc2e699e1a72a77a46b2e"
    built.verify()
    assert built.sources == ("k400", "k600", "k700", "mit", "ssv2", "activitynet", "hacs")
    assert built.catalogue.views[0] == "kmash"


def test_planted_videos_are_on_one_side(built):
    train, val = videos(built, "train"), videos(built, "val")
    assert not train & val
    assert lists.ANET_TRAIN_IN_K400_VAL in val
    assert lists.ANET_VAL_IN_K400_TRAIN in val
    assert lists.HACS_VAL_IN_K600_TRAIN in val
    assert lists.ANET_TRAIN_IN_HACS_TRAIN in train
    assert "mit~clapping~2Fyt-abcdefghijk_4" in train
    assert "ssv2~15" in val
    for source in built.sources:
        held_out = built.clips["youtube_id"].filter(is_in(built.clips, [source], ["val"])).to_pylist()
        assert not train & set(held_out), source


def test_of_a_video_in_two_members_the_first_gives_every_segment(built):
    clips = {row["clip_id"]: row for row in built.clips.to_pylist() if row["youtube_id"] == lists.video(20)}
    assert {name: row["split"] for name, row in clips.items()} == {
        f"{lists.video(20)}_000000500_000010000": "train",  # ActivityNet's, and HACS's too
        f"{lists.video(20)}_000020000_000030500": "train",  # ActivityNet's
        f"{lists.video(20)}_000040000_000052250": None,  # HACS's
    }
    lost = clips[f"{lists.video(20)}_000040000_000052250"]
    assert (lost["drop_reason"], lost["kept_clip_id"]) == ("duplicate_id", f"{lists.video(20)}_000000500_000010000")


def test_every_row_has_one_fate(built, folder):
    counts = built.about["counts"]
    assert sum(counts["fates"].values()) == counts["rows"] == 24
    assert "other_classes" not in counts["fates"]
    assert len((folder.parent / "fates.csv").read_text().splitlines()) == 25


def test_its_classes_are_those_of_its_members_joined_by_name_and_sorted(built):
    names = built.labels
    assert len(names) == 710 + 1 + 2 + 1  # adult+female+singing, two templates, Ballet
    assert list(names) == sorted(names, key=str.casefold)
    assert (built.path / "classes.txt").read_text().splitlines() == list(names)
    assert set(class_names("k710")) <= set(names)
    labels = {row["youtube_id"]: row["label"] for row in view(built.clips, "kmash", built.catalogue).to_pylist()}
    assert labels[lists.video(2)] == "archery"  # of ActivityNet, where it is called Archery
    assert labels["mit~clapping~2Fyt-abcdefghijk_4"] == "clapping"
    view_of_member = view(built.clips, "activitynet", built.catalogue).to_pylist()
    assert {(row["label"], row["class_id"]) for row in view_of_member} == {("Archery", 0), ("Ballet", 1)}


def test_audit_shows_what_the_others_share_with_kinetics(built, k710):
    result = k710("audit", built.path, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["shared_with_kinetics"] == {
        "activitynet train": {"videos": 2, "train": 1, "val": 1, "test": 0, "any": 1},
        "activitynet val": {"videos": 1, "train": 1, "val": 0, "test": 0, "any": 1},
        "hacs train": {"videos": 2, "train": 0, "val": 0, "test": 0, "any": 0},
        "hacs val": {"videos": 2, "train": 1, "val": 0, "test": 0, "any": 1},
    }
    assert set(found["policies"]["train-purge"]["leaks"].values()) == {0}
    shown = k710("audit", built.path).stdout
    assert "in lists of Kinetics, by YouTube ID" in shown
    assert "Under each policy: K-Mash, as far as stated's train and val" in shown


def test_audit_shows_it_beside_kinetics_too(folder, k710):
    result = k710("audit", "--annotations", folder, "--sources", "k400,activitynet", "--json")
    found = json.loads(result.stdout)["shared_with_kinetics"]
    assert found["activitynet val"]["train"] == 1
    result = k710("audit", "--annotations", folder, "--sources", "k400", "--json")
    assert "shared_with_kinetics" not in json.loads(result.stdout)


def test_a_list_of_anyone_s_is_compared_with_its_splits_in_the_classes_of_kinetics_710(built, k710, tmp_path):
    reference = reference_of_manifest(built)
    assert {("kmash", "train"), ("kmash", "val"), ("activitynet", "val")} <= set(reference.lists)
    archery = class_names("k710").index("archery")
    of_anet = set(reference.classes["activitynet"].tolist())
    assert of_anet == {archery, -1}, "ActivityNet's class 0, and Ballet, which is none of the 710"
    assert archery in reference.classes["kmash"]
    (tmp_path / "mine.txt").write_text(f"{lists.ANET_VAL_IN_K400_TRAIN}\n{lists.video(31)}\n")
    result = k710("audit", built.path, "--train", tmp_path / "mine.txt", "--eval", "activitynet,hacs:val", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["leaked_videos"] == 2


def test_explain_names_the_member_s_list(built, k710):
    result = k710("explain", "--manifest", built.path, lists.ANET_TRAIN_IN_K400_VAL)
    assert result.exit_code == 0, result.output
    assert "ActivityNet 1.3 train: 'Archery' (class 0)\n    leaked: the video is in a val list" in result.stdout
    assert "K-Mash, as far as stated: in val as 'archery'" in result.stdout


def test_without_the_lists_of_a_member_it_says_where_they_come_from(folder, k710, tmp_path):
    result = k710("build", "--union", "kmash", "--annotations", "sample", "--out", tmp_path / "m")
    assert result.exit_code == 2
    assert "the lists of mit are not downloaded" in result.stderr
    assert "trainingSet.csv" in result.stderr
    assert not (tmp_path / "m").exists()


def test_splits_are_held_out_by_data_set_and_of_those_beside_too(k710, tmp_path):
    folder = lists.write_members(tmp_path / "lists")
    header = "label,youtube_id,time_start,time_end,split\n"
    (folder / "k600_test.csv").write_text(f"{header},{lists.video(3)},0,10,test\n")
    (folder / "k700_2020_val.csv").write_text(f"{header}archery,{lists.video(30)},3,13,val\n")
    path = lists.write_union(
        tmp_path,
        "name: strict\nmembers: [k400, k600, hacs]\nsame_names: merge\nbeside: [k700_2020]\n"
        "holdout: {k600: [val, test], k700_2020: val}\n",
    )
    result = k710("build", "--union", path, "--annotations", folder, "--out", tmp_path / "m",
                  "--fates", tmp_path / "fates.csv")  # fmt: skip
    assert result.exit_code == 0, result.output
    assert '"archery","other_classes"' in (tmp_path / "fates.csv").read_text()
    assert "(train-purge, holdout val, k600 val and test, k700_2020 val)" in result.stdout
    manifest = open_manifest(tmp_path / "m")
    read = [f"{one['source']} {one['split']}" for one in manifest.about["sources"]]
    assert read[:6] == ["k400 train", "k400 val", "k600 train", "k600 val", "k600 test", "k700_2020 val"]
    train = set(view(manifest.clips, "strict", manifest.catalogue)["youtube_id"].to_pylist())
    assert not train & {lists.video(3), lists.video(30)}
    told = k710("explain", "--manifest", manifest.path, lists.video(30)).stdout
    assert "the video is in a list that train must not meet (Kinetics-700-2020 val)" in told
    assert "strict: left out (leaked), in favour of AbCdEfGh030_000003_000013" in told
    told = k710("explain", "--manifest", manifest.path, lists.video(3)).stdout
    assert "train must not meet (Kinetics-600 test)" in told
    assert "strict: left out (leaked), it is held out itself" in told


@pytest.mark.slow
def test_real_lists_beside_a_union_are_held_out_of_its_train(k710, real_lists, other_lists, tmp_path):
    """ActivityNet alone, with the val and test lists of Kinetics beside it: its train loses what they share."""
    lists_of = tmp_path / "lists"
    (lists_of / "activitynet").mkdir(parents=True)
    database = gzip.decompress((other_lists / "activitynet13_bsn_as_database.json.gz").read_bytes())
    (lists_of / "activitynet" / "activity_net.v1-3.min.json").write_bytes(database)
    kinetics: set[str] = set()
    for source, split in itertools.product(("k400", "k600", "k700"), ("val", "test")):
        (lists_of / f"{source}_{split}.csv").symlink_to(real_lists / f"{source}_{split}.csv")
        with (real_lists / f"{source}_{split}.csv").open(newline="") as file:
            kinetics |= {row["youtube_id"] for row in csv.DictReader(file)}
    both = "[val, test]"
    path = lists.write_union(
        tmp_path,
        "name: clean\nmembers: [activitynet]\nall_clips: [activitynet]\nbeside: [k400, k600, k700]\n"
        f"holdout: {{k400: {both}, k600: {both}, k700: {both}}}\n",
    )
    result = k710("build", "--union", path, "--annotations", lists_of, "--out", tmp_path / "m")
    assert result.exit_code == 0, result.output
    manifest = open_manifest(tmp_path / "m")
    entries = json.loads(database)["database"]
    listed = {
        name for name, entry in entries.items()
        if entry["subset"] == "training" and any(end - start >= 0.001 for start, end in _segments(entry))
    }  # fmt: skip
    table = view(manifest.clips, "clean", manifest.catalogue)
    train = {row["youtube_id"] for row in table.to_pylist() if row["split"] == "train"}
    assert train == listed - kinetics
    assert len(listed & kinetics) > 200
    counts = manifest.about["counts"]
    assert counts["fates"]["duplicate_id"] == 0, "every segment of a video counts"


def _segments(entry):
    return [annotation["segment"] for annotation in entry["annotations"]]
