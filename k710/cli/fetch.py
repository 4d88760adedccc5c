"""`k710 fetch`: the clips of a manifest into a store."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from k710.cli.common import (
    COMMA_LIST,
    ENGINE,
    FILE,
    FOLDER_OR_URL,
    RAY_ADDRESS,
    SCRATCH,
    SPLIT_LIST,
    VIEW,
    RecipeName,
    comma_parts,
    engine_of,
    print_json,
    print_table,
)
from k710.cli.youtube_options import youtube_options
from k710.storage.storage import Location
from k710.store.profile_names import DEFAULT_PROFILE
from k710.text import counted, data_size, printable

if TYPE_CHECKING:
    from k710.engine.engine import OpenEngine
    from k710.fetch.origins.youtube.options import YouTubeOptions
    from k710.fetch.plan import FetchOptions
    from k710.fetch.unit_work import Tally
    from k710.manifest.read import Manifest

MAX_SHOWN = 20  # of the videos that gave no answer


@click.command("fetch")
@click.argument("manifest", type=FOLDER_OR_URL)
@click.option(
    "--from", "origins", multiple=True, metavar="ORIGIN,…", help="local:DIR, cvdf, youtube; asked in this order."
)
@click.option(
    "--store", type=FOLDER_OR_URL, help="Place of the media; several manifests may share it.  [MANIFEST/store]"
)
@click.option(
    "--profile",
    type=RecipeName("encode"),
    default=DEFAULT_PROFILE,
    show_default=True,
    metavar="NAME_OR_FILE",
    help="See `k710 recipes`.",
)
@click.option("--audio", is_flag=True, help="Keep the sound.")
@click.option("--view", type=VIEW, help="Only clips of this view: k710, k400, k600, k700, k700_2020.")
@click.option("--splits", type=SPLIT_LIST, default="train,val", show_default=True, help="Only clips of these splits.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Only N clips, taken at random, always the same.")
@click.option("--retry", type=COMMA_LIST, default=(), help="Try failed clips of these classes again, such as corrupt.")
@click.option("--ledger", type=FILE, help="Do not ask YouTube for videos that others found gone twice.")
@click.option("--workers", type=click.IntRange(1), metavar="N", help="Processes.  [one more than cores]")
@SCRATCH
@click.option("--part", metavar="I/N", help="Only part I of N, for N machines over one store; see docs/cluster.md.")
@ENGINE
@RAY_ADDRESS
@youtube_options
@click.option("--dry-run", is_flag=True, help="Say what would be read, downloaded and stored; fetch nothing.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def command(
    manifest: Location,
    *,
    origins: tuple[str, ...],
    store: Location | None,
    profile: str,
    audio: bool,
    view: str | None,
    splits: tuple[str, ...],
    limit: int | None,
    retry: tuple[str, ...],
    ledger: Path | None,
    workers: int | None,
    scratch: Path | None,
    part: str | None,
    engine: str,
    ray_address: str | None,
    youtube: YouTubeOptions,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Fetch clips: cut, encode, check, store.

    Finds the clips of a manifest on disk, in the public archives or on YouTube and puts them, checked, into a store. A
    second run does only what is missing. docs/fetch.md and docs/youtube.md explain it all.

    \b
    Examples:
      k710 fetch manifests/k710 --from local:clips --workers 2
      k710 fetch manifests/k710 --from local:clips --view k400 --splits val --dry-run
    """
    from k710.cli.manifests import open_manifest

    opened = open_manifest(manifest)
    options = fetch_options(
        origins,
        profile=profile,
        audio=audio,
        view=view,
        splits=splits,
        limit=limit,
        retry=retry,
        ledger=ledger,
        workers=workers,
        scratch=scratch,
        part=part,
        youtube=youtube,
    )
    chosen = engine_of(engine, ray_address, workers=workers)
    if dry_run:
        _print_estimate(opened, store_of(opened.path, store), options, as_json=as_json)
    else:
        fetch_and_print(opened, store_of(opened.path, store), options, engine=chosen, as_json=as_json)


def store_of(manifest: Location, store: Location | None) -> Location:
    """The store of a manifest where none is named."""
    return manifest / "store" if store is None else store


