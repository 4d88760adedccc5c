"""The benchmark of the build: its lists have the stated shape, and its other sides agree with k710 row for row."""

from __future__ import annotations

import csv
import hashlib
import itertools
import json
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from k710.curation.build import CurationRecipe, build
from k710.lists.annotations import find_lists
from k710.lists.labels import class_names
from k710.manifest.read import Manifest
from tests.helpers import CHECKOUT

BENCHMARKS = CHECKOUT / "benchmarks"
sys.path.append(str(BENCHMARKS))  # behind everything else: one of its files is called build

import duckdb_build  # noqa: E402
import full_size_lists  # noqa: E402
import pandas_build  # noqa: E402
import polars_build  # noqa: E402
from same_clips import differences  # noqa: E402

SOURCES = ("k400", "k600", "k700")
SCALE = 1 / 100
SPLITS = (("train", "val"), ("train", "val", "test"))

# Counted in the published val and test lists: distinct IDs, and IDs that stand in two lists.
DISTINCT_IDS = {
    "k400_val": 19_906, "k600_val": 29_994, "k700_val": 34_946,
    "k400_test": 38_685, "k600_test": 72_924, "k700_test": 69_700,
}  # fmt: skip
SHARED_IDS = {
    "k400_val k600_val": 13_569, "k400_val k700_val": 209, "k600_val k700_val": 38,
    "k400_val k400_test": 0, "k400_val k600_test": 450, "k400_val k700_test": 93,
    "k600_val k400_test": 0, "k600_val k600_test": 28, "k600_val k700_test": 13,
    "k700_val k400_test": 4_354, "k700_val k600_test": 6_514, "k700_val k700_test": 109,
}  # fmt: skip
VAL_IDS, VAL_AND_TEST_IDS = 71_047, 6_935
TRAIN_OF_THE_PAPERS = 658_340

Rows = list[dict[str, str]]


def read(folder: Path) -> dict[str, Rows]:
    lists = {}
    for name in full_size_lists.LISTS:
        with (folder / f"{name}.csv").open(newline="") as file:
            lists[name] = list(csv.DictReader(file))
    return lists


def k710_build(folder: Path, out: Path, splits: tuple[str, ...]) -> Manifest:
    return build(CurationRecipe(splits=splits), find_lists(folder, SOURCES, splits), out)


def pandas_table(folder: Path, splits: tuple[str, ...]) -> pa.Table:
    return pa.Table.from_pandas(pandas_build.build(folder, list(splits)), preserve_index=False)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lists")
    full_size_lists.write_lists(folder, scale=SCALE)
    return folder


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("full_size_lists")
    full_size_lists.write_lists(folder)
    return folder


def check_shape(lists: dict[str, Rows], scale: float, *, tolerance: int) -> None:
    """Rows, distinct IDs and overlaps are `scale` times the published ones, give or take `tolerance` videos."""
    ids = {name: {row["youtube_id"] for row in rows} for name, rows in lists.items()}
    vals, tests = (set.union(*(ids[f"{source}_{split}"] for source in SOURCES)) for split in ("val", "test"))
    found = {name: len(rows) for name, rows in lists.items()}
    wanted = dict(full_size_lists.ROWS)
    found |= {f"{name} distinct": len(ids[name]) for name in DISTINCT_IDS}
    wanted |= {f"{name} distinct": count for name, count in DISTINCT_IDS.items()}
    found |= {pair: len(set.intersection(*(ids[name] for name in pair.split()))) for pair in SHARED_IDS}
    wanted |= SHARED_IDS | {"val": VAL_IDS, "val and test": VAL_AND_TEST_IDS}
    found |= {"val": len(vals), "val and test": len(vals & tests)}
    off = {what: (count, wanted[what] * scale) for what, count in found.items()}
    assert {what: pair for what, pair in off.items() if abs(pair[0] - pair[1]) > tolerance} == {}


def test_same_seed_same_bytes(small: Path, tmp_path: Path) -> None:
    def hashes(folder: Path) -> dict[str, str]:
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}

    rows = full_size_lists.write_lists(tmp_path / "again", scale=SCALE)
    assert hashes(tmp_path / "again") == hashes(small)
    assert {name: len(found) for name, found in read(small).items()} == rows
    full_size_lists.write_lists(tmp_path / "other", scale=SCALE, seed=1)
    assert set(hashes(tmp_path / "other").values()).isdisjoint(hashes(small).values())


def test_small_lists_have_the_overlaps(small: Path) -> None:
    # Every kind of overlap keeps at least one video, so each of the 28 kinds may be off by one.
    check_shape(read(small), SCALE, tolerance=len(full_size_lists.EVALUATION_VIDEOS))


def test_lists_look_like_the_published_ones(small: Path) -> None:
    text = {name: (small / f"{name}.csv").read_text() for name in full_size_lists.LISTS}
    assert text["k400_val"].startswith("label,youtube_id,time_start,time_end,split,is_cc\n")
    assert text["k700_train"].startswith("label,youtube_id,time_start,time_end,split\n")
    assert text["k600_test"].startswith("youtube_id,time_start,time_end,split\n")
    assert '\n"air drumming",' in text["k400_train"]
    assert '"' not in text["k600_train"] + text["k700_train"]
    lists = read(small)
    ids = {row["youtube_id"] for rows in lists.values() for row in rows}
    assert any(id_.startswith("-") for id_ in ids)
    assert len(ids) > len({id_.lower() for id_ in ids})
    for name, rows in lists.items():
        source, split = name.split("_")
        assert {row["split"] for row in rows} == {split}
        if split != "test":
            assert {row["label"] for row in rows} <= set(class_names(source))
    train = lists["k700_train"]
    spans = Counter(int(row["time_end"]) - int(row["time_start"]) for row in train)
    assert spans.most_common(1)[0][0] == 10
    assert min(spans) < 10
    assert len({row["youtube_id"] for row in train}) < len(train)


