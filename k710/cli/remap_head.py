"""`k710 remap-head`: pick the rows of a classification head by class name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from k710.cli.common import ANY_PATH, print_json, print_table
from k710.text import counted

if TYPE_CHECKING:
    from k710.models.heads.remap import Remap


@click.command(name="remap-head")
@click.argument("checkpoints", metavar="CHECKPOINT...", nargs=-1, required=True, type=ANY_PATH)
@click.option("--to", required=True, metavar="LABELS", help="k400, k600, k700, k700_2020, k710, or a file of names.")
@click.option(
    "--from",
    "label_sets",
    multiple=True,
    metavar="LABELS",
    help="The head's classes; told by its rows if left out.",
)
@click.option("--dialect", "dialects", multiple=True, help="Index order of the head; told by the file if left out.")
@click.option("--family", "families", multiple=True, help="Whose model it is, where several published such tensors.")
@click.option("--to-dialect", help="Index order of the new head: canonical (the default), uniformerv2, videomaev2.")
@click.option("--out", type=ANY_PATH, help="Where to write.  [NAME.LABELS.SUFFIX beside it]")
@click.option("--new-rows", type=click.Choice(["zero", "mean"]), help="Make rows for classes that no checkpoint knows.")
@click.option("--head", help="The head's name, where the checkpoint has two.")
@click.option("--show", is_flag=True, help="Print the mapping, a line for each class; doubtful ones are flagged.")
@click.option("--dry-run", is_flag=True, help="Check and report, and write nothing.")
@click.option("--keep-optimizer/--drop-optimizer", help="Keep optimizer state, moments picked too.  [drop]")
@click.option("--again", is_flag=True, help="Start from a checkpoint that was remapped already, as its record says.")
@click.option("--force", is_flag=True, help="Replace what is there.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def command(
    checkpoints: tuple[Path, ...],
    to: str,
    label_sets: tuple[str, ...],
    dialects: tuple[str, ...],
    families: tuple[str, ...],
    to_dialect: str | None,
    out: Path | None,
    new_rows: str | None,
    head: str | None,
    show: bool,
    dry_run: bool,
    keep_optimizer: bool,
    again: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Pick the rows of a head by class name.

    The checkpoint is written anew in its own form, with a head of other classes or in another order. Several are
    combined: the body is the first one's, and rows of a class that several know are averaged.

    \b
    Examples:
      k710 remap-head k710_uniformerv2_b16_8x224.pyth --to k400
      k710 remap-head k400.pyth k600.pyth k700.pyth --to k710 --out k710.pyth
    """
    from k710.models.heads.remap import plan_remap
    from k710.models.heads.remap_write import check_out, write_remap
    from k710.storage.storage import held

    remap = plan_remap(
        checkpoints,
        to=to,
        label_sets=label_sets,
        dialects=dialects,
        families=families,
        to_dialect=to_dialect,
        new_rows=new_rows,
        head=head,
        again=again,
    )
    if not as_json:
        _report(remap)
        if show:
            _table(remap)
    if dry_run:
        check_out(remap, out, force=force)
        if as_json:
            _print_as_json(remap, None, [])
        return
    with held(check_out(remap, out, force=force)):
        path, notes = write_remap(remap, out, keep_optimizer=keep_optimizer, force=force)
    if as_json:
        _print_as_json(remap, path, notes)
        return
    for note in notes:
        click.echo(f"note: {note}", err=True)
    click.echo(f"wrote {path}")


def _print_as_json(remap: Remap, written: Path | None, notes: list[str]) -> None:
    from k710.models.heads.remap import mapping

    sources = [
        {
            "checkpoint": str(source.checkpoint.path),
            "format": source.checkpoint.format.title,
            "why": source.checkpoint.why,
            "head": source.head.name,
            "shape": [source.head.rows, source.head.width],
            "labels": str(source.labels),
            "messages": list(source.messages),
        }
        for source in remap.sources
    ]
    print_json(
        {
            "sources": sources,
            "target": str(remap.target),
            "rows": mapping(remap),
            "notes": [*_notes(remap), *notes],
            "written": None if written is None else str(written),
        }
    )


def _report(remap: Remap) -> None:
    for source in remap.sources:
        head = source.head
        click.echo(f"{source.checkpoint.path}: {source.checkpoint.format.title} ({source.checkpoint.why})")
        click.echo(f"  head {head.name}: {head.rows} rows x {head.width}, {head.dtype}: {source.labels}")
        for sentence in source.messages:
            click.echo(f"  {sentence}")
    counts = {
        "picked": sum(len(origins) == 1 for origins in remap.rows),
        "averaged": sum(len(origins) > 1 for origins in remap.rows),
        f"new ({remap.new_rows})": sum(not origins for origins in remap.rows),
    }
    rows = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    click.echo(f"to {remap.target}: {counted(len(remap.rows), 'row')}, {rows}")
    for note in _notes(remap):
        click.echo(f"note: {note}", err=True)


def _notes(remap: Remap) -> list[str]:
    from k710.lists.labels import DIALECTS, LABEL_SETS, Alignment
    from k710.models.heads.head_labels import labels_of_set
    from k710.models.heads.remap import unknown_names

    # A misspelt name would else pass for a class of one's own.
    notes = [f"new row for an {Alignment().unknown(name)}" for name in unknown_names(remap.target, remap.rows)]
    first = remap.sources[0]
    if len(remap.sources) > 1:
        notes.append(f"the body is that of {first.checkpoint.path}; the other heads were trained on other bodies")
    changes = first.labels.dialect not in ("canonical", remap.target.dialect) and remap.target.dialect == "canonical"
    if first.labels.label_set in LABEL_SETS:  # two dialects can be one order
        changes = changes and first.labels.keys != labels_of_set(first.labels.label_set, "canonical").keys
    if changes:
        keeps = f" (--to-dialect {first.labels.dialect} keeps it)" if first.labels.dialect in DIALECTS else ""
        notes.append(
            f"the order changes from {first.labels.dialect} to canonical; lists in the old order no longer fit{keeps}"
        )
    if all(origins == ((0, row),) for row, origins in enumerate(remap.rows)) and len(remap.rows) == first.head.rows:
        notes.append("no row moves: the head has these classes in this order already")
    return notes


def _table(remap: Remap) -> None:
    from k710.models.heads.remap import mapping

    several = len(remap.sources) > 1
    lines = []
    for entry in mapping(remap):
        rows = " + ".join(f"{number + 1}:{row}" if several else str(row) for number, row in entry["from"])
        labels = " + ".join(dict.fromkeys(entry["from_labels"]))
        lines.append([entry["row"], entry["label"], rows or "-", labels or "-", "; ".join(entry["flags"])])
    print_table(["row", "class", "from row", "from class", "flags"], lines)