def fetch_options(
    origins: tuple[str, ...],
    *,
    profile: str = DEFAULT_PROFILE,
    audio: bool = False,
    view: str | None = None,
    splits: tuple[str, ...] = ("train", "val"),
    limit: int | None = None,
    retry: tuple[str, ...] = (),
    ledger: Path | None = None,
    workers: int | None = None,
    scratch: Path | None = None,
    part: str | None = None,
    youtube: YouTubeOptions | None = None,
) -> FetchOptions:
    """The library's options from those of the command."""
    from k710.engine.part import Part, parse_part
    from k710.fetch.encode.profiles import read_profile
    from k710.fetch.origins.parse import parse_origin
    from k710.fetch.origins.youtube.options import YouTubeOptions
    from k710.fetch.plan import FetchOptions

    names = tuple(origin for given in origins for origin in comma_parts(given)) or ("cvdf",)
    chosen = read_profile(profile, audio=audio)
    parsed_part = Part() if part is None else parse_part(part)
    return FetchOptions(
        chosen,
        origins=tuple(map(parse_origin, names)),
        view=view,
        splits=splits,
        limit=limit,
        retry=frozenset(retry),
        workers=workers or (os.cpu_count() or 1) + 1,  # a core has work while one of them starts ffmpeg or checks
        scratch=scratch,
        part=parsed_part,
        youtube=youtube or YouTubeOptions(),
        known_gone=frozenset() if ledger is None else _known_gone(ledger, origins=names, retry=retry),
    ).checked()


def _known_gone(ledger: Path, *, origins: tuple[str, ...], retry: tuple[str, ...]) -> frozenset[str]:
    from k710.ledger.ledger import YOUTUBE, read_ledger
    from k710.ledger.summary import FOR_EVERYBODY, gone_for_everybody

    if YOUTUBE not in origins:
        raise click.UsageError("--ledger says what YouTube has lost; it needs the origin youtube, in --from")
    answers = tuple(answer for answer in FOR_EVERYBODY if answer not in retry)
    return frozenset(gone_for_everybody(read_ledger(ledger), answers).to_pylist())


def fetch_and_print(
    manifest: Manifest,
    store: Location,
    options: FetchOptions,
    *,
    engine: OpenEngine | None = None,
    as_json: bool = False,
) -> None:
    """Fetch with progress on stderr, then the table of what is there; raises where the run could not go on."""
    from k710.engine.engine import Stop, local_engine, polite_interrupts
    from k710.errors import FetchError
    from k710.fetch.run import fetch
    from k710.progress import clip_progress

    stop = Stop()
    try:
        with (
            polite_interrupts(stop, _print_message),
            clip_progress("clips") as (on_planned, on_settled),
        ):
            tally = fetch(
                manifest,
                store,
                options,
                stop=stop,
                on_planned=on_planned,
                on_settled=on_settled,
                on_message=_print_message,
                engine=engine or local_engine,
            )
    except KeyboardInterrupt:
        click.echo("k710: stopped at once; the same command goes on from what was committed", err=True)
        sys.stdout.flush()
        os._exit(1)  # units may wait for a network that never answers
    if as_json:
        _print_run_as_json(tally, manifest, store, options.profile.folder)
    else:
        _print_tally(tally)
        print_status(manifest, store, options.profile.folder)
    if stop.asked:
        raise FetchError(f"{stop.reason}; everything settled so far is kept, and the same command goes on from there")
    if tally.unread or tally.damaged:
        raise FetchError(_archives_again(len(tally.unread), len(tally.damaged)))
    if tally.unsettled:
        raise FetchError(f"{counted(len(tally.unsettled), 'video')} gave no answer; the same command asks again")


def _archives_again(unread: int, damaged: int) -> str:
    """What an exit code of 1 is about."""
    counts = ((unread, "could not be read"), (damaged, "broke off"))
    messages = [f"{counted(count, 'archive')} {what}" for count, what in counts if count]
    it = "it" if unread + damaged == 1 else "them"
    return f"{', '.join(messages)}; the same command reads {it} again"


def _print_message(text: str) -> None:
    """A line of its own, also where the line of the progress stands."""
    from k710.progress import write_raw, writes_over

    if writes_over():
        write_raw("\r\x1b[K")
    click.echo(text, err=True)


