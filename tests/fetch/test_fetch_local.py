"""`k710 fetch --from local:DIR`, from folders as they are in the wild to a store."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from k710.cli.fetch import fetch_options
from k710.engine import helper_pool
from k710.fetch.encode import source_file
from k710.fetch.origins.local import LocalClips, LocalOrigin
from k710.manifest.read import open_manifest
from k710.store.containers import Container
from k710.store.local_files import LocalFiles
from k710.store.store import Store
from tests.helpers.tiny_media import LOOK, build, clip_bytes, clip_file, fetched, files_under, numbers, settled

TRAIN = [(f"train-{number:05d}", 0, 2) for number in range(4)]
VAL = [("val--000000", 3, 5)]
NAMES = [f"{youtube_id}_{start:06d}_{end:06d}" for youtube_id, start, end in (*TRAIN, *VAL)]


@pytest.fixture(scope="session")
def small(k710, tmp_path_factory) -> Path:
    """A manifest of four train clips and one val clip. Not to be changed: stores go elsewhere."""
    return build(k710, tmp_path_factory.mktemp("small"), {("k400", "train"): TRAIN, ("k400", "val"): VAL})


@pytest.fixture
def fetch(k710, tmp_path):
    """`fetch(manifest, origin, ...)` runs the command with one process and a store in the test's folder."""

    def run(manifest: Path, *origins: object, code: int = 0, store: Path = tmp_path / "store", more: Any = ()) -> Any:
        named = [f"local:{origin}" if isinstance(origin, Path) else origin for origin in origins]
        sources = [part for origin in named for part in ("--from", origin)]
        result = k710("fetch", manifest, *sources, "--store", store, "--workers", 1, *more)
        assert result.exit_code == code, result.output
        return result

    return run


def clips_in(folder: Path, names: Any = NAMES, **how: Any) -> Path:
    """A clip file for each of the names, the numbers of whose frames tell them apart."""
    for place, name in enumerate(names):
        clip_file(folder / f"{name}.mp4", first=100 * place, **how)
    return folder


# Layouts.


@pytest.mark.parametrize(
    "layout", ["{name}.mp4", "train/{name}.mp4", "train/tying necktie/{name}.mp4", "val/tying_necktie/{name}.mp4"]
)
@pytest.mark.slow
def test_clips_named_by_their_span_in_any_layout(fetch, small, tmp_path, layout):
    for place, name in enumerate(NAMES):
        clip_file(tmp_path / "clips" / layout.format(name=name), first=100 * place)
    result = fetch(small, tmp_path / "clips")
    assert "This run: 5 clips fetched" in result.stdout
    found = fetched(tmp_path / "store")
    assert {name: numbers(found[name])[0] for name in found} == {name: 100 * n for n, name in enumerate(NAMES)}
    rows = settled(tmp_path / "store")
    assert rows[NAMES[0]]["came_from"] == layout.format(name=NAMES[0])


def test_whole_videos_are_cut(fetch, k710, tmp_path):
    rows = {("k400", "train"): [("two-spans-0", 1, 3), ("two-spans-0", 4, 6)], ("k400", "val"): [("a-val-clip0", 0, 2)]}
    manifest = build(k710, tmp_path, rows)
    clip_file(tmp_path / "clips" / "train" / "two-spans-0.mp4", seconds=8)
    clip_file(tmp_path / "clips" / "val" / "a-val-clip0.mkv", first=500)
    fetch(manifest, tmp_path / "clips")
    found = fetched(tmp_path / "store")
    assert {name: (numbers(data)[0], len(numbers(data))) for name, data in found.items()} == {
        "two-spans-0_000001_000003": (10, 20),
        "two-spans-0_000004_000006": (40, 20),
        "a-val-clip0_000000_000002": (500, 20),
    }


@pytest.mark.slow
def test_ids_that_differ_in_case_or_begin_with_a_dash(fetch, k710, tmp_path):
    ids = ["case-Sample", "case-sample", "CASE-SAMPLE", "-sample-dsh", "--sample-ds", "-----------", "-i-am-a-opt"]
    rows = {("k400", "train"): [(each, 0, 2) for each in ids], ("k400", "val"): [("a-val-clip0", 0, 2)]}
    manifest = build(k710, tmp_path, rows)
    names = [f"{each}_000000_000002" for each in ids]
    clips_in(tmp_path / "clips", names)
    fetch(manifest, tmp_path / "clips")
    found = fetched(tmp_path / "store")
    assert {name: numbers(found[name])[0] for name in names} == {name: 100 * n for n, name in enumerate(names)}


