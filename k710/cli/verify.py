"""`k710 verify`: is the store as its rows say?"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from k710.cli.common import ENGINE, FOLDER_OR_URL, RAY_ADDRESS, SCRATCH, engine_of, print_json, steps
from k710.storage.storage import Location
from k710.store.profile_names import DEFAULT_PROFILE
from k710.text import counted, printable

if TYPE_CHECKING:
    from k710.maintenance.verify import UnitReport


@click.command("verify")
@click.argument("manifest", type=FOLDER_OR_URL)
@click.option("--store", type=FOLDER_OR_URL, help="Place of the media.  [MANIFEST/store]")
@click.option("--decode", is_flag=True, help="Decode every frame of every clip too.")
@click.option("--repair", "mend", is_flag=True, help="Write damaged units anew from what is intact.")
@SCRATCH
@click.option("--workers", type=click.IntRange(1), metavar="N", help="At a time.  [one per core]")
@ENGINE
@RAY_ADDRESS
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def command(
    manifest: Location,
    store: Location | None,
    decode: bool,
    mend: bool,
    scratch: Path | None,
    workers: int | None,
    engine: str,
    ray_address: str | None,
    as_json: bool,
) -> None:
    """Check a manifest and its store, clip by clip.

    Compares the manifest's files and rows with its hashes, and looks at every clip's ID. Then compares every clip's
    bytes with the hash in its media row, and every tar with the hash in its name. Damage ends with exit code 1; with
    --repair the damaged clips of the store are wanted again, and the next fetch brings them.

    \b
    Example:
      k710 verify manifests/k710 --decode
    """
    from k710.cli.fetch import store_of
    from k710.cli.manifests import open_manifest
    from k710.errors import StoreError
    from k710.maintenance.verify import orphan_tars, repair, verify
    from k710.store.store import Store, fetch_command, profiles_in

    chosen = engine_of(engine, ray_address, workers=workers)
    opened = open_manifest(manifest)
    opened.verify()
    root = store_of(opened.path, store)  # a mistyped name is no empty store
    profiles = list(profiles_in(root))
    if not profiles:
        raise StoreError(
            f"{root}: no store there; `{fetch_command(opened.path, Store(root, DEFAULT_PROFILE))}` makes one"
        )
    damaged, found = 0, []
    step = steps()
    for profile in profiles:
        of_profile = Store(root, profile)
        step(f"reading the clips of profile {profile}" + (", and decoding them" if decode else ""))
        reports = verify(
            of_profile, decode=decode, scratch=scratch, workers=workers or os.cpu_count() or 1, engine=chosen
        )
        step.end()
        broken = [report for report in reports if not report.is_whole]
        readable = not any(report.unreadable for report in reports)
        orphans = orphan_tars(of_profile) if readable else []
        if as_json:
            found.append(_facts(profile, reports, orphans))
        else:
            _print_reports(profile, reports, orphans)
        if mend and (broken or orphans):
            lost, recovered = repair(of_profile, reports, scratch=scratch)
            if as_json:
                found[-1] |= {"wanted_again": lost, "recovered": recovered}
            else:
                _print_repair(broken, lost, recovered)
        elif broken:
            damaged += len(broken)
    if as_json:
        print_json(found)
    if damaged:
        raise StoreError(
            f"{counted(damaged, 'unit is', 'units are')} damaged; --repair writes them anew from what is intact"
        )
    if not as_json:
        click.echo("Everything is as the rows say.")


def _facts(profile: str, reports: list[UnitReport], orphans: list[Location]) -> dict[str, Any]:
    damaged = [
        {"unit": report.file.name, "unreadable": report.unreadable, "clips": report.clips, "tars": report.tars}
        for report in reports
        if not report.is_whole
    ]
    return {
        "profile": profile,
        "clips": sum(report.num_clips for report in reports),
        "units": len(reports),
        "bytes": sum(report.size_bytes for report in reports),
        "damaged": damaged,
        "orphans": [path.name for path in orphans],
    }


def _print_reports(profile: str, reports: list[UnitReport], orphans: list[Location]) -> None:
    clips, size = sum(report.num_clips for report in reports), sum(report.size_bytes for report in reports)
    click.echo(f"{profile}: {counted(clips, 'clip')} in {counted(len(reports), 'unit')}, {size / 1e6:,.1f} MB")
    for report in reports:
        _print_damage(report)
    for path in orphans:
        click.echo(printable(f"  {path.name}: no row names it; an interrupted run left it"))


def _print_damage(report: UnitReport) -> None:
    if report.unreadable:
        click.echo(printable(f"  {report.file.name}: {report.unreadable}"))
    for name, reason in [*report.clips.items(), *report.tars.items()]:
        click.echo(printable(f"  {report.file.name}: {name}: {reason}"))


def _print_repair(broken: list[UnitReport], lost: int, recovered: int) -> None:
    gone = any(report.unreadable is not None for report in broken)
    whole = ", and what else units held whose rows cannot be read" if gone else ""
    click.echo(f"  repaired {counted(len(broken), 'unit')}; wanted again: {counted(lost, 'clip')}{whole}")
    if recovered:
        taken = counted(recovered, "clip of such units was", "clips of such units were")
        click.echo(f"  {taken} taken from their tars; from which files is lost")
