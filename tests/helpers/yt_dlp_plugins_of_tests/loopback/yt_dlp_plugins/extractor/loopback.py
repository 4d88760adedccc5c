"""A yt-dlp plugin: YouTube's own extractor, whose watch pages come from $K710_TEST_YOUTUBE instead of the internet."""

import os
import re

from yt_dlp.extractor.youtube import YoutubeIE
from yt_dlp.utils import ExtractorError


class _LoopbackYoutubeIE(YoutubeIE, plugin_name="loopback"):
    def _request_webpage(self, url_or_request, video_id, *args, **kwargs):
        url = url_or_request if isinstance(url_or_request, str) else url_or_request.url
        watch = re.match(r"https://www\.youtube\.com/watch\?v=([A-Za-z0-9_-]{11})", url)
        if not watch:
            raise ExtractorError(f"not served: {url}")
        kwargs["query"] = {}
        here = f"{os.environ['K710_TEST_YOUTUBE']}/watch/{watch[1]}"
        return super()._request_webpage(here, video_id, *args, **kwargs)
