"""Ledgers: their union, what they say, what a damaged or hostile file is told."""

from __future__ import annotations

import datetime

import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from k710.errors import StoreError
from k710.ledger.ledger import ANSWERS, LEDGER_SCHEMA, merge, read_ledger, write_ledger
from k710.ledger.summary import Month, decay, gone_for_everybody, states

DAY = datetime.date(2026, 1, 1)
ONE, TWO = "1" * 16, "2" * 16


def day(number: int) -> datetime.date:
    return DAY + datetime.timedelta(days=number)


def ledger(*rows: tuple[str, str, int, int, str], origin: str = "youtube") -> pa.Table:
    """Rows of (video letter, answer, first day, last day, witness)."""
    return pa.Table.from_pylist(
        [
            {
                "clip_id": f"{video * 11}_000010_000020",
                "origin": origin,
                "answer": answer,
                "first_day": day(first),
                "last_day": day(last),
                "witness": witness,
            }
            for video, answer, first, last, witness in rows
        ],
        schema=LEDGER_SCHEMA,
    )


a_row = st.tuples(
    st.sampled_from("abc"),
    st.sampled_from(("had", "gone", "private")),
    st.integers(0, 5),
    st.integers(0, 5),
    st.sampled_from((ONE, TWO)),
).map(lambda row: (row[0], row[1], min(row[2:4]), max(row[2:4]), row[4]))
a_ledger = st.lists(a_row, max_size=8).map(lambda rows: merge([ledger(*rows)]))


@given(a_ledger, a_ledger, a_ledger)
def test_merging_is_commutative_associative_and_idempotent(a, b, c):
    assert merge([a, b]).equals(merge([b, a]))
    assert merge([merge([a, b]), c]).equals(merge([a, merge([b, c])]))
    assert merge([a, a]).equals(a)
    assert merge([merge([a, b]), b]).equals(merge([a, b]))


@given(a_ledger, a_ledger)
def test_merging_loses_no_answer_and_no_day(a, b):
    merged = {tuple(row.values()): None for row in merge([a, b]).select(["clip_id", "answer", "witness"]).to_pylist()}
    for one in (a, b):
        for row in one.to_pylist():
            assert (row["clip_id"], row["answer"], row["witness"]) in merged
    days = [row[name] for one in (a, b) for row in one.to_pylist() for name in ("first_day", "last_day")]
    kept = [row[name] for row in merge([a, b]).to_pylist() for name in ("first_day", "last_day")]
    assert (min(days, default=None), max(days, default=None)) == (min(kept, default=None), max(kept, default=None))


def gone_by_definition(table: pa.Table) -> set[str]:
    rows = table.to_pylist()
    found = set()
    for video in {row["clip_id"][:11] for row in rows}:
        own = [row for row in rows if row["clip_id"][:11] == video]
        refused = [row for row in own if row["answer"] in ("gone", "private")]
        sightings = 0
        for witness in {row["witness"] for row in refused}:
            days = {row[name] for row in refused if row["witness"] == witness for name in ("first_day", "last_day")}
            sightings += min(len(days), 2)
        last = max((row["last_day"] for row in refused), default=None)
        if sightings >= 2 and not any(row["answer"] == "had" and row["last_day"] >= last for row in own):
            found.add(video)
    return found


@given(a_ledger)
def test_gone_for_everybody_is_what_its_definition_says(table):
    assert set(gone_for_everybody(table).to_pylist()) == gone_by_definition(table)


@pytest.mark.parametrize(
    ("rows", "gone"),
    [
        ([("a", "gone", 1, 1, ONE)], []),
        ([("a", "gone", 1, 1, ONE), ("a", "gone", 1, 1, TWO)], ["a" * 11]),
        ([("a", "gone", 1, 3, ONE)], ["a" * 11]),
        ([("a", "gone", 1, 3, ONE), ("a", "had", 2, 2, TWO)], ["a" * 11]),
        ([("a", "gone", 1, 3, ONE), ("a", "had", 3, 3, TWO)], []),
        ([("a", "gone", 1, 1, ONE), ("a", "private", 2, 2, TWO)], ["a" * 11]),
        ([("a", "age", 1, 3, ONE), ("a", "geo", 1, 3, TWO)], []),
        ([("a", "gone_unconfirmed", 1, 3, ONE)], []),
    ],
)
def test_who_is_believed(rows, gone):
    assert gone_for_everybody(ledger(*rows)).to_pylist() == gone


