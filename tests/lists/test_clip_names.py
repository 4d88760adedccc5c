"""Names of clips as they lie about in the wild (FACTS: `{id}_{start}_{end}.mp4` and `{id}.mp4`, in three layouts)."""

from __future__ import annotations

import gzip
import json
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k710.errors import ListError
from k710.lists.clip_names import ClipName, parse_clip_name, read_clip_names, read_named_list
from k710.lists.clip_paths import _NUMBERED, _clips_in_any_line, clips_in_line, clips_in_path
from k710.store.local_files import LocalFiles

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
     "abc/def", "/", ".mp4", "\x00", "kinetics400", "Kinetics700.zip", "train_video.tar",
     "/data/train_shard_000000_000999.tar", "windsurfing.mp4", "video_00001.mp4", "image_00001.jpg", "train_00001.mp4",
     "/a/b/part_000007",
     "abcdefghijk/xyz.mp4", "abcdefghijk folder/xyz.mp4 3", "/data/abcdefghijk folder/xyz.mp4 3", "abcdefghijk/xyz.jpg",
     "https://abcdefghijk", "https://abcdefghijk/", "https://abcdefghijk.com/get?id=1", "https://[abcdefghijk/",
     "https://www.youtube.com/channel/abcdefghijk", "https://www.youtube.com/watch?v=abcdefghijkl", "watch?v=short",
     "abcdefghijk_1280_720.mp4", "abcdefghijk-trailer.mp4", "abcdefghijk,/data/xyz.mp4,3"],
)  # fmt: skip
def test_what_names_no_clip(text):
    assert parse_clip_name(text) is None


@pytest.mark.parametrize("span", ["_00001_000011", "_000001_00011", "_1_11", "_01_011"])
def test_a_span_without_its_zeros(span):
    assert parse_clip_name(f"abcdefghijk{span}.mp4") == ClipName("abcdefghijk", (1, 11))
    assert parse_clip_name(f"val/abcdefghijk{span}") == ClipName("abcdefghijk", (1, 11))


@pytest.mark.parametrize("span", ["_0000001_000011", "_000001", "_000001-000011", "_11_1", "_1_11_21"])
def test_what_is_no_span(span):
    """Else a name that says something else would stand for a clip."""
    assert parse_clip_name(f"abcdefghijk{span}.mp4") is None


def test_other_digits_are_no_span():
    assert parse_clip_name("abcdefghijk_\u0660\u0660\u0660\u0660\u0660\u0661_000011.mp4") is None


# Without those that are taken for the number of a file: v0000000012.mp4 is no video.
IDS = st.from_regex(r"[A-Za-z0-9_-]{11}", fullmatch=True).filter(lambda each: not _NUMBERED.fullmatch(each))
TIMES = st.integers(0, 999_999)
NAMES = st.builds(ClipName, IDS, st.none() | st.tuples(TIMES, TIMES))


@given(NAMES, st.sampled_from(["{}", "{}.mp4", "val/a/{} 12", "val/riding a bike/{}.mp4 12", "a b/{},12"]))
def test_a_clip_file_gives_its_name_back(name, form):
    assert parse_clip_name(form.format(name)) == name


@given(st.text() | NAMES.map(str) | st.text(alphabet="ab-_/. ,0123456789", max_size=40))
def test_what_is_read_is_a_name(text):
    """Whatever the text: nothing, or a name whose video stands in it and which gives itself back."""
    name = parse_clip_name(text)
    if name:
        assert name.youtube_id in text
        assert parse_clip_name(f"{name}.mp4") == name


@pytest.mark.parametrize("name", ["abcdefghijk.jpg", "abcdefghijk_000001_000011.webp"])
def test_a_picture_without_a_folder(name):
    assert str(parse_clip_name(name)) == name.partition(".")[0]


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
        ("abcdefghijk\nnonsense\n\nabc def\n", "2 lines name .*: line 2, 4. Line 2 is 'nonsense'; --skip"),
        ("x\n" * 25, "25 lines name no YouTube ID and no clip: line 1, 2, .*, 20, …. Line 1 is 'x'$"),
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
        (b"\xff\xfea\0", "is text in UTF-16, not a text file in UTF-8; save it as UTF-8"),
        ("abcdefghijk\n".encode("utf-16-le"), "is text in UTF-16, not a text file in UTF-8; save it as UTF-8"),
        (b"\0" * 20, "1 line names no YouTube ID"),
        (b"\xe9", "not a text file in UTF-8: "),
        (b"\x1f\x8b\x08\0", "gzip data is damaged or cut off: "),
        (b"PK\x03\x04rest", "is a ZIP archive or an Excel workbook; unpack it, or save the sheet as CSV"),
        ('["abcdefghijk", "nonsense", 7]', "2 lines name no YouTube ID and no clip: line 2, 3"),
        ('["abcdefghijk"', "line 1: not JSON, or cut off: "),
        ('{"abcdefghijk": {}, "no": {}}', "1 line names no YouTube ID and no clip: line 1"),
        (
            "falling_man abcdefghijk\n",
            "1 line names more than one clip: line 1. Is the clip of line 1 falling_man or abcdefghijk",
        ),
        ("/a/abcdefghijk.mp4 /b/abcdefghijl.mp4 3\n" * 2, "2 lines name more than one clip: line 1, 2. Is "),
        # One row does not tell which of two columns repeats, as labels do.
        ("falling_man,abcdefghijk,17,27,train\n", "1 line names more than one clip: line 1. "),
        ("abcdefghijk,falling_man,17,27,train\nabcdefghijl,falling_man,17,27,train\n", "2 lines name more than one"),
    ],
)
def test_bad_files_of_names(tmp_path, text, message):
    with pytest.raises(ListError, match=f"names.txt: {message}"):
        read(tmp_path, text)


