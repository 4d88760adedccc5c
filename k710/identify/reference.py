"""What clips are compared with: the lists of a manifest or of a folder of annotation lists, as numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from k710.curation.clips import clips_table
from k710.curation.curate import Policy, align, curate
from k710.curation.overlap import List, clip_presence, lists_in
from k710.errors import ListError, UsageError
from k710.identify.batch import Batch
from k710.identify.keys import NO_TIME, Clips, Keys, Tails, keys_of
from k710.identify.recognise import NO_CLASS
from k710.identify.things import Part
from k710.lists.annotations import find_lists, read_list
from k710.lists.labels import Alignment, class_names, union_classes_of_view
from k710.manifest.listings import UNION_LISTING, class_ids_of, masks_of
from k710.manifest.memberships import in_splits_of
from k710.manifest.read import Manifest
from k710.sources.catalogue import Catalogue
from k710.sources.known import KINETICS, KNOWN_SOURCES
from k710.sources.source import SPLITS

Index = npt.NDArray[np.int64]
Presence = npt.NDArray[np.uint64]
Classes = npt.NDArray[np.int16]

NOT_FOUND = -1
_BATCH_ROWS = 1 << 17
_MIX = 0x9E3779B97F4A7C15


@dataclass(frozen=True)
class Reference:
    """Clips of known lists. `title` says what they are of.

    `lists` names the lists, (source, split), one bit each in `presence`. Videos are sorted by `mixed`, which is one
    number for each; `first[v]` to `first[v + 1]` are the clips of video v. `classes` has the K710 class of each clip by
    the lists of each source, -1 for none, and by precedence for the union.
    """

    title: str
    lists: tuple[List, ...]
    key: Keys
    tail: Tails
    mixed: Keys
    first: Index
    start_ms: npt.NDArray[np.int32]
    end_ms: npt.NDArray[np.int32]
    presence: Presence
    classes: Mapping[str, Classes]

    @property
    def num_clips(self) -> int:
        return len(self.start_ms)

    @property
    def num_videos(self) -> int:
        return len(self.key)

    def video_of_clip(self) -> Index:
        """(clips,) the video of each clip."""
        return np.repeat(np.arange(self.num_videos), np.diff(self.first))

    def video_presence(self) -> Presence:
        """(videos,) the lists that any clip of each video is in."""
        if not self.num_clips:
            return np.zeros(0, np.uint64)
        found: Presence = np.bitwise_or.reduceat(self.presence, self.first[:-1])
        return found

    def video_classes(self, source: str) -> Classes:
        """(videos,) the class of each video in a source; -1 where its clips have none, or several."""
        if not self.num_clips:
            return np.zeros(0, np.int16)
        classes = self.classes[source]
        known = np.where(classes < 0, np.int16(32767), classes)
        least = np.minimum.reduceat(known, self.first[:-1])
        most = np.maximum.reduceat(classes, self.first[:-1])
        return np.where(least == most, most, -1).astype(np.int16)

    def find_videos(self, clips: Clips) -> Index:
        """(clips,) the video of each clip, NOT_FOUND for one that is in no list."""
        if not self.num_videos:
            return np.full(len(clips), NOT_FOUND)
        place = np.searchsorted(self.mixed, _mixed(clips.key, clips.tail))
        place = np.minimum(place, self.num_videos - 1)
        same = (self.key[place] == clips.key) & (self.tail[place] == clips.tail)
        return np.where(same, place, NOT_FOUND)

    def find_clips(self, clips: Clips, videos: Index) -> Index:
        """(clips,) the clip with exactly this span, or without one as here; `videos` as `find_videos` gives them."""
        found = np.full(len(clips), NOT_FOUND)
        rows = np.flatnonzero(videos >= 0)
        place, stop = self.first[videos[rows]], self.first[videos[rows] + 1]
        while len(rows):
            same = (self.start_ms[place] == clips.start_ms[rows]) & (self.end_ms[place] == clips.end_ms[rows])
            found[rows[same]] = place[same]
            more = ~same & (place + 1 < stop)
            rows, place, stop = rows[more], place[more] + 1, stop[more]
        return found

    def clips_at(self, index: Index) -> Clips:
        """The clips at these positions."""
        video = np.searchsorted(self.first, index, side="right") - 1
        return Clips(self.key[video], self.tail[video], self.start_ms[index], self.end_ms[index])

    def bit(self, name: List) -> np.uint64:
        return np.uint64(1 << self.lists.index(name))


def present(presence: Presence, index: Index) -> Presence:
    """The lists of what is at these positions; no list for NOT_FOUND."""
    if not len(presence):
        return np.zeros(len(index), np.uint64)
    return np.where(index == NOT_FOUND, np.uint64(0), presence[np.maximum(index, 0)])


def _mixed(key: Keys, tail: Tails) -> Keys:
    """One number for each ID. Only of 2 in 2^62 pairs of IDs it is the same."""
    return key ^ (tail.astype(np.uint64) * np.uint64(_MIX))


def reference_of_manifest(manifest: Manifest) -> Reference:
    """The lists of a manifest and its curated splits."""
    return reference_of(manifest.read_clips(), str(manifest.path), manifest.catalogue, curated=True)


def reference_of_lists(folder: Path) -> Reference:
    """The lists of the known releases that lie in a folder. Raises ListError where none does, or one is damaged."""
    read = [*map(read_list, find_lists(folder, KNOWN_SOURCES, SPLITS, all_needed=False))]
    return reference_of(clips_table(curate(align(read, Alignment()), Policy())), str(folder))


def reference_of(clips: pa.Table, title: str, sources: Catalogue = KINETICS, *, curated: bool = False) -> Reference:
    """The lists of a clips table, and if wanted its curated splits where they are more than one list. Clips whose ID is
    not YouTube's are left out: names of other data sets mean nothing elsewhere. Raises ListError where none is left."""
    plain = pc.invert(pc.match_substring(clips["youtube_id"], "~"))
    if not pc.all(plain).as_py():
        clips = clips.filter(plain)
    if not len(clips):
        raise ListError(f"{title}: has no clip with a YouTube ID")
    key, tail, are_ids = keys_of(_one(clips["youtube_id"]))
    assert are_ids.all()  # the manifest's own checks
    union, lists, presence = sources.union, list(lists_in(clips)), clip_presence(clips).astype(np.uint64)
    for split in SPLITS[:2] if curated else ():
        is_here = in_splits_of(masks_of(clips, UNION_LISTING), (split,))
        # The curated split of a manifest of one release may be that release's own.
        if not any(
            np.array_equal(is_here, (presence >> np.uint64(bit) & np.uint64(1)) == 1) for bit in range(len(lists))
        ):
            presence |= is_here.astype(np.uint64) << np.uint64(len(lists))
            lists.append((union.name, split))
    if len(lists) > 64:
        raise UsageError(f"{title}: has {len(lists)} lists; at most 64 can be compared")
    times = [_milliseconds(clips[name]) for name in ("time_start_s", "time_end_s")]
    classes = {}
    for name in dict.fromkeys((union.name, *(source for source, _ in lists))):
        to_k710 = np.array([*_k710_classes_of(name, sources), -1], np.int16)
        classes[name] = to_k710[class_ids_of(clips, sources.listing(name)).fill_null(-1).to_numpy()]
    return _sorted(title, lists, Clips(key, tail, times[0], times[1]), presence, classes)