@pytest.mark.parametrize("name", ["with space", 'it\'s "quoted"', "100% of %05d", "a:b", "back\\slash", "[x]*?", "ü-ö"])
@pytest.mark.slow
def test_folders_with_names_that_something_might_take_for_an_instruction(fetch, small, tmp_path, name):
    folder = clips_in(tmp_path / name / "-y", NAMES[:1])
    clip_file(folder / name / f"{VAL[0][0]}.mp4", seconds=6)  # the demuxer and the cut see the name too
    result = fetch(small, tmp_path / name, store=tmp_path / name / "store")
    assert "This run: 2 clips fetched" in result.stdout
    found = fetched(tmp_path / name / "store")
    assert numbers(found[NAMES[0]])[0] == 0
    assert numbers(found[NAMES[4]]) == list(range(30, 50))


@pytest.mark.slow
def test_names_that_are_no_utf_8(fetch, small, tmp_path):
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    clips_in(folder, NAMES[:1])
    (folder / f"{NAMES[1]}.mp4").touch()
    for origin in (tmp_path, folder):
        fetch(small, origin)
    rows = settled(tmp_path / "store")
    assert rows[NAMES[0]]["came_from"].endswith(f"/{NAMES[0]}.mp4")
    assert rows[NAMES[1]]["failure"] == "not_video"
    before = files_under(tmp_path / "store")
    fetch(small, tmp_path, folder)
    assert files_under(tmp_path / "store") == before


def test_a_relative_folder_is_the_same_origin(fetch, small, tmp_path, monkeypatch):
    clips_in(tmp_path / "clips", NAMES[:1])
    (tmp_path / "clips" / f"{NAMES[1]}.mp4").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    fetch(small, "local:clips/../clips")
    assert {row["origin"] for row in settled(tmp_path / "store").values()} == {f"local:{tmp_path / 'clips'}"}
    assert "0 clips fetched" in fetch(small, tmp_path / "clips").stdout
    assert Store(tmp_path / "store", "h264").rows().num_rows == 2


# Several copies.


@pytest.mark.slow
def test_of_several_copies_the_named_and_the_larger_one(fetch, small, tmp_path):
    clips = tmp_path / "clips"
    large = replace(LOOK, width_px=160, height_px=120)
    clip_file(clips / "a" / f"{NAMES[0]}.mp4", first=100)
    clip_file(clips / "b" / f"{NAMES[0]}.mp4", first=200, look=large)
    clip_file(clips / "c" / f"{NAMES[0]}.mp4", first=300)
    clip_file(clips / "a" / f"{TRAIN[1][0]}.mp4", first=400, look=large)  # larger, but named by its video alone
    clip_file(clips / "b" / f"{NAMES[1]}.mp4", first=500)
    fetch(small, clips)
    rows = settled(tmp_path / "store")
    assert rows[NAMES[0]]["came_from"] == f"b/{NAMES[0]}.mp4"
    assert (rows[NAMES[0]]["width"], rows[NAMES[0]]["height"]) == (160, 120)
    assert numbers(fetched(tmp_path / "store")[NAMES[1]])[0] == 500


def test_where_the_first_copy_is_broken_the_next_is_taken(fetch, small, tmp_path):
    clips = tmp_path / "clips"
    (clips / "a").mkdir(parents=True)
    (clips / "a" / f"{NAMES[0]}.mp4").write_bytes(clip_bytes()[:900])
    clip_file(clips / "b" / f"{NAMES[0]}.mp4", first=700)
    (clips / "a" / f"{VAL[0][0]}.mp4").write_bytes(b"<html>")
    clip_file(clips / "b" / f"{VAL[0][0]}.mp4", seconds=6)
    fetch(small, clips)
    rows = settled(tmp_path / "store")
    assert [(row["failure"], row["came_from"]) for row in rows.values()] == [
        (None, f"b/{NAMES[0]}.mp4"),
        (None, f"b/{VAL[0][0]}.mp4"),
    ]


# The walk.


def test_links_are_followed_and_loops_are_not(fetch, small, tmp_path):
    elsewhere = clips_in(tmp_path / "elsewhere" / "deep", NAMES[:2])
    clips = tmp_path / "clips"
    clips.mkdir()
    (clips / "linked").symlink_to(tmp_path / "elsewhere")
    (elsewhere / "up").symlink_to(clips)
    (clips / "self").symlink_to(clips)
    (clips / f"{NAMES[2]}.mp4").symlink_to(elsewhere / f"{NAMES[0]}.mp4")
    (clips / f"{NAMES[3]}.mp4").symlink_to(tmp_path / "nowhere")
    result = fetch(small, clips)
    assert "This run: 3 clips fetched" in result.stdout
    rows = settled(tmp_path / "store")
    assert rows[NAMES[0]]["came_from"] == f"linked/deep/{NAMES[0]}.mp4"
    assert "No such file" in rows[NAMES[3]]["message"]


