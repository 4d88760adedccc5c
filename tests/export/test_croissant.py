"""Croissant files, read by mlcroissant, MLCommons' own reader: every row, every hash, and nothing that is not known."""

from __future__ import annotations

import json
import shutil
import warnings
from typing import Any

import pytest

from k710 import open_manifest
from k710.export.card_facts import card_facts
from k710.export.responsible_ai import RAI_FIELDS, responsible_ai
from k710.lists.labels import class_names
from k710.manifest.views import split_of, view
from k710.sources.known import KINETICS, KNOWN_SOURCES
from tests.cli.test_bad_input import assert_refused, files_of
from tests.helpers.small_stores import clips_of, fake_media, manifest_of, put

# Of mlcroissant's own use of rdflib and pandas.
pytestmark = [
    pytest.mark.filterwarnings("ignore:ConjunctiveGraph is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The inplace keyword in DataFrame.reset_index"),
]

ABOUT = """
url: https://example.org/k710
version: 1.0.0
datePublished: 2026-11-29
creator:
  - {type: Organization, name: Example Lab, url: "https://example.org"}
  - {type: Person, name: A. Person, email: a@example.org}
rai:
  dataReleaseMaintenancePlan: Updated once a year.
  dataLimitations: [Only for research.]
"""


@pytest.fixture(scope="module")
def mlc() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on import, of what it depends on
        return pytest.importorskip("mlcroissant", reason="not installed: no Croissant file was read")


@pytest.fixture(scope="module")
def built(k710, tmp_path_factory) -> Any:
    """All lists of the sample's four releases, the unlabelled test lists among them; with its Croissant file."""
    out = tmp_path_factory.mktemp("croissant") / "m"
    sources = ("--sources", ",".join(KNOWN_SOURCES), "--splits", "train,val,test")
    assert k710("build", "--annotations", "sample", "--out", out, *sources).exit_code == 0
    manifest = open_manifest(out)
    result = k710("card", out, "--croissant", out / "croissant.json")
    assert result.stdout == (
        f"{out / 'croissant.json'}: Croissant of {out}, content hash {manifest.content_hash[:16]}\n"
    )
    return manifest


@pytest.fixture(scope="module")
def croissant(built) -> dict[str, Any]:
    return json.loads((built.path / "croissant.json").read_bytes())


def rows(dataset: Any, record_set: str) -> list[dict[str, Any]]:
    """The rows of a record set, with the names of their columns and text as text."""
    return [
        {
            name.partition("/")[2]: value.decode() if isinstance(value, bytes) else value
            for name, value in record.items()
        }
        for record in dataset.records(record_set)
    ]


def test_its_reader_finds_every_row_of_the_table(mlc, built):
    dataset = mlc.Dataset(str(built.path / "croissant.json"))
    assert dataset.metadata.ctx.issues.errors == set()
    assert rows(dataset, "clips") == built.clips.to_pylist()
    assert len(built.clips) > 80


def test_its_reader_misses_nothing_that_a_user_states(mlc, k710, built, tmp_path):
    (tmp_path / "about.yaml").write_text(ABOUT)
    out = tmp_path / "croissant.json"
    arguments = ("--about", tmp_path / "about.yaml", "--base-url", "https://example.org/k710/")
    assert k710("card", built.path, "--croissant", out, *arguments).exit_code == 0
    metadata = mlc.Dataset(str(out)).metadata
    assert (metadata.ctx.issues.errors, metadata.ctx.issues.warnings) == (set(), set())
    assert [one.name for one in metadata.creators] == ["Example Lab", "A. Person"]
    assert metadata.url == "https://example.org/k710"
    assert metadata.date_published.isoformat() == "2026-11-29T00:00:00"
    assert metadata.data_release_maintenance_plan == "Updated once a year."
    assert metadata.data_limitations[-1] == "Only for research."
    assert len(metadata.data_limitations) > 2  # beside those that k710 knows
    (file,) = (one for one in metadata.distribution)
    assert file.content_url == f"https://example.org/k710/{built.about['clips'][0]['file']}"


