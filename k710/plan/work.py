"""How much a recipe has to do on the clips of a manifest."""

from __future__ import annotations

import math
from dataclasses import dataclass

from k710.errors import UsageError
from k710.loading.sampling import evaluation_views
from k710.manifest.read import Manifest
from k710.manifest.views import split_of, view, view_columns
from k710.plan.hours import validated_epochs
from k710.plan.options import PlanOptions
from k710.train.recipe import TrainRecipe


@dataclass(frozen=True)
class Work:
    """What is to be done: clips and epochs of a training, views of an evaluation."""

    num_train: int
    num_val: int
    num_steps: int
    num_epochs: int
    num_samples: int
    num_validations: int
    views: tuple[int, int]
    num_views: int


def work_of(manifest: Manifest, recipe: TrainRecipe, options: PlanOptions) -> Work:
    """The work on all clips of the recipe's view. Raises UsageError for a view that the manifest lacks, and for fewer
    train clips than one batch."""
    name = manifest.catalogue.check_view(recipe.data.view)
    clips = view(manifest.read_clips(view_columns(name, manifest.catalogue)), name, manifest.catalogue)
    num_train, num_val = len(split_of(clips, "train")), len(split_of(clips, "val"))
    batch_size = recipe.optim.batch_size
    per_epoch = num_train * recipe.data.num_repeats // batch_size
    if not per_epoch:
        raise UsageError(
            f"{manifest.path}: has {num_train} {name} train clips, fewer than one batch of {batch_size}; "
            "--set batch_size=N takes a smaller one"
        )
    num_steps = recipe.optim.steps or recipe.optim.epochs * per_epoch
    num_epochs = math.ceil(num_steps / per_epoch)
    views = options.views or (recipe.validate.clips, recipe.validate.crops)
    has_classes = recipe.family.head is not None
    return Work(
        num_train=num_train,
        num_val=num_val,
        num_steps=num_steps,
        num_epochs=num_epochs,
        num_samples=num_steps * batch_size,
        num_validations=validated_epochs(num_epochs, recipe.validate.every_epochs) if num_val else 0,
        views=views,
        num_views=num_val * len(evaluation_views(*views)) if has_classes else 0,
    )
