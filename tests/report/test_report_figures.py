"""The figures of a report: right by other means, and the same ones on the page, on the terminal and for machines."""

from __future__ import annotations

import copy
import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from k710 import open_manifest
from k710.cli.stats import SHOWN_ROWS
from k710.curation.audit import audit
from k710.curation.build import CurationRecipe, build
from k710.errors import ManifestError, ReportError, StoreError
from k710.fetch.encode.jobs import Made
from k710.fetch.scratch import scratch_folder
from k710.fetch.store_unit import StoreUnit
from k710.lists.annotations import find_lists
from k710.lists.labels import class_names, row_map
from k710.manifest.pairs import PAIRS_SCHEMA, write_pairs
from k710.manifest.read import Manifest
from k710.manifest.schema import PAIRS_FILE
from k710.report.charts import AMBER, BLUE, TEAL, VIOLET, kinds_chart
from k710.report.figures.gather import find_store, gather
from k710.report.figures.media import _histogram, _kinds
from k710.report.figures.near_duplicates import near_duplicate_figures
from k710.report.figures.runs import POINTS, _thinned, run_figures
from k710.report.page import _number_columns, _shown, render_page
from k710.report.parts import Link, Table
from k710.report.sections import sections
from k710.report.tables import class_table, conflict_tables, hardest_hit, histogram_table, youtube
from k710.sample import LISTS
from k710.sample.footage import Clip
from k710.sources.known import KNOWN_SOURCES
from k710.store.store import Store
from tests.helpers.report_pages import tables_of, write_run
from tests.helpers.small_stores import MEASURED, about, clips_of, fake_media, film, made_of, manifest_of

FAILED = {"gone": 3, "private": 1, "corrupt": 2}


@pytest.fixture(scope="module")
def with_tests(tmp_path_factory) -> Manifest:
    """The sample with its test lists, so that every policy can be told."""
    sources, splits = ("k400", "k600", "k700"), ("train", "val", "test")
    recipe = CurationRecipe(sources, splits).checked()
    return build(recipe, find_lists(LISTS, sources, splits), tmp_path_factory.mktemp("m") / "m")


@pytest.fixture(scope="module")
def stored(tmp_path_factory, k710) -> Manifest:
    """A manifest of sixteen clips, ten of them in its store, the others failed; and a clip of some other manifest."""
    folder = tmp_path_factory.mktemp("stored")
    clips = [*clips_of(12), *clips_of(4, "val", first=100)]
    manifest = open_manifest(manifest_of(k710, folder, clips))
    store = Store(manifest.path / "store", "h264")
    ids = [clip.clip_id for clip in clips]
    reasons = [name for name, count in FAILED.items() for _ in range(count)]
    with scratch_folder(store.root) as scratch:
        unit = StoreUnit(store, "local", scratch)
        for number, clip_id in enumerate([*ids[: len(ids) - len(reasons)], "other-video_000000_000002"]):
            measured = dataclasses.replace(MEASURED, width=64 if number % 3 else 48, duration_s=2.0 + number / 10)
            made = made_of(scratch, clip_id, fake_media(clip_id, 500 + 10 * number), measured)
            unit.add(dataclasses.replace(made, flags=("frozen",) if number == 4 else ()), origin="x", came_from="y")
        for number, (clip_id, reason) in enumerate(zip(ids[-len(reasons) :], reasons, strict=True)):
            unit.add(Made(clip_id, reason, f"message {number % 2}"), origin="x", came_from="y")
        unit.commit(about())
    return manifest


# Where the rows went, and what the lists share.


def test_every_row_flows_somewhere(sample):
    found = gather(sample, store=None).attrition
    for entry in found["lists"]:
        name = f"{entry['source']} {entry['split']}"
        assert sum(flow["rows"] for flow in found["flows"] if flow["list"] == name) == entry["rows"]
    into = {flow["outcome"]: 0 for flow in found["flows"]}
    for flow in found["flows"]:
        into[flow["outcome"]] += flow["rows"]
    counts = sample.about["counts"]
    assert (into["K710 train"], into["K710 val"]) == (counts["train"], counts["val"])
    assert into["leaked"] == counts["fates"]["leaked"]


