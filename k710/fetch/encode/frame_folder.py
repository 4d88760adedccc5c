"""A clip that was released as a folder of JPEGs: its frames are checked and put, as they are, into one video file.

The bytes of the JPEGs are not changed. Everything that makes a clip of a video file then makes one of it.
"""

from __future__ import annotations

import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Literal

import av
import av.error

from k710.fetch.encode.source_file import MAX_PIXELS, error_text
from k710.lists.own_rows import JPEG_SUFFIXES
from k710.store.failures import ClipError
from k710.store.local_files import FRAME_NAME
from k710.store.stored_frames import JPEG_BEGIN
from k710.text import os_error_text

MAX_FRAMES = 100_000
MAX_JPEG_BYTES = 64 << 20
_JPEG_END = b"\xff\xd9"
_FLOW = ("flow_", "x_", "y_")  # pictures of optical flow, which some extractors write into the same folder
_SHOWN = 5
_ORIENTATION, _MAX_ENTRIES = 0x0112, 1000  # a tag of EXIF, and how many tags are looked at


def assemble(folder: Path, frames_per_s: float, out: Path) -> None:
    """Write the JPEGs of a folder, in the order of their numbers, as the motion-JPEG file `out` (MOV).

    Raises ClipError that names the file: "not_video" where there are no JPEGs, "ambiguous" for two series of frames or
    two files of one number, "corrupt" for a missing, broken or differently sized frame, "unreadable" for a link that
    leads out of the folder.
    """
    paths = frame_files(folder)
    rate = Fraction(frames_per_s).limit_denominator(1001)
    size: tuple[int, int] | None = None
    try:
        with av.open(str(out), "w", format="mov", options={"fflags": "+bitexact"}) as file:
            stream = file.add_stream("mjpeg", rate=rate)
            stream.pix_fmt, stream.time_base = "yuvj420p", 1 / rate
            for number, (path, jpeg) in enumerate(_read_all(folder, paths)):
                found = _size_of(path, jpeg)
                if size is None:
                    size = stream.width, stream.height = found
                elif found != size:
                    first = f"{size[0]}x{size[1]} as {paths[0].name}"
                    raise ClipError("corrupt", f"{path.name} has {found[0]}x{found[1]} pixels, not {first}")
                packet = av.Packet(jpeg)
                packet.stream, packet.time_base = stream, 1 / rate
                packet.pts = packet.dts = number
                packet.duration, packet.is_keyframe = 1, True
                file.mux(packet)
    except av.error.FFmpegError as error:
        raise OSError(error.errno, error_text(error), str(out)) from None


def frame_files(folder: Path) -> list[Path]:
    """The JPEGs of a folder in the order of their numbers, which begin at 0 or 1 and leave nothing out.

    `2.jpg` comes before `10.jpg`. Hidden files and pictures of optical flow (`flow_x_00001.jpg`) do not count. Raises
    ClipError.
    """
    names = [
        path.name
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in JPEG_SUFFIXES and not path.name.startswith((".", *_FLOW))
    ]
    if not names:
        raise ClipError("not_video", "a folder without JPEGs")
    if len(names) > MAX_FRAMES:
        raise ClipError("not_video", f"{len(names):,} JPEGs; a clip has at most {MAX_FRAMES:,}")
    found = {name: match for name in names if (match := FRAME_NAME.fullmatch(name))}
    if unnumbered := [name for name in names if name not in found]:
        raise ClipError("ambiguous", f"{unnumbered[0]} has no number that says which frame it is")
    if len(series := Counter(match["series"] for match in found.values())) > 1:
        shown = " and ".join(repr(name) for name, _ in series.most_common(2))
        raise ClipError("ambiguous", f"{len(series)} series of frames, whose names begin with {shown}")
    numbered: dict[int, str] = {}
    for name, match in found.items():
        if (other := numbered.setdefault(int(match["number"]), name)) != name:
            raise ClipError("ambiguous", f"frame {int(match['number'])} is there twice: {other} and {name}")
    _check_gaps(sorted(numbered))
    return [folder / numbered[number] for number in sorted(numbered)]


