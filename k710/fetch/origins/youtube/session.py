"""Asking for videos, one after the other: what each answer means for its clips, and for the session."""

from __future__ import annotations

import itertools
import math
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from k710.fetch.encode.jobs import Candidate, ClipJob, Made
from k710.fetch.origins.youtube.breaker import Breaker
from k710.fetch.origins.youtube.downloads import Answer, Downloads, DownloadsStoppedError
from k710.fetch.origins.youtube.gone import GONE, Suspicions
from k710.fetch.origins.youtube.options import YouTubeOptions
from k710.fetch.origins.youtube.verdict import NO_SPACE, TROUBLES, Verdict, plain, verdict, warning
from k710.fetch.store_unit import is_disk_full
from k710.fetch.unit_work import DISK_FULL, Run, Work
from k710.lists.clip_names import ClipName

WATCH_URL = "https://www.youtube.com/watch?v={id}"
MAX_TRIES = 3  # of one video in one run
LOOKED_AT = 3  # living videos, to prove a session by
ROUNDED_S = 1.0  # sites say how long a video lasts in whole seconds


@dataclass(frozen=True)
class Video:
    """A video and those of its clips that are wanted."""

    youtube_id: str
    clips: tuple[ClipName, ...]


class Session:
    """What all units of a run share: the processes, the breaker, and which video was seen alive last."""

    def __init__(self, name: str, url: str, options: YouTubeOptions, alive: Iterable[str], run: Run) -> None:
        """`url` has {id} where a video's ID stands; `alive` are videos that are known to live, the surest first."""
        self._url, self._run = url, run
        extractor = "Youtube" if url == WATCH_URL else "Generic"
        self.downloads = Downloads(
            options,
            run.profile,
            run.scratch,
            url_of=self.url_of,
            extractor=extractor,
            on_message=run.on_message,
        )
        self.breaker = Breaker(name, TROUBLES, run.on_message)
        self.alive: deque[str] = deque(itertools.islice(alive, LOOKED_AT), maxlen=LOOKED_AT)
        self.sections = options.sections
        self._warned: set[str] = set()

    def url_of(self, youtube_id: str) -> str:
        """The address of a video. An ID may begin with `-`: here it is never an option."""
        return self._url.replace("{id}", youtube_id)

    def close(self) -> None:
        self.downloads.close()

    def warn(self, answer: Answer) -> None:
        """Print the warnings about which the user can do something, each once."""
        for text in filter(None, map(warning, answer.warnings)):
            if text not in self._warned:
                self._warned.add(text)
                self._run.on_message(f"youtube: {text}")

    def trouble(self) -> Verdict | None:
        """What is wrong with the session, by the answers for videos that are known to live; None where one of them
        comes. To a blocked session, all of them seem gone."""
        found = Verdict("blocked", "no video is known to live; name one by --youtube-alive")
        for youtube_id in list(self.alive):
            answer = self.downloads.look(youtube_id, self._run.stop)
            self.warn(answer)
            if answer.error_text is None:
                return None
            verdict_now = verdict(answer.error_text, answer.warnings)
            found = verdict_now if verdict_now.kind in TROUBLES else Verdict("blocked", "no living video answers")
        return found


class Asking:
    """One pass over the videos that are `left` of a unit, up to the first that opens the breaker."""

    def __init__(
        self, session: Session, suspicions: Suspicions, run: Run, left: deque[Video], tries: Counter[str]
    ) -> None:
        self._session, self._suspicions, self._run = session, suspicions, run
        self._left, self._tries = left, tries
        self._gone: list[tuple[Video, Verdict]] = []  # not settled until a living video answers after them

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
        spans = tuple(clip.span_s for clip in video.clips if clip.span_s) if self._in_sections(video) else ()
        answer = session.downloads.bring(video.youtube_id, spans, run.stop, name=run.new_path)
        session.warn(answer)
        if answer.error_text is None:
            session.breaker.answered()
            session.alive.appendleft(video.youtube_id)
            yield from self._settle_gone()
            yield from self._clips(video, answer)
            return
        found = verdict(answer.error_text, answer.warnings)
        if found.kind == GONE:
            self._gone.append((video, found))
            if not session.breaker.closed:
                self._prove()  # this is the one that tries after a wait
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
        if self._session.breaker.closed and self._prove():
            yield from self._settle_gone()
            return
        held, self._gone = self._gone, []
        for video, found in held:
            self._again(video, found, limit=MAX_TRIES)

    def _prove(self) -> bool:
        """Whether a living video answers; the breaker gets the result."""
        trouble = self._session.trouble()
        if trouble is None:
            self._session.breaker.answered()
            return True
        text = f"{len(self._gone):,} videos are said to be gone, but {trouble.text}"
        self._session.breaker.failed(trouble.kind, text, self._run.stop)
        return False

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
        failure = self._suspicions.failure(video.youtube_id) if found.kind == GONE else found.kind
        for clip in video.clips:
            made = Made(str(clip), failure, found.text)
            yield Work(made, (self._session.url_of(video.youtube_id),))

    def _clips(self, video: Video, answer: Answer) -> Iterator[Work]:
        came_from = (f"{self._session.url_of(video.youtube_id)}#{plain(answer.format_id)}",)
        sections = self._in_sections(video)
        for number, clip in enumerate(video.clips, 1):
            file = answer.files.get(number if sections else 0)
            if sections and clip.span_s and (answer.duration_s or math.inf) < clip.span_s[1] - ROUNDED_S:
                # A section says nothing of the video that it is from; a whole one is refused for the same reason.
                message = f"the video lasts {answer.duration_s:.1f} s, the span ends at {clip.span_s[1]} s"
                yield Work(Made(str(clip), "mismatch", message), came_from, (file,) if file else ())
            elif file is None:
                self._run.tally.unsettled[video.youtube_id] = "yt-dlp brought no file of this section"
            else:
                last = number == len(video.clips) or sections
                yield Work(self._job(clip, file, sections), came_from, (file,) if last else ())

    def _in_sections(self, video: Video) -> bool:
        """Whether only the spans of a video are asked for; not where one of its clips is the whole video."""
        return self._session.sections and all(clip.span_s for clip in video.clips)

    def _job(self, clip: ClipName, file: Path, sections: bool) -> ClipJob:
        candidate = Candidate(file, named_span=sections)
        # No spans: the file is known to be the whole video, so it is never taken for one of its clips.
        return ClipJob(str(clip), clip.span_s, (), (candidate,), self._run.new_path(), self._run.profile)
