"""Annotation lists of every published form, and that the fast reader never differs from the patient one."""

from __future__ import annotations

import gzip
import io
import json
import random
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from k710.errors import ListError
from k710.lists.annotation_rows import read_csv_rows
from k710.lists.annotations import (
    LIST_SCHEMA,
    AnnotationList,
    ListFile,
    _parse_well_formed_csv,
    _to_table,
    find_lists,
    read_list,
)

Rows = list[tuple[str | None, str, int, int]]

# A label with spaces and one without, IDs that begin with a dash and an underscore, a span shorter than 10 s.
ROWS: Rows = [
    ("bouncing on trampoline", "-bcdefghijk", 0, 9),
    ("archery", "_BCDEFGHIJK", 7, 17),
    ("abseiling", "abcdefghijk", 100_000, 100_010),
]
UNLABELLED: Rows = [(None, *rest) for _, *rest in ROWS]


def csv_text(
    *,
    label: bool = True,
    is_cc: bool = False,
    quoted: bool = False,
    delimiter: str = ",",
    end: str = "\n",
    split: str | None = "val",
    header: Callable[[str], str] = str,
) -> str:
    """ROWS as a CSV list with the peculiarities asked for."""
    columns = ["label"] * label + ["youtube_id", "time_start", "time_end"] + ["split"] * (split is not None)
    lines = [delimiter.join(header(name) for name in columns + ["is_cc"] * is_cc)]
    for name, *rest in ROWS:
        fields = [f'"{name}"' if quoted else str(name)] * label + [str(value) for value in rest]
        lines.append(delimiter.join(fields + [split or ""] * (split is not None) + ["0"] * is_cc))
    return "".join(line + end for line in lines)


def json_text(*, split: str = "val", indent: int | None = 1, label: bool = True) -> str:
    """ROWS in the ActivityNet form."""
    entries = {}
    for name, youtube_id, start, end in ROWS:
        annotations = {"label": name} if label else {}
        entries[youtube_id] = {
            "annotations": {**annotations, "segment": [float(start), float(end)]},
            "duration": float(end - start),
            "subset": split,
            "url": f"https://www.youtube.com/watch?v={youtube_id}",
        }
    return json.dumps(entries, indent=indent)


def tar_bytes(members: dict[str, bytes | str], form: int = tarfile.GNU_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for name, content in members.items():
            data = content.encode() if isinstance(content, str) else content
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def read(folder: Path, content: str | bytes, *, split: str = "val", name: str = "k400_val.csv") -> AnnotationList:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_list(ListFile("k400", split, path))


def rows_of(table: pa.Table) -> Rows:
    assert table.schema == LIST_SCHEMA
    columns = ("label", "youtube_id", "time_start_s", "time_end_s")
    return [tuple(row[column] for column in columns) for row in table.to_pylist()]


FORMS = {
    "k400": csv_text(is_cc=True, quoted=True),
    "k700": csv_text(),
    "windows": "\ufeff" + csv_text(end="\r\n"),
    "old mac": csv_text(end="\r"),
    "tabs": csv_text(delimiter="\t"),
    "tabs, quoted": csv_text(delimiter="\t", quoted=True),
    "spaces": csv_text(delimiter=" , "),
    "spaces around quotes": "".join(
        " , ".join(f'"{field}"' for field in line.split(",")) + " \n" for line in csv_text().splitlines()
    ),
    "no last newline": csv_text().rstrip("\n"),
    "blank lines": "\n  \n" + csv_text(end="\n\n") + " \t \n,,,,\n",
    "upper case header": csv_text(header=str.upper),
    "quoted header": csv_text(header=lambda name: f'"{name}"'),
    "spaced header": csv_text(header=lambda name: f" {name.title()} "),
    "no split": csv_text(split=None),
    "validate": csv_text(split="validate"),
    "VALIDATION": csv_text(split="VALIDATION"),
    "floats": csv_text().replace(",7,17,", ",7.0,17.,"),
    "signs and zeros": csv_text().replace(",7,17,", ",+7,00000000000017,"),
    "non-breaking spaces": csv_text().replace("archery,", "\u00a0archery\u00a0,"),
    "columns in other order": "time_end,time_start,split,youtube_id,label\n"
    + "".join(f"{end},{start},val,{youtube_id},{label}\n" for label, youtube_id, start, end in ROWS),
    "a column more": csv_text(is_cc=True).replace("is_cc", "note").replace(",val,0", ',val,"a, b"'),
    "activitynet": json_text(split="validate"),
    "activitynet, one line": json_text(indent=None),
    "activitynet, spaces": json_text().replace('"archery"', '" archery "').replace('"_BCDEFGHIJK"', '" _BCDEFGHIJK"'),
    "activitynet, windows": "\ufeff" + json_text(indent=4).replace("\n", "\r\n"),
}
assert len(set(FORMS.values())) == len(FORMS), "two forms are one and the same: a peculiarity is missing"


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_rows(tmp_path: Path, form: str, packed: bool) -> None:
    """The name says .csv throughout, so a JSON and a gzip under a wrong suffix are among them."""
    data = FORMS[form].encode()
    annotation_list = read(tmp_path, gzip.compress(data) if packed else data)
    assert rows_of(annotation_list.table) == ROWS
    assert annotation_list.num_rows == 3
    assert annotation_list.malformed == ()


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        (csv_text(label=False, split="test"), UNLABELLED),
        (csv_text(label=False, split="test", delimiter=" ,"), UNLABELLED),
        (csv_text(label=False, split=None), UNLABELLED),
        (csv_text(split="test"), ROWS),  # CVDF's Kinetics-400 test list carries labels by now
        (csv_text(split="test").replace("archery", ""), [ROWS[0], UNLABELLED[1], ROWS[2]]),
        (json_text(split="test"), ROWS),
        (json_text(split="testing", label=False), UNLABELLED),
    ],
)
def test_test_lists_need_no_label(tmp_path: Path, content: str, rows: Rows) -> None:
    assert rows_of(read(tmp_path, content, split="test").table) == rows


