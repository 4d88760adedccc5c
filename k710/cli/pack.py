"""`k710 pack`: shards for streaming."""

from __future__ import annotations

from pathlib import Path

import click

from k710.cli.common import FOLDER_OR_URL, SPLIT, VIEW
from k710.storage import Location


@click.command("pack")
@click.argument("manifest", type=FOLDER_OR_URL)
@click.option("--view", type=VIEW, default="k710", show_default=True, help="k710, k400, k600, k700 or k700_2020.")
@click.option("--split", type=SPLIT, default="train", show_default=True, help="train, val or test.")
@click.option("--dialect", default="canonical", show_default=True, help="Index order of the classes.")
@click.option("--out", type=FOLDER_OR_URL, help="Place of the shards.  [shards/VIEW-SPLIT]")
@click.option("--store", type=FOLDER_OR_URL, help="Place of the media.  [MANIFEST/store]")
@click.option("--profile", default="h264", show_default=True, help="Which encode profile of the store.")
@click.option("--shard-clips", type=click.IntRange(1), default=500, show_default=True, help="At most.")
@click.option("--seed", default=0, show_default=True, help="Of the order.")
@click.option("--force", is_flag=True, help="Replace shards that are there.")
def command(
    manifest: Location,
    view: str,
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
    from k710.fetch.pack import Packing, pack
    from k710.manifest import open_manifest
    from k710.store import Store

    folder: Location = Path("shards") / f"{view}-{split}" if out is None else out
    packing = Packing(view, split, dialect, shard_clips, seed)
    opened = open_manifest(manifest)
    about = pack(opened, Store(store_of(opened.path, store), profile), folder, packing, force=force)
    size = sum(shard["bytes"] for shard in about["shards"])
    click.echo(f"{folder}: {about['clips']:,} clips in {len(about['shards']):,} shards, {size / 1e6:,.1f} MB")
    if about["missing"]:
        click.echo(f"{about['missing']:,} clips of {view} {split} are not in the store and were left out")
