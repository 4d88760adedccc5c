"""The origin `local:DIR`: units of clips that a folder has, in hash order."""

from __future__ import annotations

import hashlib
import itertools
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from k710.errors import FetchError
from k710.fetch.encode.jobs import Candidate, ClipJob
from k710.fetch.failed import folder_note
from k710.fetch.store_unit import utf_8
from k710.fetch.unit_work import Run, Work, do_unit
from k710.fetch.wanted import in_hash_order, spans_of_videos
from k710.lists.clip_names import ClipName
from k710.manifest.file_names import names_of_files, names_of_folders
from k710.manifest.read import Manifest
from k710.sources.video_ids import Span, split_clip_id
from k710.store.local_files import LocalFiles, is_exact

UNIT_CLIPS = 500


@dataclass(frozen=True)
class LocalUnit:
    """Some clips of a folder."""

    clips: tuple[ClipName, ...]


@dataclass(frozen=True)
class LocalOrigin:
    """A folder of clips or videos."""

    folder: Path

    def check_exists(self) -> None:
        """Raise FetchError where the folder does not exist."""
        if not self.folder.is_dir():
            raise FetchError(f"local:{self.folder}: no such folder")


class LocalClips:
    """The clips that a folder has, in units of work."""

    def __init__(self, origin: LocalOrigin, manifest: Manifest) -> None:
        folder = origin.folder.resolve()
        self.name = f"local:{utf_8(str(folder))}"
        self._manifest = manifest
        self.files = LocalFiles(folder, names=names_of_files(manifest), folders=names_of_folders(manifest))
        self._spans: dict[str, tuple[Span, ...]] = {}

    def note(self) -> str:
        """What the user should know of the folder's files; empty where each has its clip."""
        note = folder_note(self._manifest, self.files)
        listed = f"k710 status {shlex.quote(str(self._manifest.path))} --failed --from {shlex.quote(self.name)}"
        return f"{self.name}: {note}; `{listed}` lists them" if note else ""

    def found(self, clip_ids: pa.Array) -> list[ClipName]:
        """Those clips that the folder may hold, in hash order."""
        names = (clip_of(clip_id) for clip_id in in_hash_order(clip_ids.to_pylist()))
        return [name for name in names if any(self.files.of_clip(name)) or self.files.frames_of_clip(name)]

    def units(self, clip_ids: pa.Array, workers: int) -> list[LocalUnit]:
        """The clips that are here, in units: small ones where there are few, so that no process is idle. Of more than
        two, the first has half as many: units of one size, done side by side, would end and commit at the same time,
        with no clip left to make meanwhile."""
        found = self.found(clip_ids)
        by_name = self.files.by_video.keys() | self.files.frames.keys()
        self._spans = spans_of_videos(self._manifest, {clip.youtube_id for clip in found} & by_name)
        size = max(1, min(UNIT_CLIPS, -(-len(found) // (2 * workers))))
        first = size if len(found) <= 2 * size else max(1, size // 2)
        bounds = [0, *range(first, len(found), size), len(found)] if found else []
        return [LocalUnit(tuple(found[start:end])) for start, end in itertools.pairwise(bounds)]

    def __getstate__(self) -> dict[str, Any]:
        """What goes to other machines: all that `do` needs, and no clips table."""
        return self.__dict__ | {"_manifest": None}

    def do(self, unit: LocalUnit, run: Run) -> None:
        """Make and settle the clips of a unit."""
        # The folder is part of the name: the results of another one for the same clips must stay.
        name = f"local-{hashlib.sha256(self.name.encode()).hexdigest()[:8]}"
        do_unit(run, name, self.name, self._work(unit, run), dict)

    def _work(self, unit: LocalUnit, run: Run) -> Iterator[Work]:
        for clip in unit.clips:
            by_span, by_video = self.files.of_clip(clip)
            candidates = (
                *(
                    Candidate(self.files.folder / path, named_span, True, frames_per_s)
                    for path, frames_per_s, named_span in self.files.frames_of_clip(clip)
                ),
                *(Candidate(self.files.folder / path, True, is_exact(path, str(clip))) for path in by_span),
                *(Candidate(self.files.folder / path, False, is_exact(path, clip.youtube_id)) for path in by_video),
            )
            spans = self._spans.get(clip.youtube_id, (clip.span_s,) if clip.span_s else ())
            job = ClipJob(str(clip), clip.span_s, spans, candidates, run.new_path(), run.profile)
            yield Work(job, tuple(str(candidate.path.relative_to(self.files.folder)) for candidate in candidates))


def clip_of(clip_id: str) -> ClipName:
    """The video and the span that a clip_id names."""
    found = split_clip_id(clip_id)
    assert found is not None
    return ClipName(*found)
