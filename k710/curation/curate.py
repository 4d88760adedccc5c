"""The rules of Kinetics-710 and of other unions: align, hold out, deduplicate, purge. Pure functions of tables.

UniFormerV2 (§4, Appendix F) says it in three sentences: merge the training sets and delete repeated videos by YouTube
ID; remove the testing videos of all releases that leaked into the merged training set; align the labels "by filtering
symbols and replacing synonyms". What the sentences leave open (which clip of an ID wins, which label) is a `Policy`
here, and every row of every list leaves with a fate that says what became of it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from k710.curation.clip_keys import any_clip_keys, changes, places, plain_clip_keys, sorted_order
from k710.errors import LabelError, UsageError
from k710.lists.annotations import AnnotationList
from k710.lists.labels import Alignment, k710_classes_of, union_classes_of
from k710.manifest.clip_ids import are_plain
from k710.manifest.schema import DOUBTFUL_LABEL, DROP_REASONS, NEAR_DUPLICATE, OTHER_CLASSES
from k710.sources.catalogue import Catalogue
from k710.sources.known import KINETICS, PRECEDENCE, UNION
from k710.sources.source import SPLITS, Source

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

LEAK_POLICIES = ("train-purge", "val-purge")

# What becomes of a list row.
#   kept          its clip is in train or val of the union, and this row is the one that put it there
#   same_clip     another row has the same clip, and that one counts
#   duplicate_id  another clip of the same video was kept
#   leaked        the video stands on the other side of train and holdout
#   unlabelled    the clip stands in test lists alone, which never enter the union
#   near_duplicate  it was kept, until `k710 near-duplicates --apply` found its pictures in another clip
#   malformed     the row could not be read (downloaded lists only; a user's own list is refused)
#   doubtful_label  it was kept, until `k710 doubts --apply` left its clip out
#   other_classes  the classes of its source are none of the union's; only where there is such a source
FATES = (
    "kept",
    "same_clip",
    "duplicate_id",
    "leaked",
    "unlabelled",
    NEAR_DUPLICATE,
    "malformed",
    OTHER_CLASSES,
    DOUBTFUL_LABEL,
)

_SOURCE = pa.dictionary(pa.int8(), pa.string())


def row_schema(sources: Catalogue) -> pa.Schema:
    """List rows. The dictionary of `source` is the catalogue's names in their order."""
    time = pa.float64() if sources.has_fractions else pa.int32()
    return pa.schema(
        [
            ("source", _SOURCE),
            ("split", _SOURCE),
            ("line", pa.int32()),
            ("youtube_id", pa.string()),
            ("time_start_s", time),
            ("time_end_s", time),
            ("release_class_id", pa.int16()),  # index in the release's own class order; -1 where the list has no label
            (
                "class_id",
                pa.int16(),
            ),  # index in the union; -1 likewise, and where the union has no such class
        ]
    )


ROW_SCHEMA = row_schema(KINETICS)


@dataclass(frozen=True)
class Policy:
    """What to do where train and evaluation overlap, and who wins among the clips of one video.

    `leak`: "train-purge" removes from train every video of the holdout lists (UniFormerV2 §4); "val-purge" removes from
    val every video of train (the literal reading of VideoMAE V2, supplement §1). `holdout`: the splits whose lists
    train must not meet, ("val",) as published, or ("val", "test"). `precedence`: releases, winner first.
    """

    leak: str = "train-purge"
    holdout: tuple[str, ...] = ("val",)
    precedence: tuple[str, ...] = UNION.precedence

    def __post_init__(self) -> None:
        if self.leak not in LEAK_POLICIES:
            raise UsageError(f"unknown leak policy {self.leak!r}; known: {', '.join(LEAK_POLICIES)}")
        if self.holdout not in (("val",), ("val", "test")):
            raise UsageError(f"holdout must be val or val,test, not {','.join(self.holdout) or 'nothing'}")
        if self.leak == "val-purge" and self.holdout != ("val",):
            raise UsageError("val-purge keeps every video of train and so has no holdout; leave the holdout at val")
        if len(set(self.precedence)) < len(self.precedence):
            raise UsageError("precedence names each release at most once")

    def rank(self, source: str, sources: Sequence[str] = PRECEDENCE) -> int:
        """0 for the source that wins; those left out of `precedence` follow it: Kinetics newest first, then the others
        of `sources` in their order."""
        return list(dict.fromkeys((*self.precedence, *PRECEDENCE, *sources))).index(source)


