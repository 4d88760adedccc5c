"""`k710 near-duplicates` from end to end: planted copies are found, proposed, applied, told and counted."""

from __future__ import annotations

import errno
import functools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from k710 import open_dataset
from k710.curation.audit import audit
from k710.errors import ManifestError, StoreError
from k710.manifest.pairs import PAIRS_SCHEMA, about_pairs, read_pairs
from k710.manifest.read import Manifest, open_manifest
from k710.manifest.schema import PAIRS_FILE
from k710.near_duplicates import candidates, signatures
from k710.near_duplicates.apply import chosen_drops
from k710.near_duplicates.sides import compared_clips
from k710.near_duplicates.signatures import SignatureFolder
from k710.sample.footage import write_video
from k710.sources.known import KNOWN_SOURCES, PRECEDENCE
from k710.store.store import METADATA_KEY, Store
from tests.helpers.planted_copies import LOOK, SPAN_S, Planted, planted_manifest, small_set
from tests.helpers.report_pages import tables_of
from tests.helpers.small_stores import manifest_of, put
from tests.helpers.tiny_media import files_under

PLANTED = small_set()
COPIES = {each.clip_id: each for each in PLANTED if each.youtube_id.startswith("copy")}
REPEATS = [each.clip_id for each in PLANTED if each.youtube_id.startswith("-repeat")]
ORIGINAL_OF = {each.shows: each.clip_id for each in PLANTED if each.split == "val"}
LIMIT_S = 60.0


@pytest.fixture(scope="module")
def made(tmp_path_factory, k710):
    """The planted manifest and its store, before anything was looked for."""
    return planted_manifest(k710, tmp_path_factory.mktemp("planted"), PLANTED)


@pytest.fixture(scope="module")
def searched(made, tmp_path_factory, k710):
    """The same, once near-duplicates were looked for; not to be changed."""
    manifest = Path(shutil.copytree(made, tmp_path_factory.mktemp("searched") / "m"))
    result = k710("near-duplicates", manifest, "--workers", 2)
    assert result.exit_code == 0, result.output
    return manifest


@pytest.fixture
def manifest(searched, tmp_path):
    """A copy of `searched` to change."""
    return Path(shutil.copytree(searched, tmp_path / "m"))


@pytest.fixture
def no_process(monkeypatch):
    """Whoever decodes now fails."""

    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("something is decoded")

    monkeypatch.setattr(signatures, "HelperPool", refuse)


def pairs_of(manifest: Path) -> list[dict[str, Any]]:
    pairs = read_pairs(open_manifest(manifest))
    assert pairs is not None
    return pairs.to_pylist()


def drops_of(manifest: Path) -> dict[str, str]:
    clips = open_manifest(manifest).clips.to_pylist()
    return {clip["clip_id"]: clip["kept_clip_id"] for clip in clips if clip["drop_reason"] == "near_duplicate"}


def signature_files(manifest: Path) -> list[Path]:
    return sorted((manifest / "store" / "signatures" / "h264").iterdir())


# Found.


def test_every_planted_copy_is_found_and_nothing_else(searched):
    found = {tuple(sorted((row["clip_id"], row["other_clip_id"]))): row for row in pairs_of(searched)}
    across = {tuple(sorted((clip, ORIGINAL_OF[each.shows]))) for clip, each in COPIES.items()}
    assert across <= found.keys(), "all of them: the floor"
    related = {
        tuple(sorted((one.clip_id, other.clip_id)))
        for one in PLANTED
        for other in PLANTED
        if one.shows == other.shows and one != other
    }
    assert found.keys() <= related, "and no stranger"
    assert {tuple(sorted(pair)) for pair in zip(REPEATS, REPEATS[1:] + REPEATS[:1], strict=True)} <= found.keys()


def test_what_a_row_says(searched):
    for row in pairs_of(searched):
        if (copy := COPIES.get(row["clip_id"])) and row["other_clip_id"] == ORIGINAL_OF[copy.shows]:
            assert row["shift_s"] == pytest.approx(copy.copy.shift_s, abs=0.25)
            assert row["mirrored"] == (row["clip_id"] == "copy-01-abc_000010_000018")
            assert 0 <= row["distance"] < 40
            assert (row["drop_clip_id"], row["kept_clip_id"]) == (row["clip_id"], row["other_clip_id"])
    table = read_pairs(open_manifest(searched))
    assert table.schema.equals(PAIRS_SCHEMA)
    rows = [(row["clip_id"], row["other_clip_id"]) for row in table.to_pylist()]
    assert rows == sorted(rows)
    group = {row["clip_id"]: row["group"] for row in table.to_pylist()}
    assert len(set(group.values())) == 4
    assert group["copy-00-abc_000010_000018"] == group["copy-03-abc_000010_000018"]


def test_within_train_one_stays(searched):
    """The one that precedes: here the first by its id. A copy of a held-out clip gives way to that alone."""
    proposed = {row["drop_clip_id"]: row["kept_clip_id"] for row in pairs_of(searched) if row["drop_clip_id"]}
    assert {clip: kept for clip, kept in proposed.items() if clip in REPEATS} == dict.fromkeys(REPEATS[1:], REPEATS[0])
    assert all(proposed[clip] == ORIGINAL_OF[each.shows] for clip, each in COPIES.items())


