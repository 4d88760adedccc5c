"""`k710 near-duplicates`: clips with the same footage under different YouTube IDs."""

from __future__ import annotations

import os
import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from k710.cli.common import (
    ENGINE,
    FILE,
    FOLDER_OR_URL,
    RAY_ADDRESS,
    SPLIT_LIST,
    VIEW,
    engine_of,
    print_json,
    print_table,
    steps,
)
from k710.storage.storage import Location
from k710.store.profile_names import DEFAULT_PROFILE
from k710.text import counted, printable

if TYPE_CHECKING:
    import pyarrow as pa

    from k710.manifest.read import Manifest
    from k710.near_duplicates.find import Found, Prepared, Question
    from k710.near_duplicates.signatures import Tally
    from k710.store.store import Store

_SHOWN = 20


@click.command("near-duplicates")
@click.argument("manifest", type=FOLDER_OR_URL)
@click.option("--store", type=FOLDER_OR_URL, help="Place of the media.  [MANIFEST/store]")
@click.option("--profile", default=DEFAULT_PROFILE, show_default=True, help="Encode profile of the store.")
@click.option("--view", type=VIEW, help="The union, or a source as published: k400, k600, …  [the union: k710]")
@click.option("--splits", type=SPLIT_LIST, help="Splits to compare.  [the union: train and the holdout; a source: all]")
@click.option("--threshold", type=int, metavar="BITS", help="Number of 256 bits in which two frames may differ.  [40]")
@click.option("--signatures", type=FOLDER_OR_URL, help="Place of the clips' hashes.  [STORE/signatures]")
@click.option("--workers", type=click.IntRange(1), metavar="N", help="Processes that decode.  [one per core]")
@ENGINE
@RAY_ADDRESS
@click.option(
    "--apply", "apply_", is_flag=True, help="Write a manifest without the train clips that repeat held-out clips."
)
@click.option("--within-train", is_flag=True, help="With --apply: also drop train clips that repeat train clips.")
@click.option("--against", type=FOLDER_OR_URL, metavar="MANIFEST", help="Compare with the clips of another manifest.")
@click.option("--against-store", type=FOLDER_OR_URL, help="Place of its media.  [MANIFEST/store]")
@click.option("--against-view", type=VIEW, help="Its view.  [its union: k710]")
@click.option("--against-splits", type=SPLIT_LIST, help="Its splits.  [as for --splits]")
@click.option("--pairs", type=FILE, help="With --against: write the pairs to this file (.csv or .parquet).")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON, with every pair.")
@click.option("--dry-run", is_flag=True, help="Print how many clips would be decoded and compared; write nothing.")
def command(
    manifest: Location,
    store: Location | None,
    profile: str,
    view: str | None,
    splits: tuple[str, ...] | None,
    threshold: int | None,
    signatures: Location | None,
    workers: int | None,
    engine: str,
    ray_address: str | None,
    apply_: bool,
    within_train: bool,
    against: Location | None,
    against_store: Location | None,
    against_view: str | None,
    against_splits: tuple[str, ...] | None,
    pairs: Path | None,
    as_json: bool,
    dry_run: bool,
) -> None:
    """Find clips with the same footage.

    Finds uploads of one video under several YouTube IDs: re-encoded, mirrored, letterboxed or shifted in time. Train
    clips that repeat held-out clips matter most. Proposes clips to drop; drops nothing without --apply. With --against,
    finds the clips of one dataset that show the footage of another.

    \b
    Examples:
      k710 near-duplicates manifests/k710
      k710 near-duplicates manifests/k710 --apply
    """
    if within_train and not apply_:
        raise click.UsageError("--within-train needs --apply; without --apply everything is proposed")
    if apply_ and dry_run:
        raise click.UsageError("--apply and --dry-run cannot be combined")
    if apply_ and against is not None:
        raise click.UsageError(
            "--apply and --against cannot be combined; a clip is dropped from its own manifest alone"
        )
    if against is None and (against_store or against_splits or pairs or against_view):
        raise click.UsageError("--against-store, --against-view, --against-splits and --pairs need --against")
    from k710.near_duplicates.find import DEFAULT_THRESHOLD_BITS, find

    how = {"workers": workers or os.cpu_count() or 1, "engine": engine_of(engine, ray_address, workers=workers)}
    bits = DEFAULT_THRESHOLD_BITS if threshold is None else threshold
    opening = partial(_open, profile=profile, signatures=signatures, bits=bits, mend=not dry_run)
    one = opening(manifest, store, view, splits, of_union=apply_)
    if against is not None:
        other = opening(against, against_store, against_view, against_splits)
        _compare_across(one, other, how, pairs, as_json=as_json, dry_run=dry_run)
        return
    if dry_run:
        _print_plan(one.prepared, one.store)
        return
    with _alone(one.manifest.path):
        tally = _make_signatures(one.prepared, one.store, **how)
        step = steps()
        step(f"comparing {counted(len(one.prepared.media), 'clip')}")
        found = find(one.prepared, one.store, one.question)
        step.end()
        _commit(one.manifest, found, tally, apply_, within_train, as_json)


