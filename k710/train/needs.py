"""What a run would need: memory, clips a second, hours."""

from __future__ import annotations

import math
from pathlib import Path

import torch

from k710.loading.clip_source import Media
from k710.loading.dataset import ClipDataset
from k710.loading.kept_features import open_features
from k710.loading.mix_file import Mix
from k710.manifest.read import open_manifest
from k710.models.families import num_parameters
from k710.models.family import FROM_CHECKPOINT
from k710.sources.catalogue import Catalogue
from k710.storage.storage import Location
from k710.text import duration
from k710.train.memory import estimate_memory
from k710.train.prepare import check_fixed, check_recipe, features_message, open_clips, sources_of
from k710.train.recipe import TrainRecipe
from k710.train.start import Origin, check_start, config_of_recipe, start_model
from k710.train.teacher import check_teacher, open_teacher

# The rate that is assumed for one GPU where none is given: half of an A100's peak in bf16.
_ASSUMED_FLOPS = 156e12
# Beyond so many clips/s of a GPU, multiply-adds no longer decide the rate: ViT-B/16 with 8 frames has about 200.
_MOST_ESTIMATED = 1000.0


def check_origin(recipe: TrainRecipe, origin: Origin, sources: Catalogue) -> str:
    """What the run starts from, in a line. Raises as `start_model` does; nothing is downloaded."""
    starts = {name: (way.title, "--clip-weights") for name, way in recipe.family.starts.items()}
    starts[FROM_CHECKPOINT] = ("checkpoint", "--init")
    if origin.weights is None and origin.init is None and recipe.model.start in starts:
        title, option = starts[recipe.model.start]
        return f"start: from a {title}, which {option} must name; not looked at"
    if origin.weights is not None and not Path(origin.weights).exists():
        check_start(recipe, origin)
        return f"start: from {origin.weights}, which is no file here and is not looked at"
    return f"start: {'; '.join(start_model(recipe, origin, sources=sources).messages)}"


def needs(
    recipe: TrainRecipe, source: Location | Mix, media: Media, *, world_size: int, rate: float | None, origin: Origin
) -> list[str]:
    """Lines on the start, the size of the model, the memory of a GPU, the clips a second wanted of the loaders, and the
    hours.

    `rate` is in clips/s of all GPUs together; without it, it is estimated from multiply-adds, unless these are so few
    that they do not decide it. Raises as `prepare` does for manifest, clips, batch and start.
    """
    family = recipe.family
    opened = source if isinstance(source, Mix) else open_manifest(source)
    sources = sources_of(opened)
    train, val, messages = open_clips(recipe, opened, media)
    config = config_of_recipe(recipe, sources)
    parameters, cost = num_parameters(family, config), family.cost(config)
    pieces = check_recipe(recipe, opened, train, world_size=world_size)
    start = check_origin(recipe, origin, sources)
    check_teacher(recipe, origin.teacher)
    teacher: list[str] = []
    if origin.teacher is not None and isinstance(train, ClipDataset):
        clip_ids = train.index.clip_ids.to_pylist()
        found = open_teacher(
            recipe,
            origin.teacher,
            origin.teacher_dialect,
            torch.device("cpu"),
            clip_ids,
            sources=sources,
        )
        teacher = [*found.messages]
        if found.num_bytes:
            teacher.append(f"the teacher takes {found.num_bytes / 2**30:.1f} GiB more, and a forward pass of each clip")
    kept: list[str] = []
    if media.features is not None:
        check_fixed(recipe)
        kept = [
            features_message(open_features(media.features)),
            "the numbers below count the frozen part too, which this run leaves out",
        ]
    memory = estimate_memory(family, config, precision=recipe.optim.precision, average=recipe.optim.ema_decay > 0)
    forward, step = sum(cost.forward.values()), cost.training
    batch_size = recipe.optim.batch_size
    per_epoch = train.clips_per_epoch * recipe.data.num_repeats // batch_size
    steps = recipe.optim.steps or recipe.optim.epochs * per_epoch
    num_clips, epochs = steps * batch_size, math.ceil(steps / per_epoch)
    return [
        start,
        *kept,
        f"model: {parameters['total']:,} parameters, {parameters['trainable']:,} trained; "
        f"{forward / 1e9:,.1f} G multiply-adds forward, {step / 1e9:,.1f} G for training, per clip",
        f"memory of a GPU: {memory.of(pieces.piece_size) / 2**30:.1f} GiB: the model {memory.model_bytes / 2**30:.1f}, "
        f"each of {pieces.piece_size} clips {memory.clip_bytes / 2**30:.2f}; CUDA itself needs 1 to 2 GiB more",
        *teacher,
        str(pieces),
        *messages,
        f"clips: {len(train):,} train ({train.counts.missing:,} missing), "
        f"{len(val) if val is not None else 0:,} val; {num_clips:,} in {epochs} epochs",
        *_hours(num_clips, rate, _ASSUMED_FLOPS / (2 * step), world_size),
    ]


def _hours(num_clips: int, rate: float | None, estimate_of_a_gpu: float, world_size: int) -> list[str]:
    if rate is None and estimate_of_a_gpu > _MOST_ESTIMATED:
        return [
            "rate: not known; so small a model waits for its clips and for the CPU, which multiply-adds do not tell. "
            "Measure it, and give it: --rate CLIPS_PER_S"
        ]
    rate_all = rate or world_size * estimate_of_a_gpu
    source = "as you say" if rate else f"if a GPU sustains {_ASSUMED_FLOPS / 1e12:.0f} TFLOP/s"
    return [
        f"rate: {rate_all:,.1f} clips/s {source}; the loaders of each of {world_size} processes must give "
        f"{rate_all / world_size:,.1f} clips/s",
        f"time: {duration(num_clips / rate_all)} for training, validation not counted",
    ]
