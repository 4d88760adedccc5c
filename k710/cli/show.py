"""`k710 show`: clips as a training run gets them, or as a masked pretraining reconstructs them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from k710.cli.common import ANY_PATH, FILE, FOLDER, FOLDER_OR_URL, SPLIT, VIEW
from k710.storage.storage import Location
from k710.store.profile_names import DEFAULT_PROFILE
from k710.text import counted, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from PIL.Image import Image

    from k710.loading.clip_source import Media
    from k710.loading.dataset import ClipDataset

MAX_MESSAGES = 20  # for clips that are not shown


@click.command("show")
@click.argument("manifest", type=FOLDER_OR_URL)
@click.option("--view", type=VIEW, help="The union, or a source, such as k400.  [the union: k710]")
@click.option("--split", type=SPLIT, default="train", show_default=True, help="train, val or test.")
@click.option("--store", type=FOLDER_OR_URL, help="Place of the media.  [MANIFEST/store]")
@click.option("--profile", default=DEFAULT_PROFILE, show_default=True, help="Encode profile of the store.")
@click.option("--folder", type=FOLDER, help="A folder of clip files instead of a store.")
@click.option("--clips", "num_clips", type=click.IntRange(1, 50), default=4, show_default=True, help="Number of clips.")
@click.option("--clip-id", "clip_ids", multiple=True, help="Show this clip instead of drawn ones (repeatable).")
@click.option(
    "--frames", "num_frames", type=click.IntRange(1, 64), default=8, show_default=True, help="Frames per clip."
)
@click.option("--augment", "augmented", is_flag=True, help="Also show each clip after augmentation.")
@click.option(
    "--reconstruct", "checkpoint", type=ANY_PATH, help="Show what this masked pretraining sees and reconstructs."
)
@click.option(
    "--seed", default=0, show_default=True, help="Seed of the order, the frames, the augmentation, the masks."
)
@click.option("--out", type=FILE, default=Path("contact-sheet.png"), show_default=True, help="The PNG to write.")
def command(
    manifest: Location,
    view: str | None,
    split: str,
    store: Location | None,
    profile: str,
    folder: Path | None,
    num_clips: int,
    clip_ids: tuple[str, ...],
    num_frames: int,
    augmented: bool,
    checkpoint: Path | None,
    seed: int,
    out: Path,
) -> None:
    """Write a contact sheet of some clips.

    Each clip is a row of frames under its label, sampled as in training (or validation). With --augment, a second row
    shows the frames after augmentation. With --reconstruct, the rows are the frames that the model of a masked
    pretraining is given, what it sees of them, and what it reconstructs.

    \b
    Examples:
      k710 show manifests/k710 --view k400 --split train --augment
      k710 show manifests/k710 --split val --reconstruct runs/pretrain/best.pt
    """
    from k710.loading.clip_source import Media
    from k710.storage.storage import replacing

    if augmented and checkpoint is not None:
        raise click.UsageError("--augment and --reconstruct are two sheets; give one of them")
    failures: list[str] = []

    def on_failure(message: str) -> None:
        failures.append(message)
        if len(failures) <= MAX_MESSAGES:
            click.echo(f"not shown: {printable(message)}", err=True)

    media = Media(store, profile, folder)
    if checkpoint is None:
        dataset, sheet = _clips(
            manifest, media, view, split, num_clips, clip_ids, num_frames, augmented, seed, on_failure
        )
    else:
        dataset, sheet = _reconstructed(
            checkpoint, manifest, media, view, split, num_clips, clip_ids, num_frames, seed, on_failure
        )
    with replacing(out) as file:
        sheet.save(file, format="png", optimize=True)
    counts = dataset.counts
    shown = min(len(clip_ids) or num_clips, (len(clip_ids) or len(dataset)) - len(failures))
    missing = counted(counts.missing, "is", "are")
    unread = f"{len(failures):,} could not be read; " if failures else ""
    click.echo(f"{out}: {shown} of {counted(counts.loaded, 'clip')}; {unread}{missing} not here")


def _clips(
    manifest: Location,
    media: Media,
    view: str | None,
    split: str,
    num_clips: int,
    clip_ids: Sequence[str],
    num_frames: int,
    augmented: bool,
    seed: int,
    on_failure: Callable[[str], None],
) -> tuple[ClipDataset, Image]:
    from k710.loading.augment.augment import Augment
    from k710.loading.contact_sheet import contact_sheet
    from k710.loading.load_clip import ClipOptions
    from k710.manifest.read import open_manifest

    options = ClipOptions(num_frames=num_frames, seed=seed)
    dataset = media.dataset(open_manifest(manifest), options, view=view, split=split)
    settings = Augment() if augmented else None
    sheet = contact_sheet(dataset, num_clips=num_clips, settings=settings, clip_ids=clip_ids, on_failure=on_failure)
    return dataset, sheet


def _reconstructed(
    checkpoint: Path,
    manifest: Location,
    media: Media,
    view: str | None,
    split: str,
    num_clips: int,
    clip_ids: Sequence[str],
    num_shown: int,
    seed: int,
    on_failure: Callable[[str], None],
) -> tuple[ClipDataset, Image]:
    from k710.evaluation.reconstruction import open_reconstructing, reconstruction_sheet, shown_clips
    from k710.manifest.read import open_manifest

    body = open_reconstructing(checkpoint)
    for message in body.messages:
        click.echo(message, err=True)
    dataset = shown_clips(body, open_manifest(manifest), media, view=view, split=split, seed=seed)
    sheet = reconstruction_sheet(
        body, dataset, num_clips=num_clips, num_shown=num_shown, clip_ids=clip_ids, on_failure=on_failure
    )
    return dataset, sheet
