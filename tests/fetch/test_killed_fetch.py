"""A fetch that is killed, interrupted, or has no room left keeps what it settled, and the same command goes on."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pyarrow.parquet
import pytest

from k710.engine import helper_pool
from k710.engine.helper_pool import StoppedError
from k710.errors import EngineError
from k710.fetch import estimate
from k710.fetch.encode.codecs import CODECS
from k710.fetch.encode.ffmpeg_binary import ffmpeg_binary
from k710.fetch.encode.jobs import Candidate, CheckJob, ClipJob, clip_pool
from k710.fetch.encode.profiles import Profile
from k710.fetch.scratch import scratch_folder
from k710.fetch.store_unit import StoreUnit
from k710.sample.footage import write_video
from k710.sample.motions import Look
from k710.store.store import Store
from tests.helpers.small_stores import (
    about,
    clips_of,
    fake_media,
    film,
    hashes,
    left_in_scratch,
    made_of,
    manifest_of,
    members,
    stored,
    tars,
)

CLIPS = [*clips_of(50), *clips_of(10, "val", first=50)]
PROC = Path("/proc/self/environ").exists()
LIMIT_S = 60.0


def until(found: Callable[[], object], *, limit_s: float = LIMIT_S) -> None:
    """Wait until something has come true; fail where it does not."""
    end_s = time.monotonic() + limit_s
    while not found():
        assert time.monotonic() < end_s, "waited in vain"
        time.sleep(0.005)


@dataclass
class Fetch:
    """`k710 fetch` in a process of its own, as a shell starts it; what it starts carries a mark."""

    manifest: Path
    origin: Path
    ffmpeg: Path | None = None
    more: tuple[str, ...] = ()
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)

    def __post_init__(self) -> None:
        command = [sys.executable, "-m", "k710", "fetch", str(self.manifest), "--from", f"local:{self.origin}"]
        environment = {**os.environ, "K710_TEST_MARK": self.mark}
        if self.ffmpeg is not None:
            environment["IMAGEIO_FFMPEG_EXE"] = str(self.ffmpeg)
        self.said = self.manifest.with_name(f"said-{self.mark}")
        with self.said.open("w") as said:
            self.process = subprocess.Popen(
                [*command, "--workers", "2", *self.more],
                stdout=said,
                stderr=said,
                env=environment,
                start_new_session=True,
            )

    def __enter__(self) -> Fetch:
        return self

    def __exit__(self, *error: object) -> None:
        for pid in (self.process.pid, *self.processes()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()

    @property
    def store(self) -> Store:
        return Store(self.manifest / "store", "h264")

    def end(self) -> int:
        return self.process.wait(timeout=LIMIT_S)

    def text(self) -> str:
        return self.said.read_text()

    def interrupt(self, number: int) -> None:
        """As a terminal does, to the whole group; as a scheduler does, to the process."""
        if number == signal.SIGINT:
            os.killpg(self.process.pid, number)
        else:
            os.kill(self.process.pid, number)

    def has_written(self) -> bool:
        """Whether the first byte is under tars/ or in its own scratch."""
        folders = (self.store.scratch_folder.glob("run-*/unit-*/*"), self.store.tars_folder.glob("*"))
        for paths in folders:
            for path in paths:
                with contextlib.suppress(FileNotFoundError):
                    if path.stat().st_size:
                        return True
        return False

    def has_settled(self) -> bool:
        """Whether a clip is in the tar of a unit that is not committed yet."""
        return any(path.stat().st_size > 1024 for path in self.store.scratch_folder.glob("run-*/unit-*/*.tar"))

    def processes(self, what: str = "") -> list[int]:
        """The processes that it started and that are alive, its own among them."""
        return marked(self.mark, what)


def marked(mark: str, what: str = "") -> list[int]:
    """The living processes that have the mark in their environment and `what` in their command."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark.encode() in (folder / "environ").read_bytes():
                command = (folder / "cmdline").read_bytes().decode().replace("\0", " ")
                if what in command:
                    found.append(int(folder.name))
    return found


