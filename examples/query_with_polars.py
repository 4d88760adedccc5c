"""Ask a manifest questions in Polars: python examples/query_with_polars.py MANIFEST  (pip install polars)"""

import sys

import polars as pl

import k710

clips = pl.from_arrow(k710.open_manifest(sys.argv[1]).clips)

print("Classes of K710 with the most train clips:")
train = clips.filter(pl.col("split") == "train")
print(train.group_by("label").len("clips").sort("clips", "label", descending=[True, False]).head(5))

print("What was left out, and why:")
print(clips.filter(pl.col("split").is_null()).group_by("drop_reason").len("clips").sort("drop_reason"))

print("Clips that Kinetics-700 trains on and Kinetics-400 evaluates on:")
leaks = clips.filter((pl.col("k700_split") == "train") & pl.col("k400_split").is_in(["val", "test"]))
print(leaks.select("clip_id", "label", "split").head(5))
