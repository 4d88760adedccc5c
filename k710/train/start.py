"""The model before its first step: from a checkpoint, from another start of its family, or from random weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from k710.errors import CheckpointError, UsageError
from k710.lists.labels import class_names
from k710.models.checkpoints.checkpoint import Checkpoint, open_checkpoint
from k710.models.families import refuse_foreign
from k710.models.family import FROM_CHECKPOINT, FROM_NOTHING, Encoder, Family
from k710.models.heads.head_labels import labels_of_view
from k710.models.heads.remap import new_head, plan_remap
from k710.models.left_out import complete, left_out
from k710.models.weights import load_encoder, load_into
from k710.sources.catalogue import Catalogue
from k710.sources.known import KINETICS
from k710.text import counted
from k710.train.recipe import NO_HEAD, TrainRecipe
from k710.version import __version__


@dataclass(frozen=True)
class Origin:
    """What a run starts from, as the user gives it.

    `weights` are for a start of the family, such as a CLIP image tower; `init` is a checkpoint, and `dialect` the index
    order of its head, where the file does not tell it. `teacher` is the checkpoint that a distillation learns from,
    `teacher_dialect` the index order of its head.
    """

    weights: str | None = None
    init: Path | None = None
    dialect: str | None = None
    interpolate_positions: bool = False
    teacher: Path | None = None
    teacher_dialect: str | None = None


@dataclass(frozen=True)
class StartedModel:
    """A model, the record of its head (docs/heads.md; None without classes), and messages on where its weights come
    from. `new` are the names of the trained weights that are as they were initialised."""

    model: nn.Module
    head: dict[str, Any] | None
    messages: tuple[str, ...] = ()
    new: tuple[str, ...] = ()


def config_of_recipe(recipe: TrainRecipe, sources: Catalogue = KINETICS) -> Any:
    """The configuration of a recipe's model. `sources`: the manifest's catalogue. Raises UsageError for a preset, size
    or option that cannot be."""
    return recipe.model.config(recipe.data, len(class_names(recipe.data.view, sources=sources)))


def head_record(family: Family, view: str, sources: Catalogue = KINETICS) -> dict[str, Any] | None:
    """What a checkpoint says of its head: the view's classes in canonical order, which is the order of a manifest. None
    where the model has no classes."""
    if family.head is None:
        return None
    labels = labels_of_view(view, sources)
    return {
        "label_set": labels.label_set,
        "dialect": labels.dialect,
        "labels": list(labels.names),
        "label_sha256": labels.sha256,
        "head": family.head,
        "k710_version": __version__,
    }


def check_start(recipe: TrainRecipe, origin: Origin) -> None:
    """Raises UsageError unless exactly what the recipe starts from is given."""
    start = recipe.model.start
    wants = {
        FROM_CHECKPOINT: "a checkpoint: --init FILE, such as the best.pt of a run on Kinetics-710",
        FROM_NOTHING: "nothing",
    } | {name: way.wants for name, way in recipe.family.starts.items()}
    given = {"--clip-weights": origin.weights is not None, "--init": origin.init is not None}
    wanted = {"--clip-weights": start in recipe.family.starts, "--init": start == FROM_CHECKPOINT}
    if start == FROM_CHECKPOINT and recipe.family.completed_by:
        wanted["--clip-weights"] = given["--clip-weights"]  # the checkpoint may leave out what they give
    if given != wanted:
        found = " and ".join(option for option, is_given in given.items() if is_given) or "neither"
        raise UsageError(f"the recipe starts from {wants[start]}; {found} is given (--set start=… changes it)")


def start_model(
    recipe: TrainRecipe,
    origin: Origin,
    *,
    sources: Catalogue = KINETICS,
    resumed: dict[str, Any] | None = None,
) -> StartedModel:
    """The model of a recipe with its first weights; of a run that is `resumed`, the model with what its checkpoint
    leaves out, since all other weights are in the checkpoint. `sources`: the catalogue of the manifest, with the view.

    What no weight is loaded for is initialised from the recipe's seed. Raises UsageError, and CheckpointError where the
    file is of another size, has classes or an order that nothing tells, or lacks classes of the view.
    """
    head = head_record(recipe.family, recipe.data.view, sources)
    if resumed is not None:
        model = recipe.family.build(config_of_recipe(recipe, sources))
        given = origin.weights if left_out(model) else None
        return StartedModel(model, head, tuple(complete(recipe.family, model, resumed["run"], given, "the run")))
    check_start(recipe, origin)
    torch.manual_seed(recipe.seed)
    model = recipe.family.build(config_of_recipe(recipe, sources))
    # A tensor's version counts the writes into it, so it tells what a start has loaded, whatever the values are.
    versions = {name: parameter._version for name, parameter in model.named_parameters()}
    messages: Sequence[str] = ("from nothing: all weights are random",)
    if recipe.model.start == FROM_NOTHING and left_out(model):
        raise UsageError(
            "the recipe starts from nothing, and the checkpoints of a run would leave out the frozen weights, which "
            "nothing could give again; --set keeps_backbone=true keeps them"
        )
    if origin.weights is not None and recipe.model.start in recipe.family.starts:
        load = recipe.family.starts[recipe.model.start].load
        messages = load(model, origin.weights, origin.interpolate_positions, recipe.model.options)
    if origin.init is not None:
        messages = _from_checkpoint(model, recipe, origin.init, origin, sources)
    trained = ((name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad)
    new = tuple(name for name, parameter in trained if parameter._version == versions[name])
    return StartedModel(model, head, tuple(messages), new)


def _check_not_in_shapes(recipe: TrainRecipe, model: nn.Module, checkpoint: Checkpoint) -> None:
    """Raises CheckpointError where a checkpoint of k710 records another value than the recipe for what no shape shows,
    such as the activation. Checkpoints of the public code record none, and are taken to have the default.
    """
    if checkpoint.format.name != "k710":
        return
    recorded, config = checkpoint.recorded("model"), model.config
    for name in recipe.family.not_in_shapes:
        default = getattr(recipe.family.presets[recipe.model.preset], name)
        theirs, ours = recorded.get(name) or default, getattr(config, name)
        if theirs != ours:
            raise CheckpointError(
                f"{checkpoint.path}: its backbone was trained with {theirs}, and the recipe's model has {ours}: "
                f"--set {name}={theirs}"
            )


def _from_checkpoint(
    model: nn.Module, recipe: TrainRecipe, init: Path, origin: Origin, sources: Catalogue
) -> list[str]:
    """Load the body as it is, and of the head the rows of the view's classes, picked by name, or none."""
    checkpoint = open_checkpoint(init)
    encoder = recipe.family.encoder_of(checkpoint, model.config) if recipe.family.encoder_of else None
    if encoder is not None:
        return _from_encoder(model, recipe, checkpoint, encoder)
    refuse_foreign(checkpoint)
    _check_not_in_shapes(recipe, model, checkpoint)
    if recipe.model.head in ("new", NO_HEAD):
        rows, messages = None, ["the head is new: its rows are random"] if recipe.family.head else []
    else:
        # `again`: a head that was remapped before is read by its record too.
        dialects = [origin.dialect] if origin.dialect else []
        try:
            remap = plan_remap([init], to=labels_of_view(recipe.data.view, sources), dialects=dialects, again=True)
        except CheckpointError as error:
            raise CheckpointError(f"{error}. To take the body alone: --set head=new") from None
        source, rows = remap.sources[0], new_head(remap)
        checkpoint = source.checkpoint
        rows_picked = f"the head: {counted(len(remap.rows), 'row')} picked by class name, to {remap.target}"
        messages = [*source.messages, rows_picked]
    loaded = load_into(
        recipe.family, model, checkpoint, head_rows=rows, without_head=rows is None,
        interpolate_positions=origin.interpolate_positions, weights=origin.weights,
    )  # fmt: skip
    whole = f"from {init}: {counted(len(loaded.loaded), 'tensor')} ({checkpoint.format.title})"
    return [whole, *loaded.completed, *messages]


def _from_encoder(model: nn.Module, recipe: TrainRecipe, checkpoint: Checkpoint, encoder: Encoder) -> list[str]:
    """Load the encoder of a checkpoint that was pretrained without classes. Raises CheckpointError where the recipe
    wants rows of its head, and where a tensor does not fit."""
    if recipe.model.head != "new":
        raise CheckpointError(f"{checkpoint.path}: was pretrained without classes and has no head: --set head=new")
    loaded = load_encoder(model, checkpoint, encoder)
    left = f"; left out: {', '.join(encoder.left)}" if encoder.left else ""
    return [
        f"from the encoder of {checkpoint.path}: {counted(len(loaded.loaded), 'tensor')}{left}",
        f"new, as they begin: {', '.join(encoder.new)}",
    ]
