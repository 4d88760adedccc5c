"""`k710 stats`: the figures of a report, on a terminal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from k710.cli.common import FOLDER_OR_URL, print_json, print_table, steps
from k710.cli.figure_options import figure_options
from k710.storage.storage import Location

if TYPE_CHECKING:
    from k710.report.parts import Cell, Section, Table

SHOWN_ROWS = 30
SHOWN_NAMES = 6  # in a cell that lists clips


@click.command("stats")
@click.argument("manifest", type=FOLDER_OR_URL)
@figure_options
@click.option("--json", "as_json", is_flag=True, help="Print every figure as JSON.")
def command(
    manifest: Location,
    store: Location | None,
    profile: str | None,
    runs: tuple[Path, ...],
    ledger: Path | None,
    predictions: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Print a manifest's figures.

    Attrition, overlaps, leaks, conflicts, classes, media, near-duplicates and runs: the figures of `k710 report`.

    \b
    Example:
      k710 stats manifests/k710
    """
    step = steps()
    step("reading the manifest")
    import dataclasses

    from k710.cli.manifests import open_manifest
    from k710.report.figures.gather import find_store, gather
    from k710.report.sections import sections

    opened = open_manifest(manifest)
    figures = gather(
        opened,
        store=find_store(opened, store, profile),
        runs=runs,
        ledger=ledger,
        predictions=predictions,
        on_step=step,
    )
    step.end()
    if as_json:
        print_json(dataclasses.asdict(figures))
        return
    for section in sections(figures, draw=False):
        _print(section)


def _print(section: Section) -> None:
    from k710.report.parts import Table, Tiles

    click.echo(f"{section.title}\n{'=' * len(section.title)}\n")
    for block in section.blocks:
        if isinstance(block, str):
            click.echo(f"{block}\n")
        elif isinstance(block, Tiles):
            click.echo(", ".join(f"{number} {what}" for number, what in block.tiles) + "\n")
        elif isinstance(block, Table):
            _print_bounded(block)


def _print_bounded(table: Table) -> None:
    """Print the first rows of a table; --json has all of them."""
    from k710.report.parts import Link

    def shown(cell: Cell) -> str | list[str] | int | None:
        text = cell.text if isinstance(cell, Link) else cell
        # Messages of decoders and names in lists may hold control characters.
        return _narrow("".join(c if c.isprintable() else "\ufffd" for c in text)) if isinstance(text, str) else text

    rows = [[shown(cell) for cell in row] for row in table.rows[:SHOWN_ROWS]]
    more = table.more + len(table.rows) - len(rows)
    print_table(table.columns, rows, title=table.title)
    if more:
        click.echo(f"and {more:,} more" + ("" if table.more else "; --json has all") + "\n")
    if table.note:
        click.echo(f"{table.note}\n")


def _narrow(text: str) -> str | list[str]:
    """A list of names with one name per line, because a group of near-duplicates would be wider than a terminal."""
    names = text.split(", ")
    if len(names) == 1 or any(" " in name or len(name) < 11 for name in names):
        return text
    more = [f"and {len(names) - SHOWN_NAMES:,} more"] if len(names) > SHOWN_NAMES else []
    return [*names[:SHOWN_NAMES], *more]
