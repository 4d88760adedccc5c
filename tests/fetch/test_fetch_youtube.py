"""`k710 fetch --from youtube`, by the real yt-dlp: its YouTube extractor on pages of the tests, and a mirror."""

from __future__ import annotations

import errno
import glob
import itertools
import json
import os
import shutil
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter, deque
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from k710.engine.engine import Stop
from k710.fetch import estimate
from k710.fetch.encode.jobs import Made
from k710.fetch.encode.profiles import Profile, read_profile
from k710.fetch.origins.youtube import breaker, gone
from k710.fetch.origins.youtube.breaker import Breaker, Trouble
from k710.fetch.origins.youtube.downloads import Answer, Downloads
from k710.fetch.origins.youtube.gone import Suspicions
from k710.fetch.origins.youtube.options import YouTubeOptions
from k710.fetch.origins.youtube.origin import YouTubeClips, YouTubeOrigin
from k710.fetch.origins.youtube.session import Asking, Video
from k710.fetch.origins.youtube.verdict import TROUBLES
from k710.fetch.unit_work import Tally, Work, _made_in_order
from k710.lists.clip_names import ClipName
from k710.store.store import MEDIA_SCHEMA, METADATA_KEY, Store, unit_digest, unit_metadata
from tests.fetch.test_killed_fetch import PROC, marked, until
from tests.helpers.loopback import Fault, closed_url
from tests.helpers.small_stores import left_in_scratch
from tests.helpers.tiny_media import build, clip_bytes, clip_file, fetched, files_under, numbers, settled
from tests.helpers.youtube_pages import AAC, OPTIONS, VP9, YoutubePages

MARK = uuid.uuid4().hex
ALIVE = "alive-alive"
DASH = "-dash-dash-"
TWO = "two-of-them"
BODY = clip_bytes(seconds=8)


@pytest.fixture
def youtube(loopback, monkeypatch) -> YoutubePages:
    monkeypatch.setenv("K710_TEST_YOUTUBE", loopback.url(""))
    monkeypatch.setattr(breaker, "WAITS_S", (0.05,) * 5)
    return YoutubePages(loopback)


def rows(*clips: tuple[str, int, int]) -> dict[tuple[str, str], list[tuple[str, int, int]]]:
    return {("k400", "train"): list(clips), ("k400", "val"): [("val-val-val", 0, 2)]}


def some(*youtube_ids: str) -> dict[tuple[str, str], list[tuple[str, int, int]]]:
    return rows(*((youtube_id, 1, 3) for youtube_id in youtube_ids))


@pytest.fixture
def fetch(k710, youtube, tmp_path):
    """`fetch(rows, ...)` builds a manifest of train clips and fetches them, one process, two units at a time."""

    def run(wanted: Any, *more: object, code: int = 0, origin: str = "youtube", options: Any = OPTIONS) -> Any:
        manifest = tmp_path / "manifest"
        if not manifest.exists():
            build(k710, tmp_path, wanted)
        given = ("--from", origin, "--splits", "train", "--workers", 1, "--store", tmp_path / "store")
        result = k710("fetch", manifest, *given, *(options if origin == "youtube" else ()), *more)
        assert result.exit_code == code, result.output
        assert "Traceback" not in result.output
        assert left_in_scratch(Store(tmp_path / "store", "h264")) == []
        return result

    return run


def classes(store: Path) -> dict[str, str | None]:
    return {name[:11]: row["failure"] for name, row in settled(store).items()}


# Downloads.


def test_two_clips_of_a_video_are_one_download(fetch, youtube, tmp_path):
    youtube.serve(DASH, youtube.format(134, BODY, 64, 48))
    result = fetch(rows((DASH, 1, 3), (DASH, 4, 6)))
    assert "This run: 2 clips fetched" in result.stdout
    assert youtube.downloads() == 1
    found = {name: numbers(data) for name, data in fetched(tmp_path / "store").items()}
    assert found == {f"{DASH}_000001_000003": [*range(10, 30)], f"{DASH}_000004_000006": [*range(40, 60)]}
    row = settled(tmp_path / "store")[f"{DASH}_000001_000003"]
    assert row["origin"] == "youtube"
    assert row["came_from"] == f"https://www.youtube.com/watch?v={DASH}#134"
    (unit,) = Store(tmp_path / "store", "h264").unit_files()
    assert unit.name.startswith("youtube-")
    assert unit_metadata(unit)["youtube"]["yt_dlp"].startswith("20")


def test_before_it_starts_it_says_how_long_it_takes_and_whose_the_videos_are(fetch, youtube, tmp_path):
    youtube.serve(ALIVE, youtube.format(134, BODY, 64, 48))
    before = files_under(tmp_path)
    told = fetch(some(ALIVE), "--dry-run").stderr
    assert youtube.asked() == []
    assert before == {}
    said = (
        "youtube: up to 1 video IDs to ask YouTube for: about 1 min as a guest (300 videos an hour), 1 min with an "
        "account (2,000 an hour), by public reports. "
        "YouTube's terms and the videos' owners decide what may be done with them.\n"
    )
    assert told == said
    assert fetch(some()).stderr.startswith(said)
    assert fetch(some()).stderr == ""  # nothing is left to ask for


@pytest.mark.slow
def test_a_second_run_asks_nobody(fetch, youtube, tmp_path):
    youtube.serve(ALIVE, youtube.format(134, BODY, 64, 48))
    youtube.refuse("private-one", "Private video", "Sign in if you've been granted access", "LOGIN_REQUIRED")
    fetch(some(ALIVE, "private-one"))
    youtube.server.requests.clear()
    before = files_under(tmp_path / "store")
    assert "This run: 0 clips fetched, 0.0 MB." in fetch(some(ALIVE)).stdout
    assert youtube.server.requests == []
    assert files_under(tmp_path / "store") == before
    assert "This run: 0 clips fetched, 0.0 MB, 1 private." in fetch(some(), "--retry", "private").stdout
    assert youtube.asked() == ["private-one"]


