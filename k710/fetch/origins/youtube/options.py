"""The options for YouTube: those passed to yt-dlp, and the limits of a download. See docs/youtube.md."""

from __future__ import annotations

import contextlib
import functools
import io
import ipaddress
import optparse
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from k710.errors import UsageError
from k710.sources.source import YOUTUBE_ID

# Between videos, by default: with them a guest stays below the 300 videos an hour that YouTube allows.
SLEEP_REQUESTS_S, SLEEP_S, MAX_SLEEP_S = 0.75, 5.0, 10.0

# What yt-dlp's own parser makes of our options; nothing else of it is let through.
_PASSED = (
    *("cookiesfrombrowser", "proxy", "source_address", "ratelimit"),
    *("sleep_interval_requests", "sleep_interval", "max_sleep_interval", "extractor_args", "js_runtimes"),
)


@dataclass(frozen=True)
class YouTubeOptions:
    """The options `--youtube-…`. Those down to `js_runtimes` are yt-dlp's own and spelled as there."""

    cookies: Path | None = None
    cookies_from_browser: str | None = None
    proxy: str | None = None
    source_address: str | None = None
    rate_limit: str | None = None
    sleep_requests: float | None = None
    sleep: float | None = None
    max_sleep: float | None = None
    extractor_args: tuple[str, ...] = ()
    js_runtimes: tuple[str, ...] = ()
    plugins: Path | None = None
    sections: bool = False
    batch: int | None = None  # videos in a row, then all rest; 0: never
    batch_rest: float | None = None  # minutes
    downloads: int = 1
    max_seconds: float = 900.0
    max_megabytes: float = 1000.0
    alive: tuple[str, ...] = ()

    def checked(self) -> YouTubeOptions:
        """The options themselves. Raises UsageError, naming the option, for a value that cannot be."""
        for option, arguments in self._arguments().items():
            _parsed(arguments, option)
        self._check_runtimes()
        if self.source_address is not None:
            try:
                ipaddress.ip_address(self.source_address)
            except ValueError:
                raise UsageError(f"--youtube-source-address: {self.source_address!r} is no IP address") from None
        if self.plugins is not None and not self.plugins.is_dir():
            raise UsageError(f"--youtube-plugins: {self.plugins}: no such folder")
        for youtube_id in self.alive:
            if not re.fullmatch(YOUTUBE_ID, youtube_id):
                raise UsageError(f"--youtube-alive: {youtube_id!r} is no YouTube ID (11 characters)")
        self.cookies_text()
        return self

    def passed(self) -> dict[str, Any]:
        """The options as parameters of `yt_dlp.YoutubeDL`."""
        found = _parsed([argument for part in self._arguments().values() for argument in part], "--youtube-…")
        return {name: found[name] for name in _PASSED if found.get(name) is not None}

    def cookies_text(self) -> str | None:
        """What the cookies file says; it is handed to yt-dlp as text, so that yt-dlp cannot write it."""
        return None if self.cookies is None else _cookies(self.cookies)

    def _arguments(self) -> dict[str, list[str]]:
        """The command line of yt-dlp that says the same, by our option. `--x=y`: no value is taken for an option."""
        sleep = {"--sleep-interval": self.sleep, "--max-sleep-interval": self.max_sleep}
        given: dict[str, list[tuple[str, object]]] = {
            "--youtube-cookies-from-browser": [("--cookies-from-browser", self.cookies_from_browser)],
            "--youtube-proxy": [("--proxy", self.proxy)],
            "--youtube-source-address": [("--source-address", self.source_address)],
            "--youtube-rate-limit": [("--limit-rate", self.rate_limit)],
            "--youtube-sleep-requests": [("--sleep-requests", self.sleep_requests)],
            "--youtube-sleep": list(sleep.items()),
            "--youtube-extractor-args": [("--extractor-args", value) for value in self.extractor_args],
            "--youtube-js-runtime": [("--js-runtimes", value) for value in self.js_runtimes],
        }
        return {
            option: [f"{name}={value}" for name, value in pairs if value is not None] for option, pairs in given.items()
        }

    def _check_runtimes(self) -> None:
        from yt_dlp.globals import supported_js_runtimes

        known = sorted(supported_js_runtimes.value)
        for given in self.js_runtimes:
            name, _, path = given.partition(":")
            if name.lower() not in known:
                raise UsageError(f"--youtube-js-runtime: unknown runtime {name!r}; known: {', '.join(known)}")
            if path and not Path(path).exists():
                raise UsageError(f"--youtube-js-runtime: {path}: no such file")


@functools.cache  # a pipe, as of <(gpg -d cookies.gpg), can be read but once
def _cookies(path: Path) -> str:
    from yt_dlp.cookies import YoutubeDLCookieJar

    try:
        text = path.read_text(encoding="utf-8")
        jar = YoutubeDLCookieJar(io.StringIO(text))
        with contextlib.redirect_stderr(io.StringIO()):
            jar.load()
    except (OSError, ValueError) as error:  # LoadError is an OSError, UnicodeDecodeError a ValueError
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"--youtube-cookies: {path}: {reason}") from None
    if not len(jar):
        raise UsageError(f"--youtube-cookies: {path}: holds no cookie in Netscape's format")
    return text


def _parsed(arguments: list[str], option: str) -> dict[str, Any]:
    """What yt-dlp's parser makes of `arguments`, no configuration file read. Raises UsageError for what it refuses."""
    try:
        import yt_dlp
    except ImportError:
        raise UsageError("the origin youtube needs yt-dlp; `pip install --upgrade 'yt-dlp[default]'`") from None

    output = io.StringIO()
    try:
        with contextlib.redirect_stderr(output), contextlib.redirect_stdout(output):
            found: dict[str, Any] = yt_dlp.parse_options(["--ignore-config", *arguments]).ydl_opts
    except (SystemExit, optparse.OptParseError, ValueError) as error:
        lines = [line for line in (output.getvalue() or str(error)).splitlines() if line.strip()]
        reason = lines[-1].rpartition("error: ")[2] if lines else str(error)
        raise UsageError(f"{option}: {reason}") from None
    return found
