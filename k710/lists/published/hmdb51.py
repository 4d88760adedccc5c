"""The lists of HMDB51: a file for each class and split."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

from k710.errors import ListError
from k710.lists.annotation_rows import quoted
from k710.lists.own_rows import RawList, RawRow
from k710.lists.published.files import (
    FOLDS,
    MissingError,
    Rows,
    View,
    lines_of,
)


def hmdb51(folder: Path) -> dict[str, View]:
    """`CLASS_test_split1.txt`, a line for each clip of the class: `NAME.avi 1` is train, 2 test, 0 in neither. Classes
    have no published numbers; all known trainers sort them by name."""
    files = {
        (match[2], match[1]): path
        for path in sorted(folder.iterdir() if folder.is_dir() else ())
        if (match := re.fullmatch(r"(.+)_test_split([123])\.txt", path.name))
    }
    classes = tuple(sorted({name for _, name in files}))
    views = {}
    for number in FOLDS:
        if lacking := [name for name in classes or ("CLASS",) if (number, name) not in files]:
            raise MissingError(f"{lacking[0]}_test_split{number}.txt")
        of_split = {name: files[number, name] for name in classes}
        sha256 = hashlib.sha256(b"".join(path.read_bytes() for path in of_split.values())).hexdigest()
        rows: Mapping[str, Rows] = {"train": [], "test": []}
        line = 0
        for name, path in of_split.items():
            for number_in_file, text in lines_of(path):
                line += 1
                match = re.fullmatch(r"(?P<file>.+) (?P<flag>[012])", text.strip())
                if match is None:
                    raise ListError(f"{path}: line {number_in_file}: not `FILE 0`, `1` or `2`: {quoted(text.strip())}")
                if match["flag"] != "0":
                    rows["train" if match["flag"] == "1" else "test"].append(RawRow(line, match["file"], name))
        views[f"hmdb51_{number}"] = View(
            {
                split: RawList(folder / f"*_test_split{number}.txt ({split})", of_split_rows, sha256=sha256)
                for split, of_split_rows in rows.items()
            },
            classes,
            folder,
        )
    return views