def _k710_classes_of(view: str, sources: Catalogue) -> Sequence[int]:
    """For each class of a view its class of Kinetics-710, whatever the manifest's union is; -1 for none."""
    if not sources.union.is_own:
        return union_classes_of_view(view, sources)
    alignment = Alignment()
    found = (alignment.find(name) for name in class_names(view, sources=sources))
    return [-1 if index is None else index for index in found]


def only(reference: Reference, lists: Sequence[List]) -> Reference:
    """The clips of some lists of a reference, without the others and without classes."""
    wanted = np.bitwise_or.reduce([reference.bit(name) for name in lists])
    index = np.flatnonzero(reference.presence & wanted)
    presence = np.zeros(len(index), np.uint64)
    for place, name in enumerate(lists):
        is_in = (reference.presence[index] & reference.bit(name)) != 0
        presence |= is_in.astype(np.uint64) << np.uint64(place)
    return _sorted(reference.title, list(lists), reference.clips_at(index), presence, {})


def reference_of_clips(clips: Clips, title: str, name: List) -> Reference:
    """One list of clips, without classes."""
    order = np.lexsort((clips.rest, clips.key))
    clips = clips.take(order)
    first = np.ones(len(clips), np.bool_)
    first[1:] = (clips.key[1:] != clips.key[:-1]) | (clips.rest[1:] != clips.rest[:-1])
    clips = clips.take(first)
    return _sorted(title, [name], clips, np.ones(len(clips), np.uint64), {})