@dataclass(frozen=True)
class World:
    """Clips on disk, a manifest of them without a store, and what a run that nobody disturbs makes of them."""

    manifest: Path
    origin: Path
    hashes: dict[str, str]
    tars: dict[str, bytes]
    whole_s: float  # from the first byte to the end

    def copy(self, folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copytree(self.manifest, folder / "m"))


@pytest.fixture(scope="module")
def world(tmp_path_factory, k710):
    folder = tmp_path_factory.mktemp("world")
    manifest = manifest_of(k710, folder, CLIPS)
    origin = film(folder / "clips", CLIPS)
    clean = shutil.copytree(manifest, folder / "clean" / "m")
    with Fetch(clean, origin) as fetch:
        until(lambda: fetch.has_written() or fetch.process.poll() is not None)
        begin_s = time.monotonic()
        assert fetch.end() == 0, fetch.text()
        whole_s = time.monotonic() - begin_s
    assert len(hashes(fetch.store)) == len(CLIPS)
    return World(manifest, origin, hashes(fetch.store), tars(fetch.store), whole_s)


def check_complete(k710: Callable[..., object], world: World, manifest: Path) -> None:
    """Every clip once and as it should be, every tar readable, nothing left over."""
    store = Store(manifest / "store", "h264")
    rows = store.rows(("clip_id", "failure", "tar")).to_pylist()
    assert sorted(row["clip_id"] for row in rows) == sorted(world.hashes), "no clip with two rows"
    assert {row["failure"] for row in rows} == {None}
    assert hashes(store) == world.hashes
    listed = k710("verify", manifest, "--workers", 1)
    named, found = {row["tar"] for row in rows}, tars(store)
    orphans = found.keys() - named
    assert listed.exit_code == 0, listed.output
    assert all(f"  {name}: no row names it" in listed.stdout for name in orphans)
    for content in found.values():
        members(content)
    assert k710("verify", manifest, "--workers", 1, "--repair").exit_code == 0
    assert tars(store).keys() == named
    # A run that is killed before its folder is locked looks like one that has just begun, and is given an hour.
    assert [name for name in left_in_scratch(store) if "/.new-" not in name] == []


def kill_at_random_moments(k710: Callable[..., object], world: World, folder: Path, kills: int, seed: int) -> int:
    """Kill fetches, each going on from the one before, and begin anew once one comes to its end; returns how many
    of the kills came after the first byte was written."""
    generator = random.Random(seed)
    killed = after_first_byte = rounds = 0
    while killed < kills:
        manifest = world.copy(folder / f"{rounds}")
        rounds += 1
        settled: set[str] = set()
        while True:
            with Fetch(manifest, world.origin) as fetch:
                early = generator.random() < 0.15
                if not early:
                    until(lambda fetch=fetch: fetch.has_written() or fetch.process.poll() is not None)
                time.sleep(generator.uniform(0, world.whole_s))
                fetch.process.kill()
                code = fetch.end()
                written = not early or fetch.has_written()
                until(lambda fetch=fetch: not fetch.processes(), limit_s=20)  # they notice, and end by themselves
            assert code in (0, -signal.SIGKILL), fetch.text()
            now = hashes(fetch.store)
            assert now.items() <= world.hashes.items()
            assert settled <= now.keys(), "what was settled stays settled"
            settled = set(now)
            assert stored(fetch.store).keys() == settled
            if code == 0:
                break
            killed += 1
            after_first_byte += written
        check_complete(k710, world, manifest)
    return after_first_byte


needs_proc = pytest.mark.skipif(not PROC, reason="this system has no /proc to find processes in")


@needs_proc
@pytest.mark.slow
def test_killed_at_a_few_moments(k710, world, tmp_path):
    assert kill_at_random_moments(k710, world, tmp_path, kills=6, seed=1) >= 2


