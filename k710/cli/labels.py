"""`k710 labels`: the label map, one label aligned, and the maps between label sets and dialects."""

from __future__ import annotations

from pathlib import Path

import click

from k710.cli.common import FILE, print_json, print_table


@click.command("labels")
@click.argument("names", nargs=-1, metavar="[NAME]…")
@click.option("--from", "source", help="Label set to map from: k710, k400, k600, k700, k700_2020.")
@click.option("--to", "target", help="Label set to map to.")
@click.option("--dialect", default="canonical", show_default=True, help="Index order of --from.")
@click.option("--to-dialect", default="canonical", show_default=True, help="Index order of --to.")
@click.option("--rows", "only_rows", is_flag=True, help="Print only the row list, as JSON; null for a missing class.")
@click.option("--synonyms", type=FILE, help="CSV with the columns name,label, added to the published synonyms.")
def command(
    names: tuple[str, ...],
    source: str | None,
    target: str | None,
    dialect: str,
    to_dialect: str,
    only_rows: bool,
    synonyms: Path | None,
) -> None:
    """Show and map the class names.

    Prints how the classes of the releases become 710, the meaning of a NAME, or the map between two label sets.

    \b
    Examples:
      k710 labels
      k710 labels "tying tie" picking_fruit
      k710 labels --from k710 --dialect uniformerv2 --to k400 --rows
    """
    from k710.lists.labels import Alignment, read_synonyms

    if (source is None) != (target is None):
        raise click.UsageError("--from and --to must be used together")
    if only_rows and not source:
        raise click.UsageError("--rows needs --from and --to")
    if names and source:
        raise click.UsageError("give names to align, or --from and --to, not both")
    if source and target:
        _print_map(source, target, dialect, to_dialect, only_rows)
        return
    alignment = Alignment(read_synonyms(synonyms) if synonyms else ())
    if names:
        for name in names:
            label = alignment.align(name)
            click.echo(f"{name} -> {label} (class {alignment.find(label)}{_doubt(label, name)})")
    else:
        _print_classes()


def _print_classes() -> None:
    from k710.lists.labels import class_names, k710_classes_of, published_synonyms
    from k710.sources.known import UNION

    index_in = {
        release: {k710: index for index, k710 in enumerate(k710_classes_of(release))} for release in UNION.members
    }
    opengvlab = {name: row for row, name in enumerate(class_names("k710", "uniformerv2"))}
    also: dict[str, list[str]] = {}
    for synonym in published_synonyms():
        also.setdefault(synonym.label, []).append(synonym.name + (" (?)" if synonym.doubt else ""))
    rows = [
        [
            index,
            name,
            *(index_in[release].get(index) for release in index_in),
            opengvlab[name],
            ", ".join(also.get(name, ())),
        ]
        for index, name in enumerate(class_names("k710"))
    ]
    print_table(["class", "label", *UNION.members, "uniformerv2", "also called"], rows)
    click.echo("class: canonical index, as in MMAction2. uniformerv2: row of OpenGVLab's 710-way heads.")
    click.echo("(?): published as a synonym, but the meaning differs.")


def _print_map(source: str, target: str, dialect: str, to_dialect: str, only_rows: bool) -> None:
    from k710.lists.labels import class_names, row_map

    rows = row_map(source, target, source_dialect=dialect, target_dialect=to_dialect)
    if only_rows:
        print_json(rows)
        return
    source_names, target_names = class_names(source, dialect), class_names(target, to_dialect)
    table = [
        [number, name, row, "" if row is None else source_names[row]]
        for number, (name, row) in enumerate(zip(target_names, rows, strict=True))
    ]
    print_table([f"{target} ({to_dialect})", "label", f"{source} ({dialect})", "its label there"], table)
    missing = sum(row is None for row in rows)
    click.echo(f"{len(rows) - missing} of {len(rows)} classes of {target} have a row in {source}.")


def _doubt(label: str, name: str) -> str:
    from k710.lists.labels import label_key, published_synonyms

    for synonym in published_synonyms():
        if synonym.doubt and synonym.label == label and label_key(synonym.name) == label_key(name):
            return f"; doubtful: {synonym.doubt}"
    return ""
