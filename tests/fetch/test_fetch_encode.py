"""One clip: which part of a file it is, cut to the frame, encoded by a profile, checked before it counts."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from k710.errors import RecipeError, UsageError
from k710.fetch.encode.check import measure
from k710.fetch.encode.codecs import target_size
from k710.fetch.encode.encode import encode
from k710.fetch.encode.jobs import Candidate, ClipJob, Made
from k710.fetch.encode.make_clip import make_clip
from k710.fetch.encode.profiles import Profile, read_profile
from k710.fetch.encode.source_file import TOLERANCE_S, TRIMMED_S, Part, SourceFile, container_of, part_of, probe
from k710.fetch.wanted import to_do
from k710.loading.decoders.decode import decode
from k710.loading.decoders.jpegs import decode_jpegs
from k710.sample.motions import Look
from k710.sample.numbered import numbered_frames, read_number
from k710.store.containers import Container
from k710.store.failures import FAILURES, ClipError, check_failures
from tests.helpers.media_bytes import ffmpeg
from tests.helpers.tiny_media import LOOK, build, clip_bytes, clip_file, fetched, numbers, settled

H264, SOURCE = read_profile("h264"), read_profile("source")
MP4 = Container("mov", "mp4")


def make(
    tmp_path: Path,
    *files: Path,
    span: tuple[int, int] = (0, 2),
    spans: tuple[tuple[int, int], ...] | None = None,
    profile: Profile = H264,
    named_span: bool = True,
) -> Made:
    candidates = tuple(Candidate(file, named_span) for file in files)
    return make_clip(ClipJob("a-clip", span, spans or (span,), candidates, tmp_path / "out", profile))


def made_file(made: Made) -> Path:
    assert made.failure is None, made
    assert made.path is not None
    return Path(made.path)


# Cut to the frame.


def timed_video(path: Path, ticks: list[int], tick_s: Fraction, look: Look = LOOK, **options: str) -> Path:
    """Numbered frames that are shown at `ticks`; the last one stays a tick of its own choosing."""
    own = {"preset": "ultrafast", "g": "250", "keyint_min": "250", "sc_threshold": "0", **options}
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=Fraction(1) / tick_s, options=own)
        stream.width, stream.height, stream.pix_fmt = look.width_px, look.height_px, "yuv420p"
        stream.time_base = stream.codec_context.time_base = tick_s
        for frame, tick in zip(numbered_frames(len(ticks), look), ticks, strict=True):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            picture.pts, picture.time_base = tick, tick_s
            file.mux(stream.encode(picture))
        file.mux(stream.encode(None))
    return path


def shown(path: Path) -> list[tuple[float, int]]:
    """When each frame is shown, and its number."""
    with av.open(str(path)) as file:
        frames = list(file.decode(video=0))
    return [(frame.time, read_number(frame.to_ndarray(format="rgb24"))) for frame in frames]


B_FRAMES = {"preset": "veryfast", "bf": "3", "b_strategy": "0"}


@pytest.mark.parametrize("span", [(0, 3), (2, 5), (7, 10), (9, 12)])
def test_a_span_of_a_video_is_its_frames_and_no_others(tmp_path, span):
    options = {"options": {"g": "250", "bf": "3", "preset": "veryfast"}}
    video = clip_file(tmp_path / "v.mp4", seconds=12, **options)
    with av.open(str(video)) as file:
        packets = [packet for packet in file.demux(video=0) if packet.size]
    assert sum(packet.is_keyframe for packet in packets) == 1  # nothing to land on near the cut
    assert any(late.pts < early.pts for early, late in itertools.pairwise(packets))  # B-frames
    made = make(tmp_path, video, span=span, named_span=False)
    assert numbers(made_file(made)) == list(range(span[0] * LOOK.fps, span[1] * LOOK.fps))
    assert made.measured is not None
    length_s = span[1] - span[0]
    assert (made.measured.num_frames, made.measured.duration_s) == (length_s * LOOK.fps, length_s)


@pytest.mark.parametrize(
    "tick_s", [Fraction(1001, 30_000), Fraction(1001, 24_000), Fraction(1, 50), Fraction(1001, 60_000)], ids=str
)
@pytest.mark.slow
def test_a_span_at_the_rates_of_television(tmp_path, tick_s):
    count = round(8 / tick_s)
    video = timed_video(tmp_path / "v.mp4", list(range(count)), tick_s, **B_FRAMES)
    for start_s, end_s in ((0, 2), (3, 5), (5, 8)):
        found = shown(made_file(make(tmp_path, video, span=(start_s, end_s), named_span=False)))
        inside = [number for number in range(count) if start_s <= number * tick_s < end_s]
        assert [number for _, number in found] == inside
        # The first is shown at once, though it may come a part of a frame after the cut.
        assert [time_s for time_s, _ in found] == pytest.approx([float(n * tick_s) for n in range(len(found))])


def test_a_variable_rate_keeps_every_frame_and_its_time(tmp_path):
    ticks = list(itertools.accumulate([1, 1, 7, 2, 1, 30, 3, 1, 1, 25, 5, 2] * 12, initial=0))
    tick_s = Fraction(1, 90)
    video = timed_video(tmp_path / "v.mkv", ticks, tick_s)
    assert ticks[-1] * tick_s > 9.5
    span = (4, 9)
    found = shown(made_file(make(tmp_path, video, span=span, spans=(span, (0, 3)), named_span=False)))
    inside = [number for number, tick in enumerate(ticks) if span[0] <= tick * tick_s < span[1]]
    assert [number for _, number in found] == inside
    for time_s, number in found[1:]:
        assert time_s == pytest.approx(float(ticks[number] * tick_s) - span[0], abs=0.002)


def test_a_still_that_reaches_into_the_span_is_not_missing(tmp_path):
    """Screen recordings hold one picture for seconds; a cut in the middle of it begins with the next one."""
    ticks = [*range(0, 60, 2), 70, *range(110, 150, 2)]  # tenths of a second: the picture at 7 s stands for 4 s
    video = timed_video(tmp_path / "v.mp4", ticks, Fraction(1, 10))
    made = make(tmp_path, video, span=(8, 13), spans=((8, 13), (1, 2)), named_span=False)
    assert [number for _, number in shown(made_file(made))] == list(range(31, 41))
    assert made.flags == ("short",)


@pytest.mark.parametrize("container", [".mp4", ".mkv", ".avi"])
def test_a_cut_in_any_container(tmp_path, container):
    codec = "mpeg4" if container == ".avi" else "libx264"
    video = clip_file(tmp_path / f"v{container}", seconds=6, codec=codec)
    assert numbers(made_file(make(tmp_path, video, span=(3, 5), named_span=False))) == list(range(30, 50))


def test_a_whole_clip_keeps_its_frames(tmp_path):
    clip = clip_file(tmp_path / "clip.mp4", options={"bf": "3", "preset": "veryfast"})
    assert numbers(made_file(make(tmp_path, clip))) == list(range(20))


def test_a_clip_that_was_cut_too_long_loses_its_end(tmp_path):
    made = make(tmp_path, clip_file(tmp_path / "clip.mp4", seconds=5))
    assert numbers(made_file(made)) == list(range(20))
    assert made.flags == ("trimmed",)


# Encoded by a profile.


def streams_of(path: Path) -> dict[str, Any]:
    with av.open(str(path)) as file:
        (video,) = file.streams.video
        packets = [packet for packet in file.demux(video) if packet.size]
        keys = [number for number, packet in enumerate(packets) if packet.is_keyframe]
        return {
            "size": (video.codec_context.width, video.codec_context.height),
            "codec": video.codec_context.name,
            "pix_fmt": video.codec_context.pix_fmt,
            "longest_gop": max(later - key for key, later in zip(keys, [*keys[1:], len(packets)], strict=True)),
            "in_order": all(early.pts < late.pts for early, late in itertools.pairwise(packets)),
            "audio": [stream.codec_context.name for stream in file.streams.audio],
        }


@pytest.mark.parametrize(
    ("size", "short_side_px", "expected"),
    [
        ((160, 120), 96, (128, 96)),
        ((120, 160), 96, (96, 128)),
        ((160, 120), 320, (160, 120)),  # never scaled up
        ((160, 120), 0, (160, 120)),
        ((130, 96), 64, (86, 64)),  # 86.67 is no size; 4:2:0 needs even ones
        ((426, 240), 100, (178, 100)),
    ],
)
def test_the_short_side_and_even_sizes(tmp_path, size, short_side_px, expected):
    look = replace(LOOK, width_px=size[0], height_px=size[1])
    clip = clip_file(tmp_path / "clip.mp4", look=look)
    made = make(tmp_path, clip, profile=replace(H264, short_side_px=short_side_px))
    assert streams_of(made_file(made))["size"] == expected
    assert made.measured is not None
    assert (made.measured.width, made.measured.height) == expected
    assert numbers(made_file(made)) == list(range(20))


@pytest.mark.parametrize(
    ("size", "short_side_px", "expected"),
    [((341, 257), 0, (340, 256)), ((321, 241), 320, (320, 240)), ((1, 1), 320, (2, 2)), ((2000, 3), 2, (1334, 2))],
)
def test_target_sizes_are_even(size, short_side_px, expected):
    source = SourceFile(Path("x.mp4"), MP4, 0, "h264", *size, 10.0, False, 1)
    width_px, height_px = target_size(source, short_side_px)
    assert (width_px % 2, height_px % 2) == (0, 0)
    assert abs(width_px - expected[0]) <= 2
    assert height_px == expected[1]


def test_the_default_profile_is_what_it_says(tmp_path):
    look = replace(LOOK, width_px=160, height_px=120)
    clip = clip_file(tmp_path / "clip.mp4", seconds=6, look=look, audio_s=6.0)
    found = streams_of(made_file(make(tmp_path, clip, span=(0, 6))))
    assert found == {
        "size": (160, 120),
        "codec": "h264",
        "pix_fmt": "yuv420p",
        "longest_gop": 16,
        "in_order": True,
        "audio": [],
    }


def test_other_settings_are_obeyed(tmp_path):
    clip = clip_file(tmp_path / "clip.mp4", seconds=6)
    other = replace(H264, gop_frames=5, b_frames=2, tune="none", preset="medium", crf=40)
    found = made_file(make(tmp_path, clip, span=(0, 6), profile=other))
    assert (streams_of(found)["longest_gop"], streams_of(found)["in_order"]) == (5, False)


def test_quality_costs_bytes(tmp_path):
    clip = clip_file(tmp_path / "clip.mp4")
    sizes = [made_file(make(tmp_path, clip, profile=replace(H264, crf=crf))).stat().st_size for crf in (10, 45)]
    assert sizes[0] > 1.5 * sizes[1]


def test_sound_only_where_it_is_asked_for(tmp_path):
    video = clip_file(tmp_path / "v.mp4", seconds=6, audio_s=9.0)  # whose sound outlives its picture
    spoken = replace(H264, audio=True)
    made = make(tmp_path, video, span=(2, 4), profile=spoken, named_span=False)
    assert streams_of(made_file(made))["audio"] == ["aac"]
    assert numbers(made_file(made)) == list(range(20, 40))
    with av.open(made.path) as file:
        samples = sum(frame.samples for frame in file.decode(audio=0))
    assert samples / 44_100 == pytest.approx(2, abs=0.1)
    silent = make(tmp_path, clip_file(tmp_path / "silent.mp4"), profile=spoken)
    assert streams_of(made_file(silent))["audio"] == []


def test_the_same_input_gives_the_same_bytes(tmp_path):
    video = clip_file(tmp_path / "v.mp4", seconds=6, audio_s=6.0)
    for profile in (H264, replace(H264, audio=True), SOURCE):
        made = [
            made_file(make(tmp_path, video, span=(1, 4), profile=profile, named_span=False)).read_bytes()
            for _ in range(2)
        ]
        assert made[0] == made[1]


# The profile `source`.


@pytest.mark.parametrize(("container", "codec"), [(".mp4", "libx264"), (".mkv", "libx264"), (".avi", "mpeg4")])
def test_source_keeps_the_bytes_of_a_file_that_is_the_clip(tmp_path, container, codec):
    clip = clip_file(tmp_path / f"clip{container}", codec=codec, audio_s=None if container == ".avi" else 2.0)
    made = make(tmp_path, clip, profile=SOURCE)
    assert made_file(made).read_bytes() == clip.read_bytes()
    assert f".{made.suffix}" == container
    assert made.measured is not None
    assert made.measured.num_frames == 20


def test_source_keeps_bytes_by_what_they_are_and_not_by_their_name(tmp_path):
    content = clip_file(tmp_path / "clip.mkv").read_bytes()
    liar = tmp_path / "liar.mp4"
    liar.write_bytes(content)
    made = make(tmp_path, liar, profile=SOURCE)
    assert (made_file(made).read_bytes(), made.suffix) == (content, "mkv")


def test_source_cuts_what_is_not_the_clip(tmp_path):
    look = replace(LOOK, width_px=400, height_px=340)
    video = clip_file(tmp_path / "v.mp4", seconds=6, look=look)
    made = make(tmp_path, video, span=(2, 4), profile=SOURCE, named_span=False)
    assert numbers(made_file(made)) == list(range(20, 40))
    assert streams_of(made_file(made))["size"] == (400, 340)  # not scaled
    long = make(tmp_path, clip_file(tmp_path / "clip.mp4", seconds=4), profile=SOURCE)
    assert numbers(made_file(long)) == list(range(20))
    assert long.flags == ("trimmed",)


# Which part of a file is the clip.


def a_file(lasts_s: float) -> SourceFile:
    return SourceFile(Path("x.mp4"), MP4, 0, "h264", 340, 256, lasts_s, False, 1)


SPAN = (20, 30)


@pytest.mark.parametrize(
    ("lasts_s", "expected"),
    [
        (10.0, Part(None, 10, whole=True)),
        (9.6, Part(None, 9.6, whole=True)),
        (10.5, Part(None, 10, whole=True)),
        (7.0, Part(None, 7.0, whole=True)),
        (10.6, Part(None, 10, whole=False, flags=("trimmed",))),
        (13.0, Part(None, 10, whole=False, flags=("trimmed",))),
        (15.0, Part(None, 10, whole=False, flags=("trimmed",))),
        (15.1, "mismatch"),
        (30.0, "mismatch"),
        (300.0, "mismatch"),
    ],
)
def test_a_file_named_by_the_span(lasts_s, expected):
    for spans in ((SPAN,), (SPAN, (40, 50))):  # what else is wanted of the video says nothing of this file
        assert outcome(lasts_s, named_span=True, spans=spans) == expected


@pytest.mark.parametrize(
    ("lasts_s", "spans", "expected"),
    [
        (10.0, (SPAN,), Part(None, 10, whole=True)),
        (10.4, (SPAN,), Part(None, 10, whole=True)),
        (9.6, (SPAN,), Part(None, 9.6, whole=True)),
        (7.0, (SPAN,), Part(None, 7.0, whole=True)),  # a clip whose video ended early
        (10.0, (SPAN, (40, 50)), "ambiguous"),
        (7.2, (SPAN, (40, 47)), "ambiguous"),  # it is as long as the other one
        (7.0, (SPAN, (40, 50)), "mismatch"),
        (29.4, (SPAN,), "mismatch"),  # 0.6 s short of the whole
        (29.5, (SPAN,), Part(20, 10, whole=False)),
        (30.0, (SPAN,), Part(20, 10, whole=False)),
        (300.0, (SPAN,), Part(20, 10, whole=False)),
        (300.0, (SPAN, (40, 50)), Part(20, 10, whole=False)),
        (35.0, (SPAN, (40, 50)), Part(20, 10, whole=False)),  # ends inside the other one, which is none of its affair
        (10.9, (SPAN,), Part(None, 10, whole=False, flags=("trimmed",))),  # cut at key frames, as much of Kinetics-400
        (11.1, (SPAN,), Part(None, 10, whole=False, flags=("trimmed",))),
        (15.0, (SPAN,), Part(None, 10, whole=False, flags=("trimmed",))),
        (15.1, (SPAN,), "mismatch"),
        (10.9, (SPAN, (40, 50)), "mismatch"),
        (300.0, (SPAN, (0, 300)), "ambiguous"),
    ],
)
def test_a_file_named_by_the_video(lasts_s, spans, expected):
    assert outcome(lasts_s, named_span=False, spans=spans) == expected


def outcome(lasts_s: float, span: tuple[int, int] = SPAN, *, named_span: bool, spans: Any) -> Part | str:
    try:
        return part_of(a_file(lasts_s), span, named_span=named_span, spans=spans)
    except ClipError as error:
        return error.failure


a_span = st.tuples(st.integers(0, 600), st.integers(1, 12)).map(lambda pair: (pair[0], pair[0] + pair[1]))


@settings(max_examples=300)
@given(
    lasts_s=st.floats(0.0, 1000.0) | st.integers(0, 640).map(float),
    span=a_span,
    others=st.lists(a_span, max_size=3),
    named_span=st.booleans(),
)
def test_a_part_lies_within_its_file_and_is_never_guessed(lasts_s, span, others, named_span):
    spans = tuple({span: None, **dict.fromkeys(others)})
    part = outcome(lasts_s, span, named_span=named_span, spans=spans)
    length_s = span[1] - span[0]
    if isinstance(part, str):
        assert part in ("mismatch", "ambiguous")
        assert not (part == "ambiguous" and (named_span or len(spans) == 1))
        # A file that lasts as long as its span is never turned away for its length.
        assert part != "mismatch" or abs(lasts_s - length_s) > TOLERANCE_S
        return
    assert part.duration_s <= length_s
    assert (part.start_s or 0) + part.duration_s <= lasts_s + TOLERANCE_S + 1e-9
    assert part.start_s is None or (part.start_s == span[0] and not named_span and not part.whole)
    if part.whole:
        assert lasts_s <= length_s + TOLERANCE_S  # a file that is kept as it is holds nothing but the clip
    if part.start_s is None and not part.whole:
        assert part.flags == ("trimmed",)
        assert named_span or lasts_s < span[1] - TOLERANCE_S
        assert TOLERANCE_S < lasts_s - length_s <= TRIMMED_S
    if not named_span and len(spans) > 1:
        assert part.start_s is not None  # only a cut at the span's own place is sure


# The clip, from the files that may hold it.


def test_less_than_the_span_is_kept_and_flagged(tmp_path):
    made = make(tmp_path, clip_file(tmp_path / "clip.mp4", seconds=3), span=(0, 5))
    assert (made.failure, made.flags, len(numbers(made_file(made)))) == (None, ("short",), 30)
    nearly = make(tmp_path, clip_file(tmp_path / "nearly.mp4", seconds=4.6), span=(0, 5))
    assert (nearly.failure, nearly.flags) == (None, ())


def test_a_still_or_black_picture_is_kept_and_flagged(tmp_path):
    from k710.sample.footage import write_video

    for level, flag in ((200, "frozen"), (0, "black")):
        path = tmp_path / f"{flag}.mp4"
        write_video(path, [np.full((48, 64, 3), level, np.uint8)] * 20, LOOK)
        assert make(tmp_path, path).flags == (flag,)


@pytest.mark.parametrize(
    ("spoil", "failure"),
    [
        (lambda data: b"", "not_video"),
        (lambda data: b"<!DOCTYPE html>" * 40, "not_video"),
        (lambda data: b"#EXTM3U\n/etc/passwd\n" * 40, "not_video"),
        (lambda data: data[: len(data) // 3], "undecodable"),  # the index stands at the end
        (lambda data: data[:40] + bytes(len(data) - 40), "undecodable"),
    ],
)
@pytest.mark.parametrize("profile", [H264, SOURCE], ids=lambda profile: profile.name)
def test_what_is_no_clip(tmp_path, spoil, failure, profile):
    path = tmp_path / "clip.mp4"
    path.write_bytes(spoil(clip_bytes()))
    made = make(tmp_path, path, profile=profile)
    assert made.failure == failure
    assert made.message
    assert made.path is None


# What an edit list hides, and what a title says, is no part of the clip.


def cut_without_encoding(path: Path, *, start_s: float, gop_frames: int) -> Path:
    """A cut by copying packets: those back to the key frame are in it, and an edit list hides them."""
    whole = clip_file(path.with_name("whole.mp4"), seconds=60, options={"g": str(gop_frames), "bf": "2"})
    ffmpeg("-ss", start_s, "-i", whole, "-t", 3, "-c", "copy", path)
    return path


@pytest.mark.parametrize("hidden", [15, 250])
def test_hidden_packets_do_not_count(tmp_path, hidden):
    """However many they are: 250 are more than are tried until a picture decodes, and more than a clip may have."""
    clip = cut_without_encoding(tmp_path / "clip.mp4", start_s=hidden / LOOK.fps, gop_frames=600)
    with av.open(str(clip)) as file:
        assert sum(packet.is_discard for packet in file.demux(video=0)) >= hidden
    assert probe(clip).duration_s == pytest.approx(3, abs=0.5)
    left = numbers(clip)
    assert left[0] == hidden
    for profile in (SOURCE, H264):
        made = make(tmp_path, clip, span=(0, 3), profile=profile)
        assert made.measured is not None, made
        assert (made.failure, made.flags) == (None, ())
        shown = decode(made_file(made).read_bytes(), lambda n: np.arange(n))
        assert made.measured.num_frames == len(shown)
        assert [read_number(frame) for frame in shown] == left[: len(shown)]
        assert len(shown) >= (len(left) if profile is SOURCE else 3 * LOOK.fps)


TITLE = "Überraschung: café".encode("latin-1")


@pytest.mark.parametrize("container", [".mp4", ".mkv", ".avi", ".flv"])
def test_a_title_that_is_not_utf_8_refuses_no_clip(tmp_path, container):
    """Of the file and of a stream; it says nothing of the picture."""
    marked = b"A" * len(TITLE)
    clip, out = clip_file(tmp_path / "clip.mp4"), tmp_path / f"titled{container}"
    said = [f"{key}={marked.decode()}" for key in ("title", "artist", "service_name", "handler_name")]
    per_file = [part for text in said[:3] for part in ("-metadata", text)]
    per_stream = [part for text in (said[0], said[3]) for part in ("-metadata:s:v:0", text)]
    ffmpeg("-i", clip, "-c", "copy", *per_file, *per_stream, out)
    assert marked in out.read_bytes()
    out.write_bytes(out.read_bytes().replace(marked, TITLE))
    with pytest.raises(UnicodeDecodeError):
        av.open(str(out))
    for profile in (SOURCE, H264):
        made = make(tmp_path, out, profile=profile)
        assert len(decode(made_file(made).read_bytes(), lambda n: np.arange(n))) == 20


# A clip has one shape, whoever reads it.


@pytest.mark.parametrize(
    ("picture", "display"),
    [
        ("setsar=64/51", ""),
        ("setsar=8/9", "-display_rotation 90"),
        ("null", "-display_hflip"),
        ("null", "-display_vflip"),
        ("null", "-display_rotation 90 -display_hflip"),
        ("null", "-display_rotation 270"),
        ("setsar=2/1", "-display_rotation 180 -display_hflip"),
        ("null", "-display_rotation 30"),
    ],
)
@pytest.mark.slow
def test_a_clip_has_one_shape_in_all_profiles(tmp_path, picture, display):
    clip, wide = tmp_path / "clip.mp4", tmp_path / "wide.mp4"
    source = ("-f", "lavfi", "-t", 2, "-i", "testsrc2=size=160x120:rate=10")
    ffmpeg(*source, "-vf", picture, "-c:v", "libx264", "-pix_fmt", "yuv420p", "-crf", 10, wide)
    ffmpeg(*display.split(), "-i", wide, "-c", "copy", clip)
    shown = {}
    for profile in (SOURCE, H264, read_profile("frames")):
        made = make(tmp_path, clip, profile=replace(profile, crf=10))
        assert made.measured is not None, made
        content = made_file(made).read_bytes()
        if profile.codec == "frames":
            assert made.frame_offsets is not None
            jpegs = [content[begin:] for begin in made.frame_offsets]
            pixels = decode_jpegs(jpegs[:1])
        else:
            pixels = decode(content, lambda n: np.array([0]))
        assert (made.measured.height, made.measured.width) == pixels.shape[1:3]
        shown[profile.name] = pixels[0].astype(int)
    for name in ("h264", "frames"):
        assert shown[name].shape == shown["source"].shape
        assert np.abs(shown[name] - shown["source"]).mean() < 8


def test_an_avi_of_empty_chunks_is_whole(tmp_path):
    """Where a rate is none of AVI's, and in recordings, chunks without a byte say that the picture before stays."""
    clip, copy = clip_file(tmp_path / "clip.mp4"), tmp_path / "copy.avi"
    ffmpeg("-i", clip, "-c", "copy", copy)
    with av.open(str(copy)) as file:
        assert file.streams.video[0].frames > 100  # of which 20 are pictures
    for profile in (SOURCE, H264):
        made = make(tmp_path, copy, profile=profile)
        assert made.measured is not None, made
        assert made.measured.num_frames == len(decode(made_file(made).read_bytes(), lambda n: np.arange(n)))
        if profile is SOURCE:
            assert made.measured.num_frames == 20


