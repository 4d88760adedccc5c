"""The clips table by Polars, as a good user of it would write it: a side of the benchmark, and an oracle for the tests.

    python benchmarks/polars_build.py LISTS OUT.parquet [--splits train,val,test]

The rules, the table and the little else are those of `pandas_build.py`. The lists are scanned lazily and sorted once;
then videos and clips have numbers, and everything is the first of a group or a join by number. A release that has one
clip in two of its splits is left to `pandas_build.py`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import polars as pl

from k710.lists.labels import class_names, k710_classes_of

SOURCES = ["k700", "k600", "k400"]  # newest first: its clip and its label win
RELEASE_COLUMNS = ["k400", "k600", "k700", "k700_2020"]
SPLITS = ["train", "val", "test"]
SPAN = ["time_start_s", "time_end_s"]
CLIP = ["youtube_id", *SPAN]


def read_list(path: Path, source: str, split: str) -> pl.LazyFrame:
    """One list: its clips, with the class in the release's own order (null where the list has no labels)."""
    rows = pl.scan_csv(path, schema_overrides={"time_start": pl.Int32, "time_end": pl.Int32})
    release_class_id = class_id = pl.lit(None, pl.Int16)
    if split != "test":
        release_class_id = pl.col("label").cast(pl.Enum(class_names(source))).to_physical().cast(pl.Int16)
        class_id = pl.lit(pl.Series(k710_classes_of(source), dtype=pl.Int16)).gather(release_class_id)
    return rows.select(
        "youtube_id",
        time_start_s="time_start",
        time_end_s="time_end",
        unlabelled=pl.lit(split == "test"),
        rank=pl.lit(SOURCES.index(source), pl.Int8),
        release_class_id=release_class_id,
        class_id=class_id,
        split=pl.lit(split, pl.Enum(SPLITS)),
    )


def read_lists(folder: Path, splits: list[str]) -> pl.DataFrame:
    """All lists in one frame, with running numbers of clips and videos, sorted so that the first of the rows of one
    clip is the one whose label counts."""
    lists = [read_list(folder / f"{source}_{split}.csv", source, split) for source in SOURCES for split in splits]
    rows = pl.concat(lists).sort(*CLIP, "unlabelled", "rank", "release_class_id")
    return rows.with_columns(clip=pl.struct(CLIP).rle_id(), video=pl.col("youtube_id").rle_id()).collect()


def make_clips(rows: pl.DataFrame) -> pl.DataFrame:
    """One row per distinct clip in clip_id order, with its label and the labels that lost."""
    start, end = (pl.col(column).cast(pl.String).str.zfill(6) for column in SPAN)
    clips = rows.filter(pl.col("clip") != pl.col("clip").shift(1, fill_value=len(rows))).select(
        "clip",
        "video",
        *CLIP,
        "class_id",
        clip_id=pl.concat_str(["youtube_id", start, end], separator="_"),
        label=pl.lit(pl.Series(class_names("k710"), dtype=pl.Enum(class_names("k710")))).gather("class_id"),
    )
    winner = clips["class_id"].gather(rows["clip"])
    lost = rows.filter(~pl.col("unlabelled") & (pl.col("class_id") != winner))
    other = lost.group_by("clip").agg(other_class_ids=pl.col("class_id").unique().sort())
    return clips.join(other, "clip", how="left", maintain_order="left")


def curate(rows: pl.DataFrame, clips: pl.DataFrame) -> pl.DataFrame:
    """Give each clip its place in K710: split, or drop_reason and kept_clip_id."""
    of_val = rows.filter(split="val")["video"].unique().implode()
    rows = rows.filter(~pl.col("unlabelled")).with_columns(
        leaked=(pl.col("split") == "train") & pl.col("video").is_in(of_val)
    )
    candidates = rows.filter(~pl.col("leaked"))
    best = candidates.sort("rank", maintain_order=True).unique("video", keep="first")  # then the earliest span
    clips = clips.join(best.select("video", "split", kept="clip"), "video", how="left", maintain_order="left")
    is_kept = (pl.col("clip") == pl.col("kept")).fill_null(False)
    reason = (
        pl.when(pl.col("clip").is_in(candidates["clip"].unique().implode()))
        .then(pl.lit("duplicate_id"))
        .when(pl.col("clip").is_in(rows.filter("leaked")["clip"].unique().implode()))
        .then(pl.lit("leaked"))
        .otherwise(pl.lit("unlabelled"))
    )
    clips = clips.with_columns(split=pl.when(is_kept).then("split"), drop_reason=pl.when(~is_kept).then(reason))
    lost = pl.col("drop_reason").is_in(["leaked", "duplicate_id"])
    return clips.with_columns(kept_clip_id=pl.when(lost).then(clips["clip_id"].gather(clips["kept"])))


def add_releases(rows: pl.DataFrame, clips: pl.DataFrame) -> pl.DataFrame:
    """The splits and the class of each clip in each release, as published."""
    for source in RELEASE_COLUMNS:
        names = pl.lit(None, pl.String).alias(f"{source}_split"), pl.lit(None, pl.Int16).alias(f"{source}_class_id")
        if source not in SOURCES:
            clips = clips.with_columns(names)
            continue
        published = rows.filter(rank=SOURCES.index(source))
        first = published.unique("clip", keep="first").select(
            "clip", pl.col("split").alias(f"{source}_split"), pl.col("release_class_id").alias(f"{source}_class_id")
        )
        clips = clips.join(first, "clip", how="left", maintain_order="left")
    return clips


def build(folder: Path, splits: list[str]) -> pl.DataFrame:
    """The clips table of the lists in `folder`, in clip_id order."""
    rows = read_lists(folder, splits)
    clips = add_releases(rows, curate(rows, make_clips(rows)))
    order = ["clip_id", *CLIP, "label", "class_id", "other_class_ids", "split", "drop_reason", "kept_clip_id"]
    return clips.select(*order, *(f"{source}_{name}" for source in RELEASE_COLUMNS for name in ("split", "class_id")))


def main() -> None:
    parser = argparse.ArgumentParser(description="Build the K710 clips table with Polars.")
    parser.add_argument("lists", type=Path, help="folder of {source}_{split}.csv")
    parser.add_argument("out", type=Path, help="Parquet file to write")
    parser.add_argument("--splits", default="train,val")
    arguments = parser.parse_args()
    build(arguments.lists, arguments.splits.split(",")).write_parquet(arguments.out)


if __name__ == "__main__":
    main()
