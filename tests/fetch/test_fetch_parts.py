"""`k710 fetch --part I/N`: the parts make up the whole, and no two of them do the same work."""

from __future__ import annotations

import itertools
import os
import pickle
import socket
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from k710.engine.part import Part, parse_part
from k710.errors import StoreError, UsageError
from k710.fetch.encode.profiles import read_profile
from k710.fetch.origins.archive_sets import SeenArchive, left_to_others
from k710.fetch.origins.parse import parse_origin
from k710.fetch.plan import FetchOptions, Plan
from k710.fetch.scratch import scratch_folder, sweep
from k710.manifest.read import open_manifest
from k710.store.store import Store
from tests.fetch.test_fetch_cvdf import Public, archive, name_of, named, public, rows_of  # noqa: F401
from tests.fetch.test_killed_fetch import Fetch, check_complete, needs_proc, world  # noqa: F401
from tests.helpers.small_stores import hashes
from tests.helpers.tiny_media import build, clip_file, fetched, files_under, settled


def parts(of: int) -> list[Part]:
    return [Part(number, of) for number in range(1, of + 1)]


# Which part has what.


@given(st.lists(st.text(min_size=1).filter(lambda text: text.isprintable()), max_size=30), st.integers(1, 100))
@pytest.mark.slow
def test_each_key_falls_into_exactly_one_part(keys, of):
    for key in keys:
        assert sum(part.has(key) for part in parts(of)) == 1


def test_parts_are_of_about_one_size():
    ids = [f"video-{number:05d}" for number in range(8000)]
    for part in parts(8):
        assert 900 < sum(map(part.has, ids)) < 1100


def test_machines_with_other_versions_agree():
    """These must never change: a run that goes on under a newer k710 would do other work than its neighbours."""
    ids = ["abcdefghijk", "-sample-dsh", "case-Sample", "case-sample", "https://host/part_0.tar.gz"]
    assert [[part.number for part in parts(5) if part.has(key)] for key in ids] == FROZEN


FROZEN = [[5], [3], [1], [2], [1]]


def test_the_whole_is_one_part_of_one():
    assert Part().is_whole
    assert Part().has("anything")
    assert not Part(1, 2).is_whole


@pytest.mark.parametrize("text", ["1/1", "1/4", "4/4", "999999/999999"])
def test_a_part_as_it_is_written(text):
    assert str(parse_part(text)) == text


@pytest.mark.parametrize(
    "text",
    ["0/4", "5/4", "x", "", "1", "1/", "/4", "1/0", "0/0", "-1/4", "1/-4", "1/4/2", " 1/4", "1 /4", "1.0/4", "²/4"],
)
def test_no_part(k710, tmp_path, sample, text):
    with pytest.raises(UsageError, match="a part is I/N with I from 1 to N, such as 1/8"):
        parse_part(text)
    result = k710("fetch", sample.path, "--store", tmp_path / "store", f"--part={text}")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"k710: part {text!r}: a part is I/N with I from 1 to N, such as 1/8\n"
    assert not (tmp_path / "store").exists()


# Local folders.

IDS = [f"video_{number:04d}_" for number in range(12)]  # an ID may hold what separates it from its span


@pytest.fixture(scope="module")
def small(k710, tmp_path_factory) -> Path:
    """Two clips of each of twelve videos, and a val clip."""
    clips = [(each, start, start + 2) for each in IDS for start in (0, 4)]
    return build(
        k710, tmp_path_factory.mktemp("small"), {("k400", "train"): clips, ("k400", "val"): [("a-val-clip0", 0, 2)]}
    )


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    for place, each in enumerate(IDS):
        for start in (0, 4):
            clip_file(folder / f"{name_of(each, start, start + 2)}.mp4", first=100 * place + 10 * start)
    clip_file(folder / "a-val-clip0.mp4")
    return folder


@pytest.fixture
def fetch(k710, tmp_path):
    """`fetch(manifest, "local:…", part="1/2")` runs the command on one store."""

    def run(manifest: Path, origins: object, *more: object, part: object = None, code: int = 0) -> Any:
        which = () if part is None else ("--part", part)
        options = ("--from", origins, "--store", tmp_path / "store", "--workers", 1)
        result = k710("fetch", manifest, *options, *which, *more)
        assert result.exit_code == code, result.output
        return result

    return run


@pytest.mark.slow
def test_parts_of_a_folder_make_up_the_whole(k710, fetch, small, clips, tmp_path):
    store = Store(tmp_path / "store", "h264")
    before: set[str] = set()
    for part in parts(3):
        assert "Left to other parts" in fetch(small, f"local:{clips}", part=part).stdout or part.number == 3
        now = set(settled(store.root))
        assert {clip_id[:11] for clip_id in now - before} == {
            each for each in (*IDS, "a-val-clip0") if part.has(each)
        }, "all clips of a video, and no other's"
        before = now
    assert len(before) == store.rows().num_rows == 25
    files = files_under(store.root)
    again = fetch(small, f"local:{clips}")
    assert "0 clips fetched" in again.stdout
    assert files_under(store.root) == files
    assert k710("verify", small, "--store", store.root).exit_code == 0


