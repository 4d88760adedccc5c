"""Decoding is right to the frame: every frame carries its number, and every decoder shows the one that is asked for."""

from __future__ import annotations

import io
import itertools

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from k710.errors import LoadError, UsageError
from k710.loading.decoders import pyav as decode_pyav
from k710.loading.decoders.decode import DECODERS, DEFAULT_DECODER, check_decoder, decode
from k710.loading.decoders.pixels import Decoder
from k710.loading.sampling import FrameSampling
from k710.sample.footage import encode_video
from k710.sample.motions import Look
from k710.sample.numbered import numbered_frames, read_number
from k710.store.containers import sniff
from tests.helpers.decoders import EACH, HERE
from tests.helpers.media_bytes import BASES, base, ffmpeg

LOOK = Look(128, 96, 25)
NUM_FRAMES = 100
# What a file may be: the store's profile, a release's clip, and what else FFmpeg writes.
FILES = {
    "h264": {"options": {"g": "16", "bf": "0", "tune": "fastdecode"}},
    "released": {"options": {"g": "250", "bf": "3", "b-pyramid": "normal"}},
    "open_gop": {"options": {"g": "20", "bf": "3", "x264-params": "open-gop=1"}},
    "intra_refresh": {"options": {"x264-params": "intra-refresh=1:keyint=30"}},
    "one_key_frame": {"options": {"g": "9999", "bf": "8"}},
    "mkv": {"container": ".mkv", "options": {"g": "30", "bf": "2"}},
    "avi": {"container": ".avi", "codec": "mpeg4", "options": {"g": "20"}},
    "avi_b_frames": {"container": ".avi", "codec": "mpeg4", "options": {"g": "20", "bf": "2"}},
    "avi_h264": {"container": ".avi", "options": {"g": "20", "bf": "0"}},
    "avi_h264_b_frames": {"container": ".avi", "options": {"g": "250", "bf": "3", "b_strategy": "0"}},
    "mpeg4": {"codec": "mpeg4", "options": {"g": "20", "bf": "2"}},
    "vp9": {
        "container": ".webm",
        "codec": "libvpx-vp9",
        "options": {"g": "30", "deadline": "realtime", "cpu-used": "8"},
    },
    "mjpeg": {"container": ".avi", "codec": "mjpeg"},
}

# What only PyAV reads: others would show other frames than those asked for.
ONLY_PYAV = {"intra_refresh", "avi_b_frames", "avi_h264", "avi_h264_b_frames", "mpeg4"}


@pytest.fixture(scope="module")
def file_of():
    made = {}

    def make(name):
        if name not in made:
            made[name] = encode_video(numbered_frames(NUM_FRAMES, LOOK), LOOK, **FILES[name])
        return made[name]

    return make


def numbers(pixels) -> list[int]:
    return [read_number(frame) for frame in pixels]


@pytest.mark.parametrize("decoder", EACH)
@pytest.mark.parametrize("name", FILES)
def test_every_decoder_shows_the_frames_that_are_asked_for(file_of, name, decoder):
    if decoder != "pyav" and name in ONLY_PYAV:
        with pytest.raises(LoadError, match="decoder='pyav' reads it"):
            decode(file_of(name), lambda n: np.arange(n), decoder=decoder)
        return
    counts = []
    for wanted in ([0], [NUM_FRAMES - 1], [99, 0, 50, 50, 3], [7, 20, 33, 46, 59, 72, 85, 98], list(range(100))):
        pixels = decode(file_of(name), lambda n, w=wanted: counts.append(n) or np.array(w), decoder=decoder)
        assert pixels.dtype == np.uint8
        assert pixels.shape == (len(wanted), 96, 128, 3)
        assert numbers(pixels) == wanted
    assert set(counts) == {NUM_FRAMES}


@pytest.mark.parametrize("name", ["released", "open_gop", "h264"])
@given(wanted=st.lists(st.integers(0, NUM_FRAMES - 1), min_size=1, max_size=12))
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.slow
def test_jumping_gives_what_decoding_everything_gives(file_of, name, wanted):
    media = file_of(name)
    with av.open(io.BytesIO(media)) as opened:
        everything = [frame.to_ndarray(format="rgb24") for frame in opened.decode(video=0)]
    pixels = decode(media, lambda n: np.array(wanted), decoder="pyav")
    for number, frame in zip(wanted, pixels, strict=True):
        np.testing.assert_array_equal(frame, everything[number])


