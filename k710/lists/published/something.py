"""The lists of Something-Something V1 and V2."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from k710.errors import ListError
from k710.lists.annotation_rows import BadRow, quoted
from k710.lists.own_rows import RawList, RawRow
from k710.lists.published.files import (
    MissingError,
    Rows,
    View,
    each_once,
    file_in,
    in_order,
    json_of,
    lines_of,
    rows_of_lines,
)


def ssv2(folder: Path) -> dict[str, View]:
    """`labels.json` maps each class to its index, as text; `train.json` has objects with an id and a template, the
    class name with brackets; `test.json` has ids alone, `test-answers.csv` their classes."""
    folder = folder / "labels" if (folder / "labels").is_dir() else folder
    named_in = _json_file(folder, "labels")
    found = json_of(named_in)
    try:
        index_of = {str(name): int(index) for name, index in found.items()}
    except (AttributeError, TypeError, ValueError):
        raise ListError(f"{named_in}: not an object of class names and their indices") from None
    classes = in_order(named_in, index_of)
    lists = {split: _ssv2_list(_json_file(folder, stem)) for split, stem in (("train", "train"), ("val", "validation"))}
    try:
        test = _json_file(folder, "test")
    except MissingError:
        return {"ssv2": View(lists, classes, named_in)}
    lists["test"] = _ssv2_list(test, _answers(folder))
    return {"ssv2": View(lists, classes, named_in)}


def _json_file(folder: Path, stem: str) -> Path:
    return file_in(folder, f"{stem}.json", f"something-something-v2-{stem}.json")


def _answers(folder: Path) -> dict[str, str]:
    """The classes of the test videos by their ids, where the package has them."""
    try:
        path = file_in(folder, "test-answers.csv")
    except MissingError:
        return {}
    return dict(line.strip().split(";", 1) for _, line in lines_of(path) if ";" in line)


def _ssv2_list(path: Path, answers: Mapping[str, str] | None = None) -> RawList:
    entries = json_of(path)
    if not isinstance(entries, list):
        raise ListError(f"{path}: not an array of objects with an id")
    rows: Rows = []
    for number, entry in enumerate(entries, 1):
        video = entry.get("id") if isinstance(entry, dict) else None
        template = entry.get("template", "") if isinstance(entry, dict) else ""
        if not (isinstance(video, str | int) and re.fullmatch("[0-9]+", str(video)) and isinstance(template, str)):
            rows.append(
                BadRow(number, f"entry {number} has no id that is a number, or no template: {quoted(str(entry))}")
            )
            continue
        label = re.sub(r"[\[\]]", "", template) if answers is None else answers.get(str(video), "")
        rows.append(RawRow(number, str(video), label))
    return RawList(path, rows)


def ssv1(folder: Path) -> dict[str, View]:
    """`…-labels.csv`, a class a line in index order; `…-train.csv` and `…-validation.csv`, `12345;Class name`;
    `…-test.csv`, ids alone. Trainers that sort the classes have another order."""
    named_in = file_in(folder, "something-something-v1-labels.csv")
    classes = each_once(named_in, [line.strip() for _, line in lines_of(named_in)])
    names = {"train": "train", "val": "validation", "test": "test"}
    lists = {}
    for split, name in names.items():
        try:
            path = file_in(folder, f"something-something-v1-{name}.csv")
        except MissingError:
            if split == "test":
                continue
            raise
        lists[split] = rows_of_lines(path, partial(_ssv1_row, split=split))
    return {"ssv1": View(lists, classes, named_in)}


def _ssv1_row(line: str, split: str) -> tuple[str, str] | str:
    video, semicolon, label = line.strip().partition(";")
    if not re.fullmatch("[0-9]+", video) or bool(semicolon) == (split == "test"):
        return f"not {'`ID`' if split == 'test' else '`ID;CLASS`'}: {quoted(line.strip())}"
    return video, label
