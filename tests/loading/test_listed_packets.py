"""An MP4's own list of packets is used only where it gives what reading all packets gives."""

from __future__ import annotations

import numpy as np
import pytest

from k710.loading.decoders.decode import decode
from k710.loading.decoders.listed_packets import Packets, listed_packets
from k710.loading.decoders.pyav import opened, packets_of
from k710.sample.footage import encode_video
from k710.sample.motions import Look
from k710.sample.numbered import numbered_frames, read_number
from k710.store.containers import sniff
from tests.helpers.media_bytes import ffmpeg

LOOK = Look(128, 96, 25)
NUM_FRAMES = 60


@pytest.fixture(scope="module")
def h264():
    return encode_video(numbered_frames(NUM_FRAMES, LOOK), LOOK, options={"g": "16", "bf": "0", "tune": "fastdecode"})


def both(media):
    """The listed packets, and those that were read."""
    container = sniff(media[:400])
    with opened(media, container) as (file, stream):
        return listed_packets(media, container, stream), Packets.of_file(list(packets_of(file, stream)))


def remuxed(tmp_path, media, *options, before=(), suffix="mp4"):
    source, made = tmp_path / "source.mp4", tmp_path / f"made.{suffix}"
    source.write_bytes(media)
    ffmpeg(*before, "-i", source, "-c", "copy", *options, made)
    return made.read_bytes()


def assert_the_same(listed, read):
    assert listed is not None
    assert (listed.times, listed.keys, listed.is_hidden) == (read.times, read.keys, read.is_hidden)
    assert [bytes(packet) for packet in listed.read] == [bytes(packet) for packet in read.read]


def test_a_clip_of_the_store_is_read_by_its_list(h264):
    assert_the_same(*both(h264))


def test_an_edit_list_hides_the_same_frames(h264, tmp_path):
    cut = remuxed(tmp_path, h264, before=("-ss", "0.9"))
    listed, read = both(cut)
    assert_the_same(listed, read)
    assert any(listed.is_hidden)
    frames = decode(cut, lambda num_frames: np.arange(num_frames))
    first = NUM_FRAMES - len(frames)
    assert [read_number(frame) for frame in frames] == list(range(first, NUM_FRAMES))


@pytest.mark.parametrize(
    ("options", "suffix"),
    [
        (("-movflags", "frag_keyframe+empty_moov"), "mp4"),
        ((), "mkv"),
        ((), "avi"),
    ],
)
def test_other_files_are_read_whole(h264, tmp_path, options, suffix):
    listed, read = both(remuxed(tmp_path, h264, *options, suffix=suffix))
    assert listed is None
    assert len(read.times) == NUM_FRAMES


def test_files_with_b_frames_are_read_whole():
    media = encode_video(numbered_frames(NUM_FRAMES, LOOK), LOOK, options={"g": "16", "bf": "3"})
    assert both(media)[0] is None


def test_a_file_that_is_cut_off_is_read_whole(tmp_path, h264):
    front = remuxed(tmp_path, h264, "-movflags", "faststart")
    assert both(front)[0] is not None
    assert both(front[: len(front) * 3 // 4])[0] is None
