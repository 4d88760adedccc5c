"""The options `--youtube-…` of the commands that fetch."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

from k710.cli.common import COMMA_LIST, FILE, FOLDER

PREFIX = "youtube_"
_SECONDS = click.FloatRange(0, clamp=False)
_OPTIONS = (
    click.option("--youtube-cookies", type=FILE, help="Cookies of a signed-in browser, as yt-dlp's --cookies."),
    click.option("--youtube-cookies-from-browser", metavar="BROWSER[:PROFILE]", help="As yt-dlp's option."),
    click.option("--youtube-proxy", metavar="URL", help="As yt-dlp's --proxy."),
    click.option("--youtube-source-address", metavar="IP", help="As yt-dlp's option."),
    click.option("--youtube-rate-limit", metavar="RATE", help="As yt-dlp's --limit-rate, such as 500K."),
    click.option("--youtube-sleep-requests", type=_SECONDS, help="Seconds between requests.  [0.75]"),
    click.option("--youtube-sleep", type=_SECONDS, help="Seconds before each download, at least.  [5]"),
    click.option("--youtube-max-sleep", type=_SECONDS, help="At most.  [10, or --youtube-sleep]"),
    click.option("--youtube-batch", type=click.IntRange(0), metavar="N", help="Videos in a row, then a rest.  [500]"),
    click.option("--youtube-batch-rest", type=_SECONDS, metavar="MINUTES", help="How long it rests then.  [30]"),
    click.option("--youtube-extractor-args", multiple=True, metavar="KEY:ARGS", help="As yt-dlp's option."),
    click.option(
        "--youtube-js-runtime",
        PREFIX + "js_runtimes",
        multiple=True,
        metavar="RUNTIME[:PATH]",
        help="As yt-dlp's --js-runtimes.",
    ),
    click.option("--youtube-plugins", type=FOLDER, help="Folder of yt-dlp plugins; none are loaded otherwise."),
    click.option("--youtube-sections", is_flag=True, help="Download only the clips' seconds, not whole videos."),
    click.option(
        "--youtube-downloads", type=click.IntRange(1, 16), default=1, show_default=True, help="Videos at a time."
    ),
    click.option(
        "--youtube-max-seconds",
        type=click.FloatRange(1),
        default=900.0,
        show_default=True,
        help="A download that takes longer is given up.",
    ),
    click.option(
        "--youtube-max-megabytes",
        type=click.FloatRange(0, min_open=True),
        default=1000.0,
        show_default=True,
        help="A video that is larger is not taken.",
    ),
    click.option("--youtube-alive", type=COMMA_LIST, default=(), help="IDs of videos that are known to live."),
)


def youtube_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options; the command gets them as one, `youtube`."""

    @functools.wraps(command)
    def with_youtube(**options: Any) -> Any:
        from k710.fetch.origins.youtube.options import YouTubeOptions

        given = {name.removeprefix(PREFIX): options.pop(name) for name in list(options) if name.startswith(PREFIX)}
        return command(**options, youtube=YouTubeOptions(**given))

    for option in reversed(_OPTIONS):
        with_youtube = option(with_youtube)
    return with_youtube
