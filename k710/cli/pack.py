"""`k710 pack`: shards for streaming."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from k710.cli.common import FOLDER_OR_URL, SPLIT, VIEW, steps
from k710.storage.storage import Location
from k710.store.profile_names import DEFAULT_PROFILE
from k710.text import counted


@click.command("pack")
@click.argument("manifest", type=FOLDER_OR_URL)
@click.option("--view", type=VIEW, help="The union, or a source, such as k400.  [the union: k710]")
@click.option("--split", type=SPLIT, default="train", show_default=True, help="train, val or test.")
@click.option("--dialect", default="canonical", show_default=True, help="Index order of the classes.")
@click.option("--out", type=FOLDER_OR_URL, help="Place of the shards.  [shards/VIEW-SPLIT]")
@click.option("--store", type=FOLDER_OR_URL, help="Place of the media.  [MANIFEST/store]")
@click.option("--profile", default=DEFAULT_PROFILE, show_default=True, help="Which encode profile of the store.")
@click.option("--shard-clips", type=click.IntRange(1), default=500, show_default=True, help="At most.")
@click.option("--seed", default=0, show_default=True, help="Of the order.")
@click.option("--force", is_flag=True, help="Replace shards that are there.")
def command(
    manifest: Location,
    view: str | None,
    split: str,
    dialect: str,
    out: Location | None,
    store: Location | None,
    profile: str,
    shard_clips: int,
    seed: int,
    force: bool,
) -> None:
    """Pack clips into shards for streaming.

    Writes the clips of one view and split as uniform, class-mixed WebDataset tars, labels beside them. They can be
    thrown away and made again: the store keeps the clips.

    \b
    Example:
      k710 pack manifests/k710 --view k400 --split train --out shards/k400-train
    """
    from k710.cli.fetch import store_of
    from k710.maintenance.pack import Packing, pack
    from k710.manifest.read import open_manifest
    from k710.store.store import Store

    step = steps()
    step("reading the manifest and the store's rows")
    opened, progress = open_manifest(manifest), partial(step, "packing clips")
    view = opened.catalogue.check_view(view)
    folder: Location = Path("shards") / f"{view}-{split}" if out is None else out
    packing = Packing(view, split, dialect, shard_clips, seed)
    held = Store(store_of(opened.path, store), profile)
    about = pack(opened, held, folder, packing, force=force, on_progress=progress)
    step.end()
    size = sum(shard["bytes"] for shard in about["shards"])
    clips, shards = counted(about["clips"], "clip"), counted(len(about["shards"]), "shard")
    click.echo(f"{folder}: {clips} in {shards}, {size / 1e6:,.1f} MB")
    if about["missing"]:
        missing = counted(about["missing"], f"clip of {view} {split} is", f"clips of {view} {split} are")
        click.echo(f"{missing} not in the store and {'was' if about['missing'] == 1 else 'were'} left out")