def test_the_tables(k710, manifest, no_process):
    said = k710("near-duplicates", manifest).stdout
    assert "16 of 16 clips compared (view k710, 40 of 256 bits); 0 are not in the store." in said
    assert "train x val         6       6\n" in said
    assert "copy-01-abc_000010_000018   held-out-01_000010_000018" in said
    assert f"All pairs: {manifest / PAIRS_FILE}" in said


def test_json(k710, manifest, no_process):
    result = k710("near-duplicates", manifest, "--json")
    found = json.loads(result.stdout)
    assert found["pairs"] == pairs_of(manifest)
    assert found["counts"]["pairs"]["train x val"] == {"pairs": 6, "drops": 6}
    assert found["parameters"]["threshold_bits"] == 40
    assert about_pairs(read_pairs(open_manifest(manifest)))["counts"] == found["counts"]


def test_a_threshold_of_nothing_finds_nothing(k710, manifest, no_process):
    result = k710("near-duplicates", manifest, "--threshold", 0)
    assert result.exit_code == 0
    assert "No two of them have the same footage." in result.stdout
    assert pairs_of(manifest) == []


def test_a_dry_run_writes_nothing(k710, made, no_process):
    before = files_under(made)
    result = k710("near-duplicates", made, "--dry-run")
    assert result.exit_code == 0
    assert "16 clips to compare, 16 of them in" in result.stdout
    assert "16 have no signature yet" in result.stdout
    assert files_under(made) == before


def test_a_release_as_published(k710, manifest, no_process):
    result = k710("near-duplicates", manifest, "--view", "k400", "--json")
    assert json.loads(result.stdout)["counts"]["pairs"]["train x val"]["pairs"] == 6
    only = k710("near-duplicates", manifest, "--view", "k400", "--splits", "val", "--json")
    assert json.loads(only.stdout)["pairs"] == []


@pytest.mark.slow
def test_stored_frames(k710, tmp_path):
    """The profile that keeps JPEGs."""
    planted = [each for each in PLANTED if each.shows == "video 0"]
    manifest = planted_manifest(k710, tmp_path, planted, profile="frames")
    result = k710("near-duplicates", manifest, "--profile", "frames", "--workers", 1, "--json")
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)["pairs"]
    assert {row["clip_id"] for row in rows if row["drop_clip_id"]} == {each.clip_id for each in planted[1:]}


def test_what_is_too_common_is_said(k710, manifest, no_process, monkeypatch):
    few = functools.partial(candidates.common_frames, max_clips=2)
    monkeypatch.setattr("k710.near_duplicates.find.common_frames", few)
    result = k710("near-duplicates", manifest)
    assert result.exit_code == 0
    said = [line for line in result.stdout.splitlines() if "are too common to be compared" in line]
    assert len(said) == 1
    assert re.fullmatch(r"[0-9,]+ frames of [0-9]+ clips are too common .* as in (-repeat|copy)-\S+, .*\.", said[0])


# Which clips.


def sides_of(manifest: Manifest, **how: Any) -> dict[str, str]:
    table = compared_clips(manifest, **how)
    return dict(zip(table["clip_id"].to_pylist(), table["side"].to_pylist(), strict=True))


def test_held_out_is_what_any_holdout_list_has(sample):
    clips = sample.clips.to_pylist()
    listed = {row["clip_id"] for row in clips if "val" in [row[f"{source}_split"] for source in KNOWN_SOURCES]}
    found = sides_of(sample)
    assert {clip for clip, side in found.items() if side == "train"} == {
        row["clip_id"] for row in clips if row["split"] == "train"
    }
    assert {clip for clip, side in found.items() if side == "val"} == listed
    assert listed > {row["clip_id"] for row in clips if row["split"] == "val"}, "those that K710 does not keep, too"
    assert set(found.values()) == {"train", "val"}


def test_a_strict_recipe_holds_out_test_lists(k710, tmp_path):
    result = k710("build", "--recipe", "k710-strict", "--annotations", "sample", "--out", tmp_path / "m")
    assert result.exit_code == 0, result.output
    manifest = open_manifest(tmp_path / "m")
    found = sides_of(manifest)
    assert set(found.values()) == {"train", "val", "test"}
    tests = {clip for clip, side in found.items() if side == "test"}
    assert all(
        "test" in [row[f"{s}_split"] for s in KNOWN_SOURCES]
        for row in manifest.clips.to_pylist()
        if row["clip_id"] in tests
    )


def test_under_val_purge_held_out_is_what_k710_keeps(k710, tmp_path):
    result = k710("build", "--recipe", "k710-val-purge", "--annotations", "sample", "--out", tmp_path / "m")
    assert result.exit_code == 0, result.output
    manifest = open_manifest(tmp_path / "m")
    kept = {row["clip_id"]: row["split"] for row in manifest.clips.to_pylist() if row["split"]}
    assert sides_of(manifest) == kept


