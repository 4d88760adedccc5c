"""Which clips failed, by name: of a store, each with the reason and the origin; of a folder, the files that are no clip
of the manifest's, or one of several for the same clip."""

from __future__ import annotations

import filecmp
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from k710.fetch.store_unit import utf_8
from k710.manifest.file_names import names_of_files, names_of_folders
from k710.manifest.read import Manifest
from k710.sources.video_ids import video_of
from k710.store.local_files import NO_CLIP, NO_FILE, NO_NAME, OTHER_SUFFIX, PASSED_OVER, LocalFiles
from k710.store.store import Store

UNMATCHED = "unmatched"
SEVERAL = "several"
FILE_REASONS = {
    **PASSED_OVER,
    UNMATCHED: "named as a clip or a video that the manifest does not have",
    SEVERAL: "another file for a clip that has one",
}
_COLUMNS = ("clip_id", "failure", "origin", "came_from", "message", "settled_at")


@dataclass(frozen=True)
class Failed:
    """A clip that failed, or a file of a folder that is left. `reason`: a key of FAILURES or of FILE_REASONS; `name`:
    the clip, or the video or file where there is none."""

    name: str
    reason: str
    origin: str
    file: str
    message: str
    profile: str = ""


def failed_clips(manifest: Manifest, store: Store) -> list[Failed]:
    """The clips of the manifest that the store lacks and that failed, by name: once for each origin that was asked,
    with its last message."""
    media = store.rows(_COLUMNS)
    there = media["clip_id"].filter(pc.is_null(media["failure"])).combine_chunks()
    known = manifest.clips["clip_id"].combine_chunks()
    lacking = pc.and_(pc.is_in(media["clip_id"], known), pc.invert(pc.is_in(media["clip_id"], there)))
    rows = media.filter(lacking).sort_by([("clip_id", "ascending"), ("settled_at", "descending")]).to_pylist()
    last = {(row["clip_id"], row["origin"]): row for row in reversed(rows)}
    return [
        Failed(
            row["clip_id"],
            row["failure"],
            row["origin"],
            row["came_from"] or "",
            row["message"] or "",
            store.profile_folder,
        )
        for _, row in sorted(last.items())
    ]


def left_files(manifest: Manifest, folder: Path) -> list[Failed]:
    """The files of a folder that bring no clip, with the reason. Raises FetchError for a folder without a clip."""
    names, folders = names_of_files(manifest), names_of_folders(manifest)
    files = LocalFiles(folder.resolve(), list_all=True, names=names, folders=folders)
    origin = f"local:{utf_8(str(files.folder))}"
    found = [
        Failed(Path(path).name, kind, origin, path, PASSED_OVER[kind])
        for kind in (NO_NAME, OTHER_SUFFIX, NO_FILE, NO_CLIP)
        for path in files.examples.get(kind, ())
    ]
    spans = _spans_of(manifest, files)
    for clip in _unmatched(manifest, files):
        paths = files.by_span.get(clip) or files.by_video[clip]
        video = video_of(clip)
        has = f"of this video it has {', '.join(spans[video])}" if video in spans else "it does not have this video"
        found += [Failed(clip, UNMATCHED, origin, path, f"the manifest has no such clip; {has}") for path in paths]
    for clip, paths in _several(files):
        for path in paths[1:]:
            same = _are_equal(files.folder / paths[0], files.folder / path)
            bytes_text = {True: "with the same bytes", False: "with other bytes", None: "which cannot be read"}[same]
            found.append(Failed(clip, SEVERAL, origin, path, f"{bytes_text}; {paths[0]} comes first"))
    return [Failed(**{key: utf_8(value) for key, value in vars(each).items()}) for each in found]


def folder_note(manifest: Manifest, files: LocalFiles) -> str:
    """A note on the folder for the user; empty where every file has a clip and every clip one file."""
    several = list(_several(files))
    differing = sum(_differ_in_size(files.folder, paths) for _, paths in several)
    counts = {
        "named as no clip of the manifest": sum(
            len(files.by_span.get(clip) or files.by_video[clip]) for clip in _unmatched(manifest, files)
        ),
        "without a clip's name": files.passed_over[NO_NAME],
        "with another suffix than a video's": files.passed_over[OTHER_SUFFIX],
        "that are pipes or devices": files.passed_over[NO_FILE],
    }
    left = [f"{count:,} {what}" for what, count in counts.items() if count]
    parts = [f"files that are left: {', '.join(left)}"] if left else []
    if folders := files.passed_over[NO_CLIP]:
        parts.append(f"folders of JPEGs that are named as no clip of the manifest: {folders:,}")
    if several:
        clips = "1 clip has" if len(several) == 1 else f"{len(several):,} clips have"
        parts.append(f"{clips} several files, {differing:,} of them files of different sizes")
    return "; ".join(parts)


def _unmatched(manifest: Manifest, files: LocalFiles) -> Iterator[str]:
    """The names of clips and of videos that a folder has files of and the manifest does not know."""
    for names, column in ((files.by_span, "clip_id"), (files.by_video, "youtube_id")):
        keys = pa.array(list(names), pa.string())
        known = pc.is_in(keys, manifest.clips[column].combine_chunks().cast(pa.string()))
        yield from keys.filter(pc.invert(known)).to_pylist()


def _spans_of(manifest: Manifest, files: LocalFiles) -> dict[str, list[str]]:
    """The clips that the manifest has of the videos of unmatched files."""
    videos = sorted({video_of(clip) for clip in _unmatched(manifest, files)})
    clips = manifest.clips.filter(pc.is_in(manifest.clips["youtube_id"], pa.array(videos, pa.string())))
    found: dict[str, list[str]] = {}
    for clip_id in clips["clip_id"].to_pylist():
        found.setdefault(video_of(clip_id), []).append(clip_id)
    return found


def _several(files: LocalFiles) -> Iterator[tuple[str, list[str]]]:
    for by in (files.by_span, files.by_video):
        yield from ((clip, paths) for clip, paths in by.items() if len(paths) > 1)


def _differ_in_size(folder: Path, paths: Iterable[str]) -> bool:
    sizes: Counter[int] = Counter()
    for path in paths:
        try:
            sizes[(folder / path).stat().st_size] += 1
        except OSError:
            continue
    return len(sizes) > 1


def _are_equal(one: Path, other: Path) -> bool | None:
    try:
        return filecmp.cmp(one, other, shallow=False)
    except OSError:
        return None
