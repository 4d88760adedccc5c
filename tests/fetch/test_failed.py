"""`k710 status --failed`: which clips failed, by name; and the files of a folder that bring none."""

from __future__ import annotations

import csv
import io
import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from k710.errors import RecipeError
from k710.fetch.encode.source_file import container_of
from k710.loading.media.open_files import open_media
from k710.recipes import MAX_RECIPE_BYTES, recipe_text
from k710.store.failures import ClipError
from k710.store.local_files import LocalFiles
from tests.fetch.test_fetch_local import NAMES, TRAIN, clips_in, fetch, small  # noqa: F401 - fixtures
from tests.helpers.tiny_media import LOOK, clip_file, fetched, numbers, settled


@pytest.fixture
def failed(k710, small, tmp_path) -> Callable[..., Any]:  # noqa: F811
    """`failed(...)` asks which clips of the store in the test's folder failed."""

    def ask(*more: object, code: int = 0) -> Any:
        result = k710("status", small, "--store", tmp_path / "store", "--failed", *more)
        assert result.exit_code == code, result.output
        return result

    return ask


def test_failed_clips_by_name_reason_and_origin(fetch, failed, small, tmp_path):  # noqa: F811
    first, second = clips_in(tmp_path / "first", NAMES[:1]), clips_in(tmp_path / "second", NAMES[1:2])
    for name in NAMES[1:3]:
        (first / f"{name}.mp4").write_bytes(b"<html>")
    (second / f"{NAMES[2]}.mp4").touch()
    told = fetch(small, first, second).stdout
    assert f"`k710 status {small} --store {tmp_path / 'store'} --failed` lists the clips that failed, by name." in told
    found = json.loads(failed("--json").stdout)
    # The clip that the second folder brought did not fail; the other failed in both, each for its own reason.
    assert [(row["name"], row["reason"], row["origin"], row["file"]) for row in found] == [
        (NAMES[2], "not_video", f"local:{first}", f"{NAMES[2]}.mp4"),
        (NAMES[2], "not_video", f"local:{second}", f"{NAMES[2]}.mp4"),
    ]
    assert [row["message"] for row in found] == ["no video file: begins with b'<html>'", "an empty file"]
    assert {row["profile"] for row in found} == {"h264"}
    assert list(csv.DictReader(io.StringIO(failed("--csv").stdout))) == found
    table = failed().stdout
    assert table.count(NAMES[2]) == 4  # as the clip and as the file, at each origin
    assert NAMES[1] not in table


def test_what_failed_again_is_told_once_and_as_it_failed_last(fetch, failed, small, tmp_path):  # noqa: F811
    clips = clips_in(tmp_path / "clips", NAMES[:1])
    (clips / f"{NAMES[1]}.mp4").write_bytes(b"<html>")
    fetch(small, clips)
    (clips / f"{NAMES[1]}.mp4").write_bytes(b"")
    time.sleep(0.01)
    fetch(small, clips, more=("--retry", "not_video"))
    (row,) = json.loads(failed("--json").stdout)
    assert row["message"] == "an empty file"


def test_nothing_failed(fetch, failed, small, tmp_path):  # noqa: F811
    told = fetch(small, clips_in(tmp_path / "clips"))
    assert "--failed" not in told.output
    assert failed().stdout == "Nothing failed.\n"
    assert json.loads(failed("--json").stdout) == []


def test_the_files_of_a_folder_that_bring_no_clip(fetch, failed, small, tmp_path):  # noqa: F811
    clips = clips_in(tmp_path / "clips", NAMES[:2])
    other, unknown = f"{TRAIN[0][0]}_000100_000110", "nobody-knows"[:11]
    for name in (other, unknown):
        clip_file(clips / f"{name}.mp4")
    for name in ("holiday.mp4", f"{NAMES[2]}.wmv", f"{NAMES[2]}.mp4.part", f"{NAMES[2]}.json", "notes.txt"):
        (clips / name).write_bytes(b"x")
    os.mkfifo(clips / f"{NAMES[3]}.mp4")
    clip_file(clips / f"{NAMES[0]}(1).mp4", first=500)
    (clips / "copy").mkdir()
    (clips / "copy" / f"{NAMES[1]}.mp4").write_bytes((clips / f"{NAMES[1]}.mp4").read_bytes())
    told = fetch(small, clips)
    assert (
        f"local:{clips}: files that are left: 2 named as no clip of the manifest, 1 without a clip's name, 2 with "
        "another suffix than a video's, 1 that are pipes or devices; 2 clips have several files"
    ) in told.stderr
    assert f"`k710 status {small} --failed --from local:{clips}` lists them" in told.stderr
    rows = json.loads(failed("--from", f"local:{clips}", "--json").stdout)
    assert {(row["file"], row["reason"]) for row in rows} == {
        ("holiday.mp4", "no_name"),
        (f"{NAMES[2]}.wmv", "other_suffix"),
        (f"{NAMES[2]}.mp4.part", "other_suffix"),
        (f"{NAMES[3]}.mp4", "no_file"),
        (f"{other}.mp4", "unmatched"),
        (f"{unknown}.mp4", "unmatched"),
        (f"{NAMES[0]}(1).mp4", "several"),
        (f"copy/{NAMES[1]}.mp4", "several")
        if f"copy/{NAMES[1]}.mp4" > f"{NAMES[1]}.mp4"
        else (f"{NAMES[1]}.mp4", "several"),
    }
    messages = {row["file"]: row["message"] for row in rows}
    assert messages[f"{other}.mp4"] == f"the manifest has no such clip; of this video it has {NAMES[0]}"
    assert messages[f"{unknown}.mp4"] == "the manifest has no such clip; it does not have this video"
    assert messages[f"{NAMES[0]}(1).mp4"] == f"with other bytes; {NAMES[0]}.mp4 comes first"
    assert [row["message"] for row in rows if row["name"] == NAMES[1]] == [
        f"with the same bytes; copy/{NAMES[1]}.mp4 comes first"
    ]
    assert set(settled(tmp_path / "store")) == set(NAMES[:2])