@pytest.mark.parametrize("decoder", EACH)
def test_every_decoder_gives_the_same_pixels(file_of, decoder):
    chosen = FrameSampling(8).test(NUM_FRAMES)
    for name in ("h264", "released", "open_gop", "mkv", "vp9"):
        one, other = (decode(file_of(name), lambda n: chosen, decoder=which) for which in ("pyav", decoder))
        np.testing.assert_array_equal(one, other)


def test_only_what_is_needed_is_decoded(file_of, monkeypatch):
    packets = []
    decoded = decode_pyav.decoded
    monkeypatch.setattr(
        decode_pyav, "decoded", lambda decoder, packet: packets.append(packet) or decoded(decoder, packet)
    )
    decode(file_of("h264"), lambda n: np.array([20, 85]), decoder="pyav")
    assert sum(packet is not None for packet in packets) == (20 - 16 + 1) + (85 - 80 + 1)


def test_a_variable_rate_is_counted_by_frames(tmp_path):
    """Every third frame is gone, the times of the others stay."""
    (tmp_path / "in.mp4").write_bytes(encode_video(numbered_frames(60, LOOK), LOOK))
    graph = "select='mod(n\\,3)'"
    ffmpeg("-i", tmp_path / "in.mp4", "-vf", graph, "-fps_mode", "vfr", "-c:v", "libx264", tmp_path / "out.mp4")
    left = [number for number in range(60) if number % 3]
    for decoder in HERE:
        pixels = decode((tmp_path / "out.mp4").read_bytes(), lambda n: np.arange(n), decoder=decoder)
        assert numbers(pixels) == left


def test_an_edit_list_hides_frames(tmp_path):
    """A cut without encoding keeps the frames before it, back to the key frame, and says not to show them."""
    (tmp_path / "in.mp4").write_bytes(
        encode_video(numbered_frames(NUM_FRAMES, LOOK), LOOK, options={"g": "40", "bf": "0"})
    )
    ffmpeg("-ss", 2, "-i", tmp_path / "in.mp4", "-c", "copy", tmp_path / "out.mp4")
    media = (tmp_path / "out.mp4").read_bytes()
    pixels = decode(media, lambda n: np.array([0, n - 1]), decoder="pyav")
    assert numbers(pixels) == [50, 99]
    for decoder in HERE[1:]:
        with pytest.raises(LoadError, match=f"{decoder} shows frames that this file hides"):
            decode(media, lambda n: np.array([0, n - 1]), decoder=decoder)


def shown_by_ffmpeg(path, width_px, height_px):
    """All frames as ffmpeg shows them, turned, mirrored and with square pixels."""
    raw = path.with_suffix(".rgb")
    ffmpeg("-i", path, "-vf", f"scale={width_px}:{height_px}", "-f", "rawvideo", "-pix_fmt", "rgb24", raw)
    return np.fromfile(raw, np.uint8).reshape(-1, height_px, width_px, 3)


MIRRORED = ("", "-display_hflip", "-display_vflip", "-display_hflip -display_vflip")


@pytest.mark.parametrize("turn", [0, 90, 180, 270, 30])
@pytest.mark.parametrize("mirrored", MIRRORED)
def test_a_turned_or_mirrored_clip_is_shown_as_ffmpeg_shows_it(tmp_path, turn, mirrored):
    (tmp_path / "in.mp4").write_bytes(base("silent", 2.0))
    out = tmp_path / "out.mp4"
    ffmpeg("-display_rotation", turn, *mirrored.split(), "-i", tmp_path / "in.mp4", "-c", "copy", out)
    pixels = decode(out.read_bytes(), lambda n: np.array([3]))
    height_px, width_px = pixels.shape[1:3]
    assert (width_px, height_px) == ((96, 128) if turn in (90, 270) else (128, 96))
    difference = np.abs(pixels[0].astype(int) - shown_by_ffmpeg(out, width_px, height_px)[3])
    assert difference.mean() < 0.5