@pytest.mark.slow
def test_what_is_left_to_others_is_said(fetch, small, clips):
    said = fetch(small, f"local:{clips}", part="1/3").stdout
    mine = 2 * sum(Part(1, 3).has(each) for each in IDS) + Part(1, 3).has("a-val-clip0")
    assert f"This run: {mine} clips fetched" in said
    assert f"Left to other parts: {25 - mine} clips; once all have ended, run the parts again for what" in said
    assert "Left to other parts" not in fetch(small, f"local:{clips}").stdout


def test_a_part_that_has_nothing_to_do(fetch, small, clips, tmp_path):
    """As most of a thousand parts of 25 clips."""
    empty = next(part for part in parts(1000) if not any(map(part.has, (*IDS, "a-val-clip0"))))
    assert "0 clips fetched" in fetch(small, f"local:{clips}", part=empty).stdout
    assert Store(tmp_path / "store", "h264").unit_files() == []


@pytest.mark.slow
def test_the_limit_is_that_of_the_whole(fetch, small, clips, tmp_path):
    for part in parts(2):
        fetch(small, f"local:{clips}", "--limit", 6, part=part)
    assert len(settled(tmp_path / "store")) == 6


def test_a_dry_run_speaks_of_the_part_and_the_status_of_the_whole(k710, fetch, small, clips, tmp_path):
    fetch(small, f"local:{clips}", part="1/2")
    there = len(settled(tmp_path / "store"))
    said = fetch(small, f"local:{clips}", "--dry-run", part="2/2").stdout
    assert f"25 clips wanted, {there} of them in " in said
    assert "Of the missing ones, part 2/2 brings:" in said
    assert "clips, about" in said
    assert [line.split()[-1] for line in said.splitlines() if line.startswith("local:")] == [str(25 - there)]
    done = fetch(small, f"local:{clips}", "--dry-run", part="1/2").stdout
    assert [line.split()[-1] for line in done.splitlines() if line.startswith("local:")] == ["0"]
    status = k710("status", small, "--store", tmp_path / "store").stdout
    line = next(line for line in status.splitlines() if line.startswith("k400 train")).split()
    assert line[2] == "24", "all clips of the split, whoever fetches them"


@needs_proc
@pytest.mark.slow
def test_the_same_part_twice_at_once(k710, world, tmp_path):  # noqa: F811
    """By mistake: it wastes work and breaks nothing."""
    manifest = world.copy(tmp_path)
    with (
        Fetch(manifest, world.origin, more=("--part", "1/2")) as one,
        Fetch(manifest, world.origin, more=("--part", "1/2")) as same,
        Fetch(manifest, world.origin, more=("--part", "2/2")) as other,
    ):
        assert (one.end(), same.end(), other.end()) == (0, 0, 0), one.text() + same.text() + other.text()
    assert hashes(one.store) == world.hashes
    result = k710("verify", manifest, "--workers", 1)
    assert (result.exit_code, result.stdout.count("\n")) == (0, 2), result.output


@needs_proc
@pytest.mark.slow
def test_a_part_that_is_killed_goes_on(k710, world, tmp_path):  # noqa: F811
    manifest = world.copy(tmp_path)
    with Fetch(manifest, world.origin, more=("--part", "1/2")) as first:
        while not first.has_written() and first.process.poll() is None:
            time.sleep(0.005)
        first.process.kill()
        first.end()
    for part in ("2/2", "1/2"):
        assert k710("fetch", manifest, "--from", f"local:{world.origin}", "--workers", 2, "--part", part).exit_code == 0
    check_complete(k710, world, manifest)


# Archives, and what follows from what.


@pytest.fixture
def three_stages(k710, public, tmp_path) -> tuple[Path, Public, dict[str, list[str]]]:  # noqa: F811
    """A manifest of K600 clips that also stand in K400's lists; four archives of each release. Clips of even number are
    in K600's archives, the others in K400's alone."""
    ids = [f"shared-{number:04d}" for number in range(16)]
    rows = {(source, "train"): [(each, 0, 2) for each in ids] for source in ("k400", "k600")}
    rows |= {(source, "val"): [("a-val-clip0", 0, 2)] for source in ("k400", "k600")}
    manifest = build(k710, tmp_path, rows)
    asked = {}
    for release, of_release in (("k600", ids[::2]), ("k400", ids)):
        members = [named(*(name_of(each) for each in of_release[at::4])) for at in range(4)]
        asked[release] = public.publish(release, "train", *members)
    public.publish("k600", "val", named(name_of("a-val-clip0")))
    return manifest, public, asked


