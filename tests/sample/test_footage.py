"""The sample's footage: the motion alone is the class, the files are as in the wild, and frames can be numbered."""

from __future__ import annotations

import io
import itertools
import tarfile
from collections.abc import Iterable
from pathlib import Path

import av
import numpy as np
import pytest
from click.testing import CliRunner

from k710.errors import LabelError, UsageError
from k710.manifest.views import view
from k710.sample.footage import (
    LAYOUTS,
    Clip,
    clips_of,
    encode_video,
    main,
    sample_clips,
    write_archives,
    write_footage,
    write_video,
)
from k710.sample.generate import CLASSES
from k710.sample.motions import LOOKS, MOTIONS, Frame, Look, motion_frames, motion_of, still_frames
from k710.sample.numbered import numbered_frames, read_number

TINY = LOOKS["tiny"]


def decoded(file: Path | bytes) -> list[av.VideoFrame]:
    with av.open(io.BytesIO(file) if isinstance(file, bytes) else str(file)) as container:
        return list(container.decode(video=0))


def vivid(frames: Iterable[Frame]) -> np.ndarray:
    """Where the shape is, (num_frames, height, width): nothing else is far from grey."""
    return np.stack([np.ptp(frame, axis=2) for frame in frames]) > 70


def frames_of(label: str, youtube_id: str, num_frames: int = 8, **how: int) -> np.ndarray:
    return np.stack(list(motion_frames(label, youtube_id, num_frames, TINY, **how)))


# The motion is the class.


def test_every_class_of_the_sample_has_a_motion_of_its_own():
    assert tuple(MOTIONS) == CLASSES
    assert len({name for name, _ in MOTIONS.values()}) == len(CLASSES)
    assert motion_of("tying tie") == motion_of("tying_necktie") == MOTIONS["tying necktie"]


def test_the_same_clip_has_the_same_frames():
    frames = frames_of("archery", "-sample-dsh")
    assert frames.shape == (8, 48, 64, 3)
    assert frames.dtype == np.uint8
    assert np.array_equal(frames, frames_of("archery", "-sample-dsh"))
    for other in (frames_of("archery", "--sample-ds"), frames_of("archery", "-sample-dsh", seed=1)):
        assert not np.array_equal(frames[0], other[0])


def test_a_plain_look_shows_the_same_way_before_one_colour_that_its_files_keep():
    plain, label = LOOKS["plain"], "archery"
    frames = np.stack(list(motion_frames(label, "-sample-dsh", 8, plain)))
    ground = frames[0, 0, 0]
    moves = (frames != ground).any(axis=3)
    # Where the shape is, but for pixels that its noise makes more or less vivid.
    assert (moves ^ vivid(frames_of(label, "-sample-dsh"))).mean() < 0.01
    assert ground.max() < 100 < frames[moves].min(), "a bright shape on a dark background"
    seen = np.stack([frame.to_ndarray(format="rgb24") for frame in decoded(encode_video(frames, plain))])
    # A pixel of colour is two pixels wide and high, so it may have a part of the shape that the others have not.
    blocks = moves.reshape(8, 24, 2, 32, 2).any(axis=(2, 4))
    near = np.any([np.roll(blocks, by, axis) for axis in (1, 2) for by in (-1, 0, 1)], axis=0)
    changed = (seen != seen[0, 0, 0]).any(axis=3).reshape(8, 24, 2, 32, 2).any(axis=(2, 4))
    assert blocks.mean() < near.mean() < 0.5
    assert not (changed & ~near).any()


def test_two_spans_of_a_video_share_the_scene_and_not_the_way():
    first, second = (frames_of("tying necktie", "two-spans-0", start_s=start_s) for start_s in (30, 100))
    shapes = vivid(first), vivid(second)
    assert not np.array_equal(*shapes)
    elsewhere = ~(shapes[0] | shapes[1])
    assert np.abs(first.astype(int) - second)[elsewhere].max() <= 2 * TINY.noise


