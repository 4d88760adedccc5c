"""`k710 audit`: overlaps and leaks between lists."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from k710.cli.common import ANY_PATH, COMMA_LIST, FILE, PATH_OR_URL, annotation_files, one_list, print_json, print_table
from k710.cli.contamination import LEAK_EXIT_CODE, audit_train
from k710.storage.storage import Location
from k710.text import counted

if TYPE_CHECKING:
    import pyarrow as pa

    from k710.sources.catalogue import Catalogue


@click.command("audit")
@click.argument("manifest", required=False, type=PATH_OR_URL)
@click.option("--annotations", metavar="DIR|sample", help="Audit a folder of lists instead of a manifest.")
@click.option(
    "--sources",
    type=COMMA_LIST,
    multiple=True,
    callback=one_list,
    default=["k400,k600,k700"],
    show_default=True,
    help="With --annotations.",
)
@click.option("--splits", type=COMMA_LIST, default="train,val", show_default=True, help="With --annotations.")
@click.option("--synonyms", type=FILE, help="With --annotations: CSV with the columns name,label, as for build.")
@click.option("--train", type=ANY_PATH, help="Your own train list, of any size and form.")
@click.option(
    "--eval",
    "evaluation",
    metavar="LISTS|FILE",
    help="What to compare --train with: lists of the manifest or of --annotations, such as k400,k600:val,test, or a "
    "list of your own.",
)
@click.option("--skip-unnamed", is_flag=True, help="With --train and --eval: skip and count lines without a video.")
@click.option("--column", help="With --train: the column that names the videos, where several could.")
@click.option("--leaks", type=FILE, help="With --train: write every leaking clip to this file (.csv or .parquet).")
@click.option("--fail-on-leak", is_flag=True, help=f"With --train: exit with {LEAK_EXIT_CODE} if there is a leak.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON, with the names of conflicting clips.")
def command(
    manifest: Location | None,
    annotations: str | None,
    sources: tuple[str, ...],
    splits: tuple[str, ...],
    synonyms: Path | None,
    train: Path | None,
    evaluation: str | None,
    skip_unnamed: bool,
    column: str | None,
    leaks: Path | None,
    fail_on_leak: bool,
    as_json: bool,
) -> None:
    """Find overlaps, leaks and conflicts.

    Audits a manifest, a folder of lists, two lists of your own, or a train list of your own against the lists of a
    manifest.

    \b
    Examples:
      k710 audit manifests/k710
      k710 audit --annotations sample --splits train,val,test
      k710 audit --train my_train.txt --eval my_val.csv
      k710 audit --train my_train.txt --eval k400,k600:val --annotations sample
    """
    of_train = train is not None and evaluation is not None
    one = sum([manifest is not None, annotations is not None, (train is None) != (evaluation is None)])
    if one > 1 or not (one or of_train):
        raise click.UsageError("give one thing to audit: a manifest, --annotations DIR, or --train FILE --eval FILE")
    if (train is None) != (evaluation is None):
        raise click.UsageError("--train and --eval must be used together")
    if train is not None and evaluation is not None:
        is_plain = column is None and leaks is None and _are_plain_lists(train, evaluation)
        if is_plain and one:
            raise click.UsageError(f"{evaluation} is a file; no manifest and no --annotations is needed with it")
        if is_plain:
            is_leak = _compare(train, Path(evaluation), skip_unnamed, as_json)
        else:
            is_leak = audit_train(
                train,
                evaluation,
                manifest,
                annotations,
                column=column,
                skip_unnamed=skip_unnamed,
                leaks=leaks,
                as_json=as_json,
            )
        if is_leak and fail_on_leak:
            click.get_current_context().exit(LEAK_EXIT_CODE)
        return
    needing = {"skip-unnamed": skip_unnamed, "column": column, "leaks": leaks, "fail-on-leak": fail_on_leak}
    if given := next((option for option, value in needing.items() if value), None):
        raise click.UsageError(f"--{given} needs --train and --eval")
    if manifest is not None:
        clips, counts, catalogue = _clips_of_manifest(manifest)
    else:
        clips, counts, catalogue = _clips_of_lists(annotations, sources, splits, synonyms)
    _audit(str(manifest), clips, counts, catalogue, as_json=as_json)


def _audit(name: str, clips: pa.Table, counts: dict[str, Any], catalogue: Catalogue, *, as_json: bool) -> None:
    from k710.curation.attrition import list_warnings
    from k710.curation.audit import audit
    from k710.curation.list_identity import misnamed
    from k710.curation.own_labels import OWN_CONFLICTS
    from k710.errors import ManifestError

    try:
        found = audit(clips, counts.get("leaked_rows"), catalogue, counts.get(OWN_CONFLICTS, ()))
        warnings = list(list_warnings(counts.get("lists", ()), misnamed(clips)).values())
    except (KeyError, TypeError, AttributeError) as error:
        raise ManifestError(f"{name}: dataset.json is damaged: its counts lack a part ({error!r})") from None
    if warnings:
        found["list_warnings"] = warnings
    for warning in warnings:
        click.echo(f"Warning: {warning}", err=True)
    if as_json:
        print_json(found)
    else:
        _print(found, catalogue.union.short_title)


def _clips_of_manifest(manifest: Location) -> tuple[pa.Table, dict[str, Any], Catalogue]:
    """The clips table of a manifest, the counts of its build, and its sources."""
    from k710.cli.manifests import open_manifest

    if isinstance(manifest, Path) and any(manifest.glob("k[467]00*")) and not (manifest / "dataset.json").exists():
        raise click.UsageError(
            f"{manifest} is not a manifest; to audit a folder of lists, use --annotations {manifest}"
        )
    opened = open_manifest(manifest)
    return opened.clips, opened.about.get("counts") or {}, opened.catalogue


def _clips_of_lists(
    annotations: str | None, sources: tuple[str, ...], splits: tuple[str, ...], synonyms: Path | None
) -> tuple[pa.Table, dict[str, Any], Catalogue]:
    """The clips table of the lists, the number of rows of each list, as in a build, and the sources."""
    from k710.curation.audit import rows_leaked
    from k710.curation.clips import clips_table
    from k710.curation.curate import Policy, align, curate
    from k710.curation.own_labels import OWN_CONFLICTS, own_label_conflicts
    from k710.lists.annotations import read_list
    from k710.lists.labels import Alignment, read_synonyms
    from k710.lists.published.read import read_sources
    from k710.sources.known import KINETICS, check_splits

    known = read_synonyms(synonyms) if synonyms else ()
    names, own = read_sources(sources, None if annotations in (None, "sample") else Path(annotations), known)
    catalogue = KINETICS.and_own(one.source for one in own)
    released = tuple(name for name in catalogue.check_sources(names) if not catalogue[name].is_own)
    files = annotation_files(annotations, released, check_splits(splits)) if released else []
    read = [*map(read_list, files), *(one for lists in own for one in lists.lists)]
    curated = curate(align(read, Alignment(known), catalogue), Policy(), catalogue)
    rows = [{"source": one.file.source, "split": one.file.split, "rows": one.num_rows} for one in read]
    clips = clips_table(curated)
    counts = {"lists": rows, "leaked_rows": rows_leaked(curated.rows)}
    return clips, counts | {OWN_CONFLICTS: own_label_conflicts(curated.rows, clips["clip_id"])}, catalogue


def _print(found: dict[str, Any], union: str) -> None:
    lists = found["lists"]
    for key, title in (("by_id", "Videos (YouTube IDs) that two lists share"), ("by_clip", "Clips (ID and span)")):
        rows = [[name, *row] for name, row in zip(lists, found["overlap"][key], strict=True)]
        print_table(["", *lists], rows, title=title)
    totals = ", ".join(f"{count:,} in {splits}" for splits, count in found["ids_by_splits"].items())
    click.echo(
        f"{counted(found['clips'], 'clip')} of {counted(found['videos'], 'video')}; "
        f"videos over all releases: {totals}\n"
    )
    if shared := found.get("shared_with_kinetics"):
        columns = ["list", "videos", *(f"in Kinetics {split}" for split in ("train", "val", "test")), "in any"]
        rows = [[name, *counts.values()] for name, counts in shared.items()]
        print_table(columns, rows, title="Videos of other data sets that are in lists of Kinetics, by YouTube ID")
    if found["policies"]:
        evaluation = list(next(iter(found["policies"].values()))["leaks"])
        rows = [[name, p["train"], p["val"], *p["leaks"].values()] for name, p in found["policies"].items()]
        title = (
            f"Under each policy: {union}'s train and val, and how many videos of that train are in an evaluation list"
        )
        print_table(["policy", "train", "val", *evaluation], rows, title=title)
    if found["near_duplicates"]:
        click.echo(
            f"This manifest's train lacks {counted(found['near_duplicates'], 'clip')} more: near-duplicates, as "
            f"`k710 near-duplicates` found them.\n"
        )
    counts = found["conflicts"]
    click.echo(f"Conflicts: {counted(counts['labels_of_one_clip'], 'clip')} with several labels at one span,")
    click.echo(
        f"  {counted(counts['labels_of_one_id'], 'video')} with several labels, "
        f"{counts['spans_of_one_id']:,} with several spans"
    )
    click.echo("  (`--json` names them, `k710 explain` explains each)")


def _are_plain_lists(train: Path, evaluation: str) -> bool:
    """Whether both are single text files, which are compared name by name."""
    from k710.identify.things import is_plain_list

    return is_plain_list(train) and is_plain_list(Path(evaluation))


def _compare(train: Path, evaluation: Path, skip_unnamed: bool, as_json: bool) -> bool:
    """Print the overlap of two lists, and whether there is one."""
    from k710.curation.audit import compare_names
    from k710.lists.clip_names import read_named_list

    lists = [read_named_list(path, skip_unnamed=skip_unnamed) for path in (train, evaluation)]
    for note in (note for named in lists for note in named.notes):
        click.echo(note, err=True)
    found = compare_names(lists[0].names, lists[1].names)
    if as_json:
        skipped = {side: len(named.skipped) for side, named in zip(("train", "eval"), lists, strict=True)}
        print_json(found | {"skipped_lines": skipped})
        return bool(found["ids"])
    rows = [[str(path), *found[side].values()] for path, side in ((train, "train"), (evaluation, "eval"))]
    print_table(
        ["list", "rows", "videos", "clips"], [*rows, ["in both", None, found["shared_ids"], found["shared_clips"]]]
    )
    if found["ids"]:
        leaks = counted(found["shared_ids"], f"video of {evaluation} is", f"videos of {evaluation} are")
        click.echo(f"Leak: {leaks} in {train}:")
        for youtube_id in found["ids"][:20]:
            click.echo(f"  {youtube_id}")
        if len(found["ids"]) > 20:
            click.echo(f"  and {len(found['ids']) - 20:,} more (--json lists them all)")
    else:
        click.echo("No video is in both.")
    return bool(found["ids"])
