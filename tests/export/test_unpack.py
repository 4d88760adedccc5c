"""Clips as files: named as wanted, whole or not at all, and nothing written twice."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest

from k710.engine.engine import Stop
from k710.errors import StoreError
from k710.export import unpack as unpacking
from k710.export.unpack import Unpacking, unpack
from k710.manifest.read import open_manifest
from k710.manifest.views import split_of, view
from k710.store.store import Store
from tests.cli.test_bad_input import assert_refused
from tests.helpers.killed import kill_at_every_step
from tests.helpers.small_stores import clips_of, fake_media, manifest_of, put
from tests.helpers.tiny_media import files_under, frame_folder

TRAIN, VAL = clips_of(9, labels=("juggling balls", "archery")), clips_of(2, "val", first=9)
MISSING, FAILED = TRAIN[4].clip_id, TRAIN[5].clip_id
THERE = [clip for clip in TRAIN if clip.clip_id not in (MISSING, FAILED)]


@pytest.fixture(scope="module")
def house(k710, tmp_path_factory):
    folder = tmp_path_factory.mktemp("house")
    manifest = manifest_of(k710, folder, [*TRAIN, *VAL])
    media = {clip.clip_id: fake_media(clip.clip_id) for clip in (*THERE, *VAL)}
    put(Store(manifest / "store", "h264"), media | {FAILED: "corrupt"})
    return SimpleNamespace(path=manifest, media=media)


@pytest.fixture
def run(k710, house, tmp_path):
    def call(*options, out=tmp_path / "out", split="train"):
        return k710("unpack", house.path, "--view", "k400", "--split", split, "--out", out, *options)

    return call


def files(folder: Path) -> dict[str, bytes]:
    return {name: content for name, content in files_under(folder).items() if (folder / name).is_file()}


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ((), "{clip_id}.mp4"),
        (("--folders", "spaces"), "{label}/{clip_id}.mp4"),
        (("--folders", "underscores"), "{label_}/{clip_id}.mp4"),
        (("--template", "{split}/{label_}/{id}"), "train/{label_}/{id}.mp4"),
        (("--template", "{clip_id}.mp4"), "{clip_id}.mp4"),
    ],
)
def test_clips_become_files_with_the_names_wanted(options, name, run, house, tmp_path):
    result = run(*options)
    assert result.exit_code == 0, result.output
    wanted = {
        name.format(
            clip_id=clip.clip_id, label=clip.label, label_=clip.label.replace(" ", "_"), id=clip.youtube_id
        ): house.media[clip.clip_id]
        for clip in THERE
    }
    assert files(tmp_path / "out") == wanted
    assert "7 clips written" in result.stdout
    assert "left out of train: 1 not in the store, 1 corrupt" in result.stdout


def test_lists_name_the_files_that_unpack_writes(k710, run, house, tmp_path):
    assert run("--folders", "underscores").exit_code == 0
    options = ("--format", "slowfast", "--view", "k400", "--splits", "train", "--present")
    template = "{label_}/{clip_id}.mp4"
    assert k710("export", house.path, *options, "--template", template, "--out", tmp_path / "l").exit_code == 0
    paths = [line.split(" ")[0] for line in (tmp_path / "l" / "train.csv").read_text().splitlines()]
    assert len(paths) == 7
    assert sorted(paths) == sorted(files(tmp_path / "out"))


def test_a_second_run_does_nothing_and_a_hole_is_filled(run, tmp_path):
    assert run().exit_code == 0
    out = tmp_path / "out"
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    again = run()
    assert "0 clips written (0.0 MB), 7 there already" in again.stdout
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before
    gone = next(iter(before))
    gone.unlink()
    (out / ".tmp-0123456789abcdef").write_bytes(b"of a killed run")
    assert "1 clip written (0.0 MB), 6 there already" in run().stdout
    assert set(out.iterdir()) == set(before)


def test_something_else_in_a_clips_place_needs_force(run, house, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    name = f"{THERE[0].clip_id}.mp4"
    (out / name).write_bytes(b"mine")
    assert_refused(run(), f"{out / name}: is something else than the clip {THERE[0].clip_id} of this store; --force")
    assert files(out) == {name: b"mine"}, "nothing else was written"
    assert run("--force").exit_code == 0
    assert (out / name).read_bytes() == house.media[THERE[0].clip_id]
    (out / name).unlink()
    (out / name).mkdir()
    assert_refused(run("--force"), "is something else than the clip")


def test_a_link_among_the_folders_leads_nowhere(run, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "archery").symlink_to(tmp_path / "elsewhere")
    assert_refused(run("--folders", "spaces"), "is a link that leads out of --out")
    assert not list((tmp_path / "elsewhere").iterdir())


def test_files_are_linked_where_nothing_must_be_copied(run, house, tmp_path):
    """To another unpacked folder, or to the files that the clips were fetched from, in any layout."""
    assert run().exit_code == 0
    name = f"{THERE[0].clip_id}.mp4"
    (tmp_path / "out" / name).write_bytes(b"x" * 700)  # of the size, with other bytes
    result = run("--folders", "spaces", "--link-from", tmp_path / "out", out=tmp_path / "classes")
    assert result.exit_code == 0, result.output
    assert "1 clip written (0.0 MB), 6 linked" in result.stdout
    for clip in THERE:
        path = tmp_path / "classes" / clip.label / f"{clip.clip_id}.mp4"
        assert path.read_bytes() == house.media[clip.clip_id]
        assert (path.stat().st_nlink == 2) == (clip != THERE[0])
    again = run("--folders", "spaces", "--link-from", tmp_path / "out", out=tmp_path / "classes")
    assert "7 there already" in again.stdout


def test_other_file_systems_are_copied_to(run, tmp_path, monkeypatch):
    assert run().exit_code == 0

    def link(*names: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", link)
    result = run("--link-from", tmp_path / "out", out=tmp_path / "copies")
    assert "7 clips written" in result.stdout
    assert files(tmp_path / "copies") == files(tmp_path / "out")


@pytest.mark.slow
def test_frames_become_folders_of_jpegs(k710, tmp_path):
    lists = tmp_path / "lists"
    lists.mkdir()
    (lists / "something-something-v1-labels.csv").write_text("Putting a/b\n..\n")
    (lists / "something-something-v1-train.csv").write_text("7;Putting a/b\n8;..\n")
    (lists / "something-something-v1-validation.csv").write_text("9;..\n")
    for number in (7, 8):
        frame_folder(tmp_path / "videos" / str(number), range(number, number + 24))
    assert k710("build", "--sources", f"ssv1={lists}", "--out", tmp_path / "m").exit_code == 0
    fetch = ("--from", f"local:{tmp_path / 'videos'}", "--profile", "frames", "--workers", 1)
    assert k710("fetch", tmp_path / "m", *fetch).exit_code == 0
    options = ("--view", "ssv1", "--profile", "frames", "--template", "{label_}/{id}", "--frame-name", "{:05d}.jpg")
    result = k710("unpack", tmp_path / "m", *options, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    for folder, number in (("Putting_a_b", 7), ("_.", 8)):
        # The JPEGs were stored as they were released, and come out so.
        assert files(tmp_path / "out" / folder / str(number)) == files(tmp_path / "videos" / str(number))
    assert "2 there already" in k710("unpack", tmp_path / "m", *options, "--out", tmp_path / "out").stdout
    (tmp_path / "out" / "_." / "8" / "00003.jpg").unlink()
    assert_refused(k710("unpack", tmp_path / "m", *options, "--out", tmp_path / "out"), "--force replaces it")
    assert k710("unpack", tmp_path / "m", *options, "--out", tmp_path / "out", "--force").exit_code == 0
    assert files(tmp_path / "out" / "_." / "8") == files(tmp_path / "videos" / "8")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--template", "../{clip_id}"), "path template '../{clip_id}' leads out of --out"),
        (("--template", "/data/{clip_id}"), "leads out of --out"),
        (("--template", "{label}//{clip_id}"), "which has an empty name in it, or one that begins with a dot"),
        (("--template", "{clip_id}/"), "which has an empty name in it, or one that begins with a dot"),
        (("--template", "{clip_id}" + "x" * 250), "bytes; at most 255"),
        (("--template", "{label}"), "makes one path for all clips"),
        (("--template", "{youtube_id:.5}"), "would both be 'clip-.mp4'; add {clip_id} to --template"),
        (("--template", "{clip_id}", "--folders", "spaces"), "--template and --folders cannot be combined"),
        (("--frame-name", "frame.jpg"), "want a file name with one number"),
        (("--frame-name", "../{}.jpg"), "want a file name with one number"),
        (("--frame-name", "{x}.jpg"), "frame name '{x}.jpg'"),
        (("--profile", "frames"), "has no profile frames; it has h264"),
        (("--split", "test"), "the view has no test clips"),
        (("--link-from", "nowhere"), "no such folder"),
    ],
)
def test_what_cannot_be_unpacked(options, message, run, tmp_path):
    result = run(*options)
    assert result.exit_code != 0
    assert message in " ".join(result.stderr.split())
    assert not (tmp_path / "out").exists(), "nor the folder"


def test_a_manifest_is_no_place_for_clips(run, house):
    assert_refused(run(out=house.path), "is a manifest, which holds nothing else")


def test_a_subset(run, tmp_path):
    assert run("--per-class", 2).exit_code == 0
    assert len(files(tmp_path / "out")) == 4


def test_a_damaged_clip_is_none(run, k710, tmp_path):
    manifest = manifest_of(k710, tmp_path, [*TRAIN[:2], *VAL])
    store = Store(manifest / "store", "h264")
    put(store, {clip.clip_id: fake_media(clip.clip_id) for clip in TRAIN[:2]})
    (tar,) = store.tars_folder.iterdir()
    data = bytearray(tar.read_bytes())
    row = store.best_rows().to_pylist()[1]
    data[row["offset"] + 5] ^= 1
    tar.write_bytes(data)
    result = k710("unpack", manifest, "--view", "k400", "--out", tmp_path / "out")
    assert_refused(result, f"clip {row['clip_id']} is damaged; `k710 verify --repair` mends it")


def opened(house):
    manifest = open_manifest(house.path)
    table = split_of(view(manifest.clips, "k400"), "val")
    return manifest, table, Store(house.path / "store", "h264")


def test_a_full_disk_says_what_is_there(house, tmp_path, monkeypatch):
    real = unpacking.replacing

    def full(path: Path):
        if list(path.parent.glob("*.mp4")):
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return real(path)

    with monkeypatch.context() as patch:
        patch.setattr(unpacking, "replacing", full)
        patch.setattr(unpacking, "_AT_ONCE", 1)
        with pytest.raises(StoreError, match="the disk is full; 1 of 2 clips are there"):
            unpack(*opened(house), tmp_path / "out", Unpacking())
    assert len(files(tmp_path / "out")) == 1
    assert unpack(*opened(house), tmp_path / "out", Unpacking()).there == 1
    usage = SimpleNamespace(free=100)
    monkeypatch.setattr(unpacking.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(StoreError, match="are needed, 100 bytes are free"):
        unpack(*opened(house), tmp_path / "other", Unpacking())
    assert not (tmp_path / "other").exists()


def test_a_stop_ends_between_clips(house, tmp_path, monkeypatch):
    monkeypatch.setattr(unpacking, "_AT_ONCE", 1)
    stop = Stop()
    done = unpack(*opened(house), tmp_path / "out", Unpacking(), stop=stop, on_progress=lambda *of: stop.ask("enough"))
    assert (done.written, len(files(tmp_path / "out"))) == (1, 1)


def test_ctrl_c_exits_with_1_and_says_how_to_go_on(run, monkeypatch, tmp_path):
    monkeypatch.setattr(unpacking, "_AT_ONCE", 1)
    real = unpacking.replacing

    def interrupted(path: Path):
        os.kill(os.getpid(), signal.SIGINT)
        return real(path)

    with monkeypatch.context() as patch:
        patch.setattr(unpacking, "replacing", interrupted)
        result = run()
    assert result.exit_code == 1
    assert "1 clip written" in result.stdout
    assert result.stderr.endswith("k710: stopped by SIGINT; the same command goes on from there\n")
    assert len(files(tmp_path / "out")) == 1
    assert "6 clips written" in run().stdout


@pytest.mark.slow
def test_killed_at_any_moment_it_leaves_whole_files_and_goes_on(run, house, tmp_path):
    """A file with a clip's name has all of its bytes, whenever the process died."""
    options = ("--view", "k400", "--split", "val", "--out", "{folder}/out")
    imports = ("k710.cli.unpack", "k710.export.unpack", "k710.export.selection")
    steps = kill_at_every_step(tmp_path / "k", ("unpack", str(house.path), *options), imports=imports)
    assert steps > 8
    counts = []
    for step in range(steps + 1):
        out = tmp_path / f"k.{step}" / "out"
        found = {name: content for name, content in files(out).items() if not name.startswith(".")}
        assert all(content == house.media[name.removesuffix(".mp4")] for name, content in found.items())
        counts.append(len(found))
        assert run(out=out, split="val").exit_code == 0
        assert set(files(out)) == {f"{clip.clip_id}.mp4" for clip in VAL}, "the next one clears up"
    assert (counts[0], counts[-1]) == (0, 2)
