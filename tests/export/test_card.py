"""Dataset cards, read by the Hub's own library and by a Markdown parser; hostile manifests among them."""

from __future__ import annotations

import json
import re
import shlex
import shutil

import pyarrow.compute as pc
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from k710 import open_manifest
from k710.export.card import card, plain
from k710.export.card_facts import card_facts
from k710.manifest.views import split_of, view
from k710.sample import LISTS
from k710.sample.footage import Clip
from k710.sources.known import KINETICS, KNOWN_SOURCES
from k710.store.store import Store
from tests.cli.test_bad_input import assert_refused, files_of
from tests.helpers.small_stores import clips_of, fake_media, manifest_of, put


@pytest.fixture(scope="module")
def built(k710, tmp_path_factory):
    """All four releases of the sample, test lists and a synonym of the user's own among them."""
    folder = tmp_path_factory.mktemp("card")
    (folder / "synonyms.csv").write_text("name,label\nmy archery,archery\n")
    result = k710(
        *("build", "--annotations", "sample", "--recipe", "k710-strict", "--sources", ",".join(KNOWN_SOURCES)),
        *("--precedence", "k400,k600", "--synonyms", folder / "synonyms.csv", "--out", folder / "m"),
    )
    assert result.exit_code == 0, result.output
    return open_manifest(folder / "m")


def tables(text: str) -> list[list[list[str]]]:
    """The cells of every table, as a Markdown parser sees them."""
    found: list[list[list[str]]] = []
    for token in MarkdownIt("commonmark").enable("table").parse(text.split("\n---\n", 1)[1]):
        if token.type == "table_open":
            found.append([])
        elif token.type == "tr_open":
            found[-1].append([])
        elif token.type == "inline" and found and token.level > 2:
            found[-1][-1].append("".join(child.content for child in token.children))
    return found


def header_of(text: str) -> dict:
    return yaml.safe_load(text.split("---\n")[1])


def test_the_hub_reads_the_header(built):
    hub = pytest.importorskip("huggingface_hub", reason="not installed: the header was not read by the Hub's library")
    read = hub.DatasetCard(card(built))
    assert read.data.license == "other"
    assert read.data.task_categories == ["video-classification"]
    assert read.data.size_categories == ["n<1K"]
    assert read.data.pretty_name == "Kinetics-710"
    assert {"k400", "k600", "k700", "k700_2020", "action-recognition"} <= set(read.data.tags)
    (file,) = built.about["clips"]
    assert read.data.to_dict()["configs"] == [
        {"config_name": "default", "data_files": [{"split": "clips", "path": [file["file"]]}]}
    ]
    assert read.text.lstrip().startswith("# Kinetics-710")
    written = hub.DatasetCardData(**header_of(card(built)))
    assert written.to_dict() == read.data.to_dict()


