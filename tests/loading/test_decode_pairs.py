"""Every pair of a container and a codec that ffmpeg can write, with and without B-frames: what is shown is what ffmpeg
shows, whichever frames are asked for, and so it is where a file keeps silent about its order or lies about it."""

from __future__ import annotations

import io

import av
import numpy as np
import pytest

from k710.errors import LoadError
from k710.fetch.encode.check import measure
from k710.fetch.encode.source_file import container_of
from k710.loading.decoders.decode import decode
from k710.sample.footage import encode_video
from k710.sample.numbered import numbered_frames
from tests.helpers.media_bytes import encoders
from tests.helpers.numbered_files import (
    LOOK,
    PICTURE_CODE,
    numbers,
    packed_bitstream,
    shown_by_ffmpeg,
    shown_of_bytes,
    without_key_frames_listed,
    without_showing_times,
    written_by_ffmpeg,
)

NUM_FRAMES = 31
CONTAINERS = ("mp4", "mov", "matroska", "webm", "avi", "flv", "mpegts")
# By encoder: arguments without and, behind a bar, with frames that are decoded in another order than they are shown.
CODECS = {
    "libx264": "-preset veryfast -g 12 -bf 0 | -preset veryfast -g 12 -bf 3 -b_strategy 0",
    "libx265": "-preset ultrafast -x265-params log-level=none:keyint=12:bframes=0 | "
    "-preset ultrafast -x265-params log-level=none:keyint=12:bframes=3",
    "mpeg4": "-q:v 3 -g 12 | -q:v 3 -g 12 -bf 2",
    "mpeg2video": "-q:v 3 -g 12 | -q:v 3 -g 12 -bf 2",
    "mpeg1video": "-q:v 3 -g 12 | -q:v 3 -g 12 -bf 2",
    "libvpx": "-deadline realtime -cpu-used 8 -b:v 500k -g 12 | "
    "-deadline good -cpu-used 5 -b:v 500k -g 12 -auto-alt-ref 1 -lag-in-frames 16",
    "libvpx-vp9": "-deadline realtime -cpu-used 8 -b:v 500k -g 12 | "
    "-deadline good -cpu-used 5 -b:v 500k -g 12 -auto-alt-ref 1 -lag-in-frames 16",
    "libaom-av1": "-cpu-used 8 -usage realtime -g 12 | -cpu-used 8 -g 12 -lag-in-frames 16",
    "libxvid": "-q:v 3 -g 12 -bf 0",
    "mjpeg": "-q:v 3 -pix_fmt yuvj420p",
    "h263p": "-q:v 3 -g 12",
    "flv": "-q:v 3 -g 12",
    "msmpeg4": "-q:v 3 -g 12",
    "wmv2": "-q:v 3 -g 12",
    "libtheora": "-q:v 6 -g 12",
    "prores_ks": "-pix_fmt yuv422p10le",
    "png": "-pix_fmt rgb24",
    "ffv1": "",
    "rawvideo": "",
    "vc2": "",
}
VARIANTS = [(codec, number) for codec, variants in CODECS.items() for number in range(variants.count("|") + 1)]
ASKED = ([NUM_FRAMES // 2], [5, 27], [11, 12, 13, 14], [30, 3, 3, 17], list(range(NUM_FRAMES)))


def assert_shows(media: bytes, shown: list[int | None]) -> None:
    counts = set()
    for asked in ASKED:
        wanted = [min(number, len(shown) - 1) for number in asked]
        pixels = decode(media, lambda n, w=wanted: counts.add(n) or np.array(w))
        assert numbers(pixels) == [shown[number] for number in wanted]
    assert counts == {len(shown)}


@pytest.mark.parametrize(("codec", "number"), VARIANTS)
@pytest.mark.slow
def test_a_pair_shows_what_ffmpeg_shows(tmp_path, codec, number):
    if codec not in encoders():
        pytest.skip(f"this ffmpeg has no {codec}")
    colours = "" if "-pix_fmt" in CODECS[codec] else "-pix_fmt yuv420p"
    arguments = f"{colours} -c:v {codec} {CODECS[codec].split('|')[number]}"
    paths = [tmp_path / f"clip.{container}" for container in CONTAINERS]
    written = [path for path in paths if written_by_ffmpeg(path, NUM_FRAMES, f"{arguments} -f {path.suffix[1:]}")]
    shown_by = {path: shown_by_ffmpeg(path) for path in written}
    assert any(shown_by.values())
    for path, shown in shown_by.items():
        if shown:
            assert_shows(path.read_bytes(), shown)
            assert measure(path, container_of(path), decode_all=True).num_frames == len(shown)
        else:  # ffmpeg wrote what it does not read
            with pytest.raises(LoadError):
                decode(path.read_bytes(), lambda n: np.arange(n))


def test_a_packed_bitstream_shows_what_ffmpeg_shows(tmp_path):
    media = packed_bitstream(NUM_FRAMES)
    with av.open(io.BytesIO(media)) as file:
        assert 1 in {packet.size for packet in file.demux(video=0)}  # the filler
    assert shown_of_bytes(media) == list(range(NUM_FRAMES))
    assert_shows(media, list(range(NUM_FRAMES)))


def test_xvid_packs_as_well(tmp_path):
    if "libxvid" not in encoders():
        pytest.skip("this ffmpeg has no libxvid")
    path = tmp_path / "clip.avi"
    assert written_by_ffmpeg(path, NUM_FRAMES, "-c:v libxvid -q:v 3 -g 12 -bf 2 -f avi")
    assert_shows(path.read_bytes(), shown_by_ffmpeg(path))


IN_MP4 = {
    "libx264": {"g": "12", "bf": "3", "b_strategy": "0"},
    "libx265": {"preset": "ultrafast", "x265-params": "log-level=none:keyint=12:bframes=3"},
    "mpeg4": {"g": "12", "bf": "2"},
}


@pytest.mark.parametrize("lie", [without_key_frames_listed, without_showing_times])
@pytest.mark.parametrize("codec", IN_MP4)
def test_what_a_file_says_of_its_order_is_checked(codec, lie):
    """Without its list of key frames every packet is called one; without offsets frames are called in order."""
    if codec not in encoders():
        pytest.skip(f"this ffmpeg has no {codec}")
    frames = numbered_frames(NUM_FRAMES, LOOK)
    media = lie(encode_video(frames, LOOK, codec=codec, options=IN_MP4[codec]))
    assert shown_of_bytes(media) == list(range(NUM_FRAMES))
    assert_shows(media, list(range(NUM_FRAMES)))


def test_damage_in_a_file_without_times_is_counted():
    """AVI with B-frames has no times of showing; a clip that lost too much is refused all the same."""
    media = packed_bitstream(NUM_FRAMES)
    first, *others = media.split(PICTURE_CODE)
    damaged = [bytes(16) + other[16:] if number % 4 == 3 else other for number, other in enumerate(others)]
    with pytest.raises(LoadError, match="frames decode"):
        decode(PICTURE_CODE.join([first, *damaged]), lambda n: np.arange(n))
    one = [bytes(16) + other[16:] if number == len(others) - 2 else other for number, other in enumerate(others)]
    assert numbers(decode(PICTURE_CODE.join([first, *one]), lambda n: np.array([0, 10, 20]))) == [0, 10, 20]
