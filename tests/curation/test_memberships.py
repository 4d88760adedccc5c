"""A clip that one release lists in several splits: every reader counts it in each of them, as its lists have it."""

from __future__ import annotations

import csv
import hashlib
import json
from collections import Counter, defaultdict

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from k710 import open_dataset
from k710.curation.audit import POLICIES as AUDITED
from k710.curation.audit import audit
from k710.curation.clips import clips_table
from k710.curation.curate import curate
from k710.diff.manifests import CHANGES, columns_of, diff
from k710.errors import ManifestError
from k710.export.card_facts import card_facts
from k710.export.fiftyone import export_fiftyone
from k710.fetch.wanted import wanted_mask
from k710.lists.labels import class_names, k710_classes_of
from k710.maintenance.status import status
from k710.manifest.listings import lists_of
from k710.manifest.memberships import split_column, split_masks, splits_named
from k710.manifest.read import open_manifest
from k710.manifest.schema import CLIPS_SCHEMA, content_hash
from k710.manifest.views import split_of, splits_of, view
from k710.manifest.write import write_manifest
from k710.near_duplicates.sides import compared_clips
from k710.report.figures.classes import class_figures
from k710.sample.footage import Clip
from k710.sources.known import KNOWN_SOURCES
from k710.sources.source import SPLITS
from k710.store.store import Store
from tests.curation.test_curate import POLICIES, rows, table_of
from tests.helpers.small_stores import LABELS, film, manifest_of, put

SAMPLE_HASH = "584da9b5124f5ce5"  # as docs/diff.md and docs/remote.md print it

patient = settings(suppress_health_check=[HealthCheck.too_slow], max_examples=60)


def as_listed(rows) -> dict[tuple[str, str], dict[tuple, str | None]]:
    """(release, split) -> {(youtube_id, start, end): label}; of two labels in one list the first alphabetically."""
    lists = defaultdict(dict)
    for source, split, youtube_id, span, label in sorted(rows, key=lambda row: row[4]):
        lists[source, split].setdefault((youtube_id, *span), None if split == "test" else label)
    return lists


def clips_of_rows(rows, policy=POLICIES[0]) -> pa.Table:
    return clips_table(curate(table_of(rows), policy))


def test_masks_and_names_are_one_to_one():
    masks = np.arange(8, dtype=np.uint8)
    column = split_column(masks)
    assert column.to_pylist() == [
        None, "train", "val", "train,val", "test", "train,test", "val,test", "train,val,test",
    ]  # fmt: skip
    assert split_masks(pa.chunked_array([column])).tolist() == masks.tolist()
    assert [len(splits_named(name)) for name in column.to_pylist()] == [0, 1, 1, 2, 1, 2, 2, 3]


def test_a_dictionary_in_another_order_means_the_same():
    chunks = [pa.array(names).dictionary_encode() for names in (["val", "train,val"], ["train,val", "train"])]
    assert split_masks(pa.chunked_array(chunks)).tolist() == [2, 3, 3, 1]


@pytest.mark.parametrize("name", ["validate", "val,train", "train,", ""])
def test_a_split_that_no_build_writes_is_refused(name):
    with pytest.raises(ManifestError, match=f"the clips table is damaged: a split is named {name!r}"):
        split_masks(pa.chunked_array([pa.array([name]).dictionary_encode()]))


@patient
@given(rows=rows, policy=st.sampled_from(POLICIES))
def test_a_view_has_each_split_as_its_list_has_it(rows, policy):
    clips, lists = clips_of_rows(rows, policy), as_listed(rows)
    for source in KNOWN_SOURCES:
        seen = view(clips, source)
        assert splits_of(seen) == tuple(split for split in SPLITS if (source, split) in lists)
        for split in SPLITS:
            part = split_of(seen, split).to_pylist()
            found = {(c["youtube_id"], c["time_start_s"], c["time_end_s"]): c["label"] for c in part}
            assert len(found) == len(part)
            assert found == lists[source, split]
            assert [c["clip_id"] for c in part] == sorted(c["clip_id"] for c in part)
            assert all(c["label"] is None or class_names(source)[c["class_id"]] == c["label"] for c in part)


