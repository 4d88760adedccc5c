"""Bad lists and bad places: one message that names file, line and value, exit code 1, and nothing half done."""

from __future__ import annotations

import errno
import gzip
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import Result

from k710 import open_manifest
from k710.curation.build import CurationRecipe, build
from k710.errors import ListError
from k710.lists.annotations import ListFile, find_lists, read_list
from k710.sample import LISTS

HEADER = "label,youtube_id,time_start,time_end,split\n"
GOOD = HEADER + "abseiling,abcdefghijk,10,20,val\narchery,-bcdefghijk,0,9,val\n"
ENTRY = '"{}": {{"annotations": {{"label": "archery", "segment": {}}}, "subset": "val"}}'


def files_of(folder: Path) -> dict[str, bytes | None]:
    """Everything below a folder: the bytes of files, None for what else there is."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def assert_refused(result: Result, *parts: str, exit_code: int = 1) -> None:
    """One readable message on stderr that contains all parts, and nothing on stdout."""
    assert (result.exit_code, result.stdout) == (exit_code, ""), result.output
    assert result.stderr.startswith("k710: ")
    assert "\nk710: " not in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stderr.replace("\n", "").isprintable()
    assert len(result.stderr) < 4_000
    for part in parts:
        assert part in result.stderr


@pytest.fixture
def lists(tmp_path: Path) -> Path:
    """A folder of good lists of k400; a test spoils one of them."""
    folder = tmp_path / "lists"
    folder.mkdir()
    (folder / "k400_train.csv").write_text(GOOD.replace("val", "train").replace("cdefghijk", "cdefghij_"))
    (folder / "k400_val.csv").write_text(GOOD)
    return folder


@pytest.fixture
def refuses(k710: Callable[..., Result], lists: Path, sample, tmp_path: Path) -> Callable[..., None]:
    """Holds that a build of `lists` is refused, into a new folder and over an old manifest, which stays as it was."""

    def check(*parts: str, options: tuple[object, ...] = ()) -> None:
        before = files_of(tmp_path)
        arguments = ("build", "--sources", "k400", "--annotations", lists, *options)
        assert_refused(k710(*arguments, "--out", tmp_path / "new" / "deep"), *parts)
        assert files_of(tmp_path) == before
        shutil.copytree(sample.path, tmp_path / "old")
        before = files_of(tmp_path)
        assert_refused(k710(*arguments, "--out", tmp_path / "old", "--force"), *parts)
        assert files_of(tmp_path) == before

    return check


def test_the_lists_of_this_file_are_good(k710, lists, tmp_path):
    """Otherwise every test below would pass for the wrong reason."""
    result = k710("build", "--sources", "k400", "--annotations", lists, "--out", tmp_path / "m")
    assert result.exit_code == 0, result.output
    assert open_manifest(tmp_path / "m").clips.num_rows == 4


def with_row(row: str) -> str:
    """A good list whose third line is `row`."""
    return f"{HEADER}abseiling,abcdefghijk,10,20,val\n{row}\narchery,-bcdefghijk,0,9,val\n"


NOT_THE_ALPHABET = "is not 11 characters of the YouTube alphabet (A-Z a-z 0-9 _ -)"
BAD_CSV: dict[str, tuple[str | bytes, list[str]]] = {
    "no label column": (GOOD.replace("label,", "name,", 1), ["line 1: no column label; the header is 'name,you"]),
    "no youtube_id": (GOOD.replace("youtube_id", "id", 1), ["line 1: no column youtube_id"]),
    "no times": (GOOD.replace("time_", "t_"), ["line 1: no column time_start, time_end"]),
    "header on line 3": ("\n\n" + GOOD.replace("label,", "", 1), ["line 3: no column label"]),
    "no header": (GOOD.removeprefix(HEADER), ["line 1: no column label, youtube_id", "'abseiling,abcdefghijk,10"]),
    "a column twice": (GOOD.replace("split", "label", 1), ["line 1: column label stands there twice"]),
    "semicolons": (GOOD.replace(",", ";"), ["line 1: its fields are separated by semicolons"]),
    "a field too few": (with_row("archery,_bcdefghijk,5,15"), ["line 3: 4 fields where the header has 5", "_bcd"]),
    "a field too many": (with_row("archery,_bcdefghijk,5,15,val,0"), ["line 3: 6 fields where the header has 5"]),
    "a comma in a label": (with_row("arch,ery,_bcdefghijk,5,15,val"), ["line 3: 6 fields where the header has 5"]),
    "no label": (with_row(" ,_bcdefghijk,5,15,val"), ["line 3: no label"]),
    "short id": (with_row("archery,_bcdefghij,5,15,val"), [f"line 3: ID '_bcdefghij' {NOT_THE_ALPHABET}"]),
    "long id": (with_row("archery,_bcdefghijkl,5,15,val"), [f"line 3: ID '_bcdefghijkl' {NOT_THE_ALPHABET}"]),
    "no id": (with_row("archery,,5,15,val"), [f"line 3: ID '' {NOT_THE_ALPHABET}"]),
    "spreadsheet's id": (with_row("archery,#NAME?,5,15,val"), ["line 3: ID '#NAME?'"]),
    "id with a dot": (with_row("archery,.bcdefghijk,5,15,val"), ["line 3: ID '.bcdefghijk'"]),
    "id with an é": (with_row("archery,ébcdefghijk,5,15,val"), ["line 3: ID '\\xe9bcdefghijk'"]),
    "id in small capitals": (with_row("archery,ᴀbcdefghijk,5,15,val"), ["line 3: ID '\\u1d00bcdefghijk'"]),
    "id with an end of line": (with_row('archery,"_bcdefghijk\n",5,15,val'), ["line 3: not CSV, or cut off"]),
    "time in words": (with_row("archery,_bcdefghijk,five,15,val"), ["line 3: time_start 'five' is not a whole number"]),
    "time of a clock": (with_row("archery,_bcdefghijk,5,1:30,val"), ["line 3: time_end '1:30' is not a whole number"]),
    "no time": (with_row("archery,_bcdefghijk,5,,val"), ["line 3: time_end '' is not a whole number of seconds"]),
    "half a second": (with_row("archery,_bcdefghijk,5.5,15,val"), ["line 3: time_start '5.5' is not a whole number"]),
    "hexadecimal": (with_row("archery,_bcdefghijk,0x5,15,val"), ["line 3: time_start '0x5' is not a whole number"]),
    "nan": (with_row("archery,_bcdefghijk,nan,15,val"), ["line 3: time_start 'nan' is not a whole number"]),
    "arabic digits": (with_row("archery,_bcdefghijk,5,\u0661\u0665,val"), ["line 3: time_end '\\u0661\\u0665' is not"]),
    "endless number": (with_row(f"archery,_bcdefghijk,5,{'9' * 9_999},val"), ["line 3: time_end '99999999"]),
    "end before start": (with_row("archery,_bcdefghijk,15,5,val"), ["line 3: time_end 5 is not after time_start 15"]),
    "end at start": (with_row("archery,_bcdefghijk,5,5,val"), ["line 3: time_end 5 is not after time_start 5"]),
    "negative start": (with_row("archery,_bcdefghijk,-5,5,val"), ["line 3: time_start -5 is negative"]),
    "end of days": (with_row("archery,_bcdefghijk,5,1000000,val"), ["line 3: time_end 1000000 is past 999999 s"]),
    "another split": (with_row("archery,_bcdefghijk,5,15,train"), ["line 3: split 'train' in a list of val clips"]),
    "no bytes": ("", ["the list is empty"]),
    "a BOM alone": ("\ufeff\r\n \n", ["the list is empty"]),
    "header alone": (HEADER, ["the list is empty"]),
    "cut off in a row": (GOOD[:-9], ["line 3: 2 fields where the header has 5"]),
    "cut off in a time": (GOOD[:-5], ["line 3: 4 fields where the header has 5: 'archery,-bcdefghijk,0,9'"]),
    "cut off in a split": (GOOD[:-2], ["line 3: split 'va' in a list of val clips"]),
    "cut off in quotes": (HEADER + '"abseiling","abcdefg', ["line 2: not CSV, or cut off", "'\"abseiling\",\"ab"]),
    "an open quote": (with_row('"archery,_bcdefghijk,5,15,val'), ["1 bad row of 3", "line 3: not CSV, or cut off"]),
    "a quote amid a field": (with_row('"arch"ery,_bcdefghijk,5,15,val'), ["line 3: not CSV, or cut off", "arch"]),
    "latin-1 label": (with_row("café,_bcdefghijk,5,15,val").encode("latin-1"), ["line 3: not UTF-8: 'caf\\udce9'"]),
    "latin-1 header": (GOOD.replace("label", "étiquette", 1).encode("latin-1"), ["line 1: not UTF-8"]),
    "utf-16": (GOOD.encode("utf-16"), ["is text in UTF-16", "save it as UTF-8"]),
    "utf-16 without BOM": (GOOD.encode("utf-16-le"), ["is text in UTF-16", "save it as UTF-8"]),
    "noise": (random.Random(1).randbytes(5_000), ["line 1: not UTF-8"]),
    "zeros": (bytes(5_000), ["line 1: not CSV (a NUL byte)", "'\\x00\\x00"]),
    "a picture": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", ["line 1: not UTF-8: '\\udc89PNG'"]),
    "a web page": ("<!DOCTYPE html>\n<title>404</title>\n", ["no column label", "the header is '<!DOCTYPE html>'"]),
    "a line of 10 MB": (with_row("x" * 10_000_000), ["line 3: 1 fields where the header has 5: 'xxxx"]),
    "a label of 10 MB": (with_row("x" * 10_000_000 + ",_bcdefghijk,5,15,val"), ["label of 10,000,000 characters"]),
    "a header of 10 MB": ("x" * 10_000_000, ["line 1: no column label", "the header is 'xxx"]),
    "a quoted field of 1 MB": (with_row(f'"{"x" * 1_000_000}",_bcdefghijk,5,15,val'), ["line 3: not CSV", "limit"]),
    "terminal commands": (with_row("\x1b[2J,_bcdefgh\x07jk,5,15,val"), ["ID '_bcdefgh\\x07jk'"]),
    "endless quotes": (with_row('"' * 99_999), ["line 3: "]),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_CSV)
def test_bad_csv(refuses, lists, case):
    content, parts = BAD_CSV[case]
    path = lists / "k400_val.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    refuses(f"{path}: ", *parts)


BAD_JSON: dict[str, tuple[str | bytes, list[str]]] = {
    "cut off": ("{" + ENTRY.format("abcdefghijk", "[1, 2]"), ["line 1: not a JSON list, or cut off: want , or }"]),
    "cut off in a value": ('{\n"abcdefghijk": {"annotations"', ["line 2: not a JSON list, or cut off"]),
    "opened alone": ("{\n\n", ["line 3: not a JSON list, or cut off"]),
    "more behind it": ("{" + ENTRY.format("abcdefghijk", "[1, 2]") + "}\n}", ["line 2: not a JSON list", "more data"]),
    "no key": ("{" + ENTRY.format("abcdefghijk", "[1, 2]") + ",\n}", ["line 2: not a JSON list, or cut off"]),
    "a number for a key": ("{1: 2}", ["line 1: not a JSON list, or cut off: want a YouTube ID in quotes"]),
    "empty": ("{}", ["the list is empty"]),
    "an array": ('[{"youtube_id": "abcdefghijk"}]', ["line 1: not a JSON list, or cut off: want {"]),
    "nested deep": ('{"abcdefghijk": ' + "[" * 100_000, ["not a JSON list: "]),
    "nested deep in a key": ("{" * 100_000, ["line 1: not a JSON list"]),
    "a segment of arrays": (
        "{" + ENTRY.format("abcdefghijk", f"[{'[' * 300}{']' * 300}, 2]") + "}",
        ["line 1: entry 'abcdefghijk': its segment is not two times"],
    ),
    "digits without end": ("{" + ENTRY.format("abcdefghijk", f"[1, {'9' * 9_999}]") + "}", ["not a JSON list: Ex"]),
    "nan": ("{" + ENTRY.format("abcdefghijk", "[NaN, 2]") + "}", ["entry 'abcdefghijk': time_start 'nan' is not"]),
    "infinity": ("{" + ENTRY.format("abcdefghijk", "[1, Infinity]") + "}", ["time_end 'inf' is not a whole number"]),
    "too large": ("{" + ENTRY.format("abcdefghijk", "[1, 1e400]") + "}", ["time_end 'inf' is not a whole number"]),
    "half a second": ("{" + ENTRY.format("abcdefghijk", "[1.5, 9]") + "}", ["time_start '1.5' is not a whole number"]),
    "true": ("{" + ENTRY.format("abcdefghijk", "[true, 9]") + "}", ["its segment is not two times"]),
    "one time": ("{" + ENTRY.format("abcdefghijk", "[9]") + "}", ["its segment is not two times"]),
    "text for a segment": ("{" + ENTRY.format("abcdefghijk", '"12"') + "}", ["its segment is not two times"]),
    "no segment": ('{"abcdefghijk": {"annotations": {}}}', ["entry 'abcdefghijk': no annotations with a segment"]),
    "no annotations": ('{"abcdefghijk": {"annotations": null}}', ["no annotations with a segment"]),
    "null": ('{"abcdefghijk": null}', ["no annotations with a segment"]),
    "annotations of ActivityNet": ('{"abcdefghijk": {"annotations": [{"segment": [1, 2]}]}}', ["no annotations with"]),
    "another subset": (
        "{" + ENTRY.format("abcdefghijk", "[1, 2]").replace('"val"', '"training"') + "}",
        ["entry 'abcdefghijk': subset 'training' in a list of val clips"],
    ),
    "a label that is no text": (
        "{" + ENTRY.format("abcdefghijk", "[1, 2]").replace('"archery"', "{}") + "}",
        ["its label is not text"],
    ),
    "half a character": (
        "{" + ENTRY.format("abcdefghijk", "[1, 2]").replace("archery", "arch\\ud800ery") + "}",
        ["not UTF-8: 'arch\\ud800ery'"],
    ),
    "bad id": ("{" + ENTRY.format("abc/../../x", "[1, 2]") + "}", ["entry 'abc/../../x': ID 'abc/../../x' is not 11"]),
    "its line": (
        "{\n" + ENTRY.format("abcdefghijk", "[1, 2]") + ",\n\n" + ENTRY.format("_bcdefghijk", "[2, 1]") + "}",
        ["1 bad row of 2\n  line 4: entry '_bcdefghijk': time_end 1 is not after time_start 2"],
    ),
    "latin-1": (b'{\n"abcdefghijk": "\xe9"}', ["line 2: not UTF-8"]),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_JSON)
def test_bad_json(refuses, lists, case):
    content, parts = BAD_JSON[case]
    (lists / "k400_val.csv").unlink()
    path = lists / "k400_val.json"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    refuses(f"{path}: ", *parts)


def test_an_unknown_label_is_named_with_its_nearest_classes(refuses, lists):
    (lists / "k400_val.csv").write_text(with_row("archry,_bcdefghijk,5,15,val"))
    refuses(f"{lists / 'k400_val.csv'}: line 3: unknown label 'archry'; nearest classes: 'archery', '", "--synonyms")


def test_a_label_of_another_release(refuses, lists):
    (lists / "k400_val.csv").write_text(with_row("bull fighting,_bcdefghijk,5,15,val"))
    refuses(f"{lists / 'k400_val.csv'}: line 3: 'bull fighting' is no class of k400")


def test_all_bad_rows_are_counted_and_the_first_twenty_shown(refuses, lists):
    (lists / "k400_val.csv").write_text(GOOD + "archery,short,0,9,val\n" * 1_500 + "archery,abcdefghijk,1,0,val\n")
    refuses(
        "k400_val.csv: 1,501 bad rows of 1,503\n  line 4: ID 'short'", "\n  line 23: ID 'short'", "\n  and 1,481 more"
    )


# Files that are cut off, damaged, or no files at all


def tar_of(*members: tuple[str, bytes], kind: bytes = tarfile.REGTYPE) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd" * (kind in (tarfile.SYMTYPE, tarfile.LNKTYPE))
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def with_checksum(archive: bytearray) -> bytes:
    archive[148:156] = b" " * 8
    archive[148:156] = b"%06o\0 " % sum(archive[:512])
    return bytes(archive)


def negative_size() -> bytes:
    """A member before which the next one begins: tarfile reads it over and over."""
    archive = bytearray(tar_of(("other.csv", b"")))
    archive[124:136] = b"\xff" * 10 + (-512).to_bytes(2, "big", signed=True)
    return with_checksum(archive)


PACKED = gzip.compress(GOOD.encode())
BAD_FILES: dict[str, tuple[bytes, list[str]]] = {
    "gzip cut off": (PACKED[:-12], ["gzip data is damaged or cut off"]),
    "gzip cut off in its header": (PACKED[:6], ["gzip data is damaged or cut off"]),
    "gzip without its end": (PACKED[:-8], ["gzip data is damaged or cut off"]),
    "gzip with another checksum": (PACKED[:-8] + bytes(4) + PACKED[-4:], ["gzip data is damaged", "CRC"]),
    "gzip with a byte changed": (PACKED[:40] + b"\xff\xff" + PACKED[42:], ["gzip data is damaged or cut off"]),
    "gzip with more behind it": (PACKED + b"more", ["gzip data is damaged or cut off"]),
    "gzip of nothing": (gzip.compress(b""), ["the list is empty"]),
    "archive without the list": (tar_of(("train.csv", b""), ("xval.csv", b"")), ["the archive holds no val.csv"]),
    "archive with two": (tar_of(("a/val.csv", b""), ("b/val.csv", b"")), ["2 lists for val: 'a/val.csv', 'b/val.csv'"]),
    "archive cut off in the list": (tar_of(("val.csv", GOOD.encode() * 20))[:1024], ["archive is damaged or cut off"]),
    "archive cut off at the list": (tar_of(("val.csv", GOOD.encode()))[:512], ["archive is damaged or cut off"]),
    "archive with a negative size": (negative_size(), ["the archive is damaged"]),
    "bad row in an archive": (tar_of(("val.csv", GOOD.replace("9", "x").encode())), ["line 3: time_end 'x' is not"]),
    **{
        f"archive with a {name} for a list": (tar_of(("val.csv", b""), kind=kind), ["the archive holds no val.csv"])
        for name, kind in {
            "symlink": tarfile.SYMTYPE, "link": tarfile.LNKTYPE, "device": tarfile.CHRTYPE, "disk": tarfile.BLKTYPE,
            "pipe": tarfile.FIFOTYPE, "folder": tarfile.DIRTYPE,
        }.items()
    },
}  # fmt: skip


@pytest.fixture
def impatient() -> Iterator[None]:
    """Ends a test that waits, as whoever opens a pipe does, or turns in circles."""

    def give_up(*_: object) -> None:
        raise TimeoutError("the test waited too long")

    old = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, old)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_files(refuses, lists, case):
    content, parts = BAD_FILES[case]
    path = lists / "k400_val.csv"
    path.write_bytes(content)
    refuses(f"{path}: ", *parts)


@pytest.mark.parametrize("name", ["../../../evil/val.csv", "/tmp/k710-evil/val.csv", "a/../val.csv"])
def test_archives_never_choose_a_path(k710, lists, tmp_path, name):
    """Such a member is a list as any other; nothing of an archive is ever written anywhere."""
    (lists / "k400_val.csv").write_bytes(tar_of(("../../x", b"x"), (name, GOOD.encode())))
    before = files_of(tmp_path)
    assert k710("build", "--sources", "k400", "--annotations", lists, "--out", tmp_path / "m").exit_code == 0
    assert {path: data for path, data in files_of(tmp_path).items() if path.split("/")[0] != "m"} == before
    assert not Path("/tmp/k710-evil").exists()


@pytest.mark.parametrize("packed", [False, True])
def test_an_archive_cut_off_anywhere_is_refused_or_whole(tmp_path, packed):
    archive = tar_of(("train.csv", b"x" * 700), ("val.csv", GOOD.encode()), ("val.json", b"{}"))
    data = gzip.compress(archive) if packed else archive
    file = ListFile("k400", "val", tmp_path / "k400_val.csv")
    file.path.write_bytes(data)
    whole = read_list(file).table
    refused = 0
    for end in range(0, len(data), 7):
        file.path.write_bytes(data[:end])
        try:
            assert read_list(file).table == whole
        except ListError:
            refused += 1
    assert refused >= (len(data) if packed else archive.index(GOOD.encode())) // 7


def bomb(path: Path, size_bytes: int) -> None:
    path.write_bytes(gzip.compress(bytes(size_bytes)))


def sparse_file(path: Path, size_bytes: int) -> None:
    with path.open("wb") as file:
        file.truncate(size_bytes)


def sparse_member(path: Path, size_bytes: int) -> None:
    """An archive of 10 kB whose list claims to be `size_bytes` of zeros."""
    archive = bytearray(tar_of(("val.csv", b""), kind=tarfile.GNUTYPE_SPARSE))
    archive[386:410] = b"%011o\0%011o\0" % (size_bytes, 0)
    archive[483:495] = b"%011o\0" % size_bytes
    path.write_bytes(with_checksum(archive))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (bomb, "unpacks to more than 1 MiB, which is no annotation list"),
        (sparse_file, "has more than 1 MiB, which no annotation list has"),
        (sparse_member, "'val.csv' has 2,000,000 bytes, which no annotation list has"),
    ],
    ids=["gzip", "file", "archive"],
)  # fmt: skip
def test_what_would_fill_the_memory_is_refused(refuses, lists, monkeypatch, make, message):
    monkeypatch.setattr("k710.lists.list_bytes.MAX_LIST_BYTES", 1 << 20)
    path = lists / "k400_val.csv"
    make(path, 2_000_000)
    refuses(f"{path}: {message}")


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    "make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/zero")], ids=["pipe", "folder", "device"]
)
def test_what_is_no_file(k710, lists, tmp_path, make):
    path = lists / "k400_val.csv"
    path.unlink()
    make(path)
    result = k710("build", "--sources", "k400", "--annotations", lists, "--out", tmp_path / "m")
    assert_refused(result, f"{path}: is a folder or a device, not a file")
    assert not (tmp_path / "m").exists()


def test_a_list_that_leads_nowhere(refuses, lists):
    (lists / "k400_val.csv").unlink()
    (lists / "k400_val.csv").symlink_to(lists / "gone.csv")
    refuses(f"{lists / 'k400_val.csv'}: No such file or directory")


@pytest.mark.parametrize("other", ["k400_val.csv.gz", "k400_validate.csv", "k400/val.txt", "k400.tar.gz"])
def test_two_lists_for_one_split(refuses, lists, other):
    (lists / other).parent.mkdir(exist_ok=True)
    (lists / other).write_text(GOOD)
    refuses("2 lists for k400 ", other, "keep one of them")


def test_missing_lists(refuses, lists, tmp_path):
    shutil.rmtree(lists)
    refuses(f"{lists}: no such folder of annotation lists")
    lists.mkdir()
    shutil.rmtree(tmp_path / "old")
    refuses(f"{lists}: 2 lists are missing: k400_train.csv, k400_val.csv", "--sources", "--splits")


def test_a_few_bad_rows_are_tolerated_in_downloaded_lists_alone(lists, tmp_path):
    """0.1 % of them: one in a thousand, not one in 999."""
    rows = [f"abseiling,{number:011d},0,10,val\n" for number in range(999)] + ["archery,short,0,10,val\n"]
    path = lists / "k400_val.csv"
    path.write_text(HEADER + "".join(rows))
    own = find_lists(lists, ["k400"], ["train", "val"])
    downloaded = [ListFile(file.source, file.split, file.path, "https://example.org/val.csv") for file in own]

    annotation_list = read_list(downloaded[1], tolerated_share=0.001)
    assert (annotation_list.num_rows, annotation_list.table.num_rows) == (1_000, 999)
    assert [(bad.line, bad.reason[:10]) for bad in annotation_list.malformed] == [(1_001, "ID 'short'")]
    for options in ({}, {"tolerated_share": 0.000_99}):
        with pytest.raises(ListError, match="1 bad row of 1,000\n  line 1001: ID 'short'"):
            read_list(downloaded[1], **options)

    recipe = CurationRecipe(sources=("k400",))
    counts = build(recipe, downloaded, tmp_path / "m").about["counts"]
    assert counts["fates"]["malformed"] == 1
    assert counts["rows"] == sum(counts["fates"].values()) == 1_002
    for files, strict in ((own, False), (downloaded, True)):
        with pytest.raises(ListError, match="1 bad row of 1,000"):
            build(recipe, files, tmp_path / "refused", strict=strict)
    path.write_text(HEADER + "".join(rows[1:]))
    with pytest.raises(ListError, match="1 bad row of 999"):
        build(recipe, downloaded, tmp_path / "refused")
    assert not (tmp_path / "refused").exists()


# Places where nothing can be written


def build_sample(k710, out, *options):
    return k710("build", "--sources", "k400", "--annotations", "sample", "--out", out, *options)


def test_an_output_that_exists_needs_force(k710, sample, tmp_path):
    shutil.copytree(sample.path, tmp_path / "m")
    before = files_of(tmp_path)
    assert_refused(build_sample(k710, tmp_path / "m"), f"{tmp_path / 'm'}: ", "--force")
    assert files_of(tmp_path) == before
    assert build_sample(k710, tmp_path / "m", "--force").exit_code == 0


def test_an_output_that_is_a_file(k710, tmp_path):
    (tmp_path / "m").write_text("mine")
    for options in ((), ("--force",)):
        result = build_sample(k710, tmp_path / "m", *options)
        assert (result.exit_code, result.stdout) == (2, "")
        assert f"'{tmp_path / 'm'}' is a file" in result.stderr
    assert files_of(tmp_path) == {"m": b"mine"}


@pytest.mark.parametrize("options", [(), ("--force",)])
def test_an_output_with_files_of_others(k710, tmp_path, options):
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "holiday.mp4").write_bytes(b"mine")
    assert_refused(build_sample(k710, tmp_path / "m", *options), f"{tmp_path / 'm'}: holds 'holiday.mp4'")
    assert files_of(tmp_path) == {"m": None, "m/holiday.mp4": b"mine"}


def test_outputs_that_cannot_be_written(k710, tmp_path):
    """Permissions would not stop root, who runs many of these tests: a file for a parent and a long name stop all."""
    (tmp_path / "file").write_text("mine")
    for out, reason in ((tmp_path / "file" / "m", "Not a directory"), (tmp_path / ("m" * 300), "File name too long")):
        assert_refused(build_sample(k710, out), f"{out}: {reason}")
    assert files_of(tmp_path) == {"file": b"mine"}


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="no /proc on this system")
def test_an_output_on_a_file_system_that_takes_nothing(k710):
    assert_refused(build_sample(k710, "/proc/k710/m"), "/proc/k710")


@pytest.mark.parametrize("write", range(1, 5))
def test_a_full_disk_at_each_write(k710, sample, tmp_path, monkeypatch, write):
    """The clips file, the old version and the commit are written one after the other; the fourth write is not there."""
    shutil.copytree(sample.path, tmp_path / "m")
    before = files_of(tmp_path)
    calls = []

    def fsync(handle: int) -> None:
        calls.append(handle)
        if len(calls) == write:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.fsync", fsync)
    result = build_sample(k710, tmp_path / "m", "--force")
    if write > 3:
        assert result.exit_code == 0
        return
    assert_refused(result, f"{tmp_path / 'm'}/", "No space left on device")
    assert open_manifest(tmp_path / "m").content_hash == sample.content_hash
    after = files_of(tmp_path)
    assert {name: data for name, data in after.items() if not name.startswith("m/versions")} == before


def limited_build(out: Path, limit_bytes: int, *options: str) -> subprocess.CompletedProcess[str]:
    """`k710 build` of the sample in a process that may write no file longer than `limit_bytes`."""
    program = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit_bytes}, {limit_bytes}))\n"
    program += "from k710.cli import main; main(prog_name='k710')"
    arguments = ["build", "--sources", "k400,k600,k700", "--annotations", "sample", "--out", str(out), *options]
    return subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=60)


@pytest.mark.slow
def test_a_write_that_really_fails(sample, tmp_path):
    sizes = {path.suffix: path.stat().st_size for path in sample.path.rglob("*") if path.is_file()}
    shutil.copytree(sample.path, tmp_path / "old")
    before = files_of(tmp_path)
    # No bit of the clips file; all but its last byte; for the commit, all of it but the last byte.
    for limit_bytes in {0, min(sizes.values()) - 1, max(sizes.values()) - 1}:
        for out, options in ((tmp_path / "new", ()), (tmp_path / "old", ("--force",))):
            done = limited_build(out, limit_bytes, *options)
            assert (done.returncode, done.stdout) == (1, ""), (limit_bytes, done.stderr)
            assert done.stderr.startswith(f"k710: {out}"), (limit_bytes, done.stderr)
            assert done.stderr.endswith(": File too large\n"), (limit_bytes, done.stderr)
            after = files_of(tmp_path)
            assert {name: data for name, data in after.items() if not name.startswith("old/versions")} == before
    assert limited_build(tmp_path / "new", max(sizes.values())).returncode == 0


@pytest.mark.parametrize("name", ["fates.csv", "fates.parquet"])
def test_fates_that_cannot_be_written(k710, lists, tmp_path, name):
    before = files_of(tmp_path)
    path = tmp_path / "nowhere" / name
    result = k710("build", "--sources", "k400", "--annotations", lists, "--out", tmp_path / "m", "--fates", path)
    assert_refused(result, f"{path}: No such file or directory")
    assert files_of(tmp_path) == before


def test_the_sample_is_refused_nowhere(k710, tmp_path):
    """The forms that the lists of the sample have must not look bad to anyone."""
    for path in LISTS.iterdir():
        assert path.suffix in {".csv", ".txt", ".json"}
    result = k710("audit", "--annotations", LISTS, "--splits", "train,val,test", "--json")
    assert json.loads(result.stdout)["clips"] > 0
