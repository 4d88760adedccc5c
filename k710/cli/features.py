"""`k710 features`: what a recipe's frozen tower sees of clips, computed once and kept."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from k710.cli.common import (
    ANY_PATH,
    CACHE,
    CACHE_GB,
    FOLDER,
    FOLDER_OR_URL,
    SPLIT_LIST,
    RecipeName,
    media_of,
    one_message,
    print_json,
    steps,
)
from k710.progress import Steps
from k710.storage.storage import Location
from k710.store.profile_names import DEFAULT_PROFILE
from k710.text import counted, data_size

if TYPE_CHECKING:
    from k710.engine.torch_process import Process
    from k710.evaluation.features import Computed, FeatureOptions
    from k710.loading.clip_source import Media
    from k710.loading.dataset import ClipDataset
    from k710.loading.kept_features import KeptFeatures
    from k710.manifest.read import Manifest
    from k710.train.recipe import TrainRecipe
    from k710.train.start import Origin


@click.command("features")
@click.option(
    "--recipe",
    required=True,
    type=RecipeName("train"),
    metavar="NAME|FILE",
    help="The recipe whose frozen tower sees the clips.",
)
@click.option("--manifest", required=True, type=FOLDER_OR_URL, help="The manifest whose clips are seen.")
@click.option(
    "--split", "splits", type=SPLIT_LIST, default="train,val", show_default=True, help="Of the recipe's view."
)
@click.option("--clips", "num_clips", type=click.IntRange(min=1), help="Temporal clips.  [train: the recipe's; else 1]")
@click.option("--crops", "num_crops", type=click.IntRange(1, 3), help="Crops, 1 or 3.  [train: the recipe's; else 1]")
@click.option("--out", type=FOLDER, help="The folder of the features.  [STORE/features/KEY]")
@click.option("--clip-weights", metavar="FILE|NAME", help="The CLIP image tower to start from.")
@click.option("--init", type=ANY_PATH, help="The checkpoint to start from.")
@click.option("--dialect", help="Index order of --init's head, where the file does not tell it.")
@click.option("--interpolate-positions", is_flag=True, help="Resize position embeddings of another size.")
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="Change the recipe; may be given again.")
@click.option(
    "--dtype", type=click.Choice(["float32", "bfloat16", "float16"]), default="float16", show_default=True,
    help="Of the numbers that are kept.",
)  # fmt: skip
@click.option(
    "--precision", type=click.Choice(["fp32", "bf16", "fp16"]), default="fp32", show_default=True, help="Of the tower."
)
@click.option("--store", type=FOLDER_OR_URL, help="Where the clips are.  [MANIFEST/store]")
@click.option("--profile", default=DEFAULT_PROFILE, show_default=True, help="The encode profile of the clips.")
@CACHE
@CACHE_GB
@click.option("--folder", type=FOLDER, help="Read clip files of a folder instead of a store.")
@click.option("--batch-size", type=click.IntRange(min=1), default=8, show_default=True, help="Views at once.")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), help="Where it runs.  [a GPU where there is one]")
@click.option("--workers", type=click.IntRange(min=0), default=0, show_default=True, help="Loader processes.")
@click.option("--dry-run", is_flag=True, help="Say how much there is to do and to keep, and do nothing.")
@click.option("--json", "as_json", is_flag=True, help="The folder and the counts, for machines.")
def command(
    recipe: str,
    manifest: Location,
    splits: tuple[str, ...],
    num_clips: int | None,
    num_crops: int | None,
    out: Path | None,
    clip_weights: str | None,
    init: Path | None,
    dialect: str | None,
    interpolate_positions: bool,
    changes: tuple[str, ...],
    dtype: str,
    precision: str,
    store: Location | None,
    profile: str,
    cache: Path | None,
    cache_gb: float,
    folder: Path | None,
    batch_size: int,
    device: str | None,
    workers: int,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Keep what a frozen tower sees of clips.

    `k710 train` and `k710 eval` then take --features FOLDER in place of the clips. An interrupted command goes on when
    it is given again.

    \b
    Example:
      k710 features --recipe tiny-k710 --set frozen=true --set local=none --split val --manifest manifests/k710
    """
    with one_message():
        step = steps()
        if os.environ.get("RANK", "0") == "0":
            step("loading PyTorch, the weights and the clips' index")
        from k710.engine.torch_process import joined
        from k710.evaluation.features import FeatureOptions
        from k710.train.read_recipe import read_train_recipe
        from k710.train.start import Origin

        chosen, _ = read_train_recipe(recipe, changes)
        media = media_of(store, profile, folder, cache, cache_gb)
        origin = Origin(clip_weights, init, dialect, interpolate_positions)
        options = FeatureOptions(batch_size, workers, precision)
        with joined(device) as process:
            _compute(
                step, process, chosen, origin, manifest, media, options, splits=splits, num_clips=num_clips,
                num_crops=num_crops, out=out, dtype=dtype, dry_run=dry_run, as_json=as_json,
            )  # fmt: skip


