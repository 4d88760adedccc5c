"""`k710 export`: list files for other trainers."""

from __future__ import annotations

from pathlib import Path

import click

from k710.cli.common import COMMA_LIST, FOLDER, PATH_OR_URL
from k710.storage import Location


@click.command("export")
@click.argument("manifest", type=PATH_OR_URL)
@click.option("--format", "form", required=True, help="csv, slowfast, videomae, mmaction2 or parquet.")
@click.option("--out", type=FOLDER, required=True, help="Folder for the files, one per split.")
@click.option("--view", "view_name", default="k710", show_default=True, help="k710, or a release as published.")
@click.option("--splits", type=COMMA_LIST, help="Default: every split that the view has.")
@click.option(
    "--dialect", default="canonical", show_default=True, help="Index order: canonical, uniformerv2, videomaev2."
)
@click.option(
    "--template", default="{clip_id}.mp4", show_default=True, help="Path of a clip's file; see docs/export.md."
)
@click.option("--separator", default=" ", help="Between path and class index; UniFormerV2's configs want a comma.")
@click.option("--force", is_flag=True, help="Replace files that exist.")
def command(
    manifest: Location,
    form: str,
    out: Path,
    view_name: str,
    splits: tuple[str, ...] | None,
    dialect: str,
    template: str,
    separator: str,
    force: bool,
) -> None:
    """Write list files for other trainers.

    One file per split of a view, with class indices in the dialect you name.

    \b
    Example:
      k710 export manifests/sample --format slowfast --view k400 --out lists/k400
    """
    from k710.export import export
    from k710.manifest import open_manifest
    from k710.releases import check_splits
    from k710.views import view

    table = view(open_manifest(manifest).clips, view_name, dialect=dialect)
    chosen = check_splits(splits) if splits else ()
    written = export(table, out, form=form, template=template, separator=separator, splits=chosen, force=force)
    for name, rows in written.items():
        click.echo(f"{out / name}: {rows:,} clips")
