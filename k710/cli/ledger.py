"""`k710 ledger`: what is known of the clips' availability, to share with others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from k710.cli.common import FILE, PATH_OR_URL, print_json, print_table
from k710.storage.storage import Location
from k710.text import counted

if TYPE_CHECKING:
    import pyarrow as pa

ACTIONS = ("export", "merge", "show")


@click.command("ledger")
@click.argument("action", type=click.Choice(ACTIONS))
@click.argument("places", nargs=-1, required=True, type=PATH_OR_URL)
@click.option("--out", type=FILE, help="The ledger to write, for export and merge.")
@click.option("--store", type=PATH_OR_URL, help="With export: place of the media.  [MANIFEST/store]")
@click.option("--witness", metavar="HEX", help="With export: 16 digits instead of the store's own.")
@click.option("--json", "as_json", is_flag=True, help="Print what the ledger says as JSON.")
def command(
    action: str,
    places: tuple[Location, ...],
    out: Path | None,
    store: Location | None,
    witness: str | None,
    as_json: bool,
) -> None:
    """Share which clips are still available.

    `export MANIFEST` writes what its store knows of every clip: had, or gone and why, since when, by which origin; no
    media and no paths. `merge LEDGER...` joins ledgers of several people, in any order. `show LEDGER` prints one.

    \b
    Examples:
      k710 ledger export manifests/k710 --out mine.parquet
      k710 ledger merge mine.parquet theirs.parquet --out both.parquet
      k710 ledger show both.parquet
    """
    from k710.ledger.ledger import merge, read_ledger, write_ledger

    _check(action, places, out, store, witness)
    if action == "export":
        ledger = _export(places[0], store, witness)
    else:
        ledger = merge(read_ledger(_file(place)) for place in places)
    if out is not None:
        write_ledger(out, ledger)
    if as_json:
        _print_as_json(ledger)
    else:
        _print(ledger)
        if out is not None:
            click.echo(f"{out}: {counted(ledger.num_rows, 'row')}")


def _check(
    action: str, places: tuple[Location, ...], out: Path | None, store: Location | None, witness: str | None
) -> None:
    if action == "export" and len(places) > 1:
        raise click.UsageError("export takes one MANIFEST; merge joins the ledgers of several")
    if (out is None) != (action == "show"):
        raise click.UsageError("show writes nothing" if action == "show" else f"{action} needs --out FILE")
    if action != "export" and (store is not None or witness is not None):
        raise click.UsageError("--store and --witness go with export")


def _file(place: Location) -> Path:
    if not isinstance(place, Path):
        raise click.UsageError(f"{place}: a ledger is a file of this machine; copy it here")
    return place


def _export(manifest: Location, store: Location | None, witness: str | None) -> pa.Table:
    """The ledger of the store, of those clips that the manifest has."""
    import pyarrow.compute as pc

    from k710.cli.fetch import store_of
    from k710.cli.manifests import open_manifest
    from k710.errors import StoreError, UsageError
    from k710.ledger.ledger import is_witness
    from k710.maintenance.ledger_of_store import ledger_of_store, witness_of
    from k710.store.store import profiles_in

    if witness is not None and not is_witness(witness):
        raise UsageError(f"--witness {witness!r}: want 16 hexadecimal digits, 0-9 and a-f")
    opened = open_manifest(manifest)
    root = store_of(opened.path, store)
    if not list(profiles_in(root)):
        raise StoreError(f"{root}: no store there")
    found, left_out = ledger_of_store(root, witness or witness_of(root))
    known = opened.clips["clip_id"].combine_chunks()
    if left_out:
        click.echo(
            f"{counted(left_out, 'clip is', 'clips are')} left out: the IDs are not YouTube's and may be file names",
            err=True,
        )
    return found.filter(pc.is_in(found["clip_id"], known))


def _print_as_json(ledger: pa.Table) -> None:
    from k710.ledger.summary import decay, gone_for_everybody, states

    witnesses = ledger["witness"].unique().to_pylist()
    print_json(
        {
            "rows": ledger.num_rows,
            "witnesses": sorted(witnesses),
            "origins": [vars(state) for state in states(ledger)],
            "gone_for_everybody": sorted(gone_for_everybody(ledger).to_pylist()),
            "decay": [vars(month) for month in decay(ledger)],
        }
    )


def _print(ledger: pa.Table) -> None:
    from k710.ledger.summary import SIGHTINGS, decay, gone_for_everybody, states

    found = states(ledger)
    answers = list(dict.fromkeys(answer for state in found for answer in state.answers))
    rows = [
        [state.origin, state.clips, *(state.answers.get(answer, 0) for answer in answers), state.disputed]
        for state in found
    ]
    witnesses = counted(len(ledger["witness"].unique()), "witness", "witnesses")
    print_table(["origin", "clips", *answers, "disputed"], rows, title=f"The latest answers, of {witnesses}")
    if months := decay(ledger):
        shares = [[month.month, month.asked, month.had, f"{month.had / month.asked:.1%}"] for month in months]
        print_table(["month", "asked", "had", "there"], shares, title="Clips that YouTube was asked for")
    gone = len(gone_for_everybody(ledger))
    click.echo(
        f"{counted(gone, 'video')} gone or private by {SIGHTINGS} answers or more; `k710 fetch --ledger` skips them."
    )
