"""Does the installed ffmpeg keep colours? Some ignore the matrix and the range that they are given."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

from k710.fetch.encode.codecs import CODECS
from k710.fetch.encode.encode import encode
from k710.fetch.encode.profiles import Profile
from k710.fetch.encode.source_file import Part, probe

_BLOCK_PX, _FRAMES, _FPS = 32, 12, 10
_BT709, _LIMITED, _FULL = 1, 1, 2  # of AVColorSpace and AVColorRange
# Colours that a wrong matrix or a wrong range moves far, as RGB.
_BLOCKS = np.array([[200, 40, 40], [40, 180, 40], [40, 60, 200], [30, 30, 30], [225, 225, 225]])


def worst_error() -> float:
    """The largest error of any colour, in levels of 255, over all codecs and both ranges of a BT.709 source.

    Raises ClipError where this ffmpeg cannot encode at all.
    """
    with tempfile.TemporaryDirectory() as folder:
        errors = []
        for full_range in (False, True):
            source = Path(folder) / f"source-{full_range}.mp4"
            _write(source, full_range=full_range)
            for codec in (name for name, codec in CODECS.items() if not codec.keeps_whole_files):
                profile = replace(Profile(codec=codec, crf=10), name=codec)
                made = Path(folder) / f"{codec}-{full_range}"
                encode(probe(source), Part(None, _FRAMES / _FPS, whole=True), profile, made, limit_s=20)
                errors.append(np.abs(_blocks(made) - _BLOCKS).max())
    return float(max(errors))


def _write(path: Path, *, full_range: bool) -> None:
    """Blocks of one colour each, side by side, as a BT.709 video that says so."""
    red, green, blue = (_BLOCKS.T / 255).astype(np.float64)
    luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    planes = [luma, (blue - luma) / 1.8556, (red - luma) / 1.5748]
    scale = [(255, 0), (255, 128), (255, 128)] if full_range else [(219, 16), (224, 128), (224, 128)]
    levels = [np.round(plane * gain + offset) for plane, (gain, offset) in zip(planes, scale, strict=True)]
    rows = [np.repeat(level, size).astype(np.uint8) for level, size in zip(levels, (32, 16, 16), strict=True)]
    luma_plane = np.tile(rows[0], (_BLOCK_PX, 1))
    chroma = [np.tile(row, (_BLOCK_PX // 2, 1)).reshape(-1) for row in rows[1:]]
    stacked = np.concatenate([luma_plane.reshape(-1), *chroma]).reshape(-1, luma_plane.shape[1])
    with av.open(str(path), "w", format="mp4") as file:
        stream = file.add_stream("libx264", rate=_FPS, options={"crf": "1", "preset": "ultrafast"})
        stream.height, stream.width = luma_plane.shape
        stream.pix_fmt = "yuv420p"
        stream.codec_context.colorspace = _BT709
        stream.codec_context.color_range = _FULL if full_range else _LIMITED
        for _ in range(_FRAMES):
            picture = av.VideoFrame.from_ndarray(stacked, format="yuv420p")
            picture.colorspace, picture.color_range = _BT709, _FULL if full_range else _LIMITED
            file.mux(stream.encode(picture))
        file.mux(stream.encode(None))


def _blocks(path: Path) -> npt.NDArray[np.float64]:
    """The colour (blocks, 3) in the middle of each block of the first picture, by the matrix and range that it says."""
    with av.open(str(path)) as file:
        picture = next(file.decode(file.streams.video[0]))
        planes = picture.to_ndarray(format="yuv420p" if picture.format.name == "yuv420p" else "yuvj420p")
    height_px, width_px = picture.height, picture.width
    middle = np.arange(_BLOCK_PX // 2, width_px, _BLOCK_PX)
    flat = planes.reshape(-1).astype(np.float64)
    luma = flat[: height_px * width_px].reshape(height_px, width_px)[height_px // 2, middle]
    chroma = (
        flat[height_px * width_px :].reshape(2, height_px // 2, width_px // 2)[:, height_px // 4, middle // 2] - 128
    )
    full_range = picture.format.name == "yuvj420p" or int(picture.color_range) == _FULL
    luma = luma / 255 if full_range else (luma - 16) / 219
    blue_less_luma, red_less_luma = chroma / (255 if full_range else 224)
    red_share, blue_share = (0.2126, 0.0722) if int(picture.colorspace) == _BT709 else (0.299, 0.114)
    red = luma + 2 * (1 - red_share) * red_less_luma
    blue = luma + 2 * (1 - blue_share) * blue_less_luma
    green = (luma - red_share * red - blue_share * blue) / (1 - red_share - blue_share)
    found: npt.NDArray[np.float64] = np.stack([red, green, blue], axis=1) * 255
    return found