@patient
@given(rows=rows)
@pytest.mark.slow
def test_every_policy_counts_rows_and_videos_as_sets_do(rows):
    lists = as_listed(rows)
    videos = {key: {clip[0] for clip in listed} for key, listed in lists.items()}
    in_split = {split: set().union(*(v for (_, one), v in videos.items() if one == split)) for split in SPLITS}
    found = audit(clips_of_rows(rows))["policies"]
    present = {split for _, split in lists}
    assert set(found) == {name for name, policy in AUDITED.items() if present >= {"train", *policy.holdout}}
    for name, counted in found.items():
        policy = AUDITED[name]
        loser, others = ("val", ("train",)) if policy.leak == "val-purge" else ("train", policy.holdout)
        protected = set().union(*(in_split[split] for split in others))
        leaked = [clip for (_, split), listed in lists.items() if split == loser for clip in listed]
        leaked = [clip for clip in leaked if clip[0] in protected]
        train = in_split["train"] - (protected if loser == "train" else set())
        assert counted["leaked_rows"] == len(leaked)
        assert counted["leaked_videos"] == len({clip[0] for clip in leaked})
        assert counted["train"] == len(train)
        assert counted["val"] == len(in_split["val"] - (protected if loser == "val" else set()))
        assert counted["leaks"] == {
            f"{source} {split}": len(train & listed) for (source, split), listed in videos.items() if split != "train"
        }


@patient
@given(
    rows=rows, view_name=st.sampled_from([None, *KNOWN_SOURCES]), splits=st.sets(st.sampled_from(SPLITS), min_size=1)
)
@pytest.mark.slow
def test_what_is_wanted_is_what_the_lists_have(rows, view_name, splits):
    clips = clips_of_rows(rows)
    wanted = clips.filter(wanted_mask(clips, view=view_name, splits=tuple(splits))).to_pylist()
    expected = {
        clip
        for (source, split), listed in as_listed(rows).items()
        if split in splits and view_name in (None, source)
        for clip in listed
    }
    assert {(c["youtube_id"], c["time_start_s"], c["time_end_s"]) for c in wanted} == expected
    assert len(wanted) == len(expected)


@patient
@given(rows=rows)
def test_classes_and_names_of_lists_are_those_of_each_list(rows):
    clips, lists = clips_of_rows(rows), as_listed(rows)
    figures = class_figures(clips, class_names("k710"), None)
    for (source, split), listed in lists.items():
        expected = Counter(class_names("k710").index(label) for label in listed.values() if label)
        found = {row["class_id"]: row["clips"].get(f"{source} {split}", 0) for row in figures["rows"]}
        assert {class_id: count for class_id, count in found.items() if count} == expected
    for clip in clips.to_pylist():
        key = (clip["youtube_id"], clip["time_start_s"], clip["time_end_s"])
        assert lists_of(clip) == [(s, p) for s in KNOWN_SOURCES for p in SPLITS if key in lists.get((s, p), ())]


def per_split(clips: pa.Table, source: str) -> dict[str, dict[str, str | None]]:
    """clip_id -> {split: label} by the view."""
    found = defaultdict(dict)
    for row in view(clips, source).to_pylist():
        found[row["clip_id"]][row["split"]] = row["label"]
    return found


@patient
@given(a=rows, b=rows, source=st.sampled_from(["k400", "k700"]))
def test_a_diff_counts_a_clip_in_each_of_its_splits(a, b, source):
    tables = clips_of_rows(a), clips_of_rows(b)
    one, other = (per_split(table, source) for table in tables)
    columns = {*columns_of(source), f"{source}_class_ids"}
    found = diff(*(table.select([n for n in table.column_names if n in columns]) for table in tables), view=source)
    expected = {}
    for clip_id in one.keys() | other.keys():
        before, after = one.get(clip_id, {}), other.get(clip_id, {})
        if before != after:
            change = "relabelled" if before.keys() == after.keys() else "moved"
            expected[clip_id] = "gained" if not before else "lost" if not after else change
    assert {row["clip_id"]: row["change"] for row in found.clips.to_pylist()} == expected
    assert found.changes == {change: list(expected.values()).count(change) for change in CHANGES}
    for group in (*found.splits, *found.classes):
        assert group.a + group.gained + group.came - group.lost - group.went == group.b
    for group in found.splits:
        in_a, in_b = ({c for c, splits in side.items() if group.split in splits} for side in (one, other))
        assert (group.a, group.b) == (len(in_a), len(in_b))
        assert (group.gained, group.lost) == (len(in_b - one.keys()), len(in_a - other.keys()))
        assert (group.came, group.went) == (len((in_b - in_a) & one.keys()), len((in_a - in_b) & other.keys()))
    for row in found.clips.to_pylist():
        if row["change"] == "relabelled":
            assert row["label_a"] != row["label_b"]
        assert row["a"] == (",".join(s for s in SPLITS if s in one[row["clip_id"]]) or "not_listed")


