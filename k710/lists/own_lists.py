"""A user's own source, read: its lists as Arrow tables like those of the releases, and what is known of it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa

from k710.errors import LabelError, ListError
from k710.lists.annotation_rows import MAX_LABEL_LENGTH, MAX_TIME_S, BadRow, is_utf8, quoted
from k710.lists.annotations import AnnotationList, ListFile, describe_bad_rows
from k710.lists.labels import Alignment, Synonym, read_synonyms
from k710.lists.list_bytes import list_text
from k710.lists.own_rows import FRAME_READERS, READERS, VIDEO_SUFFIXES, RawList, RawRow
from k710.lists.own_source import ALIGNED, OwnSpec
from k710.sources.own import CONTROL, MAX_CLASSES, own_source
from k710.sources.source import (
    FRACTIONAL,
    NONE,
    PATH,
    SPLIT_SPELLINGS,
    SPLITS,
    STEM,
    WHOLE,
    YOUTUBE,
    YOUTUBE_ID,
    Source,
)
from k710.sources.video_ids import MAX_ID_CHARS, own_video_id


@dataclass(frozen=True)
class OwnLists:
    """An own source and its lists. `notes` are what the user should know of how they were read."""

    source: Source
    lists: tuple[AnnotationList, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Row:
    """A good row: its place, and what the tables hold of it. `label` is empty without a label."""

    line: int
    split: str
    label: str
    raw: str
    video: str
    span_s: tuple[float, float] | None


_Files = dict[tuple[Path, str], list[_Row]]  # by file and by the split that it was given for, empty for all


def read_own(spec: OwnSpec, synonyms: Sequence[Synonym] = ()) -> OwnLists:
    """Read the lists of an own source.

    `synonyms`: those that the user gave for all lists. Raises ListError with file, line, value and what is allowed for
    rows that cannot be used, LabelError for a label that is no class.
    """
    readers = FRAME_READERS if spec.frames_per_s else READERS
    raw = {split: readers[spec.reader](path) for split, path in spec.lists.items()}
    return read_rows(spec, raw, _class_list(spec), synonyms)


def read_rows(
    spec: OwnSpec,
    raw: Mapping[str, RawList],
    names: tuple[str, ...],
    synonyms: Sequence[Synonym] = (),
    *,
    tolerated_share: float = 0.0,
) -> OwnLists:
    """The source of these rows, by split; an empty split is that of rows that name their own.

    `names` are its classes in index order, none where the rows are to decide. Up to `tolerated_share` of the rows of a
    list may be bad; they are reported as malformed. Raises as `read_own`.
    """
    ids = spec.ids or (YOUTUBE if all(one.id_column == "youtube_id" for one in raw.values()) else STEM)
    files: _Files = {}
    malformed: dict[tuple[Path, str], tuple[BadRow, ...]] = {}
    known = frozenset(names)
    for split, one in raw.items():
        checked = [_checked(row, split, ids, spec, names, known) for row in one.rows]
        bad = malformed[one.path, split] = tuple(row for row in checked if isinstance(row, BadRow))
        if len(bad) > tolerated_share * len(checked):
            raise ListError(describe_bad_rows(one.path, bad, len(checked)))
        files[one.path, split] = [row for row in checked if isinstance(row, _Row)]
        if not files[one.path, split]:
            raise ListError(f"{one.path}: the list is empty")
    spans = _span_rule(spec, files)
    _check_stems(spec, files)
    files, classes, union_classes = _with_classes(spec, files, names, synonyms)
    source = own_source(
        name=spec.name,
        classes=classes,
        union_classes=union_classes,
        title=spec.title,
        citation=spec.citation,
        licence=spec.licence,
        colour=spec.colour,
        ids=ids,
        spans=spans,
        id_space=spec.id_space,
        frames_per_s=spec.frames_per_s,
    )
    hashes = {one.path: one.sha256 or _sha256(one.path, files[one.path, split]) for split, one in raw.items()}
    lists = [
        _annotation_list(source, path, rows, split, malformed[path, named], hashes[path])
        for (path, named), rows in files.items()
        for split in ([named] if named else SPLITS)
    ]
    return OwnLists(source, tuple(one for one in lists if one.num_rows), _notes(spec, files))


def _class_list(spec: OwnSpec) -> tuple[str, ...]:
    """The class names of the source's `classes` file, by index; none without one."""
    if spec.classes is None:
        return ()
    try:
        names = tuple(line.strip() for line in list_text(spec.classes).splitlines() if line.strip())
    except FileNotFoundError:
        raise ListError(f"{spec.classes}: no such file; {spec.where} names it for the classes") from None
    except ListError as error:
        raise ListError(f"{spec.classes}: {error}") from None
    if twice := next((name for name in names if names.count(name) > 1), ""):
        raise ListError(f"{spec.classes}: class {twice!r} appears twice")
    if not names:
        raise ListError(f"{spec.classes}: no class names; want one a line, in index order")
    return names


