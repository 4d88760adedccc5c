"""Options that make no sense, synonym files that contradict themselves, manifests that are damaged."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from k710 import open_manifest
from k710.sample import LISTS
from tests.cli.test_bad_input import assert_refused, files_of


@pytest.fixture
def build(k710, tmp_path):
    """A build of the sample that may not write anything."""

    def run(*options: object) -> Any:
        result = k710("build", "--annotations", "sample", "--out", tmp_path / "m", *options)
        assert result.exit_code == 0 or not (tmp_path / "m").exists()
        return result

    return run


def assert_wrong_usage(result: Any, *parts: str) -> None:
    """What click itself refuses: its own words on stderr, exit code 2."""
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Error: " in result.stderr
    assert "Traceback" not in result.stderr
    for part in parts:
        assert part in result.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--sources k800", "unknown source 'k800'; known: k400, k600, k700, k700_2020"),
        ("--sources K-800", "unknown source 'K-800'"),
        ("--splits foo", "unknown split 'foo'; known: train, val, test"),
        ("--splits evaluation", "unknown split 'evaluation'"),
        ("--holdout test", "holdout must be val or val,test, not test"),
        ("--holdout train", "holdout must be val or val,test, not train"),
        ("--holdout nothing", "unknown split 'nothing'"),
        ("--leak-policy nope", "unknown leak policy 'nope'; known: train-purge, val-purge"),
        ("--leak-policy val-purge --holdout val,test", "val-purge keeps every video of train and so has no holdout"),
        ("--recipe k710-val-purge --holdout val,test", "val-purge keeps every video of train"),
        ("--splits train", "without holding out val, since those lists are not read; add val to --splits"),
        ("--splits train,test", "add val to --splits"),
        ("--splits train,val --holdout val,test", "without holding out test, since those lists are not read"),
        ("--recipe k710-strict --splits train,val", "add test to --splits"),
        ("--precedence k400,k400", "precedence names each release at most once"),
        ("--precedence k800", "precedence names each release at most once, of k400, k600, k700, k700_2020"),
    ],
)
def test_choices_that_make_no_sense(build, options, message):
    assert_refused(build(*options.split()), message, exit_code=2)


def test_fates_inside_the_manifest(k710, manifest, tmp_path):
    """They would be taken for somebody else's file, and the folder for no manifest."""
    before = files_of(tmp_path)
    arguments = ("build", "--annotations", "sample", "--out", manifest, "--force", "--fates", manifest / "fates.csv")
    assert_refused(k710(*arguments), f"{manifest / 'fates.csv'}: lies inside the manifest", exit_code=2)
    assert files_of(tmp_path) == before


def test_fates_over_a_list(build, tmp_path):
    """A list that was read is the user's; the fates do not take its place."""
    lists = shutil.copytree(LISTS, tmp_path / "lists")
    before = files_of(tmp_path)
    fates = lists / "k400_val.csv"
    refused = build("--annotations", lists, "--sources", "k400", "--fates", fates)
    assert_refused(refused, f"{fates}: is one of the lists that are read", exit_code=2)
    assert files_of(tmp_path) == before