@pytest.mark.parametrize("policy", ["train-purge", "val-purge"])
def test_kept_rows_lead_into_the_split_of_their_list_under_each_policy(tmp_path, policy):
    recipe = CurationRecipe(leak_policy=policy).checked()
    manifest = build(recipe, find_lists(LISTS, recipe.sources, recipe.splits), tmp_path / "m")
    flows = gather(manifest, store=None).attrition["flows"]
    for split in ("train", "val"):
        into = sum(flow["rows"] for flow in flows if flow["outcome"] == f"K710 {split}")
        assert into == manifest.about["counts"][split]


def test_overlaps_and_policies_are_those_of_the_audit(with_tests):
    found, told = gather(with_tests, store=None).overlap, audit(with_tests.clips)
    assert (found["lists"], found["policies"]) == (told["lists"], told["policies"])
    assert (found["by_id"], found["by_clip"]) == (told["overlap"]["by_id"], told["overlap"]["by_clip"])
    # docs/audit.md: what each policy leaves, so what it takes away is known too.
    assert {name: one["leaked_rows"] for name, one in found["policies"].items()} == {
        "train-purge": 4, "train-purge, holdout val,test": 6, "val-purge": 4,
    }  # fmt: skip
    videos = {name: one["leaked_videos"] for name, one in found["policies"].items()}
    assert videos == {"train-purge": 4, "train-purge, holdout val,test": 6, "val-purge": 4}


def test_a_manifest_of_val_lists_alone_has_no_policies(tmp_path):
    recipe = CurationRecipe(("k600", "k700"), ("val",)).checked()
    manifest = build(recipe, find_lists(LISTS, recipe.sources, recipe.splits), tmp_path / "m")
    figures = gather(manifest, store=None)
    assert figures.overlap["policies"] == {}
    assert figures.classes["splits"] == ["K710 val", "k600 val", "k700 val"]
    text = [block for section in sections(figures, draw=True) for block in section.blocks if isinstance(block, str)]
    assert any(sentence.startswith("These lists allow no policy") for sentence in text)


# Conflicts and classes.


def test_conflicts_are_named_with_their_labels(sample):
    found = gather(sample, store=None).conflicts
    assert found["counts"] == sample.about["counts"]["conflicts"]
    (first, second) = found["labels_of_one_clip"]
    assert (first["clip_id"], first["label"], first["other_labels"]) == (
        "two-labels0_000033_000043", "archery", ["abseiling"],
    )  # fmt: skip
    assert second["lists"] == ["k600 train"]
    assert found["label_pairs"] == [
        {"label": "archery", "other": "abseiling", "clips": 1},
        {"label": "bouncing on trampoline", "other": "juggling balls", "clips": 1},
    ]
    spans = {video["youtube_id"]: len(video["clips"]) for video in found["spans_of_one_id"]}
    assert spans == {"leaked-6000": 2, "two-spans-0": 2, "two-spans-1": 2, "two-spans-2": 2}


def test_long_lists_of_conflicts_are_cut_and_say_so(k710, tmp_path, monkeypatch):
    monkeypatch.setattr("k710.report.figures.conflicts.SHOWN", 2)
    manifest = build(
        CurationRecipe().checked(), find_lists(LISTS, ("k400", "k600", "k700"), ("train", "val")), tmp_path / "m"
    )
    tables = {table.title: table for table in conflict_tables(gather(manifest, store=None).conflicts)}
    assert len(tables["Videos with several spans (4)"].rows) == 2
    assert tables["Videos with several spans (4)"].more == 2
    told = k710("stats", manifest.path).stdout
    assert "\nand 2 more\n" in told
    assert "k710 audit --json names all of them" in told


