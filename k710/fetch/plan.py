"""The plan of a fetch: its stages, each an origin or a set of archives, and the units of work in each stage.

A stage is planned when the one before it is done, since it is asked for what that one lacked. Where this run does one
part of N, what an earlier stage of another part may still bring is left to that part.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from k710.engine.part import Part
from k710.errors import UsageError
from k710.fetch.encode.codecs import CODECS
from k710.fetch.encode.profiles import Profile
from k710.fetch.origins.archive_sets import (
    ARCHIVE_SETS,
    ArchiveSet,
    SeenArchive,
    archives_to_read,
    doubtful_units,
    is_replaced,
    left_to_others,
    seen_archives,
)
from k710.fetch.origins.cvdf import ArchiveUnit, CvdfOrigin, do_archive
from k710.fetch.origins.local import LocalClips, LocalOrigin
from k710.fetch.origins.parse import Origin
from k710.fetch.origins.youtube.options import YouTubeOptions
from k710.fetch.origins.youtube.origin import VideoUnit, YouTubeClips, YouTubeOrigin
from k710.fetch.unit_work import Run
from k710.fetch.wanted import DEFAULT_SPLITS, of_part, to_do, wanted_ids
from k710.manifest.read import Manifest
from k710.sources.video_ids import video_of
from k710.storage.http_reader import RefusedError
from k710.store.failures import check_failures
from k710.store.local_files import first_file
from k710.store.store import Store, profiles_in
from k710.text import counted


@dataclass(frozen=True)
class FetchOptions:
    """What to fetch, from where and how. `origins` are asked in their order.

    Without a `view`, a clip is wanted if it is in one of `splits` of any release.
    """

    profile: Profile
    origins: tuple[Origin, ...] = (CvdfOrigin(),)
    view: str | None = None
    splits: tuple[str, ...] = DEFAULT_SPLITS
    limit: int | None = None
    retry: frozenset[str] = field(default_factory=frozenset)
    workers: int = 1
    scratch: Path | None = None  # of a store at a URL; default: see fetch/scratch.py
    part: Part = field(default_factory=Part)
    youtube: YouTubeOptions = field(default_factory=YouTubeOptions)
    known_gone: frozenset[str] = frozenset()  # videos that YouTube is not asked for, because a ledger has them as gone

    def checked(self) -> FetchOptions:
        """The options themselves. Raises UsageError for an unknown class of failure and for options of YouTube that
        do not fit, FetchError for a folder that does not exist."""
        check_failures(self.retry)
        self._check_youtube()
        for origin in self.origins:
            if isinstance(origin, LocalOrigin):
                origin.check_exists()
        return self

    def _check_youtube(self) -> None:
        if not any(isinstance(origin, YouTubeOrigin) for origin in self.origins):
            if self.youtube != YouTubeOptions():
                raise UsageError("options --youtube-… without the origin youtube; add it to --from")
            return
        self.youtube.checked()
        if self.youtube.sections and not CODECS[self.profile.codec].cuts_sections:
            raise UsageError("--youtube-sections needs a profile that encodes: a section begins with hidden frames")


@dataclass(frozen=True)
class Stage:
    """Units that may be done at the same time. `clips` of them are expected (of archives at most; of a part of them,
    its share). `note`: what the user should know before it begins."""

    origin: str
    units: tuple[Any, ...]
    clips: int
    do: Callable[[Any, Run], None]
    archives: tuple[str, ...] = ()
    note: str = ""
    unread: tuple[tuple[str, str], ...] = ()  # lists of archives that the server does not have, and its answer


@dataclass(frozen=True)
class StoreState:
    """What a store had when it was read: its media `rows` (clip_id, failure, origin, settled_at, unit), and the wanted
    clips that were `missing`."""

    rows: pa.Table
    missing: pa.Array


# The stages of an origin; at the end the state of the store after them.
Stages = Generator[Stage, None, StoreState]


class Plan:
    """The wanted clips of a manifest and the stages that bring what is missing of them."""

    def __init__(self, manifest: Manifest, store: Store, options: FetchOptions, *, is_dry: bool = False) -> None:
        self.manifest, self.store, self.options = manifest, store, options.checked()
        self.wanted = wanted_ids(manifest, view=options.view, splits=options.splits, limit=options.limit)
        self.workers = options.workers  # of all machines that do the units
        self.refused: set[str] = set()  # archives that the server does not have, as far as the run has asked
        self._is_dry = is_dry  # the units are not done
        self._replaced: dict[str, bool] = {}  # of damaged archives: whether the server has another version now
        self._left: set[str] = set()  # clips that an earlier stage of another part may still bring
        self._doubtful: pa.Array | None = None  # units whose failures are no verdicts

    def read_store(self) -> StoreState:
        """What the store has now."""
        rows = self.store.rows(("clip_id", "failure", "origin", "settled_at"))
        if rows["failure"].null_count < len(rows):
            if self._doubtful is None:
                self._doubtful = pa.array(sorted(doubtful_units(self.store.unit_files())), pa.string())
            doubtful = pc.and_(pc.is_valid(rows["failure"]), pc.is_in(rows["unit"], self._doubtful))
            rows = rows.filter(pc.invert(doubtful))
        return self.state_of(rows)

    def state_of(self, rows: pa.Table) -> StoreState:
        """The state of a store that has these media rows."""
        stored = rows["clip_id"].filter(pc.is_null(rows["failure"])).combine_chunks()
        return StoreState(rows, self.wanted.filter(pc.invert(pc.is_in(self.wanted, stored))))

    def left_to_others(self, missing: pa.Array) -> pa.Array:
        """Those of the missing clips that the stages so far left to other parts."""
        return missing.filter(pc.is_in(missing, pa.array(sorted(self._left), pa.string())))

    def local_files(self) -> Iterator[Path]:
        """A file of each local origin: machines that see it see the origin."""
        for origin in self.options.origins:
            if isinstance(origin, LocalOrigin):
                found = first_file(origin.folder.resolve())
                yield from () if found is None else (found,)

    def stages(self, state: StoreState) -> Iterator[Stage]:
        """Stage after stage. Each is planned from what the store holds when it is asked for, the first from `state`. A
        stage has no units where there is nothing to do in it."""
        for origin in self.options.origins:
            if not len(state.missing):
                return
            if isinstance(origin, LocalOrigin):
                state = yield from self._local_stage(origin, state)
            elif isinstance(origin, YouTubeOrigin):
                state = yield from self._youtube_stages(origin, state)
            else:
                state = yield from self._archive_stages(origin, state)

    def _local_stage(self, origin: LocalOrigin, state: StoreState) -> Stages:
        clips = LocalClips(origin, self.manifest)
        mine = of_part(self._to_do(clips.name, state, state.missing), self.options.part)
        units = clips.units(mine, self.workers)
        yield Stage(clips.name, tuple(units), sum(len(unit.clips) for unit in units), clips.do, note=clips.note())
        state = self.read_store()
        if not self.options.part.is_whole:
            others = self._to_do(clips.name, state, state.missing)
            others = others.filter(pc.invert(pc.is_in(others, mine)))
            self._left.update(str(clip) for clip in clips.found(others))
        return state

    def _youtube_stages(self, origin: YouTubeOrigin, state: StoreState) -> Stages:
        """All that is missing; then, in a long run, what was found gone in it an hour ago or more."""
        options, began_at = self.options, datetime.now(timezone.utc)
        asked, num_gone = self._not_known_gone(origin, self._not_left(state.missing))
        mine = of_part(asked, options.part)
        clips = YouTubeClips(origin, options.youtube, state.rows)
        units = clips.units(mine, state.rows, options.retry, self.workers)
        notes = [clips.announcement(units)] if units else []
        if num_gone:
            notes.append(
                f"{clips.name}: {counted(num_gone, 'clip is', 'clips are')} not asked for: by the ledger, others found "
                f"their videos gone or private twice. --retry gone,private asks nevertheless."
            )
        note = "\n".join(notes)
        yield Stage(clips.name, tuple(units), len(_clips_in(units)), clips.do, note=note)
        state = self.read_store()
        again = YouTubeClips(origin, options.youtube, state.rows)
        suspected = of_part(state.missing, options.part)
        units = again.units_to_confirm(suspected, state.rows, began_at, self.workers)
        others = asked.filter(pc.invert(pc.is_in(asked, mine)))
        if len(others):
            self._left |= _clips_in(again.units(others, state.rows, options.retry, self.workers))
        if units:
            yield Stage(again.name, tuple(units), len(_clips_in(units)), again.do)
            state = self.read_store()
        return state

    def _archive_stages(self, origin: CvdfOrigin, state: StoreState) -> Stages:
        pending: set[str] = set()  # clips that a set may still hold: no later set is asked for them
        part = self.options.part
        for archive_set in ARCHIVE_SETS:
            clip_ids = self._hosted(archive_set, state) - pending
            if not clip_ids:
                continue
            try:
                archives = archive_set.archives(origin.base_url)
            except RefusedError as error:  # a mirror need not have every release
                yield Stage(
                    archive_set.origin, (), 0, partial(do_archive, wanted=clip_ids), unread=((error.url, str(error)),)
                )
                continue
            seen = self._all_seen()
            urls, absent = archives_to_read(archives, clip_ids, self._settled(seen))
            mine = tuple(url for url in urls if part.has(url))
            asked = clip_ids - absent
            units = tuple(
                ArchiveUnit(archive_set, url, seen[url].readings if url in seen else frozenset()) for url in mine
            )
            share = -(-len(asked) * len(mine) // max(1, len(urls)))
            yield Stage(archive_set.origin, units, share, partial(do_archive, wanted=asked), mine)
            if self._is_dry:
                continue  # nothing was read: a later set may be asked for all that this one lacks
            state = self.read_store()
            clip_ids, settled = self._hosted(archive_set, state) - pending, self._settled(self._all_seen())
            there = [url for url in archives if url not in self.refused]
            _, absent = archives_to_read(there, clip_ids, settled)
            pending |= clip_ids - absent
            self._left |= left_to_others([url for url in there if not part.has(url)], clip_ids, settled)
        return state

    def _hosted(self, archive_set: ArchiveSet, state: StoreState) -> frozenset[str]:
        """The missing clips that a set of archives is still to be asked for."""
        clips = self.manifest.clips
        hosted = clips["clip_id"].filter(archive_set.hosts(clips)).combine_chunks()
        asked = state.missing.filter(pc.is_in(state.missing, hosted))
        return frozenset(self._to_do(archive_set.origin, state, asked).to_pylist())

    def _to_do(self, origin: str, state: StoreState, clip_ids: pa.Array) -> pa.Array:
        """Those of `clip_ids` that an origin is still to be asked for, and that are not left to other parts."""
        return self._not_left(to_do(clip_ids, state.rows, origin, self.options.retry))

    def _not_left(self, clip_ids: pa.Array) -> pa.Array:
        if not self._left:
            return clip_ids
        return clip_ids.filter(pc.invert(pc.is_in(clip_ids, pa.array(sorted(self._left), pa.string()))))

    def _not_known_gone(self, origin: YouTubeOrigin, clip_ids: pa.Array) -> tuple[pa.Array, int]:
        """Those of `clip_ids` whose videos no ledger has as gone, and the number of the others.

        A mirror is asked for all of them, because it may still have what YouTube has lost.
        """
        if origin.mirror_url or not self.options.known_gone:
            return clip_ids, 0
        videos = pa.array([video_of(clip_id) for clip_id in clip_ids.to_pylist()], pa.string())
        gone = pc.is_in(videos, pa.array(sorted(self.options.known_gone), pa.string()))
        asked = clip_ids.filter(pc.invert(gone))
        return asked, len(clip_ids) - len(asked)

    def _settled(self, seen: dict[str, SeenArchive]) -> dict[str, SeenArchive]:
        """The archives that need not be read again, for whatever profile. Damaged ones count until a retry of
        `corrupt`, or until the server has another version of them."""
        return {url: found for url, found in seen.items() if found.settled and not self._is_worth(found)}

    def _is_worth(self, found: SeenArchive) -> bool:
        """Whether an archive whose damage is settled is worth another reading."""
        if not found.damaged:
            return False
        if "corrupt" in self.options.retry:
            return True
        if found.url not in self._replaced:
            self._replaced[found.url] = is_replaced(found)
        return self._replaced[found.url]

    def _all_seen(self) -> dict[str, SeenArchive]:
        folders = profiles_in(self.store.root)
        return seen_archives(file for folder in folders for file in Store(self.store.root, folder).unit_files())


def _clips_in(units: list[VideoUnit]) -> set[str]:
    return {str(clip) for unit in units for video in unit.videos for clip in video.clips}