@pytest.mark.slow
def test_parts_share_the_videos_out(fetch, youtube, tmp_path):
    """Each video is asked for by one part, whichever of its clips are wanted; none is asked for twice."""
    ids = [f"part-vid-{number:02d}" for number in range(6)]
    for youtube_id in ids:
        youtube.serve(youtube_id, youtube.format(134, BODY, 64, 48))
    wanted = rows(*((youtube_id, start, start + 2) for youtube_id in ids for start in (1, 4)))
    asked = []
    for part in ("1/2", "2/2"):
        youtube.server.requests.clear()
        told = fetch(wanted, "--part", part)
        asked.append(youtube.asked())
        if part == "1/2":
            assert f"Left to other parts: {2 * (6 - len(set(asked[0])))} clips" in told.stdout
    assert sorted(asked[0] + asked[1]) == sorted(ids)
    assert all(asked)
    assert len(fetched(tmp_path / "store")) == 12


def test_the_smallest_format_that_covers_the_profile(fetch, youtube, k710, tmp_path):
    profile = tmp_path / "small.yaml"
    profile.write_text(
        (Path("pipelines/encode/h264.yaml")).read_text().replace("short_side_px: 320", "short_side_px: 40")
    )
    bodies = [clip_bytes(seconds=4, first=100 * n) for n in range(4)]
    youtube.serve(
        ALIVE,
        youtube.format(160, bodies[0], 48, 36),
        youtube.format(134, bodies[1], 64, 48),
        youtube.format(135, bodies[2] + bytes(500), 128, 96),
        youtube.format(140, bodies[3][:900], 0, 0, AAC),
    )
    fetch(some(ALIVE), "--profile", profile)
    ((name, data),) = fetched(tmp_path / "store", "small").items()
    assert name == f"{ALIVE}_000001_000003"
    assert settled(tmp_path / "store", "small")[name]["came_from"].endswith("#134")
    assert numbers(data) == [*range(110, 130)]


def test_sound_comes_too_where_it_is_kept(fetch, youtube, tmp_path):
    sounding = clip_bytes(seconds=4, audio_s=4.0)
    youtube.serve(ALIVE, youtube.format(134, clip_bytes(seconds=4), 64, 48), youtube.format(140, sounding, 0, 0, AAC))
    fetch(some(ALIVE), "--audio")
    (row,) = settled(tmp_path / "store", "h264-audio").values()
    assert (row["failure"], row["came_from"]) == (None, f"https://www.youtube.com/watch?v={ALIVE}#134+140")
    import av

    ((_, data),) = fetched(tmp_path / "store", "h264-audio").items()
    (tmp_path / "clip.mp4").write_bytes(data)
    with av.open(str(tmp_path / "clip.mp4")) as file:
        assert len(file.streams.audio) == 1


def test_sections_are_exact_to_the_frame(fetch, youtube, tmp_path):
    """The only key frame of the video is its first."""
    webm = youtube.format(243, bytes(100), 64, 48, VP9)
    youtube.serve(TWO, youtube.format(134, BODY, 64, 48), webm)
    fetch(rows((TWO, 1, 3), (TWO, 4, 6), (TWO, 7, 10)), "--youtube-sections")
    found = {name[12:18]: numbers(data) for name, data in fetched(tmp_path / "store").items()}
    assert found == {"000001": [*range(10, 30)], "000004": [*range(40, 60)]}
    row = settled(tmp_path / "store")[f"{TWO}_000007_000010"]
    assert (row["failure"], row["message"]) == ("mismatch", "the video lasts 8.0 s, the span ends at 10 s")


@pytest.mark.slow
def test_sections_with_sound_are_exact_too(fetch, youtube, tmp_path):
    sounding = clip_bytes(seconds=8, audio_s=8.0)
    youtube.serve(TWO, youtube.format(134, BODY, 64, 48), youtube.format(140, sounding, 0, 0, AAC))
    fetch(rows((TWO, 4, 6)), "--youtube-sections", "--audio")
    ((_, data),) = fetched(tmp_path / "store", "h264-audio").items()
    assert numbers(data) == [*range(40, 60)]


def test_sections_with_a_profile_that_keeps_bytes(fetch):
    told = fetch(some(ALIVE), "--youtube-sections", "--profile", "source", code=2).stderr
    assert "--youtube-sections needs a profile that encodes" in told


def test_a_video_that_ends_before_the_span_does(fetch, youtube, tmp_path):
    """Also where it lasts as long as a clip would: it is the whole video all the same."""
    youtube.serve(ALIVE, youtube.format(134, clip_bytes(seconds=4), 64, 48))
    youtube.serve(DASH, youtube.format(134, clip_bytes(seconds=2), 64, 48))
    fetch(rows((ALIVE, 3, 5), (DASH, 5, 7)))
    assert classes(tmp_path / "store") == {ALIVE: "mismatch", DASH: "mismatch"}


def test_what_is_downloaded_and_is_no_video(fetch, youtube, tmp_path):
    playlist = b"#EXTM3U\nfile:///etc/passwd\n" + bytes(2000)
    youtube.serve(ALIVE, youtube.format(134, playlist, 64, 48))
    assert "1 not_video" in fetch(some(ALIVE)).stdout


