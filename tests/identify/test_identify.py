"""Copies of planted lists: what is missing and extra, their order, their leaks, their sentence; every form alike."""

from __future__ import annotations

import csv
import json

import pyarrow.parquet as pq
import pytest

from k710.errors import ListError
from k710.identify.identify import identify
from k710.identify.things import parts_of
from k710.lists.labels import class_names

STRANGERS = [f"stranger{number:02d}A_{number:06d}_{number + 10:06d}" for number in range(7)]


def of(path, reference, **options):
    (part,) = parts_of(path)
    return identify(part, reference, **options)[0]


def copy_of_val(planted):
    """K400's val without 30 clips, with 4 other spans of its videos, 5 clips of other lists and 7 of none."""
    val = planted.clips("k400_val")
    videos = {clip[:11] for clip in val}
    test = [clip for clip in planted.clips("k700_test") if clip[:11] not in videos][:5]
    shifted = [f"{clip[:11]}_900000_900010" for clip in val[100:104]]
    return val[30:], shifted, test


def write(path, clips, form="{}"):
    path.write_text("".join(f"{form.format(clip)}\n" for clip in clips))
    return path


def test_missing_and_extra_of_a_planted_copy(planted, tmp_path):
    kept, shifted, others = copy_of_val(planted)
    found = of(write(tmp_path / "mine.txt", [*kept, *shifted, *others, *STRANGERS]), planted.reference)
    best = found.verdict.best
    size = len(set(planted.clips("k400_val")))
    assert (best.list, best.by, best.size, best.here, best.missing) == (("k400", "val"), "clip", size, size - 30, 30)
    assert (found.extra.other_span, found.extra.other_list, found.extra.unknown) == (4, 5, 7)
    assert found.totals.clips == size - 30 + 16


def test_every_fit_is_the_overlap_of_two_lists(planted, tmp_path):
    for name in ("k600_val", "k700_train"):
        mine = set(planted.clips(name))
        found = of(write(tmp_path / f"{name}.txt", mine), planted.reference)
        fits = {fit.list: fit.here for fit in found.fits}
        for source, split in planted.reference.lists:
            if source != "k710":
                assert fits.get((source, split), 0) == len(mine & set(planted.clips(f"{source}_{split}")))
        assert "_".join(found.verdict.best.list) == name
        videos = {clip[:11] for clip in mine}
        for other, count in found.leaks.items():
            if not other.startswith("k710"):
                assert count == len(videos & {clip[:11] for clip in planted.clips(other.replace(" ", "_"))})


def test_all_forms_have_one_fingerprint(planted, tmp_path, k710):
    clips = planted.clips("k600_val")
    release = planted.lists / "k600_val.csv"
    paths = write(tmp_path / "paths.txt", reversed(clips), "/data/val/{}.mp4 3")
    names = write(tmp_path / "names.txt", [*clips, *clips[:9]])
    records = tmp_path / "records.jsonl"
    records.write_text(
        "".join(
            json.dumps({"url": f"https://youtu.be/{c[:11]}", "start": int(c[12:18]), "end": int(c[19:])}) + "\n"
            for c in clips
        )
    )
    folder = tmp_path / "clips"
    folder.mkdir()
    for clip in clips:
        (folder / f"{clip}.mp4").touch()
    hf = tmp_path / "hf"
    result = k710("export", planted.manifest, "--format", "hf", "--view", "k600", "--splits", "val", "--out", hf)
    assert result.exit_code == 0, result.output
    found = [of(thing, planted.reference).totals.clips_sha256 for thing in (release, paths, names, records, folder, hf)]
    assert len(set(found)) == 1


def test_a_list_of_videos_is_compared_by_video(planted, tmp_path):
    videos = sorted({clip[:11] for clip in planted.clips("k700_val")})
    found = of(write(tmp_path / "ids.txt", videos[10:]), planted.reference)
    best = found.verdict.best
    assert (best.list, best.by, best.size, best.missing) == (("k700", "val"), "video", len(videos), 10)
    assert found.extra.clips == 0
    assert f"{len(videos) - 10:,} of the {len(videos):,} videos of Kinetics-700 val" in found.sentence
    assert found.totals.videos_sha256[:16] in found.sentence


@pytest.mark.parametrize("dialect", ["canonical", "uniformerv2"])
def test_the_order_of_a_trainers_list(planted, tmp_path, dialect):
    index = {name: number for number, name in enumerate(class_names("k600", dialect))}
    rows = zip(planted.clips("k600_val"), planted.rows("k600_val"), strict=True)
    path = tmp_path / "val.txt"
    path.write_text("".join(f"val/{clip}.mp4 {index[row['label']]}\n" for clip, row in rows))
    found = of(path, planted.reference)
    assert ("k600", dialect) in found.order.winner.orders
    assert found.order.winner.right > 0.9 * found.order.winner.rows


def test_class_names_that_differ(planted, tmp_path):
    rows = planted.rows("k600_val")
    path = tmp_path / "val.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        for number, row in enumerate(rows):
            other = "archery" if row["label"] != "archery" else "abseiling"
            writer.writerow(row | {"label": other if number < 5 else "no such class" if number < 8 else row["label"]})
    found = of(path, planted.reference).names
    assert found.unknown == 1
    assert found.examples == ("no such class",)
    assert found.compared == len(rows) - 3
    before = of(planted.lists / "k600_val.csv", planted.reference).names
    assert before.unknown == 0
    assert 3 <= found.other - before.other <= 5  # a row may have been another class before


