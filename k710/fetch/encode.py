"""Cut and encode: one ffmpeg process per clip, by a profile, under a time limit."""

from __future__ import annotations

import subprocess
from pathlib import Path

import ffmpeg

from k710.fetch.failures import ClipError
from k710.fetch.ffmpeg_binary import ffmpeg_binary
from k710.fetch.profiles import Profile
from k710.fetch.source_file import MAX_FPS, MAX_PIXELS, OPEN_OPTIONS, Part, SourceFile

MAX_ERROR_RATE = 0.05  # of the frames; cutting without encoding often spoils the first few
AUDIO_BITS_PER_S = 96_000


class NoSpaceError(Exception):
    """The disk is full: nothing that the clip is to blame for."""


def target_size(source: SourceFile, short_side_px: int) -> tuple[int, int]:
    """Width and height after scaling: the short side as asked for, never larger than the source, both even."""
    scale = min(1.0, short_side_px / source.short_side_px) if short_side_px else 1.0
    width_px, height_px = (max(2, 2 * round(side * scale / 2)) for side in (source.width_px, source.height_px))
    return width_px, height_px


def encode_command(source: SourceFile, part: Part, profile: Profile, out: Path) -> list[str]:
    """The command that encodes `part` of `source` as the file `out`: MP4, of codec frames a MOV of JPEGs.

    Frames keep their times (`fps_mode passthrough`): nothing is doubled or dropped, so that frame numbers are the
    source's own. The same input gives the same bytes under one ffmpeg.
    """
    picked: dict[str, object] = {
        "f": source.container.demuxer,
        "threads": 1,
        "max_pixels": MAX_PIXELS,
        **OPEN_OPTIONS,
    }
    if source.container.demuxer != "mov":
        del picked["enable_drefs"]
    if part.start_s is not None:
        picked["ss"] = part.start_s
    # Named last, since ffmpeg-python takes no name that is not UTF-8.
    names = {"IN": f"file:{source.path.resolve()}", "OUT": f"file:{out.resolve()}"}
    video = ffmpeg.input("IN", **picked)
    streams = [video[str(source.stream)]]
    width_px, height_px = target_size(source, profile.short_side_px)
    options: dict[str, object] = {
        "t": part.duration_s,
        "fps_mode": "passthrough",
        "frames:v": int(part.duration_s * MAX_FPS),
        "threads": 1,
        "map_metadata": -1,
        "map_chapters": -1,
        "fflags": "+bitexact",
        "flags:v": "+bitexact",
        **(_jpeg if profile.codec == "frames" else _h264)(profile, f"{width_px}:{height_px}"),
    }
    if profile.audio:
        streams.append(video["a:0?"])
        options |= {"c:a": "aac", "b:a": AUDIO_BITS_PER_S, "flags:a": "+bitexact"}
    job = ffmpeg.output(*streams, "OUT", **options)
    job = job.global_args("-nostdin", "-hide_banner", "-v", "error", "-max_error_rate", str(MAX_ERROR_RATE))
    command: list[str] = job.compile(cmd=ffmpeg_binary(), overwrite_output=True)
    return [names.get(argument, argument) for argument in command]


def _h264(profile: Profile, size: str) -> dict[str, object]:
    options: dict[str, object] = {
        "vf": f"scale={size},setsar=1,format=yuv420p",
        "c:v": "libx264",
        "preset": profile.preset,
        "crf": profile.crf,
        "g": profile.gop_frames,
        "bf": profile.b_frames,
        "movflags": "+faststart",
        "f": "mp4",
    }
    return options | ({"tune": profile.tune} if profile.tune != "none" else {})


def _jpeg(profile: Profile, size: str) -> dict[str, object]:
    """JPEG has one colour matrix and the full range; a reader of JPEGs assumes both."""
    colours = "out_color_matrix=bt601:out_range=pc"
    return {
        "vf": f"scale={size}:{colours},setsar=1,format=yuvj420p",
        "c:v": "mjpeg",
        "q:v": profile.jpeg_qscale,
        "f": "mov",
    }


def encode(source: SourceFile, part: Part, profile: Profile, out: Path, *, limit_s: float) -> bool:
    """Run `encode_command`; says whether ffmpeg had to complain of the source. Raises ClipError where the source is at
    fault or takes longer than `limit_s`, NoSpaceError where the disk is full."""
    command = encode_command(source, part, profile, out)
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=limit_s, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        raise ClipError("undecodable", f"ffmpeg was not done after {limit_s:.0f} s") from None
    if done.returncode == 0:
        return bool(done.stderr.strip())
    said = done.stderr.decode(errors="replace").strip()
    if "No space left on device" in said or "Disk quota exceeded" in said:
        raise NoSpaceError
    last = said.splitlines()[-1][-200:] if said else f"exit {done.returncode}"
    if done.returncode == 69:  # FFmpeg's own: more errors than max_error_rate allows
        raise ClipError("corrupt", f"too many frames do not decode: {last}")
    raise ClipError("undecodable", f"ffmpeg: {last}")
