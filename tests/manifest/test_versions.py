"""Earlier versions of a manifest: opened by name wherever a manifest is read, and refused in words that help."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from k710 import open_manifest
from k710.errors import ManifestError
from k710.manifest.versions import named_version, versions
from tests.cli.test_bad_input import assert_refused, files_of


def build(k710, out, *arguments):
    result = k710("build", "--annotations", "sample", "--out", out, *arguments)
    assert result.exit_code == 0, result.output
    return open_manifest(out)


@pytest.fixture(scope="module")
def three(k710, tmp_path_factory):
    """A folder with a current version and two earlier ones, and the manifests as they were when they were current."""
    folder = tmp_path_factory.mktemp("three") / "m"
    built = [
        build(k710, folder),
        build(k710, folder, "--leak-policy", "val-purge", "--force"),
        build(k710, folder, "--recipe", "k710-strict", "--force"),
    ]
    for number, manifest in enumerate(built[:2]):
        os.utime(folder / "versions" / f"{manifest.content_hash[:16]}.json", (1_700_000_000 + number,) * 2)
    return folder, built


@pytest.fixture
def copy(three, tmp_path):
    shutil.copytree(three[0], tmp_path / "m")
    return tmp_path / "m"


@pytest.mark.parametrize("digits", [4, 7, 16, 17, 64])
def test_a_version_is_opened_by_the_beginning_of_its_hash(three, digits):
    folder, built = three
    for number, manifest in enumerate(built):
        name = manifest.content_hash[:digits]
        for opened in (open_manifest(folder, version=name), open_manifest(f"{folder}@{name}")):
            assert opened.about == manifest.about
            assert opened.path == folder
            opened.verify()
        assert len({row["split"] for row in opened.clips.to_pylist()}) == 3, number


def test_a_shell_completes_a_folder_with_a_slash(three, monkeypatch):
    folder, built = three
    name = built[0].content_hash[:6]
    assert open_manifest(f"{folder}/@{name}").content_hash == built[0].content_hash
    monkeypatch.chdir(folder)
    assert open_manifest(f".@{name}").content_hash == built[0].content_hash
    assert open_manifest(f"@{name}").content_hash == built[0].content_hash


def test_a_folder_of_that_very_name_wins(k710, copy):
    _, first, _ = versions(copy)
    named = copy.with_name(f"m@{first.name[:6]}")
    ours = build(k710, named, "--sources", "k400")
    assert open_manifest(named).content_hash == ours.content_hash
    assert open_manifest(f"{named}@{ours.content_hash[:6]}").about == ours.about
    assert open_manifest(copy, version=first.name[:6]).content_hash == first.content_hash
    again = build(k710, named, "--sources", "k600", "--force")
    assert open_manifest(f"{named}@{ours.content_hash[:6]}").about == ours.about
    k710("prune", named)
    assert files_of(copy)["versions"] is None
    assert len(versions(copy)) == 3
    assert [one.content_hash for one in versions(named)] == [again.content_hash]
    shutil.rmtree(named)
    named.mkdir()
    with pytest.raises(ManifestError, match=f"{named.name}: no manifest there"):
        open_manifest(named)


@pytest.mark.parametrize("name", ["a@b", "@ab12cd", "a@", "user@host@ab12cd"])
def test_a_manifest_may_have_an_at_in_its_name(k710, tmp_path, name):
    manifest = build(k710, tmp_path / name)
    assert open_manifest(f"{tmp_path / name}@{manifest.content_hash[:4]}").about == manifest.about
    assert named_version(tmp_path / name) == (tmp_path / name, None)


@pytest.mark.parametrize("version", ["main", "ABCDEF", "abc", "", "ab12/../x", "0" * 65, "ab12\n"])
def test_what_is_no_version(three, version):
    folder, _ = three
    with pytest.raises(ManifestError, match=r"names no version .*; there are .*\(current\), "):
        open_manifest(folder, version=version)


def test_an_unknown_version_lists_those_that_are_there(k710, three):
    folder, built = three
    first, second, third = (manifest.content_hash[:16] for manifest in built)
    message = f"{folder}: holds no version 0000; there are {third} (current), {second}, {first}"
    for command in ("audit", "status", "versions"):
        if command != "versions":
            assert_refused(k710(command, f"{folder}@0000"), message)
    assert_refused(k710("explain", "two-labels0", "--manifest", f"{folder}@main"), "'main' names no version")
    assert_refused(k710("audit", "nowhere@0000"), "nowhere@0000: no manifest there")


def test_two_versions_with_one_beginning(copy, three):
    commit = json.loads((copy / "dataset.json").read_text())
    hashes = [f"{'ab12' * 3}{digit}{commit['content_hash'][13:]}" for digit in "0f"]
    for content_hash in hashes:
        about = json.dumps(commit | {"content_hash": content_hash})
        (copy / "versions" / f"{content_hash[:16]}.json").write_text(about)
    with pytest.raises(ManifestError, match=r"ab12 is the beginning of ab12ab12ab12\w{4} and ab12ab12ab12\w{4}; give"):
        open_manifest(copy, version="ab12")
    assert open_manifest(copy, version=hashes[1][:13]).content_hash == hashes[1]


def test_a_version_that_came_back_is_the_current_one(k710, tmp_path):
    first = build(k710, tmp_path / "m")
    build(k710, tmp_path / "m", "--leak-policy", "val-purge", "--force")
    build(k710, tmp_path / "m", "--force")
    assert [one.name for one in versions(tmp_path / "m")].count(first.content_hash[:16]) == 2
    earlier = tmp_path / "m" / "versions" / f"{first.content_hash[:16]}.json"
    earlier.write_text(json.dumps(first.about | {"tools": {"k710": "0.0.1"}}))
    assert open_manifest(tmp_path / "m", version=first.content_hash[:5]).about == first.about


def test_damaged_versions_hide_no_others(k710, copy, three):
    _, built = three
    (copy / "versions" / f"{built[0].content_hash[:16]}.json").write_text('{"content_hash": "../../etc')
    (copy / "versions" / "notes.json").write_text("mine")
    (copy / "versions" / ".tmp-0123.json").write_text("")
    assert {one.name for one in versions(copy)} == {manifest.content_hash[:16] for manifest in built}
    assert open_manifest(copy, version=built[1].content_hash[:6]).about == built[1].about
    for name in (built[0].content_hash, built[0].content_hash[:6]):
        with pytest.raises(ManifestError, match=r"versions/[0-9a-f]{16}\.json: damaged"):
            open_manifest(copy, version=name)
    (copy / "dataset.json").write_text("{}")
    assert open_manifest(copy, version=built[1].content_hash[:6]).about == built[1].about
    listed = k710("versions", copy)
    assert listed.exit_code == 0, listed.output
    assert len(listed.stdout.splitlines()) == 2 + 3 + 1
    assert "damaged" in listed.stdout


def test_a_version_names_no_file_outside(copy):
    commit = json.loads((copy / "dataset.json").read_text())
    commit["clips"][0]["file"] = "../../secret.parquet"
    commit["content_hash"] = "ab" * 32
    (copy / "versions" / f"{'ab' * 8}.json").write_text(json.dumps(commit))
    with pytest.raises(ManifestError, match="which is no clips file of this folder"):
        open_manifest(copy, version="abab")


def test_what_the_command_lists(k710, three):
    folder, built = three
    result = k710("versions", folder)
    header, _, *rows, empty = result.stdout.splitlines()
    assert header.split("  ")[0] == "version"
    assert empty == ""
    assert [row.split()[0] for row in rows] == [manifest.content_hash[:16] for manifest in reversed(built)]
    assert [row.split()[1] for row in rows] == ["current", "73", "73"]
    assert "val-purge" in rows[1]
    assert "2023-11-14 22:13" in rows[2], rows[2]
    found = json.loads(k710("versions", folder, "--json").stdout)
    assert [one["about"] for one in found] == [manifest.about for manifest in reversed(built)]
    assert_refused(k710("versions", folder / "clips"), "no manifest there")


def test_every_command_that_reads_a_manifest_reads_a_version(k710, three, tmp_path):
    folder, built = three
    name = f"{folder}@{built[1].content_hash[:6]}"
    exported = k710("export", name, "--format", "csv", "--out", tmp_path / "lists")
    assert f"val.csv: {built[1].about['counts']['val']} clips" in exported.stdout
    counts = built[1].about["counts"]
    assert counts["val"] != built[2].about["counts"]["val"], "the test could not tell them apart"
    assert "val-purge" in k710("explain", "leaked-4000", "--manifest", name).stdout
    # The store is the folder's, whatever the version.
    assert_refused(k710("status", name), f"{folder / 'store'}: no store there")


def test_prune_takes_no_version(k710, copy):
    before = files_of(copy)
    _, earlier, _ = versions(copy)
    assert_refused(k710("prune", f"{copy}@{earlier.name[:6]}"), "no manifest there")
    assert files_of(copy) == before


def test_an_interrupted_prune_leaves_no_version_without_its_clips(k710, copy, monkeypatch):
    real, removed = Path.unlink, []

    def only_once(path: Path, missing_ok: bool = False) -> None:
        if removed:
            raise KeyboardInterrupt
        removed.append(path)
        real(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", only_once)
    assert k710("prune", copy).exit_code == 1
    monkeypatch.undo()
    found = versions(copy)
    assert len(found) == 2
    for one in found:
        open_manifest(copy, version=one.name).verify()
