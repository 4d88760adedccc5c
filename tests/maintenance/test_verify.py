"""Every damage to a store is found and named, and mended at the cost of the damaged clips alone."""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import shutil
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from k710.fetch.encode.jobs import Made
from k710.fetch.encode.measured import Measured
from k710.fetch.encode.profiles import read_profile
from k710.fetch.scratch import scratch_folder
from k710.maintenance import verify
from k710.store.store import Store, read_unit
from k710.text import counted
from tests.helpers.killed import MOST_STEPS, kill_at_every_step
from tests.helpers.small_stores import (
    clips_of,
    copy_of,
    fake_media,
    film,
    hashes,
    left_in_scratch,
    made_of,
    manifest_of,
    members,
    put,
    stored,
    tars,
)

CLIPS = [*clips_of(7), *clips_of(2, "val", first=7)]
NOT_VIDEO = CLIPS[3].clip_id
GOOD = {clip.clip_id for clip in CLIPS} - {NOT_VIDEO}


@pytest.fixture(scope="module")
def fetched(tmp_path_factory, k710):
    """A manifest with a store as `k710 fetch` makes it, of two units and a failure; not to be changed."""
    folder = tmp_path_factory.mktemp("fetched")
    manifest = manifest_of(k710, folder, CLIPS)
    film(folder / "clips", CLIPS)
    (folder / "clips" / f"{NOT_VIDEO}.mp4").write_text("<html>gone</html>")
    result = k710("fetch", manifest, "--from", f"local:{folder / 'clips'}", "--workers", 1)
    assert result.exit_code == 0, result.output
    store = Store(manifest / "store", "h264")
    assert len(store.unit_files()) == len(tars(store)) == 2
    assert stored(store).keys() == GOOD
    return manifest


@pytest.fixture
def manifest(fetched, tmp_path):
    """A copy to be damaged; the origin is where it was."""
    return Path(shutil.copytree(fetched, tmp_path / "m"))


@pytest.fixture
def store(manifest):
    return Store(manifest / "store", "h264")


def unit_of(store: Store, clip_id: str) -> Path:
    return next(file for file in store.unit_files() if clip_id in read_unit(file)[0]["clip_id"].to_pylist())


def rows_of(store: Store, file: Path) -> list[dict[str, Any]]:
    """The rows of the unit's clips that are there, in the order of the tar."""
    rows = [row for row in read_unit(file)[0].to_pylist() if row["failure"] is None]
    return sorted(rows, key=lambda row: row["offset"])


def flip(path: Path, at: int) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:at] + bytes([content[at] ^ 0x10]) + content[at + 1 :])


# Each damages the unit whose rows it is given, and says which clips are lost and what is said of it. The unit with the
# failure is the one, so that a repair has a failure to carry over.
Damage = Callable[[Path, Path, list[dict[str, Any]]], tuple[set[str], list[str]]]