def _checked(
    row: RawRow | BadRow, split: str, ids: str, spec: OwnSpec, names: tuple[str, ...], known: frozenset[str]
) -> _Row | BadRow:
    """The row after all checks that need no other row."""
    if isinstance(row, BadRow):
        return row
    own_split = SPLIT_SPELLINGS.get(row.split.strip().lower(), "") if row.split else split or _default_split(spec)
    if not own_split:
        return BadRow(row.line, f"split {quoted(row.split)}; known: train, val, test" if row.split else _NO_SPLIT)
    if split and own_split != split:
        return BadRow(row.line, f"split {quoted(row.split)} in a list of {split} clips")
    label = row.label.strip()
    if row.class_index:
        if not names:
            return BadRow(row.line, f"class {label} is a number; name the file of the classes, `classes: FILE`")
        if int(label) >= len(names):
            return BadRow(row.line, f"class {label}; {spec.classes} names 0 to {len(names) - 1}")
        label = names[int(label)]
    elif label and names and label not in known and spec.labels != ALIGNED:
        return BadRow(row.line, f"label {quoted(label)} is none of the classes in {spec.classes}")
    if not label and own_split != "test":
        return BadRow(row.line, "no label")
    if len(label) > MAX_LABEL_LENGTH or not is_utf8(label) or CONTROL.search(label):
        return BadRow(row.line, f"label {quoted(label)} is too long, not UTF-8 or not printable")
    raw = _raw_id(row.video.strip(), ids)
    if not raw or not is_utf8(raw):
        return BadRow(row.line, f"ID {quoted(row.video)} is empty or not UTF-8")
    if ids == YOUTUBE and not re.fullmatch(YOUTUBE_ID, raw):
        youtube = "11 characters of the YouTube alphabet (A-Z a-z 0-9 _ -)"
        return BadRow(row.line, f"ID {quoted(raw)} is not {youtube}; for other IDs say `ids: stem` in a source.yaml")
    video = raw if ids == YOUTUBE else own_video_id(spec.id_space or spec.name, raw)
    if len(video) > MAX_ID_CHARS:
        return BadRow(row.line, f"ID {quoted(raw)} makes a name of {len(video)} characters; at most {MAX_ID_CHARS}")
    if row.times is None or spec.spans == NONE:
        return _Row(row.line, own_split, label, row.video, video, None)
    span_s = _seconds(row.times)
    if isinstance(span_s, str):
        return BadRow(row.line, span_s)
    return _Row(row.line, own_split, label, row.video, video, span_s)


_NO_SPLIT = "no split; add a column `split`, or a source.yaml with a list for each split"


def _default_split(spec: OwnSpec) -> str:
    """A tree of class folders without folders of splits is a train set; of other lists it is not guessed."""
    return "train" if spec.reader == "folders" else ""


def _raw_id(text: str, ids: str) -> str:
    text = text.replace("\\", "/")
    if ids == YOUTUBE:
        return text
    stem, dot, suffix = text.rpartition(".")
    text = stem if f"{dot}{suffix}".lower() in VIDEO_SUFFIXES else text
    return text.removeprefix("./") if ids == PATH else text.rstrip("/").rsplit("/", 1)[-1]


def _seconds(times: tuple[str, str]) -> tuple[float, float] | str:
    """The span in seconds, to the millisecond, or what is wrong with it."""
    found = []
    for name, text in zip(("start", "end"), times, strict=True):
        try:
            value = float(text)
        except ValueError:
            return f"{name} {quoted(text)} is not a number of seconds"
        if not 0 <= value <= MAX_TIME_S:
            return f"{name} {quoted(text)} is not from 0 to {MAX_TIME_S} s"
        found.append(round(value, 3))
    if found[1] <= found[0]:
        return f"end {times[1]} is not after start {times[0]}, to the millisecond"
    return found[0], found[1]


