"""Cut and encode: one ffmpeg process per clip, by a profile, under a time limit."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

import ffmpeg

from k710.fetch.encode.codecs import AUDIO_ENCODER, CODECS
from k710.fetch.encode.ffmpeg_binary import failure_reason, ffmpeg_binary
from k710.fetch.encode.profiles import Profile
from k710.fetch.encode.source_file import (
    MAX_FPS,
    MAX_PIXELS,
    OPEN_OPTIONS,
    ROUNDING_S,
    SEEKABLE,
    Part,
    SourceFile,
)
from k710.store.failures import ClipError

AUDIO_BITS_PER_S = 96_000
SEEK_MARGIN_S = 1.0  # decoded before a cut, which is made by the pictures' own times


class NothingMadeError(ClipError):
    """ffmpeg gave up. The source's own damage may be the reason: see `damage`."""


class NoSpaceError(Exception):
    """The disk is full, which is no failure of the clip."""


def encode_command(source: SourceFile, part: Part, profile: Profile, out: Path) -> list[str]:
    """The command that encodes `part` of `source` as the file `out`, in the format of the profile's codec.

    Frames keep their times (`fps_mode passthrough`): nothing is doubled or dropped, so that frame numbers are the
    source's own. The same input gives the same bytes under one ffmpeg.
    """
    with_sound = profile.audio and source.has_sound
    window = _window(source, part, with_sound=with_sound)
    picked: dict[str, object] = {
        "f": source.container.demuxer,
        "threads": 1,
        "max_pixels": MAX_PIXELS,
        **OPEN_OPTIONS,
    }
    if source.container.demuxer != "mov":
        del picked["enable_drefs"]
    # The clock stays the file's own but for this: ffmpeg would take the beginning of one stream or of all for zero, by
    # the container. A filter that shifts times would lose how long the last frame lasts, in ffmpeg 7.0.
    picked["itsoffset"] = -window.zero_s
    if window.skipped_s:
        picked |= {"ss": window.skipped_s, "noaccurate_seek": None}
    # Named last, since ffmpeg-python takes no name that is not UTF-8.
    names = {"IN": f"file:{source.path.resolve()}", "OUT": f"file:{out.resolve()}"}
    video = ffmpeg.input("IN", **picked)
    streams = [video[str(source.stream)]]
    codec = CODECS[profile.codec]
    made = codec.ffmpeg_options(source, profile)
    lasts_s = source.duration_s if part.whole else part.duration_s
    options: dict[str, object] = {
        "fps_mode": "passthrough",
        "frames:v": max(1, int(lasts_s * MAX_FPS)),
        "threads": 1,
        "map_metadata": -1,
        "map_chapters": -1,
        "fflags": "+bitexact",
        "flags:v": "+bitexact",
        "c:v": codec.encoder,
        **made,
        "vf": ",".join([*_cut_pictures(source, window), str(made["vf"])]),
    }
    if source.container.demuxer == "avi" and source.usual_gap_s:
        # The filter that shifts its times loses how long the last frame lasts, in ffmpeg 7.0.
        options["bsf:v"] = f"setts=duration=if(DURATION\\,DURATION\\,round({source.usual_gap_s:.6f}/TB))"
    if with_sound:
        streams.append(video["a:0"])
        options |= {"c:a": AUDIO_ENCODER, "b:a": AUDIO_BITS_PER_S, "flags:a": "+bitexact"}
        options["af"] = ",".join(_cut_sound(source, window))
    job = ffmpeg.output(*streams, "OUT", **options)
    job = job.global_args("-copyts").global_args("-nostdin", "-hide_banner", "-v", "error", "-max_error_rate", "1")
    command: list[str] = job.compile(cmd=ffmpeg_binary(), overwrite_output=True)
    return [names.get(argument, argument) for argument in command]


@dataclass(frozen=True)
class _Window:
    """Which of a file's pictures and sounds are kept, in seconds from `zero_s` of its own clock, which becomes the
    beginning of what is made. None: no limit. Up to `skipped_s` of the file nothing is decoded."""

    zero_s: float
    start_s: float | None
    end_s: float | None
    skipped_s: float = 0.0


def _window(source: SourceFile, part: Part, *, with_sound: bool) -> _Window:
    """A file that is the clip is taken from its first picture, which may come later than the file's own beginning; with
    sound, the pictures keep their distance to it. A span is counted from the file's beginning, as players and the
    people who chose the spans count."""
    avi = source.container.demuxer == "avi"
    clock_s, first_s = (0.0, 0.0) if avi else (source.clock_s, source.first_s)
    if part.start_s is None:
        zero_s = clock_s if with_sound else first_s
        return _Window(zero_s, None, None if part.whole else first_s + part.duration_s - zero_s - ROUNDING_S)
    skipped_s = max(0.0, part.start_s - SEEK_MARGIN_S) if source.container.demuxer in SEEKABLE else 0.0
    return _Window(clock_s + part.start_s, -ROUNDING_S, part.duration_s - ROUNDING_S, skipped_s)


def _cut_pictures(source: SourceFile, window: _Window) -> list[str]:
    """The filters that keep the window's pictures.

    No filter counts from the first picture that it meets: where the size changes, all filters begin anew. The exception
    is AVI, whose times are those of decoding. Where later pictures are needed for it, its time lags by as many
    pictures, and only the decoder knows by how many.
    """
    avi = [f"setpts=PTS-STARTPTS-({window.zero_s:.6f})/TB"] if source.container.demuxer == "avi" else []
    return avi + _limits("trim", window)


def _cut_sound(source: SourceFile, window: _Window) -> list[str]:
    """The filters that keep the window's sound; of a whole file no more than lasts as long as its pictures."""
    if window.end_s is None:
        window = replace(window, end_s=source.first_s + source.duration_s - window.zero_s)
    return _limits("atrim", window)


def _limits(filter_name: str, window: _Window) -> list[str]:
    limits = {"start": window.start_s, "end": window.end_s}
    options = [f"{name}={at_s:.6f}" for name, at_s in limits.items() if at_s is not None]
    return [f"{filter_name}={':'.join(options)}"] if options else []


def encode(source: SourceFile, part: Part, profile: Profile, out: Path, *, limit_s: float) -> bool:
    """Run `encode_command`; returns whether ffmpeg complained about the source. Raises NothingMadeError where
    ffmpeg gave up, ClipError where it takes longer than `limit_s`, NoSpaceError where the disk is full."""
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
    raise NothingMadeError("undecodable", f"ffmpeg: {failure_reason(messages, done.returncode)}")