@pytest.mark.parametrize(
    "make",
    [os.mkfifo, lambda path: path.symlink_to("/dev/null"), lambda path: path.symlink_to("/proc/self/fd/1")],
    ids=["pipe", "device", "stdout"],
)
def test_outputs_that_are_no_files_stay_what_they_are(k710, sample, tmp_path, make):
    """To root, a rename onto /dev/null is as good as any."""
    out = tmp_path / "out.csv"
    make(out)
    kind = out.lstat().st_mode
    for command in (
        ("build", "--annotations", "sample", "--out", tmp_path / "m", "--fates", out),
        ("card", sample.path, "--out", out, "--force"),
        ("diff", sample.path, sample.path, "--clips", out),
        ("diff", sample.path, sample.path, "--html", out),
        ("report", sample.path, "--out", out),
    ):
        assert_refused(k710(*command), f"{out}: is a device or a pipe", exit_code=2)
        assert out.lstat().st_mode == kind
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("option", ["--sources", "--splits", "--holdout", "--precedence"])
@pytest.mark.parametrize("value", ["", ",", "k400,", ",val", "val,,test", "val, ,test"])
def test_empty_names(build, option, value):
    assert_wrong_usage(build(option, value), option, f"{value!r} has an empty name; separate names by single commas")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nope"], "No such command 'nope'"),
        (["build", "--nope"], "No such option"),
        (["build", "file.csv"], "unexpected extra argument"),
        (["build", "--out"], "requires an argument"),
        (["audit"], "give one thing to audit: a manifest, --annotations DIR, or --train FILE --eval FILE"),
        (["audit", "a", "b"], "unexpected extra argument"),
        (["audit", "a", "--annotations", "sample"], "give one thing to audit"),
        (["audit", "a", "--eval", "b"], "give one thing to audit"),
        (["audit", "--train", "a"], "--train and --eval must be used together"),
        (["audit", "--eval", "a"], "--train and --eval must be used together"),
        (["explain"], "Missing argument"),
        (["explain", "a", "b"], "unexpected extra argument"),
        (
            ["explain", "nonsense"],
            "'nonsense' is not a YouTube ID (11 characters), the address of a video or a clip ({id}_000010_000020)",
        ),
        (["explain", ""], "'' is not a YouTube ID"),
        (["explain", "a b c d e f"], "is not a YouTube ID"),
        (["explain", "windsurfing"], "'windsurfing' is not a YouTube ID"),
        (["explain", "--nonsense"], "'--nonsense' is not a YouTube ID"),
        (["export", "m", "--out", "x"], "Missing option '--format'"),
        (["export", "m", "--format", "csv"], "Missing option '--out'"),
        (["export", "--format", "csv", "--out", "x"], "Missing argument"),
        (["labels", "--from", "k400"], "--from and --to must be used together"),
        (["labels", "--to", "k400"], "--from and --to must be used together"),
        (["labels", "--rows"], "--rows needs --from and --to"),
        (["labels", "archery", "--from", "k400", "--to", "k600"], "give names to align, or --from and --to, not both"),
        (["prune"], "Missing argument"),
    ],
)
def test_wrong_usage(k710, arguments, message):
    assert_wrong_usage(k710(*arguments), message)


@pytest.mark.parametrize(
    ("arguments", "exit_code", "message"),
    [
        (["labels", "archry"], 1, "unknown label 'archry'; nearest classes: 'archery', '"),
        (["labels", ""], 1, "unknown label ''"),
        (["labels", "--from", "k800", "--to", "k400"], 2, "unknown label set 'k800'; known: k710, k400"),
        (["labels", "--from", "k400", "--to", "k600", "--dialect", "x"], 2, "unknown dialect 'x'; known: canonical"),
        (["recipes", "nope"], 1, "no recipe 'nope'; known: k710, k710-strict, k710-val-purge"),
        (["audit", "--annotations", "sample", "--sources", "k800"], 2, "unknown source 'k800'"),
        (["audit", "--annotations", "/nowhere"], 1, "/nowhere: no such folder of annotation lists"),
        (["audit", "--annotations", "/dev/null"], 1, "/dev/null: no such folder of annotation lists"),
        (["audit", "--train", "/nowhere", "--eval", "/dev/null"], 1, "/nowhere: No such file or directory"),
        (["audit", "--train", "/dev/null", "--eval", "/dev/null"], 1, "/dev/null: the list is empty"),
    ],
)
def test_what_the_library_refuses(k710, arguments, exit_code, message):
    assert_refused(k710(*arguments), message, exit_code=exit_code)


@pytest.mark.parametrize("command", ["audit", "prune", "export", "explain"])
def test_no_manifest_there(k710, tmp_path, command):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "nowhere", tmp_path):
        assert_refused(run(k710, command, folder), f"{folder}: no manifest there (no dataset.json); `k710 build --out")
    file = tmp_path / "file"
    assert_refused(run(k710, command, file), f"{file}: no manifest, which is a folder that holds dataset.json")


def run(k710: Callable[..., Any], command: str, folder: Path) -> Any:
    """A command that reads a manifest."""
    return k710(
        *{
            "audit": ("audit", folder),
            "prune": ("prune", folder),
            "export": ("export", folder, "--format", "csv", "--out", folder.parent / "exported"),
            "explain": ("explain", "sample-0001", "--manifest", folder),
        }[command]
    )