@pytest.mark.parametrize("turn", [90, 180, 270])
@pytest.mark.parametrize("decoder", EACH[1:])
def test_others_turn_as_pyav_does_and_mirror_nothing(tmp_path, turn, decoder):
    (tmp_path / "in.mp4").write_bytes(base("silent", 2.0))
    for name, how in (("turned", ()), ("mirrored", ("-display_hflip",))):
        ffmpeg("-display_rotation", turn, *how, "-i", tmp_path / "in.mp4", "-c", "copy", tmp_path / f"{name}.mp4")
    turned = (tmp_path / "turned.mp4").read_bytes()
    one, other = (decode(turned, lambda n: np.array([3]), decoder=which) for which in ("pyav", decoder))
    np.testing.assert_array_equal(one, other)
    with pytest.raises(LoadError, match=f"{decoder} mirrors no picture"):
        decode((tmp_path / "mirrored.mp4").read_bytes(), lambda n: np.array([3]), decoder=decoder)


@pytest.mark.parametrize(
    ("aspect", "turn", "size"),
    [("64/51", 0, (160, 96)), ("64/51", 90, (96, 160)), ("8/9", 0, (114, 96)), ("2/1", 270, (96, 256))],
)
def test_pixels_become_square(tmp_path, aspect, turn, size):
    (tmp_path / "in.mp4").write_bytes(base("silent", 2.0))
    out = tmp_path / "out.mp4"
    ffmpeg("-i", tmp_path / "in.mp4", "-vf", f"setsar={aspect}", "-c:v", "libx264", tmp_path / "wide.mp4")
    ffmpeg("-display_rotation", turn, "-i", tmp_path / "wide.mp4", "-c", "copy", out)
    shown = shown_by_ffmpeg(out, *size)[3].astype(int)
    for decoder in HERE:
        (pixels,) = decode(out.read_bytes(), lambda n: np.array([3]), decoder=decoder)
        assert pixels.shape == (size[1], size[0], 3)
        assert np.abs(pixels - shown).mean() < (8 if decoder == "pyav" else 16)


@pytest.mark.parametrize("decoder", EACH)
def test_a_size_that_only_the_shape_of_pixels_makes_is_refused(tmp_path, decoder):
    made = tmp_path / "bomb.mp4"
    source = ("-f", "lavfi", "-t", 1, "-i", "testsrc=size=640x480:rate=5")
    ffmpeg(*source, "-vf", "setsar=400/1:max=400", "-c:v", "libx264", "-bf", 0, made)
    with pytest.raises(LoadError, match="is shown as"):
        decode(made.read_bytes(), lambda n: np.arange(n), decoder=decoder)


def test_odd_sizes_keep_their_size(tmp_path):
    made = tmp_path / "odd.mp4"
    ffmpeg("-f", "lavfi", "-t", 1, "-i", "testsrc=size=101x67:rate=12", "-c:v", "libx264", "-pix_fmt", "yuv444p", made)
    for decoder in HERE:
        assert decode(made.read_bytes(), lambda n: np.array([0, 11]), decoder=decoder).shape == (2, 67, 101, 3)


def test_a_clip_whose_size_changes_has_that_of_its_beginning(tmp_path):
    """Streams that were recorded do; decord answers alike, torchcodec refuses."""
    for name, size in (("one", "128x96"), ("two", "192x144")):
        source = ("-f", "lavfi", "-t", 1, "-i", f"testsrc=size={size}:rate=12")
        ffmpeg(*source, "-c:v", "libx264", "-bf", 0, "-bsf:v", "h264_mp4toannexb", tmp_path / f"{name}.h264")
    both = tmp_path / "both.h264"
    both.write_bytes(b"".join((tmp_path / f"{name}.h264").read_bytes() for name in ("one", "two")))
    ffmpeg("-r", 12, "-i", both, "-c", "copy", "-bsf:v", "setts=ts=N/(12*TB)", tmp_path / "both.mp4")
    for decoder in HERE:
        for wanted in ([0, 20], [20]):
            if decoder == "torchcodec":
                with pytest.raises(LoadError, match="does not decode"):
                    decode((tmp_path / "both.mp4").read_bytes(), lambda n, w=wanted: np.array(w), decoder=decoder)
                continue
            pixels = decode((tmp_path / "both.mp4").read_bytes(), lambda n, w=wanted: np.array(w), decoder=decoder)
            assert pixels.shape == (len(wanted), 96, 128, 3)