def test_classes_are_counted_as_pandas_counts_them(with_tests):
    frame = with_tests.to_pandas()
    rows = {row["label"]: row["clips"] for row in gather(with_tests, store=None).classes["rows"]}
    for split in ("train", "val"):
        counts = frame[frame["split"] == split]["label"].value_counts()
        assert {label: row[f"K710 {split}"] for label, row in rows.items() if row[f"K710 {split}"]} == {
            label: count for label, count in counts.items() if count
        }
    for source in ("k400", "k600", "k700"):
        to_release = row_map(source, "k710")  # for each K710 class the release's index
        val = frame[frame[f"{source}_split"] == "val"][f"{source}_class_id"].value_counts()
        for label, row in rows.items():
            index = to_release[class_names("k710").index(label)]
            assert row[f"{source} val"] == val.get(index, 0), (source, label)


def test_how_uneven_classes_are(sample):
    classes = gather(sample, store=None).classes
    train = next(row for row in classes["imbalance"] if row["list"] == "K710 train")
    sizes = sample.to_pandas().query("split == 'train'")["label"].value_counts()
    sizes = sizes[sizes > 0]
    assert (train["smallest"], train["largest"]) == (sizes.min(), sizes.max())
    assert train["median"] == sizes.median()
    assert train["ratio"] == round(sizes.max() / sizes.min(), 2)
    assert train["clips"] == sample.about["counts"]["train"]


# Media.


def test_media_are_counted_by_hand(stored):
    found = gather(stored, store=Store(stored.path / "store", "h264"))
    media = found.media
    assert (media["settled"], media["fetched"]) == (16, 10), "a clip of another manifest is not counted"
    assert {one["kind"]: one["clips"] for one in media["failures"]} == FAILED
    assert media["failures"][0]["meaning"].startswith("removed")
    assert media["failures"][0]["messages"] == [{"kind": "message 0", "clips": 2}, {"kind": "message 1", "clips": 1}]
    assert media["bytes"] == sum(500 + 10 * number for number in range(10))
    assert media["flags"] == [{"kind": "frozen", "clips": 1}]
    assert media["resolutions"] == [{"kind": "64x48", "clips": 6}, {"kind": "48x48", "clips": 4}]
    assert media["duration_s"] == pytest.approx(sum(2 + number / 10 for number in range(10)))
    assert [line["fetched"] for line in media["status"] if line["view"] == "k710"] == [10, 0]


def test_classes_that_lost_most_come_first(stored):
    figures = gather(stored, store=Store(stored.path / "store", "h264"))
    rows = {row["label"]: row for row in figures.classes["rows"]}
    assert sum(row["fetched"] for row in rows.values()) == 10
    assert sum(row["failed"] for row in rows.values()) == 6
    assert sum(row["vanished"] for row in rows.values()) == 4
    parts = [row["failed"] / (row["failed"] + row["fetched"]) for row in hardest_hit(figures.classes)]
    assert parts == sorted(parts, reverse=True)
    table = class_table(figures.classes)
    assert table.columns[-3:] == ("fetched", "failed", "part failed")


@given(st.lists(st.floats(0.1, 1e9), min_size=1, max_size=60), st.booleans())
def test_a_histogram_holds_every_value_once(values, whole):
    found = _histogram(pa.chunked_array([values], pa.float64()), whole=whole)
    assert found is not None
    edges, counts = np.array(found["edges"]), found["counts"]
    assert sum(counts) == len(values)
    assert (np.diff(edges) > 0).all()
    assert len(counts) <= 62
    for low, high, count in zip(edges, edges[1:], counts, strict=False):
        assert count == sum(low <= value < high for value in values) or high == edges[-1]
    if whole:
        assert (edges == np.round(edges)).all()


def test_what_is_no_number_is_in_no_histogram():
    assert _histogram(pa.chunked_array([[float("nan"), None, float("inf")]], pa.float64())) is None
    assert _histogram(pa.chunked_array([[1.0, float("nan")]], pa.float64()))["counts"] == [1]


@given(st.lists(st.sampled_from("abcdefgh"), max_size=40), st.integers(1, 5))
def test_kinds_add_up_and_the_frequent_ones_come_first(values, shown):
    found = _kinds(pa.chunked_array([values], pa.string()), shown=shown)
    assert sum(one["clips"] for one in found) == len(values)
    named = [one for one in found if one["kind"] is not None]
    assert len(named) <= shown
    assert [one["clips"] for one in named] == sorted((one["clips"] for one in named), reverse=True)


