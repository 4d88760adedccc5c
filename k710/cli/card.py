"""`k710 card`: a README for a dataset, and its Croissant file."""

from __future__ import annotations

from pathlib import Path

import click

from k710.cli.common import FILE, FOLDER_OR_URL, PATH_OR_URL, named_store
from k710.storage.storage import Location
from k710.store.profile_names import DEFAULT_PROFILE


@click.command("card")
@click.argument("manifest", type=PATH_OR_URL)
@click.option("--store", type=FOLDER_OR_URL, help="Add the fetched clips and the failures of this store.")
@click.option("--profile", default=DEFAULT_PROFILE, show_default=True, help="Encode profile of the store.")
@click.option("--out", type=FILE, help="File to write, such as MANIFEST/README.md.  [standard output]")
@click.option("--croissant", type=FILE, help="Write a Croissant file instead of a card, or beside --out.")
@click.option("--base-url", metavar="URL", help="With --croissant: where the manifest's folder is published.")
@click.option("--about", type=FILE, help="With --croissant: a YAML file with what only you know of the dataset.")
@click.option("--force", is_flag=True, help="Replace a file that exists.")
def command(
    manifest: Location,
    store: Location | None,
    profile: str,
    out: Path | None,
    croissant: Path | None,
    base_url: str | None,
    about: Path | None,
    force: bool,
) -> None:
    """Write a dataset card.

    The card is a README.md with the header that the Hugging Face Hub reads. It has the counts, the policy, the sources
    and their hashes, the command that builds the dataset again, the clips that were left out, doubtful labels, the
    licence and the citations. --croissant writes the same facts for programs, with the responsible-AI fields.

    \b
    Examples:
      k710 card manifests/k710
      k710 card manifests/k710 --out README.md
      k710 card manifests/k710 --croissant manifests/k710/croissant.json
    """
    from k710.cli.manifests import open_manifest
    from k710.export.card import card, check_card_place, write_card
    from k710.export.croissant import CROISSANT, check_croissant_place, manifest_croissant
    from k710.export.stated import Stated, read_stated

    if croissant is None and (base_url or about):
        raise click.UsageError("--base-url and --about need --croissant")
    opened = open_manifest(manifest)
    if out is not None:
        check_card_place(opened, out)
    if croissant is not None:
        check_card_place(opened, croissant, CROISSANT)
        check_croissant_place(opened, croissant, base_url)
    stated = Stated() if about is None else read_stated(about)
    if out is not None or croissant is None:
        text = card(opened, store=None if store is None else named_store(store, profile))
        if out is None:
            click.echo(text, nl=False)
        else:
            write_card(out, text, force=force)
            click.echo(f"{out}: the card of {opened.path}, content hash {opened.content_hash[:16]}")
    if croissant is not None:
        write_card(croissant, manifest_croissant(opened, stated, base_url=base_url or ""), force=force)
        click.echo(f"{croissant}: Croissant of {opened.path}, content hash {opened.content_hash[:16]}")
