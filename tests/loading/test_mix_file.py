"""The file of a mix: its members, relative paths, the published mix that it extends, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from k710.errors import RecipeError
from k710.loading.mix_file import MixMember, mix_of_folder, read_mix
from k710.storage.remote import RemotePath


def written(folder: Path, text: str) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "mix.yaml").write_text(text)
    return str(folder / "mix.yaml")


def test_places_are_relative_to_the_file_that_names_them(tmp_path, monkeypatch):
    (tmp_path / "base").mkdir()
    (tmp_path / "base/common.yaml").write_text("films: {folder: films, clip_frames: 300}\n")
    file = written(
        tmp_path / "mixes",
        "extends: ../base/common.yaml\n"
        "k710: {manifest: ../manifests/k710, store: s3://bucket/store, weight: 2}\n"
        "own: {folder: /data/own, clips: 7, stride: 2, short_side_px: null}\n",
    )
    monkeypatch.chdir(tmp_path / "base")
    mix = read_mix("../mixes/mix.yaml")
    assert mix.members == {
        "k710": MixMember(manifest=str(tmp_path / "manifests/k710"), store="s3://bucket/store", weight=2.0),
        "own": MixMember(folder="/data/own", clips=7, stride=2, short_side_px=None),
        "films": MixMember(folder=str(tmp_path / "base/films"), clip_frames=300),
    }
    assert isinstance(mix.members["k710"].place("store"), RemotePath)
    assert mix.members["own"].place("folder") == Path("/data/own")
    whole = tmp_path / "whole.yaml"
    whole.write_text(yaml.safe_dump(mix.as_dict(), sort_keys=False))
    assert read_mix(str(whole)).members == mix.members
    assert read_mix(file).members == mix.members


def test_the_published_mix_gets_places_and_leaves_out_what_one_does_not_have(tmp_path):
    file = written(
        tmp_path,
        "extends: unlabeled-hybrid\nk710: {manifest: k710}\nssv2: {folder: ssv2}\nava: {folder: ava}\n"
        "webvid2m: {folder: webvid}\ninstagram: {weight: 0}\n",
    )
    members = read_mix(file).members
    assert list(members) == ["k710", "ssv2", "ava", "webvid2m"]
    assert [member.stride for member in members.values()] == [4, 2, 4, 4]
    assert (members["ava"].clip_frames, members["webvid2m"].clips) == (300, 250_000)
    assert {member.weight for member in members.values()} == {1.0}
    with pytest.raises(RecipeError, match=r"unlabeled-hybrid\.yaml: k710: must have a manifest, or a folder of videos"):
        read_mix("unlabeled-hybrid")


def test_a_folder_alone_is_a_mix_of_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert mix_of_folder(Path("films")).members == {"videos": MixMember(folder=str(tmp_path / "films"))}


@pytest.mark.parametrize(("text", "message"), [
    ("{}", "a mix has at least one member with a weight above 0"),
    ("a: {folder: x, weight: 0}", "a mix has at least one member with a weight above 0"),
    ("a: films", "a maps keys to values; this one does not"),
    ("- a", "a recipe maps keys to values"),
    ("../a: {folder: x}", "a member is named by letters, digits and . _ -, not '../a'"),
    ("1: {folder: x}", "a member is named by letters, digits and . _ -, not '1'"),
    ("a: {fodler: x}", "a: unknown key 'fodler'; did you mean 'folder'?"),
    ("a: {folder: 3}", "a: folder must be str or nothing (null), not 3"),
    ("a: {weight: 2}", "a: must have a manifest, or a folder of videos; weight: 0 leaves the member out"),
    ("a: {folder: x, weight: -1}", "a: weight must lie between 0 and 1000, not -1.0"),
    ("a: {folder: x, weight: .nan}", "a: weight must lie between 0 and 1000, not nan"),
    ("a: {folder: x, weight: .inf}", "a: weight must lie between 0 and 1000, not inf"),
    ("a: {folder: x, clips: 0}", "a: clips must be at least 1, not 0"),
    ("a: {folder: x, stride: 0}", "a: stride must be at least 1, not 0"),
    ("a: {folder: x, short_side_px: 2}", "a: short_side_px must be at least 16, not 2"),
    ("a: {folder: x, profile: h264}", "a: profile belongs to a manifest, and none is given"),
    ("a: {folder: x, store: y}", "a: store belongs to a manifest, and none is given"),
    ("a: {manifest: m, folder: x, store: y}", "a: has a store and a folder; its clips are in one of them"),
    ("a: {manifest: m, clip_frames: 300}", "a: clip_frames is for a folder of videos"),
    ("a: {folder: x}\na: {folder: y}", "key 'a' appears twice"),
    ("a: {folder: x}\nextends: nothing", "extends 'nothing', which is not a recipe; known: unlabeled-hybrid"),
    ("a: [", "not YAML"),
])  # fmt: skip
def test_what_cannot_be_names_the_file_and_the_member(tmp_path, text, message):
    file = written(tmp_path, text)
    with pytest.raises(RecipeError) as refused:
        read_mix(file)
    assert message in str(refused.value)
    assert file in str(refused.value)


def test_a_file_that_is_not_there_is_said():
    with pytest.raises(RecipeError, match=r"no recipe 'none\.yaml'; known: unlabeled-hybrid, or the path of a YAML"):
        read_mix("none.yaml")
