"""The codecs of encode profiles: how each encodes, what it stores, and what it cannot do. A new codec is a new row.

This file loads no decoder: the run reads it too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from k710.fetch.encode.measured import FramePlaces

if TYPE_CHECKING:
    from k710.fetch.encode.profiles import Profile
    from k710.fetch.encode.source_file import Colours, SourceFile


DEFAULT_CODEC = "h264"
AUDIO_ENCODER = "aac"  # of every codec that keeps the sound


@dataclass(frozen=True)
class Codec:
    """How clips are encoded and stored.

    `encoder` is FFmpeg's name of the encoder. `ffmpeg_options` gives ffmpeg's other output options for a source and a
    profile, `vf` and the format `f` among them; see `encode.encode_command` for those that all codecs share. `suffix`
    is that of the stored file. `finish(encoded, stored, profile)` makes the stored file of the file that ffmpeg wrote;
    without it, ffmpeg's file is stored. `expected_bytes` is the size of a clip of ten seconds, for estimates.
    """

    encoder: str
    ffmpeg_options: Callable[[SourceFile, Profile], dict[str, object]]
    suffix: str
    expected_bytes: int
    finish: Callable[[Path, Path, Profile], FramePlaces] | None = None
    keeps_audio: bool = True  # --audio is possible
    cuts_sections: bool = True  # encodes every clip, so that a downloaded section may begin with hidden frames
    keeps_whole_files: bool = False  # a file that is the clip already is stored as it is
    keeps_jpegs: bool = False  # `finish` is given JPEGs that are frames already, where they need no scaling


def target_size(source: SourceFile, short_side_px: int) -> tuple[int, int]:
    """Width and height after scaling: the short side as asked for, never larger than the source, both even."""
    scale = min(1.0, short_side_px / source.short_side_px) if short_side_px else 1.0
    width_px, height_px = (max(2, 2 * round(side * scale / 2)) for side in (source.width_px, source.height_px))
    return width_px, height_px


def scaled(source: SourceFile, profile: Profile, *, colours: str = "") -> str:
    """The filters to the profile's size: square pixels, 8 bits, 4:2:0. `colours`: options of the scaler for them."""
    width_px, height_px = target_size(source, profile.short_side_px)
    return f"scale={width_px}:{height_px}{colours},setsar=1,format=yuv420p"


def keeping_matrix(source: SourceFile) -> str:
    """Options of the scaler that keep the source's colour matrix and give the limited range, which decoders of video
    expect. Empty where the source declares neither: then nothing is converted."""
    colours = source.colours
    if colours and (colours.declared or colours.full_range):
        return f":{_input_colours(colours)}:out_color_matrix={colours.matrix}:out_range=tv"
    return ""


def _h264_options(source: SourceFile, profile: Profile) -> dict[str, object]:
    options: dict[str, object] = {
        "vf": scaled(source, profile, colours=keeping_matrix(source)),
        "preset": profile.preset,
        "crf": profile.crf,
        "g": profile.gop_frames,
        "bf": profile.b_frames,
        "i_qfactor": round(1 / profile.ip_ratio, 6),  # FFmpeg gives x264 its inverse
        "movflags": "+faststart",
        "f": "mp4",
    }
    return options | ({"tune": profile.tune} if profile.tune != "none" else {})


def _jpeg_options(source: SourceFile, profile: Profile) -> dict[str, object]:
    """JPEG has one colour matrix and the full range; a reader of JPEGs assumes both.

    The pixels are yuv420p of full range. ffmpeg 7.0 converts no matrix on the way to yuvj420p, the older name of it.
    """
    known = f":{_input_colours(source.colours)}" if source.colours else ""
    return {
        "vf": scaled(source, profile, colours=f"{known}:out_color_matrix=bt601:out_range=pc"),
        "color_range": "pc",
        "strict": "unofficial",  # older versions of ffmpeg refuse yuv420p for JPEG
        "q:v": profile.jpeg_qscale,
        "f": "mov",
    }


def _input_colours(colours: Colours) -> str:
    """The scaler's options for the colours of its input. ffmpeg 7.0 does not find them out by itself."""
    return f"in_color_matrix={colours.matrix}:in_range={'pc' if colours.full_range else 'tv'}"


def _store_frames(encoded: Path, stored: Path, profile: Profile) -> FramePlaces:
    from k710.fetch.encode.frames import store_frames

    return store_frames(encoded, stored, profile.stored_frames, restart_markers=profile.restart_markers)


# `expected_bytes`: ten seconds of the public archives, as docs/fetch.md measures them.
CODECS = {
    "h264": Codec("libx264", _h264_options, "mp4", expected_bytes=1_000_000),
    "source": Codec(
        "libx264",
        _h264_options,
        "mp4",
        expected_bytes=2_000_000,
        cuts_sections=False,
        keeps_whole_files=True,
    ),
    "frames": Codec(
        "mjpeg",
        _jpeg_options,
        "mjpeg",
        expected_bytes=1_500_000,
        finish=_store_frames,
        keeps_audio=False,
        keeps_jpegs=True,
    ),
}