@pytest.mark.parametrize(
    "name", ["-sample-dsh", "--sample-ds", "-sample-dsh_000003_000013", "--sample-ds_000003_000013"]
)
@pytest.mark.parametrize("before", [True, False])
def test_explain_takes_ids_that_look_like_options(k710, sample, name, before):
    option = ("--manifest", sample.path)
    result = k710("explain", *option * before, name, *option * (not before))
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(f"Video {name[:11]}: https://www.youtube.com/watch?v={name[:11]}\n")
    assert result.stdout == k710("explain", *option, "--", name).stdout


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("abcdefghijk", "no clip of video abcdefghijk in its lists (k400 train, k400 val, k600 train,"),
        ("-bcdefghijk", "no clip of video -bcdefghijk in its lists"),
        ("--cdefghijk", "no clip of video --cdefghijk in its lists"),
        ("SAMPLE-0001", "no clip of video SAMPLE-0001 in its lists"),
        ("two-spans-0_000001_000011.mp4", "no clip two-spans-0_000001_000011; of this video it has two-spans-0_000030"),
    ],
)
def test_explain_what_is_not_there(k710, sample, name, message):
    assert_refused(k710("explain", name, "--manifest", sample.path), f"{sample.path}: {message}")


# Synonyms of a user


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("", ["syn.csv: line 1: no column label or name; want name,label"]),
        ("a,b\n", ["syn.csv: line 1: no column label or name"]),
        ("name\nfoo\n", ["syn.csv: line 1: no column label; want name,label"]),
        ("name;label\nfoo;archery\n", ["syn.csv: line 1: no column label or name"]),
        ("name,label\nfoo,\n", ["syn.csv: line 2: name and label must both be given"]),
        ("name,label\nbar,archery\nfoo\n", ["syn.csv: line 3: name and label must both be given"]),
        ("name,label\n!?,archery\n", ["syn.csv: line 2: name and label must both be given"]),
        ("name,label\nfoo,archry\n", ["syn.csv: line 2: synonym 'foo': unknown label 'archry'; nearest"]),
        ("name,label\nArchery!,abseiling\n", ["syn.csv: line 2: synonym 'Archery!' -> 'abseiling': the name al"]),
        ("name,label\nfoo,archery\nfoo,abseiling\n", ["syn.csv: line 3: synonym 'foo' -> 'abseiling': the name alr"]),
        (f"name,label\nfoo,{'x' * 10_000}\n", ["unknown label 'xxx"]),
        ("name,label\nfoo,archery\n".encode("utf-16"), ["syn.csv: not a CSV file in UTF-8"]),
        ("name,label\ncafé,archery\n".encode("latin-1"), ["syn.csv: not a CSV file in UTF-8"]),
        (f"name,label\n{'x' * 200_000},archery\n", ["syn.csv: not a CSV file in UTF-8: field larger than field limit"]),
    ],
)  # fmt: skip
def test_bad_synonyms(k710, build, tmp_path, content, parts):
    path = tmp_path / "syn.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    assert_refused(build("--synonyms", path), *parts)
    assert_refused(k710("labels", "archery", "--synonyms", path), *parts)


def test_synonyms_that_are_not_there(build, tmp_path):
    assert_refused(build("--synonyms", tmp_path / "syn.csv"), f"{tmp_path / 'syn.csv'}: No such file or directory")
    assert_wrong_usage(build("--synonyms", tmp_path), f"'{tmp_path}' is a directory")


def test_synonyms_that_are_good(build, tmp_path):
    """A BOM, CRLF, spaces, a column more: the file of a spreadsheet."""
    path = tmp_path / "syn.csv"
    path.write_bytes("\ufeffname, label, note\r\nshooting arrows, archery, \r\n\r\n".encode())
    assert build("--synonyms", path).exit_code == 0
    assert open_manifest(tmp_path / "m").about["synonyms"] == {"shooting arrows": "archery"}


# Manifests that were damaged, moved about, or written by a later k710


@pytest.fixture
def manifest(sample, tmp_path):
    """A copy of the sample's manifest, to be spoiled."""
    return Path(shutil.copytree(sample.path, tmp_path / "m"))


def edited(**changes: Any) -> Callable[[Path], bytes]:
    def edit(folder: Path) -> bytes:
        return json.dumps(json.loads((folder / "dataset.json").read_text()) | changes).encode()

    return edit


