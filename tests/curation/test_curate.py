"""The rules of curation, against a plain reading of their definitions and as properties of any lists."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from k710.curation.audit import audit
from k710.curation.build import fates_table
from k710.curation.clips import clips_table, list_rows
from k710.curation.curate import FATES, Policy, align, curate
from k710.curation.overlap import conflicts
from k710.errors import LabelError, UsageError
from k710.lists.annotations import LIST_SCHEMA, AnnotationList, ListFile
from k710.lists.labels import Alignment, class_names
from k710.manifest.clip_ids import fixed_width
from k710.sources.known import KNOWN_SOURCES, PRECEDENCE
from k710.sources.source import SPLITS

POLICIES = (Policy(), Policy(holdout=("val", "test")), Policy("val-purge"), Policy(precedence=("k400", "k600")))
LABELS = ("abseiling", "archery", "juggling balls")
IDS = ("aaaaaaaaaaa", "AAAAAAAAAAA", "-aaaaaaaaaa", "bbbbbbbbbb_", "bbbbbbbbbb-", "zzzzzzzzzzz")

rows = st.lists(
    st.tuples(
        st.sampled_from(tuple(KNOWN_SOURCES)),
        st.sampled_from(SPLITS),
        st.sampled_from(IDS),
        st.sampled_from([(0, 10), (10, 20), (5, 999_999)]),
        st.sampled_from(LABELS),
    ),
    min_size=1,
    max_size=30,
)
# One clip in two splits of a release, and another of its video.
TRAIN_AND_TEST_OF_ONE_RELEASE = [
    ("k400", "train", "aaaaaaaaaaa", (0, 10), "abseiling"),
    ("k700", "train", "aaaaaaaaaaa", (10, 20), "abseiling"),
    ("k700", "test", "aaaaaaaaaaa", (10, 20), "abseiling"),
]


def table_of(rows) -> pa.Table:
    """Aligned list rows, as `align` makes them of lists."""
    lists = defaultdict(list)
    for source, split, youtube_id, (start, end), label in rows:
        lists[source, split].append((None if split == "test" else label, youtube_id, start, end, 2))
    read = []
    for (source, split), part in lists.items():
        columns = list(zip(*part, strict=True))
        arrays = [pa.array(columns[0], pa.string()).dictionary_encode(), *columns[1:]]
        table = pa.table([pa.array(c, f.type) for c, f in zip(arrays, LIST_SCHEMA, strict=True)], schema=LIST_SCHEMA)
        read.append(AnnotationList(ListFile(source, split, Path("list")), table, (), ""))
    return align(read, Alignment())


def curated_splits(rows, policy) -> dict[str, set[tuple]]:
    """split -> {(youtube_id, start, end)} by the library."""
    clips = clips_table(curate(table_of(rows), policy)).to_pylist()
    return {
        split: {(c["youtube_id"], c["time_start_s"], c["time_end_s"]) for c in clips if c["split"] == split}
        for split in ("train", "val")
    }


def by_definition(rows, policy) -> dict[str, set[tuple]]:
    """The same, read word by word from the definition of the policies."""

    def one_clip_per_id(candidates):
        best = {}
        for source, _, youtube_id, (start, end), _ in candidates:
            standing = (policy.rank(source), start, end)
            best[youtube_id] = min(best.get(youtube_id, standing), standing)
        return {(youtube_id, start, end) for youtube_id, (_, start, end) in best.items()}

    train = [row for row in rows if row[1] == "train"]
    val = [row for row in rows if row[1] == "val"]
    if policy.leak == "train-purge":
        held_out = {row[2] for row in rows if row[1] in policy.holdout}
        train = [row for row in train if row[2] not in held_out]
    else:
        trained = {row[2] for row in train}
        val = [row for row in val if row[2] not in trained]
    return {"train": one_clip_per_id(train), "val": one_clip_per_id(val)}


@given(rows=rows, policy=st.sampled_from(POLICIES))
@settings(max_examples=300)
def test_curation_is_its_definition(rows, policy):
    assert curated_splits(rows, policy) == by_definition(rows, policy)


@given(rows=rows, policy=st.sampled_from(POLICIES))
def test_train_and_holdout_never_share_a_video(rows, policy):
    split = curated_splits(rows, policy)
    train, val = ({clip[0] for clip in split[side]} for side in ("train", "val"))
    assert not train & val
    if policy.leak == "train-purge":
        assert not train & {row[2] for row in rows if row[1] in policy.holdout}
    assert len(train) == len(split["train"])
    assert len(val) == len(split["val"])


@given(rows=rows, policy=st.sampled_from(POLICIES))
def test_every_row_has_one_fate(rows, policy):
    curated = curate(table_of(rows), policy)
    table = fates_table(curated, clips_table(curated)).to_pylist()
    assert len(table) == len(rows)
    fates = Counter(row["fate"] for row in table)
    assert sum(fates.values()) == len(rows)
    assert set(fates) <= set(FATES) - {"malformed"}
    split = curated_splits(rows, policy)
    assert fates["kept"] == len(split["train"]) + len(split["val"])
    for row in table:
        assert (row["fate"] == "leaked") <= (row["split"] == ("train" if policy.leak == "train-purge" else "val"))
        assert (row["fate"] == "unlabelled") <= (row["split"] == "test")
        assert (row["kept_clip_id"] is not None) == (row["fate"] in ("duplicate_id", "leaked"))
        if row["kept_clip_id"] is not None:
            assert row["kept_clip_id"][:11] == row["clip_id"][:11]


@given(rows=rows, policy=st.sampled_from(POLICIES), data=st.data())
def test_the_order_of_rows_does_not_matter(rows, policy, data):
    shuffled = data.draw(st.permutations(rows))
    one, other = curate(table_of(rows), policy), curate(table_of(shuffled), policy)
    assert clips_table(one).equals(clips_table(other))
    assert Counter(one.fate.tolist()) == Counter(other.fate.tolist())


@given(rows=rows)
def test_the_policies_agree_where_nothing_leaks(rows):
    side_of = {youtube_id: SPLITS[number % 2] for number, youtube_id in enumerate(IDS)}
    apart = [row for row in rows if row[1] == side_of[row[2]]]
    if apart:
        assert curated_splits(apart, Policy()) == curated_splits(apart, Policy("val-purge"))


@given(rows=rows, policy=st.sampled_from(POLICIES))
@example(rows=TRAIN_AND_TEST_OF_ONE_RELEASE, policy=Policy(holdout=("val", "test")))
def test_clips_stand_in_clip_id_order_once_and_say_why_they_are_out(rows, policy):
    curated = curate(table_of(rows), policy)
    clips = clips_table(curated).to_pylist()
    ids = [clip["clip_id"] for clip in clips]
    assert ids == sorted(set(ids))
    assert ids == [f"{c['youtube_id']}_{c['time_start_s']:06d}_{c['time_end_s']:06d}" for c in clips]
    kept = {clip["clip_id"] for clip in clips if clip["split"]}
    tested = {
        clip["clip_id"]
        for clip in clips
        if any("test" in (clip[f"{source}_split"] or "").split(",") for source in KNOWN_SOURCES)
    }
    for clip in clips:
        assert (clip["split"] is None) == (clip["drop_reason"] is not None)
        if clip["drop_reason"] in ("duplicate_id", "leaked"):
            assert clip["kept_clip_id"][:11] == clip["youtube_id"]
            held = kept | tested if "test" in policy.holdout and clip["drop_reason"] == "leaked" else kept
            assert clip["kept_clip_id"] in held
        else:
            assert clip["kept_clip_id"] is None
        assert (clip["drop_reason"] == "unlabelled") == (clip["class_id"] is None)
        assert clip["label"] == (None if clip["class_id"] is None else class_names("k710")[clip["class_id"]])


@given(rows=rows, policy=st.sampled_from(POLICIES))
def test_the_label_is_the_one_of_the_first_release_and_the_others_are_remembered(rows, policy):
    labels = defaultdict(set)
    for source, split, youtube_id, span, label in rows:
        if split != "test":
            labels[(youtube_id, *span)].add((policy.rank(source), label))
    for clip in clips_table(curate(table_of(rows), policy)).to_pylist():
        given_labels = labels[clip["youtube_id"], clip["time_start_s"], clip["time_end_s"]]
        assert clip["label"] == (min(given_labels)[1] if given_labels else None)
        others = {label for _, label in given_labels} - {clip["label"]}
        assert [class_names("k710")[index] for index in clip["other_class_ids"] or []] == sorted(others)


@given(rows=rows)
def test_each_release_is_as_published_whatever_the_policy(rows):
    tables = [clips_table(curate(table_of(rows), policy)) for policy in POLICIES]
    columns = [name for name in tables[0].column_names if name.startswith(tuple(KNOWN_SOURCES))]
    assert all(table.select(columns).equals(tables[0].select(columns)) for table in tables)
    for clip in tables[0].to_pylist():
        for source in KNOWN_SOURCES:
            place = (clip["youtube_id"], (clip["time_start_s"], clip["time_end_s"]))
            listed = {(row[1], row[4]) for row in rows if row[0] == source and (row[2], row[3]) == place}
            splits = [split for split in SPLITS if split in {entry[0] for entry in listed}]
            assert clip[f"{source}_split"] == (",".join(splits) or None)
            # Of two labels in one list, the first alphabetically.
            names = [min((label for one, label in listed if one == split != "test"), default=None) for split in splits]
            labels = class_names(source)
            index = clip[f"{source}_class_id"]
            assert (None if index is None else labels[index]) == min(filter(None, names), default=None)
            several = clip.get(f"{source}_class_ids")
            assert (several is not None) == (len(set(names)) > 1)
            if several is not None:
                assert [None if index is None else labels[index] for index in several] == names


@given(rows=rows, policy=st.sampled_from(POLICIES))
def test_a_clips_table_stands_for_its_lists(rows, policy):
    """What audit and explain rely on: rows made back from the table curate as the lists did."""
    one_label = {}  # of two labels in one list the table keeps the first alphabetically, for the release
    for source, split, youtube_id, span, label in sorted(rows):
        one_label.setdefault((source, split, youtube_id, span), (source, split, youtube_id, span, label))
    lists = list(one_label.values())
    clips = clips_table(curate(table_of(lists), policy))
    made_back = list_rows(clips)
    again = clips_table(curate(made_back, policy))
    assert again.equals(clips)
    columns = ("source", "split", "youtube_id", "time_start_s", "time_end_s", "class_id")
    rows_of = [sorted(map(str, table.select(columns).to_pylist())) for table in (made_back, table_of(lists))]
    assert rows_of[0] == rows_of[1]


def test_label_of_another_release_is_refused():
    with pytest.raises(LabelError, match=r"line 2: 'archaeological excavation' is no class of k400"):
        table_of([("k400", "train", IDS[0], (0, 10), "archaeological excavation")])


def test_strict_leaks_name_the_test_clip_they_gave_way_to():
    lists = [("k700", "train", IDS[0], (0, 10), "archery"), ("k400", "test", IDS[0], (10, 20), "archery")]
    clips = clips_table(curate(table_of(lists), Policy(holdout=("val", "test")))).to_pylist()
    assert [(c["drop_reason"], c["kept_clip_id"]) for c in clips] == [
        ("leaked", f"{IDS[0]}_000010_000020"),
        ("unlabelled", None),
    ]


def test_labels_of_test_lists_are_kept_with_their_release_and_nowhere_else():
    """CVDF's K400 test list carries labels; K710 takes none from a test list."""
    label = pa.array(["archery"]).dictionary_encode()
    table = pa.table(
        [label, [IDS[0]], pa.array([0], pa.int32()), pa.array([10], pa.int32()), pa.array([2], pa.int32())],
        schema=LIST_SCHEMA,
    )
    labelled = align([AnnotationList(ListFile("k400", "test", Path("list")), table, (), "")], Alignment())
    (clip,) = clips_table(curate(labelled, Policy())).to_pylist()
    assert clip["k400_class_id"] == class_names("k400").index("archery")
    assert (clip["class_id"], clip["split"], clip["drop_reason"]) == (None, None, "unlabelled")


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"leak": "purge"}, "unknown leak policy 'purge'"),
        ({"holdout": ()}, "holdout must be val or val,test"),
        ({"holdout": ("test",)}, "holdout must be val or val,test"),
        ({"leak": "val-purge", "holdout": ("val", "test")}, "val-purge keeps every video of train"),
        ({"precedence": ("k400", "k400")}, "precedence names each release"),
    ],
)
def test_policies_that_make_no_sense(choices, message):
    with pytest.raises(UsageError, match=message):
        Policy(**choices)


