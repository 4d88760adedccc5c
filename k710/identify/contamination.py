"""Which evaluation clips stand in a list for training, and whether their very footage does."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from k710.curation.overlap import List
from k710.errors import ListError, UsageError
from k710.identify.batch import Batch
from k710.identify.keys import Clips, clip_names, ids_of
from k710.identify.recognise import Unclear, clips_of
from k710.identify.reference import Reference
from k710.identify.things import Part
from k710.lists.annotation_rows import quoted
from k710.lists.clip_paths import ClipName
from k710.sources.known import source_named
from k710.sources.source import SPLIT_SPELLINGS
from k710.sources.video_ids import split_clip_id

Index = npt.NDArray[np.int64]

# What the rows of a train list say of an evaluation clip, from weak to strong. `other_time`: its video, and another
# part of it. `video`: its video; one of the two has no span, so that the parts cannot be compared. `overlap`: a part of
# its footage. `same_clip`: its very span.
NONE, OTHER_TIME, VIDEO, OVERLAP, SAME_CLIP = range(5)
EVIDENCE = ("none", "other_time", "video", "overlap", "same_clip")
_SHOWN = 20


@dataclass(frozen=True)
class ListLeak:
    """What of one evaluation list stands in a train list: `leaked_videos` of its `videos`, and its clips by the
    strongest evidence for each, see EVIDENCE."""

    list: List
    clips: int
    videos: int
    leaked_videos: int
    same_clip: int
    overlap: int
    video: int
    other_time: int


@dataclass
class TrainRows:
    """The rows of a train list as they were read. `leaking` name a video of an evaluation list. `unnamed` name none,
    `ambiguous` several, `in_doubt` of which are in an evaluation list in one reading; `bad_times` have times that are
    none and count as without a span; `left_out` are of clips that could not be had, as the list says."""

    rows: int = 0
    named: int = 0
    without_span: int = 0
    leaking: int = 0
    unnamed: int = 0
    ambiguous: int = 0
    in_doubt: int = 0
    bad_times: int = 0
    left_out: int = 0
    examples: list[tuple[str, Unclear]] = field(default_factory=list)


class Contamination:
    """Compares the rows of a train list, batch by batch, with the clips of evaluation lists. What is held does not grow
    with the rows."""

    def __init__(self, evaluation: Reference, *, skip_unnamed: bool = False) -> None:
        self.evaluation = evaluation
        self.train = TrainRows()
        self._skip_unnamed = skip_unnamed
        self._evidence = np.zeros(evaluation.num_clips, np.uint8)
        self._line = np.zeros(evaluation.num_clips, np.int64)
        self._file = np.zeros(evaluation.num_clips, np.int32)
        self._files: dict[str, int] = {}

    def add(self, batch: Batch) -> None:
        """Compare the rows of a batch. Raises ListError for a row that names no video, or several, unless those are
        to be skipped."""
        self._count(batch)
        videos = self.evaluation.find_videos(batch.clips)
        rows = np.flatnonzero(videos >= 0)
        self.train.leaking += len(rows)
        number = self._files.setdefault(batch.file, len(self._files))
        place, stop = self.evaluation.first[videos[rows]], self.evaluation.first[videos[rows] + 1]
        while len(rows):
            self._note(place, self._compare(batch.clips.take(rows), place), number, batch.line[rows])
            more = place + 1 < stop
            rows, place, stop = rows[more], place[more] + 1, stop[more]

    def _compare(self, train: Clips, place: Index) -> npt.NDArray[np.uint8]:
        """The evidence of each row for the evaluation clip at its place, which is of the same video."""
        start, end = self.evaluation.start_ms[place], self.evaluation.end_ms[place]
        known = train.has_span & (start >= 0)
        same = known & (train.start_ms == start) & (train.end_ms == end)
        meets = known & (train.start_ms < end) & (start < train.end_ms)
        return np.select([same, meets, known], [SAME_CLIP, OVERLAP, OTHER_TIME], default=VIDEO).astype(np.uint8)

    def _note(self, place: Index, evidence: npt.NDArray[np.uint8], file: int, line: Index) -> None:
        """Keep the strongest evidence for each clip, and where it was found first."""
        better = np.flatnonzero(evidence > self._evidence[place])
        order = better[np.lexsort((-line[better], evidence[better]))]  # the last that is written stays
        self._evidence[place[order]] = evidence[order]
        self._line[place[order]], self._file[place[order]] = line[order], file

    def _count(self, batch: Batch) -> None:
        train = self.train
        train.rows, train.left_out = train.rows + batch.rows, train.left_out + batch.left_out
        train.named += len(batch.clips)
        train.without_span += int(np.count_nonzero(~batch.clips.has_span))
        for unclear in batch.unclear:
            if not self._skip_unnamed:
                raise ListError(_refusal(batch.file, unclear))
            if unclear.why:
                train.bad_times += 1
            elif unclear.candidates:
                train.ambiguous += 1
                train.in_doubt += self._may_leak(unclear.candidates)
            else:
                train.unnamed += 1
            if len(train.examples) < _SHOWN:
                train.examples.append((batch.file, unclear))

    def _may_leak(self, candidates: Iterable[str]) -> bool:
        parts = (split_clip_id(name) for name in candidates)
        names = [ClipName(*part) for part in parts if part and "~" not in part[0]]
        return bool((self.evaluation.find_videos(clips_of(names)) >= 0).any())

    @property
    def leaked_videos(self) -> int:
        """Videos of any of the evaluation lists that stand in the train list."""
        return int(np.count_nonzero(self._leaked()))

    def _leaked(self) -> npt.NDArray[np.bool_]:
        if not self.evaluation.num_clips:
            return np.zeros(0, np.bool_)
        return np.bitwise_or.reduceat(self._evidence != NONE, self.evaluation.first[:-1])

    def by_list(self) -> list[ListLeak]:
        """What of each evaluation list stands in the train list. A leaking video leaks with all its clips."""
        presence, of_videos, leaked = self.evaluation.presence, self.evaluation.video_presence(), self._leaked()
        found = []
        for name in self.evaluation.lists:
            here, videos = (masks & self.evaluation.bit(name) != 0 for masks in (presence, of_videos))
            counts = np.bincount(self._evidence[here], minlength=len(EVIDENCE))
            clips, shared = int(np.count_nonzero(here)), int(np.count_nonzero(videos & leaked))
            evidence = {EVIDENCE[kind]: int(counts[kind]) for kind in (SAME_CLIP, OVERLAP, VIDEO, OTHER_TIME)}
            found.append(ListLeak(name, clips, int(np.count_nonzero(videos)), shared, **evidence))
        return found

    def leaks(self) -> pa.Table:
        """Every evaluation clip that leaks: its lists, the evidence, and the file and line where it was found first."""
        index = np.flatnonzero(self._evidence)
        clips = self.evaluation.clips_at(index)
        files = list(self._files)
        lists = [
            ";".join(" ".join(filter(None, name)) for bit, name in enumerate(self.evaluation.lists) if mask >> bit & 1)
            for mask in self.evaluation.presence[index].tolist()
        ]
        table = pa.table(
            {
                "clip_id": clip_names(clips),
                "youtube_id": ids_of(clips.key, clips.tail),
                "lists": pa.array(lists, pa.string()),
                "evidence": pa.array([EVIDENCE[kind] for kind in self._evidence[index]], pa.string()),
                "file": pa.array([files[number] for number in self._file[index]], pa.string()),
                "line": pa.array(self._line[index], pa.int64()),
            }
        )
        return table.sort_by("clip_id")

    def plain(self) -> dict[str, Any]:
        """Everything but the names, as plain data."""
        rows = {name: getattr(self.train, name) for name in TrainRows.__dataclass_fields__ if name != "examples"}
        lists = [vars(leak) | {"list": ":".join(filter(None, leak.list))} for leak in self.by_list()]
        return {"train": rows, "eval": lists, "leaked_videos": self.leaked_videos}


def _refusal(file: str, unclear: Unclear) -> str:
    where = f"{file}: line {unclear.row}: {quoted(unclear.text)}"
    if unclear.why:
        return f"{where}: {unclear.why}; --skip-unnamed takes such a row for the whole video"
    if unclear.candidates:
        return f"{where} may be {' or '.join(unclear.candidates)}; --skip-unnamed counts such lines"
    return f"{where} names no video; --skip-unnamed skips and counts such lines"


def contamination(
    parts: Iterable[Part], evaluation: Reference, *, column: str | None = None, skip_unnamed: bool = False
) -> Contamination:
    """Compare the rows of a train list of any form with evaluation lists. Raises ListError as `Contamination.add`, and
    where no row at all names a video."""
    found = Contamination(evaluation, skip_unnamed=skip_unnamed)
    names = []
    for part in parts:
        names.append(part.name)
        for batch in part.batches(column=column):
            found.add(batch)
    if not found.train.named:
        said = "; ".join(_refusal(*example).partition(";")[0] for example in found.train.examples[:1])
        where = f"{', '.join(names)}: none of its {found.train.rows:,} rows names a video"
        raise ListError(f"{where}{': ' * bool(said)}{said}")
    return found


def lists_named(text: str, known: Iterable[List]) -> list[List]:
    """The lists that `k400,k600:val,test` means: those of each release and each split; val and test without splits.
    Raises UsageError for a release or a split that none of the known lists has."""
    known = list(known)
    releases, _, splits = text.partition(":")
    wanted_splits = [SPLIT_SPELLINGS.get(split.strip().lower(), split.strip()) for split in splits.split(",")]
    chosen = []
    for release in releases.split(","):
        source = source_named(release.strip())
        found = [
            name for name in known if name[0] == source and name[1] in (wanted_splits if splits else ("val", "test"))
        ]
        missing = [split for split in wanted_splits if splits and (source, split) not in known]
        if missing or not found:
            has = ", ".join(":".join(name) for name in known)
            raise UsageError(
                f"--eval {text}: the reference has no list {source}:{','.join(missing) or 'val,test'}; it has {has}"
            )
        chosen += found
    return list(dict.fromkeys(chosen))
