"""The process that talks to YouTube through yt-dlp: a request a line, what came of it a line. `python -m` starts it.

In a process of its own a download can be ended at any moment, with the programs that yt-dlp starts; nothing that yt-dlp
prints reaches the run's stdout. It ends, and they with it, as soon as its stdin does.
"""

from __future__ import annotations

import io
import json
import os
import queue
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MAX_WARNINGS = 20


class RefusedError(Exception):
    """A video that is not to be downloaded; the text is classified as yt-dlp's own are."""


class Log:
    """yt-dlp's logger: what it would have printed of the video at hand."""

    def __init__(self) -> None:
        self.warnings: list[str] = []
        self.errors: list[str] = []

    def clear(self) -> None:
        self.warnings, self.errors = [], []

    def debug(self, text: str) -> None:
        pass

    def warning(self, text: str) -> None:
        self.warnings.append(str(text))

    def error(self, text: str) -> None:
        self.errors.append(str(text))


class Downloader:
    """One `yt_dlp.YoutubeDL`, kept for all videos: it has read the cookies and solved YouTube's player."""

    def __init__(self, setup: dict[str, Any]) -> None:
        import yt_dlp
        from yt_dlp.globals import plugin_dirs

        from k710.fetch.origins.youtube.format import selector

        plugin_dirs.value = [setup["plugins"]] if setup["plugins"] else []
        self.version = yt_dlp.version.__version__
        self._request: dict[str, Any] = {}
        self._log = Log()
        self._max_bytes = setup["max_bytes"]
        self._sections = bool(setup["sections"])
        choose = selector(
            short_side_px=setup["short_side_px"],
            audio=setup["audio"],
            max_bytes=self._max_bytes,
            sections=self._sections,
        )
        params = {
            **setup["passed"],
            "cookiefile": io.StringIO(setup["cookies"]) if setup["cookies"] else None,
            "cachedir": setup["cache"],
            "logger": self._log,
            **dict.fromkeys(("quiet", "noprogress", "noplaylist", "overwrites", "hls_prefer_native"), True),
            "color": "never",
            # Names are numbers, and nothing that a site says: it runs in a folder of the request's own.
            "outtmpl": "%(section_number)d" if self._sections else "0",
            "format": choose,
            "external_downloader": {"default": "native"},
            "fixup": "never",
            "updatetime": False,
            "skip_unavailable_fragments": False,  # a hole in the video is worse than none
            "geo_bypass": False,
            **dict.fromkeys(("retries", "fragment_retries"), 3),
            "extractor_retries": 1,
            "socket_timeout": 20.0,
            "http_headers": {"Accept-Language": "en-US,en;q=0.9"},
            "progress_hooks": [self._watch],
            "match_filter": self._filter,
        }
        args = params.get("extractor_args") or {}
        params["extractor_args"] = args | {"youtube": {**args.get("youtube", {}), "lang": ["en"]}}
        if cookies_from := params.get("cookiesfrombrowser"):
            params["cookiesfrombrowser"] = tuple(cookies_from)
        if self._sections:
            params["download_ranges"] = self._ranges
        self._ydl = yt_dlp.YoutubeDL(params, auto_init=False)
        # No other site's extractor is ever reached, wherever a page leads.
        self._key = setup["extractor"]
        self._ydl.get_info_extractor(self._key)
        self._ydl.cookiejar  # noqa: B018  # fails before the first video where a browser's cookies cannot be read

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Download, or look whether the video is there: its file names and format, or yt-dlp's error."""
        self._request = request
        self._log.clear()
        os.chdir(request["folder"])
        reply: dict[str, Any] = {"files": {}, "format": "", "duration_s": None, "error": None}
        try:
            info = self._ydl.extract_info(request["url"], download=not request["look"], ie_key=self._key) or {}
            done = info.get("requested_downloads") or []
            reply["format"] = str(info.get("format_id") or "")
            reply["duration_s"] = info.get("duration")
            reply["files"] = {str(one.get("section_number") or 0): _name(one) for one in done if one.get("filepath")}
            if not request["look"] and not reply["files"]:
                reply["error"] = (
                    self._log.errors[-1] if self._log.errors else "yt-dlp brought no file and did not say why"
                )
        except Exception as error:  # yt-dlp raises what it likes, and one video must not end the process
            reply["error"] = str(error) or type(error).__name__
        reply["warnings"] = self._log.warnings[:MAX_WARNINGS]
        return reply

    def _watch(self, progress: dict[str, Any]) -> None:
        size = max(progress.get("downloaded_bytes") or 0, progress.get("total_bytes") or 0)
        if size > self._max_bytes:
            raise RefusedError(f"The video is larger than {self._max_bytes / 1e6:,.0f} MB")

    def _filter(self, info: dict[str, Any], *, incomplete: bool = False) -> None:
        """Refuse what is no finished video, and any other video than the one that was asked for."""
        if info.get("live_status") in ("is_live", "is_upcoming", "post_live"):
            raise RefusedError(f"live_status: {info['live_status']}")
        if self._key == "Youtube" and info.get("id") != self._request["id"]:
            raise RefusedError(f"Another video came: {info.get('id')}")

    def _ranges(self, info: dict[str, Any], ydl: Any) -> list[dict[str, Any]]:
        """The sections of the request, numbered from 1: yt-dlp takes 0 for none."""
        spans = self._request["spans"]
        return [{"start_time": start, "end_time": end, "index": n} for n, (start, end) in enumerate(spans, 1)]


def _name(download: dict[str, Any]) -> str:
    return Path(download["filepath"]).name


def main() -> None:
    """Serve until stdin ends. The first line sets up; its reply says that it works, or why not."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the run, which ends this process
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    lines = _lines()

    def reply(content: dict[str, Any]) -> None:
        replies.write(json.dumps(content) + "\n")
        replies.flush()

    try:
        downloader = Downloader(next(lines))
    except Exception as error:  # the run shows it to the user
        reply({"error": f"{type(error).__name__}: {error}"})
        return
    reply({"version": downloader.version})
    for request in lines:
        reply(downloader.answer(request))


def _lines() -> Iterator[dict[str, Any]]:
    """The requests. A thread reads them, so that the end of stdin, as when the run is killed, ends a download too."""
    requests = os.fdopen(os.dup(0), encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # nothing that yt-dlp starts may read them
    waiting: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()

    def read() -> None:
        for line in requests:
            waiting.put(json.loads(line))
        os.killpg(os.getpgrp(), signal.SIGKILL)

    threading.Thread(target=read, daemon=True).start()
    while True:
        yield waiting.get()


if __name__ == "__main__":
    main()
