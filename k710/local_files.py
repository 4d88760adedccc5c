"""Clips that are on disk already, in any of the layouts in the wild; see docs/fetch.md."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from k710.clip_names import ClipName
from k710.clip_paths import clip_in_path
from k710.errors import FetchError
from k710.text import os_error_text

SUFFIXES = frozenset({".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v", ".flv", ".3gp", ".ts", ".mpg", ".mpeg", ".vob"})


class LocalFiles:
    """The video files of a folder by what their names say, from one walk of the tree.

    Names are compared as they stand in the folder, so that IDs which differ in case alone are kept apart.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise FetchError(f"local:{folder}: no such folder")
        self.folder = folder
        self.by_span: dict[str, list[str]] = {}
        self.by_video: dict[str, list[str]] = {}
        self.num_files = 0
        for path in sorted(_walk(str(folder), frozenset())):
            name = clip_in_path(os.path.basename(path))
            if name is None:
                continue
            self.num_files += 1
            # Only what follows the folder is kept: a long path, 650,000 times, is a lot of memory.
            inside = path[len(str(folder)) :].lstrip("/")
            by = self.by_span if name.span_s else self.by_video
            by.setdefault(str(name), []).append(inside)
        if not self.num_files:
            raise FetchError(
                f"local:{folder}: holds no clip; files are called as abcdefghijk_000010_000020.mp4, or abcdefghijk.mp4 "
                f"for a whole video"
            )

    def of_clip(self, clip: ClipName) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The files that may hold the clip, as they are called inside the folder: those named by its span, and those
        named by its video alone."""
        return tuple(self.by_span.get(str(clip), ())), tuple(self.by_video.get(clip.youtube_id, ()))


def first_file(folder: Path) -> Path | None:
    """A video file of the folder, if it has any."""
    found = next(_walk(str(folder), frozenset()), None)
    return None if found is None else Path(found)


def _walk(folder: str, above: frozenset[tuple[int, int]]) -> Iterator[str]:
    """The video files under `folder`; linked folders too, but for those that lead back to where they stand."""
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
        if entry.name.startswith(".") and _is_dir(entry):
            continue
        if os.path.splitext(entry.name)[1].lower() in SUFFIXES:
            if not _is_dir(entry):
                yield entry.path
        elif _is_dir(entry):
            yield from _walk(entry.path, above | {here})


def _is_dir(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False