def _span_rule(spec: OwnSpec, files: _Files) -> str:
    """The rule that the source's spans follow. Raises ListError where rows break the rule that the user gave, or where
    only some have a span."""
    first: dict[bool, str] = {}
    fraction = ""
    for (path, _), rows in files.items():
        for row in rows:
            where = f"{path}: line {row.line}"
            first.setdefault(row.span_s is not None, where)
            if row.span_s and not fraction and not all(time.is_integer() for time in row.span_s):
                fraction = where
    if len(first) > 1:
        raise ListError(f"{first[False]}: no span, and {first[True].rpartition(': ')[2]} has one; want one in all rows")
    if spec.spans in (WHOLE, FRACTIONAL) and True not in first:
        raise ListError(f"{first[False]}: no span, and {spec.where} says `spans: {spec.spans}`")
    if spec.spans == WHOLE and fraction:
        raise ListError(f"{fraction}: the span has fractions, and {spec.where} says `spans: whole`")
    return spec.spans or (NONE if True not in first else FRACTIONAL if fraction else WHOLE)


def _check_stems(spec: OwnSpec, files: _Files) -> None:
    """Raise ListError where two paths give one ID: they may be two videos."""
    seen: dict[str, tuple[str, str]] = {}
    for (path, _), rows in files.items():
        for row in rows:
            raw, where = seen.setdefault(row.video, (row.raw, f"{path}: line {row.line}"))
            if raw != row.raw:
                raise ListError(
                    f"{path}: line {row.line}: {quoted(row.raw)} and {quoted(raw)} ({where.rpartition(': ')[2]}) have "
                    "one name without folder and suffix; if they are two videos, say `ids: path` in a source.yaml"
                )


def _with_classes(
    spec: OwnSpec, files: _Files, names: tuple[str, ...], synonyms: Sequence[Synonym]
) -> tuple[_Files, tuple[str, ...], tuple[int, ...]]:
    """The rows with the labels that count, the source's classes, and the class of the union for each (none: empty)."""
    if spec.labels != ALIGNED:
        found = {row.label for rows in files.values() for row in rows if row.label}
        classes = names or tuple(sorted(found))
        _check_classes(spec, classes)
        return files, classes, ()
    own = read_synonyms(spec.synonyms) if spec.synonyms else ()
    alignment = Alignment((*synonyms, *own))
    index_of: dict[str, int] = {}
    for (path, _), rows in files.items():
        for row in rows:
            if row.label and row.label not in index_of:
                index = alignment.find(row.label)
                if index is None:
                    hint = (
                        "If it is another name for one, say so in the file that `synonyms:` names; `k710 labels "
                        f"--suggest {spec.where}` proposes such a file"
                    )
                    raise LabelError(f"{path}: line {row.line}: {alignment.unknown(row.label)}. {hint}")
                index_of[row.label] = index
    indices = tuple(sorted(set(index_of.values())))
    classes = tuple(alignment.classes[index] for index in indices)
    _check_classes(spec, classes)
    aligned = {
        key: [replace(row, label=alignment.classes[index_of[row.label]]) if row.label else row for row in rows]
        for key, rows in files.items()
    }
    return aligned, classes, indices


def _check_classes(spec: OwnSpec, classes: tuple[str, ...]) -> None:
    if not classes:
        raise ListError(f"{spec.where}: no row has a label")
    if len(classes) > MAX_CLASSES:
        raise ListError(f"{spec.where}: {len(classes):,} classes; at most {MAX_CLASSES:,}")


def _annotation_list(
    source: Source, path: Path, rows: Iterable[_Row], split: str, malformed: tuple[BadRow, ...], sha256: str
) -> AnnotationList:
    rows = [row for row in rows if row.split == split]
    time = pa.float64() if source.spans == FRACTIONAL else pa.int32()
    spans = [row.span_s or (None, None) for row in rows]
    if source.spans == WHOLE:
        spans = [(int(start), int(end)) for start, end in spans]  # type: ignore[arg-type]
    table = pa.table(
        {
            "label": pa.array([row.label or None for row in rows], pa.string()).dictionary_encode(),
            "youtube_id": pa.array([row.video for row in rows], pa.string()),
            "time_start_s": pa.array([start for start, _ in spans], time),
            "time_end_s": pa.array([end for _, end in spans], time),
            "line": pa.array([row.line for row in rows], pa.int32()),
        }
    )
    return AnnotationList(ListFile(source.name, split, path), table, malformed, sha256)


def _sha256(path: Path, rows: list[_Row]) -> str:
    """Of a file its bytes; of a folder the names of its files, one a line."""
    if path.is_dir():
        return hashlib.sha256("".join(f"{row.raw}\n" for row in rows).encode("utf-8", "surrogateescape")).hexdigest()
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _notes(spec: OwnSpec, files: _Files) -> tuple[str, ...]:
    splits = {row.split for rows in files.values() for row in rows}
    if spec.reader == "folders" and "" in spec.lists and splits == {"train"}:
        return (f"{spec.where}: no folders train, val or test, so all clips of {spec.name} are train clips",)
    return ()
