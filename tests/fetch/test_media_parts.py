"""Which pictures of a file become the clip: in every container, with long groups of pictures, late ones and sound."""

from __future__ import annotations

import functools
from pathlib import Path

import av
import numpy as np
import pytest

from k710.fetch.encode.jobs import Candidate, ClipJob, Made
from k710.fetch.encode.make_clip import make_clip
from k710.fetch.encode.profiles import read_profile
from tests.helpers.media_bytes import ffmpeg
from tests.helpers.tiny_media import LOOK, clip_file, numbers

SECONDS = 9
PROFILES = {name: read_profile(name) for name in ("h264", "frames", "source")}
X264 = "-c:v libx264 -preset veryfast -pix_fmt yuv420p -crf 12"
# Every container, each with a codec of its own time, with and without pictures that need later ones.
VIDEOS = {
    "mp4": f"{X264} -g 250 -bf 0 -f mp4",
    "mp4 b-frames": f"{X264} -g 250 -bf 3 -f mp4",
    "fragmented": f"{X264} -g 20 -bf 3 -movflags +frag_keyframe+empty_moov -f mp4",
    "mov": f"{X264} -g 250 -bf 3 -f mov",
    "mkv": f"{X264} -g 250 -bf 0 -f matroska",
    "mkv b-frames": f"{X264} -g 250 -bf 3 -f matroska",
    "mkv without an index": f"{X264} -g 25 -bf 3 -live 1 -f matroska",
    "webm": "-c:v libvpx -deadline realtime -cpu-used 8 -b:v 1M -g 250 -f webm",
    "flv": f"{X264} -g 250 -bf 0 -f flv",
    "flv b-frames": f"{X264} -g 250 -bf 3 -f flv",
    "ts": f"{X264} -g 250 -bf 0 -f mpegts",
    "ts b-frames": f"{X264} -g 25 -bf 3 -f mpegts",
    "avi": f"{X264} -g 250 -bf 0 -f avi",
    "avi b-frames": f"{X264} -g 250 -bf 3 -f avi",
    "avi mpeg4": "-c:v mpeg4 -q:v 2 -g 100 -bf 2 -f avi",
    "mpeg": "-c:v mpeg2video -q:v 2 -g 50 -bf 2 -f vob",
}
# AVI counts frames: sound that begins before zero would make its first picture stand for two.
SOUND = {"webm": "libopus", "mpeg": "mp2", "avi": "pcm_s16le", "avi b-frames": "pcm_s16le", "avi mpeg4": "pcm_s16le"}


def make(folder: Path, file: Path, span: tuple[int, int], profile: str = "h264", *, named_span: bool = False) -> Made:
    folder.mkdir(exist_ok=True)
    candidates = (Candidate(file, named_span),)
    # Another span of the same video keeps a short file from being taken for the clip.
    spans = (span, (1000, 1003))
    return make_clip(ClipJob("a-clip", span, spans, candidates, folder / "out", PROFILES[profile]))


def path_of(made: Made) -> Path:
    assert made.failure is None, made
    assert made.path is not None
    return Path(made.path)


@functools.cache
def numbered(fps: int) -> bytes:
    """A video whose frames carry their numbers, without loss."""
    import dataclasses
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        look = dataclasses.replace(LOOK, fps=fps)
        path = clip_file(Path(folder) / "v.mkv", seconds=SECONDS, look=look, options={"qp": "0"})
        return path.read_bytes()


def video(folder: Path, kind: str, *, sound: bool, late_s: float = 0.0, seconds: float = SECONDS) -> Path:
    """One of VIDEOS, whose pictures begin `late_s` after the file does."""
    fps = 25 if kind == "mpeg" else 10
    (folder / "numbered.mkv").write_bytes(numbered(fps))
    path = folder / "video"
    inputs = ["-itsoffset", late_s, "-i", folder / "numbered.mkv", "-f", "lavfi", "-i", "sine=sample_rate=44100"]
    streams = ["-map", "0:v", *(["-map", "1:a", "-c:a", SOUND.get(kind, "aac")] if sound else [])]
    limits = ["-t", seconds + late_s, "-frames:v", round(seconds * fps), "-fps_mode", "passthrough"]
    ffmpeg(*inputs, *streams, *limits, *VIDEOS[kind].split(), path)
    return path


# Fragments without an edit list begin later than their sound, by as many pictures as are held back.
@pytest.mark.parametrize(
    ("kind", "sound"),
    [(kind, sound) for kind in VIDEOS for sound in (False, True) if (kind, sound) != ("fragmented", True)],
)
@pytest.mark.slow
def test_a_span_is_its_frames_in_every_container(tmp_path, kind, sound):
    file = video(tmp_path, kind, sound=sound)
    fps = 25 if kind == "mpeg" else 10
    for start_s, end_s in ((0, 2), (6, 9)):
        made = make(tmp_path / f"{start_s}", file, (start_s, end_s))
        assert numbers(path_of(made)) == list(range(start_s * fps, end_s * fps)), (start_s, end_s)
        assert made.flags == ()