def test_a_folder_whose_files_all_have_their_clips_is_not_spoken_of(fetch, small, tmp_path):  # noqa: F811
    assert "files" not in fetch(small, clips_in(tmp_path / "clips")).stderr


@pytest.mark.parametrize("where", ["", "a"])
def test_the_exact_name_comes_before_a_copys(fetch, small, tmp_path, where):  # noqa: F811
    """`…(1).mp4` is what a browser calls another file; it may be larger, or stand before the other in the alphabet."""
    clips = clips_in(tmp_path / "clips", NAMES[:1])
    clip_file(clips / where / f"{NAMES[0]}(1).mp4", first=500, look=replace(LOOK, width_px=160, height_px=120))
    fetch(small, clips)
    assert settled(tmp_path / "store")[NAMES[0]]["came_from"] == f"{NAMES[0]}.mp4"
    assert numbers(fetched(tmp_path / "store")[NAMES[0]])[0] == 0
    assert LocalFiles(clips).by_span[NAMES[0]][0] == f"{NAMES[0]}.mp4"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--from", "cvdf"), "want local:DIR"),
        (("--from", "local:"), "want local:DIR"),
        (("--csv", "--json"), "exclude each other"),
    ],
)
def test_options_that_cannot_be(failed, more, said):
    assert said in failed(*more, code=2).stderr


def test_options_that_belong_to_failed(k710, small, tmp_path):  # noqa: F811
    for more in (("--csv",), ("--from", f"local:{tmp_path}")):
        result = k710("status", small, *more)
        assert result.exit_code == 2
        assert "--from and --csv go with --failed" in result.stderr


def test_a_folder_can_be_listed_before_there_is_a_store(failed, tmp_path):
    clips = clips_in(tmp_path / "clips", ["other-clip0_000000_000002"])
    assert "unmatched" in failed("--from", f"local:{clips}").stdout
    assert "no such folder" in failed("--from", f"local:{tmp_path / 'none'}", code=1).stderr


def test_names_that_steer_a_terminal_are_not_printed_raw(failed, tmp_path):
    clips = clips_in(tmp_path / "clips", ["other-clip0_000000_000002"])
    (clips / "a\x1b[31mred\n.mp4").touch()
    table = failed("--from", f"local:{clips}").stdout
    assert "\x1b" not in table
    assert "red\N{REPLACEMENT CHARACTER}.mp4" in table


# What is read without an end.


def test_a_pipe_among_the_clips_holds_nobody_up(fetch, small, tmp_path):  # noqa: F811
    clips = clips_in(tmp_path / "clips", NAMES[:1])
    os.mkfifo(clips / f"{NAMES[1]}.mp4")
    (clips / f"{NAMES[2]}.mp4").symlink_to(clips / f"{NAMES[1]}.mp4")
    begin_s = time.monotonic()
    assert "This run: 1 clip fetched, 0.0 MB.\n" in fetch(small, clips).stdout
    assert time.monotonic() - begin_s < 60


def test_a_pipe_in_the_place_of_a_file_is_not_opened(tmp_path):
    """One that comes into the folder later."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(ClipError, match="a pipe"):
        container_of(pipe)
    with pytest.raises(OSError, match="a pipe"):
        open_media(pipe)


def test_a_recipe_of_many_megabytes_is_no_recipe(k710, small, tmp_path):  # noqa: F811
    path = tmp_path / "large.yaml"
    path.write_bytes(b"codec: h264\n" + b"#" * MAX_RECIPE_BYTES)
    with pytest.raises(RecipeError, match="has more than 1 MiB, too much for a recipe"):
        recipe_text(path)
    result = k710("fetch", small, "--from", f"local:{tmp_path}", "--profile", path)
    assert (result.exit_code, result.stderr) == (1, f"k710: {path}: has more than 1 MiB, too much for a recipe\n")
