"""When a video counts as gone: two verdicts, an hour apart. The first is a row of the class `gone_unconfirmed`."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pyarrow as pa
import pyarrow.compute as pc

from k710.fetch.wanted import last_verdicts
from k710.sources.video_ids import video_of

CONFIRM_S = 3600.0
SUSPECTED, GONE = "gone_unconfirmed", "gone"


class Suspicions:
    """When each video was first found gone at an origin, by the rows of a store: those of clips there that were
    settled after the video was last seen alive. `media`: rows with clip_id, failure, origin, settled_at."""

    def __init__(self, media: pa.Table, origin: str) -> None:
        self.origin = origin
        rows = media.filter(pc.equal(media["origin"], origin))
        self.alive = _by_video(rows.filter(pc.is_null(rows["failure"])), max)
        verdicts = rows.filter(pc.is_in(rows["failure"], pa.array([SUSPECTED, GONE])))
        after = [
            video_of(clip_id) not in self.alive or settled_at > self.alive[video_of(clip_id)]
            for clip_id, settled_at in zip(
                *(verdicts[name].to_pylist() for name in ("clip_id", "settled_at")), strict=True
            )
        ]
        self.first = _by_video(verdicts.filter(pa.array(after, pa.bool_())), min)

    def failure(self, youtube_id: str, now: datetime | None = None) -> str:
        """The class of a further verdict that the video is gone: confirmed, where the first is an hour old."""
        return GONE if self.is_due(youtube_id, now) else SUSPECTED

    def is_due(self, youtube_id: str, now: datetime | None = None) -> bool:
        """Whether a suspicion is old enough to be confirmed."""
        first = self.first.get(youtube_id)
        return first is not None and (now or _now()) - first >= timedelta(seconds=CONFIRM_S)

    def clips(self, media: pa.Table, since: datetime) -> pa.Array:
        """The clips of videos that were suspected after `since` for the first time."""
        suspected = pc.and_(pc.equal(media["failure"], SUSPECTED), pc.equal(media["origin"], self.origin))
        found = media["clip_id"].filter(pc.fill_null(suspected, False)).to_pylist()
        new = [clip_id for clip_id in found if self.first.get(video_of(clip_id), since) > since]
        return pa.array(new, pa.string())

    def without_due(self, media: pa.Table) -> pa.Table:
        """The rows that count, without the suspicions that are due: their clips are asked for again."""
        media = last_verdicts(media)
        suspected = pc.fill_null(pc.equal(media["failure"], SUSPECTED), False)
        suspected = pc.and_(suspected, pc.equal(media["origin"], self.origin))
        now = _now()
        clip_ids = media["clip_id"].filter(suspected).to_pylist()
        due = [clip_id for clip_id in clip_ids if self.is_due(video_of(clip_id), now)]
        is_due = pc.and_(suspected, pc.is_in(media["clip_id"], pa.array(due, pa.string())))
        return media.filter(pc.invert(is_due))

    def last_alive(self, count: int) -> list[str]:
        """The videos that were fetched last."""
        return sorted(self.alive, key=lambda youtube_id: self.alive[youtube_id], reverse=True)[:count]


def _by_video(rows: pa.Table, choose: object) -> dict[str, datetime]:
    """The first (`min`) or last (`max`) time of each video's rows."""
    found: dict[str, datetime] = {}
    for clip_id, settled_at in zip(rows["clip_id"].to_pylist(), rows["settled_at"].to_pylist(), strict=True):
        youtube_id = video_of(clip_id)
        before = found.get(youtube_id)
        if before is None or (settled_at > before) == (choose is max):
            found[youtube_id] = settled_at
    return found


def _now() -> datetime:
    return datetime.now(timezone.utc)
