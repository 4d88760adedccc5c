"""Clips that are on disk already, in any of the layouts in the wild; see docs/fetch.md."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from k710.errors import FetchError
from k710.lists.clip_names import ClipName
from k710.lists.clip_paths import clip_in_path
from k710.text import os_error_text

SUFFIXES = frozenset({".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v", ".flv", ".3gp", ".ts", ".mpg", ".mpeg", ".vob"})
NO_NAME = "no_name"
OTHER_SUFFIX = "other_suffix"
NO_FILE = "no_file"
PASSED_OVER = {
    NO_NAME: "a video file whose name holds no clip and no video ID",
    OTHER_SUFFIX: "named as a clip, but its suffix is none of a video",
    NO_FILE: "a pipe, a socket or a device",
}
EXAMPLES = 20  # of each kind, by name
# What downloaders, datasets and file browsers leave beside the clips under the clips' names.
_BESIDE = frozenset({".json", ".txt", ".csv", ".jpg", ".png", ".webp", ".vtt", ".srt", ".cls", ".description", ".ytdl"})


class LocalFiles:
    """The video files of a folder by what their names say, from one walk of the tree.

    Names are compared as they stand in the folder, so that IDs which differ in case alone are kept apart. Of several
    files for one clip those come first that are named by it and nothing else: `ID_000010_000020(1).mp4` may be another
    video. `passed_over` counts by kind what is no clip file, see PASSED_OVER. `examples` names all of it by kind, where
    `list_all`, else the first few.
    """

    def __init__(self, folder: Path, *, list_all: bool = False) -> None:
        if not folder.is_dir():
            raise FetchError(f"local:{folder}: no such folder")
        self.folder = folder
        self.by_span: dict[str, list[str]] = {}
        self.by_video: dict[str, list[str]] = {}
        self.passed_over: Counter[str] = Counter()
        self.examples: dict[str, list[str]] = {}
        self.num_files = 0
        for path, kind in sorted(_walk(str(folder), frozenset())):
            # Only what follows the folder is kept: a long path, 650,000 times, is a lot of memory.
            inside = path[len(str(folder)) :].lstrip("/")
            name = None if kind else clip_in_path(os.path.basename(path))
            if name is None:
                self._pass_over(kind or NO_NAME, inside, list_all)
                continue
            self.num_files += 1
            by = self.by_span if name.span_s else self.by_video
            by.setdefault(str(name), []).append(inside)
        for by in (self.by_span, self.by_video):
            for clip, paths in by.items():
                if len(paths) > 1:
                    paths.sort(key=lambda path: not is_exact(path, clip))
        if not self.num_files:
            raise FetchError(
                f"local:{folder}: holds no clip; files are called as abcdefghijk_000010_000020.mp4, or abcdefghijk.mp4 "
                f"for a whole video{self._told()}"
            )

    def of_clip(self, clip: ClipName) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The files that may hold the clip, as they are called inside the folder: those named by its span, and those
        named by its video alone."""
        return tuple(self.by_span.get(str(clip), ())), tuple(self.by_video.get(clip.youtube_id, ()))

    def _pass_over(self, kind: str, inside: str, list_all: bool) -> None:
        self.passed_over[kind] += 1
        if list_all or self.passed_over[kind] <= EXAMPLES:
            self.examples.setdefault(kind, []).append(inside)

    def _told(self) -> str:
        """What lies there instead, for the message."""
        first = next((files[0] for files in self.examples.values()), None)
        return "" if first is None else f"; what lies there is called as {first!r}"


def is_exact(path: str, clip: str) -> bool:
    """Whether a file is named by the clip, or the video, and nothing else."""
    return os.path.splitext(os.path.basename(path))[0] == clip


def first_file(folder: Path) -> Path | None:
    """A video file of the folder, if it has any."""
    found = next((path for path, kind in _walk(str(folder), frozenset()) if not kind), None)
    return None if found is None else Path(found)


def _walk(folder: str, above: frozenset[tuple[int, int]]) -> Iterator[tuple[str, str]]:
    """The video files under `folder`, and what looks like one and is none, with its kind (see PASSED_OVER); linked
    folders too, but for those that lead back to where they stand."""
    try:
        status = os.stat(folder)
        here = (status.st_dev, status.st_ino)
        if here in above:
            return
        entries = list(os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return  # others may be at work here
    except PermissionError as error:
        raise FetchError(f"{folder}: {os_error_text(error)}; everything under local:DIR must be readable") from None
    for entry in entries:
        suffix = os.path.splitext(entry.name)[1].lower()
        if _is_dir(entry):
            if not entry.name.startswith(".") and suffix not in SUFFIXES:
                yield from _walk(entry.path, above | {here})
        elif suffix in SUFFIXES:
            yield entry.path, NO_FILE if _is_special(entry) else ""
        elif suffix not in _BESIDE and clip_in_path(entry.name):
            yield entry.path, OTHER_SUFFIX


def _is_special(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a pipe, a socket or a device, which would be read without end. A link that leads nowhere is
    not: that is said when it is opened."""
    try:
        if entry.is_file():
            return False
        return not stat.S_ISREG(os.stat(entry.path).st_mode)
    except OSError:
        return False


def _is_dir(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False