def test_a_link_that_leads_to_itself_stops_nothing(fetch, small, tmp_path):
    clips = clips_in(tmp_path / "clips", NAMES[:1])
    for name in (f"{NAMES[1]}.mp4", "folder", ".hidden"):
        (clips / name).symlink_to(clips / name)
    assert "1 clip fetched, 0.0 MB, 1 unreadable" in fetch(small, clips).stdout
    assert "Too many levels of symbolic links" in settled(tmp_path / "store")[NAMES[1]]["message"]


def test_a_folder_that_goes_while_it_is_walked(tmp_path, monkeypatch):
    """A downloader may be at work in it."""
    for folder in ("a", "b", "c"):
        clips_in(tmp_path / folder, NAMES[:1])

    def scandir(path: str) -> Any:
        if path == str(tmp_path / "b"):
            shutil.rmtree(path)
        return really(path)

    really = os.scandir
    monkeypatch.setattr("k710.store.local_files.os.scandir", scandir)
    assert LocalFiles(tmp_path).by_span == {NAMES[0]: [f"{folder}/{NAMES[0]}.mp4" for folder in "ac"]}


@pytest.mark.slow
def test_files_that_a_disk_does_not_give_are_asked_for_again(fetch, small, tmp_path):
    """A disk that was unmounted in mid-run says nothing of the clips."""
    clips, away = tmp_path / "clips", clips_in(tmp_path / "away")
    clips.mkdir()
    for name in NAMES:
        (clips / f"{name}.mp4").symlink_to(away / f"{name}.mp4")
    away.rename(tmp_path / "unmounted")
    for _ in range(2):
        assert "0 clips fetched, 0.0 MB, 5 unreadable." in fetch(small, clips).stdout
    assert "No such file" in settled(tmp_path / "store")[NAMES[0]]["message"]
    (tmp_path / "unmounted").rename(away)
    assert "5 clips fetched" in fetch(small, clips).stdout