@pytest.mark.parametrize("late_s", [0.4, 1.0])
@pytest.mark.parametrize("kind", ["mp4", "mp4 b-frames", "mov", "mkv", "ts", "flv"])
@pytest.mark.slow
def test_pictures_that_begin_late_are_all_kept(tmp_path, kind, late_s):
    file = video(tmp_path, kind, sound=True, late_s=late_s, seconds=4)
    for profile in PROFILES:
        made = make(tmp_path / profile, file, (0, 4), profile, named_span=True)
        assert made.measured is not None, made
        assert (made.measured.num_frames, made.flags) == (40, ()), profile
    assert numbers(path_of(make(tmp_path / "h264", file, (0, 4), named_span=True))) == list(range(40))


def test_a_late_clip_that_is_too_long_loses_its_end_and_nothing_else(tmp_path):
    file = video(tmp_path, "mp4 b-frames", sound=True, late_s=0.7, seconds=5)
    made = make(tmp_path / "out", file, (0, 3), named_span=True)
    assert (numbers(path_of(made)), made.flags) == (list(range(30)), ("trimmed",))


def test_what_is_within_the_tolerance_is_kept_alike_by_every_profile(tmp_path):
    file = video(tmp_path, "mp4", sound=False, seconds=4.4)
    found = {profile: make(tmp_path / profile, file, (0, 4), profile, named_span=True) for profile in PROFILES}
    kept = {name: (made.measured.num_frames, made.flags) for name, made in found.items() if made.measured}
    assert kept == dict.fromkeys(PROFILES, (44, ()))


def test_with_sound_pictures_keep_their_distance_to_it(tmp_path):
    import dataclasses

    file = video(tmp_path, "mp4", sound=True, late_s=0.5, seconds=4)
    spoken = dataclasses.replace(PROFILES["h264"], audio=True)
    for start_s, named_span, first_s in ((0, True, 0.5), (2, False, 0.0)):
        span = (start_s, start_s + 4) if named_span else (start_s, start_s + 2)
        job = ClipJob("a-clip", span, (span, (90, 93)), (Candidate(file, named_span),), tmp_path / f"{start_s}", spoken)
        with av.open(str(path_of(make_clip(job)))) as made:
            assert len(made.streams.audio) == 1
            times_s = {"video": [], "audio": []}
            for frame in made.decode(video=0, audio=0):
                times_s["video" if isinstance(frame, av.VideoFrame) else "audio"].append(frame.time)
        assert min(times_s["video"]) == pytest.approx(first_s, abs=0.03)
        assert min(times_s["audio"]) == pytest.approx(0.0, abs=0.03)


def test_a_span_without_a_frame_says_so(tmp_path):
    """A screen recording may hold one picture for longer than a span."""
    (tmp_path / "numbered.mkv").write_bytes(numbered(10))
    file = tmp_path / "still.mkv"
    ffmpeg("-i", tmp_path / "numbered.mkv", "-vf", "select='not(between(t,3,6.95))'", "-fps_mode", "vfr",
           *X264.split(), "-f", "matroska", file)  # fmt: skip
    made = make(tmp_path / "out", file, (4, 6))
    assert (made.failure, made.message) == ("short", "no frame begins between 4 and 6 s")


def test_the_clock_of_a_file_may_begin_anywhere(tmp_path):
    file = video(tmp_path, "ts b-frames", sound=True)
    late = tmp_path / "late.ts"
    ffmpeg("-i", file, "-c", "copy", "-output_ts_offset", 5000, "-f", "mpegts", late)
    assert numbers(path_of(make(tmp_path / "out", late, (3, 5)))) == list(range(30, 50))


def test_frames_stored_of_a_late_clip_are_those_of_its_row(tmp_path):
    import io

    from PIL import Image

    from k710.sample.numbered import read_number

    file = video(tmp_path, "mp4 b-frames", sound=True, late_s=1.0, seconds=3)
    made = make(tmp_path / "out", file, (0, 3), "frames", named_span=True)
    media = path_of(made).read_bytes()
    ends = [*made.frame_offsets[1:], len(media)]
    pictures = [Image.open(io.BytesIO(media[at:end])) for at, end in zip(made.frame_offsets, ends, strict=True)]
    assert [read_number(np.asarray(picture)) for picture in pictures] == list(made.frame_indices) == list(range(30))
