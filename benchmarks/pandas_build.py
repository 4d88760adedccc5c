"""A plain pandas script that makes the clips table: the other side of the benchmark, and an oracle for the tests.

    python benchmarks/pandas_build.py LISTS OUT.parquet [--splits train,val,test]

It applies train-purge with the val lists held out, newest release first, and writes every column of k710's clips table.
It uses only the class names and synonyms of k710; reading, sorting, deduplication and purge are its own. It checks
nothing, counts nothing and writes no fates, hashes or provenance. `k710 build` does all of that in its time.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from k710.lists.labels import class_names, k710_classes_of

SOURCES = ["k700", "k600", "k400"]  # newest first: its clip and its label win
RELEASE_COLUMNS = ["k400", "k600", "k700", "k700_2020"]
SPAN = ["time_start_s", "time_end_s"]
CLIP = ["youtube_id", *SPAN]


def read_list(path: Path, source: str, split: str) -> pd.DataFrame:
    """One list: its clips, with the class in the release's own order (-1 where the list has no labels)."""
    rows = pd.read_csv(
        path,
        usecols=lambda column: column not in ("split", "is_cc"),
        dtype={"youtube_id": "str", "time_start": "int32", "time_end": "int32"},
        keep_default_na=False,
    ).rename(columns={"time_start": "time_start_s", "time_end": "time_end_s"})
    names = class_names(source)
    if "label" in rows:
        rows["release_class_id"] = rows["label"].map({name: index for index, name in enumerate(names)}).astype("int16")
        rows["class_id"] = rows["label"].map(dict(zip(names, k710_classes_of(source), strict=True))).astype("int16")
        rows = rows.drop(columns="label")
    else:
        rows["release_class_id"] = rows["class_id"] = np.int16(-1)
    rows["rank"] = np.int8(SOURCES.index(source))
    rows["source"], rows["split"] = source, split
    return rows.astype({"source": "category", "split": "category"})


def read_lists(folder: Path, splits: list[str]) -> pd.DataFrame:
    """All lists in one frame, sorted so that the first of the rows of one clip is the one whose label counts."""
    lists = [read_list(folder / f"{source}_{split}.csv", source, split) for source in SOURCES for split in splits]
    rows = pd.concat(lists, ignore_index=True)
    rows["source"] = pd.Categorical(rows["source"], SOURCES)
    rows["split"] = pd.Categorical(rows["split"], ["train", "val", "test"])
    rows["unlabelled"] = rows["split"] == "test"
    return rows.sort_values([*CLIP, "unlabelled", "rank", "release_class_id"], ignore_index=True)


