"""Planted leaks: found all, told apart by time, and nothing else found."""

from __future__ import annotations

import json
import tracemalloc

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from k710.errors import ListError, UsageError
from k710.identify.batch import Batch
from k710.identify.contamination import Contamination, contamination, lists_named
from k710.identify.recognise import clips_of
from k710.identify.reference import only, reference_of_clips
from k710.identify.things import parts_of
from k710.lists.clip_paths import ClipName

ID = "-0abcdefghI"
STRANGERS = [f"stranger{number:02d}A_000001_000011" for number in range(50)]


def evaluation(planted, text="k400,k600,k700"):
    return only(planted.reference, lists_named(text, planted.reference.lists))


def write(path, lines):
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def found_in(path, reference, **options):
    return contamination(parts_of(path), reference, **options)


def evidence(train, span_s):
    """What one train clip says of one evaluation clip of the same video."""
    reference = reference_of_clips(clips_of([ClipName(ID, span_s)]), "x", ("x", "val"))
    clips = clips_of([train])
    found = Contamination(reference)
    found.add(Batch("a", np.array([1]), clips, np.array([-1], np.int32), None, (), 1))
    table = found.leaks().to_pylist()
    return table[0]["evidence"] if table else None


@pytest.mark.parametrize(
    ("train", "span_s", "kind"),
    [
        ((10, 20), (10, 20), "same_clip"),
        ((10, 20), (19, 29), "overlap"),
        ((0, 100), (10, 20), "overlap"),
        ((10.5, 19.5), (10, 20), "overlap"),
        ((10, 20), (20, 30), "other_time"),
        ((20, 30), (10, 20), "other_time"),
        (None, (10, 20), "video"),
        ((10, 20), None, "video"),
        (None, None, "video"),
    ],
)
def test_the_kinds_of_evidence(train, span_s, kind):
    assert evidence(ClipName(ID, train), span_s) == kind
    assert evidence(ClipName("anothervidA", train), span_s) is None


SPANS = st.none() | st.tuples(st.integers(0, 60), st.integers(1, 20)).map(lambda pair: (pair[0], sum(pair)))
NAMES = st.lists(st.builds(ClipName, st.sampled_from([f"{letter * 10}A" for letter in "abcd"]), SPANS), max_size=12)


@given(NAMES.filter(bool), NAMES, st.integers(1, 5))
def test_against_the_plain_definition(evaluation_names, train_names, step):
    """Every evaluation clip has the strongest evidence of any train row, whatever the batches."""

    def kind(mine, theirs):
        if mine.youtube_id != theirs.youtube_id:
            return 0
        if not (mine.span_s and theirs.span_s):
            return 2
        if mine.span_s == theirs.span_s:
            return 4
        return 3 if mine.span_s[0] < theirs.span_s[1] and theirs.span_s[0] < mine.span_s[1] else 1

    names = ("none", "other_time", "video", "overlap", "same_clip")
    wanted = {}
    for name in evaluation_names:
        kinds = [kind(name, train) for train in train_names]
        if strongest := max(kinds, default=0):
            wanted[str(name)] = (names[strongest], kinds.index(strongest) + 1)
    found = Contamination(reference_of_clips(clips_of(evaluation_names), "x", ("x", "val")))
    for start in range(0, len(train_names), step):
        part = train_names[start : start + step]
        none = np.full(len(part), -1, np.int32)
        lines = np.arange(start + 1, start + 1 + len(part))
        found.add(Batch("a", lines, clips_of(part), none, None, (), len(part)))
    assert {row["clip_id"]: (row["evidence"], row["line"]) for row in found.leaks().to_pylist()} == wanted
    assert found.leaked_videos == len({name[:11] for name in wanted})
    assert found.train.leaking == sum(any(kind(name, train) for name in evaluation_names) for train in train_names)


def test_planted_leaks_by_list(planted, tmp_path):
    """A train list of strangers, with clips of every kind put in."""
    reference = evaluation(planted)
    val = planted.clips("k600_val")
    same, moved, other, videos = val[:5], val[5:9], val[9:12], val[12:18]
    lines = [
        *STRANGERS, *same,
        *(f"{clip[:11]}_{int(clip[12:18]) + 3:06d}_{int(clip[19:]) + 3:06d}" for clip in moved),
        *(f"{clip[:11]}_900000_900010" for clip in other),
        *(f"https://www.youtube.com/watch?v={clip[:11]}" for clip in videos),
    ]  # fmt: skip
    found = found_in(write(tmp_path / "train.txt", lines), reference)
    leak = next(leak for leak in found.by_list() if leak.list == ("k600", "val"))
    assert leak.leaked_videos == found.leaked_videos == 18
    assert (leak.same_clip, leak.overlap, leak.other_time, leak.video) == (5, 4, 3, 6)
    assert found.train.leaking == 18
    lines_of = {row["clip_id"]: row["line"] for row in found.leaks().to_pylist()}
    assert lines_of[same[0]] == len(STRANGERS) + 1


def test_the_lists_of_the_releases_leak_as_their_ids_say(planted):
    reference = evaluation(planted)
    for name in ("k400_train", "k700_train"):
        train = {clip[:11] for clip in planted.clips(name)}
        for leak in found_in(planted.lists / f"{name}.csv", reference).by_list():
            assert leak.leaked_videos == len(train & {clip[:11] for clip in planted.clips("_".join(leak.list))})


