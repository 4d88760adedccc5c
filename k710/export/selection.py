"""Which clips of a view an export has: what is there, some classes, some clips, so many of a class."""

from __future__ import annotations

import csv
import hashlib
import io
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from k710.errors import LabelError, ListError, ManifestError, UsageError
from k710.lists.clip_names import ClipName, read_named_list
from k710.lists.labels import label_key
from k710.lists.list_bytes import list_text
from k710.manifest.file_names import names_of_files
from k710.manifest.read import Manifest
from k710.manifest.views import names_in, split_of, splits_of
from k710.sources.source import YOUTUBE
from k710.storage.storage import replacing
from k710.store.store import Store

# Why a clip of the view is left out, beside the class of its failure (store/failures.py).
OTHER_CLASS, NOT_LISTED, NOT_FETCHED, NOT_DRAWN = "other_class", "not_listed", "not_fetched", "not_drawn"
NOT_IN_VIEW = "not_in_view"  # of a name in the list of clips
REASONS = {
    OTHER_CLASS: "of another class, or without a label",
    NOT_LISTED: "not in the list of clips",
    NOT_FETCHED: "not in the store",
    NOT_DRAWN: "not drawn",
    NOT_IN_VIEW: "in the list of clips and not in the view",
}


@dataclass(frozen=True)
class Selection:
    """What is kept of a view; each step sees what the ones before it kept.

    `classes`: a file of class names, one a line, whose order gives the class indices, unless `keep_indices`. `clips`: a
    list of clips or videos in any form that `k710 audit` reads. `store`: only what it has. `per_class`: at most so many
    clips of each class and split, drawn by `seed`.
    """

    classes: Path | None = None
    keep_indices: bool = False
    clips: Path | None = None
    store: Store | None = None
    per_class: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class LeftOut:
    """A clip of the view that is not exported, or a name of the list of clips that the view lacks (without a split)."""

    split: str
    clip_id: str
    reason: str


def select(
    manifest: Manifest, table: pa.Table, selection: Selection, splits: tuple[str, ...] = ()
) -> tuple[pa.Table, list[LeftOut]]:
    """The clips of a view (views.view) that a selection keeps, and those of `splits` (default: all) that it leaves out.

    Raises UsageError where nothing is kept, LabelError for a class that the view lacks, ListError for a list that
    cannot be read.
    """
    kept, left = pa.concat_tables([split_of(table, split) for split in splits or splits_of(table)]), list[LeftOut]()

    def keep(mask: npt.NDArray[np.bool_], reasons: str | Sequence[str]) -> None:
        nonlocal kept
        lost = kept.filter(pa.array(~mask))
        why = [reasons] * lost.num_rows if isinstance(reasons, str) else reasons
        left.extend(map(LeftOut, lost["split"].to_pylist(), lost["clip_id"].to_pylist(), why))
        kept = kept.filter(pa.array(mask))

    if selection.classes:
        names = _read_classes(selection.classes, names_in(table))
        keep(_is_valid_in(kept["label"], pa.array(names)), OTHER_CLASS)
    if selection.clips:
        wanted = _read_clips(selection.clips, manifest, table)
        is_wanted = _is_valid_in(kept["clip_id"], pa.array(wanted.clip_ids, pa.string()))
        keep(is_wanted | _is_valid_in(kept["youtube_id"], pa.array(wanted.videos, pa.string())), NOT_LISTED)
        left += [LeftOut("", name, NOT_IN_VIEW) for name in wanted.unknown]
    if selection.store:
        media = selection.store.best_rows(("clip_id", "failure"))
        failures = dict(zip(*(media[name].to_pylist() for name in media.column_names[:2]), strict=True))
        found = [failures.get(clip, NOT_FETCHED) for clip in kept["clip_id"].to_pylist()]
        keep(np.array([reason is None for reason in found], bool), [reason for reason in found if reason])
    if selection.per_class is not None:
        keep(_is_labelled(kept), OTHER_CLASS)
        keep(_drawn(kept, selection.per_class, selection.seed), NOT_DRAWN)
    if not kept.num_rows:
        raise UsageError(f"nothing of the view is left to export; {in_words(left)}")
    if selection.classes and not selection.keep_indices:
        kept = _renumbered(kept, names)
    return kept, left


def in_words(left: Sequence[LeftOut]) -> str:
    """What was left out and why, counted.

    >>> in_words([LeftOut("val", "a", NOT_FETCHED), LeftOut("val", "b", "corrupt")])
    'left out of val: 1 not in the store, 1 corrupt'
    """
    by_split: dict[str, Counter[str]] = defaultdict(Counter)
    for one in left:
        by_split[one.split][one.reason] += 1
    parts = []
    for split, reasons in by_split.items():
        counts = ", ".join(f"{count:,} {REASONS.get(reason, reason)}" for reason, count in reasons.most_common())
        parts.append(f"left out of {split}: {counts}" if split else counts)
    return "; ".join(parts)


def write_left_out(path: Path, left: Sequence[LeftOut], *, force: bool = False) -> None:
    """Write what was left out as a CSV of split, clip_id and reason. Raises ManifestError for an existing file without
    `force`."""
    if path.exists() and not force:
        raise ManifestError(f"{path}: exists already; --force replaces it")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["split", "clip_id", "reason"])
    writer.writerows([one.split, one.clip_id, one.reason] for one in left)
    with replacing(path) as file:
        file.write(text.getvalue().encode())


