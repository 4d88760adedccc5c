"""What people have: one file, a folder of lists, of Parquet, of tars or of clips, a manifest; as parts that are one set
of clips each, such as the train and the val of a folder."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from k710.errors import ListError
from k710.identify.batch import Batch
from k710.identify.media import batches_of_files, batches_of_tar
from k710.identify.table_files import batches_of_arrow, batches_of_parquet
from k710.identify.text_files import batches_of_text, is_json_lines
from k710.lists.annotation_rows import quoted
from k710.sources.source import SPLIT_SPELLINGS
from k710.store.local_files import walk

CLIPS, TARS, PARQUET, ARROW, TEXT = "clips", "tars", "parquet", "arrow", "lists"
_SUFFIXES = {
    TARS: (".tar", ".tar.gz", ".tgz"),
    PARQUET: (".parquet",),
    ARROW: (".arrow",),
    TEXT: (".csv", ".tsv", ".txt", ".jsonl", ".json", ".csv.gz", ".tsv.gz", ".txt.gz", ".jsonl.gz", ".json.gz"),
}
# What stands beside the data in folders of datasets, video2dataset and k710.
_BESIDE = re.compile(
    r"\..*|README.*|LICEN[CS]E.*|dataset_infos?\.json|dataset_dict\.json|state\.json|shards\.json|dataset\.json"
    r"|.*_stats\.json|requirements\.txt|cache-.*\.arrow",
    re.I,
)
_MOST_PARTS = 30
_SHARD = re.compile(r"[-_.]?(?:[0-9]+(?:-of-[0-9]+)?)?(?:[-_][0-9a-f]{8,})?$")


@dataclass(frozen=True)
class Part:
    """One set of clips of what the user named: `name` says which, `split` is that in its file or folder names, empty
    without one. `form` is one of the constants above, `files` are its files; of clips they are paths inside `root`.
    `made` gives the rows of what is no file."""

    name: str
    split: str
    form: str
    root: Path
    files: tuple[str, ...]
    made: Callable[[], Iterator[Batch]] | None = None

    def batches(self, *, column: str | None = None) -> Iterator[Batch]:
        """Its rows. `column` names the column of the videos, where it is a table with several that may be. Raises
        ListError with the file, and the line where there is one."""
        if self.made is not None:
            yield from self.made()
        elif self.form == CLIPS:
            yield from batches_of_files(self.root, list(self.files))
        else:
            for file in self.files:
                try:
                    yield from _reader(self.root / file, column)
                except ListError as error:
                    raise ListError(f"{self.root / file}: {error}") from None


def _reader(path: Path, column: str | None) -> Iterator[Batch]:
    with path.open("rb") as file:
        start = file.read(512)
    if start.startswith(b"PAR1"):
        return batches_of_parquet(path, column=column)
    if start.startswith((b"ARROW1", b"\xff\xff\xff\xff")):
        return batches_of_arrow(path, column=column)
    if start[257:262] == b"ustar" or (start[:2] == b"\x1f\x8b" and path.name.lower().endswith(_SUFFIXES[TARS])):
        return batches_of_tar(path)
    return batches_of_text(path, column=column)


def is_plain_list(path: Path) -> bool:
    """Whether a file is text, and no JSON of a record a line; a pipe counts as text."""
    if not path.exists() or path.is_dir():
        return False
    if not path.is_file():
        return True
    with path.open("rb") as file:
        start = file.read(512)
    is_other = start.startswith((b"PAR1", b"ARROW1", b"\xff\xff\xff\xff")) or start[257:262] == b"ustar"
    is_tar = path.name.lower().endswith(_SUFFIXES[TARS])
    return not is_other and not is_tar and not is_json_lines(path)


def parts_of(thing: Path) -> list[Part]:
    """The parts of a file or a folder. Raises ListError where there is nothing that could name clips."""
    if not thing.exists():
        raise ListError(f"{thing}: No such file or directory")
    if not thing.is_dir():
        if not thing.is_file():  # it is read more than once
            raise ListError(f"{thing}: is a pipe or a device; write it into a file first")
        return [Part(str(thing), split_of_name(thing.name), TEXT, thing.parent, (thing.name,))]
    files = sorted(path.relative_to(thing).as_posix() for path in thing.rglob("*") if _counts(path, thing))
    # A dataset of tars often has a Parquet file of metadata beside each, as video2dataset's: that says the same.
    for form in (PARQUET, ARROW, TARS):
        found = [file for file in files if file.lower().endswith(_SUFFIXES[form])]
        if found:
            return _by_split(thing, form, found)
    videos = sorted(path[len(str(thing)) :].lstrip("/") for path, kind in walk(str(thing), frozenset()) if not kind)
    if videos:
        return _clips(thing, videos)
    found = [file for file in files if file.lower().endswith(_SUFFIXES[TEXT])]
    if found:
        return _by_split(thing, TEXT, found)
    raise ListError(
        f"{thing}: holds no lists, no tables, no tars and no video files; what lies there is "
        f"{', '.join(map(quoted, files[:5])) or 'nothing'}"
    )


def _counts(path: Path, root: Path) -> bool:
    inside = path.relative_to(root).parts
    return path.is_file() and not _BESIDE.fullmatch(path.name) and not any(part.startswith(".") for part in inside)


def _by_split(root: Path, form: str, files: list[str]) -> list[Part]:
    """The files of a folder, those of each split together; files of no split are one part."""
    groups: dict[tuple[str, str], list[str]] = {}
    for file in files:
        split = split_of_name(file)
        key = (split, _SHARD.sub("", _stem(file)) if form == TEXT or split else "")
        groups.setdefault(key, []).append(file)
    if len(groups) > _MOST_PARTS:  # names of units and shards, and not of sets
        groups = {}
        for file in files:
            groups.setdefault((split_of_name(file), ""), []).append(file)
    if len(groups) == 1:
        ((split, _), found), *_ = groups.items()
        return [Part(str(root), split, form, root, tuple(found))]
    parts = []
    for (split, stem), found in groups.items():
        name = (
            f"{root}/{found[0]}"
            if len(found) == 1
            else f"{root}/{stem}*"
            if stem
            else f"{root} ({split or 'no split'})"
        )
        parts.append(Part(name, split, form, root, tuple(found)))
    return parts


def _stem(file: str) -> str:
    lower = file.lower()
    suffix = max((s for group in _SUFFIXES.values() for s in group if lower.endswith(s)), key=len, default="")
    return file[: len(file) - len(suffix)]


def _clips(root: Path, videos: list[str]) -> list[Part]:
    """A folder of clips; one part for each split where all its first folders name splits."""
    tops = sorted({video.split("/")[0] for video in videos})
    if all("/" in video for video in videos) and all(top.lower() in SPLIT_SPELLINGS for top in tops):
        return [
            Part(
                str(root / top), SPLIT_SPELLINGS[top.lower()], CLIPS, root,
                tuple(video for video in videos if video.startswith(f"{top}/")),
            )
            for top in tops
        ]  # fmt: skip
    return [Part(str(root), split_of_name(root.name), CLIPS, root, tuple(videos))]


def split_of_name(path: str) -> str:
    """The split that the words of a path name, the last of them first; empty where there is none."""
    for component in reversed(path.split("/")):
        words = [word for word in re.split(r"[^A-Za-z]+", component.lower()) if word]
        found = {SPLIT_SPELLINGS[word] for word in words if word in SPLIT_SPELLINGS}
        if len(found) == 1:
            return found.pop()
    return ""
