"""Small clips made by ffmpeg, and changes to their bytes that no encoder would make."""

from __future__ import annotations

import functools
import random
import struct
import subprocess
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import imageio_ffmpeg

SPAN_S = 10
WIDTH_PX, HEIGHT_PX, FPS = 128, 96, 12
FOOTAGE = f"testsrc2=size={WIDTH_PX}x{HEIGHT_PX}:rate={FPS}"
SOUND = "sine=frequency=220:sample_rate=16000"
SECRET_SIZE_PX = (80, 48)  # no other clip here is of this size, so that its frames are known wherever they turn up

H264 = "-c:v libx264 -preset veryfast -pix_fmt yuv420p -g 24"
AAC = "-c:a aac -b:a 32k"

# Moov stands at the end unless faststart moves it: at the end it can grow without moving what it points to.
BASES = {
    "mp4": f"{H264} {AAC} -f mp4",
    "faststart": f"{H264} {AAC} -movflags +faststart -f mp4",
    "silent": f"{H264} -an -f mp4",
    "fragmented": f"{H264} {AAC} -movflags +frag_keyframe+empty_moov+default_base_moof -f mp4",
    "mkv": f"{H264} {AAC} -f matroska",
    "webm": "-c:v libvpx -deadline realtime -cpu-used 8 -b:v 200k -g 24 -c:a libopus -f webm",
    "avi": "-c:v mpeg4 -q:v 5 -g 24 -c:a libmp3lame -f avi",
    "flv": f"{H264} {AAC} -f flv",
    "ts": f"{H264} {AAC} -f mpegts",
    "mjpeg": "-c:v mjpeg -q:v 8 -an -f avi",
    "baseline": f"{H264} -profile:v baseline -an -f mp4",
    "m4a": f"-vn {AAC} -f mp4",
    "mpeg4": "-c:v mpeg4 -q:v 5 -an -f mp4",
    "hevc": "-c:v libx265 -preset ultrafast -x265-params log-level=none -pix_fmt yuv420p -tag:v hvc1 -an -f mp4",
    "vp9": "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -pix_fmt yuv420p -an -f mp4",
    "av1": "-c:v libsvtav1 -preset 12 -pix_fmt yuv420p -an -f mp4",
}


def ffmpeg(*arguments: object) -> str:
    """Run ffmpeg, and give what it says on stderr; it fails loudly."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-nostdin", "-y", *map(str, arguments)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stderr}"
    return done.stderr


@functools.cache
def encoders() -> frozenset[str]:
    """The encoders that this ffmpeg has: a system's may lack some."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-encoders"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.splitlines()
    return frozenset(line.split()[1] for line in lines if len(line.split()) > 1)


def encode(path: Path, arguments: str, *, source: str = FOOTAGE, sound: str = SOUND, seconds: float = SPAN_S) -> None:
    """A clip of `seconds` from lavfi's `source` and `sound`; `arguments` end with the container, as `-f mp4`."""
    inputs = [part for graph in (source, sound) for part in ("-f", "lavfi", "-t", seconds, "-i", graph)]
    ffmpeg(*inputs, "-bitexact", *arguments.split(), path)


@functools.cache
def base(name: str, seconds: float = SPAN_S) -> bytes:
    """The bytes of one of BASES, encoded once."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip"
        encode(path, BASES[name], seconds=seconds)
        return path.read_bytes()


@functools.cache
def secret() -> bytes:
    """A clip that no hostile file may bring to light."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip"
        source = "testsrc=size={}x{}:rate=12".format(*SECRET_SIZE_PX)
        encode(path, BASES["silent"], source=source)
        return path.read_bytes()


def secret_path(path: Path) -> Path:
    """Where a file that reaches for another one finds the secret clip."""
    return path.with_name("secret.mp4").absolute()


def put_secret(path: Path) -> Path:
    """Put the secret clip beside `path`; its absolute place."""
    secret_path(path).write_bytes(secret())
    return secret_path(path)


# MP4 boxes


def box(name: str, body: bytes) -> bytes:
    return (8 + len(body)).to_bytes(4, "big") + name.encode() + body


def boxes(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Name and body of each box; none of the files here has one beyond 4 GiB."""
    at = 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        assert 8 <= size <= len(data) - at, f"no box at {at}"
        yield data[at + 4 : at + 8].decode("latin-1"), data[at + 8 : at + size]
        at += size


def body(data: bytes, path: str) -> bytes:
    """The body of the first box at `path`, as `moov/trak/mdia`."""
    for name in path.split("/"):
        data = next(body for found, body in boxes(data) if found == name)
    return data


def edit(data: bytes, path: str, change: Callable[[bytes], bytes | None]) -> bytes:
    """Change the body of the first box at `path` (None takes the box away); the boxes around it fit again."""
    name, _, rest = path.partition("/")
    whole, done = b"", False
    for found, inside in boxes(data):
        new: bytes | None = inside
        if found == name and not done:
            new, done = edit(inside, rest, change) if rest else change(inside), True
        whole += b"" if new is None else box(found, new)
    assert done, f"no box {name}"
    return whole


def patch(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


def scramble(data: bytes, start: float, stop: float, share: float = 1.0, *, zeros: bool = False) -> bytes:
    """Replace a `share` of the bytes between two fractions of `data`, by others or by zeros."""
    dice = random.Random(710)
    out = bytearray(data)
    for at in range(int(start * len(out)), int(stop * len(out))):
        if share >= 1 or dice.random() < share:
            out[at] = 0 if zeros else out[at] ^ dice.randrange(1, 256)
    return bytes(out)


def compressed_moov(data: bytes, claims_bytes: int | None = None) -> bytes:
    """QuickTime's compressed movie header; `claims_bytes` lies about its size."""
    moov = box("moov", body(data, "moov"))
    claimed = struct.pack(">I", claims_bytes or len(moov))
    packed = box("cmov", box("dcom", b"zlib") + box("cmvd", claimed + zlib.compress(moov)))
    return edit(data, "moov", lambda _: packed)


# H.264 parameters


def resized_sps(sps: bytes, width_px: int, height_px: int) -> bytes:
    """A baseline sequence parameter set that claims another size (H.264, 7.3.2.1.1)."""
    bits = "".join(f"{byte:08b}" for byte in sps.replace(b"\0\0\3", b"\0\0"))
    at = 8 + 24  # the unit's header; profile, constraints and level

    def skip() -> int:
        nonlocal at
        zeros = bits.index("1", at) - at
        value = int(bits[at + zeros : at + 2 * zeros + 1], 2) - 1
        at += 2 * zeros + 1
        return value

    skip(), skip()  # set's number; log2_max_frame_num
    if skip() == 0:  # order count of type 0: log2_max_pic_order_cnt; x264's baseline has type 2
        skip()
    skip()  # max_num_ref_frames
    at += 1  # gaps allowed
    before = bits[:at]
    skip(), skip()
    new = before + "".join(_exp_golomb(size // 16 - 1) for size in (width_px, height_px)) + bits[at:].rstrip("0")
    new += "0" * (-len(new) % 8)
    raw = bytes(int(new[at : at + 8], 2) for at in range(0, len(new), 8))
    out = b""
    for byte in raw:  # emulation prevention
        out += b"\3" if out.endswith(b"\0\0") and byte <= 3 else b""
        out += bytes([byte])
    return out


def _exp_golomb(value: int) -> str:
    return f"{value + 1:b}".zfill(2 * (value + 1).bit_length() - 1)
