"""When a video counts as gone, by the rows of a store."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from k710.fetch.origins.youtube.gone import GONE, SUSPECTED, Suspicions
from k710.store.store import MEDIA_SCHEMA

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)
VIDEO, OTHER = "-video-vide", "other-other"


def clip(youtube_id: str, start: int = 0) -> str:
    return f"{youtube_id}_{start:06d}_{start + 10:06d}"


def media(*rows: tuple[str, str | None, float], origin: str = "youtube") -> pa.Table:
    """Rows of clip, failure, and how many hours before NOW it was settled."""
    plain = [
        {"clip_id": name, "failure": failure, "origin": origin, "settled_at": NOW - timedelta(hours=hours)}
        for name, failure, hours in rows
    ]
    fields = [MEDIA_SCHEMA.field(name) for name in ("clip_id", "failure", "origin", "settled_at")]
    return pa.Table.from_pylist(plain, schema=pa.schema(fields))


def test_a_first_verdict_is_a_suspicion():
    assert Suspicions(media(), "youtube").failure(VIDEO, NOW) == SUSPECTED


@given(st.floats(0, 3))
def test_a_second_verdict_counts_after_an_hour(hours):
    found = Suspicions(media((clip(VIDEO), SUSPECTED, hours)), "youtube")
    age = NOW - found.first[VIDEO]
    assert found.failure(VIDEO, NOW) == (GONE if age >= timedelta(hours=1) else SUSPECTED)
    assert found.failure(OTHER, NOW) == SUSPECTED


def test_the_first_of_several_verdicts_counts():
    rows = media((clip(VIDEO), SUSPECTED, 0.2), (clip(VIDEO), SUSPECTED, 1.5))
    assert Suspicions(rows, "youtube").failure(VIDEO, NOW) == GONE


def test_a_verdict_on_one_clip_is_one_on_its_video():
    assert Suspicions(media((clip(VIDEO, 50), SUSPECTED, 2)), "youtube").failure(VIDEO, NOW) == GONE


def test_a_success_in_between_clears_the_video():
    rows = media((clip(VIDEO), SUSPECTED, 5), (clip(VIDEO, 50), None, 3))
    found = Suspicions(rows, "youtube")
    assert found.failure(VIDEO, NOW) == SUSPECTED
    assert found.last_alive(3) == [VIDEO]
    again = Suspicions(pa.concat_tables([rows, media((clip(VIDEO), SUSPECTED, 2))]), "youtube")
    assert again.failure(VIDEO, NOW) == GONE


def test_another_origin_says_nothing():
    rows = media((clip(VIDEO), SUSPECTED, 5), origin="youtube:http://mirror/{id}")
    assert Suspicions(rows, "youtube").failure(VIDEO, NOW) == SUSPECTED
    other_failures = media((clip(VIDEO), "private", 5), (clip(VIDEO), "corrupt", 5))
    assert Suspicions(other_failures, "youtube").failure(VIDEO, NOW) == SUSPECTED


def test_suspicions_that_are_due_are_asked_for_again():
    now = datetime.now(timezone.utc)
    hours = (NOW - now).total_seconds() / 3600
    rows = media(
        (clip(VIDEO), SUSPECTED, hours + 2), (clip(OTHER), SUSPECTED, hours + 0.5), (clip("third-third"), None, hours)
    )
    found = Suspicions(rows, "youtube")
    assert found.without_due(rows)["clip_id"].to_pylist() == [clip(OTHER), clip("third-third")]
    assert found.clips(rows, now - timedelta(hours=1)).to_pylist() == [clip(OTHER)]
    mirror = media((clip(VIDEO), SUSPECTED, hours + 2), origin="youtube:http://mirror/{id}")
    assert found.without_due(mirror).num_rows == 1


def test_who_lived_last():
    rows = media(*((clip(f"video-{n:05}"), None, n) for n in range(5)))
    assert Suspicions(rows, "youtube").last_alive(2) == ["video-00000", "video-00001"]


def test_a_suspicion_is_due_whatever_was_said_of_the_clip_before():
    """A private video, asked for again, was said to be gone; an hour later that is to be confirmed."""
    rows = media((clip(VIDEO), "private", 9), (clip(VIDEO), SUSPECTED, 2), (clip(OTHER), SUSPECTED, 9))
    rows = pa.concat_tables([rows, media((clip(OTHER), "private", 2))])
    left = Suspicions(rows, "youtube").without_due(rows)
    assert left.select(["clip_id", "failure"]).to_pylist() == [{"clip_id": clip(OTHER), "failure": "private"}]