def test_what_is_no_clip_file_is_passed_over(tmp_path):
    for name in (f"{NAMES[0]}.mp4", f"{NAMES[0]}.MKV", "train-00001.webm", f"sub/{NAMES[1]}.avi"):
        clip_file(tmp_path / Path(name).parent / "x.mp4").rename(tmp_path / name)
    for name in (f"{NAMES[0]}.mp4.part", f"{NAMES[0]}.json", f"{NAMES[0]}", "holiday.mp4", f".cache/{NAMES[2]}.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / f"{NAMES[3]}.mp4").mkdir()  # a folder of that name
    found = LocalFiles(tmp_path)
    assert found.by_span == {
        NAMES[0]: [f"{NAMES[0]}.MKV", f"{NAMES[0]}.mp4"],
        NAMES[1]: [f"sub/{NAMES[1]}.avi"],
    }
    assert found.by_video == {"train-00001": ["train-00001.webm"]}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_must_not_be_read_is_named(fetch, small, tmp_path):
    closed = clips_in(tmp_path / "clips" / "closed", NAMES[:1])
    closed.chmod(0)
    try:
        result = fetch(small, tmp_path / "clips", code=1)
    finally:
        closed.chmod(0o755)
    assert f"{closed}: Permission denied; everything under local:DIR must be readable" in result.stderr


def test_a_folder_that_cannot_be_listed_is_named(fetch, small, tmp_path, monkeypatch):
    closed = clips_in(tmp_path / "clips" / "closed", NAMES[:1])

    def scandir(path: str) -> Any:
        if path == str(closed):
            raise PermissionError(13, "Permission denied", path)
        return really(path)

    really = os.scandir
    monkeypatch.setattr("k710.store.local_files.os.scandir", scandir)
    result = fetch(small, tmp_path / "clips", code=1)
    assert f"{closed}: Permission denied" in result.stderr
    assert settled(tmp_path / "store") == {}


def test_a_folder_that_is_not_there(fetch, small, tmp_path):
    (tmp_path / "a-file").touch()
    for name in ("nowhere", "a-file"):
        result = fetch(small, tmp_path / name, code=1)
        assert result.stderr == f"k710: local:{tmp_path / name}: no such folder\n"
    assert not (tmp_path / "store").exists()


def test_a_folder_without_a_single_clip(fetch, small, tmp_path):
    (tmp_path / "clips" / "sub").mkdir(parents=True)
    (tmp_path / "clips" / "holiday.mp4").touch()
    result = fetch(small, tmp_path / "clips", code=1)
    assert f"local:{tmp_path / 'clips'}: has no clips" in result.stderr
    assert not (tmp_path / "store").exists()


def test_a_folder_of_other_clips_is_no_error(fetch, small, tmp_path):
    result = fetch(small, clips_in(tmp_path / "clips", ["other-clip0_000000_000002"]))
    assert "This run: 0 clips fetched" in result.stdout


class Entry:
    """An os.DirEntry that counts what costs a system call: the folder's own listing says what is a folder."""

    def __init__(self, entry: os.DirEntry[str], calls: Counter[str]) -> None:
        self.name, self.path, self._entry, self._calls = entry.name, entry.path, entry, calls
        self.is_dir, self.is_file = entry.is_dir, entry.is_file

    def stat(self) -> os.stat_result:
        self._calls["stat"] += 1
        return self._entry.stat()


@pytest.mark.parametrize(
    ("number", "workers", "sizes"),
    [
        (0, 2, []),
        (1, 2, [1]),
        (3, 2, [1, 1, 1]),
        (16, 2, [2, 4, 4, 4, 2]),
        (40, 1, [20, 20]),
        (1500, 1, [250, 500, 500, 250]),
    ],
)
def test_the_first_unit_is_half_as_large(number, workers, sizes, small, tmp_path):
    """So units that are done side by side do not end, and commit, at the same time."""
    for place in range(number + 1):
        (tmp_path / f"train-{place:05d}_000000_000002.mp4").touch()
    clip_ids = pa.array([f"train-{place:05d}_000000_000002" for place in range(number)], pa.string())
    units = LocalClips(LocalOrigin(tmp_path), open_manifest(small)).units(clip_ids, workers)
    assert [len(unit.clips) for unit in units] == sizes
    assert {str(clip) for unit in units for clip in unit.clips} == set(clip_ids.to_pylist())


def test_one_process_more_than_cores(monkeypatch):
    """A core has work while one of them starts ffmpeg or checks; a number that is given is kept."""
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    assert fetch_options(()).workers == 5
    assert fetch_options((), workers=2).workers == 2


def test_no_system_call_per_clip(small, tmp_path, monkeypatch):
    """650,000 clips on a network disk: a stat each would take an hour, so only folders are asked."""
    calls: Counter[str] = Counter()

    def counted(name: str) -> Any:
        function = getattr(os, name)

        def count(*arguments: Any, **more: Any) -> Any:
            calls[name] += 1
            found = function(*arguments, **more)
            return [Entry(entry, calls) for entry in found] if name == "scandir" else found

        return count

    counts = []
    for number in (1, 40):
        folder = tmp_path / str(number)
        (folder / "sub").mkdir(parents=True)
        for place in range(number):
            for suffix in ("mp4", "json"):
                (folder / "sub" / f"train-{place:05d}_000000_000002.{suffix}").touch()
        manifest = open_manifest(small)
        clip_ids = manifest.clips["clip_id"].combine_chunks()
        with monkeypatch.context() as patched:
            for name in ("stat", "lstat", "open", "scandir", "listdir", "access", "readlink"):
                patched.setattr(os, name, counted(name))
            units = LocalClips(LocalOrigin(folder), manifest).units(clip_ids, 1)
        assert sum(len(unit.clips) for unit in units) == min(number, len(TRAIN))
        counts.append(dict(calls))
        calls.clear()
    assert counts[0]["scandir"] == 2  # of the folder and of the one in it
    assert counts[0]["stat"] >= 2
    assert counts[0] == counts[1]


# Again.


def test_a_second_run_does_nothing(fetch, small, tmp_path, monkeypatch):
    clips = clips_in(tmp_path / "clips")
    fetch(small, clips)
    before = files_under(tmp_path / "store")

    def never(*arguments: object, **more: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(helper_pool.subprocess, "Popen", never)
    result = fetch(small, clips)
    assert "This run: 0 clips fetched, 0.0 MB." in result.stdout
    assert "k710 train       4         4             0   100.0%" in result.stdout
    assert files_under(tmp_path / "store") == before


@pytest.mark.slow
def test_new_files_are_fetched_beside_the_old(fetch, small, tmp_path):
    clips = clips_in(tmp_path / "clips", NAMES[:2])
    assert "2 clips fetched" in fetch(small, clips).stdout
    before = files_under(tmp_path / "store")
    clips_in(clips)
    assert "3 clips fetched" in fetch(small, clips).stdout
    assert files_under(tmp_path / "store").items() >= before.items()
    assert set(fetched(tmp_path / "store")) == set(NAMES)


@pytest.mark.slow
def test_a_failure_is_tried_again_only_when_asked(fetch, small, tmp_path):
    clips = clips_in(tmp_path / "clips", NAMES[:1])
    bad = clips / f"{NAMES[1]}.mp4"
    bad.write_bytes(b"<html>")
    result = fetch(small, clips)
    assert "1 clip fetched, 0.0 MB, 1 not_video." in result.stdout
    clip_file(bad, first=900)  # mended, but who would know
    for more in ((), ("--retry", "corrupt"), ("--retry", "gone,short")):
        assert "This run: 0 clips fetched, 0.0 MB." in fetch(small, clips, more=more).stdout
    assert "This run: 1 clip fetched" in fetch(small, clips, more=("--retry", "corrupt,not_video")).stdout
    assert numbers(fetched(tmp_path / "store")[NAMES[1]])[0] == 900


def test_a_retry_that_fails_again_is_settled_again(fetch, small, tmp_path):
    clips = tmp_path / "clips"
    clips.mkdir()
    (clips / f"{NAMES[1]}.mp4").write_bytes(b"<html>")
    fetch(small, clips)
    (clips / f"{NAMES[1]}.mp4").write_bytes(b"")
    assert "0 clips fetched, 0.0 MB, 1 not_video" in fetch(small, clips, more=("--retry", "not_video")).stdout
    assert settled(tmp_path / "store")[NAMES[1]]["message"] == "an empty file"


def test_what_failed_everywhere_is_not_tried_again(fetch, small, tmp_path):
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        folder.mkdir()
        (folder / f"{NAMES[0]}.mp4").touch()
    assert "0 clips fetched, 0.0 MB, 2 not_video." in fetch(small, *folders).stdout
    before = files_under(tmp_path / "store")
    assert "This run: 0 clips fetched, 0.0 MB." in fetch(small, *folders).stdout
    assert files_under(tmp_path / "store") == before


def test_what_failed_is_taken_from_the_next_origin(fetch, small, tmp_path):
    first, second = clips_in(tmp_path / "first", NAMES[:1]), tmp_path / "second"
    (first / f"{NAMES[1]}.mp4").write_bytes(b"")
    clip_file(second / f"{NAMES[0]}.mp4", first=100)
    clip_file(second / f"{NAMES[1]}.mp4", first=200)
    result = fetch(small, first, second)
    assert "This run: 2 clips fetched, 0.0 MB, 1 not_video." in result.stdout
    found = fetched(tmp_path / "store")
    assert {name: numbers(data)[0] for name, data in found.items()} == {NAMES[0]: 0, NAMES[1]: 200}
    rows = settled(tmp_path / "store")
    assert rows[NAMES[1]]["origin"] == f"local:{second}"
    assert "100" not in result.stderr
    assert "0 clips fetched" in fetch(small, first, second).stdout


def test_origins_may_be_listed_with_a_comma(fetch, small, tmp_path):
    first, second = clips_in(tmp_path / "first", NAMES[:1]), clips_in(tmp_path / "second", NAMES[:2])
    fetch(small, f"local:{first},local:{second}")
    origins = [row["origin"] for row in settled(tmp_path / "store").values()]
    assert origins == [f"local:{first}", f"local:{second}"]


def test_a_folder_with_a_comma_in_its_name(fetch, small, tmp_path):
    folders = [tmp_path / name for name in ("a,b", "c,cvdf", "back\\slash, and comma,")]
    for place, folder in enumerate(folders):
        clips_in(folder, NAMES[place : place + 1])
    fetch(small, ",".join(f"local:{folder}".replace(",", "\\,") for folder in folders))
    origins = [row["origin"] for row in settled(tmp_path / "store").values()]
    assert origins == [f"local:{folder}" for folder in folders]
    told = fetch(small, folders[0], code=2).stderr
    assert "unknown origin 'b'; known: local:DIR" in told
    assert "(a comma in a name is written \\,)" in told


@pytest.mark.parametrize("origin", ["local", "local:", "youtub", "cvdf2", "", "local:x,", "Local:x"])
def test_an_unknown_origin(k710, small, tmp_path, origin):
    result = k710("fetch", small, "--from", origin, "--store", tmp_path / "store")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "unknown origin" in result.stderr
    assert "known: local:DIR, cvdf, cvdf:URL" in result.stderr


# What is wanted.


VIEWS = {
    ("k400", "train"): ["4-train", "in-both"],
    ("k400", "val"): ["4-val", "leaked"],
    ("k400", "test"): ["4-test"],
    ("k600", "train"): ["6-train", "in-both", "leaked+"],
    ("k600", "val"): ["6-val"],
    ("k600", "test"): ["6-test"],
}


def clip(name: str) -> tuple[str, int, int]:
    """A clip called so; with a plus, another span of the same video."""
    return name.removesuffix("+").ljust(11, "-"), *((5, 7) if name.endswith("+") else (0, 2))


@pytest.fixture(scope="session")
def views(k710, tmp_path_factory) -> Path:
    """Two releases with test lists: a video that leaked, a clip in both, and clips that only a test list has."""
    return build(
        k710, tmp_path_factory.mktemp("views"), {key: [clip(name) for name in names] for key, names in VIEWS.items()}
    )


@pytest.mark.parametrize(
    ("more", "wanted"),
    [
        ("", "4-train in-both 4-val leaked 6-train leaked+ 6-val"),
        ("--splits train,val,test", "4-train in-both 4-val leaked 4-test 6-train leaked+ 6-val 6-test"),
        ("--splits val", "4-val leaked 6-val"),
        ("--splits test", "4-test 6-test"),
        ("--view k710", "4-train in-both 4-val leaked 6-train 6-val"),
        ("--view k600", "6-train in-both leaked+ 6-val"),
        ("--view k400 --splits train", "4-train in-both"),
    ],
)
@pytest.mark.slow
def test_views_and_splits_choose_the_clips(fetch, views, tmp_path, more, wanted):
    names = {name: "{}_{:06d}_{:06d}".format(*clip(name)) for names in VIEWS.values() for name in names}
    (tmp_path / "clips").mkdir()
    for name in names.values():
        (tmp_path / "clips" / f"{name}.mp4").touch()  # settled as no video, which is enough to see it was wanted
    fetch(views, tmp_path / "clips", more=more.split())
    assert set(settled(tmp_path / "store")) == {names[name] for name in wanted.split()}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--view", "k800"), "unknown view 'k800'"),
        (("--splits", "dev"), "unknown split 'dev'"),
        (("--limit", "0"), "0 is not in the range"),
        (("--workers", "0"), "0 is not in the range"),
    ],
)
def test_choices_that_cannot_be(k710, small, tmp_path, more, message):
    result = k710("fetch", small, "--from", f"local:{tmp_path}", "--store", tmp_path / "s", *more)
    assert result.exit_code == 2
    assert message in result.stderr
    assert not (tmp_path / "s").exists()