def test_the_first_frame_is_the_same_whatever_the_label():
    clips = [frames_of(label, "leaked-4000") for label in CLASSES]
    assert len({clip[0].tobytes() for clip in clips}) == 1
    assert len({clip.tobytes() for clip in clips}) == len(CLASSES)


@pytest.fixture(scope="module")
def clips() -> tuple[np.ndarray, np.ndarray]:
    """60 clips of every class as a trainer sees them: a random frame from each of 8 segments, half of them mirrored."""
    rng, frames = np.random.default_rng(0), []
    for number in range(60 * len(CLASSES)):
        whole = frames_of(CLASSES[number % len(CLASSES)], f"clip-{number:06d}", num_frames=32)
        frames.append(whole[np.arange(8) * 4 + rng.integers(4, size=8)][:, :, :: rng.choice([-1, 1])])
    return np.stack(frames), np.arange(len(frames)) % len(CLASSES)


def nearest_centroid(features: np.ndarray, classes: np.ndarray) -> float:
    """The part of the second half of the clips that lies nearest to its own class's mean of the first half."""
    features = (features - features.mean(axis=0)) / (features.std(axis=0) + 1e-9)
    half = len(features) // 2
    means = np.stack([features[:half][classes[:half] == number].mean(axis=0) for number in range(len(CLASSES))])
    distances = ((features[half:, None] - means) ** 2).sum(axis=2)
    return float((distances.argmin(axis=1) == classes[half:]).mean())


def on_the_ring(parts: np.ndarray) -> np.ndarray:
    """The place of a shape from its extent along one side, (num_frames, pixels): from -0.5 to 0.5, mean on a ring."""
    turns = np.exp(2j * np.pi * np.arange(parts.shape[1]) / parts.shape[1])
    return np.angle(parts @ turns) / (2 * np.pi)


def motion_statistics(frames: np.ndarray) -> np.ndarray:
    """How place, size and outline change from frame to frame, blind to left and right: (6,)."""
    shapes = vivid(frames)
    y, x = on_the_ring(shapes.sum(axis=2)), on_the_ring(shapes.sum(axis=1))
    down, aside = ((np.diff(place) + 0.5) % 1 - 0.5 for place in (y, x))
    growth = np.diff(np.log(shapes.sum(axis=(1, 2)) + 1))
    moves = [(-round(a * shapes.shape[1]), -round(b * shapes.shape[2])) for a, b in zip(y, x, strict=True)]
    centred = [np.roll(shape, move, axis=(0, 1)) for shape, move in zip(shapes, moves, strict=True)]
    changed = [(a ^ b).mean() / (a | b).mean() for a, b in itertools.pairwise(centred)]
    place = [np.median(down), down.std(), abs(np.median(aside)), aside.std()]
    return np.array([*place, np.median(growth), np.median(changed)])


@pytest.mark.slow
def test_one_frame_does_not_tell_the_class(clips):
    frames, classes = clips
    pixels = frames[:, :, ::4, ::4].reshape(len(frames), 8, -1).astype(float)
    # Chance is 0.1, and of 300 guesses 0.15 is three standard deviations away.
    assert all(nearest_centroid(pixels[:, number], classes) < 0.15 for number in range(8))
    shape = np.stack([vivid(clip[4:5])[0] for clip in frames])
    extents = np.concatenate([shape.sum(axis=1), shape.sum(axis=2), shape.sum(axis=(1, 2))[:, None]], axis=1)
    assert nearest_centroid(extents, classes) < 0.15


