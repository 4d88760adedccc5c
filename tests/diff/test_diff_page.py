"""The page of `k710 diff --html`: the figures of the command, every text as text."""

from __future__ import annotations

import dataclasses
import html

import pyarrow as pa
import pytest

from k710.diff.manifests import diff_manifests
from k710.manifest.read import open_manifest
from k710.report import diff_page as module
from k710.report.diff_page import diff_page
from k710.store.store import Store
from tests.cli.test_bad_input import assert_refused
from tests.helpers.report_pages import ATTACKS, tables_of
from tests.helpers.small_stores import clips_of, fake_media, manifest_of, put


@pytest.fixture(scope="module")
def sides(k710, tmp_path_factory):
    """The sample under two policies, as versions of one folder."""
    folder = tmp_path_factory.mktemp("diff") / "m"
    names = []
    for policy in ("train-purge", "val-purge"):
        options = ("--annotations", "sample", "--out", folder, "--force", "--leak-policy", policy)
        result = k710("build", "--sources", "k400,k600,k700", *options)
        assert result.exit_code == 0, result.output
        names.append(open_manifest(folder).content_hash[:8])
    return [f"{folder}@{name}" for name in names]


def test_it_has_the_figures_of_the_command(k710, sides, tmp_path):
    result = k710("diff", *sides, "--html", tmp_path / "d.html")
    assert result.exit_code == 0, result.output
    found = diff_manifests(*map(open_manifest, sides))
    assert found.changes["lost"]
    tables = tables_of((tmp_path / "d.html").read_text())
    assert tables["Differences between the recipes and lists of the two builds"][1] == [
        ["leak_policy", "train-purge", "val-purge"]
    ]
    moves = tables["What became of clips"][1]
    assert [row[:4] for row in moves] == [[m.change, m.a, m.b, f"{m.clips:,}"] for m in found.moves]
    assert [row[0] for row in tables["The most changed first"][1]] == [group.label for group in found.classes]
    assert [row[0] for row in tables["Clips that differ"][1]] == found.clips["clip_id"].to_pylist()


def test_clips_are_bounded_the_rarest_changes_whole(sides, monkeypatch):
    found = diff_manifests(*map(open_manifest, sides))
    counts = {change: count for change, count in found.changes.items() if count}
    assert len(counts) > 1
    rarest = min(counts, key=counts.get)
    monkeypatch.setattr(module, "SHOWN_CLIPS", counts[rarest] + 1)
    rows = tables_of(diff_page(found, ("one", "other"), {}))["Clips that differ"][1]
    assert len(rows) == counts[rarest] + 1
    assert sum(row[1] == rarest for row in rows) == counts[rarest]


def test_the_same_twice(sides):
    page = diff_page(diff_manifests(*[open_manifest(sides[0])] * 2), ("one", "other"), {})
    assert "Every clip is in the same place." in page
    assert "Clips that differ" not in tables_of(page)


def test_media(k710, tmp_path):
    manifest = open_manifest(manifest_of(k710, tmp_path, clips := clips_of(3, "val")))
    ids = [clip.clip_id for clip in clips]
    first, second = Store(manifest.path / "store", "h264"), Store(tmp_path / "now", "h264")
    put(first, {clip_id: fake_media(clip_id) for clip_id in ids})
    put(second, {ids[0]: fake_media(ids[0]), ids[1]: "gone", ids[2]: "gone"})
    result = k710("diff", manifest.path, manifest.path, "--store-b", second.root, "--html", tmp_path / "d.html")
    assert result.exit_code == 0, result.output
    tables = tables_of((tmp_path / "d.html").read_text())
    assert ["val", "fetched", "gone", "2", ""] in tables["Media of the clips in a split"][1]


def test_what_data_says_stays_text(sides):
    found = diff_manifests(*map(open_manifest, sides))
    attack = ATTACKS[0]
    classes = tuple(dataclasses.replace(group, label=attack) for group in found.classes)
    moves = tuple(dataclasses.replace(move, a=attack) for move in found.moves)
    hostile = dataclasses.replace(found, classes=classes, moves=moves)
    page = diff_page(hostile, (attack, attack), {attack: (attack, attack)})
    body = page[page.index("<main") :]
    assert attack not in body
    assert html.escape(attack) in body or html.escape(attack).replace("&quot;", "&#34;") in body


def test_a_clip_whose_name_is_none_is_text(sides):
    found = diff_manifests(*map(open_manifest, sides))
    names = pa.array([f"{row}{name}" for row, name in enumerate(["_b_c", "", "_1_2_"] * len(found.clips))])
    odd = dataclasses.replace(found, clips=found.clips.set_column(0, "clip_id", names[: len(found.clips)]))
    rows = tables_of(diff_page(odd, ("one", "other"), {}))["Clips that differ"][1]
    assert sorted(row[0] for row in rows) == sorted(odd.clips["clip_id"].to_pylist())


def test_not_inside_a_manifest(k710, sides, tmp_path):
    folder = sides[0].rpartition("@")[0]
    assert_refused(k710("diff", *sides, "--html", f"{folder}/d.html"), "which must not hold other files", exit_code=2)
    assert_refused(k710("diff", *sides, "--html", tmp_path / "no" / "d.html"), "No such file or directory")