def index_first(video: Path, out: Path) -> Path:
    """The same video with its index before its frames, so that the front of it can be read."""
    with av.open(str(video)) as source, av.open(str(out), "w", options={"movflags": "faststart"}) as sink:
        stream = sink.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                sink.mux(packet)
    return out


@pytest.mark.parametrize("profile", [H264, SOURCE], ids=lambda profile: profile.name)
def test_a_file_that_breaks_off_is_corrupt(tmp_path, profile):
    video = index_first(clip_file(tmp_path / "v.mp4", seconds=8), tmp_path / "front.mp4")
    whole = make(tmp_path, video, span=(0, 8), profile=profile)
    assert len(numbers(made_file(whole))) == 80
    video.write_bytes(video.read_bytes()[: video.stat().st_size * 6 // 10])
    assert make(tmp_path, video, span=(0, 8), profile=profile).failure == "corrupt"


def test_a_decoder_that_takes_too_long_is_a_failure_of_the_clip(tmp_path):
    source = probe(clip_file(tmp_path / "v.mp4", seconds=4))
    with pytest.raises(ClipError, match="ffmpeg was not done after 0 s") as error:
        encode(source, Part(None, 4, whole=True), H264, tmp_path / "out.mp4", limit_s=0.001)
    assert error.value.failure == "undecodable"


def test_too_little_to_be_a_clip(tmp_path):
    assert make(tmp_path, clip_file(tmp_path / "a.mp4", seconds=0.9)).failure == "short"
    few = timed_video(tmp_path / "b.mp4", list(range(7)), Fraction(1, 3))
    assert make(tmp_path, few).failure == "short"


def test_the_first_file_that_holds_the_clip_is_taken(tmp_path):
    torn = tmp_path / "torn.mp4"
    torn.write_bytes(b"\0\0\0\x18ftypisom" + bytes(4000))
    small = clip_file(tmp_path / "small.mp4")
    large = clip_file(tmp_path / "large.mp4", look=replace(LOOK, width_px=160, height_px=120))
    assert make(tmp_path, torn, small).source == 1
    assert make(tmp_path, small, large).source == 1  # the larger picture
    assert make(tmp_path, large, small).source == 0
    assert make(tmp_path, torn, small, large).source == 2
    failed = make(tmp_path, torn, torn)
    assert failed.failure == "undecodable"


def test_the_name_of_the_span_counts_more_than_the_size(tmp_path):
    video = clip_file(tmp_path / "v.mp4", seconds=6, look=replace(LOOK, width_px=160, height_px=120))
    clip = clip_file(tmp_path / "clip.mp4", first=1000)
    candidates = (Candidate(video, named_span=False), Candidate(clip, named_span=True))
    made = make_clip(ClipJob("a-clip", (1, 3), ((1, 3),), candidates, tmp_path / "out", H264))
    assert (made.source, numbers(made_file(made))[0]) == (1, 1000)


def test_a_file_that_is_not_there_is_a_failure_of_the_clip(tmp_path):
    made = make(tmp_path, tmp_path / "gone.mp4")
    assert made.failure == "unreadable"
    assert "No such file" in str(made.message)


def test_nothing_is_left_of_what_failed(tmp_path):
    mismatch = clip_file(tmp_path / "in" / "clip.mp4", seconds=12)
    (tmp_path / "scratch").mkdir()
    assert make(tmp_path / "scratch", mismatch, span=(0, 3)).failure == "mismatch"
    assert list((tmp_path / "scratch").iterdir()) == []


def test_measure_counts_what_is_there(tmp_path):
    clip = clip_file(tmp_path / "clip.mp4", seconds=3)
    for decode_all in (True, False):
        found = measure(clip, container_of(clip), decode_all=decode_all)
        assert (found.width, found.height, found.fps, found.num_frames, found.duration_s) == (64, 48, 10, 30, 3)
        assert (found.codec, found.flags) == ("h264", ())


def test_probe_says_what_is_seen_on_the_screen(tmp_path):
    source = probe(clip_file(tmp_path / "v.mkv", seconds=4))
    assert (source.width_px, source.height_px, source.duration_s) == (64, 48, pytest.approx(4, abs=0.01))
    assert source.container.suffix == "mkv"


# Profiles.


def test_a_profile_of_ones_own(k710, tmp_path):
    rows = {("k400", "train"): [("abcdefghij0", 0, 2)], ("k400", "val"): [("abcdefghij1", 0, 2)]}
    manifest = build(k710, tmp_path, rows)
    clip_file(tmp_path / "clips" / "abcdefghij0_000000_000002.mp4", look=replace(LOOK, width_px=160, height_px=120))
    own = tmp_path / "my-own_1.yaml"
    own.write_text("short_side_px: 32\ngop_frames: 4\ncrf: 30\n")
    result = k710("fetch", manifest, "--from", f"local:{tmp_path / 'clips'}", "--profile", own, "--workers", 1)
    assert result.exit_code == 0, result.output
    assert "profile my-own_1" in result.output
    (content,) = fetched(manifest / "store", "my-own_1").values()
    (tmp_path / "out.mp4").write_bytes(content)
    found = streams_of(tmp_path / "out.mp4")
    assert (found["size"], found["longest_gop"]) == ((42, 32), 4)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("bad.yaml", "crff: 20\n", "unknown key 'crff'; did you mean 'crf'?"),
        ("bad.yaml", "crf: '20'\n", "crf must be int, not '20'"),
        ("bad.yaml", "crf: 99\n", "crf must lie between 0 and 51, not 99"),
        ("bad.yaml", "crf: -1\n", "crf must lie between 0 and 51, not -1"),
        ("bad.yaml", "codec: vp9\n", "codec must be one of h264, source, frames, not 'vp9'"),
        ("bad.yaml", "preset: placebo\n", "preset must be one of ultrafast"),
        ("bad.yaml", "gop_frames: 0\n", "gop_frames must lie between 1 and 1000, not 0"),
        ("bad.yaml", "short_side_px: 3\n", "short_side_px must be 0 or between 16 and 4320, not 3"),
        ("bad.yaml", "audio: true\n", "name and audio are no keys of a profile"),
        ("bad.yaml", "name: h264\n", "name and audio are no keys of a profile"),
        ("bad.yaml", "crf: true\n", "crf must be int, not True"),
        ("bad.yaml", "short_side_px: true\n", "short_side_px must be int, not True"),
        ("bad.yaml", "crf: 23.5\n", "crf must be int, not 23.5"),
        ("bad.yaml", "crf: [\n", "not YAML"),
        ("bad.yaml", "- crf\n", "a recipe maps keys to values"),
        ("Größe.yaml", "crf: 20\n", "a profile is named by its file"),
        ("two words.yaml", "crf: 20\n", "a profile is named by its file"),
        ("-h264.yaml", "crf: 20\n", "a profile is named by its file"),
        ("x" * 60 + ".yaml", "crf: 20\n", "a profile is named by its file"),
    ],
)
def test_a_bad_profile_says_what_is_wrong_with_it(k710, sample, tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    options = ("--profile", tmp_path / name, "--store", tmp_path / "store")
    result = k710("fetch", sample.path, "--from", f"local:{tmp_path}", *options)
    assert (result.exit_code, result.stdout) == (1, "")
    assert message in result.stderr
    assert name in result.stderr
    assert not (tmp_path / "store").exists()


def test_an_unknown_profile(k710, sample):
    result = k710("fetch", sample.path, "--profile", "h265")
    assert result.exit_code == 1
    assert (
        "no recipe 'h265'; known: frames, frames-128, frames-parts, h264, h264-gop8, source, or the path of a YAML file"
        in result.stderr
    )
    with pytest.raises(RecipeError):
        read_profile("h265")


def test_sound_makes_a_profile_of_its_own():
    assert (read_profile("h264").folder, read_profile("h264", audio=True).folder) == ("h264", "h264-audio")
    assert read_profile("h264").settings() != read_profile("h264", audio=True).settings()


# Classes of failure.


def test_an_unknown_class_of_failure(k710, sample):
    result = k710("fetch", sample.path, "--retry", "corrupt,tired")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "unknown class of failure 'tired'; known: not_video, undecodable, corrupt" in result.stderr
    with pytest.raises(UsageError):
        check_failures(["no_space"])
    assert check_failures(FAILURES) == frozenset(FAILURES)


@pytest.mark.parametrize(
    ("retry", "expected"),
    [
        ((), ["new", "elsewhere"]),
        (("corrupt",), ["new", "elsewhere", "corrupt"]),
        (("gone", "corrupt"), ["new", "elsewhere", "corrupt", "gone"]),
        (("short",), ["new", "elsewhere", "short by now"]),
    ],
)
def test_what_is_tried_again(retry, expected):
    import pyarrow as pa

    rows = [
        ("there", None, "local:/a"),
        ("there after all", "corrupt", "local:/a"),
        ("there after all", None, "cvdf:k400/val"),
        ("elsewhere", "corrupt", "cvdf:k400/val"),
        ("corrupt", "corrupt", "local:/a"),
        ("gone", "gone", "local:/a"),
        ("short by now", "corrupt", "local:/a"),
        ("short by now", "short", "local:/a"),  # once the first was tried again
        ("short by now", "corrupt", "cvdf:k400/val"),
    ]
    columns = {name: [row[n] for row in rows] for n, name in enumerate(("clip_id", "failure", "origin"))}
    columns["settled_at"] = [datetime(2026, 1, 1, 0, minute) for minute in range(len(rows))]
    wanted = pa.array(["new", "there", "there after all", "elsewhere", "corrupt", "gone", "short by now"])
    for order in (range(len(rows)), reversed(range(len(rows)))):
        media = pa.table(columns).take(pa.array(order))
        assert to_do(wanted, media, "local:/a", retry).to_pylist() == expected


def test_settled_rows_say_what_a_clip_is(k710, tmp_path):
    rows = {("k400", "train"): [("abcdefghij0", 3, 5), ("abcdefghij1", 3, 5)], ("k400", "val"): [("abcdefghij2", 0, 2)]}
    manifest = build(k710, tmp_path, rows)
    clip_file(tmp_path / "clips" / "abcdefghij0.mp4", seconds=8)
    (tmp_path / "clips" / "abcdefghij1_000003_000005.webm").write_bytes(b"")
    result = k710("fetch", manifest, "--from", f"local:{tmp_path / 'clips'}", "--workers", 1)
    assert result.exit_code == 0, result.output
    good, bad = settled(manifest / "store").values()
    assert good.items() >= {"clip_id": "abcdefghij0_000003_000005", "width": 64, "num_frames": 20, "fps": 10.0}.items()
    assert (good["came_from"], good["origin"]) == ("abcdefghij0.mp4", f"local:{tmp_path / 'clips'}")
    assert (bad["failure"], bad["message"], bad["tar"]) == ("not_video", "an empty file", None)
    assert numbers(fetched(manifest / "store")["abcdefghij0_000003_000005"]) == list(range(30, 50))
