"""Everything that can be known before the first step, checked before the first step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from k710.engine.torch_process import Process
from k710.errors import LoadError, UsageError
from k710.evaluation.features import drop_frozen, open_for, reader_for
from k710.evaluation.kept_logits import SUFFIX
from k710.loading.clip_index import NO_CLASS
from k710.loading.clip_source import Media
from k710.loading.dataset import ClipDataset
from k710.loading.kept_features import FeatureReader, KeptFeatures
from k710.loading.load_clip import ClipOptions
from k710.loading.mix_file import Mix
from k710.loading.mixed_dataset import MixedDataset, open_mix
from k710.manifest.read import Manifest, open_manifest
from k710.models.checkpoints.checkpoint import open_checkpoint
from k710.models.left_out import SHA256, left_out_sha256
from k710.sources.catalogue import Catalogue
from k710.sources.known import KINETICS
from k710.storage.storage import Location
from k710.text import counted
from k710.train import run_folder
from k710.train.mix_record import write_mix
from k710.train.recipe import TrainRecipe, augment_of, drawn_pixels, fixed_views, mix_of, off_switches
from k710.train.run import DEFAULT_OPTIONS, Run, RunOptions
from k710.train.run_log import check_tensorboard
from k710.train.start import Origin, start_model
from k710.train.step import Pieces, cut
from k710.train.teacher import check_teacher, open_teacher


def prepare(
    recipe: TrainRecipe,
    source: Location | Mix,
    out: Path,
    process: Process,
    *,
    origin: Origin,
    media: Media,
    options: RunOptions = DEFAULT_OPTIONS,
    resume: bool = False,
    say: Callable[[str], None] = print,
) -> Run:
    """A run that can begin; its folder is made, and `run.json` and `recipe.yaml` are in it.

    `source` is the place of a manifest, or a mix. `resume` goes on with the run in `out`, where there is one. Raises
    children of K710Error for whatever can be known to be wrong: manifest, clips, checkpoint, batch, disk, a run in
    `out` of another recipe or of other clips.
    """
    with process.together():
        opened = source if isinstance(source, Mix) else open_manifest(source)
        found = run_folder.checkpoint_to_resume(out) if resume and process.is_first else None
        if process.is_first:
            run_folder.check_folder(out, resume=resume)  # it is made when nothing can be refused any more
    # The first process chooses: on a shared file system, other nodes may see an older state of the folder.
    name = process.gather(found[0].name if found else None)[0]
    with process.together():
        resumed = run_folder.read_checkpoint(out / run_folder.FOLDER / name) if name else None
        run = _checked_run(recipe, opened, out, process, origin, media, options, resumed, say)
        if resumed is not None and process.is_first:
            run_folder.check_same(out, recipe, run.facts)
    _check_all_alike(process, run)
    with process.together():
        if process.is_first:
            run_folder.start_folder(out, resume=resume)
            with run_folder.locked(out):
                if found is not None:
                    run_folder.rename_damaged(found[1])
                else:
                    run_folder.start_folder(out, resume=resume)  # again: another run may have begun there meanwhile
                    run_folder.write_facts(out, recipe, run.facts)
                    if isinstance(opened, Mix) and isinstance(run.train, MixedDataset):
                        write_mix(out, opened, run.train)
    for message in found[1].values() if found else ():
        say(f"{message}; going on from the one before it")
    if resumed is not None:
        say(f"{out}: going on after step {resumed['step']:,}")
        given, run.facts["start"] = run.facts["start"], resumed["run"]["start"]
        ignored = run_folder.ignored_start(given, run.facts["start"])
        if ignored and SHA256 not in run.facts:  # a source of what is left out has been looked at
            say(ignored)
    return run


def _checked_run(
    recipe: TrainRecipe,
    source: Manifest | Mix,
    out: Path,
    process: Process,
    origin: Origin,
    media: Media,
    options: RunOptions,
    resumed: dict[str, Any] | None,
    say: Callable[[str], None],
) -> Run:
    """The run, after all checks that a process can make by itself."""
    check_precision(recipe, process.device)
    train, val, messages = open_clips(recipe, source, media, say)
    pieces = check_recipe(recipe, source, train, world_size=process.world_size)
    if options.tensorboard:
        check_tensorboard()
    check_teacher(recipe, origin.teacher)
    sources = sources_of(source)
    started = start_model(recipe, origin, sources=sources, resumed=resumed)
    model, head = started.model, started.head
    for message in started.messages:
        say(message)
    if process.is_first:
        run_folder.check_room(out, run_folder.needed_bytes(model, recipe, keep=options.keep))
    facts = run_folder.facts_of(recipe, source, media, train, val, head, origin)
    if recipe.optim.scales_pretrained:
        facts["start"][run_folder.NEW] = list(started.new)
    if sha256 := left_out_sha256(model):
        facts[SHA256] = sha256
    if resumed is None and origin.init is not None:
        facts["start"]["run"] = open_checkpoint(origin.init).payload.get("run")  # the record of the run it comes from
    teacher = None
    if origin.teacher is not None and isinstance(train, ClipDataset):
        clip_ids = train.index.clip_ids.to_pylist()
        teacher = open_teacher(
            recipe,
            origin.teacher,
            origin.teacher_dialect,
            process.device,
            clip_ids,
            sources=sources,
        )
        facts["teacher"] = teacher.record
        messages = [*messages, *teacher.messages]
    features, seen = _features(recipe, origin, media, model, train, val)
    if features is not None:
        facts["features"] = {
            "folder": str(features.folder),
            "key": features.key,
            "dtype": features.dtype,
            **features.of,
        }
        messages = [*messages, features_message(features)]
        drop_frozen(recipe.family, model)
    for message in (*messages, *_counts(recipe, train, val), str(pieces)):
        say(message)
    return Run(out, recipe, model, head, train, val, pieces, process, facts, options, resumed, say, teacher, seen)


def _features(
    recipe: TrainRecipe,
    origin: Origin,
    media: Media,
    model: nn.Module,
    train: ClipDataset | MixedDataset,
    val: ClipDataset | MixedDataset | None,
) -> tuple[KeptFeatures | None, dict[str, FeatureReader]]:
    """The features that are read instead of clips, and where those of each split are."""
    if media.features is None:
        return None, {}
    check_fixed(recipe)
    if origin.teacher is not None and origin.teacher.suffix != SUFFIX:
        raise UsageError(
            f"--teacher {origin.teacher}: must see the pixels, and with --features there are none; `k710 predict "
            "--logits` keeps its answers"
        )
    splits = {"train": train} | ({"val": val} if val is not None else {})
    clips_of = {split: clips for split, clips in splits.items() if isinstance(clips, ClipDataset)}
    if len(clips_of) < len(splits):
        raise UsageError("--features are of the clips of a manifest, and not of a mix or a folder of videos")
    found = open_for(recipe.family, model, recipe.sampling, media.features)
    return found, {split: reader_for(recipe.family, model, found, clips) for split, clips in clips_of.items()}


def features_message(features: KeptFeatures) -> str:
    exact = "exactly as they were computed" if features.is_exact else f"rounded to {features.dtype}"
    return f"features in place of clips: {features.folder}, computed in {features.of['precision']}, {exact}"


def check_fixed(recipe: TrainRecipe) -> None:
    """Raises UsageError where a recipe trains on random views, of which no features can be kept."""
    drawn, changes = [], []
    if not recipe.augment.fixed_clips:
        drawn += ["frames", "crop", *drawn_pixels(recipe)]
        changes += ["fixed_clips=1", *off_switches(recipe)]
    if mix_of(recipe) is not None:
        drawn.append("mixing")
        changes += ["mixup_alpha=0", "cutmix_alpha=0"]
    if drawn:
        raise UsageError(
            f"features are kept of fixed views, and the recipe draws {', '.join(drawn)} anew for each sample; "
            f"{' '.join(f'--set {change}' for change in changes)} shows the centre view of each clip (or more views: "
            "fixed_clips, fixed_crops)"
        )


def _check_all_alike(process: Process, run: Run) -> None:
    """Raises UsageError where processes have other clips, such as nodes with folders of their own."""
    found = process.gather([clips.fingerprint for clips in (run.train, run.val) if clips is not None])
    with process.together():
        if found[process.rank] != found[0]:
            raise UsageError("its clips are not those of process 0: all processes must see the same files")


def sources_of(source: Manifest | Mix) -> Catalogue:
    """The catalogue of a manifest; of a mix, which has no classes, that of Kinetics."""
    return KINETICS if isinstance(source, Mix) else source.catalogue


def check_recipe(
    recipe: TrainRecipe, source: Manifest | Mix, train: ClipDataset | MixedDataset, *, world_size: int
) -> Pieces:
    """How the batch is cut. Raises UsageError for a batch that processes do not divide or the clips do not fill, and
    for augmentation that cannot be."""
    pieces = cut(recipe.optim.batch_size, gpu_batch_size=recipe.optim.gpu_batch_size, world_size=world_size)
    augment_of(recipe)
    if mix_of(recipe) is not None and (train.class_ids == NO_CLASS).any():
        raise UsageError(
            "mixup and cutmix mix the labels of clips, and some of these clips have none; "
            "--set mixup_alpha=0 --set cutmix_alpha=0 trains on them as they are"
        )
    if train.clips_per_epoch * recipe.data.num_repeats < recipe.optim.batch_size:
        of_view = "" if isinstance(source, Mix) else f"{recipe.data.view} "
        raise UsageError(
            f"{source.path}: has {train.clips_per_epoch} {of_view}train clips, fewer than one batch of "
            f"{recipe.optim.batch_size}; --set batch_size=N takes a smaller one"
        )
    return pieces


def check_precision(recipe: TrainRecipe, device: torch.device) -> None:
    """Raises UsageError for bf16 on a GPU that only imitates it."""
    if recipe.optim.precision == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported(False):
        raise UsageError(f"{torch.cuda.get_device_name(device)} has no bf16; --set precision=fp16 is what it can")


def open_clips(
    recipe: TrainRecipe, source: Manifest | Mix, media: Media, say: Callable[[str], None] = lambda line: None
) -> tuple[ClipDataset | MixedDataset, ClipDataset | MixedDataset | None, list[str]]:
    """The clips to train and to validate on, and messages on them. Raises LoadError where none is fetched, UsageError
    without a train split, or for train clips without a label where the objective needs labels.

    A clip that cannot be decoded keeps its place with weight 0 and is counted; it does not stop the run.
    """
    view, sampling = recipe.data.view, recipe.sampling.options()
    options = ClipOptions(num_frames=recipe.data.num_frames, on_error="zero_weight", **sampling)
    needs_labels = recipe.chosen_objective.needs_labels
    of_train = replace(options, seed=recipe.seed, **fixed_views(recipe))
    if isinstance(source, Mix):
        return _open_mix(recipe, source, of_train, options, media, say)
    train: ClipDataset | MixedDataset = media.dataset(
        source, of_train, view=view, split="train", needs_labels=needs_labels
    )
    try:
        val = media.dataset(source, options, view=view, split="val")
    except UsageError:  # the lists that the manifest was built from have no val split
        return (
            train,
            None,
            [f"no {recipe.data.view} val clips in the manifest: nothing is validated, best.pt is the newest"],
        )
    except LoadError as error:
        raise LoadError(f"{error}. Training validates on them after every epoch") from None
    return train, val, []


def _open_mix(
    recipe: TrainRecipe,
    mix: Mix,
    of_train: ClipOptions,
    options: ClipOptions,
    media: Media,
    say: Callable[[str], None],
) -> tuple[MixedDataset, MixedDataset | None, list[str]]:
    """As `open_clips`, of a mix. The val clips are those of its manifests."""
    if recipe.chosen_objective.needs_labels:
        raise UsageError(
            f"{mix.path}: a mix and a folder of videos have no classes, and the recipe's objective "
            f"{recipe.objective!r} needs them; recipes of masked pretraining do without"
        )
    train = open_mix(mix, options=of_train, cache=media.cache, cache_bytes=media.cache_bytes, say=say)
    try:
        val = open_mix(mix, options=options, split="val", cache=media.cache, cache_bytes=media.cache_bytes)
    except UsageError:
        nothing = "no val clips: nothing is validated, best.pt is the newest"
        return train, None, [*train.messages(), nothing]
    except LoadError as error:
        raise LoadError(f"{error}. Training validates on them after every epoch") from None
    return train, val, train.messages()


def _counts(
    recipe: TrainRecipe, train: ClipDataset | MixedDataset, val: ClipDataset | MixedDataset | None
) -> list[str]:
    if isinstance(train, MixedDataset):
        of_val = [] if val is None else [f"val: {counted(len(val), 'clip')}"]
        return [f"an epoch: {train.clips_per_epoch:,} draws of {counted(len(train), 'clip')}", *of_val]
    messages = []
    for split, clips in (("train", train), ("val", val)):
        if clips is not None:
            counts = clips.counts
            missing = f", {counts.missing:,} are missing ({counts.failed:,} failed)" if counts.missing else ""
            there = f"{counts.loaded:,} of {counted(counts.in_split, 'clip')}"
            messages.append(f"{recipe.data.view} {split}: {there}{missing}")
    return messages
