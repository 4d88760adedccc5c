"""`k710 unpack`: clips of the store as files."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click

from k710.cli.common import FILE, FOLDER, FOLDER_OR_URL, SPLIT, VIEW, named_store, steps
from k710.storage.storage import Location
from k710.store.profile_names import DEFAULT_PROFILE
from k710.text import counted


@click.command("unpack")
@click.argument("manifest", type=FOLDER_OR_URL)
@click.option("--view", type=VIEW, default="k710", show_default=True, help="k710, k400, k600, k700 or k700_2020.")
@click.option("--split", type=SPLIT, default="train", show_default=True, help="train, val or test.")
@click.option("--out", type=FOLDER, required=True, help="Folder for the files.")
@click.option("--store", type=FOLDER_OR_URL, help="Place of the media.  [MANIFEST/store]")
@click.option("--profile", default=DEFAULT_PROFILE, show_default=True, help="Which encode profile of the store.")
@click.option(
    "--folders",
    type=click.Choice(["none", "spaces", "underscores"]),
    default="none",
    show_default=True,
    help="Class folders, their names with spaces or with underscores.",
)
@click.option("--template", help="Path of a clip below --out instead, without suffix; fields as for k710 export.")
@click.option("--frame-name", metavar="NAME", help="Of profile frames: a frame's file name.  [img_{:05d}.jpg]")
@click.option("--link-from", type=FOLDER, help="Hard-link files of this folder that hold the stored bytes.")
@click.option("--dialect", default="canonical", show_default=True, help="Index order, for {class_id} in --template.")
@click.option("--classes", type=FILE, help="Only these classes: a file, one a line.")
@click.option("--clips", type=FILE, help="Only the clips or videos of this list.")
@click.option("--per-class", type=click.IntRange(1), metavar="N", help="At most N clips of each class.")
@click.option("--seed", default=0, show_default=True, help="With --per-class: which ones.")
@click.option("--left-out", type=FILE, help="Write the names of the clips left out, and why, here (CSV).")
@click.option("--force", is_flag=True, help="Replace files that are something else.")
def command(
    manifest: Location,
    view: str,
    split: str,
    out: Path,
    store: Location | None,
    profile: str,
    folders: str,
    template: str | None,
    frame_name: str | None,
    link_from: Path | None,
    dialect: str,
    left_out: Path | None,
    force: bool,
    **chosen: Any,
) -> None:
    """Write clips of the store as files.

    One file per clip of a view and split, flat, in class folders, or where a template puts it; of profile frames, a
    folder of JPEGs. A second run writes only what is missing.

    \b
    Examples:
      k710 unpack manifests/k710 --view k400 --split val --out clips/k400-val
      k710 unpack manifests/k710 --view k400 --folders underscores --out clips/k400-train
    """
    from k710.cli.fetch import store_of
    from k710.engine.engine import Stop, polite_interrupts
    from k710.errors import StoreError
    from k710.export.lists import split_parts
    from k710.export.paths import FRAME_FILE
    from k710.export.selection import Selection, in_words, select, write_left_out
    from k710.export.unpack import FOLDERS, Unpacking, unpack
    from k710.manifest.read import open_manifest
    from k710.manifest.views import view as view_of

    if template is not None and folders != "none":
        raise click.UsageError("--template and --folders cannot be combined: --template makes the folders too")
    how = Unpacking(template or FOLDERS[folders], frame_name or FRAME_FILE, link_from).checked()
    step = steps()
    step("reading the manifest and the store's rows")
    opened = open_manifest(manifest)
    table = view_of(opened.clips, view, opened.catalogue, dialect=dialect)
    split_parts(table, (split,))
    held = named_store(store_of(opened.path, store), profile)
    kept, left = select(opened, table, Selection(store=held, keep_indices=True, **chosen), (split,))
    stop = Stop()
    with polite_interrupts(stop, partial(click.echo, err=True)):
        done = unpack(
            *(opened, kept, held, out, how), force=force, stop=stop, on_progress=partial(step, "unpacking clips")
        )
    step.end()
    parts = [f"{counted(done.written, 'clip')} written ({done.size_bytes / 1e6:,.1f} MB)"]
    parts += [f"{done.linked:,} linked"] if done.linked else []
    parts += [f"{done.there:,} there already"] if done.there else []
    click.echo(f"{out}: {', '.join(parts)}")
    if left_out:
        write_left_out(left_out, left, force=force)
    if left:
        click.echo(in_words(left).replace("; ", "\n") + f"\n{left_out} names them" * bool(left_out))
    if stop.asked:
        raise StoreError(f"{stop.reason}; the same command goes on from there")
