"""The origin `youtube`: what neither local copies nor archives have, one download for all clips of a video."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.compute as pc

from k710.clip_names import ClipName
from k710.errors import UsageError
from k710.fetch.breaker import Breaker
from k710.fetch.from_local import clip_of
from k710.fetch.jobs import Candidate, ClipJob, Made
from k710.fetch.store_unit import is_disk_full
from k710.fetch.unit_work import DISK_FULL, Run, Work, do_unit
from k710.fetch.wanted import in_hash_order, to_do
from k710.fetch.youtube_downloads import Answer, Downloads, DownloadsStoppedError
from k710.fetch.youtube_gone import GONE, Suspicions
from k710.fetch.youtube_options import YoutubeOptions
from k710.fetch.youtube_verdict import NO_SPACE, TROUBLES, Verdict, plain, verdict, warning

WATCH_URL = "https://www.youtube.com/watch?v={id}"
UNIT_VIDEOS = 50
GUEST_PER_H, ACCOUNT_PER_H = 300, 2000  # videos, by public reports
MAX_TRIES = 3  # of one video in one run
KNOWN_ALIVE = ("jNQXAC9IVRw", "dQw4w9WgXcQ", "kJQP7kiw5Fk")  # public for a decade or two, and watched by billions
_LOOKED_AT = 3
ROUNDED_S = 1.0  # sites say how long a video lasts in whole seconds


@dataclass(frozen=True)
class Video:
    """A video and those of its clips that are wanted."""

    youtube_id: str
    clips: tuple[ClipName, ...]


@dataclass(frozen=True)
class VideoUnit:
    """Some videos, in hash order."""

    videos: tuple[Video, ...]


def check_origin(where: str) -> None:
    """Raise UsageError for an address, behind `youtube:`, that is none of a mirror's videos."""
    parts = urlsplit(where)
    if where and (parts.scheme not in ("http", "https") or not parts.hostname or "{id}" not in where or parts.username):
        raise UsageError(
            f"youtube:{where}: a mirror's address is http(s)://HOST/…, with {{id}} where the video's ID stands and "
            f"without a password"
        )


class YoutubeOrigin:
    """YouTube, or a mirror that serves videos by their IDs at `where`, as an origin."""

    def __init__(self, where: str, options: YoutubeOptions, media: pa.Table) -> None:
        self.name = f"youtube:{where}" if where else "youtube"
        self._url = where or WATCH_URL
        self._is_mirror = bool(where)
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
        """What is said before anybody is asked."""
        videos = sum(len(unit.videos) for unit in units)
        owners = "YouTube's terms and the videos' owners decide what may be done with them."
        if self._is_mirror:
            return f"{self.name}: up to {videos:,} videos to ask for. {owners}"
        guest, account = (_days(videos / rate) for rate in (GUEST_PER_H, ACCOUNT_PER_H))
        return (
            f"youtube: up to {videos:,} video IDs to ask YouTube for: about {guest} as a guest ({GUEST_PER_H:,} videos "
            f"an hour), {account} with an account ({ACCOUNT_PER_H:,} an hour), by public reports. {owners}"
        )

    def do(self, unit: VideoUnit, run: Run) -> None:
        """Ask for the videos of a unit and settle their clips. When the session fails, what is settled is committed
        before anybody waits."""
        session = run.shared(self.name, lambda: Session(self, run))
        prefix = f"youtube-{hashlib.sha256(self.name.encode()).hexdigest()[:8]}" if self._is_mirror else "youtube"
        left, tries = deque(unit.videos), Counter[str]()
        while left and session.breaker.wait(run.stop):
            work = _Asking(self, session, run, left, tries).work()
            do_unit(run, prefix, self.name, work, lambda: {"youtube": {"yt_dlp": session.downloads.version}})

    def url_of(self, youtube_id: str) -> str:
        """The address of a video. An ID may begin with `-`: here it is never an option."""
        return self._url.replace("{id}", youtube_id)

    def failure(self, found: Verdict, youtube_id: str) -> str:
        """The class to record; gone only after two verdicts."""
        return self._suspicions.failure(youtube_id) if found.kind == GONE else found.kind

    def job(self, clip: ClipName, file: Path, run: Run) -> ClipJob:
        """The clip from the downloaded file: the whole video, which is cut, or the section."""
        assert clip.span_s is not None
        candidate = Candidate(file, named_span=self._options.sections)
        # No spans: the file is known to be the whole video, so it is never taken for one of its clips.
        return ClipJob(str(clip), clip.span_s, (), (candidate,), run.new_path(), run.profile)

    def new_downloads(self, run: Run) -> Downloads:
        """The processes that ask."""
        kind = "Generic" if self._is_mirror else "Youtube"
        return Downloads(
            self._options, run.profile, run.scratch, url_of=self.url_of, extractor=kind, paced=not self._is_mirror
        )

    def known_alive(self) -> list[str]:
        """Videos that lived when they were last asked for, those of the options first."""
        own = [*self._options.alive, *self._suspicions.last_alive(_LOOKED_AT)]
        return own if self._is_mirror else [*own, *KNOWN_ALIVE]

    @property
    def sections(self) -> bool:
        return self._options.sections


