"""Lists of UCF101, HMDB51, Something-Something and Moments in Time, in the form in which they were published."""

from __future__ import annotations

import csv
import gzip
import json
import shutil
from pathlib import Path

import pytest

from k710.errors import K710Error, ListError
from k710.lists.published.read import read_published
from k710.manifest.listings import is_in
from k710.manifest.read import open_manifest
from k710.sources.known import KINETICS
from k710.sources.others import OTHERS

UCF101 = {
    "classInd.txt": "1 HammerThrow\n2 Hammering\n3 HandstandPushups\n",
    **{
        f"trainlist0{n}.txt": f"HammerThrow/v_HammerThrow_g0{n}_c01.avi 1\r\nHammering/v_Hammering_g0{n}_c01.avi 2\r\n"
        for n in (1, 2, 3)
    },
    **{f"testlist0{n}.txt": "HandstandPushups/v_HandStandPushups_g09_c01.avi\n" for n in (1, 2, 3)},
}
HMDB51 = {
    f"{name}_test_split{n}.txt": "".join(f"{file} {flag} \n" for file, flag in rows)
    for n in (1, 2, 3)
    for name in ("climb", "climb_stairs")
    for rows in [
        [
            (f"a&b_#1_(x)!_{name}_f.avi", 1 if n == 1 else 2),
            (f"other_{name}.avi", 0),
            (f"z_{name}.avi", 2 if n == 1 else 1),
        ]
    ]
}
SSV2 = {
    "labels.json": json.dumps({"Holding something next to something": "0", "Something falling": "1"}),
    "train.json": json.dumps(
        [{"id": "78001", "label": "holding a cup", "template": "Holding [something] next to [something]"}]
    ),
    "validation.json": json.dumps([{"id": "15", "label": "a ball falling", "template": "[Something] falling"}]),
    "test.json": json.dumps([{"id": "1501"}, {"id": "1502"}]),
    "test-answers.csv": "1501;Something falling\n",
}
SSV1 = {
    "something-something-v1-labels.csv": "Turning something\nHolding something\n",
    "something-something-v1-train.csv": "12345;Holding something\n",
    "something-something-v1-validation.csv": "7;Turning something\n",
    "something-something-v1-test.csv": "8\n",
}
MIT = {
    "moments_categories.txt": "clapping,0\nadult+female+singing,1\n",
    "trainingSet.csv": "clapping/yt-abcdefghijk_4.mp4,clapping,3,0\n",
    "validationSet.csv": "adult+female+singing/a-b_1.mp4,adult+female+singing,2,1\n",
}
SEGMENTS = {
    "AbCdEfGhIj0": {
        "subset": "training",
        "duration": "92.2",
        "annotations": [
            {"segment": [4.0237, 55.1], "label": "Mooping floor"},
            {"segment": [60, 70.5], "label": "Ballet"},
        ],
    },
    "AbCdEfGhIj1": {"subset": "validation", "annotations": [{"segment": [0.01, 14], "label": "Ballet"}]},
    "-bCdEfGhIj2": {"subset": "testing", "annotations": []},
}
ACTIVITYNET = {"activity_net.v1-3.min.json": json.dumps({"version": "VERSION 1.3", "database": SEGMENTS})}
HACS = {"HACS_segments_v1.1.1.json": json.dumps({"database": SEGMENTS})}
HACS_CLIPS = {
    "HACS_clips_v1.1.1.csv": "classname,youtube_id,subset,start,end,label\n"
    "Archery,AbCdEfGhIjK,training,15.5,17.5,1\nArchery,AbCdEfGhIjK,training,20.5,22.5,-1\n"
    "Ballet,AbCdEfGhIjL,validation,0.0,2.0,1\n"
}
LISTS = {
    "ucf101": UCF101,
    "hmdb51": HMDB51,
    "ssv2": SSV2,
    "ssv1": SSV1,
    "mit": MIT,
    "activitynet": ACTIVITYNET,
    "hacs": HACS,
    "hacs_clips": HACS_CLIPS,
}

