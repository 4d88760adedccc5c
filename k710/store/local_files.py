"""Clips that are already on disk, in any common layout; see docs/fetch.md."""

from __future__ import annotations

import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from k710.errors import FetchError
from k710.lists.clip_names import ClipName
from k710.lists.clip_paths import clip_in_path
from k710.lists.own_rows import JPEG_SUFFIXES, VIDEO_SUFFIXES
from k710.text import os_error_text

SUFFIXES = frozenset(VIDEO_SUFFIXES)
FRAME_NAME = re.compile(r"(?P<series>.*?)(?P<number>[0-9]{1,9})\.jpe?g", re.I)  # `00001.jpg`, `img_00001.jpg`
NO_NAME = "no_name"
OTHER_SUFFIX = "other_suffix"
NO_FILE = "no_file"
NO_CLIP = "no_clip"
PASSED_OVER = {
    NO_NAME: "a video file without a clip or a video ID in its name",
    OTHER_SUFFIX: "named like a clip, but without the suffix of a video",
    NO_FILE: "a pipe, a socket or a device",
    NO_CLIP: "a folder of JPEGs that is named as no clip of the manifest",
}
EXAMPLES = 20  # file names kept per kind
# Suffixes of the files that downloaders, datasets and file browsers write next to clips under the same names.
_BESIDE = frozenset({".json", ".txt", ".csv", ".jpg", ".png", ".webp", ".vtt", ".srt", ".cls", ".description", ".ytdl"})


Names = Callable[[str], tuple[ClipName, ...]]
FolderNames = Callable[[str], tuple[tuple[ClipName, float], ...]]
_FRAMES = "frames"  # the kind of a path that is the folder of a clip's frames


def youtube_name(inside: str) -> tuple[ClipName, ...]:
    """The clip or video of YouTube that a file's name says."""
    name = clip_in_path(os.path.basename(inside))
    return () if name is None else (name,)


