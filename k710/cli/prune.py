"""`k710 prune`: remove earlier versions of a manifest."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("prune")
@click.argument("manifest", type=click.Path(path_type=Path))
def command(manifest: Path) -> None:
    """Remove old versions of a manifest.

    And what interrupted builds left; the current version stays.

    \b
    Example:
      k710 prune manifests/k710
    """
    from k710.manifest import prune

    removed = prune(manifest)
    for path in removed:
        click.echo(f"removed {path}")
    if not removed:
        click.echo(f"{manifest}: nothing to remove")