def print_status(manifest: Manifest, store: Location, profile_folder: str) -> None:
    """What the store has of the manifest: by view and split, and by class of failure."""
    from k710.maintenance.status import status_and_flags
    from k710.store.store import Store

    lines, flags = status_and_flags(manifest, Store(store, profile_folder))
    classes = list(dict.fromkeys(name for line in lines for name in line.failed))
    rows = []
    for line in lines:
        failed = [line.failed.get(name, 0) for name in classes]
        there = f"{line.fetched / line.clips:.1%}"
        rows.append([f"{line.view} {line.split}", line.clips, line.fetched, *failed, line.unsettled, there])
    columns = ["", "clips", "fetched", *classes, "not settled", "there"]
    print_table(columns, rows, title=f"{store}, profile {profile_folder}")
    if classes:
        where = "" if store == manifest.path / "store" else f" --store {store}"
        click.echo(f"`k710 status {manifest.path}{where} --failed` lists the clips that failed, by name.\n")
    if flags:
        click.echo(
            "Kept and flagged: " + ", ".join(f"{count:,} {flag}" for flag, count in sorted(flags.items())) + ".\n"
        )


def _print_run_as_json(tally: Tally, manifest: Manifest, store: Location, profile_folder: str) -> None:
    from k710.maintenance.status import status
    from k710.store.store import Store

    lines = status(manifest, Store(store, profile_folder))
    place = {"store": str(store), "profile": profile_folder}
    print_json({**place, "this_run": tally.counts(), "status": [vars(line) for line in lines]})


def _print_tally(tally: Tally) -> None:
    parts = [f"{counted(tally.fetched, 'clip')} fetched, {tally.bytes_stored / 1e6:,.1f} MB"]
    parts += [f"{count:,} {name}" for name, count in tally.failed.most_common()]
    click.echo("This run: " + ", ".join(parts) + ".\n")
    if tally.left:
        then = "once all have ended, run the parts again for what they lacked"
        click.echo(f"Left to other parts: {counted(tally.left, 'clip')}; {then}.\n")
    for url, reason in tally.unread.items():
        click.echo(printable(f"not read: {reason if url in reason else f'{url}: {reason}'}"), err=True)
    for url, damage in tally.damaged.items():
        then = "the whole clips before it are kept, the next run reads it again"
        click.echo(printable(f"damaged: {url}: {damage}; {then}"), err=True)
    for url, damage in tally.damaged_for_good.items():
        then = "as before, so the server has it so; it is read again once the server has another version"
        click.echo(printable(f"damaged: {url}: {damage}; {then}"), err=True)
    for youtube_id, answer in list(tally.unsettled.items())[:MAX_SHOWN]:
        click.echo(printable(f"no answer: {youtube_id}: {answer}"), err=True)
    if len(tally.unsettled) > MAX_SHOWN:
        click.echo(f"no answer: {len(tally.unsettled) - MAX_SHOWN:,} more", err=True)
    if suspected := tally.failed.get("gone_unconfirmed"):
        seem, whom = counted(suspected, "clip seems", "clips seem"), "it" if suspected == 1 else "them"
        click.echo(f"{seem} gone; the same command asks once more for {whom}, after an hour", err=True)
    if tally.refused_members:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(tally.refused_members.items()))
        click.echo(f"members of archives refused: {kinds}", err=True)


def _print_estimate(manifest: Manifest, store: Location, options: FetchOptions, *, as_json: bool) -> None:
    from k710.fetch.estimate import estimate

    found = estimate(manifest, store, options)
    for note in found.notes:
        _print_message(note)
    if as_json:
        names = ("origin", "clips", "archives", "download_bytes")
        stages = [dict(zip(names, stage, strict=True)) for stage in found.stages]
        print_json(vars(found) | {"stages": stages, "store": str(store), "profile": options.profile.folder})
        return
    click.echo(f"{counted(found.wanted, 'clip')} wanted, {found.wanted - found.missing:,} of them in {store}.\n")
    rows = [
        [origin, clips, archives or None, None if not archives else _size(size)]
        for origin, clips, archives, size in found.stages
    ]
    if not options.part.is_whole:
        click.echo(f"Of the missing ones, part {options.part} brings:\n")
    if rows:
        clips = "clips, at most" if options.part.is_whole else "clips, about"
        print_table(["origin", clips, "archives to read", "to download"], rows)
        if len(rows) > 1:
            click.echo("Each is asked only for what those above it turn out to lack.\n")
    click.echo(
        f"To store: about {_size(found.store_bytes)}; scratch: at most {_size(found.scratch_bytes)}; "
        f"free: {_size(found.free_bytes)}."
    )


def _size(size: int | None) -> str:
    return "unknown" if size is None else data_size(size)