def test_of_one_frame_every_class_has_the_same_means(clips):
    frames, classes = clips
    shapes = np.stack([vivid(clip[4:5])[0] for clip in frames])
    statistics = {
        "brightness": frames[:, 4].mean(axis=(1, 2, 3)),
        "size": shapes.sum(axis=(1, 2)),
        "upper half": shapes[:, :24].sum(axis=(1, 2)) / shapes.sum(axis=(1, 2)),
        "middle": shapes[:, 12:36, 16:48].sum(axis=(1, 2)),
    }
    for name, values in statistics.items():
        means = np.array([values[classes == number].mean() for number in range(len(CLASSES))])
        error = values.std() / np.sqrt(60)
        assert np.abs(means - values.mean()).max() < 3.5 * error, name


@pytest.mark.slow
def test_eight_frames_tell_the_class(clips):
    frames, classes = clips
    assert nearest_centroid(np.stack([motion_statistics(clip) for clip in frames]), classes) > 0.95


def test_a_class_that_is_none_or_not_of_the_sample():
    with pytest.raises(LabelError, match="unknown label 'archry'"):
        motion_frames("archry", "sample-0000", 8, TINY)
    with pytest.raises(UsageError, match="'zumba' is not a class of the sample; it has abseiling"):
        motion_frames("zumba", "sample-0000", 8, TINY)


def test_looks_that_cannot_be():
    with pytest.raises(UsageError, match="63x48: the sides must be even"):
        Look(63, 48)
    with pytest.raises(UsageError, match="0 fps"):
        Look(fps=0)


# Frames that carry their number.


@pytest.mark.parametrize("number", [0, 1, 299, 4095, 65535])
@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS.keys())
def test_a_number_is_read_back(number, look):
    (frame,) = numbered_frames(1, look, first=number)
    assert read_number(frame) == number
    assert read_number(frame.astype(np.float32) / 255 * 0.3 - 1.7) == number
    assert read_number(frame[:, :, 1]) == number


@pytest.mark.parametrize(
    ("container", "codec", "options"),
    [
        (".mp4", "libx264", {"crf": "28"}),
        (".mp4", "libx264", {"crf": "35", "g": "16", "bf": "0"}),
        (".mp4", "mpeg4", {}),
        (".avi", "mjpeg", {}),
        (".webm", "libvpx", {"deadline": "realtime"}),
    ],
)
def test_numbers_survive_codecs_and_scaling(container, codec, options):
    look = LOOKS["quick"]
    frames = decoded(encode_video(numbered_frames(70, look), look, container=container, codec=codec, options=options))
    assert [read_number(frame.to_ndarray(format="rgb24")) for frame in frames] == list(range(70))
    half = [frame.reformat(width=64, height=48, format="rgb24").to_ndarray() for frame in frames]
    assert [read_number(frame) for frame in half] == list(range(70))
    odd = frames[-1].reformat(width=97, height=341, format="rgb24").to_ndarray()
    assert read_number(odd) == 69


def test_a_frame_without_a_number():
    with pytest.raises(UsageError, match="frames 65535 to 65537: the numbers must be from 0 to 65535"):
        next(numbered_frames(2, TINY, first=65535))
    for frame in (np.zeros((96, 128, 3), np.uint8), next(still_frames("sample-0000", 1, TINY))):
        with pytest.raises(ValueError, match="shows no number"):
            read_number(frame)


