"""Cut and encode: one ffmpeg process per clip, by a profile, under a time limit."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

import ffmpeg

from k710.fetch.failures import ClipError
from k710.fetch.ffmpeg_binary import failure_reason, ffmpeg_binary
from k710.fetch.profiles import Profile
from k710.fetch.source_file import MAX_FPS, MAX_PIXELS, OPEN_OPTIONS, ROUNDING_S, SEEKABLE, Colours, Part, SourceFile

AUDIO_BITS_PER_S = 96_000
SEEK_MARGIN_S = 1.0  # decoded before a cut, which is made by the pictures' own times


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
    skipped_s, window = _window(source, part)
    picked: dict[str, object] = {
        "f": source.container.demuxer,
        "threads": 1,
        "max_pixels": MAX_PIXELS,
        **OPEN_OPTIONS,
    }
    if source.container.demuxer != "mov":
        del picked["enable_drefs"]
    if skipped_s:
        picked["ss"] = skipped_s
    # Named last, since ffmpeg-python takes no name that is not UTF-8.
    names = {"IN": f"file:{source.path.resolve()}", "OUT": f"file:{out.resolve()}"}
    video = ffmpeg.input("IN", **picked)
    streams = [video[str(source.stream)]]
    with_sound = profile.audio and source.has_sound
    made = (_jpeg if profile.codec == "frames" else _h264)(source, profile)
    lasts_s = source.duration_s if part.whole else part.duration_s
    options: dict[str, object] = {
        "fps_mode": "passthrough",
        "frames:v": max(1, int(lasts_s * MAX_FPS)),
        "threads": 1,
        "map_metadata": -1,
        "map_chapters": -1,
        "fflags": "+bitexact",
        "flags:v": "+bitexact",
        **made,
        "vf": ",".join([*_cut_pictures(source, window, with_sound=with_sound), str(made["vf"])]),
    }
    if with_sound:
        streams.append(video["a:0"])
        options |= {"c:a": "aac", "b:a": AUDIO_BITS_PER_S, "flags:a": "+bitexact", "af": _cut_sound(source, window)}
    job = ffmpeg.output(*streams, "OUT", **options)
    job = job.global_args("-nostdin", "-hide_banner", "-v", "error", "-max_error_rate", "1")
    command: list[str] = job.compile(cmd=ffmpeg_binary(), overwrite_output=True)
    return [names.get(argument, argument) for argument in command]


@dataclass(frozen=True)
class _Window:
    """Which of what is read is kept, in seconds from where reading begins. None: no limit."""

    start_s: float | None
    end_s: float | None


def _window(source: SourceFile, part: Part) -> tuple[float, _Window]:
    """How many seconds of the file are skipped, and which of the rest are kept.

    A file that is the clip is taken from its first picture, which may come later than the file's own beginning. A span
    is counted from the file's beginning, as players and the people who chose the spans count.
    """
    if part.start_s is None:
        begins_s = 0.0 if source.container.demuxer == "avi" else source.first_s - source.clock_s
        return 0.0, _Window(None, None if part.whole else begins_s + part.duration_s - ROUNDING_S)
    skipped_s = max(0.0, part.start_s - SEEK_MARGIN_S) if source.container.demuxer in SEEKABLE else 0.0
    start_s = part.start_s - skipped_s - ROUNDING_S
    return skipped_s, _Window(start_s, start_s + part.duration_s)


def _cut_pictures(source: SourceFile, window: _Window, *, with_sound: bool) -> list[str]:
    """The filters that keep the window's pictures. A file that is the clip is shown from its first picture on, but with
    sound its pictures keep their distance to it.

    No filter counts from the first picture that it meets: where the size changes, all filters begin anew.
    """
    filters, begins_s = [], source.first_s - source.clock_s
    if source.container.demuxer == "avi":
        # AVI tells when a picture is decoded. Where later pictures are needed for it, its time lags by as many
        # pictures, which only the decoder knows. So this container is the exception.
        filters, begins_s = ["setpts=PTS-STARTPTS"], 0.0
    limits = {"start": window.start_s, "end": window.end_s}
    trim = ":".join(f"{name}={at_s:.6f}" for name, at_s in limits.items() if at_s is not None)
    if trim:
        filters.append(f"trim={trim}")
    shift_s = (0.0 if with_sound else begins_s) if window.start_s is None else window.start_s + ROUNDING_S
    return [*filters, f"setpts=round(PTS-({shift_s:.6f})/TB)"] if abs(shift_s) > 1e-5 else filters


def _cut_sound(source: SourceFile, window: _Window) -> str:
    """The filters that keep the window's sound; of a whole file no more than lasts as long as its pictures."""
    end_s = window.end_s
    if end_s is None:
        end_s = source.first_s - source.clock_s + source.duration_s
    if window.start_s is None:
        return f"atrim=end={end_s:.6f}"
    start_s = window.start_s + ROUNDING_S
    return f"atrim=start={start_s:.6f}:end={end_s:.6f},asetpts=PTS-{start_s:.6f}/TB"


def _h264(source: SourceFile, profile: Profile) -> dict[str, object]:
    """The matrix stays that of the source; the range is the limited one, which every decoder of H.264 takes it for."""
    colours = source.colours
    said = ""
    if colours and (colours.declared or colours.full_range):
        said = f":{_said(colours)}:out_color_matrix={colours.matrix}:out_range=tv"
    options: dict[str, object] = {
        "vf": f"scale={_size(source, profile)}{said},setsar=1,format=yuv420p",
        "c:v": "libx264",
        "preset": profile.preset,
        "crf": profile.crf,
        "g": profile.gop_frames,
        "bf": profile.b_frames,
        "movflags": "+faststart",
        "f": "mp4",
    }
    return options | ({"tune": profile.tune} if profile.tune != "none" else {})


def _jpeg(source: SourceFile, profile: Profile) -> dict[str, object]:
    """JPEG has one colour matrix and the full range; a reader of JPEGs assumes both.

    The pixels are yuv420p of full range. ffmpeg 7.0 converts no matrix on the way to yuvj420p, the older name of it.
    """
    said = f":{_said(source.colours)}" if source.colours else ""
    return {
        "vf": f"scale={_size(source, profile)}{said}:out_color_matrix=bt601:out_range=pc,setsar=1,format=yuv420p",
        "c:v": "mjpeg",
        "color_range": "pc",
        "strict": "unofficial",  # older ones take yuv420p for what JPEG cannot be
        "q:v": profile.jpeg_qscale,
        "f": "mov",
    }


def _size(source: SourceFile, profile: Profile) -> str:
    width_px, height_px = target_size(source, profile.short_side_px)
    return f"{width_px}:{height_px}"


def _said(colours: Colours) -> str:
    """What the scaler is told of its input. ffmpeg 7.0 does not find it out by itself."""
    return f"in_color_matrix={colours.matrix}:in_range={'pc' if colours.full_range else 'tv'}"


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
    messages = done.stderr.decode(errors="replace")
    if "No space left on device" in messages or "Disk quota exceeded" in messages:
        raise NoSpaceError
    raise ClipError("undecodable", f"ffmpeg: {failure_reason(messages, done.returncode)}")