def written(table: pa.Table, folder):
    return write_manifest(folder, table, {"recipe": {"sources": ["k400"]}, "sources": [{"source": "k400"}]})


TWO_LABELS = [
    ("k400", "train", "aaaaaaaaaaa", (0, 10), "archery"),
    ("k400", "val", "aaaaaaaaaaa", (0, 10), "abseiling"),
    ("k400", "train", "bbbbbbbbbb_", (0, 10), "archery"),
    ("k400", "test", "bbbbbbbbbb_", (0, 10), "archery"),  # a test list has no labels
    ("k400", "train", "zzzzzzzzzzz", (0, 10), "archery"),
]


def test_labels_that_differ_are_written_read_and_hashed(tmp_path):
    table = clips_of_rows(TWO_LABELS)
    manifest = written(table, tmp_path / "m")
    read = open_manifest(tmp_path / "m")
    read.verify()
    assert read.clips.to_pylist() == table.to_pylist()
    assert read.clips.column_names == [*CLIPS_SCHEMA.names, "k400_class_ids"]
    archery, abseiling = (class_names("k400").index(name) for name in ("archery", "abseiling"))
    assert read.clips["k400_class_ids"].to_pylist() == [[archery, abseiling], [archery, None], None]
    assert read.clips["k400_class_id"].to_pylist() == [abseiling, archery, archery]
    assert read.read_clips(["k400_split", "k400_class_id"]).column_names[-1] == "k400_class_ids"
    assert read.read_clips(["k600_class_id"]).column_names == ["k600_class_id"]
    lines = [",".join(f'"{name}"' for name in table.column_names)]
    for row in table.to_pylist():
        values = [";".join("" if n is None else str(n) for n in v) if isinstance(v, list) else v for v in row.values()]
        lines.append(",".join("" if v is None else f'"{v}"' if isinstance(v, str) else str(v) for v in values))
    assert hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest() == manifest.content_hash
    swapped = [(*row[:4], {"archery": "abseiling", "abseiling": "archery"}[row[4]]) for row in TWO_LABELS[:2]]
    assert content_hash(clips_of_rows([*swapped, *TWO_LABELS[2:]])) != manifest.content_hash


def test_only_such_a_manifest_has_another_form(sample, tmp_path):
    assert sample.content_hash[:16] == SAMPLE_HASH
    assert sample.about["schema_version"] == "1.0"
    assert sample.clips.schema.equals(CLIPS_SCHEMA)
    assert written(sample.clips, tmp_path / "one").about["schema_version"] == "1.0"
    assert written(clips_of_rows(TWO_LABELS), tmp_path / "two").about["schema_version"] == "2.0"


# One clip in all splits of a K400 whose other clips are in one each.
BOTH = Clip("kept-000000", 0, 2, LABELS[0], "train")
LISTED = [
    BOTH,
    Clip("kept-000001", 1, 3, LABELS[1], "train"),
    Clip("kept-000000", 0, 2, LABELS[0], "val"),
    Clip("kept-000002", 2, 4, LABELS[2], "val"),
]
BOTH_ID = "kept-000000_000000_000002"


@pytest.fixture(scope="module")
def manifest(k710, tmp_path_factory):
    return open_manifest(manifest_of(k710, tmp_path_factory.mktemp("both"), LISTED))


def test_build_prints_one_number_for_one_leak(k710, manifest, tmp_path):
    result = k710(
        "build", "--sources", "k400", "--annotations", manifest.path.parent / "lists", "--out", tmp_path / "m"
    )
    words = [line.split() for line in result.stdout.splitlines()]
    assert ["k400", "train", "2", "1", "0", "0", "1", "0"] in words  # one row leaked
    assert ["k400", "train", "1"] in words  # and one video of the train list stands in the val list


@pytest.mark.parametrize(
    ("policy", "train", "val"), [("train-purge", "leaked", "kept"), ("val-purge", "kept", "leaked")]
)
def test_explain_tells_the_fate_of_each_row(k710, manifest, tmp_path, policy, train, val):
    lists = manifest.path.parent / "lists"
    out = tmp_path / "m"
    assert (
        k710("build", "--sources", "k400", "--leak-policy", policy, "--annotations", lists, "--out", out).exit_code == 0
    )
    lines = [line.strip() for line in k710("explain", BOTH.youtube_id, "--manifest", out).stdout.splitlines()]
    for split, fate in (("train", train), ("val", val)):
        at = lines.index(f"Kinetics-400 {split}: 'abseiling' (class 0)")
        assert lines[at + 1].startswith(f"{fate}: ")
    kept_in = "val" if policy == "train-purge" else "train"
    assert f"kept: this row puts the clip into {kept_in}" in lines


