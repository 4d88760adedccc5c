"""`k710 report` and `k710 stats` where something is wrong: one message, and no page that is half there."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from k710 import open_manifest
from k710.manifest.write import write_manifest
from k710.report.figures.gather import gather
from k710.report.filmstrips import read_strips
from k710.report.galleries import make_galleries
from k710.store.store import Store
from tests.cli.test_bad_input import assert_refused, files_of
from tests.helpers.report_pages import hostile_manifest, ids_unchecked, tables_of, write_run
from tests.helpers.small_stores import clips_of, film, manifest_of, put


@pytest.fixture(scope="module")
def fetched(tmp_path_factory, k710) -> Path:
    """A manifest with a store of clips that decode; not to be changed."""
    folder = tmp_path_factory.mktemp("fetched")
    clips = [*clips_of(8), *clips_of(4, "val", first=100)]
    manifest = manifest_of(k710, folder, clips)
    result = k710("fetch", manifest, "--from", f"local:{film(folder / 'clips', clips)}", "--workers", 2)
    assert result.exit_code == 0, result.output
    return manifest


@pytest.fixture
def out(tmp_path) -> Path:
    return tmp_path / "report.html"


def test_a_folder_that_is_not_there(k710, sample, tmp_path):
    out = tmp_path / "no" / "such" / "report.html"
    assert_refused(k710("report", sample.path, "--out", out), f"{out}: there is no folder {out.parent}")
    assert not (tmp_path / "no").exists()


def test_a_page_inside_the_manifest(k710, sample):
    before = files_of(sample.path)
    out = sample.path / "report.html"
    assert_refused(k710("report", sample.path, "--out", out), f"{out}: is inside the manifest", exit_code=2)
    assert files_of(sample.path) == before


def test_a_folder_in_the_place_of_the_page(k710, sample, tmp_path):
    refused = k710("report", sample.path, "--out", tmp_path)
    assert (refused.exit_code, "is a directory" in refused.stderr) == (2, True)


def test_a_page_is_replaced_whole_or_stays(k710, sample, out, monkeypatch):
    out.write_text("the old page")
    assert k710("report", sample.path, "--out", out).exit_code == 0
    new = out.read_bytes()
    assert new.startswith(b"<!doctype html>")
    assert new.rstrip().endswith(b"</html>")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("k710.storage.storage.os.fsync", full)
    assert_refused(k710("report", sample.path, "--out", out), f"{out}: No space left on device")
    assert out.read_bytes() == new
    assert [path.name for path in out.parent.iterdir()] == [out.name]


@pytest.mark.parametrize("command", ["report", "stats"])
def test_what_is_no_manifest_store_profile_or_run(k710, fetched, tmp_path, command):
    more = ("--out", tmp_path / "report.html") if command == "report" else ()
    nothing = tmp_path / "nothing"
    assert_refused(k710(command, nothing, *more), f"{nothing}: no manifest there")
    assert_refused(k710(command, fetched, "--store", nothing, *more), f"{nothing}: no store there")
    assert_refused(k710(command, fetched, "--profile", "../x", *more), "has no profile '../x'; it has h264")
    assert_refused(k710(command, fetched, "--runs", nothing, *more), f"{nothing}: no folder of runs there")
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize("command", ["report", "stats"])
def test_a_damaged_store_is_blamed_by_file(k710, tmp_path, command):
    manifest = manifest_of(k710, tmp_path, [*clips_of(4), *clips_of(1, "val", first=9)])
    store = Store(manifest / "store", "h264")
    put(store, {"clip-000000_000000_000002": b"bytes"})
    (unit,) = store.unit_files()
    unit.write_bytes(unit.read_bytes()[:-40])
    more = ("--out", tmp_path / "report.html") if command == "report" else ()
    refused = k710(command, manifest, *more)
    assert_refused(refused, str(unit))
    assert "k710 verify" in refused.stderr


def test_a_store_without_one_clip_of_the_manifest(k710, tmp_path, out):
    manifest = manifest_of(k710, tmp_path, [*clips_of(4), *clips_of(1, "val", first=9)])
    put(Store(manifest / "store", "h264"), {"other-video_000000_000002": b"bytes", "clip-000001_000001_000003": "gone"})
    assert k710("report", manifest, "--out", out).exit_code == 0
    _, rows = tables_of(out.read_text())["Why clips are not there"]
    assert rows[0][:2] == ["gone", "1"]
    assert "<img" not in out.read_text().partition("<main")[2].partition("<script>")[0]


@pytest.mark.parametrize("sources", ["k600", "k700_2020", "k400,k700_2020"])
@pytest.mark.slow
def test_a_manifest_of_other_releases(k710, tmp_path, out, sources):
    manifest = tmp_path / "m"
    built = k710("build", "--sources", sources, "--annotations", "sample", "--out", manifest)
    assert built.exit_code == 0, built.output
    assert k710("report", manifest, "--out", out).exit_code == 0
    columns, _ = tables_of(out.read_text())["All classes"]
    assert [name for name in columns if name.endswith("train")][1:] == [f"{name} train" for name in sources.split(",")]
    assert k710("stats", manifest).exit_code == 0


def test_no_table_stands_there_empty(k710, tmp_path, out):
    """A manifest of test lists alone, and one whose lists hold nothing."""
    (tmp_path / "k400_test.csv").write_text("youtube_id,time_start,time_end,split\nvideo-00001,0,10,test\n")
    manifest = tmp_path / "m"
    built = k710("build", "--sources", "k400", "--splits", "test", "--annotations", tmp_path, "--out", manifest)
    assert built.exit_code == 0, built.output
    assert k710("report", manifest, "--out", out).exit_code == 0
    assert "No clip has a label" in out.read_text()
    assert all(rows for _, rows in tables_of(out.read_text()).values())
    found = open_manifest(manifest)
    nothing = dict.fromkeys(("rows", "kept", "unlabelled"), 0)
    counts = found.about["counts"] | {"lists": [entry | nothing for entry in found.about["counts"]["lists"]], **nothing}
    about = {key: found.about[key] for key in ("recipe", "sources")} | {"counts": counts}
    write_manifest(tmp_path / "none", found.clips.slice(0, 0), about)
    assert k710("report", tmp_path / "none", "--out", out).exit_code == 0
    assert all(rows for _, rows in tables_of(out.read_text()).values())
    assert 'class="plot"' not in out.read_text()


def test_clips_that_do_not_decode_are_grey_and_counted(k710, tmp_path, out):
    manifest = manifest_of(k710, tmp_path, [*clips_of(4), *clips_of(1, "val", first=9)])
    store = Store(manifest / "store", "h264")
    put(store, {f"clip-00000{n}_00000{n}_00000{n + 2}": b"#EXTM3U\nfile:///etc/passwd" for n in range(3)})
    (tar,) = store.tars_folder.glob("*.tar")
    changed = bytearray(tar.read_bytes())
    changed[520] ^= 255  # of the first clip's bytes
    tar.write_bytes(changed)
    assert k710("report", manifest, "--out", out).exit_code == 0
    page = out.read_text()
    assert "3 could not be shown." in page
    assert page.count('class="missing"') == 3
    assert "its bytes have changed" in page
    assert "no video file" in page
    tar.unlink()
    assert k710("report", manifest, "--out", out).exit_code == 0
    assert out.read_text().count("is gone") == 3


def test_pictures_stop_where_the_page_would_grow_too_large(fetched):
    manifest = open_manifest(fetched)
    store = Store(fetched / "store", "h264")
    figures = gather(manifest, store=store)
    whole = make_galleries(manifest, store, figures)["gallery"]
    sizes = [len(strip.jpeg) for strip in whole.strips]
    assert len(sizes) == 12
    cut = make_galleries(manifest, store, figures, max_bytes=sum(sizes) // 2)["gallery"]
    assert 0 < len(cut.strips) < 12
    assert sum(len(strip.jpeg) for strip in cut.strips) <= sum(sizes) // 2
    assert f"{len(cut.strips)} of 12 clips: the page holds at most" in cut.note
    assert {strip.title for strip in cut.strips} == {strip.title for strip in whole.strips}, "each class has its share"


@pytest.mark.parametrize(("per_class", "strips"), [(0, 0), (1, 4), (2, 8), (50, 12)])
def test_as_many_clips_of_a_class_as_asked_for(k710, fetched, out, per_class, strips):
    assert k710("report", fetched, "--gallery", per_class, "--out", out).exit_code == 0
    assert out.read_text().count("<img src=") == strips


def test_a_filmstrip_is_of_its_clip(fetched, k710):
    store = Store(fetched / "store", "h264")
    ids = open_manifest(fetched).clips["clip_id"].to_pylist()[:3]
    strips = list(read_strips(store, [*ids, "nobody-0000_000000_000002"]))
    assert [strip.clip_id for strip in strips[:3]] == ids
    assert all(strip.jpeg.startswith(b"\xff\xd8\xff") for strip in strips[:3])
    assert (strips[3].jpeg, strips[3].failure) == (None, "not fetched")
    assert len({strip.jpeg for strip in strips}) == 4


def test_hostile_texts_are_escaped_in_the_file_itself(tmp_path, k710, out):
    """What test_report_browser.py tries in a browser, where there is none."""
    manifest = hostile_manifest(tmp_path)
    refused = k710("report", manifest.path, "--runs", tmp_path / "runs", "--out", out)
    assert (refused.exit_code, "names no clip" in refused.stderr, out.exists()) == (1, True, False)
    with ids_unchecked():
        result = k710("report", manifest.path, "--runs", tmp_path / "runs", "--out", out)
        assert k710("stats", manifest.path, "--runs", tmp_path / "runs").exit_code == 0
    assert result.exit_code == 0, result.output
    page = out.read_text()
    data = page.partition("<main")[2].partition("<script>")[0]
    assert "window.hacked" in data
    for markup in ("<script>w", "<img src=x", "<svg onload", '"onerror="w', "<a href='https://example"):
        assert markup not in data
    assert data.count("</script>") == data.count('<script type="application/json"')
    assert 'href="javascript' not in page


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_report_that_is_stopped_leaves_the_old_page(fetched, tmp_path, number):
    out = tmp_path / "report.html"
    out.write_text("the old page")
    run = write_run(tmp_path / "one")
    command = [sys.executable, "-m", "k710", "report", fetched, "--runs", run, "--out", out]
    for wait_s in (0.3, 1.0, 1.6):
        program = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        time.sleep(wait_s)
        program.send_signal(number)
        _, stderr = program.communicate(timeout=30)
        assert out.read_text() == "the old page" or out.read_text().rstrip().endswith("</html>")
        if number == signal.SIGINT and wait_s > 0.5:
            assert "Traceback" not in stderr
