"""Evaluations on common clips: planted answers, bounds by trying all completions, and what is refused."""

from __future__ import annotations

import csv
import itertools
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from k710.compare.answers import read_answers
from k710.compare.common import bring_together
from k710.compare.compare import _full_difference, compare
from k710.compare.statistics import mcnemar
from k710.errors import K710Error, ListError, UsageError
from k710.lists.labels import class_names
from k710.manifest.read import open_manifest
from tests.helpers.small_stores import LABELS, clips_of, manifest_of

K400 = class_names("k400")


def write(path: Path, header: str, rows) -> Path:
    with path.open("w", newline="") as file:
        file.write(header + "\n")
        csv.writer(file, lineterminator="\n").writerows(rows)
    return path


def clip(number: int, span: str = "_000001_000011") -> str:
    return f"planted{number:04d}{span}"


def of_k710(path: Path, answers: dict[str, tuple[int, int | None]], *, view: str = "k400", **summary) -> Path:
    """A Parquet file as `k710 eval` writes it: answer and class of each clip."""
    scores = np.zeros((len(answers), len(class_names(view))), np.float32)
    scores[np.arange(len(answers)), [answer for answer, _ in answers.values()]] = 1
    table = pa.table(
        {
            "clip_id": list(answers),
            "class_id": pa.array([label for _, label in answers.values()], pa.int16()),
            "probabilities": pa.FixedSizeListArray.from_arrays(pa.array(scores.reshape(-1)), scores.shape[1]),
        }
    )
    about = json.dumps({"view": view, "split": "val", **summary}).encode()
    pa.parquet.write_table(table.replace_schema_metadata({b"k710": about}), path)
    return path


def together(*paths: Path, view: str | None = "k400", **options):
    return bring_together([read_answers(path) for path in paths], view_name=view, **options)


# The numbers.


def test_planted_answers(tmp_path):
    """Clips 0 to 59 in one file, 20 to 79 in the other: 40 common ones, of which 24 + 3 and 24 + 9 are right."""

    def answer(number: int, right: bool) -> str:
        return K400[number % 8] if right else K400[100]

    first = [(clip(n), answer(n, n < 44 or 44 <= n < 47), K400[n % 8]) for n in range(60)]
    other = [(clip(n), answer(n, n < 44 or 47 <= n < 56), K400[n % 8]) for n in range(20, 80)]
    paths = [write(tmp_path / f"{x}.csv", "clip,prediction,label", r) for x, r in (("a", first), ("b", other))]
    table = together(*paths, num_in_list=100)
    found = compare(table, seed=3, resamples=1000)
    assert (found.num_common, found.num_classes, found.in_list) == (40, 8, 100)
    a, b = found.sides
    assert (a.num_clips, a.top1, b.top1, a.top5) == (60, 27 / 40, 33 / 40, None)
    assert a.full == (47 / 100, 87 / 100)
    assert b.full == (33 / 100, 73 / 100)
    (pair,) = found.pairs
    assert (pair.only_first, pair.only_other, pair.difference) == (3, 9, 6 / 40)
    assert (pair.p, pair.p_holm, pair.method) == (mcnemar(3, 9), mcnemar(3, 9), "adjusted Wald")
    assert pair.break_even == pytest.approx(-6 / 60)
    # The first has 20 more, all right; the other 20 more, all wrong; neither has 20.
    assert pair.full == ((6 - 20 - 20 - 20) / 100, (6 + 0 + 0 + 20) / 100)
    of_class = {row.label: row for row in found.classes}
    assert sum(row.num_clips for row in found.classes) == 40
    assert sum(row.other_right - row.first_right for row in found.classes) == 6
    row = of_class[K400[44 % 8]]
    assert (row.num_clips, row.only_first) == (5, 1)