def archives_asked(public: Public) -> list[str]:  # noqa: F811
    """The archives that were read, each as often as it was."""
    gets = (request for request in public.server.requests if request.method == "GET" and not request.range)
    return sorted(request.path for request in gets if request.path.endswith("gz"))


@settings(max_examples=8)  # an example plans a fetch for each part
@given(st.integers(1, 12), st.lists(st.sampled_from([None, "gone", "gone_unconfirmed", "private"]), max_size=25))
@pytest.mark.slow
def test_parts_of_youtube_make_up_the_whole(small, tmp_path_factory, of, failures):
    """New videos, videos that are gone, and those that were found gone once, two hours ago."""
    manifest, where = open_manifest(small), "youtube:http://127.0.0.1:1/{id}"
    store = Store(tmp_path_factory.getbasetemp() / "no store", "h264")
    clip_ids = manifest.clips["clip_id"].to_pylist()
    two_hours_ago = datetime.now(timezone.utc) - timedelta(hours=2)
    rows = [(*pair, where, two_hours_ago) for pair in zip(clip_ids, failures, strict=False) if pair[1] is not None]
    media = store.rows(("clip_id", "failure", "origin", "settled_at")).drop_columns("unit").schema
    asked = []
    for part in [Part(), *parts(of)]:
        plan = Plan(manifest, store, FetchOptions(read_profile("h264"), origins=(parse_origin(where),), part=part))
        table = pa.Table.from_pylist([dict(zip(media.names, row, strict=True)) for row in rows], schema=media)
        stage = next(plan.stages(plan.state_of(table)))
        asked.append(sorted(str(clip) for unit in stage.units for video in unit.videos for clip in video.clips))
    assert sorted(itertools.chain(*asked[1:])) == asked[0]
    settled = {clip_id for clip_id, failure, *_ in rows if failure != "gone_unconfirmed"}
    assert asked[0] == sorted(set(clip_ids) - settled)


@pytest.mark.parametrize("of", [2, 3, 7])
@pytest.mark.slow
def test_archives_fall_into_parts_and_later_ones_wait_for_the_earlier(fetch, three_stages, tmp_path, of):
    manifest, public, asked = three_stages  # noqa: F811
    unread = set(asked["k600"])
    for part in parts(of):
        public.forget()
        said = fetch(manifest, public.origin, part=part).stdout
        read = archives_asked(public)
        unread -= set(read)
        assert all(part.has(public.server.url(path)) for path in read)
        assert set(asked["k600"]) & set(read) == {url for url in asked["k600"] if part.has(public.server.url(url))}
        if unread:
            assert not set(asked["k400"]) & set(read), "a set that others still read may hold them"
            assert "Left to other parts" in said
    for _ in range(4):
        said = [fetch(manifest, public.origin, part=part).stdout for part in parts(of)]
        if "Left to other parts" not in "".join(said):
            break
    else:
        pytest.fail("it does not come to an end")
    found = fetched(tmp_path / "store")
    assert len(found) == 17
    assert Store(tmp_path / "store", "h264").rows(("failure",))["failure"].null_count == 17, "no clip twice"
    before = files_under(tmp_path / "store")
    public.forget()
    assert "0 clips fetched" in fetch(manifest, public.origin).stdout
    assert archives_asked(public) == []
    assert files_under(tmp_path / "store") == before


def test_an_archive_does_not_carry_the_wanted_clips_of_its_whole_set(three_stages, tmp_path):
    """A thousand archives of half a million clips each would fill the memory, or the network between machines."""
    manifest, public, _ = three_stages  # noqa: F811
    options = FetchOptions(read_profile("h264"), origins=(parse_origin(public.origin),), splits=("train",))
    plan = Plan(open_manifest(manifest), Store(tmp_path / "store", "h264"), options)
    stage = next(plan.stages(plan.read_store()))
    assert len(stage.units) == 4
    assert all(len(pickle.dumps(unit)) < 500 for unit in stage.units)
    assert len(stage.do.keywords["wanted"]) == stage.clips == 16


