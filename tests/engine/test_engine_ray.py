"""`k710 fetch --engine ray`, on a real cluster of two nodes on this machine; nodes die, folders differ."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import imageio_ffmpeg
import pytest

import k710 as package
from k710 import __version__
from k710.engine.ray_engine import _connected
from k710.manifest.pairs import read_pairs
from k710.manifest.read import open_manifest
from k710.near_duplicates.signatures import SignatureFolder
from k710.storage.storage import location
from k710.store.store import Store
from tests.fetch.test_fetch_cvdf import name_of, named, public, rows_of  # noqa: F401
from tests.fetch.test_killed_fetch import Fetch, check_complete, needs_proc, until, world  # noqa: F401
from tests.helpers.loopback import closed_url
from tests.helpers.ray_machines import QUIET, Machines
from tests.helpers.small_stores import hashes, left_in_scratch
from tests.helpers.tiny_media import build, clip_bytes, fetched
from tests.maintenance.test_verify import flip

pytestmark = [needs_proc]
slow = pytest.mark.slow


def on(machines: Machines) -> tuple[str, ...]:
    return ("--engine", "ray", "--ray-address", machines.address)


@pytest.fixture(scope="module")
def machines(tmp_path_factory):
    """Two nodes whose ffmpeg thinks before it begins, so that there is time to kill something."""
    pytest.importorskip("ray")
    with Machines({"IMAGEIO_FFMPEG_EXE": str(thinking_ffmpeg(tmp_path_factory.mktemp("slow")))}) as found:
        yield found


def thinking_ffmpeg(folder: Path) -> Path:
    ffmpeg, real = folder / "ffmpeg", imageio_ffmpeg.get_ffmpeg_exe()
    thinks = 'case "$*" in *self-check*|*-version*) ;; *) sleep 0.1 ;; esac'
    ffmpeg.write_text(f'#!/bin/sh\n{thinks}\nexec "{real}" "$@"\n')
    ffmpeg.chmod(0o755)
    return ffmpeg


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    for name, value in QUIET.items():
        monkeypatch.setenv(name, value)


def mends(machines: Machines) -> None:
    """A second node in the place of one that was killed."""
    machines.nodes.pop().end()
    machines.add()


def at_work(machines: Machines) -> list[int]:
    """How many processes of each node make clips."""
    return [len(node.pids("k710.fetch.encode.clip_process")) for node in machines.nodes]


@slow
def test_two_nodes_make_what_one_machine_makes(k710, world, tmp_path, machines):  # noqa: F811
    manifest, most = world.copy(tmp_path), [0, 0]
    with Fetch(manifest, world.origin, more=on(machines)) as fetch:
        while fetch.process.poll() is None:
            most = [max(pair) for pair in zip(most, at_work(machines), strict=True)]
            time.sleep(0.05)
        assert fetch.end() == 0, fetch.text()
    assert all(most), "both took part"
    assert f"This run: {len(world.hashes)} clips fetched" in fetch.text()
    check_complete(k710, world, manifest)
    assert left_in_scratch(fetch.store) == []
    until(lambda: at_work(machines) == [0, 0])
    again = Fetch(manifest, world.origin, more=on(machines))
    with again:
        assert again.end() == 0
    assert "0 clips fetched" in again.text()


@slow
@pytest.mark.parametrize("what", ["raylet/raylet", "ray start", "ray::_Machine"])
def test_a_node_that_dies_costs_nothing_but_time(k710, world, tmp_path, machines, what):  # noqa: F811
    """Its raylet, the whole of it, or the one process that does the work, as when memory runs out."""
    manifest = world.copy(tmp_path)
    with Fetch(manifest, world.origin, more=on(machines)) as fetch:
        until(lambda: at_work(machines)[1] and fetch.has_settled())
        machines.nodes[1].kill(what)
        try:
            assert fetch.process.wait(timeout=180) == 0, fetch.text()
        finally:
            if not what.startswith("ray::"):
                mends(machines)
    assert f"This run: {len(world.hashes)} clips fetched" in fetch.text(), "what was lost is not counted twice"
    assert len([line for line in fetch.text().splitlines() if line.startswith("Lost ")]) == 1
    assert hashes(fetch.store) == world.hashes
    assert k710("verify", manifest, "--workers", 1).exit_code == 0


@slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_stop_reaches_the_nodes(k710, world, tmp_path, machines, number):  # noqa: F811
    manifest = world.copy(tmp_path)
    with Fetch(manifest, world.origin, more=on(machines)) as fetch:
        until(lambda: all(at_work(machines)) and fetch.has_settled())
        fetch.interrupt(number)
        assert fetch.end() == 1
        until(lambda: at_work(machines) == [0, 0], limit_s=5)
    said = fetch.text()
    assert f"k710: stopped by {number.name}; everything settled so far is kept" in said
    kept = hashes(fetch.store)
    assert 0 < len(kept) < len(world.hashes)
    assert f"This run: {len(kept)} clips fetched" in said
    assert left_in_scratch(fetch.store) == []
    result = k710("fetch", manifest, "--from", f"local:{world.origin}", "--workers", 2)
    assert result.exit_code == 0
    check_complete(k710, world, manifest)


@slow
def test_a_second_stop_ends_at_once(k710, world, tmp_path, machines):  # noqa: F811
    manifest = world.copy(tmp_path)
    with Fetch(manifest, world.origin, more=on(machines)) as fetch:
        until(lambda: all(at_work(machines)))
        fetch.interrupt(signal.SIGTERM)
        until(lambda: "Finishing the clips in flight" in fetch.text())
        fetch.interrupt(signal.SIGTERM)
        assert fetch.end() == 1
        until(lambda: at_work(machines) == [0, 0], limit_s=20)
    assert "Traceback" not in fetch.text()
    assert k710("fetch", manifest, "--from", f"local:{world.origin}", "--workers", 2).exit_code == 0
    check_complete(k710, world, manifest)


@slow
def test_a_driver_that_is_killed_leaves_nothing_running(k710, world, tmp_path, machines):  # noqa: F811
    manifest = world.copy(tmp_path)
    with Fetch(manifest, world.origin, more=on(machines)) as fetch:
        until(lambda: all(at_work(machines)) and fetch.has_settled())
        fetch.process.kill()
        fetch.end()
        # Ray ends the actors; as long as one lives, its scratch is its own.
        until(lambda: not any(node.pids("ray::_Machine") for node in machines.nodes))
        until(lambda: at_work(machines) == [0, 0])
    assert k710("fetch", manifest, "--from", f"local:{world.origin}", "--workers", 2).exit_code == 0
    check_complete(k710, world, manifest)


@slow
@pytest.mark.parametrize("which", ["store", "origin"])
def test_a_node_that_does_not_share_a_folder(world, tmp_path, machines, which):  # noqa: F811
    """A node with a file system of its own under that name."""
    manifest = world.copy(tmp_path)
    (manifest / "store").mkdir()
    path = {"store": manifest / "store", "origin": world.origin}[which]
    probe = ["unshare", "--mount", "true"]
    if os.geteuid() or subprocess.run(probe, check=False, capture_output=True).returncode:
        pytest.skip("no mounts of its own can be given to a process here")
    script = f'mount -t tmpfs tmpfs "{path}" && exec "$@"'
    node = machines.add("unshare", "--mount", "sh", "-c", script, "sh")
    try:
        with Fetch(manifest, world.origin, more=on(machines)) as fetch:
            assert fetch.end() == 1
    finally:
        node.end()
        machines.nodes.remove(node)
    shown = {"store": path / "scratch", "origin": world.origin}[which]
    said = fetch.text()
    assert f": does not see {shown}" in said
    assert said.endswith("(No such file or directory); all machines need it under the same name\n")
    assert "Traceback" not in said
    assert left_in_scratch(fetch.store) == []


@slow
def test_archives_are_read_by_the_nodes(k710, public, tmp_path, machines):  # noqa: F811
    """Each once; what one of them lacks is asked of an older set in the same run, since the driver sees all."""
    ids = [f"node-{number:06d}" for number in range(12)]
    rows = rows_of(k600_train=ids, k400_train=ids)
    manifest = build(k710, tmp_path, rows)
    paths = public.publish("k600", "train", *(named(*map(name_of, ids[at:9:3])) for at in range(3)))
    paths += public.publish("k400", "train", named(*map(name_of, ids[6:])))
    for release in ("k400", "k600"):
        public.publish(release, "val", {})
    store = tmp_path / "store"
    script = "import sys\nfrom k710.cli import main\nmain(sys.argv[1:], prog_name='k710')"
    options = ("--from", public.origin, "--store", store, "--splits", "train", *on(machines))
    done = driver(script, "fetch", manifest, *options)
    assert done.returncode == 0, done.stderr
    assert "12 clips fetched" in done.stdout
    assert fetched(store).keys() == set(map(name_of, ids))
    asked = [request.path for request in public.server.requests if request.method == "GET"]
    assert all(asked.count(path) == 1 for path in paths)


def driver(script: str, *arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """A Python of its own: Ray keeps threads and handlers in its process for good."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=cwd)


