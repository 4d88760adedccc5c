"""The origin `cvdf`: the public archives, read as they arrive."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from k710.engine.engine import Stop
from k710.errors import DownloadError
from k710.fetch.encode.jobs import Candidate, ClipJob
from k710.fetch.origins.archive_sets import CVDF, ArchiveSet, check_base_url, fingerprint, unit_prefix
from k710.fetch.origins.archive_stream import ArchiveStream, DamagedArchiveError, Member
from k710.fetch.store_unit import is_disk_full
from k710.fetch.unit_work import DISK_FULL, Run, Tally, Work, do_unit
from k710.lists.clip_paths import clip_in_path
from k710.storage.http_reader import RefusedError, ResumingReader, open_url

PIECE_BYTES = 1 << 18
MAX_UNREAD_IN_A_ROW = 3  # then it is the network, not the archive


@dataclass(frozen=True)
class CvdfOrigin:
    """The public archives, at their own address or at a mirror's."""

    base_url: str = CVDF

    def checked(self) -> CvdfOrigin:
        """The origin itself. Raises UsageError for an address that is none of a mirror."""
        check_base_url(self.base_url)
        return self


@dataclass(frozen=True)
class ArchiveUnit:
    """One archive. What is wanted of its set goes with the work, since it may be half a million clips. `readings` are
    the fingerprints of earlier readings that met damage."""

    archive_set: ArchiveSet
    url: str
    readings: frozenset[str] = frozenset()


def stop_without_network(tally: Tally, unread: Collection[str], stop: Stop) -> None:
    """Ask for a stop where archive after archive cannot be read; `unread` are those of the unit that ended last."""
    tally.unread_in_a_row = tally.unread_in_a_row + 1 if unread else 0
    if tally.unread_in_a_row >= MAX_UNREAD_IN_A_ROW:
        stop.ask(f"{MAX_UNREAD_IN_A_ROW} archives in a row could not be read")


class _StopAskedError(Exception):
    """Reading ends because the run does."""


@dataclass
class _Reading:
    """What is seen of an archive while it is read."""

    complete: bool = False
    damage: str | None = None
    earlier: frozenset[str] = frozenset()
    members: set[str] = field(default_factory=set)
    refused: dict[str, int] = field(default_factory=dict)
    reader: ResumingReader | None = None

    def details(self, url: str) -> dict[str, Any]:
        version = self.reader.version if self.reader else None
        about = {
            "url": url,
            "etag": version.etag if version else None,
            "last_modified": version.last_modified if version else None,
            "bytes": version.size_bytes if version else None,
            "damage": self.damage,
            "refused": self.refused,
            "members": sorted(self.members),
        }
        # What a transfer spoilt once may come whole the next time; what two of them spoilt alike lies so on the server.
        confirmed = self.damage is not None and fingerprint(about) in self.earlier
        return {"archive": about | {"complete": self.complete or confirmed, "confirmed": confirmed}}


def do_archive(unit: ArchiveUnit, run: Run, *, wanted: frozenset[str]) -> None:
    """Read an archive to its end, make and settle the `wanted` clips in it. Where the network gives up, the clips that
    came are settled and the archive counts as unread. Damage that was not met before is no verdict: the clips that
    failed are left unsettled, and the next run reads the archive again."""
    reading = _Reading(earlier=unit.readings)
    name = unit_prefix(unit.archive_set, unit.url)
    do_unit(run, name, unit.archive_set.origin, _work(unit, run, reading, wanted), lambda: reading.details(unit.url))
    run.tally.refused_members.update(reading.refused)
    if reading.damage:
        confirmed = reading.details(unit.url)["archive"]["confirmed"]
        (run.tally.damaged_for_good if confirmed else run.tally.damaged)[unit.url] = reading.damage


def _work(unit: ArchiveUnit, run: Run, reading: _Reading, wanted: frozenset[str]) -> Iterator[Work]:
    try:
        with open_url(unit.url) as reading.reader:
            stream = ArchiveStream(Stoppable(reading.reader, run.stop))
            try:
                yield from _wanted_members(stream, unit, run, reading, wanted)
                if not (stream.has_end or reading.reader.says_its_end):
                    raise DamagedArchiveError("ends without the blocks that end a tar, and the server gave no size")
                reading.complete = True
            except DamagedArchiveError as error:
                if stream.num_members:
                    reading.damage = str(error)
                else:  # a portal's page, an error page, nothing: the archive did not come at all
                    reason = f"what the server sent is no archive: {error}"
                    run.tally.unread[unit.url] = run.tally.no_archives[unit.url] = reason
            finally:
                reading.refused = dict(stream.refused)
    except DownloadError as error:
        run.tally.unread[unit.url] = str(error)
        if isinstance(error, RefusedError):
            run.tally.refused[unit.url] = str(error)
    except _StopAskedError:
        pass
    except OSError as error:
        if not is_disk_full(error):
            raise
        run.stop.ask(DISK_FULL)


def _wanted_members(
    stream: ArchiveStream, unit: ArchiveUnit, run: Run, reading: _Reading, wanted: frozenset[str]
) -> Iterator[Work]:
    archive_name = unit.url.rsplit("/", 1)[-1]
    for member in stream:
        clip = clip_in_path(member.name)
        if clip is None or clip.span_s is None or str(clip) in reading.members:
            continue
        stream.found_a_new_clip()
        if str(clip) not in wanted or not run.claim(str(clip), unit.archive_set.origin):
            pass_over(member)
            reading.members.add(str(clip))
        else:
            path = run.new_path()
            spool(member, path)
            reading.members.add(str(clip))  # only now: a damaged archive does not hold the clip in which it breaks off
            candidate = Candidate(path, named_span=True)
            job = ClipJob(str(clip), clip.span_s, (clip.span_s,), (candidate,), run.new_path(), run.profile)
            yield Work(job, (f"{archive_name}#{member.name}",), temporary=(path,))


def spool(member: Member, path: Path) -> None:
    """The member's bytes as a file: ffmpeg needs to go back and forth in it."""
    with path.open("wb") as file:
        shutil.copyfileobj(member.data, file, PIECE_BYTES)


def pass_over(member: Member) -> None:
    while member.data.read(PIECE_BYTES):
        pass


class Stoppable:
    """A stream that ends when the run is asked to."""

    def __init__(self, source: ResumingReader, stop: Stop) -> None:
        self._source, self._stop = source, stop

    def read(self, size: int = -1, /) -> bytes:
        if self._stop.asked:
            raise _StopAskedError
        return self._source.read(size) or b""