@pytest.mark.slow
def test_a_limit_is_a_sample_that_grows(k710, tmp_path):
    many = [(f"many-{number:06d}", 0, 2) for number in range(60)]
    manifest = build(k710, tmp_path, {("k400", "train"): many, ("k400", "val"): VAL})
    for youtube_id, start, end in (*many, *VAL):
        (tmp_path / "clips").mkdir(exist_ok=True)
        (tmp_path / "clips" / f"{youtube_id}_{start:06d}_{end:06d}.mp4").touch()

    def taken(limit: int, store: str) -> set[str]:
        options = ("--store", tmp_path / store, "--limit", limit, "--workers", 1)
        assert k710("fetch", manifest, "--from", f"local:{tmp_path / 'clips'}", *options).exit_code == 0
        return set(settled(tmp_path / store))

    five, fifteen = taken(5, "a"), taken(15, "b")
    assert (len(five), len(fifteen)) == (5, 15)
    assert five < fifteen
    assert taken(5, "c") == five
    assert taken(15, "a") == fifteen  # goes on where a smaller limit stopped
    assert five != {f"many-{number:06d}_000000_000002" for number in range(5)}  # not the first by name
    assert len(taken(1000, "a")) == 61


# Profiles and stores.


@pytest.mark.slow
def test_another_profile_stands_beside_the_first(fetch, small, tmp_path):
    clips = clips_in(tmp_path / "clips", NAMES[:1], audio_s=2.0)
    fetch(small, clips)
    before = files_under(tmp_path / "store")
    for more in (("--profile", "source"), ("--audio",)):
        assert "1 clip fetched" in fetch(small, clips, more=more).stdout
    assert {path.name for path in (tmp_path / "store" / "media").iterdir()} == {"h264", "h264-audio", "source"}
    assert files_under(tmp_path / "store").items() >= before.items()
    assert fetched(tmp_path / "store", "source")[NAMES[0]] == (clips / f"{NAMES[0]}.mp4").read_bytes()


