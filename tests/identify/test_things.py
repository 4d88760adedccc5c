"""The same clips in every form that people have, with the lines that they are in."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from k710.errors import ListError
from k710.identify.keys import clip_names
from k710.identify.things import parts_of, split_of_name

ONE, TWO = "-0abcdefghI", "0wR5jVB-WPk"
CLIPS = [f"{ONE}_000012_000022", f"{TWO}_000417_000427"]


def read(path, **options):
    """For each part its name and split, and for each of its rows the line and the clip."""
    found = {}
    for part in parts_of(path):
        rows = found.setdefault((part.name.removeprefix(f"{path}/"), part.split), [])
        for batch in part.batches(**options):
            rows += zip(batch.line.tolist(), clip_names(batch.clips).to_pylist(), strict=True)
    return found


def rows_of(path, **options):
    (rows,) = read(path, **options).values()
    return rows


def batch_of(path):
    (part,) = parts_of(path)
    (batch,) = part.batches()
    return batch


def tar(path, members, mode="w"):
    with tarfile.open(path, mode) as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


def lines(*texts):
    return "".join(f"{text}\n" for text in texts)


def kinetics(youtube_id, start, end):
    return {youtube_id: {"annotations": {"label": "a", "segment": [start, end]}}}


WATCH = "https://www.youtube.com/watch?v="
RELEASE, TIMES = "label,youtube_id,time_start,time_end,split", "youtube_id,time_start,time_end"
CAPTIONS = "caption,YoutubeID,Start_timestamp,End_timestamp"
CLOCK_ONE, CLOCK_TWO = {"span": ["0:12", "0:22"]}, {"span": ["00:06:57.000", "07:07"]}
TEXTS = {
    "names.txt": (lines(*CLIPS), [1, 2]),
    "no_line_end.txt": ("\r\n\r\n".join(CLIPS), [1, 3]),
    "bom.txt": ("\ufeff" + "\n".join(CLIPS), [1, 2]),
    "paths.txt": (lines(*(f"/data/k 400/train/{clip}.mp4 {n}" for n, clip in enumerate(CLIPS))), [1, 2]),
    "release.csv": (lines(RELEASE, f'"a, b",{ONE},12,22,val', f"archery,{TWO},417,427,val"), [2, 3]),
    "no_header.csv": (lines(f"archery,{ONE},12,22,val", f"archery,{TWO},417,427,val"), [1, 2]),
    "tabs.tsv": (
        lines("id\turl\tstart\tend", f"1\thttps://youtu.be/{ONE}\t12\t22.0", f"2\t{WATCH}{TWO}\t0:06:57\t07:07"),
        [2, 3],
    ),
    "semicolons.csv": (lines("YouTube ID;time_start;time_end", f"{ONE};12;22", f"{TWO};417;427"), [2, 3]),
    "captions.csv": (
        lines(CAPTIONS, f'"two ""words"", one",{ONE},00:00:12.000,00:00:22.000', f"x,{TWO},417,427"), [2, 3],
    ),
    "blank_lines.csv": (lines(TIMES, "", f"{ONE},12,22", f"{TWO},417,427", ""), [2, 3]),
    "records.jsonl": (
        lines(
            json.dumps({"video_id": ONE, "start": 12, "end": 22}), "",
            json.dumps({"video_id": TWO, "start": 417, "end": 427.0}),
        ),
        [1, 3],
    ),
    "spans.jsonl": (
        lines(json.dumps({"url": WATCH + ONE, "clip": [CLOCK_ONE]}), json.dumps({"url": TWO, "clip": [CLOCK_TWO]})),
        [1, 2],
    ),
    "array.json": (json.dumps([{"path": f"x/{clip}.mp4"} for clip in CLIPS]), [1, 2]),
    "names.json": (json.dumps(CLIPS), [1, 2]),
    "kinetics.json": (json.dumps(kinetics(ONE, 12.0, 22.0) | kinetics(TWO, 417.0, 427.0), indent=1), [2, 11]),
    "panda.csv": (
        lines(
            "videoID,url,timestamp",
            f"{ONE},{WATCH}{ONE},\"[['0:00:12', '0:00:22']]\"",
            f"{TWO},{WATCH}{TWO},\"[['6:57', '7:07']]\"",
        ),
        [2, 3],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("packed", [False, True])
def test_text_of_every_form(tmp_path, name, packed):
    text, numbers = TEXTS[name]
    path = tmp_path / (f"{name}.gz" if packed else name)
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    found = rows_of(path)
    assert [clip for _, clip in found] == CLIPS
    assert [line for line, _ in found] == numbers


def test_a_file_that_is_larger_than_a_block(tmp_path, monkeypatch):
    monkeypatch.setattr("k710.identify.text_files._BLOCK_BYTES", 100)
    clips = [f"{ONE}_{start:06d}_{start + 10:06d}" for start in range(50)]
    names = tmp_path / "lines.txt"
    names.write_text(lines(*clips))
    table = tmp_path / "table.csv"
    table.write_text("id,time_start,time_end\n" + "".join(f"{ONE},{start},{start + 10}\n" for start in range(50)))
    assert rows_of(names) == list(enumerate(clips, 1))
    assert rows_of(table) == list(enumerate(clips, 2))


def test_parquet_arrow_and_the_columns_that_are_read(tmp_path):
    table = pa.table(
        {
            "video": pa.array([b"x" * 1000, b"y"]),  # never read
            "youtube_id": [ONE, TWO],
            "time_start_s": pa.array([12.0, 417.0]),
            "time_end_s": pa.array([22.0, 427.0]),
            "label": pa.array([3, None], pa.int64()),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=1)
    with pa.ipc.new_stream(tmp_path / "b.arrow", table.schema) as stream:
        stream.write_table(table, max_chunksize=1)
    with pa.ipc.new_file(tmp_path / "c.arrow", table.schema) as file:
        file.write_table(table)
    for name in ("a.parquet", "b.arrow", "c.arrow"):
        assert rows_of(tmp_path / name) == [(1, CLIPS[0]), (2, CLIPS[1])]
    assert batch_of(tmp_path / "a.parquet").class_index.tolist() == [3, -1]


def test_the_metadata_of_video2dataset_without_what_it_could_not_download(tmp_path):
    table = pa.table(
        {
            "url": [f"https://www.youtube.com/watch?v={ONE}", f"https://www.youtube.com/watch?v={TWO}"],
            "key": ["000000000", "000000001"],
            "status": ["success", "failed_to_download"],
            "error_message": [None, "gone"],
            "clips": [[[12.0, 22.0], [30.5, 40.0]], None],
        }
    )
    folder = tmp_path / "dataset"
    folder.mkdir()
    pq.write_table(table, folder / "00000.parquet")
    (folder / "00000_stats.json").write_text("{}")
    tar(folder / "00000.tar", {"000000000.mp4": b"x"})
    batch = batch_of(folder)
    assert (batch.rows, batch.left_out) == (2, 1)
    assert clip_names(batch.clips).to_pylist() == [CLIPS[0], f"{ONE}_000030500_000040000"]


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_webdataset_by_key_and_by_the_address_in_the_json(tmp_path, mode):
    record = json.dumps({"url": f"https://youtu.be/{TWO}", "start": 417, "end": 427}).encode()
    members = {
        f"{CLIPS[0]}.mp4": b"x", f"{CLIPS[0]}.cls": b"7\n",
        "000000012.mp4": b"x", "000000012.json": record,
        "000000013.mp4": b"x",
    }  # fmt: skip
    path = tmp_path / ("a.tar.gz" if mode == "w:gz" else "a.tar")
    tar(path, members, mode)
    (part,) = parts_of(path)
    by_key, by_json = part.batches()
    assert (by_key.line.tolist(), clip_names(by_key.clips).to_pylist()) == ([1], CLIPS[:1])
    assert by_key.class_index.tolist() == [7]
    assert [(unclear.row, unclear.text) for unclear in by_key.unclear] == [(3, "000000013")]
    assert (by_json.line.tolist(), clip_names(by_json.clips).to_pylist()) == ([2], CLIPS[1:])


def test_a_folder_of_clips_by_split_and_class(tmp_path):
    for split, folder, clip in (("train", "riding a bike", CLIPS[0]), ("validation", "archery", CLIPS[1])):
        (tmp_path / split / folder).mkdir(parents=True)
        (tmp_path / split / folder / f"{clip}.mp4").write_bytes(b"x")
    (tmp_path / "train" / "archery").mkdir()
    (tmp_path / "train" / "archery" / "holiday.mp4").write_bytes(b"x")
    (tmp_path / "readme.txt").write_text("x")
    train, val = parts_of(tmp_path)
    assert (train.split, val.split) == ("train", "val")
    (batch,) = train.batches()
    assert batch.label.to_pylist() == ["riding a bike"]
    assert [unclear.text for unclear in batch.unclear] == ["train/archery/holiday.mp4"]
    (batch,) = val.batches()
    assert clip_names(batch.clips).to_pylist() == CLIPS[1:]


def test_a_folder_of_hugging_face(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "README.md").write_text("x")
    for number, clip in enumerate(CLIPS):
        pq.write_table(pa.table({"clip_id": [clip]}), tmp_path / f"data/train-{number:05d}-of-00002.parquet")
    pq.write_table(pa.table({"clip_id": CLIPS[:1]}), tmp_path / "data/test-00000-of-00001.parquet")
    found = read(tmp_path)
    assert found == {
        ("data/test-00000-of-00001.parquet", "test"): [(1, CLIPS[0])],
        ("data/train*", "train"): [(1, CLIPS[0]), (1, CLIPS[1])],
    }


def test_a_folder_of_lists(tmp_path):
    for name in ("k400_train.csv", "k400_validate.csv", "notes.txt"):
        (tmp_path / name).write_text(f"{CLIPS[0]}\n")
    assert {key: len(rows) for key, rows in read(tmp_path).items()} == {
        ("k400_train.csv", "train"): 1, ("k400_validate.csv", "val"): 1, ("notes.txt", ""): 1,
    }  # fmt: skip


def test_rows_that_name_nothing_are_kept_with_their_lines(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(f"label,youtube_id,time_start,time_end\na,{ONE},12,22\na,short,1,2\na\na,{TWO},9,1\n\na,,1,2\n")
    (part,) = parts_of(path)
    unclear = [one for batch in part.batches() for one in batch.unclear]
    assert sorted((one.row, one.text, bool(one.why)) for one in unclear) == [
        (3, "short", False), (4, "a", False), (5, TWO, True), (6, "", False),
    ]  # fmt: skip


COLUMNS = f"path,url\n{ONE}.mp4,https://youtu.be/{TWO}\n"


def test_two_columns_that_name_different_videos_are_a_question(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(COLUMNS)
    with pytest.raises(ListError, match=rf"row 1: column 'path' names {ONE} and column 'url' names {TWO}; .*--column"):
        rows_of(path)
    assert rows_of(path, column="url") == rows_of(path, column="URL") == [(2, TWO)]
    with pytest.raises(ListError, match="no column 'nope'; the columns are 'path', 'url'"):
        rows_of(path, column="nope")


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.txt", b"", "a.txt: the list is empty"),
        ("a.csv", b"youtube_id,label\n", "a.csv: the list is empty"),
        ("a.csv", b"id,url\n1,2\n", "columns 'id', 'url' name no video in the first rows; .*--column"),
        ("a.csv", b"url,URL\nx,y\n", "line 1: column 'url' appears twice"),
        ("a.txt", b"\x1f\x8b\x08\0", "gzip data is damaged or cut off"),
        ("a.txt", gzip.compress(b"abcdefghijk\n" * 9, mtime=0)[:-9], "gzip data is damaged or cut off"),
        ("a.txt", b"\xff\xfea\0", "UTF-16"),
        ("a.parquet", b"PAR1xxxx", "not a Parquet file, or damaged"),
        ("a.arrow", b"ARROW1xxxx", "not an Arrow file, or damaged"),
        ("a.jsonl", b'{"url": "x"}\n{"url": \n', "line 2: not JSON, or cut off"),
        ("a.json", b'["abcdefghijk"', "not JSON, or cut off"),
        ("a.zip", b"PK\x03\x04", "is a ZIP archive"),
    ],
)
def test_bad_files(tmp_path, name, data, message):
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(ListError, match=message) as raised:
        rows_of(path)
    assert str(raised.value).startswith(str(path))


def test_a_tar_that_is_cut_off(tmp_path):
    tar(tmp_path / "a.tar", {f"{CLIPS[0]}.mp4": b"x" * 5000, f"{CLIPS[1]}.json": b"{}"})
    data = (tmp_path / "a.tar").read_bytes()
    (tmp_path / "a.tar").write_bytes(data[:5000])
    with pytest.raises(ListError, match="cut off"):
        rows_of(tmp_path / "a.tar")


def test_a_pipe_is_refused_because_it_is_read_more_than_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ListError, match="is a pipe or a device"):
        parts_of(tmp_path / "pipe")


def test_what_is_not_there_and_what_holds_nothing(tmp_path):
    with pytest.raises(ListError, match="No such file or directory"):
        parts_of(tmp_path / "nope")
    (tmp_path / "x.bin").write_bytes(b"x")
    with pytest.raises(ListError, match=r"holds no lists, no tables, no tars and no video files; .*'x.bin'"):
        parts_of(tmp_path)


@pytest.mark.parametrize(
    ("name", "split"),
    [("k400_val.csv", "val"), ("train.txt", "train"), ("data/validation-0.parquet", "val"), ("val/clips.txt", "val"),
     ("train_val.txt", ""), ("training/test.csv", "test"), ("retrain.csv", ""), ("a.csv", "")],
)  # fmt: skip
def test_splits_in_names(name, split):
    assert split_of_name(name) == split