def test_the_rank_of_a_clip_is_that_of_its_newest_train_list(sample):
    table = {row["clip_id"]: row for row in compared_clips(sample).to_pylist()}
    for row in sample.clips.to_pylist():
        if row["split"] == "train":
            ranks = [n for n, source in enumerate(PRECEDENCE) if row[f"{source}_split"] == "train"]
            assert table[row["clip_id"]]["rank"] == ranks[0]


# Usage.


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--within-train",), "--within-train needs --apply"),
        (("--apply", "--dry-run"), "cannot be combined"),
        (("--apply", "--view", "k400"), "--apply changes only view k710"),
        (("--view", "k800"), "unknown view 'k800'"),
        (("--splits", "trian"), "unknown split 'trian'"),
        (("--splits", "test"), "view k710 has no test clips"),
        (("--threshold", 65), "threshold 65: must be from 0 to 64 of 256 bits"),
    ],
)
def test_wrong_usage(k710, manifest, options, text):
    before = files_under(manifest)
    result = k710("near-duplicates", manifest, *options)
    assert result.exit_code == 2
    assert text in result.stderr
    assert files_under(manifest) == before


def test_no_store(k710, searched, tmp_path):
    manifest = Path(shutil.copytree(searched, tmp_path / "m", ignore=shutil.ignore_patterns("store")))
    result = k710("near-duplicates", manifest)
    assert result.exit_code == 1
    assert result.stderr == (
        f"k710: {manifest / 'store'}: has none of the 16 clips to compare in profile h264 (0 of them failed); "
        f"`k710 fetch {manifest}` brings them\n"
    )
    assert not (manifest / "store").exists()


def test_another_profile_is_named(k710, made, tmp_path):
    manifest = Path(shutil.copytree(made, tmp_path / "m"))
    result = k710("near-duplicates", manifest, "--profile", "source")
    assert result.exit_code == 1
    assert "in profile source; there are clips in h264: name one with --profile" in result.stderr


def test_no_clip_was_fetched(k710, made, tmp_path):
    manifest = Path(shutil.copytree(made, tmp_path / "m", ignore=shutil.ignore_patterns("store")))
    put(Store(manifest / "store", "h264"), {each.clip_id: "gone" for each in PLANTED})
    result = k710("near-duplicates", manifest)
    assert result.exit_code == 1
    assert "(16 of them failed)" in result.stderr


def test_no_manifest(k710, tmp_path):
    result = k710("near-duplicates", tmp_path)
    assert result.exit_code == 1
    assert "no manifest there" in result.stderr


@pytest.mark.slow
def test_a_clip_without_anything_to_see_is_not_called_compared(k710, tmp_path):
    clips = [each.clip for each in PLANTED[:2]]
    manifest = manifest_of(k710, tmp_path, clips)
    (tmp_path / "clips").mkdir()
    for clip in clips:
        black = (np.zeros((96, 128, 3), np.uint8) for _ in range(SPAN_S * LOOK.fps))
        write_video(tmp_path / "clips" / f"{clip.clip_id}.mp4", black, LOOK)
    assert k710("fetch", manifest, "--from", f"local:{tmp_path / 'clips'}", "--workers", 2).exit_code == 0
    result = k710("near-duplicates", manifest)
    assert "0 of 2 clips compared" in result.stdout
    assert "0 are not in the store, 2 have too little detail (black, flat, plain)." in result.stdout


@pytest.mark.parametrize("damage", [{"holdout": ["vla"]}, {"leak_policy": 3}, {"precedence": "k400"}])
def test_a_manifest_whose_recipe_is_damaged(k710, manifest, damage):
    about = json.loads((manifest / "dataset.json").read_text())
    about["recipe"] |= damage
    (manifest / "dataset.json").write_text(json.dumps(about))
    result = k710("near-duplicates", manifest)
    assert isinstance(result.exception, SystemExit), result.exception
    assert str(next(iter(damage.values()))[0] if "holdout" in damage else next(iter(damage))) in result.stderr


# Signatures.


def test_a_second_run_decodes_nothing(k710, manifest, no_process):
    before = files_under(manifest)
    assert k710("near-duplicates", manifest).exit_code == 0
    assert files_under(manifest) == before, "the same bytes"


def test_only_what_is_missing_is_decoded(k710, made, tmp_path, monkeypatch):
    manifest = Path(shutil.copytree(made, tmp_path / "m"))
    asked: list[int] = []
    really = signatures.make_missing
    monkeypatch.setattr(
        "k710.near_duplicates.find.make_missing",
        lambda store, media, **how: asked.append(len(media)) or really(store, media, **how),
    )
    assert k710("near-duplicates", manifest, "--splits", "val", "--workers", 1).exit_code == 0
    assert k710("near-duplicates", manifest, "--workers", 1).exit_code == 0
    assert asked == [3, 13]
    assert len(signature_files(manifest)) == 2


def test_a_damaged_file_of_signatures_is_made_again(k710, manifest):
    [file] = signature_files(manifest)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    expected = pairs_of(manifest)
    assert "1 damaged file" in k710("near-duplicates", manifest, "--dry-run").stderr
    assert file.exists()
    result = k710("near-duplicates", manifest, "--workers", 2)
    assert result.exit_code == 0
    assert "1 damaged file of signatures; its clips are hashed again" in result.stderr
    assert pairs_of(manifest) == expected
    assert [path.name for path in signature_files(manifest)] == [file.name], "the same bytes under the same name"
    assert SignatureFolder(Store(manifest / "store", "h264")).read_known().damaged == ()


