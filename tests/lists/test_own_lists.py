"""A user's own lists: every form that is read, and what is refused, with file, line, value and what is allowed."""

from __future__ import annotations

import gzip

import pytest

from k710.errors import LabelError, ListError, UsageError
from k710.lists.labels import class_names
from k710.lists.own_lists import read_own
from k710.lists.own_source import own_spec, parse_own
from k710.lists.published.read import read_sources
from k710.manifest.read import open_manifest


def rows_of(own):
    return sorted(
        (one.file.split, row["youtube_id"], row["label"], row["time_start_s"], row["time_end_s"])
        for one in own.lists
        for row in one.table.to_pylist()
    )


@pytest.fixture
def mine(tmp_path):
    """`mine("list.csv", text)` writes a file and reads the source; further keywords are files too."""

    def read(name: str, text: str, **files: str):
        for file, content in {name: text, **{key.replace("__", "."): value for key, value in files.items()}}.items():
            (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / file).write_text(content)
        return read_own(own_spec("mine", tmp_path / name))

    return read


def test_a_table_with_a_header(mine):
    own = mine("list.csv", "path,label,split\na/one.mp4,run,train\nb/two.avi,walk,validation\nthree,,test\n")
    assert rows_of(own) == [
        ("test", "mine~three", None, None, None),
        ("train", "mine~one", "run", None, None),
        ("val", "mine~two", "walk", None, None),
    ]
    assert (own.source.ids, own.source.spans, own.source.classes) == ("stem", "none", ("run", "walk"))
    assert own.source.union_classes == (-1, -1), "nothing is merged by itself, whatever the names are"


def test_youtube_ids_and_whole_spans(mine):
    text = "youtube_id\tlabel\ttime_start\ttime_end\tsplit\nabcdefghijk\tabseiling\t3\t13.0\ttrain\n"
    own = mine("list.tsv", text)
    assert (own.source.ids, own.source.spans) == ("youtube", "whole")
    assert rows_of(own) == [("train", "abcdefghijk", "abseiling", 3, 13)]


def test_a_gzipped_table(tmp_path):
    (tmp_path / "list.csv.gz").write_bytes(gzip.compress(b"id,label,split\nx,run,train\n"))
    assert rows_of(read_own(own_spec("mine", tmp_path / "list.csv.gz"))) == [("train", "mine~x", "run", None, None)]


@pytest.mark.parametrize("with_splits", [True, False])
def test_a_tree_of_class_folders(tmp_path, with_splits):
    for path in ("train/hand stand/a b.mp4", "train/run/c.AVI", "valid/run/d.webm", "train/run/notes.txt"):
        file = tmp_path / "videos" / (path if with_splits else path.partition("/")[2])
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    own = read_own(own_spec("mine", tmp_path / "videos"))
    assert rows_of(own) == sorted(
        [
            ("train", "mine~a~20b", "hand stand", None, None),
            ("train", "mine~c", "run", None, None),
            ("val" if with_splits else "train", "mine~d", "run", None, None),
        ]
    )
    assert bool(own.notes) != with_splits


def test_trainers_lists_of_paths_and_class_numbers(mine):
    spec = "lists: {train: train.txt, val: val.txt}\nreader: lines\nclasses: names.txt\n"
    files = {"train__txt": "/data/a clip.mp4 1\nb.mp4,0\n", "val__txt": '"c.mp4"\t1\n', "names__txt": "run\nwalk\n"}
    own = mine("source.yaml", spec, **files)
    assert rows_of(own) == [
        ("train", "mine~a~20clip", "walk", None, None),
        ("train", "mine~b", "run", None, None),
        ("val", "mine~c", "walk", None, None),
    ]
    assert own.source.classes == ("run", "walk")


def test_ids_that_are_paths(mine):
    spec = "lists: list.csv\nids: path\n"
    own = mine("source.yaml", spec, list__csv="path,label,split\na/1.mp4,run,train\nb/1.mp4,run,val\n")
    assert [row[1] for row in rows_of(own)] == ["mine~a~2F1", "mine~b~2F1"]


