"""Clips that were released as folders of JPEGs, as those of Something-Something V1 were."""

from __future__ import annotations

import io
import os
import shutil
from pathlib import Path

import av
import pytest

from k710.fetch.encode.frame_folder import assemble, frame_files
from k710.fetch.encode.jobs import Candidate, ClipJob
from k710.fetch.encode.make_clip import make_clip
from k710.fetch.encode.profiles import read_profile
from k710.loading.dataset import open_dataset
from k710.manifest.read import open_manifest
from k710.sources.own import as_plain, from_plain, own_source
from k710.store.failures import ClipError
from k710.store.local_files import first_file
from tests.helpers.tiny_media import fetched, frame_folder, numbers, settled

CLASSES = "Holding something\nTurning something\n"


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips in the released form: 24 frames are two seconds at 12 frames to a second."""
    folder = tmp_path_factory.mktemp("ssv1")
    frame_folder(folder / "12345", range(24))
    frame_folder(folder / "7", range(50, 74))
    return folder


def ssv1(k710, where: Path) -> Path:
    lists = where / "lists"
    lists.mkdir()
    (lists / "something-something-v1-labels.csv").write_text(CLASSES)
    (lists / "something-something-v1-train.csv").write_text("12345;Holding something\n8;Turning something\n")
    (lists / "something-something-v1-validation.csv").write_text("7;Turning something\n")
    result = k710("build", "--sources", f"ssv1={lists}", "--out", where / "m")
    assert result.exit_code == 0, result.output
    return where / "m"


def test_folders_of_frames_become_clips_at_the_released_rate(k710, released, tmp_path):
    manifest = ssv1(k710, tmp_path)
    shutil.copytree(released, tmp_path / "videos" / "20bn-something-something-v1")
    frame_folder(tmp_path / "videos" / "99999", range(3))  # of no list
    result = k710("fetch", manifest, "--from", f"local:{tmp_path / 'videos'}", "--workers", 1)
    assert result.exit_code == 0, result.output
    assert "folders of JPEGs that are named as no clip of the manifest: 1" in result.stderr
    rows = settled(manifest / "store")
    assert set(rows) == {"ssv1~12345", "ssv1~7"}
    row = rows["ssv1~12345"]
    assert (row["failure"], row["fps"], row["num_frames"], row["duration_s"]) == (None, 12.0, 24, 2.0)
    assert row["came_from"] == "20bn-something-something-v1/12345"
    clips = fetched(manifest / "store")
    assert numbers(clips["ssv1~12345"]) == list(range(24))
    assert numbers(clips["ssv1~7"]) == list(range(50, 74))
    listed = k710("status", manifest, "--failed", "--from", f"local:{tmp_path / 'videos'}")
    assert "99999" in listed.stdout
    assert "a folder of JPEGs that is named as no clip of the manifest" in listed.stdout
    again = k710("fetch", manifest, "--from", f"local:{tmp_path / 'videos'}", "--workers", 1)
    assert "0 clips fetched" in again.stdout


@pytest.mark.slow
def test_stored_frames_are_the_released_jpegs_where_nothing_is_scaled(k710, released, tmp_path):
    manifest = ssv1(k710, tmp_path)
    where = f"local:{released}"
    result = k710("fetch", manifest, "--from", where, "--profile", "frames", "--workers", 1, "--view", "ssv1")
    assert result.exit_code == 0, result.output
    stored = fetched(manifest / "store", "frames")["ssv1~12345"]
    assert stored == b"".join(path.read_bytes() for path in frame_files(released / "12345"))
    row = settled(manifest / "store", "frames")["ssv1~12345"]
    assert row["frame_indices"] == list(range(24))
    assert (row["width"], row["height"], row["num_frames"], row["fps"], row["suffix"]) == (64, 48, 24, 12.0, "mjpeg")
    small = tmp_path / "small.yaml"
    small.write_text("codec: frames\nshort_side_px: 24\nstored_frames: 8\n")
    result = k710("fetch", manifest, "--from", where, "--profile", small, "--workers", 1)
    assert result.exit_code == 0, result.output
    row = settled(manifest / "store", "small")["ssv1~12345"]
    assert (row["width"], row["height"], len(row["frame_indices"]), row["num_frames"]) == (32, 24, 8, 24)
    clip = open_dataset(manifest, view="ssv1", profile="frames")[0]
    assert clip.clip_id == "ssv1~12345"
    assert k710("verify", manifest, "--decode").exit_code == 0


def test_the_file_of_profile_source_holds_the_released_jpegs(k710, released, tmp_path):
    manifest = ssv1(k710, tmp_path)
    result = k710("fetch", manifest, "--from", f"local:{released}", "--profile", "source", "--workers", 1)
    assert result.exit_code == 0, result.output
    clip = fetched(manifest / "store", "source")["ssv1~7"]
    with av.open(io.BytesIO(clip)) as file:
        packets = [bytes(packet) for packet in file.demux(video=0) if packet.size]
    assert packets == [path.read_bytes() for path in frame_files(released / "7")]


def test_a_broken_clip_is_one_failure_that_names_its_frame(k710, released, tmp_path):
    manifest = ssv1(k710, tmp_path)
    shutil.copytree(released, tmp_path / "videos")
    (tmp_path / "videos" / "7" / "00009.jpg").unlink()
    (tmp_path / "videos" / "8").mkdir()
    (tmp_path / "videos" / "8" / "00001.jpg").write_bytes(b"<html>not found</html>")
    result = k710("fetch", manifest, "--from", f"local:{tmp_path / 'videos'}", "--workers", 1)
    assert result.exit_code == 0, result.output
    rows = settled(manifest / "store")
    found = {name: (row["failure"], row["message"]) for name, row in rows.items()}
    assert found == {
        "ssv1~12345": (None, None),
        "ssv1~7": ("corrupt", "1 frame is missing up to 24: 9"),
        "ssv1~8": ("corrupt", "00001.jpg is no JPEG: begins with b'<html>not found<'"),
    }


def frames_in(folder: Path, names: list[str], jpeg: bytes = b"") -> Path:
    folder.mkdir()
    for name in names:
        (folder / name).write_bytes(jpeg)
    return folder


def test_frames_are_in_the_order_of_their_numbers(tmp_path):
    folder = frames_in(tmp_path / "clip", ["10.jpg", *(f"{n}.JPG" for n in range(10)), "._3.jpg", "notes.txt"])
    assert [path.stem for path in frame_files(folder)] == [str(n) for n in range(11)]
    flow = frames_in(tmp_path / "flow", ["img_00001.jpg", "img_00002.jpg", "flow_x_00001.jpg", "flow_y_00001.jpg"])
    assert [path.name for path in frame_files(flow)] == ["img_00001.jpg", "img_00002.jpg"]


@pytest.mark.parametrize(
    ("names", "failure", "message"),
    [
        ([], "not_video", "a folder without JPEGs"),
        (["cover.jpg", "1.jpg"], "ambiguous", "cover.jpg has no number"),
        (["a_1.jpg", "b_1.jpg"], "ambiguous", "2 series of frames, whose names begin with 'a_' and 'b_'"),
        (["1.jpg", "00001.jpg"], "ambiguous", "frame 1 is there twice: 00001.jpg and 1.jpg"),
        (["1.jpg", "4.jpg", "6.jpg"], "corrupt", "3 frames are missing up to 6: 2 to 3, 5"),
        (["3.jpg", "4.jpg"], "corrupt", "2 frames are missing up to 4: 1 to 2"),
        (["0.jpg", "2.jpg"], "corrupt", "1 frame is missing up to 2: 1"),
    ],
)
def test_names_that_leave_a_doubt_are_refused(names, failure, message, tmp_path):
    with pytest.raises(ClipError, match=message) as caught:
        frame_files(frames_in(tmp_path / "clip", names))
    assert caught.value.failure == failure


def test_broken_frames_are_named(released, tmp_path):
    def refusal(change) -> str:
        folder = tmp_path / "clip"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(released / "7", folder)
        change(folder / "00005.jpg")
        with pytest.raises(ClipError) as caught:
            assemble(folder, 12, tmp_path / "out.mov")
        return f"{caught.value.failure}: {caught.value}"

    def damaged(path: Path) -> None:
        whole = bytearray(path.read_bytes())
        whole[len(whole) // 2 : -2] = bytes(len(whole) - 2 - len(whole) // 2)
        path.write_bytes(whole)

    def linked_out(path: Path) -> None:
        shutil.copy(path, tmp_path / "elsewhere.jpg")
        path.unlink()
        path.symlink_to(tmp_path / "elsewhere.jpg")

    def piped(path: Path) -> None:
        path.unlink()
        os.mkfifo(path)

    larger = frame_folder(tmp_path / "larger", range(1), size=(80, 48)) / "00001.jpg"
    assert refusal(lambda path: path.write_bytes(b"")) == "corrupt: 00005.jpg is no JPEG: an empty file"
    assert refusal(lambda path: path.write_bytes(path.read_bytes()[:-40])) == "corrupt: 00005.jpg breaks off"
    assert refusal(damaged).startswith("corrupt: 00005.jpg does not decode")
    assert refusal(linked_out) == "unreadable: 00005.jpg is a link that leads out of its folder"
    assert refusal(piped).startswith("not_video: 00005.jpg is a pipe")
    assert refusal(lambda path: shutil.copy(larger, path)) == (
        "corrupt: 00005.jpg has 80x48 pixels, not 64x48 as 00001.jpg"
    )
    assert refusal(lambda path: path.unlink()).startswith("corrupt: 1 frame is missing")


def test_a_link_inside_the_folder_is_a_frame(released, tmp_path):
    folder = shutil.copytree(released / "7", tmp_path / "clip")
    (folder / "00003.jpg").unlink()
    (folder / "00003.jpg").symlink_to("00002.jpg")
    assemble(folder, 12, tmp_path / "out.mov")
    assert numbers(tmp_path / "out.mov")[:4] == [50, 51, 51, 53]


def test_a_source_yaml_declares_frames(k710, tmp_path):
    """A tree of class folders, and a trainer's list of frame folders, at a rate of one's own."""
    frame_folder(tmp_path / "videos" / "wave" / "a 1", range(16), name="img_{:05d}.jpg")
    frame_folder(tmp_path / "videos" / "clap" / "b.2", range(16), first=0, name="{}.jpeg")
    spec = tmp_path / "source.yaml"
    spec.write_text("lists: videos\nframes_per_s: 8\n")
    result = k710("build", "--sources", f"mine={tmp_path}", "--out", tmp_path / "m")
    assert result.exit_code == 0, result.output
    result = k710("fetch", tmp_path / "m", "--from", f"local:{tmp_path / 'videos'}", "--workers", 1)
    assert result.exit_code == 0, result.output
    rows = settled(tmp_path / "m" / "store")
    assert {name: (row["failure"], row["fps"]) for name, row in rows.items()} == {
        "mine~a~201": (None, 8.0),
        "mine~b~2E2": (None, 8.0),
    }
    (tmp_path / "train.txt").write_text("videos/wave/a 1 16 1\n")
    (tmp_path / "names.txt").write_text("clap\nwave\n")
    spec.write_text("lists: {train: train.txt}\nreader: lines\nclasses: names.txt\nframes_per_s: 8\n")
    result = k710("build", "--sources", f"mine={tmp_path}", "--out", tmp_path / "m2")
    assert result.exit_code == 0, result.output
    assert open_manifest(tmp_path / "m2").clips["clip_id"].to_pylist() == ["mine~a~201"]
    (tmp_path / "train.txt").write_text("videos/wave/a 1\n")
    refused = k710("build", "--sources", f"mine={tmp_path}", "--out", tmp_path / "m3")
    assert refused.exit_code == 1
    assert "not `path frames number`" in refused.stderr


@pytest.mark.parametrize("value", ["-1", "0.0004", "twelve", "1000", ".nan", "true"])
def test_a_rate_that_is_none_is_refused(value, k710, tmp_path):
    (tmp_path / "source.yaml").write_text(f"lists: videos\nframes_per_s: {value}\n")
    refused = k710("build", "--sources", f"mine={tmp_path}", "--out", tmp_path / "m")
    assert refused.exit_code == 1
    assert "frames_per_s is" in refused.stderr


def test_a_manifest_keeps_the_rate_of_its_source():
    source = own_source(name="mine", classes=("a",), ids="stem", spans="none", frames_per_s=12.0)
    assert from_plain(as_plain(source), 710) == source
    without = own_source(name="mine", classes=("a",), ids="stem", spans="none")
    assert "frames_per_s" not in as_plain(without), "manifests of video files are as before"
    with pytest.raises(ValueError, match="frames_per_s is 'x'"):
        from_plain(as_plain(source) | {"frames_per_s": "x"}, 710)


def with_exif(jpeg: bytes, orientation: int, order: str) -> bytes:
    """The JPEG with an EXIF segment of one entry."""
    tiff = {"big": b"MM", "little": b"II"}[order]
    for value, size in ((42, 2), (8, 4), (1, 2), (0x0112, 2), (3, 2), (1, 4), (orientation, 2), (0, 2), (0, 4)):
        tiff += value.to_bytes(size, order)
    segment = b"Exif\0\0" + tiff
    return jpeg[:2] + b"\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment + jpeg[2:]


@pytest.mark.parametrize("order", ["big", "little"])
def test_pictures_that_exif_turns_are_refused(order, released, tmp_path):
    """OpenCV and FFmpeg would turn them, PIL and libjpeg would not."""
    folder = shutil.copytree(released / "7", tmp_path / "clip")
    path = folder / "00002.jpg"
    whole = path.read_bytes()
    path.write_bytes(with_exif(whole, 6, order))
    with pytest.raises(ClipError, match=r"00002.jpg is turned by its EXIF orientation 6; turn its pixels") as caught:
        assemble(folder, 12, tmp_path / "out.mov")
    assert caught.value.failure == "ambiguous"
    for path in folder.iterdir():
        path.write_bytes(with_exif(path.read_bytes() if path.name != "00002.jpg" else whole, 1, order))
    job = ClipJob("ssv1~7", None, (), (Candidate(folder, False, True, 12.0),), tmp_path / "made", read_profile("h264"))
    made = make_clip(job)
    assert (made.failure, made.measured.num_frames) == (None, 24)


def test_frames_of_youtube_videos_by_clip_and_by_whole_video(k710, tmp_path):
    """A folder may be named by the clip, or by its video, of which the span is cut out."""
    rows = "youtube_id,label,start,end,split\nabcdefghijk,run,1,3,train\nabcdefghijL,run,2,4,train\n"
    (tmp_path / "list.csv").write_text(rows)
    (tmp_path / "source.yaml").write_text("lists: list.csv\nframes_per_s: 10\n")
    result = k710("build", "--sources", f"mine={tmp_path}", "--out", tmp_path / "m")
    assert result.exit_code == 0, result.output
    frame_folder(tmp_path / "v" / "abcdefghijk_000001_000003", range(20), name="img_{:05d}.jpg")
    frame_folder(tmp_path / "v" / "abcdefghijL", range(100, 160), name="img_{:05d}.jpg")
    plan = k710("fetch", tmp_path / "m", "--from", f"local:{tmp_path / 'v'}", "--dry-run")
    assert plan.exit_code == 0, plan.output
    assert "2 clips wanted" in plan.stdout
    result = k710("fetch", tmp_path / "m", "--from", f"local:{tmp_path / 'v'}", "--workers", 1)
    assert result.exit_code == 0, result.output
    found = {name: numbers(video) for name, video in fetched(tmp_path / "m" / "store").items()}
    assert found["abcdefghijk_000001_000003"] == list(range(20))
    assert found["abcdefghijL_000002_000004"] == list(range(120, 140))


def test_a_folder_with_a_clips_name_and_no_jpegs_is_walked(k710, released, tmp_path):
    """`7` may be a part of an archive too."""
    manifest = ssv1(k710, tmp_path)
    shutil.copytree(released / "12345", tmp_path / "videos" / "7" / "12345")
    result = k710("fetch", manifest, "--from", f"local:{tmp_path / 'videos'}", "--workers", 1)
    assert result.exit_code == 0, result.output
    assert {name: row["failure"] for name, row in settled(manifest / "store").items()} == {"ssv1~12345": None}
    assert first_file(tmp_path / "videos").suffix == ".jpg", "machines of a cluster look for one file"


def test_a_folder_without_any_clip_says_what_would_be_one(k710, released, tmp_path):
    manifest = ssv1(k710, tmp_path)
    (tmp_path / "videos").mkdir()
    refused = k710("fetch", manifest, "--from", f"local:{tmp_path / 'videos'}")
    assert refused.exit_code == 1
    assert "or be folders of JPEGs with such names" in refused.stderr
