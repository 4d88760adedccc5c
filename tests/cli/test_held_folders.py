"""Two commands into one place: the second is refused at once, and what the first writes is its own alone."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from k710.errors import BusyError
from k710.maintenance import pack as packing
from k710.maintenance.pack import Packing, pack
from k710.manifest.read import open_manifest
from k710.storage.storage import held, location, replacing
from k710.store.store import Store
from tests.helpers.small_stores import clips_of, fake_media, manifest_of, put
from tests.helpers.tiny_models import released, tiny_state


@pytest.fixture(scope="module")
def manifest(tmp_path_factory, k710) -> Path:
    """A manifest of 40 clips in its store, of different sizes."""
    folder = tmp_path_factory.mktemp("held")
    clips = [*clips_of(40), *clips_of(4, "val", first=40)]
    made = manifest_of(k710, folder, clips)
    put(
        Store(made / "store", "h264"),
        {c.clip_id: fake_media(c.clip_id, 500 + 13 * n) for n, c in enumerate(clips)},
    )
    return made


def test_a_place_is_held_until_the_end_and_free_then(tmp_path):
    with held(tmp_path / "out"):
        with (
            pytest.raises(BusyError, match="another process is writing there; wait until it ends"),
            held(tmp_path / "out"),
        ):
            pytest.fail("both have it")
        (tmp_path / "link").symlink_to(tmp_path)
        with pytest.raises(BusyError), held(tmp_path / "link/out"):
            pytest.fail("both have it")
        with held(tmp_path / "other"):
            pass
    with held(tmp_path / "out"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["link"]
    with pytest.raises(ZeroDivisionError), held(tmp_path / "new/folder/out"):
        raise ZeroDivisionError
    assert [path.name for path in tmp_path.iterdir()] == ["link"], "folders that were made for the lock are gone too"


def test_a_lock_that_a_killed_command_left_holds_nobody(tmp_path):
    code = (
        "import os, signal; from pathlib import Path; from k710.storage.storage import held\n"
        f"with held(Path({str(tmp_path / 'out')!r})): os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == -9
    assert (tmp_path / ".out.lock").exists()
    with held(tmp_path / "out"):
        pass


def test_of_two_packs_into_one_folder_one_is_refused(manifest, tmp_path, monkeypatch):
    """The first is in the midst of its shards when the second begins."""
    opened, store, out = open_manifest(manifest), Store(manifest / "store", "h264"), tmp_path / "shards"
    begun, go_on = threading.Event(), threading.Event()
    write_shard = packing._write_shard

    def wait(*arguments):
        begun.set()
        assert go_on.wait(30)
        return write_shard(*arguments)

    monkeypatch.setattr(packing, "_write_shard", wait)
    first = threading.Thread(target=pack, args=(opened, store, out, Packing("k400", "train", shard_clips=5, seed=1)))
    first.start()
    try:
        assert begun.wait(30)
        with pytest.raises(BusyError, match="another process is writing there"):
            pack(opened, store, out, Packing("k400", "train", shard_clips=5, seed=2), force=True)
    finally:
        go_on.set()
        first.join()
    about = json.loads((out / "shards.json").read_text())
    assert about["seed"] == 1
    assert {shard["file"]: shard["bytes"] for shard in about["shards"]} == {
        path.name: path.stat().st_size for path in out.glob("*.tar")
    }
    assert [path.name for path in tmp_path.iterdir()] == ["shards"]


def commands(manifest: Path, tmp_path: Path) -> dict[str, tuple[tuple[object, ...], Path, Path | None]]:
    """Commands that write, by a name: the words, the place and its lock where that is not beside it."""
    out = tmp_path / "out"
    torch_file = tmp_path / "k710.pt"
    return {
        "pack": (("pack", manifest, "--view", "k400", "--out", out), out, None),
        "export": (("export", manifest, "--format", "slowfast", "--view", "k400", "--out", out), out, out / ".lock"),
        "hf": (("export", manifest, "--format", "hf", "--out", out), out, out / ".lock"),
        "fiftyone": (("export", manifest, "--format", "fiftyone", "--out", out), out, out / ".lock"),
        "report": (("report", manifest, "--gallery", 0, "--out", out), out, None),
        "card": (("card", manifest, "--out", out), out, None),
        "convert": (("convert", torch_file, "--to", "mmaction2", "--out", out), out, None),
        "remap-head": (("remap-head", torch_file, "--to", "k400", "--out", out), out, None),
        "eval": (
            ("eval", "--checkpoint", torch_file, "--manifest", manifest, "--view", "k400", "--out", out),
            out,
            out / ".lock",
        ),
        "near-duplicates": (("near-duplicates", manifest), manifest, manifest / ".near-duplicates.lock"),
    }


@pytest.mark.parametrize("name", commands(Path(), Path()))
def test_every_command_that_writes_a_place_holds_it(k710, manifest, tmp_path, name):
    words, place, lock = commands(manifest, tmp_path)[name]
    released(tmp_path / "k710.pt", "uniformerv2", tiny_state("uniformerv2"))
    with held(place, lock):
        before = sorted(path for path in tmp_path.rglob("*"))
        result = k710(*words)
        assert (result.exit_code, result.stderr.splitlines()[-1]) == (
            1,
            f"k710: {place}: another process is writing there; wait until it ends, or choose another --out",
        )
        assert sorted(path for path in tmp_path.rglob("*")) == before, "nothing was written"
    if name not in ("eval", "near-duplicates"):  # these bytes are no video
        assert k710(*words).exit_code == 0
        assert not list(tmp_path.rglob(".*")), "no lock is left"


def test_two_packs_to_one_url_are_told_apart(manifest, tmp_path, monkeypatch):
    """On one machine by a lock; of two machines, by the shards that are there when they are to be committed."""
    monkeypatch.setenv("K710_CACHE", str(tmp_path / "cache"))
    opened, store = open_manifest(manifest), Store(manifest / "store", "h264")
    out = location("memory://held/shards")
    write_shard = packing._write_shard

    def second_begins(*arguments):
        with pytest.raises(BusyError, match="memory://held/shards: another process is writing there"):
            pack(opened, store, out, Packing("k400", "train", shard_clips=5, seed=2), force=True)
        return write_shard(*arguments)

    monkeypatch.setattr(packing, "_write_shard", second_begins)
    pack(opened, store, out, Packing("k400", "train", shard_clips=5, seed=1))
    assert json.loads((out / "shards.json").read_text(encoding="utf-8"))["seed"] == 1

    def other_machine_puts_its_own(path, *arguments):
        about = write_shard(path, *arguments)
        with replacing(path.parent / "k400-train-000099.tar") as file:
            file.write(b"another's")
        return about

    monkeypatch.setattr(packing, "_write_shard", other_machine_puts_its_own)
    with pytest.raises(BusyError, match="holds other shards than were written: another pack is at work there"):
        pack(opened, store, out, Packing("k400", "train", shard_clips=5, seed=1), force=True)
    assert not (out / "shards.json").exists(), "what is mixed is not committed"