def align(lists: Sequence[AnnotationList], alignment: Alignment, sources: Catalogue = KINETICS) -> pa.Table:
    """All rows of all lists in one table of `row_schema`, their labels turned into class indices.

    `sources` holds those of all lists. Raises LabelError, with list, line and nearest classes, for a label that no
    release and no synonym knows, and for one that is no class of the source whose list it stands in.
    """
    tables = [_aligned(annotation_list, alignment, sources) for annotation_list in lists]
    return pa.concat_tables(tables).combine_chunks()  # once: whatever takes rows out of it would do so each time


def _aligned(annotation_list: AnnotationList, alignment: Alignment, sources: Catalogue) -> pa.Table:
    file, table = annotation_list.file, annotation_list.table.unify_dictionaries().combine_chunks()
    labels = table["label"].chunk(0) if table.num_rows else pa.array([], table.schema.field("label").type)
    source, schema = sources[file.source], row_schema(sources)
    to_release = _class_indices(annotation_list, table, labels, source, alignment)
    codes = labels.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    to_union = np.array([*union_classes_of(source, sources), -1], np.int16)[to_release]
    return pa.table(
        [
            constant(file.source, sources.names, table.num_rows),
            constant(file.split, SPLITS, table.num_rows),
            table["line"],
            table["youtube_id"],
            *(table[name].cast(schema.field(name).type) for name in ("time_start_s", "time_end_s")),
            pa.array(to_release[codes]),
            pa.array(to_union[codes]),
        ],
        schema=schema,
    )


def _class_indices(
    annotation_list: AnnotationList, table: pa.Table, labels: pa.DictionaryArray, source: Source, alignment: Alignment
) -> npt.NDArray[np.int16]:
    """The index in the source's classes of each label of a list, one look-up per distinct label; the last entry, -1,
    stands for "no label"."""
    path, found = annotation_list.file.path, np.full(len(labels.dictionary) + 1, -1, np.int16)
    own = {name: index for index, name in enumerate(source.classes)}
    of_k710 = () if source.is_own else k710_classes_of(source.label_set)
    release_index = {k710: index for index, k710 in enumerate(of_k710)}
    for code, label in enumerate(labels.dictionary.to_pylist()):
        k710 = None if source.is_own else alignment.find(label)
        index = own.get(label) if source.is_own else release_index.get(-1 if k710 is None else k710)
        if index is None:
            where = f"{path}: line {table['line'][pc.index(labels.indices, code).as_py()]}"
            if k710 is None and not source.is_own:
                hint = "If it is another name for one, say so in a --synonyms FILE."
                raise LabelError(f"{where}: {alignment.unknown(label)}. {hint}")
            raise LabelError(f"{where}: {label!r} is no class of {source.name}")
        found[code] = index
    return found


def constant(value: str, dictionary: Sequence[str], length: int) -> pa.DictionaryArray:
    """A column that says `value` `length` times, over a fixed dictionary."""
    return pa.DictionaryArray.from_arrays(np.full(length, dictionary.index(value), np.int8), list(dictionary))


def codes(column: pa.ChunkedArray) -> npt.NDArray[np.int8]:
    """The indices of a dictionary column into its dictionary; -1 for null."""
    combined = column.combine_chunks()
    array = combined.chunk(0) if isinstance(combined, pa.ChunkedArray) else combined
    indices = array.indices
    return np.asarray(indices.fill_null(-1) if indices.null_count else indices)


