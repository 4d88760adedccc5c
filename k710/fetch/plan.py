"""What a fetch has before it: stage by stage, an origin or a set of its archives, and the units of work in each.

The next stage is planned when the one before it is done, since it is asked for what that one lacked. Where this run
does one part of N, what an earlier stage of another part may still bring is left to that part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from k710.engine.part import Part
from k710.errors import FetchError, UsageError
from k710.fetch.encode.codecs import CODECS
from k710.fetch.encode.profiles import Profile
from k710.fetch.origins.archive_sets import (
    ARCHIVE_SETS,
    CVDF,
    ArchiveSet,
    SeenArchive,
    archives_to_read,
    check_base_url,
    doubtful_units,
    is_replaced,
    left_to_others,
    seen_archives,
)
from k710.fetch.origins.cvdf import ArchiveUnit, do_archive
from k710.fetch.origins.local import LocalOrigin
from k710.fetch.origins.youtube.options import YoutubeOptions
from k710.fetch.origins.youtube.origin import VideoUnit, YoutubeOrigin, check_origin
from k710.fetch.unit_work import Run
from k710.fetch.wanted import DEFAULT_SPLITS, of_part, to_do, wanted_ids
from k710.manifest.read import Manifest
from k710.storage.http_reader import RefusedError
from k710.storage.storage import local_folder
from k710.store.failures import check_failures
from k710.store.local_files import first_file
from k710.store.store import Store, profiles_in


@dataclass(frozen=True)
class FetchOptions:
    """What to fetch, from where and how. `origins`: `local:DIR`, `cvdf`, `cvdf:BASE_URL`, `youtube` or
    `youtube:URL`, in the order to ask them.

    Without a `view`, what is wanted stands in one of `splits` of any release.
    """

    profile: Profile
    origins: tuple[str, ...] = ("cvdf",)
    view: str | None = None
    splits: tuple[str, ...] = DEFAULT_SPLITS
    limit: int | None = None
    retry: frozenset[str] = field(default_factory=frozenset)
    workers: int = 1
    scratch: Path | None = None  # of a store at a URL; default: see fetch/scratch.py
    part: Part = field(default_factory=Part)
    youtube: YoutubeOptions = field(default_factory=YoutubeOptions)

    def checked(self) -> FetchOptions:
        """The choices themselves. Raises UsageError for an unknown origin or class of failure, FetchError for a
        folder that is not there."""
        check_failures(self.retry)
        for origin in self.origins:
            kind, _, where = origin.partition(":")
            if kind not in ("local", "cvdf", "youtube") or (kind == "local" and not where):
                raise UsageError(
                    f"unknown origin {origin!r}; known: local:DIR, cvdf, cvdf:URL, youtube, youtube:URL (a comma in a "
                    f"name is written \\,)"
                )
            if kind == "cvdf" and where:
                check_base_url(where)
        self._check_youtube()
        for origin in self.origins:
            kind, _, where = origin.partition(":")
            if kind == "local" and not Path(where).is_dir():
                local_folder(where, "folder of clips")  # a URL is another mistake
                raise FetchError(f"{origin}: no such folder")
        return self

    def _check_youtube(self) -> None:
        asked = [origin.partition(":")[2] for origin in self.origins if origin.partition(":")[0] == "youtube"]
        for where in asked:
            check_origin(where)
        if asked:
            self.youtube.checked()
        elif self.youtube != YoutubeOptions():
            raise UsageError("options --youtube-… without the origin youtube; add it to --from")
        if asked and self.youtube.sections and not CODECS[self.profile.codec].cuts_sections:
            raise UsageError("--youtube-sections needs a profile that encodes: a section begins with hidden frames")


@dataclass(frozen=True)
class Stage:
    """Units that may be done at the same time. `clips` of them are expected (of archives at most; of a part of them,
    its share). `note`: what the user is to know before it begins."""

    origin: str
    units: tuple[Any, ...]
    clips: int
    do: Callable[[Any, Run], None]
    archives: tuple[str, ...] = ()
    note: str = ""
    unread: tuple[tuple[str, str], ...] = ()  # lists of archives that the server does not have, and what it said


class Plan:
    """The wanted clips of a manifest and the stages that bring what is missing of them."""

    def __init__(self, manifest: Manifest, store: Store, choices: FetchOptions, *, is_dry: bool = False) -> None:
        self.manifest, self.store, self.choices = manifest, store, choices.checked()
        self.wanted = wanted_ids(manifest, view=choices.view, splits=choices.splits, limit=choices.limit)
        self.workers = choices.workers  # of all machines that are to do the units
        self.refused: set[str] = set()  # archives that the server does not have, as far as the run has asked
        self._is_dry = is_dry  # the units are not done
        self._replaced: dict[str, bool] = {}  # of damaged archives: whether the server has another version now
        self._left: set[str] = set()  # clips that an earlier stage of another part may still bring
        self._doubtful: pa.Array | None = None  # units whose failures are no verdicts
        self._media = self._read_media()

    def missing(self, *, anew: bool = False) -> pa.Array:
        """The wanted clips that are not in the store, when its rows were last read; that is now, if `anew`."""
        if anew:
            self._media = self._read_media()
        there = self._media["clip_id"].filter(pc.is_null(self._media["failure"])).combine_chunks()
        return self.wanted.filter(pc.invert(pc.is_in(self.wanted, there)))

    def left(self) -> pa.Array:
        """The missing clips that the stages so far left to other parts."""
        missing = self.missing()
        return missing.filter(pc.is_in(missing, pa.array(sorted(self._left), pa.string())))

    def local_files(self) -> Iterator[Path]:
        """A file of each local origin: machines that see it see the origin."""
        for origin in self.choices.origins:
            if origin.startswith("local:"):
                found = first_file(Path(origin.removeprefix("local:")).resolve())
                yield from () if found is None else (found,)

    def stages(self) -> Iterator[Stage]:
        """Stage after stage, each planned from what the store holds when it is asked for; without units when there is
        nothing to do in it."""
        for origin in self.choices.origins:
            kind, _, where = origin.partition(":")
            if not len(self.missing()):
                return
            if kind == "local":
                yield from self._local_stage(Path(where))
            elif kind == "youtube":
                yield from self._youtube_stages(where)
            else:
                yield from self._archive_stages(where or CVDF)
            self._media = self._read_media()

    def _local_stage(self, folder: Path) -> Iterator[Stage]:
        origin = LocalOrigin(folder, self.manifest)
        mine = of_part(self._to_do(origin.name, self.missing()), self.choices.part)
        units = origin.units(mine, self.workers)
        yield Stage(origin.name, tuple(units), sum(len(unit.clips) for unit in units), origin.do, note=origin.note())
        if not self.choices.part.is_whole:
            self._media = self._read_media()
            others = self._to_do(origin.name, self.missing())
            others = others.filter(pc.invert(pc.is_in(others, mine)))
            self._left.update(str(clip) for clip in origin.found(others))

    def _youtube_stages(self, where: str) -> Iterator[Stage]:
        """All that is missing; then, in a long run, what was found gone in it an hour ago or more."""
        choices, began_at = self.choices, datetime.now(timezone.utc)
        asked = self._not_left(self.missing())
        mine = of_part(asked, choices.part)
        origin = YoutubeOrigin(where, choices.youtube, self._media)
        units = origin.units(mine, self._media, choices.retry, self.workers)
        note = origin.announcement(units) if units else ""
        yield Stage(origin.name, tuple(units), len(_clips_in(units)), origin.do, note=note)
        self._media = self._read_media()
        again = YoutubeOrigin(where, choices.youtube, self._media)
        units = again.units_to_confirm(of_part(self.missing(), choices.part), self._media, began_at, self.workers)
        if units:
            yield Stage(again.name, tuple(units), len(_clips_in(units)), again.do)
        others = asked.filter(pc.invert(pc.is_in(asked, mine)))
        if len(others):
            self._left |= _clips_in(again.units(others, self._media, choices.retry, self.workers))

    def _archive_stages(self, base_url: str) -> Iterator[Stage]:
        pending: set[str] = set()  # clips that a set may still hold: no later set is asked for them
        part = self.choices.part
        for archive_set in ARCHIVE_SETS:
            clip_ids = self._hosted(archive_set) - pending
            if not clip_ids:
                continue
            try:
                archives = archive_set.archives(base_url)
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
                continue  # nothing was read: what a set lacks, and a later one is asked for, may be all
            self._media = self._read_media()
            clip_ids, settled = self._hosted(archive_set) - pending, self._settled(self._all_seen())
            there = [url for url in archives if url not in self.refused]
            _, absent = archives_to_read(there, clip_ids, settled)
            pending |= clip_ids - absent
            self._left |= left_to_others([url for url in there if not part.has(url)], clip_ids, settled)

    def _hosted(self, archive_set: ArchiveSet) -> frozenset[str]:
        """The clips that a set of archives is still to be asked for."""
        clips = self.manifest.clips
        hosted = clips["clip_id"].filter(archive_set.hosts(clips)).combine_chunks()
        missing = self.missing()
        asked = missing.filter(pc.is_in(missing, hosted))
        return frozenset(self._to_do(archive_set.origin, asked).to_pylist())

    def _to_do(self, origin: str, clip_ids: pa.Array) -> pa.Array:
        """Those of `clip_ids` that an origin is still to be asked for, and that are not left to other parts."""
        return self._not_left(to_do(clip_ids, self._media, origin, self.choices.retry))

    def _not_left(self, clip_ids: pa.Array) -> pa.Array:
        if not self._left:
            return clip_ids
        return clip_ids.filter(pc.invert(pc.is_in(clip_ids, pa.array(sorted(self._left), pa.string()))))

    def _settled(self, seen: dict[str, SeenArchive]) -> dict[str, SeenArchive]:
        """The archives that need not be read again, for whatever profile. Damaged ones count until a retry of
        `corrupt`, or until the server has another version of them."""
        return {url: found for url, found in seen.items() if found.settled and not self._is_worth(found)}

    def _is_worth(self, found: SeenArchive) -> bool:
        """Whether an archive whose damage is settled is worth another reading."""
        if not found.damaged:
            return False
        if "corrupt" in self.choices.retry:
            return True
        if found.url not in self._replaced:
            self._replaced[found.url] = is_replaced(found)
        return self._replaced[found.url]

    def _all_seen(self) -> dict[str, SeenArchive]:
        folders = profiles_in(self.store.root)
        return seen_archives(file for folder in folders for file in Store(self.store.root, folder).unit_files())

    def _read_media(self) -> pa.Table:
        media = self.store.rows(("clip_id", "failure", "origin", "settled_at"))
        if media["failure"].null_count == len(media):
            return media
        if self._doubtful is None:
            self._doubtful = pa.array(sorted(doubtful_units(self.store.unit_files())), pa.string())
        doubtful = pc.and_(pc.is_valid(media["failure"]), pc.is_in(media["unit"], self._doubtful))
        return media.filter(pc.invert(doubtful))


def _clips_in(units: list[VideoUnit]) -> set[str]:
    return {str(clip) for unit in units for video in unit.videos for clip in video.clips}
