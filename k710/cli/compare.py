"""`k710 compare`: evaluations on the clips of all of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from k710.cli.common import ANY_PATH, FILE, PATH_OR_URL, SPLIT, VIEW, print_json, print_table
from k710.storage.storage import Location
from k710.text import counted

if TYPE_CHECKING:
    from k710.compare.compare import Comparison
    from k710.report.parts import Table


@click.command("compare")
@click.argument("runs", type=ANY_PATH, nargs=-1, required=True, metavar="RUN RUN…")
@click.option("--view", type=VIEW, help="Whose classes, where no evaluation of k710 tells it.")
@click.option("--split", type=SPLIT, help="Of which clips, where none tells it.  [val, with --manifest]")
@click.option("--manifest", type=PATH_OR_URL, help="The whole list and its labels, for the bounds.")
@click.option("--in-list", type=click.IntRange(min=1), help="Clips of the whole list, where there is no manifest.")
@click.option(
    "--dialect",
    "dialects",
    multiple=True,
    metavar="D|RUN=D",
    help="Index order of a CSV's classes; of one RUN's or all.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the resampling.")
@click.option(
    "--resamples", type=click.IntRange(100, 1_000_000), default=10_000, show_default=True, help="For the intervals."
)
@click.option("--html", type=FILE, help="Write the comparison to this HTML file.")
@click.option("--top", type=click.IntRange(1), default=10, show_default=True, help="Largest number of rows per table.")
@click.option("--json", "as_json", is_flag=True, help="Print every number as JSON.")
def command(
    runs: tuple[Path, ...],
    view: str | None,
    split: str | None,
    manifest: Location | None,
    in_list: int | None,
    dialects: tuple[str, ...],
    seed: int,
    resamples: int,
    html: Path | None,
    top: int,
    as_json: bool,
) -> None:
    """Compare evaluations on their common clips.

    A RUN is the folder of `k710 eval --out`, its predictions.parquet, or a CSV with the columns clip, prediction and,
    if wanted, label. The first is compared with each other one, paired: McNemar's exact test, intervals, classes, and
    with --manifest or --in-list what the missing clips could change.

    \b
    Example:
      k710 compare mine.csv theirs.csv --view k400 --in-list 20000
    """
    from k710.compare.answers import read_answers
    from k710.compare.common import bring_together
    from k710.compare.compare import compare
    from k710.manifest.read import open_manifest

    opened = open_manifest(manifest) if manifest is not None else None
    if html is not None and opened is not None:
        from k710.storage.result_files import check_place

        check_place(html, [opened.path])
    table = bring_together(
        [read_answers(path) for path in runs],
        view_name=view,
        split=split,
        manifest=opened,
        num_in_list=in_list,
        dialects=_by_run(dialects, runs),
    )
    found = compare(table, seed=seed, resamples=resamples)
    if html is not None:
        from k710.report.compare_page import compare_page
        from k710.storage.result_files import write_text

        write_text(html, compare_page(found))
    if as_json:
        print_json(_plain(found))
        return
    _print(found, top)
    if html is not None:
        click.echo(f"{html}: the page")


def _by_run(dialects: tuple[str, ...], runs: tuple[Path, ...]) -> dict[str, str]:
    """`D` for all runs (under ""), `RUN=D` for one. Raises UsageError for a RUN that is none."""
    from k710.errors import UsageError

    found = {}
    for given in dialects:
        name, _, dialect = given.rpartition("=")
        if name and Path(name) not in runs:
            raise UsageError(f"--dialect {given}: {name} is no RUN of this comparison")
        found[str(Path(name)) if name else ""] = dialect
    return found


def _plain(found: Comparison) -> dict[str, Any]:
    import dataclasses

    data = dataclasses.asdict(found)
    for row, pair in zip(data["classes"], found.classes, strict=True):
        row["difference"] = pair.difference
    for row in (*data["sides"], *data["pairs"], *data["classes"]):
        row.update({key: str(value) for key, value in row.items() if isinstance(value, Path)})
    return data


def _print(found: Comparison, top: int) -> None:
    from k710.report.compare_page import class_tables, pairs_table, reading, sides_table

    for note in found.notes:
        click.echo(f"note: {note}", err=True)
    for table in (sides_table(found), pairs_table(found)):
        _print_one(table)
    for table in class_tables(found):
        _print_one(table, top)
    for sentence in reading(found):
        click.echo(sentence)


def _print_one(table: Table, top: int | None = None) -> None:
    print_table(table.columns, table.rows[:top], title=table.title)
    if top is not None and len(table.rows) > top:
        click.echo(f"and {counted(len(table.rows) - top, 'class', 'classes')} more (--json has all)\n")
