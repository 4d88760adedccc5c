"""`k710 report`: a manifest, its media and its runs as one page."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from k710.cli.common import FILE, FOLDER_OR_URL, steps
from k710.cli.figure_options import figure_options
from k710.storage.storage import Location
from k710.text import data_size


@click.command("report")
@click.argument("manifest", type=FOLDER_OR_URL)
@figure_options
@click.option("--gallery", type=click.IntRange(0), metavar="N", help="Clips per class; 0 for no pictures.")
@click.option("--out", type=FILE, default=Path("report.html"), show_default=True, help="The HTML file to write.")
def command(
    manifest: Location,
    store: Location | None,
    profile: str | None,
    runs: tuple[Path, ...],
    ledger: Path | None,
    predictions: tuple[Path, ...],
    gallery: int | None,
    out: Path,
) -> None:
    """Write a manifest's report: one HTML file.

    Shows the fates of the rows, overlaps and leaks, conflicts, classes, media, near-duplicates, clips as filmstrips,
    and training runs. The file needs no network and no other file.

    \b
    Example:
      k710 report manifests/k710 --out k710.html
    """
    step = steps()
    step("reading the manifest")
    from k710.cli.manifests import open_manifest
    from k710.report.write import write_report

    size_bytes = write_report(
        open_manifest(manifest),
        out,
        store=store,
        profile=profile,
        runs=runs,
        ledger=ledger,
        predictions=predictions,
        per_class=gallery,
        on_progress=partial(step, "reading clips for pictures"),
        on_step=step,
    )
    step.end()
    click.echo(f"{out}: {data_size(size_bytes)}")
