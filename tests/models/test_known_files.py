"""Published files: known by their hash, told apart from files that are only named so, and rows of the user's own."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch

from k710.errors import CheckpointError, UsageError
from k710.lists.labels import class_names, k710_classes_of
from k710.models.checkpoints.known_files import COLUMNS, KnownFile, identify, published_files, read_known_files
from k710.models.checkpoints.published_models import PUBLISHED_MODELS
from tests.helpers.checkpoints import uniformerv2


@pytest.fixture
def start(tmp_path: Path) -> Path:
    path = tmp_path / "mine.pyth"
    torch.save(uniformerv2(400), path)
    return path


def own_list(path: Path, **values: object) -> Path:
    path.write_text(f"{','.join(values)}\n{','.join(map(str, values.values()))}\n")
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_every_row_of_the_list_is_of_a_published_model_and_has_its_order():
    """`published_models.py` says the order of each model's heads, with its source: the list must not contradict it."""
    rows = published_files()
    assert len(rows) > 70
    models = {model.name: model for model in PUBLISHED_MODELS}
    for row in rows:
        assert row.family in models, row
        assert row.source, row
        if row.order:
            known = {order.name for order in models[row.family].orders if order.rows == len(class_names(row.label_set))}
            keys = {k710_classes_of(row.label_set, name) for name in known if name}
            assert k710_classes_of(row.label_set, row.order) in keys, row


def test_names_of_mmaction2_end_in_the_hash_that_the_list_gives():
    rows = [row for row in published_files() if row.family == "mmaction2"]
    assert len(rows) > 20
    for row in rows:
        assert row.name.removesuffix(".pth").endswith(f"-{row.sha256}")
        assert row.url.endswith(f"/{row.name}")


def test_whole_hashes_have_their_sizes():
    whole = [row for row in published_files() if len(row.sha256) == 64]
    assert {row.size_bytes for row in whole} == {458_289_355, 44_334_609, 173_574_417}
    assert all(len(row.sha256) in (0, 8, 64) for row in published_files())


def test_what_is_gone_says_since_when():
    gone = [row for row in published_files() if row.state == "gone"]
    assert len(gone) > 30
    assert {row.as_of for row in gone} == {"2024-08-16"}


def test_a_file_is_known_by_its_hash_under_any_name(k710, start: Path):
    row = {"name": "real.pyth", "size_bytes": start.stat().st_size, "sha256": sha256(start), "model": "A model"}
    known = own_list(start.with_name("known.csv"), **row, label_set="k400", order="uniformerv2")
    result = k710("inspect", start, "--known-files", known)
    assert result.exit_code == 0, result.output
    line = "known       real.pyth, under another name, by its SHA-256: A model; k400 (uniformerv2)"
    assert line in result.stdout.splitlines()
    told = json.loads(k710("inspect", start, "--known-files", known, "--json").stdout)["known_file"]
    assert (told["known_by"], told["name"], told["order"]) == ("sha256", "real.pyth", "uniformerv2")
    assert json.loads(k710("inspect", start, "--json").stdout)["known_file"] is None


@pytest.mark.parametrize(("order", "is_another"), [("uniformerv2", False), ("canonical", True), ("videomaev2", True)])
def test_an_order_that_is_not_the_lists_is_pointed_out(k710, start: Path, order: str, is_another: bool):
    row = {"name": "real.pyth", "size_bytes": start.stat().st_size, "sha256": sha256(start)}
    known = own_list(start.with_name("known.csv"), **row, label_set="k400", order=order)
    result = k710("inspect", start, "--known-files", known)
    assert ("its head would be k400 (uniformerv2) by what follows" in result.stdout) is is_another


def test_the_environment_names_a_list_too(k710, start: Path, monkeypatch):
    row = {"name": "real.pyth", "size_bytes": start.stat().st_size, "sha256": sha256(start)}
    monkeypatch.setenv("K710_KNOWN_FILES", str(own_list(start.with_name("known.csv"), **row)))
    assert "real.pyth, under another name, by its SHA-256: nothing more is known" in k710("inspect", start).stdout


