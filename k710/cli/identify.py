"""`k710 identify`: whose clips a list, a folder or a manifest holds."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from k710.cli.common import ANY_PATH, DEFAULT_MANIFEST, FILE, PATH_OR_URL, print_json, print_table
from k710.storage.storage import Location
from k710.text import counted, printable

if TYPE_CHECKING:
    from k710.curation.overlap import List
    from k710.identify.identify import Identified
    from k710.identify.reference import Reference
    from k710.identify.rows_file import RowsFile
    from k710.identify.things import Part

_SHOWN_LISTS = 12
_SHOWN_ROWS = 5


@click.command("identify")
@click.argument("things", nargs=-1, required=True, type=ANY_PATH, metavar="THING…")
@click.option(
    "--manifest", type=PATH_OR_URL, help="Compare with the lists of this manifest.  [manifests/k710, if it exists]"
)
@click.option("--annotations", metavar="DIR|sample", help="Compare with the annotation lists in this folder instead.")
@click.option("--of", metavar="RELEASE:SPLIT", help="The list that the clips are of, such as k400:val.  [found out]")
@click.option("--column", help="The column that names the videos, where several could.")
@click.option("--rows", type=FILE, help="Write every row, and every missing clip, to this file (.csv or .parquet).")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def command(
    things: tuple[Path, ...],
    manifest: Location | None,
    annotations: str | None,
    of: str | None,
    column: str | None,
    rows: Path | None,
    as_json: bool,
) -> None:
    """Say which clips these are.

    A THING is a list of any form, a folder of lists, of clips, of Parquet files or of WebDataset tars, or a manifest.
    Prints the list that its clips are of, what is missing and extra, the index order of its classes, the known copies
    that it is like, what of it leaks, its fingerprint, and a sentence for a paper.

    \b
    Examples:
      k710 identify my_val.csv --annotations sample
      k710 identify manifests/k710 --json
    """
    from k710.identify.rows_file import rows_file
    from k710.storage.result_files import check_table_file

    if rows is not None:
        check_table_file(rows, [manifest] if manifest is not None else [])
    if manifest is not None and annotations is not None:
        raise click.UsageError("give --manifest or --annotations, not both")
    reference = _reference(manifest, annotations)
    wanted = None if of is None else _list_named(of)
    found: list[Identified] = []
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(rows_file(rows, reference)) if rows is not None else None
        for thing in things:
            for part in _parts(thing):
                found.append(_identify(part, reference, wanted, column, file))
    if as_json:
        print_json([_plain(one) for one in found])
        return
    _print(found, reference)
    if rows is not None:
        click.echo(f"{rows}: every row")


def _reference(manifest: Location | None, annotations: str | None) -> Reference | None:
    from k710.identify.reference import reference_of_lists, reference_of_manifest
    from k710.manifest.read import open_manifest
    from k710.storage.storage import local_folder

    if annotations == "sample":
        from k710.sample import LISTS

        return reference_of_lists(LISTS)
    if annotations is not None:
        return reference_of_lists(local_folder(annotations, "folder of lists"))
    if manifest is None and not (DEFAULT_MANIFEST / "dataset.json").exists():
        return None
    return reference_of_manifest(open_manifest(manifest or DEFAULT_MANIFEST))


def _list_named(text: str) -> List:
    from k710.sources.known import source_named
    from k710.sources.source import SPLIT_SPELLINGS

    source, colon, split = text.partition(":")
    if not colon or not source or not split:
        raise click.UsageError(f"--of {text}: want RELEASE:SPLIT, such as k400:val")
    return source_named(source), SPLIT_SPELLINGS.get(split.lower(), split)


def _parts(thing: Path) -> list[Part]:
    from k710.identify.reference import parts_of_reference, reference_of_manifest
    from k710.identify.things import parts_of
    from k710.manifest.read import open_manifest

    if (thing / "dataset.json").is_file():
        return parts_of_reference(reference_of_manifest(open_manifest(thing)))
    return parts_of(thing)


def _identify(
    part: Part, reference: Reference | None, of: List | None, column: str | None, file: RowsFile | None
) -> Identified:
    from k710.identify.fits import VIDEO
    from k710.identify.identify import identify

    def write(batch: Any) -> None:
        if file is not None:
            file.add(part.name, batch)

    found, counting = identify(part, reference, of=of, column=column, on_batch=write)
    best = found.verdict.best
    if file is not None and reference is not None and best is not None:
        by_video = best.by == VIDEO
        seen = counting.seen_videos if by_video else counting.seen_clips
        file.add_missing(part.name, best.list, seen, by_video=by_video)
    return found


def _plain(found: Identified) -> dict[str, Any]:
    """What is known of one part, as plain data."""
    import dataclasses

    data = dataclasses.asdict(found)
    for fit, plain in zip(found.fits, data["fits"], strict=True):
        plain |= {"missing": fit.missing, "share_of_list": fit.share_of_list, "share_of_copy": fit.share_of_copy}
    best = found.verdict.best
    data["is_of"] = None if best is None else ":".join(best.list)
    data["missing"] = None if best is None or found.extra is None else best.missing
    return data


def _print(found: list[Identified], reference: Reference | None) -> None:
    if reference is None:
        click.echo(
            "Compared with the marks of the published val and test lists: one video of 256. Train lists have none. "
            "--manifest compares with every clip of a manifest.\n"
        )
    else:
        click.echo(f"Compared with {reference.title}: {', '.join(map(' '.join, reference.lists))}\n")
    columns = ["", "rows", "clips", "videos", "is of", "of it", "missing", "extra", "leaks", "fingerprint"]
    print_table(columns, [_summary(one) for one in found])
    for one in found:
        _print_one(one)


def _summary(one: Identified) -> list[Any]:
    best = one.verdict.best
    exact = best is not None and one.extra is not None
    return [
        one.name,
        one.counts.rows,
        one.totals.clips,
        one.totals.videos,
        " ".join(best.list) if best else "?",
        f"{100 * best.share_of_list:.1f} %" if best else None,
        best.missing if best and exact else None,
        one.extra.clips if one.extra else None,
        max(one.leaks.values(), default=None),
        _fingerprint(one)[0][:16],
    ]


def _fingerprint(one: Identified) -> tuple[str, str]:
    if one.counts.without_span:
        return one.totals.videos_sha256, "videos"
    return one.totals.clips_sha256, "clips"


def _print_one(one: Identified) -> None:
    click.echo(f"{printable(one.name)}: {_verdict(one)}")
    for line in _lines(one):
        click.echo(f"  {line}")
    click.echo()
    if one.fits:
        rows = [
            [
                " ".join(fit.list),
                fit.size,
                fit.here,
                f"{100 * fit.share_of_list:.1f} %",
                f"{100 * fit.share_of_copy:.1f} %",
            ]
            for fit in one.fits[:_SHOWN_LISTS]
        ]
        print_table(["list", f"{one.fits[0].by}s of it", "of these here", "of the list", "of these"], rows)


def _verdict(one: Identified) -> str:
    best = one.verdict.best
    if best is None:
        return f"it is not told whose clips these are: {one.verdict.why}."
    name = " ".join(best.list)
    if one.extra is None:
        return f"{name}: {best.here:,} of its {counted(best.size, best.by)} are here."
    extra = [f"{one.extra.clips:,} extra"]
    kinds = {
        "other spans of its videos": one.extra.other_span,
        "of other lists": one.extra.other_list,
        "of no list": one.extra.unknown,
    }
    if one.extra.clips:
        extra.append("(" + ", ".join(f"{count:,} {kind}" for kind, count in kinds.items() if count) + ")")
    here = f"{best.here:,} of its {counted(best.size, best.by)} are here"
    return f"{name}: {here}, {best.missing:,} missing, {' '.join(extra)}."


def _lines(one: Identified) -> Iterator[str]:
    yield from _row_lines(one)
    yield from _class_lines(one)
    best = one.verdict.best
    if best is not None and one.split and one.split != best.list[1]:
        yield f"Split: its name says {one.split}, its clips are {' '.join(best.list)}."
    for like in one.copies:
        known = like.known
        what = " ".join(filter(None, (known.copy, known.release, known.split)))
        if like.same:
            yield f"Copy: the same {like.same} as {what} ({known.source}): the fingerprints are equal."
        else:
            than = "as many as" if not like.difference else f"{like.difference:+,} compared with"
            yield f"Count: {than} {what} ({known.source}); a count proves nothing."
    if lists := ", ".join(f"{count:,} in {name}" for name, count in one.leaks.items() if count):
        yield f"Leak: of its videos, as {one.split}, {lists}."
    elif one.leaks:
        yield f"Leak: none of its videos is in {', '.join(one.leaks)}."
    sha256, what = _fingerprint(one)
    yield f"Fingerprint of the {what}: {sha256}"
    yield f"To write: {one.sentence}"


def _row_lines(one: Identified) -> Iterator[str]:
    from k710.identify.keys import LAST_CHARACTERS

    counts = one.counts
    repeats = counts.named - one.totals.clips
    if repeats:
        yield f"Rows: {counted(repeats, 'row')} repeat a clip."
    if counts.without_span:
        yield f"Rows: {counts.without_span:,} of {counts.named:,} name a video without a span, so videos are compared."
    if counts.left_out:
        yield f"Rows: {counted(counts.left_out, 'row')} left out: their clips could not be had, as the file says."
    for number, what in (
        (counts.unnamed, "that name no video"),
        (counts.ambiguous, "that may name one clip or another"),
        (counts.bad_times, "whose times are none, taken for whole videos"),
    ):
        if number:
            yield f"Rows: {counted(number, 'row')} {what}."
    for file, unclear in counts.examples[:_SHOWN_ROWS]:
        said = unclear.why or " or ".join(unclear.candidates)
        yield f"  {file}, line {unclear.row}: {unclear.text[:60]!a}{f' ({said})' if said else ''}"
    if one.totals.impossible:
        ids = counted(one.totals.impossible, "ID")
        yield f"IDs: {ids} cannot be YouTube's, whose IDs end in one of {LAST_CHARACTERS}."


def _class_lines(one: Identified) -> Iterator[str]:
    order = one.order
    if order is not None and order.winner is not None:
        yield f"Label order: {order.winner}; {order.winner.right:,} of {order.winner.rows:,} rows agree."
    elif order is not None:
        own = f"; {len(order.own)} of its {order.indices} numbers mean one class each" if order.own else ""
        yield f"Label order: not told: {order.why}{own}."
    names = one.names
    if names is not None:
        text = f"Class names: {names.names}"
        if names.unknown:
            text += f", {names.unknown} of them no class of K710 ({', '.join(map(repr, names.examples))})"
        if names.compared:
            text += f"; {names.other:,} of {names.compared:,} rows name another class than the reference"
        yield f"{text}."