def test_precedence_falls_back_to_the_newest():
    assert sorted(KNOWN_SOURCES, key=Policy(precedence=("k400",)).rank) == ["k400", "k700_2020", "k700", "k600"]
    assert sorted(KNOWN_SOURCES, key=Policy().rank) == list(PRECEDENCE)


@given(rows=rows)
def test_overlaps_count_what_sets_count(rows):
    found = audit(clips_table(curate(table_of(rows), Policy())))
    lists = defaultdict(set)
    for source, split, youtube_id, *_ in rows:
        lists[f"{source} {split}"].add(youtube_id)
    clips = defaultdict(set)
    for source, split, youtube_id, span, _ in rows:
        clips[f"{source} {split}"].add((youtube_id, span))
    assert set(found["lists"]) == set(lists)
    expected = [[len(lists[one] & lists[other]) for other in found["lists"]] for one in found["lists"]]
    assert found["overlap"]["by_id"] == expected
    assert found["videos"] == len(set.union(*lists.values()))
    expected = [[len(clips[one] & clips[other]) for other in found["lists"]] for one in found["lists"]]
    assert found["overlap"]["by_clip"] == expected


@given(rows=rows, policy=st.sampled_from(POLICIES))
def test_conflicts_are_what_the_labelled_rows_say(rows, policy):
    labels, spans, clip_labels = defaultdict(set), defaultdict(set), defaultdict(set)
    for _, split, youtube_id, span, label in rows:
        if split != "test":
            labels[youtube_id].add(label)
            spans[youtube_id].add(span)
            clip_labels[(youtube_id, *span)].add(label)
    found = conflicts(clips_table(curate(table_of(rows), policy)))
    assert found.labels_of_one_id.to_pylist() == sorted(one for one, names in labels.items() if len(names) > 1)
    assert found.spans_of_one_id.to_pylist() == sorted(one for one, several in spans.items() if len(several) > 1)
    assert found.labels_of_one_clip.to_pylist() == sorted(
        "{}_{:06d}_{:06d}".format(*clip) for clip, names in clip_labels.items() if len(names) > 1
    )


@pytest.mark.parametrize("ids", [["abcdefghijk", "abc"], ["abc"], ["abcdefghij", "abcdefghijkl"]])
def test_ids_of_other_lengths_are_refused_and_not_mixed_up(ids):
    """Even where their lengths sum to what is expected."""
    with pytest.raises(ValueError, match="has not 11 characters"):
        fixed_width(pa.chunked_array([pa.array(ids)]), 11)
    assert len(fixed_width(pa.chunked_array([pa.array(["abcdefghijk", *ids])[:1]]), 11)) == 1  # others lie beyond it
