"""`k710 predict`: labels for any video, or the logits of a split's clips for a distillation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from k710.cli.common import (
    ANY_PATH,
    CACHE,
    CACHE_GB,
    CLIP_WEIGHTS,
    FOLDER,
    FOLDER_OR_URL,
    SPLIT,
    VIEW,
    NamesWithDash,
    media_of,
    print_json,
    steps,
)  # fmt: skip
from k710.progress import Steps
from k710.storage.storage import Location
from k710.store.profile_names import DEFAULT_PROFILE
from k710.text import counted, printable

if TYPE_CHECKING:
    from k710.loading.clip_source import Media


# Files of clips are called by YouTube's IDs, which may begin with a dash.
@click.command("predict", cls=NamesWithDash)
@click.argument("files", metavar="FILE...", nargs=-1, type=ANY_PATH)
@click.option("--checkpoint", required=True, type=ANY_PATH, help="The model that labels.")
@click.option("--clips", "num_clips", type=click.IntRange(min=1), default=4, show_default=True, help="Temporal clips.")
@click.option("--crops", "num_crops", type=click.IntRange(1, 3), default=3, show_default=True, help="Crops: 1 or 3.")
@click.option("--frames", "num_frames", type=click.IntRange(min=1), help="Frames of a view, where nothing tells it.")
@click.option("--size", "size_px", type=click.IntRange(min=1), help="Side of a frame in px, where nothing tells it.")
@click.option("--top", type=click.IntRange(min=1), default=5, show_default=True, help="How many classes to print.")
@click.option("--dialect", help="Index order of the head, where the file does not tell it.")
@CLIP_WEIGHTS
@click.option("--device", type=click.Choice(["cpu", "cuda"]), help="Where it runs.  [a GPU where there is one]")
@click.option("--logits", type=ANY_PATH, help="Keep the logits of a split's clips in this Parquet file instead.")
@click.option("--manifest", type=FOLDER_OR_URL, help="The manifest of --logits.")
@click.option("--view", type=VIEW, help="Whose clips and classes.  [the union: k710]")
@click.option("--split", type=SPLIT, default="train", show_default=True, help="Which of its clips.")
@click.option("--store", type=FOLDER_OR_URL, help="Where those clips are.  [MANIFEST/store]")
@click.option("--profile", default=DEFAULT_PROFILE, show_default=True, help="The encode profile of the clips.")
@CACHE
@CACHE_GB
@click.option("--folder", type=FOLDER, help="Read clip files of a folder instead of a store.")
@click.option("--json", "as_json", is_flag=True, help="Every class and its probability, for machines.")
def command(
    files: tuple[Path, ...],
    checkpoint: Path,
    num_clips: int,
    num_crops: int,
    num_frames: int | None,
    size_px: int | None,
    top: int,
    dialect: str | None,
    clip_weights: str | None,
    device: str | None,
    logits: Path | None,
    manifest: Location | None,
    view: str | None,
    split: str,
    store: Location | None,
    profile: str,
    cache: Path | None,
    cache_gb: float,
    folder: Path | None,
    as_json: bool,
) -> None:
    """Label video files, or a split's clips.

    The frames are spread over the whole video, which should be one action long.

    \b
    Example:
      k710 predict clips/sample-0000_000010_000020.mp4 --checkpoint runs/tiny/best.pt --top 3
      k710 predict --checkpoint runs/tiny/best.pt --manifest manifests/k710 --logits tiny.parquet
    """
    step = steps()
    if (logits is None) != (manifest is None) or bool(files) == (logits is not None):
        raise click.UsageError("give the files to label, or --logits FILE and the --manifest whose clips are meant")
    if logits is not None and manifest is not None:
        if logits.suffix != ".parquet":
            raise click.UsageError(f"--logits {logits}: want a name that ends in .parquet")
        if not logits.absolute().parent.is_dir():  # known before a pass that may take hours
            raise click.UsageError(f"--logits {logits}: there is no folder {logits.parent}")
        media = media_of(store, profile, folder, cache, cache_gb)
        _keep_logits(
            step, logits, checkpoint, manifest, media, device, view=view, split=split, num_clips=num_clips,
            num_crops=num_crops, num_frames=num_frames, size_px=size_px, dialect=dialect, clip_weights=clip_weights,
        )  # fmt: skip
        return
    _label_files(
        step, files, checkpoint, device, num_clips=num_clips, num_crops=num_crops, num_frames=num_frames,
        size_px=size_px, top=top, dialect=dialect, clip_weights=clip_weights, as_json=as_json,
    )  # fmt: skip


def _label_files(
    step: Steps,
    files: tuple[Path, ...],
    checkpoint: Path,
    device: str | None,
    *,
    num_clips: int,
    num_crops: int,
    num_frames: int | None,
    size_px: int | None,
    top: int,
    dialect: str | None,
    clip_weights: str | None,
    as_json: bool,
) -> None:
    step("loading PyTorch and the checkpoint")
    from k710.engine.torch_process import pick_device
    from k710.errors import LoadError
    from k710.evaluation.predict import predict_file
    from k710.evaluation.view_model import model_as_it_is

    model = model_as_it_is(checkpoint, dialect=dialect, num_frames=num_frames, size_px=size_px, weights=clip_weights)
    step.end()
    for sentence in model.messages:
        click.echo(sentence, err=True)
    found, failed = [], list[str]()
    for number, path in enumerate(files):
        step("looking at the files", number, len(files))
        try:
            prediction = predict_file(model, path, num_clips=num_clips, num_crops=num_crops, device=pick_device(device))
        except LoadError as error:
            step.end()
            failed.append(str(error))
            click.echo(f"k710: {printable(str(error))}", err=True)
            continue
        found.append(prediction)
        step.end()
        if not as_json:
            click.echo(
                f"{printable(str(path))}: " + ", ".join(f"{label} {part:.1%}" for label, part in prediction.top(top))
            )
    if as_json:
        print_json([{"file": str(one.path), "probabilities": dict(one.top(len(one.labels)))} for one in found])
    if not found:
        raise LoadError(f"none of the {counted(len(files), 'file')} could be read")
    if failed:
        raise LoadError(f"{len(failed)} of {counted(len(files), 'file')} could not be read")


def _keep_logits(
    step: Steps,
    out: Path,
    checkpoint: Path,
    manifest: Location,
    media: Media,
    device: str | None,
    *,
    view: str | None,
    split: str,
    num_clips: int,
    num_crops: int,
    num_frames: int | None,
    size_px: int | None,
    dialect: str | None,
    clip_weights: str | None,
) -> None:
    step("loading PyTorch, the checkpoint and the clips' index, then looking at the clips")
    from k710.engine.torch_process import Process, pick_device
    from k710.evaluation.kept_logits import recorded_checkpoint, write_logits
    from k710.evaluation.view_model import model_for_view
    from k710.evaluation.views_pass import predict_views
    from k710.loading.augment.augment import Augment
    from k710.loading.load_clip import ClipOptions
    from k710.manifest.read import open_manifest

    opened = open_manifest(manifest)
    view = opened.catalogue.check_view(view)
    model = model_for_view(
        checkpoint, view, sources=opened.catalogue, dialect=dialect, num_frames=num_frames, size_px=size_px,
        weights=clip_weights,
    )  # fmt: skip
    for sentence in model.messages:
        step.say(sentence)
    config, process = model.config, Process(pick_device(device))
    options = ClipOptions(
        num_frames=config.num_frames, num_clips=num_clips, num_crops=num_crops, on_error="zero_weight",
        **model.sampling.options(),
    )  # fmt: skip
    dataset = media.dataset(opened, options, view=view, split=split, training=False)
    found = predict_views(
        model.model.to(process.device), dataset, process, num_classes=config.num_classes,
        augment=Augment(**model.family.crops(config.size_px)), answer=lambda logits: logits,
        on_progress=lambda done: step("clips", done, len(dataset)),
    )  # fmt: skip
    step.end()
    about = {
        "checkpoint": recorded_checkpoint(checkpoint), "view": view, "split": split, "num_clips": num_clips,
        "num_crops": num_crops, "num_frames": config.num_frames, "manifest": opened.content_hash,
    }  # fmt: skip
    write_logits(out, found, model, about)
    views = counted(num_clips * num_crops, "view")
    failed = f", {counted(len(found.failed), 'clip')} could not be read" if found.failed else ""
    click.echo(f"{out}: logits of {counted(len(found.clip_ids), 'clip')}, {views} each{failed}")
