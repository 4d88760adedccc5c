"""`k710 status`: how much of a manifest is there."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from k710.cli.common import FOLDER_OR_URL, print_json, print_table
from k710.storage.storage import Location
from k710.store.profile_names import DEFAULT_PROFILE

if TYPE_CHECKING:
    from k710.fetch.failed import Failed
    from k710.manifest.read import Manifest

_WIDEST = 100  # of a message in a table; CSV and JSON have all of it


@click.command("status")
@click.argument("manifest", type=FOLDER_OR_URL)
@click.option("--store", type=FOLDER_OR_URL, help="Place of the media.  [MANIFEST/store]")
@click.option("--failed", is_flag=True, help="Which clips failed: by name, with reason and origin.")
@click.option("--from", "origin", metavar="local:DIR", help="With --failed: the files of a folder that are left, too.")
@click.option("--csv", "as_csv", is_flag=True, help="With --failed: as CSV.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def command(
    manifest: Location, store: Location | None, failed: bool, origin: str | None, as_csv: bool, as_json: bool
) -> None:
    """Show which clips the store has.

    By profile, view and split: clips fetched, failed by class, and not settled yet.

    \b
    Examples:
      k710 status manifests/k710
      k710 status manifests/k710 --failed --csv
    """
    from k710.cli.fetch import print_status, store_of
    from k710.cli.manifests import open_manifest
    from k710.errors import StoreError, UsageError
    from k710.maintenance.status import status
    from k710.store.store import Store, fetch_command, profiles_in

    if not failed and (origin is not None or as_csv):
        raise UsageError("--from and --csv go with --failed")
    if as_csv and as_json:
        raise UsageError("--csv and --json exclude each other")
    folder = None if origin is None else _local_folder(origin)
    opened = open_manifest(manifest)
    root = store_of(opened.path, store)
    profiles = list(profiles_in(root))
    if not profiles and folder is None:
        raise StoreError(
            f"{root}: no store there; `{fetch_command(opened.path, Store(root, DEFAULT_PROFILE))}` makes one"
        )
    if failed:
        _print_failed(_failed(opened, [Store(root, profile) for profile in profiles], folder), as_csv, as_json)
        return
    if as_json:
        found = {profile: [vars(line) for line in status(opened, Store(root, profile))] for profile in profiles}
        print_json(found)
        return
    for profile in profiles:
        print_status(opened, root, profile)


def _local_folder(origin: str) -> Path:
    from k710.errors import FetchError, UsageError

    kind, _, where = origin.partition(":")
    if kind != "local" or not where:
        raise UsageError(f"--from {origin!r}: want local:DIR; of other origins there are no files to list")
    if not Path(where).is_dir():
        raise FetchError(f"{origin}: no such folder")
    return Path(where)


def _failed(manifest: Manifest, stores: list, folder: Path | None) -> list[Failed]:  # type: ignore[type-arg]
    from k710.fetch.failed import failed_clips, left_files

    found = [each for store in stores for each in failed_clips(manifest, store)]
    return found + ([] if folder is None else left_files(manifest, folder))


def _print_failed(found: list[Failed], as_csv: bool, as_json: bool) -> None:
    columns = ("name", "reason", "origin", "file", "message", "profile")
    if as_json:
        print_json([{column: getattr(each, column) for column in columns} for each in found])
    elif as_csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([getattr(each, column) for column in columns] for each in found)
    elif not found:
        click.echo("Nothing failed.")
    else:
        rows = [[_shown(getattr(each, column)) for column in columns] for each in found]
        print_table(columns, rows)


def _shown(text: str) -> str:
    """One line that steers no terminal: file names hold anything."""
    plain = "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)
    return plain if len(plain) <= _WIDEST else f"{plain[: _WIDEST - 1]}…"
