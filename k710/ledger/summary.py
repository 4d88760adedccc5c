"""What a ledger says: the state of each clip, videos that are gone for everybody, and the decay over time."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from k710.ledger.ledger import ANSWERS, HAD, YOUTUBE

# Answers that do not depend on who asks. Another country, age, account or day may get another answer for the others.
FOR_EVERYBODY = ("gone", "private")
SIGHTINGS = 2  # so many answers are believed


@dataclass(frozen=True)
class State:
    """The clips of an origin by their latest answer; `disputed` ones have several answers on their latest day, and
    `contradicted` ones were `had` and were refused to somebody on another day."""

    origin: str
    clips: int
    answers: dict[str, int]
    disputed: int
    contradicted: int


def states(ledger: pa.Table) -> list[State]:
    """The state of the clips of each origin."""
    found = []
    for origin in sorted(pc.unique(ledger["origin"]).to_pylist()):
        rows = ledger.filter(pc.equal(ledger["origin"], origin))
        latest = rows.group_by("clip_id").aggregate([("last_day", "max")])
        last = rows.join(latest, "clip_id").filter(pc.field("last_day") == pc.field("last_day_max"))
        by_clip = last.group_by("clip_id").aggregate([("answer", "count_distinct"), ("answer", "min")])
        agreed = by_clip.filter(pc.equal(by_clip["answer_count_distinct"], 1))
        counts = {each["values"]: each["counts"] for each in pc.value_counts(agreed["answer_min"]).to_pylist()}
        answers = {answer: counts[answer] for answer in ANSWERS if answer in counts}
        had, refused = (pc.unique(rows["clip_id"].filter(mask)) for mask in _had_and_refused(rows))
        both = pc.sum(pc.is_in(had, refused)).as_py() or 0
        disputed = len(by_clip) - len(agreed)
        found.append(State(origin, len(by_clip), answers, disputed, both))
    return found


def _had_and_refused(rows: pa.Table) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    had = pc.equal(rows["answer"], HAD)
    return had, pc.invert(had)


def gone_for_everybody(ledger: pa.Table, answers: tuple[str, ...] = FOR_EVERYBODY) -> pa.Array:
    """The YouTube videos that at least SIGHTINGS answers say are gone or private, and that nobody had afterwards.

    Two witnesses are two answers. One witness is two if it asked again on a later day. A video that somebody had on the
    day of the last such answer, or later, is not among them.
    """
    rows = ledger.filter(pc.equal(ledger["origin"], YOUTUBE))
    rows = rows.append_column("video", pc.utf8_slice_codeunits(rows["clip_id"], 0, 11))
    refused = rows.filter(pc.is_in(rows["answer"], pa.array(answers, pa.string())))
    days = [("first_day", "min"), ("last_day", "max")]
    by_witness = refused.group_by(["video", "witness"]).aggregate(days)
    again = pc.less(by_witness["first_day_min"], by_witness["last_day_max"])
    by_witness = by_witness.append_column("sightings", pc.add(pc.cast(again, pa.int64()), 1))
    by_video = by_witness.group_by("video").aggregate([("sightings", "sum"), ("last_day_max", "max")])
    had = rows.filter(pc.equal(rows["answer"], HAD)).group_by("video").aggregate([("last_day", "max")])
    joined = by_video.join(had, "video", join_type="left outer")
    later = pc.fill_null(pc.greater_equal(joined["last_day_max"], joined["last_day_max_max"]), False)
    gone = pc.and_(pc.greater_equal(joined["sightings_sum"], SIGHTINGS), pc.invert(later))
    return joined["video"].filter(gone).combine_chunks()


@dataclass(frozen=True)
class Month:
    """The clips that YouTube was asked for in a month, `2026-11`, and how many of them somebody got."""

    month: str
    asked: int
    had: int


def decay(ledger: pa.Table) -> list[Month]:
    """The months in which YouTube was asked, in order. A row counts in the month of its first and of its last day."""
    rows = ledger.filter(pc.equal(ledger["origin"], YOUTUBE))
    sightings = pa.concat_tables(
        [
            pa.table({"clip": rows["clip_id"], "had": pc.equal(rows["answer"], HAD), "month": _month(rows[name])})
            for name in ("first_day", "last_day")
        ]
    )
    by_clip = sightings.group_by(["month", "clip"]).aggregate([("had", "any")])
    by_month = by_clip.group_by("month").aggregate([("had_any", "count"), ("had_any", "sum")]).sort_by("month")
    return [Month(row["month"], row["had_any_count"], row["had_any_sum"]) for row in by_month.to_pylist()]


def _month(days: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.utf8_slice_codeunits(pc.cast(days, pa.string()), 0, 7)
