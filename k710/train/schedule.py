"""The learning rate of every iteration: linear warmup, then half a cosine."""

from __future__ import annotations

import math

from k710.train.sections import OptimRecipe


def learning_rate(recipe: OptimRecipe, epoch: float) -> float:
    """The rate at a point of the training, `epoch` counting parts too (2.5 is halfway through the third).

    As the released code computes it, once per iteration: from `start_lr` in a straight line to `lr` over the warmup,
    then along half a cosine (Loshchilov and Hutter, 2017) to `end_lr`.
    """
    if epoch < recipe.warmup_epochs:
        return recipe.start_lr + (recipe.lr - recipe.start_lr) * epoch / recipe.warmup_epochs
    length = max(recipe.epochs - recipe.warmup_epochs, 1e-12)
    done = min((epoch - recipe.warmup_epochs) / length, 1.0)
    return recipe.end_lr + (recipe.lr - recipe.end_lr) * 0.5 * (1 + math.cos(math.pi * done))