# Names of 11 characters round an ID, which is in the last component alone


WORDS = st.sampled_from(
    ["kinetics400", "kinetics700", "train_video", "annotations", "falling_man", "0wR5jVB-WPk",
     "train_shard_000000_000999", "abcdefghijk_000001_000011", "abcdefghijk_1_11",
     "v_abcdefghijk", "kinetics400.256p.h264", "riding a bike", "a b"]
)  # fmt: skip
PARTS = WORDS | st.from_regex(r"[A-Za-z0-9_.-]{1,30}", fullmatch=True).filter(lambda part: part.strip("."))
FOLDERS = st.lists(PARTS, max_size=4).map(lambda parts: "".join(f"{part}/" for part in parts))
ROOTS = st.sampled_from(
    ["", "/", "./", "../", "~/", "D:/", "kinetics400.zip@/", "/data/train_video.tar@", "s3://kinetics400/", "gs://a/",
     "https://kinetics400.s3.amazonaws.com/", "https://kinetics400/", "http://abcdefghijk:80/", "hdfs://host/"]
)  # fmt: skip
TAILS = st.sampled_from(["", " 0", " 371", ",371", "\t371", " 300 12", " 0 -1", ",371,0.5"])
# An ID with a meaning of its own is another test's matter.
PLAIN_IDS = IDS.filter(lambda text: parse_clip_name(text) is not None)
PLAIN_NAMES = st.builds(ClipName, PLAIN_IDS, st.none() | st.tuples(st.integers(0, 99), st.integers(100, 999_999)))


@given(PLAIN_NAMES, ROOTS, FOLDERS, st.sampled_from([".mp4", ".webm", ".mkv", ".avi", ".f137.mp4"]), TAILS)
def test_no_folder_host_or_archive_is_taken_for_a_video(name, root, folder, suffix, tail):
    path = root + folder + str(name) + suffix
    assert clips_in_path(path) == (name,)
    assert clips_in_line(path + tail) == (name,)


@given(PLAIN_NAMES, ROOTS, FOLDERS, st.sampled_from(["{}_{}", "{:06d}_{:06d}", "{:03d}_{:06d}"]), TAILS)
def test_every_form_of_a_file_name(name, root, folder, form, tail):
    span = f"_{form.format(*name.span_s)}" if name.span_s else ""
    for prefix in ("", "v_"):
        assert clips_in_line(f"{root}{folder}{prefix}{name.youtube_id}{span}.mp4{tail}") == (name,)


@given(
    PLAIN_NAMES,
    ROOTS,
    FOLDERS,
    st.sampled_from(["img_{:05d}", "image_{:05d}", "{:06d}", "frame{:06d}", "flow_x_{:04d}"]),
)
def test_a_frame_belongs_to_its_folder(name, root, folder, form):
    assert clips_in_line(f"{root}{folder}{name}/{form.format(7)}.jpg") == (name,)


@given(ROOTS.filter(bool), FOLDERS, st.sampled_from(["clip", "a.b", "video7", "1", "not one of ours"]), TAILS)
def test_without_an_id_in_the_last_component_there_is_none(root, folder, file, tail):
    assert clips_in_line(f"{root}{folder}{file}.mp4{tail}") == ()


