"""The official lists of other data sets, as they were published: files in a folder -> rows by view and split."""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from k710.errors import ListError, UsageError
from k710.lists.annotation_rows import BadRow, quoted
from k710.lists.labels import Synonym
from k710.lists.list_bytes import list_text
from k710.lists.own_lists import OwnLists, read_own, read_rows
from k710.lists.own_rows import RawList, RawRow
from k710.lists.own_source import OwnSpec, own_spec, parse_own
from k710.sources.others import OTHERS, Published

Rows = list[RawRow | BadRow]
_OF_SPLITS = ("1", "2", "3")


@dataclass(frozen=True)
class _View:
    """The lists of one view by split, its classes in the official index order, and the file that names them."""

    lists: dict[str, RawList]
    classes: tuple[str, ...]
    named_in: Path


def read_published(name: str, folder: Path) -> list[OwnLists]:
    """The views of a data set of OTHERS from the official lists in `folder`, or in `folder/NAME`.

    Raises ListError that says where the lists come from where they are not there, and with file and line for a row that
    the published form does not have.
    """
    one = OTHERS[name]
    folder = folder / name if (folder / name).is_dir() else folder
    try:
        views = _READERS[name](folder)
    except _MissingError as missing:
        raise ListError(f"{folder}: {missing} is missing for {one.name}; put there {one.origin}") from None
    return [_source(one, view, title, views[view]) for view, title in one.views.items() if view in views]


def read_sources(
    given: Iterable[str], annotations: Path | None, synonyms: Sequence[Synonym] = ()
) -> tuple[tuple[str, ...], list[OwnLists]]:
    """The names of all sources that `--sources` gives, and the lists of those that are none of Kinetics.

    `NAME=PATH` is a source of the user's own, or a data set of OTHERS with its lists in PATH; the name of such a data
    set alone, or of one of its views, has its lists in `annotations`. Raises UsageError and ListError.
    """
    names: list[str] = []
    own: list[OwnLists] = []
    for text in given:
        parsed = parse_own(text)
        name = parsed[0] if parsed else text.lower()
        data_set = next((one for one in OTHERS.values() if name in (one.name, *one.views)), None)
        if data_set is not None:
            folder = parsed[1] if parsed else annotations
            if folder is None:
                raise UsageError(
                    f"the lists of {data_set.name} are not downloaded; name a folder with --annotations DIR or "
                    f"{data_set.name}=DIR, and put there {data_set.origin}"
                )
            views = [one for one in read_published(data_set.name, folder) if name in (data_set.name, one.source.name)]
            own += views
            names += [one.source.name for one in views]
        elif parsed is not None:
            own.append(read_own(own_spec(*parsed), synonyms))
            names.append(name)
        else:
            names.append(text)
    return tuple(names), own


def _source(one: Published, view: str, title: str, found: _View) -> OwnLists:
    spec = OwnSpec(
        name=view,
        where=found.named_in,
        lists={},
        ids=one.ids,
        spans=one.spans,
        classes=found.named_in,
        title=title,
        licence=one.licence,
        citation=one.citation,
        colour=one.colour,
        id_space=one.name if len(one.views) > 1 else "",
    )
    return read_rows(spec, found.lists, found.classes)


class _MissingError(Exception):
    """The name of a file that is not in the folder."""


def _file(folder: Path, *names: str) -> Path:
    """The first of these files, plain or gzipped. Raises _MissingError."""
    for name in names:
        for path in (folder / name, folder / f"{name}.gz"):
            if path.is_file():
                return path
    raise _MissingError(names[0])