BAD_COMMITS: dict[str, tuple[bytes | Callable[[Path], bytes], str]] = {
    "empty": (b"", "dataset.json: damaged: "),
    "truncated": (lambda folder: (folder / "dataset.json").read_bytes()[:-100], "dataset.json: damaged: "),
    "zeros": (bytes(100), "dataset.json: damaged: "),
    "not UTF-8": (b"\xff\xfe{\0}\0", "dataset.json: damaged: "),
    "an array": (b"[]", "dataset.json: damaged: "),
    "null": (b"null", "dataset.json: damaged: "),
    "no version": (b'{"clips": []}', "dataset.json: damaged: KeyError('schema_version')"),
    "no clips": (b'{"schema_version": "1.0"}', "dataset.json: damaged: KeyError('clips')"),
    "clips of another kind": (edited(clips="none"), "dataset.json: damaged: "),
    "later": (edited(schema_version="5.0"), "has schema version 5.0, this k710 reads 4.0 and older; upgrade k710"),
    "much later": (edited(schema_version="10.0"), "has schema version 10.0, this k710 reads"),
    "file above": (edited(clips=[{"file": "../x.parquet"}]), "dataset.json: lists '../x.parquet', which is"),
    "file above, hidden": (
        edited(clips=[{"file": "clips/clips-0123456789abcdef.parquet/../../../x"}]), "which is no clips file",
    ),
    "file elsewhere": (edited(clips=[{"file": "/etc/passwd"}]), "dataset.json: lists '/etc/passwd', which is no clips"),
    "no file": (edited(clips=[]), "dataset.json: damaged: a part of it is missing"),
    "no hash": (edited(content_hash=None), "dataset.json: damaged: a part of it is missing"),
    "no recipe": (edited(recipe={}), "dataset.json: damaged: a part of it is missing"),
    "no sources": (edited(sources=[]), "dataset.json: damaged: a part of it is missing"),
    "nested deep": (b'{"a": ' * 100_000, "dataset.json: damaged: "),
    "number for a file": (edited(clips=[{"file": 3}]), "dataset.json: lists 3, which is no clips file"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_COMMITS)
def test_a_damaged_commit(k710, manifest, tmp_path, case):
    content, message = BAD_COMMITS[case]
    (manifest / "dataset.json").write_bytes(content if isinstance(content, bytes) else content(manifest))
    before = files_of(tmp_path)
    for command in ("audit", "explain", "export", "prune"):
        assert_refused(run(k710, command, manifest), f"{manifest}", message)
    assert files_of(tmp_path) == before


def fewer_rows(path: Path) -> None:
    pa.parquet.write_table(pa.parquet.read_table(path).slice(0, 5), path)


BAD_CLIPS: dict[str, Callable[[Path], Any]] = {
    "missing": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-20]),
    "noise": lambda path: path.write_bytes(b"noise" * 1_000),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "fewer rows": fewer_rows,
    "other columns": lambda path: pa.parquet.write_table(pa.table({"clip_id": ["x"]}), path),
    "a byte changed": lambda path: path.write_bytes(path.read_bytes()[:300] + bytes(40) + path.read_bytes()[340:]),
}


@pytest.mark.parametrize("case", BAD_CLIPS)
def test_a_damaged_clips_file(k710, manifest, tmp_path, case):
    (path,) = manifest.glob("clips/*.parquet")
    BAD_CLIPS[case](path)
    before = files_of(tmp_path)
    for command in ("audit", "explain", "export"):
        assert_refused(run(k710, command, manifest), f"{manifest}")
    assert files_of(tmp_path) == before


def test_a_damaged_manifest_can_be_built_anew(k710, manifest, sample):
    (manifest / "dataset.json").write_bytes(b"{")
    next(manifest.glob("clips/*.parquet")).write_bytes(b"noise")
    result = k710("build", "--annotations", "sample", "--out", manifest, "--force")
    assert result.exit_code == 0, result.output
    open_manifest(manifest).verify()
    assert open_manifest(manifest).content_hash == sample.content_hash


def test_a_name_that_is_not_utf_8_is_refused(k710, sample, tmp_path):
    """pyarrow cannot open such a path, and a message of it could not be printed as it stands."""
    odd = tmp_path / os.fsdecode(b"caf\xe9")
    for arguments in (("stats", odd), ("diff", sample.path, odd), ("report", sample.path, "--store", odd)):
        assert_refused(k710(*arguments), "caf\\udce9': the name is not UTF-8; rename it", exit_code=2)