def test_what_is_not_known_is_not_stated(croissant, built):
    assert not {"creator", "publisher", "datePublished", "version", "url"} & croissant.keys()
    stated = {name.removeprefix("rai:") for name in croissant if name.startswith("rai:")}
    assert stated == set(responsible_ai(card_facts(built)))
    assert stated < set(RAI_FIELDS)
    assert not {"annotatorDemographics", "dataSocialImpact", "dataReleaseMaintenancePlan"} & stated


def test_sources_licences_and_citations(mlc, croissant, built):
    assert croissant["license"] == ["https://creativecommons.org/licenses/by/4.0/"]
    assert croissant["citeAs"].split("\n@")[0] == KINETICS.citations(["k400"])[0]
    assert [(one["name"], one["sha256"]) for one in croissant["isBasedOn"]] == [
        (f"annotation list {entry['source']} {entry['split']}", entry["sha256"]) for entry in built.about["sources"]
    ]
    metadata = mlc.Dataset(str(built.path / "croissant.json")).metadata
    assert metadata.license == croissant["license"]
    assert metadata.cite_as == croissant["citeAs"]
    assert built.content_hash in metadata.description
    assert "train-purge" in metadata.data_preprocessing_protocol[0]


def test_public_lists_have_their_addresses(k710, built, tmp_path):
    shutil.copytree(built.path, tmp_path / "m")
    about = json.loads((tmp_path / "m" / "dataset.json").read_bytes())
    for entry in about["sources"]:
        entry["url"] = KNOWN_SOURCES[entry["source"]].list_urls[entry["split"]]
    (tmp_path / "m" / "dataset.json").write_text(json.dumps(about))
    out = tmp_path / "m" / "croissant.json"
    assert k710("card", tmp_path / "m", "--croissant", out, "--force").exit_code == 0
    first, *_ = json.loads(out.read_bytes())["isBasedOn"]
    assert first["url"] == "https://s3.amazonaws.com/kinetics/400/annotations/train.csv"


def test_classes_of_every_release(mlc, built):
    dataset = mlc.Dataset(str(built.path / "croissant.json"))
    for name in ("k710", *KNOWN_SOURCES):
        found = {row["class_id"]: row["label"] for row in rows(dataset, f"classes-{name}")}
        assert [found[index] for index in range(len(found))] == list(class_names(name))


def test_every_column_says_what_it_is(croissant, built):
    fields = {field["name"]: field for field in croissant["recordSet"][0]["field"]}
    assert list(fields) == built.clips.column_names
    assert all(field["description"] for field in fields.values())
    assert "Kinetics-400" in fields["k400_class_id"]["description"]


def test_a_changed_table_is_noticed(mlc, k710, built, tmp_path):
    shutil.copytree(built.path, tmp_path / "m")
    (table,) = (tmp_path / "m" / "clips").iterdir()
    table.write_bytes(table.read_bytes() + b"x")
    with pytest.raises(mlc.GenerationError) as raised:
        list(mlc.Dataset(str(tmp_path / "m" / "croissant.json")).records("clips"))
    assert "Hash of downloaded file" in str(raised.value.__cause__)
    assert_refused(
        k710("card", tmp_path / "m", "--croissant", tmp_path / "m" / "croissant.json", "--force"), str(table)
    )


def test_an_exported_view_with_its_media(mlc, k710, tmp_path):
    from k710.store.store import Store

    clips = clips_of(4, "val")
    manifest = open_manifest(manifest_of(k710, tmp_path, clips))
    store = Store(tmp_path / "store", "h264")
    put(store, {clips[0].clip_id: fake_media("x"), clips[1].clip_id: "gone"})
    out = tmp_path / "hf"
    arguments = ("--format", "hf", "--view", "k400", "--store", store.root, "--out", out)
    (tmp_path / "about.yaml").write_text(ABOUT)
    result = k710("export", manifest.path, *arguments, "--about", tmp_path / "about.yaml")
    assert result.exit_code == 0, result.output
    dataset = mlc.Dataset(str(out / "croissant.json"))
    assert dataset.metadata.version == "1.0.0"
    found = rows(dataset, "val")
    wanted = split_of(view(manifest.clips, "k400"), "val")
    assert [row["clip_id"] for row in found] == wanted["clip_id"].to_pylist()
    assert [row["label"] for row in found] == wanted["class_id"].to_pylist()
    assert [row["failure"] for row in found] == [None, "gone", None, None]
    assert found[0]["size"] == len(fake_media("x"))
    names = {row["class_id"]: row["label"] for row in rows(dataset, "classes-label")}
    assert [names[row["label"]] for row in found] == wanted["label"].to_pylist()


