"""The clips table by DuckDB, as a good user of it would write it: a side of the benchmark, and an oracle for the tests.

    python benchmarks/duckdb_build.py LISTS OUT.parquet [--splits train,val,test]

The rules, the table and the little else are those of `pandas_build.py`. All that a clip's rows say of it is one
aggregation, and the winners of the videos are another. A release that has one clip in two of its splits is left to
`pandas_build.py`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import duckdb

from k710.lists.labels import class_names, k710_classes_of

SOURCES = ["k700", "k600", "k400"]  # newest first: its clip and its label win
RELEASE_COLUMNS = ["k400", "k600", "k700", "k700_2020"]
SPLITS = ["train", "val", "test"]

READ_LIST = """
    SELECT youtube_id, time_start AS time_start_s, time_end AS time_end_s, {rank}::UTINYINT AS rank,
        '{split}'::split_name AS split, {columns}
    FROM read_csv('{path}', header = true, delim = ',', quote = '"',
        types = {{'youtube_id': 'VARCHAR', 'time_start': 'INTEGER', 'time_end': 'INTEGER'}})
"""
# Rows without labels stand last, then the newest release first, then the label that is first alphabetically.
STANDING = "(split = 'test')::INTEGER * 1000000 + rank::INTEGER * 10000 + coalesce(release_class_id, 0)"
OF_RELEASE = """
    max(split) FILTER (rank = {rank}) AS {source}_split,
    min(release_class_id) FILTER (rank = {rank}) AS {source}_class_id,
"""
NOT_RELEASED = "NULL::split_name AS {source}_split, NULL::SMALLINT AS {source}_class_id,"

CLIPS = """
CREATE TEMP TABLE clips AS
    SELECT youtube_id, time_start_s, time_end_s,
        arg_min(class_id, {standing}) FILTER (split <> 'test') AS class_id,
        min(class_id) <> max(class_id) AS differs,
        {releases}
        bool_or(split <> 'test' AND NOT is_leaked) AS is_candidate,
        bool_or(is_leaked) AS is_leaked
    FROM rows GROUP BY ALL;
"""
# Of the rows that are left, those of one video are all of train or all of val: the others were held out.
WINNERS = """
CREATE TEMP TABLE winners AS
    SELECT youtube_id, any_value(split) AS split,
        min(rank::BIGINT << 40 | time_start_s::BIGINT << 20 | time_end_s) AS best
    FROM rows WHERE split <> 'test' AND NOT is_leaked GROUP BY youtube_id;
"""
OTHERS = """
CREATE TEMP TABLE others AS
    SELECT youtube_id, time_start_s, time_end_s,
        list_sort(list_distinct(list(rows.class_id) FILTER (rows.class_id <> clips.class_id))) AS other_class_ids
    FROM rows JOIN clips USING (youtube_id, time_start_s, time_end_s)
    WHERE differs AND rows.split <> 'test' GROUP BY ALL;
"""
TABLE = """
COPY (
    SELECT printf('%s_%06d_%06d', youtube_id, time_start_s, time_end_s) AS clip_id,
        youtube_id, time_start_s, time_end_s, labels.name AS label, class_id, other_class_ids,
        CASE WHEN is_kept THEN split END AS split,
        CASE WHEN is_kept THEN NULL WHEN is_candidate THEN 'duplicate_id' WHEN is_leaked THEN 'leaked'
            ELSE 'unlabelled' END AS drop_reason,
        CASE WHEN NOT is_kept AND (is_candidate OR is_leaked)
            THEN printf('%s_%06d_%06d', youtube_id, best >> 20 & 1048575, best & 1048575) END AS kept_clip_id,
        {releases}
    FROM (
        SELECT *, coalesce((best & (1::BIGINT << 40) - 1) = (time_start_s::BIGINT << 20 | time_end_s)
            AND is_candidate, false) AS is_kept
        FROM clips LEFT JOIN winners USING (youtube_id) LEFT JOIN others USING (youtube_id, time_start_s, time_end_s)
    ) LEFT JOIN labels USING (class_id)
    ORDER BY clip_id
) TO '{out}' (FORMAT parquet, COMPRESSION zstd);
"""


def read_list(path: Path, source: str, split: str) -> str:
    """The query for one list: its clips, with the class in the release's own order (null where it has no labels)."""
    columns = "NULL::SMALLINT AS release_class_id, NULL::SMALLINT AS class_id"
    query = READ_LIST
    if split != "test":
        columns = "names.release_class_id, names.class_id"
        query += " JOIN names ON names.source = '{source}' AND names.name = label"
    return query.format(rank=SOURCES.index(source), source=source, split=split, columns=columns, path=path)


def build(folder: Path, splits: list[str], out: Path) -> None:
    """Write the clips table of the lists in `folder`, in clip_id order."""
    names = [
        (source, name, index, k710)
        for source in SOURCES
        for index, (name, k710) in enumerate(zip(class_names(source), k710_classes_of(source), strict=True))
    ]
    lists = [read_list(folder / f"{source}_{split}.csv", source, split) for source in SOURCES for split in splits]
    releases = [
        (OF_RELEASE if source in SOURCES else NOT_RELEASED).format(
            source=source, rank=SOURCES.index(source) if source in SOURCES else None
        )
        for source in RELEASE_COLUMNS
    ]
    columns = [f"{source}_{name}" for source in RELEASE_COLUMNS for name in ("split", "class_id")]
    with duckdb.connect() as database:
        database.execute("SET preserve_insertion_order = false")
        database.execute("CREATE TYPE split_name AS ENUM ('train', 'val', 'test')")
        database.execute(
            "CREATE TEMP TABLE names AS SELECT unnest(?) AS source, unnest(?) AS name, "
            "unnest(?::SMALLINT[]) AS release_class_id, unnest(?::SMALLINT[]) AS class_id",
            [list(column) for column in zip(*names, strict=True)],
        )
        database.execute(
            "CREATE TEMP TABLE labels AS SELECT unnest(range(710)::SMALLINT[]) AS class_id, unnest(?) AS name",
            [list(class_names("k710"))],
        )
        database.execute(f"CREATE TEMP TABLE listed AS {' UNION ALL '.join(lists)}")
        database.execute(
            "CREATE TEMP VIEW rows AS SELECT *, split = 'train' AND youtube_id IN "
            "(SELECT youtube_id FROM listed WHERE split = 'val') AS is_leaked FROM listed"
        )
        database.execute(CLIPS.format(standing=STANDING, releases="".join(releases)))
        database.execute(WINNERS)
        database.execute(OTHERS)
        database.execute(TABLE.format(out=out, releases=", ".join(columns)))


def main() -> None:
    parser = argparse.ArgumentParser(description="Build the K710 clips table with DuckDB.")
    parser.add_argument("lists", type=Path, help="folder of {source}_{split}.csv")
    parser.add_argument("out", type=Path, help="Parquet file to write")
    parser.add_argument("--splits", default="train,val")
    arguments = parser.parse_args()
    build(arguments.lists, arguments.splits.split(","), arguments.out)


if __name__ == "__main__":
    main()
