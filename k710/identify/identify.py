"""What a set of clips is: the list that it is of, what it lacks and adds, its label order, the copies it is like, what
of it leaks, its fingerprint, and a sentence that says so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from k710.curation.list_identity import EVERY_8TH, EVERY_256TH, known_marks, video_hashes
from k710.curation.overlap import List
from k710.errors import ListError, UsageError
from k710.identify.batch import Batch
from k710.identify.distinct import DistinctClips, Totals
from k710.identify.fits import CLIP, MARK, VIDEO, Fit, Verdict, counted_masks, fits_of, verdict_of
from k710.identify.keys import Clips, ids_of
from k710.identify.known_copies import Likeness, copies_like
from k710.identify.labels import NameCounts, Names
from k710.identify.orders import ClassCounts, OrderElection
from k710.identify.recognise import Unclear
from k710.identify.reference import Classes, Presence, Reference
from k710.identify.things import Part
from k710.sources.known import KNOWN_SOURCES, UNION
from k710.text import counted

Index = npt.NDArray[np.int64]

_SHOWN = 20


@dataclass(frozen=True)
class Rows:
    """The rows of a thing. `unnamed` name no video and `ambiguous` several; `bad_times` name a video with times that
    are none, and count as without a span. `examples` are the first of all these, with their files."""

    rows: int
    named: int
    without_span: int
    unnamed: int
    ambiguous: int
    bad_times: int
    left_out: int
    examples: tuple[tuple[str, Unclear], ...]


@dataclass(frozen=True)
class Extra:
    """The distinct clips of a thing that the list it is of lacks. `other_span`: another span of a video of that list.
    `other_list`: of a video in other lists of the reference. `unknown`: of a video in none."""

    other_span: int
    other_list: int
    unknown: int

    @property
    def clips(self) -> int:
        return self.other_span + self.other_list + self.unknown


@dataclass(frozen=True)
class Identified:
    """What is known of one part of a thing. `fits` are all lists that have any of it, by clip, by video where not all
    rows have a span, or by mark without a reference. `leaks` counts its videos in the lists that it must not share
    any with: of train in val and test lists, of val and test in train lists. `extra` is None without a reference."""

    name: str
    split: str
    form: str
    reference: str
    counts: Rows
    totals: Totals
    fits: tuple[Fit, ...]
    verdict: Verdict
    extra: Extra | None
    order: OrderElection | None
    names: Names | None
    copies: tuple[Likeness, ...]
    leaks: dict[str, int]
    sentence: str


class Counting:
    """Counts the rows of one part as they come. `seen_clips` and `seen_videos` tell in the end which of the reference
    were among them."""

    def __init__(self, reference: Reference | None) -> None:
        self.reference = reference
        self.distinct = DistinctClips()
        self.numbers: Counter[str] = Counter()
        self.examples: list[tuple[str, Unclear]] = []
        self._counts: dict[str, tuple[ClassCounts, NameCounts]] = {}
        self._class_of_video: dict[str, Classes] = {}
        self._masks: tuple[tuple[list[int], Index], tuple[list[int], Index]] | None = None
        if reference is not None:
            self._counts = {source: (ClassCounts(), NameCounts()) for source in reference.classes}
            self.seen_clips = np.zeros(reference.num_clips, np.bool_)
            self.seen_videos = np.zeros(reference.num_videos, np.bool_)

    def add(self, batch: Batch) -> None:
        self.distinct.add(batch.clips)
        self.numbers["rows"] += batch.rows
        self.numbers["left_out"] += batch.left_out
        self.numbers["named"] += len(batch.clips)
        self.numbers["without_span"] += int(np.count_nonzero(~batch.clips.has_span))
        for unclear in batch.unclear:
            kind = "bad_times" if unclear.why else "ambiguous" if unclear.candidates else "unnamed"
            self.numbers[kind] += 1
            if len(self.examples) < _SHOWN:
                self.examples.append((batch.file, unclear))
        if self.reference is not None and ((batch.class_index >= 0).any() or batch.label is not None):
            videos = self.reference.find_videos(batch.clips)
            found = self.reference.find_clips(batch.clips, videos)
            for source, (classes, names) in self._counts.items():
                known = self._classes(self.reference, source, videos, found)
                classes.add(batch.class_index, known)
                if batch.label is not None:
                    names.add(batch.label, known)

    def _classes(self, reference: Reference, source: str, videos: Index, found: Index) -> Classes:
        """(clips,) the K710 class that a source gives each clip, or else all clips of its video; -1 for none."""
        if source not in self._class_of_video:
            self._class_of_video[source] = reference.video_classes(source)
        by_clip, by_video = reference.classes[source], self._class_of_video[source]
        if not len(by_clip):
            return np.full(len(videos), -1, np.int16)
        of_video = np.where(videos < 0, np.int16(-1), by_video[np.maximum(videos, 0)])
        of_clip = np.where(found < 0, np.int16(-1), by_clip[np.maximum(found, 0)])
        return np.where(of_clip < 0, of_video, of_clip).astype(np.int16)

    def numbered_masks(self) -> tuple[tuple[list[int], Index], tuple[list[int], Index]]:
        """For the clips of the reference, then for its videos: the masks of lists that occur, and the number of the
        mask of each. Behind the last is one for NOT_FOUND, with no list."""
        if self._masks is None:
            assert self.reference is not None
            presence = (self.reference.presence, self.reference.video_presence())
            self._masks = (_numbered(presence[0]), _numbered(presence[1]))
        return self._masks

    def order_and_names(self, source: str) -> tuple[OrderElection | None, Names | None]:
        """The election of the index order and the comparison of names, by the labels of a source."""
        if source not in self._counts:
            return None, None
        classes, names = self._counts[source]
        return classes.election(), names.result()

    def rows(self) -> Rows:
        names = [name for name in Rows.__dataclass_fields__ if name != "examples"]
        return Rows(**{name: self.numbers[name] for name in names}, examples=tuple(self.examples))


@dataclass
class _Found:
    """Distinct clips and videos by the lists they are in; a bit for each list of the reference, or for each list that
    has marks. `pairs`: of each clip its lists and those of its video. `sampled` are those of `marks` that are a fixed
    share of all videos."""

    clips: Counter[int] = field(default_factory=Counter)
    videos: Counter[int] = field(default_factory=Counter)
    pairs: Counter[tuple[int, int]] = field(default_factory=Counter)
    marks: Counter[int] = field(default_factory=Counter)
    sampled: Counter[int] = field(default_factory=Counter)


def identify(
    part: Part,
    reference: Reference | None = None,
    *,
    of: List | None = None,
    column: str | None = None,
    on_batch: Callable[[Batch], None] = lambda batch: None,
) -> tuple[Identified, Counting]:
    """What the clips of a part are, compared with the lists of a reference; without one, with the marks of the
    published val and test lists. `of` is the user's word on which list it is. Raises ListError with file and line for
    what cannot be read or names no clip at all, UsageError for a list that the reference lacks."""
    if of is not None and (reference is None or of not in reference.lists):
        known = ", ".join(":".join(each) for each in reference.lists) if reference else "none without a reference"
        raise UsageError(f"--of {':'.join(of)}: no such list in the reference; known: {known}")
    counting = Counting(reference)
    with counting.distinct:
        for batch in part.batches(column=column):
            counting.add(batch)
            on_batch(batch)
        rows = counting.rows()
        if not rows.named:
            raise ListError(f"{part.name}: {_names_nothing(rows)}")
        found = _Found()
        totals = counting.distinct.totals(lambda clips, first: _count(clips, first, reference, found, counting))
    all_have_spans = not rows.without_span
    side = _marked(found) if reference is None else _listed(reference, found, totals, by_clip=all_have_spans)
    fits = fits_of(side.lists, side.sizes, side.shown, side.total, side.by)
    if of is None:
        verdict = verdict_of(fits, side.lists, side.listed, side.found)
    else:
        verdict = Verdict(next((fit for fit in fits if fit.list == of), None), (), f"none of them is in {' '.join(of)}")
    if reference is not None and of is None:
        verdict = _unless_another(verdict, reference, found)
    best = verdict.best.list if verdict.best else None
    split = part.split or (best[1] if best else "")
    order, names = counting.order_and_names(best[0] if best else UNION.name)
    return (
        Identified(
            name=part.name,
            split=split,
            form=part.form,
            reference=reference.title if reference else "",
            counts=rows,
            totals=totals,
            fits=tuple(fits),
            verdict=verdict,
            extra=_extra(found, reference, best, by_clip=all_have_spans) if reference and best else None,
            order=order,
            names=names,
            copies=tuple(copies_like(totals, best, all_have_spans=all_have_spans)),
            leaks=_leaks(found.videos, reference.lists, split) if reference else {},
            sentence=sentence_of(totals, verdict.best, split, all_have_spans=all_have_spans),
        ),
        counting,
    )


def _names_nothing(rows: Rows) -> str:
    if not rows.examples:
        return "has no rows" + (f" but {rows.left_out:,} that could not be had" if rows.left_out else "")
    file, first = rows.examples[0]
    text = first.text if len(first.text) <= 60 else f"{first.text[:57]}..."
    return f"none of its {counted(rows.rows, 'row')} names a clip; {file}, line {first.row}: {text!a}"


def _count(clips: Clips, first: Index, reference: Reference | None, found: _Found, counting: Counting) -> None:
    """Count distinct clips, in order, by the lists that they and their videos are in."""
    _count_marks(clips.take(first), found)
    if reference is None:
        return
    videos = reference.find_videos(clips)
    index = reference.find_clips(clips, videos)
    counting.seen_videos[videos[videos >= 0]] = True
    counting.seen_clips[index[index >= 0]] = True
    # Masks repeat: they are counted by number, the last of which stands for what is in no list.
    (clip_masks, of_clip), (video_masks, of_video) = counting.numbered_masks()
    by_clip, by_video = of_clip[index], of_video[videos]
    for number, count in enumerate(np.bincount(by_video[first], minlength=len(video_masks)).tolist()):
        found.videos[video_masks[number]] += int(count)
    pairs = np.bincount(by_clip * len(video_masks) + by_video, minlength=len(clip_masks) * len(video_masks))
    for pair in np.flatnonzero(pairs).tolist():
        clip, video = clip_masks[pair // len(video_masks)], video_masks[pair % len(video_masks)]
        found.pairs[clip, video] += int(pairs[pair])
        found.clips[clip] += int(pairs[pair])


def _numbered(presence: Presence) -> tuple[list[int], Index]:
    masks, number = np.unique(presence, return_inverse=True)
    return [*masks.tolist(), 0], np.append(number, len(masks))


def _marked_lists() -> tuple[List, ...]:
    return tuple(sorted({name for names in known_marks().values() for name in names}))


def _count_marks(videos: Clips, found: _Found) -> None:
    """Count those videos that are among the marks of the published lists, and those of the sample that are not."""
    bit = {name: 1 << number for number, name in enumerate(_marked_lists())}
    hashes = video_hashes(pa.chunked_array([ids_of(videos.key, videos.tail)]))
    marks = known_marks()
    for number in hashes[hashes < EVERY_8TH].tolist():
        mask = sum(bit[name] for name in marks.get(number, ()))
        found.marks[mask] += 1
        if number < EVERY_256TH:
            found.sampled[mask] += 1


@dataclass(frozen=True)
class _Side:
    """What a verdict is made of, see `fits_of`: all things of the lists, and those that are here. The fits count
    `sizes` and `shown` instead, which of marks are fewer."""

    lists: tuple[List, ...]
    by: str
    listed: Counter[int]
    found: Counter[int]
    sizes: Counter[int]
    shown: Counter[int]
    total: int


def _listed(reference: Reference, found: _Found, totals: Totals, *, by_clip: bool) -> _Side:
    listed: Counter[int] = Counter()
    counted_masks(listed, reference.presence if by_clip else reference.video_presence())
    masks, total = (found.clips, totals.clips) if by_clip else (found.videos, totals.videos)
    return _Side(reference.lists, CLIP if by_clip else VIDEO, listed, masks, listed, masks, total)


def _marked(found: _Found) -> _Side:
    """By the marks of the published val and test lists. One video of 256 is looked for; of those that tell twins apart,
    one of 8, and they count for the verdict alone."""
    lists = _marked_lists()
    bit = {name: 1 << number for number, name in enumerate(lists)}
    masks = {number: sum(bit[name] for name in names) for number, names in known_marks().items()}
    sizes = Counter(mask for number, mask in masks.items() if number < EVERY_256TH)
    return _Side(lists, MARK, Counter(masks.values()), found.marks, sizes, found.sampled, found.sampled.total())


def _unless_another(verdict: Verdict, reference: Reference, found: _Found) -> Verdict:
    """The verdict, unless the marks of a published list that the reference lacks tell that it is that one."""
    side = _marked(found)
    fits = fits_of(side.lists, side.sizes, side.shown, side.total, side.by)
    other = verdict_of(fits, side.lists, side.listed, side.found).best
    if other is None or other.list in reference.lists:
        return verdict
    name = " ".join(other.list)
    near = (verdict.best, *verdict.tied) if verdict.best else verdict.tied
    return Verdict(None, near, f"{name} by the marks of its published list, which the reference does not have")


def _extra(found: _Found, reference: Reference, best: List, *, by_clip: bool) -> Extra:
    bit = int(reference.bit(best))
    if not by_clip:
        others = sum(count for mask, count in found.videos.items() if mask and not mask & bit)
        return Extra(0, others, found.videos[0])
    counts: Counter[str] = Counter()
    for (clip, video), count in found.pairs.items():
        if not clip & bit:
            counts["span" if video & bit else "other" if video else "unknown"] += count
    return Extra(counts["span"], counts["other"], counts["unknown"])


def _leaks(videos: Counter[int], lists: tuple[List, ...], split: str) -> dict[str, int]:
    """The videos in each list of the other side."""
    if not split:
        return {}
    return {
        f"{source} {other}": sum(count for mask, count in videos.items() if mask >> bit & 1)
        for bit, (source, other) in enumerate(lists)
        if (other == "train") != (split == "train")
    }


def sentence_of(totals: Totals, best: Fit | None, split: str, *, all_have_spans: bool) -> str:
    """What a paper should say of these clips: counts, and the beginning of the fingerprint."""
    sha256, what = (totals.clips_sha256, "clip names") if all_have_spans else (totals.videos_sha256, "video IDs")
    fingerprint = f"SHA-256 of the sorted {what}: {sha256[:16]}"
    verb = {"train": "We train on", "val": "We evaluate on", "test": "We evaluate on"}.get(split, "We use")
    mine = counted(totals.clips, "clip") if all_have_spans else counted(totals.videos, "video")
    if best is None or best.by == MARK:
        return f"{verb} {mine} ({fingerprint})."
    source, listed = best.list
    title = UNION.title if source == UNION.name else KNOWN_SOURCES[source].title if source in KNOWN_SOURCES else source
    others = best.total - best.here
    more = f", and {counted(others, 'other')}" if others else ""
    of = f"{best.here:,} of the {counted(best.size, best.by)} of {title} {listed} ({100 * best.share_of_list:.1f} %)"
    return f"{verb} {of}{more} ({fingerprint})."