def test_export_writes_both_lists_whole(k710, manifest, tmp_path):
    assert k710("export", manifest.path, "--view", "k400", "--format", "csv", "--out", tmp_path / "e").exit_code == 0
    for split in ("train", "val"):
        with (tmp_path / "e" / f"{split}.csv").open(newline="") as file:
            found = sorted((row["youtube_id"], row["label"], row["split"]) for row in csv.DictReader(file))
        assert found == sorted((c.youtube_id, c.label, c.split) for c in LISTED if c.split == split)


def test_status_stats_and_card_count_both(k710, manifest, tmp_path):
    store = Store(tmp_path / "store", "h264")
    put(store, {BOTH_ID: b"x" * 700})
    counted = {(line.view, line.split): (line.clips, line.fetched) for line in status(manifest, store)}
    assert counted["k400", "train"] == counted["k400", "val"] == (2, 1)
    assert card_facts(manifest).counts["k400"] == {"train": 2, "val": 2}
    figures = json.loads(k710("stats", manifest.path, "--json").stdout)
    assert figures["overlap"]["by_id"] == figures["overlap"]["by_clip"] == [[2, 1], [1, 2]]
    purged = figures["overlap"]["policies"]["val-purge"]
    assert (purged["train"], purged["val"], purged["leaked_rows"], purged["leaks"]) == (2, 1, 1, {"k400 val": 1})


def test_each_split_is_loaded_whole(manifest, tmp_path):
    film(tmp_path / "clips", [LISTED[0], LISTED[1], LISTED[3]])
    for split in ("train", "val"):
        dataset = open_dataset(manifest, split=split, view="k400", folder=tmp_path / "clips")
        assert dataset.counts.in_split == dataset.counts.loaded == 2
        assert BOTH_ID in dataset.index.clip_ids.to_pylist()
        labels = {dataset.labels[class_id] for class_id in dataset.class_ids.tolist()}
        assert labels == {clip.label for clip in LISTED if clip.split == split}


def test_a_file_named_by_its_video_is_the_clip_in_both_splits(manifest, tmp_path):
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / f"{BOTH.youtube_id}.mp4").write_bytes(b"\0\0\0\x18ftypmp42")
    counts = export_fiftyone(manifest, tmp_path / "out", view_name="k400", videos=tmp_path / "videos")
    assert (counts.samples, counts.missing) == ({"train": 1, "val": 1}, {"train": 1, "val": 1})


def test_near_duplicates_compare_it_on_the_side_that_is_asked_for(manifest):
    def sides(**asked):
        rows = compared_clips(manifest, view="k400", **asked).to_pylist()
        return {row["clip_id"]: row["side"] for row in rows}

    assert sides()[BOTH_ID] == "val"
    assert sides(splits=("train",))[BOTH_ID] == "train"
    assert len(sides(splits=("train",))) == len(sides(splits=("val",))) == 2


def test_rows_that_repeat_a_clip_in_one_list_count_as_rows(k710, tmp_path):
    """Two rows of one clip, with one label or two, are two rows that leak, of one video."""
    lists = tmp_path / "lists"
    lists.mkdir()
    header = "label,youtube_id,time_start,time_end,split"
    train = ["abseiling,clip-000000,0,10,train", "archery,clip-000000,0,10,train", "archery,clip-000001,0,10,train"]
    val = ["archery,clip-000000,0,10,val", "archery,clip-000000,0,10,val", "archery,clip-000000,0,10,val"]
    for split, lines in (("train", train), ("val", val)):
        (lists / f"k400_{split}.csv").write_text("\n".join([header, *lines, ""]))
    options = ("--sources", "k400", "--annotations", lists)
    assert k710("build", *options, "--out", tmp_path / "m").exit_code == 0
    counts = open_manifest(tmp_path / "m").about["counts"]
    assert counts["fates"]["leaked"] == 2
    figures = [json.loads(k710("stats", tmp_path / "m", "--json").stdout)["overlap"]]
    figures += [json.loads(k710("audit", *what, "--json").stdout) for what in ((tmp_path / "m",), options)]
    for found in figures:
        leaked = {name: (one["leaked_rows"], one["leaked_videos"]) for name, one in found["policies"].items()}
        assert leaked == {"train-purge": (2, 1), "val-purge": (3, 1)}


# Real lists, posed as the train list of an older release: an oracle in pandas that knows no clips table.