def test_a_manifest_with_its_card_is_a_dataset_of_the_hub(k710, built, tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets", reason="not installed: no dataset was opened")
    folder = tmp_path / "m"
    shutil.copytree(built.path, folder)
    result = k710("card", folder, "--out", folder / "README.md")
    assert result.stdout == f"{folder / 'README.md'}: the card of {folder}, content hash {built.content_hash[:16]}\n"
    opened = datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    assert opened["clips"]["clip_id"][:] == built.clips["clip_id"].to_pylist()
    assert opened["clips"]["label"][:] == built.clips["label"].to_pylist()
    # The manifest stays one: it may be built again.
    again = k710("build", "--annotations", "sample", "--out", folder, "--force")
    assert again.exit_code == 0, again.output


def test_the_counts_are_those_of_the_views(built):
    text = card(built)
    shown, *_ = tables(text)
    assert shown[0] == ["view", "train", "val", "test"]
    assert [row[0] for row in shown[1:]] == ["k710", "k400", "k600", "k700", "k700_2020"]
    for name, *counts in shown[1:]:
        clips = view(built.clips, name)
        assert [int(count or 0) for count in counts] == [
            split_of(clips, split).num_rows for split in ("train", "val", "test")
        ]
    reasons = next(table for table in tables(text) if table[0][0] == "drop reason")
    assert {row[0]: int(row[1]) for row in reasons[1:]} == {
        reason: pc.sum(pc.equal(built.clips["drop_reason"].cast("string"), reason)).as_py()
        for reason in ("duplicate_id", "leaked", "unlabelled")
    }


def test_sources_and_hashes(built):
    lists = next(table for table in tables(card(built)) if table[0][0] == "list")
    assert [row[:4] for row in lists[1:]] == [
        [f"{e['source']} {e['split']}", str(e["rows"]), "0", e["sha256"]] for e in built.about["sources"]
    ]
    assert [row[4] for row in lists[1:]] == [entry["file"] for entry in built.about["sources"]]
    assert built.content_hash in card(built)


def test_the_command_builds_the_same_rows(k710, built, tmp_path, monkeypatch):
    """The command as it stands in the card, with the lists and the synonyms where it wants them."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(LISTS, "LISTS")
    text = card(built)
    (synonyms,) = (table for table in tables(text) if table[0] == ["name", "label"])
    (tmp_path / "synonyms.csv").write_text("".join(",".join(row) + "\n" for row in synonyms))
    (line,) = re.findall(r"^\$ k710 (.*)$", text, re.MULTILINE)
    assert k710(*shlex.split(line)).exit_code == 0
    again = open_manifest("manifests/k710")
    assert again.content_hash == built.content_hash
    assert again.about == built.about


def test_the_lists_of_public_addresses_need_no_folder(built, tmp_path):
    about = json.loads(json.dumps(built.about))
    for entry in about["sources"]:
        entry["url"] = KNOWN_SOURCES[entry["source"]].list_urls[entry["split"]]
    about["synonyms"] = {}
    folder = tmp_path / "m"
    shutil.copytree(built.path, folder)
    (folder / "dataset.json").write_text(json.dumps(about))
    text = card(open_manifest(folder))
    assert "--annotations" not in text
    assert "--synonyms" not in text
    assert "https:&#47;&#47;s3.amazonaws.com/kinetics/400/annotations/train.csv" in text


def test_label_doubts(built):
    doubts = next(table for table in tables(card(built)) if table[0][-1] == "doubt")
    assert {row[0] for row in doubts[1:]} == {
        "picking fruit", "drinking", "sniffing", "skiing (not slalom or crosscountry)",
    }  # fmt: skip
    k400 = built.clips.filter(pc.is_valid(built.clips["split"])).to_pylist()
    wanted = sum(row["label"] == "picking apples" and row["k400_split"] in ("train", "val") for row in k400)
    assert ["picking fruit", "picking apples", "Kinetics-400", str(wanted), "apples are one fruit of many"] in doubts
    assert wanted


def test_doubts_count_the_clips_that_were_kept(k710, tmp_path):
    spans = [Clip("video-00001", start, start + 2, "picking fruit", "val") for start in (0, 10)]
    text = card(open_manifest(manifest_of(k710, tmp_path, spans)))
    (row,) = (row for table in tables(text) for row in table if row[0] == "picking fruit")
    assert row == ["picking fruit", "picking apples", "Kinetics-400", "1", "apples are one fruit of many"]


def test_what_the_store_has(k710, tmp_path):
    clips = clips_of(4, "val")
    manifest = open_manifest(manifest_of(k710, tmp_path, clips))
    store = Store(tmp_path / "elsewhere", "h264")
    put(store, {clips[0].clip_id: fake_media("x"), clips[1].clip_id: "gone"})
    result = k710("card", manifest.path, "--store", store.root)
    assert result.exit_code == 0, result.output
    media = next(table for table in tables(result.stdout) if "fetched" in table[0])
    assert media == [
        ["", "clips", "fetched", "gone", "not settled"],
        ["k710 val", "4", "1", "1", "2"],
        ["k400 val", "4", "1", "1", "2"],
    ]
    assert "## Media" not in k710("card", manifest.path).stdout
    assert_refused(k710("card", manifest.path, "--store", tmp_path), f"{tmp_path}: no store there")


def test_papers_are_cited_of_the_releases_that_are_in_it(built):
    assert len(KINETICS.citations(["k400"])) == 3
    text = card(built)
    for number in ("1705.06950", "1808.01340", "1907.06987", "2010.10864", "2211.09552", "2303.16727"):
        assert f"arXiv:{number}" in text
    for entry in KINETICS.citations(KNOWN_SOURCES):
        assert entry.count("{") == entry.count("}")


def test_a_later_step_is_not_passed_over_in_silence(k710, tmp_path, monkeypatch):
    """Drop reasons that no build gives mean that the command alone makes another dataset."""
    manifest = open_manifest(manifest_of(k710, tmp_path, clips_of(2, "val")))
    assert "A later step" not in card(manifest)
    assert "The content hash must be the same." in card(manifest)
    monkeypatch.setattr("k710.export.card_facts._REASONS_OF_BUILD", ())
    assert card_facts(manifest).is_as_built  # nothing was dropped here
    other = tmp_path / "other"
    assert k710("build", "--annotations", "sample", "--out", other).exit_code == 0
    assert "A later step" in card(open_manifest(other))
    assert "The content hash must be the same." not in card(open_manifest(other))


# What a hostile manifest may say.


HOSTILE = [
    "<script>alert(1)</script>",
    "[x](javascript:alert(1))",
    "a|b",
    "`",
    "\n# Title",
    "![](http://x/y.png)",
    "&lt;b&gt;",
]


# Of all characters those that mean something to Markdown or to a terminal; drawing from all of Unicode is slow.
LETTERS = "aä1 \n\t\r\x00\x1b\u2028\u202e`*_[](){}<>|~$#@!\\&;:/.-+='\""


@settings(suppress_health_check=[HealthCheck.too_slow])  # other work on the machine is no failure
@given(st.lists(st.sampled_from(HOSTILE) | st.text(LETTERS, max_size=8), max_size=4).map("".join))
def test_text_stays_text(text):
    """Nothing that data says is a tag, a link, an image, a heading or the end of a cell."""
    line = plain(text)
    assert "\n" not in line
    page = f"| a | b |\n| --- | --- |\n| {line} | end |\n"
    tokens = MarkdownIt("commonmark", {"linkify": False}).enable("table").parse(page)
    cells = [token for token in tokens if token.type == "inline"]
    assert [cell.content for cell in cells][-1] == "end"
    assert len(cells) == 4
    kinds = {child.type for child in cells[2].children}
    assert kinds <= {"text", "text_special", "softbreak"}, kinds
    shown = "".join(child.content for child in cells[2].children)
    printable = "".join(c if c.isprintable() else " " for c in text)
    assert shown.split() == printable.split()


def test_a_hostile_manifest(k710, built, tmp_path):
    about = json.loads(json.dumps(built.about))
    for number, entry in enumerate(about["sources"]):
        entry["file"] = entry["sha256"] = HOSTILE[number % len(HOSTILE)]
    about["synonyms"] = {text: text for text in HOSTILE}
    about["tools"] = {text: text for text in HOSTILE}
    shutil.copytree(built.path, tmp_path / "m")
    (tmp_path / "m" / "dataset.json").write_text(json.dumps({**about, "content_hash": "`<script>"}))
    assert_refused(k710("card", tmp_path / "m"), "the rows have content hash")
    (tmp_path / "m" / "dataset.json").write_text(json.dumps(about))
    text = card(open_manifest(tmp_path / "m"))
    html = MarkdownIt("commonmark").enable("table").render(text.split("\n---\n", 1)[1])
    assert "<script" not in html
    assert "<img" not in html
    assert re.findall(r'href="([^"]*)"', html) == ["https://creativecommons.org/licenses/by/4.0/"]
    assert html.count("<h1>") == 1
    assert set(header_of(text)) == set(header_of(card(built)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sources": [{"source": "k400"}]}, "dataset.json is damaged: KeyError"),
        ({"sources": "k400"}, "dataset.json is damaged: TypeError"),
        ({"synonyms": ["x"]}, "dataset.json is damaged: AttributeError"),
        ({"recipe": {"leak_policy": "$(rm -rf ~)"}}, "unknown leak policy"),
        ({"recipe": {"nonsense": 1}}, "nonsense"),
    ],
)
def test_a_damaged_manifest(k710, built, tmp_path, change, message):
    shutil.copytree(built.path, tmp_path / "m")
    (tmp_path / "m" / "dataset.json").write_text(json.dumps(built.about | change))
    result = k710("card", tmp_path / "m")
    assert_refused(result, message, exit_code=2 if "policy" in message else 1)


@pytest.mark.parametrize("name", ["dataset.json", "CARD.md", "clips/README.md", "store/README.md"])
def test_no_other_file_of_the_manifest_is_a_card(k710, built, name):
    before = files_of(built.path)
    result = k710("card", built.path, "--out", built.path / name, "--force")
    assert_refused(result, "where a card is README.md and nothing else", exit_code=2)
    assert files_of(built.path) == before


def test_a_readme_of_your_own_is_safe(k710, built, tmp_path, monkeypatch):
    (tmp_path / "README.md").write_text("mine")
    arguments = ("card", built.path, "--out", tmp_path / "README.md")
    assert_refused(k710(*arguments), f"{tmp_path / 'README.md'}: exists already; --force replaces it")
    with monkeypatch.context() as patched:

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        patched.setattr("os.fsync", full)
        assert_refused(k710(*arguments, "--force"), "README.md: No space left on device")
    assert files_of(tmp_path) == {"README.md": b"mine"}
    assert k710(*arguments, "--force").exit_code == 0
    assert (tmp_path / "README.md").read_text() == k710("card", built.path).stdout == card(built)
