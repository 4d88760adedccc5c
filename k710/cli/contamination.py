"""`k710 audit --train LIST --eval LISTS`: a train list of any size and form against evaluation lists."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from k710.cli.common import DEFAULT_MANIFEST, print_json, print_table
from k710.errors import ListError
from k710.storage.storage import Location
from k710.text import counted

if TYPE_CHECKING:
    from k710.identify.contamination import Contamination
    from k710.identify.reference import Reference

LEAK_EXIT_CODE = 3
_SHOWN = 20


def audit_train(
    train: Path,
    evaluation: str,
    manifest: Location | None,
    annotations: str | None,
    *,
    column: str | None,
    skip_unnamed: bool,
    leaks: Path | None,
    as_json: bool,
) -> bool:
    """Print what of the evaluation lists stands in the train list; returns whether anything does.

    `evaluation` is a file or a folder, or names lists of the manifest or of the folder of annotation lists."""
    from k710.identify.contamination import contamination
    from k710.identify.things import parts_of
    from k710.storage.result_files import check_table_file, write_table

    if leaks is not None:
        check_table_file(leaks, [manifest] if manifest is not None else [])
    if any(char in evaluation for char in "./\\") and not Path(evaluation).exists():
        raise ListError(f"{evaluation}: No such file or directory")
    parts = parts_of(train)
    reference = _evaluation(evaluation, manifest, annotations, column)
    found = contamination(parts, reference, column=column, skip_unnamed=skip_unnamed)
    if leaks is not None:
        write_table(leaks, found.leaks())
    if as_json:
        print_json({"train_list": str(train), "reference": reference.title} | found.plain())
    else:
        _print(train, found)
        if leaks is not None:
            click.echo(f"{leaks}: every leaking clip")
    return found.leaked_videos > 0


def _evaluation(evaluation: str, manifest: Location | None, annotations: str | None, column: str | None) -> Reference:
    """The evaluation lists: those of a file or folder, or those of a reference that `--eval` names."""
    from k710.identify.contamination import lists_named
    from k710.identify.keys import joined
    from k710.identify.reference import only, reference_of_clips, reference_of_lists, reference_of_manifest
    from k710.identify.things import parts_of
    from k710.manifest.read import open_manifest
    from k710.storage.storage import local_folder

    if Path(evaluation).exists():
        batches = [batch for part in parts_of(Path(evaluation)) for batch in part.batches(column=column)]
        return reference_of_clips(joined([batch.clips for batch in batches]), evaluation, (evaluation, ""))
    if annotations == "sample":
        from k710.sample import LISTS

        reference = reference_of_lists(LISTS)
    elif annotations is not None:
        reference = reference_of_lists(local_folder(annotations, "folder of lists"))
    else:
        reference = reference_of_manifest(open_manifest(manifest or DEFAULT_MANIFEST))
    return only(reference, lists_named(evaluation, reference.lists))


def _print(train: Path, found: Contamination) -> None:
    rows = found.train
    named = f"{rows.named:,} name a video, {rows.without_span:,} of them without a span"
    click.echo(f"{train}: {counted(rows.rows, 'row')}, {named}")
    for number, text in (
        (rows.left_out, "left out: their clips could not be had, as the list says"),
        (rows.unnamed, "skipped: they name no video"),
        (rows.ambiguous, f"skipped: they may name several; {rows.in_doubt:,} of them a video of these lists"),
        (rows.bad_times, "taken for whole videos: their times are none"),
    ):
        if number:
            click.echo(f"  {counted(number, 'row')} {text}")
    for file, unclear in rows.examples[:3]:
        click.echo(f"    {file}, line {unclear.row}: {unclear.text[:60]!a}")
    click.echo()
    kinds = ("videos", "leaked_videos", "clips", "same_clip", "overlap", "video", "other_time")
    print_table(
        ["evaluation list", "videos", "leaked", "clips", "same clip", "overlap", "video", "other time"],
        [[" ".join(filter(None, one.list)), *(getattr(one, kind) for kind in kinds)] for one in found.by_list()],
    )
    if not found.leaked_videos:
        click.echo("No video of these lists is in it.")
        return
    click.echo(
        f"Leak: {counted(found.leaked_videos, 'video')} of these lists, named by {counted(rows.leaking, 'row')}. "
        "same clip: the very span. overlap: a part of it. video: the\nvideo, one of the two without a span. "
        "other time: another part of the video."
    )
    leaks = found.leaks()
    for row in leaks.slice(0, _SHOWN).to_pylist():
        click.echo(f"  {row['clip_id']}  {row['lists']}  {row['evidence']}  {row['file']}, line {row['line']}")
    if leaks.num_rows > _SHOWN:
        click.echo(f"  and {leaks.num_rows - _SHOWN:,} more clips (--leaks FILE writes all)")