def test_the_store_that_is_meant(stored, sample, tmp_path):
    assert find_store(sample, None, None) is None
    found = find_store(stored, None, None)
    assert (found.root, found.profile_folder) == (stored.path / "store", "h264")
    with pytest.raises(StoreError, match="no store there"):
        find_store(sample, tmp_path / "nothing", None)
    with pytest.raises(StoreError, match="has no profile 'frames'; it has h264"):
        find_store(stored, None, "frames")
    (tmp_path / "media" / "source").mkdir(parents=True)
    assert find_store(sample, tmp_path, None).profile_folder == "source"


# Near-duplicates and runs.


def test_near_duplicates_are_read_and_grouped(tmp_path, k710):
    manifest = open_manifest(manifest_of(k710, tmp_path, [*clips_of(8), *clips_of(1, "val", first=9)]))
    assert near_duplicate_figures(manifest) is None
    ids = manifest.clips["clip_id"].to_pylist()
    pairs = {
        "clip_id": [ids[4], ids[0], ids[0]], "other_clip_id": [ids[5], ids[1], ids[2]],
        "distance": [0.5, 0.25, 0.125], "shift_s": [0, 0, 0], "mirrored": [False, True, False],
        "group": [2, 1, 1], "drop_clip_id": [None, ids[1], ids[2]], "kept_clip_id": [None, ids[0], ids[0]],
    }  # fmt: skip
    said = {"parameters": ["no", "view"], "counts": {"clips": "many", "compared": 3}}
    write_pairs(manifest, pa.table(pairs, schema=PAIRS_SCHEMA), said, [manifest.content_hash])
    found = near_duplicate_figures(manifest)
    assert [found[name] for name in ("view", "threshold_bits", "clips", "compared")] == [None, None, None, 3]
    assert (found["pairs"], found["groups"], found["mirrored"], found["dropped"]) == (3, 2, 1, 2)
    assert found["out"] == 0
    first, second = found["shown"]
    assert (first["group"], first["distance"], first["num_clips"]) == (1, 0.125, 3)
    assert set(first["clips"]) == {ids[0], ids[1], ids[2]}
    assert second["dropped"] == []


def test_pairs_that_cannot_be_shown_say_why_and_cost_no_report(tmp_path, k710):
    manifest = open_manifest(manifest_of(k710, tmp_path, [*clips_of(4), *clips_of(1, "val", first=9)]))
    path = manifest.path / PAIRS_FILE
    path.write_bytes(b"PAR1 not really")
    assert f"{path}: damaged" in near_duplicate_figures(manifest)["problem"]
    write_pairs(manifest, PAIRS_SCHEMA.empty_table(), {}, ["0" * 64])
    found = near_duplicate_figures(manifest)
    assert "belongs to another version of the manifest" in found["problem"]
    (section,) = (one for one in sections(gather(manifest, store=None), draw=False) if one.title == "Near-duplicates")
    assert section.blocks == [found["problem"]]


