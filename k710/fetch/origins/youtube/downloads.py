"""N processes that download, one video after the other, each within limits and until the run is asked to stop."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, TypeVar

from k710.engine.engine import Stop
from k710.errors import FetchError
from k710.fetch.encode.ffmpeg_binary import ffmpeg_binary
from k710.fetch.encode.profiles import Profile
from k710.fetch.origins.youtube.options import MAX_SLEEP_S, SLEEP_REQUESTS_S, SLEEP_S, YouTubeOptions
from k710.sources.video_ids import Span
from k710.storage.http_reader import without_password

# A guest's address is refused after some 600 videos in a row, by users' reports. Nobody knows how long it takes to be
# forgotten; the breaker waits longer where this is not enough.
BATCH_VIDEOS, BATCH_REST_MIN = 500, 30.0
Number = TypeVar("Number", int, float)

START_S = 120.0  # to load yt-dlp and to read a browser's cookies
_WAKE_S = 0.1
_GRACE_S = 30.0  # of the time limit, for asking before there is anything to download


@dataclass(frozen=True)
class Answer:
    """The result of asking for a video. `error_text`: why nothing came. `files` by section, or under 0 all of it."""

    error_text: str | None
    files: dict[int, Path] = field(default_factory=dict)
    format_id: str = ""
    duration_s: float | None = None  # of the whole video, where the site says it
    warnings: tuple[str, ...] = ()


class DownloadsStoppedError(Exception):
    """The run was asked to stop while a download was under way; it was given up."""


class Downloads:
    """Asks for videos in `options.downloads` processes; `close` ends them, and what they are at."""

    def __init__(
        self,
        options: YouTubeOptions,
        profile: Profile,
        scratch: Path,
        *,
        url_of: Callable[[str], str],
        extractor: str,
        on_message: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._options, self._url_of = options, url_of
        self._folder = Path(tempfile.mkdtemp(prefix="youtube-", dir=scratch))
        self._limit_s = options.max_seconds
        # yt-dlp looks for a program of this name, and finds ours, whatever that is called.
        (self._folder / "bin").mkdir()
        (self._folder / "bin" / "ffmpeg").symlink_to(Path(shutil.which(ffmpeg_binary()) or "").absolute())
        setup = _setup(options, profile, self._folder, extractor)
        self._idle: queue.SimpleQueue[_Process] = queue.SimpleQueue()
        self._all = [_Process(setup, self._folder) for _ in range(options.downloads)]
        for process in self._all:
            self._idle.put(process)
        shortest_s = setup["passed"].get("sleep_interval") or 0.0
        self._rest_s = shortest_s, setup["passed"].get("max_sleep_interval") or shortest_s
        self._limit_s += _GRACE_S + self._rest_s[1]  # what yt-dlp sleeps is not the download's fault
        paced = extractor == "Youtube"
        self._batch = _or(options.batch, BATCH_VIDEOS if paced else 0)
        self._batch_rest_s = 60 * _or(options.batch_rest, BATCH_REST_MIN if paced else 0.0)
        self._on_message, self._asked, self._rests_until_s, self._lock = on_message, 0, 0.0, threading.Lock()

    @property
    def version(self) -> str:
        """yt-dlp's own, once a process has started."""
        return next((process.version for process in self._all if process.version), "")

    def bring(self, youtube_id: str, spans: tuple[Span, ...], stop: Stop, *, name: Callable[[], Path]) -> Answer:
        """Download the video, or these sections of it, as new files `name()`. Raises DownloadsStoppedError."""
        with self._request_folder() as folder:
            answer = self._ask(youtube_id, folder, spans, look=False, stop=stop)
            moved = {}
            for number, file in (answer.get("files") or {}).items():
                path = folder / Path(file).name
                if answer["error"] is None and path.is_file() and not path.is_symlink():
                    moved[int(number)] = path.rename(name())
            error_text = answer["error"]
            if error_text is None and not moved:
                error_text = "yt-dlp brought no file"
        return _answer(answer, error_text, moved)

    def look(self, youtube_id: str, stop: Stop) -> Answer:
        """Ask whether the video could be downloaded, without doing it. Raises DownloadsStoppedError."""
        with self._request_folder() as folder:
            answer = self._ask(youtube_id, folder, (), look=True, stop=stop)
        return _answer(answer, answer["error"], {})

    def close(self) -> None:
        """End the processes now."""
        for process in self._all:
            process.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    @contextmanager
    def _request_folder(self) -> Iterator[Path]:
        """A folder for what one request writes; what is left in it goes."""
        folder = Path(tempfile.mkdtemp(prefix="video-", dir=self._folder))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _ask(self, youtube_id: str, folder: Path, spans: tuple[Span, ...], *, look: bool, stop: Stop) -> dict[str, Any]:
        request = {
            "id": youtube_id,
            "url": self._url_of(youtube_id),
            "folder": str(folder.absolute()),
            "spans": spans,
            "look": look,
        }
        process = self._idle_one(stop)
        try:
            self._rest_after_a_batch(stop)
            process.rest(stop)
            answer = process.ask(request, limit_s=self._limit_s, shown_s=self._options.max_seconds, stop=stop)
            if not answer.get("files"):
                # yt-dlp sleeps before downloads alone; YouTube counts every video that is asked for.
                process.rests_until_s = time.monotonic() + random.uniform(*self._rest_s)  # noqa: S311
            return answer
        finally:
            self._idle.put(process)

    def _rest_after_a_batch(self, stop: Stop) -> None:
        """All processes rest together: YouTube counts the videos of an address, not of a process."""
        with self._lock:
            if self._batch and self._batch_rest_s and self._asked and self._asked % self._batch == 0:
                self._rests_until_s = time.monotonic() + self._batch_rest_s
                self._on_message(f"youtube: {self._asked:,} videos asked for; resting {self._batch_rest_s / 60:g} min")
            self._asked += 1
        _wait_until(self._rests_until_s, stop)

    def _idle_one(self, stop: Stop) -> _Process:
        while not stop.asked:
            with contextlib.suppress(queue.Empty):
                return self._idle.get(timeout=_WAKE_S)
        raise DownloadsStoppedError


