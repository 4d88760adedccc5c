"""Check every tar of a store against its media rows, and repair damaged units."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any

from k710.engine.engine import OpenEngine, Stop, local_engine
from k710.errors import StoreError
from k710.fetch.encode.jobs import CheckJob, ClipPool, clip_pool
from k710.fetch.scratch import scratch_folder
from k710.fetch.store_unit import StoreUnit, sha8
from k710.maintenance.recover import recover, tar_here
from k710.storage.remote import RemotePath
from k710.storage.storage import Location
from k710.store.store import NewerStoreError, Store, read_unit, seen_by_all

# A tar at a URL without a row that is younger may belong to a run on another machine, which no lock here knows of.
ORPHAN_AGE_S = 86400.0


@dataclass
class UnitReport:
    """What is wrong with a unit: clips by id, and tars that are altered around their clips."""

    file: Location
    num_clips: int = 0
    size_bytes: int = 0
    unreadable: str | None = None
    clips: dict[str, str] = field(default_factory=dict)
    tars: dict[str, str] = field(default_factory=dict)

    @property
    def is_whole(self) -> bool:
        return self.unreadable is None and not self.clips and not self.tars


@dataclass(frozen=True)
class Checkers:
    """What the units share on a machine: processes that decode, if clips are decoded, and a scratch folder, if
    one is needed."""

    pool: ClipPool | None = None
    scratch: Path | None = None


def verify(
    store: Store,
    *,
    decode: bool = False,
    scratch: Path | None = None,
    workers: int = 1,
    stop: Stop | None = None,
    engine: OpenEngine = local_engine,
) -> list[UnitReport]:
    """Compare every clip's bytes and every tar with what the media rows say, `workers` units at a time; with `decode`
    every frame of every clip is decoded too.

    `scratch` is where a store at a URL has its scratch folders; its tars pass through there. `engine`: `local_engine`,
    or another of its form. Raises OSError or RemoteError where a file is there and cannot be read.
    """
    if isinstance(store.root, Path):
        store = Store(store.root.absolute(), store.profile_folder)  # another machine has another current folder
    scratch = scratch and scratch.absolute()
    files = store.unit_files(refresh=True)
    reports: dict[int, UnitReport] = {}
    opens = partial(_open_checkers, root=store.root, decode=decode, scratch=scratch)
    with engine(
        opens, workers=workers, stop=stop or Stop(), shared=seen_by_all(store), parallel=_one_a_process
    ) as opened:
        opened.run_units(files, partial(_check_unit, store=store), on_result=reports.__setitem__)
    return [reports[number] for number in sorted(reports)]


def _one_a_process(workers: int) -> int:
    return workers


@contextmanager
def _open_checkers(
    stop: Stop, workers: int, *, root: Location, decode: bool, scratch: Path | None
) -> Iterator[Checkers]:
    with ExitStack() as stack:
        pool = stack.enter_context(clip_pool(workers)) if decode else None
        needed = decode or isinstance(root, RemotePath)
        folder = stack.enter_context(scratch_folder(root, scratch=scratch)) if needed else None
        try:
            yield Checkers(pool, folder)
        except BaseException:
            if pool is not None:
                pool.kill()
            raise


def orphan_tars(store: Store) -> list[Location]:
    """Tars that no media row names: an interrupted run left them, or their media file is gone. At a URL, those of the
    last day are not counted."""
    # Listed before the rows, so that what is committed now is none.
    found: list[Location] = [*store.tars_folder.glob("*.tar")]
    named = set(store.rows(("tar",))["tar"].to_pylist())
    return sorted((path for path in found if path.name not in named and _is_settled(path)), key=str)


def _is_settled(tar: Location) -> bool:
    return isinstance(tar, Path) or (tar.age_s or 0.0) > ORPHAN_AGE_S


def repair(store: Store, reports: list[UnitReport], *, scratch: Path | None = None) -> tuple[int, int]:
    """Write each damaged unit anew from its intact clips and remove the old one; returns how many clips are known to be
    lost, and how many were recovered of units whose rows cannot be read.

    Lost clips are wanted again: the next fetch brings them. Killed at any moment, this loses no intact clip: a new unit
    is committed before its old one goes. Orphaned tars are removed. Raises StoreError while a fetch is at work (at a
    URL: on this machine). `scratch` is where a store at a URL has its scratch folders.
    """
    lost = recovered = 0
    if isinstance(store.root, RemotePath):
        store.root.check_writable()
    with scratch_folder(store.root, alone=True, scratch=scratch) as folder:
        # Those first: the others ask what all rows name.
        for report in sorted(reports, key=lambda report: report.unreadable is None):
            if report.unreadable is not None:
                recovered += recover(store, report.file, folder)
            elif not report.is_whole:
                lost += len(report.clips)
                _rewrite(store, report, folder)
        for path in orphan_tars(store):
            path.unlink()
    return lost, recovered


def _check_unit(
    file: Location, shared: Checkers, report_progress: Callable[[Any], None], *, store: Store
) -> UnitReport:
    report = UnitReport(file)
    try:
        rows = [row for row in read_unit(file)[0].to_pylist() if row["failure"] is None]
        tars = {row["tar"]: store.tar(row["tar"]) for row in rows}
    except NewerStoreError:
        raise
    except StoreError as error:
        report.unreadable = str(error)
        return report
    report.num_clips, report.size_bytes = len(rows), sum(row["size"] for row in rows)
    for tar in sorted(tars):
        of_tar = [row for row in rows if row["tar"] == tar]
        with tar_here(tars[tar], shared.scratch) as path:
            if path is None:
                report.clips |= {row["clip_id"]: f"{tar} is gone" for row in of_tar}
                continue
            with path.open("rb") as opened:
                for row in of_tar:
                    if problem := _problem(opened, row, shared):
                        report.clips[row["clip_id"]] = problem
            if (found := sha8(path)) != tar.rpartition("-")[2].removesuffix(".tar"):
                report.tars[tar] = f"its SHA-256 begins with {found}"
    return report


def _problem(tar: IO[bytes], row: dict[str, Any], shared: Checkers) -> str | None:
    media = read_media(tar, row)
    if hashlib.sha256(media).hexdigest() != row["sha256"]:
        return "cut off" if len(media) < row["size"] else "its bytes have changed"
    if shared.pool is None:
        return None
    with tempfile.NamedTemporaryFile(dir=shared.scratch) as file:
        file.write(media)
        file.flush()
        made = shared.pool.submit(CheckJob(row["clip_id"], Path(file.name))).result()
    if made.measured is None:
        return f"{made.failure}: {made.message}"
    promised = len(row["frame_offsets"]) if row["frame_offsets"] else row["num_frames"]
    if made.measured.num_frames != promised:
        return f"{made.measured.num_frames} frames decode, {promised} are promised"
    return None


def read_media(tar: IO[bytes], row: dict[str, Any]) -> bytes:
    """A clip's bytes by its row; fewer where the tar ends early."""
    tar.seek(row["offset"])
    return tar.read(row["size"])


def _rewrite(store: Store, report: UnitReport, scratch: Path) -> None:
    table, metadata = read_unit(report.file)
    old_tars = set(table["tar"].drop_null().to_pylist())
    unit = StoreUnit(store, metadata["unit"], scratch)
    try:
        for row in table.to_pylist():
            if row["clip_id"] in report.clips:
                continue
            media = None
            if row["failure"] is None:
                media = _read_clip(store.tar(row["tar"]), row)
            unit.carry(row, media)
        name = unit.commit(metadata)
    except BaseException:
        unit.abandon()
        raise
    if name != report.file.stem:
        report.file.unlink()
    still_named = set(store.rows(("tar",))["tar"].to_pylist())
    for tar in old_tars - still_named:
        store.tar(tar).unlink(missing_ok=True)


def _read_clip(tar: Location, row: dict[str, Any]) -> bytes:
    if isinstance(tar, RemotePath):
        return tar.read_range(row["offset"], row["size"])
    with tar.open("rb") as opened:
        return read_media(opened, row)