@pytest.mark.slow
def test_other_settings_under_the_same_name_are_refused(fetch, small, tmp_path):
    clips = clips_in(tmp_path / "clips", NAMES[:1])
    own = tmp_path / "own.yaml"
    own.write_text("crf: 30\n")
    fetch(small, clips, more=("--profile", own))
    before = files_under(tmp_path / "store")
    clips_in(clips, NAMES[:2])
    own.write_text("crf: 31\ngop_frames: 8\n")
    result = fetch(small, clips, code=1, more=("--profile", own))
    assert "its clips were made with other settings (crf 30 → 31, gop_frames 16 → 8)" in result.stderr
    assert "another name" in result.stderr
    assert files_under(tmp_path / "store") == before
    own.write_text("gop_frames: 16\ncrf: 30\n# the same\n")
    assert "1 clip fetched" in fetch(small, clips, more=("--profile", own)).stdout


@pytest.mark.slow
def test_two_manifests_share_a_store(fetch, k710, small, tmp_path):
    other = build(
        k710, tmp_path, {("k600", "train"): [TRAIN[0], ("k600-only-0", 0, 2)], ("k600", "val"): [("k600-val--0", 0, 2)]}
    )
    clips = clips_in(tmp_path / "clips", [*NAMES, "k600-only-0_000000_000002"])
    fetch(small, clips)
    result = fetch(other, clips)
    assert "This run: 1 clip fetched" in result.stdout
    assert "k600 train       2         2             0   100.0%" in result.stdout
    assert "k400" not in result.stdout