def _compute(
    step: Steps,
    process: Process,
    recipe: TrainRecipe,
    origin: Origin,
    manifest: Location,
    media: Media,
    options: FeatureOptions,
    *,
    splits: tuple[str, ...],
    num_clips: int | None,
    num_crops: int | None,
    out: Path | None,
    dtype: str,
    dry_run: bool,
    as_json: bool,
) -> None:
    from dataclasses import replace
    from functools import partial

    from k710.evaluation.features import check_room, compute_features, features_for, views_to_do
    from k710.manifest.read import open_manifest
    from k710.storage.storage import held
    from k710.train.start import start_model

    with process.together():
        opened = open_manifest(manifest)
        datasets = [_views_of(recipe, opened, media, split, num_clips, num_crops) for split in splits]
        started = start_model(recipe, origin, sources=opened.catalogue)
        model, family = started.model, recipe.family
        features = features_for(
            family, model, recipe.sampling, out or Path(), precision=options.precision, dtype=dtype
        )  # fmt: skip
        features = replace(features, folder=out or _in_store(media, manifest) / features.key)
        features.check()
        todo = [len(views_to_do(features, one)[0]) * len(one.views) for one in datasets]
        if not dry_run:
            check_room(features, sum(todo))
    say = step.say if process.is_first else _say_nothing
    for line in (*started.messages, _size(features, datasets, todo)):
        say(line)
    if dry_run:
        return
    with contextlib.ExitStack() as stack:
        with process.together():
            if process.is_first:
                stack.enter_context(held(features.folder, features.folder / ".lock"))
                features.begin()
        done = []
        for one, left in zip(datasets, todo, strict=True):
            say_so = partial(step, f"{one.split} clips", total=left // len(one.views))
            found = compute_features(family, model, one, features, process, options=options, on_progress=say_so)
            done.append(found)
    step.end()
    _print_done(process, features, done, as_json)


def _views_of(
    recipe: TrainRecipe, manifest: Manifest, media: Media, split: str, num_clips: int | None, num_crops: int | None
) -> ClipDataset:
    """The views of a split's clips: as given, or as a training of the recipe shows them; one of clips it validates on.

    Raises UsageError for train clips of which the recipe shows random views.
    """
    from k710.loading.load_clip import ClipOptions
    from k710.train.prepare import check_fixed

    clips, crops = num_clips or 1, num_crops or 1
    if split == "train" and num_clips is None and num_crops is None:
        check_fixed(recipe)
        clips, crops = recipe.augment.fixed_clips, recipe.augment.fixed_crops
    options = ClipOptions(
        num_frames=recipe.data.num_frames, num_clips=clips, num_crops=crops, on_error="zero_weight",
        **recipe.sampling.options(),
    )  # fmt: skip
    return media.dataset(manifest, options, view=recipe.data.view, split=split, training=False)


def _in_store(media: Media, manifest: Location) -> Path:
    """Where features are kept in a store. Raises UsageError where the clips are in none of this machine."""
    from k710.errors import UsageError

    store = media.store or manifest / "store"
    if media.folder is not None or not isinstance(store, Path):
        where = media.folder or store
        raise UsageError(f"{where}: is no store of this machine; say where the features are kept: --out FOLDER")
    return store / "features"


def _size(features: KeptFeatures, datasets: list[ClipDataset], todo: list[int]) -> str:
    clips = " and ".join(f"{len(one):,} {one.split} clips x {counted(len(one.views), 'view')}" for one in datasets)
    num_bytes, there = sum(todo) * features.view_bytes, sum(len(one) * len(one.views) for one in datasets) - sum(todo)
    return (
        f"{clips}: {counted(sum(todo), 'view')} to compute, {data_size(num_bytes)} ({num_bytes / 2**30:,.2f} GiB) in "
        f"{features.dtype}, {data_size(features.view_bytes)} each; {there:,} are there"
    )


def _print_done(process: Process, features: KeptFeatures, done: list[Computed], as_json: bool) -> None:
    """The counts of all processes together."""
    parts = process.gather([(one.num_views, one.failed, one.error, one.size) for one in done])
    if not process.is_first:
        return
    flat = [one for part in parts for one in part]
    views, failed = sum(one[0] for one in flat), {clip: why for one in flat for clip, why in one[1].items()}
    error, size = sum(one[2] for one in flat), sum(one[3] for one in flat)
    rounding = (error / size) ** 0.5 if size else 0.0
    if as_json:
        found = {"folder": str(features.folder), "key": features.key, "views": views, "failed": failed}
        print_json({**found, "rounding": rounding, "view_bytes": features.view_bytes})
        return
    exact = f"rounded by {rounding:.1e} of their size" if rounding else "exactly as they were computed"
    lost = f"; {counted(len(failed), 'clip')} could not be read, and have weight 0 in training" if failed else ""
    computed = f"; {exact}" if views else ""
    click.echo(f"{features.folder}: {counted(views, 'view')} computed{computed}{lost}")


def _say_nothing(line: str) -> None:
    pass