def test_runs_are_read_though_they_are_still_written(tmp_path):
    run = write_run(tmp_path / "runs" / "one", log='{"kind": "step", "step": 6, "lo')
    found = run_figures([tmp_path / "runs"])
    (read,) = found["runs"]
    assert (read["name"], read["steps"], read["best_top1"], read["best_epoch"]) == ("runs/one", 5, 0.5, 1)
    assert read["curves"]["loss"] == {"step": [1, 2, 3, 4, 5], "value": [4.0, 2.0, 1.333333, 1.0, 0.8]}
    assert read["failed_clips"] == 2
    (evaluation,) = found["evaluations"]
    assert (evaluation["name"], evaluation["scores"]["top1"]) == ("runs/one/eval", 0.5)
    assert [row["label"] for row in evaluation["classes"]] == ["abseiling", "archery"]
    assert run_figures([run])["runs"][0]["name"] == "one"
    (run / "log.jsonl").unlink()
    assert run_figures([run])["runs"][0]["steps"] == 0, "a run that has not begun its first step"


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("run.json", "{", "run.json: damaged"),
        ("run.json", "[]", "run.json: damaged"),
        ("run.json", "{}", "a part is missing"),
        ("log.jsonl", '{"kind": "step", "step": 1}\n', "a line lacks a part"),
        ("eval/summary.json", "{}", "a part is missing"),
        ("eval/classes.csv", "label\nx\n", "a part is missing"),
        ("eval/classes.csv", "class_id,label,num_clips,top1,top5\n0,x,1,nan,1\n", "top1 is nan"),
        ("eval/confusions.csv", None, "cannot be read"),
    ],
)
def test_runs_that_are_damaged(tmp_path, file, content, message):
    run = write_run(tmp_path / "one")
    if content is None:
        (run / file).unlink()
    else:
        (run / file).write_text(content)
    with pytest.raises(ReportError, match=message):
        run_figures([run])


def test_folders_without_runs(tmp_path):
    with pytest.raises(ReportError, match="no folder of runs there"):
        run_figures([tmp_path / "nothing"])
    with pytest.raises(ReportError, match="holds no run"):
        run_figures([tmp_path])


@given(st.lists(st.floats(-1e3, 1e3) | st.none(), max_size=1000))
def test_a_thinned_curve_keeps_its_end_and_its_mean(values):
    found = _thinned(list(enumerate(values, 1)))
    assert len(found["step"]) == len(found["value"]) <= POINTS
    if values:
        assert found["step"][-1] == len(values)
    if values and None not in values and len(values) <= POINTS:
        assert found["value"] == pytest.approx(values, rel=1e-6)


# The same numbers everywhere.


def test_page_terminal_and_machine_say_the_same(k710, stored, tmp_path):
    run = write_run(tmp_path / "runs" / "one")
    options = (stored.path, "--runs", run.parent)
    page = tmp_path / "report.html"
    assert k710("report", *options, "--out", page).exit_code == 0
    figures = gather(stored, store=Store(stored.path / "store", "h264"), runs=[run.parent])
    told = k710("stats", *options)
    assert json.loads(k710("stats", *options, "--json").stdout) == json.loads(json.dumps(dataclasses.asdict(figures)))
    shown, terminal = tables_of(page.read_text()), told.stdout.splitlines()
    tables = [table for section in sections(figures, draw=False) for table in section.tables()]
    assert len(tables) > 15
    for table in tables:
        columns, rows = shown[table.title]
        assert columns == list(table.columns), table.title
        assert rows == [[_shown(cell) for cell in row] for row in table.rows], table.title
        start = terminal.index(table.title) + 3
        for line, row in zip(terminal[start:], rows[:SHOWN_ROWS], strict=False):
            assert line.split() == " ".join(row).split(), table.title
    assert {table.title for table in tables} == set(shown)


def test_numbers_of_the_page_are_those_of_the_build(sample, k710, tmp_path):
    assert k710("report", sample.path, "--out", tmp_path / "report.html").exit_code == 0
    page = (tmp_path / "report.html").read_text()
    tables = tables_of(page)
    _, rows = tables["What became of every list row (train-purge, holdout val)"]
    counts = sample.about["counts"]
    assert rows[-1][:3] == ["all lists", str(counts["rows"]), str(counts["fates"]["kept"])]
    assert "the manifest has no store" in page


def test_the_papers_counts_stand_beside_lists_of_a_releases_size_alone(sample):
    title = "Compared with the releases' first lists and with UniFormerV2, Table 10"
    said = "These lists are a miniature of the releases&#39;; a build of real lists shows the paper&#39;s counts here."
    small = render_page("m", sections(gather(sample, store=None), draw=True))
    assert title not in tables_of(small)
    assert said in small
    counts = copy.deepcopy(sample.about["counts"])
    counts["lists"][0]["rows"] = 2463  # a hundredth of K400's first train list
    large = Manifest(sample.path, {**sample.about, "counts": counts})
    columns, rows = tables_of(render_page("m", sections(gather(large, store=None), draw=True)))[title]
    assert columns == ["", "here", "first published", "paper", "here - paper"]
    assert ["K710 train", f"{counts['train']}", "", "658,340", f"{counts['train'] - 658340:+,}"] in rows
    assert said not in render_page("m", sections(gather(large, store=None), draw=True))