@pytest.mark.slow
def test_a_video_that_is_too_large_is_not_downloaded(fetch, youtube, tmp_path):
    youtube.serve(ALIVE, youtube.format(134, BODY + bytes(3_000_000), 64, 48))
    youtube.serve(DASH, youtube.format(134, BODY, 64, 48))
    fetch(some(ALIVE, DASH), "--youtube-max-megabytes", 1)
    assert classes(tmp_path / "store") == {ALIVE: "too_large", DASH: None}
    assert settled(tmp_path / "store")[f"{ALIVE}_000001_000003"]["message"] == "The video is larger than 1 MB"
    fetch(some(), "--retry", "too_large")
    assert classes(tmp_path / "store") == {ALIVE: None, DASH: None}


def test_a_connection_that_breaks_is_taken_up(fetch, youtube, tmp_path):
    youtube.serve(ALIVE, youtube.format(134, BODY, 64, 48, faults=(Fault(cut_at=len(BODY) // 2), Fault(cut_at=100))))
    fetch(some(ALIVE))
    assert classes(tmp_path / "store") == {ALIVE: None}
    assert youtube.downloads() == 3


@pytest.mark.slow
def test_a_download_that_takes_too_long_is_given_up(fetch, youtube, tmp_path, monkeypatch):
    monkeypatch.setattr("k710.fetch.origins.youtube.downloads._GRACE_S", 5.0)
    stalls = youtube.format(134, BODY, 64, 48)
    youtube.server.pages[stalls["url"].removeprefix(youtube.server.url(""))].always = Fault(stall_at=500)
    youtube.serve(ALIVE, stalls)
    youtube.serve(DASH, youtube.format(134, BODY, 64, 48))
    result = fetch(some(ALIVE, DASH), "--youtube-max-seconds", 1, code=1)
    assert classes(tmp_path / "store") == {DASH: None}
    assert f"no answer: {ALIVE}: slow: The download took longer than 1 s" in result.stderr
    assert "k710: 1 video gave no answer; the same command asks again" in result.stderr


def test_nothing_is_written_but_in_the_store(fetch, youtube, tmp_path, monkeypatch):
    """Neither caches nor configuration of the user, whatever the title of a video; and nothing reaches stdout."""
    home, here = tmp_path / "home", tmp_path / "here"
    (home / ".config/yt-dlp").mkdir(parents=True)
    (home / ".config/yt-dlp/config").write_text(f"--exec 'touch {tmp_path}/executed'\n--format nonsense\n")
    plugin = home / ".config/yt-dlp/plugins/evil/yt_dlp_plugins/extractor"
    plugin.mkdir(parents=True)
    (plugin / "evil.py").write_text(f"open({str(tmp_path / 'loaded')!r}, 'w')\n")
    here.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.chdir(here)
    before = files_under(home)
    youtube.serve(ALIVE, youtube.format(134, BODY, 64, 48))
    result = fetch(some(ALIVE))
    assert classes(tmp_path / "store") == {ALIVE: None}
    assert files_under(home) == before
    assert files_under(here) == {}
    assert not (tmp_path / "executed").exists()
    assert not (tmp_path / "loaded").exists()
    assert "[youtube" not in result.stdout
    assert "[download]" not in result.output


# Verdicts.

REFUSED = {
    "age-age-age": ("Sign in to confirm your age", "This video may be inappropriate for some users.", "age"),
    "private-pri": ("Private video", "Sign in if you've been granted access to this video", "private"),
    "geo-geo-geo": ("Video unavailable", "The uploader has not made this video available in your country", "geo"),
    "members-mem": ("Join this channel to get access to members-only content like this video", "", "members"),
    "premiere---": ("Premieres in 3 hours", "", "not_yet"),
    "removed-rem": ("Video unavailable", "This video has been removed by the uploader", "gone_unconfirmed"),
    "bare-bare--": ("Video unavailable", "", "gone_unconfirmed"),
}


def test_what_youtube_says_of_videos(fetch, youtube, tmp_path):
    for youtube_id, (reason, subreason, _) in REFUSED.items():
        youtube.refuse(youtube_id, reason, subreason, "LOGIN_REQUIRED" if "ign in" in reason else "ERROR")
    youtube.serve(ALIVE, youtube.format(134, BODY, 64, 48))
    youtube.serve("live-live--", youtube.format(134, BODY, 64, 48), isLive=True)
    result = fetch(some(ALIVE, "live-live--", *REFUSED))
    wanted = {youtube_id: kind for youtube_id, (_, _, kind) in REFUSED.items()}
    assert classes(tmp_path / "store") == wanted | {ALIVE: None, "live-live--": "not_yet"}
    assert "2 clips seem gone; the same command asks once more for them, after an hour" in result.stderr
    assert "yt-dlp finds no JavaScript runtime" not in result.stderr  # player_client is named: none was looked for


def test_an_unknown_answer_settles_nothing(fetch, youtube, tmp_path):
    youtube.refuse("unknown-one", "Something that nobody has seen before")
    youtube.serve(ALIVE, youtube.format(134, BODY, 64, 48))
    result = fetch(some("unknown-one", ALIVE), code=1)
    assert classes(tmp_path / "store") == {ALIVE: None}
    assert "no answer: unknown-one: unknown: Something that nobody has seen before" in result.stderr
    assert "k710: 1 video gave no answer" in result.stderr


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("Sign in to confirm you\u2019re not a bot", "sign in by --youtube-cookies"),
        ("This content isn't available, try again later.", "wait some hours, give longer --youtube-sleep"),
    ],
)
@pytest.mark.slow
def test_a_session_that_is_refused_ends_politely_and_goes_on_later(fetch, youtube, tmp_path, said, advice):
    wanted = [f"blocked-{n:03}" for n in range(8)]
    for youtube_id in wanted:
        youtube.refuse(youtube_id, said, status="LOGIN_REQUIRED")
    result = fetch(some(*wanted), code=1)
    assert said[:20] in result.stderr
    assert advice in result.stderr
    assert "waiting 0 s, until" in result.stderr
    assert "everything settled so far is kept, and the same command goes on from there" in result.stderr
    assert classes(tmp_path / "store") == {}
    assert len(youtube.asked()) <= 8
    for youtube_id in wanted:
        youtube.serve(youtube_id, youtube.format(134, BODY, 64, 48))
    assert "This run: 8 clips fetched" in fetch(some()).stdout


def test_a_rate_limit_that_is_lifted_costs_nothing(fetch, youtube, tmp_path):
    wanted = [f"limited-{n:03}" for n in range(4)]
    for youtube_id in wanted:
        youtube.serve(youtube_id, youtube.format(134, BODY, 64, 48))
        youtube.server.pages[f"/watch/{youtube_id}"].faults.append(Fault(status=429))
    result = fetch(some(*wanted))
    assert "This run: 4 clips fetched" in result.stdout
    assert "youtube: rate: " in result.stderr


@pytest.mark.slow
def test_no_formats_and_no_network_say_what_to_do(fetch, youtube, tmp_path):
    wanted = [f"nothing-{n:03}" for n in range(14)]
    for youtube_id in wanted:
        youtube.serve(youtube_id)
    told = fetch(some(*wanted), code=1).stderr
    assert "youtube: tools, after waiting 3 times: " in told
    assert "pip install --upgrade 'yt-dlp[default]'" in told
    told = fetch(some(), "--youtube-proxy", closed_url(), code=1).stderr
    assert "youtube: network, after waiting 5 times: " in told
    assert "look at the connection and at --youtube-proxy" in told
    assert classes(tmp_path / "store") == {}


def test_a_missing_javascript_runtime_is_said_once(fetch, youtube, monkeypatch, tmp_path):
    """The extractor's own warning, where the clients are its own choice; it then wants more than the watch page."""
    monkeypatch.setenv("PATH", "/nonexistent")
    arguments = list(OPTIONS)
    arguments[3] = "youtube:player_skip=configs,js,initial_data;webpage_skip=initial_data"
    for youtube_id in ("no-js-----0", "no-js-----1"):
        youtube.serve(youtube_id, youtube.format(134, BODY, 64, 48))
    told = fetch(some("no-js-----0", "no-js-----1"), options=arguments, code=1).stderr
    assert told.count("youtube: yt-dlp finds no JavaScript runtime") == 1
    assert "--youtube-js-runtime" in told


def test_the_trailer_of_a_paid_video_is_not_taken_for_it(fetch, youtube, tmp_path):
    youtube.serve("a-trailer-0", youtube.format(134, BODY, 64, 48))
    youtube.refuse("paid-paid-0", "This video requires payment to watch.", trailer="a-trailer-0")
    fetch(some("paid-paid-0"))
    (row,) = settled(tmp_path / "store").values()
    assert (row["failure"], row["message"]) == ("members", "Another video came: a-trailer-0")
    assert youtube.downloads() == 0


# Gone: two verdicts an hour apart, and a living video that answers.


def ago(store: Path, hours: float) -> None:
    """Every row of the store as if it had been settled earlier."""
    for file in Store(store, "h264").unit_files():
        table = pa.parquet.read_table(file)
        settled_at = [at - timedelta(hours=hours) for at in table["settled_at"].to_pylist()]
        column = table.schema.get_field_index("settled_at")
        table = table.set_column(
            column, table.schema.field(column), pa.array(settled_at, table.schema.field(column).type)
        )
        about = unit_metadata(file)
        about["sha256"] = unit_digest(table, about)
        table = table.replace_schema_metadata({METADATA_KEY: json.dumps(about).encode()})
        pa.parquet.write_table(table, file)


@pytest.mark.slow
def test_gone_needs_two_verdicts_an_hour_apart(fetch, youtube, tmp_path):
    store = tmp_path / "store"
    youtube.serve(ALIVE, youtube.format(134, BODY, 64, 48))
    for youtube_id in ("gone-gone-0", "gone-gone-1"):
        youtube.refuse(youtube_id, "Video unavailable")
    fetch(some(ALIVE, "gone-gone-0", "gone-gone-1"), "--youtube-alive", ALIVE)
    suspected = {ALIVE: None, "gone-gone-0": "gone_unconfirmed", "gone-gone-1": "gone_unconfirmed"}
    assert classes(store) == suspected
    youtube.server.requests.clear()
    fetch(some())  # within the hour, nobody is asked
    assert youtube.asked() == []
    assert classes(store) == suspected
    ago(store, 1.1)
    youtube.serve("gone-gone-1", youtube.format(134, BODY, 64, 48))  # it was a mistake
    result = fetch(some())
    assert classes(store) == {ALIVE: None, "gone-gone-0": "gone", "gone-gone-1": None}
    assert "1 clip fetched, 0.0 MB, 1 gone." in result.stdout
    youtube.server.requests.clear()
    ago(store, 2)
    assert "This run: 0 clips fetched, 0.0 MB." in fetch(some()).stdout  # settled for good
    assert youtube.asked() == []
    assert "1 gone." in fetch(some(), "--retry", "gone").stdout  # asked for again, at once confirmed


def test_a_long_run_confirms_what_it_suspected(fetch, youtube, tmp_path, monkeypatch):
    monkeypatch.setattr(gone, "CONFIRM_S", 0.0)
    youtube.serve(ALIVE, youtube.format(134, BODY, 64, 48))
    youtube.refuse("gone-gone-0", "Video unavailable")
    result = fetch(some("gone-gone-0", ALIVE), "--youtube-alive", ALIVE)
    assert classes(tmp_path / "store") == {ALIVE: None, "gone-gone-0": "gone"}
    assert "1 gone_unconfirmed, 1 gone." in result.stdout.replace(
        "1 gone, 1 gone_unconfirmed", "1 gone_unconfirmed, 1 gone"
    )
    assert youtube.asked().count("gone-gone-0") == 2


def test_a_verdict_needs_a_living_video_that_answers(fetch, youtube, tmp_path):
    youtube.refuse("gone-gone-0", "Video unavailable")
    youtube.serve("known-alive", youtube.format(134, BODY, 64, 48))
    fetch(some("gone-gone-0"), "--youtube-alive", "known-alive")
    assert classes(tmp_path / "store") == {"gone-gone-0": "gone_unconfirmed"}
    assert youtube.asked() == ["gone-gone-0", "known-alive"]
    assert youtube.downloads() == 0  # it is only looked at


@pytest.mark.slow
def test_a_blocked_session_that_calls_all_videos_gone_records_nothing(fetch, youtube, tmp_path):
    youtube.serve(ALIVE, youtube.format(134, BODY, 64, 48))
    fetch(some(ALIVE, "other-other", "third-third"), code=1)  # the pages of two are missing: no answer
    assert classes(tmp_path / "store") == {ALIVE: None}
    for youtube_id in (ALIVE, "other-other", "third-third", "jNQXAC9IVRw", "dQw4w9WgXcQ", "kJQP7kiw5Fk"):
        youtube.refuse(youtube_id, "Video unavailable")
    youtube.server.requests.clear()
    result = fetch(some(), code=1)
    assert classes(tmp_path / "store") == {ALIVE: None}
    assert ALIVE in youtube.asked()  # the store knows that it lived
    assert "are said to be gone, but no living video answers" in result.stderr
    for youtube_id in (ALIVE, "other-other"):
        youtube.serve(youtube_id, youtube.format(134, BODY, 64, 48))
    fetch(some())
    assert classes(tmp_path / "store") == {ALIVE: None, "other-other": None, "third-third": "gone_unconfirmed"}


def test_living_videos_that_yt_dlp_cannot_read_are_no_blocked_session(fetch, youtube, tmp_path):
    """The advice would be to wait a day, where a newer yt-dlp is what it takes."""
    youtube.refuse("gone-gone-0", "Video unavailable")
    youtube.serve("known-alive")  # without a format
    told = fetch(some("gone-gone-0"), "--youtube-alive", "known-alive", code=1).stderr
    assert "no answer: gone-gone-0: gone: Video unavailable" in told
    assert "blocked" not in told
    assert classes(tmp_path / "store") == {}


@pytest.mark.slow
def test_after_a_wait_a_gone_video_does_not_count_as_an_answer(fetch, youtube, tmp_path, monkeypatch):
    """All but one video of the unit are gone, and a rate limit came first: a living video is asked to end the wait."""
    gone = [f"gone-gone-{n}" for n in range(6)]
    for youtube_id in gone:
        youtube.refuse(youtube_id, "Video unavailable")
        youtube.server.pages[f"/watch/{youtube_id}"].faults.append(Fault(status=429))
    youtube.serve("known-alive", youtube.format(134, BODY, 64, 48))
    monkeypatch.setattr(breaker, "WAITS_S", (0.02,) * 9)
    monkeypatch.setitem(TROUBLES, "rate", Trouble(1, 9, "wait"))
    fetch(some(*gone), "--youtube-alive", "known-alive")
    assert classes(tmp_path / "store") == dict.fromkeys(gone, "gone_unconfirmed")


@given(st.lists(st.tuples(st.sampled_from([f"video-{n:05}" for n in range(120)]), st.integers(0, 5)), unique=True))
def test_every_clip_is_in_one_unit_with_the_others_of_its_video(clips):
    wanted = {f"{youtube_id}_{start:06d}_{start + 10:06d}" for youtube_id, start in clips}
    for workers in (1, 7):
        units = YouTubeClips(YouTubeOrigin(), YouTubeOptions(), MEDIA).units(
            pa.array(sorted(wanted), pa.string()), MEDIA, frozenset(), workers
        )
        videos = [video for unit in units for video in unit.videos]
        found = [str(clip) for video in videos for clip in video.clips]
        assert (sorted(found), len(found)) == (sorted(wanted), len(wanted))
        assert len({video.youtube_id for video in videos}) == len(videos)
        assert all(0 < len(unit.videos) <= 50 for unit in units)


MEDIA = pa.schema([MEDIA_SCHEMA.field(name) for name in ("clip_id", "failure", "origin", "settled_at")]).empty_table()


@pytest.mark.slow
def test_what_a_later_origin_brings_is_no_video_without_an_answer(fetch, youtube, tmp_path):
    """Nor is an archive that could not be read, once nothing of it is wanted any more."""
    first, second = "later-bring", "nobody-has-"
    for youtube_id in (first, second):
        youtube.refuse(youtube_id, "Something that nobody ever said")
    folder = tmp_path / "clips"
    clip_file(folder / f"{first}_000001_000003.mp4")
    origins = f"youtube,cvdf:{youtube.server.url('/no')},local:{folder}"
    told = fetch(some(first, second), *OPTIONS, origin=origins, code=1).stderr
    assert "no answer: nobody-has-" in told
    assert "no answer: later-bring" not in told
    assert "k710: 2 archives could not be read" in told
    shutil.rmtree(tmp_path / "store")
    clip_file(folder / f"{second}_000001_000003.mp4")
    told = fetch(some(), *OPTIONS, origin=origins)
    assert "This run: 2 clips fetched" in told.stdout
    assert "no answer" not in told.stderr
    assert "not read" not in told.stderr


@pytest.mark.slow
def test_whole_videos_need_room_too(fetch, youtube, tmp_path, monkeypatch):
    """One that comes and one in each of two units that is cut, but no more than there are."""
    monkeypatch.setattr(estimate, "free_bytes", lambda folder: 2_900_000_000)
    wanted = [f"video-{n:05}" for n in range(4)]
    assert "scratch: at most 3.0 GB; free: 2.9 GB." in fetch(some(*wanted), "--dry-run").stdout
    told = fetch(some(), code=1).stderr
    assert f"{tmp_path / 'store'}: 4 clips need about 3.0 GB, 2.9 GB are free; " in told
    assert "3.0 GB are for whole videos: --youtube-max-megabytes makes that less" in told
    assert youtube.asked() == []
    for youtube_id in wanted:
        youtube.serve(youtube_id, youtube.format(134, BODY, 64, 48))
    assert "2 clips fetched" in fetch(some(), "--limit", 2).stdout
    assert "2 clips fetched" in fetch(some(), "--youtube-max-megabytes", 900).stdout


# A mirror that serves videos by their IDs.


def test_a_mirror(fetch, youtube, tmp_path):
    server, names = youtube.server, ["living-liv0", DASH, "absent-abs0", "absent-410-", "refused-403", "broken-500-"]
    for name in names[:2]:
        server.serve(f"/v/{name}.mp4", BODY)
    server.serve(
        "/v/moved-moved.mp4", b"", always=Fault(status=302, headers={"Location": server.url(f"/v/{DASH}.mp4")})
    )
    server.serve("/v/endless-end.mp4", BODY + bytes(3_000_000), chunked=True)
    server.serve("/v/absent-410-.mp4", b"", always=Fault(status=410))
    server.serve("/v/refused-403.mp4", b"", always=Fault(status=403))
    server.serve("/v/broken-500-.mp4", b"", always=Fault(status=500))
    options = ("--youtube-alive", names[0], "--youtube-max-megabytes", 1)
    wanted = some(*names, "moved-moved", "endless-end")
    result = fetch(wanted, *options, origin=f"youtube:{server.url('/v/{id}.mp4')}", code=1)
    store = tmp_path / "store"
    expected = {names[0]: None, DASH: None, "absent-abs0": "gone_unconfirmed", "absent-410-": "gone_unconfirmed"}
    expected |= {"moved-moved": None, "endless-end": "too_large"}
    assert classes(store) == expected
    assert "no answer: refused-403: tools: " in result.stderr
    assert "no answer: broken-500-: network: " in result.stderr
    assert {row["origin"] for row in settled(store).values()} == {f"youtube:{server.url('/v/{id}.mp4')}"}
    assert "YouTube's terms and the videos' owners decide what may be done with them." in result.stderr


def test_a_mirror_cannot_lead_elsewhere(fetch, youtube, tmp_path):
    """Neither to another site's extractor nor to a file of this machine."""
    secret = tmp_path / "secret.mp4"
    secret.write_bytes(BODY)
    server = youtube.server
    server.serve("/v/leads-away0", b"<html><iframe src='https://player.vimeo.com/video/1'></iframe></html>")
    server.serve("/v/leads-file0", b"#EXTM3U\n#EXTINF:8,\n" + f"file://{secret}\n".encode() + b"#EXT-X-ENDLIST\n")
    fetch(some("leads-away0", "leads-file0"), origin=f"youtube:{server.url('/v/{id}')}", code=1)
    assert all(failure is not None for failure in classes(tmp_path / "store").values())


# Wrong usage.


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("--youtube-rate-limit fast", '--youtube-rate-limit: invalid rate limit "fast" given'),
        ("--youtube-sleep 5 --youtube-max-sleep 2", "--youtube-sleep: "),
        ("--youtube-max-sleep 2", "--youtube-sleep: "),
        ("--youtube-cookies-from-browser netscape", "--youtube-cookies-from-browser: unsupported browser"),
        ("--youtube-source-address here", "--youtube-source-address: 'here' is no IP address"),
        ("--youtube-extractor-args nonsense", "--youtube-extractor-args: "),
        ("--youtube-js-runtime perl", "--youtube-js-runtime: unknown runtime 'perl'; known: bun, deno, node, quickjs"),
        ("--youtube-js-runtime node:/no/such/node", "--youtube-js-runtime: /no/such/node: no such file"),
        ("--youtube-plugins /no/such/folder", "--youtube-plugins: /no/such/folder: no such folder"),
        ("--youtube-alive too-short", "--youtube-alive: 'too-short' is no YouTube ID (11 characters)"),
        ("--youtube-cookies /no/such/file", "--youtube-cookies: /no/such/file: No such file or directory"),
        ("--youtube-cookies {json}", "--youtube-cookies: {json}: Cookies file must be Netscape formatted, not JSON"),
        ("--youtube-cookies {empty}", "--youtube-cookies: {empty}: holds no cookie in Netscape's format"),
    ],
)
def test_options_that_make_no_sense(fetch, tmp_path, given, message):
    files = {"json": tmp_path / "cookies.json", "empty": tmp_path / "cookies.txt"}
    files["json"].write_text('[{"domain": ".youtube.com"}]')
    files["empty"].write_text("# Netscape HTTP Cookie File\n")
    result = fetch(some(ALIVE), *given.format(**files).split(), code=2, options=())
    assert f"k710: {message.format(**files)}" in result.stderr
    assert result.stdout == ""
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    "origin",
    ["youtube:ftp://host/{id}", "youtube:http://host/", "youtube:http://a:b@host/{id}", "youtube:http://[x/{id}"],
)
def test_a_mirror_without_an_address(fetch, origin):
    assert "a mirror's address is http(s)://HOST/…, with {id}" in fetch(some(ALIVE), origin=origin, code=2).stderr