# View, split: ID and label, as the lists say.
EXPECTED = {
    "ucf101": {
        ("ucf101_1", "train"): [
            ("ucf101~v_HammerThrow_g01_c01", "HammerThrow"),
            ("ucf101~v_Hammering_g01_c01", "Hammering"),
        ],
        ("ucf101_1", "test"): [("ucf101~v_HandStandPushups_g09_c01", "HandstandPushups")],
    },
    "hmdb51": {
        ("hmdb51_1", "train"): [
            ("hmdb51~a~26b_~231_~28x~29~21_climb_f", "climb"),
            ("hmdb51~a~26b_~231_~28x~29~21_climb_stairs_f", "climb_stairs"),
        ],
        ("hmdb51_2", "test"): [
            ("hmdb51~a~26b_~231_~28x~29~21_climb_f", "climb"),
            ("hmdb51~a~26b_~231_~28x~29~21_climb_stairs_f", "climb_stairs"),
        ],
    },
    "ssv2": {
        ("ssv2", "train"): [("ssv2~78001", "Holding something next to something")],
        ("ssv2", "val"): [("ssv2~15", "Something falling")],
        ("ssv2", "test"): [("ssv2~1501", "Something falling"), ("ssv2~1502", None)],
    },
    "ssv1": {("ssv1", "train"): [("ssv1~12345", "Holding something")], ("ssv1", "test"): [("ssv1~8", None)]},
    "mit": {
        ("mit", "train"): [("mit~clapping~2Fyt-abcdefghijk_4", "clapping")],
        ("mit", "val"): [("mit~adult~2Bfemale~2Bsinging~2Fa-b_1", "adult+female+singing")],
    },
    "activitynet": {
        ("activitynet", "train"): [("AbCdEfGhIj0", "Mooping floor"), ("AbCdEfGhIj0", "Ballet")],
        ("activitynet_videos", "train"): [("AbCdEfGhIj0", "Mooping floor")],
        ("activitynet_videos", "test"): [("-bCdEfGhIj2", None)],
    },
    "hacs": {("hacs", "val"): [("AbCdEfGhIj1", "Ballet")], ("hacs_videos", "val"): [("AbCdEfGhIj1", "Ballet")]},
    "hacs_clips": {("hacs_clips", "train"): [("AbCdEfGhIjK", "Archery")]},
}
CLASSES = {
    "ucf101": ("HammerThrow", "Hammering", "HandstandPushups"),
    "hmdb51": ("climb", "climb_stairs"),
    "ssv2": ("Holding something next to something", "Something falling"),
    "ssv1": ("Turning something", "Holding something"),
    "mit": ("clapping", "adult+female+singing"),
    "activitynet": ("Ballet", "Mooping floor"),
    "hacs": ("Ballet", "Mooping floor"),
    "hacs_clips": ("Archery", "Ballet"),
}


