"""Whole files of sources whose IDs are not YouTube's, from folders as people have them."""

from __future__ import annotations

import json

import pytest

from k710.errors import LoadError
from k710.loading.dataset import open_dataset
from tests.helpers.tiny_media import clip_file, fetched, numbers, settled


@pytest.mark.slow
def test_whole_files_are_fetched_and_loaded_by_their_ids(k710, tmp_path):
    names = {"labels": {"Holding something": "0", "Something falling": "1"}}
    names |= {
        "train": [{"id": "78001", "template": "Holding [something]"}, {"id": "2", "template": "Holding [something]"}]
    }
    names |= {"validation": [{"id": "15", "template": "[Something] falling"}]}
    (tmp_path / "lists").mkdir()
    for name, content in names.items():
        (tmp_path / "lists" / f"{name}.json").write_text(json.dumps(content))
    clip_file(tmp_path / "videos" / "78001.mp4", seconds=3)
    clip_file(tmp_path / "videos" / "deeper" / "15.mkv", seconds=2)
    clip_file(tmp_path / "videos" / "99.mp4")  # of no list
    result = k710("build", "--sources", f"ssv2={tmp_path / 'lists'}", "--out", tmp_path / "m")
    assert result.exit_code == 0, result.output
    result = k710("fetch", tmp_path / "m", "--from", f"local:{tmp_path / 'videos'}")
    assert result.exit_code == 0, result.output
    assert "1 without a clip's name" in result.stderr
    rows = settled(tmp_path / "m" / "store")
    assert {name: row["failure"] for name, row in rows.items()} == {"ssv2~15": None, "ssv2~78001": None}
    assert [row["flags"] or [] for row in rows.values()] == [[], []]
    assert numbers(fetched(tmp_path / "m" / "store")["ssv2~78001"]) == list(range(30))
    train = open_dataset(tmp_path / "m", view="ssv2")
    assert [train.index[n].clip_id for n in range(len(train))] == ["ssv2~78001"]
    assert train.labels == ("Holding something", "Something falling")
    val = open_dataset(tmp_path / "m", view="ssv2", split="val", folder=tmp_path / "videos")
    assert len(val) == 1
    assert val[0].clip_id == "ssv2~15"
    failed = k710("status", tmp_path / "m", "--failed", "--from", f"local:{tmp_path / 'videos'}")
    assert "99.mp4" in failed.stdout
    # YouTube is not asked for videos that it does not have.
    plan = k710("fetch", tmp_path / "m", "--from", "youtube", "--dry-run")
    assert plan.exit_code == 0, plan.output


@pytest.mark.slow
def test_files_with_odd_names_and_ids_that_are_paths(k710, tmp_path):
    """Names as HMDB51 has them; equal names in two folders are two videos where IDs are paths."""
    odd = "a&b_#1_(x)!_f_cm.avi.mp4"
    clip_file(tmp_path / "videos" / "clap" / odd)
    clip_file(tmp_path / "videos" / "clap" / "1.mp4")
    clip_file(tmp_path / "videos" / "wave" / "1.mp4", first=5)
    (tmp_path / "source.yaml").write_text("lists: videos\nids: path\n")
    result = k710("build", "--sources", f"mine={tmp_path}", "--out", tmp_path / "m")
    assert result.exit_code == 0, result.output
    assert "so all clips of mine are train clips" in result.stderr
    result = k710("fetch", tmp_path / "m", "--from", f"local:{tmp_path / 'videos'}")
    assert result.exit_code == 0, result.output
    found = fetched(tmp_path / "m" / "store")
    assert {name: numbers(video)[0] for name, video in found.items()} == {
        "mine~clap~2F1": 0,
        "mine~wave~2F1": 5,
        "mine~clap~2Fa~26b_~231_~28x~29~21_f_cm~2Eavi": 0,
    }
    packed = k710("pack", tmp_path / "m", "--view", "mine", "--out", tmp_path / "shards")
    assert packed.exit_code == 0, packed.output
    assert k710("verify", tmp_path / "m").exit_code == 0


@pytest.mark.slow
def test_files_named_by_youtube_ids_and_milliseconds(k710, tmp_path):
    """As `k710 export` names the files of such clips; and a folder that has nothing of the manifest says so."""
    rows = "youtube_id,label,start,end,split\nabcdefghijk,run,1.5,3.25,train\nabcdefghijL,run,0.5,2,train\n"
    (tmp_path / "mine.csv").write_text(rows)
    result = k710("build", "--sources", f"mine={tmp_path / 'mine.csv'}", "--out", tmp_path / "m")
    assert result.exit_code == 0, result.output
    clip_file(tmp_path / "videos" / "abcdefghijk_000001500_000003250.mp4", seconds=1.75)
    clip_file(tmp_path / "videos" / "v_abcdefghijL.mp4", seconds=4)
    dataset = open_dataset(tmp_path / "m", view="mine", folder=tmp_path / "videos")
    assert [dataset.index[n].clip_id for n in range(2)] == [
        "abcdefghijL_000000500_000002000",
        "abcdefghijk_000001500_000003250",
    ]
    result = k710("fetch", tmp_path / "m", "--from", f"local:{tmp_path / 'videos'}")
    assert result.exit_code == 0, result.output
    found = fetched(tmp_path / "m" / "store")
    assert numbers(found["abcdefghijk_000001500_000003250"])[0] == 0, "the file is the clip"
    assert numbers(found["abcdefghijL_000000500_000002000"])[0] == 5, "cut out of its video"
    (tmp_path / "empty").mkdir()
    result = k710("fetch", tmp_path / "m", "--store", tmp_path / "other", "--from", f"local:{tmp_path / 'empty'}")
    assert (result.exit_code, "or by their IDs in the manifest" in result.stderr) == (1, True), result.output


def test_a_whole_video_is_found_in_a_folder_also_where_it_has_segments(k710, tmp_path):
    """ActivityNet's videos are clips of one view, and their segments clips of another."""
    found = {"AbCdEfGhIj1": {"subset": "validation", "annotations": [{"segment": [0.5, 2], "label": "Ballet"}]}}
    found["AbCdEfGhIj0"] = {"subset": "training", "annotations": [{"segment": [0, 1], "label": "Ballet"}]}
    (tmp_path / "activity_net.v1-3.min.json").write_text(json.dumps({"version": "VERSION 1.3", "database": found}))
    result = k710("build", "--sources", f"activitynet={tmp_path}", "--out", tmp_path / "m")
    assert result.exit_code == 0, result.output
    clip_file(tmp_path / "videos" / "AbCdEfGhIj1.mp4", seconds=3)
    val = open_dataset(tmp_path / "m", view="activitynet_videos", split="val", folder=tmp_path / "videos")
    assert [val.index[n].clip_id for n in range(len(val))] == ["AbCdEfGhIj1"]
    with pytest.raises(LoadError, match="holds none of the 1 activitynet val clips"):
        open_dataset(tmp_path / "m", view="activitynet", split="val", folder=tmp_path / "videos")