@needs_proc
@pytest.mark.slow
def test_killed_at_fifty_moments(k710, world, tmp_path):
    assert kill_at_random_moments(k710, world, tmp_path, kills=50, seed=710) >= 30


@pytest.mark.slow
def test_two_undisturbed_runs_make_the_same_tars(k710, world, tmp_path):
    """Whichever of its processes is faster."""
    manifest = world.copy(tmp_path)
    result = k710("fetch", manifest, "--from", f"local:{world.origin}", "--workers", 2)
    assert result.exit_code == 0
    assert tars(Store(manifest / "store", "h264")) == world.tars


@pytest.mark.slow
def test_two_runs_at_once_waste_work_and_break_nothing(k710, world, tmp_path):
    manifest = world.copy(tmp_path)
    with Fetch(manifest, world.origin) as one, Fetch(manifest, world.origin) as other:
        assert (one.end(), other.end()) == (0, 0), one.text() + other.text()
    assert hashes(one.store) == world.hashes
    assert left_in_scratch(one.store) == []
    result = k710("verify", manifest, "--workers", 1)
    assert (result.exit_code, result.stdout.count("\n")) == (0, 2), result.output


# Interrupted.


@pytest.fixture
def use_ffmpeg(monkeypatch) -> Iterator[Callable[[Path], None]]:
    """Puts another ffmpeg in the place of the one that this process remembers."""

    def use(path: Path) -> None:
        monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(path))
        ffmpeg_binary.cache_clear()

    yield use
    ffmpeg_binary.cache_clear()


@pytest.fixture
def slow_ffmpeg(tmp_path):
    """An ffmpeg that thinks before it begins, but not when it is checked whether it works at all."""

    def write(seconds: float, *, name: str = "ffmpeg") -> Path:
        path = tmp_path / name
        real = imageio_ffmpeg.get_ffmpeg_exe()
        thinks = f'case "$*" in *self-check*|*-version*) ;; *) sleep {seconds} ;; esac'
        path.write_text(f'#!/bin/sh\n{thinks}\nexec "{real}" "$@"\n')
        path.chmod(0o755)
        return path

    return write


@needs_proc
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
@pytest.mark.slow
def test_interrupted_once(k710, world, tmp_path, slow_ffmpeg, number):
    """The clips in flight are finished and committed, and then it says how to go on."""
    manifest = world.copy(tmp_path)
    with Fetch(manifest, world.origin, slow_ffmpeg(0.1)) as fetch:
        until(fetch.has_settled)
        fetch.interrupt(number)
        assert fetch.end() == 1
        assert fetch.processes() == []
    said = fetch.text()
    assert said.count("Finishing the clips in flight; once more stops at once.") == 1
    last = f"k710: stopped by {number.name}; everything settled so far is kept, and the same command goes on from there"
    assert last in said.splitlines()
    assert "Traceback" not in said
    kept = hashes(fetch.store)
    assert 0 < len(kept) < len(CLIPS)
    assert f"This run: {len(kept)} clips fetched" in said
    assert kept.items() <= world.hashes.items()
    assert left_in_scratch(fetch.store) == []
    assert tars(fetch.store).keys() == set(fetch.store.rows(("tar",))["tar"].to_pylist())
    result = k710("fetch", manifest, "--from", f"local:{world.origin}", "--workers", 2)
    assert result.exit_code == 0
    assert f"This run: {len(CLIPS) - len(kept)} clips fetched" in result.stdout
    check_complete(k710, world, manifest)


