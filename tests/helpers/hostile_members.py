"""Members of a tar that have to be refused, each as its bytes with all headers, and odd ones that are fine."""

from __future__ import annotations

from tests.helpers.tar_bytes import EVIL, EVIL_BYTES, GIB, header, long_name, member, number, padded, pax, record


def _sparse_map(*, extended: bool) -> bytes:
    """GNU's old sparse header: 4 pieces of (offset, size), whether more follow, and the size it unpacks to."""
    holes = b"".join(number(at, 12) + number(0, 12) for at in range(0, 4096 * 24, 4096))
    piece = number(2**40, 12) + number(len(EVIL_BYTES), 12)
    pieces = (holes + piece if extended else piece).ljust(25 * 24, b"\0")
    tail = bytes(41) + pieces[:96] + (b"\1" if extended else b"\0") + number(2**62, 12)
    more = (pieces[96:] + b"\0").ljust(512, b"\0") if extended else b""
    return header(EVIL, len(EVIL_BYTES), b"S", magic=b"ustar  \0", tail=tail) + more + padded(EVIL_BYTES)


_PAX_SPARSE = pax(
    record("GNU.sparse.major", "1"),
    record("GNU.sparse.minor", "0"),
    record("GNU.sparse.name", EVIL),
    record("GNU.sparse.realsize", str(2**60)),
) + member(f"GNUSparseFile.0/{EVIL}", b"1\n0\n17\n".ljust(512, b"\0") + EVIL_BYTES)


PATHS = {
    "absolute_path": member(f"/tmp/{EVIL}"),
    "absolute_path_twice": member(f"//tmp/{EVIL}"),
    "parent_path": member(f"../{EVIL}"),
    "parent_path_inside": member(f"train/../../{EVIL}"),
    "parent_path_that_returns": member(f"train/../{EVIL}"),
    "parent_in_prefix": member(EVIL, prefix="../.."),
    "backslash_path": member(f"..\\..\\{EVIL}"),
    "drive_path": member(f"C:\\{EVIL}"),
    "newline_in_name": member(f"train\n/{EVIL}"),
    "return_in_name": member(f"train\r/{EVIL}"),
    "escape_in_name": member(f"\x1b[2J\x1b]0;x\x07/{EVIL}"),
    "delete_in_name": member(f"\x7f/{EVIL}"),
    "pax_path_leads_out": pax(record("path", f"../../{EVIL}")) + member(EVIL),
    "pax_path_absolute": pax(record("path", f"/{EVIL}")) + member(EVIL),
    "pax_path_with_nul": pax(record("path", f"a\0b/{EVIL}")) + member(EVIL),
    "pax_path_with_newline": pax(record("path", f"a\nb/{EVIL}")) + member(EVIL),
    "pax_path_given_twice": pax(record("path", EVIL), record("path", f"../{EVIL}")) + member(EVIL),
    "long_name_leads_out": long_name(f"../../{EVIL}".encode()) + member(EVIL, magic=b"ustar  \0"),
}

LINKS = {
    "symlink": header(EVIL, 0, b"2", link="/etc/passwd"),
    "symlink_to_clip": header(EVIL, 0, b"2", link="../../secret.mp4"),
    "hardlink_out": header(EVIL, 0, b"1", link="/etc/passwd"),
    "hardlink_inside": header(EVIL, 0, b"1", link="README"),
    "pax_link": pax(record("linkpath", "/etc/" + "x" * 200)) + header(EVIL, 0, b"2", link="x"),
}

DEVICES = {
    "fifo": header(EVIL, 0, b"6"),
    "character_device": header(EVIL, 0, b"3"),
    "block_device": header(EVIL, 0, b"4"),
}

SPARSE = {
    "sparse": _sparse_map(extended=False),
    "sparse_extended": _sparse_map(extended=True),
    "sparse_pax": _PAX_SPARSE,
    "sparse_pax_old": pax(
        record("GNU.sparse.size", str(2**60)), record("GNU.sparse.numblocks", "1"), record("GNU.sparse.map", "0,17")
    )
    + member(EVIL),
}

# Claims of more than there is: nothing behind can be found.
CLAIMS = {
    "claims_2_gib": header(EVIL, 2 * GIB) + bytes(512),
    "claims_8_gib_less_one": header(EVIL, 8 * GIB - 1) + bytes(512),
    "claims_100_gib": header(EVIL, 100 * GIB) + bytes(512),
    "claims_8_eib": header(EVIL, 2**63 - 1) + bytes(512),
    "claims_all_bits": header(EVIL, b"\x80" + b"\xff" * 11) + bytes(512),
    "pax_claims_8_eib": pax(record("size", str(2**63))) + member(EVIL),
    "pax_claims_1000_digits": pax(record("size", "9" * 1000)) + member(EVIL),
}

NEGATIVE = {
    "negative_size": header(EVIL, -512),
    "negative_size_of_a_lot": header(EVIL, -(2**62)),
    "pax_negative_size": pax(record("size", "-1024")) + member(EVIL),
}

HEADERS = {
    "pax_record_of_length_0": pax(b"0 path=x\n") + member(EVIL),
    "pax_record_beyond_header": pax(b"999999999 path=x\n") + member(EVIL),
    "pax_record_of_4300_digits": pax(b"9" * 5000 + b" path=x\n") + member(EVIL),
    "pax_record_without_sign": pax(b"9 path x\n") + member(EVIL),
    "pax_size_is_a_word": pax(record("size", "huge")) + member(EVIL),
    "size_is_a_word": header(EVIL, b"huge\0\0\0\0\0\0\0\0") + padded(EVIL_BYTES),
}

ODD_BUT_FINE = {
    "folders": header("./", 0, b"5") + header("train/", 0, b"5") + header("old_style/", 0),
    "junk_members": member("README", b"read me") + member(".DS_Store", bytes(100)) + member("train/list.csv", b"a,b\n"),
    "apple_double": member(f"._{EVIL}", b"\0\5\x16\7" + bytes(200)) + member(f"__MACOSX/train/._{EVIL}", bytes(200)),
    "pax_global_comment": pax(record("comment", "0" * 40), kind=b"g"),
    "pax_times": pax(record("mtime", "1700000000.123456789"), record("SCHILY.xattr.user.x", b"\xff\0\xfe")),
    "volume_label": header("kinetics", 0, b"V", magic=b"ustar  \0"),
    "odd_times": member("a.txt", b"x", mtime=2**62) + member("b.txt", b"x", mtime=-1),
}
