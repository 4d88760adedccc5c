"""`k710 prune`: remove earlier versions of a manifest."""

from __future__ import annotations

import click

from k710.cli.common import PATH_OR_URL
from k710.storage.storage import Location


@click.command("prune")
@click.argument("manifest", type=PATH_OR_URL)
def command(manifest: Location) -> None:
    """Remove old versions of a manifest.

    Also removes the temporary files of interrupted builds. The current version stays.

    \b
    Example:
      k710 prune manifests/k710
    """
    from k710.manifest.write import prune

    removed = prune(manifest)
    for path in removed:
        click.echo(f"removed {path}")
    if not removed:
        click.echo(f"{manifest}: nothing to remove")