@needs_proc
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
@pytest.mark.slow
def test_interrupted_twice(k710, world, tmp_path, slow_ffmpeg, number):
    """It ends at once, though no clip would be done for a long time, and takes its processes along."""
    manifest = world.copy(tmp_path)
    with Fetch(manifest, world.origin, slow_ffmpeg(1000)) as fetch:
        until(lambda: len(fetch.processes("sleep 1000")) >= 2)
        fetch.interrupt(number)
        until(lambda: "Finishing the clips in flight" in fetch.text())
        time.sleep(0.3)
        assert fetch.process.poll() is None, "it waits for them"
        begin_s = time.monotonic()
        fetch.interrupt(number)
        assert fetch.end() == 1
        assert time.monotonic() - begin_s < 3
        until(lambda: not fetch.processes(), limit_s=1)
    said = fetch.text()
    assert said.endswith("k710: stopped at once; the same command goes on from what was committed\n")
    assert "Traceback" not in said
    assert hashes(fetch.store) == {}
    assert tars(fetch.store) == {}
    assert k710("fetch", manifest, "--from", f"local:{world.origin}", "--workers", 2).exit_code == 0
    check_complete(k710, world, manifest)


@needs_proc
@pytest.mark.slow
def test_nothing_is_left_running_after_an_undisturbed_run(world, tmp_path):
    with Fetch(world.copy(tmp_path), world.origin) as fetch:
        until(lambda: fetch.processes("k710.fetch.encode.clip_process"))
        assert fetch.end() == 0
        assert fetch.processes() == []
    assert left_in_scratch(fetch.store) == []


# Processes that die or hang.


@needs_proc
@pytest.mark.slow
def test_clip_processes_that_are_killed_cost_nothing(k710, world, tmp_path, slow_ffmpeg):
    """As by a system that runs out of memory: the clips get other processes, and so do those behind them."""
    manifest = world.copy(tmp_path)
    with Fetch(manifest, world.origin, slow_ffmpeg(0.11)) as fetch:
        until(lambda: len(fetch.processes("sleep 0.11")) == 2)
        killed = set()
        for pid in fetch.processes("sleep 0.11"):
            with contextlib.suppress(ProcessLookupError):  # it is done already
                killed.add(os.getpgid(pid))  # led by the process that makes the clip
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        assert fetch.end() == 0, fetch.text()
        assert fetch.processes() == []
    assert killed
    check_complete(k710, world, manifest)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("exit 3", "ended without a message"),
        ("kill -SEGV $$", "crashed (SIGSEGV)"),
        ("echo 'no libx264' >&2; exit 1", "no libx264"),
    ],
)
def test_an_ffmpeg_that_does_not_work_is_no_clips_fault(k710, world, tmp_path, use_ffmpeg, script, said):
    broken = tmp_path / "ffmpeg"
    broken.write_text(f'#!/bin/sh\ncase "$*" in *-version*) echo ffmpeg version 7 ;; *) {script} ;; esac\n')
    broken.chmod(0o755)
    use_ffmpeg(broken)
    manifest = world.copy(tmp_path)
    result = k710("fetch", manifest, "--from", f"local:{world.origin}", "--workers", 2)
    assert result.exit_code == 1
    assert result.stderr == f"k710: ffmpeg cannot make clips here: {said}\n"
    assert Store(manifest / "store", "h264").unit_files() == []


@needs_proc
@pytest.mark.slow
def test_an_interrupt_during_the_first_check_is_no_broken_ffmpeg(world, tmp_path, slow_ffmpeg):
    slow = slow_ffmpeg(0)
    slow.write_text(slow.read_text().replace('exec "', 'case "$*" in *self-check.mp4) sleep 1.7 ;; esac\nexec "'))
    with Fetch(world.copy(tmp_path), world.origin, slow) as fetch:
        until(lambda: fetch.processes("sleep 1.7"))
        fetch.interrupt(signal.SIGINT)
        assert fetch.end() == 1
        assert "k710: stopped by SIGINT; everything settled so far is kept" in fetch.text()
        assert fetch.processes() == []
    assert left_in_scratch(fetch.store) == []


def job_for(origin: Path, out: Path, *, limit_s: float = 60.0) -> ClipJob:
    clip = CLIPS[0]
    span = (clip.time_start_s, clip.time_end_s)
    candidate = Candidate(origin / f"{clip.clip_id}.mp4", named_span=True)
    return ClipJob(clip.clip_id, span, (span,), (candidate,), out, Profile(name="h264"), limit_s)