def test_labels_are_aligned_where_the_user_says_so(mine):
    spec = "lists: list.csv\nlabels: k710\nsynonyms: names.csv\n"
    rows = "id,label,split\n1,Tying_Tie,train\n2,Climbing-a-Rope,train\n3,my dance,val\n"
    own = mine("source.yaml", spec, list__csv=rows, names__csv="name,label\nmy dance,salsa dancing\n")
    names = class_names("k710")
    assert [names[index] for index in own.source.union_classes] == list(own.source.classes)
    assert set(own.source.classes) == {"tying necktie", "climbing a rope", "salsa dancing"}
    assert {row[2] for row in rows_of(own)} == set(own.source.classes)


HEADER = "id,label,start,end,split\n"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("list.csv", "", r"list\.csv: the list is empty"),
        ("list.csv", "name,label\nx,y\n", r"line 1: no column of IDs or paths; want a header with one of youtube_id"),
        ("list.csv", "id,label,start\nx,y,1\n", "line 1: column start alone; a span needs a start and an end"),
        ("list.csv", "id,id,label\n1,2,x\n", "line 1: column 'id' appears twice"),
        (
            "list.csv",
            "id,label\nx,run\n",
            r"1 bad row of 1\n  line 2: no split; add a column `split`",
        ),
        ("list.csv", HEADER + "x,run,0,5,train\nx,run,5,dev\n", "line 3: 4 fields where the header has 5"),
        ("list.csv", HEADER + "x,run,0,5,dev\n", "line 2: split 'dev'; known: train, val, test"),
        ("list.csv", HEADER + "x,,0,5,train\n", "line 2: no label"),
        ("list.csv", HEADER + "x,run,a,5,train\n", "line 2: start 'a' is not a number of seconds"),
        ("list.csv", HEADER + "x,run,nan,5,train\n", "line 2: start 'nan' is not from 0 to 999999 s"),
        ("list.csv", HEADER + "x,run,-1,5,train\n", "line 2: start '-1' is not from 0 to 999999 s"),
        ("list.csv", HEADER + "x,run,5,5.0004,train\n", "line 2: end 5.0004 is not after start 5"),
        ("list.csv", HEADER + "x,run,0,5,train\ny,run,,,train\n", r"line 3: no span, and line 2 has one; want one in"),
        ("list.csv", HEADER + ",run,0,5,train\n", "line 2: ID '' is empty"),
        ("list.csv", HEADER + f"{'x' * 300},run,0,5,train\n", "makes a name of 305 characters; at most 200"),
        ("list.csv", "youtube_id,label,split\nabc,run,train\n", "line 2: ID 'abc' is not 11 characters of the YouTube"),
        ("list.csv", "path,label,split\na/1.mp4,run,train\nb/1.mp4,run,val\n", "'b/1.mp4' and 'a/1.mp4'.* `ids: path`"),
        ("list.txt", "a.mp4 0\n", r"list\.txt: cannot tell what list this is"),
        ("source.yaml", "a: [", r"source\.yaml: line 1: not YAML"),
        ("source.yaml", "- x\n", "want keys and values, such as `lists: mine.csv`"),
        ("source.yaml", "list: x.csv\n", "unknown key 'list'; did you mean 'lists'"),
        ("source.yaml", "title: x\n", "no lists; want `lists: FILE_OR_FOLDER`"),
        ("source.yaml", "lists: {dev: x.csv}\n", "lists has 'dev'; known: train, val, test"),
        ("source.yaml", "lists: 3\n", "lists must be a file, a folder, or one for each"),
        ("source.yaml", "lists: x.csv\nids: name\n", "ids is 'name'; known: youtube, stem, path"),
        ("source.yaml", "lists: x.csv\nspans: half\n", "spans is 'half'; known: whole, fractional, none"),
        ("source.yaml", "lists: x.csv\ncolour: red\n", "colour is 'red'; want one of the form '#RRGGBB'"),
        ("source.yaml", "lists: x.txt\n", "no reader for x.txt; known: csv, lines, folders"),
        ("source.yaml", "lists: x.csv\ntitle: 3\n", "title must be text, not 3"),
        ("source.yaml", 'lists: x.csv\ntitle: "\\e[2J"\n', "title has control characters"),
        ("source.yaml", "lists: x.csv\ntitle: |\n  a\n  b\n", "title has control characters"),
        ("list.csv", HEADER + "x,\x1b[2J,0,5,train\n", "line 2: label '.x1b.2J' is too long, not UTF-8 or"),
    ],
)
def test_what_is_refused(mine, name, text, message):
    with pytest.raises((ListError, UsageError, Exception), match=message) as caught:
        mine(name, text)
    assert type(caught.value).__module__ == "k710.errors"


