"""`k710 labels`: the label map, one label aligned, and the maps between label sets and dialects."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from k710.cli.common import ANY_PATH, FILE, FOLDER, print_json, print_table
from k710.text import counted

if TYPE_CHECKING:
    from k710.lists.labels import Alignment


@click.command("labels")
@click.argument("names", nargs=-1, metavar="[NAME]…")
@click.option("--from", "source", help="Label set to map from: k710, k400, k600, k700, k700_2020.")
@click.option("--to", "target", help="Label set to map to.")
@click.option("--dialect", default="canonical", show_default=True, help="Index order of --from.")
@click.option("--to-dialect", default="canonical", show_default=True, help="Index order of --to.")
@click.option("--rows", "only_rows", is_flag=True, help="Print only the row list, as JSON; null for a missing class.")
@click.option("--synonyms", type=FILE, help="CSV with the columns name,label, added to the published synonyms.")
@click.option(
    "--suggest",
    type=ANY_PATH,
    metavar="LISTS|UNION",
    help="Propose synonyms for your own lists or a union.yaml, as CSV for you to edit.",
)
@click.option("--annotations", type=FOLDER, metavar="DIR", help="With --suggest UNION: the lists of its members.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def command(
    names: tuple[str, ...],
    source: str | None,
    target: str | None,
    dialect: str,
    to_dialect: str,
    only_rows: bool,
    synonyms: Path | None,
    suggest: Path | None,
    as_json: bool,
    annotations: Path | None,
) -> None:
    """Show and map the class names.

    Prints how the classes of the releases become 710, the meaning of a NAME, the map between two label sets, or, for
    lists of your own, the classes that their names may mean.

    \b
    Examples:
      k710 labels
      k710 labels "tying tie" picking_fruit
      k710 labels --from k710 --dialect uniformerv2 --to k400 --rows
      k710 labels --suggest my_clips.csv > names.csv
      k710 labels --suggest union.yaml > names.csv
    """
    from k710.lists.labels import Alignment, read_synonyms

    if (source is None) != (target is None):
        raise click.UsageError("--from and --to must be used together")
    if only_rows and not source:
        raise click.UsageError("--rows needs --from and --to")
    if names and source:
        raise click.UsageError("give names to align, or --from and --to, not both")
    if source and target:
        _print_map(source, target, dialect, to_dialect, only_rows, as_json)
        return
    alignment = Alignment(read_synonyms(synonyms) if synonyms else ())
    if suggest is not None:
        from k710.lists.union_spec import is_union_file
        from k710.recipes import recipe_files

        if names or source or as_json:
            raise click.UsageError("--suggest proposes for a whole dataset; give no names, --from or --json with it")
        if str(suggest) in recipe_files("unions") or is_union_file(suggest):
            _print_union_suggestions(suggest, annotations)
            return
    written = click.get_current_context().get_parameter_source("annotations")
    if written is click.core.ParameterSource.COMMANDLINE:  # k710.toml gives it to every command that has it
        raise click.UsageError("--annotations needs --suggest UNION")
    if suggest is not None:
        _print_suggestions(suggest, alignment)
        return
    if names:
        _print_aligned(names, alignment, as_json)
    else:
        _print_classes(as_json)


def _print_aligned(names: tuple[str, ...], alignment: Alignment, as_json: bool) -> None:
    aligned = [(name, alignment.align(name)) for name in names]
    if as_json:
        print_json(
            [
                {"name": name, "label": label, "class": alignment.find(label), "doubt": _doubt(label, name)}
                for name, label in aligned
            ]
        )
        return
    for name, label in aligned:
        doubt = _doubt(label, name)
        click.echo(f"{name} -> {label} (class {alignment.find(label)}{f'; doubtful: {doubt}' if doubt else ''})")


def _print_classes(as_json: bool) -> None:
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
    columns = ["class", "label", *UNION.members, "uniformerv2", "also called"]
    if as_json:
        print_json([dict(zip(columns, row, strict=True)) for row in rows])
        return
    print_table(columns, rows)
    click.echo("class: canonical index, as in MMAction2. uniformerv2: row of OpenGVLab's 710-way heads.")
    click.echo("(?): published as a synonym, but the meaning differs.")


def _print_suggestions(path: Path, alignment: Alignment) -> None:
    """The proposals on stdout, and what to do with them on stderr."""
    from dataclasses import replace

    from k710.lists.own_lists import read_own
    from k710.lists.own_source import OWN, own_spec
    from k710.lists.suggest import as_synonyms, suggestions

    names = read_own(replace(own_spec("mine", path), labels=OWN, synonyms=None)).source.classes
    found = suggestions(names, alignment)
    click.echo(f"{len(names) - len(found):,} of {counted(len(names), 'label')} are K710's by name.", err=True)
    if found:
        click.echo(as_synonyms(found), nl=False)
        click.echo(
            "Nothing is merged by this. Fill in the column label where you find that a name means that class, and "
            "delete the other lines; then name the file as synonyms.",
            err=True,
        )


def _print_union_suggestions(path: Path, annotations: Path | None) -> None:
    """The proposals for a union on stdout, and what to do with them on stderr."""
    from k710.lists.union_classes import LIKE_ENOUGH, suggested_synonyms
    from k710.lists.union_spec import read_union_spec
    from k710.lists.unions import members_of, synonyms_of

    spec = read_union_spec(str(path))
    members = members_of(spec, annotations)
    text, number = suggested_synonyms(members, synonyms_of(spec))
    classes = ", ".join(f"{len(names):,} of {name}" for name, names in members)
    click.echo(f"Classes: {classes}.", err=True)
    click.echo(
        f"{counted(number, 'class has', 'classes have')} the name of a class of a member before, or nearly (likeness "
        f"{LIKE_ENOUGH} to 100).",
        err=True,
    )
    if number:
        click.echo(text, nl=False)
        click.echo(
            "Nothing is merged by this. Fill in the column label where two classes are one, and the columns label and "
            "new (yes) where a class needs a name of its own; delete the other lines; then name the file as synonyms.",
            err=True,
        )


def _print_map(source: str, target: str, dialect: str, to_dialect: str, only_rows: bool, as_json: bool) -> None:
    from k710.lists.labels import class_names, row_map

    rows = row_map(source, target, source_dialect=dialect, target_dialect=to_dialect)
    if only_rows:
        print_json(rows)
        return
    source_names, target_names = class_names(source, dialect), class_names(target, to_dialect)
    if as_json:
        print_json(
            [
                {"label": name, "from_row": row, "from_label": None if row is None else source_names[row]}
                for name, row in zip(target_names, rows, strict=True)
            ]
        )
        return
    table = [
        [number, name, row, "" if row is None else source_names[row]]
        for number, (name, row) in enumerate(zip(target_names, rows, strict=True))
    ]
    print_table([f"{target} ({to_dialect})", "label", f"{source} ({dialect})", "its label there"], table)
    missing = sum(row is None for row in rows)
    click.echo(f"{len(rows) - missing} of {len(rows)} classes of {target} have a row in {source}.")


def _doubt(label: str, name: str) -> str | None:
    from k710.lists.labels import label_key, published_synonyms

    for synonym in published_synonyms():
        if synonym.doubt and synonym.label == label and label_key(synonym.name) == label_key(name):
            return synonym.doubt
    return None