def test_lines_that_name_no_video_stop_the_run_or_are_counted(planted, tmp_path):
    reference, clip = evaluation(planted), planted.clips("k400_val")[0]
    path = write(tmp_path / "a.txt", [*STRANGERS, "nonsense", f"falling_man {clip[:11]}", clip])
    with pytest.raises(ListError, match=r"a.txt: line 51: 'nonsense' names no video; --skip-unnamed"):
        found_in(path, reference)
    found = found_in(path, reference, skip_unnamed=True)
    assert (found.train.unnamed, found.train.ambiguous, found.train.in_doubt) == (1, 1, 1)
    assert found.leaked_videos == 1
    path = write(tmp_path / "b.txt", [*STRANGERS, f"falling_man {clip[:11]}"])
    with pytest.raises(ListError, match=rf"line 51: .* may be falling_man or {clip[:11]}"):
        found_in(path, reference)


def test_a_row_with_broken_times_still_names_its_video(planted, tmp_path):
    reference, clip = evaluation(planted), planted.clips("k400_val")[0]
    path = write(tmp_path / "a.csv", ["youtube_id,start,end", f"{clip[:11]},soon,later"])
    with pytest.raises(ListError, match=r"a.csv: line 2: .* start 'soon' and end 'later' are no start and end"):
        found_in(path, reference)
    found = found_in(path, reference, skip_unnamed=True)
    assert (found.train.bad_times, found.leaked_videos) == (1, 1)


def test_a_list_that_names_nothing_is_no_clean_list(planted, tmp_path):
    with pytest.raises(ListError, match="none of its 1 rows names a video"):
        found_in(write(tmp_path / "a.txt", ["nonsense"]), evaluation(planted), skip_unnamed=True)


def test_what_is_held_does_not_grow_with_the_rows(planted, tmp_path, monkeypatch):
    for name in ("_BLOCK_BYTES", "_HEAD_BYTES"):
        monkeypatch.setattr(f"k710.identify.text_files.{name}", 1 << 14)
    reference, peaks = evaluation(planted), []
    for times in (20, 200):
        path = write(tmp_path / f"{times}.txt", STRANGERS * times)
        found_in(path, reference)
        tracemalloc.start()
        found_in(path, reference)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]


@pytest.mark.parametrize(
    ("text", "lists"),
    [
        ("k400", ["k400 val", "k400 test"]),
        ("Kinetics-400,k600:validation", ["k400 val", "k600 val"]),
        ("k600:test,val", ["k600 val", "k600 test"]),
        ("k700:train", ["k700 train"]),
        ("k710", ["k710 val"]),
    ],
)
def test_the_lists_that_an_option_names(planted, text, lists):
    assert [" ".join(name) for name in lists_named(text, planted.reference.lists)] == lists


@pytest.mark.parametrize("text", ["k900", "k400:dev", "", ":val", "k700_2020"])
def test_lists_that_there_are_not(planted, text):
    with pytest.raises(UsageError, match="the reference has no list"):
        lists_named(text, planted.reference.lists)


# The command line


def test_the_audit_of_a_train_list(planted, tmp_path, k710):
    val = planted.clips("k400_val")
    train = write(tmp_path / "train.txt", [*STRANGERS, *val[:3]])
    arguments = ["audit", planted.manifest, "--train", train, "--eval", "k400"]
    result = k710(*arguments, "--leaks", tmp_path / "leaks.parquet")
    assert result.exit_code == 0
    assert "Leak: 3 videos of these lists, named by 3 rows" in result.stdout
    assert pq.read_table(tmp_path / "leaks.parquet")["clip_id"].to_pylist() == sorted(val[:3])
    found = json.loads(k710(*arguments, "--json").stdout)
    assert found["leaked_videos"] == 3
    assert found["train"] | {"rows": 53, "named": 53, "leaking": 3} == found["train"]
    assert [leak["list"] for leak in found["eval"]] == ["k400:val", "k400:test"]
    assert k710(*arguments, "--fail-on-leak").exit_code == 3
    clean = write(tmp_path / "clean.txt", STRANGERS)
    result = k710("audit", planted.manifest, "--train", clean, "--eval", "k400", "--fail-on-leak")
    assert (result.exit_code, result.stdout.splitlines()[-1]) == (0, "No video of these lists is in it.")


def test_a_file_to_evaluate_on_with_a_train_list_of_any_form(planted, tmp_path, k710):
    train = tmp_path / "train.jsonl"
    train.write_text("".join(json.dumps({"url": f"https://youtu.be/{clip[:11]}"}) + "\n" for clip in STRANGERS))
    val = write(tmp_path / "val.txt", [STRANGERS[0], ID])
    result = k710("audit", "--train", train, "--eval", val, "--json", "--fail-on-leak")
    assert result.exit_code == 3
    found = json.loads(result.stdout)
    assert (found["leaked_videos"], found["eval"][0]["videos"]) == (1, 2)


def test_two_plain_lists_fail_on_a_leak_too(tmp_path, k710):
    train, val = write(tmp_path / "a.txt", STRANGERS), write(tmp_path / "b.txt", STRANGERS[:1])
    assert k710("audit", "--train", train, "--eval", val).exit_code == 0
    assert k710("audit", "--train", train, "--eval", val, "--fail-on-leak").exit_code == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--eval", "k900"], "the reference has no list k900:val,test; it has k400:train"),
        (["--eval", "k400", "--leaks", "leaks.txt"], "must end in .csv or .parquet"),
        ([], "give one thing to audit"),
    ],
)
def test_wrong_choices(planted, tmp_path, k710, arguments, message):
    train = write(tmp_path / "train.txt", STRANGERS)
    result = k710("audit", planted.manifest, "--train", train, *arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_file_that_is_not_there(planted, tmp_path, k710):
    train = write(tmp_path / "train.txt", STRANGERS)
    for arguments in (["--train", train, "--eval", tmp_path / "no"], ["--train", tmp_path / "no", "--eval", "k400"]):
        result = k710("audit", planted.manifest, *arguments)
        assert (result.exit_code, result.stderr) == (1, f"k710: {tmp_path / 'no'}: No such file or directory\n")
