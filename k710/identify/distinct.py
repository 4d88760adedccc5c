"""The distinct clips among any number of rows, in the order of their names, with bounded memory.

Rows are collected, sorted in runs and written to a folder of temporary files; at the end the runs are merged range by
range. What is held at once is one run, whatever the number of rows.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from k710.identify.keys import Clips, Keys, can_be_youtube, from_rest, id_lines, name_lines

Index = npt.NDArray[np.int64]

RUN_ROWS = 1 << 22  # 64 MiB of numbers


@dataclass(frozen=True)
class Totals:
    """What distinct clips are in numbers.

    `clips_sha256` is the fingerprint of the clips: SHA-256 of their names in the order of bytes, each with a line feed
    behind it. `videos_sha256` is the same of the IDs. `impossible` are videos whose ID ends as none of YouTube's does.
    """

    clips: int
    videos: int
    clips_sha256: str
    videos_sha256: str
    impossible: int


class DistinctClips:
    """Collects clips in any order. `totals` and `ranges` come after the last `add`; a `with` ends the files."""

    def __init__(self, run_rows: int = RUN_ROWS) -> None:
        self._run_rows = run_rows
        self._waiting: list[tuple[Keys, Keys]] = []
        self._num_waiting = 0
        self._folder = tempfile.TemporaryDirectory(prefix="k710-identify-")
        self._runs: list[Path] = []
        self._last: npt.NDArray[np.uint64] | None = None

    def __enter__(self) -> DistinctClips:
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()

    def add(self, clips: Clips) -> None:
        if not len(clips):
            return
        self._waiting.append((clips.key, clips.rest))
        self._num_waiting += len(clips)
        if self._num_waiting >= self._run_rows:
            found = self._sorted()
            if found.shape[1] > self._run_rows // 2:  # else many repeats: it goes on in memory
                path = Path(self._folder.name) / f"{len(self._runs)}.npy"
                np.save(path, found)
                self._runs.append(path)
            else:
                self._waiting, self._num_waiting = [(found[0], found[1])], found.shape[1]

    def _sorted(self) -> npt.NDArray[np.uint64]:
        """(2, clips) the clips that are waiting, once each and in order; they wait no longer."""
        if not self._waiting:
            return np.zeros((2, 0), np.uint64)
        key, rest = (np.concatenate([part[number] for part in self._waiting]) for number in (0, 1))
        self._waiting, self._num_waiting = [], 0
        return _unique(key, rest)

    def ranges(self) -> Iterator[Clips]:
        """The distinct clips in order, some at a time; a video is never divided."""
        last = self._last = self._sorted() if self._last is None else self._last
        runs = [*(np.load(path, mmap_mode="r") for path in self._runs), *([last] if last.shape[1] else [])]
        begins = [0] * len(runs)
        step = max(1, self._run_rows // max(1, len(runs)))
        while any(begin < run.shape[1] for begin, run in zip(begins, runs, strict=True)):
            # Up to the smallest key that stands a step further in any run; with it all clips of that video.
            ahead = [
                run[0, begin + step] for begin, run in zip(begins, runs, strict=True) if begin + step < run.shape[1]
            ]
            limit = min(ahead, default=None)
            ends = [
                run.shape[1] if limit is None else int(np.searchsorted(run[0], limit, side="right")) for run in runs
            ]
            parts = [run[:, begin:end] for begin, end, run in zip(begins, ends, runs, strict=True) if end > begin]
            begins = ends
            key, rest = _unique(*(np.concatenate([part[number] for part in parts]) for number in (0, 1)))
            yield from_rest(key, rest)

    def totals(self, on_range: Callable[[Clips, Index], None] = lambda clips, first: None) -> Totals:
        """The numbers of the distinct clips. `on_range(clips, first)` gets them in order, some at a time; `first` are
        the positions at which another video begins."""
        names, ids = hashlib.sha256(), hashlib.sha256()
        num_clips = num_videos = impossible = 0
        for clips in self.ranges():
            names.update(name_lines(clips))
            first = np.ones(len(clips), np.bool_)
            first[1:] = (clips.key[1:] != clips.key[:-1]) | (clips.tail[1:] != clips.tail[:-1])
            key, tail = clips.key[first], clips.tail[first]
            ids.update(id_lines(key, tail))
            on_range(clips, np.flatnonzero(first))
            num_clips, num_videos = num_clips + len(clips), num_videos + len(key)
            impossible += int(np.count_nonzero(~can_be_youtube(key, tail)))
        return Totals(num_clips, num_videos, names.hexdigest(), ids.hexdigest(), impossible)


def _unique(key: Keys, rest: Keys) -> npt.NDArray[np.uint64]:
    order = np.lexsort((rest, key))
    key, rest = key[order], rest[order]
    first = np.ones(len(key), np.bool_)
    first[1:] = (key[1:] != key[:-1]) | (rest[1:] != rest[:-1])
    return np.stack([key[first], rest[first]])
