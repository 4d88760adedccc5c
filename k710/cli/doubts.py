"""`k710 doubts`: clips whose label something contradicts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from k710.cli.common import ANY_PATH, FILE, PATH_OR_URL, print_json, print_table
from k710.storage.storage import Location
from k710.text import counted

if TYPE_CHECKING:
    from k710.doubts.find import Doubts
    from k710.manifest.read import Manifest


@click.command("doubts")
@click.argument("manifest", type=PATH_OR_URL)
@click.option(
    "--predictions", multiple=True, type=ANY_PATH, metavar="RUN", help="An evaluation of k710 on its clips; may repeat."
)
@click.option("--csv", "csv_file", type=FILE, help="Write every doubtful clip to this CSV file, for review.")
@click.option(
    "--apply", "review", type=FILE, help="Leave out the train clips that this reviewed CSV file drops; see --csv."
)
@click.option("--top", type=click.IntRange(1), default=20, show_default=True, help="Largest number of rows.")
@click.option("--json", "as_json", is_flag=True, help="Print every doubtful clip as JSON.")
def command(
    manifest: Location,
    predictions: tuple[Path, ...],
    csv_file: Path | None,
    review: Path | None,
    top: int,
    as_json: bool,
) -> None:
    """List clips whose label is contradicted.

    Contradicted by a model (confident learning, with --predictions), by another list, or by a clip with the same
    footage. Nothing is changed without --apply: write --csv, put drop into the column verdict, and apply the file.

    \b
    Examples:
      k710 doubts manifests/k710 --csv review.csv
      k710 doubts manifests/k710 --apply review.csv
    """
    from k710.cli.manifests import open_manifest
    from k710.doubts.find import find_doubts
    from k710.doubts.write import write_review
    from k710.evaluation.files import read_predictions
    from k710.storage.result_files import check_place

    opened = open_manifest(manifest)
    if review is not None:
        if csv_file is not None or predictions or as_json:
            raise click.UsageError("--apply takes a reviewed file; it goes with no other option")
        _apply(opened, review)
        return
    if csv_file is not None:
        check_place(csv_file, [opened.path])
    doubts = find_doubts(opened, [(path, read_predictions(path)) for path in predictions])
    if csv_file is not None:
        write_review(csv_file, doubts)
    for note in doubts.notes:
        click.echo(f"note: {note}", err=True)
    if as_json:
        _print_json(doubts)
        return
    _print(doubts, top)
    if csv_file is not None:
        click.echo(f"{csv_file}: {counted(len(doubts.found), 'clip')}")


def _apply(manifest: Manifest, review: Path) -> None:
    from k710.doubts.apply import apply_review

    changed, num_dropped = apply_review(manifest, review)
    dropped = counted(num_dropped, "clip is", "clips are")
    if changed is None:
        click.echo(f"Nothing to apply: the {dropped} out of train already." if num_dropped else "No verdict is drop.")
        return
    click.echo(
        f"Applied: {dropped} out of train. {changed.path} has content hash {changed.content_hash[:16]}. The version "
        f"before stays until `k710 prune {changed.path}`."
    )


def _print_json(doubts: Doubts) -> None:
    import dataclasses

    rows = [{**dataclasses.asdict(one), "kinds": one.kinds, "suggested": one.suggested} for one in doubts.found]
    print_json({"labelled": doubts.num_labelled, "counts": doubts.counts, "notes": doubts.notes, "clips": rows})


def _print(doubts: Doubts, top: int) -> None:
    rows = [
        (
            doubt.clip_id,
            doubt.split or "-",
            doubt.label,
            ", ".join(doubt.suggested),
            ", ".join(doubt.kinds),
            f"{doubt.margin:+.2f}" if doubt.margin else "",
        )
        for doubt in doubts.found[:top]
    ]
    if rows:
        print_table(["clip", "split", "label", "contradicted by", "who", "margin"], rows)
    if len(doubts.found) > top:
        click.echo(f"and {len(doubts.found) - top:,} more (--csv FILE writes all)\n")
    by_kind = ", ".join(f"{count:,} by a {kind}" for kind, count in doubts.counts.items() if count)
    click.echo(
        f"The label of {len(doubts.found):,} of {counted(doubts.num_labelled, 'labelled clip')} is contradicted"
        + (f": {by_kind}." if by_kind else ".")
    )
