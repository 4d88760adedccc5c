"""A YouTube of the tests: watch pages with the answers that YouTube gives, read by yt-dlp's own YouTube extractor.

The plugin in `yt_dlp_plugins_of_tests` sends that extractor to this server instead of the internet; nothing else of
yt-dlp is changed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.helpers.loopback import Fault, Loopback

PLUGINS = Path(__file__).parent / "yt_dlp_plugins_of_tests"
# Only the watch page is asked for, and its formats are taken although no token came with them.
ARGUMENTS = (
    "youtube:player_client=web;player_skip=configs,js,initial_data;formats=missing_pot;webpage_skip=initial_data"
)
OPTIONS = (
    *("--youtube-plugins", PLUGINS, "--youtube-extractor-args", ARGUMENTS),
    *("--youtube-sleep", 0, "--youtube-sleep-requests", 0),
)
AVC, VP9, AAC = 'video/mp4; codecs="avc1.4d401e"', 'video/webm; codecs="vp9"', 'audio/mp4; codecs="mp4a.40.2"'


class YoutubePages:
    """What is served of each video; by default, nothing."""

    def __init__(self, server: Loopback) -> None:
        self.server = server

    def serve(self, youtube_id: str, *formats: dict[str, Any], duration_s: int = 8, **more: Any) -> None:
        """A video that lives, in formats made by `format`."""
        about = {"videoId": youtube_id, "title": "../-o %(id)s $(touch x)", "lengthSeconds": str(duration_s)}
        answer = {"playabilityStatus": {"status": "OK"}, "streamingData": {"adaptiveFormats": list(formats)}}
        self._page(youtube_id, answer | {"videoDetails": about | more})

    def format(
        self, itag: int, body: bytes, width: int, height: int, mime: str = AVC, *, faults: tuple[Fault, ...] = ()
    ) -> dict[str, Any]:
        """A format of a video as YouTube describes it, and its bytes."""
        url = self.server.serve(f"/media/{len(self.server.pages)}?itag={itag}", body, faults=faults)
        sizes = {"width": width, "height": height, "qualityLabel": f"{min(width, height)}p"} if width else {}
        about = {"itag": itag, "url": url, "mimeType": mime, "bitrate": len(body), "contentLength": str(len(body))}
        return (
            about
            | sizes
            | ({} if width else {"audioQuality": "AUDIO_QUALITY_LOW", "audioSampleRate": "44100", "audioChannels": 2})
        )

    def refuse(
        self, youtube_id: str, reason: str, subreason: str = "", status: str = "ERROR", *, trailer: str = ""
    ) -> None:
        """A video of which YouTube says why it does not show it."""
        said: dict[str, Any] = {"status": status, "reason": reason}
        if subreason:
            texts = {"reason": {"simpleText": reason}, "subreason": {"simpleText": subreason}}
            said["errorScreen"] = {"playerErrorMessageRenderer": texts}
        if trailer:
            said["errorScreen"] = {"playerLegacyDesktopYpcTrailerRenderer": {"trailerVideoId": trailer}}
        self._page(youtube_id, {"playabilityStatus": said, "videoDetails": {"videoId": youtube_id}})

    def asked(self) -> list[str]:
        """The videos whose pages were asked for, in order."""
        paths = [request.path for request in self.server.requests]
        return [path.removeprefix("/watch/") for path in paths if path.startswith("/watch/")]

    def downloads(self) -> int:
        return sum(request.path.startswith("/media/") for request in self.server.requests)

    def _page(self, youtube_id: str, answer: dict[str, Any]) -> None:
        script = f"var ytInitialPlayerResponse = {json.dumps(answer)};"
        html = f"<html><script>ytcfg.set({{}});</script><script>{script}</script></html>"
        self.server.serve(f"/watch/{youtube_id}", html.encode())