def with_media(table: pa.Table, store: Store) -> pa.Table:
    """The table with `duration_s` of each clip's file in the store and `num_frames`, the number of frames that it
    stores. Every clip must be there."""
    media = store.best_rows(("clip_id", "failure", "num_frames", "duration_s", "frame_indices")).combine_chunks()
    stored = pc.list_value_length(media["frame_indices"])  # of profile `frames`; other profiles have all frames
    frames = pc.coalesce(stored, media["num_frames"].cast(stored.type))
    rows = pc.index_in(table["clip_id"], value_set=media["clip_id"].combine_chunks())
    table = table.append_column("num_frames", frames.take(rows))
    return table.append_column("duration_s", media["duration_s"].take(rows))


def _read_classes(path: Path, known: Sequence[str]) -> list[str]:
    """The classes that a file names, as the view spells them."""
    from rapidfuzz import fuzz, process

    by_key: dict[str, list[str]] = defaultdict(list)
    for name in known:
        by_key[label_key(name)].append(name)
    found: list[str] = []
    for number, line in _lines(path):
        alike = [line] if line in known else by_key[label_key(line)]
        if len(alike) != 1:
            nearest = process.extract(line, known, scorer=fuzz.WRatio, processor=str.casefold, limit=3)
            names = ", ".join(repr(match[0]) for match in nearest)
            raise LabelError(f"{path}: line {number}: {line[:60]!r} is no class of the view; nearest: {names}")
        if alike[0] in found:
            raise LabelError(f"{path}: line {number}: class {alike[0]!r} appears twice")
        found += alike
    return found


def _lines(path: Path) -> list[tuple[int, str]]:
    try:
        text = list_text(path)
    except FileNotFoundError:
        raise ListError(f"{path}: no such file") from None
    except ListError as error:
        raise ListError(f"{path}: {error}") from None
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not lines:
        raise ListError(f"{path}: the list is empty")
    return lines


@dataclass(frozen=True)
class _Wanted:
    """What a list of clips names: clips, whole videos, and what the view lacks."""

    clip_ids: list[str]
    videos: list[str]
    unknown: list[str]


def _read_clips(path: Path, manifest: Manifest, table: pa.Table) -> _Wanted:
    names = dict.fromkeys(_names_of_clips(path, manifest))
    clip_ids, videos = set(table["clip_id"].to_pylist()), set(table["youtube_id"].to_pylist())
    found = _Wanted([], [], [])
    for name in names:
        if name.span_s is None and name.youtube_id in videos:
            found.videos.append(name.youtube_id)
        elif str(name) in clip_ids:
            found.clip_ids.append(str(name))
        else:
            found.unknown.append(str(name))
    return found


def _names_of_clips(path: Path, manifest: Manifest) -> list[ClipName]:
    """The clips of a list; where the manifest has sources with other IDs than YouTube's, those of its lines too: a path
    or an ID, and behind it numbers or nothing."""
    if all(one.ids == YOUTUBE for one in manifest.catalogue.own):
        return list(read_named_list(path).names)
    names_of = names_of_files(manifest)
    found: list[ClipName] = []
    for number, line in _lines(path):
        fields = line.split()
        while len(fields) > 1 and fields[-1].lstrip("-").isdigit():
            fields.pop()
        named = names_of(" ".join(fields))
        if len(named) != 1:
            what = "names several clips" if named else "names no clip of the manifest"
            raise ListError(f"{path}: line {number}: {line[:60]!r} {what}")
        found += named
    return found


def _is_valid_in(column: pa.ChunkedArray, values: pa.Array) -> npt.NDArray[np.bool_]:
    column = column.cast(pa.string())
    mask: npt.NDArray[np.bool_] = pc.and_(pc.is_valid(column), pc.is_in(column, values)).to_numpy()
    return mask


def _is_labelled(table: pa.Table) -> npt.NDArray[np.bool_]:
    mask: npt.NDArray[np.bool_] = pc.is_valid(table["class_id"]).to_numpy()
    return mask


def _drawn(table: pa.Table, per_class: int, seed: int) -> npt.NDArray[np.bool_]:
    """At most `per_class` clips of each class and split. Which ones depends on the seed and on the clips' names alone,
    so a larger number has those of a smaller one."""
    places: dict[tuple[str, int], list[tuple[bytes, int]]] = defaultdict(list)
    columns = (table[name].to_pylist() for name in ("split", "class_id", "clip_id"))
    for place, (split, class_id, clip_id) in enumerate(zip(*columns, strict=True)):
        key = hashlib.blake2b(f"{seed}\0{clip_id}".encode(), digest_size=16).digest()
        places[split, class_id].append((key, place))
    mask = np.zeros(table.num_rows, bool)
    for members in places.values():
        mask[[place for _, place in sorted(members)[:per_class]]] = True
    return mask


def _renumbered(table: pa.Table, names: Sequence[str]) -> pa.Table:
    """The table with class indices in the order of these names, which are all that it has."""
    index: Mapping[str, int] = {name: number for number, name in enumerate(names)}
    ids = pa.array([index[label] for label in table["label"].to_pylist()], pa.int16())
    labels = pa.DictionaryArray.from_arrays(ids, pa.array(names, pa.string()))
    table = table.set_column(table.column_names.index("label"), "label", labels)
    return table.set_column(table.column_names.index("class_id"), "class_id", ids)
