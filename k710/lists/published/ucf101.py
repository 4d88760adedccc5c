"""The lists of UCF101: three splits, each of two files."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

from k710.lists.annotation_rows import quoted
from k710.lists.published.files import (
    FOLDS,
    View,
    file_in,
    numbered_classes,
    rows_of_lines,
)


def ucf101(folder: Path) -> dict[str, View]:
    """`classInd.txt` (`1 ApplyEyeMakeup`), `trainlist01.txt` (`Class/v_Class_g08_c01.avi 1`) and `testlist01.txt`,
    whose lines are paths alone: the class is the folder."""
    named_in = file_in(folder, "classInd.txt")
    classes = numbered_classes(named_in, r"(?P<index>[0-9]+) (?P<name>\S+)", first=1)
    return {
        f"ucf101_{number}": View(
            {
                "train": rows_of_lines(file_in(folder, f"trainlist0{number}.txt"), partial(_ucf_row, classes=classes)),
                "test": rows_of_lines(file_in(folder, f"testlist0{number}.txt"), partial(_ucf_row, classes=classes)),
            },
            classes,
            named_in,
        )
        for number in FOLDS
    }


def _ucf_row(line: str, classes: tuple[str, ...]) -> tuple[str, str] | str:
    match = re.fullmatch(r"(?P<path>(?P<folder>[^/\s]+)/[^/\s]+)(?: (?P<index>[0-9]+))?", line.strip())
    if match is None:
        return f"not `CLASS/FILE.avi` or `CLASS/FILE.avi NUMBER`: {quoted(line.strip())}"
    index = int(match["index"]) - 1 if match["index"] else None
    if index is not None and (index not in range(len(classes)) or classes[index] != match["folder"]):
        return f"number {match['index']} is not class {match['folder']!r} in classInd.txt"
    return match["path"], match["folder"]