class Session:
    """What all units of a run share: the processes, the breaker, and which video was seen alive last."""

    def __init__(self, origin: YoutubeOrigin, run: Run) -> None:
        self.downloads = origin.new_downloads(run)
        self.breaker = Breaker(origin.name, TROUBLES, run.say)
        self.alive: deque[str] = deque(origin.known_alive()[:_LOOKED_AT], maxlen=_LOOKED_AT)
        self._run = run
        self._warned: set[str] = set()

    def close(self) -> None:
        self.downloads.close()

    def warn(self, answer: Answer) -> None:
        """Say what the user can mend, once."""
        for text in filter(None, map(warning, answer.warnings)):
            if text not in self._warned:
                self._warned.add(text)
                self._run.say(f"youtube: {text}")

    def trouble(self) -> Verdict | None:
        """What is wrong with the session by what it says of videos that are known to live; None where one answers. A
        blocked session says of all of them that they are gone."""
        found = Verdict("blocked", "no video is known to live; name one by --youtube-alive")
        for youtube_id in list(self.alive):
            answer = self.downloads.look(youtube_id, self._run.stop)
            self.warn(answer)
            if answer.said is None:
                return None
            said = verdict(answer.said, answer.warnings)
            found = said if said.kind in ("rate", "bot", "network") else Verdict("blocked", "no living video answers")
        return found


