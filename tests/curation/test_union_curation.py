"""Curation of a user's own union, held to its definition spelled out video by video."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from k710.curation.clips import clips_table, list_rows
from k710.curation.curate import FATES, LEAK_POLICIES, Policy, align, curate, hold_out
from k710.lists.annotations import AnnotationList, ListFile
from k710.lists.labels import Alignment, class_names
from k710.manifest.checks import table_problem
from k710.sources.known import KINETICS
from k710.sources.own import own_source
from k710.sources.source import FRACTIONAL, SPLITS, YOUTUBE
from k710.sources.unions import own_union
from k710.sources.video_ids import clip_id_of

# k400 and k700 in their own classes, and two sources of one's own: `parts` with many clips of a video, `bench` beside.
K400 = class_names("k400")
CLASSES = ("archery", "juggling", "resting")
PARTS = own_source(name="parts", classes=("shoot", "juggle"), ids=YOUTUBE, spans=FRACTIONAL)
BENCH = own_source(name="bench", classes=("a",), ids=YOUTUBE, spans=FRACTIONAL)
LABELS = {"k400": ("archery", "juggling balls"), "parts": ("shoot", "juggle"), "bench": ("a",)}
UNION_OF = {
    ("k400", "archery"): 0,
    ("k400", "juggling balls"): 1,
    ("parts", "shoot"): 0,
    ("parts", "juggle"): 1,
}


def union_with(**changes):
    return own_union(
        **{
            "name": "mix",
            "title": "A mix",
            "members": ("k400", "parts"),
            "precedence": ("k400", "parts"),
            "classes": CLASSES,
            "class_maps": {"k400": tuple(UNION_OF.get(("k400", name), 2) for name in K400), "parts": (0, 1)},
            "holdout": {},
        }
        | changes
    )


UNIONS = (
    union_with(),
    union_with(precedence=("parts", "k400")),
    union_with(all_clips=("parts",)),
    union_with(all_clips=("k400", "parts"), precedence=("parts", "k400")),
    union_with(holdout={"parts": ("test",)}),
    union_with(holdout={"bench": ("val", "test"), "k400": ("test",)}, all_clips=("parts",)),
)
IDS = ("aaaaaaaaaaa", "AAAAAAAAAAA", "-aaaaaaaaaa", "-aaaaaaaaab")
SPANS = st.sampled_from([(0, 10), (3, 13), (0.5, 10), (9.25, 20), (10, 20.001)])
WHOLE = st.sampled_from([(0, 10), (10, 20), (3, 13)])


def rows_of(source, spans):
    row = st.tuples(
        st.just(source), st.sampled_from(SPLITS), st.sampled_from(IDS), spans, st.sampled_from(LABELS[source])
    )
    return st.lists(row, max_size=10)


ROWS = st.tuples(rows_of("k400", WHOLE), rows_of("parts", SPANS), rows_of("bench", SPANS)).map(
    lambda three: [row for rows in three for row in rows]
)


def table_of(rows, sources) -> pa.Table:
    lists = defaultdict(list)
    for source, split, video, (start, end), label in rows:
        lists[source, split].append((None if split == "test" else label, video, start, end))
    read = []
    for (source, split), part in lists.items():
        labels, videos, starts, ends = zip(*part, strict=True)
        time = pa.float64() if sources[source].spans == FRACTIONAL else pa.int32()
        table = pa.table(
            {
                "label": pa.array(labels, pa.string()).dictionary_encode(),
                "youtube_id": pa.array(videos, pa.string()),
                "time_start_s": pa.array(starts, time),
                "time_end_s": pa.array(ends, time),
                "line": pa.array(range(2, len(part) + 2), pa.int32()),
            }
        )
        read.append(AnnotationList(ListFile(source, split, Path("list")), table, (), ""))
    return align(read, Alignment(), sources)


def by_the_definition(rows, union, leak) -> dict[str, set[str]]:
    """split -> clip_ids, one video after the other."""
    members, rank = union.members, {name: place for place, name in enumerate(union.precedence)}
    if leak == "val-purge":
        loser, held_out = "val", {row[2] for row in rows if row[0] in members and row[1] == "train"}
    else:
        loser, held_out = "train", {row[2] for row in rows if row[0] in members and row[1] == "val"}
        held_out |= {row[2] for row in rows if row[1] in union.holdout.get(row[0], ())}
    kept = {"train": set(), "val": set()}
    for split, found in kept.items():
        for video in IDS:
            if split == loser and video in held_out:
                continue
            here = [row for row in rows if row[0] in members and row[1] == split and row[2] == video]
            if not here:
                continue
            best = min(here, key=lambda row: (rank[row[0]], row[3]))
            found.add(clip_id_of(video, best[3]))
            if best[0] in union.all_clips:
                found |= {clip_id_of(video, row[3]) for row in here if row[0] == best[0]}
    return kept


@settings(max_examples=50)
@given(ROWS.filter(bool), st.sampled_from(UNIONS), st.sampled_from(LEAK_POLICIES))
def test_a_union_is_what_its_definition_says(rows, union, leak):
    sources = KINETICS.and_own([PARTS, BENCH]).with_union(union)
    policy = Policy(leak, precedence=union.precedence)
    curated = curate(table_of(rows, sources), policy, sources)
    clips = clips_table(curated)
    assert table_problem(clips, sources) is None
    found = {split: set() for split in ("train", "val")}
    for clip in clips.to_pylist():
        if clip["split"]:
            found[clip["split"]].add(clip["clip_id"])
            labels = {UNION_OF[row[0], row[4]] for row in rows if row[0] in union.members and row[1] != "test"}
            assert clip["class_id"] in labels
            assert clip["label"] == CLASSES[clip["class_id"]]
    assert found == by_the_definition(rows, union, leak)
    fates = [FATES[code] for code in curated.fate]
    assert len(fates) == len(rows)
    assert {FATES.index("leaked")} >= set(curated.fate[hold_out(curated.rows, policy)].tolist())
    # The clips table stands for every row, but for a second label in one list: curated again, it decides the same.
    again = clips_table(curate(list_rows(clips, sources), policy, sources))
    decided = ["clip_id", "class_id", "split", "drop_reason", "kept_clip_id"]
    assert again.select(decided).to_pylist() == clips.select(decided).to_pylist()


def test_a_clip_purged_for_a_list_beside_the_union_names_the_clip_there():
    sources = KINETICS.and_own([PARTS, BENCH]).with_union(union_with(holdout={"bench": ("val",)}))
    rows = [("k400", "train", IDS[0], (0, 10), "archery"), ("bench", "val", IDS[0], (0.5, 2), "a")]
    clips = clips_table(curate(table_of(rows, sources), Policy(precedence=("k400", "parts")), sources)).to_pylist()
    held_out, purged = clips
    assert (held_out["split"], held_out["drop_reason"]) == (None, "other_classes")
    assert (purged["split"], purged["drop_reason"]) == (None, "leaked")
    assert purged["kept_clip_id"] == held_out["clip_id"] == f"{IDS[0]}_000000500_000002000"