def test_options_of_youtube_without_youtube(k710, tmp_path):
    manifest = build(k710, tmp_path, some(ALIVE))
    result = k710("fetch", manifest, "--from", "cvdf", "--youtube-proxy", "http://proxy")
    assert result.exit_code == 2
    assert "options --youtube-… without the origin youtube; add it to --from" in result.stderr


def test_without_yt_dlp(fetch, monkeypatch):
    monkeypatch.setitem(sys.modules, "yt_dlp", None)
    told = fetch(some(ALIVE), code=2).stderr
    assert "k710: the origin youtube needs yt-dlp; `pip install --upgrade 'yt-dlp[default]'`" in told


def test_what_is_passed_on_is_passed_on(fetch, youtube, tmp_path, monkeypatch):
    """Cookies, which yt-dlp must not write, and the language."""
    cookies = tmp_path / "cookies.txt"
    lines = ["# Netscape HTTP Cookie File", "127.0.0.1\tFALSE\t/\tFALSE\t4102444800\tSESSION\tsecret", ""]
    cookies.write_text("\n".join(lines))
    youtube.serve(ALIVE, youtube.format(134, BODY, 64, 48))
    page = youtube.server.pages[f"/watch/{ALIVE}"]
    page.always = Fault(headers={"Set-Cookie": "NEW=cookie; Path=/; Max-Age=99999"})
    fetch(
        some(ALIVE),
        "--youtube-cookies",
        cookies,
        "--youtube-rate-limit",
        "50M",
        "--youtube-source-address",
        "127.0.0.1",
    )
    (asked,) = youtube.server.log(f"/watch/{ALIVE}")
    assert "SESSION=secret" in asked.headers["Cookie"]
    assert asked.headers["Accept-Language"].startswith("en-US,en")
    assert cookies.read_text() == "\n".join(lines)
    assert b"secret" not in b"".join(files_under(tmp_path / "store").values())