def test_rows_that_name_nothing_are_counted(planted, tmp_path):
    clips = planted.clips("k400_val")
    path = write(tmp_path / "a.txt", [*clips, "nonsense", f"falling_man {clips[0][:11]}"])
    counts = of(path, planted.reference).counts
    assert (counts.rows, counts.named, counts.unnamed, counts.ambiguous) == (len(clips) + 2, len(clips), 1, 1)
    assert [(file, one.row) for file, one in counts.examples] == [("a.txt", len(clips) + 1), ("a.txt", len(clips) + 2)]


def test_a_list_without_any_clip_is_refused(planted, tmp_path):
    with pytest.raises(ListError, match=r"none of its 2 rows names a clip; a.txt, line 1: 'x y'"):
        of(write(tmp_path / "a.txt", ["x y", "z"]), planted.reference)


def test_the_users_word_on_the_list(planted, tmp_path):
    found = of(write(tmp_path / "a.txt", planted.clips("k400_val")), planted.reference, of=("k600", "val"))
    assert found.verdict.best.list == ("k600", "val")
    assert found.extra.clips == len(set(planted.clips("k400_val")) - set(planted.clips("k600_val")))


# The command line


def test_rows_and_what_is_missing_as_a_table(planted, tmp_path, k710):
    kept, shifted, others = copy_of_val(planted)
    thing = write(tmp_path / "mine.txt", [*kept, *shifted, *others, *STRANGERS, kept[0][:11], "nonsense"])
    for name in ("rows.parquet", "rows.csv"):
        result = k710("identify", thing, "--manifest", planted.manifest, "--of", "k400:val", "--rows", tmp_path / name)
        assert result.exit_code == 0, result.output
    rows = pq.read_table(tmp_path / "rows.parquet").to_pylist()
    with (tmp_path / "rows.csv").open(newline="") as file:
        assert [row["clip_id"] for row in csv.DictReader(file)] == [row["clip_id"] for row in rows]
    by_status = {}
    for row in rows:
        by_status.setdefault(row["status"], []).append(row)
    # One row has no span, so videos are compared, and those of the 30 clips are missing.
    assert {row["clip_id"] for row in by_status["missing"]} == set(planted.clips("k400_val")) - set(kept)
    assert [row["clip_id"] for row in by_status["unknown"]] == STRANGERS
    assert [row["clip_id"] for row in by_status["other_span"]] == shifted
    assert [row["clip_id"] for row in by_status["no_span"]] == [kept[0][:11]]
    assert [(row["text"], row["line"]) for row in by_status["unnamed"]] == [("nonsense", len(rows) - 30)]
    assert all("k400 val" in row["lists"] for row in by_status["same_clip"] if row["clip_id"] in set(kept))


def test_json_says_what_the_page_says(planted, tmp_path, k710):
    thing = write(tmp_path / "k400_val.txt", planted.clips("k400_val")[30:])
    (found,) = json.loads(k710("identify", thing, "--manifest", planted.manifest, "--json").stdout)
    assert (found["is_of"], found["missing"], found["split"]) == ("k400:val", 30, "val")
    page = k710("identify", thing, "--manifest", planted.manifest).stdout
    assert found["sentence"] in page
    assert "30 missing, 0 extra." in page
    assert found["totals"]["clips_sha256"] in page


def test_a_manifest_is_each_of_its_lists(planted, k710):
    found = json.loads(k710("identify", planted.manifest, "--manifest", planted.manifest, "--json").stdout)
    assert [one["is_of"] for one in found] == [":".join(name) for name in planted.reference.lists]
    assert all(one["missing"] == one["extra"]["other_list"] == one["extra"]["unknown"] == 0 for one in found)


def test_a_folder_of_lists_as_reference(planted, tmp_path, k710):
    thing = write(tmp_path / "a.txt", planted.clips("k700_val"))
    (found,) = json.loads(k710("identify", thing, "--annotations", planted.lists, "--json").stdout)
    assert (found["is_of"], found["missing"]) == ("k700:val", 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--of", "k400"], "want RELEASE:SPLIT"),
        (["--of", "k900:val"], "no such list in the reference; known: k400:train"),
        (["--rows", "a.txt"], "must end in .csv or .parquet"),
        (["--annotations", "sample"], "give --manifest or --annotations, not both"),
    ],
)
def test_wrong_choices(planted, tmp_path, k710, arguments, message):
    thing = write(tmp_path / "a.txt", planted.clips("k700_val"))
    result = k710("identify", thing, "--manifest", planted.manifest, *arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_an_interrupted_run_leaves_no_rows_file(planted, tmp_path, k710):
    good = write(tmp_path / "a.txt", planted.clips("k700_val"))
    result = k710("identify", good, tmp_path / "nope", "--manifest", planted.manifest, "--rows", tmp_path / "rows.csv")
    assert result.exit_code == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt"]