def _sorted(
    title: str, lists: list[List], clips: Clips, presence: Presence, classes: Mapping[str, Classes]
) -> Reference:
    """The reference of clips that are distinct."""
    mixed = _mixed(clips.key, clips.tail)
    order = np.lexsort((clips.rest, mixed))
    clips, presence, mixed = clips.take(order), presence[order], mixed[order]
    starts = np.flatnonzero(np.concatenate([[True], mixed[1:] != mixed[:-1]])) if len(clips) else np.zeros(0, np.int64)
    same = (clips.key[1:] == clips.key[:-1]) & (clips.tail[1:] == clips.tail[:-1])
    if (~same & (mixed[1:] == mixed[:-1])).any():
        raise ListError(
            f"{title}: two of its videos cannot be told apart by their numbers; compare fewer lists at once"
        )
    used = np.bitwise_or.reduce(presence) if len(presence) else np.uint64(0)
    kept = [bit for bit in range(len(lists)) if int(used) >> bit & 1]
    packed = np.zeros(len(presence), np.uint64)
    for place, bit in enumerate(kept):
        packed |= (presence >> np.uint64(bit) & np.uint64(1)) << np.uint64(place)
    return Reference(
        title=title,
        lists=tuple(lists[bit] for bit in kept),
        key=clips.key[starts],
        tail=clips.tail[starts],
        mixed=mixed[starts],
        first=np.append(starts, len(clips)).astype(np.int64),
        start_ms=clips.start_ms,
        end_ms=clips.end_ms,
        presence=packed,
        classes={source: class_id[order] for source, class_id in classes.items()},
    )


def parts_of_reference(reference: Reference) -> list[Part]:
    """The lists of a reference as parts that can be identified themselves."""
    return [
        Part(
            f"{reference.title} {source} {split}",
            split,
            "manifest",
            Path(),
            (),
            partial(_batches, reference, (source, split)),
        )
        for source, split in reference.lists
    ]


def _batches(reference: Reference, name: List) -> Iterator[Batch]:
    index = np.flatnonzero(reference.presence & reference.bit(name))
    for start in range(0, len(index), _BATCH_ROWS):
        part = index[start : start + _BATCH_ROWS]
        none = np.full(len(part), NO_CLASS, np.int32)
        lines = np.arange(start + 1, start + 1 + len(part))
        yield Batch(reference.title, lines, reference.clips_at(part), none, None, (), len(part))


def _milliseconds(column: pa.ChunkedArray) -> npt.NDArray[np.int32]:
    seconds = column.cast(pa.float64()).fill_null(NO_TIME / 1000).to_numpy()
    found: npt.NDArray[np.int32] = np.round(seconds * 1000).astype(np.int32)
    return found


def _one(column: pa.ChunkedArray) -> pa.Array:
    return pa.concat_arrays(column.chunks) if column.num_chunks != 1 else column.chunk(0)
