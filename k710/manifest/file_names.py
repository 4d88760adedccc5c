"""Which clip of a manifest a file holds, by its name; for sources with IDs of other forms than YouTube's too."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

import pyarrow.compute as pc

from k710.lists.clip_paths import ClipName, clip_in_path
from k710.manifest.listings import is_listed
from k710.manifest.read import Manifest
from k710.sources.source import STEM, YOUTUBE, Source
from k710.sources.video_ids import own_video_id, split_clip_id
from k710.store.local_files import FolderNames, Names, youtube_name

_WITH_SPAN = re.compile(r"(.+)_([0-9]{6})_([0-9]{6})")


def names_of_files(manifest: Manifest) -> Names:
    """What says, for the path of a file inside a folder, the clips and videos that it may be.

    A file of a source with other IDs is named by its ID, as the lists have it, by its ID and a span, or by its clip_id
    (`mine~ID`). Such a name counts where the manifest has the video; without one, the name may still hold a YouTube ID.
    """
    if not manifest.catalogue.own:
        return youtube_name
    own = list({(one.space, one.ids): one for one in manifest.catalogue.own if one.ids != YOUTUBE}.values())
    ids = manifest.read_clips(["youtube_id"])["youtube_id"]
    known = set(pc.unique(ids.filter(pc.match_substring(ids, "~"))).to_pylist())

    def names(inside: str) -> tuple[ClipName, ...]:
        path = PurePosixPath(inside)
        written = split_clip_id(path.stem)
        if written and (written[0] in known or (written[1] and "~" not in written[0])):
            return (ClipName(*written),)
        found = [name for source in own if (name := _own_name(source, (*path.parts[:-1], path.stem), known))]
        return tuple(found) or youtube_name(inside)

    return names


def name_in(manifest: Manifest, text: str) -> ClipName | None:
    """The clip or video that a user means by a clip_id, a file name, an address or an ID as the lists have it; None
    where it can be none."""
    found = names_of_files(manifest)(text)
    return found[0] if found else name_alone(text)


def name_alone(text: str) -> ClipName | None:
    """The clip or video that a text names whatever the manifest; None where it can be none."""
    written = split_clip_id(text)
    # Eleven letters alone may be a word.
    return ClipName(*written) if written and (written[1] or "~" in written[0]) else clip_in_path(text)


def names_of_folders(manifest: Manifest) -> FolderNames | None:
    """What says, for the path of a folder of JPEGs inside a folder, the clips that it may be, each with its frames per
    second. None where no source of the manifest has its clips as such folders.

    A clip's folder is named as its file would be, without a suffix.
    """
    framed = [one for one in manifest.catalogue.own if one.frames_per_s]
    if not framed:
        return None
    known = {one.name: _videos_of(manifest, one) for one in framed}

    def names(inside: str) -> tuple[tuple[ClipName, float], ...]:
        parts = PurePosixPath(inside).parts
        written = split_clip_id(parts[-1])
        found: dict[ClipName, float] = {}
        for source in framed:
            if written and written[0] in known[source.name]:
                name: ClipName | None = ClipName(*written)
            else:
                name = None if source.ids == YOUTUBE else _own_name(source, parts, known[source.name])
            if name:
                found.setdefault(name, source.frames_per_s)
        return tuple(found.items())

    return names


def _videos_of(manifest: Manifest, source: Source) -> set[str]:
    clips = manifest.clips
    return set(pc.unique(clips["youtube_id"].filter(is_listed(clips, source.name))).to_pylist())


def _own_name(source: Source, parts: Sequence[str], known: set[str]) -> ClipName | None:
    """The video or clip of a source that a path without suffix names. Where IDs are paths, the longest ending counts
    that is one."""
    for first in range(len(parts) - 1 if source.ids == STEM else 0, len(parts)):
        raw = "/".join(parts[first:])
        if (video := own_video_id(source.space, raw)) in known:
            return ClipName(video)
        if (match := _WITH_SPAN.fullmatch(raw)) and (video := own_video_id(source.space, match[1])) in known:
            return ClipName(video, (int(match[2]), int(match[3])))
    return None
