"""Names of clips as they lie about in the wild (FACTS: `{id}_{start}_{end}.mp4` and `{id}.mp4`, in three layouts)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k710.clip_names import ClipName, parse_clip_name, read_clip_names
from k710.errors import ListError

ID = "-0abcdefgh_"
CLIP = f"{ID}_000012_000022"


@pytest.mark.parametrize("name", [ID, CLIP])
@pytest.mark.parametrize(
    "folder",
    ["", "/data/k400/", "val/", "train/riding a bike/", "val/riding_a_bike/", "val/windsurfing/", "val/ice_skating/",
     "kinetics400/", "kinetics400.old/val/", "../--/", "./", "s3://bucket/k700-2020/"],
)  # fmt: skip
@pytest.mark.parametrize(
    "end", ["", ".mp4", ".webm", ".mkv", ".mp4 371", ".mp4,371", ".mp4\t371\n", " 371", ",371,0.5"]
)
def test_every_layout_and_every_trainers_line(name, folder, end):
    assert str(parse_clip_name(folder + name + end)) == name


def test_a_path_of_windows():
    assert str(parse_clip_name(rf"D:\kinetics400.old\riding a bike\{CLIP}.mp4")) == CLIP
    assert str(parse_clip_name(rf"D:\kinetics400.old\riding a bike\{ID}.mp4")) == ID


@pytest.mark.parametrize("youtube_id", ["-" * 11, "_" * 11, "--sample-ds", "0" * 11, "000012_0000", "windsurfin_"])
def test_ids_of_every_kind(youtube_id):
    assert parse_clip_name(youtube_id) == ClipName(youtube_id)
    assert parse_clip_name(f"{youtube_id}_000001_000011.mp4") == ClipName(youtube_id, (1, 11))
    assert parse_clip_name(f"{youtube_id}.mp4") == ClipName(youtube_id)


@pytest.mark.parametrize(
    "text",
    ["", " ", "label", "abseiling", "windsurfing", "ice_skating", "Windsurfing,", "val/windsurfing", "abcdefghij",
     "abcdefghijkl", "abcdefghijkl_000001_000011.mp4", "abcdefghijkl.mp4", "abcdefghij.mp4", "abcdefghi.jk",
     "abcdefghij\u00e9",
     "archery,abcdefghijk,1,11,val", "abc/def", "/", ".mp4", "\x00"],
)  # fmt: skip
def test_what_names_no_clip(text):
    assert parse_clip_name(text) is None


@pytest.mark.parametrize("span", ["_00001_000011", "_000001_00011", "_0000001_000011", "_000001", "_000001-000011"])
def test_a_span_has_six_digits_twice(span):
    """Else `str` of what was read would be another name."""
    name = parse_clip_name(f"abcdefghijk{span}.mp4")
    assert name is None or name.span_s is None


def test_other_digits_are_no_span():
    assert parse_clip_name("abcdefghijk_\u0660\u0660\u0660\u0660\u0660\u0661_000011.mp4") is None


IDS = st.from_regex(r"[A-Za-z0-9_-]{11}", fullmatch=True)
TIMES = st.integers(0, 999_999)
NAMES = st.builds(ClipName, IDS, st.none() | st.tuples(TIMES, TIMES))


@given(NAMES, st.sampled_from(["{}", "{}.mp4", "val/a/{} 12", "val/riding a bike/{}.mp4 12", "a b/{},12"]))
def test_a_clip_file_gives_its_name_back(name, form):
    assert parse_clip_name(form.format(name)) == name


@given(st.text() | NAMES.map(str) | st.text(alphabet="ab-_/. ,0123456789", max_size=40))
def test_what_is_read_is_a_name(text):
    """Whatever the text: nothing, or a name that stands in it and gives itself back."""
    name = parse_clip_name(text)
    if name:
        assert str(name) in text
        assert parse_clip_name(f"{name}.mp4") == name


# Files of names


def read(folder, text):
    path = folder / "names.txt"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return [str(name) for name in read_clip_names(path)]


@pytest.mark.parametrize(
    "text",
    [
        f"{ID}\n{CLIP}\n",
        f"\ufeff{ID}\r\n\r\n{CLIP}",
        f"val/a b/{ID}.mp4 12\nval/a b/{CLIP}.mp4 12\n",
        f"label,youtube_id,time_start,time_end,split\narchery,{ID},,,val\nwindsurfing,{CLIP[:11]},12,22,val\n",
        f'\n"Label" , YouTube_ID , TIME_START,time_end\n\narchery,{ID},,\n"a, b" , {ID}, 12.0 ,22\n\n',
        f"youtube_id\ttime_start\ttime_end\n{ID}\t\t\n{ID}\t12\t22\n",
        f"split,time_end,time_start,youtube_id\nval,,,{ID}\nval,22,12,{ID}\n",
    ],
)
def test_files_of_names(tmp_path, text):
    assert read(tmp_path, text) == [ID, CLIP]


def test_a_list_without_times_gives_ids(tmp_path):
    assert read(tmp_path, f"youtube_id,label\n{ID},archery\n{ID},archery\n") == [ID, ID]


def test_the_real_form_of_every_release(tmp_path, sample):
    """The clip names of the sample's own lists, read as anyone's."""
    from k710.sample import LISTS

    clips = sample.clips.to_pylist()
    for source, file in (("k400", "k400_val.csv"), ("k600", "k600_val.txt"), ("k600", "k600_train.txt")):
        split = "val" if "val" in file else "train"
        listed = {clip["clip_id"] for clip in clips if clip[f"{source}_split"] == split}
        assert {str(name) for name in read_clip_names(LISTS / file)} == listed


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the list is empty"),
        ("\n \n", "the list is empty"),
        ("youtube_id,time_start\n", "the list is empty"),
        ("abcdefghijk\nnonsense\n\nabc def\n", "2 lines name no YouTube ID and no clip: line 2, 4"),
        ("x\n" * 25, "25 lines name no YouTube ID and no clip: line 1, 2, .*, 20, …$"),
        ("youtube_id,time_start,time_end\nabcdefghijk,a,11\n", "1 line names no YouTube ID and no clip: line 2"),
        ("youtube_id,time_start,time_end\nabcdefghijk,-1,11\n", "1 line names no YouTube ID and no clip: line 2"),
        ("youtube_id,time_start,time_end\nabcdefghijk,11,1\n", "1 line names no YouTube ID and no clip: line 2"),
        (
            "youtube_id,time_start,time_end\nabcdefghijk,1,\u0661\u0661\n",
            "1 line names no YouTube ID and no clip: line 2",
        ),
        ('youtube_id,label\nabcdefghijk,"a\n', "1 line names no YouTube ID and no clip: line 2"),
        ("youtube_id,label\nshort,a\n", "1 line names no YouTube ID and no clip: line 2"),
        ("label,youtube_id\narchery\n", "1 line names no YouTube ID and no clip: line 2"),
        (b"\xff\xfea\0", "not a text file in UTF-8"),
        (b"\x1f\x8b\x08\0", "not a text file in UTF-8"),
    ],
)
def test_bad_files_of_names(tmp_path, text, message):
    with pytest.raises(ListError, match=f"names.txt: {message}"):
        read(tmp_path, text)