def posed(real_lists, folder, roles: dict[str, str]) -> dict[str, pd.DataFrame]:
    """Lists in other roles (`k400_train` from `k600_val`), with the classes that the new release has."""
    folder.mkdir()
    frames = {}
    for role, origin in roles.items():
        frame = pd.read_csv(real_lists / f"{origin}.csv", dtype=str).assign(split=role.rsplit("_", 1)[1])
        if "label" in frame:
            release = role.rsplit("_", 1)[0]
            names = {
                class_names("k710")[c]: n for c, n in zip(k710_classes_of(release), class_names(release), strict=True)
            }
            own = dict(zip(class_names(origin[:4]), k710_classes_of(origin[:4]), strict=True))
            frame["label"] = frame["label"].map(lambda name: names.get(class_names("k710")[own[name]]))  # noqa: B023
            frame = frame[frame["label"].notna()]
        frame.to_csv(folder / f"{role}.csv", index=False)
        frames[role] = frame
    return frames


@pytest.mark.parametrize(
    "roles",
    [
        {"k400_train": "k600_val", "k400_val": "k400_val", "k400_test": "k400_test"},
        {"k600_train": "k600_val", "k600_val": "k400_val", "k600_test": "k600_test"},
        {"k400_train": "k600_val", "k400_val": "k400_val", "k600_train": "k400_val", "k600_val": "k600_val"},
    ],
    ids=["k400", "k600", "both"],
)
@pytest.mark.slow
def test_real_lists_in_other_roles(k710, real_lists, tmp_path, roles):
    frames = posed(real_lists, tmp_path / "lists", roles)
    sources = sorted({role.split("_")[0] for role in roles})
    splits = [split for split in SPLITS if any(role.endswith(f"_{split}") for role in roles)]
    options = ("--sources", ",".join(sources), "--splits", ",".join(splits), "--annotations", tmp_path / "lists")
    ids = {role.replace("_", " "): set(frame["youtube_id"]) for role, frame in frames.items()}
    everywhere = {split: set().union(*(v for name, v in ids.items() if name.endswith(split))) for split in splits}
    for policy, loser, protector in (("train-purge", "train", "val"), ("val-purge", "val", "train")):
        out = tmp_path / policy
        result = k710("build", *options, "--leak-policy", policy, "--out", out)
        assert result.exit_code == 0, result.output
        manifest = open_manifest(out)
        counts = manifest.about["counts"]
        leaked = {
            role.replace("_", " "): int(frame["youtube_id"].isin(everywhere[protector]).sum())
            for role, frame in frames.items()
            if role.endswith(loser)
        }
        listed = {f"{entry['source']} {entry['split']}": entry for entry in counts["lists"]}
        assert {name: listed[name]["leaked"] for name in leaked} == leaked
        assert {name: entry["rows"] for name, entry in listed.items()} == {
            role.replace("_", " "): len(frame) for role, frame in frames.items()
        }
        for leak in counts["leaks"]:
            assert leak["ids"] == len(ids[f"{leak['train']} train"] & ids[leak["holdout"]])
        found = json.loads(k710("audit", out, "--json").stdout)
        assert found["overlap"]["by_id"] == [[len(ids[a] & ids[b]) for b in found["lists"]] for a in found["lists"]]
        assert found["policies"][policy]["leaked_rows"] == sum(leaked.values())
        for release in sources:
            e = tmp_path / f"{policy}-{release}"
            assert k710("export", out, "--format", "csv", "--view", release, "--out", e).exit_code == 0
            for role, frame in frames.items():
                if role.startswith(release):
                    wanted = frame[
                        [c for c in ("label", "youtube_id", "time_start", "time_end", "split") if c in frame]
                    ]
                    exported = pd.read_csv(e / f"{role.split('_')[1]}.csv", dtype=str)
                    assert sorted(map(tuple, exported.values)) == sorted(map(tuple, wanted.values))


def test_the_shared_videos_of_two_real_val_lists_in_one_release(k710, real_lists, tmp_path):
    frames = posed(real_lists, tmp_path / "lists", {"k400_train": "k600_val", "k400_val": "k400_val"})
    shared = len(set(frames["k400_train"]["youtube_id"]) & set(frames["k400_val"]["youtube_id"]))
    assert shared > 13_000
    found = json.loads(
        k710(
            "audit", "--annotations", tmp_path / "lists", "--sources", "k400", "--splits", "train,val", "--json"
        ).stdout
    )
    assert found["ids_by_splits"]["train and val"] == shared
    assert found["policies"]["val-purge"]["leaks"] == {"k400 val": shared}
    assert found["policies"]["train-purge"]["leaks"] == {"k400 val": 0}