def make_clips(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per distinct clip in clip_id order, with its label; numbers the clips of `rows` on the way."""
    is_first = ~rows.duplicated(CLIP)
    rows["clip"] = is_first.cumsum() - 1
    clips = rows.loc[is_first, [*CLIP, "class_id"]].reset_index(drop=True)
    start, end = (clips[column].astype("str").str.zfill(6) for column in SPAN)
    clips["clip_id"] = clips["youtube_id"] + "_" + start + "_" + end
    clips["label"] = pd.Categorical.from_codes(clips["class_id"], class_names("k710"))
    clips["class_id"] = clips["class_id"].astype("Int16").mask(clips["class_id"] < 0)
    return clips


def other_class_ids(rows: pd.DataFrame, clips: pd.DataFrame) -> pd.Series:
    """For each clip that its lists label differently, the sorted classes that lost."""
    labelled = rows.loc[~rows["unlabelled"], ["clip", "class_id"]]
    winner = clips["class_id"].fillna(-1).astype("int16").to_numpy()[labelled["clip"]]
    lost = labelled[labelled["class_id"] != winner].drop_duplicates().sort_values(["clip", "class_id"])
    return lost.groupby("clip")["class_id"].agg(list).astype(object).reindex(clips.index)


def curate(rows: pd.DataFrame, clips: pd.DataFrame) -> None:
    """Give each clip its place in K710: split, or drop_reason and kept_clip_id."""
    val = rows[rows["split"] == "val"]
    train = rows[rows["split"] == "train"]
    leaked = train["youtube_id"].isin(val["youtube_id"])

    winners = {}
    for split, candidates in {"train": train[~leaked], "val": val}.items():
        best = candidates.sort_values("rank", kind="stable").drop_duplicates("youtube_id")  # then the earliest span
        winners[split] = best.set_index("youtube_id")["clip"]

    split = pd.Series(pd.NA, clips.index, dtype="str")
    reason = pd.Series("unlabelled", clips.index, dtype="str")
    reason[train.loc[leaked, "clip"].unique()] = "leaked"
    reason[train.loc[~leaked, "clip"].unique()] = "duplicate_id"
    reason[val["clip"].unique()] = "duplicate_id"
    for name, winner in winners.items():
        split[winner.to_numpy()] = name
        reason[winner.to_numpy()] = pd.NA
    clips["split"], clips["drop_reason"] = split, reason

    lost = reason.isin(["leaked", "duplicate_id"])
    kept = clips.loc[lost, "youtube_id"].map(pd.concat(winners.values()))
    clips["kept_clip_id"] = clips["clip_id"].reindex(kept).set_axis(kept.index).reindex(clips.index)


def add_releases(rows: pd.DataFrame, clips: pd.DataFrame) -> pd.DataFrame:
    """The splits and the class of each clip in each release, as published."""
    for source in RELEASE_COLUMNS:
        published = rows.loc[rows["source"] == source, ["clip", "split", "unlabelled", "release_class_id"]]
        published = published.sort_values(["clip", "unlabelled", "release_class_id"])
        columns = published.drop_duplicates("clip").set_index("clip")[["split", "release_class_id"]]
        several = published[published.duplicated("clip", keep=False)].drop_duplicates(["clip", "split"])
        several = several[several.duplicated("clip", keep=False)].sort_values(["clip", "split"])
        if len(several):
            by_clip = several.assign(split=several["split"].astype("str")).groupby("clip")
            columns["split"] = columns["split"].astype("str")
            columns.loc[several["clip"].unique(), "split"] = by_clip["split"].agg(",".join)
            labels = by_clip["release_class_id"].agg(list)
            differs = labels[[set(ids) != {columns.at[clip, "release_class_id"]} for clip, ids in labels.items()]]
            if len(differs):
                named = differs.map(lambda ids: [None if index < 0 else index for index in ids])
                clips[f"{source}_class_ids"] = named.astype(object).reindex(clips.index)
        columns = columns.reindex(clips.index)
        clips[f"{source}_split"] = columns["split"]
        class_id = columns["release_class_id"].astype("Int16")
        clips[f"{source}_class_id"] = class_id.mask(class_id < 0)
    return clips


def build(folder: Path, splits: list[str]) -> pd.DataFrame:
    """The clips table of the lists in `folder`, in clip_id order."""
    rows = read_lists(folder, splits)
    clips = make_clips(rows)
    clips["other_class_ids"] = other_class_ids(rows, clips)
    curate(rows, clips)
    clips = add_releases(rows, clips)
    order = ["clip_id", *CLIP, "label", "class_id", "other_class_ids", "split", "drop_reason", "kept_clip_id"]
    order += [f"{source}_{column}" for source in RELEASE_COLUMNS for column in ("split", "class_id")]
    return clips[order + [name for source in RELEASE_COLUMNS if (name := f"{source}_class_ids") in clips]]


def main() -> None:
    parser = argparse.ArgumentParser(description="Build the K710 clips table with plain pandas.")
    parser.add_argument("lists", type=Path, help="folder of {source}_{split}.csv")
    parser.add_argument("out", type=Path, help="Parquet file to write")
    parser.add_argument("--splits", default="train,val")
    arguments = parser.parse_args()
    build(arguments.lists, arguments.splits.split(",")).to_parquet(arguments.out, index=False)


if __name__ == "__main__":
    main()
