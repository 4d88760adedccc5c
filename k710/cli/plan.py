"""`k710 plan`: what fetch, training and evaluation would take."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from k710.cli.common import (
    COMMA_LIST,
    FOLDER_OR_URL,
    SPLIT_LIST,
    VIEW,
    RecipeName,
    print_json,
    print_table,
    steps,
)
from k710.storage.storage import Location
from k710.store.profile_names import DEFAULT_PROFILE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from k710.plan.figures import Figure
    from k710.plan.plan import Plan
    from k710.plan.rows import DeviceRow


@click.command("plan")
@click.argument("manifest", type=FOLDER_OR_URL)
@click.option(
    "--recipe", type=RecipeName("train"), metavar="NAME|FILE", help="What would be trained.  [the fetch alone]"
)
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="Change the recipe; may be given again.")
@click.option("--store", type=FOLDER_OR_URL, help="Where the clips are, or would be.  [MANIFEST/store]")
@click.option(
    "--profile",
    type=RecipeName("encode"),
    default=DEFAULT_PROFILE,
    show_default=True,
    metavar="NAME_OR_FILE",
    help="The encode profile of the clips.",
)
@click.option("--from", "origins", multiple=True, metavar="ORIGIN,…", help="local:DIR, cvdf: what a fetch would read.")
@click.option("--view", type=VIEW, help="Fetch only clips of this view.")
@click.option("--splits", type=SPLIT_LIST, default="train,val", show_default=True, help="Fetch only these splits.")
@click.option("--cores", type=int, metavar="N", help="Cores of the fetch.  [this machine's]")
@click.option("--download-gb", type=float, metavar="GB", help="What the fetch downloads, where no origin tells it.")
@click.option("--bandwidth", type=float, metavar="MB/S", help="How much comes in, in MB a second.")
@click.option(
    "--device", type=click.Choice(["cpu", "cuda"]), help="Where steps are measured.  [a GPU where there is one]"
)
@click.option("--workers", type=int, default=0, show_default=True, help="Loader processes of a training on this CPU.")
@click.option("--gpus", type=COMMA_LIST, metavar="N,…", help="Numbers of GPUs to plan for.  [this machine as it is]")
@click.option("--gpu-rate", type=float, metavar="CLIPS/S", help="What one GPU trains.")
@click.option("--gpu-tflops", type=float, metavar="T", help="Or the TFLOP/s that one GPU sustains.")
@click.option("--eval-rate", type=float, metavar="VIEWS/S", help="What one GPU evaluates, in float32.")
@click.option("--efficiency", type=float, help="What each GPU beyond the first adds, of one GPU's rate.  [1: assumed]")
@click.option("--cores-per-gpu", type=int, metavar="N", help="Cores that load for each GPU.  [enough]")
@click.option("--gpu-memory", type=float, metavar="GIB", help="Memory of a GPU.")
@click.option("--clips", "num_clips", type=int, help="Temporal clips of an evaluation.  [the recipe's]")
@click.option("--crops", "num_crops", type=int, help="Crops of an evaluation.  [the recipe's]")
@click.option("--gpu-price", type=float, metavar="MONEY", help="What you pay for a GPU and an hour.")
@click.option("--core-price", type=float, metavar="MONEY", help="What you pay for a core and an hour.")
@click.option("--disk-price", type=float, metavar="MONEY", help="What you pay for a TB and a month.")
@click.option("--no-measure", is_flag=True, help="Measure nothing; what only a measurement tells is then unknown.")
@click.option("--measure-s", type=float, default=5.0, show_default=True, help="Seconds of each measurement, about.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def command(
    manifest: Location,
    *,
    recipe: str | None,
    changes: tuple[str, ...],
    store: Location | None,
    profile: str,
    origins: tuple[str, ...],
    view: str | None,
    splits: tuple[str, ...],
    cores: int | None,
    download_gb: float | None,
    bandwidth: float | None,
    device: str | None,
    workers: int,
    gpus: tuple[str, ...] | None,
    gpu_rate: float | None,
    gpu_tflops: float | None,
    eval_rate: float | None,
    efficiency: float | None,
    cores_per_gpu: int | None,
    gpu_memory: float | None,
    num_clips: int | None,
    num_crops: int | None,
    gpu_price: float | None,
    core_price: float | None,
    disk_price: float | None,
    no_measure: bool,
    measure_s: float,
    as_json: bool,
) -> None:
    """Predict disk, hours, cores and money.

    Of a fetch of the manifest's missing clips, and with --recipe of a training and an evaluation. Measures a little on
    this machine, and says of each number whether it was measured, stated by you, or assumed. docs/plan.md explains it.

    \b
    Examples:
      k710 plan manifests/k710 --from local:clips --measure-s 0.5
      k710 plan manifests/k710 --recipe pretrain-k710-b16 --set batch_size=16 --gpus 1,8 --gpu-rate 200 --no-measure
    """
    step = steps()
    step("loading PyTorch")
    from k710.cli.common import comma_parts
    from k710.errors import UsageError
    from k710.fetch.encode.profiles import read_profile
    from k710.fetch.origins.parse import parse_origin
    from k710.manifest.read import open_manifest
    from k710.plan.options import PlanOptions, Prices
    from k710.plan.plan import make_plan
    from k710.train.read_recipe import read_train_recipe

    if changes and recipe is None:
        raise UsageError("--set changes a recipe, and none is given; --recipe names one")
    chosen, messages = (None, []) if recipe is None else read_train_recipe(recipe, changes)
    views = None
    if num_clips is not None or num_crops is not None:
        if chosen is None:
            raise UsageError("--clips and --crops are of an evaluation; --recipe names what would be evaluated")
        views = (
            chosen.validate.clips if num_clips is None else num_clips,
            chosen.validate.crops if num_crops is None else num_crops,
        )
    options = PlanOptions(
        read_profile(profile),
        origins=tuple(parse_origin(part.strip()) for given in origins for part in comma_parts(given)),
        store=store,
        view=view,
        splits=splits,
        cores=cores,
        download_bytes=None if download_gb is None else download_gb * 1e9,
        bandwidth=None if bandwidth is None else bandwidth * 1e6,
        device=device,
        gpus=tuple(_whole(number) for number in gpus or ()),
        gpu_rate=gpu_rate,
        gpu_flops=None if gpu_tflops is None else gpu_tflops * 1e12,
        gpu_memory_bytes=None if gpu_memory is None else gpu_memory * 2**30,
        eval_rate=eval_rate,
        efficiency=efficiency,
        cores_per_gpu=cores_per_gpu,
        views=views,
        workers=workers,
        prices=Prices(gpu_price, core_price, disk_price),
        measures=not no_measure,
        measure_s=measure_s,
    ).checked()
    for message in messages:
        step.say(message)
    found = make_plan(open_manifest(manifest), chosen, options, on_step=step)
    step.end()
    if as_json:
        print_json(found.as_json())
    else:
        _print(found, linear=options.efficiency is None)


def _whole(number: str) -> int:
    try:
        return int(number)
    except ValueError:
        raise click.UsageError(f"--gpus: {number!r} is no number of GPUs; want numbers, such as 1,8,64") from None


def _print(plan: Plan, *, linear: bool) -> None:
    _print_figures("Fetch", plan.fetch.figures)
    if (training := plan.training) is not None:
        _print_figures("Training and evaluation", (*training.figures, *training.rates))
        _print_rows(training.rows)
        for line in _assumptions(training.rows, linear=linear):
            click.echo(line)
    for note in plan.notes:
        click.echo(f"note: {note}")


def _assumptions(rows: Sequence[DeviceRow], *, linear: bool) -> Iterator[str]:
    """What the rows take for granted, and what to do where a model does not fit."""
    if linear and max(row.num_devices for row in rows) > 1:
        yield "assumed: N GPUs are N times as fast as one; --efficiency says otherwise"
    if len({row.piece_size for row in rows}) > 1:
        yield "assumed: a GPU is as fast a clip with fewer clips at once"
    for row in rows:
        if row.fits is False:
            advice = f"--set gpu_batch_size={row.fitting}" if row.fitting else "not even one clip does"
            yield f"on {row.num_devices} {row.device}: {row.piece_size} clips at once do not fit; {advice}"


def _print_figures(title: str, figures: Iterable[Figure]) -> None:
    rows = [(figure.name, str(figure), figure.origin, figure.note) for figure in figures]
    print_table([title, "", "origin", ""], rows)


def _print_rows(rows: Iterable[DeviceRow]) -> None:
    """A line for each number of devices."""
    from k710.plan.figures import UNITS

    def shown(unit: str, value: float | None) -> str:
        return "unknown" if value is None else UNITS[unit](value)

    lines, prices = [], any(row.money is not None for row in rows)
    for row in rows:
        fits = {None: "", True: ", fits", False: ", does not fit"}[row.fits]
        cores = "" if row.cores is None else shown("cores", row.cores)
        line = [
            f"{row.num_devices} {row.device}{'s' if row.num_devices > 1 else ''}",
            str(row.piece_size),
            f"{row.memory_bytes / 2**30:,.1f} GiB{fits}",
            shown("clips/s", row.clips_per_s),
            cores + (", it waits" if row.waits_for_data else ""),
            shown("s", row.train_s),
            shown("s", row.validate_s),
            shown("s", row.time_s),
            shown("gpu-hours", row.device_hours),
            *([shown("money", row.money)] if prices else []),
            "" if row.eval_s is None else shown("s", row.eval_s),
        ]
        lines.append(line)
    columns = ["on", "clips at once", "memory of each", "trains", "cores to load"]
    columns += ["training", "validation", "both", "device-hours", *(["money"] if prices else []), "an evaluation"]
    print_table(columns, lines)