@pytest.mark.parametrize("seed", range(6))
def test_the_bounds_are_those_of_all_completions(seed):
    """Two runs over six clips with gaps: every way in which the gaps may be filled."""
    rng = np.random.default_rng(seed)
    one, other = (rng.integers(-1, 2, 5).astype(np.int8) for _ in range(2))
    seen = (one >= 0) | (other >= 0)
    num_in_list = int(seen.sum()) + 1
    sides = [np.append(side[seen], -1) for side in (one, other)]  # and a clip that both lack
    gaps = [(which, place) for which, side in enumerate(sides) for place in np.flatnonzero(side < 0)]
    differences = []
    for values in itertools.product((0, 1), repeat=len(gaps)):
        whole = [side.copy() for side in sides]
        for (which, place), value in zip(gaps, values, strict=True):
            whole[which][place] = value
        differences.append((int(whole[1].sum()) - int(whole[0].sum())) / num_in_list)
    assert _full_difference(one, other, num_in_list) == (min(differences), max(differences))


def test_ties_and_a_class_of_one_clip(tmp_path):
    rows = [(clip(n), K400[n], K400[n]) for n in range(3)]
    paths = [write(tmp_path / f"{name}.csv", "clip,prediction,label", rows) for name in "ab"]
    found = compare(together(*paths))
    (pair,) = found.pairs
    assert (pair.difference, pair.p, pair.detectable) == (0, 1, None)
    assert pair.interval[0] < 0 < pair.interval[1]
    assert [(row.num_clips, row.p, row.p_holm) for row in found.classes] == [(1, 1, 1)] * 3


def test_of_three_the_p_values_are_adjusted(tmp_path):
    paths = []
    for name, wrong in (("a", ()), ("b", range(6)), ("c", range(10))):
        rows = [(clip(n), K400[1 if n in wrong else 0], K400[0]) for n in range(50)]
        paths.append(write(tmp_path / f"{name}.csv", "clip,prediction,label", rows))
    b, c = compare(together(*paths)).pairs
    assert (b.p, c.p) == (mcnemar(6, 0), mcnemar(10, 0))
    assert (b.p_holm, c.p_holm) == (b.p, 2 * c.p)


def test_equal_scores_stand_in_order_of_class(tmp_path):
    """As in `k710 eval`: of equal probabilities, the first class is the answer."""
    path = of_k710(tmp_path / "a.parquet", {clip(0): (7, 7), clip(1): (3, 3)})
    table = pa.parquet.read_table(path)
    flat = pa.FixedSizeListArray.from_arrays(pa.array(np.full(800, 0.5, np.float32)), 400)
    at = table.column_names.index("probabilities")
    pa.parquet.write_table(table.set_column(at, "probabilities", flat), path)
    found = read_answers(path)
    assert found.predicted == [0, 0]
    assert found.top5.tolist() == [[0, 1, 2, 3, 4]] * 2


def test_evaluations_of_k710_with_their_notes(tmp_path):
    trained = [{"view": "k710", "manifest": "ab", "clips": 2, "scores_of_others": {}}]
    one = of_k710(tmp_path / "a.parquet", {clip(n): (n, n) for n in range(4)}, num_clips=4, trained_on=trained)
    other = of_k710(tmp_path / "b.parquet", {clip(n): (n % 3, n) for n in range(4)} | {clip(9): (1, None)}, num_clips=1)
    table = together(one, other, view=None)
    found = compare(table)
    assert (found.view, found.split) == ("k400", "val")
    assert [(side.top1, side.top5) for side in found.sides] == [(1, 1), (0.75, 1)]
    assert any("temporal clips differ" in note and "4 in" in note for note in found.notes)
    assert any("2 clips are of videos that its checkpoint was trained on" in note for note in found.notes)
    assert found.counts["unlabelled"] == 1