class LocalFiles:
    """The video files of a folder by the clip or video in their names, from one walk of the tree.

    Names are case-sensitive, because IDs may differ only in case. Of several files for one clip, those with exactly its
    name come first: `ID_000010_000020(1).mp4` may be another video. `passed_over` counts the other files by kind, see
    PASSED_OVER. `examples` holds their names by kind, all of them if `list_all`, else the first few. `names` says what
    the path of a file inside the folder may name, `folders` the same of a folder of JPEGs (manifest/file_names.py);
    without it, such folders do not count. `frames` has those of clips, each with its frames per second.
    """

    def __init__(
        self, folder: Path, *, list_all: bool = False, names: Names = youtube_name, folders: FolderNames | None = None
    ) -> None:
        if not folder.is_dir():
            raise FetchError(f"local:{folder}: no such folder")
        self.folder = folder
        self.by_span: dict[str, list[str]] = {}
        self.by_video: dict[str, list[str]] = {}
        self.frames: dict[str, list[tuple[str, float]]] = {}
        self.passed_over: Counter[str] = Counter()
        self.examples: dict[str, list[str]] = {}
        self.num_files = 0

        def inside_of(path: str) -> str:
            # Only the path inside the folder is kept: 650,000 long paths need much memory.
            return path[len(str(folder)) :].lstrip("/")

        is_clip = None if folders is None else lambda path: bool(folders(inside_of(path)))
        for path, kind in sorted(walk(str(folder), frozenset(), is_clip)):
            inside = inside_of(path)
            if kind == _FRAMES and folders is not None:
                for name, frames_per_s in folders(inside):
                    self.frames.setdefault(str(name), []).append((inside, frames_per_s))
                continue
            found = () if kind else names(inside)
            if not found:
                self._pass_over(kind or NO_NAME, inside or ".", list_all)
                continue
            self.num_files += 1
            for name in found:
                by = self.by_span if name.span_s else self.by_video
                by.setdefault(str(name), []).append(inside)
        for by in (self.by_span, self.by_video):
            for clip, paths in by.items():
                if len(paths) > 1:
                    paths.sort(key=lambda path: not is_exact(path, clip))
        if not self.num_files and not self.frames:
            raise FetchError(self._nothing_found(own_names=names is not youtube_name, in_frames=folders is not None))

    def of_clip(self, clip: ClipName) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The files that may hold the clip, by their path inside the folder: those with its span in their name, and
        those with only its video."""
        return tuple(self.by_span.get(str(clip), ())), tuple(self.by_video.get(clip.youtube_id, ()))

    def frames_of_clip(self, clip: ClipName) -> tuple[tuple[str, float, bool], ...]:
        """The folders of JPEGs that may be the clip: the path inside the folder, the frames per second, and whether the
        span is in its name."""
        names = dict.fromkeys((str(clip), clip.youtube_id))
        return tuple(
            (inside, frames_per_s, name != clip.youtube_id)
            for name in names
            for inside, frames_per_s in self.frames.get(name, ())
        )

    def _pass_over(self, kind: str, inside: str, list_all: bool) -> None:
        self.passed_over[kind] += 1
        if list_all or self.passed_over[kind] <= EXAMPLES:
            self.examples.setdefault(kind, []).append(inside)

    def _nothing_found(self, *, own_names: bool, in_frames: bool) -> str:
        return (
            f"local:{self.folder}: has no clips; the files must be named like abcdefghijk_000010_000020.mp4, or "
            f"abcdefghijk.mp4 for a whole video{', or by their IDs in the manifest' * own_names}"
            f"{', or be folders of JPEGs with such names' * in_frames}{self._example()}"
        )

    def _example(self) -> str:
        """The name of a file in the folder, for the message."""
        first = next((files[0] for files in self.examples.values()), None)
        return "" if first is None else f"; a file there is named {first!r}"


def is_exact(path: str, clip: str) -> bool:
    """Whether the name of a file is exactly the clip or the video."""
    return "~" in clip or os.path.splitext(os.path.basename(path))[0] == clip


def first_file(folder: Path) -> Path | None:
    """A video file of the folder or, without one, a JPEG of it, if there is one."""
    found = next((path for path, kind in walk(str(folder), frozenset()) if not kind), None)
    if found is None:
        found = next((path for path, kind in walk(str(folder), frozenset(), _holds_jpegs) if kind == _FRAMES), None)
        found = None if found is None else next(_jpegs_in(found), None)
    return None if found is None else Path(found)


def walk(
    folder: str, above: frozenset[tuple[int, int]], is_clip: Callable[[str], bool] | None = None
) -> Iterator[tuple[str, str]]:
    """The files under `folder`: video files with an empty kind, and similar files with their kind (see PASSED_OVER).
    With `is_clip`, which says whether a folder has the name of a clip: such folders that hold JPEGs too.

    Links to folders are followed, except those to a parent folder.
    """
    try:
        status = os.stat(folder)
        here = (status.st_dev, status.st_ino)
        if here in above:
            return
        entries = list(os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return  # another process may be changing the folder
    except PermissionError as error:
        raise FetchError(f"{folder}: {os_error_text(error)}; everything under local:DIR must be readable") from None
    has_frames = False
    for entry in entries:
        suffix = os.path.splitext(entry.name)[1].lower()
        if _is_dir(entry):
            if is_clip and not entry.name.startswith(".") and is_clip(entry.path) and _holds_jpegs(entry.path):
                yield entry.path, _FRAMES
            elif not entry.name.startswith(".") and suffix not in SUFFIXES:
                yield from walk(entry.path, above | {here}, is_clip)
        elif is_clip and suffix in JPEG_SUFFIXES and FRAME_NAME.fullmatch(entry.name):
            if not has_frames:
                yield folder, NO_CLIP
            has_frames = True
        elif suffix in SUFFIXES:
            yield entry.path, NO_FILE if _is_special(entry) else ""
        elif suffix not in _BESIDE and clip_in_path(entry.name):
            yield entry.path, OTHER_SUFFIX


def _holds_jpegs(folder: str) -> bool:
    return next(_jpegs_in(folder), None) is not None


def _jpegs_in(folder: str) -> Iterator[str]:
    try:
        with os.scandir(folder) as entries:
            yield from (entry.path for entry in entries if os.path.splitext(entry.name)[1].lower() in JPEG_SUFFIXES)
    except FileNotFoundError:
        return
    except PermissionError as error:
        raise FetchError(f"{folder}: {os_error_text(error)}; everything under local:DIR must be readable") from None


def _is_special(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a pipe, a socket or a device, which may never end. A broken link is none; opening it reports
    the error."""
    try:
        if entry.is_file():
            return False
        return not stat.S_ISREG(os.stat(entry.path).st_mode)
    except OSError:
        return False


def _is_dir(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False
