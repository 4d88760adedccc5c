"""Writes footage for clips of the sample: clip files, whole videos and archives, like those of the releases.

`python -m k710.sample.footage FOLDER` writes the footage of every clip of the sample. A clip shows the motion of its
class (motions.py). The same clip, look and seed give the same frames on every machine, and with the same FFmpeg the
same bytes.
"""

from __future__ import annotations

import dataclasses
import functools
import gzip
import io
import itertools
import tarfile
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import av
import click
import numpy as np
import pyarrow as pa

from k710.errors import UsageError
from k710.lists.clip_names import ClipName
from k710.lists.labels import Alignment, class_names
from k710.sample.generate import CLASSES, Row, plain_rows, planted_rows
from k710.sample.motions import LOOKS, Frame, Look, motion_frames, still_frames
from k710.sources.known import PRECEDENCE, check_sources
from k710.storage.storage import replacing
from k710.text import counted

# The folder of a file, as in common datasets: by split, or by split and class.
LAYOUTS = {
    "flat": "",
    "split": "{split}",
    "class": "{split}/{label}",
    "class_underscores": "{split}/{label_}",
}
_FORMATS = {".mp4": "mp4", ".mkv": "matroska", ".webm": "webm", ".avi": "avi"}
# Noise makes x264 detect false cuts, and its macroblock tree encodes small pictures differently in every run.
_X264 = {"sc_threshold": "0", "mbtree": "0"}
_AUDIO_RATE = 44_100
_TAIL_S = 3  # the length of a whole video after its last span


@dataclass(frozen=True)
class Clip:
    """A clip to be generated. `label` is its class as spelled by a release, None in a test list; `split` may be empty.

    `shown` is the class whose motion the clip shows, if it is not `label`: if two lists label one clip differently, one
    of them is wrong.
    """

    youtube_id: str
    time_start_s: int
    time_end_s: int
    label: str | None
    split: str = ""
    shown: str | None = None

    @property
    def clip_id(self) -> str:
        return str(ClipName(self.youtube_id, (self.time_start_s, self.time_end_s)))

    @property
    def shown_label(self) -> str:
        return self.shown or self.label or CLASSES[sum(self.youtube_id.encode()) % len(CLASSES)]


def sample_clips(source: str | None = None) -> list[Clip]:
    """The sample's clips in clip_id order: those of one release, with its spelling and splits, or those of all
    releases.

    For all releases, a clip in several lists has the label and split of the newest release that labels it, as in the
    build. Its footage shows that class in every release. Raises UsageError for an unknown source.
    """
    sources = PRECEDENCE if source is None else check_sources((source,))
    spelling = {Alignment().align(name): name for name in class_names(source or "k710")}
    clips: dict[str, Clip] = {}
    for row in _rows():
        if row.source in sources:
            label = None if row.label is None else spelling[row.label]
            clip = Clip(row.youtube_id, row.start_s, row.end_s, label, row.split)
            clips.setdefault(clip.clip_id, dataclasses.replace(clip, shown=_shown_labels().get(clip.clip_id)))
    return [clips[clip_id] for clip_id in sorted(clips)]


def clips_of(table: pa.Table) -> list[Clip]:
    """The clips of a clips table or of a view (views.view) of the sample."""
    columns = ("youtube_id", "time_start_s", "time_end_s", "label", "split")
    clips = [Clip(**{**row, "split": row["split"] or ""}) for row in table.select(columns).to_pylist()]
    return [dataclasses.replace(clip, shown=_shown_labels().get(clip.clip_id)) for clip in clips]


@functools.cache
def _rows() -> tuple[Row, ...]:
    """The sample's rows; the row whose label counts comes first."""
    rows = (*plain_rows(), *planted_rows())
    return tuple(sorted(rows, key=lambda row: (row.label is None, PRECEDENCE.index(row.source), row.label or "")))


@functools.cache
def _shown_labels() -> dict[str, str]:
    """The K710 class that each labelled clip shows, by clip_id."""
    named = [(str(ClipName(row.youtube_id, (row.start_s, row.end_s))), row.label) for row in reversed(_rows())]
    return {clip_id: label for clip_id, label in named if label is not None}


