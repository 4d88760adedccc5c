"""Tar and gzip by hand, since tarfile writes nothing that is wrong."""

from __future__ import annotations

import functools
import gzip

# A clip in members that have to be refused
EVIL = "evil_member_000010_000020.mp4"
EVIL_BYTES = b"\0\0\0\x18ftypisom evil"
MIB, GIB = 2**20, 2**30
END = bytes(1024)

Clips = dict[str, bytes]


def number(value: int, width: int) -> bytes:
    """A number field: octal, or base 256 where that does not hold it."""
    if 0 <= value < 8 ** (width - 1):
        return b"%0*o\0" % (width - 1, value)
    sign = 0x80 if value >= 0 else 0xFF
    return bytes([sign]) + (value % 2 ** (8 * (width - 1))).to_bytes(width - 1, "big")


def header(
    name: str | bytes,
    size: int | bytes,
    kind: bytes = b"0",
    *,
    link: str = "",
    prefix: str = "",
    mtime: int | bytes = 0,
    magic: bytes = b"ustar\x0000",
    tail: bytes = b"",
    checksum_error: int = 0,
) -> bytes:
    """A tar header of 512 bytes; `size` and `mtime` may be the bytes of their fields of 12."""
    raw = name.encode() if isinstance(name, str) else name
    size = number(size, 12) if isinstance(size, int) else size
    mtime = number(mtime, 12) if isinstance(mtime, int) else mtime
    before = raw.ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + size + mtime
    behind = kind + link.encode().ljust(100, b"\0") + magic + bytes(64) + b"0000000\0" * 2
    behind += tail or prefix.encode().ljust(155, b"\0")
    assert (len(before), len(magic)) == (148, 8), name
    checksum = sum(before) + 8 * ord(" ") + sum(behind) + checksum_error
    return (before + b"%06o\0 " % checksum + behind).ljust(512, b"\0")


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def member(name: str | bytes, data: bytes = EVIL_BYTES, kind: bytes = b"0", **more: object) -> bytes:
    return header(name, len(data), kind, **more) + padded(data)  # type: ignore[arg-type]


def members(clips: Clips, folder: str = "") -> bytes:
    return b"".join(member(folder + name, data) for name, data in clips.items())


def long_name(name: bytes) -> bytes:
    """GNU's header for the name of the member behind it."""
    return member("././@LongLink", name + b"\0", b"L", magic=b"ustar  \0")


def record(key: str, value: str | bytes) -> bytes:
    rest = b" " + key.encode() + b"=" + (value.encode() if isinstance(value, str) else value) + b"\n"
    length = len(rest)
    while length != len(rest) + len(str(length)):
        length = len(rest) + len(str(length))
    return str(length).encode() + rest


def pax(*records: bytes, kind: bytes = b"x") -> bytes:
    return member("PaxHeaders/x", b"".join(records), kind)


def packed(tar: bytes) -> bytes:
    return gzip.compress(tar, compresslevel=1, mtime=0)


@functools.cache
def zeros(mib: int) -> bytes:
    return gzip.compress(bytes(mib * MIB), mtime=0)


@functools.cache
def letters(mib: int) -> bytes:
    return gzip.compress(b"a" * (mib * MIB), mtime=0)
