"""The lists of Moments in Time."""

from __future__ import annotations

import csv
from pathlib import Path

from k710.lists.annotation_rows import quoted
from k710.lists.published.files import (
    View,
    file_in,
    numbered_classes,
    rows_of_lines,
)


def mit(folder: Path) -> dict[str, View]:
    """`moments_categories.txt` (`clapping,0`), `trainingSet.csv` and `validationSet.csv` without a header: path, label,
    workers who agree, workers who do not."""
    named_in = file_in(folder, "moments_categories.txt")
    classes = numbered_classes(named_in, r"(?P<name>.+),(?P<index>[0-9]+)", first=0)
    files = {"train": "trainingSet.csv", "val": "validationSet.csv"}
    lists = {split: rows_of_lines(file_in(folder, name), _mit_row) for split, name in files.items()}
    return {"mit": View(lists, classes, named_in)}


def _mit_row(line: str) -> tuple[str, str] | str:
    fields = next(csv.reader([line.strip()]), [])
    if len(fields) != 4 or not (fields[2] + fields[3]).isdigit():
        return f"not path, label and two numbers: {quoted(line.strip())}"
    return fields[0], fields[1]
