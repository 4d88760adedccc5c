"""Two datasets side by side: every clip's change against a plain reading of the rules, counts that add up."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
from collections import Counter
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from k710 import open_manifest
from k710.diff.manifests import CHANGES, Difference, columns_of, diff, diff_manifests, settings_that_differ
from k710.lists.labels import class_names
from k710.manifest.schema import CLIPS_SCHEMA, DROP_REASONS
from k710.sources.source import SPLITS
from k710.store.store import Store
from tests.cli.test_bad_input import assert_refused, files_of
from tests.helpers import CHECKOUT
from tests.helpers.small_stores import clips_of, fake_media, manifest_of, put

NAMES = class_names("k710")
IDS = [f"video-{video:05d}_{start:06d}_{start + 10:06d}" for video in range(4) for start in (0, 20)]
KEPT = [None, *IDS[:3]]

Row = dict[str, Any]

# Other work on the machine is no failure.
patient = settings(suppress_health_check=[HealthCheck.too_slow])


@st.composite
def clip_rows(draw: st.DrawFn) -> list[Row]:
    """A few rows as curation makes them: in a split with a class, or dropped for a reason."""
    rows = []
    for clip_id in draw(st.lists(st.sampled_from(IDS), unique=True)):
        place = draw(st.sampled_from(["train", "val", *DROP_REASONS]))
        in_split = place in SPLITS
        rows.append(
            {
                "clip_id": clip_id,
                "youtube_id": clip_id[:11],
                "class_id": draw(st.integers(0, 2) if in_split else st.sampled_from([None, 0])),
                "split": place if in_split else None,
                "drop_reason": None if in_split else place,
                "kept_clip_id": None if in_split else draw(st.sampled_from(KEPT)),
                "k400_split": draw(st.sampled_from([None, "train", "val", "test"])),
                "k400_class_id": draw(st.sampled_from([None, 0, 1])),
            }
        )
    return sorted(rows, key=lambda row: row["clip_id"])


def media_rows() -> st.SearchStrategy[list[Row]]:
    states = st.dictionaries(st.sampled_from(IDS), st.sampled_from(["one", "two", "gone", "private"]))
    return states.map(
        lambda found: [
            {"clip_id": i, "failure": None if len(s) == 3 else s, "sha256": s if len(s) == 3 else None}
            for i, s in sorted(found.items())
        ]
    )


def table(rows: list[Row]) -> pa.Table:
    fields = [CLIPS_SCHEMA.field(name) for name in CLIPS_SCHEMA.names]
    return pa.Table.from_pylist(rows, schema=pa.schema(fields))


def media(rows: list[Row] | None) -> pa.Table | None:
    schema = pa.schema([(name, pa.string()) for name in ("clip_id", "failure", "sha256")])
    return None if rows is None else pa.Table.from_pylist(rows, schema=schema)


def of(a: list[Row], b: list[Row], view: str, media_a: Any = None, media_b: Any = None) -> Difference:
    columns = list(columns_of(view))
    return diff(
        table(a).select(columns), table(b).select(columns), view=view, media_a=media(media_a), media_b=media(media_b)
    )


# The rules once more, clip by clip and as plainly as can be.


def standing(rows: list[Row], view: str) -> dict[str, tuple[str, Any, Any]]:
    """Of each listed clip: its place, its class if it is in a split, and in whose favour it was dropped."""
    found = {}
    for row in rows:
        if view == "k710":
            place = row["split"] or row["drop_reason"]
            found[row["clip_id"]] = (place, row["class_id"] if row["split"] else None, row["kept_clip_id"])
        elif row[f"{view}_split"]:
            found[row["clip_id"]] = (row[f"{view}_split"], row[f"{view}_class_id"], None)
    return found


def state(rows: list[Row], clip_id: str) -> tuple[str, Any]:
    (row,) = [row for row in rows if row["clip_id"] == clip_id] or [None]
    return ("not_settled", None) if row is None else (row["failure"] or "fetched", row["sha256"])


def expected_change(one: Any, other: Any, media_one: Any, media_other: Any) -> str | None:
    absent = ("not_listed", None, None)
    (place_a, class_a, kept_a), (place_b, class_b, kept_b) = one or absent, other or absent
    if (place_a in SPLITS) != (place_b in SPLITS):
        return "lost" if place_a in SPLITS else "gained"
    if place_a in SPLITS:
        if place_a != place_b:
            return "moved"
        if class_a != class_b:
            return "relabelled"
        return "media" if media_one is not None and media_other is not None and media_one != media_other else None
    return "outside" if (place_a, kept_a) != (place_b, kept_b) else None


@pytest.mark.parametrize("view", ["k710", "k400"])
@patient
@given(a=clip_rows(), b=clip_rows(), media_a=st.none() | media_rows(), media_b=st.none() | media_rows())
def test_every_clip_changes_as_the_rules_say(view, a, b, media_a, media_b):
    found = of(a, b, view, media_a, media_b)
    one, other = standing(a, view), standing(b, view)
    wanted = {}
    for clip_id in one.keys() | other.keys():
        states = [None if rows is None else state(rows, clip_id) for rows in (media_a, media_b)]
        if change := expected_change(one.get(clip_id), other.get(clip_id), *states):
            wanted[clip_id] = change
    rows = found.clips.to_pylist()
    assert [row["clip_id"] for row in rows] == sorted(wanted)
    assert {row["clip_id"]: row["change"] for row in rows} == wanted
    assert found.changes == {change: list(wanted.values()).count(change) for change in CHANGES}
    assert found.listed == len(one.keys() | other.keys())
    assert found.unchanged == found.listed - len(wanted)
    for row in rows:
        clip_id = row["clip_id"]
        for side, standings, labels in (("a", one, "label_a"), ("b", other, "label_b")):
            place, class_id, kept = standings.get(clip_id, ("not_listed", None, None))
            assert row[side] == place
            assert row[labels] == (None if class_id is None else class_names(view)[class_id])
            assert row[f"kept_clip_id_{side}"] == kept


@pytest.mark.parametrize("view", ["k710", "k400"])
@patient
@given(a=clip_rows(), b=clip_rows())
@pytest.mark.slow
def test_the_counts_add_up_to_the_clips_of_both(view, a, b):
    found = of(a, b, view)
    for side, rows in (("a", a), ("b", b)):
        places = Counter((place, label) for place, label, _ in standing(rows, view).values() if place in SPLITS)
        assert {group.split: getattr(group, side) for group in found.splits if getattr(group, side)} == dict(
            sum((Counter({place: count}) for (place, _), count in places.items()), Counter())
        )
        for group in found.classes:
            class_id = None if group.label is None else class_names(view).index(group.label)
            assert getattr(group, side) == places[group.split, class_id]
    for group in (*found.splits, *found.classes):
        assert group.a + group.gained + group.came - group.lost - group.went == group.b
    for name in ("gained", "lost"):
        assert sum(getattr(group, name) for group in found.splits) == found.changes[name]
        assert sum(getattr(group, name) for group in found.classes) == found.changes[name]
    moved = sum(group.came for group in found.splits)
    assert moved == sum(group.went for group in found.splits) == found.changes["moved"]
    came = sum(group.came for group in found.classes)
    assert came == sum(group.went for group in found.classes) == moved + found.changes["relabelled"]
    assert sum(move.clips for move in found.moves) == found.clips.num_rows
    assert [move.clips for move in found.moves] == sorted((move.clips for move in found.moves), reverse=True)
    rows = found.clips.to_pylist()
    for move in found.moves:
        of_move = [row for row in rows if (row["change"], row["a"], row["b"]) == (move.change, move.a, move.b)]
        assert len(of_move) == move.clips
        assert sum(row["same_video"] for row in of_move) == move.same_video


@patient
@given(a=clip_rows(), b=clip_rows())
def test_a_clip_that_gave_way_to_another_of_its_video(a, b):
    one, other = standing(a, "k710"), standing(b, "k710")
    videos = [{i[:11] for i, (place, _, _) in side.items() if place in SPLITS} for side in (one, other)]
    for row in of(a, b, "k710").clips.to_pylist():
        there = {"lost": videos[1], "gained": videos[0]}.get(row["change"], set())
        assert row["same_video"] == (row["clip_id"][:11] in there)


@pytest.mark.parametrize("view", ["k710", "k400"])
@patient
@given(a=clip_rows(), of_media=media_rows())
@pytest.mark.slow
def test_a_dataset_does_not_differ_from_itself(view, a, of_media):
    found = of(a, a, view, of_media, of_media)
    assert found.clips.num_rows == 0
    assert set(found.changes.values()) == {0}
    assert found.moves == found.classes == ()
    assert all(one.a == one.b and not one.other_bytes for one in found.media)


@pytest.mark.parametrize("view", ["k710", "k400"])
@patient
@given(a=clip_rows(), b=clip_rows(), media_a=media_rows(), media_b=media_rows())
@pytest.mark.slow
def test_the_other_way_round(view, a, b, media_a, media_b):
    there, back = of(a, b, view, media_a, media_b), of(b, a, view, media_b, media_a)
    turned = {"gained": "lost", "lost": "gained"}
    assert back.changes == {turned.get(name, name): count for name, count in there.changes.items()} | {}
    assert {(turned.get(m.change, m.change), m.b, m.a, m.clips, m.same_video) for m in there.moves} == {
        dataclasses.astuple(m) for m in back.moves
    }
    assert there.clips["clip_id"].to_pylist() == back.clips["clip_id"].to_pylist()
    for group, other in zip(there.splits, back.splits, strict=True):
        assert dataclasses.astuple(other) == (
            *(group.split, group.label, group.b, group.a, group.lost, group.gained, group.went, group.came),
        )


@patient
@given(a=clip_rows(), b=clip_rows(), media_a=st.none() | media_rows(), media_b=st.none() | media_rows())
@pytest.mark.slow
def test_media_counts_add_up_to_the_clips_in_a_split(a, b, media_a, media_b):
    found = of(a, b, "k710", media_a, media_b)
    one, other = standing(a, "k710"), standing(b, "k710")
    wanted: Counter[Any] = Counter()
    for clip_id in one.keys() | other.keys():
        places = [side.get(clip_id, (None,))[0] for side in (one, other)]
        inside = [place in SPLITS for place in places]
        if any(inside) and not media_a is media_b is None:
            states = [
                state(rows, clip_id) if here and rows is not None else (None, None)
                for here, rows in zip(inside, (media_a, media_b), strict=True)
            ]
            both = states[0][0] == states[1][0] == "fetched" and states[0] != states[1]
            wanted[places[1] if inside[1] else places[0], states[0][0], states[1][0]] += 1 + both * 1j
    assert {(m.split, m.a, m.b): m.clips + m.other_bytes * 1j for m in found.media} == dict(wanted)


# On manifests.


@pytest.fixture(scope="module")
def versions(k710, tmp_path_factory):
    """The sample under three policies, as versions of one folder: published, val-purge, strict."""
    folder = tmp_path_factory.mktemp("diff") / "m"
    names = []
    for options in ((), ("--leak-policy", "val-purge"), ("--recipe", "k710-strict")):
        result = k710("build", "--annotations", "sample", "--out", folder, "--force", *options)
        assert result.exit_code == 0, result.output
        names.append(open_manifest(folder).content_hash[:8])
    return folder, names


def test_two_policies_of_the_sample(k710, versions):
    folder, (published, _, strict) = versions
    result = k710("diff", f"{folder}@{published}", f"{folder}@{strict}")
    assert result.exit_code == 0, result.output
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert "holdout val val,test" in lines
    assert "train 50 48 0 2 0 0" in lines
    assert "lost train leaked 2" in lines
    assert "train juggling balls 7 5 0 2 0 0" in lines
    assert "tested-4000_000005_000015 lost train leaked juggling balls" in lines
    assert lines[-1] == "4 of 75 clips differ: 2 lost, 2 outside."


def test_the_same_dataset_twice(k710, versions):
    folder, (_, _, strict) = versions
    result = k710("diff", folder, f"{folder}@{strict}")
    assert result.stdout.splitlines()[-1] == (
        "No clip differs in view k710: both list the same 75, and the content hashes are equal."
    )
    other = k710("diff", folder, f"{folder}@{versions[1][0]}", "--view", "k700_2020")
    assert other.stdout.splitlines()[-1] == (
        "No clip differs in view k700_2020: both list the same 0. The content hashes differ, so another view "
        "differs, or labels that no view compares (of clips outside every split, or labels that lost to another)."
    )


def test_json_is_complete_and_the_file_has_every_clip(k710, versions, tmp_path):
    folder, (published, purged, _) = versions
    sides = (f"{folder}@{published}", f"{folder}@{purged}")
    result = k710("diff", *sides, "--json", "--clips", tmp_path / "clips.parquet", "--top", 1)
    found = json.loads(result.stdout)
    a, b = (open_manifest(side) for side in sides)
    wanted = diff_manifests(a, b)
    assert found["a"] == {"manifest": str(folder), "content_hash": a.content_hash, "store": None}
    assert found["changes"] == wanted.changes
    assert wanted.changes["lost"]
    assert found["unchanged"] == wanted.unchanged
    for name in ("splits", "moves", "classes", "media"):
        assert found[name] == [dataclasses.asdict(row) for row in getattr(wanted, name)]
    assert found["settings"] == {"leak_policy": ["train-purge", "val-purge"]}
    documented = (CHECKOUT / "docs" / "diff.md").read_text().partition("## JSON and files")[2]
    rows = [row for name in ("splits", "classes", "moves") for row in found[name]]
    assert all(f"`{key}`" in documented for keys in (found, found["a"], *rows) for key in keys)
    assert pa.parquet.read_table(tmp_path / "clips.parquet").equals(wanted.clips)
    assert k710("diff", *sides, "--clips", tmp_path / "clips.csv").exit_code == 0
    with (tmp_path / "clips.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["clip_id"] for row in rows] == wanted.clips["clip_id"].to_pylist()
    assert [row["a"] for row in rows] == wanted.clips["a"].to_pylist()


def test_tables_are_bounded_and_say_what_is_left(k710, versions):
    folder, (published, purged, _) = versions
    arguments = ("diff", f"{folder}@{published}", f"{folder}@{purged}")
    whole, short = (k710(*arguments, "--top", top).stdout for top in (1000, 2))
    found = diff_manifests(*(open_manifest(argument) for argument in arguments[1:]))
    assert len(found.classes) > 2
    assert "more" not in whole
    assert f"and {len(found.classes) - 2} more (--json has all)" in short
    assert f"and {found.clips.num_rows - 2:,} more (--clips FILE writes all)" in short


# Media.


@pytest.fixture
def decayed(k710, tmp_path):
    """A manifest of six clips; in the first store five are settled, in the second one is gone, one is another file."""
    clips = clips_of(6, "val")
    ids = [clip.clip_id for clip in clips]
    manifest = open_manifest(manifest_of(k710, tmp_path, clips))
    first, second = Store(manifest.path / "store", "h264"), Store(tmp_path / "now", "h264")
    put(first, {**{i: fake_media(i) for i in ids[:4]}, ids[4]: "private"})
    put(second, {ids[0]: fake_media(ids[0]), ids[1]: b"another encoder" * 30, ids[2]: "gone", ids[4]: "gone"})
    return manifest, first, second, ids


def test_what_decayed(k710, decayed):
    manifest, first, second, ids = decayed
    found = diff_manifests(manifest, manifest, store_a=first, store_b=second)
    assert found.changes == dict.fromkeys(CHANGES, 0) | {"media": 4}
    assert {(m.a, m.b): (m.clips, m.other_bytes) for m in found.media} == {
        ("fetched", "fetched"): (2, 1),
        ("fetched", "gone"): (1, 0),
        ("fetched", "not_settled"): (1, 0),
        ("private", "gone"): (1, 0),
        ("not_settled", "not_settled"): (1, 0),
    }
    assert [(row["clip_id"], row["media_a"], row["media_b"]) for row in found.clips.to_pylist()] == [
        (ids[1], "fetched", "other_bytes"),
        (ids[2], "fetched", "gone"),
        (ids[3], "fetched", "not_settled"),
        (ids[4], "private", "gone"),
    ]
    # A's default store is the manifest's own.
    result = k710("diff", manifest.path, manifest.path, "--store-b", second.root)
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert "val fetched gone 1" in lines
    assert "val fetched fetched 2 1" in lines
    assert f"{ids[2]} media train train abseiling" not in lines
    assert lines[-1] == "4 of 6 clips differ: 4 media."


def test_media_of_one_side_alone(k710, decayed, tmp_path):
    manifest, first, _, _ = decayed
    found = diff_manifests(manifest, manifest, store_b=first)
    assert {(m.a, m.b): m.clips for m in found.media} == {
        (None, "fetched"): 4, (None, "private"): 1, (None, "not_settled"): 1,
    }  # fmt: skip
    assert not found.clips.num_rows
    smaller = manifest_of(k710, tmp_path / "smaller", clips_of(5, "val"))
    result = k710("diff", smaller, manifest.path)
    assert "val - not_settled 1" in [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert "1 of 6 clips differ: 1 gained." in result.stdout


@pytest.mark.parametrize(
    ("options", "exit_code", "message"),
    [
        (("--view", "k800"), 2, "unknown view 'k800'"),
        (("--store-a", "nowhere"), 1, "nowhere: no store there"),
        (("--profile", "frames", "--store-b", "STORE"), 1, "has no profile frames; it has h264"),
        (("--clips", "clips.txt"), 2, "clips.txt: must end in .csv or .parquet"),
        (("--clips", "nowhere/clips.csv"), 1, "nowhere/clips.csv: No such file or directory"),
        (("--clips", "MANIFEST/clips.csv"), 2, "which must not hold other files"),
        (("--store-b", "STORE", "--clips", "STORE/deep/clips.csv"), 2, "which must not hold other files"),
    ],
)  # fmt: skip
def test_what_is_refused(k710, decayed, options, exit_code, message, monkeypatch, tmp_path):
    manifest, _, second, _ = decayed
    monkeypatch.chdir(tmp_path)
    arguments = [str(option).replace("MANIFEST", str(manifest.path)) for option in options]
    arguments = [argument.replace("STORE", str(second.root)) for argument in arguments]
    before = files_of(tmp_path)
    assert_refused(k710("diff", manifest.path, manifest.path, *arguments), message, exit_code=exit_code)
    assert files_of(tmp_path) == before


def test_no_file_is_written_into_a_manifest_by_another_way_round(k710, versions, monkeypatch):
    folder, _ = versions
    before = files_of(folder)
    monkeypatch.chdir(folder / "clips")
    assert_refused(k710("diff", folder, folder, "--clips", "clips.csv"), "which must not hold other files", exit_code=2)
    assert files_of(folder) == before


def test_a_full_disk_leaves_the_old_file(k710, versions, tmp_path, monkeypatch):
    folder, (published, purged, _) = versions
    (tmp_path / "clips.csv").write_text("mine")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    arguments = ("diff", f"{folder}@{published}", f"{folder}@{purged}", "--clips", tmp_path / "clips.csv")
    assert_refused(k710(*arguments), f"{tmp_path / 'clips.csv'}: No space left on device")
    assert files_of(tmp_path) == {"clips.csv": b"mine"}


def test_a_damaged_side_is_named(k710, versions, tmp_path):
    folder, _ = versions
    shutil.copytree(folder, tmp_path / "m")
    (tmp_path / "m" / open_manifest(folder).about["clips"][0]["file"]).write_bytes(b"PAR1")
    assert_refused(k710("diff", folder, tmp_path / "m"), f"{tmp_path / 'm'}/clips/clips-", "damaged")
    about = json.loads((tmp_path / "m" / "dataset.json").read_text())
    (tmp_path / "m" / "dataset.json").write_text(json.dumps(about | {"sources": [{"source": "k400"}]}))
    assert_refused(k710("diff", folder, tmp_path / "m"), f"{tmp_path / 'm'}: dataset.json is damaged")


def test_a_synonym_that_means_another_class_is_named(k710, tmp_path):
    (tmp_path / "lists").mkdir()
    header, rows = "label,youtube_id,time_start,time_end,split", "my name,video-00001,0,10,val"
    (tmp_path / "lists" / "k400_val.csv").write_text(f"{header}\n{rows}\n")
    for label in ("archery", "abseiling"):
        (tmp_path / "names.csv").write_text(f"name,label\nmy name,{label}\n")
        options = ("--annotations", tmp_path / "lists", "--splits", "val", "--synonyms", tmp_path / "names.csv")
        result = k710("build", "--sources", "k400", *options, "--out", tmp_path / label)
        assert result.exit_code == 0, result.output
    sides = [tmp_path / "archery", tmp_path / "abseiling"]
    assert settings_that_differ(*map(open_manifest, sides)) == {"synonym my name": ("archery", "abseiling")}
    assert "synonym my name archery abseiling" in " ".join(k710("diff", *sides).stdout.split())


def test_a_list_that_was_replaced_is_named(k710, tmp_path):
    one, other = (manifest_of(k710, tmp_path / name, clips_of(count, "val")) for name, count in (("a", 3), ("b", 4)))
    ((name, (a, b)),) = settings_that_differ(open_manifest(one), open_manifest(other)).items()
    assert name == "k400 val"
    assert a.startswith("3 rows, SHA-256 ")
    assert b.startswith("4 rows, SHA-256 ")
    assert a.split()[-1] != b.split()[-1]