class _Process:
    """One process, started when it is first needed, and again after it had to be killed."""

    def __init__(self, setup: dict[str, Any], folder: Path) -> None:
        self._setup, self._folder = setup, folder
        self._process: subprocess.Popen[str] | None = None
        self._stderr: IO[bytes] | None = None
        self._replies: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.version = ""
        self.rests_until_s = 0.0

    def rest(self, stop: Stop) -> None:
        """Wait until the next video may be asked for. Raises DownloadsStoppedError."""
        _wait_until(self.rests_until_s, stop)

    def ask(self, request: dict[str, Any], *, limit_s: float, shown_s: float, stop: Stop) -> dict[str, Any]:
        """The reply to a request. Where the limit passes or the process dies, the reply is an error."""
        self._start(stop)
        self._send(request)
        try:
            line = self._reply(limit_s, stop)
        except TimeoutError:
            self.kill()
            return {"error": f"The download took longer than {shown_s:,.0f} s"}
        if line:
            answer: dict[str, Any] = json.loads(line)
            return answer
        return {"error": f"The download process crashed: {self._death()}"}

    def kill(self) -> None:
        """The process and what it has started, which are a group of their own."""
        self._end()
        if self._stderr is not None:
            self._stderr.close()
            self._stderr = None

    def _end(self) -> int:
        """As `kill`, but what the process wrote on stderr can still be read; its exit code."""
        process, self._process = self._process, None
        if process is None:
            return 0
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        code = process.wait()
        with contextlib.suppress(OSError):
            assert process.stdin is not None
            process.stdin.close()
        return code

    def _start(self, stop: Stop) -> None:
        if self._process is not None:
            return
        self._stderr, self._replies = tempfile.TemporaryFile(), queue.SimpleQueue()  # noqa: SIM115  # ends with the process
        # Whatever it or a library keeps, it keeps in the scratch; nothing of the user's is read but what was named.
        places = {name: str(self._folder.absolute()) for name in ("TMPDIR", "XDG_CACHE_HOME", "DENO_DIR")}
        path = os.pathsep.join([str(self._folder.absolute() / "bin"), os.environ.get("PATH", os.defpath)])
        self._process = subprocess.Popen(
            [sys.executable, "-m", "k710.fetch.origins.youtube.process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            text=True,
            start_new_session=True,  # Ctrl-C does not reach it, and it dies with what it has started
            env={**os.environ, **places, "PATH": path, "DENO_NO_UPDATE_CHECK": "1"},
        )
        threading.Thread(target=_read, args=(self._process.stdout, self._replies), daemon=True).start()
        self._send(self._setup)
        try:
            line = self._reply(START_S, stop)
        except TimeoutError:
            line = ""
        ready = json.loads(line) if line else {"error": self._death()}
        if "error" in ready:
            self.kill()
            raise FetchError(f"youtube: yt-dlp does not start: {without_password(ready['error'])}")
        self.version = ready["version"]

    def _send(self, content: dict[str, Any]) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # it died: the reply will say so
            self._process.stdin.write(json.dumps(content) + "\n")
            self._process.stdin.flush()

    def _reply(self, limit_s: float, stop: Stop) -> str:
        """The next line; empty where the process is gone. Raises TimeoutError, or DownloadsStoppedError."""
        end_s = time.monotonic() + limit_s
        while time.monotonic() < end_s:
            if stop.asked:
                self.kill()
                raise DownloadsStoppedError
            with contextlib.suppress(queue.Empty):
                return self._replies.get(timeout=_WAKE_S)
        raise TimeoutError

    def _death(self) -> str:
        """Why the process died; the next request gets a new one."""
        stderr = self._stderr
        code = self._end()
        if stderr is None:
            return "it was ended"
        stderr.seek(0)
        messages = stderr.read().decode(errors="replace").strip().splitlines()
        self.kill()
        how = signal.Signals(-code).name if code < 0 else f"exit {code}"
        return how + (f": {messages[-1][-200:]}" if messages else "")


def _wait_until(time_s: float, stop: Stop) -> None:
    """Wait for a time of the monotonic clock. Raises DownloadsStoppedError."""
    while (left_s := time_s - time.monotonic()) > 0:
        if stop.asked:
            raise DownloadsStoppedError
        time.sleep(min(left_s, _WAKE_S))


def _or(given: Number | None, default: Number) -> Number:
    return default if given is None else given


def _answer(reply: dict[str, Any], error_text: str | None, files: dict[int, Path]) -> Answer:
    warnings = tuple(reply.get("warnings", ()))
    return Answer(error_text, files, reply.get("format", ""), reply.get("duration_s"), warnings)


def _read(replies: IO[str], into: queue.SimpleQueue[str]) -> None:
    with replies:
        for line in replies:
            into.put(line)
    into.put("")


def _setup(options: YouTubeOptions, profile: Profile, folder: Path, extractor: str) -> dict[str, Any]:
    passed, paced = options.passed(), extractor == "Youtube"
    if paced and options.sleep is None:
        passed |= {"sleep_interval": SLEEP_S, "max_sleep_interval": MAX_SLEEP_S}
    if paced and options.sleep_requests is None:
        passed["sleep_interval_requests"] = SLEEP_REQUESTS_S
    return {
        "passed": passed,
        "cookies": options.cookies_text(),
        "plugins": str(options.plugins.absolute()) if options.plugins else None,
        "cache": str(folder.absolute() / "cache"),
        "extractor": extractor,
        "short_side_px": profile.short_side_px,
        "audio": profile.audio,
        "sections": options.sections,
        "max_bytes": options.max_megabytes * 1e6,
    }
