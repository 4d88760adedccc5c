"""The quick recogniser says of every line what the patient one says."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from k710.identify.keys import clip_names
from k710.identify.recognise import NO_CLASS, recognise
from k710.lists.clip_paths import clips_in_line

IDS = st.from_regex(r"[A-Za-z0-9_-]{11}", fullmatch=True)
WORDS = st.sampled_from(
    ["windsurfing", "ice_skating", "falling_man", "kinetics400", "video_00001", "train_00001", "youtube_ids", "a b",
     "0wR5jVB-WPk", "-0abcdefghI", "-----------", "v_abcdefghI", "clip1234567", "k400_______", "VIDEO_PATHS"]
)  # fmt: skip
STEMS = IDS | WORDS
SPANS = st.sampled_from(["", "_000001_000011", "_1_11", "_000011_000001", "_1280_720", "_000001_00011", "_000001"])
SUFFIXES = st.sampled_from(["", ".mp4", ".webm", ".mkv", ".avi", ".f137.mp4", ".tar", ".jpg", ".txt", " (1).mp4"])
FOLDERS = st.sampled_from(
    [
        "",
        "/",
        "a/",
        "/data/riding a bike/",
        "kinetics400/",
        "C:\\x\\",
        "s3://b/",
        "a.zip@/",
        "x /y/",
        "https://h/",
        "a,b/",
    ]
)
TAILS = st.sampled_from(
    ["", " 3", ",3", "\t3", " 30 3", " 0 -1", " 12345", "  3", " 3 ", " x", ",3,0.5", " archery", ",falling_man", "\r"]
)
LINES = st.builds("{}{}{}{}{}".format, FOLDERS, STEMS, SPANS, SUFFIXES, TAILS)
PAGES = st.builds(
    "{}{}{}".format,
    st.sampled_from(
        ["https://www.youtube.com/watch?v=", "https://youtu.be/", "watch?v=", "http://youtube.com/watch?v="]
    ),
    STEMS,
    st.sampled_from(["", "&t=1", "x", "\r", " 3"]),
)
ANY = st.text(alphabet='ab-_/. ,\t0123456789:?@"', max_size=40) | st.text(max_size=30)


def recognised(lines):
    """For each line the names that it may mean."""
    read = recognise(pa.array([f"{line}\n".encode("utf-8", "surrogatepass") for line in lines], pa.binary()))
    found = [None] * len(lines)
    for row, name in zip(read.row.tolist(), clip_names(read.clips).to_pylist(), strict=True):
        found[row] = (name,)
    for unclear in read.unclear:
        found[unclear.row] = unclear.candidates
    return found


@given(st.lists(LINES | PAGES | ANY, max_size=8))
@example(["falling_man 0wR5jVB-WPk", "x/windsurfing.mp4 3", "-----------.mp4", "a /b/0wR5jVB-WPk.mp4 3"])
def test_the_quick_way_gives_what_the_patient_way_gives(lines):
    lines = [line.replace("\n", "") for line in lines]
    assert recognised(lines) == [tuple(map(str, clips_in_line(line.strip("\r")))) for line in lines]


@given(IDS, st.sampled_from(["-", "--", "_", "-_"]))
def test_ids_that_begin_with_a_dash(youtube_id, begin):
    youtube_id = (begin + youtube_id)[:11]
    assert recognised([f"x/{youtube_id}_000001_000011.mp4 5"]) == [(f"{youtube_id}_000001_000011",)]


@pytest.mark.parametrize(
    ("line", "number"),
    [("a/{}.mp4 371", 371), ("{}.mp4,5", 5), ("{}.mp4\t0", 0), ("{}.mp4", NO_CLASS), ("{}", NO_CLASS),
     ("{}.mp4 0 -1", NO_CLASS), ("{}.mp4 300 12", NO_CLASS), ("a b/{}.mp4 12", 12), ("s3://b/{}.mp4 12", 12),
     ("{}.mp4 12345", NO_CLASS), ("https://youtu.be/{}", NO_CLASS)],
)  # fmt: skip
def test_the_number_behind_a_path(line, number):
    read = recognise(pa.array([line.format("0wR5jVB-WPk")]))
    assert read.class_index.tolist() == [number]


def test_a_line_that_may_be_two_is_said_and_not_decided():
    (unclear,) = recognise(pa.array(["falling_man 0wR5jVB-WPk"])).unclear
    assert unclear.candidates == ("falling_man", "0wR5jVB-WPk")
