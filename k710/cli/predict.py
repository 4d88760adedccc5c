"""`k710 predict`: labels for any video."""

from __future__ import annotations

from pathlib import Path

import click

from k710.cli.common import ANY_PATH, CLIP_WEIGHTS, NamesWithDash, print_json, steps
from k710.text import counted, printable


# Files of clips are called by YouTube's IDs, which may begin with a dash.
@click.command("predict", cls=NamesWithDash)
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=ANY_PATH)
@click.option("--checkpoint", required=True, type=ANY_PATH, help="The model that labels.")
@click.option("--clips", "num_clips", type=click.IntRange(min=1), default=4, show_default=True, help="Temporal clips.")
@click.option("--crops", "num_crops", type=click.IntRange(1, 3), default=3, show_default=True, help="Crops: 1 or 3.")
@click.option("--frames", "num_frames", type=click.IntRange(min=1), help="Frames of a view, where nothing tells it.")
@click.option("--top", type=click.IntRange(min=1), default=5, show_default=True, help="How many classes to print.")
@click.option("--dialect", help="Index order of the head, where the file does not tell it.")
@CLIP_WEIGHTS
@click.option("--device", type=click.Choice(["cpu", "cuda"]), help="Where it runs.  [a GPU where there is one]")
@click.option("--json", "as_json", is_flag=True, help="Every class and its probability, for machines.")
def command(
    files: tuple[Path, ...],
    checkpoint: Path,
    num_clips: int,
    num_crops: int,
    num_frames: int | None,
    top: int,
    dialect: str | None,
    clip_weights: str | None,
    device: str | None,
    as_json: bool,
) -> None:
    """Label video files.

    The frames are spread over the whole video, which should be one action long.

    \b
    Example:
      k710 predict clips/sample-0000_000010_000020.mp4 --checkpoint runs/tiny/best.pt --top 3
    """
    step = steps()
    step("loading PyTorch and the checkpoint")
    from k710.engine.torch_process import pick_device
    from k710.errors import LoadError
    from k710.evaluation.predict import predict_file
    from k710.evaluation.view_model import model_as_it_is

    model = model_as_it_is(checkpoint, dialect=dialect, num_frames=num_frames, weights=clip_weights)
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
