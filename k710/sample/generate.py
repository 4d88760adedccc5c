"""Writes the sample's lists: ten classes with five plain clips each, and an example of every problem of real lists.

`python -m k710.sample.generate` writes them. A test checks that the frozen lists match this file.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from k710.lists.labels import class_names, k710_classes_of
from k710.sample import LISTS
from k710.sources.known import KNOWN_SOURCES


@dataclass(frozen=True)
class Row:
    """A row of one list; `label` is the K710 class and is written in the spelling of the release, None in test
    lists."""

    source: str
    split: str
    youtube_id: str
    start_s: int
    end_s: int
    label: str | None


# All releases have them, except riding mountain bike (only k400), bull fighting (only k600) and archaeological
# excavation (only k700). Three are spelled differently in k400: tying tie, balloon blowing, picking fruit (also in
# k600).
CLASSES = (
    "abseiling",
    "archery",
    "bouncing on trampoline",
    "juggling balls",
    "tying necktie",
    "inflating balloons",
    "picking apples",
    "riding mountain bike",
    "bull fighting",
    "archaeological excavation",
)


def plain_rows() -> Iterator[Row]:
    """Five clips of every class: four train, one val; three of them also in k600, two of them also in k400."""
    for number, label in enumerate(CLASSES):
        for clip in range(5):
            youtube_id, start_s = f"sample-{number}{clip:03d}", 10 * (clip + 1)
            split = "val" if clip == 4 else "train"
            for source, clips in (("k700", range(5)), ("k600", (0, 1, 4)), ("k400", (0, 4))):
                only = {name for name in ("k400", "k600", "k700") if label in _spellings(name)}
                if source in only and (clip in clips or len(only) == 1):
                    yield Row(source, split, youtube_id, start_s, start_s + 10, label)


def planted_rows() -> Iterator[Row]:
    """The problems of real lists, each with an ID that names it."""
    # Leaks between releases: k400 val and k600 val clips that the newer release moved to train.
    for number in range(3):
        yield Row("k400", "val", f"leaked-400{number}", 20, 30, "archery")
        yield Row("k700", "train", f"leaked-400{number}", 20, 30, "archery")
    yield Row("k600", "val", "leaked-6000", 40, 50, "abseiling")
    yield Row("k700", "train", "leaked-6000", 90, 100, "abseiling")  # the same video, another span
    # Test videos in a newer train: only the strict recipe holds them out.
    for source, youtube_id in (("k400", "tested-4000"), ("k600", "tested-6000")):
        yield Row(source, "test", youtube_id, 5, 15, None)
        yield Row("k700", "train", youtube_id, 5, 15, "juggling balls")
    yield Row("k600", "test", "tested-6001", 30, 40, None)
    yield Row("k700", "val", "tested-6001", 30, 40, "archery")  # a val video in an older test list
    yield Row("k600", "val", "tested-6002", 0, 10, "juggling balls")
    yield Row("k600", "test", "tested-6002", 60, 70, None)  # a release that leaks inside itself
    yield Row("k700", "test", "tested-7000", 12, 22, None)
    # One video, several spans: in one list, and from release to release.
    yield Row("k700", "train", "two-spans-0", 100, 110, "tying necktie")
    yield Row("k700", "train", "two-spans-0", 30, 40, "tying necktie")
    yield Row("k400", "train", "two-spans-1", 10, 20, "tying necktie")
    yield Row("k600", "train", "two-spans-1", 50, 60, "tying necktie")
    yield Row("k700", "val", "two-spans-2", 70, 80, "picking apples")
    yield Row("k700", "val", "two-spans-2", 15, 25, "picking apples")
    # One clip, two labels: from release to release, and in one list.
    yield Row("k400", "val", "two-labels0", 33, 43, "abseiling")
    yield Row("k700", "val", "two-labels0", 33, 43, "archery")
    yield Row("k600", "train", "two-labels1", 8, 18, "juggling balls")
    yield Row("k600", "train", "two-labels1", 8, 18, "bouncing on trampoline")
    # The same row twice.
    yield Row("k700", "train", "same-twice0", 61, 71, "inflating balloons")
    yield Row("k700", "train", "same-twice0", 61, 71, "inflating balloons")
    # IDs that a command line or a case-blind file system gets wrong, and spans that are not ten seconds long.
    yield Row("k700", "train", "-sample-dsh", 3, 13, "archery")
    yield Row("k700", "val", "--sample-ds", 3, 13, "archery")
    yield Row("k700", "train", "case-Sample", 7, 17, "abseiling")
    yield Row("k700", "train", "case-sample", 7, 17, "juggling balls")
    yield Row("k700", "train", "short-span0", 0, 7, "picking apples")
    # Kinetics-700-2020: other clips of the same classes; it takes a val video of k700 into train.
    for number, label in enumerate(CLASSES[:7]):
        yield Row("k700_2020", "train", f"sample-{number}000", 10, 20, label)
        yield Row("k700_2020", "train", f"new-2020-{number:02d}", 25, 35, label)
    yield Row("k700_2020", "train", "sample-0004", 50, 60, "abseiling")
    yield Row("k700_2020", "val", "new-2020-70", 25, 35, "archery")
    yield Row("k700_2020", "val", "sample-1004", 80, 90, "archery")
    yield Row("k700_2020", "test", "new-2020-80", 25, 35, None)


def write_lists(folder: Path) -> None:
    """Write every list of the sample into `folder`, each in its own format."""
    rows = [*plain_rows(), *planted_rows()]
    for source in KNOWN_SOURCES:
        for split in ("train", "val", "test"):
            part = [row for row in rows if (row.source, row.split) == (source, split)]
            name, content = _file(source, split, part)
            (folder / name).write_bytes(content.encode())


def _file(source: str, split: str, rows: list[Row]) -> tuple[str, str]:
    """The name and text of one list, with the peculiarities of the real ones."""
    if (source, split) == ("k700", "val"):
        return "k700_val.json", _json(rows, "validate")
    suffix = "txt" if source == "k600" and split != "test" else "csv"
    spelled = "validate" if (source, split) == ("k700_2020", "val") else split
    is_cc = source == "k400" and split != "test"
    header = ["label"] * (split != "test") + ["youtube_id", "time_start", "time_end", "split"] + ["is_cc"] * is_cc
    lines = [",".join(header)]
    for row in rows:
        label = [] if row.label is None else [_spellings(source)[row.label]]
        if source == "k400" and label and " " in label[0]:
            label = [f'"{label[0]}"']  # k400 quotes labels
        fields = [*label, row.youtube_id, str(row.start_s), str(row.end_s), spelled, *["0"] * is_cc]
        lines.append(",".join(fields))
    if (source, split) == ("k600", "train"):
        return f"{source}_{split}.{suffix}", "\ufeff" + "\r\n".join(lines) + "\r\n"  # went through a Windows editor
    if (source, split) == ("k600", "val"):
        lines = [line.replace(",", ", ") for line in lines] + ["", ""]  # spaces and blank lines
    return f"{source}_{split}.{suffix}", "\n".join(lines) + "\n"


def _json(rows: list[Row], subset: str) -> str:
    """The ActivityNet form. An ID may appear twice, so the object is written pair by pair."""
    entries = []
    for row in rows:
        entry = {
            "annotations": {"label": row.label, "segment": [float(row.start_s), float(row.end_s)]},
            "duration": float(row.end_s - row.start_s),
            "subset": subset,
            "url": f"https://www.youtube.com/watch?v={row.youtube_id}",
        }
        entries.append(f"{json.dumps(row.youtube_id)}: {json.dumps(entry)}")
    return "{\n" + ",\n".join(entries) + "\n}\n"


@functools.cache
def _spellings(source: str) -> dict[str, str]:
    """The name of every K710 class of a release in that release."""
    label_set, k710 = KNOWN_SOURCES[source].label_set, class_names("k710")
    return {k710[index]: name for index, name in zip(k710_classes_of(label_set), class_names(label_set), strict=True)}


if __name__ == "__main__":
    LISTS.mkdir(exist_ok=True)
    write_lists(LISTS)