def test_numbered_frames_stay_one_long_group_of_pictures():
    content = encode_video(numbered_frames(300, TINY), TINY)
    with av.open(io.BytesIO(content)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    ordered = sorted(packets, key=lambda packet: packet.pts)
    assert [number for number, packet in enumerate(ordered) if packet.is_keyframe] == [0, 250]
    assert [packet.pts for packet in packets] != [packet.pts for packet in ordered]  # B-frames


# Files.

CLIPS = [
    Clip("-sample-dsh", 3, 13, "archery", "train"),
    Clip("case-sample", 0, 7, "tying tie", "val"),
    Clip("tested-6001", 30, 40, None, "test"),
]


@pytest.mark.parametrize("preset", ["veryfast", "medium"])
def test_a_video_is_what_it_was_made_of(preset, tmp_path):
    path = tmp_path / "-sample-dsh.mp4"
    frames = frames_of("archery", "-sample-dsh", num_frames=40)
    write_video(path, frames, TINY, options={"preset": preset})
    with av.open(str(path)) as container:
        (stream,) = container.streams
        assert (stream.codec_context.name, stream.average_rate, stream.frames) == ("h264", TINY.fps, 40)
        assert stream.duration * stream.time_base == 5
    difference = np.stack([frame.to_ndarray(format="rgb24") for frame in decoded(path)]).astype(int) - frames
    assert np.abs(difference).mean() < 6
    # The macroblock tree of x264 made other bytes of a small picture in most runs.
    again = {encode_video(frames, TINY, options={"preset": preset}) for _ in range(4)}
    assert again == {path.read_bytes()}


@pytest.mark.slow
def test_footage_is_the_same_with_any_number_of_workers(tmp_path):
    written = [write_footage(tmp_path / str(n), CLIPS, look=TINY, audio=True, num_workers=n) for n in (1, 3)]
    first, second = ([path.read_bytes() for path in paths.values()] for paths in written)
    assert first == second
    other_seed = write_footage(tmp_path / "seed", CLIPS, look=TINY, audio=True, seed=1)
    assert not {path.read_bytes() for path in other_seed.values()} & set(first)


def test_audio_of_a_length_of_its_own():
    content = encode_video(frames_of("archery", "sample-0000", num_frames=16), TINY, audio_s=3.5)
    with av.open(io.BytesIO(content)) as container:
        video, audio = container.streams
        assert (video.codec_context.name, audio.codec_context.name) == ("h264", "aac")
        assert float(video.duration * video.time_base) == 2
        assert float(audio.duration * audio.time_base) == pytest.approx(3.5, abs=0.05)


def test_what_cannot_be_written_leaves_nothing(tmp_path):
    with pytest.raises(UsageError, match=r"unknown container '\.mov'"):
        write_video(tmp_path / "a.mov", [], TINY)
    with pytest.raises(UsageError, match=r"frame 1 is \(48, 65, 3\), not \(48, 64, 3\)"):
        write_video(tmp_path / "a.mp4", [np.zeros((48, width, 3), np.uint8) for width in (64, 65)], TINY)
    with pytest.raises(UsageError, match="unknown layout 'deep'; known: flat"):
        write_footage(tmp_path, [], layout="deep")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout, tmp_path):
    paths = write_footage(tmp_path / "new", CLIPS, layout=layout, look=TINY)
    folders = {
        "flat": ["", "", ""],
        "split": ["train/", "val/", "test/"],
        "class": ["train/archery/", "val/tying tie/", "test/"],
        "class_underscores": ["train/archery/", "val/tying_tie/", "test/"],
    }[layout]
    names = ["-sample-dsh_000003_000013.mp4", "case-sample_000000_000007.mp4", "tested-6001_000030_000040.mp4"]
    expected = [tmp_path / "new" / (folder + name) for folder, name in zip(folders, names, strict=True)]
    assert list(paths.items()) == list(zip(CLIPS, expected, strict=True))
    assert sorted(path for path in (tmp_path / "new").rglob("*") if path.is_file()) == sorted(expected)
    assert [len(decoded(path)) for path in expected] == [80, 56, 80]


def test_a_whole_video_shows_each_span_in_its_place_and_nothing_outside(tmp_path):
    spans = [Clip("two-spans-2", 15, 25, "archery"), Clip("two-spans-2", 4, 9, "archery")]
    cut = write_footage(tmp_path / "cut", spans, look=TINY)
    whole = write_footage(tmp_path / "whole", [*spans, CLIPS[0]], look=TINY, whole_videos={"two-spans-2"}, audio=True)
    assert {path.name for path in whole.values()} == {"two-spans-2.mp4", "-sample-dsh_000003_000013.mp4"}
    frames = np.stack([frame.to_ndarray(format="rgb24") for frame in decoded(whole[spans[0]])])
    assert len(frames) == (25 + 3) * TINY.fps
    inside = np.zeros(len(frames), bool)
    for span in spans:
        part = slice(span.time_start_s * TINY.fps, span.time_end_s * TINY.fps)
        inside[part] = True
        same = np.stack([frame.to_ndarray(format="rgb24") for frame in decoded(cut[span])])
        assert np.abs(frames[part].astype(int) - same).mean() < 6
    assert np.array_equal(vivid(frames).sum(axis=(1, 2)) > 20, inside)


