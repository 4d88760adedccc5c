"""JPEGs of the frames profiles with restart markers: nearly the same pixels, in pieces."""

from __future__ import annotations

import io
import itertools

import av
import numpy as np
import pytest
from PIL import Image

from k710.fetch.encode.encode import encode
from k710.fetch.encode.frames import store_frames
from k710.fetch.encode.profiles import read_profile
from k710.fetch.encode.restart_markers import RestartMarkers
from k710.fetch.encode.source_file import Part, probe
from k710.loading.decoders.jpegs import decode_jpegs
from k710.sample.footage import write_video
from k710.sample.motions import Look
from k710.sample.numbered import numbered_frames
from k710.store.jpeg_header import read_header


def stored(folder, profile_name, look):
    """The JPEGs that a profile stores of a short clip."""
    clip, encoded, made = folder / "clip.mp4", folder / "encoded", folder / "made"
    write_video(clip, numbered_frames(20, look), look)
    source, profile = probe(clip), read_profile(profile_name)
    encode(source, Part(None, source.duration_s, whole=True), profile, encoded, limit_s=60)
    places = store_frames(encoded, made, 20, restart_markers=profile.restart_markers)
    content, borders = made.read_bytes(), [*places.offsets, made.stat().st_size]
    return [content[begin:end] for begin, end in itertools.pairwise(borders)]


@pytest.mark.parametrize(("width_px", "interval"), [(170, 1), (180, 2)])
def test_pixels_are_those_of_the_profile_without_markers(tmp_path, width_px, interval):
    look = Look(width_px, 98, 12)
    without, parts = (stored(tmp_path, name, look) for name in ("frames", "frames-parts"))
    assert [read_header(jpeg).interval for jpeg in without] == [0] * 20
    assert [read_header(jpeg).interval for jpeg in parts] == [interval] * 20
    off = np.abs(decode_jpegs(without).astype(int) - decode_jpegs(parts))
    assert off.shape == (20, 98, width_px, 3)
    assert off.max() <= 2
    assert (off > 0).mean() < 1e-3
    assert sum(map(len, parts)) < 1.3 * sum(map(len, without))


def test_what_is_another_kind_of_jpeg_stays_as_it_is():
    def jpeg(**options):
        out = io.BytesIO()
        Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(out, "jpeg", **options)
        return out.getvalue()

    for other in (
        jpeg(subsampling="4:4:4"),
        jpeg(subsampling="4:2:2"),
        jpeg(progressive=True),
        jpeg(subsampling="4:2:0", restart_marker_blocks=1),
        jpeg(subsampling="4:2:0")[:200],
        b"\xff\xd8\xff",
        b"",
    ):
        assert RestartMarkers()(other) == other
    assert read_header(RestartMarkers()(jpeg(subsampling="4:2:0"))).interval == 2


def test_ffmpeg_reads_them(tmp_path):
    parts = stored(tmp_path, "frames-parts", Look(180, 98, 12))
    with av.open(io.BytesIO(b"".join(parts)), format="mjpeg") as file:
        pictures = [picture.to_ndarray(format="rgb24") for picture in file.decode(video=0)]
    assert len(pictures) == 20
    assert np.abs(np.stack(pictures).astype(int) - decode_jpegs(parts)).mean() < 2
