"""Archives as they turn up or could be sent, and what a reader that streams them has to make of each.

`ARCHIVES[name].build(clips)` gives the bytes of an archive with the good `clips` (name -> bytes, two at least) among
its members and something odd or hostile between the first half of them and the second. What has to come out:

- `must(clips)`: these, by the last part of their path, with exactly these bytes
- `may(clips)`: beside them any of these, where both answers can be defended; by default all the clips. Nothing else,
  and EVIL least of all: a clip in members that have to be refused
- `refused`: how many members were refused, by kind: path (absolute, `..`, backslash, control characters), link,
  device, size (above 1 GiB, or negative), sparse, header (a header that is too large, or cannot be read); None: any
- `damaged`: whether the archive could not be read to its end; None: either answer can be defended

No member's name ever chooses a place in the file system.
"""

from __future__ import annotations

import functools
import io
import lzma
import random
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.helpers.hostile_members import CLAIMS, DEVICES, HEADERS, LINKS, NEGATIVE, ODD_BUT_FINE, PATHS, SPARSE
from tests.helpers.tar_bytes import (
    END,
    EVIL,
    EVIL_BYTES,
    GIB,
    MIB,
    Clips,
    header,
    letters,
    long_name,
    member,
    members,
    packed,
    padded,
    pax,
    record,
    zeros,
)


def everything(clips: Clips) -> Clips:
    return dict(clips)


def nothing(clips: Clips) -> Clips:
    return {}