def in_a_clip(file: Path, tar: Path, rows: list[dict[str, Any]]) -> tuple[set[str], list[str]]:
    flip(tar, rows[1]["offset"] + rows[1]["size"] // 2)
    clip_id = rows[1]["clip_id"]
    return {clip_id}, [f"{clip_id}: its bytes have changed", f"{tar.name}: its SHA-256 begins with "]


def in_a_header(file: Path, tar: Path, rows: list[dict[str, Any]]) -> tuple[set[str], list[str]]:
    flip(tar, rows[1]["offset"] - 512)
    return set(), [f"{tar.name}: its SHA-256 begins with "]


def in_a_sidecar(file: Path, tar: Path, rows: list[dict[str, Any]]) -> tuple[set[str], list[str]]:
    flip(tar, rows[1]["offset"] - 512 - 300)
    return set(), [f"{tar.name}: its SHA-256 begins with "]


def something_behind_the_tar(file: Path, tar: Path, rows: list[dict[str, Any]]) -> tuple[set[str], list[str]]:
    tar.write_bytes(tar.read_bytes() + b"more")
    return set(), [f"{tar.name}: its SHA-256 begins with "]


def cut_off_tar(file: Path, tar: Path, rows: list[dict[str, Any]]) -> tuple[set[str], list[str]]:
    """In the middle of a clip: that one and all behind it are lost."""
    os.truncate(tar, rows[-2]["offset"] + 100)
    lost = {row["clip_id"] for row in rows[-2:]}
    return lost, [*(f"{clip_id}: cut off" for clip_id in lost), f"{tar.name}: its SHA-256 begins with "]


def empty_tar(file: Path, tar: Path, rows: list[dict[str, Any]]) -> tuple[set[str], list[str]]:
    os.truncate(tar, 0)
    said = [*(f"{row['clip_id']}: cut off" for row in rows), f"{tar.name}: its SHA-256 begins with "]
    return {row["clip_id"] for row in rows}, said


def tar_that_is_gone(file: Path, tar: Path, rows: list[dict[str, Any]]) -> tuple[set[str], list[str]]:
    tar.unlink()
    return {row["clip_id"] for row in rows}, [f"{row['clip_id']}: {tar.name} is gone" for row in rows]


def rows_cut_off(file: Path, tar: Path, rows: list[dict[str, Any]]) -> tuple[set[str], list[str]]:
    """The tar has its clips still."""
    os.truncate(file, file.stat().st_size // 2)
    return set(), [f"{file}: damaged: "]


def rows_that_changed(file: Path, tar: Path, rows: list[dict[str, Any]]) -> tuple[set[str], list[str]]:
    flip(file, file.read_bytes().index(b'"origin": "local:') + len(b'"origin": "'))
    return set(), [f"{file}: damaged: "]


def rows_and_tar(file: Path, tar: Path, rows: list[dict[str, Any]]) -> tuple[set[str], list[str]]:
    """What an altered tar says of its clips is not to be believed."""
    os.truncate(file, 10)
    tar.write_bytes(tar.read_bytes().replace(b'"num_frames": 1', b'"num_frames": 2'))
    return {row["clip_id"] for row in rows}, [f"{file}: damaged: "]


DAMAGES = (
    in_a_clip,
    in_a_header,
    in_a_sidecar,
    something_behind_the_tar,
    cut_off_tar,
    empty_tar,
    tar_that_is_gone,
    rows_cut_off,
    rows_that_changed,
    rows_and_tar,
)


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
@pytest.mark.slow
def test_a_damage_is_found_mended_and_fetched(k710, fetched, manifest, store, damage):
    before, tars_before = stored(store), tars(store)
    file = unit_of(store, NOT_VIDEO)
    rows = rows_of(store, file)
    lost, said = damage(file, store.tars_folder / rows[0]["tar"], rows)

    result = k710("verify", manifest)
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert len(lines) == 1 + len(said)
    for part in said:
        assert any(line.startswith(f"  {file.name}: {part}") for line in lines[1:]), (part, lines)
    assert result.stderr == "k710: 1 unit is damaged; --repair writes them anew from what is intact\n"

    result = k710("verify", manifest, "--repair")
    assert result.exit_code == 0, result.output
    assert "repaired 1 unit" in result.stdout
    assert stored(store) == {clip_id: media for clip_id, media in before.items() if clip_id not in lost}
    if not damage.__name__.startswith("rows"):
        assert f"wanted again: {counted(len(lost), 'clip')}" in result.stdout
        [row] = [row for row in store.best_rows().to_pylist() if row["clip_id"] == NOT_VIDEO]
        assert row["failure"] == "not_video", "what was settled as failed stays settled"
    if not lost:
        assert tars(store) == tars_before, "the same clips make the same tar"
    clean(k710, manifest)

    result = k710("fetch", manifest, "--from", f"local:{fetched.parent / 'clips'}", "--workers", 1)
    assert result.exit_code == 0, result.output
    assert f"{counted(len(lost), 'clip')} fetched" in result.stdout
    assert stored(store) == before
    clean(k710, manifest)


def clean(k710: Any, manifest: Path) -> None:
    """Nothing to complain of, not even an orphan."""
    result = k710("verify", manifest, "--decode", "--workers", 1)
    assert result.exit_code == 0, result.output
    assert len(result.stdout.splitlines()) == 2
    assert result.stdout.endswith("\nEverything is as the rows say.\n")
    assert left_in_scratch(Store(manifest / "store", "h264")) == []


def test_damage_in_several_units_and_profiles(k710, manifest, store):
    other = copy_of(store, manifest.parent / "other")
    for inside in ("media", "tars"):
        shutil.move(other.root / inside / "h264", store.root / inside / "small")
    small = Store(store.root, "small")
    for at in (store, small):
        for tar in at.tars_folder.iterdir():
            flip(tar, 700)
    result = k710("verify", manifest)
    assert result.exit_code == 1
    assert result.stderr.startswith("k710: 4 units are damaged")
    result = k710("verify", manifest, "--repair")
    assert result.exit_code == 0
    assert result.stdout.count("repaired 2 units; wanted again: 2 clips") == 2
    assert len(stored(store)) == len(stored(small)) == len(GOOD) - 2
    assert k710("verify", manifest).exit_code == 0


def test_a_unit_with_a_damaged_clip_beside_one_whose_rows_cannot_be_read(k710, manifest, store):
    before, (first, second) = stored(store), store.unit_files()
    row = rows_of(store, first)[0]
    flip(store.tars_folder / row["tar"], row["offset"])
    os.truncate(second, 100)
    result = k710("verify", manifest, "--repair")
    assert result.exit_code == 0, result.output
    assert "repaired 2 units; wanted again: 1 clip, and what else units held whose rows cannot be read" in result.stdout
    assert stored(store) == {clip_id: media for clip_id, media in before.items() if clip_id != row["clip_id"]}
    clean(k710, manifest)


def test_nothing_is_written_without_repair(k710, manifest, store):
    flip(next(store.tars_folder.iterdir()), 700)
    before = {path: path.read_bytes() for path in manifest.rglob("*") if path.is_file()}
    assert k710("verify", manifest).exit_code == 1
    assert {path: path.read_bytes() for path in manifest.rglob("*") if path.is_file()} == before


def test_a_store_that_is_not_there(k710, manifest, store):
    shutil.rmtree(store.root)
    result = k710("verify", manifest)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"k710: {store.root}: no store there; `k710 fetch {manifest}` makes one\n"


# Orphans.


def test_a_tar_that_no_row_names_is_listed_and_removed(k710, manifest, store):
    orphan = store.tars_folder / "local-00000000-0-00000000.tar"
    orphan.write_bytes(b"half a tar")
    result = k710("verify", manifest)
    assert result.exit_code == 0, "it harms nobody"
    assert f"  {orphan.name}: no row names it; an interrupted run left it\n" in result.stdout
    assert orphan.exists()
    assert k710("verify", manifest, "--repair").exit_code == 0
    assert not orphan.exists()
    clean(k710, manifest)


def test_a_media_file_that_is_gone_leaves_orphans(k710, fetched, manifest, store):
    before, file = stored(store), store.unit_files()[0]
    lost = {row["clip_id"] for row in rows_of(store, file)}
    file.unlink()
    result = k710("verify", manifest, "--repair")
    assert result.exit_code == 0
    assert result.stdout.count("no row names it") == 1
    assert stored(store).keys() == GOOD - lost
    assert k710("fetch", manifest, "--from", f"local:{fetched.parent / 'clips'}").exit_code == 0
    assert stored(store) == before
    clean(k710, manifest)


def test_no_tar_counts_as_an_orphan_while_rows_cannot_be_read(k710, manifest, store):
    """Their tars would be taken for orphans, and the message would be wrong."""
    os.truncate(store.unit_files()[0], 100)
    assert "no row names it" not in k710("verify", manifest).stdout


def test_two_units_may_name_one_tar(store):
    """A unit done again with the same clips and other rows has the same tar; while one names it, it stays."""
    media = {clip.clip_id: fake_media(clip.clip_id) for clip in CLIPS[:2]}
    fresh = Store(store.root, "fresh")
    put(fresh, media)
    put(fresh, media)
    assert len(fresh.unit_files()) == len(tars(fresh)) == 1
    assert verify.orphan_tars(fresh) == []


# Rows that cannot be read.

FROM_THE_TAR = ("origin", "came_from", "settled_at", "unit")


def test_rows_are_recovered_from_the_tars_but_for_where_the_clips_came_from(k710, store):
    media = {clip.clip_id: fake_media(clip.clip_id) for clip in CLIPS[:3]} | {CLIPS[3].clip_id: "gone"}
    name = put(fresh := Store(store.root.parent / "fresh", "h264"), media)
    with scratch_folder(fresh.root) as scratch:
        unit = verify.StoreUnit(fresh, "local", scratch)
        path = scratch / "x.mjpeg"
        path.write_bytes(b"jpegs")
        measured = Measured(64, 48, 8.0, 16, 2.0, "mjpeg")
        made = Made(
            "-starts-dsh_000000_000010", None, None, str(path), "mjpeg", measured, ("short",), 0, (0, 3), (0, 9)
        )
        unit.add(made, origin="local:/b", came_from="x.mp4")
        other = unit.commit({"unit": "local"})
    before = {row["clip_id"]: row for row in fresh.best_rows().to_pylist()}
    tars_before = tars(fresh)
    for unit_of_both in (name, other):
        os.truncate(fresh.media_folder / f"{unit_of_both}.parquet", 100)
    result = k710("verify", store.root.parent, "--store", fresh.root, "--repair")
    assert "  4 clips of such units were taken from their tars; from which files is lost\n" in result.stdout
    after = {row["clip_id"]: row for row in fresh.best_rows().to_pylist()}
    assert tars(fresh) == tars_before
    assert before.keys() - after.keys() == {CLIPS[3].clip_id}, "no tar tells of a failure"
    for clip_id, row in after.items():
        assert row["origin"] == "local"
        assert row["came_from"] == row["tar"]
        assert abs(row["settled_at"] - before[clip_id]["settled_at"]).total_seconds() < 60
        assert {**row, **dict.fromkeys(FROM_THE_TAR)} == {**before[clip_id], **dict.fromkeys(FROM_THE_TAR)}
    assert {row["unit"] for row in after.values()} == {f"recovered-{name}", f"recovered-{other}"}


@pytest.mark.parametrize(
    ("unit", "origin"),
    [
        ("local-0123abcd", "local"),
        ("cvdf-k700_2020-train-part_0", "cvdf:k700_2020/train"),
        ("cvdf-k400-replacement-replacement_for_corrupted_k400", "cvdf:k400/replacement"),
        ("cvdf-k900-train-part_0", "recovered"),
        ("youtube", "youtube"),
        ("youtube-0123abcd", "recovered"),
    ],
)
def test_the_origin_of_a_recovered_clip_is_told_by_its_units_name(store, tmp_path, unit, origin):
    """An evaluation's fingerprint has the origins of its clips."""
    fresh = Store(tmp_path / "fresh", "h264")
    name = put(fresh, {CLIPS[0].clip_id: fake_media(CLIPS[0].clip_id)}, name=unit, origin="x")
    os.truncate(fresh.media_folder / f"{name}.parquet", 100)
    assert verify.repair(fresh, verify.verify(fresh)) == (0, 1)
    [row] = fresh.rows().to_pylist()
    assert (row["origin"], row["unit"]) == (origin, f"recovered-{name}")


def test_a_recovered_unit_is_recovered_again_and_fetched_into(k710, fetched, manifest, store):
    """Also where no unit is left that says how its clips were made."""
    before = stored(store)
    for _ in range(2):
        for file in store.unit_files():
            os.truncate(file, 100)
        assert k710("verify", manifest, "--repair").exit_code == 0
        assert stored(store) == before
        assert len(store.unit_files()) == 2
    result = k710("fetch", manifest, "--from", f"local:{fetched.parent / 'clips'}", "--workers", 1)
    assert (result.exit_code, "0 clips fetched, 0.0 MB, 1 not_video" in result.stdout) == (0, True), result.output
    clean(k710, manifest)


def test_a_recovery_that_was_killed_is_done_again(k710, manifest, store):
    """The recovered rows were there, and the damaged ones too."""
    file, before = store.unit_files()[0], stored(store)
    os.truncate(file, 100)
    damaged = file.read_bytes()
    assert k710("verify", manifest, "--repair").exit_code == 0
    profiles = [read_unit(unit)[1]["profile"] for unit in store.unit_files()]
    assert profiles == [read_profile("h264").settings()] * 2, "the other unit says how such clips are made"
    file.write_bytes(damaged)
    assert k710("verify", manifest, "--repair").exit_code == 0
    assert stored(store) == before
    clean(k710, manifest)


def test_a_tar_that_is_intact_and_none_of_ours(k710, manifest, store):
    """Its name has its hash, and it holds something else."""
    file = store.unit_files()[0]
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        for name in ("../../escape.mp4", "../../escape.json"):
            info = tarfile.TarInfo(name)
            info.size = 2
            tar.addfile(info, io.BytesIO(b"{}"))
    row = rows_of(store, file)[0]
    own = bytearray((store.tars_folder / row["tar"]).read_bytes())
    own[row["offset"]] ^= 1
    for data in (content.getvalue(), b"", b"no tar" * 200, content.getvalue()[:1024], bytes(own)):
        name = f"{file.stem}-7-{hashlib.sha256(data).hexdigest()[:8]}.tar"
        (store.tars_folder / name).write_bytes(data)
    before = stored(store)
    os.truncate(file, 100)
    assert k710("verify", manifest, "--repair").exit_code == 0
    assert stored(store) == before
    clean(k710, manifest)


# What a repair does while others are at work, and when it is killed.


def a_run(root: Path, name: str) -> Any:
    """The scratch of a run, with something in it; its lock, for as long as that is open."""
    folder = root / "scratch" / name
    folder.mkdir(parents=True)
    (folder / "17.mp4").write_bytes(b"half a clip")
    lock = (folder / "lock").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


def test_the_scratch_of_a_killed_run_is_swept_and_that_of_a_live_one_stays(k710, fetched, manifest, store):
    a_run(store.root, "run-dead").close()
    (store.root / "scratch" / "run-without-lock").mkdir()
    with a_run(store.root, "run-alive"):
        (store.media_folder / next(iter(store.unit_files()))).unlink()  # something to do
        assert k710("fetch", manifest, "--from", f"local:{fetched.parent / 'clips'}").exit_code == 0
        assert left_in_scratch(store) == [f"scratch/run-alive{more}" for more in ("", "/17.mp4", "/lock")], (
            "its own is gone too"
        )
    k710("verify", manifest, "--decode")
    assert left_in_scratch(store) == []


def test_a_repair_is_refused_while_a_run_is_at_work(k710, manifest, store):
    flip(next(store.tars_folder.iterdir()), 700)
    before = tars(store)
    with scratch_folder(store.root):
        result = k710("verify", manifest, "--repair")
        assert result.exit_code == 1
        assert result.stderr == f"k710: {store.root}: a run is at work in this store; wait until it has ended\n"
        assert tars(store) == before
        assert k710("verify", manifest).exit_code == 1, "to look is allowed"
    assert k710("verify", manifest, "--repair").exit_code == 0


def test_a_fetch_is_refused_while_a_repair_is_at_work(k710, fetched, manifest, store):
    """Its tars have their names before its rows do, and would be taken for orphans."""
    store.unit_files()[0].unlink()
    with scratch_folder(store.root, alone=True):
        result = k710("fetch", manifest, "--from", f"local:{fetched.parent / 'clips'}")
    assert result.exit_code == 1
    assert result.stderr == f"k710: {store.root}: a repair is at work in this store; wait until it has ended\n"
    assert left_in_scratch(store) == []


def test_runs_that_begin_at_once_do_not_sweep_each_other(tmp_path):
    problems: list[BaseException] = []
    barrier = threading.Barrier(8)

    def begin() -> None:
        try:
            for _ in range(25):
                barrier.wait(timeout=30)
                with scratch_folder(tmp_path) as folder:
                    (folder / "clip").write_bytes(b"")
                    barrier.wait(timeout=30)
                    assert (folder / "clip").exists()
                    assert (folder / "lock").exists()
        except BaseException as error:  # a thread's is not seen otherwise
            problems.append(error)
            barrier.abort()

    threads = [threading.Thread(target=begin) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_scratch_folder_that_never_got_its_lock_is_swept_later(tmp_path):
    old, new = (tmp_path / "scratch" / name for name in (".new-old", ".new-new"))
    for folder in (old, new):
        folder.mkdir(parents=True)
    os.utime(old, (0, 0))
    with scratch_folder(tmp_path):
        assert not old.exists()
        assert new.exists(), "it may be about to be locked"


def test_the_scratch_of_a_run_that_failed_is_gone(tmp_path):
    class BrokenError(Exception):
        pass

    with pytest.raises(BrokenError), scratch_folder(tmp_path / "store"):
        raise BrokenError
    assert not (tmp_path / "store").exists()


@pytest.mark.slow
def test_a_repair_killed_at_any_step_loses_no_intact_clip(k710, manifest, store, tmp_path):
    """The new unit is there before the old one goes."""
    intact = stored(store)
    for number, file in enumerate(store.unit_files()):
        row = rows_of(store, file)[0]
        flip(store.tars_folder / row["tar"], row["offset"] + 20 * number)
        del intact[row["clip_id"]]
    for step in range(MOST_STEPS):
        shutil.copytree(manifest, tmp_path / f"k.{step}")
    imports = ("k710.cli.verify", "k710.maintenance.verify", "k710.manifest.read")
    command = ("verify", "{folder}", "--repair", "--workers", "1")
    steps = kill_at_every_step(tmp_path / "k", command, imports=imports)
    assert steps > 30
    states = set()
    for step in range(steps + 1):
        left = Store(tmp_path / f"k.{step}" / "store", "h264")
        found = stored(left)
        assert {clip_id: found.get(clip_id) for clip_id in intact} == intact, f"after step {step}"
        states.add((len(left.unit_files()), len(tars(left))))
        result = k710("verify", tmp_path / f"k.{step}", "--repair", "--workers", 1)
        assert result.exit_code == 0, result.output
        assert stored(left) == intact
        with scratch_folder(left.root):
            pass  # the next run of any kind sweeps
        # One that was killed before its folder was locked looks like one that has just begun, and is given an hour.
        assert [name for name in left_in_scratch(left) if "/.new-" not in name] == []
        assert k710("verify", tmp_path / f"k.{step}", "--workers", 1).stdout.count("\n") == 2
    assert {(2, 2), (2, 3), (3, 3)} <= states, "among them: committed and the old one still there"


def test_a_repair_whose_new_unit_fails_keeps_the_old(manifest, store, monkeypatch):
    flip(next(store.tars_folder.iterdir()), 700)
    before = tars(store), store.rows().to_pylist()

    def fail(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    reports = verify.verify(store)
    with monkeypatch.context() as full:
        full.setattr(Path, "write_bytes", fail)
        with pytest.raises(OSError, match="No space"):
            verify.repair(store, reports)
    assert (tars(store), store.rows().to_pylist()) == before
    assert left_in_scratch(store) == []


# Frames.


def broken_frames(media: bytes) -> bytes:
    """The clip with its pictures overwritten: a container as good as ever, and nothing to see."""
    start = media.index(b"mdat") + 4
    end = start - 8 + int.from_bytes(media[start - 8 : start - 4], "big")
    return media[:start] + bytes(end - start) + media[end:]


def test_only_decoding_finds_what_never_decoded(k710, manifest, store):
    """The hash is right, since the clip was broken when it was hashed: by bad memory, or by an encoder."""
    good = stored(store)
    fresh = Store(manifest.parent / "fresh", "h264")
    first, second, third = sorted(GOOD)[:3]
    with scratch_folder(fresh.root) as scratch:
        unit = verify.StoreUnit(fresh, "local", scratch)
        for clip_id, media, frames in (
            (first, broken_frames(good[first]), 16),
            (second, good[second], 20),
            (third, good[third], 16),
        ):
            made = made_of(scratch, clip_id, media, Measured(64, 48, 8.0, frames, 2.0, "h264"))
            unit.add(made, origin="local:/a", came_from="a")
        name = unit.commit({"unit": "local"})
    options = ("--store", fresh.root, "--workers", 1)
    assert k710("verify", manifest, *options).exit_code == 0
    result = k710("verify", manifest, *options, "--decode")
    assert result.exit_code == 1
    said = result.stdout.splitlines()[1:]
    assert len(said) == 2
    assert said[0].startswith((f"  {name}.parquet: {first}: undecodable: ", f"  {name}.parquet: {first}: corrupt: "))
    assert said[1] == f"  {name}.parquet: {second}: 16 frames decode, 20 are promised"
    assert k710("verify", manifest, *options, "--decode", "--repair").exit_code == 0
    assert hashes(fresh).keys() == {third}
    assert k710("verify", manifest, *options, "--decode").exit_code == 0
    assert left_in_scratch(fresh) == []


def test_a_decoder_that_dies_is_said_of_the_clip(store, tmp_path):
    class Dying:
        def submit(self, job: Any) -> Any:
            from concurrent.futures import Future

            from k710.fetch.encode.jobs import Made

            future: Future[Made] = Future()
            future.set_result(Made(job.clip_id, "undecodable", "the decoder crashed: SIGSEGV"))
            return future

    shared = verify.Checkers(Dying(), tmp_path)  # type: ignore[arg-type]
    reports = [verify._check_unit(file, shared, print, store=store) for file in store.unit_files()]
    reasons = {reason for report in reports for reason in report.clips.values()}
    assert reasons == {"undecodable: the decoder crashed: SIGSEGV"}
    assert sum(len(report.clips) for report in reports) == len(GOOD)


def test_members_of_a_repaired_tar_are_those_that_were_intact(k710, manifest, store):
    file = unit_of(store, NOT_VIDEO)
    rows = rows_of(store, file)
    flip(store.tars_folder / rows[0]["tar"], rows[0]["offset"])
    assert k710("verify", manifest, "--repair").exit_code == 0
    file = unit_of(store, NOT_VIDEO)
    [tar] = {row["tar"] for row in rows_of(store, file)}
    kept = [row["clip_id"] for row in rows[1:]]
    assert list(members(store.tars_folder / tar)) == [f"{clip}.{suffix}" for clip in kept for suffix in ("mp4", "json")]
