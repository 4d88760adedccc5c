"""`k710 status`: how much of a manifest is there."""

from __future__ import annotations

import click

from k710.cli.common import FOLDER_OR_URL, print_json
from k710.storage import Location


@click.command("status")
@click.argument("manifest", type=FOLDER_OR_URL)
@click.option("--store", type=FOLDER_OR_URL, help="Place of the media.  [MANIFEST/store]")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def command(manifest: Location, store: Location | None, as_json: bool) -> None:
    """Show which clips the store has.

    By profile, view and split: clips fetched, failed by class, and not settled yet.

    \b
    Example:
      k710 status manifests/k710
    """
    from k710.cli.fetch import print_status, store_of
    from k710.errors import StoreError
    from k710.fetch.status import status
    from k710.manifest import open_manifest
    from k710.store import Store, fetch_command, profiles_in

    opened = open_manifest(manifest)
    root = store_of(opened.path, store)
    profiles = list(profiles_in(root))
    if not profiles:
        raise StoreError(f"{root}: no store there; `{fetch_command(opened.path, Store(root, 'h264'))}` makes one")
    if as_json:
        found = {profile: [vars(line) for line in status(opened, Store(root, profile))] for profile in profiles}
        print_json(found)
        return
    for profile in profiles:
        print_status(opened, root, profile)
