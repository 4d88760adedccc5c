"""VideoFolder: the video files of a folder as they are, without a list and without labels, read at random."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from k710.errors import LoadError, UsageError
from k710.loading.augment.augment import Augment
from k710.loading.clip_index import NO_CLASS
from k710.loading.decoders.pixels import Choose, Pixels
from k710.loading.decoders.video_file import Timing, frames_at
from k710.loading.find_videos import FoundVideos
from k710.loading.load_clip import ClipOptions, ClipReader, LoadedClip, UndecodedClip
from k710.loading.order import Sample
from k710.text import counted, duration, os_error_text, printable

SHORT_SIDE_PX = 320  # as in profile h264; the frames of a batch of whole HD pictures would fill the memory


class VideoFolder:
    """The videos of a folder as the clips of a mix: a clip is a whole video, or with `clip_frames` a piece of so many
    frames of it, the last one with what is left.

    A clip_id is the file's path below the folder, and of pieces `#` and a number. Frames whose short side is longer
    than `short_side_px` are scaled down to it (None: never). Raises UsageError for pieces shorter than a view's frames.
    """

    def __init__(
        self,
        folder: Path,
        videos: FoundVideos,
        *,
        options: ClipOptions,
        clip_frames: int | None = None,
        short_side_px: int | None = SHORT_SIDE_PX,
    ) -> None:
        if clip_frames is not None and clip_frames < options.num_frames:
            raise UsageError(f"clip_frames is {clip_frames}; a piece has at least the {options.num_frames} of a view")
        self.folder, self.reader = folder.resolve(), ClipReader(options, training=True)
        self.clip_frames, self.short_side_px, self._table = clip_frames, short_side_px, videos.usable
        self.left_out, self._num_others = videos.left_out, videos.num_others
        self.num_frames: Any = videos.usable["num_frames"].to_numpy()
        pieces = np.maximum(self.num_frames // clip_frames, 1) if clip_frames else np.ones(len(self.num_frames), int)
        self._ends = np.cumsum(pieces)

    def __len__(self) -> int:
        return int(self._ends[-1])

    @property
    def content_text(self) -> str:
        """How many videos there are, how long together, and how many files are no videos by their names, in words."""
        seconds = float((self.num_frames / self._table["rate"].to_numpy()).sum())
        others = f"; {counted(self._num_others, 'file')} without a video's suffix" if self._num_others else ""
        return f"{counted(len(self._table), 'video')}, {duration(seconds)} together{others}"

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the files' paths, their sizes and both ends of their bytes, and how they are cut."""
        digest = hashlib.sha256(f"{self.clip_frames}\n{self.short_side_px}\n".encode())
        digest.update("\n".join(self._table["file"].to_pylist()).encode())
        for name in ("digest", "num_frames"):
            digest.update(self._table[name].to_numpy().tobytes())
        return digest.hexdigest()

    def clip_id(self, clip: int) -> str:
        """The id of a clip, by its number."""
        video, piece = self._of(clip)
        file = printable(str(self._table["file"][video].as_py()))
        return file if self.clip_frames is None else f"{file}#{piece}"

    def load_clip(
        self, clip: int, samples: Sequence[Sample], prefix: str, augment: Augment | None = None
    ) -> list[LoadedClip]:
        """Samples of one clip, whose id gets a prefix. Raises as ClipReader.load."""
        video, piece = self._of(clip)
        row = self._table.slice(video, 1).to_pylist()[0]
        decode = partial(self._decode, row, piece)
        place = UndecodedClip(prefix + self.clip_id(clip), NO_CLASS, printable(row["file"]), bytes, None, decode)
        return self.reader.load(place, samples, augment)

    def _decode(self, row: dict[str, Any], piece: int, choose: Choose) -> Pixels:
        path = self.folder / row["file"]
        try:
            size = path.stat().st_size
        except OSError as error:
            raise LoadError(f"{path}: {os_error_text(error)}") from None
        if size != row["size"]:
            raise LoadError(f"{path}: has changed since it was looked into: {size:,} bytes, not {row['size']:,}")
        first, count = self._span(row["num_frames"], piece)
        timing = Timing(row["num_frames"], row["start_s"], row["rate"])
        return frames_at(path, timing, first + choose(count), short_side_px=self.short_side_px)

    def _span(self, num_frames: int, piece: int) -> tuple[int, int]:
        """The first frame of a piece, and how many it has."""
        if self.clip_frames is None:
            return 0, num_frames
        first = piece * self.clip_frames
        is_last = num_frames - first < 2 * self.clip_frames
        return first, num_frames - first if is_last else self.clip_frames

    def _of(self, clip: int) -> tuple[int, int]:
        """The video of a clip, and which of its pieces it is."""
        if not 0 <= clip < len(self):
            raise IndexError(f"clip {clip} of {len(self)}")
        video = int(np.searchsorted(self._ends, clip, side="right"))
        return video, clip - int(self._ends[video - 1] if video else 0)