def test_numbers_stand_at_the_right_whatever_their_form_and_hashes_do_not():
    numbers = (3, "1,200", "2.08", "0.0002089", "1.534e-06", "10.5%", "-3", "+1,139")
    texts = ("", None, "-", "12 to 22 s", "4 x 3", "640x480", "1" * 16, "-12a", "1.2.3", Link("1", "https://a"))
    assert _number_columns(Table(("",) * 9, [("1", *numbers)])) == set(range(1, 9))
    assert _number_columns(Table(("",) * 11, [("1", *texts)])) == set()


def test_a_histogram_and_a_bar_say_of_what():
    kinds = [{"kind": "h264", "clips": 3}, {"kind": "vp9", "clips": 1}]
    assert kinds_chart(kinds, "codec", "Codecs").figure["layout"]["xaxis"]["title"]["text"] == "clips"
    found = {"edges": [0, 1000, 2000], "counts": [1, 2], "median": 1234.0}
    assert histogram_table(found, "kB", "Bytes per clip", 1e3).note == "Median 1.234 kB."


def test_links_quote_what_they_are_given():
    assert youtube("-abc&t=1?#<", 7).href == "https://www.youtube.com/watch?v=-abc%26t%3D1%3F%23%3C&t=7"


def test_a_manifest_without_counts_or_with_damaged_ones(sample):
    about = {key: value for key, value in sample.about.items() if key != "counts"}
    figures = gather(Manifest(sample.path, about), store=None)
    assert figures.attrition is None
    assert sections(figures, draw=True)[1].blocks == ["This manifest holds no counts of its build."]
    damaged = Manifest(sample.path, {**sample.about, "counts": {"lists": [{"source": "k400"}]}})
    with pytest.raises(ManifestError, match="damaged: its counts lack a part"):
        gather(damaged, store=None)


def test_all_releases_have_a_colour():
    colours = [source.colour for source in KNOWN_SOURCES.values()]
    assert colours == [BLUE, TEAL, VIOLET, AMBER]


def test_a_terminal_obeys_no_code_of_the_data(k710, stored, tmp_path):
    run = write_run(tmp_path / "one", names=("\x1b[31mred", "\x07bell"))
    told = k710("stats", stored.path, "--runs", run)
    assert told.exit_code == 0
    assert not set(told.stdout) & {"\x1b", "\x07"}
    assert Path(run).exists()


def test_doubtful_labels_are_shown_with_their_filmstrips(sample, k710, tmp_path):
    figures = gather(sample, store=None)
    assert figures.doubts["clips"] == 2
    shown = {doubt["clip_id"]: doubt for doubt in figures.doubts["shown"]}
    conflict = shown["two-labels0_000033_000043"]
    assert (conflict["label"], conflict["suggested"], conflict["kinds"]) == ("archery", ["abseiling"], ["release"])
    folder = Path(shutil.copytree(sample.path, tmp_path / "m"))
    film(tmp_path / "clips", [Clip("two-labels0", 33, 43, "archery", "val")])
    fetched = k710("fetch", folder, "--from", f"local:{tmp_path / 'clips'}", "--workers", 1)
    assert fetched.exit_code == 0, fetched.output
    assert k710("report", folder, "--gallery", 1, "--out", tmp_path / "r.html").exit_code == 0
    page = (tmp_path / "r.html").read_text()
    assert "Doubtful labels" in page
    assert page.count("contradicted by abseiling") == 1
    assert "Doubtful labels" in k710("stats", folder).stdout


def test_without_a_doubt_there_is_no_section(k710, tmp_path):
    manifest = open_manifest(manifest_of(k710, tmp_path, [*clips_of(2), *clips_of(1, "val", first=2)]))
    assert gather(manifest, store=None).doubts is None
