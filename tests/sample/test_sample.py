"""The embedded sample is known in every number; what is printed of it is worth reading."""

from __future__ import annotations

import shlex

import pytest

from k710.manifest.read import open_manifest
from k710.sample import LISTS
from k710.sample.generate import write_lists


def test_the_frozen_lists_are_what_the_generator_says(tmp_path):
    write_lists(tmp_path)
    frozen = {path.name: path.read_bytes() for path in LISTS.iterdir()}
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == frozen


def test_its_counts(sample):
    fates = ("rows", "kept", "same_clip", "duplicate_id", "leaked", "unlabelled", "malformed")
    counts = sample.about["counts"]
    assert {(e["source"], e["split"]): [e[fate] for fate in fates] for e in counts["lists"]} == {
        ("k400", "train"): [12, 4, 7, 1, 0, 0, 0],
        ("k400", "val"): [12, 4, 8, 0, 0, 0, 0],
        ("k600", "train"): [23, 6, 17, 0, 0, 0, 0],
        ("k600", "val"): [11, 3, 8, 0, 0, 0, 0],
        ("k700", "train"): [46, 40, 1, 1, 4, 0, 0],
        ("k700", "val"): [13, 12, 0, 1, 0, 0, 0],
    }
    assert (counts["rows"], counts["clips"], counts["videos"]) == (117, 73, 69)
    assert (counts["train"], counts["val"], counts["classes"]) == (50, 19, 10)
    assert counts["conflicts"] == {"labels_of_one_clip": 2, "labels_of_one_id": 2, "spans_of_one_id": 4}
    leaks = {(leak["train"], leak["holdout"]): leak["ids"] for leak in counts["leaks"] if leak["ids"]}
    assert leaks == {("k700", "k400 val"): 3, ("k700", "k600 val"): 1}


def test_its_planted_clips(sample):
    clips = {clip["clip_id"]: clip for clip in sample.clips.to_pylist()}

    def story(clip_id):
        return tuple(clips[clip_id][column] for column in ("split", "drop_reason", "kept_clip_id"))

    assert story("leaked-4000_000020_000030") == ("val", None, None)
    assert clips["leaked-4000_000020_000030"]["k700_split"] == "train"
    assert story("leaked-6000_000090_000100") == (None, "leaked", "leaked-6000_000040_000050")
    assert story("two-spans-0_000100_000110") == (None, "duplicate_id", "two-spans-0_000030_000040")
    assert story("two-spans-1_000010_000020") == (None, "duplicate_id", "two-spans-1_000050_000060")
    assert story("two-spans-2_000015_000025") == ("val", None, None)
    assert story("-sample-dsh_000003_000013") == ("train", None, None)
    assert clips["case-Sample_000007_000017"]["label"] == "abseiling"
    assert clips["case-sample_000007_000017"]["label"] == "juggling balls"
    assert clips["two-labels0_000033_000043"]["label"] == "archery"  # k700's, not k400's abseiling
    assert clips["two-labels0_000033_000043"]["other_class_ids"] == [0]
    assert clips["two-labels1_000008_000018"]["label"] == "bouncing on trampoline"  # alphabetically before juggling
    assert clips["sample-4000_000010_000020"]["label"] == "tying necktie"  # k400 calls it tying tie
    assert clips["sample-4000_000010_000020"]["k400_split"] == "train"


def test_the_strict_recipe_holds_test_videos_out(k710, tmp_path):
    result = k710("build", "--recipe", "k710-strict", "--annotations", "sample", "--out", tmp_path / "m")
    assert result.exit_code == 0, result.output
    story = k710("explain", "tested-4000", "--manifest", tmp_path / "m").stdout
    assert "leaked: the video is in a val or test list, which train must not meet" in story
    assert "it is held out itself" in story
    assert open_manifest(tmp_path / "m").about["counts"]["train"] == 48


def test_what_build_prints(k710, tmp_path):
    result = k710("build", "--annotations", "sample", "--out", tmp_path / "m")
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert "all lists 117 69 41 3 4 0" in lines
    assert "k700 train 3 1 0" in lines
    assert "2 clips carry two labels at one span" in result.stdout
    assert result.stdout.splitlines()[-1].startswith(f"{tmp_path / 'm'}: 73 clips, content hash ")
    assert result.stderr == ""


def test_audit_of_lists_says_what_audit_of_the_manifest_says(k710, sample):
    of_lists = k710("audit", "--annotations", "sample")
    of_manifest = k710("audit", sample.path)
    assert of_lists.exit_code == of_manifest.exit_code == 0
    assert of_lists.stdout == of_manifest.stdout
    assert "val-purge        54    15          3          1          0" in of_manifest.stdout


