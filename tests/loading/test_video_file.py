"""Frames of a long video file by seeking: numbered frames in the containers that people have."""

from __future__ import annotations

import subprocess
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest

from k710.errors import LoadError
from k710.loading.decoders import video_file
from k710.loading.decoders.video_file import Timing, frames_at, probe
from tests.helpers.numbered_files import LOOK, numbers, raw_video, written_by_ffmpeg

FRAMES = 500
FILES = {
    "b_frames.mp4": "-c:v libx264 -g 100 -sc_threshold 0 -bf 3 -pix_fmt yuv420p",
    "one_group.mp4": "-c:v libx264 -g 9999 -bf 2 -pix_fmt yuv420p -movflags frag_keyframe+empty_moov",
    "b_frames.mkv": "-c:v libx264 -g 100 -bf 3 -pix_fmt yuv420p",
    "vp9.webm": "-c:v libvpx-vp9 -b:v 300k -deadline realtime -cpu-used 8 -g 100",
    "mpeg4.mov": "-c:v mpeg4 -bf 2 -q:v 3 -g 100",
    "h264.flv": "-c:v libx264 -g 100 -bf 3 -pix_fmt yuv420p",
    "h264.ts": "-c:v libx264 -g 100 -bf 3 -pix_fmt yuv420p",
    "mpeg2.mpg": "-c:v mpeg2video -g 15 -bf 2 -q:v 3",
    "mpeg4.avi": "-c:v mpeg4 -bf 2 -q:v 3 -g 100",
    "h264.avi": "-c:v libx264 -g 100 -bf 3 -pix_fmt yuv420p",
}
OFF = {"mpeg4.avi": 4, "h264.avi": 4}  # AVI has no times of showing


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("numbered")
    for name, arguments in FILES.items():
        assert written_by_ffmpeg(folder / name, FRAMES, arguments), name
    return folder


@pytest.mark.parametrize("name", FILES)
@pytest.mark.slow
def test_a_window_anywhere_has_its_frames_as_far_apart_as_they_should_be(files, name):
    timing = probe(files / name)
    assert timing.num_frames == pytest.approx(FRAMES, abs=7 if name == "mpeg2.mpg" else 2)  # MPEG names no length
    assert timing.rate == 25
    for start in (0, 1, 133, 250, 399, 436):
        wanted = start + 4 * np.arange(16)
        found = np.array(numbers(frames_at(files / name, timing, wanted)))
        assert (np.diff(found) == 4).all(), start
        assert abs(found[0] - start) <= OFF.get(name, 0)


@pytest.mark.parametrize(("form", "codec"), [
    ("webm", "libvpx-vp9 -b:v 300k -deadline realtime -cpu-used 8"), ("matroska", "libx264 -pix_fmt yuv420p"),
])  # fmt: skip
def test_a_recording_that_nobody_finished_has_no_length_and_no_list_of_key_frames(tmp_path, form, codec):
    size = f"{LOOK.width_px}x{LOOK.height_px}"
    options = f"-v error -f rawvideo -pix_fmt rgb24 -s {size} -r 25 -i - -c:v {codec} -g 100 -f {form} pipe:1"
    command = [imageio_ffmpeg.get_ffmpeg_exe(), *options.split()]
    path = tmp_path / "recorded.webm"
    path.write_bytes(subprocess.run(command, input=raw_video(300), capture_output=True, check=True).stdout)
    timing = probe(path)
    assert timing == pytest.approx((300, 0.0, 25.0))
    for start in (0, 150, 236):
        wanted = start + 4 * np.arange(16)
        assert numbers(frames_at(path, timing, wanted)) == wanted.tolist()


@pytest.mark.parametrize("name", ["b_frames.mp4", "vp9.webm", "h264.ts"])
def test_frames_that_are_far_apart_and_out_of_order(files, name):
    wanted = np.array([480, 3, 250, 3, 251])
    assert numbers(frames_at(files / name, probe(files / name), wanted)) == wanted.tolist()


def test_only_what_is_near_is_decoded(files, monkeypatch):
    timing, seen = probe(files / "b_frames.mp4"), 0

    def counting(decoder, packet):
        nonlocal seen
        seen += packet is not None
        return video_file_decoded(decoder, packet)

    video_file_decoded = video_file.decoded
    monkeypatch.setattr(video_file, "decoded", counting)
    frames_at(files / "b_frames.mp4", timing, 420 + 4 * np.arange(8))
    assert 28 < seen <= 60, "from the key frame at 400 to frame 448"


def test_the_end_of_a_file_that_is_shorter_than_it_says_is_its_last_frame(files):
    timing = probe(files / "b_frames.mkv")._replace(num_frames=FRAMES + 20)
    assert numbers(frames_at(files / "b_frames.mkv", timing, np.array([490, 495, 499, 505]))) == [490, 495, 499, 499]
    with pytest.raises(LoadError, match=r"0 of 2 frames from 40\.0 s on decode"):
        frames_at(files / "b_frames.mkv", Timing(2000, 0.0, 25.0), np.array([1000, 1001]))


def test_large_frames_are_scaled_down_and_small_ones_are_not(files):
    timing = probe(files / "b_frames.mp4")
    shapes = {
        short: frames_at(files / "b_frames.mp4", timing, np.array([7]), short_side_px=short).shape[1:3]
        for short in (None, 24, 40, 48, 320)
    }
    assert shapes == {None: (48, 64), 24: (24, 32), 40: (40, 54), 48: (48, 64), 320: (48, 64)}
    assert numbers(frames_at(files / "b_frames.mp4", timing, np.array([333]), short_side_px=24)) == [333]


@pytest.mark.parametrize("name", ["b_frames.mp4", "b_frames.mkv", "vp9.webm", "h264.flv", "one_group.mp4"])
def test_a_file_that_was_cut_off_is_found_out(files, tmp_path, name):
    content = (files / name).read_bytes()
    for share in (0.3, 0.8):
        cut = tmp_path / f"{share}-{name}"
        cut.write_bytes(content[: int(share * len(content))])
        with pytest.raises(LoadError, match=r"cut off: it should last [\d.]+ s and ends before|does not decode: "):
            probe(cut)


@pytest.mark.parametrize(("content", "message"), [
    (b"", "an empty file"),
    (b"#EXTM3U\n/etc/hostname\n", "no video file: begins with b'#EXTM3U"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11" + bytes(900), r"ASF \(WMV\), which k710 does not read"),
    (b"\0\0\0\x18ftypmp42" + bytes(900), "does not decode: "),
])  # fmt: skip
def test_what_is_no_video_is_named(tmp_path, content, message):
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(LoadError, match=message):
        probe(tmp_path / "a.mp4")
