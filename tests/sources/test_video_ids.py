"""Names of videos and clips: each can be read back, none is taken for another, and clips of a video are neighbours."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k710.sources.video_ids import clip_id_of, own_video_id, raw_id, shown_id, split_clip_id

RAW = st.text(st.sampled_from("aB0_-~ /.é&_1"), min_size=1, max_size=20) | st.from_regex(
    r"[ab]_[0-9]{6}(_[0-9]{6}([0-9]{3})?)?", fullmatch=True
)
WHOLE = st.tuples(st.integers(0, 1000), st.integers(1, 900)).map(lambda span: (span[0], span[0] + span[1]))
MILLISECONDS = st.tuples(st.integers(0, 10**6), st.integers(1, 10**6)).map(
    lambda span: (span[0] / 1000, (span[0] + span[1]) / 1000)
)
SPANS = st.none() | WHOLE | MILLISECONDS


@given(RAW, SPANS)
def test_a_name_is_read_back(raw, span_s):
    video = own_video_id("mine", raw)
    assert raw_id(video) == ("mine", raw)
    assert split_clip_id(clip_id_of(video, span_s)) == (video, span_s)
    assert split_clip_id(clip_id_of("abcdefghijk", span_s)) == ("abcdefghijk", span_s)


@given(RAW, RAW, SPANS, SPANS)
def test_two_clips_never_share_a_name(one, other, span_s, other_span_s):
    names = [clip_id_of(own_video_id("mine", raw), span) for raw, span in ((one, span_s), (other, other_span_s))]
    assert (names[0] == names[1]) == (one == other and span_s == other_span_s)


@given(st.lists(st.tuples(RAW, WHOLE | MILLISECONDS), min_size=1, max_size=8, unique=True))
def test_the_clips_of_a_video_are_neighbours_in_the_order_of_names(clips):
    named = sorted((clip_id_of(own_video_id("mine", raw), span), raw) for raw, span in clips)
    videos = [raw for number, (_, raw) in enumerate(named) if number == 0 or raw != named[number - 1][1]]
    assert len(videos) == len(set(videos))


@pytest.mark.parametrize("name", ["", "abc", "abcdefghijk_12_22", "Mine~1", "mine~", "mine~a b", "abcdefghijk_000012"])
def test_other_text_names_no_clip(name):
    assert split_clip_id(name) is None


def test_only_what_can_name_a_file_anywhere_stands_for_itself():
    assert own_video_id("hmdb51", "a&b #1 (c)!_f.cm") == "hmdb51~a~26b~20~231~20~28c~29~21_f~2Ecm"
    assert own_video_id("mine", "VID_20200101_120000") == "mine~VID_20200101~5F120000"
    assert shown_id("mine~clap~2Fa~20b") == "clap/a b"
    assert shown_id("abcdefghijk") == "abcdefghijk"