@given(PLAIN_IDS, st.sampled_from(["&t=10s", "", "&list=PLabcdefghijk", "#t=3"]))
def test_addresses_of_youtube(youtube_id, rest):
    for address in (
        f"https://www.youtube.com/watch?v={youtube_id}{rest}",
        f"https://m.youtube.com/watch?app=desktop&v={youtube_id}{rest}",
        f"youtube.com/watch?v={youtube_id}{rest}",
        f"watch?v={youtube_id}{rest}",
        f"/watch?v={youtube_id}",
        f"https://youtu.be/{youtube_id}?si=abcdefghijk",
        f"youtu.be/{youtube_id}",
        f"https://www.youtube.com/shorts/{youtube_id}?feature=share",
        f"https://www.youtube-nocookie.com/embed/{youtube_id}",
        f"https://i.ytimg.com/vi/{youtube_id}/hqdefault.jpg",
    ):
        assert clips_in_path(address) == clips_in_line(address) == (ClipName(youtube_id),)


@given(NAMES, FOLDERS, TAILS, st.sampled_from([".mp4", ".mkv", " (1).mp4", ".tar", ""]))
def test_the_short_way_gives_what_the_long_way_gives(name, folder, tail, suffix):
    line = f"{folder}{name}{suffix}{tail}"
    assert clips_in_line(line) == _clips_in_any_line(line)


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("falling_man abcdefghijk", ["falling_man", "abcdefghijk"]),
        ("falling_man,abcdefghijk", ["falling_man", "abcdefghijk"]),
        ("/a/abcdefghijk.mp4 /b/abcdefghijl.mp4 3", ["abcdefghijk", "abcdefghijl"]),
        ("abcdefghijk.mp4 abcdefghijl.mp4", ["abcdefghijk", "abcdefghijl"]),
        ("/data/falling_man/abcdefghijk.jpg", ["abcdefghijk", "falling_man"]),
        ("abcdefghijk_1_11.mp4,abcdefghijk_21_31.mp4", ["abcdefghijk_000001_000011", "abcdefghijk_000021_000031"]),
        # Only one of the fields can be a video.
        ("archery,abcdefghijk,1,11,val", ["abcdefghijk"]),
        ("windsurfing,abcdefghijk", ["abcdefghijk"]),
        ("falling_man,/data/abcdefghijk.mp4", ["abcdefghijk"]),
        ("bend/bow (at the waist),abcdefghijk,1", ["abcdefghijk"]),
        ("train/riding a bike/abcdefghijk.mp4 riding a bike", ["abcdefghijk"]),
        ("abcdefghijk riding a bike", ["abcdefghijk"]),
        ("abcdefghijk;17;27", ["abcdefghijk"]),
        ('"/data/a, b/abcdefghijk.mp4",3', ["abcdefghijk"]),
        ("zip://train/abcdefghijk.mp4::s3://bucket/kinetics400.zip", ["abcdefghijk"]),
        ("zip://abcdefghijk.mp4", ["abcdefghijk"]),
    ],
)
def test_two_that_could_be_meant_are_both_named(line, names):
    assert [str(name) for name in clips_in_line(line)] == names


def test_a_list_without_its_header(tmp_path):
    """A class of one's own may have 11 characters: what repeats is the label."""
    rows = [f"falling_man,{ID},12,22,train", "falling_man,abcdefghijk,1,11,train", "archery,abcdefghijl,1,11,train"]
    names = [CLIP, "abcdefghijk_000001_000011", "abcdefghijl_000001_000011"]
    assert read(tmp_path, "\n".join(rows)) == names
    assert read(tmp_path, "\n".join(reversed(rows))) == names[::-1]
    assert read(tmp_path, "\n".join(row.partition(",")[2].replace("train", "test") for row in rows)) == names
    notes = read_named_list(tmp_path / "names.txt").notes
    columns = "youtube_id,time_start,time_end,split"
    assert notes == (f"{tmp_path / 'names.txt'}: the first line names no columns; they are read as {columns}",)


