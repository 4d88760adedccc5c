"""Files of numbered frames in the forms in which containers and codecs hold frames out of order, or not at all."""

from __future__ import annotations

import functools
import io
import re
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import av
import imageio_ffmpeg
import numpy as np

from k710.sample.footage import encode_video
from k710.sample.motions import Look
from k710.sample.numbered import numbered_frames, read_number
from tests.helpers.media_bytes import edit

LOOK = Look(64, 48, 25)
_STBL = "moov/trak/mdia/minf/stbl"
PICTURE_CODE, _B_FRAME = (
    b"\0\0\1\xb6",
    2,
)  # of MPEG-4: the code before a picture, and the type in the two bits behind it


@functools.cache
def raw_video(num_frames: int) -> bytes:
    """Numbered frames one behind the other, RGB."""
    return b"".join(frame.tobytes() for frame in numbered_frames(num_frames, LOOK))


def written_by_ffmpeg(path: Path, num_frames: int, arguments: str) -> bool:
    """Whether ffmpeg writes numbered frames by `arguments`, the codec's and the container's, to `path`."""
    given = f"-f rawvideo -pix_fmt rgb24 -s {LOOK.width_px}x{LOOK.height_px} -r {LOOK.fps} -i -"
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *given.split(), *arguments.split(), str(path)]
    done = subprocess.run(command, input=raw_video(num_frames), capture_output=True, check=False, timeout=120)
    return done.returncode == 0


def shown_by_ffmpeg(path: Path) -> list[int | None]:
    """The numbers of the frames that ffmpeg decodes, in its order; None for one that carries none."""
    given = ["-i", str(path), "-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "fatal", *given]
    out = subprocess.run(command, capture_output=True, check=False, timeout=120).stdout
    return numbers(np.frombuffer(out, np.uint8).reshape(-1, LOOK.height_px, LOOK.width_px, 3))


def numbers(frames: np.ndarray) -> list[int | None]:
    """The number of each frame; None for one that carries none."""
    return [_number(frame) for frame in frames]


def _number(frame: np.ndarray) -> int | None:
    try:
        return read_number(frame)
    except ValueError:
        return None


def packed_bitstream(num_frames: int) -> bytes:
    """MPEG-4 in AVI as DivX 5 packs it: a B-frame lies in the packet of the frame that it needs, and a filler of one
    byte takes its place. `num_frames` is odd."""
    assert num_frames % 2 == 1
    options = {"g": "30", "bf": "1", "b_strategy": "0", "qmin": "2", "qmax": "4"}
    plain = encode_video(numbered_frames(num_frames, LOOK), LOOK, container=".avi", codec="mpeg4", options=options)
    with av.open(io.BytesIO(plain)) as file:
        contents = [bytes(packet) for packet in file.demux(video=0) if packet.size]
    packed: list[bytes] = []
    for content in contents:
        if content[content.index(PICTURE_CODE) + len(PICTURE_CODE)] >> 6 == _B_FRAME:
            packed[-1:] = [packed[-1] + content, b"\x7f"]
        else:
            packed.append(re.sub(rb"(?<=\x00\x00\x01\xb2)Lavc[0-9.]*", b"DivX503b1393p", content))
    return _avi_of(packed)


def _avi_of(contents: Sequence[bytes]) -> bytes:
    """An AVI file of MPEG-4 in these packets, of which those that begin a sequence are key frames."""
    content = io.BytesIO()
    with av.open(content, "w", format="avi") as file:
        stream = file.add_stream("mpeg4", rate=LOOK.fps)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = LOOK.width_px, LOOK.height_px, "yuv420p"
        file.start_encoding()
        for number, data in enumerate(contents):
            packet = av.Packet(data)
            packet.stream, packet.time_base = stream, stream.time_base
            packet.pts = packet.dts = number
            packet.is_keyframe = b"DivX" in data
            file.mux(packet)
    return content.getvalue()


def without_key_frames_listed(mp4: bytes) -> bytes:
    """The file without its list of key frames: by the standard, every packet is one then."""
    return edit(mp4, f"{_STBL}/stss", lambda _: None)


def without_showing_times(mp4: bytes) -> bytes:
    """The file without the offsets between decoding and showing, as careless converters from AVI write it."""
    plain = edit(mp4, f"{_STBL}/ctts", lambda _: None)
    return edit(plain, "moov/trak/edts", lambda _: None)


def shown_of_bytes(media: bytes) -> list[int | None]:
    """What ffmpeg shows of `media`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip"
        path.write_bytes(media)
        return shown_by_ffmpeg(path)