def test_an_archive_that_lacks_a_clip_says_nothing_about_youtube():
    assert gone_for_everybody(ledger(("a", "gone", 1, 3, ONE), origin="cvdf:k400-train")).to_pylist() == []


def test_states_are_the_latest_answers():
    table = ledger(
        ("a", "had", 1, 2, ONE),
        ("a", "gone", 3, 3, TWO),
        ("b", "had", 1, 1, ONE),
        ("c", "had", 4, 4, ONE),
        ("c", "private", 4, 4, TWO),
    )
    (state,) = states(table)
    assert (state.origin, state.clips) == ("youtube", 3)
    assert state.answers == {"had": 1, "gone": 1}
    assert (state.disputed, state.contradicted) == (1, 2)


def test_decay_counts_a_clip_once_a_month():
    table = ledger(
        ("a", "had", 0, 40, ONE), ("a", "had", 5, 5, TWO), ("b", "gone", 3, 3, ONE), ("b", "gone", 45, 45, TWO)
    )
    assert decay(table) == [Month("2026-01", 2, 1), Month("2026-02", 2, 1)]


def test_a_ledger_is_read_as_it_was_written(tmp_path):
    table = merge([ledger(*(("a", answer, 1, 2, ONE) for answer in ANSWERS))])
    write_ledger(tmp_path / "l.parquet", table)
    assert read_ledger(tmp_path / "l.parquet").equals(table)


@pytest.mark.parametrize(
    ("column", "value", "text"),
    [
        ("clip_id", "../../etc/passwd", "row 2: clip_id '../../etc/passwd': want a clip of a YouTube video"),
        ("clip_id", "mine~holiday", "row 2: clip_id"),
        ("clip_id", None, "row 2: clip_id 'None'"),
        ("origin", "local:/home/me", "row 2: origin 'local:/home/me'"),
        ("answer", "removed", "row 2: answer 'removed': want one of had, not_video"),
        ("witness", "me", "row 2: witness 'me': want 16 hexadecimal digits"),
        ("last_day", day(-1), "row 2: last_day '2025-12-31': want a day that is not before first_day"),
    ],
)
def test_a_wrong_value_is_named_with_its_row(tmp_path, column, value, text):
    rows = ledger(("a", "had", 1, 1, ONE), ("b", "had", 1, 1, ONE)).to_pylist()
    rows[1][column] = value
    write_ledger(tmp_path / "l.parquet", pa.Table.from_pylist(rows, schema=LEDGER_SCHEMA))
    with pytest.raises(StoreError) as refused:
        read_ledger(tmp_path / "l.parquet")
    assert text in str(refused.value)


def test_files_that_are_no_ledgers(tmp_path):
    write_ledger(tmp_path / "whole.parquet", ledger(("a", "had", 1, 1, ONE)))
    whole = (tmp_path / "whole.parquet").read_bytes()
    (tmp_path / "cut.parquet").write_bytes(whole[:-20])
    (tmp_path / "text.parquet").write_text("clip_id,origin\n")
    pa.parquet.write_table(pa.table({"clip_id": ["a"]}), tmp_path / "other.parquet")
    metadata = {b"k710": b'{"ledger": "9.0"}'}
    newer = ledger(("a", "had", 1, 1, ONE)).replace_schema_metadata(metadata)
    pa.parquet.write_table(newer, tmp_path / "newer.parquet")
    for name, text in (
        ("cut", "damaged"),
        ("text", "damaged"),
        ("other", "is no ledger"),
        ("newer", "upgrade k710"),
        ("missing", "no such file"),
    ):
        with pytest.raises(StoreError, match=text):
            read_ledger(tmp_path / f"{name}.parquet")
