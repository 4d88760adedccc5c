"""A push by the real huggingface_hub to a server that takes what the Hub takes: every byte, and no media unasked."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from k710.export.push import plan_push
from k710.store.store import Store
from tests.cli.test_bad_input import assert_refused
from tests.helpers.hub import Hub
from tests.helpers.loopback import closed_url
from tests.helpers.small_stores import clips_of, fake_media, manifest_of, put

huggingface_hub = pytest.importorskip("huggingface_hub", reason="not installed: nothing was pushed")

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # of huggingface_hub's own uploads


def at(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HF_TOKEN", "hf_of_the_test")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", url)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)


@pytest.fixture
def hub(monkeypatch) -> Iterator[Hub]:
    with Hub() as server:
        at(monkeypatch, server.url)
        yield server


@pytest.fixture
def exported(k710, tmp_path) -> Path:
    """A view of three clips, one of which has its video in the store, exported for `datasets`."""
    manifest = manifest_of(k710, tmp_path, clips_of(3, "val"))
    put(Store(tmp_path / "store", "h264"), {"clip-000000_000000_000002": fake_media("x")})
    assert k710("export", manifest, "--format", "hf", "--out", tmp_path / "hf").exit_code == 0
    return tmp_path / "hf"


def test_every_file_arrives_and_a_new_repository_is_private(k710, hub, exported):
    result = k710("push", exported, "lab/k710")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(f"{hub.url}/datasets/lab/k710: 3 files, ")
    repository = hub.repositories["lab/k710"]
    assert repository.private
    assert repository.commits == ["k710 push"]
    sent = {name: (exported / name).read_bytes() for name in ("README.md", "croissant.json", "data/val.parquet")}
    assert repository.files == sent
    assert list(hub.objects.values()) == [sent["data/val.parquet"]]  # the others went with the commit
    assert {token for method, _, token in hub.requests if method == "POST"} == {"Bearer hf_of_the_test"}


def test_it_may_be_public_and_pushed_again(k710, hub, exported):
    assert k710("push", exported, "lab/k710", "--public").exit_code == 0
    (exported / "croissant.json").write_text("other")
    result = k710("push", exported, "lab/k710")
    assert result.exit_code == 0, result.output
    repository = hub.repositories["lab/k710"]
    assert not repository.private  # as it was
    assert repository.files["croissant.json"] == b"other"


def test_media_stay_here_unless_asked_for(k710, hub, exported, tmp_path):
    """Files of videos, shards, and a table with videos in it."""
    (exported / "clip.mp4").write_bytes(b"video")
    arguments = ("--format", "hf", "--store", tmp_path / "store", "--media", "--out", exported, "--force")
    assert k710("export", tmp_path / "m", *arguments).exit_code == 0
    media = {"clip.mp4", "data/val-00000-of-00001.parquet"}
    result = k710("push", exported, "lab/k710")
    assert result.exit_code == 0, result.output
    assert "left here, because they are media: 2 files; --media sends them" in result.stderr
    assert not media & hub.repositories["lab/k710"].files.keys()
    assert k710("push", exported, "lab/k710", "--media").exit_code == 0
    assert media <= hub.repositories["lab/k710"].files.keys()


def test_of_a_manifest_its_store_stays_here(k710, hub, exported, tmp_path):
    manifest = tmp_path / "m"
    put(Store(manifest / "store", "h264"), {"clip-000000_000000_000002": fake_media("x")})
    assert k710("card", manifest, "--out", manifest / "README.md").exit_code == 0
    assert k710("push", manifest, "lab/m", "--media").exit_code == 0
    (table,) = (manifest / "clips").iterdir()
    assert set(hub.repositories["lab/m"].files) == {"README.md", "dataset.json", f"clips/{table.name}"}


def test_a_dry_run_names_the_files_and_sends_nothing(k710, hub, exported):
    result = k710("push", exported, "lab/k710", "--dry-run")
    *names, last = result.stdout.splitlines()
    assert names == ["README.md", "croissant.json", "data/val.parquet"]
    assert last.endswith(" for lab/k710; nothing was sent")
    assert hub.requests == []


def test_names_with_the_characters_of_patterns_are_names(k710, hub, tmp_path):
    folder = tmp_path / "lists"
    folder.mkdir()
    for name in ("a[1].csv", "b*.csv", "c?.txt"):
        (folder / name).write_text(name)
    (folder / ".hidden.csv").write_text("x")
    assert k710("push", folder, "lab/lists").exit_code == 0
    assert set(hub.repositories["lab/lists"].files) == {"a[1].csv", "b*.csv", "c?.txt"}


def test_what_cannot_be_pushed(k710, hub, exported, tmp_path):
    (tmp_path / "empty").mkdir()
    assert_refused(k710("push", tmp_path / "empty", "lab/k710"), "has nothing to push")
    (tmp_path / "empty" / "x.mp4").write_bytes(b"x")
    assert_refused(k710("push", tmp_path / "empty", "lab/k710"), "its 1 files are media, which --media sends")
    assert_refused(k710("push", exported, "a/b/c"), "a/b/c", exit_code=2)
    (exported / "data" / "broken.parquet").write_bytes(b"x")
    assert_refused(k710("push", exported, "lab/k710"), "broken.parquet: is no Parquet file")
    (exported / "data" / "broken.parquet").unlink()
    (tmp_path / "secret.txt").write_text("x")
    (exported / "link.txt").symlink_to(tmp_path / "secret.txt")
    assert_refused(k710("push", exported, "lab/k710"), "is a link that leads out of", exit_code=2)
    assert hub.repositories == {}


def test_a_hub_that_refuses_or_does_not_answer(k710, exported, monkeypatch):
    with Hub(refuses=403) as hub:
        at(monkeypatch, hub.url)
        assert_refused(k710("push", exported, "lab/k710"), "lab/k710: the Hub did not take it")
    at(monkeypatch, closed_url().rstrip("/"))
    assert_refused(k710("push", exported, "lab/k710"), "lab/k710: the Hub did not take it")


def test_without_the_library(k710, exported, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert_refused(k710("push", exported, "lab/k710"), "pip install 'k710[hub]'")
    assert plan_push(exported).media == ()