@pytest.mark.parametrize("splits", SPLITS, ids="-".join)
def test_pandas_and_k710_agree_on_small_lists(small: Path, tmp_path: Path, splits: tuple[str, ...]) -> None:
    clips = k710_build(small, tmp_path / "manifest", splits).clips
    assert differences(clips, pandas_table(small, splits)) == []
    assert set(clips["split"].to_pylist()) == {"train", "val", None}
    reasons = {"duplicate_id", "leaked", None} | ({"unlabelled"} if "test" in splits else set())
    assert set(clips["drop_reason"].to_pylist()) == reasons
    assert clips["other_class_ids"].null_count < clips.num_rows


def write_tangled_lists(folder: Path, rng: random.Random) -> None:
    """Nine lists over few videos and spans, so that every rule of curation meets every other."""
    ids = ["".join(rng.choices("aAbB-_", k=11)) for _ in range(12)]
    shared = ["abseiling", "archery", "zumba"]
    labels = {
        "k400": [*shared, "vault", "tying tie"],
        "k600": [*shared, "bull fighting", "tying necktie"],
        "k700": [*shared, "tying necktie"],
    }
    for source, split in itertools.product(SOURCES, ("train", "val", "test")):
        header = ["label"] * (split != "test") + ["youtube_id", "time_start", "time_end", "split"]
        with (folder / f"{source}_{split}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, header, extrasaction="ignore", lineterminator="\n")
            writer.writeheader()
            for _ in range(rng.randint(1, 12)):
                start = rng.choice([0, 1, 9, 10, 100])
                writer.writerow(
                    {
                        "label": rng.choice(labels[source]),
                        "youtube_id": rng.choice(ids),
                        "time_start": start,
                        "time_end": start + rng.choice([5, 10]),
                        "split": split,
                    }
                )


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.slow
def test_pandas_and_k710_agree_on_tangled_lists(tmp_path: Path, seed: int) -> None:
    write_tangled_lists(tmp_path, random.Random(seed))
    for splits in SPLITS:
        clips = k710_build(tmp_path, tmp_path / "-".join(splits), splits).clips
        assert differences(clips, pandas_table(tmp_path, splits)) == []


@pytest.mark.parametrize("splits", SPLITS, ids="-".join)
def test_duckdb_and_polars_agree_on_small_lists(small: Path, tmp_path: Path, splits: tuple[str, ...]) -> None:
    expected = pandas_table(small, splits)
    polars_build.build(small, list(splits)).write_parquet(tmp_path / "polars.parquet")
    duckdb_build.build(small, list(splits), tmp_path / "duckdb.parquet")
    for side in ("polars", "duckdb"):
        assert differences(expected, pq.read_table(tmp_path / f"{side}.parquet")) == []


def test_differences_are_named(small: Path) -> None:
    table = pandas_table(small, ("train", "val"))
    assert differences(table, table) == []
    assert differences(table, table.slice(1)) == [f"{table.num_rows:,} rows against {table.num_rows - 1:,}"]
    position = table.column_names.index("time_end_s")
    ends = pa.array([0, *table["time_end_s"].to_pylist()[1:]], pa.int32())
    (difference,) = differences(table, table.set_column(position, "time_end_s", ends))
    assert difference.startswith("time_end_s: 1 rows differ")


@pytest.mark.slow
def test_full_size_lists_have_the_published_shape(full: Path) -> None:
    check_shape(read(full), 1, tolerance=0)


@pytest.mark.slow
@pytest.mark.parametrize("splits", SPLITS, ids="-".join)
def test_pandas_and_k710_agree_on_full_size_lists(full: Path, tmp_path: Path, splits: tuple[str, ...]) -> None:
    manifest = k710_build(full, tmp_path / "manifest", splits)
    assert differences(manifest.clips, pandas_table(full, splits)) == []
    assert manifest.about["counts"]["val"] == VAL_IDS
    assert abs(manifest.about["counts"]["train"] / TRAIN_OF_THE_PAPERS - 1) < 0.02


@pytest.mark.slow
def test_benchmark_runs(small: Path, tmp_path: Path) -> None:
    results = tmp_path / "build.json"
    options = ["--lists", str(small), "--repetitions", "1", "--results", str(results)]
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "build.py"), *options], capture_output=True, text=True, check=True
    )
    assert "| Polars | " in done.stdout
    result = json.loads(results.read_text())
    assert set(result["sides"]) == {"k710", "pandas", "duckdb", "polars"}
    for side in result["sides"].values():
        assert all(side[name]["min"] > 0 for name in ("wall_s", "cpu_s", "peak_mib"))
    for target in result["targets"].values():
        assert target["met"] == (target["measured"] <= target["at_most"])


@pytest.mark.slow
def test_a_difference_is_an_exit_status(small: Path, tmp_path: Path) -> None:
    k710_build(small, tmp_path / "manifest", ("train", "val"))
    table = pandas_table(small, ("train", "val"))
    for rows, status in ((table, 0), (table.slice(1), 1)):
        pq.write_table(rows, tmp_path / "clips.parquet")
        command = [sys.executable, BENCHMARKS / "same_clips.py", tmp_path / "manifest", tmp_path / "clips.parquet"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, bool(done.stderr)) == (status, bool(status)), done.stderr