MAIN = "import sys\nfrom k710.cli import main\nmain(sys.argv[1:], prog_name='k710')"


@slow
def test_a_store_at_a_url(k710, world, tmp_path, s3):  # noqa: F811
    """Two nodes with caches of their own fetch into a bucket, one of them dies, one lacks credentials."""
    pytest.importorskip("ray")
    manifest, store = world.copy(tmp_path), location(f"{s3.url}/a store")
    with Machines({"IMAGEIO_FFMPEG_EXE": str(thinking_ffmpeg(tmp_path))}) as machines:
        with Fetch(manifest, world.origin, more=("--store", str(store), *on(machines))) as fetch:
            until(lambda: at_work(machines)[1] and s3.keys("a store/media"))
            machines.nodes[1].kill("raylet/raylet")
            assert fetch.process.wait(timeout=180) == 0, fetch.text()
        assert f"This run: {len(world.hashes)} clips fetched" in fetch.text()
        assert hashes(Store(store, "h264")) == world.hashes
        machines.nodes.pop().end()
        node = machines.add("env", "-u", "AWS_ACCESS_KEY_ID", "-u", "AWS_SECRET_ACCESS_KEY")
        try:
            options = ("--from", f"local:{world.origin}", "--store", f"{s3.url}/another")
            done = driver(MAIN, "fetch", manifest, *options, *on(machines))
        finally:
            node.end()
            machines.nodes.remove(node)
        assert done.returncode == 1
        assert (
            "another/media/h264: Unable to locate credentials; docs/remote.md lists the places for credentials"
            in done.stderr
        )
        assert "Traceback" not in done.stderr
        assert s3.keys("another") == [], "it is found out before anything is made"
        (tmp_path / "clips").symlink_to(world.origin)
        options = ("--from", "local:clips", "--scratch", "a:scratch", "--limit", 2, "--store", f"{s3.url}/third")
        done = driver(MAIN, "fetch", manifest, *options, *on(machines), cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert not (machines.folder / "a:scratch").exists(), "where this one stands, not where the node does"
        for command in (("verify", "--decode"), ("near-duplicates", "--view", "k400")):
            done = driver(MAIN, command[0], manifest, *command[1:], "--store", store, *on(machines))
            assert done.returncode == 0, done.stderr
    assert k710("verify", manifest, "--store", store, "--decode", "--workers", 1).exit_code == 0


@slow
def test_another_k710(world, tmp_path, machines):  # noqa: F811
    script = (
        "import sys, k710.version\nk710.version.__version__ = '99.0'\n"
        "from k710.cli import main\nmain(sys.argv[1:], prog_name='k710')"
    )
    manifest = world.copy(tmp_path)
    done = driver(script, "fetch", manifest, "--from", f"local:{world.origin}", *on(machines))
    assert done.returncode == 1
    assert done.stderr.endswith(f": k710 there is {__version__}, here 99.0; install the same on all machines\n")
    assert "Traceback" not in done.stderr
    assert not (manifest / "store" / "media").exists()


@slow
def test_other_code_under_the_same_version(world, tmp_path, machines):  # noqa: F811
    """As where a checkout was pulled on one machine and not on the other."""
    here = Path(package.__file__).parent
    shutil.copytree(here, tmp_path / "other" / "k710", ignore=shutil.ignore_patterns("__pycache__"))
    for data in ("labelmaps", "pipelines"):
        (tmp_path / "other" / data).symlink_to(here.parent / data)
    with (tmp_path / "other" / "k710" / "part.py").open("a") as file:
        file.write("# changed\n")
    manifest = world.copy(tmp_path)
    node = machines.add("env", f"PYTHONPATH={tmp_path / 'other'}")
    script = "import sys\nfrom k710.cli import main\nmain(sys.argv[1:], prog_name='k710')"
    try:
        # Ray lets workers import from the driver's working folder, which must not be the checkout.
        options = ("--from", f"local:{world.origin}", *on(machines))
        done = driver(script, "fetch", manifest, *options, cwd=tmp_path)
    finally:
        node.end()
        machines.nodes.remove(node)
    assert done.returncode == 1
    said = f": k710 there is {__version__} with other code than here; install the same on all machines\n"
    assert done.stderr.endswith(said), done.stderr


@slow
def test_two_nodes_verify(k710, world, tmp_path, machines):  # noqa: F811
    manifest = world.copy(tmp_path)
    assert k710("fetch", manifest, "--from", f"local:{world.origin}", "--workers", 2).exit_code == 0
    script = "import sys\nfrom k710.cli import main\nmain(sys.argv[1:], prog_name='k710')"
    local = k710("verify", manifest, "--decode", "--workers", 2)
    done = driver(script, "verify", manifest, "--decode", *on(machines))
    assert (done.returncode, done.stdout) == (0, local.stdout), done.stderr
    store = Store(manifest / "store", "h264")
    flip(next(store.tars_folder.iterdir()), 700)
    local = k710("verify", manifest, "--workers", 2)
    done = driver(script, "verify", manifest, *on(machines))
    assert (done.returncode, done.stdout) == (1, local.stdout), done.stderr
    assert "its bytes have changed" in done.stdout
    until(lambda: at_work(machines) == [0, 0])
    assert left_in_scratch(store) == []


@slow
def test_two_nodes_look_for_near_duplicates(k710, world, tmp_path, machines):  # noqa: F811
    manifest = world.copy(tmp_path)
    assert k710("fetch", manifest, "--from", f"local:{world.origin}", "--workers", 2).exit_code == 0
    local = Path(shutil.copytree(manifest, tmp_path / "local"))
    assert k710("near-duplicates", local, "--workers", 1).exit_code == 0
    script = "import sys\nfrom k710.cli import main\nmain(sys.argv[1:], prog_name='k710')"
    done = driver(script, "near-duplicates", manifest, *on(machines))
    assert done.returncode == 0, done.stderr
    assert read_pairs(open_manifest(manifest)).equals(read_pairs(open_manifest(local)))
    signed = [SignatureFolder(Store(folder / "store", "h264")) for folder in (manifest, local)]
    clips = [sorted(folder.read_known().rows["clip_id"].to_pylist()) for folder in signed]
    assert clips[0] == clips[1] == sorted(world.hashes)
    again = driver(script, "near-duplicates", manifest, "--engine", "ray", "--ray-address", closed_url().split("/")[2])
    assert again.returncode == 0, "nothing is to be hashed, so nobody is asked"


@slow
def test_videos_of_a_mirror_on_two_nodes(k710, loopback, tmp_path, machines):
    """Each machine has a session of its own, and asks for its videos by yt-dlp."""
    ids = [f"ray-video-{number}" for number in range(6)]
    for youtube_id in ids[:5]:
        loopback.serve(f"/v/{youtube_id}.mp4", clip_bytes(seconds=4))
    wanted = {("k400", "train"): [(youtube_id, 1, 3) for youtube_id in ids], ("k400", "val"): [("val-val-val", 0, 2)]}
    manifest = build(k710, tmp_path, wanted)
    mirror = f"youtube:{loopback.url('/v/{id}.mp4')}"
    options = ("--splits", "train", "--youtube-alive", ids[0], "--youtube-sleep", "0", "--youtube-max-sleep", "0")
    done = driver("from k710.cli import main\nimport sys\nmain(sys.argv[1:], prog_name='k710')", "fetch", manifest,
                  "--from", mirror, *options, *on(machines))  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "YouTube's terms and the videos' owners decide what may be done with them." in done.stderr
    assert "5 clips fetched" in done.stdout
    assert "1 gone_unconfirmed" in done.stdout
    assert sorted(name[:11] for name in fetched(manifest / "store")) == ids[:5]
    assert left_in_scratch(Store(manifest / "store", "h264")) == []


ENGINE = """
import contextlib, os, sys, threading
from functools import partial
from pathlib import Path
from k710.engine.engine import Stop
from k710.engine.ray_engine import ray_engine
from k710.errors import K710Error, StoreError

@contextlib.contextmanager
def opens(stop, workers):
    yield {"workers": workers, "pid": os.getpid(), "stop": stop}

def run(work, units, stop=None):
    heard, said = {}, []
    stop = stop or Stop()
    try:
        with ray_engine(opens, workers=7, stop=stop, address=sys.argv[1], on_message=said.append) as engine:
            assert engine.workers == 2, engine.workers
            engine.run_units(units, work, on_result=lambda number, result: heard.setdefault(number, result))
    except K710Error as error:
        print(type(error).__name__, error)
    print("\\n".join(said), end="\\n" if said else "")
    return heard, stop
"""


@slow
def test_each_unit_is_heard_once_with_its_number(machines):
    script = ENGINE + (
        "def work(unit, shared, tell):\n tell(unit)\n return unit * 2, shared['workers'], shared['pid']\n"
        "heard, stop = run(work, iter(range(100)))\n"
        "print([heard[n][0] for n in range(100)] == [2 * n for n in range(100)], {h[1] for h in heard.values()},"
        " len({h[2] for h in heard.values()}), stop.asked)\n"
    )
    done = driver(script, machines.address)
    assert done.stdout == "True {1} 2 False\n", done.stdout + done.stderr


@slow
def test_work_that_kills_machines_is_given_up(machines):
    """A unit that no machine survives must not take all of them down one after the other."""
    script = ENGINE + (
        "def work(unit, shared, tell):\n if unit == 3: os._exit(1)\n return unit\n"
        "heard, stop = run(work, range(10))\n"
        "print(stop.asked)\n"
    )
    done = driver(script, machines.address)
    assert len(done.stdout.splitlines()) == 5, done.stdout + done.stderr
    first, *lost, last = done.stdout.splitlines()
    assert all(line.startswith("Lost ") and " handed out again." in line for line in lost)
    assert first.startswith("EngineError 3 machines died of the same work, the last "), done.stdout + done.stderr
    assert first.endswith("take fewer --workers.")
    assert last == "True"


@slow
def test_an_error_of_a_node_names_it_and_stops_the_others(machines):
    script = ENGINE + (
        "def work(unit, shared, tell):\n if unit == 2: raise StoreError('no room')\n return unit\n"
        "heard, stop = run(work, range(1000))\n"
        "print(len(heard) < 1000, 2 in heard)\n"
    )
    done = driver(script, machines.address)
    first, last = done.stdout.splitlines()
    assert first.startswith("StoreError "), done.stdout + done.stderr
    assert first.endswith(": no room")
    assert "(127.0.0.1)" in first or "(" in first
    assert last == "True False"


@slow
def test_a_stop_of_a_node_is_heard_even_with_its_last_unit(machines):
    """As of a full disk: a run that ends early must not pass for one that is done."""
    script = ENGINE + (
        "def work(unit, shared, tell):\n if unit == 2: shared['stop'].ask('the disk is full')\n return unit\n"
        "heard, stop = run(work, range(3))\n"
        "print(stop.reason)\n"
    )
    done = driver(script, machines.address)
    assert done.stdout.endswith("): the disk is full\n"), done.stdout + done.stderr


@slow
def test_work_that_cannot_be_sent(machines):
    script = ENGINE + (
        "lock = threading.Lock()\ndef work(lock, unit, shared, tell): pass\n"
        "print(run(partial(work, lock), range(3))[0])\n"
    )
    done = driver(script, machines.address)
    assert done.stdout.startswith("EngineError this work cannot be sent to other machines: "), done.stderr


# What needs no cluster.


@pytest.fixture
def refused(k710, sample, tmp_path):
    def run(*options: str, code: int) -> str:
        result = k710("fetch", sample.path, "--from", f"local:{tmp_path}", "--store", tmp_path / "store", *options)
        assert (result.exit_code, result.stdout) == (code, "")
        assert not (tmp_path / "store").exists()
        return result.stderr

    return run


def test_without_ray(refused, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    said = refused("--engine", "ray", code=2)
    assert said.startswith("k710: the engine ray needs Ray (")
    assert said.endswith("): pip install 'k710[ray]'\n")


def test_no_cluster_there(refused):
    pytest.importorskip("ray")
    address = closed_url().removeprefix("http://").rstrip("/")
    said = refused("--engine", "ray", "--ray-address", address, code=1)
    assert said == f"k710: no Ray cluster at {address}: Connection refused\n"


@pytest.mark.slow
def test_another_service_there(refused, monkeypatch, loopback):
    """As Ray's dashboard; Ray itself would wait for ever."""
    pytest.importorskip("ray")
    monkeypatch.setattr("k710.engine.ray_engine._HEALTH_S", 3.0)
    address = loopback.serve("/", b"a dashboard").removeprefix("http://").rstrip("/")
    said = refused("--engine", "ray", "--ray-address", address, code=1)
    assert said.startswith(f"k710: no Ray cluster at {address}: whoever listens there is no head of one; its port is ")


def test_the_usual_address_is_none_to_look_at(monkeypatch):
    """RAY_ADDRESS=auto, as many set it, is Ray's word for the cluster of this machine."""
    ray = types.SimpleNamespace(is_initialized=lambda: False, init=None, shutdown=lambda: None)
    asked = []
    ray.init = lambda address, **options: asked.append(address)
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    with _connected(ray, None):
        pass
    assert asked == ["auto"]


@pytest.mark.parametrize("address", ["ray://host:10001", "host", "host:", "host:port", "host:0", "host:99999", "local"])
def test_what_is_no_address(refused, address):
    pytest.importorskip("ray")
    said = refused("--engine", "ray", "--ray-address", address, code=2)
    assert said == f"k710: {address}: a Ray cluster is HOST:PORT; run this command on a machine of the cluster\n"


def test_engines_that_there_are_not(refused):
    assert refused("--engine", "spark", code=2) == "k710: unknown engine 'spark'; known: local, ray\n"
    assert refused("--ray-address", "host:1", code=2) == "k710: --ray-address needs --engine ray\n"


def test_help_and_local_runs_load_no_ray():
    script = "import sys\nfrom k710.cli.common import engine_of\nengine_of('ray', None, workers=1)\n"
    assert driver(script + "print('ray' in sys.modules)").stdout == "False\n"


def test_a_local_origin_goes_to_other_machines_without_the_clips_table(sample, tmp_path):
    import pickle

    from k710.fetch.origins.local import LocalClips, LocalOrigin

    name = sample.clips["clip_id"][0].as_py()
    (tmp_path / f"{name}.mp4").write_bytes(b"")
    origin = LocalClips(LocalOrigin(Path(tmp_path)), sample)
    [unit] = origin.units(sample.clips["clip_id"].combine_chunks(), 1)
    sent = pickle.loads(pickle.dumps(origin.do))
    assert sent.__self__.files.by_span == origin.files.by_span
    assert sent.__self__._manifest is None
    assert [str(clip) for clip in unit.clips] == [name]
