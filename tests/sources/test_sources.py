"""The sources: what is known of each fits together, and a source of another kind is found, read and cited."""

from __future__ import annotations

import re

import pytest

from k710.errors import ListError
from k710.lists.annotations import ListFile, find_lists, read_list
from k710.lists.labels import class_names
from k710.report.charts import GREY, _colour_of
from k710.sources.known import (
    KINETICS,
    KNOWN_SOURCES,
    PRECEDENCE,
    UNION,
    VIEWS,
    archives,
    check_sources,
    is_data_set,
    source_named,
)
from k710.sources.source import SPLITS, Source, bibtex

# A source that is not of Kinetics: its files are called by class, group and clip, as those of UCF101 are.
STUNTS = Source(
    name="stunts",
    title="Stunts-12",
    name_pattern="stunts(?:-?12)?",
    label_set="stunts",
    citation=bibtex("nobody2026stunts", "Twelve Stunts", "Nobody, N.", 2026, "2601.00001"),
    licence="The Stunts annotations are in the public domain.",
    colour="#446688",
    id_pattern="v_[A-Za-z]+_g[0-9]{2}_c[0-9]{2}",
)


@pytest.fixture
def stunts(monkeypatch):
    monkeypatch.setitem(KNOWN_SOURCES, "stunts", STUNTS)
    return STUNTS


def test_what_is_known_of_each_source_fits_together():
    assert [source.name for source in KNOWN_SOURCES.values()] == list(KNOWN_SOURCES)
    assert VIEWS == ("k710", "k400", "k600", "k700", "k700_2020")
    assert set(UNION.members) <= set(UNION.sources) <= set(KNOWN_SOURCES)
    assert sorted(UNION.precedence) == sorted(UNION.sources)
    assert sorted(PRECEDENCE) == sorted(KNOWN_SOURCES)
    assert len(class_names(UNION.name)) == UNION.paper_classes
    for source in KNOWN_SOURCES.values():
        assert len(class_names(source.name)) == int(re.findall("[0-9]+", source.title)[0])
        assert set(source.list_urls) == set(source.splits) == set(SPLITS)
        assert set(source.paper_rows) <= set(source.published_rows) <= set(SPLITS)
        assert not source.twin or KNOWN_SOURCES[source.twin].twin == source.name


def test_archives_are_asked_newest_release_first_and_replacements_before_what_they_replace():
    names = [one.name for one in archives()]
    assert names == [
        *("k700_2020/val", "k700_2020/train", "k700_2020/test", "k600/val", "k600/train", "k600/test"),
        *("k400/replacement", "k400/val", "k400/train", "k400/test"),
    ]
    hosts = {one.name: (one.sources, one.splits) for one in archives()}
    assert hosts["k700_2020/val"] == (("k700_2020", "k700"), ("val",))
    assert hosts["k400/replacement"] == (("k400",), SPLITS)


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("K400", "k400"),
        ("Kinetics-600", "k600"),
        ("kinetics_700-2020", "k700_2020"),
        ("kinetics700", "k700"),
        ("k7000", "k7000"),
        ("k700_2020x", "k700_2020x"),
    ],
)
def test_spellings(spelling, name):
    assert source_named(spelling) == name
    assert is_data_set(spelling) == (name in KNOWN_SOURCES)


def test_the_union_is_a_data_set_and_no_source():
    assert is_data_set("Kinetics710")
    assert source_named("Kinetics710") == "Kinetics710"


def test_a_source_of_another_kind_is_named_found_read_and_cited(stunts, tmp_path):
    assert check_sources(("Stunts-12", "k400")) == ("k400", "stunts")
    assert is_data_set("STUNTS")
    assert KINETICS.citations(["stunts"])[0].startswith("@article{nobody2026stunts,")
    assert (_colour_of("stunts train", {}), _colour_of("unknown train", {})) == ("#446688", GREY)
    ids = ["v_Backflip_g01_c01", "v_Backflip_g01_c02"]
    rows = [f"back flip,{video},0,4,train" for video in ids]
    (tmp_path / "Stunts12_training.csv").write_text("\n".join(["label,youtube_id,time_start,time_end,split", *rows]))
    (file,) = find_lists(tmp_path, ["stunts"], ["train"])
    assert read_list(file).table["youtube_id"].to_pylist() == ids


def test_video_ids_are_those_of_the_list_s_own_source(stunts, tmp_path):
    path = tmp_path / "list.csv"
    path.write_text("label,youtube_id,time_start,time_end\nback flip,abcdefghijk,0,4\n")
    assert read_list(ListFile("k400", "train", path)).num_rows == 1
    with pytest.raises(ListError, match=r"line 2: ID 'abcdefghijk' is not of the form v_\[A-Za-z\]"):
        read_list(ListFile("stunts", "train", path))
    path.write_text("label,youtube_id,time_start,time_end\nback flip,v_Backflip_g01_c01,0,4\n")
    with pytest.raises(ListError, match="line 2: ID 'v_Backflip_g01_c01' is not 11 characters of the YouTube alphabet"):
        read_list(ListFile("k400", "train", path))
