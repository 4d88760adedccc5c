"""Reasons to suspect an accuracy: answers no better than chance, or better in another index order."""

from __future__ import annotations

import math

import numpy as np

from k710.evaluation.dialect_vote import vote
from k710.evaluation.evaluate import Evaluation
from k710.lists.labels import DIALECTS, LABEL_SETS, row_map
from k710.models.heads.head_labels import Labels

_SIGMAS = 3  # above what chance gives


def suspicions(evaluation: Evaluation, head: Labels | None) -> list[str]:
    """Sentences on an evaluation whose labelled clips contradict the order in which the head was read, or whose top-1
    is no better than chance. `head` are the labels that the head was read by, where they are known."""
    labelled = evaluation.labelled
    if not labelled.any():
        return []
    if head is not None and (better := _better_order(evaluation, head)):
        return [better]
    num_clips, chance = int(labelled.sum()), 1 / len(evaluation.labels)
    right = evaluation.scores["top1"] * num_clips
    most_by_chance = num_clips * chance + _SIGMAS * math.sqrt(num_clips * chance * (1 - chance))
    if right > most_by_chance:
        return []
    read = f" than {head.dialect}, in which it was read" if head is not None else ""
    return [
        f"top-1 is no better than chance (1 of {len(evaluation.labels)}): the head may have another index order{read}; "
        "--which-dialect tells it from these clips. Or the model was trained on other frames, sizes or colours"
    ]


def _better_order(evaluation: Evaluation, head: Labels) -> str | None:
    """The order in which these answers are right far more often; None where there is none, or not all rows of the head
    were looked at."""
    if head.dialect not in DIALECTS or head.label_set != LABEL_SETS.get(evaluation.view):
        return None
    rows = row_map(head.label_set, evaluation.view, source_dialect=head.dialect)
    found, labelled = evaluation.predictions, evaluation.labelled
    raw = np.empty_like(found.scores[labelled])
    raw[:, list(rows)] = found.scores[labelled]
    election = vote(raw, found.class_ids[labelled], view=evaluation.view, label_set=head.label_set)
    winner = election.winner
    if winner is None or head.dialect in winner.dialects:
        return None
    as_read = next(one.num_right for one in election.votes if head.dialect in one.dialects)
    return (
        f"these numbers are likely wrong: of {winner.num_clips:,} clips that tell the head's index order, "
        f"{winner.num_right:,} are right in the order {' = '.join(winner.dialects)} and {as_read:,} in {head.dialect}, "
        f"in which it was read; --dialect {winner.dialects[0]} reads it so, --which-dialect shows the votes"
    )
