"""The process that talks to yt-dlp: how yt-dlp is set up in it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from k710.fetch.origins.youtube.options import YouTubeOptions
from k710.fetch.origins.youtube.process import Downloader


def setup(tmp_path: Path, options: YouTubeOptions, **more: Any) -> dict[str, Any]:
    return {
        "passed": json.loads(json.dumps(options.passed())),  # as it crosses the pipe
        "cookies": None,
        "plugins": None,
        "cache": str(tmp_path / "cache"),
        "extractor": "Youtube",
        "short_side_px": 320,
        "audio": False,
        "sections": False,
        "max_bytes": 1e9,
        **more,
    }


@pytest.fixture
def params(tmp_path):
    """The parameters of yt-dlp under some options."""

    def made(**options: Any) -> dict[str, Any]:
        return Downloader(setup(tmp_path, YouTubeOptions(**options)))._ydl.params

    return made


def test_youtube_always_answers_in_english(params):
    given = ("youtube:lang=de;player_client=web,mweb", "generic:impersonate")
    found = params(extractor_args=given)["extractor_args"]
    assert found["youtube"] == {"lang": ["en"], "player_client": ["web", "mweb"]}
    assert found["generic"] == {"impersonate": [""]}
    assert params()["extractor_args"]["youtube"] == {"lang": ["en"]}


def test_what_the_user_gives_is_what_yt_dlp_gets(params):
    found = params(
        proxy="socks5://127.0.0.1:9",
        source_address="127.0.0.2",
        rate_limit="500K",
        sleep=2.0,
        max_sleep=3.5,
        sleep_requests=0.25,
        js_runtimes=(f"node:{sys.executable}",),
    )
    assert (found["proxy"], found["source_address"]) == ("socks5://127.0.0.1:9", "127.0.0.2")
    assert found["ratelimit"] == 500 * 1024
    assert (found["sleep_interval"], found["max_sleep_interval"], found["sleep_interval_requests"]) == (2.0, 3.5, 0.25)
    assert found["js_runtimes"]["node"] == {"path": sys.executable}


def test_nothing_else_of_yt_dlp_is_switched_on(params, tmp_path):
    found = params()
    assert found["cachedir"] == str(tmp_path / "cache")
    assert not found.get("postprocessors")
    assert found["skip_unavailable_fragments"] is False
    assert found["geo_bypass"] is False
    assert found.get("usenetrc") in (None, False)
    assert not found.get("enable_file_urls")


def test_it_ends_with_its_stdin(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "k710.fetch.origins.youtube.process"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )
    with process:
        process.stdin.write(json.dumps(setup(tmp_path, YouTubeOptions())) + "\n")
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["version"].startswith("20")
        process.stdin.close()
        assert process.wait(timeout=30) == -9


def test_options_that_yt_dlp_would_take_for_others():
    """A value that begins with a dash is a value."""
    assert YouTubeOptions(proxy="--version").passed()["proxy"] == "--version"