def test_files_of_other_settings_are_left_alone(k710, manifest):
    [file] = signature_files(manifest)
    table = pa.parquet.read_table(file)
    folder = SignatureFolder(Store(manifest / "store", "h264"))
    file.unlink()
    other = {**signatures.SETTINGS, "signature": 2}
    pa.parquet.write_table(table.replace_schema_metadata({METADATA_KEY: json.dumps(other).encode()}), file)
    renamed = file.rename(file.with_name(f"part-{_sha16(file)}.parquet"))
    assert folder.read_known().damaged == ()
    assert len(folder.read_known().rows) == 0
    assert k710("near-duplicates", manifest, "--workers", 2).exit_code == 0
    assert renamed in signature_files(manifest)
    assert len(signature_files(manifest)) == 2


def _sha16(path: Path) -> str:
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


@pytest.mark.slow
def test_a_clip_with_other_bytes_is_hashed_anew(k710, made, manifest, tmp_path):
    """Fetched again from elsewhere: the same clip, other pictures."""
    stranger = Planted("copy-00-abc", "train", "something else")
    folder = tmp_path / "other"
    other = planted_manifest(k710, folder, [stranger, Planted("held-out-99", "val", "nothing")])
    before = {row["clip_id"] for row in pairs_of(manifest)}
    for part in ("media", "tars"):
        for path in (other / "store" / part / "h264").iterdir():
            shutil.copy(path, manifest / "store" / part / "h264" / f"local-newer-{path.name}")
    # The newer row of the clip counts.
    store = Store(manifest / "store", "h264")
    for file in store.media_folder.glob("local-newer-*"):
        table = pa.parquet.read_table(file)
        tars = pa.array([f"local-newer-{tar}" for tar in table["tar"].to_pylist()])
        pa.parquet.write_table(table.set_column(table.column_names.index("tar"), "tar", tars), file)
    assert stranger.clip_id in before
    result = k710("near-duplicates", manifest, "--workers", 1)
    assert result.exit_code == 0, result.output
    after = {clip for row in pairs_of(manifest) for clip in (row["clip_id"], row["other_clip_id"])}
    assert stranger.clip_id not in after
    assert before - after == {stranger.clip_id}


def test_clips_that_do_not_decode_are_named_and_not_fatal(k710, manifest, no_process, monkeypatch):
    monkeypatch.undo()
    store, bad = Store(manifest / "store", "h264"), "stranger-00_000010_000018"
    put(store, {bad: b"#EXTM3U\nfile:///etc/passwd\n"}, name="newer")
    result = k710("near-duplicates", manifest, "--workers", 1)
    assert result.exit_code == 0, result.output
    assert f"not compared: {bad}: undecodable: no video file: begins with" in result.stderr
    assert "15 of 16 clips compared" in result.stdout
    assert "1 do not decode" in result.stdout
    again = k710("near-duplicates", manifest)
    assert "1 do not decode" in again.stdout, "it is on record"


@pytest.mark.slow
def test_clips_that_cannot_be_read_are_tried_again(k710, made, tmp_path):
    manifest = Path(shutil.copytree(made, tmp_path / "m"))
    store = Store(manifest / "store", "h264")
    hidden = store.tars_folder.rename(tmp_path / "hidden")
    result = k710("near-duplicates", manifest, "--workers", 2)
    assert result.exit_code == 0, result.output
    assert result.stderr.count("not compared: ") == 16
    assert "unreadable: " in result.stderr
    assert "16 could not be read" in result.stdout
    hidden.rename(store.tars_folder)
    result = k710("near-duplicates", manifest, "--workers", 2)
    assert "16 of 16 clips compared" in result.stdout