@dataclass(frozen=True)
class Rows:
    """List rows in clip_id order, as arrays of one value per row, with the runs of equal clips and equal videos.

    Within a clip the row whose label counts stands first: train and val before test, then by precedence of releases,
    then alphabetically by label. So every rule below is "the first of a run".
    """

    table: pa.Table  # line, youtube_id, time_start_s and time_end_s, as they were given
    order: npt.NDArray[np.int32]  # where in `table` each row stands
    source: npt.NDArray[np.int8]
    split: npt.NDArray[np.int8]
    rank: npt.NDArray[np.int8]  # 0 = the release that wins
    release_class_id: npt.NDArray[np.int16]
    class_id: npt.NDArray[np.int16]
    clip: npt.NDArray[np.int32]  # running number of the row's clip, 0..num_clips-1
    video: npt.NDArray[np.int32]  # running number of the row's YouTube ID, 0..num_videos-1

    sources: Catalogue  # `source` is an index into its names
    place: Ints | None = None  # where each row stands by span, if rows in clip_id order do not stand by span

    @classmethod
    def sort(cls, rows: pa.Table, policy: Policy, sources: Catalogue = KINETICS) -> Rows:
        plain = are_plain(rows["youtube_id"], rows["time_start_s"], rows["time_end_s"])
        id_head, id_tail_and_span = (plain_clip_keys if plain else any_clip_keys)(rows)
        rank_of = np.array([policy.rank(name, sources.names) for name in sources.names], np.int8)
        source, split = codes(rows["source"]), codes(rows["split"])
        class_id = rows["release_class_id"].to_numpy()
        # One number for the standing within a clip: what never enters the union last, then precedence, then the label's
        # place.
        is_out = split == SPLITS.index("test")
        if outsiders := _outsiders(sources):
            is_out |= np.isin(source, outsiders)
        sizes = (2, len(rank_of), int(class_id.max(initial=-1)) + 2, len(SPLITS))
        standing = np.ravel_multi_index((is_out.view(np.int8), rank_of[source], class_id + 1, split), sizes)
        standing = standing.astype(np.min_scalar_type(math.prod(sizes)))
        order, id_head, id_tail_and_span = sorted_order(id_head, id_tail_and_span, standing)
        new_video = changes(id_head) | changes(id_tail_and_span >> np.uint64(40))
        new_clip = new_video | changes(id_tail_and_span)
        return cls(
            table=rows.select(["line", "youtube_id", "time_start_s", "time_end_s"]),
            order=order,
            source=source[order],
            split=split[order],
            rank=rank_of[source[order]],
            release_class_id=class_id[order],
            class_id=rows["class_id"].to_numpy()[order],
            clip=np.cumsum(new_clip, dtype=np.int32) - np.int32(1),
            video=np.cumsum(new_video, dtype=np.int32) - np.int32(1),
            sources=sources,
            place=places(rows, order) if sources.has_fractions else None,
        )

    def __len__(self) -> int:
        return len(self.clip)

    @property
    def num_videos(self) -> int:
        return int(self.video[-1]) + 1 if len(self) else 0

    def of_splits(self, *splits: str) -> Mask:
        """Which rows come from the lists of these splits."""
        found: Mask = functools.reduce(np.logical_or, (self.split == SPLITS.index(split) for split in splits))
        return found

    @property
    def outsiders(self) -> Mask | None:
        """Which rows are of sources that stand beside the union; None where there are no such sources."""
        outsiders = _outsiders(self.sources)
        return np.isin(self.source, outsiders) if outsiders else None

    @property
    def never_in(self) -> Mask:
        """Which rows cannot put a clip into the union: those of test lists, and of sources that stand beside it."""
        of_test, outsiders = self.of_splits("test"), self.outsiders
        return of_test if outsiders is None else of_test | outsiders


def _outsiders(sources: Catalogue) -> list[int]:
    """The sources, by their place in the catalogue, whose classes are none of the union's."""
    return [number for number, name in enumerate(sources.names) if not sources.in_union(name)]


def hold_out(rows: Rows, policy: Policy) -> Mask:
    """Rows whose video stands on the other side: train rows of held-out videos, or val rows of train videos."""
    purges_train = policy.leak == "train-purge"
    protectors = _held_out(rows, policy) if purges_train else _of_members(rows, "train")
    protected = np.zeros(rows.num_videos, bool)
    protected[rows.video[protectors]] = True
    return _of_members(rows, "train" if purges_train else "val") & protected[rows.video]


def _held_out(rows: Rows, policy: Policy) -> Mask:
    """Which rows are of lists that train must not meet."""
    found = _of_members(rows, *policy.holdout)
    for source, splits in rows.sources.union.holdout.items():
        found |= (rows.source == rows.sources.names.index(source)) & rows.of_splits(*splits)
    return found


def _of_members(rows: Rows, *splits: str) -> Mask:
    """Which rows come from these splits of sources that the union can be made of."""
    outsiders = rows.outsiders
    return rows.of_splits(*splits) if outsiders is None else rows.of_splits(*splits) & ~outsiders


def winners(rows: Rows, candidates: Mask) -> npt.NDArray[np.int32]:
    """For each video, the clip that wins among the candidate rows, or -1: best release first, then earliest span."""
    clip_of_video = np.full(rows.num_videos, -1, np.int32)
    index = np.flatnonzero(candidates)
    if len(index):
        videos = rows.video[index]
        starts = np.flatnonzero(changes(videos))
        # Rows stand in order of span, so the smallest (rank, position) of a video is its winner.
        place = index if rows.place is None else rows.place[index]
        best = np.minimum.reduceat(rows.rank[index].astype(np.int64) << 32 | place, starts) & 0xFFFFFFFF
        clip_of_video[videos[starts]] = rows.clip[best if rows.place is None else np.argsort(rows.place)[best]]
    return clip_of_video


def _of_the_best_source(rows: Rows, candidates: Mask) -> Mask:
    """Of the members that keep all clips of a video, the candidate rows where no better source has the video."""
    all_clips = [rows.sources.names.index(name) for name in rows.sources.union.all_clips]
    best = np.full(rows.num_videos, np.iinfo(np.int8).max, np.int8)
    np.minimum.at(best, rows.video[candidates], rows.rank[candidates])
    found: Mask = candidates & np.isin(rows.source, all_clips) & (rows.rank == best[rows.video])
    return found