def test_a_clip_whose_process_dies_every_time(world, tmp_path, monkeypatch, slow_ffmpeg):
    """It is settled as undecodable, and the pool goes on."""
    killer = slow_ffmpeg(0)
    killer.write_text("#!/bin/sh\nkill -SEGV $PPID\nexec sleep 60\n")
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(killer))
    with clip_pool(1) as pool:
        made = pool.submit(job_for(world.origin, tmp_path / "out")).result(timeout=LIMIT_S)
        assert (made.clip_id, made.failure, made.message) == (
            CLIPS[0].clip_id,
            "undecodable",
            "the decoder crashed: SIGSEGV",
        )
        checked = pool.submit(CheckJob("clip", world.origin / f"{CLIPS[0].clip_id}.mp4")).result(timeout=LIMIT_S)
        assert checked.measured is not None


@needs_proc
@pytest.mark.slow
def test_the_ffmpeg_of_a_killed_process_goes_with_it(world, tmp_path, monkeypatch, slow_ffmpeg):
    """Or it would go on writing the file that the next process begins anew."""
    mark = uuid.uuid4().hex
    monkeypatch.setenv("K710_TEST_MARK", mark)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(slow_ffmpeg(4.2)))
    with clip_pool(1) as pool:
        future = pool.submit(job_for(world.origin, tmp_path / "out"))
        until(lambda: marked(mark, "sleep 4.2"))
        [first] = marked(mark, "sleep 4.2")
        os.kill(os.getpgid(first), signal.SIGKILL)
        until(lambda: [pid for pid in marked(mark, "sleep 4.2") if pid != first])
        assert first not in marked(mark)
        assert future.result(timeout=LIMIT_S).failure is None, "the second process makes it"


def test_a_process_that_starts_while_all_are_killed_is_killed_too(world, tmp_path, monkeypatch, slow_ffmpeg):
    """It is not yet known when they are gone through, and must not keep the run from ending."""
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(slow_ffmpeg(20)))
    really = subprocess.Popen
    with clip_pool(1) as pool:

        def start(*arguments: object, **options: object) -> object:
            pool.kill()
            return really(*arguments, **options)

        monkeypatch.setattr(helper_pool.subprocess, "Popen", start)
        begin_s = time.monotonic()
        error = pool.submit(job_for(world.origin, tmp_path / "out")).exception(timeout=LIMIT_S)
        assert isinstance(error, StoppedError | EngineError)
        assert time.monotonic() - begin_s < 10


def test_an_ffmpeg_that_hangs_has_its_time(world, tmp_path, monkeypatch):
    hangs = tmp_path / "ffmpeg"
    hangs.write_text("#!/bin/sh\nexec sleep 60\n")
    hangs.chmod(0o755)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(hangs))
    begin_s = time.monotonic()
    with clip_pool(1) as pool:
        made = pool.submit(job_for(world.origin, tmp_path / "out", limit_s=1)).result(timeout=LIMIT_S)
    assert (made.failure, made.message) == ("undecodable", "ffmpeg was not done after 1 s")
    assert time.monotonic() - begin_s < 20


@pytest.mark.slow
def test_a_decoder_that_hangs_is_killed(world, tmp_path, monkeypatch):
    """A pipe that nobody writes to stands for what never returns. One that hangs is not tried again."""
    monkeypatch.setattr(helper_pool, "GRACE_S", 0.5)
    monkeypatch.setattr(helper_pool, "WAIT_S", 0.5)
    really, tried = helper_pool._HelperProcess.ask, []
    monkeypatch.setattr(helper_pool._HelperProcess, "ask", lambda *how: tried.append(how[1].clip_id) or really(*how))
    os.mkfifo(tmp_path / "pipe")
    with clip_pool(2) as pool:
        good = pool.submit(CheckJob("good", world.origin / f"{CLIPS[0].clip_id}.mp4")).result(timeout=LIMIT_S)
        begin_s = time.monotonic()
        made = pool.submit(CheckJob("clip", tmp_path / "pipe", limit_s=1.0)).result(timeout=LIMIT_S)
        assert time.monotonic() - begin_s < 20
        again = pool.submit(CheckJob("good", world.origin / f"{CLIPS[0].clip_id}.mp4")).result(timeout=LIMIT_S)
    assert (made.failure, made.message) == ("undecodable", "the decoder hung and was killed")
    assert tried == ["good", "clip", "good"]
    assert good == again
    assert good.measured is not None