class _Asking:
    """One pass over the videos that are `left` of a unit, up to the first that opens the breaker."""

    def __init__(
        self, origin: YoutubeOrigin, session: Session, run: Run, left: deque[Video], tries: Counter[str]
    ) -> None:
        self._origin, self._session, self._run = origin, session, run
        self._left, self._tries = left, tries
        self._gone: list[tuple[Video, Verdict]] = []  # said to be gone, until a living video vouches for the session

    def work(self) -> Iterator[Work]:
        """The clips to make, and those that there are none of. Verdicts that a video is gone are held back until a
        video that lives has answered after them."""
        try:
            first = True
            while self._left and (first or self._session.breaker.closed) and not self._run.stop.asked:
                first = False
                yield from self._ask(self._left.popleft())
            if self._gone and not self._run.stop.asked:
                yield from self._decide()
        except DownloadsStoppedError:
            return
        except OSError as error:
            if not is_disk_full(error):
                raise
            self._run.stop.ask(DISK_FULL)
        finally:
            self._session.breaker.nothing()

    def _ask(self, video: Video) -> Iterator[Work]:
        run, session = self._run, self._session
        self._tries[video.youtube_id] += 1
        spans = tuple(clip.span_s for clip in video.clips if clip.span_s) if self._origin.sections else ()
        answer = session.downloads.bring(video.youtube_id, spans, run.stop, name=run.new_path)
        session.warn(answer)
        if answer.said is None:
            session.breaker.answered()
            session.alive.appendleft(video.youtube_id)
            yield from self._settle_gone()
            yield from self._clips(video, answer)
            return
        found = verdict(answer.said, answer.warnings)
        if found.kind == GONE:
            session.breaker.nothing()
            self._gone.append((video, found))
        elif found.of_the_video:
            session.breaker.answered()
            yield from self._none(video, found)
        elif found.kind == NO_SPACE:
            run.stop.ask(DISK_FULL)
        else:
            session.breaker.failed(found.kind, found.text, run.stop)
            self._again(video, found, limit=MAX_TRIES if TROUBLES[found.kind].in_a_row == 1 else 1)

    def _decide(self) -> Iterator[Work]:
        """What becomes of verdicts that no living video has followed."""
        if self._session.breaker.closed:
            trouble = self._session.trouble()
            if trouble is None:
                yield from self._settle_gone()
                return
            text = f"{len(self._gone):,} videos are said to be gone, but {trouble.text}"
            self._session.breaker.failed(trouble.kind, text, self._run.stop)
        held, self._gone = self._gone, []
        for video, found in held:
            self._again(video, found, limit=MAX_TRIES)

    def _settle_gone(self) -> Iterator[Work]:
        held, self._gone = self._gone, []
        for video, found in held:
            yield from self._none(video, found)

    def _again(self, video: Video, found: Verdict, *, limit: int) -> None:
        """Ask for the video once more, after all others; given up, it is left for the next run."""
        if self._tries[video.youtube_id] < limit:
            self._left.append(video)
        else:
            self._run.tally.unsettled[video.youtube_id] = f"{found.kind}: {found.text}"

    def _none(self, video: Video, found: Verdict) -> Iterator[Work]:
        failure = self._origin.failure(found, video.youtube_id)
        for clip in video.clips:
            made = Made(str(clip), failure, found.text)
            yield Work(made, (self._origin.url_of(video.youtube_id),))

    def _clips(self, video: Video, answer: Answer) -> Iterator[Work]:
        came_from = (f"{self._origin.url_of(video.youtube_id)}#{plain(answer.format_id)}",)
        for number, clip in enumerate(video.clips, 1):
            file = answer.files.get(number if self._origin.sections else 0)
            assert clip.span_s is not None
            if self._origin.sections and (answer.duration_s or math.inf) < clip.span_s[1] - ROUNDED_S:
                # A section says nothing of the video that it is from; a whole one is refused for the same reason.
                said = f"the video lasts {answer.duration_s:.1f} s, the span ends at {clip.span_s[1]} s"
                yield Work(Made(str(clip), "mismatch", said), came_from, (file,) if file else ())
            elif file is None:
                self._run.tally.unsettled[video.youtube_id] = "yt-dlp brought no file of this section"
            else:
                last = number == len(video.clips) or self._origin.sections
                yield Work(self._origin.job(clip, file, self._run), came_from, (file,) if last else ())


def _in_units(clip_ids: list[str], workers: int) -> list[VideoUnit]:
    """The clips by video, videos in hash order; small units where there are few, so that no process is idle."""
    by_video: dict[str, list[ClipName]] = {}
    for clip in sorted(map(clip_of, clip_ids), key=str):
        by_video.setdefault(clip.youtube_id, []).append(clip)
    videos = [Video(youtube_id, tuple(by_video[youtube_id])) for youtube_id in in_hash_order(by_video)]
    size = max(1, min(UNIT_VIDEOS, -(-len(videos) // (2 * workers))))
    return [VideoUnit(tuple(itertools.islice(videos, at, at + size))) for at in range(0, len(videos), size)]


def _days(hours: float) -> str:
    if hours < 1:
        return f"{max(1, round(hours * 60))} min"
    return f"{hours / 24:,.1f} days" if hours >= 48 else f"{hours:.0f} h"