@pytest.mark.slow
def test_a_clip_that_another_part_finds_in_a_folder_is_left_to_it(k710, fetch, public, tmp_path):  # noqa: F811
    """Its archive may be this part's: it would be made twice."""
    ids = [f"both-{number:06d}" for number in range(10)]
    manifest = build(k710, tmp_path, rows_of(k600_train=ids))
    public.publish("k600", "train", named(*(name_of(each) for each in ids)))
    public.publish("k600", "val", {})
    [url] = [public.server.url("/600/train/part_0.tar.gz")]
    mine = next(part for part in parts(2) if part.has(url))
    other = Part(3 - mine.number, 2)
    folder = tmp_path / "clips"
    theirs = [each for each in ids if other.has(each)]
    assert 2 <= len(theirs) < 10
    for each in theirs:
        clip_file(folder / f"{name_of(each)}.mp4")
    (folder / f"{name_of(theirs[0])}.mp4").write_bytes(b"")
    origins, only = f"local:{folder},{public.origin}", ("--splits", "train")
    fetch(manifest, origins, *only, part=mine)
    assert set(settled(tmp_path / "store")) == {name_of(each) for each in ids if mine.has(each)}
    assert "1 not_video" in fetch(manifest, origins, *only, part=other).stdout
    assert fetched(tmp_path / "store").keys() == {name_of(each) for each in ids if each != theirs[0]}
    said = fetch(manifest, origins, *only, part=mine).stdout
    assert "This run: 1 clip fetched" in said, "now that its neighbour could not have it"
    assert len(fetched(tmp_path / "store")) == 10
    assert Store(tmp_path / "store", "h264").rows().num_rows == 11


@pytest.mark.slow
def test_what_a_folder_could_not_give_waits_for_the_archives_of_others(k710, fetch, public, tmp_path):  # noqa: F811
    """The other way round: a clip is asked of the folder once all archives that may hold it are read."""
    ids = [f"late-{number:06d}" for number in range(10)]
    manifest = build(k710, tmp_path, rows_of(k600_train=ids))
    paths = [f"/600/train/part_{number}.tar.gz" for number in range(100)]  # of which each part gets three
    paths = [path for part in parts(2) for path in [path for path in paths if part.has(public.server.url(path))][:3]]
    for each, path in zip(ids[:6], paths, strict=True):
        public.server.serve(path, archive(named(name_of(each))))
    addresses = "\n".join(map(public.server.url, paths))
    public.server.serve("/600/train/k600_train_path.txt", addresses.encode())
    folder = tmp_path / "clips"
    for each in ids:
        clip_file(folder / f"{name_of(each)}.mp4")
    origins, only = f"{public.origin},local:{folder}", ("--splits", "train")
    fetch(manifest, origins, *only, part="1/2")
    rows = settled(tmp_path / "store")
    assert len(rows) == 3
    assert {row["origin"] for row in rows.values()} == {"cvdf:k600/train"}, "2/2 has read nothing yet"
    fetch(manifest, origins, *only, part="2/2")
    fetch(manifest, origins, *only, part="1/2")
    rows = settled(tmp_path / "store")
    assert {name for name, row in rows.items() if row["origin"].startswith("cvdf")} == {name_of(x) for x in ids[:6]}
    assert len(rows) == Store(tmp_path / "store", "h264").rows().num_rows == 10


def test_what_the_archives_of_others_may_still_bring():
    seen = {"a": SeenArchive("a", frozenset({"1", "2"})), "b": SeenArchive("b", frozenset({"3"}))}
    clips = frozenset({"1", "3", "9"})
    assert left_to_others([], clips, seen) == frozenset()
    assert left_to_others(["a"], clips, seen) == {"1"}
    assert left_to_others(["a", "b"], clips, seen) == {"1", "3"}
    assert left_to_others(["a", "c"], clips, seen) == clips


# Scratch folders of other machines.


@pytest.mark.parametrize(("age_s", "stays"), [(60, True), (3 * 3600, True), (25 * 3600, False)])
def test_the_scratch_of_another_machine_is_swept_only_when_nothing_happens_in_it(tmp_path, age_s, stays):
    """Where locks do not reach from one machine to another, its run may be at work."""
    folder = tmp_path / "scratch" / "run-there"
    folder.mkdir(parents=True)
    (folder / "lock").write_text("another-machine")
    os.utime(folder, (time.time() - age_s,) * 2)
    assert sweep(tmp_path) == ({folder} if stays else set())
    assert folder.exists() == stays
    if stays:
        with pytest.raises(StoreError, match="a run is at work"), scratch_folder(tmp_path, alone=True):
            pass


def test_the_scratch_of_another_user_is_left_alone(tmp_path, monkeypatch):
    """Nobody else may look into it, and a store may be shared."""
    theirs = tmp_path / "scratch" / "run-theirs"
    theirs.mkdir(parents=True)

    def opened(path: Path, *more: Any) -> Any:
        if path.parent == theirs:
            raise PermissionError(13, "Permission denied", str(path))
        return really(path, *more)

    really = Path.open
    monkeypatch.setattr(Path, "open", opened)
    with scratch_folder(tmp_path):
        pass
    assert theirs.exists()
    with pytest.raises(StoreError, match="a run is at work"), scratch_folder(tmp_path, alone=True):
        pass


def test_a_scratch_folder_says_whose_it_is(tmp_path):
    with scratch_folder(tmp_path) as folder:
        assert (folder / "lock").read_text() == socket.gethostname()
