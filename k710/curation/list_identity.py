"""Is a list what its name says? Row counts of the releases, and marks of the videos of their published lists.

`list_marks.txt` holds hashes of a few videos of each published val and test list: 1 of 256, and 1 of 8 of those that
tell apart the lists of twins, two sources with nearly the same val list. They are enough to say whose list a file is,
and from them no list can be made. Train lists have no marks, so of them the rows are counted and nothing else.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from k710.manifest.clip_ids import ID_SIZE, fixed_width
from k710.manifest.listings import masks_of, sources_in
from k710.manifest.memberships import in_splits_of
from k710.sources.known import KNOWN_SOURCES
from k710.sources.source import SPLITS

List = tuple[str, str]  # release, split
Marks = Mapping[int, frozenset[List]]  # the published lists that hold the video with this hash

# Whole lists have at most 0.5 % fewer rows than their release first published; the lists of clips that UniFormerV2's
# authors could still get have at least 1 % fewer.
_MISSING_SHARE = 0.01

_HASH_BITS = 32
EVERY_256TH, EVERY_8TH = 1 << (_HASH_BITS - 8), 1 << (_HASH_BITS - 3)
_TWINS = {source.name: source.twin for source in KNOWN_SOURCES.values() if source.twin}
_LEAST_MARKS = 30
_NEARLY_ALL, _CLEARLY_MORE = 0.9, 0.1
_LEAST_TWIN_MARKS, _MOST, _HARDLY_ANY = 5, 0.5, 0.1


@dataclass(frozen=True)
class Shortfall:
    """A list with fewer rows than its release published."""

    source: str
    split: str
    rows: int
    published: int

    def __str__(self) -> str:
        title = KNOWN_SOURCES[self.source].title
        message = (
            f"{self.source} {self.split}: the list has {self.rows:,} rows, and {title} published {self.published:,}. "
            f"{self.published - self.rows:,} are missing."
        )
        if self.split == "train":
            return f"{message} Train lacks their clips."
        return f"{message} Their videos cannot be held out, so train may contain them."


def shortfalls(lists: Iterable[Mapping[str, Any]]) -> list[Shortfall]:
    """The lists that lack more than 1 % of the rows that their release first published, of a build's
    `counts["lists"]`. None where no list has a hundredth of them: those are a miniature."""
    known = [
        Shortfall(entry["source"], entry["split"], entry["rows"], published)
        for entry in lists
        if entry["source"] in KNOWN_SOURCES
        and (published := KNOWN_SOURCES[entry["source"]].published_rows.get(entry["split"])) is not None
    ]
    if all(one.rows < one.published / 100 for one in known):
        return []
    return [one for one in known if one.rows < one.published * (1 - _MISSING_SHARE)]


def misnamed(clips: pa.Table) -> dict[str, str]:
    """The lists of a clips table whose videos are those of another published list: `k700 val` -> `k700_2020 val`."""
    found: dict[str, str] = {}
    if set(sources_in(clips.column_names)) > set(KNOWN_SOURCES):  # videos with other IDs are in no published list
        clips = clips.filter(pc.invert(pc.match_substring(clips["youtube_id"], "~")))
    videos = video_hashes(clips["youtube_id"])
    for source in KNOWN_SOURCES:
        masks = masks_of(clips, source)
        for split in SPLITS:
            hashes = set(videos[in_splits_of(masks, (split,)) & (videos < EVERY_8TH)].tolist())
            other = whose(hashes, (source, split), known_marks())
            if other is not None:
                found[f"{source} {split}"] = " ".join(other)
    return found


def whose(hashes: set[int], named: List, marks: Marks) -> List | None:
    """The published list that a list named `named` is instead; None where there is no evidence of another.

    `hashes`: those of its videos, at least the ones below EVERY_8TH.
    """
    known = {one for lists in marks.values() for one in lists}
    sample = {number for number in hashes if number < EVERY_256TH}
    if len(sample) >= _LEAST_MARKS:
        hits = Counter(one for number in sample for one in marks.get(number, ()))
        part = {one: hits[one] / len(sample) for one in known}
        best = max(part, key=lambda one: (part[one], one), default=named)
        if part.get(best, 0) >= _NEARLY_ALL and part[best] - part.get(named, 0.0) > _CLEARLY_MORE:
            return best
    twin = (_TWINS.get(named[0], ""), named[1])
    if {named, twin} <= known:
        own = {number for number, lists in marks.items() if named in lists and twin not in lists}
        others = {number for number, lists in marks.items() if twin in lists and named not in lists}
        of_twin = len(hashes & others)
        enough = of_twin >= _LEAST_TWIN_MARKS and of_twin > _MOST * len(others)
        if enough and len(hashes & own) < _HARDLY_ANY * len(own):
            return twin
    return None


def video_hashes(youtube_ids: pa.ChunkedArray) -> npt.NDArray[np.uint32]:
    """(clips,) a number of 32 bits for each YouTube ID, always the same for the same ID."""
    if not len(youtube_ids):
        return np.zeros(0, np.uint32)
    padded = np.zeros((len(youtube_ids), 16), np.uint8)
    padded[:, :ID_SIZE] = fixed_width(youtube_ids, ID_SIZE)
    head, tail = padded.view("<u8").T.astype(np.uint64)
    mixed = head * np.uint64(0x9E3779B97F4A7C15) ^ tail * np.uint64(0xC2B2AE3D27D4EB4F)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):  # the finish of SplitMix64
        mixed = (mixed ^ mixed >> np.uint64(shift)) * np.uint64(factor)
    hashes: npt.NDArray[np.uint32] = (mixed ^ mixed >> np.uint64(31)).astype(np.uint32)
    return hashes


def marks_text(lists: Mapping[List, pa.ChunkedArray]) -> str:
    """What `list_marks.txt` holds of these lists, given by their YouTube IDs: a line that names the lists, then a line
    per video with its hash and the numbers of the lists that hold it."""
    names = sorted(lists)
    stands: dict[int, set[int]] = {}
    for number, name in enumerate(names):
        for video in set(video_hashes(lists[name]).tolist()):
            stands.setdefault(video, set()).add(number)
    lines = [" ".join("_".join(name) for name in names)]
    for video, numbers in sorted(stands.items()):
        here = {names[number] for number in numbers}
        apart = any((_TWINS.get(source, ""), split) not in here for source, split in here if source in _TWINS)
        if video < (EVERY_8TH if apart else EVERY_256TH):
            lines.append(f"{video:x} {''.join(map(str, sorted(numbers)))}")
    return "".join(f"{line}\n" for line in lines)


def read_marks(text: str) -> Marks:
    """The marks that `marks_text` wrote."""
    first, *lines = text.splitlines()
    names: list[List] = [(name.rpartition("_")[0], name.rpartition("_")[2]) for name in first.split()]
    rows = (line.split() for line in lines)
    return {int(video, 16): frozenset(names[int(number)] for number in numbers) for video, numbers in rows}


@functools.cache
def known_marks() -> Marks:
    """The marks of the published lists."""
    return read_marks(Path(__file__).with_name("list_marks.txt").read_text(encoding="ascii"))