def first_of_clip(rows: Rows, candidates: Mask) -> Mask:
    """The first candidate row of each clip; the others repeat it."""
    index = np.flatnonzero(candidates)
    first = np.zeros(len(rows), bool)
    first[index[changes(rows.clip[index])]] = True
    return first


def _first_of_list(rows: Rows) -> Mask:
    """The first row of each clip in each list; the others of that list repeat it."""
    first = np.zeros(len(rows), bool)
    first[np.unique(list_and_clip(rows), return_index=True)[1]] = True
    return first


def list_and_clip(rows: Rows) -> Ints:
    """A number for each row: equal for rows of one clip in one list, and larger for a later clip."""
    number = rows.clip.astype(np.int64)
    number *= len(rows.sources.names)
    number += rows.source
    number *= len(SPLITS)
    number += rows.split
    return number


@dataclass(frozen=True)
class Curated:
    """What curation makes of the list rows. `fate` indexes FATES; clip numbers are positions in clip_id order."""

    rows: Rows
    fate: npt.NDArray[np.int8]  # per row
    split: npt.NDArray[np.int8]  # per clip: membership in the union, index into SPLITS, -1 for none
    drop_reason: npt.NDArray[np.int8]  # per clip: index into DROP_REASONS, -1 where it is kept
    kept_clip: npt.NDArray[np.int32]  # per clip: the clip in whose favour it was dropped, or -1
    kept_of_video: npt.NDArray[np.int32]  # per video: its first clip in the union, or else its held-out clip, or -1


def curate(rows: pa.Table, policy: Policy, sources: Catalogue = KINETICS) -> Curated:
    """Apply a policy to aligned list rows (`row_schema`). The result does not depend on the order of the rows."""
    sorted_rows = Rows.sort(rows, policy, sources)
    clip, video = sorted_rows.clip, sorted_rows.video
    is_test = sorted_rows.of_splits("test")
    first_clip_row = first_of_clip(sorted_rows, np.ones(len(sorted_rows), bool))

    fate = np.full(len(sorted_rows), FATES.index("same_clip"), np.int8)
    fate[is_test & first_clip_row] = FATES.index("unlabelled")
    if (outsiders := sorted_rows.outsiders) is not None:
        fate[outsiders & ~is_test & _first_of_list(sorted_rows)] = FATES.index(OTHER_CLASSES)
    leaked = hold_out(sorted_rows, policy)
    fate[leaked] = FATES.index("leaked")

    num_clips = int(np.count_nonzero(first_clip_row))
    split = np.full(num_clips, -1, np.int8)
    kept_of_video = np.full(sorted_rows.num_videos, -1, np.int32)
    for part in ("train", "val"):
        candidates = _of_members(sorted_rows, part) & ~leaked
        winner = winners(sorted_rows, candidates)
        is_winner = winner[video] == clip
        if sources.union.all_clips:
            is_winner |= _of_the_best_source(sorted_rows, candidates)
        first = first_of_clip(sorted_rows, candidates)
        fate[first & is_winner] = FATES.index("kept")
        fate[first & ~is_winner] = FATES.index("duplicate_id")
        split[clip[candidates & is_winner]] = SPLITS.index(part)
        # A video is in train or in val, never in both: hold_out saw to that.
        kept_of_video = np.maximum(kept_of_video, winner)
    if policy.leak == "train-purge":
        # A train clip may have given way to a held-out clip of a test list, or of a source beside the union.
        held_out = winners(sorted_rows, _held_out(sorted_rows, policy))
        kept_of_video = np.where(kept_of_video >= 0, kept_of_video, held_out)

    drop_reason = np.full(num_clips, DROP_REASONS.index("unlabelled"), np.int8)
    if outsiders is not None:  # of clips that no list of a member holds
        alone = np.ones(num_clips, bool)
        alone[clip[~outsiders]] = False
        drop_reason[clip[(fate == FATES.index(OTHER_CLASSES)) & alone[clip]]] = DROP_REASONS.index(OTHER_CLASSES)
    for reason in ("leaked", "duplicate_id"):  # a val clip that lost to another val clip may have leaked train rows too
        drop_reason[clip[fate == FATES.index(reason)]] = DROP_REASONS.index(reason)
    drop_reason[split >= 0] = -1
    lost = np.isin(drop_reason, [DROP_REASONS.index("leaked"), DROP_REASONS.index("duplicate_id")])
    kept_clip = np.where(lost, kept_of_video[video[first_clip_row]], np.int32(-1))
    return Curated(sorted_rows, fate, split, drop_reason, kept_clip, kept_of_video)
