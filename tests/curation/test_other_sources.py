"""Curation with sources beside Kinetics: what stands outside changes nothing; what joins follows the same rules."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from hypothesis import given, settings
from hypothesis import strategies as st

from k710.curation.clips import clips_table, list_rows
from k710.curation.curate import FATES, Policy, align, curate
from k710.lists.annotations import AnnotationList, ListFile
from k710.lists.labels import Alignment
from k710.manifest.checks import table_problem
from k710.manifest.schema import content_hash
from k710.sources.known import KINETICS
from k710.sources.own import own_source
from k710.sources.source import FRACTIONAL, SPLITS, STEM, YOUTUBE
from k710.sources.video_ids import clip_id_of, own_video_id

LABELS = ("abseiling", "archery", "juggling balls")
INDICES = tuple(Alignment().find(label) or 0 for label in LABELS)
POLICIES = (Policy(), Policy(holdout=("val", "test")), Policy("val-purge"), Policy(precedence=("joined", "k400")))

OUTSIDE = own_source(name="outside", classes=("one", "two"), ids=YOUTUBE, spans=FRACTIONAL)
JOINED = own_source(
    name="joined", classes=LABELS, union_classes=INDICES, ids=STEM, spans=FRACTIONAL, id_space="ours"
)  # its own IDs beside YouTube's: more than a list may hold, and no harder for curation
SOURCES = KINETICS.and_own([OUTSIDE, JOINED])

YOUTUBE_IDS = ("aaaaaaaaaaa", "AAAAAAAAAAA", "-aaaaaaaaaa")
OWN_IDS = tuple(own_video_id("ours", raw) for raw in ("a", "a_b", "a_000003", "a-b", "é"))
WHOLE = st.sampled_from([(0, 10), (10, 20), (3, 13)])
SPANS = WHOLE | st.sampled_from([(0.5, 10), (9.25, 20), (10, 20.001)])


def rows_of(source: str, ids, spans, labels=LABELS):
    return st.lists(
        st.tuples(
            st.just(source), st.sampled_from(SPLITS), st.sampled_from(ids), spans, st.sampled_from(labels)
        ),
        max_size=12,
    )  # fmt: skip


KINETICS_ROWS = rows_of("k400", YOUTUBE_IDS, WHOLE).flatmap(
    lambda rows: rows_of("k700", YOUTUBE_IDS, WHOLE).map(lambda more: rows + more)
)
JOINED_ROWS = rows_of("joined", YOUTUBE_IDS + OWN_IDS, SPANS)
OUTSIDE_ROWS = rows_of("outside", YOUTUBE_IDS, SPANS, ("one", "two"))


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


def clips_of(rows, policy, sources=SOURCES) -> pa.Table:
    return clips_table(curate(table_of(rows, sources), policy, sources))


@settings(max_examples=40)
@given(KINETICS_ROWS.filter(bool), OUTSIDE_ROWS, st.sampled_from(POLICIES[:3]))
def test_what_stands_outside_changes_nothing_of_kinetics(rows, outside, policy):
    alone = clips_table(curate(table_of(rows, KINETICS), policy))
    both = clips_of(rows + outside, policy)
    names = [name for name in alone.column_names if not name.startswith("time_")]
    of_kinetics = both.filter(pc.or_(pc.is_valid(both["k400_split"]), pc.is_valid(both["k700_split"])))
    assert of_kinetics.select(names).to_pylist() == alone.select(names).to_pylist()
    left = both.filter(pc.and_(pc.is_null(both["k400_split"]), pc.is_null(both["k700_split"])))
    assert left["split"].null_count == len(left)
    assert left["class_id"].null_count == len(left)


def by_the_definition(rows, policy) -> dict[str, set[str]]:
    """split -> clip_ids, one video after the other."""
    rank = {name: policy.rank(name, SOURCES.names) for name in SOURCES.names}
    rows = [row for row in rows if row[0] != "outside"]
    videos = {split: {row[2] for row in rows if row[1] == split} for split in SPLITS}
    held_out = set().union(*(videos[split] for split in policy.holdout))
    kept = {}
    for split in ("train", "val"):
        taken = held_out if policy.leak == "train-purge" and split == "train" else set()
        taken = videos["train"] if policy.leak == "val-purge" and split == "val" else taken
        winners = {}
        for source, of_row, video, span, _ in rows:
            if of_row == split and video not in taken:
                standing = (rank[source], *span)
                winners[video] = min(winners.get(video, (standing, span)), (standing, span))
        kept[split] = {clip_id_of(video, span) for video, (_, span) in winners.items()}
    return kept


@settings(max_examples=50)
@given(KINETICS_ROWS, JOINED_ROWS, OUTSIDE_ROWS, st.sampled_from(POLICIES))
def test_what_joins_follows_the_same_rules(kinetics, joined, outside, policy):
    rows = kinetics + joined + outside
    if not rows:
        return
    clips = clips_of(rows, policy)
    assert table_problem(clips, SOURCES) is None
    expected = by_the_definition(rows, policy)
    for split in ("train", "val"):
        found = clips.filter(pc.equal(clips["split"].cast(pa.string()), split))["clip_id"].to_pylist()
        assert set(found) == expected[split]
    curated = curate(table_of(rows, SOURCES), policy, SOURCES)
    assert len(curated.fate) == len(rows)
    of_outside = curated.rows.source == SOURCES.names.index("outside")
    kept = curated.fate == FATES.index("kept")
    assert not (kept & of_outside).any()
    assert kept.sum() == len(expected["train"]) + len(expected["val"])


@settings(max_examples=25)
@given(KINETICS_ROWS, JOINED_ROWS, OUTSIDE_ROWS, st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter_and_the_table_stands_for_them(kinetics, joined, outside, random):
    rows = kinetics + joined + outside
    if not rows:
        return
    clips = clips_of(rows, Policy())
    shuffled = list(rows)
    random.shuffle(shuffled)
    assert content_hash(clips_of(shuffled, Policy())) == content_hash(clips)
    again = clips_table(curate(list_rows(clips, SOURCES), Policy(), SOURCES))
    names = [name for name in clips.column_names if name != "other_class_ids" and not name.endswith("class_ids")]
    assert again.select(names).equals(clips.select(names))
