"""What YouTube says, as publicly reported, and what it is taken for; docs/youtube.md has the table."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k710.fetch.origins.youtube.verdict import NO_SPACE, TROUBLES, UNKNOWN, WARNINGS, plain, table, verdict, warning
from k710.store.failures import OF_THE_VIDEO

REPORTED = [
    tuple(line.split("\t"))
    for line in Path(__file__).with_name("youtube_messages.tsv").read_text("utf-8").splitlines()[1:]
]
YOUTUBE = "ERROR: [youtube] dQw4w9WgXcQ: "


@pytest.mark.parametrize(("kind", "said"), [*REPORTED, (UNKNOWN, "")])
def test_what_was_reported(kind, said):
    assert verdict(said).kind == kind
    assert "dQw4w9WgXcQ" not in verdict(said).text


@given(st.text())
def test_only_what_is_known_is_gone(said):
    """No text of anybody's is taken for a verdict that the table does not have."""
    found = verdict(said)
    known = any(pattern.search(plain(said)) for pattern, _, _ in table())
    assert known or found.kind == UNKNOWN
    assert found.kind in {*OF_THE_VIDEO, *TROUBLES, NO_SPACE}
    assert re.fullmatch(r"[^\x00-\x1f\x7f-\x9f]{0,300}", found.text)


def test_a_steering_sequence_does_not_reach_the_terminal():
    assert plain("\x1b[0;31mERROR:\x1b[0m a\x07b\r\nc\x9b2J") == "ERROR: a b c 2J"
    assert plain("HTTP Error 404: Not Found (caused by <HTTPError 404: Not Found>)") == "HTTP Error 404: Not Found"


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (
            "gone",
            "This video is no longer available due to a copyright claim by No space left on device",
        ),
        (
            "members",
            "This video is available to this channel's members on level: HTTP Error 429",
        ),
    ],
)
def test_what_others_call_themselves_is_no_verdict(kind, said):
    assert verdict(YOUTUBE + said).kind == kind


@pytest.mark.parametrize("youtube_id", ["SSLabcdefgh", "timed-out--", "-ProxyError", "abcdefgssl-"])
def test_an_id_is_no_verdict(youtube_id):
    assert verdict(f"ERROR: [youtube] {youtube_id}: Nobody ever said that").kind == UNKNOWN
    no_formats = f"ERROR: [youtube] {youtube_id}: Requested format is not available"
    assert verdict(no_formats, [f"[youtube] {youtube_id}: Some formats may be missing"]).kind == "tools"


@pytest.mark.parametrize(
    "said", ["[SSL: WRONG_VERSION_NUMBER] wrong version number", "[Errno 110] Connection timed out"]
)
def test_a_number_in_brackets_is_no_extractor(said):
    assert verdict(f"ERROR: {said}").kind == verdict(said).kind == "network"
    assert verdict(said).text == said


def test_a_password_is_not_said():
    assert plain("Failed to parse: http://user:secret@127.0.0.1:99999") == "Failed to parse: http://…@127.0.0.1:99999"


def test_the_cause_may_stand_in_the_warnings():
    last = YOUTUBE + "Failed to extract any player response"
    network = "[youtube] x: Unable to download API page: [Errno 111] Connection refused"
    assert verdict(last, ["something else", network]).kind == "network"
    assert verdict(last, ["[youtube] x: HTTP Error 429: Too Many Requests"]).kind == "rate"
    assert verdict(last, ["[youtube] x: Video unavailable"]).kind == "tools"  # a warning is no verdict on the video
    assert verdict(YOUTUBE + "Video unavailable", [network]).kind == "gone"


def test_warnings_that_the_user_can_mend():
    found = (
        "No supported JavaScript runtime could be found. Only deno is enabled by default; to use another runtime add"
    )
    assert warning(found) == WARNINGS["warns_js"]
    rotated = "[youtube] The provided YouTube account cookies are no longer valid. They have likely been rotated"
    assert warning(rotated) == WARNINGS["warns_cookies"]
    assert warning("Video unavailable") is None


def test_every_row_of_the_table_says_where_it_was_reported():
    assert all(reported for _, _, reported in table())
    reported = [plain(said) for _, said in REPORTED]
    kinds = {kind for kind, _ in REPORTED}
    assert kinds == {*OF_THE_VIDEO, *TROUBLES, NO_SPACE} - {"gone_unconfirmed", "blocked"}
    used = [sum(bool(pattern.search(said)) for said in reported) for pattern, _, _ in table()]
    assert sum(count > 0 for count in used) > 0.75 * len(used)