@pytest.mark.slow
def test_the_store_stands_in_the_manifest_where_none_is_named(k710, tmp_path):
    manifest = build(k710, tmp_path, {("k400", "train"): TRAIN, ("k400", "val"): VAL})
    clips = clips_in(tmp_path / "clips", NAMES[:1])
    result = k710("fetch", manifest, "--from", f"local:{clips}", "--workers", 1)
    assert result.exit_code == 0, result.output
    assert set(fetched(manifest / "store")) == {NAMES[0]}
    assert list((manifest / "store" / "scratch").iterdir()) == []
    assert k710("status", manifest).stdout.startswith(f"{manifest / 'store'}, profile h264\n")


# What it says.


def test_status_counts_what_is_there(fetch, k710, small, tmp_path):
    clips = clips_in(tmp_path / "clips", NAMES[:2])
    (clips / f"{NAMES[2]}.mp4").write_bytes(b"")
    clip_file(clips / f"{NAMES[4]}.mp4", seconds=1.2)
    fetch(small, clips)
    told = k710("status", small, "--store", tmp_path / "store")
    assert told.exit_code == 0, told.output
    lines = [line.split() for line in told.stdout.splitlines()]
    assert lines[1] == ["clips", "fetched", "not_video", "not", "settled", "there"]
    assert ["k710", "train", "4", "2", "1", "1", "50.0%"] in lines
    assert ["k400", "val", "1", "1", "0", "0", "100.0%"] in lines
    assert "Kept and flagged: 1 short." in told.stdout
    found = json.loads(k710("status", small, "--store", tmp_path / "store", "--json").stdout)
    train = {"view": "k710", "split": "train", "clips": 4, "fetched": 2, "flagged": 0, "failed": {"not_video": 1}}
    val = {"view": "k400", "split": "val", "clips": 1, "fetched": 1, "flagged": 1, "failed": {}}
    assert list(found) == ["h264"]
    assert (found["h264"][0], found["h264"][-1]) == (train, val)
    assert [(line["view"], line["split"]) for line in found["h264"]] == [
        (view, split) for view in ("k710", "k400") for split in ("train", "val")
    ]


@pytest.mark.slow
def test_flags_of_other_manifests_clips_are_theirs(fetch, k710, small, views, tmp_path):
    """A store may be shared."""
    clips = clips_in(tmp_path / "clips", NAMES[:1])
    clip_file(clips / f"{NAMES[1]}.mp4", seconds=1.2)
    fetch(small, clips)
    told = k710("status", views, "--store", tmp_path / "store").stdout
    assert "Kept and flagged" not in told
    assert "Kept and flagged: 1 short." in k710("status", small, "--store", tmp_path / "store").stdout