def test_what_a_failed_clip_leaves_in_the_scratch_goes_with_it(k710, world, tmp_path, monkeypatch, use_ffmpeg):
    """A run of weeks meets thousands of them."""
    real = imageio_ffmpeg.get_ffmpeg_exe()
    fails = tmp_path / "ffmpeg"
    # What is written under the name of the clip, when it fails in the middle; the name is the last argument but one.
    fails.write_text(
        f'#!/bin/sh\ncase "$*" in *self-check*|*-version*) exec "{real}" "$@" ;; esac\n'
        'for last in "$@"; do case "$last" in file:*.mp4) out="${last#file:}" ;; esac; done\n'
        'echo half > "$out"\nls "$(dirname "$out")" >> "$LOG"\nexit 1\n'
    )
    fails.chmod(0o755)
    use_ffmpeg(fails)
    monkeypatch.setenv("LOG", str(tmp_path / "log"))
    manifest = world.copy(tmp_path)
    result = k710("fetch", manifest, "--from", f"local:{world.origin}", "--workers", 2)
    assert result.exit_code == 0
    assert "0 clips fetched, 0.0 MB, 60 undecodable" in result.stdout
    most, now = 0, 0
    for line in (tmp_path / "log").read_text().splitlines():
        now = now + 1 if line.endswith(".mp4") else 0
        most = max(most, now)
    assert most <= 2 * 6 + 2, "no more than two units may have in hand"


# No room.


@pytest.fixture
def disk(tmp_path) -> Iterator[Callable[[str], Path]]:
    """A disk of a few MB: `disk("6m")` makes it, or makes it larger."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def size(text: str) -> Path:
        how = "remount," if folder.is_mount() else ""
        command = ["mount", "-t", "tmpfs", "-o", f"{how}size={text}", "tmpfs", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"no small disk can be mounted here: {done.stderr.strip()}")
        return folder

    if sys.platform != "linux" or os.geteuid():
        pytest.skip("only root can mount a small disk")
    yield size
    if folder.is_mount():
        subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture(scope="module")
def noisy(tmp_path_factory, k710):
    """A manifest and a folder of 20 clips that nothing can make small: 200 kB each."""
    folder = tmp_path_factory.mktemp("noisy")
    clips = [*clips_of(15), *clips_of(5, "val", first=15)]
    generator, look = np.random.default_rng(0), Look(160, 120, 8, preset="ultrafast", crf=18)
    (folder / "clips").mkdir()
    for clip in clips:
        frames = (generator.integers(0, 255, (120, 160, 3), dtype=np.uint8) for _ in range(16))
        write_video(folder / "clips" / f"{clip.clip_id}.mp4", frames, look)
    return manifest_of(k710, folder, clips), folder / "clips"


@pytest.mark.slow
def test_a_disk_that_fills_up(k710, noisy, disk, monkeypatch):
    """What is settled is kept; with more room the same command goes on."""
    manifest, origin = noisy
    monkeypatch.setitem(CODECS, "h264", replace(CODECS["h264"], expected_bytes=1000))  # or it would not even begin
    monkeypatch.setattr(estimate, "SOURCE_CLIP_BYTES", 1000)
    store = Store(disk("6m"), "h264")
    arguments = ("fetch", manifest, "--from", f"local:{origin}", "--store", store.root, "--workers", 2)
    result = k710(*arguments)
    assert result.exit_code == 1
    full = "k710: the disk is full; everything settled so far is kept, and the same command goes on from there\n"
    assert result.stderr == full
    kept = stored(store)
    assert 0 < len(kept) < 20
    assert f"This run: {len(kept)} clips fetched" in result.stdout
    assert store.rows(("failure",))["failure"].null_count == len(kept), "no clip gets the blame"
    assert left_in_scratch(store) == []
    assert tars(store).keys() == set(store.rows(("tar",))["tar"].to_pylist())
    for content in tars(store).values():
        members(content)

    disk("40m")
    result = k710(*arguments)
    assert result.exit_code == 0, result.output
    assert f"This run: {20 - len(kept)} clips fetched" in result.stdout
    assert len(stored(store)) == 20
    assert stored(store).items() >= kept.items()
    assert k710("verify", manifest, "--store", store.root, "--decode").exit_code == 0


def test_a_disk_too_small_for_a_unit_to_begin(k710, noisy, disk, monkeypatch):
    manifest, origin = noisy
    monkeypatch.setitem(CODECS, "h264", replace(CODECS["h264"], expected_bytes=1000))
    monkeypatch.setattr(estimate, "SOURCE_CLIP_BYTES", 1000)
    root = disk("1m")
    result = k710("fetch", manifest, "--from", f"local:{origin}", "--store", root, "--workers", 2)
    assert result.exit_code == 1
    assert result.stderr.startswith("k710: the disk is full; ")
    assert left_in_scratch(Store(root, "h264")) == []
    assert not (root / "media").exists()


def fill(folder: Path) -> None:
    """Take all the room that there is, as somebody else's program may."""
    with (folder / f"theirs-{uuid.uuid4().hex}").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass


