"""Colours are kept: whatever matrix and range a source has, whichever ffmpeg encodes it.

`K710_TEST_FFMPEGS` names other ffmpegs, one behind the other with a colon between, for example 5.1 and 7.0.2.
"""

from __future__ import annotations

import dataclasses
import io
import os
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from k710.fetch.encode.colour_check import worst_error
from k710.fetch.encode.ffmpeg_binary import ffmpeg_binary
from k710.fetch.encode.jobs import Candidate, ClipJob
from k710.fetch.encode.make_clip import make_clip
from k710.fetch.encode.profiles import read_profile
from k710.loading.decoders.decode import decode

RGB = np.array([[200, 40, 40], [40, 180, 40], [40, 60, 200], [30, 30, 30], [225, 225, 225], [180, 170, 30]])
BLOCK_PX, NUM_FRAMES = 32, 20
TOLERANCE = 6  # of 255; a wrong matrix moves these colours by 20 and more, a wrong range by 13
# Kr and Kb of ITU-R BT.601, BT.709 and BT.2020, with FFmpeg's numbers; 2 says nothing, which stands for BT.601.
MATRICES = {"untold": (0.299, 0.114, 2), "bt601": (0.299, 0.114, 6), "bt709": (0.2126, 0.0722, 1)}
MATRICES |= {"bt2020": (0.2627, 0.0593, 9)}
OTHER_FFMPEGS = [name for name in os.environ.get("K710_TEST_FFMPEGS", "").split(os.pathsep) if name]


@pytest.fixture(params=["installed", *OTHER_FFMPEGS])
def an_ffmpeg(request, monkeypatch):
    if request.param != "installed":
        monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", request.param)
    ffmpeg_binary.cache_clear()
    yield ffmpeg_binary()
    ffmpeg_binary.cache_clear()


def planes_of(matrix: str, *, full_range: bool) -> npt.NDArray[np.uint8]:
    """The blocks side by side as yuv420p, by the definition of the matrix: Y = Kr R + Kg G + Kb B."""
    red_share, blue_share, _ = MATRICES[matrix]
    red, green, blue = RGB.T / 255
    luma = red_share * red + (1 - red_share - blue_share) * green + blue_share * blue
    chroma = [(blue - luma) / (2 - 2 * blue_share), (red - luma) / (2 - 2 * red_share)]
    levels = [luma * (255 if full_range else 219) + (0 if full_range else 16)]
    levels += [plane * (255 if full_range else 224) + 128 for plane in chroma]
    sizes = (BLOCK_PX, BLOCK_PX // 2, BLOCK_PX // 2)
    rows = [np.repeat(np.round(level), size).astype(np.uint8) for level, size in zip(levels, sizes, strict=True)]
    whole = [np.tile(row, (size, 1)).reshape(-1) for row, size in zip(rows, sizes, strict=True)]
    return np.concatenate(whole).reshape(-1, len(rows[0]))


def write(path: Path, matrix: str, *, full_range: bool) -> Path:
    planes = planes_of(matrix, full_range=full_range)
    number, range_number = MATRICES[matrix][2], 2 if full_range else 1
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=10, options={"crf": "1", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = planes.shape[1], BLOCK_PX, "yuv420p"
        stream.codec_context.colorspace, stream.codec_context.color_range = number, range_number
        for _ in range(NUM_FRAMES):
            picture = av.VideoFrame.from_ndarray(planes, format="yuv420p")
            picture.colorspace, picture.color_range = number, range_number
            file.mux(stream.encode(picture))
        file.mux(stream.encode(None))
    return path


def middles(rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    return rgb[BLOCK_PX // 2, BLOCK_PX // 2 :: BLOCK_PX].astype(np.int64)


def made(path: Path, folder: Path, profile: str) -> bytes:
    settings = read_profile(profile)
    job = ClipJob("a-clip", (0, 2), ((0, 2),), (Candidate(path, True),), folder / profile, settings)
    result = make_clip(dataclasses.replace(job, profile=dataclasses.replace(settings, crf=8)))
    assert result.path is not None, result
    data = Path(result.path).read_bytes()
    return data[: result.frame_offsets[1]] if result.frame_offsets else data


@pytest.mark.parametrize("full_range", [False, True], ids=["limited", "full"])
@pytest.mark.parametrize("matrix", MATRICES)
def test_colours_are_those_of_the_source(tmp_path, an_ffmpeg, matrix, full_range):
    path = write(tmp_path / "clip.mp4", matrix, full_range=full_range)
    jpeg = np.asarray(Image.open(io.BytesIO(made(path, tmp_path, "frames"))))
    assert np.abs(middles(jpeg) - RGB).max() <= TOLERANCE
    clip = made(path, tmp_path, "h264")
    with av.open(io.BytesIO(clip)) as file:
        picture = next(file.decode(video=0))
    assert picture.format.name == "yuv420p"
    expected = planes_of(matrix, full_range=False).reshape(-1).astype(np.int64)
    assert np.abs(picture.to_ndarray().reshape(-1).astype(np.int64) - expected).mean() <= 1.5
    stated = int(picture.colorspace)
    assert stated == MATRICES[matrix][2] or {stated, MATRICES[matrix][2]} <= {2, 5, 6}  # names of one matrix
    assert int(picture.color_range) in (0, 1)  # limited, or nothing said, which means the same


@pytest.mark.parametrize("full_range", [False, True], ids=["limited", "full"])
@pytest.mark.parametrize("matrix", ["untold", "bt601", "bt709"])
def test_a_loader_sees_one_colour_in_every_profile(tmp_path, matrix, full_range):
    path = write(tmp_path / "clip.mp4", matrix, full_range=full_range)
    seen = [
        middles(decode(media, lambda count: np.zeros(1, np.int64))[0])
        for media in (path.read_bytes(), made(path, tmp_path, "h264"))
    ]
    assert np.abs(seen[0] - seen[1]).max() <= TOLERANCE
    assert np.abs(seen[0] - RGB).max() <= TOLERANCE


def test_pictures_without_a_matrix(tmp_path, an_ffmpeg):
    """RGB has none, and a converter is told nothing of it."""
    path = tmp_path / "clip.mov"
    rgb = np.repeat(RGB, BLOCK_PX, axis=0)[None].repeat(BLOCK_PX, axis=0).astype(np.uint8)
    with av.open(str(path), "w") as file:
        stream = file.add_stream("png", rate=10)
        stream.width, stream.height, stream.pix_fmt = rgb.shape[1], BLOCK_PX, "rgb24"
        for _ in range(NUM_FRAMES):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        file.mux(stream.encode(None))
    jpeg = np.asarray(Image.open(io.BytesIO(made(path, tmp_path, "frames"))))
    assert np.abs(middles(jpeg) - RGB).max() <= TOLERANCE
    seen = middles(decode(made(path, tmp_path, "h264"), lambda count: np.zeros(1, np.int64))[0])
    assert np.abs(seen - RGB).max() <= TOLERANCE


def test_doctors_check_is_content_with_it(an_ffmpeg):
    assert worst_error() <= TOLERANCE