def test_what_is_well_formed_is_read_fast() -> None:
    """Otherwise a full-size list would take seconds, and no test would notice."""
    for form in ("k400", "k700", "windows", "tabs", "tabs, quoted", "no last newline", "upper case header", "validate"):
        assert _parse_well_formed_csv(FORMS[form].encode(), "val") is not None, form
    assert _parse_well_formed_csv(csv_text(label=False, split="test").encode(), "test") is not None
    # IDs may look like hexadecimal numbers.
    likely = csv_text().replace("abcdefghijk", "0x123456789").replace("-bcdefghijk", "-0x1F000000")
    assert _parse_well_formed_csv(likely.encode(), "val") is not None


@pytest.mark.parametrize(
    ("form", "lines"), [("k700", [2, 3, 4]), ("blank lines", [5, 7, 9]), ("old mac", [2, 3, 4]), ("windows", [2, 3, 4])]
)
def test_lines_are_those_of_an_editor(tmp_path: Path, form: str, lines: list[int]) -> None:
    assert read(tmp_path, FORMS[form]).table["line"].to_pylist() == lines


def test_lines_of_a_json_are_where_its_entries_begin(tmp_path: Path) -> None:
    text = json_text(indent=1)
    lines = read(tmp_path, text).table["line"].to_pylist()
    found = [text.splitlines()[line - 1].strip() for line in lines]
    assert found == [f'"{youtube_id}": {{' for _, youtube_id, *_ in ROWS]


def test_a_json_may_name_an_id_twice(tmp_path: Path) -> None:
    entry = '"abcdefghijk": {{"annotations": {{"label": "archery", "segment": [{0}, 99.0]}}, "subset": "train"}}'
    text = "{" + ", ".join([entry.format(1), entry.format("2.0"), entry.format('"3"')]) + "}"
    rows = rows_of(read(tmp_path, text, split="train").table)
    assert rows == [("archery", "abcdefghijk", start, 99) for start in (1, 2, 3)]


DEEPMIND: dict[str, bytes | str] = {
    "kinetics700/._val.csv": b"\x00\x05\x16\x07 macOS",
    "kinetics700/train.csv": csv_text(split="train").replace("archery", "abseiling"),
    "kinetics700/val.json": json_text(split="validate").replace("archery", "the twin"),
    "kinetics700/val.csv": csv_text(split="validate"),
    "kinetics700/test.json": json_text(split="testing", label=False),
    "kinetics700/README": "…",
}


