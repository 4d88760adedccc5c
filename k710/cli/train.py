"""`k710 train`: a recipe on a manifest's clips."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from k710.cli.common import (
    ANY_PATH,
    CACHE,
    CACHE_GB,
    FEATURES,
    FOLDER,
    FOLDER_OR_URL,
    RecipeName,
    media_of,
    one_message,
    steps,
)
from k710.progress import Steps
from k710.storage.storage import Location
from k710.store.profile_names import DEFAULT_PROFILE
from k710.text import counted

if TYPE_CHECKING:
    from k710.loading.clip_source import Media
    from k710.loading.mix_file import Mix
    from k710.train.recipe import TrainRecipe
    from k710.train.run import RunOptions
    from k710.train.start import Origin

_PLACES = ("manifest", "folder", "store", "profile")  # options that say where clips are


@click.command("train")
@click.option(
    "--recipe",
    type=RecipeName("train"),
    required=True,
    metavar="NAME|FILE",
    help="What to train; `k710 recipes` lists them.",
)
@click.option("--manifest", type=FOLDER_OR_URL, help="The manifest whose clips are trained on.")
@click.option(
    "--mix",
    type=RecipeName("mix"),
    metavar="FILE",
    help="Without labels: the YAML file of several sources, instead of --manifest.",
)
@click.option("--out", type=FOLDER, help="The folder of the run.  [runs/RECIPE]")
@click.option("--clip-weights", metavar="FILE|NAME", help="The CLIP image tower to start from.")
@click.option("--init", type=ANY_PATH, help="The checkpoint to start from.")
@click.option("--dialect", help="Index order of --init's head, where the file does not tell it.")
@click.option("--teacher", type=ANY_PATH, help="The checkpoint that a distillation learns from, of any family.")
@click.option("--teacher-dialect", help="Index order of the teacher's head, where its file does not tell it.")
@click.option("--interpolate-positions", is_flag=True, help="Resize position embeddings of another size.")
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="Change the recipe; may be given again.")
@click.option("--store", type=FOLDER_OR_URL, help="Where the clips are.  [MANIFEST/store]")
@click.option("--profile", default=DEFAULT_PROFILE, show_default=True, help="The encode profile of the clips.")
@CACHE
@CACHE_GB
@click.option(
    "--folder", type=FOLDER, help="Clip files instead of a store; without --manifest, any videos as they are."
)
@FEATURES
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
def command(
    recipe: str,
    manifest: Location | None,
    mix: str | None,
    out: Path | None,
    clip_weights: str | None,
    init: Path | None,
    dialect: str | None,
    teacher: Path | None,
    teacher_dialect: str | None,
    interpolate_positions: bool,
    changes: tuple[str, ...],
    store: Location | None,
    profile: str,
    cache: Path | None,
    cache_gb: float,
    folder: Path | None,
    features: Path | None,
    resume: bool,
    device: str | None,
    workers: int | None,
    compiled: bool,
    keep: int,
    save_every: float,
    report_every: int,
    tensorboard: bool,
    dry_run: bool,
    rate: float | None,
) -> None:
    """Train a model by a recipe.

    On a CPU, a GPU, or under torchrun on any number of them. The recipe's batch is kept on any number of GPUs.

    \b
    Examples:
      k710 train --recipe tiny-k710 --manifest manifests/k710 --out runs/tiny --set epochs=3 --set batch_size=8
      k710 train --recipe tiny-videomae-pretrain --folder clips --out runs/films --set steps=2 --set epochs=0
    """
    with one_message():
        step = steps()
        if _is_first():
            step("loading PyTorch")
        from k710.train.read_recipe import read_train_recipe
        from k710.train.run import RunOptions
        from k710.train.start import Origin

        chosen, messages = read_train_recipe(recipe, changes)
        if _is_first():
            for message in messages:
                step.say(message)
        out = out or Path("runs") / Path(recipe).stem
        source = _source(manifest, mix, folder)
        media = media_of(store, profile, folder, cache, cache_gb, features)
        origin = Origin(clip_weights, init, dialect, interpolate_positions, teacher, teacher_dialect)
        options = RunOptions(workers or 0, compiled, keep, save_every * 60, report_every, tensorboard)
        if dry_run:
            _print_needs(step, chosen, source, out, origin, media, options, resume, device, rate)
        else:
            _train(step, chosen, source, out, origin, media, options, resume, device, workers is None)


def _source(manifest: Location | None, mix: str | None, folder: Path | None) -> Location | Mix:
    """What is trained on: a manifest, a mix, or a folder of videos. Raises UsageError where it is not one of them.

    What is typed wins over the environment and k710.toml, where a manifest or a store may be named for all commands.
    """
    from k710.errors import UsageError
    from k710.loading.mix_file import mix_of_folder, read_mix

    source_of = click.get_current_context().get_parameter_source
    typed = [name for name in ("mix", *_PLACES) if source_of(name) is ParameterSource.COMMANDLINE]
    if mix is not None and (not typed or "mix" in typed):
        if others := [name for name in typed if name in _PLACES]:
            raise UsageError(f"--mix and --{others[0]}: the file of a mix says where its clips are")
        return read_mix(mix)
    if manifest is not None:
        return manifest
    if folder is None:
        raise UsageError("what to train on is missing: --manifest DIR, --mix FILE, or --folder DIR for any videos")
    if "store" in typed:
        raise UsageError("--store is where the clips of a manifest are, and no --manifest is given")
    return mix_of_folder(folder)


def _train(
    step: Steps,
    recipe: TrainRecipe,
    source: Location | Mix,
    out: Path,
    origin: Origin,
    media: Media,
    options: RunOptions,
    resume: bool,
    device: str | None,
    choose_workers: bool,
) -> None:
    from dataclasses import replace

    from k710.engine.torch_process import joined
    from k710.train.loop import train
    from k710.train.prepare import prepare
    from k710.train.run_log import scores_text

    with joined(device) as process:
        say = step.say if process.is_first else _say_nothing
        if process.is_first:
            step("reading the clips' index and the weights")
        if choose_workers:
            options = replace(options, num_workers=_cores_each(process.device.type))
        run = prepare(recipe, source, out, process, origin=origin, media=media, options=options, resume=resume, say=say)
        if process.is_first:
            step(f"training; a line comes every {counted(options.report_every, 'step')}")
        progress = train(run)
    step.end()
    if process.is_first:
        best = progress.best or {}
        scores = {name: value for name, value in best.items() if isinstance(value, float)}
        words = f", {scores_text(scores, recipe.chosen_objective.measures)}" if scores else ""
        click.echo(f"{out / 'best.pt'}: epoch {best.get('epoch')} of {run.num_epochs}{words}")


def _print_needs(
    step: Steps,
    recipe: TrainRecipe,
    source: Location | Mix,
    out: Path,
    origin: Origin,
    media: Media,
    options: RunOptions,
    resume: bool,
    device: str | None,
    rate: float | None,
) -> None:
    """What the run would need, after the checks that the run itself would make."""
    from k710.engine.torch_process import pick_device
    from k710.train.needs import needs
    from k710.train.prepare import check_precision
    from k710.train.run_folder import check_folder
    from k710.train.run_log import check_tensorboard

    step("measuring the model and reading the manifest")
    if device is not None:  # without --device, this may be a machine that is not going to train
        check_precision(recipe, pick_device(device))
    if options.tensorboard:
        check_tensorboard()
    check_folder(out, resume=resume)
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    lines = needs(recipe, source, media, world_size=world_size, rate=rate, origin=origin)
    step.end()
    for line in lines:
        click.echo(line)


def _is_first() -> bool:
    return os.environ.get("RANK", "0") == "0"


def _cores_each(device: str) -> int:
    """Loader processes of each GPU: the cores, shared out between the processes of this node; none for a CPU."""
    if device == "cpu":
        return 0
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return max(1, len(os.sched_getaffinity(0)) // local if hasattr(os, "sched_getaffinity") else 4)


def _say_nothing(line: str) -> None:
    pass
