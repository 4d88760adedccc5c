"""Everything that can be known before the first step, checked before the first step."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from k710.engine.torch_process import Process
from k710.errors import CheckpointError, LoadError, UsageError
from k710.loading.clip_source import Media
from k710.loading.dataset import ClipDataset
from k710.loading.load_clip import ClipOptions
from k710.manifest.read import Manifest, open_manifest
from k710.models.checkpoints.checkpoint import open_checkpoint
from k710.storage.storage import Location
from k710.text import counted
from k710.train import run_folder as checkpoints
from k710.train.pieces import Pieces, cut
from k710.train.recipe import TrainRecipe, augment_of, mix_of
from k710.train.run import Run
from k710.train.run_log import check_tensorboard
from k710.train.start import Origin, start_model
from k710.version import __version__

# What may differ from one start of a run to the next: how a batch is cut and what is kept of it, not what it is.
_FREE = ("optim.gpu_batch_size", "model.checkpoint_blocks")


def prepare(
    recipe: TrainRecipe,
    manifest_folder: Location,
    out: Path,
    process: Process,
    *,
    origin: Origin,
    media: Media,
    resume: bool = False,
    say: Callable[[str], None] = print,
    **options: Any,
) -> Run:
    """A run that can begin; its folder is made, and `run.json` and `recipe.yaml` are in it. The options are Run's.

    `resume` goes on with the run in `out`, where there is one. Raises K710Error children for whatever can be known to
    be wrong: manifest, clips, checkpoint, batch, disk, a run in `out` of another recipe or of other clips.
    """
    with process.together():
        manifest = open_manifest(manifest_folder)
        found = checkpoints.newest_if_any(out) if resume and process.is_first else None
        if process.is_first:
            checkpoints.start_folder(out, resume=resume)
    # The first says which, since a folder of many nodes may look older to some of them.
    name = process.gather(found[0].name if found else None)[0]
    with process.together():
        resumed = checkpoints.read_own(out / checkpoints.FOLDER / name) if name else None
        run = _checked(recipe, manifest, out, process, origin=origin, media=media, resumed=resumed, say=say, **options)
        if resumed is not None and process.is_first:
            check_same(out, recipe, run.facts)
    with process.together():
        if process.is_first:
            with checkpoints.locked(out):
                if found is not None:
                    checkpoints.set_aside(found[1])
                else:
                    checkpoints.start_folder(out, resume=resume)  # again: another run may have begun there meanwhile
                    checkpoints.write_facts(out, recipe, run.facts)
    for sentence in found[1].values() if found else ():
        say(f"{sentence}; going on from the one before it")
    if resumed is not None:
        say(f"{out}: going on after step {resumed['step']:,}")
        given, run.facts["start"] = run.facts["start"], resumed["run"]["start"]  # what it did begin from
        if _files(given) and _files(given) != _files(run.facts["start"]):
            say(f"it began from {_origin(run.facts['start'])}; {_origin(given)} is not looked at")
    return run


def _checked(
    recipe: TrainRecipe,
    manifest: Manifest,
    out: Path,
    process: Process,
    *,
    origin: Origin,
    media: Media,
    resumed: dict[str, Any] | None,
    say: Callable[[str], None],
    **options: Any,
) -> Run:
    """The run, with whatever each process can check by itself."""
    check_precision(recipe, process.device)
    train, val, said = open_clips(recipe, manifest, media)
    pieces = check_recipe(recipe, manifest, train, world_size=process.world_size)
    if options.get("tensorboard"):
        check_tensorboard()
    started = start_model(recipe, origin, resumed=resumed is not None)
    model, head = started.model, started.head
    for sentence in started.messages:
        say(sentence)
    if process.is_first:
        checkpoints.check_room(out, needed_bytes(model, recipe, keep=options.get("keep", 2)))
    facts = facts_of(recipe, manifest, media, train, val, head, origin)
    if resumed is None and origin.init is not None:
        facts["start"]["run"] = open_checkpoint(origin.init).payload.get("run")  # what it was trained on, in its turn
    for sentence in (*said, *_counts(recipe, train, val), str(pieces)):
        say(sentence)
    return Run(out, recipe, model, head, train, val, pieces, process, facts, resumed, say=say, **options)


def check_recipe(recipe: TrainRecipe, manifest: Manifest, train: ClipDataset, *, world_size: int) -> Pieces:
    """How the batch is cut. Raises UsageError for a batch that processes do not divide or the clips do not fill, and
    for augmentation that cannot be."""
    pieces = cut(recipe.optim.batch_size, gpu_batch_size=recipe.optim.gpu_batch_size, world_size=world_size)
    augment_of(recipe)
    mix_of(recipe)
    if len(train) * recipe.data.num_repeats < recipe.optim.batch_size:
        raise UsageError(
            f"{manifest.path}: has {len(train)} {recipe.data.view} train clips, fewer than one batch of "
            f"{recipe.optim.batch_size}; --set batch_size=N takes a smaller one"
        )
    return pieces


def check_precision(recipe: TrainRecipe, device: torch.device) -> None:
    """Raises UsageError for bf16 on a GPU that only imitates it."""
    if recipe.optim.precision == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported(False):
        raise UsageError(f"{torch.cuda.get_device_name(device)} has no bf16; --set precision=fp16 is what it can")


def open_clips(
    recipe: TrainRecipe, manifest: Manifest, media: Media
) -> tuple[ClipDataset, ClipDataset | None, list[str]]:
    """The clips to train and to validate on. Raises LoadError where none is fetched, UsageError without a train split.

    A clip that cannot be decoded keeps its place with weight 0: it stops no week of training, and is counted.
    """
    view, options = recipe.data.view, ClipOptions(num_frames=recipe.data.num_frames, on_error="zero_weight")
    train = media.dataset(manifest, replace(options, seed=recipe.seed), view=view, split="train")
    try:
        val = media.dataset(manifest, options, view=view, split="val")
    except UsageError:  # the lists that the manifest was built from have no val split
        return (
            train,
            None,
            [f"no {recipe.data.view} val clips in the manifest: nothing is validated, best.pt is the newest"],
        )
    except LoadError as error:
        raise LoadError(f"{error}. Training validates on them after every epoch") from None
    return train, val, []


def facts_of(
    recipe: TrainRecipe,
    manifest: Manifest,
    media: Media,
    train: ClipDataset,
    val: ClipDataset | None,
    head: dict[str, Any],
    origin: Origin,
) -> dict[str, Any]:
    """What run.json and every checkpoint say of where a number comes from."""
    return {
        "recipe": recipe.as_dict(),
        "manifest": {"content_hash": manifest.content_hash, "recipe": manifest.about["recipe"]},
        "profile": media.profile_name,
        "clips": {name: _clips(clips) for name, clips in (("train", train), ("val", val)) if clips is not None},
        "labels": {key: head[key] for key in ("label_set", "dialect", "label_sha256")},
        "start": {"clip_weights": _recorded(origin.weights), "init": _recorded(origin.init)},
        "versions": {"k710": __version__, "torch": str(torch.__version__)},
    }


def _recorded(source: str | Path | None) -> str | None:
    """A file by its absolute path, since the record is read from other folders; a name or an address as it is."""
    if source is None:
        return None
    return str(Path(source).absolute() if Path(source).exists() else source)


def _files(start: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in start.items() if name != "run" and value}


def _origin(start: dict[str, Any]) -> str:
    return " and ".join(map(str, _files(start).values())) or "nothing"


def _clips(clips: ClipDataset) -> dict[str, Any]:
    return {"fingerprint": clips.fingerprint, **dataclasses.asdict(clips.counts)}


def check_same(out: Path, recipe: TrainRecipe, facts: dict[str, Any]) -> None:
    """Raises CheckpointError unless the run in `out` is of this recipe, these clips and these labels."""
    before, old = checkpoints.read_facts(out)
    was_given, is_given = before.flat(), recipe.flat()
    changed = [
        f"{key} was {was_given.get(key)!r} and is {is_given.get(key)!r}"
        for key in {**was_given, **is_given}
        if key not in _FREE and was_given.get(key) != is_given.get(key)
    ]
    if changed:
        raise CheckpointError(f"{out}: the run there has another recipe: {'; '.join(changed)}")
    for split in ("train", "val"):
        was, now = old["clips"].get(split), facts["clips"].get(split)
        if (was or {}).get("fingerprint") != (now or {}).get("fingerprint"):
            counts = [f"{counted((clips or {}).get('loaded', 0), 'clip')}" for clips in (was, now)]
            raise CheckpointError(
                f"{out}: the run there is on other {split} clips ({counts[0]}, now {counts[1]}): the manifest, the "
                "store or the profile has changed since. Go on with the old ones, or start anew with another --out"
            )
    if old["labels"] != facts["labels"]:
        raise CheckpointError(f"{out}: the run there has other labels: {old['labels']}, not {facts['labels']}")


def needed_bytes(model: nn.Module, recipe: TrainRecipe, *, keep: int) -> int:
    """Bytes of a run's checkpoints at their most: those that are kept, one that is being written, and the best."""
    sizes = [parameter.numel() * 4 for parameter in model.parameters()]
    trained = sum(parameter.numel() * 4 for parameter in model.parameters() if parameter.requires_grad)
    weights = sum(sizes)
    each = weights + 2 * trained + (weights if recipe.optim.ema_decay else 0)
    return (keep + 1) * each + 2 * weights


def _counts(recipe: TrainRecipe, train: ClipDataset, val: ClipDataset | None) -> list[str]:
    said = []
    for split, clips in (("train", train), ("val", val)):
        if clips is not None:
            counts = clips.counts
            missing = f", {counts.missing:,} are missing ({counts.failed:,} failed)" if counts.missing else ""
            there = f"{counts.loaded:,} of {counted(counts.in_split, 'clip')}"
            said.append(f"{recipe.data.view} {split}: {there}{missing}")
    return said