def test_overlapping_spans_of_a_whole_video(tmp_path):
    spans = [Clip("two-spans-2", 0, 10, "archery"), Clip("two-spans-2", 5, 12, "abseiling")]
    paths = write_footage(tmp_path, spans, look=TINY, whole_videos={"two-spans-2"})
    assert len(decoded(paths[spans[1]])) == (12 + 3) * TINY.fps


@pytest.mark.parametrize("prefix", ["", "./"])
def test_archives(prefix, tmp_path):
    files = list(write_footage(tmp_path / "clips", CLIPS, look=TINY).values())
    options = {"base_url": "http://127.0.0.1:8000/400/train/", "member_prefix": prefix, "plain_parts": {1}}
    parts = write_archives(tmp_path / "train", files, 2, **options)
    urls = (tmp_path / "train" / "k400_train_path.txt").read_text()
    assert urls == "".join(f"http://127.0.0.1:8000/400/train/part_{number}.tar.gz\n" for number in range(2))
    assert [path.name for path in parts] == ["part_0.tar.gz", "part_1.tar.gz"]
    assert [path.read_bytes()[:2] == b"\x1f\x8b" for path in parts] == [True, False]
    members = {}
    for path in parts:
        with tarfile.open(path) as archive:
            members |= {member.name: archive.extractfile(member).read() for member in archive}
    assert members == {prefix + path.name: path.read_bytes() for path in files}
    again = write_archives(tmp_path / "again", files, 2, **options)
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in parts]


# The sample.


def test_the_samples_clips_are_the_builds(sample):
    filmed = {clip.clip_id: clip for clip in sample_clips()}
    for clip in clips_of(sample.clips):
        assert filmed[clip.clip_id].label == clip.label == clip.shown_label
    assert sum(clip.label is None for clip in filmed.values()) == 3  # in test lists alone
    assert {clip.shown_label for clip in filmed.values()} == set(CLASSES)


@pytest.mark.parametrize("source", ["k400", "k600", "k700"])
@pytest.mark.slow
def test_a_clip_shows_the_same_in_every_release(source, sample):
    of_all = {clip.clip_id: motion_of(clip.shown_label) for clip in sample_clips()}
    clips = sample_clips(source)
    assert {clip.clip_id: motion_of(clip.shown_label) for clip in clips}.items() <= of_all.items()
    of_view = {clip.clip_id: clip for clip in clips_of(view(sample.clips, source))}
    labelled = {clip.clip_id: clip for clip in clips if clip.split != "test"}
    assert of_view.keys() == labelled.keys()
    for clip_id, clip in labelled.items():
        assert (clip.label, clip.split) == (of_view[clip_id].label, of_view[clip_id].split)
        assert motion_of(of_view[clip_id].shown_label) == of_all[clip_id]


@pytest.mark.slow
def test_the_command(tmp_path):
    result = CliRunner().invoke(
        main, [str(tmp_path / "k400"), "--source", "k400", "--look", "tiny", "--layout", "class"]
    )
    assert result.exit_code == 0, result.output
    assert result.output.startswith(f"25 clips in 25 files of {tmp_path / 'k400'}: 0.")
    assert result.output.count("\n") == 1
    assert (tmp_path / "k400" / "train" / "picking fruit" / "sample-6000_000010_000020.mp4").is_file()