def write_footage(
    folder: Path,
    clips: Iterable[Clip],
    *,
    layout: str = "flat",
    look: Look = LOOKS["quick"],
    whole_videos: Collection[str] = (),
    audio: bool = False,
    seed: int = 0,
    num_workers: int = 2,
) -> dict[Clip, Path]:
    """Write the footage of `clips` into `folder`, which is created, and return the file of each clip.

    A file is `{clip_id}.mp4`, or `{youtube_id}.mp4` for the IDs in `whole_videos`. Such a video shows the motion of
    each
    of its clips during their spans and no shape outside them, and it continues for some seconds. Layouts are the keys
    of
    LAYOUTS; a clip without split or label is one folder higher. A case-insensitive file system cannot hold all of the
    sample's names. Raises UsageError for an unknown layout or a class that the sample lacks.
    """
    if layout not in LAYOUTS:
        raise UsageError(f"unknown layout {layout!r}; known: {', '.join(LAYOUTS)}")
    files: dict[Path, list[Clip]] = {}
    paths = {}
    for clip in clips:
        name = clip.youtube_id if clip.youtube_id in whole_videos else clip.clip_id
        label = clip.label or ""
        parts = LAYOUTS[layout].format(split=clip.split, label=label, label_=label.replace(" ", "_"))
        path = folder.joinpath(*parts.split("/"), f"{name}.mp4")
        files.setdefault(path, []).append(clip)
        paths[clip] = path

    def encode(of_file: list[Clip]) -> bytes:
        whole = of_file[0].youtube_id in whole_videos
        frames, num_frames = _video(of_file, look, seed) if whole else _cut(of_file[0], look, seed)
        return encode_video(frames, look, audio_s=num_frames / look.fps if audio else None)

    folder.mkdir(parents=True, exist_ok=True)
    # x264 releases Python's lock, so threads are enough.
    with ThreadPoolExecutor(num_workers) as pool:
        for path, content in zip(files, pool.map(encode, files.values()), strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(path, content)
    return paths


def _cut(clip: Clip, look: Look, seed: int) -> tuple[Iterator[Frame], int]:
    """The frames of one clip, and their number."""
    num_frames = look.num_frames(clip.time_end_s - clip.time_start_s)
    start_s = clip.time_start_s
    return motion_frames(clip.shown_label, clip.youtube_id, num_frames, look, start_s=start_s, seed=seed), num_frames


def _video(clips: list[Clip], look: Look, seed: int) -> tuple[Iterator[Frame], int]:
    """The frames of a whole video with `clips`, and their number. Where two overlap, the first continues."""
    parts, position = [], 0
    for clip in sorted(clips, key=lambda clip: clip.time_start_s):
        begin = look.num_frames(clip.time_start_s)
        if begin > position:
            parts.append(still_frames(clip.youtube_id, begin - position, look, start_s=position // look.fps, seed=seed))
            position = begin
        frames, num_frames = _cut(clip, look, seed)
        parts.append(itertools.islice(frames, position - begin, None))
        position = max(position, begin + num_frames)
    tail = look.num_frames(_TAIL_S)
    parts.append(still_frames(clips[0].youtube_id, tail, look, start_s=position // look.fps, seed=seed))
    return itertools.chain.from_iterable(parts), position + tail


def write_video(path: Path, frames: Iterable[Frame], look: Look, **how: Any) -> None:
    """Write `encode_video(frames, look, ...)` to `path`, whole or not at all; the suffix decides the container."""
    _write(path, encode_video(frames, look, container=path.suffix, **how))


def encode_video(
    frames: Iterable[Frame],
    look: Look,
    *,
    container: str = ".mp4",
    codec: str = "libx264",
    options: Mapping[str, str] | None = None,
    audio_s: float | None = None,
) -> bytes:
    """A video file of `frames`, uint8 (height_px, width_px, 3) RGB, at the look's rate.

    `container` is .mp4, .mkv, .webm or .avi. `options` are options of the codec. libx264 also gets the preset and crf
    of
    the look; its other defaults are those of most files: key frames 250 frames apart, and B-frames. `audio_s` adds an
    AAC track of that length, which may differ from that of the pictures. Only one thread encodes, so that the bytes do
    not depend on the number of cores. Raises UsageError for another container or frames of another size.
    """
    if container not in _FORMATS:
        raise UsageError(f"unknown container {container!r}; known: {', '.join(_FORMATS)}")
    own = {"preset": look.preset, "crf": str(look.crf), **_X264} if codec == "libx264" else {}
    content = io.BytesIO()
    with av.open(content, "w", format=_FORMATS[container]) as file:
        video = file.add_stream(codec, rate=look.fps, options={**own, **(options or {})})
        assert isinstance(video, av.VideoStream)
        video.width, video.height = look.width_px, look.height_px
        video.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        video.codec_context.thread_count = 1
        if audio_s is not None:  # first, because all of the audio is small enough to be buffered
            sound = file.add_stream("aac", rate=_AUDIO_RATE, layout="mono")
            for tone in _tone(audio_s):
                file.mux(sound.encode(tone))
            file.mux(sound.encode(None))
        for number, frame in enumerate(frames):
            if frame.shape != (look.height_px, look.width_px, 3):
                raise UsageError(f"frame {number} is {frame.shape}, not ({look.height_px}, {look.width_px}, 3)")
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            picture.pts = number
            file.mux(video.encode(picture))
        file.mux(video.encode(None))
    return content.getvalue()


def _write(path: Path, content: bytes) -> None:
    with replacing(path) as file:
        file.write(content)


def _tone(duration_s: float) -> Iterator[av.AudioFrame]:
    """A quiet tone of 440 Hz, in pieces of one AAC frame."""
    num_samples = round(duration_s * _AUDIO_RATE)
    wave = 0.1 * np.sin(2 * np.pi * 440 / _AUDIO_RATE * np.arange(num_samples), dtype=np.float32)
    for begin in range(0, num_samples, 1024):
        frame = av.AudioFrame.from_ndarray(wave[None, begin : begin + 1024], format="fltp", layout="mono")
        frame.sample_rate, frame.pts = _AUDIO_RATE, begin
        yield frame


def write_archives(
    folder: Path,
    files: Sequence[Path],
    num_parts: int,
    *,
    base_url: str,
    list_name: str = "k400_train_path.txt",
    member_prefix: str = "",
    plain_parts: Collection[int] = (),
) -> list[Path]:
    """Pack `files` like the public archives: `part_0.tar.gz` … in `folder`, and `list_name` with one URL per line.

    Members have no folders, only `member_prefix` (`./` in some archives). The parts numbered in `plain_parts` are plain
    tars under the same name, as at least one published part was. The same files give the same bytes. Returns the parts.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"part_{number}.tar.gz" for number in range(num_parts)]
    for number, path in enumerate(paths):
        with replacing(path) as file:
            if number in plain_parts:
                _tar(file, files[number::num_parts], member_prefix)
                continue
            with gzip.GzipFile("", "wb", compresslevel=1, fileobj=file, mtime=0) as packed:
                _tar(packed, files[number::num_parts], member_prefix)
    _write(folder / list_name, "".join(f"{base_url.rstrip('/')}/{path.name}\n" for path in paths).encode())
    return paths


def _tar(file: gzip.GzipFile | IO[bytes], members: Sequence[Path], prefix: str) -> None:
    with tarfile.open(fileobj=file, mode="w") as archive:
        for path in members:
            member = tarfile.TarInfo(prefix + path.name)
            member.size, member.mode = path.stat().st_size, 0o644
            with path.open("rb") as content:
                archive.addfile(member, content)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--layout", type=click.Choice(list(LAYOUTS)), default="flat", show_default=True, help="Folders of files.")
@click.option("--look", type=click.Choice(list(LOOKS)), default="quick", show_default=True, help="Size, rate, quality.")
@click.option("--source", help="Only clips of this release, with its own names. Default: all releases.")
@click.option("--whole-videos", is_flag=True, help="Write whole videos instead of clips.")
@click.option("--audio", is_flag=True, help="Give every file an AAC track.")
@click.option("--seed", default=0, show_default=True, help="Seed of the footage.")
def main(folder: Path, layout: str, look: str, source: str | None, whole_videos: bool, audio: bool, seed: int) -> None:
    """Write the footage of the sample's clips into FOLDER."""
    begin_s = time.perf_counter()
    clips = sample_clips(source)
    whole = {clip.youtube_id for clip in clips} if whole_videos else ()
    paths = write_footage(folder, clips, layout=layout, look=LOOKS[look], whole_videos=whole, audio=audio, seed=seed)
    files = set(paths.values())
    size_mb = sum(path.stat().st_size for path in files) / 1e6
    took_s = time.perf_counter() - begin_s
    click.echo(
        f"{counted(len(paths), 'clip')} in {counted(len(files), 'file')} of {folder}: "
        f"{size_mb:.1f} MB in {took_s:.1f} s"
    )


if __name__ == "__main__":
    main()