def test_2020_joins_in(k710, tmp_path):
    arguments = ("--sources", "k400,k600,k700,k700_2020", "--annotations", "sample", "--out", tmp_path / "m")
    assert k710("build", *arguments).exit_code == 0
    story = k710("explain", "sample-0004", "--manifest", tmp_path / "m").stdout
    assert "Kinetics-700-2020 train: 'abseiling'" in story
    assert "leaked: the video is in a val list" in story
    story = k710("explain", "sample-1004", "--manifest", tmp_path / "m").stdout
    assert "sample-1004_000080_000090 of the same video was kept (precedence k700_2020, k700, k600, k400" in story


def test_explain_names_the_rule_that_decided(k710, sample, tmp_path):
    """Precedence decides between releases; within one it is the alphabet for labels, the earliest span for clips."""
    between = k710("explain", "two-labels0", "--manifest", sample.path).stdout
    assert "lists disagree on its label; 'abseiling' lost to 'archery' (precedence k700, k600, k400)" in between
    within = k710("explain", "two-labels1", "--manifest", sample.path).stdout
    assert "a release gives it two labels; 'juggling balls' lost (of two labels in one release, the first" in within
    assert "precedence" not in within
    header = "label,youtube_id,time_start,time_end,split\n"
    rows = ["archery,abcdefghijk,1,11", "archery,abcdefghijk,21,31", "abseiling,abcdefghijk,1,11"]
    (tmp_path / "k400_train.csv").write_text(header + "".join(f"{row},train\n" for row in rows))
    (tmp_path / "k400_val.csv").write_text(header + "archery,abcdefghijl,1,11,val\n")
    built = k710("build", "--annotations", tmp_path, "--sources", "k400", "--out", tmp_path / "m")
    assert built.exit_code == 0, built.output
    story = k710("explain", "abcdefghijk_000021_000031", "--manifest", tmp_path / "m").stdout
    assert "was kept (both are in Kinetics-400, and the earliest span counts)" in story
    assert "precedence" not in story


@pytest.mark.parametrize("video", ["two-spans-1", "-dash-spans"])
def test_explains_own_hint_and_addresses(k710, tmp_path, video):
    header = "label,youtube_id,time_start,time_end,split\n"
    rows = "".join(f"archery,{video},{start},{start + 10},train\n" for start in (1, 21))
    folder = tmp_path / "my lists"
    folder.mkdir()
    (folder / "k400_train.csv").write_text(header + rows)
    (folder / "k400_val.csv").write_text(header + "archery,abcdefghijl,1,11,val\n")
    where = folder / "m"
    assert k710("build", "--annotations", folder, "--sources", "k400", "--out", where).exit_code == 0
    whole = k710("explain", "--manifest", where, "--", video)
    assert whole.exit_code == 0, whole.output
    of_clip = k710("explain", "--manifest", where, "--", f"{video}_000001_000011")
    hint = of_clip.stdout.splitlines()[-1]
    assert hint.startswith("The video has 1 more clip: k710 explain --manifest ")
    program, *arguments = shlex.split(hint.partition(": ")[2])
    assert (program, k710(*arguments).stdout) == ("k710", whole.stdout)
    for address in (f"https://www.youtube.com/watch?v={video}&t=10s", f"https://youtu.be/{video}", f"watch?v={video}"):
        assert k710("explain", address, "--manifest", where).stdout == whole.stdout


def test_sources_splits_and_views_in_every_spelling(k710, sample, tmp_path):
    plain = ("--sources", "k400,k700", "--splits", "train,val", "--precedence", "k400,k700", "--holdout", "val")
    spelled = ("--sources", "K400,kinetics-700", "--splits", "Training,validation", "--precedence", "Kinetics400,K700")
    for name, choices in (("plain", plain), ("spelled", (*spelled, "--holdout", "validate"))):
        built = k710("build", "--annotations", "sample", "--out", tmp_path / name, *choices)
        assert built.exit_code == 0, built.output
    one, other = (open_manifest(tmp_path / name) for name in ("plain", "spelled"))
    assert other.content_hash == one.content_hash
    assert other.about["recipe"] == one.about["recipe"]
    told = k710("audit", "--annotations", "sample", "--sources", "Kinetics-600", "--splits", "VALIDATION")
    assert "k600 val" in told.stdout, told.output
    export = ("export", sample.path, "--format", "csv", "--out", tmp_path / "out")
    assert k710(*export, "--view", "Kinetics-400", "--splits", "validate").stdout.startswith(
        f"{tmp_path / 'out/val.csv'}: 12"
    )
    (tmp_path / "empty").mkdir()
    fetch = k710(
        "fetch", sample.path, "--from", f"local:{tmp_path / 'empty'}", "--view", "K400", "--splits", "validation"
    )
    assert "unknown" not in fetch.output


def test_audit_of_a_folder_of_lists_in_the_place_of_a_manifest(k710):
    result = k710("audit", LISTS)
    assert result.exit_code == 2
    assert f"{LISTS} is not a manifest; to audit a folder of lists, use --annotations {LISTS}" in result.stderr
