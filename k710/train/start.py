"""What a run starts from: a CLIP image tower, a checkpoint whose head's rows are picked by class name, or nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from k710 import __version__
from k710.errors import CheckpointError, UsageError
from k710.evaluation.view_model import check_weights
from k710.lists.labels import class_names
from k710.models.checkpoints.checkpoint import Checkpoint, open_checkpoint
from k710.models.clip_towers import load_clip
from k710.models.heads.head_labels import labels_of_set
from k710.models.heads.remap import new_head, plan_remap
from k710.models.uniformerv2.config import UniFormerV2Config, preset
from k710.models.uniformerv2.model import UniFormerV2
from k710.models.weights import config_of, fit, tensor_names
from k710.text import counted
from k710.train.recipe import TrainRecipe

HEAD = "transformer.proj.2"
START_NAMES = {"clip": "CLIP image tower", "checkpoint": "checkpoint"}


@dataclass(frozen=True)
class Start:
    """The model before its first step, the record of its head (docs/heads.md), and how it came to be."""

    model: UniFormerV2
    head: dict[str, Any]
    said: tuple[str, ...]


def config_of_recipe(recipe: TrainRecipe) -> UniFormerV2Config:
    """The model that a recipe asks for. Raises UsageError for a preset, size or dropout that cannot be."""
    return preset(
        recipe.model,
        size_px=recipe.size_px,
        num_frames=recipe.num_frames,
        num_classes=len(class_names(recipe.view)),
        frozen=recipe.frozen,
        local=recipe.local,
        temporal_downsample=recipe.temporal_downsample,
        mlp_dropout=recipe.mlp_dropout,
        head_dropout=recipe.head_dropout,
        drop_path=recipe.drop_path,
        global_drop_path=recipe.global_drop_path,
        checkpoint_blocks=recipe.checkpoint_blocks,
        activation=recipe.activation or "quick_gelu",
    )


def head_record(view: str) -> dict[str, Any]:
    """What a checkpoint says of its head: the view's classes in canonical order, which is the order of a manifest."""
    labels = labels_of_set(view, "canonical")
    return {
        "label_set": labels.label_set,
        "dialect": labels.dialect,
        "labels": list(labels.names),
        "label_sha256": labels.sha256,
        "head": HEAD,
        "k710_version": __version__,
    }


def check_start(recipe: TrainRecipe, *, clip_weights: str | None, init: Path | None) -> None:
    """Raises UsageError unless exactly what the recipe starts from is given."""
    wants = {
        "clip": f"a {START_NAMES['clip']}: --clip-weights FILE (ViT-B/16, ViT-L/14 and ViT-L/14@336px fetch OpenAI's)",
        "checkpoint": f"a {START_NAMES['checkpoint']}: --init FILE, such as the best.pt of a run on Kinetics-710",
        "nothing": "nothing",
    }[recipe.start]
    given = {"clip": clip_weights is not None, "checkpoint": init is not None}
    wrong = [option for option, is_given in given.items() if is_given != (recipe.start == option)]
    if wrong:
        names = {"clip": "--clip-weights", "checkpoint": "--init"}
        found = " and ".join(names[option] for option, is_given in given.items() if is_given) or "neither"
        raise UsageError(f"the recipe starts from {wants}; {found} is given (--set start=… changes it)")


def start_model(
    recipe: TrainRecipe,
    *,
    clip_weights: str | None = None,
    init: Path | None = None,
    dialect: str | None = None,
    interpolate_positions: bool = False,
) -> Start:
    """The model of a recipe with its first weights; `dialect` is the index order of `init`'s head where it tells none.

    What no weight is loaded for is initialised from the recipe's seed. Raises UsageError, and CheckpointError where the
    file is of another size, has classes or an order that nothing tells, or lacks classes of the view.
    """
    check_start(recipe, clip_weights=clip_weights, init=init)
    torch.manual_seed(recipe.seed)
    model = UniFormerV2(config_of_recipe(recipe))
    said: Sequence[str] = ("from nothing: all weights are random",)
    if clip_weights is not None:
        loaded = load_clip(
            model, clip_weights, interpolate_positions=interpolate_positions, activation=recipe.activation
        )
        check_weights(model, Path(clip_weights))
        said = [f"from the image tower {loaded.source}: {counted(len(loaded.loaded), 'tensor')}"]
    if init is not None:
        said = _from_checkpoint(model, recipe, init, dialect, interpolate_positions)
    return Start(model, head_record(recipe.view), tuple(said))


def _check_activation(checkpoint: Checkpoint, model: UniFormerV2) -> None:
    """Raises CheckpointError where a checkpoint of k710 has another activation than the recipe. Of others the public
    code has quick_gelu alone; whoever changed that code says so in the recipe.
    """
    config = config_of(checkpoint) if checkpoint.format.name == "k710" else None
    if config is not None and config.activation != model.config.activation:
        raise CheckpointError(
            f"{checkpoint.path}: its backbone was trained with {config.activation}, and the recipe's model has "
            f"{model.config.activation}: --set activation={config.activation}"
        )


def _from_checkpoint(
    model: UniFormerV2, recipe: TrainRecipe, init: Path, dialect: str | None, interpolate_positions: bool
) -> list[str]:
    """Body as it is; of the head, the rows of the view's classes by name, or none."""
    wanted, checkpoint = set(model.state_dict()), open_checkpoint(init)
    _check_activation(checkpoint, model)
    if recipe.head == "new":
        names = {name: key for name, key in tensor_names(checkpoint).items() if not name.startswith(f"{HEAD}.")}
        found = {name: checkpoint.tensor(key) for name, key in names.items()}
        wanted = {name for name in wanted if not name.startswith(f"{HEAD}.")}
        said = ["the head is new: its rows are random"]
    else:
        # What its record says it is, it is, whether it was remapped before or not.
        try:
            remap = plan_remap([init], to=recipe.view, dialects=[dialect] if dialect else [], again=True)
        except CheckpointError as error:
            raise CheckpointError(f"{error}. To take the body alone: --set head=new") from None
        checkpoint, rows = remap.sources[0].checkpoint, new_head(remap)
        found = {name: rows.get(key, checkpoint.tensor(key)) for name, key in tensor_names(checkpoint).items()}
        said = [
            *remap.sources[0].said,
            f"the head: {counted(len(remap.rows), 'row')} picked by class name, to {remap.target}",
        ]
    loaded = fit(model, found, wanted, str(init), interpolate_positions=interpolate_positions)
    check_weights(model, init)
    return [f"from {init}: {counted(len(loaded.loaded), 'tensor')} ({checkpoint.format.title})", *said]
