"""`k710 build`: annotation lists → a manifest and the fate of every row."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from k710.cli.common import (
    COMMA_LIST,
    DEFAULT_MANIFEST,
    FILE,
    FOLDER_OR_URL,
    RecipeName,
    annotation_files,
    one_list,
    print_json,
    print_table,
)
from k710.storage.storage import Location
from k710.text import counted

if TYPE_CHECKING:
    from k710.manifest.read import Manifest

SHOWN_CONFLICTS = 20


@click.command("build")
@click.option(
    "--recipe",
    type=RecipeName("curation"),
    default="k710",
    show_default=True,
    metavar="NAME_OR_FILE",
    help="See `k710 recipes`.",
)
@click.option(
    "--sources",
    type=COMMA_LIST,
    multiple=True,
    callback=one_list,
    help="What to build from: k400, k600, k700, k700_2020, and NAME=PATH for lists of your own. May be given several "
    "times; a comma in a path is written \\,.",
)
@click.option("--union", metavar="NAME_OR_FILE", help="A union.yaml of your own instead of Kinetics-710.")
@click.option("--splits", type=COMMA_LIST, help="Lists to read: train, val, test.")
@click.option(
    "--leak-policy", metavar="POLICY", help="train-purge or val-purge: the side that loses its videos of the other."
)
@click.option("--holdout", type=COMMA_LIST, help="Lists whose videos train must not contain: val, or val,test.")
@click.option(
    "--precedence", type=COMMA_LIST, help="Releases in order: the first one with a video decides its clip and label."
)
@click.option("--annotations", metavar="DIR|sample", help="Folder of lists; without it they are downloaded once.")
@click.option("--synonyms", type=FILE, help="CSV with the columns name,label for names that k710 does not know.")
@click.option("--out", type=FOLDER_OR_URL, default=DEFAULT_MANIFEST, show_default=True, help="Place of the manifest.")
@click.option("--fates", type=FILE, help="Write the fate of every list row here (.csv or .parquet).")
@click.option(
    "--clips",
    "origins",
    multiple=True,
    metavar="ORIGIN,…",
    help="Fetch the clips too, as k710 fetch does.",
)
@click.option("--strict", is_flag=True, help="Treat bad rows of downloaded lists as an error.")
@click.option("--force", is_flag=True, help="Write a new version of a manifest that exists.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def command(
    recipe: str,
    union: str | None,
    annotations: str | None,
    synonyms: Path | None,
    out: Location,
    fates: Path | None,
    origins: tuple[str, ...],
    strict: bool,
    force: bool,
    as_json: bool,
    **choices: Any,
) -> None:
    """Build a manifest from annotation lists.

    Reads the releases' lists, aligns their labels, holds evaluation videos out of train, drops repeated videos, and
    prints what happened to every row. docs/build.md explains the rules.

    \b
    Examples:
      k710 build --sources k400,k600,k700 --annotations sample --out manifests/sample
      k710 build --union union.yaml --annotations sample --out manifests/mine
    """
    from k710.cli.arrow import import_arrow_without_pandas

    import_arrow_without_pandas()
    import pyarrow as pa

    from k710.cli.fetch import fetch_and_print, fetch_options, store_of
    from k710.curation.build import CurationRecipe, build, recipe_of_union
    from k710.lists.labels import read_synonyms
    from k710.lists.published.read import read_sources
    from k710.lists.union_spec import read_union_spec
    from k710.lists.unions import read_union
    from k710.manifest.write import check_output
    from k710.recipes import read_recipe
    from k710.sources.known import KINETICS

    # Arrow and numpy cannot use each other's free memory. With one allocator for both, the peak is a third lower.
    pa.set_memory_pool(pa.system_memory_pool())
    given = {name: value for name, value in choices.items() if value is not None}
    folder = None if annotations in (None, "sample") else Path(annotations)
    if as_json and origins:
        raise click.UsageError("--json prints one document: build first, then `k710 fetch --json`")
    how: dict[str, Any]
    if union is not None:
        _check_alone(click.get_current_context())
        spec = read_union_spec(union)
        check_output(out, force=force)  # before anything is read
        lists = read_union(spec, folder)
        chosen, notes, how = recipe_of_union(spec), lists.notes, {"union": lists}
        by_splits: dict[tuple[str, ...], list[str]] = {}
        for name, splits in lists.released:
            by_splits.setdefault(splits, []).append(name)
        files = [file for splits, some in by_splits.items() for file in annotation_files(annotations, some, splits)]
    else:
        if "holdout" in given:
            given.setdefault("splits", ())  # so that the lists to hold out are read
        found = dataclasses.replace(read_recipe("curation", recipe, CurationRecipe), **given)
        known = read_synonyms(synonyms) if synonyms else ()
        names, own = read_sources(found.sources, folder, known)
        catalogue = KINETICS.and_own(one.source for one in own)
        chosen = dataclasses.replace(found, sources=names).checked(catalogue)
        notes, how = tuple(note for one in own for note in one.notes), {"synonyms": known, "own": own}
        check_output(out, force=force)  # before anything is downloaded
        released = tuple(name for name in chosen.sources if not catalogue[name].is_own)
        files = annotation_files(annotations, released, chosen.splits) if released else []
    fetching = fetch_options(origins) if origins else None
    for note in notes:
        click.echo(note, err=True)
    manifest = build(chosen, files, out, strict=strict, force=force, fates=fates, **how)
    if as_json:
        _print_as_json(manifest)
        return
    _print_attrition(manifest)
    if union is None:
        _print_comparison_with_paper(manifest.about)
    else:
        _print_union(manifest)
    click.echo(
        f"{out}: {counted(manifest.about['counts']['clips'], 'clip')}, content hash {manifest.content_hash[:16]}"
    )
    if fetching:
        click.echo()
        fetch_and_print(manifest, store_of(out, None), fetching)


def _print_as_json(manifest: Manifest) -> None:
    from k710.curation.attrition import list_warnings

    about = manifest.about
    warnings = list_warnings(about["counts"]["lists"], about["counts"].get("misnamed", {}))
    facts = {name: about[name] for name in ("recipe", "counts")}
    malformed = {f"{entry['source']} {entry['split']}": entry["malformed"] for entry in about["sources"]}
    place = {"manifest": str(manifest.path), "content_hash": manifest.content_hash}
    print_json({**place, **facts, "malformed": malformed, "warnings": list(warnings.values())})


def _check_alone(ctx: click.Context) -> None:
    """Raises UsageError where an option says what the file of a union says."""
    of_the_file = ("recipe", "sources", "splits", "leak_policy", "holdout", "precedence", "synonyms")
    shared = ("synonyms",)  # k710.toml gives them to every command that has them
    for name in of_the_file:
        source = ctx.get_parameter_source(name)
        from_project = source is click.core.ParameterSource.DEFAULT_MAP and name in shared
        if source is not click.core.ParameterSource.DEFAULT and not from_project:
            option = f"--{name.replace('_', '-')}"
            raise click.UsageError(f"{option} and --union: the file of the union says its members and every choice")


def _print_attrition(manifest: Manifest) -> None:
    from k710.curation.attrition import policy_words
    from k710.curation.curate import FATES
    from k710.curation.own_labels import OWN_CONFLICTS

    dataset = manifest.about
    counts, policy = dataset["counts"], policy_words(dataset["recipe"], manifest.catalogue.union)
    seldom = ("malformed", "near_duplicate", "other_classes", "doubtful_label")
    shown = [fate for fate in FATES if fate not in seldom or counts["fates"].get(fate)]
    rows = [[f"{e['source']} {e['split']}", e["rows"], *(e[fate] for fate in shown)] for e in counts["lists"]]
    total = ["all lists", counts["rows"], *(counts["fates"][fate] for fate in shown)]
    print_table(["list", "rows", *shown], [*rows, total], title=f"What became of every list row ({policy})")
    for entry in dataset["sources"]:
        name, malformed = f"{entry['source']} {entry['split']}", entry["malformed"]
        for bad in malformed[:20]:
            click.echo(f"{name}: line {bad['line']} left out: {bad['reason']}", err=True)
        if len(malformed) > 20:
            click.echo(f"{name}: {len(malformed) - 20:,} more left out; dataset.json lists them all", err=True)
    if counts["leaks"]:
        _print_leaks(counts["leaks"])
    conflicts = counts["conflicts"]
    click.echo(
        f"Conflicts: {counted(conflicts['labels_of_one_clip'], 'clip carries', 'clips carry')} two labels at one span; "
        f"{counted(conflicts['labels_of_one_id'], 'video has', 'videos have')} several labels, "
        f"{conflicts['spans_of_one_id']:,} several spans.\n"
    )
    own = counts.get(OWN_CONFLICTS, ())
    for one in own[:SHOWN_CONFLICTS]:
        labels = " and ".join(map(repr, one["labels"]))
        click.echo(f"{one['source']} {one['split']}: {one['clip_id']} is labelled {labels}; the first counts", err=True)
    if len(own) > SHOWN_CONFLICTS:
        click.echo(f"{len(own) - SHOWN_CONFLICTS:,} more such clips; `k710 audit --json` lists them all", err=True)


def _print_union(manifest: Manifest) -> None:
    from k710.manifest.write import CLASSES_FILE

    _print_warnings(manifest.about)
    counts, union = manifest.about["counts"], manifest.catalogue.union
    click.echo(
        f"{union.title}: {counts['train']:,} train and {counts['val']:,} val clips of {counts['classes']:,} of its "
        f"{counted(len(union.classes), 'class', 'classes')}, which {CLASSES_FILE} lists in index order"
    )


def _print_warnings(dataset: dict[str, Any]) -> dict[str, str]:
    """Print what is wrong with lists of releases, and return it by list."""
    from k710.curation.attrition import list_warnings

    warnings = list_warnings(dataset["counts"]["lists"], dataset["counts"].get("misnamed", {}))
    for warning in warnings.values():
        click.echo(f"Warning: {warning}", err=True)
    return warnings


def _print_comparison_with_paper(dataset: dict[str, Any]) -> None:
    from k710.curation.attrition import beside_the_printed, why_it_differs, why_not_compared

    warnings = _print_warnings(dataset)
    if reason := why_not_compared(dataset["counts"]):
        click.echo(f"{reason}\n")
        return
    rows = [
        [row.what, row.here, row.published, row.paper, "" if row.difference is None else f"{row.difference:+,}"]
        for row in beside_the_printed(dataset["counts"])
    ]
    columns = ["", "here", "first published", "paper", "here - paper"]
    print_table(columns, rows, title="Compared with the releases' first lists and with UniFormerV2, Table 10")
    click.echo(f"{why_it_differs(dataset['recipe'], warnings)}\n")


def _print_leaks(leaks: list[dict[str, Any]]) -> None:
    """The videos that each train list shares with each evaluation list."""
    columns = list(dict.fromkeys(leak["holdout"] for leak in leaks))
    trains = list(dict.fromkeys(leak["train"] for leak in leaks))
    ids = {(leak["train"], leak["holdout"]): leak["ids"] for leak in leaks}
    rows = [[f"{train} train", *(ids[train, column] for column in columns)] for train in trains]
    print_table(["", *columns], rows, title="Videos of train lists that are in evaluation lists too, before any purge")