def _text(path: Path) -> str:
    try:
        return list_text(path)
    except ListError as error:
        raise ListError(f"{path}: {error}") from None


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, with their numbers."""
    return ((number, line) for number, line in enumerate(_text(path).split("\n"), 1) if line.strip())


def _ucf101(folder: Path) -> dict[str, _View]:
    """`classInd.txt` (`1 ApplyEyeMakeup`), `trainlist01.txt` (`Class/v_Class_g08_c01.avi 1`) and `testlist01.txt`,
    whose lines are paths alone: the class is the folder."""
    named_in = _file(folder, "classInd.txt")
    classes = _numbered_classes(named_in, r"(?P<index>[0-9]+) (?P<name>\S+)", first=1)
    return {
        f"ucf101_{number}": _View(
            {
                "train": _of_lines(_file(folder, f"trainlist0{number}.txt"), partial(_ucf_row, classes=classes)),
                "test": _of_lines(_file(folder, f"testlist0{number}.txt"), partial(_ucf_row, classes=classes)),
            },
            classes,
            named_in,
        )
        for number in _OF_SPLITS
    }


def _ucf_row(line: str, classes: tuple[str, ...]) -> tuple[str, str] | str:
    match = re.fullmatch(r"(?P<path>(?P<folder>[^/\s]+)/[^/\s]+)(?: (?P<index>[0-9]+))?", line.strip())
    if match is None:
        return f"not `CLASS/FILE.avi` or `CLASS/FILE.avi NUMBER`: {quoted(line.strip())}"
    index = int(match["index"]) - 1 if match["index"] else None
    if index is not None and (index not in range(len(classes)) or classes[index] != match["folder"]):
        return f"number {match['index']} is not class {match['folder']!r} in classInd.txt"
    return match["path"], match["folder"]


def _hmdb51(folder: Path) -> dict[str, _View]:
    """`CLASS_test_split1.txt`, a line for each clip of the class: `NAME.avi 1` is train, 2 test, 0 in neither. Classes
    have no published numbers; all known trainers sort them by name."""
    files = {
        (match[2], match[1]): path
        for path in sorted(folder.iterdir() if folder.is_dir() else ())
        if (match := re.fullmatch(r"(.+)_test_split([123])\.txt", path.name))
    }
    classes = tuple(sorted({name for _, name in files}))
    views = {}
    for number in _OF_SPLITS:
        if lacking := [name for name in classes or ("CLASS",) if (number, name) not in files]:
            raise _MissingError(f"{lacking[0]}_test_split{number}.txt")
        of_split = {name: files[number, name] for name in classes}
        sha256 = hashlib.sha256(b"".join(path.read_bytes() for path in of_split.values())).hexdigest()
        rows: Mapping[str, Rows] = {"train": [], "test": []}
        line = 0
        for name, path in of_split.items():
            for number_in_file, text in _lines(path):
                line += 1
                match = re.fullmatch(r"(?P<file>.+) (?P<flag>[012])", text.strip())
                if match is None:
                    raise ListError(f"{path}: line {number_in_file}: not `FILE 0`, `1` or `2`: {quoted(text.strip())}")
                if match["flag"] != "0":
                    rows["train" if match["flag"] == "1" else "test"].append(RawRow(line, match["file"], name))
        views[f"hmdb51_{number}"] = _View(
            {
                split: RawList(folder / f"*_test_split{number}.txt ({split})", of_split_rows, sha256=sha256)
                for split, of_split_rows in rows.items()
            },
            classes,
            folder,
        )
    return views


def _ssv2(folder: Path) -> dict[str, _View]:
    """`labels.json` maps each class to its index, as text; `train.json` has objects with an id and a template, the
    class name with brackets; `test.json` has ids alone, `test-answers.csv` their classes."""
    folder = folder / "labels" if (folder / "labels").is_dir() else folder
    named_in = _json_file(folder, "labels")
    found = _json(named_in)
    try:
        index_of = {str(name): int(index) for name, index in found.items()}
    except (AttributeError, TypeError, ValueError):
        raise ListError(f"{named_in}: not an object of class names and their indices") from None
    classes = _in_order(named_in, index_of)
    lists = {split: _ssv2_list(_json_file(folder, stem)) for split, stem in (("train", "train"), ("val", "validation"))}
    try:
        test = _json_file(folder, "test")
    except _MissingError:
        return {"ssv2": _View(lists, classes, named_in)}
    lists["test"] = _ssv2_list(test, _answers(folder))
    return {"ssv2": _View(lists, classes, named_in)}


def _json_file(folder: Path, stem: str) -> Path:
    return _file(folder, f"{stem}.json", f"something-something-v2-{stem}.json")


def _answers(folder: Path) -> dict[str, str]:
    """The classes of the test videos by their ids, where the package has them."""
    try:
        path = _file(folder, "test-answers.csv")
    except _MissingError:
        return {}
    return dict(line.strip().split(";", 1) for _, line in _lines(path) if ";" in line)


def _ssv2_list(path: Path, answers: Mapping[str, str] | None = None) -> RawList:
    entries = _json(path)
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


def _ssv1(folder: Path) -> dict[str, _View]:
    """`…-labels.csv`, a class a line in index order; `…-train.csv` and `…-validation.csv`, `12345;Class name`;
    `…-test.csv`, ids alone. Trainers that sort the classes have another order."""
    named_in = _file(folder, "something-something-v1-labels.csv")
    classes = _once(named_in, [line.strip() for _, line in _lines(named_in)])
    names = {"train": "train", "val": "validation", "test": "test"}
    lists = {}
    for split, name in names.items():
        try:
            path = _file(folder, f"something-something-v1-{name}.csv")
        except _MissingError:
            if split == "test":
                continue
            raise
        lists[split] = _of_lines(path, partial(_ssv1_row, split=split))
    return {"ssv1": _View(lists, classes, named_in)}


def _ssv1_row(line: str, split: str) -> tuple[str, str] | str:
    video, semicolon, label = line.strip().partition(";")
    if not re.fullmatch("[0-9]+", video) or bool(semicolon) == (split == "test"):
        return f"not {'`ID`' if split == 'test' else '`ID;CLASS`'}: {quoted(line.strip())}"
    return video, label


def _mit(folder: Path) -> dict[str, _View]:
    """`moments_categories.txt` (`clapping,0`), `trainingSet.csv` and `validationSet.csv` without a header: path, label,
    workers who agree, workers who do not."""
    named_in = _file(folder, "moments_categories.txt")
    classes = _numbered_classes(named_in, r"(?P<name>.+),(?P<index>[0-9]+)", first=0)
    files = {"train": "trainingSet.csv", "val": "validationSet.csv"}
    lists = {split: _of_lines(_file(folder, name), _mit_row) for split, name in files.items()}
    return {"mit": _View(lists, classes, named_in)}


def _mit_row(line: str) -> tuple[str, str] | str:
    fields = next(csv.reader([line.strip()]), [])
    if len(fields) != 4 or not (fields[2] + fields[3]).isdigit():
        return f"not path, label and two numbers: {quoted(line.strip())}"
    return fields[0], fields[1]


def _of_lines(path: Path, parse: Callable[[str], tuple[str, str] | str]) -> RawList:
    """The rows of a file: `parse` gives the ID or path and the label of a line, or what is wrong with it."""
    rows: Rows = []
    for number, line in _lines(path):
        found = parse(line)
        rows.append(BadRow(number, found) if isinstance(found, str) else RawRow(number, *found))
    return RawList(path, rows)


def _numbered_classes(path: Path, form: str, *, first: int) -> tuple[str, ...]:
    index_of = {}
    for number, line in _lines(path):
        match = re.fullmatch(form, line.strip())
        if match is None or match["name"] in index_of:
            raise ListError(f"{path}: line {number}: not a class with its number, each once: {quoted(line.strip())}")
        index_of[match["name"]] = int(match["index"]) - first
    return _in_order(path, index_of)


def _in_order(path: Path, index_of: Mapping[str, int]) -> tuple[str, ...]:
    if sorted(index_of.values()) != list(range(len(index_of))) or not index_of:
        raise ListError(f"{path}: its numbers are not one for each class without a gap")
    return tuple(sorted(index_of, key=index_of.__getitem__))


def _once(path: Path, names: Iterable[str]) -> tuple[str, ...]:
    names = tuple(names)
    if len(set(names)) < len(names) or not names:
        raise ListError(f"{path}: want class names, each once")
    return names


def _json(path: Path) -> Any:
    try:
        return json.loads(_text(path))
    except json.JSONDecodeError as error:
        raise ListError(f"{path}: line {error.lineno}: not JSON, or cut off: {error.msg}") from None
    except (RecursionError, ValueError) as error:
        raise ListError(f"{path}: not JSON: {error}") from None


_READERS: dict[str, Callable[[Path], dict[str, _View]]] = {
    "ucf101": _ucf101,
    "hmdb51": _hmdb51,
    "ssv2": _ssv2,
    "ssv1": _ssv1,
    "mit": _mit,
}