def _check_gaps(numbers: Sequence[int]) -> None:
    """Raise ClipError where frames are missing between the first, which is 0 or 1, and the last."""
    first = min(numbers[0], 1)
    if len(numbers) == numbers[-1] - first + 1:
        return
    gaps = [
        (before + 1, after - 1)
        for before, after in zip([first - 1, *numbers], numbers, strict=False)
        if after > before + 1
    ]
    shown = ", ".join(str(start) if start == end else f"{start} to {end}" for start, end in gaps[:_SHOWN])
    count = numbers[-1] - first + 1 - len(numbers)
    frames = "frame is" if count == 1 else "frames are"
    more = ", …" if len(gaps) > _SHOWN else ""
    raise ClipError("corrupt", f"{count:,} {frames} missing up to {numbers[-1]}: {shown}{more}")


def _read_all(folder: Path, paths: Sequence[Path]) -> Iterator[tuple[Path, bytes]]:
    """Each frame with its bytes: a whole JPEG by its beginning and its end. Raises ClipError."""
    inside = folder.resolve()
    for path in paths:
        try:
            if path.is_symlink() and inside not in path.resolve().parents:
                raise ClipError("unreadable", f"{path.name} is a link that leads out of its folder")
            status = path.stat()
            if not stat.S_ISREG(status.st_mode):
                raise ClipError("not_video", f"{path.name} is a pipe, a socket, a device or a folder")
            if status.st_size > MAX_JPEG_BYTES:
                raise ClipError("not_video", f"{path.name} has {status.st_size:,} bytes, too many for a frame")
            jpeg = path.read_bytes()
        except OSError as error:
            raise ClipError("unreadable", f"{path.name} cannot be read: {os_error_text(error)}") from None
        if not jpeg.startswith(JPEG_BEGIN):
            what = f"begins with {jpeg[:16]!r}" if jpeg else "an empty file"
            raise ClipError("corrupt", f"{path.name} is no JPEG: {what}")
        if not jpeg.rstrip(b"\0\r\n").endswith(_JPEG_END):
            raise ClipError("corrupt", f"{path.name} breaks off")
        if (turned := _orientation(jpeg)) != 1:
            raise ClipError("ambiguous", f"{path.name} is turned by its EXIF orientation {turned}; turn its pixels")
        yield path, jpeg


def _orientation(jpeg: bytes) -> int:
    """The orientation that a JPEG's EXIF declares, which some readers follow and others do not; 1 (upright) without."""
    place = 2
    while jpeg[place : place + 1] == b"\xff" and jpeg[place + 1 : place + 2] not in (b"\xda", b""):
        size = int.from_bytes(jpeg[place + 2 : place + 4], "big")
        if jpeg[place + 1] == 0xE1 and jpeg[place + 4 : place + 10] == b"Exif\0\0":
            return _orientation_in(jpeg[place + 10 : place + 2 + size])
        place += 2 + max(size, 2)
    return 1


def _orientation_in(tiff: bytes) -> int:
    order: Literal["little", "big"] = "little" if tiff.startswith(b"II") else "big"

    def number(place: int, size: int) -> int:
        return int.from_bytes(tiff[place : place + size], order)

    entries = number(4, 4)
    for place in range(entries + 2, entries + 2 + 12 * min(number(entries, 2), _MAX_ENTRIES), 12):
        if number(place, 2) == _ORIENTATION:
            return number(place + 8, 2) or 1
    return 1


def _size_of(path: Path, jpeg: bytes) -> tuple[int, int]:
    """Width and height of a JPEG, which is decoded to its end. Raises ClipError."""
    decoder = av.CodecContext.create("mjpeg", "r")
    decoder.options = {"err_detect": "explode", "max_pixels": str(MAX_PIXELS)}
    try:
        pictures = [*decoder.decode(av.Packet(jpeg)), *decoder.decode(None)]
    except (av.error.FFmpegError, ValueError) as error:
        raise ClipError("corrupt", f"{path.name} does not decode: {error_text(error)}") from None
    if len(pictures) != 1 or pictures[0].is_corrupt:
        raise ClipError("corrupt", f"{path.name} does not decode")
    return pictures[0].width, pictures[0].height