def test_a_unit_is_committed_though_others_take_all_room(disk, monkeypatch):
    """Its last bytes are kept back until the moment when they are written: freed before, another could take them."""
    store = Store(disk("6m"), "h264")
    names = [clip.clip_id for clip in CLIPS[:4]]
    really = pyarrow.parquet.write_table
    with scratch_folder(store.root) as scratch:
        unit = StoreUnit(store, "local", scratch)
        for clip_id in names[:3]:
            unit.add(made_of(scratch, clip_id, fake_media(clip_id)), origin="local:/a", came_from="a")
        made = made_of(scratch, names[3], fake_media(names[3], 100_000))
        fill(store.root)
        with pytest.raises(OSError, match="No space left") as raised:
            unit.add(made, origin="local:/a", came_from="a")
        assert raised.value.errno == errno.ENOSPC

        def write_table(*arguments: object, **options: object) -> None:
            fill(store.root)
            really(*arguments, **options)

        monkeypatch.setattr(pyarrow.parquet, "write_table", write_table)
        unit.commit(about())
    assert stored(store) == {clip_id: fake_media(clip_id) for clip_id in names[:3]}
    [tar] = tars(store).values()
    assert len(members(tar)) == 6


def test_a_run_that_would_need_more_than_there_is_does_not_begin(k710, world, tmp_path, monkeypatch):
    manifest = world.copy(tmp_path)
    arguments = ("fetch", manifest, "--from", f"local:{world.origin}", "--workers", 2)
    monkeypatch.setattr(estimate, "free_bytes", lambda folder: 100_000_000)
    result = k710(*arguments)
    assert result.exit_code == 1
    assert result.stderr == (
        f"k710: {manifest / 'store'}: 60 clips need about 120.0 MB, 100.0 MB are free; "
        "take --limit, fewer --splits, or another --store\n"
    )
    assert not (manifest / "store").exists(), "nothing is made either"
    monkeypatch.setattr(estimate, "free_bytes", lambda folder: 130_000_000)
    assert k710(*arguments, "--limit", 2).exit_code == 0
    said = k710(*arguments, "--dry-run").stdout
    assert "60 clips wanted, 2 of them in " in said
    assert "free: 130.0 MB" in said