def test_clips_of_one_video_are_counted(tmp_path):
    rows = [(clip(n // 2, f"_{n:06d}_{n + 9:06d}"), K400[0], K400[n % 2]) for n in range(60)]
    other = [(name, K400[1], label) for name, _, label in rows]
    paths = [write(tmp_path / f"{x}.csv", "clip,prediction,label", r) for x, r in (("a", rows), ("b", other))]
    found = compare(together(*paths))
    assert found.shared_videos == 60
    # Each video has a clip that only one has right and one that only the other has: no resample differs.
    assert found.pairs[0].interval == (0, 0)


# Clips and labels.


@pytest.mark.parametrize(
    "name",
    [
        "{id}_000001_000011",
        "{id}_000001_000011.mp4",
        "val/tying tie/{id}_000001_000011.mp4",
        "{id}",
        "https://www.youtube.com/watch?v={id}",
    ],
)
def test_clip_names_in_any_form(tmp_path, name):
    spelled = [(name.format(id=clip(n, "")), K400[n]) for n in range(5)]
    labelled = [(clip(n), K400[n], K400[n]) for n in range(5)]
    table = together(
        write(tmp_path / "a.csv", "clip,prediction,label", labelled), write(tmp_path / "b.csv", "path,pred", spelled)
    )
    assert table.clip_ids == tuple(clip(n) for n in range(5))
    assert (table.right == 1).all()


def test_columns_of_a_release(tmp_path):
    rows = [(clip(n, ""), 1, 11.0, K400[n], K400[n]) for n in range(5)]
    one = write(tmp_path / "a.csv", "youtube_id,time_start,time_end,prediction,label", rows)
    table = together(one, of_k710(tmp_path / "b.parquet", {clip(n): (n, n) for n in range(5)}))
    assert table.common.all()


def test_an_id_that_looks_numbered_is_one_where_the_column_says_so(tmp_path):
    """`clip-000001` could be any file's name; below clip_id it is what k710 writes."""
    rows = [("clip-000001_000001_000011", K400[0], K400[0]), ("clip-000002", K400[0], K400[0])]
    one, other = (write(tmp_path / f"{x}.csv", "clip_id,prediction,label", rows) for x in "ab")
    assert together(one, other).clip_ids == ("clip-000001_000001_000011", "clip-000002")


def test_a_video_with_two_clips_is_not_guessed(tmp_path):
    """A bare ID could be either clip, so it is none of them."""
    labelled = [(clip(0), K400[0], K400[0]), (clip(0, "_000020_000030"), K400[1], K400[1]), (clip(1), K400[1], K400[1])]
    bare = [(clip(0, ""), K400[0]), (clip(1, ""), K400[1])]
    table = together(
        write(tmp_path / "a.csv", "clip,prediction,label", labelled), write(tmp_path / "b.csv", "clip,prediction", bare)
    )
    assert np.array(table.clip_ids)[table.common].tolist() == [clip(1)]
    assert table.counts["unlabelled"] == 1


def test_labels_that_contradict_each_other_are_left_out(tmp_path):
    rows = [(clip(n), K400[0], K400[0]) for n in range(30)]
    other = [(name, answer, K400[1] if n == 4 else label) for n, (name, answer, label) in enumerate(rows)]
    paths = [write(tmp_path / f"{x}.csv", "clip,prediction,label", r) for x, r in (("a", rows), ("b", other))]
    table = together(*paths)
    assert table.counts["contradicting"] == 1
    assert clip(4) not in table.clip_ids
    assert len(table.clip_ids) == 29


def test_a_manifest_gives_the_list_and_the_labels(k710, tmp_path):
    clips = clips_of(8, "val")
    manifest = open_manifest(manifest_of(k710, tmp_path, clips))
    rows = [(one.clip_id, LABELS[0]) for one in clips[:6]] + [(clip(99), LABELS[0])]
    paths = [write(tmp_path / f"{x}.csv", "clip,prediction", rows[:number]) for x, number in (("a", 7), ("b", 5))]
    found = compare(together(*paths, manifest=manifest))
    assert (found.split, found.in_list, found.num_common) == ("val", 8, 5)
    assert found.counts["outside_list"] == 1
    assert [side.full for side in found.sides] == [(2 / 8, 4 / 8), (2 / 8, 5 / 8)]
    with pytest.raises(UsageError, match="leave out --in-list"):
        together(*paths, manifest=manifest, num_in_list=8)
    labelled = write(
        tmp_path / "c.csv", "clip,prediction,label", [(one.clip_id, LABELS[0], LABELS[3]) for one in clips]
    )
    with pytest.raises(UsageError, match="another label in one file than in the manifest"):
        together(paths[0], labelled, manifest=manifest)


# Names and index orders.


def test_names_in_any_spelling_and_release(tmp_path):
    """K700 calls K400's "tying tie" otherwise; a class that the view lacks is a wrong answer."""
    rows = [(clip(0), "Tying_Tie", "tying tie"), (clip(1), "bull fighting", "archery")]
    one = write(tmp_path / "a.csv", "clip,prediction,label", rows)
    other = write(tmp_path / "b.csv", "clip,prediction", [(clip(0), "tying necktie"), (clip(1), "archery")])
    assert together(one, other).right.tolist() == [[1, 0], [1, 1]]


def indices(path: Path, dialect: str, wrong=(), *, labels: bool = False) -> Path:
    place = {name: number for number, name in enumerate(class_names("k400", dialect))}
    rows = [
        (clip(n), place[K400[(n + (n in wrong)) % 400]], *([place[K400[n % 400]]] if labels else [])) for n in range(60)
    ]
    return write(path, "clip,prediction,label" if labels else "clip,prediction", rows)


@pytest.mark.parametrize("dialect", ["canonical", "uniformerv2", "videomaev2"])
@pytest.mark.parametrize("labels", [False, True])
def test_indices_are_read_in_the_order_that_the_clips_tell(tmp_path, dialect, labels):
    named = write(tmp_path / "a.csv", "clip,prediction,label", [(clip(n), K400[n], K400[n]) for n in range(60)])
    numbered = indices(tmp_path / "b.csv", dialect, wrong=range(7), labels=labels)
    table = together(named, numbered)
    assert table.right[1].tolist() == [0] * 7 + [1] * 53
    (note,) = table.notes
    assert dialect in note
    stated = together(named, numbered, dialects={str(numbered): dialect})
    assert stated.right.tolist() == table.right.tolist()
    assert stated.notes == ()


def test_indices_that_nothing_tells_are_asked_for(tmp_path):
    numbered = [indices(tmp_path / f"{name}.csv", "canonical", labels=True) for name in "ab"]
    with pytest.raises(UsageError, match=r"canonical = videomaev2, or uniformerv2; the clips do not tell\. --dialect"):
        together(*numbered)
    assert (together(*numbered, dialects={"": "canonical"}).right == 1).all()


def test_a_stated_order_that_the_clips_contradict_is_named(tmp_path):
    named = write(tmp_path / "a.csv", "clip,prediction,label", [(clip(n), K400[n], K400[n]) for n in range(60)])
    table = together(named, indices(tmp_path / "b.csv", "uniformerv2"), dialects={"": "canonical"})
    assert "likely wrong" in table.notes[0]
    assert "uniformerv2" in table.notes[0]
    with pytest.raises(UsageError, match="unknown dialect 'x'"):
        together(named, tmp_path / "b.csv", dialects={"": "x"})
    with pytest.raises(UsageError, match="has no class indices"):
        together(named, tmp_path / "b.csv", dialects={str(named): "canonical"})


@pytest.mark.slow
def test_the_real_list_of_k400_val(real_lists, tmp_path):
    """One file has whole names and classes, one bare IDs and the indices of UniFormerV2: all 19,906 clips meet."""
    with (real_lists / "k400_val.csv").open(newline="") as file:
        listed = list(csv.DictReader(file))
    index = {name: number for number, name in enumerate(class_names("k400", "uniformerv2"))}
    named, bare = [], []
    for number, row in enumerate(listed):
        name = f"{row['youtube_id']}_{int(row['time_start']):06d}_{int(row['time_end']):06d}.mp4"
        named.append((name, row["label"] if number % 10 else "abseiling", row["label"]))
        bare.append(
            (f"{row['youtube_id']}.mkv", index[row["label"]] if number % 5 else (index[row["label"]] + 1) % 400)
        )
    one = write(tmp_path / "a.csv", "path,prediction,label", named)
    found = compare(together(one, write(tmp_path / "b.csv", "video,pred", bare), num_in_list=19_906), resamples=500)
    assert found.num_common == len(listed) == 19_906
    assert found.num_classes == 400
    abseiling = sum(row["label"] == "abseiling" for row in listed[::10])
    assert [round(side.top1 * 19_906) for side in found.sides] == [19_906 - 1991 + abseiling, 19_906 - 3982]
    assert found.pairs[0].full == (found.pairs[0].difference, found.pairs[0].difference)
    assert "uniformerv2" in found.notes[0]


# Refusals.

NAMED = [(clip(n), K400[n], K400[n]) for n in range(4)]


def refused(error: type[K710Error], match: str, *paths: Path, **options) -> None:
    with pytest.raises(error, match=match):
        together(*paths, **options)


def test_evaluations_that_cannot_be_compared(tmp_path):
    same = {clip(n): (n, n) for n in range(4)}
    one, of_test = of_k710(tmp_path / "a.parquet", same), of_k710(tmp_path / "b.parquet", same, split="test")
    of_k600 = of_k710(tmp_path / "c.parquet", same, view="k600")
    named, bare, more = (
        write(tmp_path / "d.csv", "clip,prediction,label", NAMED),
        write(tmp_path / "e.csv", "clip,prediction", [row[:2] for row in NAMED]),
        write(tmp_path / "f.csv", "clip,prediction", [row[:2] for row in NAMED]),
    )
    far = write(tmp_path / "g.csv", "clip,prediction,label", [(clip(50 + n), K400[0], K400[0]) for n in range(4)])
    refused(UsageError, "is of view k400, .* of k600; only evaluations of one view", one, of_k600, view=None)
    refused(UsageError, "is of split val, .* of test", one, of_test)
    refused(UsageError, "is of view k600, .* of k400", one, of_test, view="k600")
    refused(UsageError, "one evaluation has nothing to be compared with", one)
    refused(UsageError, "is given twice", one, one)
    refused(UsageError, "whose classes are these", named, bare, view=None)
    refused(UsageError, "no clip has a label", bare, more)
    refused(UsageError, "no labelled clip in common; they have, for example, planted0000", named, far)
    refused(UsageError, "have 4 clips already", named, bare, num_in_list=3)
    with pytest.raises(UsageError, match="give no interval"):
        compare(together(one, named), resamples=10)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("clip,prediction\n", "has no rows"),
        ("clip,label\nplanted0000,archery\n", "names no column of predicted classes"),
        (
            "clip,prediction,pred\nplanted0000,archery,archery\n",
            "which column is the predicted class, prediction or pred",
        ),
        ("clip,prediction,label,target\nplanted0000,archery,a,b\n", "which column is the true class, label or target"),
        ("clip,prediction,clip\nplanted0000,archery,x\n", "column 'clip' stands there twice"),
        ("name,prediction\nplanted0000,archery\n", "names no column of clips"),
        ("clip,prediction\nplanted0000,archery\nx,archery\n", "line 3: clip 'x' names no clip"),
        ("clip,prediction\nplanted0000\n", "line 2: 1 fields where the first line has 2"),
        ("clip,prediction\nplanted0000,\n", "line 2: prediction is empty"),
        ("clip,prediction\nplanted0000,3\nplanted0001,archery\n", "class indices and names; line 3"),
        ("youtube_id,time_start,time_end,prediction\nplanted0000,9,3,archery\n", "no YouTube ID with a span"),
        ('clip,prediction\n"planted0000,archery\n', "not CSV, or cut off"),
    ],
)
def test_a_csv_that_cannot_be_read(tmp_path, text, match):
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(ListError, match=match):
        read_answers(path)


def test_rows_that_contradict_each_other(tmp_path):
    one = write(tmp_path / "a.csv", "clip,prediction,label", [*NAMED, NAMED[0]])
    other = write(tmp_path / "b.csv", "clip,prediction,label", [*NAMED, (clip(0), K400[3], K400[0])])
    refused(UsageError, r"b\.csv: line 6: clip planted0000_000001_000011 was there before", one, other)


@pytest.mark.parametrize(
    ("answer", "match"),
    [
        ("400", "class index 400, where k400 has 0 to 399"),
        ("-1", "class index -1"),
        ("9" * 400, "unknown label '999"),
        ("sawing", "unknown label 'sawing'; nearest"),
    ],
)
def test_classes_that_are_none(tmp_path, answer, match):
    one = write(tmp_path / "a.csv", "clip,prediction,label", NAMED)
    other = write(tmp_path / "b.csv", "clip,prediction", [(clip(0), answer)])
    refused(K710Error, match, one, other, dialects={"": "canonical"})
