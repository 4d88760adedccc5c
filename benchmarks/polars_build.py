"""The clips table by Polars, as a good user of it would write it: a side of the benchmark, and an oracle for the tests.

    python benchmarks/polars_build.py LISTS OUT.parquet [--splits train,val,test]

The same rules and the same table as `pandas_build.py`, and as little beside it. Labels are read as the classes' own
enumeration; rows are sorted once, and everything else is the first of a group or a join by the number of the clip.
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
LABELS = ["label", "class_id", "other_class_ids"]


def read_list(path: Path, source: str, split: str) -> pl.LazyFrame:
    """One list: its clips, with the class in the release's own order (null where the list has no labels)."""
    rows = pl.scan_csv(path, schema_overrides={"time_start": pl.Int32, "time_end": pl.Int32})
    release_class_id = pl.lit(None, pl.Int16)
    class_id = pl.lit(None, pl.Int16)
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
    """All lists in one frame with the number of each row's clip, sorted so that the first of the rows of one clip is the
    one whose label counts."""
    lists = [read_list(folder / f"{source}_{split}.csv", source, split) for source in SOURCES for split in splits]
    rows = pl.concat(lists).sort(*CLIP, "unlabelled", "rank", "release_class_id")
    return rows.with_columns(clip=pl.struct(CLIP).rle_id()).collect()


def make_clips(rows: pl.DataFrame) -> pl.DataFrame:
    """One row per distinct clip in clip_id order, with its label and those that lost."""
    clips = rows.unique("clip", keep="first", maintain_order=True)
    start, end = (pl.col(column).cast(pl.String).str.zfill(6) for column in SPAN)
    clips = clips.select(
        "clip",
        pl.concat_str(["youtube_id", start, end], separator="_").alias("clip_id"),
        *CLIP,
        pl.lit(pl.Series(class_names("k710"))).gather("class_id").alias("label"),
        "class_id",
    )
    winner = clips["class_id"].gather(rows["clip"])
    lost = rows.filter(~pl.col("unlabelled") & (pl.col("class_id") != winner))
    other = lost.group_by("clip").agg(other_class_ids=pl.col("class_id").unique().sort())
    return clips.join(other, "clip", how="left", maintain_order="left")


def curate(rows: pl.DataFrame, clips: pl.DataFrame) -> pl.DataFrame:
    """Give each clip its place in K710: split, or drop_reason and kept_clip_id."""
    val = rows.filter(split="val")
    train = rows.filter(split="train")
    is_leaked = train["youtube_id"].is_in(val["youtube_id"].unique().implode())
    candidates = {"train": train.filter(~is_leaked), "val": val}
    winners = {
        split: of_split.sort("rank", maintain_order=True).unique("youtube_id", keep="first")  # then the earliest span
        for split, of_split in candidates.items()
    }
    reasons = pl.concat(  # of several reasons the last one counts
        [
            train.filter(is_leaked).select("clip", drop_reason=pl.lit("leaked")),
            candidates["train"].select("clip", drop_reason=pl.lit("duplicate_id")),
            val.select("clip", drop_reason=pl.lit("duplicate_id")),
        ]
    ).unique("clip", keep="last")
    places = pl.concat([winner.select("clip", "youtube_id", split=pl.lit(name)) for name, winner in winners.items()])
    kept = places.select("youtube_id", kept_clip_id=clips["clip_id"].gather(places["clip"]))
    clips = (
        clips.join(places.select("clip", "split"), "clip", how="left", maintain_order="left")
        .join(reasons, "clip", how="left", maintain_order="left")
        .join(kept, "youtube_id", how="left", maintain_order="left")
    )
    is_lost = pl.col("split").is_null() & pl.col("drop_reason").is_not_null()
    return clips.with_columns(
        drop_reason=pl.when(pl.col("split").is_null()).then(pl.col("drop_reason").fill_null("unlabelled")),
        kept_clip_id=pl.when(is_lost).then("kept_clip_id"),
    )


def add_releases(rows: pl.DataFrame, clips: pl.DataFrame) -> pl.DataFrame:
    """The splits and the class of each clip in each release, as published."""
    for source in RELEASE_COLUMNS:
        rank = SOURCES.index(source) if source in SOURCES else len(SOURCES)
        published = rows.filter(rank=rank).sort("clip", "unlabelled", "release_class_id")
        columns = published.unique("clip", keep="first").select("clip", split=pl.col("split").cast(pl.String), class_id="release_class_id")
        clips = clips.join(columns, "clip", how="left", suffix=f"_{source}", maintain_order="left")
    return clips