@pytest.mark.parametrize("decoder", EACH)
@pytest.mark.parametrize(
    "media", [b"", b"<html>", b"#EXTM3U\n#EXTINF:10,\n/etc/passwd\n", b"\x89PNG\r\n\x1a\n" + bytes(400)]
)
def test_what_is_no_video_reaches_no_decoder(media, decoder, monkeypatch):
    never = Decoder(lambda *arguments: pytest.fail("a decoder saw it"), why_unavailable=lambda: None)
    monkeypatch.setitem(DECODERS, decoder, never)
    with pytest.raises(LoadError, match=r"no video file|an empty file"):
        decode(media, lambda n: np.arange(n), decoder=decoder)


@pytest.mark.parametrize("decoder", EACH)
def test_what_does_not_decode_says_so(file_of, decoder):
    media = file_of("released")
    for broken in (media[:60] + bytes(len(media) - 60), media[:100]):
        assert sniff(broken)
        with pytest.raises(LoadError, match=r"decode|no video|pixels"):
            decode(broken, lambda n: np.arange(8) % max(n, 1), decoder=decoder)


def test_a_damaged_frame_is_shown_as_its_neighbour_and_a_damaged_clip_is_refused():
    media = bytearray(encode_video(numbered_frames(NUM_FRAMES, LOOK), LOOK, container=".mkv", codec="mjpeg"))
    begins = [at for at in range(len(media) - 3) if media[at : at + 3] == b"\xff\xd8\xff"]
    media[begins[50] : begins[50] + 400] = bytes(400)
    pixels = decode(bytes(media), lambda n: np.array([49, 50, 51]))
    assert numbers(pixels)[::2] == [49, 51]
    for begin in begins[::10]:
        media[begin : begin + 400] = bytes(400)
    with pytest.raises(LoadError, match="of 100 frames decode"):
        decode(bytes(media), lambda n: np.array([49, 50, 51]))


def test_a_frame_that_decodes_once_and_not_again_is_damage(file_of, monkeypatch):
    """As some damaged MPEG-4 and MJPEG does."""
    everything, passes = decode_pyav._Clip._all, []

    def fewer_every_time(clip):
        passes.append(1)
        return itertools.islice(everything(clip), 100 - len(passes) + 1)

    monkeypatch.setattr(decode_pyav._Clip, "_by_seeking", lambda *arguments: {})
    monkeypatch.setattr(decode_pyav._Clip, "_all", fewer_every_time)
    with pytest.raises(LoadError, match="decodes once and not again"):
        decode(file_of("avi"), lambda n: np.array([0, n - 1]))


def test_containers_without_times_are_counted(file_of):
    for name in ("ts", "flv", "webm", "fragmented"):
        assert name in BASES
        pixels = decode(base(name, 3.0), lambda n: np.array([0, n - 1]))
        assert pixels.shape == (2, 96, 128, 3)


def test_unknown_decoders_are_refused_by_name(monkeypatch):
    assert check_decoder(DEFAULT_DECODER) == DEFAULT_DECODER
    with pytest.raises(UsageError, match=r"unknown decoder 'opencv'; known: pyav, decord, torchcodec"):
        check_decoder("opencv")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="not installed"):
        check_decoder("decord")


@pytest.mark.parametrize("name", ["h264", "released", "open_gop", "one_key_frame", "mkv", "mpeg4", "vp9"])
def test_a_whole_file_is_never_decoded_where_jumping_does(file_of, name, monkeypatch):
    monkeypatch.setattr(decode_pyav._Clip, "_one_by_one", lambda *arguments: pytest.fail("all of it was decoded"))
    for wanted in ([37], [19, 20, 21, 22], [5, 50, 95], list(range(100))):
        assert numbers(decode(file_of(name), lambda n, w=wanted: np.array(w))) == wanted
