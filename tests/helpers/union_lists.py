"""Lists of the members of K-Mash in their published forms, a few rows each, with videos that several of them have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

# Videos that stand in lists of two data sets, by what is planted with them.
ANET_TRAIN_IN_K400_VAL = "AbCdEfGh004"
ANET_VAL_IN_K400_TRAIN = "AbCdEfGh002"
HACS_VAL_IN_K600_TRAIN = "AbCdEfGh005"
ANET_TRAIN_IN_HACS_TRAIN = "AbCdEfGh020"

KINETICS = {
    "k400": {
        "train": [("abseiling", 1), ("archery", 2), ("clapping", 3), ("archery", 11)],
        "val": [("archery", 4)],
    },
    "k600": {"train": [("abseiling", 1), ("archery", 5)], "val": [("archery", 6)]},
    "k700": {"train": [("archery", 7), ("archery", 4)], "val": [("archery", 8)]},
}
ACTIVITYNET: dict[int, tuple[str, list[tuple[float, float, str]]]] = {
    4: ("training", [(1.5, 9.25, "Archery")]),
    20: ("training", [(0.5, 10, "Archery"), (20, 30.5, "Ballet")]),
    2: ("validation", [(0, 8, "Archery")]),
    7: ("testing", []),
}
HACS: dict[int, tuple[str, list[tuple[float, float, str]]]] = {
    5: ("validation", [(0, 8, "Archery")]),
    20: ("training", [(0.5, 10, "Archery"), (40, 52.25, "Archery")]),
    30: ("training", [(0.5, 10, "Ballet")]),
    31: ("validation", [(0.5, 10, "Ballet")]),
}
MIT = {
    "moments_categories.txt": "clapping,0\narchery,1\nadult+female+singing,2\n",
    "trainingSet.csv": "clapping/yt-abcdefghijk_4.mp4,clapping,3,0\n",
    "validationSet.csv": "adult+female+singing/a-b_1.mp4,adult+female+singing,2,1\n",
}
SSV2 = {
    "labels.json": json.dumps({"Holding something next to something": "0", "Something falling": "1"}),
    "train.json": json.dumps(
        [{"id": "78001", "label": "holding a cup", "template": "Holding [something] next to [something]"}]
    ),
    "validation.json": json.dumps([{"id": "15", "label": "a ball falling", "template": "[Something] falling"}]),
}


def video(number: int) -> str:
    """The YouTube ID of a made-up video."""
    return f"AbCdEfGh{number:03d}"


def write_members(folder: Path) -> Path:
    """The lists of all members, in the folder and in folders of their names."""
    for source, splits in KINETICS.items():
        for split, rows in splits.items():
            lines = ["label,youtube_id,time_start,time_end,split"]
            lines += [f"{label},{video(number)},0,10,{split}" for label, number in rows]
            _write(folder / f"{source}_{split}.csv", "\n".join(lines))
    _write(folder / "activitynet" / "activity_net.v1-3.min.json", _database(ACTIVITYNET))
    _write(folder / "hacs" / "HACS_segments_v1.1.1.json", _database(HACS))
    for name, files in (("mit", MIT), ("ssv2", SSV2)):
        for file, text in files.items():
            _write(folder / name / file, text)
    return folder


def _database(videos: dict[int, tuple[str, list[tuple[float, float, str]]]]) -> str:
    entries: dict[str, Any] = {
        video(number): {
            "subset": subset,
            "duration": 60.0,
            "annotations": [{"segment": [start, end], "label": label} for start, end, label in segments],
        }
        for number, (subset, segments) in videos.items()
    }
    return json.dumps({"version": "VERSION 1.3", "database": entries})


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def write_union(folder: Path, text: str, **files: str) -> Path:
    """A union.yaml, and files beside it."""
    for name, content in files.items():
        _write(folder / name.replace("__", "."), content)
    path = folder / "union.yaml"
    _write(path, text)
    return path