@pytest.mark.parametrize(
    ("spec", "rows", "message"),
    [
        ("spans: whole", "x,run,0.5,5,train", "line 2: the span has fractions, and .* says `spans: whole`"),
        ("spans: fractional", "x,run,,,train", "line 2: no span, and .* says `spans: fractional`"),
        ("classes: names.txt", "x,fly,0,5,train", "line 2: label 'fly' is none of the classes in"),
        ("labels: k710", "x,flying about,0,5,train", "line 2: unknown label 'flying about'; nearest classes: "),
        ("reader: lines\nclasses: names.txt", "x 7", r"line 2: class 7; .*names\.txt names 0 to 1"),
    ],
)
def test_what_a_source_yaml_does_not_allow(mine, spec, rows, message):
    with pytest.raises((ListError, LabelError), match=message):
        mine("source.yaml", f"lists: {{train: list.csv}}\n{spec}\n", list__csv=HEADER.replace("id", "id 0", 1) + rows
             if "lines" in spec else HEADER + rows, names__txt="run\nwalk\n")  # fmt: skip


@pytest.mark.parametrize("name", ["k400=x", "K=x", "a-b=x", "other=x", "kinetics_400=x", "1a=x", f"{'a' * 40}=x"])
def test_names_that_a_source_cannot_have(k710, tmp_path, name):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "list.csv").write_text("id,label,split\nx,run,train\n")
    name = name.replace("=x", f"={tmp_path / 'x' / 'list.csv'}")
    result = k710("build", "--sources", name, "--annotations", "sample", "--out", tmp_path / "m")
    assert (result.exit_code, "cannot be called" in result.stderr) == (2, True), result.output
    assert not (tmp_path / "m").exists()


def test_names_and_paths_are_told_apart():
    assert parse_own("k400") is None
    assert read_sources(("k400", "k600"), None) == (("k400", "k600"), [])
    with pytest.raises(UsageError, match="no path; want mine=PATH"):
        parse_own("mine=")
    with pytest.raises(ListError, match="no such file or folder, for the source mine"):
        read_sources(("mine=/nowhere/list.csv",), None)