def test_cookies_from_a_pipe(fetch, youtube, tmp_path):
    """As a shell makes one of <(gpg -d cookies.gpg), for those who keep no secret on the disk."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    text = "# Netscape HTTP Cookie File\n127.0.0.1\tFALSE\t/\tFALSE\t4102444800\tSESSION\tsecret\n"
    writer = threading.Thread(target=pipe.write_text, args=(text,))
    writer.start()
    youtube.serve(ALIVE, youtube.format(134, BODY, 64, 48))
    fetch(some(ALIVE), "--youtube-cookies", pipe)
    writer.join()
    (asked,) = youtube.server.log(f"/watch/{ALIVE}")
    assert "SESSION=secret" in asked.headers["Cookie"]


# Killed, interrupted, and a full disk.


@pytest.fixture
def process(k710, youtube, tmp_path):
    """A fetch in a process of its own, as a shell starts it."""
    started = []

    def start(wanted: Any, *more: object) -> subprocess.Popen[str]:
        manifest = tmp_path / "manifest"
        if not manifest.exists():
            build(k710, tmp_path, wanted)
        given = ("--from", "youtube", "--splits", "train", "--workers", "1", "--store", tmp_path / "store")
        command = [sys.executable, "-m", "k710", "fetch", manifest, *given, *OPTIONS, *more]
        environment = {**os.environ, "K710_TEST_MARK": MARK}
        process = subprocess.Popen(
            [str(word) for word in command],
            env=environment,
            text=True,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        with process:
            process.kill()


def stalling(youtube: YoutubePages, youtube_id: str) -> None:
    """A video whose download never ends."""
    stalls = youtube.format(134, BODY, 64, 48)
    youtube.server.pages[stalls["url"].removeprefix(youtube.server.url(""))].always = Fault(stall_at=500)
    youtube.serve(youtube_id, stalls)


@pytest.mark.skipif(not PROC, reason="the processes that are left are looked for in /proc")
@pytest.mark.slow
def test_sigterm_commits_what_has_come_and_ends_the_download(process, youtube, fetch, tmp_path):
    wanted = [f"video-{n:05}" for n in range(2)]
    youtube.serve(wanted[0], youtube.format(134, BODY, 64, 48))
    stalling(youtube, wanted[1])
    running = process(some(*wanted), "--youtube-downloads", "2")
    # The first video's clip is in a tar: that of its unit, or already of the store. Folders vanish meanwhile.
    tars = partial(glob.glob, "store/**/*.tar", root_dir=tmp_path, recursive=True)
    until(lambda: youtube.downloads() >= 2 and tars())
    began_s = time.monotonic()
    running.terminate()
    _, said = running.communicate(timeout=30)
    assert (running.returncode, time.monotonic() - began_s < 15) == (1, True)
    assert "stopped by SIGTERM; everything settled so far is kept" in said
    assert classes(tmp_path / "store") == {wanted[0]: None}
    assert left_in_scratch(Store(tmp_path / "store", "h264")) == []
    assert marked(MARK) == []


@pytest.mark.skipif(not PROC, reason="the processes that are left are looked for in /proc")
@pytest.mark.slow
def test_after_sigkill_nothing_runs_on_and_the_next_run_goes_on(process, youtube, fetch, tmp_path):
    wanted = [f"video-{n:05}" for n in range(4)]
    for youtube_id in wanted[:3]:
        youtube.serve(youtube_id, youtube.format(134, BODY, 64, 48))
    stalling(youtube, wanted[3])
    running = process(some(*wanted), "--youtube-downloads", "2")
    until(lambda: youtube.downloads() >= 4 and len(classes(tmp_path / "store")) >= 2)
    running.kill()
    running.communicate()
    until(lambda: marked(MARK) == [])
    before = classes(tmp_path / "store")
    assert set(before.values()) == {None}
    assert set(youtube.asked()) >= set(before)
    youtube.serve(wanted[3], youtube.format(134, BODY, 64, 48))
    youtube.server.requests.clear()
    fetch(some())
    assert classes(tmp_path / "store") == dict.fromkeys(wanted)
    assert set(youtube.asked()) == set(wanted) - set(before)


def asking(folder: Path, answers: dict[str, Answer], videos: list[Video], **more: Any) -> Asking:
    """A pass over some videos of which the answers are known."""
    downloads = SimpleNamespace(bring=lambda youtube_id, *args, **more: answers[youtube_id])
    session = SimpleNamespace(
        breaker=Breaker("x", TROUBLES, print), downloads=downloads, warn=id, alive=deque(), **more
    )
    session.sections, session.url_of = False, str
    run = SimpleNamespace(stop=Stop(), profile=Profile(), new_path=lambda: folder / "1", tally=Tally())
    return Asking(session, Suspicions(MEDIA, "youtube"), run, deque(videos), Counter())


def test_a_download_goes_with_the_last_of_its_clips(tmp_path):
    clips = tuple(ClipName(DASH, (start, start + 2)) for start in (1, 4, 6))
    pass_over = asking(tmp_path, {DASH: Answer(None, {0: tmp_path / "0"})}, [Video(DASH, clips)])
    assert [item.temporary for item in pass_over.work()] == [(), (), (tmp_path / "0",)]


def test_a_video_that_comes_vouches_for_the_verdicts_before_it_alone(tmp_path):
    """Nobody else is asked for those; the last verdict, which it came before, needs another."""
    gone = Answer("ERROR: [youtube] x: Video unavailable")
    answers = {"gone-gone-0": gone, ALIVE: Answer(None, {0: tmp_path / "0"}), "gone-gone-1": gone}
    proofs: list[str] = []
    videos = [Video(name, (ClipName(name, (0, 2)),)) for name in answers]
    pass_over = asking(tmp_path, answers, videos, trouble=lambda: proofs.append("asked"))
    settled_in_order = []
    for item in pass_over.work():
        settled_in_order.append((item.job.clip_id[:11], getattr(item.job, "failure", None), len(proofs)))
    suspected = "gone_unconfirmed"
    assert settled_in_order == [("gone-gone-0", suspected, 0), (ALIVE, None, 0), ("gone-gone-1", suspected, 1)]


def test_what_is_done_is_settled_before_more_is_downloaded():
    """Else the whole videos of all clips that may be in hand would lie in the scratch."""
    yielded: list[str] = []

    def work() -> Iterator[Work]:
        for n in range(5):
            assert len(yielded) == n
            yield Work(Made(f"{n}", "private"), ("x",))

    run = SimpleNamespace(stop=Stop(), clips_ahead=4)
    for _, made in _made_in_order(run, work()):
        yielded.append(made.clip_id)
    assert yielded == ["0", "1", "2", "3", "4"]


def test_a_disk_that_is_full_ends_the_run(fetch, youtube, tmp_path, monkeypatch):
    """The download process says so in yt-dlp's words."""
    youtube.serve(ALIVE, youtube.format(134, BODY, 64, 48))
    said = "ERROR: unable to write data: [Errno 28] No space left on device"
    monkeypatch.setattr(Downloads, "bring", lambda *args, **more: Answer(said))
    told = fetch(some(ALIVE), code=1).stderr
    assert "k710: the disk is full; everything settled so far is kept" in told
    assert classes(tmp_path / "store") == {}


