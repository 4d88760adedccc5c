"""`k710 show`: clips as a training run gets them."""

from __future__ import annotations

from pathlib import Path

import click

from k710.cli.common import FILE, FOLDER, FOLDER_OR_URL, SPLIT, VIEW
from k710.storage.storage import Location
from k710.store.profile_names import DEFAULT_PROFILE
from k710.text import counted, printable

MAX_MESSAGES = 20  # for clips that are not shown


@click.command("show")
@click.argument("manifest", type=FOLDER_OR_URL)
@click.option("--view", type=VIEW, default="k710", show_default=True, help="k710, k400, k600, k700 or k700_2020.")
@click.option("--split", type=SPLIT, default="train", show_default=True, help="train, val or test.")
@click.option("--store", type=FOLDER_OR_URL, help="Place of the media.  [MANIFEST/store]")
@click.option("--profile", default=DEFAULT_PROFILE, show_default=True, help="Encode profile of the store.")
@click.option("--folder", type=FOLDER, help="A folder of clip files instead of a store.")
@click.option("--clips", "num_clips", type=click.IntRange(1, 50), default=4, show_default=True, help="Number of clips.")
@click.option(
    "--frames", "num_frames", type=click.IntRange(1, 64), default=8, show_default=True, help="Frames per clip."
)
@click.option("--augment", "augmented", is_flag=True, help="Also show each clip after augmentation.")
@click.option("--seed", default=0, show_default=True, help="Seed of the order, the frames and the augmentation.")
@click.option("--out", type=FILE, default=Path("contact-sheet.png"), show_default=True, help="The PNG to write.")
def command(
    manifest: Location,
    view: str,
    split: str,
    store: Location | None,
    profile: str,
    folder: Path | None,
    num_clips: int,
    num_frames: int,
    augmented: bool,
    seed: int,
    out: Path,
) -> None:
    """Write a contact sheet of some clips.

    Each clip is a row of frames under its label, sampled as in training (or validation). With --augment, a second row
    shows the frames after augmentation.

    \b
    Example:
      k710 show manifests/k710 --view k400 --split train --augment
    """
    from k710.loading.augment.augment import Augment
    from k710.loading.contact_sheet import contact_sheet
    from k710.loading.dataset import open_dataset
    from k710.loading.load_clip import ClipOptions
    from k710.storage.storage import replacing

    options = ClipOptions(num_frames=num_frames, seed=seed)
    dataset = open_dataset(
        manifest, view=view, split=split, store=store, folder=folder, profile=profile, options=options
    )
    failures: list[str] = []

    def on_failure(message: str) -> None:
        failures.append(message)
        if len(failures) <= MAX_MESSAGES:
            click.echo(f"not shown: {printable(message)}", err=True)

    settings = Augment() if augmented else None
    sheet = contact_sheet(dataset, num_clips=num_clips, settings=settings, on_failure=on_failure)
    with replacing(out) as file:
        sheet.save(file, format="png", optimize=True)
    counts = dataset.counts
    shown, missing = min(num_clips, len(dataset) - len(failures)), counted(counts.missing, "is", "are")
    unread = f"{len(failures):,} could not be read; " if failures else ""
    click.echo(f"{out}: {shown} of {counted(counts.loaded, 'clip')}; {unread}{missing} not here")