@pytest.mark.parametrize("name", ["k700.tar.gz", "kinetics700.tar.gz", "k700_val.tgz", "k700.tar"])
@pytest.mark.parametrize("packed", [True, False], ids=["gzip", "plain tar"])
def test_the_archive_of_all_splits(tmp_path: Path, name: str, packed: bool) -> None:
    """At least one published .tar.gz was a plain tar. The CSV is taken, not its JSON twin."""
    data = tar_bytes(DEEPMIND)
    (tmp_path / name).write_bytes(gzip.compress(data) if packed else data)
    (file,) = find_lists(tmp_path, ["k700"], ["val"])
    assert (file.path.name, rows_of(read_list(file).table)) == (name, ROWS)
    if name != "k700_val.tgz":
        train, test = find_lists(tmp_path, ["k700"], ["train", "test"])
        assert read_list(train).table["label"].to_pylist() == [ROWS[0][0], "abseiling", "abseiling"]
        assert rows_of(read_list(test).table) == UNLABELLED


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize(
    "member", ["val.csv", "./val.csv", "a/b/k700_val.csv", "kinetics_700_validate.txt", "x/é/val.csv"]
)
def test_names_inside_an_archive(tmp_path: Path, form: int, member: str) -> None:
    data = tar_bytes({"readme.txt": "", "training.csv": "", "eval.csv": "", member: csv_text()}, form)
    assert rows_of(read(tmp_path, data).table) == ROWS


def test_a_gzip_inside_an_archive(tmp_path: Path) -> None:
    assert rows_of(read(tmp_path, tar_bytes({"val.csv": gzip.compress(csv_text().encode())})).table) == ROWS


@pytest.mark.parametrize(
    "name",
    ["k600_val.csv", "k600_val.txt", "k600_val.tsv", "k600_val.json.gz", "k600_validate.csv", "k600_validation.csv.gz",
     "k600/val.txt", "k600/val.csv.gz", "k600/validate.json", "k600/val.tar.gz"],
)  # fmt: skip
def test_both_layouts_and_every_spelling(tmp_path: Path, name: str) -> None:
    (tmp_path / "k600").mkdir()
    for other in (name, "notes.txt", "k600_train.csv", "k600_val.csv.bak", "xk600_val.csv", "k600_val_old.csv"):
        (tmp_path / other).write_text(csv_text())
    (file,) = find_lists(tmp_path, ["k600"], ["val"])
    assert file == ListFile("k600", "val", tmp_path / name)


