"""What can be proved of the label maps, and what `k710 labels` says of them."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k710.errors import LabelError, UsageError
from k710.lists.labels import (
    DIALECTS,
    LABEL_SETS,
    Alignment,
    Synonym,
    class_names,
    k710_classes_of,
    label_key,
    published_synonyms,
    row_map,
)
from k710.recipes import resource

RELEASES = ("k400", "k600", "k700")
SIZES = {"k400": 400, "k600": 600, "k700": 700, "k700_2020": 700, "k710": 710}


def test_the_725_names_of_the_releases_are_710_classes():
    names = {name for release in RELEASES for name in class_names(release)}
    alignment = Alignment()
    assert len(names) == 725
    assert {alignment.align(name) for name in names} == set(class_names("k710"))
    assert len(class_names("k710")) == 710


def test_without_the_fifteen_synonyms_fifteen_more_classes_would_stand_apart():
    names = {name for release in RELEASES for name in class_names(release)}
    renamed = {synonym.name for synonym in published_synonyms()}
    assert len(renamed) == 15
    assert renamed <= names
    assert {synonym.label for synonym in published_synonyms()} <= set(class_names("k710"))
    assert len(names - renamed) == 710


def test_what_only_one_release_has():
    members = {release: set(k710_classes_of(release)) for release in RELEASES}
    names = class_names("k710")
    only_k400 = {names[index] for index in members["k400"] - members["k600"] - members["k700"]}
    only_k600 = {names[index] for index in members["k600"] - members["k400"] - members["k700"]}
    assert only_k400 == {
        "cleaning floor",
        "drinking beer",
        "riding mountain bike",
        "strumming guitar",
        "swinging legs",
        "taking a shower",
        "using computer",
        "vault",
    }
    assert only_k600 == {"bull fighting", "chopping vegetables"}
    assert len(members["k700"]) == 700


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("label_set", LABEL_SETS)
def test_every_dialect_orders_the_same_classes(label_set, dialect):
    assert len(class_names(label_set, dialect)) == SIZES[label_set]
    assert set(class_names(label_set, dialect)) == set(class_names(label_set))


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("release", RELEASES)
def test_membership_of_every_row_agrees_with_the_release(release, dialect):
    """Blocks of the 710 rows (the published row lists): 0-399 are K400's classes, 708 and 709 K600's alone."""
    alignment = Alignment()
    own = {alignment.align(name) for name in class_names(release)}
    carried = {class_names("k710", dialect)[row] for row in row_map("k710", release, source_dialect=dialect)}
    assert carried == own
    k400 = {alignment.align(name) for name in class_names("k400")}
    assert set(class_names("k710", dialect)[:400]) == k400
    assert set(class_names("k710", dialect)[708:]) == {"bull fighting", "chopping vegetables"}


def test_releases_are_alphabetical_in_their_own_order():
    for release in RELEASES:
        assert list(class_names(release)) == sorted(class_names(release))


def test_first_rows_of_the_dialects():
    assert class_names("k710")[0] == "abseiling"
    assert class_names("k710", "uniformerv2")[0] == "riding a bike"
    # The two OpenGVLab dialects differ in the order of their K400 heads alone.
    assert row_map("k710", "k400", source_dialect="uniformerv2", target_dialect="uniformerv2") == tuple(range(400))
    assert class_names("k400", "videomaev2") == class_names("k400")
    for label_set in ("k600", "k700", "k710"):
        assert class_names(label_set, "videomaev2") == class_names(label_set, "uniformerv2")


def test_the_published_row_lists_are_what_comes_out(real_lists):
    folder = real_lists.parent / "labels"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there: the published row lists were not compared")
    for release in RELEASES:
        published = json.loads((folder / f"rows_k710_to_{release}_opengvlab.json").read_text())
        rows = row_map("k710", release, source_dialect="videomaev2", target_dialect="videomaev2")
        assert list(rows) == published
    for dialect, file in (("canonical", "k710_mmaction2.txt"), ("uniformerv2", "k710_opengvlab.txt")):
        assert list(class_names("k710", dialect)) == (folder / file).read_text().splitlines()


def test_the_published_name_file_contradicts_the_published_row_lists(real_lists):
    """The story of docs/labels.md: 309 wrong names, six of them provably so."""
    folder = real_lists.parent / "labels"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there: the published name file was not examined")
    published = (folder / "k710_opengvlab_published.txt").read_text().splitlines()
    ours = class_names("k710", "videomaev2")
    alignment = Alignment()
    wrong = [row for row, name in enumerate(published) if alignment.find(name) != alignment.find(ours[row])]
    assert len(wrong) == 309
    members = {release: {alignment.align(name) for name in class_names(release)} for release in RELEASES}
    rows_of = {
        release: set(json.loads((folder / f"rows_k710_to_{release}_opengvlab.json").read_text()))
        for release in RELEASES
    }
    contradicted = [
        row
        for row, name in enumerate(published)
        if any((row in rows_of[release]) != (alignment.align(name) in members[release]) for release in RELEASES)
    ]
    assert contradicted == [222, 271, 626, 629, 662, 708]


@pytest.mark.parametrize("source", LABEL_SETS)
@pytest.mark.parametrize("target", LABEL_SETS)
def test_row_maps_carry_names(source, target):
    """Whatever the dialects, row i of the target has the class that the mapped row of the source has."""
    alignment = Alignment()
    for source_dialect in DIALECTS:
        for target_dialect in DIALECTS:
            rows = row_map(source, target, source_dialect=source_dialect, target_dialect=target_dialect)
            source_names = [alignment.align(name) for name in class_names(source, source_dialect)]
            for row, name in zip(rows, class_names(target, target_dialect), strict=True):
                if row is None:
                    assert alignment.align(name) not in source_names
                else:
                    assert source_names[row] == alignment.align(name)


@given(name=st.sampled_from(sorted(Alignment().classes)), data=st.data())
def test_case_and_symbols_do_not_matter(name, data):
    symbol = data.draw(st.sampled_from("_- '().,/"))
    mangled = "".join(char.upper() if data.draw(st.booleans()) else char for char in name).replace(" ", symbol)
    assert label_key(mangled) == label_key(name)
    assert Alignment().align(mangled) == name


def test_an_unknown_label_names_its_three_nearest_classes():
    with pytest.raises(LabelError, match=r"unknown label 'archerry'; nearest classes: 'archery', '[^']+', '[^']+'$"):
        Alignment().align("archerry")


def test_own_synonyms_add_and_never_overrule():
    assert Alignment([Synonym("bow shooting", "archery")]).align("Bow Shooting") == "archery"
    # A synonym may lead through a release's name.
    assert Alignment([Synonym("cravat", "tying tie")]).align("cravat") == "tying necktie"
    with pytest.raises(LabelError, match="already means 'abseiling'"):
        Alignment([Synonym("abseiling", "archery")])
    with pytest.raises(LabelError, match="unknown label 'archerry'"):
        Alignment([Synonym("bow shooting", "archerry")])


def test_unknown_sets_and_dialects_are_refused():
    with pytest.raises(UsageError, match="unknown label set 'k500'"):
        class_names("k500")
    with pytest.raises(UsageError, match="unknown dialect 'pig latin'"):
        class_names("k400", "pig latin")


def test_the_label_files_have_no_stray_columns_or_spaces():
    for label_set in ("k400", "k600", "k700", "k710"):
        with resource("labelmaps", f"{label_set}.csv").open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        assert list(rows[0]) == ["label", *DIALECTS]
        assert all(row["label"] == row["label"].strip() for row in rows)


def test_no_file_of_labelmaps_copies_a_public_one(real_lists):
    theirs = {path.read_bytes() for path in (real_lists.parent / "labels").glob("*")}
    assert not theirs & {path.read_bytes() for path in Path(resource("labelmaps")).glob("*")}
    assert os.environ["K710_TEST_LISTS"]


class TestCommand:
    def test_the_whole_map(self, k710):
        lines = k710("labels").stdout.splitlines()
        (row,) = [line for line in lines if "tying necktie" in line]
        assert row.split()[0] == "370"
        assert row.endswith("tying tie")
        assert sum(line.strip()[:1].isdigit() for line in lines) == 710

    def test_aligns_names(self, k710):
        result = k710("labels", "tying tie", "picking_fruit")
        assert result.stdout.splitlines() == [
            "tying tie -> tying necktie (class 370)",
            "picking_fruit -> picking apples (class 214; doubtful: apples are one fruit of many)",
        ]

    def test_unknown_name(self, k710):
        result = k710("labels", "archerry")
        assert result.exit_code == 1
        assert result.stderr.startswith("k710: unknown label 'archerry'; nearest classes: 'archery'")

    def test_row_list(self, k710):
        result = k710("labels", "--from", "k710", "--dialect", "uniformerv2", "--to", "k400", "--rows")
        rows = json.loads(result.stdout)
        assert [class_names("k710", "uniformerv2")[row] for row in rows[:2]] == ["abseiling", "air drumming"]
        assert tuple(rows) == row_map("k710", "k400", source_dialect="uniformerv2")

    def test_map_as_a_table_says_what_is_missing(self, k710):
        result = k710("labels", "--from", "k400", "--to", "k710")
        assert result.stdout.splitlines()[-1] == "400 of 710 classes of k710 have a row in k400."

    @pytest.mark.parametrize(
        "arguments", [["--from", "k710"], ["--rows"], ["archery", "--from", "k400", "--to", "k710"]]
    )
    def test_half_a_question_is_refused(self, k710, arguments):
        assert k710("labels", *arguments).exit_code == 2