@dataclass(frozen=True)
class _Side:
    """A dataset whose clips are compared."""

    manifest: Manifest
    store: Store
    question: Question
    prepared: Prepared


def _open(
    manifest: Location,
    store: Location | None,
    view: str | None,
    splits: tuple[str, ...] | None,
    *,
    profile: str,
    signatures: Location | None,
    bits: int,
    mend: bool,
    of_union: bool = False,
) -> _Side:
    """Read a manifest, its store's rows and the signatures. With `of_union`, no view but that of the union is taken."""
    from k710.cli.fetch import store_of
    from k710.manifest.read import open_manifest
    from k710.near_duplicates.find import Question, prepare
    from k710.store.store import Store

    step = steps()
    step(f"reading {manifest}, its store's rows and the signatures")
    opened = open_manifest(manifest)
    union = opened.catalogue.union.name
    if of_union and view not in (None, union):
        raise click.UsageError(f"--apply changes only view {union}; view {view} stays as published")
    held = Store(store_of(opened.path, store), profile)
    question = Question(opened.catalogue.check_view(view), splits, bits)
    prepared = prepare(opened, held, question, mend=mend, signatures=signatures)
    step.end()
    if prepared.num_damaged:
        whose = "its" if prepared.num_damaged == 1 else "their"
        click.echo(
            f"{counted(prepared.num_damaged, 'damaged file')} of signatures; {whose} clips are hashed again", err=True
        )
    return _Side(opened, held, question, prepared)


def _compare_across(
    one: _Side, other: _Side, how: dict[str, Any], pairs: Path | None, *, as_json: bool, dry_run: bool
) -> None:
    """Find the clips of one dataset that show the footage of the other; the manifests stay as they are."""
    from k710.cli.near_duplicates_across import print_across
    from k710.near_duplicates.across import find_across
    from k710.storage.result_files import check_table_file

    if pairs is not None:
        check_table_file(pairs, [one.manifest.path, one.store.root, other.manifest.path, other.store.root])
    if dry_run:
        for side in (one, other):
            _print_plan(side.prepared, side.store)
        return
    failures: dict[str, str] = {}
    for side in (one, other):
        failures |= _make_signatures(side.prepared, side.store, **how).messages
    step = steps()
    step(f"comparing {len(one.prepared.media):,} with {counted(len(other.prepared.media), 'clip')}")
    found = find_across(one.prepared, other.prepared, one.question, other.question)
    step.end()
    print_across(found, (one.manifest, other.manifest), failures, pairs, as_json=as_json)


def _alone(manifest: Location) -> AbstractContextManager[None]:
    """Keep other searches for near-duplicates of this manifest out. There are no locks at a URL."""
    from k710.storage.storage import held

    return held(manifest, manifest / ".near-duplicates.lock") if isinstance(manifest, Path) else nullcontext()


def _make_signatures(prepared: Prepared, store: Store, **how: Any) -> Tally:
    """Hash the clips with missing signatures, with progress on stderr. Raises LoadError if the run was stopped."""
    from k710.engine.engine import Stop, polite_interrupts
    from k710.errors import LoadError
    from k710.near_duplicates.find import make_signatures
    from k710.progress import clip_progress

    stop = Stop()
    try:
        with (
            polite_interrupts(stop, lambda text: click.echo(text, err=True)),
            clip_progress("clips hashed") as (set_total, on_progress),
        ):
            set_total(len(prepared.missing))
            tally = make_signatures(prepared, store, stop=stop, on_progress=on_progress, **how)
    except KeyboardInterrupt:
        click.echo("k710: stopped at once; the same command continues from the signatures that were written", err=True)
        sys.stdout.flush()
        os._exit(1)  # a decoder may hang
    for clip_id, message in list(tally.messages.items())[:_SHOWN]:
        click.echo(printable(f"not compared: {clip_id}: {message}"), err=True)
    if len(tally.messages) > _SHOWN:
        click.echo(f"not compared: {counted(len(tally.messages) - _SHOWN, 'clip')} more", err=True)
    if stop.asked:
        raise LoadError(
            f"{stop.reason}; the signatures of {counted(tally.settled, 'clip')} are kept, the same command continues "
            "from there"
        )
    return tally