@pytest.mark.parametrize(
    "name",
    ["kinetics600_val.csv", "kinetics-600_val.csv", "Kinetics-600-val.csv", "K600_VAL.CSV", "k600_val.CSV.GZ",
     "k600/annotations/val.csv", "K600/Val.csv", "kinetics600/annotations/validate.txt",
     "kinetics-600/kinetics-600_val.csv", "kinetics_600/k600_val.csv", "Kinetics600.tar.gz"],
)  # fmt: skip
def test_names_as_people_have_them(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    for other in (name, "k700_val.csv", "k600_train.csv", "kinetics-6000_val.csv", "xkinetics600_val.csv"):
        (tmp_path / other).write_text(csv_text())
    (file,) = find_lists(tmp_path, ["k600"], ["val"])
    assert file == ListFile("k600", "val", tmp_path / name)


def test_every_spelling_of_the_newest_release(tmp_path: Path) -> None:
    for name in ("kinetics700_2020_val.csv", "K700-2020_train.csv", "kinetics-700_val.csv"):
        (tmp_path / name).write_text(csv_text())
    files = find_lists(tmp_path, ["k700_2020"], ["val", "train"])
    assert [file.path.name for file in files] == ["kinetics700_2020_val.csv", "K700-2020_train.csv"]
    assert [file.path.name for file in find_lists(tmp_path, ["k700"], ["val"])] == ["kinetics-700_val.csv"]


def test_two_spellings_of_one_list_are_not_chosen_from(tmp_path: Path) -> None:
    for name in ("k400_val.csv", "kinetics-400_val.csv"):
        (tmp_path / name).write_text(csv_text())
    with pytest.raises(ListError, match=r"2 lists for k400 val: k400_val.csv, kinetics-400_val.csv; keep one of them"):
        find_lists(tmp_path, ["k400"], ["val"])


def test_files_that_were_not_recognised_are_named(tmp_path: Path) -> None:
    (tmp_path / "k400").mkdir()
    for name in ("k400_val.csv", "k400_trainlist.csv", "k400/train list.xlsx", "notes.md", "clip.mp4"):
        (tmp_path / name).write_text(csv_text())
    with pytest.raises(ListError) as caught:
        find_lists(tmp_path, ["k400"], ["train", "val"])
    assert "1 list is missing: k400_train.csv (" in str(caught.value)
    assert "Not recognised by their names: 'k400_trainlist.csv', 'k400/train list.xlsx'. Put" in str(caught.value)
    (tmp_path / "k400/train list.xlsx").unlink()
    (tmp_path / "k400_trainlist.csv").unlink()
    with pytest.raises(ListError, match=r"train.csv\). Put them there"):
        find_lists(tmp_path, ["k400"], ["train", "val"])


MILLISECONDS = csv_text().replace(",7,17,", ",7000,17000,")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            MILLISECONDS,
            "1 bad row of 3\n  line 3: from 7,000 s to 17,000 s, 10,000 s: Kinetics' clips last 10 s; divide the times "
            "by 1,000 if they are milliseconds",
        ),
        (json_text().replace("17.0", "17000.0"), "divide the times by 1,000 if they are milliseconds"),
        (
            csv_text() + csv_text(),
            "1 bad row of 7\n  line 5: the header again: lists were joined here; delete this line",
        ),
        (
            csv_text(delimiter=";"),
            "line 1: its fields are separated by semicolons; save it with commas or tabs; the header is 'label;",
        ),
        ("youtube_id;time_start\n", "line 1: no column label, youtube_id, time_start, time_end; the header is"),
        (
            '{"version": "1.3", "database": {"abcdefghijk": {"annotations": []}}}',
            "line 1: an ActivityNet list: its videos stand below `database`, each with any number of segments",
        ),
        (csv_text().encode("utf-16"), "is text in UTF-16, not a text file in UTF-8; save it as UTF-8"),
        (csv_text().encode("utf-16-be"), "is text in UTF-16, not a text file in UTF-8; save it as UTF-8"),
        (gzip.compress(csv_text().encode("utf-16")), "is text in UTF-16, not a text file in UTF-8; save it as UTF-8"),
        (b"PK\x03\x04" + bytes(400), "is a ZIP archive or an Excel workbook; unpack it, or save the sheet as CSV"),
        (b"\xd0\xcf\x11\xe0" + bytes(400), "is an old Excel workbook; save the sheet as CSV in UTF-8"),
    ],
)
def test_one_plain_sentence_each(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(ListError) as caught:
        read(tmp_path, content)
    assert message in str(caught.value)


def test_the_longest_clip_that_is_read(tmp_path: Path) -> None:
    """A quarter of an hour is no clip of Kinetics either, but it may be seconds."""
    for end, good in ((907, True), (908, False)):
        text = csv_text().replace(",7,17,", f",7,{end},")
        assert (_parse_well_formed_csv(text.encode(), "val") is not None) == good
        if good:
            assert rows_of(read(tmp_path, text).table)[1][3] == end


def test_the_lists_of_one_release_are_not_those_of_another(tmp_path: Path) -> None:
    """k700_2020_val.csv begins like a list of k700."""
    for name in ("k700_val.csv", "k700_2020_val.csv"):
        (tmp_path / name).write_text(csv_text())
    files = find_lists(tmp_path, ["k700_2020", "k700"], ["val"])
    assert [file.path.name for file in files] == ["k700_2020_val.csv", "k700_val.csv"]
    assert [(file.source, file.split) for file in files] == [("k700_2020", "val"), ("k700", "val")]


def test_missing_lists_are_all_named(tmp_path: Path) -> None:
    (tmp_path / "k400_val.csv").write_text(csv_text())
    with pytest.raises(ListError, match=r"3 lists are missing: k400_train.csv, k600_train.csv, k600_val.csv \("):
        find_lists(tmp_path, ["k400", "k600"], ["train", "val"])


def test_sha256_is_of_the_file_as_it_lies_there(tmp_path: Path) -> None:
    import hashlib

    data = gzip.compress(FORMS["k700"].encode())
    assert read(tmp_path, data).sha256 == hashlib.sha256(data).hexdigest()


def test_the_module_can_be_imported_from_its_package():
    """`from __future__ import annotations` in k710/lists/__init__.py would hide it."""
    program = "from k710.lists import annotations; annotations.read_list"
    subprocess.run([sys.executable, "-c", program], check=True)


# The fast reader gives what the patient one gives, or nothing


def patient(data: bytes, split: str) -> Any:
    """What the row-by-row reader says: rows with lines, bad rows, or the error."""
    try:
        table, malformed = _to_table(read_csv_rows(data, split))
    except ListError as error:
        return str(error)
    return table.to_pylist(), malformed


def assert_no_difference(data: bytes, split: str) -> bool:
    fast = _parse_well_formed_csv(data, split)
    if fast is not None:
        assert fast.schema == LIST_SCHEMA
        assert (fast.to_pylist(), ()) == patient(data, split), data
    return fast is not None


YOUTUBE_IDS = st.text("ABCxyz019_-", min_size=11, max_size=11)
LABELS = st.sampled_from(
    ["archery", "bouncing on trampoline", '"quoted, label"', '"q"', "massaging person's head", "é"]
)
TIMES = st.one_of(st.integers(0, 300), st.sampled_from([999_999, 1_000_000, -1])).map(str)
# What a hand, a spreadsheet or a broken disk puts into a list.
ODDITIES = st.sampled_from(
    ["0x1F", "0X1", " 0x1F ", "+12", "-0", "12.0", "1e3", "007", "0000000000012", "99999999999", "1_0", "٣", "", '"',
     '""', '"a"b', 'a"b', '"a', '"12"', '" 12 "', "a\rb", "\r", "\n", '"a\nb"', '"a\r\nb"', "a\x00b", "\x00", "a ",
     " a", "\ta", "a\u00a0", "\u2028", "\x1c", "\ufeff", "nan", "NULL", "x" * 20, "12 ", " 12", "\t12", "validate",
     "TEST", "train", ",", "'", "\\", "#", "é"]
)  # fmt: skip


@st.composite
def csv_lists(draw: st.DrawFn) -> tuple[bytes, str]:
    """A list, well formed or with an oddity or two, and its split."""
    split = draw(st.sampled_from(["val", "val", "test"]))
    columns = ["label"] * (split == "val" or draw(st.booleans())) + ["youtube_id", "time_start", "time_end"]
    columns += ["split"] * draw(st.booleans()) + ["is_cc"] * draw(st.booleans())
    if draw(st.integers(0, 9)) == 0:
        columns = draw(st.permutations(columns))
    cells = {"label": LABELS, "youtube_id": YOUTUBE_IDS, "time_start": TIMES, "time_end": TIMES}
    cells |= {"split": st.sampled_from([split, "validate" if split == "val" else "testing"]), "is_cc": st.just("0")}
    table = [list(columns)] + [[draw(cells[column]) for column in columns] for _ in range(draw(st.integers(0, 4)))]
    for row in table[1:]:
        row[columns.index("time_end")] = draw(st.integers(301, 400).map(str))
    for _ in range(draw(st.sampled_from([0, 0, 1, 1, 2]))):
        row = draw(st.sampled_from(table))
        place = draw(st.integers(0, len(row) - 1))
        row[place] = draw(st.one_of(ODDITIES, ODDITIES.map(lambda odd, old=row[place]: old + odd)))
    if draw(st.integers(0, 19)) == 0:
        table[0][draw(st.integers(0, len(columns) - 1))] = draw(st.sampled_from(columns))  # a column twice
    delimiter = draw(st.sampled_from([",", ",", ",", "\t"]))
    end = draw(st.sampled_from(["\n", "\n", "\r\n", "\r"]))
    text = end.join(delimiter.join(row) for row in table) + draw(st.sampled_from([end, end, "", end * 2, "\n", " "]))
    data = (draw(st.sampled_from(["", "", "\ufeff"])) + text).encode()
    if draw(st.integers(0, 19)) == 0:
        place = draw(st.integers(0, len(data)))
        data = data[:place] + draw(st.sampled_from([b"\xff", b"\xe9", b"\x00", b'"', b"\r", b"\n"])) + data[place:]
    return data, split


HEADER = b"label,youtube_id,time_start,time_end,split\n"


@settings(max_examples=2000, suppress_health_check=list(HealthCheck))
@given(csv_lists())
@example((HEADER + b'"arch"ery,abcdefghijk,1,2,val\n', "val"))  # pyarrow reads the label `archery`
@example((HEADER + b'archery,""abcdefghijk,1,2,val\n', "val"))
@example((HEADER.replace(b",", b"\t") + b'"archery",\tabcdefghijk\t1\t2\tval\n', "val"))
@example((HEADER + b'archery,"abcdef"ghijk,1,2,val\n', "val"))
@example((HEADER + b'archery,abcdefghijk,"1"1,12,val\n', "val"))
@example((HEADER + b'archery,abcdefghijk,1,2," val\n', "val"))
@example((HEADER + b"archery,abcdefghijk,0x1,2,val\n", "val"))  # pyarrow reads hexadecimal numbers
@example((HEADER.replace(b",", b"\t") + b"archery\tabcdefghijk\t0x1\t2\tval\n", "val"))
@example((HEADER + b'archery,abcdefghijk,"0x1",2,val\n', "val"))
@example((b"time_end,time_start,youtube_id\n0x9,1,abcdefghijk", "test"))
@example((b"youtube_id,time_start,time_end\nabcdefghijk,1,0x9", "test"))
@example((HEADER + b"\narchery,abcdefghijk,1,2,val\rarchery,abcdefghij_,1,2,val\n", "val"))  # the counts of lines agree
@example((HEADER + b"\narchery,abcdefghijk,1,2,val\n", "val"))
@example((HEADER + b"archery,abcdefghijk,1,1000000,val\n", "val"))
@example((HEADER + b"x" * 1000 + b",abcdefghijk,1,2,val\n", "val"))
@example((HEADER.replace(b"\n", b"\r") + b"archery,abcdefghijk,1,2,val\n", "val"))
@example((HEADER + b'archery,abcdefghijk,1,2,"v\nal"\n', "val"))
@example((HEADER + b"archery,abcdefghijk,1,00000000000000000000000000002,val\n", "val"))
@example((b'"' + b"x" * 200_000 + b'",' + HEADER, "val"))  # a field that Python's csv refuses
@pytest.mark.slow
def test_the_fast_reader_differs_nowhere(case: tuple[bytes, str]) -> None:
    assert_no_difference(*case)


@pytest.mark.slow
def test_the_fast_reader_differs_nowhere_at_length() -> None:
    """Cruder and faster than hypothesis: random insertions, deletions and bytes, many times over."""
    tokens = ['"', ",", "\n", "\r", "\r\n", "\t", " ", "0x1F", "+", "-", "0", "٣", "\x00", "\u00a0", '""', '" ', "é"]
    accepted = 0
    for seed in range(100_000):
        generator = random.Random(seed)
        data = bytearray(FORMS[generator.choice(["k400", "k700", "windows", "tabs", "tabs, quoted"])].encode())
        for _ in range(generator.randrange(4)):
            place = generator.randrange(len(data))
            if generator.random() < 0.2:
                del data[place]
            elif generator.random() < 0.05:
                data[place] = generator.randrange(256)
            else:
                data[place:place] = generator.choice(tokens).encode()
        accepted += assert_no_difference(bytes(data), "val")
    assert accepted > 20_000, "the test has lost its object: too few of the lists are well formed"


@pytest.mark.parametrize("label", ["arch\0ery", '"arch\0ery"'])
def test_a_nul_byte_spoils_its_row_on_every_python(tmp_path: Path, label: str) -> None:
    (tmp_path / "k400_val.csv").write_text(f"label,youtube_id,time_start,time_end\n{label},abcdefghijk,0,10\n")
    with pytest.raises(ListError, match=r"line 2: not CSV, or cut off \(a NUL byte\)"):
        read_list(ListFile("k400", "val", tmp_path / "k400_val.csv"))