def test_nothing_wanted_is_said(fetch, small, tmp_path):
    for more, said in ((("--view", "k600"), "view k600"), (("--splits", "test"), "any release")):
        told = fetch(small, clips_in(tmp_path / "clips", NAMES[:1]), more=more, code=2).stderr
        splits = "test" if "--splits" in more else "train, val"
        assert told == f"k710: {small}: has no clip of {said} in splits {splits}\n"
    assert not (tmp_path / "store").exists()


def test_a_failure_elsewhere_does_not_count_against_a_clip_that_is_there(fetch, k710, small, tmp_path):
    first, second = tmp_path / "first", clips_in(tmp_path / "second", NAMES[:1])
    first.mkdir()
    (first / f"{NAMES[0]}.mp4").touch()
    fetch(small, second)
    fetch(small, first, second, more=("--retry", "not_video"))
    fetch(small, second, first)
    found = json.loads(k710("status", small, "--store", tmp_path / "store", "--json").stdout)
    assert (found["h264"][0]["fetched"], found["h264"][0]["failed"]) == (1, {})


def test_status_without_a_store(k710, small, tmp_path):
    result = k710("status", small, "--store", tmp_path / "none")
    assert result.exit_code == 1
    assert (
        result.stderr
        == f"k710: {tmp_path / 'none'}: no store there; `k710 fetch {small} --store {tmp_path / 'none'}` makes one\n"
    )


def test_a_dry_run_writes_nothing(fetch, small, tmp_path):
    clips = clips_in(tmp_path / "clips", NAMES[:3])
    before = files_under(tmp_path), files_under(small)
    result = fetch(small, clips, more=("--dry-run",), store=tmp_path / "deep" / "store")
    assert (files_under(tmp_path), files_under(small)) == before
    assert result.stdout.startswith(f"5 clips wanted, 0 of them in {tmp_path / 'deep' / 'store'}.\n")
    (line,) = [line.split() for line in result.stdout.splitlines() if line.startswith("local:")]
    assert line == [f"local:{clips}", "3"]
    assert "To store: about 3.0 MB; scratch: at most" in result.stdout
    fetch(small, clips)
    before = files_under(tmp_path)
    result = fetch(small, clips, more=("--dry-run",))
    assert files_under(tmp_path) == before
    assert result.stdout.startswith(f"5 clips wanted, 3 of them in {tmp_path / 'store'}.\n")


@pytest.mark.slow
def test_build_fetches_what_it_built(k710, tmp_path):
    from tests.helpers.tiny_media import write_lists

    lists = write_lists(tmp_path / "lists", {("k400", "train"): TRAIN, ("k400", "val"): VAL})
    clips = clips_in(tmp_path / "clips", NAMES)
    options = ("--sources", "k400", "--annotations", lists, "--out", tmp_path / "m")
    result = k710("build", *options, "--clips", f"local:{clips}")
    assert result.exit_code == 0, result.output
    assert "This run: 5 clips fetched" in result.stdout
    assert set(fetched(tmp_path / "m" / "store")) == set(NAMES)
    for origin, code in (("local", 2), (f"local:{tmp_path / 'nowhere'}", 1)):
        wrong = k710("build", *options[:-1], tmp_path / f"m{code}", "--clips", origin)
        assert wrong.exit_code == code
    assert not (tmp_path / "m2").exists()  # an option that cannot be is told before anything is built


def test_a_full_disk_is_foreseen(fetch, small, tmp_path, monkeypatch):
    import shutil

    clips = clips_in(tmp_path / "clips", NAMES[:1])
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("k710.fetch.estimate.shutil.disk_usage", lambda path: usage._replace(free=1_000_000))
    result = fetch(small, clips, code=1)
    assert "1 clip needs about" in result.stderr
    assert "1.0 MB are free; take --limit, fewer --splits, or another --store" in result.stderr
    assert not (tmp_path / "store").exists()


def test_a_local_origin_without_a_folder(k710, small):
    """As --from local:$CLIPS is where CLIPS is not set: not the current folder, whatever is in it."""
    result = k710("fetch", small, "--from", "local:")
    assert result.exit_code == 2
    assert result.stderr.startswith("k710: unknown origin 'local:'; known: local:DIR, cvdf, ")


def test_files_are_opened_as_every_pyav_knows_it(monkeypatch):
    """PyAV 19 knows no stream_options; what is in `options` reaches every stream in 14 to 19."""
    asked = {}
    monkeypatch.setattr(source_file.av, "open", lambda file, **options: asked.update(options))
    source_file.open_video(Path("x.mp4"), Container("mov", "mp4"))
    assert set(asked) == {"format", "options", "metadata_errors"}
    assert asked["options"].keys() == {"protocol_whitelist", "format_whitelist", "enable_drefs", "max_pixels"}