def test_a_name_alone_proves_nothing_and_a_difference_is_told(start: Path):
    size, digest = start.stat().st_size, sha256(start)

    def found(**values):
        identity = identify(start, [KnownFile(**{"name": start.name, "label_set": "k400", **values})])
        return identity.known_by, identity.sentence

    assert found(size_bytes=size, sha256=digest)[0] == "sha256"
    assert found(sha256=digest[:8]) == (
        "sha256",
        "mine.pyth, by its SHA-256, of which the first 8 digits are published: k400 (order not known)",
    )
    assert found() == (
        "name",
        "by its name alone, since no size or hash is public: mine.pyth, k400 (order not known)",
    )
    by, sentence = found(size_bytes=size + 5, sha256=digest)
    assert by == "differs"
    assert f"it has {size:,} bytes, and the published one {size + 5:,}; cut short in a download" in sentence
    by, sentence = found(size_bytes=size, sha256="0" * 64)
    assert by == "differs"
    assert f"its SHA-256 begins with {digest[:8]}, and that of the published one with 00000000" in sentence
    assert identify(start, [KnownFile("other.pth", size + 5, digest)]) is None


def test_nothing_is_hashed_in_vain(start: Path, monkeypatch):
    def never(path: Path) -> str:
        raise AssertionError(f"{path} was hashed")

    monkeypatch.setattr("k710.models.checkpoints.known_files.file_sha256", never)
    size = start.stat().st_size
    assert identify(start) is None
    assert identify(start, [KnownFile("other.pth", size + 1, "0" * 64), KnownFile("other.pth", None, "0" * 8)]) is None
    assert identify(start, [KnownFile(start.name, size + 1, "0" * 64)]).known_by == "differs"


def test_a_download_that_was_cut_short_is_told_by_its_name(k710, tmp_path: Path):
    path = tmp_path / "vit_s_k710_dl_from_giant.pth"
    torch.save({"module": uniformerv2(710, prefix="")}, path)
    path.write_bytes(path.read_bytes()[:-100])
    result = k710("inspect", path)
    assert result.exit_code == 1
    assert "cut short in a download" in result.stderr
    assert "and the published one 44,334,609" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: its columns are none"),
        ("file,size\na,1\n", "line 1: its columns are file, size; want name and some of size_bytes"),
        ("name,colour\na,red\n", "its columns are name, colour"),
        ("name\n\n\n../a.pth\n", "line 4: name is '../a.pth', want the name of a file"),
        ("name\na\x1bb\n", "line 2: name is"),
        ("name,size_bytes\na,-3\n", "line 2: size_bytes is '-3', want a whole number above 0"),
        ("name,size_bytes\na,1e9\n", "size_bytes is '1e9'"),
        ("name,size_bytes\na,0\n", "size_bytes is '0'"),
        ("name,sha256\na,1234\n", "sha256 is '1234', want 8 to 64"),
        ("name,sha256\na,ABCDEF0123\n", "sha256 is 'ABCDEF0123'"),
        ("name,label_set\na,k401\n", "label_set is 'k401', want k710, k400"),
        ("name,order\na,random\n", "order is 'random', want canonical, uniformerv2, videomaev2"),
        ("name,state,as_of\na,maybe,2026-01-01\n", "state is 'maybe', want answers, gone"),
        ("name,state\na,gone\n", "as_of is '', want a day where there is a state"),
        ("name,as_of\na,2026-01-01\n", "as_of is '2026-01-01', want a day where there is a state"),
        ("name,state,as_of\na,gone,yesterday\n", "as_of is 'yesterday', want a day or a month"),
        ("name,url\na,file:///etc/passwd\n", "url is 'file:///etc/passwd', want an address"),
        ("name,order\na\n", "line 2: not as many values"),
        ("name,order\na,canonical,more\n", "line 2: not as many values"),
        ("name,order\na,canonical\na,uniformerv2\n", "line 3: a appears twice; first in"),
        ('name\n"a\n', "not a CSV file"),
    ],
)
def test_bad_rows_are_named_with_file_line_and_value(k710, start: Path, text: str, message: str):
    path = start.with_name("known.csv")
    path.write_text(text)
    with pytest.raises(CheckpointError) as caught:
        read_known_files(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)
    assert k710("inspect", start, "--known-files", path).exit_code == 1


def test_a_list_that_is_not_there_or_no_text_is_refused(k710, start: Path):
    with pytest.raises(UsageError, match="no such file of known checkpoints"):
        read_known_files(start.with_name("absent.csv"))
    assert k710("inspect", start, "--known-files", start.with_name("absent.csv")).exit_code == 2
    with pytest.raises(CheckpointError, match="not a CSV file in UTF-8"):
        read_known_files(start)


def test_a_list_may_have_some_of_the_columns_in_any_order(tmp_path: Path):
    path = tmp_path / "known.csv"
    path.write_text("\ufeffsha256, name\nabcdef01, a.pth\n", encoding="utf-8")
    (row,) = read_known_files(path)
    assert row == KnownFile("a.pth", None, "abcdef01")
    assert set(COLUMNS) == {*KnownFile.__dataclass_fields__} - {"where"}