def write(folder: Path, files: dict[str, str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text, newline="")
    return folder


@pytest.mark.parametrize("name", OTHERS)
def test_each_form_is_read(tmp_path, name):
    found = read_published(name, write(tmp_path / name, LISTS[name]))
    assert [one.source.name for one in found] == list(OTHERS[name].views)
    assert {one.source.classes for one in found} == {CLASSES[name]}
    lists = {(one.source.name, part.file.split): part for one in found for part in one.lists}
    for key, rows in EXPECTED[name].items():
        table = lists[key].table
        assert list(zip(table["youtube_id"].to_pylist(), table["label"].to_pylist(), strict=True)) == rows
    KINETICS.and_own(one.source for one in found)


def test_three_splits_are_three_views_of_one_table(k710, tmp_path):
    lists = write(tmp_path / "lists" / "ucf101", UCF101).parent
    result = k710("build", "--sources", "ucf101", "--annotations", lists, "--out", tmp_path / "m")
    assert result.exit_code == 0, result.output
    manifest = open_manifest(tmp_path / "m")
    assert manifest.sources == ("ucf101_1", "ucf101_2", "ucf101_3")
    assert len(manifest.clips) == 7, "a clip of all three splits has one row"
    test = [is_in(manifest.clips, [view], ["test"]).sum() for view in manifest.sources]
    assert test == [1, 1, 1]
    assert manifest.class_names("ucf101_2") == CLASSES["ucf101"]
    manifest.verify()
    result = k710("build", "--sources", f"ucf101_2={lists / 'ucf101'}", "--out", tmp_path / "one")
    assert result.exit_code == 0, result.output
    assert open_manifest(tmp_path / "one").sources == ("ucf101_2",)


def test_segments_and_whole_videos_stand_in_one_table_beside_kinetics(k710, tmp_path):
    """Clips of one video, named with seconds, with milliseconds and whole; its overlap with Kinetics is found."""
    lists = write(tmp_path / "lists" / "activitynet", ACTIVITYNET).parent
    header = "label,youtube_id,time_start,time_end\n"
    (lists / "k400_train.csv").write_text(f"{header}archery,AbCdEfGhIj1,3,13\n")
    (lists / "k400_val.csv").write_text(f"{header}archery,AbCdEfGhIj0,60,70\n")
    result = k710("build", "--sources", "k400,activitynet", "--annotations", lists, "--out", tmp_path / "m")
    assert result.exit_code == 0, result.output
    manifest = open_manifest(tmp_path / "m")
    manifest.verify()
    assert manifest.clips["clip_id"].to_pylist() == [
        "-bCdEfGhIj2",
        "AbCdEfGhIj0",
        "AbCdEfGhIj0_000004024_000055100",
        "AbCdEfGhIj0_000060000_000070500",
        "AbCdEfGhIj0_000060_000070",
        "AbCdEfGhIj1",
        "AbCdEfGhIj1_000000010_000014000",
        "AbCdEfGhIj1_000003_000013",
    ]
    found = json.loads(k710("audit", tmp_path / "m", "--json").stdout)
    overlap = dict(zip(found["lists"], found["overlap"]["by_id"][found["lists"].index("k400 train")], strict=True))
    assert overlap["activitynet val"] == overlap["activitynet_videos val"] == 1
    assert overlap["activitynet train"] == 0
    assert found["policies"]["train-purge"]["leaks"]["activitynet val"] == 1
    of_lists = k710("audit", "--annotations", lists, "--sources", "k400,activitynet", "--json")
    assert json.loads(of_lists.stdout) == found, "without a build too"


def test_segments_of_no_length_are_left_out_and_counted(k710, tmp_path):
    segments = [{"segment": [n, n + 1], "label": "Ballet"} for n in range(120)] + [
        {"segment": [7.5, 7.5], "label": "Ballet"}
    ]
    database = SEGMENTS | {"AbCdEfGhIj3": {"subset": "training", "annotations": segments}}
    lists = write(tmp_path / "lists", {"activity_net.v1-3.min.json": json.dumps({"database": database})})
    result = k710("build", "--sources", f"activitynet={lists}", "--out", tmp_path / "m")
    assert result.exit_code == 0, result.output
    counts = open_manifest(tmp_path / "m").about["counts"]
    of_train = next(one for one in counts["lists"] if (one["source"], one["split"]) == ("activitynet", "train"))
    assert (of_train["rows"], of_train["malformed"], of_train["other_classes"]) == (123, 1, 122)
    assert "line 4 left out: end 7.5 is not after start 7.5" in result.stderr


def test_where_lists_come_from_is_said(k710, tmp_path):
    result = k710("build", "--sources", "ssv2", "--out", tmp_path / "m")
    assert (result.exit_code, "needs an account with Qualcomm" in result.stderr) == (2, True), result.output
    (tmp_path / "lists").mkdir()
    result = k710("build", "--sources", "hmdb51", "--annotations", tmp_path / "lists", "--out", tmp_path / "m")
    assert result.exit_code == 1
    assert "CLASS_test_split1.txt is missing for hmdb51; put there the 153 files" in result.stderr


@pytest.mark.parametrize(
    ("name", "file", "text", "message"),
    [
        ("ucf101", "classInd.txt", "0 A\n2 B\n", "its numbers are not one for each class without a gap"),
        ("ucf101", "classInd.txt", "A 1\n", "line 1: not a class with its number"),
        ("ucf101", "trainlist02.txt", "v_A.avi 1\n", r"trainlist02\.txt: 1 bad row of 1\n  line 1: not `CLASS/FILE"),
        ("ucf101", "trainlist02.txt", "Hammering/v.avi 1\n", "line 1: number 1 is not class 'Hammering' in classInd"),
        ("ucf101", "testlist01.txt", "Nothing/v.avi\n", "line 1: label 'Nothing' is none of the classes"),
        ("hmdb51", "climb_test_split2.txt", "x.avi 3 \n", r"climb_test_split2\.txt: line 1: not `FILE 0`"),
        ("ssv2", "labels.json", "[]", "not an object of class names and their indices"),
        ("ssv2", "labels.json", '{"a": "1"}', "its numbers are not one for each class"),
        ("ssv2", "train.json", "{", r"train\.json: line 1: not JSON"),
        ("ssv2", "train.json", "{}", "not an array of objects with an id"),
        ("ssv2", "train.json", '[{"id": "x"}]', "line 1: entry 1 has no id that is a number"),
        ("ssv2", "train.json", '[{"id": 1, "template": "Eating [something]"}]', "label 'Eating something' is none of"),
        ("ssv1", "something-something-v1-train.csv", "12345\n", "line 1: not `ID;CLASS`: '12345'"),
        ("ssv1", "something-something-v1-labels.csv", "A\nA\n", "want class names, each once"),
        ("activitynet", "activity_net.v1-3.min.json", "{}", "no `database` of videos by their IDs"),
        (
            "activitynet",
            "activity_net.v1-3.min.json",
            '{"database": {"x": {}}}',
            "entry 1, 'x': subset None is no",
        ),
        (
            "hacs_clips",
            "HACS_clips_v1.1.1.csv",
            "youtube_id\n",
            "line 1: no column classname, end, label, start",
        ),
        (
            *("hacs_clips", "HACS_clips_v1.1.1.csv"),
            "classname,youtube_id,subset,start,end,label\nA,AbCdEfGhIjK,training,1,2,0\n",
            "line 2: subset 'training', label '0'; want a split, and 1 or -1",
        ),
        ("mit", "trainingSet.csv", "clapping/a.mp4,clapping\n", "line 1: not path, label and two numbers"),
    ],
)
def test_what_no_such_list_has(tmp_path, name, file, text, message):
    folder = write(tmp_path, LISTS[name] | {file: text})
    with pytest.raises(ListError, match=message):
        read_published(name, folder)


@pytest.mark.parametrize("name", OTHERS)
def test_a_file_that_is_missing_is_named(tmp_path, name):
    for file in LISTS[name]:
        folder = write(tmp_path / file, {key: text for key, text in LISTS[name].items() if key != file})
        if "test" in file and name in ("ssv1", "ssv2"):
            assert read_published(name, folder)
        else:
            with pytest.raises(K710Error, match=f"is missing for {name}; put there"):
                read_published(name, folder)


def real(folder: Path, name: str) -> list[list[str]]:
    with gzip.open(folder / f"{name}.txt.gz", "rt", encoding="utf-8") as file:
        return [line.rstrip("\n").rsplit(" ", 1 if name.startswith("ucf") else 2) for line in file]


def labels(folder: Path, name: str) -> list[str]:
    return (folder / f"{name}_labels.txt").read_text(encoding="utf-8").splitlines()


def test_the_real_lists_of_ucf101(other_lists, tmp_path):
    classes = labels(other_lists, "ucf101")
    files = {"classInd.txt": "".join(f"{number} {name}\n" for number, name in enumerate(classes, 1))}
    for n in (1, 2, 3):
        train, test = (real(other_lists, f"ucf101_split{n}_{split}") for split in ("train", "test"))
        files[f"trainlist0{n}.txt"] = "".join(f"{path} {int(index) + 1}\n" for path, index in train)
        files[f"testlist0{n}.txt"] = "".join(f"{path}\n" for path, _ in test)
    found = read_published("ucf101", write(tmp_path, files))
    counts = [[part.num_rows for part in one.lists] for one in found]
    assert counts == [[9537, 3783], [9586, 3734], [9624, 3696]]
    assert found[0].source.classes == tuple(classes)
    videos = [{video for part in one.lists for video in part.table["youtube_id"].to_pylist()} for one in found]
    assert len(videos[0]) == 13_320
    assert videos[0] == videos[1] == videos[2]


def test_the_real_lists_of_hmdb51(other_lists, tmp_path):
    classes = labels(other_lists, "hmdb51")
    files: dict[str, str] = {}
    for n in (1, 2, 3):
        for split, flag in (("train", 1), ("test", 2)):
            for name, _, index in real(other_lists, f"hmdb51_split{n}_{split}"):
                key = f"{classes[int(index)]}_test_split{n}.txt"
                files[key] = files.get(key, "") + f"{name}.avi {flag} \n"
    assert len(files) == 153
    found = read_published("hmdb51", write(tmp_path, files))
    assert [[part.num_rows for part in one.lists] for one in found] == [[3570, 1530]] * 3
    assert found[0].source.classes == tuple(classes), "sorted by name, as all known trainers number them"
    videos = {video for one in found for part in one.lists for video in part.table["youtube_id"].to_pylist()}
    assert len(videos) == 6_371


@pytest.mark.slow  # 194,000 rows
def test_the_real_lists_of_something_something_v2(other_lists, tmp_path):
    templates = (other_lists / "ssv2_templates.txt").read_text(encoding="utf-8").splitlines()
    names = labels(other_lists, "ssv2")
    files = {"labels.json": json.dumps({name: str(index) for index, name in enumerate(names)})}
    for split in ("train", "validation"):
        rows = real(other_lists, f"ssv2_{split}")
        files[f"{split}.json"] = json.dumps([{"id": video, "template": templates[int(i)]} for video, _, i in rows])
    (found,) = read_published("ssv2", write(tmp_path, files))
    assert [part.num_rows for part in found.lists] == [168_913, 24_777]
    assert found.source.classes == tuple(names) == tuple(sorted(names))
    row = found.lists[0].table["youtube_id"].to_pylist().index("ssv2~78687")
    assert found.lists[0].table["label"][row].as_py() == names[19]


def test_the_real_segments_of_activitynet_and_their_overlap_with_kinetics(other_lists, real_lists, k710, tmp_path):
    """BSN's copy of them. The videos in common with K400 val are those of the two lists, counted apart from k710."""
    (tmp_path / "lists").mkdir()
    copy = (other_lists / "activitynet13_bsn_as_database.json.gz").read_bytes()
    (tmp_path / "lists" / "activity_net.v1-3.min.json.gz").write_bytes(copy)
    shutil.copy(real_lists / "k400_val.csv", tmp_path / "lists")
    given = ("--annotations", tmp_path / "lists", "--sources", "k400,activitynet", "--splits", "val")
    result = k710("build", *given, "--out", tmp_path / "m")
    assert result.exit_code == 0, result.output
    database = json.loads(gzip.decompress(copy))["database"]
    counts = {(one["source"], one["split"]): one for one in open_manifest(tmp_path / "m").about["counts"]["lists"]}
    splits = {"train": "training", "val": "validation"}
    for split, subset in splits.items():
        entries = [entry for entry in database.values() if entry["subset"] == subset]
        assert counts["activitynet", split]["rows"] == sum(len(entry["annotations"]) for entry in entries)
        assert counts["activitynet_videos", split]["rows"] == len(entries)
    malformed = sum(counts["activitynet", split]["malformed"] for split in splits)
    assert 12 <= malformed < 81, "12 have no length, and 69 more at most 0.011 s"
    found = json.loads(k710("audit", tmp_path / "m", "--json").stdout)
    row = dict(zip(found["lists"], found["overlap"]["by_id"][found["lists"].index("k400 val")], strict=True))
    with (real_lists / "k400_val.csv").open() as file:
        kinetics = {line["youtube_id"] for line in csv.DictReader(file)}
    for split, subset in splits.items():
        ids = {video for video, entry in database.items() if entry["subset"] == subset}
        assert row[f"activitynet_videos {split}"] == len(ids & kinetics) > 0


@pytest.mark.slow  # 98,000 rows
def test_the_real_names_of_something_something_v1_and_moments(other_lists, tmp_path):
    names = labels(other_lists, "ssv1")
    assert len(names) == 174
    assert names != sorted(names), "trainers that sort them have another order"
    in_order = sorted(names)
    rows = {split: real(other_lists, f"ssv1_{split}") for split in ("train", "validation")}
    files = {
        f"something-something-v1-{split}.csv": "".join(f"{video};{in_order[int(i)]}\n" for video, _, i in of_split)
        for split, of_split in rows.items()
    } | {"something-something-v1-labels.csv": "\n".join(names)}
    (found,) = read_published("ssv1", write(tmp_path / "ssv1", files))
    assert [part.num_rows for part in found.lists] == [86_017, 11_522]
    assert found.source.classes == tuple(names)
    moments = labels(other_lists, "mit_v1")
    categories = "".join(f"{name},{index}\n" for index, name in enumerate(moments))
    (mit,) = read_published("mit", write(tmp_path / "mit", MIT | {"moments_categories.txt": categories}))
    assert mit.source.classes == tuple(moments)
    assert len(moments) == 339