@pytest.mark.parametrize(
    "text",
    [
        f'["{ID}", "val/{CLIP}.mp4"]',
        f'[{{"label": "archery", "youtube_id": "{ID}"}}, {{"path": "val/kinetics400/{CLIP}.mp4"}}]',
        f'{{"{ID}": {{"subset": "val"}}, "x/{ID}": {{"annotations": {{"label": "a", "segment": [12.0, 22.0]}}}}}}',
        f'{{"version": "1.3", "database": {{"v_{ID}": {{"annotations": []}}, "{CLIP}": {{}}}}}}',
        f"path,label\nkinetics400/{ID}.mp4,3\nkinetics400/{CLIP}.mp4,3\n",
        f"label\tvideo_id\nfalling_man\t{ID}\nfalling_man\t{CLIP}\n",
        f"id,path,label\n0,kinetics400/{ID}.mp4,3\n1,kinetics400/{CLIP}.mp4,3\n",
        f"youtube_ids\n{ID}\n{CLIP}\n",
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_other_forms_of_lists(tmp_path, text, packed):
    assert read(tmp_path, gzip.compress(text.encode()) if packed else text) == [ID, CLIP]


def test_lines_that_name_no_video_are_skipped_on_request(tmp_path):
    (tmp_path / "names.txt").write_text(f"# mine\n{ID}\n\nxyz.mp4 3\n{CLIP}.mp4 3\n")
    found = read_named_list(tmp_path / "names.txt", skip_unnamed=True)
    assert [str(name) for name in found.names] == [ID, CLIP]
    assert found.skipped == (1, 4)
    assert found.notes == (f"{tmp_path / 'names.txt'}: skipped: 2 lines name no video: line 1, 4",)
    (tmp_path / "names.txt").write_text("# mine\n")
    with pytest.raises(ListError, match="1 line names no YouTube ID"):  # nothing is left to compare
        read_named_list(tmp_path / "names.txt", skip_unnamed=True)
    (tmp_path / "names.txt").write_text(f"{ID}\nfalling_man {ID}\n")
    with pytest.raises(ListError, match="more than one clip"):  # it names a video
        read_named_list(tmp_path / "names.txt", skip_unnamed=True)


def test_far_more_rows_than_videos_deserve_a_word(tmp_path):
    (tmp_path / "names.txt").write_text("".join(f"/data/annotations/x{n}/train_video 3\n" for n in range(5)))
    (note,) = read_named_list(tmp_path / "names.txt").notes
    assert "names.txt: 5 rows name only 1 video, such as train_video; if that is no YouTube ID, add" in note
    (tmp_path / "names.txt").write_text(f"{ID}\n{ID}\n")
    assert read_named_list(tmp_path / "names.txt").notes == ()


def test_audit_finds_the_leak_in_every_form(k710, tmp_path):
    (tmp_path / "eval.txt").write_text("0wR5jVB-WPk\n")
    for form in (
        "https://kinetics400.s3.amazonaws.com/train/{}.mp4 0",
        "kinetics400.zip@/train/{}.mp4 0",
        "/data/kinetics400.256p.h264/{}.mp4 0",
        "/data/train_shard_000000_000999/{}_000417_000427.mp4 0",
        "falling_man,{},17,27,train",
    ):
        (tmp_path / "train.txt").write_text("".join(form.format(v) + "\n" for v in ("0wR5jVB-WPk", "aaaaaaaaaa2")))
        result = k710("audit", "--train", tmp_path / "train.txt", "--eval", tmp_path / "eval.txt", "--json")
        found = json.loads(result.stdout)
        assert (found["ids"], found["train"]["ids"], result.exit_code) == (["0wR5jVB-WPk"], 2, 0), form


def test_audit_skips_and_counts_on_request(k710, tmp_path):
    (tmp_path / "train.txt").write_text("mine/xyz.mp4 0\n0wR5jVB-WPk.mp4 0\n")
    (tmp_path / "eval.txt").write_text("0wR5jVB-WPk\n")
    both = ("--train", tmp_path / "train.txt", "--eval", tmp_path / "eval.txt")
    refused = k710("audit", *both)
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert (
        "train.txt: 1 line names no YouTube ID and no clip: line 1. Line 1 is 'mine/xyz.mp4 0'; --skip-unnamed skips"
        in refused.stderr
    )
    result = k710("audit", *both, "--skip-unnamed")
    assert result.exit_code == 0
    assert "train.txt: skipped: 1 line names no video: line 1" in result.stderr
    assert "Leak: 1 video of" in result.stdout
    found = json.loads(k710("audit", *both, "--skip-unnamed", "--json").stdout)
    assert found["skipped_lines"] == {"train": 1, "eval": 0}


def test_a_folder_of_files_is_read_by_the_same_rule(tmp_path):
    names = (f"{CLIP}.mp4", f"v_{ID}.mp4", "abcdefghijk_1_11.webm", "windsurfing.mp4", "video_00001.mp4", "xyz.mp4")
    for name in names:
        path = tmp_path / "train_shard_000000_000999" / "falling_man" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    files = LocalFiles(tmp_path)
    assert set(files.by_span) == {CLIP, "abcdefghijk_000001_000011"}
    assert set(files.by_video) == {ID}


def test_a_member_of_an_archive_is_named_by_its_file(monkeypatch):
    """The folder of a shard looks like a clip itself."""
    from k710.fetch.origins import cvdf as from_cvdf

    seen = []
    monkeypatch.setattr(from_cvdf, "pass_over", lambda member: seen.append(member.name))

    class Stream(list):
        def found_a_new_clip(self):
            pass

    members = Stream([SimpleNamespace(name=f"train_shard_000000_000999/{CLIP}.mp4", data=None)])
    reading = from_cvdf._Reading()
    unit = SimpleNamespace(url="https://host/part_0.tar.gz", archive_set=None)
    assert list(from_cvdf._wanted_members(members, unit, None, reading, frozenset())) == []
    assert reading.members == {CLIP}