def front(clips: Clips) -> Clips:
    """What stands before the odd part."""
    return dict(list(clips.items())[: len(clips) // 2])


def back(clips: Clips) -> Clips:
    return dict(list(clips.items())[len(clips) // 2 :])


def and_evil(clips: Clips) -> Clips:
    return clips | {EVIL: EVIL_BYTES}


@dataclass(frozen=True)
class Archive:
    build: Callable[[Clips], bytes]
    refused: dict[str, int] | None = field(default_factory=dict)
    damaged: bool | None = False
    must: Callable[[Clips], Clips] = everything
    may: Callable[[Clips], Clips] = everything
    note: str = ""


# Ways to make an archive


def between(odd: bytes, *, folder: str = "") -> Callable[[Clips], bytes]:
    """The odd part in the middle of good clips, gzipped."""
    return lambda clips: packed(members(front(clips)) + odd + members(back(clips), folder) + END)


def whole(change: Callable[[bytes], bytes]) -> Callable[[Clips], bytes]:
    """All clips as a plain tar, and what is made of that."""
    return lambda clips: change(members(clips) + END)


def filled(head: bytes, filling: Callable[[int], bytes], mib: int, tail: bytes = b"") -> Callable[[Clips], bytes]:
    """The odd part has megabytes of one byte between its head and its tail: in gzip members, since that takes no time.

    They are read on through by anything that reads gzip, and 64 MiB of them are 64 KiB.
    """
    step = 64 if mib % 64 == 0 else 1

    def make(clips: Clips) -> bytes:
        before = packed(members(front(clips)) + head)
        return before + filling(step) * (mib // step) + packed(tail + members(back(clips)) + END)

    return make


def _cut_in_back(compress: Callable[[bytes], bytes]) -> Callable[[Clips], bytes]:
    """Cut in the last clip: at 60 % it could be anywhere, according to the clips."""

    def make(clips: Clips) -> bytes:
        until = members(clips)
        until = until[: -len(padded(list(clips.values())[-1])) // 2]
        data = compress(until)
        return data[: -(len(data) // 50) - 9]

    return make


@functools.cache
def _ballast() -> bytes:
    """A member that does not compress: where zlib fails, what it unpacked of the same chunk is lost to its caller."""
    return member("ballast.bin", random.Random(5).randbytes(MIB))


def _flipped(clips: Clips) -> bytes:
    """A deflate stream with a block that cannot be, between the halves: the checksum need not be asked."""
    stream = zlib.compressobj(1, zlib.DEFLATED, 31)
    first = stream.compress(members(front(clips)) + _ballast()) + stream.flush(zlib.Z_FULL_FLUSH)
    return first + b"\xff" * 64 + stream.compress(members(back(clips)) + END) + stream.flush()


def _with_trailer(change: Callable[[bytes], bytes]) -> Callable[[Clips], bytes]:
    """Whole but for gzip's trailer of checksum and length, which stands behind all members and the end blocks."""

    def make(clips: Clips) -> bytes:
        data = packed(members(clips) + _ballast() + END)
        return data[:-8] + change(data[-8:])

    return make


def _swapped(clips: Clips) -> Clips:
    """Each clip again under an ID that differs in nothing but case."""
    return {name[:11].swapcase() + name[11:]: data[::-1] for name, data in clips.items()}


def _xz(tar: bytes) -> bytes:
    return lzma.compress(tar, preset=0)


def _zip(clips: Clips) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in clips.items():
            archive.writestr(name, data)
    return out.getvalue()


def _named_gzip(tar: bytes) -> bytes:
    """A gzip header whose optional name is of 2 MB and leads out of the folder."""
    return packed(tar)[:3] + b"\x08" + packed(tar)[4:10] + b"../../" + b"n" * 2_000_000 + b"\0" + packed(tar)[10:]


def _refused(kind: str, odd: bytes, **more: object) -> Archive:
    return Archive(between(odd), {kind: 1}, **more)  # type: ignore[arg-type]


def _with_folder(folder: bytes) -> Callable[[Clips], bytes]:
    def one(name: str, data: bytes) -> bytes:
        path = folder + name.encode()
        return (long_name(path) if len(path) > 100 else b"") + member(path[:100], data)

    return lambda clips: packed(b"".join(one(*clip) for clip in clips.items()) + END)


def _with_pax_path(folder: str) -> Callable[[Clips], bytes]:
    return lambda clips: packed(
        b"".join(pax(record("path", folder + name)) + member("short", data) for name, data in clips.items()) + END
    )


def _with_prefix(clips: Clips) -> bytes:
    return packed(b"".join(member(name, data, prefix="train/" + "d" * 140) for name, data in clips.items()) + END)


def _by_tarfile(form: int) -> Callable[[Clips], bytes]:
    def make(clips: Clips) -> bytes:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=form) as tar:
            for name, data in clips.items():
                info = tarfile.TarInfo(f"./train/{'x' * 120}/{name}" if form != tarfile.USTAR_FORMAT else name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        return packed(out.getvalue())

    return make


_NO_ARCHIVES = {
    "empty_file": lambda clips: b"",
    "one_byte": lambda clips: b"\x1f",
    "gzip_header_only": lambda clips: packed(b"")[:10],
    "html_page": lambda clips: b"<!DOCTYPE html><html><body>503 Slow Down</body></html>\n" * 40,
    "gzip_of_html": lambda clips: packed(b"<!DOCTYPE html><html><body>503 Slow Down</body></html>\n" * 40),
    "gzip_of_nothing": lambda clips: packed(b""),
    "mp4": lambda clips: b"\0\0\0\x18ftypisom" + bytes(12) + struct.pack(">I", 100_000) + b"mdat" + bytes(99_992),
    "gzip_of_clip": lambda clips: packed(next(iter(clips.values()))),
    "gzip_in_gzip": whole(lambda tar: packed(packed(tar))),
    "random_bytes": lambda clips: random.Random(1).randbytes(20_000),
    "zip": _zip,
}

ARCHIVES: dict[str, Archive] = (
    {
        "plain": Archive(whole(packed)),
        "tar_without_gzip": Archive(whole(bytes), note="at least one published part is a plain tar under .tar.gz"),
        "concatenated_gzip": Archive(lambda clips: packed(members(front(clips))) + packed(members(back(clips)) + END)),
        "many_empty_gzip_members": Archive(
            lambda clips: packed(members(front(clips))) + packed(b"") * 20_000 + packed(members(back(clips)) + END)
        ),
        "gzip_with_long_name": Archive(whole(_named_gzip)),
        "no_end_blocks": Archive(
            lambda clips: packed(members(clips)),
            damaged=None,
            note="GNU tar takes it without a word; but a tar that was cut between two members looks the same",
        ),
        "one_end_block": Archive(lambda clips: packed(members(clips) + bytes(512)), damaged=None, note="as above"),
        "garbage_behind_tar": Archive(
            whole(lambda tar: packed(tar + random.Random(2).randbytes(5000))), damaged=None, note="nobody need look"
        ),
        "garbage_behind_gzip": Archive(
            whole(lambda tar: packed(tar) + random.Random(2).randbytes(5000)), damaged=None, note="nobody need look"
        ),
        "zeros_behind_gzip": Archive(whole(lambda tar: packed(tar) + bytes(5000)), note="padding, as of a tape"),
        "two_tars": Archive(
            between(END), must=front, damaged=None, note="joined by cat: GNU tar stops at the first one's end"
        ),
        "one_zero_block_between": Archive(
            between(bytes(512)), must=front, damaged=None, note="GNU tar warns, and stops"
        ),
        "crc_error": Archive(_with_trailer(lambda trailer: b"\1\2\3\4" + trailer[4:]), damaged=True),
        "length_error": Archive(_with_trailer(lambda trailer: trailer[:4] + b"\1\2\3\4"), damaged=True),
        "no_trailer": Archive(
            _with_trailer(lambda trailer: b""), damaged=True, note="to be seen by reading to the end"
        ),
        "gzip_cut": Archive(_cut_in_back(packed), damaged=True, must=lambda clips: dict(list(clips.items())[:-1])),
        "tar_cut": Archive(_cut_in_back(bytes), damaged=True, must=lambda clips: dict(list(clips.items())[:-1])),
        "broken_deflate": Archive(_flipped, damaged=True, must=front),
        "wrong_checksum": Archive(
            between(header(EVIL, 0, checksum_error=1)),
            damaged=True,
            must=front,
            refused=None,
            note="what stands behind may be found again, or not",
        ),
        "garbage_header": Archive(
            between(random.Random(3).randbytes(512)), damaged=True, must=front, refused=None, note="as above"
        ),
        "empty_tar": Archive(lambda clips: packed(bytes(10_240)), must=nothing),
        "tar_in_tar": Archive(
            lambda clips: packed(members(front(clips)) + member("more.tar", members(back(clips)) + END) + END),
            must=front,
        ),
        "nested_folders": Archive(between(b"", folder="./train/riding a bike/")),
        "deep_folders": Archive(_with_folder(b"d/" * 500)),
        "folders_in_prefix": Archive(_with_prefix),
        "folder_in_latin_1": Archive(_with_folder(b"caf\xe9/"), note="no UTF-8: a path that no table of strings takes"),
        "folder_in_pax_utf_8": Archive(
            _with_pax_path("train/d\N{LATIN SMALL LETTER E WITH ACUTE}j\u00e0 vu/" + "x" * 99 + "/")
        ),
        "gnu_format": Archive(_by_tarfile(tarfile.GNU_FORMAT)),
        "pax_format": Archive(_by_tarfile(tarfile.PAX_FORMAT)),
        "ustar_format": Archive(_by_tarfile(tarfile.USTAR_FORMAT)),
        "v7_format": Archive(
            lambda clips: packed(b"".join(member(*clip, b"\0", magic=bytes(8)) for clip in clips.items()) + END)
        ),
        "contiguous_files": Archive(
            lambda clips: packed(b"".join(member(*clip, b"7") for clip in clips.items()) + END),
            refused=None,
            must=nothing,
            note="POSIX has type 7 read as a file; nobody writes it",
        ),
        "unknown_type": Archive(between(member(EVIL, kind=b"Q")), refused=None, may=and_evil, note="POSIX: as a file"),
        "empty_name": Archive(between(member("")), refused=None, note="passed over, or refused as a path"),
        "only_dots": Archive(between(member("..")), refused=None, note="passed over, or refused as a path"),
        "same_clip_twice": Archive(lambda clips: packed(members(clips) * 2 + END)),
        "same_name_other_bytes": Archive(
            lambda clips: packed(members(clips) + members(dict.fromkeys(clips, EVIL_BYTES)) + END),
            note="the first one counts: it is settled by then",
        ),
        "same_clip_in_two_folders": Archive(
            lambda clips: packed(members(clips, "train/") + members(clips, "val/") + END)
        ),
        "ids_differ_in_case": Archive(
            lambda clips: packed(members(clips | _swapped(clips)) + END), must=lambda clips: clips | _swapped(clips)
        ),
        "empty_clip": Archive(
            between(member(EVIL, b"")),
            may=lambda clips: clips | {EVIL: b""},
            note="settled as no video, or passed over",
        ),
        "no_suffix": Archive(between(member(EVIL.removesuffix(".mp4"))), may=lambda c: c | {EVIL[:-4]: EVIL_BYTES}),
        "unfinished_download": Archive(between(member(f"{EVIL}.part")), may=lambda c: c | {f"{EVIL}.part": EVIL_BYTES}),
        "symlinked_folder": Archive(
            between(header("train", 0, b"2", link="/tmp"), folder="train/"),
            {"link": 1},
            note="members behind it name a path through the link: no path is ever followed, so they come out",
        ),
        "symlink_with_size": Archive(
            between(header(EVIL, 512, b"2", link="x") + bytes(512)), None, None, front, note="a link has no content"
        ),
        "pax_path_for_all": Archive(
            between(pax(record("path", f"../{EVIL}"), kind=b"g")),
            None,
            None,
            front,
            note="a global header that renames whatever follows: refused each, or the header is passed over",
        ),
        "long_name_with_nul": Archive(
            between(long_name(f"{EVIL}\0/../../x".encode()) + member(EVIL)),
            None,
            may=and_evil,
            note="it ends at the NUL",
        ),
        "chain_of_long_names": Archive(
            between(long_name(b"x" * 120) * 5000 + member(EVIL)),
            None,
            None,
            front,
            and_evil,
            note="a reader that calls itself for the next header runs out of stack",
        ),
        "many_small_members": Archive(
            lambda clips: packed(
                members(front(clips))
                + b"".join(header(f"{i:07d}.txt", 0) for i in range(20_000))
                + members(back(clips))
                + END
            )
        ),
        "zeros_of_2_gib": Archive(
            filled(header(EVIL, 2 * GIB), zeros, 2048), {"size": 1}, note="2 MiB here; passed over, and on"
        ),
        "zeros_of_5_gib": Archive(
            filled(header(EVIL, 5 * GIB), zeros, 5120),
            {"size": 1},
            True,
            front,
            note="more than is worth to pass over: the archive ends there",
        ),
        "zeros_for_headers": Archive(
            filled(b"", zeros, 512), must=front, damaged=None, note="end blocks by the million: the tar is over"
        ),
        "pax_header_of_300_mib": Archive(
            filled(
                header("x", 300 * MIB, b"x") + b"314572800 comment=",
                letters,
                299,
                b"a" * (MIB - 19) + b"\n" + member(EVIL),
            ),
            {"header": 1},
            None,
            front,
            note="valid but for its size; what follows has no known name any more",
        ),
        "long_name_of_300_mib": Archive(
            filled(header("././@LongLink", 300 * MIB, b"L", magic=b"ustar  \0"), letters, 300, member(EVIL)),
            {"header": 1},
            None,
            front,
            note="as above",
        ),
        "pax_header_claims_8_eib": Archive(
            between(header("x", 2**63 - 1, b"x") + member(EVIL)), {"header": 1}, True, front
        ),
        "long_name_claims_100_gib": Archive(
            between(header("././@LongLink", 100 * GIB, b"L", magic=b"ustar  \0") + member(EVIL)),
            {"header": 1},
            True,
            front,
        ),
        "tar_in_xz": Archive(whole(_xz), damaged=None, must=nothing, note="nobody publishes it; tarfile reads it"),
    }
    | {name: _refused("path", odd) for name, odd in PATHS.items()}
    | {name: _refused("link", odd) for name, odd in LINKS.items()}
    | {name: _refused("device", odd) for name, odd in DEVICES.items()}
    | {name: _refused("sparse", odd) for name, odd in SPARSE.items()}
    | {name: _refused("size", odd, damaged=True, must=front) for name, odd in CLAIMS.items()}
    | {
        name: _refused("size", odd, damaged=None, must=front, note="where the next header stands cannot be known")
        for name, odd in NEGATIVE.items()
    }
    | {
        name: _refused("header", odd, damaged=None, must=front, note="the member behind it loses its name")
        for name, odd in HEADERS.items()
    }
    | {name: Archive(between(odd)) for name, odd in ODD_BUT_FINE.items()}
    | {name: Archive(build, damaged=True, must=nothing, may=nothing) for name, build in _NO_ARCHIVES.items()}
)

SIZES = {*CLAIMS, *NEGATIVE}  # whose member lies about its size in a header behind the first half of the clips
