"""Building from the public addresses, which a loopback server stands in for."""

from __future__ import annotations

import dataclasses
import io
import tarfile

import pytest

from k710.manifest.read import open_manifest
from k710.sample import LISTS
from k710.sources.known import KNOWN_SOURCES
from tests.helpers.loopback import Fault, closed_url


def archive() -> bytes:
    """The k700 lists as DeepMind publishes them: all splits in one .tar.gz."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w:gz") as tar:
        for name in ("k700_train.csv", "k700_val.json", "k700_test.csv"):
            content = (LISTS / name).read_bytes()
            member = tarfile.TarInfo(f"kinetics700/{name.removeprefix('k700_').replace('val', 'validate')}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return sink.getvalue()


@pytest.fixture
def public(loopback, monkeypatch, tmp_path):
    """Serves the sample's lists in the place of the public ones; returns the server."""
    monkeypatch.setenv("K710_CACHE", str(tmp_path / "cache"))
    for source in ("k400", "k600"):
        urls = {}
        for split in ("train", "val", "test"):
            (path,) = LISTS.glob(f"{source}_{split}.*")
            urls[split] = loopback.serve(f"/{path.name}", path.read_bytes(), faults=[Fault(cut_at=100)])
        monkeypatch.setitem(KNOWN_SOURCES, source, dataclasses.replace(KNOWN_SOURCES[source], list_urls=urls))
    url = loopback.serve("/kinetics700.tar.gz", archive())
    release = dataclasses.replace(KNOWN_SOURCES["k700"], list_urls=dict.fromkeys(("train", "val", "test"), url))
    monkeypatch.setitem(KNOWN_SOURCES, "k700", release)
    return loopback


@pytest.mark.slow
def test_lists_are_downloaded_once(k710, public, sample, tmp_path):
    result = k710("build", "--sources", "k400,k600,k700", "--out", tmp_path / "m")
    assert result.exit_code == 0, result.output
    manifest = open_manifest(tmp_path / "m")
    assert manifest.content_hash == sample.content_hash
    assert {entry["url"].rpartition("/")[2] for entry in manifest.about["sources"]} == {
        "k400_train.csv",
        "k400_val.csv",
        "k600_train.txt",
        "k600_val.txt",
        "kinetics700.tar.gz",
    }
    asked = len(public.requests)
    assert k710("build", "--out", tmp_path / "m", "--force").exit_code == 0
    assert len(public.requests) == asked


def test_what_is_already_answered_is_not_downloaded(k710, public, tmp_path):
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "holiday.jpg").touch()
    assert k710("build", "--out", tmp_path / "m").exit_code == 1
    assert public.requests == []


def test_without_a_network_the_message_names_the_address_and_the_way_out(k710, public, tmp_path, monkeypatch):
    monkeypatch.setattr("k710.storage.http_reader.LONGEST_WAIT_S", 0.0)
    url = closed_url() + "/val.csv"
    urls = KNOWN_SOURCES["k400"].list_urls | {"val": url}
    monkeypatch.setitem(KNOWN_SOURCES, "k400", dataclasses.replace(KNOWN_SOURCES["k400"], list_urls=urls))
    result = k710("build", "--out", tmp_path / "m")
    assert result.exit_code == 1
    assert url in result.stderr
    assert "Connection refused" in result.stderr
    assert "--annotations DIR" in result.stderr
    assert not (tmp_path / "m").exists()


@pytest.mark.slow
def test_a_few_bad_rows_of_an_official_list_are_dropped_and_listed(k710, public, tmp_path, monkeypatch):
    header, *rows = (LISTS / "k400_train.csv").read_text().splitlines()
    many = [f"abseiling,{number:011d},0,10,train,0" for number in range(2_000)]
    many[1_000] = "abseiling,too-short,0,10,train,0"
    urls = KNOWN_SOURCES["k400"].list_urls | {
        "train": public.serve("/bad.csv", "\n".join([header, *rows, *many, ""]).encode())
    }
    monkeypatch.setitem(KNOWN_SOURCES, "k400", dataclasses.replace(KNOWN_SOURCES["k400"], list_urls=urls))
    result = k710("build", "--out", tmp_path / "m")
    assert result.exit_code == 0, result.output
    assert "k400 train: line 1014 left out: ID 'too-short' is not 11 characters" in result.stderr
    dataset = open_manifest(tmp_path / "m").about
    entry = dataset["counts"]["lists"][0]
    assert (entry["rows"], entry["malformed"]) == (2_012, 1)
    assert sum(dataset["counts"]["fates"].values()) == dataset["counts"]["rows"]
    assert dataset["sources"][0]["malformed"][0]["line"] == 1_014
    strict = k710("build", "--out", tmp_path / "m2", "--strict")
    assert strict.exit_code == 1
    assert "1 bad row of 2,012\n  line 1014:" in strict.stderr
    assert not (tmp_path / "m2").exists()


@pytest.mark.slow
def test_more_than_one_bad_row_in_a_thousand_stops_the_build(k710, public, tmp_path, monkeypatch):
    rows = [f"abseiling,{number:011d},0,10,train" for number in range(1_997)]
    rows += ["abseiling,too-short,0,10,train"] * 3
    body = "\n".join(["label,youtube_id,time_start,time_end,split", *rows, ""]).encode()
    urls = KNOWN_SOURCES["k400"].list_urls | {"train": public.serve("/bad.csv", body)}
    monkeypatch.setitem(KNOWN_SOURCES, "k400", dataclasses.replace(KNOWN_SOURCES["k400"], list_urls=urls))
    result = k710("build", "--out", tmp_path / "m")
    assert result.exit_code == 1
    assert "3 bad rows of 2,000" in result.stderr
    assert not (tmp_path / "m").exists()