def test_an_aligned_source_joins_kinetics_710_and_its_val_is_held_out(k710, tmp_path):
    """By video ID where the IDs are YouTube's: a train video of K400 in the own val list leaves train."""
    (tmp_path / "k400_train.csv").write_text(
        "label,youtube_id,time_start,time_end\nabseiling,AAAAAAAAAAA,0,10\nabseiling,BBBBBBBBBBB,0,10\n"
    )
    (tmp_path / "k400_val.csv").write_text("label,youtube_id,time_start,time_end\narchery,CCCCCCCCCCC,0,10\n")
    (tmp_path / "mine.csv").write_text(
        "youtube_id,label,time_start,time_end,split\nAAAAAAAAAAA,Rope_Down,0.5,9.25,val\n"
        "BBBBBBBBBBB,rope down,2,12,train\nDDDDDDDDDDD,archery,0,10,train\n"
    )
    (tmp_path / "names.csv").write_text("name,label\nrope down,abseiling\n")
    (tmp_path / "source.yaml").write_text("lists: mine.csv\nlabels: k710\nsynonyms: names.csv\n")
    given = ("--sources", f"k400,mine={tmp_path}", "--annotations", tmp_path)
    result = k710("build", *given, "--out", tmp_path / "m")
    assert result.exit_code == 0, result.output
    manifest = open_manifest(tmp_path / "m")
    found = {
        row["clip_id"]: (row["split"], row["label"], row["drop_reason"], row["kept_clip_id"])
        for row in manifest.clips.to_pylist()
    }
    assert found == {
        "AAAAAAAAAAA_000000500_000009250": ("val", "abseiling", None, None),
        "AAAAAAAAAAA_000000_000010": (None, "abseiling", "leaked", "AAAAAAAAAAA_000000500_000009250"),
        "BBBBBBBBBBB_000000_000010": ("train", "abseiling", None, None),
        "BBBBBBBBBBB_000002_000012": (None, "abseiling", "duplicate_id", "BBBBBBBBBBB_000000_000010"),
        "CCCCCCCCCCC_000000_000010": ("val", "archery", None, None),
        "DDDDDDDDDDD_000000_000010": ("train", "archery", None, None),
    }
    assert manifest.catalogue.members == ("k400", "k600", "k700", "k700_2020", "mine")
    # With the own source first in precedence, its clip of the second video wins.
    result = k710("build", *given, "--precedence", "mine,k400", "--out", tmp_path / "other")
    assert result.exit_code == 0, result.output
    first = {row["clip_id"]: row["split"] for row in open_manifest(tmp_path / "other").clips.to_pylist()}
    assert (first["BBBBBBBBBBB_000000_000010"], first["BBBBBBBBBBB_000002_000012"]) == (None, "train")
    explained = k710("explain", "BBBBBBBBBBB", "--manifest", tmp_path / "other")
    assert "precedence mine, k400" in explained.stdout


def test_the_earliest_span_wins_with_and_without_fractions(k710, tmp_path):
    """Names of spans with fractions sort before others; the rule is about time."""
    (tmp_path / "mine.csv").write_text(
        "youtube_id,label,time_start,time_end,split\n"
        + "".join(f"AAAAAAAAAAA,archery,{start},{start + 3},train\n" for start in (7.5, 3, 20))
        + "BBBBBBBBBBB,archery,0,5,val\n"
    )
    (tmp_path / "source.yaml").write_text("lists: mine.csv\nlabels: k710\n")
    result = k710("build", "--sources", f"mine={tmp_path}", "--out", tmp_path / "m")
    assert result.exit_code == 0, result.output
    assert "no printed counts to compare with" in result.stdout
    kept = [row["clip_id"] for row in open_manifest(tmp_path / "m").clips.to_pylist() if row["split"] == "train"]
    assert kept == ["AAAAAAAAAAA_000003_000006"]


def test_suggestions_are_a_file_to_edit_and_merge_nothing(k710, tmp_path):
    rows = "id,label,split\n1,Tying_Tie,train\n2,rope climb,train\n3,qqq,val\n"
    (tmp_path / "list.csv").write_text(rows)
    result = k710("labels", "--suggest", tmp_path / "list.csv")
    assert result.exit_code == 0, result.output
    assert "1 of 3 labels are K710's by name" in result.stderr
    header, *lines = result.stdout.splitlines()
    assert header == "name,label,nearest,likeness,second,third"
    assert lines[0].startswith("rope climb,,climbing a rope,")
    assert lines[1].startswith("qqq,,")
    names = tmp_path / "names.csv"
    names.write_text(result.stdout)
    (tmp_path / "source.yaml").write_text("lists: list.csv\nlabels: k710\nsynonyms: names.csv\n")
    build = ("build", "--sources", f"mine={tmp_path}", "--out", tmp_path / "m")
    result = k710(*build)
    assert (result.exit_code, "names.csv: line 2: name and label must both be given" in result.stderr) == (1, True)
    names.write_text("name,label\nrope climb,climbing a rope\nqqq,salsa dancing\n")
    assert k710(*build).exit_code == 0