def _commit(manifest: Manifest, found: Found, tally: Tally, apply_: bool, within_train: bool, as_json: bool) -> None:
    """Write the pairs, with `apply_` a new version of the manifest, and print both."""
    from k710.manifest.pairs import write_pairs
    from k710.near_duplicates.apply import apply, chosen_drops
    from k710.near_duplicates.sides import taken_out

    changed = None
    if apply_:
        changed = apply(manifest, found, within_train=within_train)
        drops = chosen_drops(manifest.clips, found.pairs, within_train=within_train)
        num_dropped, num_back = len(drops), len(taken_out(manifest.clips) - drops.keys())
    else:
        write_pairs(manifest, found.pairs, found.about, [manifest.content_hash])
    if as_json:
        data = {**found.about, "failures": tally.messages, "pairs": found.pairs.to_pylist()}
        if apply_:
            data |= {"content_hash": (changed or manifest).content_hash, "changed": changed is not None}
            data |= {"dropped": num_dropped, "back": num_back}
        print_json(data)
        return
    _print(manifest, found)
    if changed is not None:
        back = f" {num_back:,} that were dropped before, and are not proposed now, are back in it." if num_back else ""
        click.echo(
            f"Applied: {counted(num_dropped, 'clip is', 'clips are')} out of train.{back} {changed.path} has content "
            f"hash {changed.content_hash[:16]}. The version before stays until `k710 prune {changed.path}`."
        )
    elif apply_:
        which = (
            f"the {counted(num_dropped, 'clip is', 'clips are')} out of train already"
            if num_dropped
            else "no clip is proposed"
        )
        click.echo(f"Nothing to apply: {which}.")


def _print_plan(prepared: Prepared, store: Store) -> None:
    media = prepared.missing["size"].to_numpy().sum() / 1e6
    click.echo(
        f"{counted(len(prepared.clips), 'clip')} to compare, {len(prepared.media):,} of them in {store.root} (profile "
        f"{store.profile_folder}).\n{len(prepared.missing):,} have no signature yet: {media:,.1f} MB to decode."
    )


def _print(manifest: Manifest, found: Found) -> None:
    counts, parameters = found.about["counts"], found.about["parameters"]
    click.echo(
        f"{counts['compared']:,} of {counted(counts['clips'], 'clip')} compared (view {parameters['view']}, "
        f"{parameters['threshold_bits']} of 256 bits); {_not_compared(counts)}\n"
    )
    if not found.pairs.num_rows:
        click.echo("No two of them have the same footage.")
    else:
        _print_pairs(found)
    if counts["common_frames"]:
        examples = ", ".join(counts["common_examples"])
        frames = counted(counts["common_frames"], "frame")
        clips = counted(counts["common_clips"], "clip is", "clips are")
        click.echo(f"{frames} of {clips} too common to be compared (title cards, intros), as in {examples}.\n")
    click.echo(f"All pairs: {manifest.path / 'near_duplicates.parquet'}")


def _not_compared(counts: dict[str, Any]) -> str:
    absent = counts["clips"] - counts["compared"] - sum(counts[key] for key in _WHY_NOT)
    reasons = [f"{absent:,} are not in the store"]
    reasons += [f"{counts[key]:,} {text}" for key, text in _WHY_NOT.items() if counts[key]]
    return ", ".join(reasons) + "."


_WHY_NOT = {
    "undecodable": "do not decode",
    "too_plain": "have too little detail (black, flat, plain)",
    "not_read": "could not be read",
}


def _print_pairs(found: Found) -> None:
    pairs, counts, parameters = found.pairs, found.about["counts"], found.about["parameters"]
    rows = [[sides, number["pairs"], number["drops"]] for sides, number in counts["pairs"].items()]
    title = f"Pairs that show the same, in {counted(counts['groups'], 'group')}, and clips that could be dropped"
    print_table([parameters["view"], "pairs", "drops"], rows, title=title)
    print_table(
        ["clip", "shows the same as", "bits", "shift, s", "mirrored", "proposed"],
        [_shown(row) for row in _nearest(pairs)],
        title=f"The nearest {min(_SHOWN, pairs.num_rows):,} of {pairs.num_rows:,}, those with a proposal first",
    )
    if counts["same_bytes"]:
        click.echo(f"{counted(counts['same_bytes'], 'pair')} of equal bytes (one SHA-256 under two IDs) among them.\n")
    drops = len(set(pairs["drop_clip_id"].drop_null().to_pylist()))
    click.echo(f"Proposed: drop {counted(drops, 'clip')}. --apply drops those that repeat a held-out clip.\n")


def _nearest(pairs: pa.Table) -> list[dict[str, Any]]:
    return sorted(pairs.to_pylist(), key=lambda row: (row["drop_clip_id"] is None, row["distance"], row["clip_id"]))[
        :_SHOWN
    ]


def _shown(row: dict[str, Any]) -> list[Any]:
    drop = f"drop {row['drop_clip_id']}" if row["drop_clip_id"] else None
    mirrored = "yes" if row["mirrored"] else None
    bits, shift = f"{row['distance']:.1f}", f"{row['shift_s']:+.2f}"
    return [row["clip_id"], row["other_clip_id"], bits, shift, mirrored, drop]
