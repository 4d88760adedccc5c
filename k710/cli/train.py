"""`k710 train`: a recipe on a manifest's clips."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from k710.cli.common import ANY_PATH, CACHE, CACHE_GB, FOLDER, FOLDER_OR_URL, one_message, steps
from k710.storage.storage import Location
from k710.store.profile_names import DEFAULT_PROFILE
from k710.text import counted

if TYPE_CHECKING:
    from k710.train.recipe import TrainRecipe


@click.command("train")
@click.option("--recipe", required=True, metavar="NAME|FILE", help="What to train; `k710 recipes` lists them.")
@click.option("--manifest", required=True, type=FOLDER_OR_URL, help="The manifest whose clips are trained on.")
@click.option("--out", type=FOLDER, help="The folder of the run.  [runs/RECIPE]")
@click.option("--clip-weights", metavar="FILE|NAME", help="The CLIP image tower to start from.")
@click.option("--init", type=ANY_PATH, help="The checkpoint to start from.")
@click.option("--dialect", help="Index order of --init's head, where the file does not tell it.")
@click.option("--interpolate-positions", is_flag=True, help="Resize position embeddings of another size.")
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="Change the recipe; may be given again.")
@click.option("--store", type=FOLDER_OR_URL, help="Where the clips are.  [MANIFEST/store]")
@click.option("--profile", default=DEFAULT_PROFILE, show_default=True, help="The encode profile of the clips.")
@CACHE
@CACHE_GB
@click.option("--folder", type=FOLDER, help="Read clip files of a folder instead of a store.")
@click.option("--resume", is_flag=True, help="Go on with the run in --out, where there is one.")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), help="Where it runs.  [a GPU where there is one]")
@click.option("--workers", type=click.IntRange(min=0), help="Loader processes of each GPU.  [cores per GPU]")
@click.option("--compile", "compiled", is_flag=True, help="torch.compile the model.")
@click.option("--keep", type=click.IntRange(min=1), default=2, show_default=True, help="Checkpoints to keep.")
@click.option("--save-every", type=click.FloatRange(min=0), default=30.0, show_default=True, help="Minutes between.")
@click.option("--report-every", type=click.IntRange(min=1), default=20, show_default=True, help="Steps between lines.")
@click.option("--tensorboard", is_flag=True, help="Write TensorBoard's files too.")
@click.option("--dry-run", is_flag=True, help="Say what the run would need, and train nothing.")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), help="Clips/s, for the hours of --dry-run.")
def command(**options: Any) -> None:
    """Train a model by a recipe.

    On a CPU, a GPU, or under torchrun on any number of them. The recipe's batch is kept on any number of GPUs.

    \b
    Example:
      k710 train --recipe tiny-k710 --manifest manifests/k710 --out runs/tiny --set epochs=3 --set batch_size=8
    """
    with one_message():
        _train(**options)


def _train(
    *,
    recipe: str,
    manifest: Location,
    out: Path | None,
    changes: tuple[str, ...],
    dry_run: bool,
    rate: float | None,
    device: str | None,
    workers: int | None,
    save_every: float,
    **options: Any,
) -> None:
    step = steps()
    first = os.environ.get("RANK", "0") == "0"
    if first:
        step("loading PyTorch")
    from k710.engine.torch_process import joined
    from k710.train.recipe import read_train_recipe

    chosen, said = read_train_recipe(recipe, changes)
    out = out or Path("runs") / Path(recipe).stem
    if dry_run:
        for sentence in said:
            step.say(sentence)
        step("measuring the model and reading the manifest")
        _print_needs(chosen, manifest, out, device, rate, options, before=step.end)
        return
    from k710.loading.clip_source import media_of
    from k710.train.loop import train
    from k710.train.prepare import prepare

    with joined(device) as process:
        say = step.say if process.is_first else _say_nothing
        if process.is_first:
            step("reading the manifest, the clips' index and the weights")
        for sentence in said:
            say(sentence)
        media = media_of(options)
        origin = _origin(options)
        workers = _cores_each(process.device.type) if workers is None else workers
        run = prepare(
            chosen, manifest, out, process, origin=origin, media=media, say=say, num_workers=workers,
            save_every_s=save_every * 60, **options,
        )  # fmt: skip
        if process.is_first:
            step(f"training; a line comes every {counted(run.report_every, 'step')}")
        progress = train(run)
    step.end()
    if process.is_first:
        best = {key: f"{value:.2%}" for key, value in (progress.best or {}).items() if isinstance(value, float)}
        scores = "".join(f", {key} {value}" for key, value in best.items())
        click.echo(f"{out / 'best.pt'}: epoch {(progress.best or {}).get('epoch')} of {chosen.optim.epochs}{scores}")


def _origin(options: dict[str, Any]) -> Any:
    """What the run starts from; the options of it are taken out of `options`."""
    from k710.train.start import Origin

    weights, init, dialect = (options.pop(name) for name in ("clip_weights", "init", "dialect"))
    return Origin(weights, init, dialect, interpolate_positions=options.pop("interpolate_positions"))


def _print_needs(
    recipe: TrainRecipe,
    manifest: Location,
    out: Path,
    device: str | None,
    rate: float | None,
    options: dict[str, Any],
    *,
    before: Callable[[], None],
) -> None:
    """What the run would need, after the checks that the run itself would make."""
    from k710.engine.torch_process import pick_device
    from k710.loading.clip_source import media_of
    from k710.train.needs import needs
    from k710.train.prepare import check_precision
    from k710.train.run_folder import check_folder
    from k710.train.run_log import check_tensorboard

    if device is not None:  # else it may be asked on a machine that is not to train
        check_precision(recipe, pick_device(device))
    if options["tensorboard"]:
        check_tensorboard()
    check_folder(out, resume=options["resume"])
    media = media_of(options)
    origin = _origin(options)
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    lines = needs(recipe, manifest, media, world_size=world_size, rate=rate, origin=origin)
    before()
    for line in lines:
        click.echo(line)


def _cores_each(device: str) -> int:
    """Loader processes beside a GPU: the cores, shared out between the processes of this node; none beside a CPU."""
    if device == "cpu":
        return 0
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return max(1, len(os.sched_getaffinity(0)) // local if hasattr(os, "sched_getaffinity") else 4)


def _say_nothing(line: str) -> None:
    pass