@pytest.mark.slow
def test_between_videos_it_rests_also_where_nothing_is_downloaded(fetch, youtube, tmp_path):
    for n in range(3):
        youtube.refuse(f"private-{n:03}", "Private video")
    options = [*OPTIONS[:4], "--youtube-sleep", 0.5, "--youtube-max-sleep", 0.6, "--youtube-sleep-requests", 0]
    fetch(some(*(f"private-{n:03}" for n in range(3))), options=options)
    at = [request.at_s for request in youtube.server.requests]
    assert all(later - earlier >= 0.5 for earlier, later in itertools.pairwise(at))


def test_after_a_batch_all_processes_rest_and_it_is_said(fetch, youtube, tmp_path):
    for n in range(5):
        youtube.refuse(f"private-{n:03}", "Private video")
    options = [*OPTIONS[:4], "--youtube-batch", 2, "--youtube-batch-rest", 0.01]
    told = fetch(some(*(f"private-{n:03}" for n in range(5))), options=options).stderr
    assert [line for line in told.splitlines() if "resting" in line] == [
        "youtube: 2 videos asked for; resting 0.01 min",
        "youtube: 4 videos asked for; resting 0.01 min",
    ]
    at = [request.at_s for request in youtube.server.requests]
    gaps = [later - earlier for earlier, later in itertools.pairwise(at)]
    assert sum(gap >= 0.6 for gap in gaps) >= 2


def test_youtube_itself_has_a_batch_by_default_and_a_mirror_none(tmp_path):
    profile = read_profile("h264", audio=False)
    found = {
        extractor: Downloads(YouTubeOptions(), profile, tmp_path, url_of=str, extractor=extractor)
        for extractor in ("Youtube", "Generic")
    }
    assert (found["Youtube"]._batch, found["Youtube"]._batch_rest_s) == (500, 1800)
    assert found["Generic"]._batch == 0


def test_a_disk_that_fills_while_a_video_comes(fetch, youtube, tmp_path, monkeypatch):
    def full(*args: object, **more: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Downloads, "bring", full)
    assert "k710: the disk is full; everything settled so far is kept" in fetch(some(ALIVE), code=1).stderr


def test_a_browser_whose_cookies_cannot_be_read(fetch, youtube, tmp_path):
    told = fetch(some(ALIVE), "--youtube-cookies-from-browser", f"firefox:{tmp_path}", code=1).stderr
    assert "k710: youtube: yt-dlp does not start: " in told
    assert "could not find firefox cookies database" in told
