"""The bytes of an annotation list, out of a plain file, a gzip or an archive.

What a file is, is told by its bytes and never by its suffix: a published `.tar.gz` was a plain tar, and servers unpack
what they send.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import re
import stat
import tarfile
import zlib
from pathlib import Path

from k710.errors import ListError
from k710.lists.annotation_rows import is_split, quoted

# A list of half a million rows has 25 MB, or 150 MB as JSON; what has more than this is no list.
MAX_LIST_BYTES = 1 << 30

# What a file begins with that people take for a list, and what to do with it.
_OTHER_FORMS = {
    b"PK\x03\x04": "is a ZIP archive or an Excel workbook; unpack it, or save the sheet as CSV in UTF-8",
    b"\xd0\xcf\x11\xe0": "is an old Excel workbook; save the sheet as CSV in UTF-8",
    b"\xff\xfe": "is text in UTF-16, not a text file in UTF-8; save it as UTF-8",
    b"\xfe\xff": "is text in UTF-16, not a text file in UTF-8; save it as UTF-8",
    b"PAR1": "is a Parquet file; save it as CSV",
}


def read_unpacked(path: Path, split: str) -> tuple[bytes, str]:
    """The bytes of the list of `split`, unpacked, and the SHA-256 of the file that holds it.

    Raises ListError for what is no file, is damaged or cut off, is far too large, or is an archive without that list.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise ListError("is a folder or a device, not a file")  # a pipe would be waited for without end
    if status.st_size > MAX_LIST_BYTES:
        raise ListError(f"has more than {MAX_LIST_BYTES >> 20} MiB, which no annotation list has")
    raw = path.read_bytes()
    sha256 = hashlib.sha256(raw).hexdigest()
    data = _gunzip(raw) if raw[:2] == b"\x1f\x8b" else raw
    if data[257:262] == b"ustar":
        data = _member(data, split)
        data = _gunzip(data) if data[:2] == b"\x1f\x8b" else data
    refuse_other_forms(data)
    return data, sha256


def list_text(path: Path) -> str:
    """The text of anyone's list, plain or gzipped; a pipe will do. Raises ListError for what is no text in UTF-8."""
    with path.open("rb") as file:
        data = file.read(MAX_LIST_BYTES + 1)
    if len(data) > MAX_LIST_BYTES:
        raise ListError(f"has more than {MAX_LIST_BYTES >> 20} MiB, which no list has")
    data = _gunzip(data) if data[:2] == b"\x1f\x8b" else data
    if data[257:262] == b"ustar":
        raise ListError("is a tar archive; unpack it and name the list inside")
    refuse_other_forms(data)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ListError(f"not a text file in UTF-8: {error}") from None


def refuse_other_forms(data: bytes) -> None:
    """Raise ListError for the first bytes of a file that people take for a list and that is none."""
    for magic, what in _OTHER_FORMS.items():
        if data.startswith(magic):
            raise ListError(what)
    # Without a byte order mark, UTF-16 still has a NUL in every other byte of plain text.
    even, odd = data[:64:2], data[1:64:2]
    if data[1:2] and ((all(even) and not any(odd)) or (all(odd) and not any(even))):
        raise ListError(_OTHER_FORMS[b"\xff\xfe"])


def _gunzip(raw: bytes) -> bytes:
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(raw)) as stream:
            data = stream.read(MAX_LIST_BYTES + 1)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ListError(f"gzip data is damaged or cut off: {error}") from None
    if len(data) > MAX_LIST_BYTES:
        raise ListError(f"unpacks to more than {MAX_LIST_BYTES >> 20} MiB, which is no annotation list")
    return data


def _member(data: bytes, split: str) -> bytes:
    """The list of `split` inside a tar: DeepMind's holds `…/{split}.csv` and the same again as `.json`."""
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
            members: dict[str, list[tarfile.TarInfo]] = {".csv": [], ".txt": [], ".json": []}
            for member in archive:
                if member.size < 0:  # tarfile would go back and read it again, for ever
                    raise ListError(f"the archive is damaged: {quoted(member.name)} has a negative size")
                if suffix := _suffix_of_list(member, split):
                    members[suffix].append(member)
            found = next(filter(None, members.values()), [])
            if not found:
                raise ListError(f"the archive holds no {split}.csv or {split}.json")
            if len(found) > 1:
                raise ListError(f"{len(found)} lists for {split}: {', '.join(quoted(each.name) for each in found)}")
            if found[0].size > MAX_LIST_BYTES:
                raise ListError(f"{quoted(found[0].name)} has {found[0].size:,} bytes, which no annotation list has")
            stream = archive.extractfile(found[0])
            return stream.read() if stream else b""
    except (tarfile.TarError, EOFError, ValueError) as error:  # ValueError: a header with a broken number
        raise ListError(f"the archive is damaged or cut off: {error}") from None


def _suffix_of_list(member: tarfile.TarInfo, split: str) -> str:
    """The suffix of an archive's member whose name says that it is the list of `split`; else nothing.

    Only the name's last part is looked at, and only files count. macOS adds a `._val.csv` for every `val.csv`.
    """
    match = re.fullmatch(r"(?:[^.].*_)?([a-z]+)(\.(?:csv|txt|json))", member.name.rsplit("/", 1)[-1])
    return match[2] if match and member.isfile() and is_split(match[1], split) else ""
