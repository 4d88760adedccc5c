"""Is what the store says true? Every tar against its media rows, and how damaged units are made whole again."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from k710.errors import StoreError
from k710.fetch.clip_pool import ClipPool
from k710.fetch.jobs import CheckJob
from k710.fetch.scratch import scratch_folder
from k710.fetch.store_unit import StoreUnit, sha8
from k710.store import NewerStoreError, Store, read_unit


@dataclass
class UnitReport:
    """What is wrong with a unit: clips by id, and tars that are altered around their clips."""

    file: Path
    num_clips: int = 0
    size_bytes: int = 0
    unreadable: str | None = None
    clips: dict[str, str] = field(default_factory=dict)
    tars: dict[str, str] = field(default_factory=dict)

    @property
    def is_whole(self) -> bool:
        return self.unreadable is None and not self.clips and not self.tars


def verify(
    store: Store,
    *,
    pool: ClipPool | None = None,
    scratch: Path | None = None,
    workers: int = 1,
    told: Callable[[UnitReport], None] = lambda report: None,
) -> list[UnitReport]:
    """Compare every clip's bytes and every tar with what the media rows say, unit by unit.

    With a `pool` (and a `scratch` folder) every frame of every clip is decoded too. Raises OSError where a file is
    there and cannot be read.
    """

    def check(file: Path) -> UnitReport:
        report = _check_unit(store, file, pool, scratch)
        told(report)
        return report

    with ThreadPoolExecutor(workers) as threads:
        return list(threads.map(check, store.unit_files()))


def orphan_tars(store: Store) -> list[Path]:
    """Tars that no media row names: an interrupted run left them, or their media file is gone."""
    found = sorted(store.tars_folder.glob("*.tar"))  # before the rows, so that what is committed now is none
    named = set(store.rows(("tar",))["tar"].to_pylist())
    return [path for path in found if path.name not in named]


def repair(store: Store, reports: list[UnitReport]) -> int:
    """Write each damaged unit anew from its intact clips and remove the old one; returns how many clips are lost.

    Lost clips are wanted again, as are those of a unit whose rows cannot be read, which nothing counts: the next fetch
    brings them. Killed at any moment, this loses no intact clip: a new
    unit is committed before its old one goes. Orphaned tars are removed. Raises StoreError while a fetch is at work.
    """
    lost = 0
    with scratch_folder(store.root, alone=True) as scratch:
        for report in reports:
            if report.unreadable is not None:
                report.file.unlink()
            elif not report.is_whole:
                lost += len(report.clips)
                _rewrite(store, report, scratch)
        for path in orphan_tars(store):
            path.unlink()
    return lost


def _check_unit(store: Store, file: Path, pool: ClipPool | None, scratch: Path | None) -> UnitReport:
    report = UnitReport(file)
    try:
        rows = [row for row in read_unit(file)[0].to_pylist() if row["failure"] is None]
    except NewerStoreError:
        raise
    except StoreError as error:
        report.unreadable = str(error)
        return report
    report.num_clips, report.size_bytes = len(rows), sum(row["size"] for row in rows)
    for tar in sorted({row["tar"] for row in rows}):
        of_tar = [row for row in rows if row["tar"] == tar]
        path = store.tars_folder / Path(tar).name
        if not path.exists():
            report.clips |= {row["clip_id"]: f"{tar} is gone" for row in of_tar}
            continue
        with path.open("rb") as opened:
            for row in of_tar:
                if problem := _problem(opened, row, pool, scratch):
                    report.clips[row["clip_id"]] = problem
        if (found := sha8(path)) != tar.rpartition("-")[2].removesuffix(".tar"):
            report.tars[tar] = f"its SHA-256 begins with {found}"
    return report


def _problem(tar: IO[bytes], row: dict[str, Any], pool: ClipPool | None, scratch: Path | None) -> str | None:
    media = read_media(tar, row)
    if hashlib.sha256(media).hexdigest() != row["sha256"]:
        return "cut off" if len(media) < row["size"] else "its bytes have changed"
    if pool is None or scratch is None:
        return None
    with tempfile.NamedTemporaryFile(dir=scratch) as file:
        file.write(media)
        file.flush()
        made = pool.submit(CheckJob(row["clip_id"], Path(file.name))).result()
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
                with (store.tars_folder / row["tar"]).open("rb") as tar:
                    media = read_media(tar, row)
            unit.carry(row, media)
        name = unit.commit(metadata)
    except BaseException:
        unit.abandon()
        raise
    if name != report.file.stem:
        report.file.unlink()
    still_named = set(store.rows(("tar",))["tar"].to_pylist())
    for tar in old_tars - still_named:
        (store.tars_folder / tar).unlink(missing_ok=True)
