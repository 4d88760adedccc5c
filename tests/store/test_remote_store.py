"""A store at a URL: fetched into, broken off, damaged, repaired, packed; against a server that speaks S3."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from k710 import open_dataset
from k710.errors import RemoteError, StoreError
from k710.fetch import estimate
from k710.fetch.scratch import scratch_folder, scratch_parent
from k710.maintenance import verify
from k710.storage.storage import location
from k710.store.store import Store, profiles_in, unit_metadata
from tests.helpers.s3_service import S3
from tests.helpers.small_stores import clips_of, fake_media, film, hashes, manifest_of, put

CLIPS = [*clips_of(12), *clips_of(4, "val", first=12)]
VIEW = ("--view", "k400", "--split", "train")


@pytest.fixture(scope="module")
def local(tmp_path_factory, k710):
    """A manifest, its clips in a folder, and the store that they make on a disk."""
    folder = tmp_path_factory.mktemp("local")
    manifest = manifest_of(k710, folder, CLIPS)
    film(folder / "clips", CLIPS)
    result = k710("fetch", manifest, "--from", f"local:{folder / 'clips'}", "--workers", 2)
    assert result.exit_code == 0, result.output
    return manifest


def origin(manifest: Path) -> str:
    return f"local:{manifest.parent / 'clips'}"


def upload(s3: S3, manifest: Path) -> Store:
    """The local store as it is, under `store`."""
    for path in (manifest / "store").rglob("*"):
        if path.is_file():
            s3.write(f"store/{path.relative_to(manifest / 'store')}", path.read_bytes())
    return Store(location(f"{s3.url}/store"), "h264")


def left_behind(scratch: Path | None = None) -> list[Path]:
    parent = scratch or Path(os.environ["K710_CACHE"]) / "scratch"
    return [path for path in parent.rglob("*") if path.is_file()]


def check_store(s3: S3) -> None:
    """Whatever a row names is there, and no name is of another kind."""
    store = Store(location(f"{s3.url}/store"), "h264")
    tars = {Path(key).name for key in s3.keys("store/tars/h264/")}
    assert set(store.rows(("tar",))["tar"].drop_null().to_pylist()) <= tars
    assert {key.split("/")[1] for key in s3.keys("store/")} <= {"media", "tars"}
    assert all(key.endswith((".parquet", ".tar")) for key in s3.keys("store/"))


# Fetching into it.


@pytest.mark.slow
def test_fetch_into_a_url_gives_what_fetch_into_a_folder_gives(s3, k710, local):
    command = ("fetch", local, "--from", origin(local), "--store", f"{s3.url}/store", "--workers", 2)
    result = k710(*command)
    assert result.exit_code == 0, result.output
    assert "This run: 16 clips fetched" in result.stdout
    store, here = Store(location(f"{s3.url}/store"), "h264"), Store(local / "store", "h264")
    assert hashes(store) == hashes(here)
    assert [key.rpartition("/")[2] for key in s3.keys("store/tars/")] == sorted(
        path.name for path in here.tars_folder.iterdir()
    )
    for path in here.tars_folder.iterdir():
        assert s3.read(f"store/tars/h264/{path.name}") == path.read_bytes()
    assert s3.unfinished() == left_behind() == []
    names = [path.partition("?")[0] for method, path in s3.proxy.requests if method == "PUT"]
    for key in s3.keys("store/media/"):
        unit = Path(key).stem
        tars = [number for number, name in enumerate(names) if f"/{unit}-0-" in name]
        assert tars
        assert max(tars) < names.index(f"/{s3.bucket}/{key}"), "the rows of a unit come last"

    count = len(s3.proxy.requests)
    result = k710(*command)
    assert result.exit_code == 0
    assert "This run: 0 clips fetched" in result.stdout
    assert {method for method, _ in s3.proxy.requests[count:]} == {"GET"}
    assert all("list-type" in path for _, path in s3.proxy.requests[count:]), "rows that are known are not read again"
    result = k710("status", local, "--store", f"{s3.url}/store")
    assert f"{s3.url}/store, profile h264" in result.stdout
    assert result.stdout.splitlines()[1:] == k710("status", local).stdout.splitlines()[1:]
    refused = k710("fetch", local, *command[2:], "--audio", "--profile", "source", "--dry-run")
    assert refused.exit_code == 0, refused.output


@pytest.mark.slow
def test_another_machine_sees_what_this_one_put(s3, local, monkeypatch, tmp_path):
    """No listing is kept: a unit that is put, altered or removed elsewhere shows at once."""
    store = upload(s3, local)
    files = store.unit_files()
    assert [file.name for file in files] == [file.name for file in Store(local / "store", "h264").unit_files()]
    before = store.rows().num_rows
    key = s3.key(files[0])
    content = s3.read(key)
    s3.delete(key)
    assert store.rows().num_rows < before
    versions = store.unit_versions()
    s3.write(key, content)
    assert store.rows().num_rows == before
    assert store.unit_versions() != versions
    s3.write(key, s3.read(s3.key(files[1])))
    assert store.rows(("clip_id",))["clip_id"].to_pylist().count(store.rows()["clip_id"][0].as_py()) == 2, "read anew"
    s3.write(key, content)
    put(store, {"other-00000_000000_000010": "corrupt"}, name="elsewhere")
    assert store.rows().num_rows == before + 1
    assert list(profiles_in(store.root)) == ["h264"]


def test_rows_are_read_once_for_each_version(s3, local):
    store = upload(s3, local)
    store.rows()
    count = len(s3.proxy.requests)
    for file in store.unit_files():
        unit_metadata(file)
    store.best_rows()
    assert len(s3.proxy.requests) == count + 2, "two listings"
    store.unit_files(refresh=True)
    assert len(s3.proxy.requests) == count + 3 + len(store.unit_files()) - 0


def test_other_objects_beside_the_rows_are_no_units(s3, local):
    store = upload(s3, local)
    number = len(store.unit_files())
    for name in (".hidden.parquet", "notes.txt", "-x.parquet", "a b.parquet", "deeper/x.parquet", "../x.parquet", ""):
        s3.write(f"store/media/h264/{name}", b"mine")
    assert len(store.unit_files()) == number


def start(manifest: Path, url: str, *options: object) -> subprocess.Popen[str]:
    command = (sys.executable, "-m", "k710", "fetch", manifest, "--from", origin(manifest), "--store", url, *options)
    return subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
@pytest.mark.parametrize("units", [1, 2, 3])
def test_a_run_that_is_killed_goes_on(s3, k710, local, units):
    with start(local, f"{s3.url}/store", "--workers", 2) as process:
        while len(s3.keys("store/media/")) < units and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    check_store(s3)
    settled = Store(location(f"{s3.url}/store"), "h264").rows().num_rows
    assert settled > 0
    result = k710("fetch", local, "--from", origin(local), "--store", f"{s3.url}/store", "--workers", 2)
    assert result.exit_code == 0, result.output
    assert f"This run: {16 - settled} clips fetched" in result.stdout
    assert hashes(Store(location(f"{s3.url}/store"), "h264")) == hashes(Store(local / "store", "h264"))
    assert left_behind() == [], "the scratch of the killed run is swept"


@pytest.mark.slow
def test_a_run_that_is_stopped_politely_goes_on(s3, k710, local, tmp_path):
    scratch = tmp_path / "scratch"
    with start(local, f"{s3.url}/store", "--workers", 2, "--scratch", scratch) as process:
        while not s3.keys("store/media/") and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=60)
        assert process.returncode == 1
    assert "stopped by SIGTERM; everything settled so far is kept" in stderr
    check_store(s3)
    assert left_behind(scratch) == []
    assert k710("fetch", local, "--from", origin(local), "--store", f"{s3.url}/store").exit_code == 0


@pytest.mark.parametrize("after", [2, pytest.param(6, marks=pytest.mark.slow)])
@pytest.mark.slow
def test_a_service_that_dies_in_mid_run_and_comes_back(s3, k710, local, after):
    s3.proxy.die_after = len(s3.proxy.requests) + after
    back = threading.Timer(3, s3.proxy.up)
    back.start()
    result = k710("fetch", local, "--from", origin(local), "--store", f"{s3.url}/store", "--workers", 2)
    back.join()
    assert result.exit_code == 0, result.output
    assert s3.proxy.die_after is None, "it went down"
    assert hashes(Store(location(f"{s3.url}/store"), "h264")) == hashes(Store(local / "store", "h264"))


@pytest.mark.parametrize("after", [1, 3, *(pytest.param(n, marks=pytest.mark.slow) for n in (5, 7))])
@pytest.mark.slow
def test_a_service_that_dies_and_stays_away(s3, k710, local, after, monkeypatch):
    """One message that names the URL; what was settled stays; the same command goes on."""
    monkeypatch.setenv("K710_REMOTE_PATIENCE_S", "1")
    s3.proxy.die_after = len(s3.proxy.requests) + after
    command = ("fetch", local, "--from", origin(local), "--store", f"{s3.url}/store", "--workers", 2)
    result = k710(*command)
    assert result.exit_code == 1, result.output
    assert result.stderr.splitlines()[-1].startswith(f"k710: {s3.url}/store/")
    assert ": no answer for 1 s: " in result.stderr
    assert "Traceback" not in result.stderr
    s3.proxy.up()
    check_store(s3)
    assert left_behind() == []
    result = k710(*command)
    assert result.exit_code == 0, result.output
    assert hashes(Store(location(f"{s3.url}/store"), "h264")) == hashes(Store(local / "store", "h264"))


# The scratch.


def test_the_scratch_is_on_this_machine_and_swept(s3, tmp_path):
    root = location(f"{s3.url}/store")
    parent = scratch_parent(root)
    assert parent.parent == Path(os.environ["K710_CACHE"]) / "scratch"
    assert scratch_parent(root, tmp_path).parent == tmp_path
    assert scratch_parent(location(f"{s3.url}/other")) != parent
    (parent / "run-dead").mkdir(parents=True)
    with scratch_folder(root) as folder:
        assert folder.parent == parent
        assert not (parent / "run-dead").exists()
        with (
            pytest.raises(StoreError, match=f"{s3.url}/store: a run is at work in this store"),
            scratch_folder(root, alone=True),
        ):
            pass
    assert s3.keys() == []


def test_a_store_on_a_disk_has_its_scratch_inside(k710, local, tmp_path):
    result = k710("fetch", local, "--from", origin(local), "--scratch", tmp_path)
    assert result.exit_code == 2
    assert "--scratch is for a store at a URL" in result.stderr


def test_room_is_asked_of_the_scratch(s3, k710, local, monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(estimate, "free_bytes", lambda folder: asked.append(folder) or 1000)
    command = ("fetch", local, "--from", origin(local), "--store", f"{s3.url}/store", "--scratch", tmp_path)
    result = k710(*command)
    assert result.exit_code == 1
    parent = scratch_parent(location(f"{s3.url}/store"), tmp_path)
    assert result.stderr.startswith(f"k710: {parent}: units that are on their way need about ")
    assert "or another --scratch" in result.stderr
    assert set(asked) == {parent}
    assert s3.keys() == []
    assert k710(*command, "--dry-run").exit_code == 0


# Verifying and repairing.


def damaged(s3: S3, store: Store, kind: str) -> tuple[str, int]:
    """Damage something of the first unit; the key, and how many clips of it are lost."""
    file = store.unit_files()[0]
    row = next(row for row in store.rows().to_pylist() if row["unit"] == file.stem)
    clips = sum(each["unit"] == file.stem for each in store.rows(("clip_id",)).to_pylist())
    key = f"store/tars/h264/{row['tar']}"
    content = s3.read(key)
    if kind == "gone":
        s3.delete(key)
        return key, clips
    if kind == "cut":
        s3.write(key, content[:700])
        return key, clips
    if kind == "empty":
        s3.write(key, b"")
        return key, clips
    if kind == "altered":
        at = row["offset"] + row["size"] // 2
        s3.write(key, content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        return key, 1
    rows = s3.read(s3.key(file))
    s3.write(s3.key(file), rows[: len(rows) // 2])
    return s3.key(file), 0  # its tar has them still


@pytest.mark.parametrize("kind", ["gone", pytest.param("cut", marks=pytest.mark.slow), "empty", "altered", "rows"])
@pytest.mark.slow
def test_damage_is_found_and_mended(s3, k710, local, kind, monkeypatch):
    store = upload(s3, local)
    whole = hashes(store)
    command = ("verify", local, "--store", f"{s3.url}/store", "--workers", 2)
    result = k710(*command, *(("--decode",) if kind == "altered" else ()))
    assert result.exit_code == 0, result.output
    key, lost = damaged(s3, store, kind)
    result = k710(*command)
    assert result.exit_code == 1
    assert "1 unit is damaged; --repair writes them anew" in result.stderr
    assert (f"{s3.url}/{key}" if kind == "rows" else Path(key).name) in result.stdout
    result = k710(*command, "--repair")
    assert result.exit_code == 0, result.output
    assert len(hashes(store)) == 16 - lost
    assert k710(*command).exit_code == 0
    check_store(s3)
    fetched = k710("fetch", local, "--from", origin(local), "--store", f"{s3.url}/store")
    assert fetched.exit_code == 0, fetched.output
    assert hashes(store) == whole
    assert left_behind() == []


def test_a_service_that_goes_away_is_no_damage(s3, k710, local, monkeypatch):
    """What cannot be read must never be taken for what is damaged, since that is removed."""
    store = upload(s3, local)
    keys = s3.keys()
    damaged(s3, store, "altered")
    monkeypatch.setenv("K710_REMOTE_PATIENCE_S", "0.5")
    for after in range(1, 12, 2):
        s3.proxy.die_after = len(s3.proxy.requests) + after
        result = k710("verify", local, "--store", f"{s3.url}/store", "--repair", "--workers", 1)
        s3.proxy.up()
        assert (result.exit_code, "no answer" in result.stderr) == (1, True), result.output
        assert "is gone" not in result.output
        assert set(s3.keys()) >= set(keys)
        assert len(hashes(store)) == 16


@pytest.mark.slow
def test_a_tar_without_rows_is_left_alone_while_it_is_young(s3, k710, local, monkeypatch):
    """A run on another machine may be about to put its rows: no lock here knows of it."""
    upload(s3, local)
    s3.write("store/tars/h264/cvdf-x-0-00000000.tar", bytes(1024))
    command = ("verify", local, "--store", f"{s3.url}/store", "--repair")
    assert k710(*command).exit_code == 0
    assert "store/tars/h264/cvdf-x-0-00000000.tar" in s3.keys("store/")
    monkeypatch.setattr(verify, "ORPHAN_AGE_S", -1.0)
    result = k710(*command)
    assert result.exit_code == 0
    assert "cvdf-x-0-00000000.tar: no row names it" in result.stdout
    assert "store/tars/h264/cvdf-x-0-00000000.tar" not in s3.keys("store/")


@pytest.mark.parametrize("name", ["../../../other/x.tar", "/etc/passwd", "x/y.tar", "x.txt", ""])
@pytest.mark.parametrize("at", ["url", "disk"])
@pytest.mark.slow
def test_rows_that_name_another_place_are_refused(s3, k710, local, at, name, tmp_path):

    root = location(f"{s3.url}/store" if at == "url" else tmp_path / "store")
    store = Store(root, "h264")
    put(store, {"clip-000000_000000_000002": fake_media("x")})
    rows = store.rows().drop_columns("unit").to_pylist()
    hostile(store, [row | {"tar": name} for row in rows])
    with pytest.raises(StoreError, match="which is not the name of a tar"):
        open_dataset(local, store=root, view="k400", split="train")
    result = k710("verify", local, "--store", root)
    assert result.exit_code == 1
    assert "which is not the name of a tar" in result.stdout
    result = k710("pack", local, "--store", root, *VIEW, "--out", tmp_path / "shards")
    assert result.exit_code == 1
    assert "which is not the name of a tar" in result.stderr


def hostile(store: Store, rows: list[dict]) -> None:
    """A media file that is whole, and says what no unit would."""
    import json

    import pyarrow as pa
    import pyarrow.parquet

    from k710.storage.storage import replacing
    from k710.store.store import MEDIA_SCHEMA, METADATA_KEY, unit_digest

    (file,) = store.unit_files()
    metadata = {key: value for key, value in unit_metadata(file).items() if key != "sha256"}
    table = pa.Table.from_pylist(rows, schema=MEDIA_SCHEMA)
    metadata["sha256"] = unit_digest(table, metadata)
    sink = pa.BufferOutputStream()
    pa.parquet.write_table(table.replace_schema_metadata({METADATA_KEY: json.dumps(metadata).encode()}), sink)
    with replacing(file) as out:
        out.write(sink.getvalue())


def test_units_that_change_all_the_time_are_no_endless_loop(s3, local, monkeypatch):
    store = upload(s3, local)
    calls = []

    def gone(files: object, refresh: bool) -> None:
        calls.append(files)
        raise FileNotFoundError

    monkeypatch.setattr("k710.store.store.bring_copies", gone)
    with pytest.raises(RemoteError, match="its units change while they are read"):
        store.unit_files()
    assert len(calls) == 3


# Packing.


def test_shards_from_a_url_are_those_from_a_disk(s3, k710, local, tmp_path):
    upload(s3, local)
    here = k710("pack", local, *VIEW, "--shard-clips", 5, "--out", tmp_path / "here")
    there = k710("pack", local, "--store", f"{s3.url}/store", *VIEW, "--shard-clips", 5, "--out", tmp_path / "there")
    assert here.exit_code == there.exit_code == 0, there.output
    names = sorted(path.name for path in (tmp_path / "here").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "there").iterdir())
    for name in names:
        assert (tmp_path / "here" / name).read_bytes() == (tmp_path / "there" / name).read_bytes()
    assert len(names) > 3
    shutil.rmtree(tmp_path / "there")
    store = Store(location(f"{s3.url}/store"), "h264")
    damaged(s3, store, "gone")
    result = k710("pack", local, "--store", f"{s3.url}/store", *VIEW, "--out", tmp_path / "there")
    assert result.exit_code == 1
    assert result.stderr.endswith(".tar is gone; `k710 verify --repair` mends it\n")
    assert not (tmp_path / "there").exists()


@pytest.mark.slow
def test_shards_may_be_put_at_a_url(s3, k710, local, tmp_path, monkeypatch):
    command = ("pack", local, *VIEW, "--shard-clips", 5)
    url = f"{s3.url}/shards"
    assert k710(*command, "--out", tmp_path / "here").exit_code == 0
    result = k710(*command, "--out", url)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(f"{url}: 12 clips in 3 shards")
    written = [path for method, path in s3.proxy.requests if method == "PUT"]
    assert "shards.json" in written[-1]
    whole = {path.name: path.read_bytes() for path in (tmp_path / "here").iterdir()}

    def there() -> dict[str, bytes]:
        return {Path(key).name: s3.read(key) for key in s3.keys("shards/")}

    assert there() == whole
    refused = k710(*command, "--out", url)
    assert refused.exit_code == 1
    assert "shards are there already; --force replaces them" in refused.stderr

    monkeypatch.setenv("K710_REMOTE_PATIENCE_S", "0.2")
    for requests in range(2, 12, 2):
        s3.proxy.die_after = len(s3.proxy.requests) + requests
        broken = k710(*command, "--seed", 3, "--out", url, "--force")
        assert (broken.exit_code, "no answer" in broken.stderr) == (1, True)
        s3.proxy.up()
        assert "shards.json" not in there() or there() == whole, "half of the new shards are none"
    assert k710(*command, "--out", url).exit_code == 0
    assert there() == whole
    s3.write("shards/notes.txt", b"mine")
    assert "holds something else" in k710(*command, "--out", url, "--force").stderr
    assert there().keys() > whole.keys()
