"""A folder of videos as they are: what is found, what is left out and why, what is kept of a look, and its clips."""

from __future__ import annotations

import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from k710.errors import LoadError, UsageError
from k710.loading import find_videos as found_videos
from k710.loading.find_videos import find_videos
from k710.loading.load_clip import ClipOptions
from k710.loading.order import Sample
from k710.loading.video_folder import VideoFolder
from tests.helpers.tiny_media import clip_file, read_number

WINDOW = ClipOptions(num_frames=4, method="window", stride=2, seed=1)


@pytest.fixture
def videos(tmp_path, monkeypatch) -> Path:
    """Two videos of 60 and 25 frames, and what people have beside their videos."""
    monkeypatch.setenv("K710_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "videos"
    clip_file(folder / "a/long.mp4", seconds=6)
    clip_file(folder / "short.mp4", seconds=2.5, first=100).rename(folder / "short.MP4")
    (folder / "a/notes.txt").write_text("not a video")
    clip_file(folder / ".trash/gone.mp4", seconds=1)
    (folder / "._short.mp4").write_bytes(b"hidden")
    return folder


def opened(folder: Path, **how) -> VideoFolder:
    return VideoFolder(folder, find_videos(folder), options=WINDOW, **how)


def test_every_video_is_found_and_others_are_counted(videos):
    found = find_videos(videos)
    assert found.usable["file"].to_pylist() == ["a/long.mp4", "short.MP4"]
    assert found.usable["num_frames"].to_pylist() == [60, 25]
    assert (found.left_out, found.num_others) == ({}, 1)
    assert opened(videos).content_text == "2 videos, 0 min 8 s together; 1 file without a video's suffix"


def test_what_cannot_be_used_is_left_out_by_name_and_reason(videos):
    (videos / "text.mp4").write_text("hello hello hello")
    (videos / "cut\n.mp4").write_bytes((videos / "a/long.mp4").read_bytes()[:2000])
    (videos / "link.mkv").symlink_to(videos / "nowhere.mkv")
    os.mkfifo(videos / "pipe.avi")
    (videos / "linked").symlink_to(videos / "a")
    Path(os.fsdecode(os.fsencode(videos) + b"/caf\xe9.mp4")).write_bytes(b"")
    found = find_videos(videos)
    assert len(found.usable) == 2
    reasons = found.left_out
    assert reasons.pop("cut\n.mp4").startswith("does not decode: ")
    assert reasons == {
        "text.mp4": "no video file: begins with b'hello hello hell'",
        "link.mkv": "No such file or directory",
        "pipe.avi": "a pipe, a socket, a device or a folder, no file",
        "caf\\udce9.mp4": "its name is not UTF-8",
        "linked": "a link to a folder, which is not followed",
    }
    text = found_videos.left_out_text(find_videos(videos).left_out)
    assert text.startswith("6 files left out: caf\\udce9.mp4: its name is not UTF-8; cut\\n.mp4: does not decode: ")
    assert text.endswith("; and 3 more")


def test_a_file_is_looked_into_once_and_again_when_it_has_changed(videos, monkeypatch):
    lines: list[str] = []
    looked: list[str] = []
    probe = found_videos.probe
    monkeypatch.setattr(found_videos, "probe", lambda path: (looked.append(path.name), probe(path))[1])
    (videos / "text.mp4").write_text("no video")
    first = find_videos(videos, say=lines.append)
    assert lines == [f"{videos}: looking into 3 videos"]
    again = find_videos(videos, say=lines.append)
    assert again.usable.equals(first.usable)
    assert again.left_out == first.left_out
    assert (len(lines), sorted(looked)) == (1, ["long.mp4", "short.MP4", "text.mp4"]), "broken ones are kept too"
    before = opened(videos).fingerprint
    shutil.rmtree(videos.parent / "cache")
    assert opened(videos).fingerprint == opened(videos).fingerprint == before
    assert len(looked) == 6
    clip_file(videos / "text.mp4", seconds=1)
    (videos / "short.MP4").unlink()
    assert find_videos(videos, say=lines.append).usable["file"].to_pylist() == ["a/long.mp4", "text.mp4"]
    assert lines[1:] == [f"{videos}: looking into 1 video"]
    assert looked[6:] == ["text.mp4"]
    assert opened(videos).fingerprint != before
    kept = next((videos.parent / "cache").glob("videos/*.arrow"))
    kept.write_bytes(kept.read_bytes()[:100])
    assert len(find_videos(videos).usable) == 2, "a damaged cache is made again"


def test_a_look_that_is_stopped_has_kept_what_it_found(videos, monkeypatch):
    looked: list[str] = []

    def probe(path):
        if len(looked) == 1:
            raise KeyboardInterrupt
        looked.append(path.name)
        return known(path)

    known = found_videos.probe
    with monkeypatch.context() as patched:
        patched.setattr(found_videos, "_KEPT_AFTER", 1)
        patched.setattr(found_videos, "probe", probe)
        with pytest.raises(KeyboardInterrupt):
            find_videos(videos)
    lines: list[str] = []
    assert len(find_videos(videos, say=lines.append).usable) == 2
    assert lines == [f"{videos}: looking into 1 video"]


def test_the_fingerprint_is_of_the_content_and_not_of_the_place_or_the_time(videos, tmp_path):
    copied = shutil.copytree(videos, tmp_path / "copied")
    os.utime(copied / "short.MP4", (1, 1))
    assert opened(copied).fingerprint == opened(videos).fingerprint
    assert opened(videos, clip_frames=30).fingerprint != opened(videos).fingerprint
    clip_file(copied / "other.mp4", seconds=2.5, first=101).rename(copied / "short.MP4")
    assert opened(copied).fingerprint != opened(videos).fingerprint


def test_nothing_to_use_is_an_error_that_says_why(videos, tmp_path):
    with pytest.raises(LoadError, match="nowhere: no folder of videos"):
        find_videos(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(LoadError, match=r"holds no video that can be used; looked for \.mp4, \.mkv, \.webm"):
        find_videos(tmp_path / "empty")
    (tmp_path / "empty/a.mp4").touch()
    with pytest.raises(LoadError, match=r"holds no video that can be used: 1 file left out: a\.mp4: an empty file"):
        find_videos(tmp_path / "empty")


def numbers_of(folder: VideoFolder, clip: int, epoch: int = 0) -> list[int]:
    (loaded,) = folder.load_clip(clip, [Sample(clip, epoch)], "own/")
    found = [read_number(frame) for frame in loaded.pixels.numpy()]
    assert found == [number + (100 if loaded.clip_id == "own/short.MP4" else 0) for number in loaded.frames]
    return found


def test_a_clip_is_a_random_place_of_a_whole_video(videos):
    folder = opened(videos)
    assert [folder.clip_id(clip) for clip in range(len(folder))] == ["a/long.mp4", "short.MP4"]
    starts = {numbers_of(folder, 0, epoch)[0] for epoch in range(40)}
    assert len(starts) > 15
    assert min(starts) < 8
    assert max(starts) > 44
    assert numbers_of(folder, 0, 3) == numbers_of(pickle.loads(pickle.dumps(folder)), 0, 3)
    assert len(set(numbers_of(folder, 1))) == 4


def test_pieces_of_a_video_are_clips_of_their_own(videos):
    folder = opened(videos, clip_frames=25)
    assert [folder.clip_id(clip) for clip in range(len(folder))] == ["a/long.mp4#0", "a/long.mp4#1", "short.MP4#0"]
    spans = []
    for clip in range(3):
        (loaded,) = folder.load_clip(clip, [Sample(clip)], "")
        assert (np.diff(loaded.frames) > 0).all()
        read = [
            [read_number(frame) for frame in folder.load_clip(clip, [Sample(clip, epoch)], "")[0].pixels.numpy()]
            for epoch in range(40)
        ]
        spans.append((min(map(min, read)), max(map(max, read))))
    assert 0 <= spans[0][0] < 5
    assert 20 <= spans[0][1] < 25
    assert 25 <= spans[1][0] < 30
    assert 50 < spans[1][1] < 60, "the last piece has what is left"
    assert 100 <= spans[2][0] <= spans[2][1] < 125
    with pytest.raises(UsageError, match="clip_frames is 3; a piece has at least the 4 of a view"):
        opened(videos, clip_frames=3)
    with pytest.raises(IndexError, match="clip 3 of 3"):
        folder.clip_id(3)


def test_a_file_that_changes_or_goes_during_a_run_is_named(videos):
    folder = opened(videos)
    shutil.copy(videos / "a/long.mp4", videos / "short.MP4")
    with pytest.raises(LoadError, match=r"clip own/short\.MP4 \(short\.MP4\): .* has changed since it was looked into"):
        folder.load_clip(1, [Sample(1)], "own/")
    (videos / "short.MP4").unlink()
    with pytest.raises(LoadError, match=r"short\.MP4: No such file or directory"):
        folder.load_clip(1, [Sample(1)], "own/")
    lenient = VideoFolder(
        videos,
        find_videos(videos),
        options=ClipOptions(num_frames=4, method="window", stride=2, on_error="zero_weight"),
    )
    (videos / "a/long.mp4").unlink()
    (failed,) = lenient.load_clip(0, [Sample(0)], "own/")
    assert (failed.weight, failed.clip_id) == (0.0, "own/a/long.mp4")
