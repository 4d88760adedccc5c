"""What a run would need, before it is begun: memory, clips a second, hours."""

from __future__ import annotations

from k710.manifest import open_manifest
from k710.models.uniformerv2_cost import BACKBONE_PARTS, multiply_adds, num_parameters
from k710.storage import Location
from k710.train.media import Media
from k710.train.memory import estimate_memory
from k710.train.pieces import cut
from k710.train.prepare import open_clips
from k710.train.recipe import TrainRecipe
from k710.train.report import duration
from k710.train.start import config_of_recipe

# What one GPU is taken to sustain where no rate is given: half of what an A100 has in bf16.
_ASSUMED_FLOPS = 156e12


def needs(recipe: TrainRecipe, manifest: Location, media: Media, *, world_size: int, rate: float | None) -> list[str]:
    """Lines on the size of the model, the memory of a GPU, the clips a second wanted of the loaders, and the hours.

    `rate` is in clips/s of all GPUs together; without it, it is reckoned from multiply-adds. Raises as `prepare` does
    for manifest, clips and batch.
    """
    config = config_of_recipe(recipe)
    parameters, cost = num_parameters(config), multiply_adds(config)
    train, val, said = open_clips(recipe, open_manifest(manifest), media)
    pieces = cut(recipe.batch_size, gpu_batch_size=recipe.gpu_batch_size, world_size=world_size)
    memory = estimate_memory(config, precision=recipe.precision, average=recipe.ema_decay > 0)
    forward = sum(cost.values())
    # Backward costs twice forward; what is frozen has none, what is computed again has one forward more.
    backbone = sum(cost[part] for part in BACKBONE_PARTS)
    again = recipe.checkpoint_blocks / config.vit.layers
    step = forward * 3 - (2 * backbone if recipe.frozen else -backbone * again)
    num_clips = recipe.epochs * (len(train) * recipe.num_repeats // recipe.batch_size) * recipe.batch_size
    reckoned = rate or world_size * _ASSUMED_FLOPS / (2 * step)
    source = "as you say" if rate else f"if a GPU sustains {_ASSUMED_FLOPS / 1e12:.0f} TFLOP/s"
    return [
        f"model: {parameters['total']:,} parameters, {parameters['trainable']:,} trained; "
        f"{forward / 1e9:,.1f} G multiply-adds forward, {step / 1e9:,.1f} G for training, per clip",
        f"memory of a GPU: {memory.of(pieces.piece_size) / 2**30:.1f} GiB: the model {memory.model_bytes / 2**30:.1f}, "
        f"each of {pieces.piece_size} clips {memory.clip_bytes / 2**30:.2f}; CUDA itself needs 1 to 2 GiB more",
        str(pieces),
        *said,
        f"clips: {len(train):,} train ({train.counts.missing:,} missing), "
        f"{len(val) if val is not None else 0:,} val; {num_clips:,} in {recipe.epochs} epochs",
        f"rate: {reckoned:,.1f} clips/s {source}; the loaders of each of {world_size} processes must give "
        f"{reckoned / world_size:,.1f} clips/s",
        f"time: {duration(num_clips / reckoned)} for training, validation not counted",
    ]