def test_the_file_belongs_to_the_manifest(k710, built, tmp_path):
    elsewhere = tmp_path / "croissant.json"
    assert_refused(
        k710("card", built.path, "--croissant", elsewhere), "its readers would not find the table", exit_code=2
    )
    inside = built.path / "other.json"
    assert_refused(k710("card", built.path, "--croissant", inside), "a Croissant file is croissant.json", exit_code=2)
    for address in ("ftp://x/y", "https://", "x"):
        result = k710("card", built.path, "--croissant", elsewhere, "--base-url", address)
        assert_refused(result, "is no address that starts with https:// or http://", exit_code=2)
    assert_refused(k710("card", built.path, "--croissant", built.path / "croissant.json"), "--force replaces it")
    assert k710("card", built.path, "--base-url", "https://x/y").exit_code == 2
    assert files_of(tmp_path) == {}


def test_a_manifest_with_its_croissant_may_be_built_again(k710, built, tmp_path):
    shutil.copytree(built.path, tmp_path / "m")
    again = k710("build", "--annotations", "sample", "--out", tmp_path / "m", "--force")
    assert again.exit_code == 0, again.output
    assert (tmp_path / "m" / "croissant.json").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "the file holds [], not keys and values"),
        ("colour: red", "unknown key 'colour'; known: url, version"),
        ("version: 1.0", "version is 1.0, not a text; write it in quotes"),
        ("rai: {dataBias: x}", "rai has the unknown key 'dataBias'; known: dataCollection"),
        ("rai: {dataBiases: 3}", "dataBiases is 3, not a text"),
        ("creator: Me", "creator holds 'Me', not keys and values"),
        ("creator: {name: Me}", "each creator needs a name, and a type: Person or Organization"),
        ("a: [", "is no YAML"),
        ("!!python/object/apply:os.system [x]", "is no YAML"),
    ],
)
def test_what_cannot_be_stated(k710, built, tmp_path, text, message):
    (tmp_path / "about.yaml").write_text(text)
    out = built.path / "croissant.json"
    result = k710("card", built.path, "--croissant", out, "--about", tmp_path / "about.yaml", "--force")
    assert_refused(result, message, exit_code=2)
    missing = k710("card", built.path, "--croissant", out, "--about", tmp_path / "none.yaml", "--force")
    assert_refused(missing, "none.yaml: No such file", exit_code=2)


def test_hostile_text_stays_text(mlc, k710, tmp_path):
    """Names and licences of a user's own source are text in the file, whatever they hold."""
    hostile = 'a"}], "@type": "x\n</script> ](https://evil.example)'
    lists = tmp_path / "lists"
    lists.mkdir()
    about = {"title": hostile.replace("\n", " "), "licence": hostile, "lists": {"train": "train.csv"}}
    (lists / "source.yaml").write_text(json.dumps(about))
    (lists / "train.csv").write_text("label,youtube_id,time_start,time_end\narchery,aaaaaaaaaaa,1,11\n")
    out = tmp_path / "m"
    result = k710("build", "--sources", f"mine={lists}", "--out", out)
    if result.exit_code:
        pytest.fail(result.output)
    assert k710("card", out, "--croissant", out / "croissant.json").exit_code == 0
    dataset = mlc.Dataset(str(out / "croissant.json"))
    assert len(rows(dataset, "clips")) == 1
    assert dataset.metadata.license == [hostile]


def test_of_a_users_own_source_nothing_is_known_of_its_making(k710, tmp_path):
    (tmp_path / "mine.csv").write_text("label,youtube_id,time_start,time_end,split\narchery,aaaaaaaaaaa,1,11,train\n")
    assert k710("build", "--sources", f"mine={tmp_path / 'mine.csv'}", "--out", tmp_path / "m").exit_code == 0
    known = responsible_ai(card_facts(open_manifest(tmp_path / "m")))
    assert not {"dataAnnotationPlatform", "dataBiases"} & known.keys()
    assert not any("Kinetics-400" in text or "people" in text for texts in known.values() for text in texts)