@pytest.mark.slow
def test_a_process_that_dies_says_nothing_of_its_clip(k710, made, tmp_path, monkeypatch):
    """Of memory that ran out, or of a disk that hung: the next run may do better."""
    manifest = Path(shutil.copytree(made, tmp_path / "m"))
    (tmp_path / "dies.py").write_text(
        "import os, signal\nfrom k710.engine.helper_process import serve\n"
        "serve(lambda: lambda job: os.kill(os.getpid(), signal.SIGKILL))\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    pool = signatures.HelperPool
    with monkeypatch.context() as patched:
        patched.setattr(
            signatures, "HelperPool", lambda number, **options: pool(number, **options | {"module": "dies"})
        )
        result = k710("near-duplicates", manifest, "--workers", 2)
    assert result.exit_code == 0, result.output
    assert result.stderr.count("the decoder crashed: SIGKILL") == 16
    assert "0 of 16 clips compared" in result.stdout
    assert "16 could not be read" in result.stdout
    assert "16 of 16 clips compared" in k710("near-duplicates", manifest, "--workers", 2).stdout


# Stopped.


def run(manifest: Path) -> subprocess.Popen[str]:
    """The command in a process of its own, as a shell starts it, with small files of signatures and a slow disk."""
    code = (
        "import sys, time\nfrom k710.near_duplicates import signatures\nfrom k710.cli import main\n"
        "signatures.CLIPS_IN_A_FILE = 2\nwrite = signatures.SignatureFolder.write\n"
        "signatures.SignatureFolder.write = lambda folder, rows: (write(folder, rows), time.sleep(0.3))[0]\n"
        "main(sys.argv[1:], prog_name='k710')"
    )
    command = [sys.executable, "-c", code, "near-duplicates", str(manifest), "--workers", "1"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def until(found: Callable[[], object]) -> None:
    end_s = time.monotonic() + LIMIT_S
    while not found():
        assert time.monotonic() < end_s, "waited in vain"
        time.sleep(0.01)


@pytest.mark.slow
def test_killed_it_goes_on_where_it_was(k710, made, searched, tmp_path):
    manifest = Path(shutil.copytree(made, tmp_path / "m"))
    folder = manifest / "store" / "signatures" / "h264"
    with run(manifest) as process:
        until(lambda: len(list(folder.glob("part-*"))) >= 2)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=LIMIT_S)
    kept = len(SignatureFolder(Store(manifest / "store", "h264")).read_known().rows)
    assert 4 <= kept < 16
    assert not (manifest / PAIRS_FILE).exists()
    result = k710("near-duplicates", manifest, "--dry-run")
    assert f"{16 - kept} have no signature yet" in result.stdout
    assert k710("near-duplicates", manifest, "--workers", 1).exit_code == 0
    assert pairs_of(manifest) == pairs_of(searched)


@pytest.mark.slow
def test_interrupted_it_keeps_what_is_done(k710, made, tmp_path):
    manifest = Path(shutil.copytree(made, tmp_path / "m"))
    folder = manifest / "store" / "signatures" / "h264"
    with run(manifest) as process:
        until(lambda: list(folder.glob("part-*")))
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 1
    assert "Finishing the clips in flight" in said
    assert "k710: stopped by SIGINT; the signatures of " in said
    assert "Traceback" not in said
    assert 2 <= len(SignatureFolder(Store(manifest / "store", "h264")).read_known().rows) < 16
    assert not (manifest / PAIRS_FILE).exists()


@pytest.mark.slow
def test_at_a_url(k710, searched, s3, no_process):
    """Signatures, pairs and the new version are put there; nothing is decoded that has a signature."""
    for path in searched.rglob("*"):
        if path.is_file():
            s3.write(f"m/{path.relative_to(searched)}", path.read_bytes())
    before = open_manifest(f"{s3.url}/m")
    result = k710("near-duplicates", f"{s3.url}/m", "--apply")
    assert result.exit_code == 0, result.output
    found = read_pairs(open_manifest(f"{s3.url}/m"))
    assert found.to_pylist() == pairs_of(searched)
    after = open_manifest(f"{s3.url}/m")
    assert after.content_hash != before.content_hash
    assert open_manifest(f"{s3.url}/m@{before.content_hash[:8]}").clips.equals(before.clips)


@pytest.mark.slow
def test_signatures_are_made_at_a_url(k710, made, searched, s3):
    for path in made.rglob("*"):
        if path.is_file():
            s3.write(f"m/{path.relative_to(made)}", path.read_bytes())
    result = k710("near-duplicates", f"{s3.url}/m")
    assert result.exit_code == 0, result.output
    assert s3.keys("m/store/signatures/")
    assert read_pairs(open_manifest(f"{s3.url}/m")).to_pylist() == pairs_of(searched)


def test_what_a_killed_run_left_is_swept_once_it_is_old(k710, manifest, no_process):
    folder = manifest / "store" / "signatures" / "h264"
    old, new = folder / ".tmp-old", folder / ".tmp-new"
    for path in (old, new):
        path.write_bytes(b"half a file")
    os.utime(old, (0, 0))
    assert k710("near-duplicates", manifest).exit_code == 0
    assert not old.exists()
    assert new.exists(), "another run may be writing it"


# Pairs.


def test_pairs_that_are_not_there(made):
    assert read_pairs(open_manifest(made)) is None


@pytest.mark.parametrize("damage", ["cut", "flipped", "no metadata", "text"])
def test_damaged_pairs(manifest, damage):
    path = manifest / PAIRS_FILE
    if damage == "cut":
        os.truncate(path, path.stat().st_size // 2)
    elif damage == "text":
        path.write_text("clip_id,other_clip_id\n")
    else:
        table = pa.parquet.read_table(path)
        changed = table.set_column(2, "distance", pa.array([1.0] * len(table), pa.float32()))
        pa.parquet.write_table(table.replace_schema_metadata(None) if damage == "no metadata" else changed, path)
    with pytest.raises(
        ManifestError, match=rf"^{path}: damaged: .*; `k710 near-duplicates {manifest}` makes it again$"
    ):
        read_pairs(open_manifest(manifest))


def test_pairs_of_a_newer_k710(manifest):
    path = manifest / PAIRS_FILE
    table = pa.parquet.read_table(path)
    about = {**about_pairs(table), "schema_version": "2.0"}
    pa.parquet.write_table(table.replace_schema_metadata({METADATA_KEY: json.dumps(about).encode()}), path)
    with pytest.raises(ManifestError, match=r"has schema version 2\.0, this k710 reads 1\.0; upgrade k710"):
        read_pairs(open_manifest(manifest))


def test_pairs_of_another_version_of_the_manifest(k710, manifest, made):
    lists = made.parent / "lists"
    build = ("build", "--sources", "k400", "--annotations", lists, "--out", manifest, "--force")
    assert k710(*build, "--splits", "val").exit_code == 0
    with pytest.raises(ManifestError, match="belongs to another version of the manifest") as raised:
        read_pairs(open_manifest(manifest))
    assert open_manifest(manifest).content_hash[:16] in str(raised.value)


# Applied.


def test_nothing_changes_without_apply(k710, searched, made):
    changed = {name for name, content in files_under(searched).items() if files_under(made).get(name) != content}
    assert {name for name in changed if not name.startswith("store/signatures")} == {PAIRS_FILE}


def test_apply(k710, manifest, no_process):
    before = open_manifest(manifest)
    result = k710("near-duplicates", manifest, "--apply")
    assert result.exit_code == 0, result.output
    after = open_manifest(manifest)
    assert f"Applied: 6 clips are out of train. {manifest} has content hash {after.content_hash[:16]}." in result.stdout
    assert drops_of(manifest) == {clip: ORIGINAL_OF[each.shows] for clip, each in COPIES.items()}
    after.verify()
    columns = [name for name in before.clips.column_names if name not in ("split", "drop_reason", "kept_clip_id")]
    assert after.clips.select(columns).equals(before.clips.select(columns))
    assert (manifest / "versions" / f"{before.content_hash[:16]}.json").exists()
    about = after.about["near_duplicates"]
    assert (about["dropped"], about["within_train"]) == (6, False)
    assert about["parameters"]["threshold_bits"] == 40
    assert read_pairs(after) is not None, "the pairs belong to both"


def test_counts_still_add_up(k710, manifest, no_process):
    before = open_manifest(manifest).about["counts"]
    k710("near-duplicates", manifest, "--apply", "--within-train")
    after = open_manifest(manifest).about["counts"]
    assert (before["train"], after["train"], after["val"]) == (13, 5, 3)
    assert after["fates"] == {**before["fates"], "kept": 8, "near_duplicate": 8}
    for counts in (before, after):
        assert sum(counts["fates"].values()) == counts["rows"]
        for entry in counts["lists"]:
            fates = {key: number for key, number in entry.items() if key not in ("source", "split", "rows")}
            assert fates.keys() == counts["fates"].keys()
            assert sum(fates.values()) == entry["rows"]
        assert counts["fates"]["kept"] == counts["train"] + counts["val"]


def test_applied_twice_is_applied_once(k710, manifest, no_process):
    k710("near-duplicates", manifest, "--apply")
    before = files_under(manifest)
    result = k710("near-duplicates", manifest, "--apply")
    assert result.exit_code == 0
    assert "Nothing to apply: the 6 clips are out of train already." in result.stdout
    after = files_under(manifest)
    assert {name for name in after if after[name] != before[name]} == {PAIRS_FILE}, "which names the version at hand"
    assert after.keys() == before.keys()


def test_what_was_applied_depends_on_the_last_call_alone(k710, manifest, no_process):
    first = open_manifest(manifest).content_hash
    k710("near-duplicates", manifest, "--apply", "--within-train")
    assert set(drops_of(manifest)) == {*COPIES, *REPEATS[1:]}
    result = k710("near-duplicates", manifest, "--apply")
    assert set(drops_of(manifest)) == set(COPIES)
    assert (
        "Applied: 6 clips are out of train. 2 that were dropped before, and are not proposed now, are back in it."
        in result.stdout
    )
    result = k710("near-duplicates", manifest, "--apply", "--threshold", 0, "--json")
    assert result.exit_code == 0
    assert {key: json.loads(result.stdout)[key] for key in ("dropped", "back")} == {"dropped": 0, "back": 6}
    assert drops_of(manifest) == {}
    assert open_manifest(manifest).content_hash == first
    assert "near_duplicates" not in open_manifest(manifest).about
    result = k710("near-duplicates", manifest, "--apply", "--threshold", 0)
    assert "Nothing to apply: no clip is proposed." in result.stdout


def test_an_earlier_version_does_not_become_the_current_one(k710, manifest, no_process):
    first = open_manifest(manifest).content_hash
    k710("near-duplicates", manifest, "--apply")
    before = files_under(manifest)
    result = k710("near-duplicates", f"{manifest}@{first[:8]}", "--apply", "--within-train")
    assert result.exit_code == 2
    assert f"not {first[:16]}; only the current version can be changed" in result.stderr
    assert files_under(manifest) == before


def test_a_build_makes_a_manifest_without_it(k710, manifest, made, no_process):
    first = open_manifest(manifest).content_hash
    k710("near-duplicates", manifest, "--apply")
    lists = made.parent / "lists"
    build = ("build", "--sources", "k400", "--splits", "train,val", "--annotations", lists, "--out", manifest)
    assert "near_duplicate" not in k710(*build, "--force").stdout
    assert open_manifest(manifest).content_hash == first
    assert drops_of(manifest) == {}
    assert read_pairs(open_manifest(manifest)) is not None, "they are the same clips"


def test_prune_leaves_the_pairs(k710, manifest, no_process):
    k710("near-duplicates", manifest, "--apply")
    assert k710("prune", manifest).exit_code == 0
    assert read_pairs(open_manifest(manifest)) is not None
    assert not list((manifest / "versions").iterdir())
    assert "Nothing to apply" in k710("near-duplicates", manifest, "--apply").stdout


def test_killed_between_the_pairs_and_the_commit(k710, manifest, no_process, monkeypatch):
    """The pairs are written first and belong to the manifest before and after."""

    def fail(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr("k710.curation.leave_out.write_manifest", fail)
        assert k710("near-duplicates", manifest, "--apply").exit_code == 1
    assert drops_of(manifest) == {}
    assert len(pairs_of(manifest)) >= 9
    assert k710("near-duplicates", manifest, "--apply").exit_code == 0
    assert len(drops_of(manifest)) == 6


def test_the_nearest_is_the_one_in_whose_favour(searched):
    clips = open_manifest(searched).clips
    drop, near, far = "copy-00-abc_000010_000018", "held-out-01_000010_000018", "held-out-00_000010_000018"
    within = REPEATS[0]
    rows = [(drop, far, 9.0), (drop, near, 4.0), (drop, within, 1.0), (REPEATS[1], within, 2.0)]
    pairs = pa.table(
        {
            "distance": pa.array([row[2] for row in rows], pa.float32()),
            "drop_clip_id": [row[0] for row in rows],
            "kept_clip_id": [row[1] for row in rows],
        }
    )
    assert chosen_drops(clips, pairs, within_train=False) == {drop: near}
    assert chosen_drops(clips, pairs, within_train=True) == {REPEATS[1]: within, drop: within}


# Told.


def test_explain(k710, manifest, no_process):
    k710("near-duplicates", manifest, "--apply", "--within-train")
    said = k710("explain", "copy-01-abc", "--manifest", manifest).stdout
    original = ORIGINAL_OF["video 1"]
    assert f"near_duplicate: its pictures repeat {original}, which is held out (Kinetics-400 val) (" in said
    assert "of 256 bits, mirrored)" in said
    assert "of 256 bits, shifted by 2 s)" in k710("explain", "copy-04-abc", "--manifest", manifest).stdout
    assert f"K710: left out (near_duplicate), in favour of {original}" in said
    within = k710("explain", "--manifest", manifest, "--", "-repeat-1ab").stdout
    assert f"its pictures repeat {REPEATS[0]}, which is in train (" in within
    (manifest / PAIRS_FILE).unlink()
    shorter = k710("explain", "copy-01-abc", "--manifest", manifest)
    assert shorter.exit_code == 0
    assert f"its pictures repeat {original}, which is held out (Kinetics-400 val)\n" in shorter.stdout


def test_audit(k710, manifest, no_process):
    assert "near-duplicates" not in k710("audit", manifest).stdout
    k710("near-duplicates", manifest, "--apply")
    assert "This manifest's train lacks 6 clips more: near-duplicates" in k710("audit", manifest).stdout
    assert audit(open_manifest(manifest).clips)["near_duplicates"] == 6


@pytest.mark.slow
def test_report_and_stats_tell_what_is_dropped_from_what_is_to_be(k710, manifest, no_process, tmp_path):
    said = k710("stats", manifest).stdout
    assert "16 of 16 clips compared (view k710, 40 of 256 bits). 12 pairs in 4 groups, 4 mirrored; " in said
    assert "8 clips proposed to be dropped, 0 of them already dropped." in said
    k710("near-duplicates", manifest, "--apply")
    said = k710("stats", manifest).stdout
    assert "8 clips proposed to be dropped, 6 of them already dropped." in said
    assert "This manifest's train lacks 6 clips more: near-duplicates." in said
    assert k710("report", manifest, "--out", tmp_path / "r.html").exit_code == 0
    page = (tmp_path / "r.html").read_text()
    _, rows = tables_of(page)["The nearest groups"]
    to_be, done = ({name for row in rows for name in row[place].split(", ") if name} for place in (5, 6))
    assert (to_be, done) == (set(REPEATS[1:]), set(COPIES))
    assert (page.count("<br>dropped<"), page.count("<br>to be dropped<")) == (6, 2)


def test_a_group_of_many_clips_fits_a_terminal(capsys):
    from k710.cli.stats import _print
    from k710.report.parts import Section
    from k710.report.tables import near_duplicate_table

    clips = [f"abcdefghij{letter}_000001_000011" for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"]
    group = {"group": 7, "num_clips": 26, "distance": 1.5, "mirrored": False, "clips": clips[:6]}
    table = near_duplicate_table({"groups": 1, "shown": [group | {"dropped": clips[1:], "out": clips[20:]}]})
    _print(Section("near-duplicates", "Near-duplicates", [table]))
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 130
    assert all(clip in printed for clip in clips[:6])
    assert "and 13 more" in printed  # of 19 to be dropped six are shown


def test_what_is_dropped_is_not_loaded(k710, manifest, no_process):
    k710("near-duplicates", manifest, "--apply")
    dataset = open_dataset(manifest, split="train")
    assert len(dataset) == 7
    assert not set(dataset.index.clip_ids.to_pylist()) & set(COPIES)
    release = open_dataset(manifest, split="train", view="k400")
    assert len(release) == 13, "a release is what its list says"


def test_a_store_that_changes_meanwhile(searched, tmp_path):
    store = Store(Path(shutil.copytree(searched / "store", tmp_path / "store")), "h264")
    folder = SignatureFolder(store)
    folder.read_known()
    for path in folder.folder.iterdir():
        path.unlink()
    with pytest.raises(StoreError, match="the signatures changed during the run"):
        folder.column("plain")


# Equal bytes, and stores that are only read.


@pytest.mark.slow
def test_the_same_bytes_under_two_ids_are_a_pair_however_plain(k710, tmp_path):
    held_out, twin, other = (Planted(name, split, "plain").clip for name, split in TWINS)
    manifest = manifest_of(k710, tmp_path, [held_out, twin, other])
    (tmp_path / "clips").mkdir()
    for clip, level in ((held_out, 0), (other, 1)):
        plain = (np.full((96, 128, 3), level, np.uint8) for _ in range(SPAN_S * LOOK.fps))
        write_video(tmp_path / "clips" / f"{clip.clip_id}.mp4", plain, LOOK)
    shutil.copy(tmp_path / "clips" / f"{held_out.clip_id}.mp4", tmp_path / "clips" / f"{twin.clip_id}.mp4")
    fetched = ["fetch", manifest, "--from", f"local:{tmp_path / 'clips'}", "--profile", "source", "--workers", 2]
    assert k710(*fetched).exit_code == 0
    result = k710("near-duplicates", manifest, "--profile", "source", "--apply")
    assert result.exit_code == 0, result.output
    (pair,) = pairs_of(manifest)
    assert (pair["clip_id"], pair["other_clip_id"]) == (twin.clip_id, held_out.clip_id)
    assert (pair["distance"], pair["shift_s"], pair["mirrored"]) == (0, 0, False)
    assert (pair["drop_clip_id"], pair["kept_clip_id"]) == (twin.clip_id, held_out.clip_id)
    assert drops_of(manifest) == {twin.clip_id: held_out.clip_id}
    assert "1 pair of equal bytes (one SHA-256 under two IDs) among them." in result.stdout
    assert "0 of 3 clips compared" in result.stdout, "frames without detail are not compared; bytes are"


TWINS = (("held-out-aa", "val"), ("twin-aaaaaa", "train"), ("other-aaaaa", "train"))


def test_equal_bytes_count_without_signatures(k710, tmp_path):
    clips = [Planted(name, split, "never decoded").clip for name, split in TWINS]
    manifest = manifest_of(k710, tmp_path, clips)
    put(
        Store(manifest / "store", "h264"),
        {clip.clip_id: b"equal" if n < 2 else b"other" for n, clip in enumerate(clips)},
    )
    assert k710("near-duplicates", manifest).exit_code == 0
    (pair,) = pairs_of(manifest)
    assert {pair["clip_id"], pair["other_clip_id"]} == {clip.clip_id for clip in clips[:2]}


def test_signatures_elsewhere(k710, searched, tmp_path, no_process, monkeypatch):
    """The store's own signatures are read; what is missing goes to the other folder, and the store stays as it is."""
    manifest = Path(shutil.copytree(searched, tmp_path / "m"))
    before, elsewhere = files_under(manifest / "store"), tmp_path / "elsewhere"
    assert k710("near-duplicates", manifest, "--signatures", elsewhere).exit_code == 0
    assert files_under(manifest / "store") == before
    assert pairs_of(manifest) == pairs_of(searched), "those of the store are read"


def test_signatures_are_made_elsewhere(k710, made, searched, tmp_path):
    manifest = Path(shutil.copytree(made, tmp_path / "m"))
    before, elsewhere = files_under(manifest / "store"), tmp_path / "elsewhere"
    asked = ["near-duplicates", manifest, "--signatures", elsewhere, "--workers", 2]
    assert k710(*asked).exit_code == 0
    assert files_under(manifest / "store") == before
    assert [path.suffix for path in (elsewhere / "h264").iterdir()] == [".parquet"]
    assert pairs_of(manifest) == pairs_of(searched)
    assert "0 have no signature yet" in k710(*asked, "--dry-run").stdout


def test_a_store_that_cannot_be_written_names_the_way_out(k710, made, tmp_path, monkeypatch):
    """Before anything is decoded, and also where only the write tells."""
    manifest = Path(shutil.copytree(made, tmp_path / "m"))
    with monkeypatch.context() as patched:
        patched.setattr(signatures.os, "access", lambda path, mode, **how: mode != os.W_OK)
        patched.setattr(signatures, "HelperPool", None)
        result = k710("near-duplicates", manifest, "--workers", 2)
    assert result.exit_code == 1
    assert f"{manifest / 'store'}: cannot be written; `--signatures DIR`" in result.stderr

    def refuse(*arguments: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(signatures, "named_by_hash", refuse)
    result = k710("near-duplicates", manifest, "--workers", 2)
    assert result.exit_code == 1
    assert "Read-only file system; `--signatures DIR` keeps the signatures in another folder" in result.stderr
