"""The origin `youtube`: what neither local copies nor archives have, one download for all clips of a video."""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter, deque
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.compute as pc

from k710.errors import UsageError
from k710.fetch.origins.local import clip_of
from k710.fetch.origins.youtube.gone import Suspicions
from k710.fetch.origins.youtube.options import YouTubeOptions
from k710.fetch.origins.youtube.session import LOOKED_AT, WATCH_URL, Asking, Session, Video
from k710.fetch.unit_work import Run, do_unit
from k710.fetch.wanted import in_hash_order, to_do
from k710.lists.clip_names import ClipName
from k710.storage.http_reader import is_web_address, without_password
from k710.text import counted

UNIT_VIDEOS = 50
GUEST_PER_H, ACCOUNT_PER_H = 300, 2000  # videos, by public reports
KNOWN_ALIVE = ("jNQXAC9IVRw", "dQw4w9WgXcQ", "kJQP7kiw5Fk")  # public for a decade or two, and watched by billions


@dataclass(frozen=True)
class VideoUnit:
    """Some videos, in hash order."""

    videos: tuple[Video, ...]


@dataclass(frozen=True)
class YouTubeOrigin:
    """YouTube, or a mirror that serves videos by their IDs at `mirror_url`, with {id} where the ID stands."""

    mirror_url: str = ""

    @property
    def name(self) -> str:
        return f"youtube:{self.mirror_url}" if self.mirror_url else "youtube"

    def checked(self) -> YouTubeOrigin:
        """The origin itself. Raises UsageError for an address that is none of a mirror's videos."""
        url = self.mirror_url
        if url and (not is_web_address(url) or "{id}" not in url or urlsplit(url).username):
            raise UsageError(
                f"youtube:{without_password(url)}: a mirror's address is http(s)://HOST/…, with {{id}} where the "
                f"video's ID stands and without a password"
            )
        return self


class YouTubeClips:
    """The clips to ask YouTube or a mirror for, in units of work. `media`: the store's rows."""

    def __init__(self, origin: YouTubeOrigin, options: YouTubeOptions, media: pa.Table) -> None:
        self.name = origin.name
        self._url = origin.mirror_url or WATCH_URL
        self._is_mirror = bool(origin.mirror_url)
        self._options = options
        self._suspicions = Suspicions(media, self.name)

    def units(self, missing: pa.Array, media: pa.Table, retry: frozenset[str], workers: int) -> list[VideoUnit]:
        """The clips to ask for, by video: new ones, suspicions that can be confirmed, and those of `retry`."""
        clip_ids = to_do(missing, self._suspicions.without_due(media), self.name, retry)
        return _in_units(clip_ids.to_pylist(), workers)

    def units_to_confirm(self, missing: pa.Array, media: pa.Table, since: datetime, workers: int) -> list[VideoUnit]:
        """The clips of videos that were found gone after `since`, where that is an hour ago or more."""
        suspected = missing.filter(pc.is_in(missing, self._suspicions.clips(media, since)))
        clip_ids = to_do(suspected, self._suspicions.without_due(media), self.name, ())
        return _in_units(clip_ids.to_pylist(), workers)

    def announcement(self, units: list[VideoUnit]) -> str:
        """The message before anybody is asked."""
        videos = sum(len(unit.videos) for unit in units)
        owners = "YouTube's terms and the videos' owners decide what may be done with them."
        if self._is_mirror:
            return f"{self.name}: up to {counted(videos, 'video')} to ask for. {owners}"
        guest, account = (_days(videos / rate) for rate in (GUEST_PER_H, ACCOUNT_PER_H))
        return (
            f"youtube: up to {videos:,} video IDs to ask YouTube for: about {guest} as a guest ({GUEST_PER_H:,} videos "
            f"an hour), {account} with an account ({ACCOUNT_PER_H:,} an hour), by public reports. {owners}"
        )

    def do(self, unit: VideoUnit, run: Run) -> None:
        """Ask for the videos of a unit and settle their clips. When the session fails, what is settled is committed
        before anybody waits."""
        session = run.shared(self.name, lambda: self._session(run))
        prefix = f"youtube-{hashlib.sha256(self.name.encode()).hexdigest()[:8]}" if self._is_mirror else "youtube"
        left, tries = deque(unit.videos), Counter[str]()
        while left and session.breaker.wait(run.stop):
            work = Asking(session, self._suspicions, run, left, tries).work()
            do_unit(run, prefix, self.name, work, lambda: {"youtube": {"yt_dlp": session.downloads.version}})

    def _session(self, run: Run) -> Session:
        alive = [*self._options.alive, *self._suspicions.last_alive(LOOKED_AT)]
        return Session(self.name, self._url, self._options, alive if self._is_mirror else [*alive, *KNOWN_ALIVE], run)


def _in_units(clip_ids: list[str], workers: int) -> list[VideoUnit]:
    """The clips by video, videos in hash order; small units where there are few, so that no process is idle."""
    by_video: dict[str, list[ClipName]] = {}
    for clip in sorted(map(clip_of, clip_ids), key=str):
        if "~" in clip.youtube_id:  # of a source whose IDs are not YouTube's
            continue
        by_video.setdefault(clip.youtube_id, []).append(clip)
    videos = [Video(youtube_id, tuple(by_video[youtube_id])) for youtube_id in in_hash_order(by_video)]
    size = max(1, min(UNIT_VIDEOS, -(-len(videos) // (2 * workers))))
    return [VideoUnit(tuple(itertools.islice(videos, at, at + size))) for at in range(0, len(videos), size)]


def _days(hours: float) -> str:
    if hours < 1:
        return f"{max(1, round(hours * 60))} min"
    return f"{hours / 24:,.1f} days" if hours >= 48 else f"{hours:.0f} h"
